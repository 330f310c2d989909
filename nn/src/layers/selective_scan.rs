//! The selective scan: a recurrence along each sequence whose coefficients depend on the input (Gu and Dao 2023, arXiv 2312.00752).

use tch::Tensor;

use crate::error::Result;
use crate::shim;

/// What a selective scan takes. Those that are `[tokens, ...]` are of one kind, f32 or bf16, and their rows may lie apart; the others are
/// f32 and contiguous.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// The input x, `[tokens, channels]`.
    pub input: &'a Tensor,
    /// The step sizes Δ before their bias and softplus, `[tokens, channels]`.
    pub step: &'a Tensor,
    /// The gate z, `[tokens, channels]`.
    pub gate: &'a Tensor,
    /// How the input enters the state: B, `[tokens, state]`.
    pub entry: &'a Tensor,
    /// How the state is read: C, `[tokens, state]`.
    pub exit: &'a Tensor,
    /// How fast the state decays, as a logarithm: A = -exp of it, `[channels, state]`.
    pub decay_log: &'a Tensor,
    /// What passes by the state: D, `[channels]`.
    pub skip: &'a Tensor,
    /// The bias of the step sizes, `[channels]`.
    pub step_bias: &'a Tensor,
    /// Where each sequence begins, and the total, i32 `[sequences + 1]`.
    pub ends: &'a Tensor,
    /// The states `[sequences, channels, state]` that the sequences begin with, overwritten by those that they end with; they begin with
    /// zero where there are none. Only without gradients.
    pub state: Option<&'a Tensor>,
}

/// How a selective scan is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScanWay {
    /// By the device's own kernel where there is one, else by plain tensor operations.
    #[default]
    Best,
    /// By plain tensor operations: chunks of so many tokens (about the root of their number where it is not said) side by side, and then
    /// what each hands on to the next.
    Plain {
        /// Tokens of a chunk.
        chunk: Option<i64>,
    },
    /// By the device's own kernel, or not at all.
    Kernel,
}

/// y of h_t = exp(Δ A) h_{t-1} + Δ B x and y = (C h + D x) · silu(z), with Δ = softplus(step + bias), along each sequence by itself. The
/// arithmetic is in f32, whatever the kind. Gives `[tokens, channels]`, with its gradient.
///
/// # Errors
/// Where shapes or kinds do not fit, there is no kernel and nothing else will do, and what libtorch reports.
pub fn selective_scan(scan: &Scan<'_>, way: ScanWay) -> Result<Tensor> {
    let (way, chunk) = match way {
        ScanWay::Best => (0, 0),
        ScanWay::Plain { chunk } => (1, chunk.unwrap_or(0)),
        ScanWay::Kernel => (2, 0),
    };
    let Scan { input, step, gate, entry, exit, decay_log, skip, step_bias, ends, state } = *scan;
    shim::selective_scan([input, step, gate, entry, exit, decay_log, skip, step_bias, ends], state, way, chunk)
}
