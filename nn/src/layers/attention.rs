//! Attention within each sequence of a packed batch: one signature, one function a device.

use tch::{Device, Kind, Tensor};

use crate::error::{NnError, Result};
use crate::forward::Forward;
use crate::packed::Packed;
use crate::shim;

/// Queries `[query tokens, heads, head_dim]`; keys and values `[key tokens, heads, head_dim]`.
pub(crate) struct Heads {
    pub(crate) query: Tensor,
    pub(crate) key: Tensor,
    pub(crate) value: Tensor,
}

/// Who looks at whom, and how.
pub(crate) struct Look<'a> {
    /// Sequences that look.
    pub(crate) queries: &'a Packed,
    /// Sequences that are looked at: as many.
    pub(crate) keys: &'a Packed,
    /// What is added to the scores.
    pub(crate) bias: Option<&'a Bias>,
    /// What the scores are multiplied with; 1/√head_dim where it is not said.
    pub(crate) scale: Option<f64>,
    /// Share of the weights that training drops.
    pub(crate) dropout: f64,
}

impl<'a> Look<'a> {
    /// Every token at all of its own sequence.
    pub(crate) fn within(packed: &'a Packed, dropout: f64) -> Self {
        Self { queries: packed, keys: packed, bias: None, scale: None, dropout }
    }
}

/// What is added to the scores of a batch.
pub(crate) struct Bias {
    /// For any sequence, `[1, heads, width, width]`.
    table: Tensor,
    /// The same for each sequence, minus infinity where there is no key: `[sequences, heads, width, width]`. On CUDA only.
    padded: Option<Tensor>,
}

impl Bias {
    /// A bias out of a table as wide as the batch, `[1, heads, width, width]`.
    pub(crate) fn new(table: Tensor, packed: &Packed) -> Result<Self> {
        let padded = match table.device() {
            Device::Cpu => None,
            _ => Some(table.f_masked_fill(&packed.mask()?.f_logical_not()?, f64::NEG_INFINITY)?),
        };
        Ok(Self { table, padded })
    }

    /// What is added for any sequence, `[1, heads, width, width]`.
    pub(crate) fn table(&self) -> &Tensor {
        &self.table
    }
}

/// softmax(Q Kᵀ · scale + bias) V within each sequence (Vaswani et al. 2017). In training a share of the weights is dropped. Gives
/// `[query tokens, heads * head_dim]`.
pub(crate) fn attention(heads: &Heads, look: &Look<'_>, forward: &Forward) -> Result<Tensor> {
    let dropout = forward.share(look.dropout);
    let states = match heads.query.device() {
        Device::Cpu => each(heads, look, dropout)?,
        _ if look.bias.is_none() && flash_takes(heads) => flash(heads, look, dropout)?,
        _ => padded(heads, look, dropout)?,
    };
    Ok(states.f_flatten(1, 2)?)
}

/// Whether the variable-length kernel of CUDA takes these: half precision, and a head size that it knows.
fn flash_takes(heads: &Heads) -> bool {
    let size = heads.query.size()[2];
    let half = matches!(heads.query.kind(), Kind::BFloat16 | Kind::Half);
    half && size % 8 == 0 && size <= 256
}

/// Flash attention over the packed tokens as they are (Dao 2023, arXiv 2307.08691).
fn flash(heads: &Heads, look: &Look<'_>, dropout: f64) -> Result<Tensor> {
    let ends = [look.queries.cu_seqlens()?, look.keys.cu_seqlens()?];
    let longest = [look.queries.max_len(), look.keys.max_len()];
    shim::flash_attention(&heads.query, &heads.key, &heads.value, &ends, longest, dropout, look.scale)
}

/// One sequence after the other: for the CPU, where a call costs little and padding costs time and memory.
fn each(heads: &Heads, look: &Look<'_>, dropout: f64) -> Result<Tensor> {
    let split = |states: &Tensor, packed: &Packed| {
        Ok::<_, NnError>(states.f_transpose(0, 1)?.f_unsqueeze(0)?.f_split_with_sizes(packed.lengths(), 2)?)
    };
    let (queries, keys, values) = (split(&heads.query, look.queries)?, split(&heads.key, look.keys)?, split(&heads.value, look.keys)?);
    let attend = |((query, key), value): ((&Tensor, &Tensor), &Tensor)| {
        let cut = |bias: &Bias| bias.table.f_narrow(2, 0, query.size()[2])?.f_narrow(3, 0, key.size()[2]);
        let bias = look.bias.map(cut).transpose()?;
        Tensor::f_scaled_dot_product_attention(query, key, value, bias.as_ref(), dropout, false, look.scale, false)
    };
    let states: Vec<Tensor> = queries.iter().zip(&keys).zip(&values).map(attend).collect::<std::result::Result<_, _>>()?;
    Ok(Tensor::f_cat(&states, 2)?.f_squeeze_dim(0)?.f_transpose(0, 1)?)
}

/// Attention in a padded table, gathered back.
fn padded(heads: &Heads, look: &Look<'_>, dropout: f64) -> Result<Tensor> {
    let query = look.queries.spread(&heads.query)?;
    let (key, value) = (look.keys.spread(&heads.key)?, look.keys.spread(&heads.value)?);
    let states = match look.bias.and_then(|bias| bias.padded.as_ref()) {
        Some(bias) => biased(&query, &key, &value, Some(bias), dropout, look.scale)?,
        None => {
            let mask = if look.keys.is_even() { None } else { Some(look.keys.mask()?) };
            Tensor::f_scaled_dot_product_attention(&query, &key, &value, mask, dropout, false, look.scale, false)?
        }
    };
    look.queries.gather(&states)
}

/// Attention of `[rows, heads, queries, head_dim]` at keys and values `[rows, heads, keys, head_dim]` with something added to the scores,
/// `[rows, heads, queries, keys]`.
pub(crate) fn biased(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    bias: Option<&Tensor>,
    dropout: f64,
    scale: Option<f64>,
) -> Result<Tensor> {
    if query.device() == Device::Cpu || query.size()[3] % 8 != 0 {
        return Ok(Tensor::f_scaled_dot_product_attention(query, key, value, bias, dropout, false, scale, false)?);
    }
    // Of libtorch's kernels for CUDA only this one has a gradient for the bias.
    let train = query.requires_grad();
    Ok(Tensor::f_internal_scaled_dot_product_efficient_attention(query, key, value, bias, train, dropout, false, scale)?.0)
}
