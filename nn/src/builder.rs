//! Making a model's parameters: from weights by name, or at random.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use crate::adapter_file::AdapterFile;
use crate::error::{NnError, Result};
use crate::forward::mix;
use crate::layers::{Activations, Adapters, Matrix, PackedPart, PackedWeight, Up, Weight};
use crate::masks::{Mask, Masked, MaskedPart};
use crate::models::Stored;
use crate::parameters::{Constant, Parameter, Parameters, Part, Pieces, Placement, Site};
use crate::pruned::Pruned;
use crate::quant::Quantized;
use crate::select::Role;
use crate::shim;
use crate::tuning::{Lora, Masking, Tuning};
use crate::weights::Weights;

/// What became of the names when weights met a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Tensors of the model that the file does not have, and that were initialised at random.
    pub initialised: Vec<String>,
    /// Tensors of the file that the model has no place for.
    pub unused: Vec<String>,
}

/// How a parameter begins where there are no weights for it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Init {
    /// Normally distributed around zero, with this standard deviation.
    Normal(f64),
    /// Evenly distributed between minus this and this.
    Uniform(f64),
    /// All this.
    Filled(f64),
    /// The logarithms of 1, 2 and so on along the last dimension.
    Logarithms,
    /// Numbers whose softplus is evenly distributed on a logarithmic scale.
    Steps {
        /// The smallest softplus drawn.
        least: f64,
        /// The largest softplus drawn.
        most: f64,
        /// What no softplus is below.
        floor: f64,
    },
    /// Zero, but one for the second of four equal parts: the forget gate of an LSTM.
    ForgetGate,
    /// All zero.
    Zeros,
    /// All one.
    Ones,
}

/// A parameter that a layer asks for. Several names stand for tensors stacked along the first dimension, equally high.
pub(crate) struct Wanted<'a> {
    pub(crate) names: &'a [String],
    pub(crate) shape: &'a [i64],
    /// How each of them begins; where there is only one, all begin like it.
    pub(crate) inits: &'a [Init],
    /// Whether weight decay applies to it.
    pub(crate) decay: bool,
}

impl Wanted<'_> {
    /// Its parts by name, and the shape of each.
    fn parts(&self) -> (Vec<Part>, Vec<i64>) {
        let height = self.shape[0] / crate::packed::signed(self.names.len().max(1));
        let mut shape = self.shape.to_vec();
        shape[0] = height;
        (self.names.iter().map(|name| Part { name: name.clone(), height }).collect(), shape)
    }

    /// How the part of a number begins.
    fn init(&self, part: usize) -> Init {
        self.inits.get(part).or(self.inits.first()).copied().unwrap_or(Init::Zeros)
    }
}

/// Makes parameters, one after the other, and remembers them.
pub(crate) struct Builder<'a> {
    weights: Option<&'a Weights>,
    adapter: Option<&'a AdapterFile>,
    tuning: Tuning,
    /// Where and in what kind quantized matrices are multiplied, and with what.
    placement: Placement,
    activations: Activations,
    /// Modules whose parameters are the model's head.
    heads: &'a [&'a str],
    seed: u64,
    pieces: Pieces,
    missing: Vec<String>,
    misshapen: Vec<String>,
    used: BTreeSet<String>,
    /// Beginnings of names that a file may lack.
    optional: &'a [&'a str],
    /// A beginning of names that a file may leave out.
    prefix: &'a str,
    /// Names that files have instead of ours: ours first.
    other_names: &'a [(&'a str, &'a str)],
}

impl<'a> Builder<'a> {
    /// Parameters from weights. Names may lack `prefix`; tensors whose name begins with one of `optional` may be missing and then begin
    /// as drawn by `seed`.
    pub(crate) fn from_weights(weights: &'a Weights, prefix: &'a str, optional: &'a [&'a str], seed: u64) -> Self {
        Self { weights: Some(weights), prefix, optional, ..Self::random(seed) }
    }

    /// Parameters at random.
    pub(crate) fn random(seed: u64) -> Self {
        Self {
            weights: None,
            adapter: None,
            tuning: Tuning::Whole,
            placement: Placement::inference(Device::Cpu),
            activations: Activations::Plain,
            heads: &[],
            seed,
            pieces: Pieces::default(),
            missing: Vec::new(),
            misshapen: Vec::new(),
            used: BTreeSet::new(),
            optional: &[],
            prefix: "",
            other_names: &[],
        }
    }

    /// The same where files may have other names for some tensors: ours first.
    pub(crate) fn with_other_names(self, other_names: &'a [(&'a str, &'a str)]) -> Self {
        Self { other_names, ..self }
    }

    /// The same where these modules are the model's head.
    pub(crate) fn with_heads(self, heads: &'a [&'a str]) -> Self {
        Self { heads, ..self }
    }

    /// The same with what was stored beside the weights, with what a tuning brings, and for a place.
    pub(crate) fn tuned(self, stored: &'a Stored, tuning: &Tuning, placement: &Placement) -> Self {
        let (adapter, activations) = (stored.adapter.as_ref(), stored.activations);
        Self { adapter, activations, tuning: tuning.clone(), placement: *placement, ..self }
    }

    /// A parameter that is computed with in f32, whatever the rest is, and that weight decay does not apply to.
    pub(crate) fn precise(&mut self, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
        let tensor = self.part(name, shape, init)?;
        if !self.tuning.trains(self.is_head(name)) {
            return Ok(self.constant(name, tensor));
        }
        let parts = vec![Part { name: name.to_owned(), height: shape[0] }];
        self.pieces.list.push(Parameter::new(parts, shape.to_vec(), false, tensor.shallow_clone()).precise());
        Ok(tensor)
    }

    /// Floating-point numbers that never train; they stay in f32.
    pub(crate) fn frozen(&mut self, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
        let tensor = self.part(name, shape, init)?;
        Ok(self.constant(name, tensor))
    }

    /// A table of whole numbers, i32; all zero where there are no weights.
    pub(crate) fn table(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let zeros = Tensor::f_zeros(shape, (Kind::Int, Device::Cpu))?;
        let tensor = match self.weights.filter(|weights| weights.contains(name)) {
            Some(weights) if weights.shape(name) == Some(shape) => weights.whole_numbers(name)?,
            Some(weights) => {
                self.misshapen.push(format!("{name} is {:?} and should be {shape:?}", weights.shape(name).unwrap_or_default()));
                zeros
            }
            None => {
                if self.weights.is_some() {
                    self.missing.push(name.to_owned());
                }
                zeros
            }
        };
        self.used.insert(name.to_owned());
        Ok(self.constant(name, tensor))
    }

    fn constant(&mut self, name: &str, tensor: Tensor) -> Tensor {
        self.pieces.constants.push(Constant::new(name.to_owned(), tensor.shallow_clone()));
        tensor
    }

    /// Whether a tensor belongs to the head.
    fn is_head(&self, name: &str) -> bool {
        self.heads.contains(&name.rsplit_once('.').map_or(name, |(module, _)| module))
    }

    /// A parameter: a leaf whose values [`Builder::finish`] may move to another place and kind.
    pub(crate) fn tensor(&mut self, wanted: &Wanted<'_>) -> Result<Tensor> {
        let (parts, shape) = wanted.parts();
        let values = self.values(wanted, &shape)?;
        let trains = self.tuning.trains(wanted.names.iter().all(|name| self.is_head(name)));
        Ok(self.place(parts, wanted, &values, trains)?)
    }

    /// The values of a parameter, cut up by its names.
    fn values(&mut self, wanted: &Wanted<'_>, shape: &[i64]) -> Result<Vec<Tensor>> {
        wanted.names.iter().enumerate().map(|(at, name)| self.part(name, shape, wanted.init(at))).collect()
    }

    /// Makes a parameter of values, or a constant where it does not train.
    fn place(&mut self, parts: Vec<Part>, wanted: &Wanted<'_>, values: &[Tensor], trains: bool) -> Result<Tensor> {
        let tensor = joined(values)?;
        if trains {
            self.pieces.list.push(Parameter::new(parts, wanted.shape.to_vec(), wanted.decay, tensor.shallow_clone()));
        } else {
            self.pieces.constants.push(Constant::frozen(parts, tensor.shallow_clone()));
        }
        Ok(tensor)
    }

    /// The weights of a linear map in whatever form they were stored, with the adapters or the mask that a tuning brings.
    pub(crate) fn matrix(&mut self, wanted: &Wanted<'_>, role: Role) -> Result<Matrix> {
        let role = if wanted.names.iter().all(|name| self.is_head(name)) { Role::Head } else { role };
        let (parts, shape) = wanted.parts();
        for name in wanted.names {
            self.pieces.sites.push(Site { name: name.clone(), stack: wanted.names[0].clone(), role, shape: [shape[0], wanted.shape[1]] });
        }
        let weight = self.weight(wanted, role, parts)?;
        let adapters = self.adapters(wanted, role)?;
        Ok(Matrix::new(wanted.names.first().cloned().unwrap_or_default(), weight, adapters))
    }

    fn weight(&mut self, wanted: &Wanted<'_>, role: Role, parts: Vec<Part>) -> Result<Weight> {
        let (_, shape) = wanted.parts();
        if let Some(packed) = self.packed(wanted, role)? {
            return Ok(Weight::Packed(packed));
        }
        let values = self.values(wanted, &shape)?;
        let masks = wanted.names.iter().map(|name| self.stored_mask(name, &shape)).collect::<Result<Vec<_>>>()?;
        let chosen: Vec<Option<Masking>> = wanted.names.iter().map(|name| self.tuning.mask(module(name), role).cloned()).collect();
        if let Some(at) = (0..parts.len()).find(|&at| chosen[at].is_some() && masks[at].is_some()) {
            return Err(NnError::Fit(format!("{} is pruned already", wanted.names[at])));
        }
        let head = role == Role::Head;
        let trains = self.tuning.trains(head);
        let weight = self.place(parts.clone(), wanted, &values, trains)?;
        if masks.iter().all(Option::is_none) && chosen.iter().all(Option::is_none) {
            return Ok(Weight::Dense(weight));
        }
        let all = |mask: Option<Tensor>| mask.map_or_else(|| Ok(Tensor::f_ones(&shape, (Kind::Bool, Device::Cpu))?), Ok);
        let mask = joined(&masks.into_iter().map(all).collect::<Result<Vec<_>>>()?)?;
        self.masked(&parts, &chosen, weight, mask)
    }

    /// A matrix of which some parts are stored in few bits; none where none is.
    fn packed(&mut self, wanted: &Wanted<'_>, role: Role) -> Result<Option<PackedWeight>> {
        let (parts, shape) = wanted.parts();
        let quantized = parts.iter().map(|part| self.quantized(&part.name)).collect::<Result<Vec<_>>>()?;
        if quantized.iter().all(Option::is_none) {
            return Ok(None);
        }
        let mut rows = Vec::with_capacity(parts.len());
        for (part, quantized) in parts.iter().zip(quantized) {
            if self.tuning.mask(module(&part.name), role).is_some() {
                return Err(NnError::Fit(format!("{} is quantized, and has no single weights to leave out", part.name)));
            }
            rows.push(match quantized {
                Some(weight) if weight.shape() != shape[..] => {
                    self.misshapen.push(format!("{} is {:?} and should be {shape:?}", part.name, weight.shape()));
                    continue;
                }
                Some(weight) => {
                    let weight = Arc::new(weight.to_device(self.placement.device)?);
                    self.pieces.packed.push((part.name.clone(), Arc::clone(&weight)));
                    PackedPart::Quantized(weight)
                }
                None => {
                    let tensor = self.part(&part.name, &shape, wanted.init(0))?;
                    self.pieces.constants.push(Constant::frozen(vec![part.clone()], tensor.shallow_clone()));
                    PackedPart::Dense(tensor)
                }
            });
        }
        let place = (self.placement.kind, self.placement.device);
        Ok(Some(PackedWeight::new(rows, [wanted.shape[0], wanted.shape[1]], place, self.activations)))
    }

    /// A tensor that is stored in few bits; none where it is not.
    fn quantized(&mut self, name: &str) -> Result<Option<Quantized>> {
        let Some((weights, found)) = self.weights.zip(self.find(name)) else { return Ok(None) };
        let Some(weight) = Quantized::open(weights, &found)? else { return Ok(None) };
        self.used.extend(weight.tensors(&found).into_iter().map(|(name, _)| name));
        Ok(Some(weight))
    }

    /// A matrix with weights left out, and the scores that a tuning brings.
    fn masked(&mut self, parts: &[Part], chosen: &[Option<Masking>], weight: Tensor, mask: Tensor) -> Result<Weight> {
        let width = weight.size()[1];
        let (mut start, mut masked) = (0, Vec::with_capacity(parts.len()));
        for (part, masking) in parts.iter().zip(chosen) {
            let mut scores = None;
            if let Some(masking) = masking.as_ref().filter(|masking| masking.scores) {
                let tensor = Tensor::f_zeros([part.height, width], (Kind::Float, Device::Cpu))?;
                let named = vec![Part { name: format!("{}.scores", part.name), height: part.height }];
                let parameter = Parameter::new(named, vec![part.height, width], false, tensor.shallow_clone());
                self.pieces.list.push(parameter.precise().at_rate(masking.score_rate));
                scores = Some(tensor);
            }
            let (shared, scored) = ((weight.shallow_clone(), mask.shallow_clone()), scores.as_ref().map(Tensor::shallow_clone));
            let (weight, mask) = shared;
            let learnt = masking.is_some();
            self.pieces.masks.push(Mask { name: part.name.clone(), start, height: part.height, weight, mask, scores: scored, learnt });
            masked.push(MaskedPart { start, height: part.height, scores });
            start += part.height;
        }
        Ok(Weight::Masked(Masked::new(weight, mask, masked)))
    }

    /// The mask that a tensor was stored with.
    fn stored_mask(&mut self, name: &str, shape: &[i64]) -> Result<Option<Tensor>> {
        let Some((weights, found)) = self.weights.zip(self.find(name)).filter(|(weights, found)| Pruned::is_in(weights, found)) else {
            return Ok(None);
        };
        let mask = Pruned::open(weights, &found)?.mask;
        Ok((mask.size() == shape).then_some(mask))
    }

    /// The adapters of a matrix: those of a file, and those that a tuning brings.
    fn adapters(&mut self, wanted: &Wanted<'_>, role: Role) -> Result<Option<Adapters>> {
        let (parts, _) = wanted.parts();
        let (mut downs, mut down_parts, mut ups, mut adapted) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut start, mut dropout) = (0, 0.0);
        for part in &parts {
            let module = module(&part.name);
            let stored = self.adapter.map(|file| file.module(module)).transpose()?.flatten();
            let lora = self.tuning.adapters(module, role).cloned();
            let values = match (stored, lora) {
                (None, None) => None,
                (Some(_), Some(_)) => return Err(NnError::Fit(format!("{module} has an adapter already"))),
                (Some(stored), None) => Some(stored),
                (None, Some(lora)) => {
                    dropout = lora.dropout;
                    Some(self.fresh_adapter(module, (part.height, wanted.shape[1]), &lora)?)
                }
            };
            if let Some(values) = values {
                self.used.insert(module.to_owned());
                let rank = values.down.size()[0];
                if values.down.size() != [rank, wanted.shape[1]] || values.up.size() != [part.height, rank] {
                    let (down, up) = (values.down.size(), values.up.size());
                    self.misshapen.push(format!("the adapter of {module} is {up:?} {down:?}, its matrix [{}, {}]", part.height, wanted.shape[1]));
                } else {
                    down_parts.push(Part { name: format!("{module}.lora_A.weight"), height: rank });
                    adapted.push(part.name.clone());
                    downs.push(values.down);
                    ups.push(self.up(module, start, values.up, values.magnitude, values.scale));
                }
            }
            start += part.height;
        }
        if downs.is_empty() {
            return Ok(None);
        }
        let down = joined(&downs)?;
        self.pieces.put(down_parts, &down, matches!(self.tuning, Tuning::Adapters(_)));
        let adapters = Adapters::new(down, ups, wanted.shape[0], dropout);
        self.pieces.adapted.push((adapted, adapters.shared()));
        Ok(Some(adapters))
    }

    fn up(&mut self, module: &str, start: i64, weight: Tensor, magnitude: Option<Tensor>, scale: f64) -> Up {
        let trains = matches!(self.tuning, Tuning::Adapters(_));
        let mut put = |name: &str, tensor: &Tensor| {
            let parts = vec![Part { name: format!("{module}.{name}"), height: tensor.size()[0] }];
            self.pieces.put(parts, tensor, trains);
        };
        put("lora_B.weight", &weight);
        if let Some(length) = &magnitude {
            put("lora_magnitude_vector", length);
        }
        Up { start, weight, scale, magnitude }
    }

    /// An adapter at its beginning: A as torch begins a linear map (Kaiming He et al. 2015, with a = √5), B zero, and the lengths that the rows have.
    fn fresh_adapter(&mut self, module: &str, (out, inputs): (i64, i64), lora: &Lora) -> Result<crate::adapter_file::Stored> {
        if lora.rank > out.min(inputs) {
            return Err(NnError::Fit(format!("rank {} is larger than the matrix of {module}, [{out}, {inputs}]", lora.rank)));
        }
        #[allow(clippy::cast_precision_loss)]
        let even = Init::Uniform((inputs as f64).sqrt().recip());
        let down = self.drawn(&format!("{module}.lora_A.weight"), &[lora.rank, inputs], even)?;
        let up = Tensor::f_zeros([out, lora.rank], (Kind::Float, Device::Cpu))?;
        let magnitude = if lora.decomposed { Some(self.lengths_of(module, &[out, inputs])?) } else { None };
        Ok(crate::adapter_file::Stored { down, up, magnitude, scale: lora.scale() })
    }

    /// The lengths of the rows of a module's matrix, as it is stored.
    fn lengths_of(&mut self, module: &str, shape: &[i64]) -> Result<Tensor> {
        let name = if self.pieces.sites.iter().any(|site| site.name == module) { module.to_owned() } else { format!("{module}.weight") };
        let packed = self.pieces.packed.iter().find(|(packed, _)| *packed == name).map(|(_, weight)| Arc::clone(weight));
        let weight = packed.map_or_else(|| self.part(&name, shape, Init::Zeros), |weight| Ok(weight.dequantize(Kind::Float)?.f_to(Device::Cpu)?))?;
        Ok(weight.f_norm_scalaropt_dim(2.0, 1_i64, false)?)
    }

    /// One named tensor.
    fn part(&mut self, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
        if let Some(tensor) = self.adapter.map(|file| file.whole(name)).transpose()?.flatten() {
            self.used.insert(name.to_owned());
            return self.fitting(name, shape, tensor);
        }
        let Some(weights) = self.weights else { return self.drawn(name, shape, init) };
        let Some(found) = self.find(name) else {
            self.missing.push(name.to_owned());
            return self.drawn(name, shape, init);
        };
        self.used.insert(found.clone());
        if Pruned::is_in(weights, &found) {
            self.used.extend(Pruned::names(&found));
            return self.fitting(&found, shape, Pruned::open(weights, &found)?.weight);
        }
        let stored = weights.shape(&found).unwrap_or_default();
        if stored != shape {
            return self.fitting(&found, shape, Tensor::f_zeros(stored, (Kind::Float, Device::Cpu))?);
        }
        weights.floats(&found)
    }

    /// A tensor, where it has the right shape; else zeros, and it is told in the end.
    fn fitting(&mut self, name: &str, shape: &[i64], tensor: Tensor) -> Result<Tensor> {
        let size = tensor.size();
        if size == shape {
            return Ok(tensor);
        }
        self.misshapen.push(format!("{name} is {size:?} and should be {shape:?}"));
        Ok(Tensor::f_zeros(shape, (Kind::Float, Device::Cpu))?)
    }

    /// The name that the file has for a tensor, where it has it.
    fn find(&self, name: &str) -> Option<String> {
        let weights = self.weights?;
        let bare = name.strip_prefix(self.prefix).unwrap_or(name);
        let others = self.other_names.iter().filter(|(ours, _)| *ours == name).map(|&(_, theirs)| theirs);
        let there = |name: &&str| weights.contains(name) || Pruned::is_in(weights, name);
        [name, bare].into_iter().chain(others).find(there).map(str::to_owned)
    }

    /// A tensor at random: what it is depends on the seed and its name alone, not on what was drawn before.
    fn drawn(&self, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
        let empty = || Tensor::f_zeros(shape, (Kind::Float, Device::Cpu));
        if matches!(init, Init::Normal(_) | Init::Uniform(_) | Init::Steps { .. }) {
            shim::seed(Device::Cpu, mix(self.seed, hash(name)))?;
        }
        Ok(match init {
            Init::Zeros => empty()?,
            Init::Ones => empty()?.f_fill_(1.0)?,
            Init::Filled(value) => empty()?.f_fill_(value)?,
            Init::ForgetGate => {
                let whole = empty()?;
                let part = shape[0] / 4;
                let _same = whole.f_narrow(0, part, part)?.f_fill_(1.0)?;
                whole
            }
            Init::Normal(deviation) => empty()?.f_normal_(0.0, deviation)?,
            Init::Uniform(bound) => empty()?.f_uniform_(-bound, bound)?,
            Init::Logarithms => {
                let numbers = Tensor::f_arange_start(1, shape.last().unwrap_or(&0) + 1, (Kind::Float, Device::Cpu))?;
                numbers.f_log()?.f_expand(shape, false)?.f_contiguous()?
            }
            Init::Steps { least, most, floor } => {
                let steps = empty()?.f_uniform_(least.ln(), most.ln())?.f_exp()?.f_clamp_min(floor)?;
                // The inverse of softplus, exact also for small numbers.
                steps.f_add(&steps.f_neg()?.f_expm1()?.f_neg()?.f_log()?)?
            }
        })
    }

    /// All parameters, where and as they are to be used, and what became of the names. `ignored` are beginnings of names that a file may
    /// have besides.
    pub(crate) fn finish(self, placement: &Placement, ignored: &[&str]) -> Result<(Parameters, LoadReport)> {
        let report = self.report(ignored)?;
        if let Some((name, _)) = self.pieces.packed.first().filter(|_| placement.train && self.tuning == Tuning::Whole) {
            return Err(NnError::Fit(format!("{name} is quantized, and quantized weights do not train: adapt the model with lora-adapt")));
        }
        if placement.train && self.adapter.is_some() {
            return Err(NnError::Fit("the model is an adapter beside frozen weights, and has to be merged before it trains further".into()));
        }
        self.tuning.check(self.pieces.sites.iter().map(|site| (site.module(), site.role)))?;
        Ok((Parameters::new(self.pieces, &self.tuning, placement)?, report))
    }

    /// Whether a tensor of an adapter's file has found its place.
    fn places(&self, name: &str) -> bool {
        let of_module = [".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"].iter().find_map(|end| name.strip_suffix(end));
        self.used.contains(of_module.unwrap_or(name))
    }

    fn report(&self, ignored: &[&str]) -> Result<LoadReport> {
        let Some(weights) = self.weights else { return Ok(LoadReport::default()) };
        let optional = |name: &&String| self.optional.iter().any(|start| name.starts_with(start));
        let missing: Vec<&String> = self.missing.iter().filter(|name| !optional(name)).collect();
        let mut wrong: BTreeMap<&str, String> = BTreeMap::new();
        if !missing.is_empty() {
            wrong.insert("missing", listed(&missing));
        }
        if !self.misshapen.is_empty() {
            wrong.insert("of another shape", listed(&self.misshapen));
        }
        let adapter = self.adapter.map(|file| file.unplaced(|name| self.places(name))).unwrap_or_default();
        if !adapter.is_empty() {
            wrong.insert("of an adapter and not of the model", listed(&adapter));
        }
        if !wrong.is_empty() {
            let text: Vec<String> = wrong.iter().map(|(what, names)| format!("{what}: {names}")).collect();
            return Err(NnError::Fit(format!("{} ({})", text.join("; "), weights.path().display())));
        }
        let bare = |name: &str| name.strip_prefix(self.prefix).unwrap_or(name).to_owned();
        let known = |name: &&str| self.used.contains(*name) || ignored.iter().any(|start| bare(name).starts_with(start));
        let unused = weights.names().filter(|name| !known(name)).map(str::to_owned).collect();
        Ok(LoadReport { initialised: self.missing.clone(), unused })
    }
}

/// The module that a tensor is the weight of.
pub(crate) fn module(name: &str) -> &str {
    name.strip_suffix(".weight").unwrap_or(name)
}

/// Tensors one below the other.
fn joined(parts: &[Tensor]) -> Result<Tensor> {
    if let [part] = parts { Ok(part.shallow_clone()) } else { Ok(Tensor::f_cat(parts, 0)?) }
}

/// The first few of some names, and how many more there are.
fn listed<T: AsRef<str>>(names: &[T]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    let rest = names.len().saturating_sub(SHOWN);
    if rest == 0 { shown.join(", ") } else { format!("{} and {rest} more", shown.join(", ")) }
}

/// A number for a name (FNV-1a, 64 bits).
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}
