//! What the machine can do to a run: a full disk, a store that cannot be written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub, dead_code)]

#[path = "common/process.rs"]
mod process;
#[path = "common/project.rs"]
mod project;

use project::Project;
use qapipe_engine::{Command, Kinds, StageKind};

const KINDS: &[&dyn StageKind] = &[&Command];

/// Not a test: the other process.
#[test]
#[ignore = "started by other tests"]
fn other_process() {
    process::serve(KINDS);
}

fn project(script: &str) -> Project {
    let project = Project::new(
        Kinds::new(KINDS),
        &format!("[stages.a]\nkind = \"command\"\nrun = [\"sh\", \"-c\", '{script}']\noutputs = {{ y = \"y\" }}\n"),
    );
    std::fs::create_dir(project.path(".qapipe")).unwrap();
    project
}

/// The exit code of a run in a namespace that a script prepares.
fn exit(project: &Project, script: &str) -> Option<i32> {
    let status = process::in_namespace(project.folder.path(), script);
    if status.is_none() {
        eprintln!("skipped: no mount namespaces here");
    }
    status.map(|status| status.code().unwrap())
}

#[test]
fn a_full_disk_fails_the_run_and_the_next_one_is_right() {
    let project = project("echo done > {out.y}");
    // A run on a disk without room, then one on the same disk with room again.
    let script = "mount -t tmpfs -o size=512k none .qapipe && mkdir .qapipe/scratch || exit 90\n\
                  dd if=/dev/zero of=.qapipe/fill bs=4k 2> dd.log; \"$@\" > first.log; [ $? = 4 ] || exit 91\n\
                  rm .qapipe/fill; \"$@\" > second.log || exit 92";
    if let Some(code) = exit(&project, script) {
        assert_eq!(code, 0);
        assert_eq!(project.read("y"), "done\n");
    }
}

#[test]
fn a_disk_that_fills_while_the_result_is_kept_records_nothing() {
    let project = project("dd if=/dev/zero of=.qapipe/fill bs=4k 2> dd.log; echo done > {out.y} || echo lost");
    let script = "mount -t tmpfs -o size=512k none .qapipe || exit 90\n\
                  \"$@\" > first.log && exit 91\n[ -z \"$(find .qapipe/records -type f 2> find.log)\" ] || exit 92";
    if let Some(code) = exit(&project, script) {
        assert_eq!(code, 0);
        assert!(!project.path("y").exists());
    }
}

#[test]
fn a_store_that_cannot_be_written_is_the_machines_fault() {
    let project = project("echo done > {out.y}");
    let script = "mount -t tmpfs none .qapipe && echo 1 > .qapipe/VERSION && mount -o remount,ro .qapipe || exit 90\n\"$@\" > first.log";
    if let Some(code) = exit(&project, script) {
        assert_eq!(code, 4);
    }
}
