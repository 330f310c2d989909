//! What stages share while they run side by side.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use qapipe_cache::Record;

use crate::device::{Devices, cuda};
use crate::engine::Engine;
use crate::kind::Place;
use crate::pipeline::StageSpec;

/// The figure of a record that says how much memory of its GPU a stage held at most, as libtorch's allocator counts it.
pub const GPU_PEAK: &str = "gpu_peak_bytes";

/// The figure of a record that says that other stages ran on the stage's GPU at the time. What it took in time and energy is then no measure of it.
pub const GPU_SHARED: &str = "gpu_shared";

/// What a process takes of a GPU besides its tensors: CUDA's context and the libraries' workspaces.
const CONTEXT: u64 = 768 << 20;

/// What a stage needs to run. Stages that need the same wait in one line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Need {
    /// Threads of the budget.
    pub threads: usize,
    /// The GPUs of which it takes one; none on the CPU.
    pub gpus: Vec<u16>,
    /// Whether nothing may run beside it.
    pub alone: bool,
}

/// What a stage waits for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// What it needs.
    pub need: Need,
    /// Bytes that it may take of a GPU's memory, where that is known.
    pub room: Option<u64>,
}

impl Wanted {
    /// What only fetches from the remote takes no more than a thread.
    pub(crate) const FETCH: Self = Self { need: Need { threads: 1, gpus: Vec::new(), alone: false }, room: None };

    /// What a stage wants that runs. How much of a GPU it held last time is looked up only where something hangs on it.
    pub(crate) fn of(engine: &Engine, spec: &StageSpec) -> Self {
        let need = Need::of(engine, spec);
        let last = has_choice(engine, &need.gpus).then(|| engine.last_record(&spec.name)).flatten();
        Self { need, room: last.as_ref().and_then(gpu_peak).map(room) }
    }
}

/// Whether it hangs on the memory of these GPUs, on which of them a stage runs and when. A cluster gives each of its jobs GPUs of its own.
pub(crate) fn has_choice(engine: &Engine, gpus: &[u16]) -> bool {
    engine.options.cluster.is_none() && (gpus.len() > 1 || (engine.options.share_gpus && !gpus.is_empty()))
}

impl Need {
    /// A stage on the CPU that uses libtorch takes all threads, unless it was given a number: how many it gets must not depend on
    /// what else runs, since sums depend on it. On a GPU it takes one thread and the GPU.
    pub(crate) fn of(engine: &Engine, spec: &StageSpec) -> Self {
        let gpus = gpus(engine, spec);
        let threads = if gpus.is_empty() { threads(engine, spec) } else { 1 };
        let alone = spec.values.get("hints.exclusive") == Some(&true.into());
        Self { threads, gpus, alone }
    }
}

/// How many threads a stage may use.
pub(crate) fn threads(engine: &Engine, spec: &StageSpec) -> usize {
    let given = spec.values.get("hints.threads").and_then(serde_json::Value::as_u64).and_then(|threads| usize::try_from(threads).ok());
    let usual = if spec.kind.place_of(&spec.values) == Place::Worker { engine.options.jobs } else { 1 };
    given.unwrap_or(usual).max(1)
}

/// The GPUs that a stage may run on; none where it runs on the CPU. A hint that names no number leaves the choice among the run's GPUs.
pub(crate) fn gpus(engine: &Engine, spec: &StageSpec) -> Vec<u16> {
    if spec.kind.place_of(&spec.values) == Place::Here {
        return Vec::new();
    }
    let of_run = || match &engine.options.devices {
        Devices::Cuda(gpus) => gpus.clone(),
        Devices::Auto | Devices::Cpu => vec![0],
    };
    match asked(engine, spec) {
        Devices::Cpu => Vec::new(),
        Devices::Auto if !engine.options.gpu => Vec::new(),
        Devices::Auto => of_run(),
        Devices::Cuda(_) if spec.values.text("hints.device") == Some("cuda") => of_run(),
        Devices::Cuda(gpus) => gpus,
    }
}

/// The devices that were asked for: by the stage's hint, else for the run.
pub(crate) fn asked(engine: &Engine, spec: &StageSpec) -> Devices {
    spec.values.text("hints.device").and_then(|text| text.parse().ok()).unwrap_or_else(|| engine.options.devices.clone())
}

/// The word that a stage is told for where it runs. Of `auto` libtorch has the last word: the machine may have a GPU that it cannot use.
pub(crate) fn device(engine: &Engine, spec: &StageSpec, slot: &Slot) -> String {
    match slot.gpu {
        _ if spec.kind.place_of(&spec.values) == Place::Here => "cpu".to_owned(),
        _ if asked(engine, spec) == Devices::Auto => "auto".to_owned(),
        Some(gpu) => cuda(gpu),
        None => "cpu".to_owned(),
    }
}

/// Bytes that a stage held of its GPU at most, if it ran on one.
pub(crate) fn gpu_peak(record: &Record) -> Option<u64> {
    let peak = record.cost.get(GPU_PEAK).copied()?;
    // It was a whole number.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Some(peak as u64)
}

/// The room that a stage with such a peak wants: a tenth more, since no two executions are quite alike, and what its process takes besides.
fn room(peak: u64) -> u64 {
    peak.saturating_add(peak / 10).saturating_add(CONTEXT)
}

/// What a running stage has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    /// Its GPU.
    pub gpu: Option<u16>,
    /// Whether another stage was on its GPU at any time.
    shared: Arc<AtomicBool>,
}

impl Slot {
    /// That of a stage which has a process, and what is given to it, for itself.
    pub(crate) fn alone(engine: &Engine, spec: &StageSpec) -> Self {
        Self { gpu: gpus(engine, spec).first().copied(), shared: Arc::default() }
    }

    /// Whether another stage was on its GPU so far. Its times are then no measure of it.
    pub(crate) fn was_shared(&self) -> bool {
        self.shared.load(Ordering::Relaxed)
    }
}

/// The threads and GPUs, and who has them.
#[derive(Debug)]
pub(crate) struct Resources {
    threads: usize,
    used: usize,
    share_gpus: bool,
    /// Bytes of memory of the GPUs, by their numbers, where they are known.
    memory: Vec<Option<u64>>,
    /// Who is on each GPU.
    guests: BTreeMap<u16, Vec<Guest>>,
    held: HashMap<usize, Held>,
}

/// A stage on a GPU.
#[derive(Debug)]
struct Guest {
    stage: usize,
    /// Bytes that it may take; none stands for all.
    room: Option<u64>,
    slot: Slot,
}

/// What a stage has to give back.
#[derive(Debug)]
struct Held {
    threads: usize,
    gpu: Option<u16>,
    alone: bool,
}

impl Resources {
    pub(crate) fn new(threads: usize, share_gpus: bool) -> Self {
        let (memory, guests, held) = (Vec::new(), BTreeMap::new(), HashMap::new());
        Self { threads: threads.max(1), used: 0, share_gpus, memory, guests, held }
    }

    /// Takes note of the memory of the GPUs.
    pub(crate) fn learn(&mut self, memory: Vec<Option<u64>>) {
        self.memory = memory;
    }

    /// Of some GPUs, those whose whole memory is room enough; the largest where none is.
    pub(crate) fn fitting(&self, gpus: &[u16], room: Option<u64>) -> Vec<u16> {
        let memory = |gpu: &u16| self.memory_of(*gpu).unwrap_or(u64::MAX);
        let most = gpus.iter().map(memory).max().unwrap_or_default();
        let enough = room.unwrap_or_default().min(most);
        gpus.iter().copied().filter(|gpu| memory(gpu) >= enough).collect()
    }

    /// Gives a stage what it needs, if that is free. One that needs more threads than there are gets all of them, and none of the GPUs that are
    /// `kept` is given away.
    pub(crate) fn take(&mut self, stage: usize, need: &Need, room: Option<u64>, kept: &[u16]) -> Option<Slot> {
        let threads = need.threads.min(self.threads);
        let in_the_way = self.held.values().any(|held| held.alone) || (need.alone && !self.held.is_empty());
        if in_the_way || self.used + threads > self.threads {
            return None;
        }
        let gpu = if need.gpus.is_empty() { None } else { Some(self.free(&need.gpus, room, kept)?) };
        let slot = Slot { gpu, ..Slot::default() };
        if let Some(gpu) = gpu {
            self.seat(gpu, Guest { stage, room, slot: slot.clone() });
        }
        self.used += threads;
        self.held.insert(stage, Held { threads, gpu, alone: need.alone });
        Some(slot)
    }

    /// Whether no stage at all could start now.
    pub(crate) fn are_used_up(&self) -> bool {
        self.used >= self.threads
    }

    pub(crate) fn release(&mut self, stage: usize) {
        let Some(held) = self.held.remove(&stage) else { return };
        self.used -= held.threads;
        if let Some(guests) = held.gpu.and_then(|gpu| self.guests.get_mut(&gpu)) {
            guests.retain(|guest| guest.stage != stage);
        }
    }

    fn memory_of(&self, gpu: u16) -> Option<u64> {
        self.memory.get(usize::from(gpu)).copied().flatten()
    }

    /// The GPU with the fewest guests among those with enough room, the first of several.
    fn free(&self, gpus: &[u16], room: Option<u64>, kept: &[u16]) -> Option<u16> {
        let free = gpus.iter().copied().filter(|gpu| !kept.contains(gpu) && self.has_room(*gpu, room));
        free.min_by_key(|&gpu| self.on(gpu).len())
    }

    /// Whether a GPU has nobody on it, or room beside those who are. Nobody knows what a stage takes that has not run on a GPU yet.
    fn has_room(&self, gpu: u16, room: Option<u64>) -> bool {
        let guests = self.on(gpu);
        if guests.is_empty() {
            return true;
        }
        let taken: Option<u64> = guests.iter().map(|guest| guest.room).sum();
        match (self.memory_of(gpu), taken, room) {
            (Some(memory), Some(taken), Some(room)) => self.share_gpus && taken.saturating_add(room) <= memory,
            _ => false,
        }
    }

    fn on(&self, gpu: u16) -> &[Guest] {
        self.guests.get(&gpu).map_or(&[], Vec::as_slice)
    }

    /// Puts a stage on a GPU. It and those who are there share it from now on.
    fn seat(&mut self, gpu: u16, guest: Guest) {
        let guests = self.guests.entry(gpu).or_default();
        guests.push(guest);
        if guests.len() > 1 {
            guests.iter().for_each(|guest| guest.slot.shared.store(true, Ordering::Relaxed));
        }
    }
}
