//! Sending finished results to the remote while the run goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;

use qapipe_cache::{Record, RemoteError};

use crate::away::Warning;
use crate::engine::Engine;
use crate::event::{Event, Observer};
use crate::meter::Meter;

/// A result to send, and the stage that gave it.
pub(crate) type Parcel = (String, Arc<Record>);

/// Sends what comes until nothing more does. After a failure, or once the run is being stopped, the rest stays here, which is told.
pub(crate) fn serve(engine: &Engine, parcels: &Receiver<Parcel>, observer: &dyn Observer, cancel: &AtomicBool) {
    let (mut kept, mut failure) = (0, None);
    for (stage, record) in parcels {
        if failure.is_some() || cancel.load(Ordering::Relaxed) {
            kept += 1;
            continue;
        }
        match send(engine, &record, cancel) {
            Ok(bytes) => observer.event(&Event::Pushed { stage, key: record.fingerprint.to_string(), bytes }),
            Err(error) => {
                kept += 1;
                failure = Some(error);
            }
        }
    }
    if kept > 0 {
        engine.away.warn(left_here(kept, failure.as_ref()));
    }
}

fn send(engine: &Engine, record: &Record, cancel: &AtomicBool) -> Result<u64, RemoteError> {
    let Some(remote) = &engine.options.remote else { return Ok(0) };
    let watch = Meter::new(cancel, &|_, _| {});
    Ok(remote.push(&engine.store, std::slice::from_ref(record), false, &watch)?.bytes)
}

fn left_here(kept: usize, failure: Option<&RemoteError>) -> Warning {
    let what = if kept == 1 { "1 result was".to_owned() } else { format!("{kept} results were") };
    let why = failure.map_or_else(|| "the run was stopped".to_owned(), ToString::to_string);
    let help = failure.and_then(RemoteError::help).map_or_else(String::new, |help| format!("{help}; "));
    Warning { message: format!("{what} not pushed: {why}"), help: Some(format!("{help}`qapipe cache push` sends what is here")) }
}
