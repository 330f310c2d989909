//! A remote in a bucket, over an S3 server on loopback.

use std::process::Command;

use crate::moto::{Moto, Proxy};
use crate::support::{Answer, Project};

const SECRET: &str = "not-to-be-seen-anywhere";
const MIB: u64 = 1 << 20;

/// A large file, one made from it, and a folder.
pub(crate) const LARGE: &str = r#"name = "large"
[stages.large]
kind = "command"
run = ["sh", "-c", "yes qapipe | head -c 20971520 > {out.y}; echo large >> ran.log"]
outputs = ["y"]

[stages.small]
kind = "command"
run = ["sh", "-c", "head -c 20 {in.x} > {out.y}; echo small >> ran.log"]
inputs = { x = "@large" }
outputs = ["y"]

[stages.folder]
kind = "command"
run = ["sh", "-c", "mkdir -p {out.y}/deep; cp {in.x} {out.y}/deep/a; echo b > {out.y}/b; echo folder >> ran.log"]
inputs = { x = "@small" }
outputs = ["y"]
"#;

fn project() -> Project {
    let project = Project::of(LARGE);
    project.write("qapipe.toml", "[remote]\nurl = \"s3://bucket/some/prefix\"\nregion = \"us-east-1\"\n");
    project
}

/// The command with an endpoint and credentials in its environment.
fn over(project: &Project, port: u16, args: &[&str]) -> Command {
    let mut command = project.command(args);
    command.env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"));
    command.env("AWS_ACCESS_KEY_ID", "somebody").env("AWS_SECRET_ACCESS_KEY", SECRET).env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

fn ask(project: &Project, port: u16, args: &[&str]) -> Answer {
    let answer = project.answer(&mut over(project, port, args));
    assert!(!answer.err.contains(SECRET) && !answer.out.contains(SECRET), "{}{}", answer.out, answer.err);
    answer
}

/// The name of the large file in the bucket.
fn large(project: &Project) -> String {
    let listed = project.qapipe(&["cache", "ls", "--json"]).code(0).json();
    let large = listed["results"].as_array().unwrap().iter().find(|result| result["stage"] == "large").unwrap();
    let digest = large["outputs"]["y"]["digest"].as_str().unwrap();
    format!("bucket/some/prefix/objects/{}/{digest}", &digest[..2])
}

#[test]
fn what_one_machine_computed_another_fetches_from_a_bucket() {
    let Some(moto) = Moto::start(None) else { return };
    moto.put("bucket", b"");
    let (one, two, three) = (project(), project(), project());
    ask(&one, moto.port, &["run", "-q"]).code(0);
    assert_eq!(one.ran(), ["folder", "large", "small"]);
    let sent = ask(&one, moto.port, &["cache", "push", "--json"]).code(0).json();
    assert_eq!((&sent["results"], &sent["files"], &sent["remote"]), (&3.into(), &3.into(), &"s3://bucket/some/prefix".into()));
    assert_eq!(ask(&one, moto.port, &["cache", "push", "--json"]).code(0).json()["bytes"], 0);
    let run = ask(&two, moto.port, &["run", "--json"]).code(0);
    assert_eq!((run.stages("in-remote"), run.stages("started")), (["large", "small", "folder"].map(str::to_owned).into(), vec![]));
    two.edit("head -c 20 ", "head -c 21 ");
    let run = ask(&two, moto.port, &["run", "--json"]).code(0);
    assert_eq!((run.stages("fetched"), run.stages("started")), (vec!["large".to_owned()], ["small", "folder"].map(str::to_owned).into()));
    assert_eq!(ask(&three, moto.port, &["cache", "pull"]).code(0).out, "3 results fetched (3 files, 20.0 MiB), 0 there already\n");
    three.qapipe(&["cache", "verify"]).code(0);
    let run = ask(&three, moto.port, &["run", "--json"]).code(0);
    assert_eq!((run.stages("cached").len(), three.ran()), (3, vec![]));
    ask(&two, moto.port, &["run", "-q", "--force", "small", "--set", "seed=2"]).code(0);
    assert!(
        ask(&two, moto.port, &["cache", "push", "pipeline.toml", "small"]).code(0).out.contains("1 result sent (1 file, 21 B), 1 there")
    );
}

#[test]
fn a_connection_that_breaks_off_is_one_error_and_goes_on_later() {
    let Some(moto) = Moto::start(None) else { return };
    moto.put("bucket", b"");
    let (one, two) = (project(), project());
    ask(&one, moto.port, &["run", "-q", "large"]).code(0);
    ask(&one, moto.port, &["cache", "push"]).code(0);
    let proxy = Proxy::to(moto.port, 12 * MIB);
    let broken = ask(&two, proxy.port, &["cache", "pull"]).code(4);
    assert!(broken.err.contains("cannot be reached") && broken.err.matches("error: ").count() == 1, "{}", broken.err);
    two.qapipe(&["cache", "verify"]).code(0);
    assert_eq!(two.qapipe(&["cache", "ls", "--json"]).code(0).json()["results"], serde_json::json!([]));
    let before = proxy.mend();
    assert!(ask(&two, proxy.port, &["cache", "pull"]).code(0).out.starts_with("1 result fetched (1 file, 12.0 MiB)"));
    assert!(proxy.passed() - before < 13 * MIB, "{} bytes came again", proxy.passed() - before);
    two.qapipe(&["cache", "verify"]).code(0);
    // The other way: a run goes on by itself.
    let (three, proxy) = (project(), Proxy::to(moto.port, 2 * MIB));
    let run = ask(&three, proxy.port, &["run", "--json"]).code(0);
    assert_eq!((run.stages("started").len(), run.out.matches("\"event\":\"warning\"").count()), (3, 1), "{}", run.out);
}

#[test]
fn an_upload_that_breaks_off_goes_on_later() {
    let Some(moto) = Moto::start(None) else { return };
    moto.put("bucket", b"");
    let (one, two) = (project(), project());
    one.edit("20971520", "41943040");
    ask(&one, moto.port, &["run", "-q", "large"]).code(0);
    // Five parts, three at once: these have arrived when it breaks off.
    let proxy = Proxy::to(moto.port, 30 * MIB);
    let broken = ask(&one, proxy.port, &["cache", "push"]).code(4);
    assert!(broken.err.contains("cannot be reached") && broken.err.matches("error: ").count() == 1, "{}", broken.err);
    let before = proxy.mend();
    assert_eq!(ask(&one, proxy.port, &["cache", "push"]).code(0).out, "1 result sent (1 file, 40.0 MiB), 0 there already\n");
    assert!(proxy.passed() - before < 18 * MIB, "{} bytes went again", proxy.passed() - before);
    assert_eq!(std::fs::read_dir(one.path(".qapipe/partial")).unwrap().count(), 0, "nothing is left to go on with");
    ask(&two, moto.port, &["cache", "pull"]).code(0);
    two.qapipe(&["cache", "verify"]).code(0);
}

#[test]
fn wrong_credentials_a_missing_bucket_and_damage_are_each_one_clear_error() {
    let Some(moto) = Moto::start(None) else { return };
    moto.put("bucket", b"");
    let (one, two) = (project(), project());
    ask(&one, moto.port, &["run", "-q", "large"]).code(0);
    let missing = one.answer(over(&one, moto.port, &["cache", "push"]).env("QAPIPE_REMOTE", "s3://nowhere/x")).code(4);
    assert!(missing.err.contains("remote s3://nowhere/x does not exist: NoSuchBucket"), "{}", missing.err);
    assert!(missing.err.contains("help: make it, or correct the address"), "{}", missing.err);
    ask(&one, moto.port, &["cache", "push"]).code(0);
    moto.put(&large(&one), &vec![b'x'; 20 << 20]);
    ask(&two, moto.port, &["plan"]).code(0);
    let damaged = ask(&two, moto.port, &["cache", "pull"]).code(1);
    assert!(damaged.err.contains("is damaged: its content has another digest") && damaged.out.starts_with("0 results"), "{}", damaged.err);
    two.qapipe(&["cache", "verify"]).code(0);
    let run = ask(&two, moto.port, &["run", "--json"]).code(0);
    assert_eq!((run.stages("started").len(), run.out.matches("is damaged: its content has another digest").count()), (3, 1), "{}", run.out);
}

#[test]
fn who_may_not_is_told_so_and_computes() {
    let Some(moto) = Moto::start(Some(1)) else { return };
    moto.put("bucket", b"");
    let one = project();
    let run = ask(&one, moto.port, &["run"]).code(0);
    assert!(run.err.contains("refuses access: InvalidAccessKeyId") && run.err.contains("3 ran"), "{}", run.err);
    assert_eq!(run.err.matches("warning").count(), 1, "{}", run.err);
    let push = ask(&one, moto.port, &["cache", "push"]).code(4);
    assert!(push.err.contains("refuses access: InvalidAccessKeyId") && push.err.contains("help: look at the credentials"), "{}", push.err);
}

#[test]
fn nobody_there_costs_a_run_one_warning() {
    let one = project();
    let run = ask(&one, 1, &["run", "--json"]).code(0);
    assert_eq!((run.stages("started").len(), run.out.matches("cannot be reached").count()), (3, 1), "{}", run.out);
    let pull = ask(&one, 1, &["cache", "pull"]).code(4);
    assert!(pull.err.contains("remote s3://bucket/some/prefix cannot be reached"), "{}", pull.err);
}
