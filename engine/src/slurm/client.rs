//! Slurm's own programs: `sbatch`, `squeue`, `scancel`, `sacct`, `scontrol`.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::error::StageError;

/// Why a program of Slurm's gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It cannot be started.
    Missing(String),
    /// It refused; what it said, without its name in front of every line.
    Refused(String),
}

/// What a program prints. It is in a group of its own: Ctrl-C is for this process, and must not cut a submission in half.
pub(crate) fn ask(program: &str, args: &[impl AsRef<OsStr>]) -> Result<String, Trouble> {
    let mut command = Command::new(program);
    command.args(args).process_group(0).stdin(Stdio::null()).env("LC_ALL", "C");
    let output = command.output().map_err(|error| missing(program, &error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = plain(program, &String::from_utf8_lossy(&output.stderr));
    Err(Trouble::Refused(if said.is_empty() { format!("it ended with {}", output.status) } else { said }))
}

fn missing(program: &str, error: &std::io::Error) -> Trouble {
    Trouble::Missing(match error.kind() {
        ErrorKind::NotFound => format!("`{program}` is not on the path"),
        _ => format!("`{program}` cannot be started: {error}"),
    })
}

/// What a program said, on one line.
fn plain(program: &str, said: &str) -> String {
    let own = |line: &str| {
        let line = line.strip_prefix(program).and_then(|line| line.strip_prefix(": ")).unwrap_or(line);
        line.strip_prefix("error: ").unwrap_or(line).trim().to_owned()
    };
    let lines: Vec<String> = said.lines().map(own).filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}

impl Trouble {
    /// What is the matter, for a message.
    pub(crate) fn text(&self) -> &str {
        let (Self::Missing(text) | Self::Refused(text)) = self;
        text
    }

    /// As the error of a stage that could not be submitted.
    pub(crate) fn into_error(self) -> StageError {
        match self {
            Self::Missing(text) => StageError::environment(format!("cannot submit a job: {text}"))
                .help("`--executor slurm` runs where jobs are submitted; `--executor local` needs no Slurm"),
            Self::Refused(text) => StageError::environment(format!("sbatch refused the job: {text}"))
                .help("see `[slurm]` in qapipe.toml and the stage's `slurm`; `--dry` prints the script"),
        }
    }

    /// Whether it is only that there are too many jobs for now. What every violated policy is told with (`job submit limit, user's size and/or
    /// time limits`) says nothing; the name of the limit before it does.
    pub(crate) fn is_limit(&self) -> bool {
        const SIGNS: [&str; 3] = ["SubmitJob", "temporarily unable to accept job", "Resource temporarily unavailable"];
        matches!(self, Self::Refused(text) if SIGNS.iter().any(|sign| text.contains(sign)))
    }

    /// Whether the controller did not answer: the next try may be heard.
    pub(crate) fn is_silence(&self) -> bool {
        const SIGNS: [&str; 5] =
            ["Unable to contact", "timed out", "Connection refused", "Zero Bytes were transmitted", "Transport endpoint"];
        matches!(self, Self::Refused(text) if SIGNS.iter().any(|sign| text.contains(sign)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sbatch_says_is_one_line() {
        let said = "sbatch: error: invalid partition specified: nope\nsbatch: error: Batch job submission failed: Invalid partition name\n";
        assert_eq!(plain("sbatch", said), "invalid partition specified: nope; Batch job submission failed: Invalid partition name");
    }

    #[test]
    fn a_full_queue_and_a_silent_controller_are_no_refusal_for_good() {
        let refused = |text: &str| Trouble::Refused(text.to_owned());
        let policy = "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)";
        assert!(refused(&format!("AssocMaxSubmitJobLimit; {policy}")).is_limit());
        assert!(!refused(&format!("QOSMaxWallDurationPerJobLimit; {policy}")).is_limit());
        assert!(refused("Unable to contact slurm controller (connect failure)").is_silence());
    }

    #[test]
    fn a_program_that_is_not_there_is_told() {
        let trouble = ask("no-such-sbatch", &["x"]);
        assert_eq!(trouble, Err(Trouble::Missing("`no-such-sbatch` is not on the path".to_owned())));
    }
}
