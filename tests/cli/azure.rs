//! A remote in Azure's blob storage, over a server on loopback: azurite, which `scripts/azurite` brings from npm into the folder of build outputs.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::s3::LARGE;
use crate::support::{Answer, Project, free_port};

/// Azurite's own key, which it documents.
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A running server, which ends with this.
struct Azurite {
    process: Child,
    port: u16,
}

impl Azurite {
    /// Starts a server with the container `results`; none where it cannot be had, which is told.
    fn start() -> Option<Self> {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("azurite");
        let port = free_port();
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/azurite"));
        command.arg(home).arg(port.to_string()).arg("results").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said != "ready\n" {
            assert_eq!(process.wait().unwrap().code(), Some(3), "only what npm cannot bring is passed over");
            eprintln!("skipped: `scripts/azurite` could not bring a server");
            return None;
        }
        Some(Self { process, port })
    }

    fn ask(&self, project: &Project, key: &str, args: &[&str]) -> Answer {
        let mut command = project.command(args);
        command.env("AZURE_STORAGE_ACCOUNT_NAME", "devstoreaccount1").env("AZURE_STORAGE_ACCOUNT_KEY", key);
        command.env("AZURE_STORAGE_ENDPOINT", format!("http://127.0.0.1:{}/devstoreaccount1", self.port));
        let answer = project.answer(&mut command);
        assert!(!answer.err.contains(key) && !answer.out.contains(key), "{}{}", answer.out, answer.err);
        answer
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

fn project(address: &str) -> Project {
    let project = Project::of(LARGE);
    project.write("qapipe.toml", &format!("[remote]\nurl = \"{address}\"\n"));
    project
}

#[test]
fn what_one_machine_computed_another_fetches_from_a_container() {
    let Some(azurite) = Azurite::start() else { return };
    let (one, two) = (project("az://results/some/prefix"), project("az://results/some/prefix"));
    azurite.ask(&one, KEY, &["run", "-q"]).code(0);
    assert_eq!(azurite.ask(&one, KEY, &["cache", "push"]).code(0).out, "3 results sent (3 files, 20.0 MiB), 0 there already\n");
    assert_eq!(azurite.ask(&one, KEY, &["cache", "push"]).code(0).out, "0 results sent (0 B), 3 there already\n");
    two.edit("head -c 20 ", "head -c 21 ");
    let run = azurite.ask(&two, KEY, &["run", "--json"]).code(0);
    assert_eq!((run.stages("fetched"), run.stages("started")), (vec!["large".to_owned()], ["small", "folder"].map(str::to_owned).into()));
    two.qapipe(&["cache", "verify"]).code(0);
}

#[test]
fn a_wrong_key_and_a_missing_container_are_told() {
    let Some(azurite) = Azurite::start() else { return };
    let (one, two) = (project("az://results/x"), project("az://nowhere/x"));
    let wrong = azurite.ask(&one, &KEY.replace("Eby8", "Eby9"), &["cache", "pull"]).code(4);
    assert!(
        wrong.err.contains("az://results/x refuses access: AuthorizationFailure: ") && !wrong.err.contains("RequestId"),
        "{}",
        wrong.err
    );
    let missing = azurite.ask(&two, KEY, &["cache", "pull"]).code(4);
    assert!(missing.err.contains("remote az://nowhere/x does not exist: ContainerNotFound: "), "{}", missing.err);
}
