//! Stages that are ready to run: which of them starts next, and which wait for an equal one.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use qapipe_cache::Digest;

use crate::resources::{Need, Resources, Slot, Wanted};

/// What is ready to run.
///
/// What stages need takes few forms, however many stages there are. Those that need the same stand in one line, the most urgent first: where
/// there is no room for the first of a line, there is none for the others, and nobody looks at them.
#[derive(Debug)]
pub(crate) struct Queue {
    resources: Resources,
    /// Microseconds of the longest way from each stage to the end; empty where nobody asked.
    urgency: Vec<u64>,
    /// Stages that have no place in a line yet.
    arrived: Vec<(usize, Wanted)>,
    lines: BTreeMap<Need, BTreeMap<Rank, Option<u64>>>,
    /// Stages that a cluster is to run, with no place in a line.
    elsewhere: BTreeSet<usize>,
    /// The stage that waits until nothing else runs. While it waits, nothing starts.
    next_alone: Option<(Need, Rank)>,
    /// For each key that one stage is to compute, the other stages that wait for that: two of one run never meet at the lock.
    equals: HashMap<Digest, Vec<usize>>,
}

/// Where a stage stands in its line: by how long the way to the end is, then by the order of the file.
type Rank = (Reverse<u64>, usize);

impl Queue {
    pub(crate) fn new(resources: Resources) -> Self {
        let (urgency, arrived, elsewhere) = (Vec::new(), Vec::new(), BTreeSet::new());
        let (lines, equals) = (BTreeMap::new(), HashMap::new());
        Self { resources, urgency, arrived, lines, elsewhere, next_alone: None, equals }
    }

    /// Takes note of how urgent each stage is, before the first one starts.
    pub(crate) fn rank(&mut self, urgency: Vec<u64>) {
        self.urgency = urgency;
    }

    /// Takes note of the memory of the GPUs, before the first stage starts.
    pub(crate) fn learn(&mut self, memory: Vec<Option<u64>>) {
        self.resources.learn(memory);
    }

    /// A stage is ready, unless an equal one is to compute its result. One that a cluster is to run wants nothing of what there is here.
    pub(crate) fn line_up(&mut self, stage: usize, key: Digest, wanted: Option<Wanted>) {
        match self.equals.entry(key) {
            Entry::Occupied(mut equals) => equals.get_mut().push(stage),
            Entry::Vacant(equals) => {
                equals.insert(Vec::new());
                match wanted {
                    Some(wanted) => self.add(stage, wanted),
                    None => drop(self.elsewhere.insert(stage)),
                }
            }
        }
    }

    /// A stage is ready.
    pub(crate) fn add(&mut self, stage: usize, wanted: Wanted) {
        self.arrived.push((stage, wanted));
    }

    /// No stage computes this key any more; gives those that waited for it.
    pub(crate) fn release(&mut self, key: &Digest) -> Vec<usize> {
        self.equals.remove(key).unwrap_or_default()
    }

    /// The next stage for which there is room, and what it has got. It is no longer ready.
    pub(crate) fn next(&mut self) -> Option<(usize, Slot)> {
        self.admit();
        if self.resources.are_used_up() {
            return None;
        }
        if let Some((need, rank)) = self.next_alone.clone() {
            let slot = self.start(&need, rank, &[])?;
            self.next_alone = None;
            return Some((rank.1, slot));
        }
        let mut kept = Vec::new();
        for (rank, need) in self.heads() {
            if let Some(slot) = self.start(&need, rank, &kept) {
                return Some((rank.1, slot));
            }
            if need.alone {
                self.next_alone = Some((need, rank));
                return None;
            }
            // Smaller stages do not overtake on a GPU that a larger one waits for: they might do so forever.
            kept.extend(need.gpus);
        }
        None
    }

    /// The next stage that a cluster is to run, in the order of the file: which of the jobs comes first is the cluster's business.
    pub(crate) fn next_elsewhere(&mut self) -> Option<usize> {
        self.elsewhere.pop_first()
    }

    /// A stage gives back what it had.
    pub(crate) fn give_back(&mut self, stage: usize) {
        self.resources.release(stage);
    }

    /// Puts those that have arrived into their lines.
    fn admit(&mut self) {
        for (stage, Wanted { mut need, room }) in std::mem::take(&mut self.arrived) {
            need.gpus = self.resources.fitting(&need.gpus, room);
            let rank = (Reverse(self.urgency.get(stage).copied().unwrap_or_default()), stage);
            self.lines.entry(need).or_default().insert(rank, room);
        }
    }

    /// The first of each line, the most urgent first.
    fn heads(&self) -> Vec<(Rank, Need)> {
        let first = |(need, line): (&Need, &BTreeMap<Rank, _>)| Some((*line.keys().next()?, need.clone()));
        let mut heads: Vec<_> = self.lines.iter().filter_map(first).collect();
        heads.sort();
        heads
    }

    /// Gives a stage what it needs, and takes it out of its line, if there is room.
    fn start(&mut self, need: &Need, rank: Rank, kept: &[u16]) -> Option<Slot> {
        let line = self.lines.get_mut(need)?;
        let slot = self.resources.take(rank.1, need, *line.get(&rank)?, kept)?;
        line.remove(&rank);
        if line.is_empty() {
            self.lines.remove(need);
        }
        Some(slot)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const THREADS: usize = 4;
    const MEMORY: [u64; 3] = [10, 10, 40];

    /// A stage of a made-up run: what it needs, how urgent it is, and which of those that run ends first while it runs.
    type Made = (Wanted, u64, usize);

    fn made() -> impl Strategy<Value = Made> {
        let gpus = prop_oneof![3 => Just(vec![]), 2 => Just(vec![0]), 2 => Just(vec![0, 1, 2]), 1 => Just(vec![1, 2])];
        let need = (1..7usize, gpus, prop::bool::weighted(0.1)).prop_map(|(threads, gpus, alone)| {
            let threads = if gpus.is_empty() { threads } else { 1 };
            Need { threads, gpus, alone }
        });
        let room = prop::option::of(1..60u64);
        (need, room, 0..5u64, any::<prop::sample::Index>())
            .prop_map(|(need, room, urgency, ends)| (Wanted { need, room }, urgency, ends.index(1 << 16)))
    }

    /// Nothing is given twice: counted anew, from what each running stage was made with.
    fn check(running: &[(usize, Slot)], stages: &[Made], share_gpus: bool) -> Result<(), TestCaseError> {
        let of = |stage: usize| &stages[stage].0;
        let threads: usize = running.iter().map(|(stage, _)| of(*stage).need.threads.min(THREADS)).sum();
        prop_assert!(threads <= THREADS);
        prop_assert!(running.len() == 1 || running.iter().all(|(stage, _)| !of(*stage).need.alone));
        for (gpu, memory) in (0..).zip(MEMORY) {
            let guests: Vec<&Wanted> = running.iter().filter(|(_, slot)| slot.gpu == Some(gpu)).map(|(stage, _)| of(*stage)).collect();
            prop_assert!(guests.iter().all(|guest| guest.need.gpus.contains(&gpu)));
            if guests.len() > 1 {
                let room: Option<u64> = guests.iter().map(|guest| guest.room).sum();
                prop_assert!(share_gpus && room.is_some_and(|room| room <= memory));
            }
        }
        prop_assert!(running.iter().all(|(stage, slot)| slot.gpu.is_some() != of(*stage).need.gpus.is_empty()));
        Ok(())
    }

    proptest! {
        #[test]
        fn nothing_is_given_twice_and_everything_has_its_turn(stages in vec(made(), 1..40), share_gpus: bool, early in 0..40usize) {
            let mut queue = Queue::new(Resources::new(THREADS, share_gpus));
            queue.rank(stages.iter().map(|(_, urgency, _)| *urgency).collect());
            queue.learn(MEMORY.map(Some).to_vec());
            let line_up = |queue: &mut Queue, stage: usize| {
                queue.line_up(stage, Digest::of_bytes(&stage.to_le_bytes()), Some(stages[stage].0.clone()));
            };
            let early = early.min(stages.len());
            (0..early).for_each(|stage| line_up(&mut queue, stage));
            let (mut running, mut late, mut ended) = (Vec::<(usize, Slot)>::new(), early..stages.len(), 0);
            loop {
                while let Some((stage, slot)) = queue.next() {
                    prop_assert!(running.iter().all(|(other, _)| *other != stage));
                    running.push((stage, slot));
                    check(&running, &stages, share_gpus)?;
                }
                let shared = |slot: &Slot| running.iter().filter(|(_, other)| slot.gpu.is_some() && other.gpu == slot.gpu).count() > 1;
                prop_assert!(running.iter().all(|(_, slot)| slot.was_shared() || !shared(slot)));
                if let Some(stage) = late.next() {
                    line_up(&mut queue, stage);
                } else if running.is_empty() {
                    break;
                }
                if let Some((first, _)) = running.first() {
                    let (stage, _) = running.swap_remove(stages[*first].2 % running.len());
                    queue.give_back(stage);
                    ended += 1;
                }
            }
            prop_assert_eq!(ended, stages.len());
        }
    }

    #[test]
    fn a_large_stage_is_not_overtaken_on_the_gpu_that_it_waits_for() {
        let mut queue = Queue::new(Resources::new(8, true));
        queue.rank(vec![1, 3, 2, 1]);
        queue.learn(vec![Some(10)]);
        let wanted = |room| Wanted { need: Need { threads: 1, gpus: vec![0], alone: false }, room: Some(room) };
        queue.line_up(0, Digest::of_bytes(b"0"), Some(wanted(4)));
        let first = queue.next().unwrap().0;
        queue.line_up(1, Digest::of_bytes(b"1"), Some(wanted(9)));
        queue.line_up(2, Digest::of_bytes(b"2"), Some(wanted(2)));
        assert_eq!((first, queue.next().map(|(stage, _)| stage)), (0, None), "there would be room for 2");
        queue.give_back(0);
        assert_eq!(queue.next().map(|(stage, _)| stage), Some(1));
    }
}
