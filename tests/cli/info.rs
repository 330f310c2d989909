//! Commands that tell what there is: help, kinds, schema, graph, env, completions, init.

use insta::assert_snapshot;

use crate::support::Project;

#[test]
fn help_and_version_are_data() {
    let project = Project::of("");
    let version = project.qapipe(&["--version"]).code(0);
    assert_eq!(version.out, format!("qapipe {}\n", env!("CARGO_PKG_VERSION")));
    for command in [
        "run",
        "plan",
        "why",
        "check",
        "kinds",
        "schema",
        "results",
        "graph",
        "log",
        "show",
        "logs",
        "get",
        "env",
        "cache",
        "init",
        "completions",
    ] {
        let help = project.qapipe(&[command, "--help"]).code(0);
        assert!(help.out.contains("Examples:\n  qapipe ") && help.err.is_empty(), "{}", help.out);
    }
    assert!(project.qapipe(&[]).code(2).err.contains("Usage: qapipe"));
}

#[test]
fn kinds_are_listed_and_explained() {
    let project = Project::of("");
    let list = project.qapipe(&["kinds"]).code(0);
    for kind in ["command", "dataset", "checkpoint", "tokenize", "fine-tune", "distil", "evaluate"] {
        assert!(list.out.lines().any(|line| line.starts_with(&format!("{kind} "))), "{}", list.out);
    }
    assert_snapshot!(project.qapipe(&["kinds", "command"]).code(0).out, @r#"
    command
      Runs any program on files and other stages' outputs.

      The program runs in the pipeline's folder, without a shell and with nothing on its standard input, in a
      process group of its own that ends with the stage. It has to write every output to the path that
      `{out.NAME}` stands for; the result is kept when it ends with exit code 0. List every file that it reads,
      its own script included, under `inputs`: an edit of a file that is not listed is not noticed.

    Parameters:
      run  list of text  [required]
          The program and its arguments; no shell. `{in.NAME}` and `{out.NAME}` stand for the paths of inputs and
          outputs.
      inputs  table of (@stage or path)
          What it reads, by name: `@stage`, `@stage.output`, or a file or folder.
      outputs  list of text, or table of text  [required]
          What it writes: names, or names with a path in the pipeline's folder where the result is put as well
          (and put back when altered).
      env  table of text
          Environment variables to set.

    Hints (under `hints = { … }`; they change how fast or where, never the result):
      device  text
          Where the stage runs: auto, cpu, cuda (one of the run's GPUs), or cuda:N.
      threads  whole number, 1 or more
          Threads that the stage may use.
      exclusive  true or false
          Whether nothing else of the run goes on beside the stage, so that its times are its own.

    Job (under `slurm = { … }`; with --executor slurm, instead of what `[slurm]` in qapipe.toml says):
      partition  text
          Partition of the job.
      account  text
          Account that pays.
      time  text
          Time limit: minutes, "H:M:S" or "D-H:M:S".
      gpus  whole number, 0 or more
          GPUs; those of the project hold for stages that use tensors.
      memory  text
          Memory of the job: "32G".
      cpus  whole number, 1 or more
          CPUs; the stage gets as many threads.
      options  list of text
          More options of sbatch, each a text: "--qos=high".
      setup  list of text
          Lines of shell before the stage: "module load cuda".
    "#);
    let unknown = project.qapipe(&["kinds", "fintune"]).code(2);
    assert!(unknown.err.contains("'fine-tune'"), "{}", unknown.err);
    let json = project.qapipe(&["kinds", "--json"]).code(0).json();
    assert!(json["kinds"].as_array().unwrap().iter().all(|kind| kind["doc"].is_string() && kind["params"].is_array()));
}

#[test]
fn the_schema_is_one() {
    let project = Project::of("");
    let schema: serde_json::Value = serde_json::from_str(&project.qapipe(&["schema"]).code(0).out).unwrap();
    assert!(schema["$schema"].is_string() && schema["properties"]["stages"].is_object());
}

#[test]
fn the_graph_has_four_forms() {
    let project = Project::toy();
    assert_snapshot!(project.qapipe(&["graph"]).code(0).out, @r"
    first     command
      second  command  inputs.x @first
    apart     command
    ");
    assert!(project.qapipe(&["graph", "--dot"]).code(0).out.starts_with("digraph"));
    assert!(project.qapipe(&["graph", "--mermaid"]).code(0).out.contains("-->"));
    assert!(project.qapipe(&["graph", "--svg"]).code(0).out.contains("<svg"));
    assert_eq!(project.qapipe(&["graph", "--json"]).code(0).json()["stages"][1]["after"][0], "first");
    project.qapipe(&["graph", "--dot", "--svg"]).code(2);
}

#[test]
fn env_works_without_a_worker() {
    let project = Project::of("");
    let env = project.answer(project.command(&["env", "--json"]).env("QAPIPE_WORKER", "/nonexistent/worker")).code(0).json();
    assert_eq!(env["qapipe"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(env["machine"]["cores"].as_u64().unwrap() > 0 && env["worker"]["problem"].is_string());
    assert!(project.qapipe(&["env"]).code(0).out.contains("machine.cores"));
}

#[test]
fn completions_know_commands_and_kinds() {
    let project = Project::of("");
    for (shell, knows_kinds) in [("bash", true), ("zsh", true), ("fish", false), ("elvish", false), ("powershell", false)] {
        let script = project.qapipe(&["completions", shell]).code(0).out;
        assert!(script.contains("completions") && (script.contains("fine-tune") || !knows_kinds), "{shell}");
    }
    project.qapipe(&["completions", "tcl"]).code(2);
}

#[test]
fn a_new_project_is_sound_and_is_not_overwritten() {
    let project = Project::of("");
    let made = project.qapipe(&["init", "new"]).code(0);
    assert_eq!((made.out.as_str(), made.err.as_str()), ("new/pipeline.toml\nnew/.gitignore\n", "now: cd new && qapipe run\n"));
    assert_eq!(project.qapipe(&["check", "new"]).code(0).out, "ok  new/pipeline.toml: pipeline new, 5 stages\n");
    project.qapipe(&["plan", "new", "--set", "vars.epochs=3"]).code(0);
    let again = project.qapipe(&["init", "new"]).code(2);
    assert!(again.err.starts_with("error: new/pipeline.toml is there already"), "{}", again.err);
    assert!(project.read("new/.gitignore").contains(".qapipe/"));
}
