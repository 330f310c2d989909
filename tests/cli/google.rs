//! A remote in Google Cloud Storage, over a server on loopback that speaks its XML interface: moto's S3, to which `scripts/moto_as_google` translates.

use crate::moto::{Moto, Proxy};
use crate::s3::LARGE;
use crate::support::{Answer, Project};

/// An account that signs nothing, as emulators want it.
const ACCOUNT: &str =
    r#"{"private_key":"not-to-be-seen","private_key_id":"id","client_email":"somebody@example.org","disable_oauth":true}"#;

fn project(moto: &Moto, address: &str) -> Project {
    let project = Project::of(LARGE);
    reached_at(&project, address, moto.port);
    project
}

fn reached_at(project: &Project, address: &str, port: u16) {
    project.write("qapipe.toml", &format!("[remote]\nurl = \"{address}\"\nendpoint = \"http://127.0.0.1:{port}\"\n"));
}

fn ask(project: &Project, args: &[&str]) -> Answer {
    as_account(project, ACCOUNT, args)
}

fn as_account(project: &Project, account: &str, args: &[&str]) -> Answer {
    let answer = project.answer(project.command(args).env("GOOGLE_SERVICE_ACCOUNT_KEY", account));
    assert!(!answer.err.contains("not-to-be-seen") && !answer.out.contains("not-to-be-seen"), "{}{}", answer.out, answer.err);
    answer
}

#[test]
fn what_one_machine_computed_another_fetches_from_googles_bucket() {
    let Some(moto) = Moto::as_google() else { return };
    moto.put("results", b"");
    let address = "gs://results/some/prefix";
    let (one, two, three) = (project(&moto, address), project(&moto, address), project(&moto, address));
    ask(&one, &["run", "-q"]).code(0);
    assert_eq!(ask(&one, &["cache", "push"]).code(0).out, "3 results sent (3 files, 20.0 MiB), 0 there already\n");
    assert_eq!(ask(&one, &["cache", "push"]).code(0).out, "0 results sent (0 B), 3 there already\n");
    two.edit("head -c 20 ", "head -c 21 ");
    let run = ask(&two, &["run", "--json"]).code(0);
    assert_eq!((run.stages("fetched"), run.stages("started")), (vec!["large".to_owned()], ["small", "folder"].map(str::to_owned).into()));
    two.qapipe(&["cache", "verify"]).code(0);
    assert_eq!(ask(&three, &["cache", "pull"]).code(0).out, "3 results fetched (3 files, 20.0 MiB), 0 there already\n");
    three.qapipe(&["cache", "verify"]).code(0);
}

#[test]
fn an_upload_goes_on_and_one_that_is_not_known_any_more_begins_anew() {
    let (Some(moto), Some(other)) = (Moto::as_google(), Moto::as_google()) else { return };
    [&moto, &other].iter().for_each(|server| server.put("results", b""));
    // Of 40 MiB 16 are not there, which are sent to whom they are new as well, and then all.
    for (server, length, again) in [(&moto, "41943040", 16..18), (&other, "41943041", 56..58)] {
        let (one, two) = (project(&moto, "gs://results/x"), project(server, "gs://results/x"));
        one.edit("20971520", length);
        ask(&one, &["run", "-q", "large", "--offline"]).code(0);
        reached_at(&one, "gs://results/x", Proxy::to(moto.port, 30 << 20).port);
        let broken = ask(&one, &["cache", "push"]).code(4).err;
        assert!(broken.contains("cannot be reached"), "{broken}");
        let proxy = Proxy::to(server.port, u64::MAX);
        reached_at(&one, "gs://results/x", proxy.port);
        ask(&one, &["cache", "push"]).code(0);
        assert!(again.contains(&(proxy.passed() >> 20)), "{} bytes passed", proxy.passed());
        assert_eq!(std::fs::read_dir(one.path(".qapipe/partial")).unwrap().count(), 0);
        ask(&two, &["cache", "pull"]).code(0);
        two.qapipe(&["cache", "verify"]).code(0);
    }
}

#[test]
fn a_refusal_a_missing_bucket_and_a_broken_key_are_told() {
    let Some(moto) = Moto::as_google() else { return };
    let (refused, missing) = (project(&moto, "gs://forbidden/x"), project(&moto, "gs://nowhere/x"));
    let told = ask(&refused, &["cache", "pull"]).code(4).err;
    assert!(told.contains("gs://forbidden/x refuses access: AccessDenied: Access denied.\n"), "{told}");
    let told = ask(&missing, &["cache", "pull"]).code(4).err;
    assert!(told.contains("remote gs://nowhere/x does not exist: NoSuchBucket: "), "{told}");
    let told = as_account(&missing, r#"{"private_key":"not-to-be-seen"}"#, &["cache", "pull"]).code(4).err;
    assert!(told.contains("missing field `private_key_id`") && told.contains("GOOGLE_"), "{told}");
}
