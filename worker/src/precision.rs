//! Where a stage computes, and in what.

use qapipe_engine::StageCx;
use qapipe_nn::{Placement, device};
use serde::Deserialize;
use tch::{Device, Kind};

use crate::error::Error;

/// What a model computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// bf16 on CUDA, fp32 on the CPU.
    #[default]
    Auto,
    /// 32-bit floating point.
    Fp32,
    /// 16-bit brain floating point.
    Bf16,
}

impl Precision {
    /// Where parameters go that train.
    pub fn training(self, place: Device) -> Placement {
        self.of(Placement::training(place))
    }

    /// Where parameters go that only answer.
    pub fn inference(self, place: Device) -> Placement {
        self.of(Placement::inference(place))
    }

    fn of(self, placement: Placement) -> Placement {
        match self {
            Self::Auto => placement,
            Self::Fp32 => placement.with_kind(Kind::Float),
            Self::Bf16 => placement.with_kind(Kind::BFloat16),
        }
    }
}

/// Finds a stage's device and sets libtorch up for it: threads, and exact repetition where it is asked for.
///
/// # Errors
/// Where the device is not there.
pub fn prepare(cx: &StageCx<'_>) -> Result<Device, Error> {
    let place = device::resolve(&cx.request.device)?;
    device::set_threads(cx.request.threads);
    device::set_deterministic(cx.request.strict)?;
    // What the stages before held is none of this one's.
    device::reset_peak_memory(place)?;
    cx.reporter.fact("device", &name(place));
    cx.reporter.fact("libtorch", device::LIBTORCH);
    cx.reporter.fact("threads", &cx.request.threads.to_string());
    Ok(place)
}

/// The number of a CUDA device.
pub fn index(place: Device) -> Option<usize> {
    match place {
        Device::Cuda(index) => Some(index),
        _ => None,
    }
}

/// The word for a kind of number in results.
pub fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::BFloat16 => "bf16",
        Kind::Half => "fp16",
        _ => "fp32",
    }
}

/// A device's name for results: the GPU's own, or `cpu`.
pub fn name(place: Device) -> String {
    let Some(index) = index(place) else { return "cpu".to_owned() };
    device::name(place).unwrap_or_else(|| format!("cuda:{index}"))
}
