//! `qapipe cache verify`: is everything in the store what it was, and if not, what becomes of it.

use qapipe_cache::{Damage, Mended, Repair, Store};
use serde_json::{Value, json};

use super::session::Session;
use super::transfer::{remote_behind, watched};
use crate::args::Verify;
use crate::failure::{Exit, Failure};
use crate::human::{bytes, things};
use crate::printer::Printer;

pub(super) fn run(args: &Verify, session: &Session) -> Result<(), Failure> {
    let (store, printer) = (session.store()?, &session.printer);
    let mut findings = Findings::of(&store)?;
    if !printer.json {
        findings.tell(printer, args.repair)?;
    }
    if args.repair && !findings.are_none() {
        findings.repair(&store, args.offline, session)?;
    }
    if printer.json {
        printer.json(&findings.to_json())?;
    }
    if findings.are_none() || (args.repair && findings.are_mended()) {
        return Ok(());
    }
    if !args.repair {
        printer.note("the next run that needs what was damaged computes it again; --repair fetches it from the remote, or forgets it");
    }
    Err(Failure::told(Exit::Failed))
}

/// What was looked at, what is wrong with it, and what was done about that.
#[derive(Default)]
struct Findings {
    objects: usize,
    bytes: u64,
    damages: Vec<Damage>,
    /// Records that cannot be read.
    unreadable: Vec<String>,
    /// Those of them that were set aside.
    removed: usize,
    repairs: Vec<Repair>,
}

impl Findings {
    /// Reads everything. What is damaged is set aside.
    fn of(store: &Store) -> Result<Self, Failure> {
        let mut findings = Self::default();
        // What goes meanwhile would look damaged.
        let _held = store.hold();
        findings.damages = store.verify_all(|artifact| {
            findings.objects += 1;
            findings.bytes += artifact.bytes;
        });
        findings.damages.iter().try_for_each(|damage| store.set_aside(&damage.artifact))?;
        findings.unreadable = store.unreadable_records().map(|path| path.display().to_string()).collect();
        Ok(findings)
    }

    fn are_none(&self) -> bool {
        self.damages.is_empty() && self.unreadable.is_empty()
    }

    fn are_mended(&self) -> bool {
        self.removed == self.unreadable.len() && self.repairs.iter().all(|repair| repair.mended != Mended::Busy)
    }

    fn tell(&self, printer: &Printer, repair: bool) -> Result<(), Failure> {
        if self.are_none() {
            return printer.data(&format!("{}, {}: all as they were stored\n", things(self.objects, "object"), bytes(self.bytes as f64)));
        }
        self.damages.iter().for_each(|damage| printer.error(&format!("{damage}; it is set aside"), None));
        let aside = if repair { "; it is set aside, unless another version wrote it" } else { "" };
        self.unreadable.iter().for_each(|record| printer.error(&format!("{record}: the record cannot be read{aside}"), None));
        Ok(())
    }

    fn repair(&mut self, store: &Store, offline: bool, session: &Session) -> Result<(), Failure> {
        self.removed = store.set_unreadable_aside()?.len();
        let remote = if offline { None } else { remote_behind(store)? };
        self.repairs = watched(session, |watch| store.repair(remote.as_deref(), watch))?;
        if !session.printer.json {
            self.repairs.iter().try_for_each(|repair| session.printer.data(&told(repair)))?;
        }
        Ok(())
    }

    fn to_json(&self) -> Value {
        let damaged: Vec<Value> =
            self.damages.iter().map(|damage| json!({ "digest": damage.artifact.digest, "what": damage.what })).collect();
        json!({
            "objects": self.objects, "bytes": self.bytes, "damaged": damaged, "unreadable": self.unreadable,
            "repaired": self.repairs.iter().map(to_json).collect::<Vec<_>>(),
        })
    }
}

fn told(Repair { record, mended }: &Repair) -> String {
    let what = match mended {
        Mended::Fetched(size) => format!("fetched from the remote ({})", bytes(*size as f64)),
        Mended::Forgotten(None) => "forgotten; the next run that needs it computes it".to_owned(),
        Mended::Forgotten(Some(why)) => format!("forgotten; the next run that needs it computes it ({why})"),
        Mended::Busy => "left alone: another qapipe is computing it".to_owned(),
    };
    format!("{} {} {}: {what}\n", record.fingerprint.short(), record.pipeline, record.stage)
}

fn to_json(Repair { record, mended }: &Repair) -> Value {
    let mut json = json!({ "key": record.fingerprint, "pipeline": record.pipeline, "stage": record.stage });
    match mended {
        Mended::Fetched(size) => (json["became"], json["bytes"]) = ("fetched".into(), (*size).into()),
        Mended::Forgotten(why) => (json["became"], json["because"]) = ("forgotten".into(), why.clone().into()),
        Mended::Busy => json["became"] = "busy".into(),
    }
    json
}
