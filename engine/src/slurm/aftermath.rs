//! What became of a job that ended without a result.

use std::path::Path;

use super::queue::{Account, Ending};
use crate::error::{ErrorClass, StageError};
use crate::tail::Tail;

/// The error of a job that left no result, by what Slurm says of it and by the end of what it printed.
pub(crate) fn error(job: &str, account: Option<&Account>, output: &Path) -> StageError {
    let printed = String::from_utf8_lossy(&std::fs::read(output).unwrap_or_default()).into_owned();
    let Some(Account { ending, code, signal }) = account else {
        let message = format!("Slurm does not know job {job} any more, and it left no result{}", tail(&printed));
        return StageError::failed(message).help("run again to submit it anew");
    };
    match ending {
        Ending::Timeout => StageError::failed(format!("job {job} ran into its time limit"))
            .help("raise `time` in the stage's `slurm` or under [slurm] in qapipe.toml; a training goes on from its last state"),
        Ending::OutOfMemory => out_of_memory(job, &printed),
        Ending::Failed if ran_out_of_memory(&printed) => out_of_memory(job, &printed),
        Ending::NodeFailed => StageError::failed(format!("the node of job {job} failed")).help("run again to submit it anew"),
        Ending::Preempted => {
            StageError::failed(format!("job {job} had to give way to another")).help("run again; a training goes on from its last state")
        }
        Ending::Cancelled => StageError::failed(format!("job {job} was cancelled in the cluster")).help("run again to submit it anew"),
        Ending::Completed => StageError::failed(format!("job {job} ended well, but its result is not in the store{}", tail(&printed)))
            .help("the nodes have to see the store at the same path; `--store` names another"),
        Ending::Failed if *signal > 0 => StageError::failed(format!("job {job} was killed by signal {signal}{}", tail(&printed))),
        Ending::Failed => StageError::failed(format!("job {job} failed with exit code {code}{}", tail(&printed))),
        Ending::Other(word) => StageError::failed(format!("job {job} ended as {word}{}", tail(&printed))),
    }
}

fn out_of_memory(job: &str, printed: &str) -> StageError {
    let message = format!("job {job} took more memory than it had asked for{}", tail(printed));
    StageError::new(ErrorClass::OutOfMemory, message).help("raise `memory` in the stage's `slurm` or under [slurm] in qapipe.toml")
}

/// Where memory is watched over without control groups, a job that took too much has just failed by Slurm's word, which says more in its output.
fn ran_out_of_memory(printed: &str) -> bool {
    let signs = ["exceeded memory limit", "Exceeded job memory limit", "oom-kill event", "oom_kill event"];
    printed.lines().any(|line| line.contains("slurmstepd") && signs.iter().any(|sign| line.contains(sign)))
}

/// The last lines of what a job printed.
fn tail(printed: &str) -> String {
    let mut last = Tail::default();
    printed.lines().filter(|line| !line.is_empty()).for_each(|line| last.push(line));
    last.text()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn said(ending: Ending, code: i32, signal: i32) -> (ErrorClass, String) {
        let error = error("12_3", Some(&Account { ending, code, signal }), Path::new("/nonexistent"));
        (error.class, error.message)
    }

    #[test]
    fn every_end_has_its_words() {
        let failed = |message: &str| (ErrorClass::Failed, message.to_owned());
        assert_eq!(said(Ending::Timeout, 0, 15), failed("job 12_3 ran into its time limit"));
        assert_eq!(said(Ending::Failed, 2, 0), failed("job 12_3 failed with exit code 2"));
        assert_eq!(said(Ending::Failed, 0, 9), failed("job 12_3 was killed by signal 9"));
        assert_eq!(said(Ending::NodeFailed, 1, 0), failed("the node of job 12_3 failed"));
        assert_eq!(said(Ending::Other("REVOKED".into()), 0, 0), failed("job 12_3 ended as REVOKED"));
        assert_eq!(said(Ending::OutOfMemory, 0, 125).0, ErrorClass::OutOfMemory);
    }

    #[test]
    fn a_job_that_took_too_much_memory_is_known_by_what_slurm_printed() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("0-0.log");
        let account = Account { ending: Ending::Failed, code: 0, signal: 9 };
        std::fs::write(&output, "my loss exceeded memory limit\n").unwrap();
        assert_eq!(error("12", Some(&account), &output).class, ErrorClass::Failed);
        std::fs::write(&output, "slurmstepd-n1: error: StepId=12.batch exceeded memory limit (374104064 > 52428800), being killed\n")
            .unwrap();
        assert_eq!(error("12", Some(&account), &output).class, ErrorClass::OutOfMemory);
    }

    #[test]
    fn the_end_of_the_output_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("0-0.log");
        std::fs::write(&output, "one\n\nmodule: command not found\n").unwrap();
        let error = error("12", None, &output);
        assert_eq!(error.message, "Slurm does not know job 12 any more, and it left no result\n  | one\n  | module: command not found");
    }
}
