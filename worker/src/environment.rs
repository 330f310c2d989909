//! What libtorch and the machine are, for `qapipe env` and for the rows of results.

use serde_json::{Value, json};

/// Everything that may explain a number or a failure, as JSON.
pub(crate) fn describe() -> Value {
    let info = qapipe_nn::device::info();
    json!({ "worker": env!("CARGO_PKG_VERSION"), "torch": info })
}
