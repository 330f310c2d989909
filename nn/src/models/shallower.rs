//! A model with only some of another's layers: the others are left out, all else is copied (layer dropping, Sanh et al. 2019, arXiv
//! 1910.01108).

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};
use tch::{Device, Kind, Tensor};

use super::{Stored, family, load};
use crate::error::{NnError, Result};
use crate::parameters::Placement;
use crate::weights::write;

/// A stack of layers, as a family's files have it.
pub struct LayerNames {
    /// What the names of a layer's tensors begin with, before its number.
    pub prefix: &'static str,
    /// The fields of a configuration that say how many there are; a configuration has one of them, or none and means the first.
    pub fields: &'static [&'static str],
    /// A part of the names of what all layers use and the first one holds.
    pub shared: Option<&'static str>,
}

/// Writes a model with only some layers of a folder's model: its `config.json`, and its `model.safetensors` with dense f32 weights.
/// Adapters are merged, weights that are left out are zero, quantized ones are unpacked.
///
/// `kept`: numbers of layers, from 0, for each stack: an encoder's, then a decoder's. Of a stack that is not said all stay. Gives the
/// layers that were kept, of every stack.
///
/// # Errors
/// Where a list is empty or no ascending list of layers that there are, the model has fewer stacks, or a layer cannot come first because it
/// takes wider states than the first one does.
pub fn keep_layers(folder: &Path, kept: &[Vec<usize>], output: &Path) -> Result<Vec<Vec<usize>>> {
    let stored = Stored::open(folder)?;
    let stacks = family(&stored.config)?.layers;
    if kept.len() > stacks.len() {
        return Err(NnError::Fit(format!(
            "layers of {} stacks are chosen, and the model has {}: it has no decoder",
            kept.len(),
            stacks.len()
        )));
    }
    let (model, _) = load(folder, &Placement::inference(Device::Cpu).with_kind(Kind::Float), 0)?;
    let mut tensors: BTreeMap<String, Tensor> = model.network().parameters().dense(Kind::Float)?.into_iter().collect();
    let mut config: Map<String, Value> = serde_json::from_str(&stored.config)?;
    config.remove("quantization_config");
    let mut all = Vec::new();
    for (number, names) in stacks.iter().enumerate() {
        let there = names.count(&tensors);
        let layers = kept.get(number).cloned().unwrap_or_else(|| (0..there).collect());
        names.check(&layers, there)?;
        tensors = names.keep(tensors, &layers)?;
        names.say(layers.len(), &mut config);
        all.push(layers);
    }
    let path = output.join("config.json");
    std::fs::write(&path, serde_json::to_string_pretty(&config)? + "\n").map_err(NnError::io(&path))?;
    write(&output.join("model.safetensors"), tensors.into_iter().collect(), &[])?;
    Ok(all)
}

impl LayerNames {
    /// The layer that a tensor is of, and the rest of its name.
    fn place<'n>(&self, name: &'n str) -> Option<(usize, &'n str)> {
        let (number, rest) = name.strip_prefix(self.prefix)?.split_once('.')?;
        Some((number.parse().ok()?, rest))
    }

    /// How many layers there are.
    fn count(&self, tensors: &BTreeMap<String, Tensor>) -> usize {
        tensors.keys().filter_map(|name| self.place(name)).map(|(number, _)| number + 1).max().unwrap_or(0)
    }

    /// Refuses what are no layers of so many.
    fn check(&self, layers: &[usize], there: usize) -> Result<()> {
        let ascending = layers.windows(2).all(|pair| pair[0] < pair[1]);
        if ascending && layers.last().is_some_and(|&last| last < there) {
            return Ok(());
        }
        let prefix = self.prefix;
        Err(NnError::Fit(format!(
            "of {prefix}* the layers {layers:?} are to stay, and there are 0 to {}: each once, ascending",
            there.saturating_sub(1)
        )))
    }

    /// The tensors of these layers under their new names, with all that are of no layer.
    fn keep(&self, tensors: BTreeMap<String, Tensor>, layers: &[usize]) -> Result<BTreeMap<String, Tensor>> {
        self.check_first(&tensors, layers)?;
        let renamed = tensors.into_iter().filter_map(|(name, tensor)| Some((self.renamed(&name, layers)?, tensor)));
        Ok(renamed.collect())
    }

    /// The name that a tensor gets; none where it does not stay.
    fn renamed(&self, name: &str, layers: &[usize]) -> Option<String> {
        let Some((number, rest)) = self.place(name) else { return Some(name.to_owned()) };
        if self.shared.is_some_and(|shared| rest.contains(shared)) {
            return Some(name.to_owned());
        }
        let at = layers.iter().position(|&layer| layer == number)?;
        Some(format!("{}{at}.{rest}", self.prefix))
    }

    /// Refuses another first layer where it is of other shapes than the first one.
    fn check_first(&self, tensors: &BTreeMap<String, Tensor>, layers: &[usize]) -> Result<()> {
        let Some(&first) = layers.first() else { return Ok(()) };
        for (name, tensor) in tensors {
            let Some((_, rest)) = self.place(name).filter(|&(number, _)| number == first) else { continue };
            let before = tensors.get(&format!("{}0.{rest}", self.prefix)).map(Tensor::size);
            if before.as_ref().is_some_and(|size| *size != tensor.size()) {
                let (size, wanted) = (tensor.size(), before.unwrap_or_default());
                return Err(NnError::Fit(format!(
                    "layer {first} cannot come first: {name} is {size:?}, and layer 0's {wanted:?}: keep layer 0"
                )));
            }
        }
        Ok(())
    }

    /// Puts the number of layers into a configuration.
    fn say(&self, count: usize, config: &mut Map<String, Value>) {
        let there = self.fields.iter().find(|field| config.contains_key(**field)).or(self.fields.first());
        if let Some(field) = there {
            config.insert((*field).to_owned(), count.into());
        }
    }
}
