//! Tensors for qapipe: layers, models, weights and attention, on libtorch. Nothing else in the workspace makes or runs a network.
//!
//! [`Weights`] come from a safetensors file by mmap; a model of [`models`] is built from them, or at random; its input is [`Packed`]; a
//! [`Forward`] says how it runs; its [`Parameters`] are what [`AdamW`] trains. A model computes in f32 on the CPU, where results are the
//! same bit for bit for one seed and one number of threads, and in bf16 with f32 masters on CUDA.

mod adamw;
pub mod bench;
mod builder;
pub mod device;
mod error;
mod forward;
mod generate;
mod layers;
mod loss;
pub mod models;
mod packed;
mod pairs;
mod parameters;
pub mod parity;
pub mod quant;
mod shim;
pub mod weights;

pub use adamw::{AdamW, AdamWConfig};
pub use builder::LoadReport;
pub use error::{NnError, Result};
pub use forward::Forward;
pub use generate::{Generated, Limits, greedy, greedy_beside};
pub use layers::{Scan, ScanWay, selective_scan};
pub use loss::span_loss;
pub use models::{
    AnyModel, BertConfig, BertForQuestionAnswering, Decoding, LstmAttention, LstmConfig, LstmForQuestionAnswering, LstmHead, MambaConfig,
    MambaForCausalLm, Network, Reader, SpanLogits, T5Config, T5ForConditionalGeneration, Writer,
};
pub use packed::Packed;
pub use pairs::{Form, Pairs};
pub use parameters::{Parameters, Placement, Snapshot};
pub use weights::{Weights, WeightsError};
