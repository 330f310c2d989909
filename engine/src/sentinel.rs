//! A small shell that outlives this process by a moment: when this process has died, however it died, it ends the process groups that were left.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, getpid};

/// Reads which group has which place (0: none has it any more), until the other end of its standard input is closed.
const SCRIPT: &str = r#"trap '' HUP INT TERM
places=0
while read -r place group; do
  eval "group_$place=\$group"
  [ "$place" -lt "$places" ] || places=$((place + 1))
done
while [ "$places" -gt 0 ]; do
  places=$((places - 1))
  eval "group=\$group_$places"
  [ "$group" = 0 ] || kill -s KILL -- "-$group"
done"#;

/// One for the whole process: a shell for each command would cost more than many a command does.
static SENTINEL: Mutex<Sentinel> = Mutex::new(Sentinel { shell: None, groups: Vec::new() });

struct Sentinel {
    shell: Option<Child>,
    /// By place, the group that has it; 0 for one that is about to begin.
    groups: Vec<Option<i32>>,
}

/// A place of the sentinel's for a process group that is about to begin. It is started here at the latest: between the beginning of a command and
/// its [`Watched::group`] there is no more than one write.
pub(crate) fn place() -> std::io::Result<Watched> {
    let mut sentinel = sentinel();
    if sentinel.shell.is_none() {
        sentinel.start()?;
    }
    let free = sentinel.groups.iter().position(Option::is_none);
    let place = free.unwrap_or_else(|| {
        sentinel.groups.push(None);
        sentinel.groups.len() - 1
    });
    sentinel.groups[place] = Some(0);
    Ok(Watched(place))
}

/// A place of the sentinel's. Dropped, its group is no longer watched.
pub(crate) struct Watched(usize);

impl Watched {
    /// Has a group ended when this process dies.
    pub(crate) fn group(&self, group: Pid) -> std::io::Result<()> {
        sentinel().note(self.0, Some(group.as_raw_nonzero().get()))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // If it cannot be told, there is nobody who would end the group.
        let _ = sentinel().note(self.0, None);
    }
}

fn sentinel() -> MutexGuard<'static, Sentinel> {
    SENTINEL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sentinel {
    fn note(&mut self, place: usize, group: Option<i32>) -> std::io::Result<()> {
        self.groups[place] = group;
        let told = if self.tell(place).is_err() { self.start() } else { Ok(()) };
        if told.is_err() {
            // Nothing is to be ended later that goes by a number which somebody else may have by then.
            self.groups[place] = None;
        }
        told
    }

    /// Each is one write, which is there whole or not at all when this process dies.
    fn tell(&self, place: usize) -> std::io::Result<()> {
        let mut input = self.shell.as_ref().and_then(|shell| shell.stdin.as_ref()).ok_or(std::io::ErrorKind::BrokenPipe)?;
        input.write_all(format!("{place} {}\n", self.groups[place].unwrap_or(0)).as_bytes())
    }

    /// Starts the shell, or another one where it was killed.
    fn start(&mut self) -> std::io::Result<()> {
        if let Some(mut killed) = self.shell.take() {
            let _ = killed.kill();
            let _ = killed.wait();
        }
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", SCRIPT, "qapipe-sentinel"]).arg(getpid().as_raw_nonzero().to_string()).current_dir("/");
        shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.shell = Some(shell.spawn().map_err(|error| std::io::Error::new(error.kind(), format!("/bin/sh: {error}")))?);
        (0..self.groups.len()).try_for_each(|place| self.tell(place))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Child, Command};

    use super::Sentinel;

    fn program() -> Child {
        Command::new("sleep").arg("60").process_group(0).spawn().unwrap()
    }

    /// To drop it closes its input, as the death of its process does.
    #[test]
    fn it_ends_what_it_was_told_of_even_if_it_was_killed_meanwhile() {
        let mut sentinel = Sentinel { shell: None, groups: vec![None; 4] };
        let mut programs = [program(), program(), program(), program()];
        let [first, second, third, fourth] = programs.each_ref().map(|program| program.id().cast_signed());
        sentinel.note(0, Some(first)).unwrap();
        sentinel.note(1, Some(second)).unwrap();
        let shell = sentinel.shell.as_mut().unwrap();
        shell.kill().unwrap();
        shell.wait().unwrap();
        sentinel.note(2, Some(third)).unwrap();
        sentinel.note(3, Some(fourth)).unwrap();
        sentinel.note(1, None).unwrap();
        drop(sentinel);
        for ended in [0, 2, 3] {
            assert_eq!(programs[ended].wait().unwrap().signal(), Some(9));
        }
        assert!(programs[1].try_wait().unwrap().is_none(), "what was taken back is left alone");
        programs[1].kill().unwrap();
        programs[1].wait().unwrap();
    }
}
