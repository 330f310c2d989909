//! Asking the hub: tokens, redirects, and patience with a hub that is busy or fails.

use std::io::Read;
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::http::header::{AUTHORIZATION, LOCATION, RANGE};
use ureq::http::{Method, Request, Response};
use ureq::{Agent, Body};
use url::Url;

use super::Patience;
use super::trouble::Trouble;

/// Most redirects that are followed for one request.
const MOST_HOPS: usize = 10;
/// Most bytes that a description of a repository may have.
const MOST_JSON: u64 = 256 << 20;

/// Who asks the hub.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    endpoint: Url,
    token: Option<String>,
    patience: Patience,
}

impl Client {
    /// A client of the hub at an address.
    pub(super) fn new(endpoint: Url, token: Option<String>, patience: Patience) -> Self {
        let agent = Agent::config_builder()
            // Redirects are followed here: where they lead decides whether the token goes along.
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("qapipe/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        Self { agent, endpoint, token, patience }
    }

    /// An address of the hub. A `/` within a part is no separator.
    pub(super) fn url<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url
    }

    /// Fetches JSON.
    pub(super) fn json<T: DeserializeOwned>(&self, url: &Url) -> Result<T, Trouble> {
        let attempt = || {
            let response = self.follow(&Method::GET, url, 0, |_| false)?;
            let mut text = Vec::new();
            let read = response.into_body().into_reader().take(MOST_JSON).read_to_end(&mut text);
            read.map_err(|e| Trouble::Transport(e.into()))?;
            serde_json::from_slice(&text).map_err(|e| Trouble::Answer(format!("is no description of a repository: {e}")))
        };
        self.patiently(|| 0, attempt)
    }

    /// Sends a request from byte `from` on and follows its redirects; `enough` looks at each response on the way and may stop there.
    /// The last response is a success or a redirect.
    pub(super) fn follow(
        &self,
        method: &Method,
        url: &Url,
        from: u64,
        mut enough: impl FnMut(&Response<Body>) -> bool,
    ) -> Result<Response<Body>, Trouble> {
        let mut url = url.clone();
        for _ in 0..MOST_HOPS {
            let response = self.once(method, &url, from)?;
            if !response.status().is_redirection() || enough(&response) {
                return Ok(response);
            }
            url = target(&url, &response)?;
            if *method == Method::HEAD && url.origin() != self.endpoint.origin() {
                // Signed addresses elsewhere are for GET only; what is known by now has to do.
                return Ok(response);
            }
        }
        Err(Trouble::Answer(format!("redirects more than {MOST_HOPS} times")))
    }

    /// One request, to where it is addressed and no further. The token goes to the hub itself and to nobody else.
    fn once(&self, method: &Method, url: &Url, from: u64) -> Result<Response<Body>, Trouble> {
        let mut request = Request::builder().method(method).uri(url.as_str());
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        if let Some(token) = self.token.as_ref().filter(|_| url.origin() == self.endpoint.origin()) {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(()).map_err(|e| Trouble::Transport(e.into()))?;
        let response = self.agent.run(request).map_err(Trouble::Transport)?;
        let code = response.status().as_u16();
        if code < 400 { Ok(response) } else { Err(Trouble::Status { code, wait: asked_wait(&response) }) }
    }

    /// Tries something until it works, or fails for good, or has failed too often without coming further; `progress` says how far it is.
    pub(super) fn patiently<T>(&self, progress: impl Fn() -> u64, mut attempt: impl FnMut() -> Result<T, Trouble>) -> Result<T, Trouble> {
        let (mut furthest, mut failures) = (progress(), 0);
        loop {
            let trouble = match attempt() {
                Err(trouble) if trouble.passes() => trouble,
                done => return done,
            };
            if progress() > furthest {
                (furthest, failures) = (progress(), 0);
            }
            let asked = trouble.wait();
            if failures >= self.patience.retries || asked.is_some_and(|wait| wait > self.patience.longest) {
                return Err(trouble);
            }
            let own = self.patience.wait.saturating_mul(1 << failures.min(16)).min(self.patience.longest);
            std::thread::sleep(asked.unwrap_or(own));
            failures += 1;
        }
    }
}

/// Where a response redirects to.
fn target(url: &Url, response: &Response<Body>) -> Result<Url, Trouble> {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| Trouble::Answer("redirects to nowhere".to_owned()))?;
    let target = url.join(location).ok().filter(|target| matches!(target.scheme(), "http" | "https"));
    target.ok_or_else(|| Trouble::Answer(format!("redirects to {location:?}, which is no address")))
}

/// How long the hub asks to wait, in its `Retry-After`; a date there is not understood.
fn asked_wait(response: &Response<Body>) -> Option<Duration> {
    let seconds: f64 = response.headers().get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}
