//! What a job asks the cluster for: `[slurm]` in `qapipe.toml`, and over it a stage's own `slurm` table.

use serde::{Deserialize, Serialize};

use super::Cluster;
use crate::device::Devices;
use crate::engine::Engine;
use crate::kind::Place;
use crate::param::{Default, Param, Ty};
use crate::pipeline::StageSpec;
use crate::resources::asked;

/// What a job asks the cluster for. What is absent is left to Slurm.
#[derive(Clone, Debug, std::default::Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wants {
    /// Partition.
    pub partition: Option<String>,
    /// Account that pays.
    pub account: Option<String>,
    /// Time limit, as `sbatch --time` takes it.
    pub time: Option<String>,
    /// GPUs.
    pub gpus: Option<u64>,
    /// Memory of the node, as `sbatch --mem` takes it.
    pub memory: Option<String>,
    /// CPUs.
    pub cpus: Option<u64>,
    /// More options of `sbatch`, each as it would be written there.
    pub options: Option<Vec<String>>,
    /// Lines of shell that run before the stage.
    pub setup: Option<Vec<String>>,
}

const COUNT: Ty = Ty::Int { min: 0, max: i64::MAX };

/// The keys of a stage's `slurm` table. None is part of what a result is made from.
pub const PARAMS: &[Param] = &[
    Param::hint("partition", Ty::Str, Default::Absent, "Partition of the job."),
    Param::hint("account", Ty::Str, Default::Absent, "Account that pays."),
    Param::hint("time", Ty::Str, Default::Absent, "Time limit: minutes, \"H:M:S\" or \"D-H:M:S\"."),
    Param::hint("gpus", COUNT, Default::Absent, "GPUs; those of the project hold for stages that use tensors."),
    Param::hint("memory", Ty::Str, Default::Absent, "Memory of the job: \"32G\"."),
    Param::hint("cpus", Ty::Int { min: 1, max: i64::MAX }, Default::Absent, "CPUs; the stage gets as many threads."),
    Param::hint("options", Ty::List(&Ty::Str), Default::Absent, "More options of sbatch, each a text: \"--qos=high\"."),
    Param::hint("setup", Ty::List(&Ty::Str), Default::Absent, "Lines of shell before the stage: \"module load cuda\"."),
];

impl Wants {
    /// The first key whose value cannot be what it is meant to be, and what is wanted there.
    #[must_use]
    pub fn wrong(&self) -> Option<(&'static str, &'static str)> {
        let time = self.time.as_deref().filter(|time| !is_time(time)).map(|_| ("time", TIME));
        let memory = self.memory.as_deref().filter(|memory| !is_memory(memory)).map(|_| ("memory", MEMORY));
        let words = [("partition", &self.partition), ("account", &self.account)];
        let word = words.into_iter().find(|(_, word)| word.as_deref().is_some_and(|word| !is_word(word))).map(|(key, _)| (key, WORD));
        let options = self.options.iter().flatten().any(|option| !is_option(option)).then_some(("options", OPTION));
        time.or(memory).or(word).or(options)
    }

    /// These, and where they say nothing, those of the project.
    pub(crate) fn over(&self, project: &Self) -> Self {
        let (own, project) = (self.clone(), project.clone());
        Self {
            partition: own.partition.or(project.partition),
            account: own.account.or(project.account),
            time: own.time.or(project.time),
            gpus: own.gpus.or(project.gpus),
            memory: own.memory.or(project.memory),
            cpus: own.cpus.or(project.cpus),
            options: own.options.or(project.options),
            setup: own.setup.or(project.setup),
        }
    }

    /// What a stage's job asks for. The project's GPUs are for stages that use tensors and are not bound to the CPU; one is asked for where the
    /// device says so and nobody says how many. CPUs follow the stage's hint, then `--jobs` where tensors are used, then the project; with strict
    /// numerics the stage's key hangs on how many threads there are, so it gets as many CPUs.
    pub(crate) fn of(engine: &Engine, spec: &StageSpec, cluster: &Cluster) -> Self {
        let (own, project, device) = (&spec.slurm, &cluster.wants, asked(engine, spec));
        let uses_tensors = spec.kind.place_of(&spec.values) == Place::Worker;
        let usual = (uses_tensors && matches!(device, Devices::Cuda(_))).then_some(1);
        let gpus = own.gpus.or(project.gpus.filter(|_| uses_tensors && device != Devices::Cpu)).or(usual);
        let hinted = spec.values.get("hints.threads").and_then(serde_json::Value::as_u64);
        let is_fixed = uses_tensors && (cluster.fixed_jobs || engine.pipeline.strict);
        let jobs = if is_fixed { u64::try_from(engine.options.jobs).ok() } else { None };
        Self { gpus: gpus.filter(|&gpus| gpus > 0), cpus: own.cpus.or(hinted).or(jobs).or(project.cpus), ..own.over(project) }
    }
}

const TIME: &str = "minutes, \"H:M:S\" or \"D-H:M:S\", as `sbatch --time` takes it: \"2:00:00\"";
const MEMORY: &str = "a number and K, M, G or T: \"32G\"";
const WORD: &str = "a name without blanks";
const OPTION: &str = "options of sbatch, each a text of one line (\"--qos=high\"); array, chdir, comment and output are taken";

/// Minutes, M:S, H:M:S, D-H, D-H:M, D-H:M:S, or a word for no limit.
fn is_time(text: &str) -> bool {
    let numbers = |text: &str, most: usize| {
        let parts: Vec<&str> = text.split(':').collect();
        parts.len() <= most && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    match text.split_once('-') {
        Some((days, rest)) => numbers(days, 1) && numbers(rest, 3),
        None => numbers(text, 3) || matches!(text, "UNLIMITED" | "INFINITE"),
    }
}

fn is_memory(text: &str) -> bool {
    let number = text.strip_suffix(['K', 'M', 'G', 'T']).unwrap_or(text);
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.contains(|letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'' | '\\' | '#'))
}

/// An option on one line, and none that jobs are found by.
fn is_option(text: &str) -> bool {
    const TAKEN: [&str; 7] = ["--array", "--chdir", "--comment", "--output", "-a", "-D", "-o"];
    let is_taken = |taken: &&str| {
        let rest = text.strip_prefix(*taken);
        rest.is_some_and(|rest| taken.len() == 2 || rest.is_empty() || rest.starts_with(['=', ' ']))
    };
    text.starts_with('-') && !text.contains(['\n', '\r']) && !TAKEN.iter().any(is_taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_those_that_sbatch_takes() {
        for good in ["90", "90:00", "2:00:00", "1-0", "1-12:30", "1-12:30:00", "UNLIMITED"] {
            assert!(is_time(good), "{good}");
        }
        for bad in ["", "2h", "1:2:3:4", "1-", "-1", "1:", "1 0"] {
            assert!(!is_time(bad), "{bad}");
        }
        assert!(["32G", "4000", "1T"].into_iter().all(is_memory) && !["", "G", "32GB", "1.5G"].into_iter().any(is_memory));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |wants: Wants| wants.wrong().map(|(key, _)| key);
        assert_eq!(wrong(Wants::default()), None);
        assert_eq!(wrong(Wants { time: Some("2h".into()), ..Wants::default() }), Some("time"));
        assert_eq!(wrong(Wants { account: Some("a b".into()), ..Wants::default() }), Some("account"));
        let options = |option: &str| wrong(Wants { options: Some(vec![option.to_owned()]), ..Wants::default() });
        assert_eq!(["--qos=high", "-p gpu", "--output-x"].map(options), [None; 3]);
        assert_eq!(["--qos=x\nrm", "qos=x", "--output=x", "--array 1", "-ox"].map(options), [Some("options"); 5]);
    }

    #[test]
    fn a_stage_wins_over_the_project_key_by_key() {
        let project = Wants { time: Some("60".into()), cpus: Some(4), options: Some(vec!["--qos=low".into()]), ..Wants::default() };
        let stage = Wants { time: Some("90".into()), options: Some(Vec::new()), ..Wants::default() };
        assert_eq!(stage.over(&project), Wants { time: Some("90".into()), cpus: Some(4), options: Some(Vec::new()), ..Wants::default() });
    }
}
