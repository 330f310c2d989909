//! Where parameters are.

use tch::{Device, Kind};

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
