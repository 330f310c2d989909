//! What Slurm says of jobs: `squeue` for all at once, `sacct` or `scontrol` for one that has ended.

use std::collections::HashMap;
use std::fmt;

use super::client::{self, Trouble};

/// A job, or one task of an array: `12`, `12_3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct JobId {
    pub(crate) job: u64,
    pub(crate) task: Option<u32>,
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.task {
            Some(task) => write!(f, "{}_{task}", self.job),
            None => write!(f, "{}", self.job),
        }
    }
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Waiting,
    Running,
    Ended(Ending),
}

/// How Slurm says that a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Completed,
    Failed,
    Cancelled,
    Timeout,
    OutOfMemory,
    NodeFailed,
    Preempted,
    /// In Slurm's word, which we know nothing about.
    Other(String),
}

impl Phase {
    /// By Slurm's long word: `RUNNING`, `CANCELLED by 0`.
    fn of(word: &str) -> Self {
        let word = word.split([' ', '+']).next().unwrap_or_default();
        Self::Ended(match word {
            "RUNNING" | "COMPLETING" | "STAGE_OUT" | "SIGNALING" | "STOPPED" | "SUSPENDED" => return Self::Running,
            "COMPLETED" => Ending::Completed,
            "FAILED" => Ending::Failed,
            "CANCELLED" => Ending::Cancelled,
            "TIMEOUT" | "DEADLINE" => Ending::Timeout,
            "OUT_OF_MEMORY" => Ending::OutOfMemory,
            "NODE_FAIL" | "BOOT_FAIL" => Ending::NodeFailed,
            "PREEMPTED" => Ending::Preempted,
            "REVOKED" | "LAUNCH_FAILED" | "RECONFIG_FAIL" => Ending::Other(word.to_owned()),
            // Whatever else there is waits for something: PENDING, CONFIGURING, REQUEUED and their like.
            _ => return Self::Waiting,
        })
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self, Self::Ended(_))
    }
}

/// What the queue says of a user's jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Queue {
    phases: HashMap<JobId, Phase>,
    /// Why jobs wait, where waiting does not help.
    stuck: HashMap<JobId, String>,
    /// Jobs by what was noted at their submission.
    by_comment: HashMap<String, u64>,
}

/// Job, number in the array, state, reason, comment. The comment stands last: it may hold anything.
const FORMAT: &str = "--format=%F|%K|%T|%r|%k";

/// What reasons hold that do not pass by themselves: somebody has to let the job go, or it asks for what there is not.
const STUCK: [&str; 8] =
    ["Held", "held", "BadConstraints", "NeverSatisfied", "InvalidAccount", "InvalidQOS", "PartitionConfig", "PartitionTimeLimit"];

impl Queue {
    /// Asks for all jobs of this user, those that ended a short while ago too.
    pub(crate) fn ask() -> Result<Self, Trouble> {
        let user = format!("--user={}", rustix::process::getuid().as_raw());
        client::ask("squeue", &["--noheader", "--all", "--array", "--states=all", &user, FORMAT]).map(|said| Self::read(&said))
    }

    fn read(said: &str) -> Self {
        let mut queue = Self::default();
        for line in said.lines() {
            let fields: Vec<&str> = line.trim().splitn(5, '|').collect();
            let &[number, task, state, reason, comment] = fields.as_slice() else { continue };
            let Ok(number) = number.parse() else { continue };
            let (job, phase) = (JobId { job: number, task: task.parse().ok() }, Phase::of(state));
            if phase == Phase::Waiting && STUCK.iter().any(|sign| reason.contains(sign)) {
                queue.stuck.insert(job, reason.to_owned());
            }
            queue.phases.insert(job, phase);
            queue.by_comment.insert(comment.to_owned(), number);
        }
        queue
    }

    /// Why a job will not start by itself, if so.
    pub(crate) fn stuck(&self, job: JobId) -> Option<&str> {
        self.stuck.get(&job).map(String::as_str)
    }

    /// Where a job stands; none if Slurm does not know it, or no longer.
    pub(crate) fn phase(&self, job: JobId) -> Option<&Phase> {
        self.phases.get(&job)
    }

    /// Whether a job waits or runs.
    pub(crate) fn is_alive(&self, job: JobId) -> bool {
        self.phase(job).is_some_and(|phase| !phase.has_ended())
    }

    /// The job that was submitted with a comment.
    pub(crate) fn find(&self, comment: &str) -> Option<u64> {
        self.by_comment.get(comment).copied()
    }
}

/// How a job ended, and with which exit code and signal where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) ending: Ending,
    pub(crate) code: i32,
    pub(crate) signal: i32,
}

impl Account {
    /// Asks for one job: the accounting where there is any, else the controller, which remembers for some minutes.
    pub(crate) fn ask(job: JobId, has_accounting: bool) -> Option<Self> {
        let name = job.to_string();
        let accounted = || client::ask("sacct", &["-X", "-n", "-P", "-j", &name, "--format=State,ExitCode"]).ok();
        let from_sacct = has_accounting.then(accounted).flatten().and_then(|said| Self::from_sacct(&said));
        from_sacct.or_else(|| Self::from_scontrol(&client::ask("scontrol", &["show", "job", "-o", &name]).ok()?))
    }

    fn from_sacct(said: &str) -> Option<Self> {
        let (state, exit) = said.lines().next_back()?.split_once('|')?;
        Self::new(state, exit)
    }

    fn from_scontrol(said: &str) -> Option<Self> {
        let field = |name: &str| said.split_whitespace().find_map(|word| word.strip_prefix(name));
        Self::new(field("JobState=")?, field("ExitCode=")?)
    }

    fn new(state: &str, exit: &str) -> Option<Self> {
        let Phase::Ended(ending) = Phase::of(state) else { return None };
        let (code, signal) = exit.trim().split_once(':')?;
        Some(Self { ending, code: code.parse().ok()?, signal: signal.parse().ok()? })
    }
}

/// What the cluster is, as far as that matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// Its name.
    pub(crate) cluster: String,
    /// Whether ended jobs are kept in a database.
    pub(crate) has_accounting: bool,
    /// Most tasks in an array.
    pub(crate) widest: usize,
}

impl Site {
    /// Asks the controller.
    pub(crate) fn ask() -> Result<Self, Trouble> {
        client::ask("scontrol", &["show", "config"]).map(|said| Self::read(&said))
    }

    fn read(said: &str) -> Self {
        let field = |name: &str| {
            said.lines().filter_map(|line| line.split_once('=')).find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
        };
        let accounting = field("AccountingStorageType").unwrap_or_default();
        Self {
            cluster: field("ClusterName").unwrap_or_default().to_owned(),
            has_accounting: !matches!(accounting, "" | "(null)" | "accounting_storage/none"),
            // The setting is one more than the highest number that a task may have.
            widest: field("MaxArraySize").and_then(|size| size.parse::<usize>().ok()).map_or(1, |size| size.saturating_sub(1)).max(1),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SAID: &str = "12|3|RUNNING|None|qapipe:r-0\n12|4|PENDING|Resources|qapipe:r-0\n13|N/A|CANCELLED|None|a | b\n\
                        14|N/A|REQUEUE_HOLD|launch failed requeued held|\nnonsense\n";

    #[test]
    fn the_queue_tells_tasks_and_jobs() {
        let queue = Queue::read(SAID);
        let id = |job, task| JobId { job, task };
        assert_eq!(queue.phase(id(12, Some(3))), Some(&Phase::Running));
        assert!(queue.is_alive(id(12, Some(4))) && queue.is_alive(id(14, None)));
        assert_eq!(queue.phase(id(13, None)), Some(&Phase::Ended(Ending::Cancelled)));
        assert_eq!((queue.find("qapipe:r-0"), queue.find("a | b"), queue.find("qapipe:r-1")), (Some(12), Some(13), None));
        assert_eq!((queue.stuck(id(14, None)), queue.stuck(id(12, Some(4)))), (Some("launch failed requeued held"), None));
        assert!(!queue.is_alive(id(99, None)) && queue.phase(id(12, None)).is_none());
    }

    #[test]
    fn an_ended_job_is_read_from_either_program() {
        let account = |ending, code, signal| Some(Account { ending, code, signal });
        assert_eq!(Account::from_sacct("CANCELLED by 0|0:15\n"), account(Ending::Cancelled, 0, 15));
        assert_eq!(Account::from_sacct("OUT_OF_MEMORY|0:125\n"), account(Ending::OutOfMemory, 0, 125));
        assert_eq!(Account::from_sacct(""), None);
        let said = "JobId=1 ArrayJobId=1 JobState=FAILED Reason=NonZeroExitCode Comment=x  ExitCode=3:0 RunTime=00:00:00";
        assert_eq!(Account::from_scontrol(said), account(Ending::Failed, 3, 0));
        assert_eq!(Account::from_scontrol("JobId=1 JobState=PENDING ExitCode=0:0"), None);
    }

    #[test]
    fn the_cluster_says_what_it_is() {
        let said = "Configuration data as of now\nAccountingStorageType   = accounting_storage/none\nClusterName             = lab\nMaxArraySize            = 1001\n";
        assert_eq!(Site::read(said), Site { cluster: "lab".into(), has_accounting: false, widest: 1000 });
        assert!(Site::read("AccountingStorageType = accounting_storage/slurmdbd\n").has_accounting);
    }
}
