//! A model's tensors that stay in memory, for other models that are adapters beside the same weights.

use std::collections::HashMap;
use std::sync::Arc;

use tch::Tensor;

use crate::builder::LoadReport;
use crate::models::Stored;
use crate::parameters::{Parameters, Placement};
use crate::quant::Quantized;
use crate::weights::FileId;

/// The weights of a model, where and as they are computed with: several adapters are answered with by one copy of them.
#[derive(Debug)]
pub struct Resident {
    config: String,
    files: Vec<FileId>,
    placement: Placement,
    /// By the name of the first of a tensor's parts.
    tensors: HashMap<String, Tensor>,
    packed: HashMap<String, Arc<Quantized>>,
}

impl Resident {
    /// The weights of a model that was loaded for answers, without what an adapter brought and what its file lacked.
    pub(crate) fn of(stored: &Stored, parameters: &Parameters, report: &LoadReport, placement: &Placement) -> Self {
        let own = |name: &str| {
            let brought = stored.adapter.as_ref().is_some_and(|adapter| adapter.brings(name));
            !brought && !name.contains(".lora_") && !report.initialised.iter().any(|drawn| drawn == name)
        };
        let tensors = parameters.tensors().filter(|(name, _)| own(name)).map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()));
        let packed = parameters.packed().map(|(name, weight)| (name.to_owned(), Arc::clone(weight)));
        let (config, files) = (stored.config.clone(), stored.weights.files().to_vec());
        Self { config, files, placement: *placement, tensors: tensors.collect(), packed: packed.collect() }
    }

    /// Whether these are the weights of what a folder holds, for a place.
    pub(crate) fn is_of(&self, stored: &Stored, placement: &Placement) -> bool {
        self.placement == *placement && self.files == stored.weights.files() && self.config == stored.config
    }

    pub(crate) fn tensor(&self, name: &str) -> Option<Tensor> {
        self.tensors.get(name).map(Tensor::shallow_clone)
    }

    pub(crate) fn packed(&self, name: &str) -> Option<Arc<Quantized>> {
        self.packed.get(name).map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::{Path, PathBuf};
    use std::rc::Rc;

    use tch::{Device, Kind};
    use tempfile::TempDir;

    use super::*;
    use crate::adapter_file::{ADAPTER_CONFIG, ADAPTER_WEIGHTS};
    use crate::models::{BASE, Loaded, load, load_beside};
    use crate::quant::{Scheme, pack_model};
    use crate::select::Selection;
    use crate::{AnyModel, Forward, Packed, weights};

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
    }

    /// An adapter beside a model whose files are the same ones for all.
    fn beside(adapter: &str, base: &Path) -> TempDir {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join(BASE)).unwrap();
        for file in [ADAPTER_CONFIG, ADAPTER_WEIGHTS] {
            std::fs::copy(fixture("adapters").join(adapter).join(file), place.path().join(file)).unwrap();
        }
        for file in ["config.json", "model.safetensors"] {
            std::fs::hard_link(base.join(file), place.path().join(BASE).join(file)).unwrap();
        }
        place
    }

    fn base(scheme: Option<Scheme>) -> TempDir {
        let place = tempfile::tempdir().unwrap();
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(fixture("bert_tiny").join(file), place.path().join(file)).unwrap();
        }
        if let Some(scheme) = scheme {
            let (model, _) = load(place.path(), &Placement::inference(Device::Cpu), 0).unwrap();
            let packed = pack_model(model.network().parameters(), &Selection::default(), scheme, Kind::Float, None).unwrap();
            std::fs::remove_file(place.path().join("model.safetensors")).unwrap();
            weights::write(&place.path().join("model.safetensors"), packed.tensors, &[]).unwrap();
        }
        place
    }

    fn logits(model: &AnyModel) -> Tensor {
        let AnyModel::Reader(model) = model else { unreachable!() };
        let packed = Packed::from_sequences(&[(&[2, 5, 6, 3, 7, 8, 9, 3], 4)], Device::Cpu).unwrap();
        tch::no_grad(|| model.forward(&packed, &mut Forward::inference()).unwrap().start)
    }

    /// Where the numbers of the base are, those of adapters and of the head that they bring aside.
    fn places(model: &AnyModel) -> Vec<(String, usize)> {
        let parameters = model.network().parameters();
        let own = parameters.tensors().filter(|(name, _)| !name.contains(".lora_") && !name.starts_with("qa_outputs"));
        let places = own.map(|(name, tensor)| (name.to_owned(), tensor.data_ptr() as usize));
        let packed = parameters.packed().map(|(name, weight)| (name.to_owned(), Arc::as_ptr(weight) as usize));
        let mut all: Vec<(String, usize)> = places.chain(packed).collect();
        all.sort();
        all
    }

    fn next(folder: &Path, resident: &mut Option<Rc<Resident>>) -> AnyModel {
        let placement = Placement::inference(Device::Cpu);
        let ((model, report), (alone, same)): (Loaded, Loaded) =
            (load_beside(folder, &placement, 0, resident).unwrap(), load(folder, &placement, 0).unwrap());
        assert_eq!(report, same);
        assert!(logits(&model).equal(&logits(&alone)));
        let count = |model: &AnyModel| {
            let parameters = model.network().parameters();
            (parameters.count(), parameters.resident_bytes(), parameters.remaining().unwrap())
        };
        assert_eq!(count(&model), count(&alone));
        model
    }

    #[test]
    fn adapters_beside_one_model_are_answered_with_by_one_copy_of_it() {
        for scheme in [None, Some(Scheme::Nf4 { block: 64, nested: true }), Some(Scheme::Int8)] {
            let (base, mut resident) = (base(scheme), None);
            let first = next(base.path(), &mut resident);
            for adapter in ["bert_tiny.lora", "bert_tiny.dora", "bert_tiny.patterns", "bert_tiny.rslora"] {
                let folder = beside(adapter, base.path());
                let model = next(folder.path(), &mut resident);
                assert_eq!(places(&model), places(&first), "{adapter} {scheme:?}");
            }
        }
    }

    #[test]
    fn another_model_has_weights_of_its_own() {
        let (one, other, mut resident) = (base(None), base(None), None);
        let first = next(one.path(), &mut resident);
        let held = Rc::downgrade(resident.as_ref().unwrap());
        let second = next(other.path(), &mut resident);
        assert!(held.upgrade().is_none(), "the first ones are let go of");
        assert_ne!(places(&first), places(&second));
        let folder = beside("bert_tiny.lora", one.path());
        assert_ne!(places(&next(folder.path(), &mut resident)), places(&second));
    }
}
