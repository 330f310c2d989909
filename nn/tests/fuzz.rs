//! Damaged weights: refused with an error, or read within the file's bounds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use qapipe_fuzz::{Hunt, PeakAlloc};
use qapipe_nn::Weights;

#[global_allocator]
static METER: PeakAlloc = PeakAlloc;

#[test]
fn weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let header = br#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"I64","shape":[1],"data_offsets":[16,24]}}"#;
    let small = [&u64::try_from(header.len()).unwrap().to_le_bytes()[..], header, &[0; 24]].concat();
    let hunt = Hunt {
        name: "weights",
        corpus: vec![small, std::fs::read(common::fixture().join("model.safetensors")).unwrap()],
        words: &[
            "\"dtype\":",
            "\"BF16\"",
            "\"F16\"",
            "\"U8\"",
            "\"I32\"",
            "\"BOOL\"",
            "\"shape\":[",
            "\"data_offsets\":[",
            "__metadata__",
            "[]",
            "0,0",
        ],
        factor: 100,
        base: 1 << 20,
    };
    hunt.run(|bytes| {
        std::fs::write(&path, bytes).unwrap();
        match Weights::open(&path) {
            Ok(weights) => {
                let read = weights.names().filter(|name| weights.tensor(name).is_ok()).count();
                let floats = weights.names().filter(|name| weights.floats(name).is_ok()).count();
                format!("{read} {floats}")
            }
            Err(error) => error.to_string().replace(path.to_str().unwrap(), ""),
        }
    });
}
