//! `--executor slurm`, against a real Slurm.

use std::path::Path;
use std::process::{Child, Command};

use insta::assert_snapshot;

use crate::cluster::{Cluster, patiently};
use crate::support::{Answer, Project};

/// Says that it runs, waits as long as there is a file `slow`, does as the toy does.
fn step() -> String {
    format!("touch \"runs-$3\"\nwhile [ -e slow ]; do sleep 0.1; done\n{}", crate::support::STEP)
}

/// One stage, then five cells of a matrix that read it, each of which takes the whole node if it is told to.
const GRID: &str = r#"name = "grid"
[vars]
cpus = 1

[matrix]
n = [1, 2, 3, 4, 5]

[stages.base]
kind = "command"
run = ["sh", "{in.code}", "{in.x}", "{out.y}", "base"]
inputs = { code = "step.sh", x = "in.txt" }
outputs = ["y"]

[stages.cell]
kind = "command"
run = ["sh", "{in.code}", "{in.x}", "{out.y}", "${matrix.n}"]
inputs = { code = "step.sh", x = "@base" }
outputs = ["y"]
slurm = { cpus = "${vars.cpus}" }
"#;

/// A stage that is text, and one that uses tensors.
const TENSORS: &str = "[stages.sample]\nkind = \"dataset\"\nsource = \"sample\"\n\n[stages.model]\nkind = \"checkpoint\"\nvocabulary = \"@sample\"\n\
                       config = { hidden_size = 16, num_attention_heads = 2, num_hidden_layers = 1 }\n";

pub(crate) fn toy() -> Project {
    let project = Project::toy();
    project.write("step.sh", &step());
    project
}

fn grid() -> Project {
    let project = Project::of(GRID);
    project.write("step.sh", &step());
    project.write("in.txt", "input\n");
    project
}

/// The same, whose base is there and whose cells wait for one another and for a file to go.
pub(crate) fn slow_grid(cluster: &Cluster) -> Project {
    let project = grid();
    cluster.run(&project, &["-q", "base"]).code(0);
    assert_eq!(project.ran(), ["base"]);
    project.edit("cpus = 1", "cpus = 8");
    project.write("slow", "");
    project
}

pub(crate) fn signal(name: &str, child: &Child) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

pub(crate) fn remove(project: &Project, name: &str) {
    std::fs::remove_file(project.path(name)).unwrap();
}

/// What is noted of submissions.
pub(crate) fn notes(project: &Project) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(project.path(".qapipe/slurm")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect()
}

/// The driver's standard error, once it says something.
pub(crate) fn wait_for_word(project: &Project, word: &str) {
    patiently(word, || project.read("driver.err").contains(word));
}

fn of_events(answer: &Answer, event: &str, field: &str) -> Vec<String> {
    let events = answer.events();
    events.iter().filter(|found| found["event"] == event).map(|found| found[field].as_str().unwrap_or_default().to_owned()).collect()
}

/// How many stages each submission has, in their order. Tasks of an array take numbers of their own once they run: which the next job has is chance.
fn shapes(run: &Answer) -> Vec<String> {
    let jobs = of_events(run, "queued", "job");
    let mut counts: Vec<(String, usize)> = Vec::new();
    for job in jobs {
        let number = job.split('_').next().unwrap_or_default().to_owned();
        match counts.last_mut().filter(|(last, _)| *last == number) {
            Some((_, count)) => *count += 1,
            None => counts.push((number, 1)),
        }
    }
    counts.into_iter().map(|(_, count)| count.to_string()).collect()
}

#[test]
fn a_pipeline_runs_as_jobs() {
    let Some(cluster) = Cluster::start() else { return };
    let project = toy();
    let run = cluster.run(&project, &["--json"]).code(0);
    assert_eq!(run.stages("queued"), ["first", "apart", "second"]);
    assert_eq!(of_events(&run, "queued", "job"), ["1", "2", "3"]);
    assert_eq!((run.stages("finished").len(), run.stages("started").len()), (3, 3));
    assert_eq!(project.read("out/second.txt"), "input\nhello\nagain\n");
    assert_eq!(project.ran(), ["again", "apart", "hello"]);
    assert_eq!(project.qapipe(&["logs", "second"]).code(0).out, "working on again\n");
    let shown = project.qapipe(&["show"]).code(0).out;
    assert!(shown.contains("3 ran, 0 cached, 0 failed"), "{shown}");
    assert_eq!(project.qapipe(&["log", "--json"]).code(0).json()["runs"].as_array().unwrap().len(), 1, "a job is no run");
    assert!(notes(&project).is_empty());
    let again = cluster.run(&project, &[]).code(0);
    assert_eq!((again.err.as_str(), cluster.submitted()), ("nothing to do: 3 stages cached\n", 3));
    assert_eq!(project.qapipe(&["run"]).code(0).err, "nothing to do: 3 stages cached\n");
}

#[test]
fn what_needs_libtorch_runs_as_a_job_too() {
    let Some(cluster) = Cluster::start() else { return };
    let project = Project::of(TENSORS);
    project.write("qapipe.toml", "[slurm]\ncpus = 2\nmemory = \"1G\"\ntime = \"10\"\nsetup = [\"export FROM_SETUP=yes\"]\n");
    let run = cluster.run(&project, &["--set", "numerics=strict"]).code(0);
    assert!(run.err.contains("2 ran, 0 cached"), "{}", run.err);
    assert!(cluster.run(&project, &["--set", "numerics=strict"]).code(0).err.starts_with("nothing to do"));
}

#[test]
fn cells_are_arrays_no_wider_than_the_cluster_allows() {
    let Some(cluster) = Cluster::start() else { return };
    let project = grid();
    let run = cluster.run(&project, &["--json"]).code(0);
    assert_eq!(shapes(&run), ["1", "3", "2"]);
    assert_eq!(run.stages("finished").len(), 6);
    assert_eq!(project.ran(), ["1", "2", "3", "4", "5", "base"]);
    let cell = project.qapipe(&["get", "cell[n=4].y", "-o", "got"]).code(0);
    assert_eq!(project.read("got/y"), "input\nbase\n4\n", "{}", cell.err);
}

#[test]
fn an_equal_output_submits_nothing_after_it() {
    let Some(cluster) = Cluster::start() else { return };
    let project = toy();
    cluster.run(&project, &["-q"]).code(0);
    project.edit("\"hello\"", "\"hello~2\"");
    let edited = cluster.run(&project, &["--json"]).code(0);
    assert_eq!((edited.stages("queued"), edited.stages("cached").len()), (vec!["first".to_owned()], 2));
    assert!(edited.events().iter().any(|event| event["event"] == "finished" && event["unchanged"] == true));
    assert_eq!(cluster.submitted(), 4);
    assert_eq!(cluster.run(&project, &["--json", "--force", "apart"]).code(0).stages("finished"), ["apart"]);
    assert_eq!(cluster.submitted(), 5);
}

/// Fetching takes no node; what jobs gave is sent by the driver.
#[test]
fn with_a_remote_only_what_nobody_has_is_a_job() {
    let Some(cluster) = Cluster::start() else { return };
    let (one, two) = (toy(), toy());
    let remote = one.path("remote");
    for project in [&one, &two] {
        project.write("qapipe.toml", &format!("[remote]\nurl = \"{}\"\npush = true\n", remote.display()));
    }
    one.qapipe(&["run", "-q", "first"]).code(0);
    let run = cluster.run(&two, &["--json", "second"]).code(0);
    assert_eq!((run.stages("fetched"), run.stages("queued")), (vec!["first".to_owned()], vec!["second".to_owned()]));
    assert_eq!((run.stages("pushed"), two.ran()), (vec!["second".to_owned()], vec!["again".to_owned()]));
    assert_eq!(one.qapipe(&["run", "--json", "second"]).code(0).stages("fetched"), ["second"]);
}

#[test]
fn names_that_shells_stumble_over_are_no_trouble() {
    let Some(cluster) = Cluster::start() else { return };
    let project = Project::of("");
    let folder = "it's 100% \"odd\" #1";
    for (name, text) in [("pipeline.toml", crate::support::TOY), ("step.sh", step().as_str()), ("in.txt", "input\n")] {
        project.write(&format!("{folder}/{name}"), text);
    }
    let args = ["run", "--executor", "slurm", "-q", "second", "--set", "vars.word=a 'b' \"c\" $HOME `d` \\. ;#"];
    project.answer(cluster.command(&project, &args).current_dir(project.path(folder))).code(0);
    assert_eq!(project.read(&format!("{folder}/out/second.txt")), "input\na 'b' \"c\" $HOME `d` \\. ;#\nagain\n");
}

#[test]
fn a_stage_that_fails_says_why_as_it_does_here() {
    let Some(cluster) = Cluster::start() else { return };
    let project = toy();
    project.write("step.sh", "echo 'no such word' >&2\nexit 7\n");
    let failed = cluster.run(&project, &["first"]).code(1);
    assert!(failed.err.contains("failed    first") && failed.err.contains("no such word"), "{}", failed.err);
    assert!(failed.err.contains("exit code 7") && failed.err.contains("1 failed"), "{}", failed.err);
    assert!(notes(&project).is_empty());
    project.write("step.sh", &step());
    cluster.run(&project, &["-q", "--failed"]).code(0);
    assert_eq!(project.ran(), ["hello"]);
}

#[test]
fn where_ended_jobs_are_accounted_for_that_is_what_is_told() {
    let Some(cluster) = Cluster::start_with_accounting() else { return };
    let project = toy();
    let hungry = "x = b'x' * (300 << 20); import time; time.sleep(60)";
    project.write("step.sh", &format!("exec python3 -c \"{hungry}\"\n"));
    let file = project.read("pipeline.toml").replace("[stages.first]\n", "[stages.first]\nslurm = { memory = \"50M\" }\n");
    project.write("pipeline.toml", &file);
    let failed = cluster.run(&project, &["first"]).code(1);
    assert!(failed.err.contains(" took more memory than it had asked for\n"), "{}", failed.err);
    assert!(failed.err.contains("help: raise `memory`"), "{}", failed.err);
    project.write("step.sh", "kill -9 $PPID; sleep 60\n");
    let killed = cluster.run(&project, &["first"]).code(1);
    let accounted = cluster.ask("sacct", &["-X", "-n", "-P", "-j", "2", "--format=State,ExitCode"]);
    assert!(killed.err.contains("job 2 was killed by signal 9") && accounted == "FAILED|0:9\n", "{}\n{accounted}", killed.err);
    project.write("step.sh", &step());
    cluster.run(&project, &["-q", "first"]).code(0);
    assert_eq!(project.ran(), ["hello"]);
}

#[test]
fn a_job_that_is_killed_is_told_and_runs_again() {
    let Some(cluster) = Cluster::start() else { return };
    let project = toy();
    project.write("slow", "");
    let mut driver = cluster.start_run(&project, &[]);
    patiently("both jobs", || project.path("runs-hello").exists() && project.path("runs-apart").exists());
    cluster.ask("scancel", &["1"]);
    // The job's own process: the script's shell has become the command.
    let pids = cluster.ask("scontrol", &["listpids", "2"]);
    let pid = pids.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    assert_eq!(driver.wait().unwrap().code(), Some(1));
    let err = project.read("driver.err");
    assert!(err.contains("failed    first   job 1 was cancelled in the cluster"), "{err}");
    assert!(err.contains("failed    apart   job 2 was killed by signal 9"), "{err}");
    assert!(project.ran().is_empty() && notes(&project).is_empty());
    remove(&project, "slow");
    cluster.run(&project, &["-q"]).code(0);
    assert_eq!(project.ran(), ["again", "apart", "hello"]);
}

#[test]
fn an_edit_while_a_job_waits_is_told() {
    let Some(cluster) = Cluster::start() else { return };
    let project = slow_grid(&cluster);
    let mut driver = cluster.start_run(&project, &["cell[n=1]", "cell[n=2]"]);
    patiently("the first cell", || project.path("runs-1").exists());
    // The file is replaced, not written: the shell that runs it goes on with the old one. The other job begins with the new one.
    project.write("step.new", &format!("# new\n{}", step()));
    std::fs::rename(project.path("step.new"), project.path("step.sh")).unwrap();
    remove(&project, "slow");
    assert_eq!(driver.wait().unwrap().code(), Some(1));
    let err = project.read("driver.err");
    assert!(err.contains("failed    cell[n=1]"), "{err}");
    assert!(
        err.contains("failed    cell[n=2]  the stage is no longer what was submitted") || err.contains("what the stage reads is no longer"),
        "{err}"
    );
    cluster.run(&project, &["-q"]).code(0);
}

#[test]
fn a_node_that_fails_is_told() {
    let Some(cluster) = Cluster::start() else { return };
    let project = toy();
    project.write("slow", "");
    let mut driver = cluster.start_run(&project, &["first"]);
    patiently("the job", || project.path("runs-hello").exists());
    // Otherwise Slurm begins it anew some minutes later, and the driver waits for that.
    cluster.ask("scontrol", &["update", "jobid=1", "requeue=0"]);
    let node = format!("nodename={}", cluster.ask("sinfo", &["-h", "-o", "%n"]).trim());
    cluster.ask("scontrol", &["update", &node, "state=down", "reason=test"]);
    assert_eq!(driver.wait().unwrap().code(), Some(1));
    let err = project.read("driver.err");
    assert!(err.contains("failed    first ") && err.contains(" the node of job 1 failed\n"), "{err}");
}

/// Slurm counts in minutes.
#[test]
fn a_job_that_takes_too_long_says_what_to_raise() {
    let Some(cluster) = Cluster::start() else { return };
    let project = toy();
    project.write("slow", "");
    let ended = cluster.run(&project, &["first", "--set", "stages.first.slurm.time=\"0:30\""]).code(1);
    assert!(ended.err.contains("failed    first   job 1 ran into its time limit"), "{}", ended.err);
    assert!(ended.err.contains("raise `time` in the stage's `slurm`"), "{}", ended.err);
}

#[test]
fn a_dry_run_prints_the_scripts_and_submits_nothing() {
    let project = grid();
    project.write(
        "qapipe.toml",
        "[slurm]\npartition = \"long\"\ntime = \"2:00:00\"\noptions = [\"--qos=high\"]\nsetup = [\"module load cuda\"]\n",
    );
    let dry = project.qapipe(&["run", "--executor", "slurm", "--dry", "--set", "vars.cpus=2"]).code(0);
    assert_snapshot!(without_places(&project, &dry.out), @r#"
    #!/bin/bash
    #SBATCH --job-name=qapipe-grid-base
    #SBATCH --comment=qapipe:RUN-0
    #SBATCH --output=/project/.qapipe/runs/RUN/slurm/0-0.log
    #SBATCH --chdir=/project
    #SBATCH --partition=long
    #SBATCH --time=2:00:00
    #SBATCH --qos=high
    set -e
    module load cuda
    stage=base key=KEY
    exec /bin/qapipe run /project/pipeline.toml "$stage" \
      --store /project/.qapipe --device auto --jobs "${SLURM_CPUS_ON_NODE:-1}" --set vars.cpus=2 \
      --expect "$key" --run-id RUN --events /project/.qapipe/runs/RUN/slurm/0-0.jsonl
    "#);
    assert_eq!(dry.err, "later: cell, once it is known what base gives\n");
    project.qapipe(&["run", "-q", "base"]).code(0);
    let cells = project.qapipe(&["run", "--executor", "slurm", "--dry", "--where", "n=2,3"]).code(0);
    assert_snapshot!(without_places(&project, &cells.out), @r#"
    #!/bin/bash
    #SBATCH --job-name=qapipe-grid-cell
    #SBATCH --comment=qapipe:RUN-0
    #SBATCH --output=/project/.qapipe/runs/RUN/slurm/0-%a.log
    #SBATCH --chdir=/project
    #SBATCH --array=0-1
    #SBATCH --partition=long
    #SBATCH --time=2:00:00
    #SBATCH --cpus-per-task=1
    #SBATCH --qos=high
    set -e
    module load cuda
    case ${SLURM_ARRAY_TASK_ID} in
    0) stage='cell[n=2]' key=KEY ;;
    1) stage='cell[n=3]' key=KEY ;;
    esac
    exec /bin/qapipe run /project/pipeline.toml "$stage" \
      --store /project/.qapipe --device auto --jobs 1 \
      --expect "$key" --run-id RUN --events /project/.qapipe/runs/RUN/slurm/"0-${SLURM_ARRAY_TASK_ID}.jsonl"
    "#);
    assert_eq!((cells.err.as_str(), project.ran()), ("", vec!["base".to_owned()]));
    project.qapipe(&["run", "-q"]).code(0);
    assert_eq!(project.qapipe(&["run", "--executor", "slurm", "--dry"]).code(0).err, "nothing to submit: all results are there\n");
}

/// Without what differs from machine to machine, and keys.
fn without_places(project: &Project, text: &str) -> String {
    let folder = project.path("").to_str().unwrap().trim_end_matches('/').to_owned();
    let text = text.replace(&folder, "/project").replace(env!("CARGO_BIN_EXE_qapipe"), "/bin/qapipe");
    let word = |word: &str| if word.starts_with("key=") { "key=KEY".to_owned() } else { word.to_owned() };
    text.lines().map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn where_there_is_no_slurm_that_is_said() {
    let project = toy();
    let empty = Project::of("");
    let mut command = project.command(&["run", "--executor", "slurm", "first"]);
    let answer = project.answer(command.env("PATH", empty.path(""))).code(4);
    assert!(answer.err.contains("cannot submit a job: `scontrol` is not on the path"), "{}", answer.err);
    let dry = project.qapipe(&["run", "--dry"]).code(2);
    assert!(dry.err.contains("it needs --executor slurm"), "{}", dry.err);
    let no_wait = project.qapipe(&["run", "--executor", "slurm", "--no-wait"]).code(2);
    assert!(no_wait.err.contains("--no-wait is for --executor local"), "{}", no_wait.err);
}

#[test]
fn what_sbatch_refuses_is_shown() {
    let Some(cluster) = Cluster::start() else { return };
    let project = toy();
    let answer = cluster.run(&project, &["--set", "stages.first.slurm.partition=nope", "first"]).code(4);
    assert!(answer.err.contains("sbatch refused the job: invalid partition specified: nope"), "{}", answer.err);
    assert!(notes(&project).is_empty());
}

#[test]
fn a_job_that_waits_in_vain_is_told() {
    let Some(cluster) = Cluster::start() else { return };
    let project = toy();
    let mut driver = cluster.start_run(&project, &["first", "--set", "stages.first.slurm.cpus=100"]);
    wait_for_word(&project, "job 1 of first will not start by itself: PartitionConfig");
    signal("-INT", &driver);
    wait_for_word(&project, "nothing more is submitted");
    signal("-INT", &driver);
    assert_eq!(driver.wait().unwrap().code(), Some(130));
    assert!(cluster.jobs().is_empty() && notes(&project).is_empty());
}

/// The lines for sbatch in a script that would be submitted that ask for something.
fn asked(project: &Project, args: &[&str]) -> Vec<String> {
    let dry = project.qapipe(&[&["run", "--executor", "slurm", "--dry"], args].concat()).code(0);
    let ours = ["--job-name", "--comment", "--output", "--chdir"];
    let options = dry.out.lines().filter_map(|line| line.strip_prefix("#SBATCH "));
    options.filter(|option| !ours.iter().any(|own| option.starts_with(own))).map(str::to_owned).collect()
}

#[test]
fn gpus_are_for_stages_that_use_tensors() {
    let project = Project::of(TENSORS);
    project.write("qapipe.toml", "[slurm]\ngpus = 2\nmemory = \"8G\"\n");
    assert_eq!(asked(&project, &[]), ["--mem=8G"], "the sample is text");
    assert_eq!(asked(&project, &["--set", "stages.sample.slurm.gpus=1"]), ["--mem=8G", "--gres=gpu:1"], "unless the stage says so itself");
    project.qapipe(&["run", "-q", "sample"]).code(0);
    assert_eq!(asked(&project, &[]), ["--mem=8G", "--gres=gpu:2"]);
    assert_eq!(asked(&project, &["--device", "cpu", "--jobs", "3"]), ["--cpus-per-task=3", "--mem=8G"]);
    assert_eq!(asked(&project, &["--set", "stages.model.slurm.gpus=0"]), ["--mem=8G"]);
    project.write("qapipe.toml", "[slurm]\ncpus = 4\n");
    assert_eq!(asked(&project, &[]), ["--cpus-per-task=4"]);
    assert_eq!(asked(&project, &["--device", "cuda", "--set", "stages.model.hints.threads=2"]), ["--cpus-per-task=2", "--gres=gpu:1"]);
}

/// Keys hang on the GPU's name, which is not known here.
#[test]
fn strict_numerics_on_unknown_gpus_are_refused_at_once() {
    let project = Project::of("numerics = \"strict\"\n[stages.sample]\nkind = \"dataset\"\nsource = \"sample\"\n");
    let args = ["run", "--executor", "slurm", "--dry", "--device", "cuda"];
    let answer = project.answer(project.command(&args).env("CUDA_VISIBLE_DEVICES", ""));
    let answer = answer.code(2);
    assert!(answer.err.contains("results hang on the name of the GPU"), "{}", answer.err);
    project.qapipe(&["run", "--executor", "slurm", "--dry", "--device", "cpu"]).code(0);
}

/// Puts a program in front of Slurm's `sbatch`, which it can call as `$REAL`.
fn with_sbatch(cluster: &Cluster, project: &Project, text: &str, args: &[&str]) -> Answer {
    let path = std::env::var("PATH").unwrap();
    let real = std::env::split_paths(&path).map(|folder| folder.join("sbatch")).find(|program| program.is_file()).unwrap();
    project.write("front/sbatch", &format!("#!/bin/sh\nREAL={}\n{text}", real.display()));
    Command::new("chmod").args(["+x", project.path("front/sbatch").to_str().unwrap()]).status().unwrap();
    let mut command = cluster.command(project, &[&["run", "--executor", "slurm"], args].concat());
    project.answer(command.env("PATH", format!("{}:{path}", project.path("front").display())))
}

#[test]
fn where_a_user_may_not_have_so_many_jobs_fewer_are_submitted_at_once() {
    let Some(cluster) = Cluster::start() else { return };
    let project = grid();
    let front = "if grep -q 'array=0-2' \"$2\"; then echo 'sbatch: error: AssocMaxSubmitJobLimit' >&2; exit 1; fi\nexec $REAL \"$@\"\n";
    let run = with_sbatch(&cluster, &project, front, &["--json"]).code(0);
    assert_eq!(shapes(&run), ["1", "2", "2", "1"]);
    assert_eq!(project.ran(), ["1", "2", "3", "4", "5", "base"]);
}

#[test]
fn a_submission_that_was_heard_but_not_answered_is_found() {
    let Some(cluster) = Cluster::start() else { return };
    let project = toy();
    let front = "[ -e heard ] && exec $REAL \"$@\"\ntouch heard\n$REAL \"$@\" > /dev/null\n\
                 echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2\nexit 1\n";
    let run = with_sbatch(&cluster, &project, front, &["first", "--json"]);
    assert!(Path::new(&project.path("heard")).exists());
    assert_eq!((run.code, project.ran()), (Some(0), vec!["hello".to_owned()]), "{}", run.out);
    assert_eq!(cluster.submitted(), 1);
}

#[test]
fn mistakes_in_what_jobs_ask_for_are_shown_where_they_stand() {
    let project = toy();
    project.edit("outputs = [\"y\"]\n", "outputs = [\"y\"]\nslurm = { tiem = \"1\", gpus = -1 }\n");
    assert_snapshot!(project.qapipe(&["check"]).code(2).steady_err(), @r#"
    × `slurm` has no key `tiem`
      ╭─[pipeline.toml:11:11]
   10 │ outputs = ["y"]
   11 │ slurm = { tiem = "1", gpus = -1 }
      ·           ────
   12 │
      ╰────
    help: did you mean `time`?

    × `slurm.gpus` wants a whole number, 0 or more
      ╭─[pipeline.toml:11:30]
   10 │ outputs = ["y"]
   11 │ slurm = { tiem = "1", gpus = -1 }
      ·                              ─┬
      ·                               ╰── -1 is too small
   12 │
      ╰────

  2 errors in all
  "#);
    project.edit("{ tiem = \"1\", gpus = -1 }", "{ time = \"2h\" }");
    assert_snapshot!(project.qapipe(&["check"]).code(2).steady_err(), @r#"
    × `slurm.time` wants minutes, "H:M:S" or "D-H:M:S", as `sbatch --time` takes it: "2:00:00"
      ╭─[pipeline.toml:11:18]
   10 │ outputs = ["y"]
   11 │ slurm = { time = "2h" }
      ·                  ────
   12 │
      ╰────
    "#);
    project.edit("{ time = \"2h\" }", "{ time = \"2:00:00\" }");
    project.qapipe(&["check"]).code(0);
    let unknown = project.qapipe(&["run", "--set", "stages.first.slurm.memroy=1G"]).code(2);
    assert!(unknown.err.contains("`slurm` has no parameter `memroy`") && unknown.err.contains("`memory`"), "{}", unknown.err);
    for (text, wanted) in
        [("tiem = \"1\"", "unknown field `tiem`"), ("memory = \"lots\"", "`memory` under [slurm] wants a number and K, M, G or T")]
    {
        project.write("qapipe.toml", &format!("[slurm]\n{text}\n"));
        let answer = project.qapipe(&["run", "--executor", "slurm", "--dry"]).code(2);
        assert!(answer.err.contains(wanted), "{}", answer.err);
    }
}

/// What a job asks for says nothing of its result.
#[test]
fn other_wishes_rerun_nothing() {
    let project = toy();
    project.qapipe(&["run", "-q"]).code(0);
    project.edit("outputs = [\"y\"]\n", "outputs = [\"y\"]\nslurm = { time = \"90\", gpus = 1, memory = \"32G\" }\n");
    assert_eq!(project.qapipe(&["run"]).code(0).err, "nothing to do: 3 stages cached\n");
}
