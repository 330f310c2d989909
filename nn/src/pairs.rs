//! Sources and targets: what a model that writes is trained on.

use tch::{Device, Kind, Tensor};

use crate::error::{NnError, Result};
use crate::packed::{Packed, signed};
use crate::shim;

/// How a model that writes lays out a source and a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An encoder reads the source, a decoder writes the target; it begins with this token.
    Seq2Seq {
        /// The token before the first of a target.
        start: u32,
    },
    /// One sequence: the target follows the source.
    Causal,
}

/// Packed sources and targets. Padding does not exist; a target ends with its own end token.
#[derive(Debug)]
pub struct Pairs {
    /// What is read: the sources; of a [`Form::Causal`] model each with its target but for the last token.
    pub input: Packed,
    /// What the decoder reads: the start token, and the target but for the last token. None for a causal model.
    pub output: Option<Packed>,
    /// Row 0: the target tokens, one after the other; row 1: the token of `input` (causal) or of `output` whose state predicts it.
    /// i64 `[2, target tokens]`.
    columns: Tensor,
    lengths: Vec<i64>,
}

impl Pairs {
    /// Packs sources with their targets, on the host.
    ///
    /// # Errors
    /// With no pair, or one whose source or target is empty.
    pub fn collate(form: Form, pairs: &[(&[u32], &[u32])]) -> Result<Self> {
        if pairs.iter().any(|(source, target)| source.is_empty() || target.is_empty()) {
            return Err(NnError::Input("a source and a target need at least one token each".into()));
        }
        let targets = pairs.iter().flat_map(|(_, target)| target.iter()).map(|&id| i64::from(id));
        let lengths: Vec<i64> = pairs.iter().map(|(_, target)| signed(target.len())).collect();
        let (input, output, places) = match form {
            Form::Seq2Seq { start } => seq2seq(start, pairs)?,
            Form::Causal => causal(pairs)?,
        };
        let columns: Vec<i64> = targets.chain(places).collect();
        Ok(Self { input, output, columns: Tensor::f_from_slice(&columns)?.f_view([2, -1])?, lengths })
    }

    /// The same in page-locked memory, from which [`Pairs::to_device`] overlaps with work. Needs CUDA.
    ///
    /// # Errors
    /// Where there is no CUDA, or no memory.
    pub fn pinned(&self) -> Result<Self> {
        let output = self.output.as_ref().map(Packed::pinned).transpose()?;
        Ok(Self { input: self.input.pinned()?, output, columns: shim::pin(&self.columns)?, lengths: self.lengths.clone() })
    }

    /// The same on a device.
    ///
    /// # Errors
    /// Where the device has no memory.
    pub fn to_device(&self, device: Device) -> Result<Self> {
        let output = self.output.as_ref().map(|output| output.to_device(device)).transpose()?;
        let columns = self.columns.f_to_device_(device, Kind::Int64, true, false)?;
        Ok(Self { input: self.input.to_device(device)?, output, columns, lengths: self.lengths.clone() })
    }

    /// The target tokens, i64 `[target tokens]`.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn targets(&self) -> Result<Tensor> {
        Ok(self.columns.f_get(0)?)
    }

    /// Which state predicts each target token, i64 `[target tokens]`.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn places(&self) -> Result<Tensor> {
        Ok(self.columns.f_get(1)?)
    }

    /// Tokens of each target.
    #[must_use]
    pub fn lengths(&self) -> &[i64] {
        &self.lengths
    }

    /// Sums of something that there is for each target token, one for each pair: f32 `[pairs]`.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn sums(&self, tokens: &Tensor) -> Result<Tensor> {
        let parts = tokens.f_split_with_sizes(&self.lengths, 0)?;
        let sums = parts.iter().map(|part| part.f_sum(Kind::Float)).collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(Tensor::f_stack(&sums, 0)?)
    }
}

type Laid = (Packed, Option<Packed>, Vec<i64>);

/// Sources for the encoder, shifted targets for the decoder.
fn seq2seq(start: u32, pairs: &[(&[u32], &[u32])]) -> Result<Laid> {
    let shifted: Vec<Vec<u32>> =
        pairs.iter().map(|(_, target)| std::iter::once(start).chain(target[..target.len() - 1].iter().copied()).collect()).collect();
    let tokens: usize = shifted.iter().map(Vec::len).sum();
    let sources: Vec<&[u32]> = pairs.iter().map(|&(source, _)| source).collect();
    let targets: Vec<&[u32]> = shifted.iter().map(Vec::as_slice).collect();
    Ok((Packed::of_one_segment(&sources)?, Some(Packed::of_one_segment(&targets)?), (0..signed(tokens)).collect()))
}

/// Each source with its target in one sequence.
fn causal(pairs: &[(&[u32], &[u32])]) -> Result<Laid> {
    let joined: Vec<Vec<u32>> = pairs.iter().map(|(source, target)| [source, &target[..target.len() - 1]].concat()).collect();
    let mut places = Vec::new();
    let mut at = 0;
    for (source, target) in pairs {
        let first = at + source.len() - 1;
        places.extend((first..first + target.len()).map(signed));
        at = first + target.len();
    }
    let rows: Vec<&[u32]> = joined.iter().map(Vec::as_slice).collect();
    Ok((Packed::of_one_segment(&rows)?, None, places))
}
