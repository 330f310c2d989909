//! What trains: a model's tensors, flat in memory, so that the optimiser, the norm and the copies each are one operation.

mod constant;
mod counts;
mod files;
mod gradient;
mod layout;
mod parameter;
mod penalty;
mod pieces;
mod placement;
mod site;
mod snapshot;
mod values;

use std::cell::RefCell;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use crate::builder::module;
use crate::error::{NnError, Result};
use crate::layers::Adapters;
use crate::masks::Mask;
use crate::quant::Quantized;
use crate::shim::Places;
use crate::tuning::Tuning;

pub(crate) use constant::Constant;
use gradient::Gradient;
pub(crate) use layout::Segment;
use layout::{Layout, lay_out};
pub(crate) use parameter::{Parameter, Part};
pub(crate) use pieces::Pieces;
pub use placement::Placement;
pub use site::Site;
pub use snapshot::Snapshot;

/// How the names of scores end.
pub(crate) const SCORES: &str = ".scores";

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
    /// Where kernels find what weights are worth, with their masks; and scores, with their gradients.
    chosen: RefCell<Places>,
    charged: Places,
}

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
        let (gradient, placement, chosen, charged) = (None, *placement, RefCell::default(), Places::default());
        let mut parameters =
            Self { list, constants, masks, adapted, packed, sites, master, working, apart, gradient, layout, placement, chosen, charged };
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

    /// The matrices that are quantized, by the names of their tensors.
    pub fn quantized(&self) -> impl Iterator<Item = &str> {
        self.packed.iter().map(|(name, _)| name.as_str())
    }

    /// What the model computes with, tensor by tensor, each by the name of the first of its parts; without what is quantized.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let list = self.list.iter().map(|parameter| (&parameter.parts, &parameter.tensor));
        let all = list.chain(self.constants.iter().map(|constant| (&constant.parts, &constant.tensor)));
        all.filter_map(|(parts, tensor)| Some((parts.first()?.name.as_str(), tensor)))
    }

    /// The matrices that are quantized, by the names of their tensors.
    pub(crate) fn packed(&self) -> impl Iterator<Item = (&str, &Arc<Quantized>)> {
        self.packed.iter().map(|(name, weight)| (name.as_str(), weight))
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

    /// Where kernels find what weights are worth.
    pub(crate) fn chosen(&self) -> &RefCell<Places> {
        &self.chosen
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
}
