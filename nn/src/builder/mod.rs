//! Making a model's parameters: from weights by name, or at random.

mod adapters;
mod init;
mod lookup;
mod masked;
mod packed;
mod report;
mod wanted;

use std::collections::BTreeSet;
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use crate::adapter_file::AdapterFile;
use crate::error::Result;
use crate::layers::{Activations, Matrix, Weight};
use crate::models::Stored;
use crate::parameters::{Constant, Parameter, Part, Pieces, Placement, Site};
use crate::resident::Resident;
use crate::select::Role;
use crate::tuning::Tuning;
use crate::weights::Weights;

pub(crate) use init::Init;
pub use report::LoadReport;
pub(crate) use wanted::Wanted;

/// Makes parameters, one after the other, and remembers them.
pub(crate) struct Builder<'a> {
    weights: Option<&'a Weights>,
    adapter: Option<&'a AdapterFile>,
    tuning: Tuning,
    /// Where and in what kind quantized matrices are multiplied, and with what.
    placement: Placement,
    activations: Activations,
    /// The weights, where another model holds them in memory.
    resident: Option<Rc<Resident>>,
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
            resident: None,
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
        let (adapter, activations, resident) = (stored.adapter.as_ref(), stored.activations, stored.resident.clone());
        Self { adapter, activations, resident, tuning: tuning.clone(), placement: *placement, ..self }
    }

    /// A parameter that is computed with in f32, whatever the rest is, and that weight decay does not apply to.
    pub(crate) fn precise(&mut self, name: &str, shape: &[i64], init: Init) -> Result<Tensor> {
        if let Some(shared) = self.shared(&[name.to_owned()], shape) {
            return Ok(shared);
        }
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
        if let Some(shared) = self.shared(&[name.to_owned()], shape) {
            return Ok(shared);
        }
        let tensor = self.part(name, shape, init)?;
        Ok(self.constant(name, tensor))
    }

    /// A table of whole numbers, i32; all zero where there are no weights.
    pub(crate) fn table(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        if let Some(shared) = self.shared(&[name.to_owned()], shape) {
            return Ok(shared);
        }
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
        if let Some(shared) = self.shared(wanted.names, wanted.shape) {
            return Ok(shared);
        }
        let (parts, shape) = wanted.parts();
        let values = self.values(wanted, &shape)?;
        let trains = self.tuning.trains(wanted.names.iter().all(|name| self.is_head(name)));
        self.place(parts, wanted, &values, trains)
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

    /// The weights of a linear map: in few bits, with weights left out, or as they are.
    fn weight(&mut self, wanted: &Wanted<'_>, role: Role, parts: Vec<Part>) -> Result<Weight> {
        if let Some(packed) = self.packed(wanted, role)? {
            return Ok(Weight::Packed(packed));
        }
        let (_, shape) = wanted.parts();
        let decisions = self.decisions(wanted, &shape, role)?;
        let undecided = decisions.iter().all(masked::Decision::is_none);
        if let Some(shared) = undecided.then(|| self.shared(wanted.names, wanted.shape)).flatten() {
            return Ok(Weight::Dense(shared));
        }
        let values = self.values(wanted, &shape)?;
        let weight = self.place(parts.clone(), wanted, &values, self.tuning.trains(role == Role::Head))?;
        if undecided {
            return Ok(Weight::Dense(weight));
        }
        self.masked(&parts, decisions, weight)
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
