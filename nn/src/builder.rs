//! Making a model's parameters: from weights by name, or at random.

use std::collections::{BTreeMap, BTreeSet};

use tch::{Device, Kind, Tensor};

use crate::error::{NnError, Result};
use crate::forward::mix;
use crate::parameters::{Constant, Parameter, Parameters, Part, Placement};
use crate::shim;
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
    /// How the part of a number begins.
    fn init(&self, part: usize) -> Init {
        self.inits.get(part).or(self.inits.first()).copied().unwrap_or(Init::Zeros)
    }
}

/// Makes parameters, one after the other, and remembers them.
pub(crate) struct Builder<'a> {
    weights: Option<&'a Weights>,
    seed: u64,
    parameters: Vec<Parameter>,
    constants: Vec<Constant>,
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
        let (parameters, missing, misshapen, used) = (Vec::new(), Vec::new(), Vec::new(), BTreeSet::new());
        Self {
            weights: None,
            seed,
            parameters,
            constants: Vec::new(),
            missing,
            misshapen,
            used,
            optional: &[],
            prefix: "",
            other_names: &[],
        }
    }

    /// The same where files may have other names for some tensors: ours first.
    pub(crate) fn with_other_names(self, other_names: &'a [(&'a str, &'a str)]) -> Self {
        Self { other_names, ..self }
    }

    /// A parameter that is computed with in f32, whatever the rest is, and that weight decay does not apply to.
    pub(crate) fn precise(&mut self, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
        let tensor = self.tensor(&Wanted { names: &[name.to_owned()], shape, inits: &[init], decay: false })?;
        if let Some(parameter) = self.parameters.last_mut() {
            parameter.set_precise();
        }
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
        self.constants.push(Constant::new(name.to_owned(), tensor.shallow_clone()));
        tensor
    }

    /// A parameter: a leaf whose values [`Builder::finish`] may move to another place and kind.
    pub(crate) fn tensor(&mut self, wanted: &Wanted<'_>) -> Result<Tensor> {
        let height = wanted.shape[0] / crate::packed::signed(wanted.names.len().max(1));
        let mut shape = wanted.shape.to_vec();
        shape[0] = height;
        let parts =
            wanted.names.iter().enumerate().map(|(at, name)| self.part(name, &shape, wanted.init(at))).collect::<Result<Vec<_>>>()?;
        let tensor = if parts.len() == 1 { parts[0].shallow_clone() } else { Tensor::f_cat(&parts, 0)? };
        let parts = wanted.names.iter().map(|name| Part { name: name.clone(), height }).collect();
        self.parameters.push(Parameter::new(parts, wanted.shape.to_vec(), wanted.decay, tensor.shallow_clone()));
        Ok(tensor)
    }

    /// One named tensor.
    fn part(&mut self, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
        let Some(weights) = self.weights else { return self.drawn(name, shape, init) };
        let bare = name.strip_prefix(self.prefix).unwrap_or(name);
        let others = self.other_names.iter().filter(|(ours, _)| *ours == name).map(|&(_, theirs)| theirs);
        let Some(found) = [name, bare].into_iter().chain(others).find(|name| weights.contains(name)) else {
            self.missing.push(name.to_owned());
            return self.drawn(name, shape, init);
        };
        self.used.insert(found.to_owned());
        let stored = weights.shape(found).unwrap_or_default();
        if stored != shape {
            self.misshapen.push(format!("{found} is {stored:?} and should be {shape:?}"));
            return Ok(Tensor::f_zeros(shape, (Kind::Float, Device::Cpu))?);
        }
        weights.floats(found)
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
        Ok((Parameters::new(self.parameters, self.constants, placement)?, report))
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
