//! What trains: a model's tensors, flat in memory, so that the optimiser, the norm and the copies each are one operation.

use std::path::Path;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use crate::builder::module;
use crate::error::{NnError, Result};
use crate::layers::Adapters;
use crate::masks::Mask;
use crate::pruned::Pruned;
use crate::quant::Quantized;
use crate::select::Role;
use crate::shim;
use crate::tuning::Tuning;
use crate::weights::{Weights, wide, write};

/// Where a model's parameters are, in what kind of number, and whether they will be trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Where.
    pub device: Device,
    /// What the model computes in: f32 or bf16.
    pub kind: Kind,
    /// Whether they will be trained: then f32 masters are kept.
    pub train: bool,
}

impl Placement {
    /// For training: bf16 with f32 masters on CUDA, f32 on the CPU.
    #[must_use]
    pub fn training(device: Device) -> Self {
        Self { train: true, ..Self::inference(device) }
    }

    /// For answers: bf16 on CUDA, f32 on the CPU; no masters.
    #[must_use]
    pub fn inference(device: Device) -> Self {
        Self { device, kind: if device.is_cuda() { Kind::BFloat16 } else { Kind::Float }, train: false }
    }

    /// The same in another kind of number.
    #[must_use]
    pub fn with_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }
}

/// A name that a file has for a part of a parameter.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    /// Its size along the first dimension.
    pub(crate) height: i64,
}

/// One tensor that a layer computes with. It may hold several of a file's tensors, stacked.
#[derive(Debug)]
pub struct Parameter {
    parts: Vec<Part>,
    shape: Vec<i64>,
    decay: bool,
    /// Whether it is computed with in f32, whatever the rest is.
    precise: bool,
    /// What its learning rate is to the optimiser's.
    rate: f64,
    /// What the layer holds, too: both share values and gradient.
    tensor: Tensor,
    /// Where it begins in the flat tensors.
    offset: i64,
}

impl Parameter {
    pub(crate) fn new(parts: Vec<Part>, shape: Vec<i64>, decay: bool, tensor: Tensor) -> Self {
        Self { parts, shape, decay, precise: false, rate: 1.0, tensor, offset: 0 }
    }

    /// The same computed with in f32, whatever the rest is. Weight decay does not apply to it.
    pub(crate) fn precise(self) -> Self {
        Self { precise: true, decay: false, ..self }
    }

    /// The same with a learning rate of so many times the optimiser's.
    pub(crate) fn at_rate(self, rate: f64) -> Self {
        Self { rate, ..self }
    }

    /// The names that Hugging Face's files have for it; several where it is stacked.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|part| part.name.as_str())
    }

    /// Its shape.
    #[must_use]
    pub fn shape(&self) -> &[i64] {
        &self.shape
    }

    /// Whether weight decay applies to it.
    #[must_use]
    pub fn decays(&self) -> bool {
        self.decay
    }

    /// Whether it decides about weights and is none.
    fn is_scores(&self) -> bool {
        self.parts.iter().any(|part| part.name.ends_with(SCORES))
    }

    fn numel(&self) -> i64 {
        self.shape.iter().product()
    }

    /// Its part of a flat tensor.
    fn view(&self, flat: &Tensor) -> Result<Tensor> {
        self.view_from(flat, 0)
    }

    /// Its part of a flat tensor that holds what comes from a place on.
    fn view_from(&self, flat: &Tensor, start: i64) -> Result<Tensor> {
        Ok(flat.f_narrow(0, self.offset - start, self.numel())?.f_view(self.shape.as_slice())?)
    }
}

/// A tensor that never trains; it belongs to the model's file.
#[derive(Debug)]
pub(crate) struct Constant {
    parts: Vec<Part>,
    /// What the layer holds, too.
    tensor: Tensor,
    /// Whether it is computed with in the model's kind; else it stays in its own.
    common: bool,
    /// Its values before it went into the model's kind, on the host, where they will be asked for.
    exact: Option<Tensor>,
}

impl Constant {
    /// One that stays in its own kind.
    pub(crate) fn new(name: String, tensor: Tensor) -> Self {
        let height = tensor.size().first().copied().unwrap_or(1);
        Self { parts: vec![Part { name, height }], tensor, common: false, exact: None }
    }

    /// One that could train, and that a tuning leaves as it is.
    pub(crate) fn frozen(parts: Vec<Part>, tensor: Tensor) -> Self {
        Self { parts, tensor, common: true, exact: None }
    }

    /// How many weights it is: whole numbers are a table, not weights.
    fn weights(&self) -> u64 {
        if self.tensor.is_floating_point() { self.tensor.numel() as u64 } else { 0 }
    }

    /// Moves it to where and how it is computed with.
    fn settle(&mut self, placement: &Placement, keep: bool) -> Result<()> {
        let kind = if self.common && self.tensor.is_floating_point() { placement.kind } else { self.tensor.kind() };
        if keep && kind != self.tensor.kind() {
            self.exact = Some(self.tensor.f_detach()?);
        }
        let moved = self.tensor.f_to_device_(placement.device, kind, false, false)?;
        Ok(self.tensor.f_set_data(&moved)?)
    }

    /// Its values as exactly as they are known.
    fn exact(&self) -> &Tensor {
        self.exact.as_ref().unwrap_or(&self.tensor)
    }
}

/// A matrix that a model has: what methods choose from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The name of its tensor.
    pub name: String,
    /// The name of the tensor that it is stacked below, or its own.
    pub stack: String,
    /// What it is for.
    pub role: Role,
    /// `[out, in]`.
    pub shape: [i64; 2],
}

impl Site {
    /// The name of its module: that of the tensor without `.weight`.
    #[must_use]
    pub fn module(&self) -> &str {
        module(&self.name)
    }
}

/// What a model is made of, while it is being made.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    pub(crate) list: Vec<Parameter>,
    pub(crate) constants: Vec<Constant>,
    pub(crate) masks: Vec<Mask>,
    /// Adapters of matrices, with the names of the tensors that they adapt, in their order.
    pub(crate) adapted: Vec<(Vec<String>, Adapters)>,
    /// Matrices that are quantized, by the names of their tensors.
    pub(crate) packed: Vec<(String, Arc<Quantized>)>,
    pub(crate) sites: Vec<Site>,
}

impl Pieces {
    /// Adds a tensor without weight decay, or a constant where it does not train.
    pub(crate) fn put(&mut self, parts: Vec<Part>, tensor: &Tensor, trains: bool) {
        let tensor = tensor.shallow_clone();
        if trains {
            self.list.push(Parameter::new(parts, tensor.size(), true, tensor));
        } else {
            self.constants.push(Constant::frozen(parts, tensor));
        }
    }
}

/// All parameters of a model.
///
/// Masters are f32 and flat: those with weight decay first, those that stay in f32 last. Where the model computes in another kind, it has
/// working copies of the others, which [`crate::AdamW::step`] renews. Gradients gather in f32, whatever the model computes in, so that
/// micro-batches add up exactly.
#[derive(Debug)]
pub struct Parameters {
    list: Vec<Parameter>,
    constants: Vec<Constant>,
    masks: Vec<Mask>,
    adapted: Vec<(Vec<String>, Adapters)>,
    packed: Vec<(String, Arc<Quantized>)>,
    sites: Vec<Site>,
    master: Tensor,
    working: Option<Tensor>,
    /// Those that stay in f32, where there are no f32 masters.
    apart: Option<Tensor>,
    gradient: Option<Gradient>,
    layout: Layout,
    placement: Placement,
}

/// Neighbours in the flat tensors that the optimiser treats alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Segment {
    pub(crate) start: i64,
    pub(crate) length: i64,
    /// Whether weight decay applies to them.
    pub(crate) decay: bool,
    /// What their learning rate is to the optimiser's.
    pub(crate) rate: f64,
}

/// Where the flat tensors' parts end.
#[derive(Clone, Debug)]
struct Layout {
    segments: Vec<Segment>,
    /// Where weight decay ends.
    decaying: i64,
    /// Where what stays in f32 begins.
    precise: i64,
    /// Where all ends.
    total: i64,
}

/// Gathered gradients.
#[derive(Debug)]
struct Gradient {
    flat: Tensor,
    views: Vec<Tensor>,
    empty: bool,
}

/// Values of all parameters at some time, on the host.
#[derive(Debug)]
pub struct Snapshot(Vec<Tensor>);

/// How the names of scores end.
pub(crate) const SCORES: &str = ".scores";

/// Parameters begin at multiples of this many numbers, so that matrix kernels find them aligned in any kind.
const ALIGNMENT: i64 = 64;

impl Parameters {
    /// Lays parameters out flat, and points the layers' tensors there.
    pub(crate) fn new(pieces: Pieces, tuning: &Tuning, placement: &Placement) -> Result<Self> {
        let _guard = tch::no_grad_guard();
        let Pieces { mut list, mut constants, masks, adapted, packed, sites } = pieces;
        let layout = lay_out(&mut list);
        let host = Tensor::f_zeros([layout.total], (Kind::Float, Device::Cpu))?;
        for parameter in &list {
            parameter.view(&host)?.f_copy_(&parameter.tensor)?;
        }
        let Placement { device, kind, train } = *placement;
        // Adapters are saved without what they stand beside.
        let keep = matches!(tuning, Tuning::Masks(_));
        constants.iter_mut().try_for_each(|constant| constant.settle(placement, keep))?;
        masks.iter().try_for_each(|mask| mask.settle(device))?;
        let common = |flat: &Tensor| Ok::<_, NnError>(flat.f_narrow(0, 0, layout.precise)?.f_to_kind(kind)?);
        let (master, apart) = if train || kind == Kind::Float {
            (host.f_to_device_(device, Kind::Float, false, false)?, None)
        } else {
            let precise = host.f_narrow(0, layout.precise, layout.total - layout.precise)?;
            (common(&host)?.f_to(device)?, Some(precise.f_to_device_(device, Kind::Float, false, true)?))
        };
        let working = if master.kind() == kind { None } else { Some(common(&master)?) };
        let mut parameters =
            Self { list, constants, masks, adapted, packed, sites, master, working, apart, gradient: None, layout, placement: *placement };
        parameters.point()?;
        Ok(parameters)
    }

    /// Points the layers' tensors at what the model computes with.
    fn point(&mut self) -> Result<()> {
        for parameter in &mut self.list {
            let view = match &self.apart {
                Some(apart) if parameter.precise => parameter.view_from(apart, self.layout.precise)?,
                _ if parameter.precise => parameter.view(&self.master)?,
                _ => parameter.view(self.working.as_ref().unwrap_or(&self.master))?,
            };
            parameter.tensor.f_set_data(&view)?;
            let _same = parameter.tensor.f_set_requires_grad(self.placement.train)?;
        }
        Ok(())
    }

    /// Where they are.
    #[must_use]
    pub fn device(&self) -> Device {
        self.placement.device
    }

    /// What the model computes in.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.placement.kind
    }

    /// The parameters, one by one.
    pub fn iter(&self) -> impl Iterator<Item = &Parameter> {
        self.list.iter()
    }

    /// How many numbers they are, those that never train among them.
    #[must_use]
    pub fn count(&self) -> u64 {
        let packed: u64 = self.packed.iter().map(|(_, weight)| weight.numel()).sum();
        self.moving() + self.constants.iter().map(Constant::weights).sum::<u64>() + packed
    }

    /// The matrices that are quantized, by the names of their tensors.
    pub fn quantized(&self) -> impl Iterator<Item = &str> {
        self.packed.iter().map(|(name, _)| name.as_str())
    }

    /// How many of them train.
    #[must_use]
    pub fn trainable(&self) -> u64 {
        if self.placement.train { self.moving() } else { 0 }
    }

    /// How many numbers training would move.
    fn moving(&self) -> u64 {
        self.list.iter().map(|parameter| parameter.numel().unsigned_abs()).sum()
    }

    /// How many of them are weights of the model, and no scores of weights.
    #[must_use]
    pub fn weights(&self) -> u64 {
        let scores = self.list.iter().filter(|parameter| parameter.is_scores()).map(|parameter| parameter.numel().unsigned_abs());
        self.count() - scores.sum::<u64>()
    }

    /// How many weights are not left out by a mask.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn remaining(&self) -> Result<u64> {
        let left_out = |mask: &Mask| Ok::<_, NnError>(mask.mask()?.f_logical_not()?.f_sum(Kind::Int64)?.int64_value(&[]).unsigned_abs());
        Ok(self.weights() - self.masks.iter().map(left_out).sum::<Result<u64>>()?)
    }

    /// The matrices that methods choose from.
    #[must_use]
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// The modules whose matrices have masks.
    pub fn masked(&self) -> impl Iterator<Item = &str> {
        self.masks.iter().map(|mask| module(&mask.name))
    }

    /// The masks, those that were stored and those that are learnt.
    pub(crate) fn masks(&self) -> &[Mask] {
        &self.masks
    }

    /// Bytes of the numbers that the model computes with: what a model takes in memory to answer.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let tensors = self.list.iter().map(|parameter| &parameter.tensor).chain(self.constants.iter().map(|constant| &constant.tensor));
        let packed: u64 = self.packed.iter().map(|(_, weight)| weight.bytes() as u64).sum();
        tensors.map(|tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64).sum::<u64>() + packed
    }

    /// The f32 values of a tensor by its Hugging Face name, on the host.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub fn value(&self, name: &str) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let tensor = self.stored(name)?.f_to_device_(Device::Cpu, Kind::Float, false, true)?;
        match self.masks.iter().find(|mask| mask.name == name) {
            Some(mask) => Ok(tensor.f_mul(&mask.mask()?.f_to(Device::Cpu)?)?),
            None => Ok(tensor),
        }
    }

    /// The names of all tensors of the model's file, scores aside.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let parts =
            self.list.iter().flat_map(|parameter| &parameter.parts).chain(self.constants.iter().flat_map(|constant| &constant.parts));
        let names = parts.map(|part| part.name.as_str()).filter(|name| !name.ends_with(SCORES));
        names.chain(self.packed.iter().map(|(name, _)| name.as_str()))
    }

    /// The values of a tensor of a name on the host: floating-point numbers in f32 with masks applied, whole numbers as they are.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub fn as_it_is(&self, name: &str) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let tensor = self.stored(name)?;
        if tensor.is_floating_point() { self.value(name) } else { Ok(tensor.f_to(Device::Cpu)?) }
    }

    /// All tensors of the model with dense weights by name, floating-point numbers in a kind: adapters merged, weights that are left out zero,
    /// quantized ones unpacked.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn dense(&self, kind: Kind) -> Result<Vec<(String, Tensor)>> {
        let _guard = tch::no_grad_guard();
        let names = self.names().filter(|name| !name.contains(".lora_"));
        names
            .map(|name| Ok((name.to_owned(), self.merged(name)?)))
            .map(|part| part.and_then(|(name, tensor)| cast(name, &tensor, kind)))
            .collect()
    }

    /// The values of a tensor of a name on the host, with its adapters merged.
    fn merged(&self, name: &str) -> Result<Tensor> {
        let value = self.as_it_is(name)?;
        let place = |names: &[String]| names.iter().position(|adapted| adapted == name);
        match self.adapted.iter().find_map(|(names, adapters)| place(names).map(|at| (adapters, at))) {
            Some((adapters, at)) => Ok(adapters.one(at)?.merged(&value.f_to(self.device())?)?.f_to(Device::Cpu)?),
            None => Ok(value),
        }
    }

    /// Whether a tensor of a name is computed with in f32, whatever the rest is.
    pub(crate) fn is_precise(&self, name: &str) -> bool {
        self.list.iter().any(|parameter| parameter.precise && parameter.parts.iter().any(|part| part.name == name))
    }

    /// The values of a tensor of a name as exactly as they are known, whether it trains or not, masks aside.
    fn stored(&self, name: &str) -> Result<Tensor> {
        for constant in &self.constants {
            if let Some((start, height)) = place_of(&constant.parts, name) {
                return Ok(rows(constant.exact(), start, height)?);
            }
        }
        if let Some((_, weight)) = self.packed.iter().find(|(packed, _)| packed == name) {
            return weight.dequantize(Kind::Float);
        }
        self.part(name, |parameter| self.exact(parameter))
    }

    /// Puts other values into a tensor of a name, whether it trains or not.
    ///
    /// # Errors
    /// Where there is none of that name, or the values are of another shape or kind.
    pub fn set(&mut self, name: &str, values: &Tensor) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let mut place = self.stored(name)?;
        if place.size() != values.size() || place.is_floating_point() != values.is_floating_point() {
            return Err(NnError::Fit(format!(
                "{name} is {:?} {:?}, and cannot become {:?} {:?}",
                place.kind(),
                place.size(),
                values.kind(),
                values.size()
            )));
        }
        place.f_copy_(values)?;
        self.renew()
    }

    /// The gathered f32 gradient of a tensor by its Hugging Face name, on the host.
    ///
    /// # Errors
    /// Where there is none of that name, or no gradient yet.
    pub fn gradient(&self, name: &str) -> Result<Tensor> {
        let gradient = self.gradient.as_ref().filter(|gradient| !gradient.empty);
        let gradient = gradient.ok_or_else(|| NnError::Input("there is no gradient yet".into()))?;
        self.named(name, |parameter| parameter.view(&gradient.flat))
    }

    /// Goes back through the graph of a loss and gathers the gradients, on top of those that are there since the last step.
    ///
    /// # Errors
    /// What libtorch reports, out of memory among it.
    pub fn backward(&mut self, loss: &Tensor) -> Result<()> {
        loss.f_backward()?;
        self.collect()
    }

    /// Drops all gradients.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn zero_grad(&mut self) -> Result<()> {
        self.collect()?;
        if let Some(gradient) = &mut self.gradient {
            gradient.empty = true;
        }
        Ok(())
    }

    /// Values of all parameters, for [`Parameters::restore`].
    ///
    /// # Errors
    /// Where the host has no memory.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let copy = |flat: &Tensor| Ok(flat.f_to_device_(Device::Cpu, flat.kind(), false, true)?);
        Ok(Snapshot(std::iter::once(&self.master).chain(&self.apart).map(copy).collect::<Result<_>>()?))
    }

    /// Puts values back.
    ///
    /// # Errors
    /// Where the snapshot is of other parameters.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for (mut flat, kept) in std::iter::once(&self.master).chain(&self.apart).map(Tensor::shallow_clone).zip(&snapshot.0) {
            flat.f_copy_(kept)?;
        }
        self.renew()
    }

    /// Writes the f32 values under Hugging Face's names, as a safetensors file, with what never trains. Of a matrix with a mask, bits and the
    /// weights that stay are written.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.save_pruned(path, Kind::Float)
    }

    /// The same, the weights that stay in matrices with masks in a kind of floating-point number.
    pub(crate) fn save_pruned(&self, path: &Path, kind: Kind) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let mut tensors = Vec::new();
        for (name, values) in self.exact_parts()? {
            match self.masks.iter().find(|mask| mask.name == name) {
                Some(mask) => tensors.extend(Pruned::tensors(&name, &values, &mask.mask()?, kind)?),
                None => tensors.push((name, values)),
            }
        }
        tensors.extend(self.packed.iter().flat_map(|(name, weight)| weight.tensors(name)));
        write(path, tensors, &[])
    }

    /// The f32 values of what trains, by name, on the host.
    pub(crate) fn trained(&self) -> Result<Vec<(String, Tensor)>> {
        wide(self.parts("", |parameter| self.exact(parameter))?)
    }

    /// All tensors of the model's file by name, as exactly as they are known, masks and scores aside.
    pub(crate) fn exact_parts(&self) -> Result<Vec<(String, Tensor)>> {
        let mut parts = self.parts("", |parameter| self.exact(parameter))?;
        parts.retain(|(name, _)| !name.ends_with(SCORES));
        for constant in &self.constants {
            for part in &constant.parts {
                let (start, height) = place_of(&constant.parts, &part.name).unwrap_or_default();
                parts.push((part.name.clone(), rows(constant.exact(), start, height)?));
            }
        }
        wide(parts)
    }

    /// Reads back what [`Parameters::save`] wrote.
    ///
    /// # Errors
    /// Where a tensor is missing or of another shape.
    pub fn load(&mut self, weights: &Weights) -> Result<()> {
        self.read(weights, "", |parameter| self.exact(parameter))?;
        self.renew()
    }

    /// The values of a parameter as exactly as they are known.
    fn exact(&self, parameter: &Parameter) -> Result<Tensor> {
        if self.placement.train { parameter.view(&self.master) } else { Ok(parameter.tensor.f_detach()?) }
    }

    /// Gathers what the last backward pass left at the leaves.
    pub(crate) fn collect(&mut self) -> Result<()> {
        if !self.placement.train {
            return Ok(());
        }
        let mut gradient = match self.gradient.take() {
            Some(gradient) => gradient,
            None => self.fresh_gradient()?,
        };
        let leaves: Vec<&Tensor> = self.list.iter().map(|parameter| &parameter.tensor).collect();
        let found = shim::collect_gradients(&leaves, &gradient.views, &gradient.flat, !gradient.empty)?;
        gradient.empty &= found == 0;
        self.gradient = Some(gradient);
        Ok(())
    }

    fn fresh_gradient(&self) -> Result<Gradient> {
        let _guard = tch::no_grad_guard();
        let flat = self.master.f_zeros_like()?;
        let views = self.list.iter().map(|parameter| parameter.view(&flat)).collect::<Result<_>>()?;
        Ok(Gradient { flat, views, empty: true })
    }

    /// Marks the gathered gradient as used up.
    pub(crate) fn clear(&mut self) {
        if let Some(gradient) = &mut self.gradient {
            gradient.empty = true;
        }
    }

    /// The flat masters and the flat gathered gradient.
    pub(crate) fn flat(&mut self) -> Result<(&Tensor, &Tensor)> {
        self.collect()?;
        let gradient = self.gradient.as_ref().filter(|gradient| !gradient.empty);
        let gradient = gradient.ok_or_else(|| NnError::Input("there is no gradient; backward comes before the step".into()))?;
        Ok((&self.master, &gradient.flat))
    }

    /// A flat tensor of zeros, one for each master.
    pub(crate) fn zeros(&self) -> Result<Tensor> {
        Ok(self.master.f_zeros_like()?)
    }

    /// How many of the flat numbers weight decay applies to; they come first.
    pub(crate) fn decaying(&self) -> i64 {
        self.layout.decaying
    }

    /// What the optimiser treats alike, one after the other.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.layout.segments
    }

    /// Makes the working copies anew out of the masters.
    pub(crate) fn renew(&mut self) -> Result<()> {
        let _guard = tch::no_grad_guard();
        if let Some(working) = &mut self.working {
            working.f_copy_(&self.master.f_narrow(0, 0, self.layout.precise)?)?;
        }
        Ok(())
    }

    /// A flat tensor cut up under the files' names, on the host, with something before each name.
    pub(crate) fn parts_of(&self, flat: &Tensor, before: &str) -> Result<Vec<(String, Tensor)>> {
        let flat = flat.f_to(Device::Cpu)?;
        self.parts(before, |parameter| parameter.view(&flat))
    }

    /// Fills a flat tensor from a file that holds what [`Parameters::parts_of`] gave.
    pub(crate) fn read_flat(&self, weights: &Weights, before: &str, flat: &Tensor) -> Result<()> {
        self.read(weights, before, |parameter| parameter.view(flat))
    }

    /// Something that there is of every parameter, cut up under the files' names, with something before each name.
    fn parts(&self, before: &str, of: impl Fn(&Parameter) -> Result<Tensor>) -> Result<Vec<(String, Tensor)>> {
        let _guard = tch::no_grad_guard();
        let mut parts = Vec::new();
        for parameter in &self.list {
            let view = of(parameter)?;
            let mut start = 0;
            for part in &parameter.parts {
                parts.push((format!("{before}{}", part.name), view.f_narrow(0, start, part.height)?));
                start += part.height;
            }
        }
        Ok(parts)
    }

    /// Fills something that there is of every parameter from a file.
    fn read(&self, weights: &Weights, before: &str, of: impl Fn(&Parameter) -> Result<Tensor>) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for (name, mut place) in self.parts(before, of)? {
            let stored = weights.floats(&name)?;
            if place.size() != stored.size() {
                return Err(NnError::Fit(format!("{name} is {:?} and should be {:?}", stored.size(), place.size())));
            }
            place.f_copy_(&stored)?;
        }
        Ok(())
    }

    /// Something that there is of every parameter, of a name, in f32 on the host.
    fn named(&self, name: &str, of: impl Fn(&Parameter) -> Result<Tensor>) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        Ok(self.part(name, of)?.f_to_device_(Device::Cpu, Kind::Float, false, true)?)
    }

    /// Something that there is of every parameter, of a name, as it is.
    fn part(&self, name: &str, of: impl Fn(&Parameter) -> Result<Tensor>) -> Result<Tensor> {
        for parameter in &self.list {
            if let Some((start, height)) = place_of(&parameter.parts, name) {
                return Ok(rows(&of(parameter)?, start, height)?);
            }
        }
        Err(NnError::Input(format!("the model has no tensor {name:?}")))
    }
}

/// A tensor in a kind, where it holds floating-point numbers.
fn cast(name: String, tensor: &Tensor, kind: Kind) -> Result<(String, Tensor)> {
    Ok((name, if tensor.is_floating_point() { tensor.f_to_kind(kind)? } else { tensor.shallow_clone() }))
}

/// Where a name's rows begin among parts, and how many they are.
fn place_of(parts: &[Part], name: &str) -> Option<(i64, i64)> {
    let at = parts.iter().position(|part| part.name == name)?;
    Some((parts[..at].iter().map(|part| part.height).sum(), parts[at].height))
}

/// Rows of a tensor; all of it where these are all, a scalar among them.
fn rows(tensor: &Tensor, start: i64, height: i64) -> Result<Tensor> {
    if tensor.size().first().is_none_or(|&size| size == height) {
        return Ok(tensor.f_detach()?);
    }
    Ok(tensor.f_detach()?.f_narrow(0, start, height)?)
}

/// Gives every parameter its place: those with weight decay first, those that stay in f32 last.
fn lay_out(list: &mut [Parameter]) -> Layout {
    let (mut at, mut segments, mut ends) = (0, Vec::new(), Vec::new());
    for (decay, precise) in [(true, false), (false, false), (false, true)] {
        let alike = |parameter: &Parameter| parameter.decay == decay && parameter.precise == precise;
        let mut rates: Vec<f64> = list.iter().filter(|parameter| alike(parameter)).map(|parameter| parameter.rate).collect();
        rates.sort_by(f64::total_cmp);
        rates.dedup();
        for rate in rates {
            let start = at;
            for parameter in list.iter_mut().filter(|parameter| alike(parameter) && parameter.rate.total_cmp(&rate).is_eq()) {
                parameter.offset = at;
                at += (parameter.numel() + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
            }
            segments.push(Segment { start, length: at - start, decay, rate });
        }
        ends.push(at);
    }
    Layout { segments, decaying: ends[0], precise: ends[1], total: at.max(1) }
}
