//! What a child prints. It ends when nobody can print any more, or soon after the child has ended.
//!
//! A process that leaves the child's group (`setsid`) outlives it, and holds its output open for as long as it likes.

use std::io::Read;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long what still comes is heard after the child has ended.
const GRACE: Duration = Duration::from_secs(1);

/// How often to look whether the child has ended.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// What a pipe holds at most, where pages are large: of what is read after the child has ended, all that is its own.
const PIPE: usize = 1 << 20;

/// When a child and its group ended.
#[derive(Debug, Default)]
pub(crate) struct Ended(OnceLock<Instant>);

impl Ended {
    /// From now on only what escaped from the group can still print.
    pub(crate) fn now(&self) {
        let _ = self.0.set(Instant::now());
    }

    fn is_long_ago(&self) -> bool {
        self.0.get().is_some_and(|ended| ended.elapsed() > GRACE)
    }
}

/// One of a child's output pipes.
pub(crate) struct Stream<'a, R> {
    pipe: R,
    ended: &'a Ended,
    /// Bytes that may still be the child's own, however slowly they are read.
    own: usize,
}

impl<'a, R: Read + AsFd> Stream<'a, R> {
    pub(crate) fn new(pipe: R, ended: &'a Ended) -> Self {
        Self { pipe, ended, own: PIPE }
    }

    /// Waits a little for something to read, or the end.
    fn is_ready(&self) -> std::io::Result<bool> {
        Ok(poll(&mut [PollFd::new(&self.pipe, PollFlags::IN)], Some(&PAUSE))? > 0)
    }
}

impl<R: Read + AsFd> Read for Stream<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while !self.is_ready()? {
            if self.ended.is_long_ago() {
                return Ok(0);
            }
        }
        if self.own == 0 && self.ended.is_long_ago() {
            return Ok(0);
        }
        let after_the_end = self.ended.0.get().is_some();
        let length = self.pipe.read(buffer)?;
        if after_the_end {
            self.own = self.own.saturating_sub(length);
        }
        Ok(length)
    }
}
