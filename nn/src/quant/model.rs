//! Packing a model's matrices.

use tch::{Device, Kind, Tensor};

use super::{Int4, Int8, Nf4, Quantized};
use crate::error::{NnError, Result};
use crate::parameters::{Parameters, Site};
use crate::select::Selection;
use crate::watch::Watch;

/// What matrices are packed into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// NormalFloat of four bits, in blocks, the scales of blocks in eight bits where they are nested.
    Nf4 {
        /// Numbers that share a scale.
        block: i64,
        /// Whether the scales are quantized as well.
        nested: bool,
    },
    /// Eight bits a number, a scale a row.
    Int8,
    /// Four bits a number, a scale and a minimum for so many inputs of a row.
    Int4 {
        /// Numbers that share a scale.
        group: i64,
    },
}

impl Scheme {
    fn pack(self, weight: &Tensor, importance: Option<&Tensor>) -> Result<Quantized> {
        Ok(match self {
            Self::Nf4 { block, nested } => Quantized::Nf4(Nf4::quantize(weight, block, nested)?),
            Self::Int8 => Quantized::Int8(Int8::quantize(weight)?),
            Self::Int4 { group } => Quantized::Int4(Int4::quantize(weight, group, importance)?),
        })
    }
}

/// A model's tensors by the names that files have for them, and which matrices were packed.
#[derive(Debug)]
pub struct PackedModel {
    /// All tensors of the file.
    pub tensors: Vec<(String, Tensor)>,
    /// The modules whose matrices were packed.
    pub modules: Vec<String>,
    /// The modules whose matrices were left as they are.
    pub left: Vec<String>,
}

/// Packs the chosen matrices of a model, and brings what else it has into a kind of floating-point number. `watch` tells which inputs matter.
///
/// # Errors
/// Where nothing is chosen, or the model is quantized already.
pub fn pack_model(parameters: &Parameters, chosen: &Selection, scheme: Scheme, rest: Kind, watch: Option<&Watch>) -> Result<PackedModel> {
    if let Some(name) = parameters.quantized().next() {
        return Err(NnError::Fit(format!("the model is quantized already: {name}")));
    }
    let sites = parameters.sites();
    chosen.check(sites.iter().map(|site| (site.module(), site.role))).map_err(NnError::Fit)?;
    let (packed, left): (Vec<&Site>, Vec<&Site>) = sites.iter().partition(|site| chosen.takes(site.module(), site.role));
    let mut tensors = Vec::new();
    for name in parameters.names() {
        let value = parameters.as_it_is(name)?;
        match packed.iter().find(|site| site.name == name) {
            Some(site) => {
                let importance = watch.map(|watch| watch.mean_squares(&site.stack)).transpose()?.flatten();
                let importance = importance.map(|seen| seen.f_to(Device::Cpu)).transpose()?;
                tensors.extend(scheme.pack(&value, importance.as_ref())?.tensors(name));
            }
            None => {
                let kind = if value.is_floating_point() && !parameters.is_precise(name) { rest } else { value.kind() };
                tensors.push((name.to_owned(), value.f_to_kind(kind)?));
            }
        }
    }
    let modules = |sites: &[&Site]| sites.iter().map(|site| site.module().to_owned()).collect();
    Ok(PackedModel { tensors, modules: modules(&packed), left: modules(&left) })
}
