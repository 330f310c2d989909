//! What a bucket answers when it does not do what was asked, in words of ours and without secrets.

use std::error::Error;

use object_store::Error as Answer;
use object_store::client::{HttpError, HttpErrorKind};
use qapipe_cache::{RemoteError, chain};

/// An answer as an error of the remote; `key` is what was asked for.
pub(crate) fn told(remote: &str, key: &str, answer: &Answer) -> RemoteError {
    let (remote, text) = (remote.to_owned(), chain(answer));
    let what = short(&text);
    match answer {
        _ if ["NoSuchBucket", "ContainerNotFound", "bucket does not exist"].iter().any(|sign| text.contains(sign)) => {
            RemoteError::Missing { remote, what }
        }
        Answer::NotFound { .. } => RemoteError::Lost { remote, key: key.to_owned() },
        _ if is_denied(answer, &text) => RemoteError::Denied { remote, what },
        _ if asks_for_a_role(&text) => {
            let what = "there are no credentials in the environment, and this machine has no role that would give some".into();
            RemoteError::Denied { remote, what }
        }
        _ if broke_off(answer) => RemoteError::Unreachable { remote, what: cut(&without_secrets(&root_cause(answer))) },
        _ => RemoteError::Failed { remote, what },
    }
}

/// Whether something was not there, though the bucket is.
pub(crate) fn is_absent(answer: &Answer) -> bool {
    matches!(answer, Answer::NotFound { .. })
}

fn is_denied(answer: &Answer, text: &str) -> bool {
    // Not every request of the client's makes its own kind of these.
    let is_told = ["status code: 401 ", "status code: 403 "].iter().any(|status| text.contains(status));
    is_told || matches!(answer, Answer::PermissionDenied { .. } | Answer::Unauthenticated { .. })
}

/// Whether the service does not know an upload, or its parts, any more.
pub(crate) fn is_forgotten(answer: &Answer) -> bool {
    const CODES: [&str; 5] = ["NoSuchUpload", "InvalidPart", "EntityTooSmall", "InvalidBlockList", "InvalidBlobOrBlock"];
    let text = chain(answer);
    matches!(answer, Answer::NotFound { .. }) || CODES.iter().any(|code| text.contains(code))
}

/// Without credentials, the machine's own address for roles is asked.
fn asks_for_a_role(text: &str) -> bool {
    ["169.254.169.254", "metadata.google.internal"].iter().any(|address| text.contains(address))
}

fn broke_off(answer: &Answer) -> bool {
    let causes = std::iter::successors(answer.source(), |cause: &&(dyn Error + 'static)| (*cause).source());
    let kinds = causes.filter_map(|cause| cause.downcast_ref::<HttpError>().map(HttpError::kind));
    let is_network = |kind| {
        matches!(
            kind,
            HttpErrorKind::Connect | HttpErrorKind::Request | HttpErrorKind::Timeout | HttpErrorKind::Interrupted | HttpErrorKind::Decode
        )
    };
    kinds.into_iter().any(is_network) || chain(answer).contains("error sending request")
}

/// What it all began with.
fn root_cause(answer: &Answer) -> String {
    let causes = std::iter::successors(answer.source(), |cause: &&(dyn Error + 'static)| (*cause).source());
    causes.last().map_or_else(|| answer.to_string(), ToString::to_string)
}

/// Code and message where the service gives them; else the cause, in a line. What services send besides may hold what was signed.
fn short(text: &str) -> String {
    let between = |tag: &str| {
        let inner = text.split_once(&format!("<{tag}>"))?.1;
        Some(inner.split_once(&format!("</{tag}>"))?.0.trim().to_owned())
    };
    if let Some(code) = between("Code") {
        // Azure goes on with the number of the request and the time.
        let message = between("Message").and_then(|message| Some(format!(": {}", message.lines().next()?))).unwrap_or_default();
        return cut(&format!("{code}{message}"));
    }
    let without_body = text.split('<').next().unwrap_or(text);
    cut(without_secrets(without_body).trim())
}

fn cut(text: &str) -> String {
    const MOST: usize = 300;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = line.chars().take(MOST).collect();
    if cut.len() < line.len() { format!("{cut}…") } else { cut }
}

/// A text without what may be secret in the addresses in it: users, passwords, queries (Azure signs there).
pub(crate) fn without_secrets(text: &str) -> String {
    text.split(' ').map(word_without_secrets).collect::<Vec<_>>().join(" ")
}

fn word_without_secrets(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let rest = rest.split_once('?').map_or_else(|| rest.to_owned(), |(address, _)| format!("{address}?…"));
    let end = rest.find('/').unwrap_or(rest.len());
    let rest = match rest[..end].rfind('@') {
        Some(at) => format!("…{}", &rest[at..]),
        None => rest,
    };
    format!("{scheme}://{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_not_told() {
        assert_eq!(without_secrets("GET https://a.b/c/d?sv=1&sig=xyz failed"), "GET https://a.b/c/d?… failed");
        assert_eq!(without_secrets("s3://key:secret@bucket/x"), "s3://…@bucket/x");
        let body =
            "status 403: <Error><Code>InvalidAccessKeyId</Code><Message>It does not exist</Message><AWSAccessKeyId>AKIA1</AWSAccessKeyId>";
        assert_eq!(short(body), "InvalidAccessKeyId: It does not exist");
    }
}
