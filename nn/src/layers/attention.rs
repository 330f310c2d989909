//! Attention within each sequence of a packed batch: one signature, one function a device.

use tch::{Device, Kind, Tensor};

use crate::error::{NnError, Result};
use crate::forward::Forward;
use crate::packed::Packed;
use crate::shim;

/// Queries, keys and values, each `[tokens, heads, head_dim]`.
pub(crate) struct Heads {
    pub(crate) query: Tensor,
    pub(crate) key: Tensor,
    pub(crate) value: Tensor,
}

/// softmax(Q Kᵀ / √head_dim) V within each sequence, every token seeing all of its own (Vaswani et al. 2017). In training a share of the
/// weights is dropped. Gives `[tokens, heads * head_dim]`.
pub(crate) fn attention(heads: &Heads, packed: &Packed, dropout: f64, forward: &Forward) -> Result<Tensor> {
    let dropout = forward.share(dropout);
    let states = match heads.query.device() {
        Device::Cpu => each(heads, packed, dropout)?,
        _ if flash_takes(heads) => flash(heads, packed, dropout)?,
        _ => padded(heads, packed, dropout)?,
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
fn flash(heads: &Heads, packed: &Packed, dropout: f64) -> Result<Tensor> {
    shim::flash_attention(&heads.query, &heads.key, &heads.value, &packed.cu_seqlens()?, packed.max_len(), dropout)
}

/// One sequence after the other: for the CPU, where a call costs little and padding costs time and memory.
fn each(heads: &Heads, packed: &Packed, dropout: f64) -> Result<Tensor> {
    let split = |states: &Tensor| Ok::<_, NnError>(states.f_transpose(0, 1)?.f_unsqueeze(0)?.f_split_with_sizes(packed.lengths(), 2)?);
    let (queries, keys, values) = (split(&heads.query)?, split(&heads.key)?, split(&heads.value)?);
    let attend = |((query, key), value): ((&Tensor, &Tensor), &Tensor)| {
        Tensor::f_scaled_dot_product_attention(query, key, value, None::<&Tensor>, dropout, false, None, false)
    };
    let states: Vec<Tensor> = queries.iter().zip(&keys).zip(&values).map(attend).collect::<std::result::Result<_, _>>()?;
    Ok(Tensor::f_cat(&states, 2)?.f_squeeze_dim(0)?.f_transpose(0, 1)?)
}

/// Attention in a padded table, gathered back.
fn padded(heads: &Heads, packed: &Packed, dropout: f64) -> Result<Tensor> {
    let spread = |states: &Tensor| spread(states, packed);
    let (query, key, value) = (spread(&heads.query)?, spread(&heads.key)?, spread(&heads.value)?);
    let mask = if packed.is_even() { None } else { Some(packed.mask()?) };
    let states = Tensor::f_scaled_dot_product_attention(&query, &key, &value, mask, dropout, false, None, false)?;
    let states = states.f_transpose(1, 2)?.f_flatten(0, 1)?;
    if packed.is_even() { Ok(states) } else { Ok(states.f_index_select(0, &packed.slots()?)?) }
}

/// Packed states `[tokens, heads, head_dim]` as a padded table `[sequences, heads, max_len, head_dim]`.
fn spread(states: &Tensor, packed: &Packed) -> Result<Tensor> {
    let (rows, width) = (packed.sequences(), packed.max_len());
    let [_, heads, size] = states.size()[..] else { return Ok(states.shallow_clone()) };
    let table = if packed.is_even() {
        states.shallow_clone()
    } else {
        let empty = Tensor::f_zeros([rows * width, heads, size], (states.kind(), states.device()))?;
        empty.f_index_copy(0, &packed.slots()?, states)?
    };
    Ok(table.f_view([rows, width, heads, size])?.f_transpose(1, 2)?)
}
