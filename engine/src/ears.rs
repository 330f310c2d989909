//! What a command and those that it starts print. It ends when nobody can print any more, or soon after the command has ended.
//!
//! A process that leaves the command's group (`setsid`) outlives it, and holds its output open for as long as it likes.

use std::fs::File;
use std::io::{ErrorKind, Read, Result};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::group::Group;
use crate::lines::Lines;

/// How long what still comes is heard after the command has ended.
const GRACE: Duration = Duration::from_secs(1);

/// What a pipe holds at most, where pages are large: of what is read after the command has ended, all that is its own.
const PIPE: usize = 1 << 20;

/// What is read at once.
const PIECE: usize = 1 << 14;

/// Which of a command's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Both outputs of a command.
pub(crate) struct Ears {
    ears: Vec<Ear>,
    /// When the command and its group ended: from then on only what escaped from the group can still print.
    ended: Option<Instant>,
}

/// One of them, while it is open.
struct Ear {
    side: Side,
    pipe: File,
    lines: Lines,
    /// Bytes that may still be the command's own, however slowly they are read.
    own: usize,
}

impl Ears {
    /// Those of a group that has just been started.
    pub(crate) fn of(group: &mut Group) -> Self {
        let ear = |side, pipe: OwnedFd| Ear { side, pipe: pipe.into(), lines: Lines::default(), own: PIPE };
        let (out, err) = group.output();
        let out = out.map(|pipe| ear(Side::Out, pipe.into()));
        Self { ears: out.into_iter().chain(err.map(|pipe| ear(Side::Err, pipe.into()))).collect(), ended: None }
    }

    /// Whether anything may still come.
    pub(crate) fn are_open(&self) -> bool {
        !self.ears.is_empty()
    }

    /// The command and its group have ended.
    pub(crate) fn ended(&mut self) {
        self.ended.get_or_insert_with(Instant::now);
    }

    /// Waits so long for something to come (for nothing where nothing can), and calls `line` with each line of it.
    pub(crate) fn hear(&mut self, wait: Duration, mut line: impl FnMut(Side, &str)) -> Result<()> {
        let (is_over, is_long_over) = (self.ended.is_some(), self.ended.is_some_and(|ended| ended.elapsed() > GRACE));
        // Of what is said now and then for ever, nothing is waited for.
        let ready = self.ready(if is_long_over { Duration::ZERO } else { wait })?;
        let mut ready = ready.into_iter();
        self.ears.retain_mut(|ear| {
            let stays = match ready.next() {
                Some(true) if !is_long_over || ear.own > 0 => ear.read(is_over, &mut line),
                _ => !is_long_over,
            };
            if !stays {
                ear.lines.end(|last| line(ear.side, last));
            }
            stays
        });
        Ok(())
    }

    /// Which have something to read, or have ended.
    fn ready(&self, wait: Duration) -> Result<Vec<bool>> {
        let mut polled: Vec<PollFd<'_>> = self.ears.iter().map(|ear| PollFd::new(&ear.pipe, PollFlags::IN)).collect();
        let wait = Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: wait.subsec_nanos().into() };
        match poll(&mut polled, Some(&wait)) {
            Err(rustix::io::Errno::INTR) => Ok(vec![false; self.ears.len()]),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(polled.iter().map(|ear| !ear.revents().is_empty()).collect()),
        }
    }
}

impl Ear {
    /// Reads a piece; gives whether more may come.
    fn read(&mut self, is_over: bool, mut line: impl FnMut(Side, &str)) -> bool {
        let mut piece = [0; PIECE];
        match self.pipe.read(&mut piece) {
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Ok(0) | Err(_) => false,
            Ok(length) => {
                if is_over {
                    self.own = self.own.saturating_sub(length);
                }
                let side = self.side;
                self.lines.push(&piece[..length], |text| line(side, text));
                true
            }
        }
    }
}
