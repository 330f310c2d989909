//! The stage kinds of qapipe: what each declares, and all of their work that needs no tensors.
//!
//! [`KINDS`] is the one list of kinds. The rest is what stages are made of: reading data sets ([`squad_json`], [`squad_parquet`],
//! [`sample`], [`hub`]), the tables that stages hand to one another ([`examples`], [`features`]), tokenizers, word vectors and windows
//! ([`tokenizer`], [`vectors`], [`windows`]), the official metric and the way to an answer ([`metric`], [`postprocess`], [`bootstrap`]),
//! and the result tables ([`tables`]).

mod arrow_file;
pub mod bootstrap;
mod error;
pub mod examples;
pub mod features;
pub mod form;
pub mod hub;
pub mod kinds;
pub mod metric;
pub mod postprocess;
pub mod prompts;
pub mod python;
pub mod refusal;
pub mod sample;
pub mod split;
pub mod squad_json;
pub mod squad_parquet;
pub mod tables;
pub mod template;
pub mod text_features;
pub mod texts;
pub mod tokenizer;
pub mod vectors;
pub mod windows;

pub use error::Error;
pub use kinds::{KINDS, evaluate};
