//! A large file on its way into a bucket, in parts. One that breaks off goes on with the parts that are not there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path as FilePath;

use futures::future::join_all;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{Error as Answer, ObjectStore, ObjectStoreExt, PutPayload};
use qapipe_cache::{Watch, read_sealed, write_sealed};

use crate::trouble::is_forgotten;

/// Files larger than this are sent in parts of it, or of more where there would be too many.
pub(crate) const PART: u64 = 8 << 20;
/// Services take 10,000 parts.
const MOST_PARTS: u64 = 9_000;
/// How many parts of one file go at once.
const AT_ONCE: usize = 3;
/// The form of notes.
const NOTE: &str = "qapipe upload 1";

/// What an upload needs to know.
pub(crate) struct Upload<'a, S: ?Sized> {
    pub(crate) store: &'a S,
    pub(crate) path: &'a Path,
    pub(crate) file: &'a File,
    /// Of the file, in bytes.
    pub(crate) size: u64,
    /// Where it is noted what is there.
    pub(crate) note: &'a FilePath,
    pub(crate) watch: &'a dyn Watch,
}

/// Why an upload did not come to its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// It was broken off here.
    Off,
    /// The file cannot be read.
    File(io::Error),
    /// What the service answered.
    Answer(Answer),
}

/// What is there of an upload: by the numbers of parts, what the service calls them.
#[derive(Debug, Default)]
struct There {
    id: String,
    parts: BTreeMap<u64, String>,
}

impl<S: MultipartStore + ObjectStore + ?Sized> Upload<'_, S> {
    /// Sends what is not there. Services forget an upload that was left alone for days, or are told to by a rule of the bucket; then it begins anew.
    pub(crate) async fn send(&self) -> Result<(), Broken> {
        if let Some(there) = self.noted() {
            let id = there.id.clone();
            match self.go_on(there).await {
                Err(Broken::Answer(answer)) if is_forgotten(&answer) => {}
                done => return done,
            }
            // What is left of it, if anything.
            let _ = self.store.abort_multipart(self.path, &id).await;
        }
        let id = self.store.create_multipart(self.path).await.map_err(Broken::Answer)?;
        self.go_on(There { id, ..There::default() }).await
    }

    async fn go_on(&self, mut there: There) -> Result<(), Broken> {
        let count = self.size.div_ceil(self.length());
        let left: Vec<u64> = (0..count).filter(|number| !there.parts.contains_key(number)).collect();
        self.watch.moved(there.parts.keys().map(|&number| self.bytes_of(number)).sum());
        for numbers in left.chunks(AT_ONCE) {
            if self.watch.is_cancelled() {
                return Err(Broken::Off);
            }
            let before = there.parts.len();
            let sent = self.send_some(numbers, &mut there).await;
            if there.parts.len() > before {
                // Losing the note costs sending again.
                let _ = write_sealed(self.note, NOTE, &(self.size, self.length(), &there.id, &there.parts));
            }
            sent?;
        }
        let parts = there.parts.into_values().map(|content_id| PartId { content_id }).collect();
        if let Err(answer) = self.store.complete_multipart(self.path, &there.id, parts).await
            && !self.is_there().await
        {
            return Err(Broken::Answer(answer));
        }
        let _ = fs::remove_file(self.note);
        Ok(())
    }

    /// Whether the file has arrived: the answer that said so may have been lost, and what is complete is completed no second time.
    async fn is_there(&self) -> bool {
        self.store.head(self.path).await.is_ok_and(|found| found.size == self.size)
    }

    /// Sends parts side by side. Those that arrive are there, whatever becomes of the others.
    async fn send_some(&self, numbers: &[u64], there: &mut There) -> Result<(), Broken> {
        let sent = join_all(numbers.iter().map(|&number| self.send_part(number, &there.id))).await;
        let mut all = Ok(());
        for (&number, sent) in numbers.iter().zip(sent) {
            match sent {
                Ok(name) => drop(there.parts.insert(number, name)),
                Err(broken) => all = all.and(Err(broken)),
            }
        }
        all
    }

    async fn send_part(&self, number: u64, id: &String) -> Result<String, Broken> {
        let (start, bytes) = (number * self.length(), self.bytes_of(number));
        let payload = part(self.file, start..start + bytes).map_err(Broken::File)?;
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        let sent = self.store.put_part(self.path, id, number, payload).await.map_err(Broken::Answer)?;
        self.watch.moved(bytes);
        Ok(sent.content_id)
    }

    /// Of every part but the last, in bytes.
    fn length(&self) -> u64 {
        PART.max(self.size.div_ceil(MOST_PARTS))
    }

    fn bytes_of(&self, number: u64) -> u64 {
        self.length().min(self.size.saturating_sub(number * self.length()))
    }

    /// What an earlier upload of this file has left there.
    fn noted(&self) -> Option<There> {
        let (size, length, id, parts): (u64, u64, String, BTreeMap<u64, String>) = read_sealed(self.note, NOTE)?;
        let is_meant = (size, length) == (self.size, self.length()) && parts.keys().all(|&number| number < size.div_ceil(self.length()));
        is_meant.then_some(There { id, parts })
    }
}

/// Just these bytes of a file.
pub(crate) fn part(file: &File, range: Range<u64>) -> io::Result<PutPayload> {
    let mut part = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
    file.read_exact_at(&mut part, range.start)?;
    Ok(part.into())
}
