//! Being stopped, being two, and nobody listening.

use std::io::Read;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::support::{Project, wait};

/// Notes its process, and takes its time as long as there is a file `slow`.
const SLOW: &str = "echo $$ > pid.part; mv pid.part pid\nwhile [ -e slow ]; do sleep 0.05; done\n\
                    cat \"$1\" > \"$2\"\necho \"$3\" >> \"$2\"\necho \"$3\" >> ran.log\n";

fn slow() -> Project {
    let project = Project::toy();
    project.write("step.sh", SLOW);
    project.write("slow", "");
    project
}

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

fn is_alive(pid: &str) -> bool {
    Command::new("kill").args(["-0", pid.trim()]).stderr(std::process::Stdio::null()).status().unwrap().success()
}

#[test]
fn ctrl_c_stops_the_stages_and_the_next_run_goes_on() {
    let project = slow();
    let mut child = project.start(&["run", "first"]);
    project.wait_for("pid");
    let started = Instant::now();
    interrupt(&child);
    let status = child.wait().unwrap();
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(status.code(), Some(130), "{err}");
    assert!(started.elapsed() < Duration::from_secs(10), "it took {:?}", started.elapsed());
    assert!(err.contains("interrupted: running stages are being stopped"), "{err}");
    assert!(err.contains("stopped   first") && err.contains("interrupted: 0 ran, 0 cached, 1 stopped in"), "{err}");
    assert!(project.qapipe(&["show"]).code(0).out.contains("stopped"));
    let pid = project.read("pid");
    wait("the stage's end", || !is_alive(&pid));
    std::fs::remove_file(project.path("slow")).unwrap();
    project.qapipe(&["run", "-q", "first"]).code(0);
    assert_eq!(project.ran(), ["hello"]);
}

#[test]
fn under_nohup_a_run_outlives_its_terminal() {
    let project = slow();
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" run -q first", env!("CARGO_BIN_EXE_qapipe")]).current_dir(project.path(""));
    let mut child = shell.spawn().unwrap();
    project.wait_for("pid");
    assert!(Command::new("kill").args(["-HUP", &child.id().to_string()]).status().unwrap().success());
    std::thread::sleep(Duration::from_millis(300));
    std::fs::remove_file(project.path("slow")).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_second_ctrl_c_ends_at_once() {
    let project = slow();
    project.write("step.sh", &format!("trap '' TERM INT\n{SLOW}"));
    let mut child = project.start(&["run", "first"]);
    project.wait_for("pid");
    interrupt(&child);
    std::thread::sleep(Duration::from_millis(300));
    interrupt(&child);
    let started = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(started.elapsed() < Duration::from_secs(2));
    std::fs::remove_file(project.path("slow")).unwrap();
}

#[test]
fn two_runs_at_once_share_the_work() {
    let project = slow();
    let mut one = project.start(&["run", "-q"]);
    project.wait_for("pid");
    let mut two = project.start(&["run"]);
    let refused = project.qapipe(&["run", "--no-wait"]).code(5);
    assert!(refused.err.contains("another run is computing"), "{}", refused.err);
    std::fs::remove_file(project.path("slow")).unwrap();
    assert!(one.wait().unwrap().success() && two.wait().unwrap().success());
    assert_eq!(project.ran(), ["again", "apart", "hello"]);
    assert_eq!(project.read("out/second.txt"), "input\nhello\nagain\n");
}

#[test]
fn a_killed_run_leaves_nothing_half_done() {
    let project = slow();
    let mut child = project.start(&["run", "first"]);
    project.wait_for("pid");
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_file(project.path("slow")).unwrap();
    let pid = project.read("pid");
    wait("the orphan's end", || !is_alive(&pid));
    let _ = project.ran();
    project.qapipe(&["run", "-q", "first"]).code(0);
    assert_eq!(project.ran(), ["hello"]);
}

#[test]
fn what_a_killed_run_had_not_come_to_is_left_undone() {
    let project = slow();
    let mut child = project.start(&["run", "--jobs", "1", "first", "second"]);
    project.wait_for("pid");
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_file(project.path("slow")).unwrap();
    let again = project.qapipe(&["run", "--failed", "--json"]).code(0);
    assert_eq!(again.stages("finished"), ["first", "second"], "what the killed run was about, and nothing else");
    assert_eq!(project.qapipe(&["run", "--failed"]).code(0).err, "nothing to do: the last run left nothing undone\n");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let project = Project::toy();
    for args in [&["schema"][..], &["kinds", "--json"], &["completions", "bash"], &["plan"], &["run", "--json"]] {
        let mut child = project.start(args);
        drop(child.stdout.take());
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""), "{args:?}");
    }
}
