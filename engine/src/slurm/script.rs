//! The script of a job.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::Cluster;
use super::batch::Batch;
use super::note::Files;
use super::wants::Wants;
use crate::device::Devices;
use crate::engine::Engine;
use crate::paths::absolute;

/// All that a script says.
pub(crate) struct Script<'a> {
    cluster: &'a Cluster,
    batch: &'a Batch,
    wants: Wants,
    files: &'a Files,
    run: &'a str,
    comment: &'a str,
    pipeline: &'a str,
    file: PathBuf,
    store: PathBuf,
    devices: &'a Devices,
    offline: bool,
    /// What `--jobs` is to be, where that must not depend on the node.
    strict_jobs: Option<usize>,
}

/// The number of the task at hand, as the shell knows it.
const TASK: &str = "${SLURM_ARRAY_TASK_ID}";

impl<'a> Script<'a> {
    pub(crate) fn new(
        engine: &'a Engine,
        cluster: &'a Cluster,
        batch: &'a Batch,
        files: &'a Files,
        run: &'a str,
        comment: &'a str,
    ) -> Self {
        Self {
            cluster,
            batch,
            wants: batch.wants(),
            files,
            run,
            comment,
            pipeline: &engine.pipeline.name,
            file: absolute(&engine.pipeline.file),
            store: absolute(engine.store.root()),
            devices: &engine.options.devices,
            offline: engine.options.offline,
            strict_jobs: engine.pipeline.strict.then_some(engine.options.jobs),
        }
    }

    /// The whole text.
    pub(crate) fn text(&self) -> String {
        let mut text = "#!/bin/bash\n".to_owned();
        for option in self.options() {
            let _ = writeln!(text, "#SBATCH {option}");
        }
        text.push_str("set -e\n");
        for line in self.wants.setup.iter().flatten() {
            let _ = writeln!(text, "{line}");
        }
        text + &self.choice() + &self.command()
    }

    fn options(&self) -> Vec<String> {
        let wants = &self.wants;
        let number = |name: &str, value: Option<u64>| value.map(|value| format!("--{name}={value}"));
        let word = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("--{name}={value}"));
        let output = self.files.output(if self.batch.is_array() { "%a" } else { "0" });
        let given = [
            Some(format!("--job-name=qapipe-{}-{}", self.pipeline, self.batch.family())),
            Some(format!("--comment={}", self.comment)),
            Some(quoted(&format!("--output={}", pattern(&output)))),
            Some(quoted(&format!("--chdir={}", self.cluster.folder.display()))),
            self.batch.is_array().then(|| format!("--array=0-{}", self.batch.tasks.len() - 1)),
            word("partition", &wants.partition),
            word("account", &wants.account),
            word("time", &wants.time),
            number("cpus-per-task", wants.cpus),
            word("mem", &wants.memory),
            wants.gpus.map(|gpus| format!("--gres=gpu:{gpus}")),
        ];
        given.into_iter().flatten().chain(wants.options.iter().flatten().cloned()).collect()
    }

    /// Which stage it is, and what it is to come out with.
    fn choice(&self) -> String {
        let tasks = &self.batch.tasks;
        if let [only] = tasks.as_slice() {
            return format!("stage={} key={}\n", shell(&only.name), only.key);
        }
        let mut text = format!("case {TASK} in\n");
        for (number, task) in tasks.iter().enumerate() {
            let _ = writeln!(text, "{number}) stage={} key={} ;;", shell(&task.name), task.key);
        }
        text + "esac\n"
    }

    /// The program itself takes the place of the shell: it hears Slurm's signals.
    fn command(&self) -> String {
        let path = |path: &Path| shell(&path.to_string_lossy());
        let events = if self.batch.is_array() {
            // The folder may hold anything, the rest is for the shell to fill in.
            let name = self.files.events(TASK);
            let (folder, name) = (name.parent().unwrap_or(Path::new("")), name.file_name().unwrap_or_default().to_string_lossy());
            format!("{}/\"{name}\"", path(folder))
        } else {
            path(&self.files.events("0"))
        };
        let arguments: String = self.cluster.arguments.iter().map(|argument| format!(" {}", shell(argument))).collect();
        let anew = if self.batch.tasks.first().is_some_and(|task| task.anew) { " --force \"$stage\"" } else { "" };
        let offline = if self.offline { " --offline" } else { "" };
        let lines = [
            format!("exec {} run {} \"$stage\"", path(&self.cluster.program), path(&self.file)),
            format!("  --store {} --device {} --jobs {}{anew}{offline}{arguments}", path(&self.store), self.devices, self.jobs()),
            format!("  --expect \"$key\" --run-id {} --events {events}", self.run),
        ];
        lines.join(" \\\n") + "\n"
    }

    /// Threads: as many as are asked for, or as the job was given.
    fn jobs(&self) -> String {
        let known = self.strict_jobs.map(|jobs| jobs.to_string()).or(self.wants.cpus.map(|cpus| cpus.to_string()));
        known.unwrap_or_else(|| "\"${SLURM_CPUS_ON_NODE:-1}\"".to_owned())
    }
}

/// A word as the shell reads it.
fn shell(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:=@,+".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// An option as sbatch reads it from a script: quotes hold blanks together, a backslash takes the meaning of what follows.
fn quoted(option: &str) -> String {
    let is_plain = |letter: char| !letter.is_whitespace() && !matches!(letter, '"' | '\'' | '\\' | '#');
    if option.chars().all(is_plain) {
        return option.to_owned();
    }
    format!("\"{}\"", option.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A path in which Slurm replaces nothing but `%a`.
fn pattern(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let folder = path.parent().unwrap_or(Path::new("")).to_string_lossy().replace('%', "%%");
    format!("{folder}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_shell_as_they_are() {
        assert_eq!(shell("vars.lr=3e-5"), "vars.lr=3e-5");
        assert_eq!(shell("lora[rank=4]"), "'lora[rank=4]'");
        assert_eq!(shell("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(shell(""), "''");
    }

    #[test]
    fn options_reach_sbatch_as_they_are() {
        assert_eq!(quoted("--chdir=/data/x"), "--chdir=/data/x");
        assert_eq!(quoted(r#"--chdir=/my "data" #1\x"#), r#""--chdir=/my \"data\" #1\\x""#);
        assert_eq!(pattern(Path::new("/100%/a%b/0-%a.log")), "/100%%/a%%b/0-%a.log");
    }
}
