//! Training of adapters beside T5-base, in full and in few bits.

use std::path::Path;

use tch::{Device, Kind};

use super::{BenchRow, T5Train, named};
use crate::error::{NnError, Result};
use crate::models::{Network, T5ForConditionalGeneration, load_tuned};
use crate::parameters::Placement;
use crate::quant::{Scheme, pack_model};
use crate::select::Selection;
use crate::tuning::{Lora, Tuning};
use crate::weights::write;

/// Training of adapters to measure: rank 8 on q and v, with dropout, as PEFT's examples have it.
#[derive(Clone, Debug)]
pub struct T5Adapt {
    /// The training.
    pub train: T5Train,
}

impl T5Adapt {
    /// Trains beside weights in full, in NormalFloat with nested scales, and in eight bits.
    ///
    /// # Errors
    /// What libtorch reports, or where there is no room for temporary files.
    pub fn run(&self) -> Result<Vec<BenchRow>> {
        let ways =
            [("dense base", None), ("nf4 base, nested", Some(Scheme::Nf4 { block: 64, nested: true })), ("int8 base", Some(Scheme::Int8))];
        let folder = std::env::temp_dir().join(format!("qapipe-bench-{}", std::process::id()));
        let rows = ways.into_iter().map(|(mode, scheme)| self.measure(&folder, mode, scheme)).collect();
        let _gone = std::fs::remove_dir_all(&folder);
        rows
    }

    fn measure(&self, folder: &Path, mode: &str, scheme: Option<Scheme>) -> Result<BenchRow> {
        std::fs::create_dir_all(folder).map_err(NnError::io(folder))?;
        self.write(folder, scheme)?;
        let device = self.train.device;
        let (model, _) = load_tuned(folder, &Placement::training(device), 1, &Tuning::Adapters(usual()))?;
        let mut model = model.into_writer()?;
        let mib = |bytes: u64| bytes >> 20;
        let mode = format!("{mode}, {} MiB of weights", mib(model.parameters().resident_bytes()));
        self.train.train(&mut *model, named("t5-base LoRA r=8 on q,v", device), &mode)
    }

    /// Writes a model at random, packed or not.
    fn write(&self, folder: &Path, scheme: Option<Scheme>) -> Result<()> {
        let model = T5ForConditionalGeneration::init(&self.train.config, &Placement::inference(Device::Cpu), 1)?;
        model.save(folder)?;
        let Some(scheme) = scheme else { return Ok(()) };
        let packed = pack_model(model.parameters(), &Selection::default(), scheme, Kind::Half, None)?;
        write(&folder.join("model.safetensors"), packed.tensors, &[])
    }
}

fn usual() -> Lora {
    let targets = Selection::of(&["q", "v"]);
    Lora { rank: 8, alpha: 32.0, dropout: 0.1, rank_stabilised: false, decomposed: false, targets, head: false }
}
