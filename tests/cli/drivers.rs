//! Drivers that die, are interrupted, or are two: what becomes of their jobs, against a real Slurm.

use crate::cluster::{Cluster, patiently};
use crate::slurm::{notes, remove, signal, slow_grid, toy, wait_for_word};
use crate::support::Project;

/// A slow grid whose driver has died, with one cell running and the others in the queue.
fn abandoned_grid(cluster: &Cluster) -> Project {
    let project = slow_grid(cluster);
    let mut driver = cluster.start_run(&project, &[]);
    patiently("the first cell", || project.path("runs-1").exists());
    patiently("all jobs", || cluster.jobs().len() == 5);
    driver.kill().unwrap();
    driver.wait().unwrap();
    project
}

#[test]
fn a_driver_that_dies_leaves_its_jobs_to_the_next() {
    let Some(cluster) = Cluster::start() else { return };
    let project = abandoned_grid(&cluster);
    assert_eq!((cluster.jobs().len(), notes(&project).len()), (5, 2));
    let mut next = cluster.start_run(&project, &["--json"]);
    patiently("the next driver", || project.read("driver.out").matches("\"queued\"").count() == 5);
    remove(&project, "slow");
    assert_eq!(next.wait().unwrap().code(), Some(0), "{}", project.read("driver.err"));
    assert_eq!(project.ran(), ["1", "2", "3", "4", "5"]);
    assert_eq!(cluster.submitted(), 6, "the base and five cells, each once");
    let out = project.read("driver.out");
    assert!(out.contains("\"by\":\"2") && out.matches("\"finished\"").count() == 5, "{out}");
    assert!(notes(&project).is_empty());
}

#[test]
fn what_ended_while_nobody_waited_is_there_and_what_died_is_submitted_again() {
    let Some(cluster) = Cluster::start() else { return };
    let project = abandoned_grid(&cluster);
    cluster.ask("scancel", &["2_1"]);
    remove(&project, "slow");
    cluster.wait_until_idle();
    assert_eq!(project.ran(), ["1", "3", "4", "5"]);
    let next = cluster.run(&project, &["--json"]).code(0);
    assert_eq!((next.stages("queued"), next.stages("cached").len()), (vec!["cell[n=2]".to_owned()], 5));
    assert_eq!(project.ran(), ["2"]);
    assert!(notes(&project).is_empty());
}

/// A driver that is killed between the submission and its note leaves one without a job: it is found in the queue.
#[test]
fn a_job_that_was_not_noted_is_found_by_its_comment() {
    let Some(cluster) = Cluster::start() else { return };
    let project = slow_grid(&cluster);
    let mut driver = cluster.start_run(&project, &["cell[n=1]"]);
    patiently("the cell", || project.path("runs-1").exists());
    driver.kill().unwrap();
    driver.wait().unwrap();
    let [note] = notes(&project).try_into().unwrap();
    let text = std::fs::read_to_string(&note).unwrap();
    std::fs::write(&note, text.replace("\"job\": 2", "\"job\": null")).unwrap();
    assert_ne!(text, std::fs::read_to_string(&note).unwrap());
    let mut next = cluster.start_run(&project, &["cell[n=1]"]);
    wait_for_word(&project, "job 2, which run");
    remove(&project, "slow");
    assert_eq!(next.wait().unwrap().code(), Some(0));
    assert_eq!((project.ran(), cluster.submitted()), (vec!["1".to_owned()], 2));
}

#[test]
fn two_drivers_submit_nothing_twice() {
    let Some(cluster) = Cluster::start() else { return };
    let project = slow_grid(&cluster);
    let mut one = cluster.start_run(&project, &["-q"]);
    let mut command = cluster.command(&project, &["run", "--executor", "slurm", "-q"]);
    let mut two = command.spawn().unwrap();
    patiently("the jobs", || project.path("runs-1").exists() && cluster.jobs().len() == 5);
    remove(&project, "slow");
    assert!(one.wait().unwrap().success() && two.wait().unwrap().success());
    assert_eq!((project.ran().len(), cluster.submitted()), (5, 6));
    cluster.run(&project, &["-q"]).code(0);
    assert!(notes(&project).is_empty());
}

#[test]
fn one_ctrl_c_submits_no_more_and_waits() {
    let Some(cluster) = Cluster::start() else { return };
    let project = toy();
    project.write("slow", "");
    let mut driver = cluster.start_run(&project, &[]);
    patiently("the job", || project.path("runs-hello").exists() && project.path("runs-apart").exists());
    signal("-INT", &driver);
    wait_for_word(&project, "nothing more is submitted");
    remove(&project, "slow");
    assert_eq!(driver.wait().unwrap().code(), Some(130));
    let err = project.read("driver.err");
    assert!(err.contains("done      first") && err.contains("interrupted: 2 ran, 0 cached, 1 not run"), "{err}");
    assert_eq!((project.ran(), cluster.submitted()), (vec!["apart".to_owned(), "hello".to_owned()], 2));
}

#[test]
fn two_ctrl_c_cancel_the_jobs() {
    let Some(cluster) = Cluster::start() else { return };
    let project = slow_grid(&cluster);
    let mut driver = cluster.start_run(&project, &[]);
    patiently("the first cell", || project.path("runs-1").exists());
    signal("-INT", &driver);
    wait_for_word(&project, "nothing more is submitted");
    assert_eq!(cluster.jobs().len(), 5);
    signal("-INT", &driver);
    assert_eq!(driver.wait().unwrap().code(), Some(130));
    cluster.wait_until_idle();
    let err = project.read("driver.err");
    assert!(err.contains("stopped   cell[n=1]  job 2_0 was cancelled") && err.contains("5 stopped"), "{err}");
    assert!(project.ran().is_empty() && notes(&project).is_empty());
    remove(&project, "slow");
    cluster.run(&project, &["-q", "--failed"]).code(0);
    assert_eq!(project.ran(), ["1", "2", "3", "4", "5"]);
}

#[test]
fn a_driver_that_is_asked_to_end_leaves_its_jobs_running() {
    let Some(cluster) = Cluster::start() else { return };
    let project = slow_grid(&cluster);
    let mut driver = cluster.start_run(&project, &["cell[n=1]"]);
    patiently("the cell", || project.path("runs-1").exists());
    signal("-TERM", &driver);
    assert_eq!(driver.wait().unwrap().code(), Some(130));
    assert!(project.read("driver.err").contains("job 2 goes on in the cluster"), "{}", project.read("driver.err"));
    assert_eq!(cluster.jobs(), ["2"]);
    remove(&project, "slow");
    cluster.wait_until_idle();
    assert!(cluster.run(&project, &["cell[n=1]"]).code(0).err.starts_with("nothing to do"));
    assert_eq!((project.ran(), cluster.submitted()), (vec!["1".to_owned()], 2));
}
