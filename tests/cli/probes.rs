//! What a cache must get right when files change behind its back.

use std::time::Duration;

use crate::support::Project;

/// A project whose results are up to date.
fn done() -> Project {
    let project = Project::toy();
    project.qapipe(&["run", "-q"]).code(0);
    assert_eq!(project.ran(), ["again", "apart", "hello"]);
    project
}

#[test]
fn an_output_overwritten_by_hand_is_put_back() {
    let project = done();
    project.write("out/second.txt", "garbage\n");
    project.qapipe(&["run", "-q"]).code(0);
    assert_eq!((project.read("out/second.txt").as_str(), project.ran().len()), ("input\nhello\nagain\n", 0));
}

#[test]
fn a_touched_input_reruns_nothing() {
    let project = done();
    let later = std::time::SystemTime::now() + Duration::from_secs(5);
    std::fs::File::options().append(true).open(project.path("in.txt")).unwrap().set_modified(later).unwrap();
    project.qapipe(&["run", "-q"]).code(0);
    assert!(project.ran().is_empty());
}

#[test]
fn an_input_edited_with_its_time_put_back_is_noticed() {
    let project = done();
    let path = project.path("in.txt");
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    project.write("in.txt", "INPUT\n");
    std::fs::File::options().append(true).open(&path).unwrap().set_modified(modified).unwrap();
    project.qapipe(&["run", "-q"]).code(0);
    assert_eq!((project.read("out/second.txt").as_str(), project.ran().len()), ("INPUT\nhello\nagain\n", 3));
}

#[test]
fn a_script_that_stages_call_is_an_input() {
    let project = done();
    project.write("step.sh", &format!("{}echo more >> \"$2\"\n", project.read("step.sh")));
    project.qapipe(&["run", "-q"]).code(0);
    assert_eq!(project.ran(), ["again", "apart", "hello"]);
}

#[test]
fn an_input_edited_under_a_running_stage_is_not_recorded() {
    let project = Project::toy();
    project.write(
        "step.sh",
        &format!("cat \"$1\" > /dev/null\n: > started\nwhile [ -e slow ]; do sleep 0.05; done\n{}", project.read("step.sh")),
    );
    project.write("slow", "");
    let mut child = project.start(&["run", "-q", "first"]);
    project.wait_for("started");
    project.write("in.txt", "other\n");
    std::fs::remove_file(project.path("slow")).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let _ = project.ran();
    project.qapipe(&["run", "-q", "second"]).code(0);
    assert_eq!((project.read("out/second.txt").as_str(), project.ran().len()), ("other\nhello\nagain\n", 2));
}
