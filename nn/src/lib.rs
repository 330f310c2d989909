//! Tensors for qapipe: layers, models, weights and attention, on libtorch. Nothing else in the workspace makes or runs a network.
//!
//! [`Weights`] come from a safetensors file by mmap; a model of [`models`] is built from them, or at random; its input is [`Packed`]; a
//! [`Forward`] says how it runs; its [`Parameters`] are what [`AdamW`] trains. A model computes in f32 on the CPU, where results are the
//! same bit for bit for one seed and one number of threads, and in bf16 with f32 masters on CUDA.

mod adamw;
mod adapter_file;
mod adapter_patterns;
pub mod bench;
mod builder;
pub mod device;
mod distance;
mod error;
mod forward;
mod generate;
mod layers;
mod loss;
mod masks;
pub mod models;
mod packed;
mod pairs;
mod parameters;
pub mod parity;
mod pruned;
mod pruning;
pub mod quant;
mod recorder;
mod resident;
mod select;
mod shim;
mod tuning;
mod watch;
pub mod weights;

pub use adamw::{AdamW, AdamWConfig};
pub use adapter_file::{ADAPTER_CONFIG, ADAPTER_WEIGHTS, AdapterConfig, AdapterFile, save_adapter};
pub use builder::LoadReport;
pub use distance::{Matching, attention_distance, state_distance};
pub use error::{NnError, Result};
pub use forward::Forward;
pub use generate::{Generated, Limits, greedy, greedy_beside};
pub use layers::{Activations, Scan, ScanWay, selective_scan};
pub use loss::{distillation, span_distillation, span_loss};
pub use models::{
    AnyModel, BertConfig, BertForQuestionAnswering, Decoding, LstmAttention, LstmConfig, LstmForQuestionAnswering, LstmHead, MambaConfig,
    MambaForCausalLm, Network, Reader, SpanLogits, T5Config, T5ForConditionalGeneration, Writer,
};
pub use packed::Packed;
pub use pairs::{Form, Pairs};
pub use parameters::{Parameters, Placement, Site, Snapshot};
pub use pruning::{Budget, Pruner, Worth};
pub use recorder::{Recorder, Stack, Wanted};
pub use resident::Resident;
pub use select::{Role, Selection};
pub use tuning::{Lora, Masking, Tuning};
pub use watch::Watch;
pub use weights::{Weights, WeightsError};
