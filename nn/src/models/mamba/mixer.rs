//! A layer of Mamba.

use tch::{Kind, Tensor};

use crate::builder::{Builder, Init};
use crate::error::{NnError, Result};
use crate::forward::Forward;
use crate::layers::{CausalConv, Linear, Scan, ScanWay, selective_scan};
use crate::models::MambaConfig;
use crate::packed::Packed;

/// What stands in a layer's place of attention and feed-forward part: a convolution and a selective scan in many channels, and a gate.
#[derive(Debug)]
pub(super) struct Mixer {
    /// To the channels and to their gates.
    inward: Linear,
    conv: CausalConv,
    /// From the channels to the steps' rank, and to how the state is entered and read.
    selection: Linear,
    steps: Linear,
    step_bias: Tensor,
    decay_log: Tensor,
    skip: Tensor,
    outward: Linear,
    rank: i64,
    state: i64,
}

/// What a layer remembers of each sequence: the convolution's last inputs, once there are some, and the scan's state.
#[derive(Debug)]
pub(super) struct Memory {
    window: Option<Tensor>,
    state: Tensor,
}

impl Memory {
    /// The same once more. A scan overwrites its state; the window is replaced.
    pub(super) fn fork(&self) -> Result<Self> {
        let mut state = self.state.f_zeros_like()?;
        state.f_copy_(&self.state)?;
        Ok(Self { window: self.window.as_ref().map(Tensor::shallow_clone), state })
    }
}

impl Mixer {
    pub(super) fn new(builder: &mut Builder<'_>, config: &MambaConfig, prefix: &str) -> Result<Self> {
        let (width, channels, rank, state) = (config.hidden_size, config.channels(), config.rank(), config.state_size);
        let name = |rest: &str| format!("{prefix}.{rest}");
        let shrink = if config.rescale_prenorm_residual { root(config.num_hidden_layers) } else { 1.0 };
        let steps = match config.time_step_init_scheme.as_str() {
            "constant" => Init::Filled(config.time_step_scale / root(rank)),
            _ => Init::Uniform(config.time_step_scale / root(rank)),
        };
        let inward = Linear::drawn(builder, &name("in_proj"), (width, 2 * channels), Init::Uniform(1.0 / root(width)), config.use_bias)?;
        let outward = Init::Uniform(1.0 / root(channels) / shrink);
        Ok(Self {
            inward,
            conv: CausalConv::new(builder, &name("conv1d"), channels, config.conv_kernel, config.use_conv_bias)?,
            selection: Linear::drawn(builder, &name("x_proj"), (channels, rank + 2 * state), Init::Uniform(1.0 / root(channels)), false)?,
            steps: Linear::drawn(builder, &name("dt_proj"), (rank, channels), steps, false)?,
            step_bias: builder.precise(&name("dt_proj.bias"), &[channels], step_init(config))?,
            decay_log: builder.precise(&name("A_log"), &[channels, state], Init::Logarithms)?,
            skip: builder.precise(&name("D"), &[channels], Init::Ones)?,
            outward: Linear::drawn(builder, &name("out_proj"), (channels, width), outward, config.use_bias)?,
            rank,
            state,
        })
    }

    /// The kind of number that it takes and gives.
    pub(super) fn kind(&self) -> Kind {
        self.inward.kind()
    }

    /// Of states `[tokens, hidden_size]`: the same shape. With a memory it goes on from there and remembers where it ended.
    pub(super) fn forward(&self, states: &Tensor, packed: &Packed, memory: Option<&mut Memory>, forward: &Forward) -> Result<Tensor> {
        let [inner, gate] = two(self.inward.forward(states, forward)?.f_chunk(2, 1)?)?;
        let (input, state) = match memory {
            None => (self.conv.forward(&inner, packed)?, None),
            Some(memory) => (self.remember(&inner, packed, &mut memory.window)?, Some(&memory.state)),
        };
        let sizes = [self.rank, self.state, self.state];
        let [rank, entry, exit] = three(self.selection.forward(&input, forward)?.f_split_with_sizes(&sizes[..], 1)?)?;
        let scan = Scan {
            input: &input,
            step: &self.steps.forward(&rank, forward)?,
            gate: &gate,
            entry: &entry,
            exit: &exit,
            decay_log: &self.decay_log,
            skip: &self.skip,
            step_bias: &self.step_bias,
            ends: &packed.cu_seqlens()?,
            state,
        };
        self.outward.forward(&selective_scan(&scan, ScanWay::Best)?, forward)
    }

    /// The convolution, where its inputs are remembered: of whole sequences at first, then of one token each.
    fn remember(&self, inner: &Tensor, packed: &Packed, window: &mut Option<Tensor>) -> Result<Tensor> {
        if let Some(window) = window {
            return self.conv.step(inner, window);
        }
        *window = Some(self.conv.window(inner, packed)?);
        self.conv.forward(inner, packed)
    }

    /// The memory of sequences that have not begun.
    pub(super) fn memory(&self, sequences: i64) -> Result<Memory> {
        let [channels, state] = self.decay_log.size()[..] else { return Err(NnError::torch("A_log is no matrix")) };
        Ok(Memory { window: None, state: Tensor::f_zeros([sequences, channels, state], (Kind::Float, self.decay_log.device()))? })
    }
}

/// How the bias of the step sizes begins: so that they spread over a range (Gu and Dao 2023, section 3.6).
fn step_init(config: &MambaConfig) -> Init {
    Init::Steps { least: config.time_step_min, most: config.time_step_max, floor: config.time_step_floor }
}

#[allow(clippy::cast_precision_loss)]
fn root(size: i64) -> f64 {
    (size as f64).sqrt()
}

fn two(parts: Vec<Tensor>) -> Result<[Tensor; 2]> {
    parts.try_into().map_err(|_| NnError::torch("a product of two projections has no two parts"))
}

fn three(parts: Vec<Tensor>) -> Result<[Tensor; 3]> {
    parts.try_into().map_err(|_| NnError::torch("a product of three projections has no three parts"))
}
