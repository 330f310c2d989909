//! A bucket as a depot: requests that are waited for.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex, PoisonError};

use futures::TryStreamExt;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use qapipe_cache::{Depot, RemoteError, Watch};
use tokio::runtime::{Builder, Runtime};

use crate::trouble::{is_absent, told};
use crate::upload::{Broken, PART, Upload, part};

/// What takes objects whole and in parts.
pub(crate) trait Service: ObjectStore + MultipartStore {}

impl<T: ObjectStore + MultipartStore> Service for T {}

/// A folder in a bucket.
pub(crate) struct Bucket {
    url: String,
    /// The client, or what it lacks.
    store: Result<Arc<dyn Service>, String>,
    prefix: Path,
    runtime: Mutex<Option<Arc<Runtime>>>,
}

impl fmt::Debug for Bucket {
    /// The client knows credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.url)
    }
}

impl Bucket {
    pub(crate) fn new(url: String, store: Result<Arc<dyn Service>, String>, prefix: &str) -> Self {
        Self { url, store, prefix: Path::from(prefix), runtime: Mutex::new(None) }
    }

    /// Waits for requests.
    fn wait<T>(&self, requests: impl Future<Output = T>) -> Result<T, RemoteError> {
        Ok(self.runtime()?.block_on(requests))
    }

    /// Starts with the first request: no other command pays for it.
    fn runtime(&self) -> Result<Arc<Runtime>, RemoteError> {
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*runtime {
            return Ok(Arc::clone(runtime));
        }
        let started = Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(|error| self.failed(&error))?;
        Ok(Arc::clone(runtime.insert(Arc::new(started))))
    }

    fn store(&self) -> Result<&Arc<dyn Service>, RemoteError> {
        self.store.as_ref().map_err(|what| RemoteError::Denied { remote: self.url.clone(), what: what.clone() })
    }

    fn path(&self, key: &str) -> Path {
        self.prefix.parts().chain(Path::from(key).parts()).collect()
    }

    fn told(&self, key: &str, answer: &object_store::Error) -> RemoteError {
        told(&self.url, key, answer)
    }

    fn failed(&self, error: &io::Error) -> RemoteError {
        RemoteError::Failed { remote: self.url.clone(), what: error.to_string() }
    }
}

impl Depot for Bucket {
    fn url(&self) -> &str {
        &self.url
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        let (store, path) = (self.store()?, self.path(key));
        match self.wait(async { store.get(&path).await?.bytes().await })? {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(answer) => match self.told(key, &answer) {
                RemoteError::Lost { .. } => Ok(None),
                error => Err(error),
            },
        }
    }

    fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, RemoteError> {
        let read = self.wait(self.store()?.get_range(&self.path(key), range))?;
        read.map(Into::into).map_err(|answer| self.told(key, &answer))
    }

    fn size(&self, key: &str) -> Result<Option<u64>, RemoteError> {
        match self.wait(self.store()?.head(&self.path(key)))? {
            Ok(found) => Ok(Some(found.size)),
            Err(answer) if is_absent(&answer) => Ok(None),
            Err(answer) => Err(self.told(key, &answer)),
        }
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        let put = self.wait(self.store()?.put(&self.path(key), bytes.to_vec().into()))?;
        put.map(drop).map_err(|answer| self.told(key, &answer))
    }

    fn upload(&self, key: &str, file: &FilePath, note: &FilePath, watch: &dyn Watch) -> Result<(), RemoteError> {
        let opened = File::open(file).map_err(|error| self.failed(&error))?;
        let size = opened.metadata().map_err(|error| self.failed(&error))?.len();
        if size > PART {
            let (store, path) = (self.store()?.as_ref(), self.path(key));
            let sent = self.wait(Upload { store, path: &path, file: &opened, size, note, watch }.send())?;
            return sent.map_err(|broken| match broken {
                Broken::Off => RemoteError::Interrupted,
                Broken::File(error) => self.failed(&error),
                Broken::Answer(answer) => match self.told(key, &answer) {
                    RemoteError::Lost { remote, .. } => {
                        RemoteError::Failed { remote, what: "it does not know an upload that it has begun".into() }
                    }
                    told => told,
                },
            });
        }
        let whole = part(&opened, 0..size).map_err(|error| self.failed(&error))?;
        let put = self.wait(self.store()?.put(&self.path(key), whole))?;
        put.map_err(|answer| self.told(key, &answer))?;
        watch.moved(size);
        Ok(())
    }

    fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, RemoteError> {
        let path = self.path(folder);
        let listed: Vec<_> = self.wait(self.store()?.list(Some(&path)).try_collect())?.map_err(|answer| self.told(folder, &answer))?;
        let key = |found: &Path| found.prefix_match(&self.prefix).map(|parts| parts.collect::<Path>().to_string());
        Ok(listed.into_iter().filter_map(|found| Some((key(&found.location)?, found.size))).collect())
    }
}
