//! Packed input: the tokens of several sequences one after the other, no padding.

use std::cell::OnceCell;

use tch::{Device, Kind, Tensor};

use crate::error::{NnError, Result};
use crate::shim;

/// The padded table is a multiple of this wide.
const STEP: usize = 8;

/// Sequences of tokens, packed. States that a model makes of them are `[tokens, hidden]`; only the attention, and the loss, look at
/// where a sequence ends. All tensors are views of one buffer, so that a batch is one transfer.
#[derive(Debug)]
pub struct Packed {
    buffer: Tensor,
    lengths: Vec<i64>,
    /// Tokens of segment 0 at the beginning of each sequence.
    fronts: Vec<i64>,
    max_len: i64,
    width: i64,
    max_id: i64,
    max_segment: i64,
    /// Questions and paragraphs apart, where a model asked for it.
    parts: Option<Box<[Part; 2]>>,
    mask: OnceCell<Tensor>,
    rows: OnceCell<Tensor>,
}

impl Packed {
    /// Packs sequences of token ids. Tokens before `context_start` are of segment 0, the others of segment 1.
    ///
    /// # Errors
    /// With no sequence, or one without tokens.
    pub fn from_sequences(sequences: &[(&[u32], u32)], device: Device) -> Result<Self> {
        let tokens: usize = sequences.iter().map(|(ids, _)| ids.len()).sum();
        let longest = sequences.iter().map(|(ids, _)| ids.len()).max().unwrap_or(0);
        if sequences.is_empty() || sequences.iter().any(|(ids, _)| ids.is_empty()) {
            return Err(NnError::Input("a batch needs at least one sequence, and a sequence at least one token".into()));
        }
        let width = longest.next_multiple_of(STEP);
        let columns = Columns::fill(sequences, tokens, width);
        let max_id = sequences.iter().flat_map(|(ids, _)| ids.iter()).max().map_or(0, |&id| i64::from(id));
        let max_segment = i64::from(sequences.iter().any(|(ids, start)| (*start as usize) < ids.len()));
        let lengths = sequences.iter().map(|(ids, _)| signed(ids.len())).collect();
        let fronts = sequences.iter().map(|(ids, start)| signed(ids.len().min(*start as usize))).collect();
        let (max_len, width) = (signed(longest), signed(width));
        let buffer = Tensor::f_from_slice(&columns.0)?;
        let packed = Self {
            buffer,
            lengths,
            fronts,
            max_len,
            width,
            max_id,
            max_segment,
            parts: None,
            mask: OnceCell::new(),
            rows: OnceCell::new(),
        };
        if device == Device::Cpu { Ok(packed) } else { packed.to_device(device) }
    }

    /// Packs sequences on the host that are of one segment all through.
    ///
    /// # Errors
    /// As [`Packed::from_sequences`].
    pub fn of_one_segment(sequences: &[&[u32]]) -> Result<Self> {
        let rows: Vec<(&[u32], u32)> = sequences.iter().map(|&ids| (ids, u32::MAX)).collect();
        Self::from_sequences(&rows, Device::Cpu)
    }

    /// The same batch in page-locked memory, from which [`Packed::to_device`] overlaps with work. Needs CUDA.
    ///
    /// # Errors
    /// Where there is no CUDA, or no memory.
    pub fn pinned(&self) -> Result<Self> {
        self.moved(&|tensor| shim::pin(tensor))
    }

    /// The same batch on a device. The host does not wait for the transfer where this batch is pinned.
    ///
    /// # Errors
    /// Where the device has no memory.
    pub fn to_device(&self, device: Device) -> Result<Self> {
        if self.device() == device {
            return Ok(self.shallow_clone());
        }
        self.moved(&|tensor| Ok(tensor.f_to_device_(device, Kind::Int64, true, false)?))
    }

    /// The same batch once more, over the same memory.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        let parts = self.parts.as_ref().map(|parts| Box::new(parts.each_ref().map(Part::shallow_clone)));
        self.with(self.buffer.shallow_clone(), parts)
    }

    /// This batch over copies of its buffers.
    fn moved(&self, copy: &dyn Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let parts = match &self.parts {
            Some(parts) => Some(Box::new([parts[0].moved(copy)?, parts[1].moved(copy)?])),
            None => None,
        };
        Ok(self.with(copy(&self.buffer)?, parts))
    }

    fn with(&self, buffer: Tensor, parts: Option<Box<[Part; 2]>>) -> Self {
        let Self { max_len, width, max_id, max_segment, .. } = *self;
        let (lengths, fronts) = (self.lengths.clone(), self.fronts.clone());
        Self { buffer, lengths, fronts, max_len, width, max_id, max_segment, parts, mask: OnceCell::new(), rows: OnceCell::new() }
    }

    /// Where its tensors are.
    #[must_use]
    pub fn device(&self) -> Device {
        self.buffer.device()
    }

    /// Takes questions and paragraphs apart, on the host, for a model that reads them so ([`crate::Reader::reads_apart`]).
    ///
    /// # Errors
    /// Where a sequence lacks one of the two.
    pub fn take_apart(mut self) -> Result<Self> {
        self.parts = Some(Box::new(self.parted()?));
        Ok(self)
    }

    /// The questions and the paragraphs apart: the tokens of segment 0 of each sequence, and those after them.
    pub(crate) fn apart(&self) -> Result<[Part; 2]> {
        match &self.parts {
            Some(parts) => Ok(parts.each_ref().map(Part::shallow_clone)),
            None => self.parted(),
        }
    }

    fn parted(&self) -> Result<[Part; 2]> {
        if self.fronts.iter().zip(&self.lengths).any(|(&front, &length)| front == 0 || front == length) {
            return Err(NnError::Input("a window needs a question and a paragraph; the tokenizer keeps them apart by segments".into()));
        }
        let rests: Vec<i64> = self.lengths.iter().zip(&self.fronts).map(|(length, front)| length - front).collect();
        Ok([self.part(&vec![0; rests.len()], &self.fronts)?, self.part(&self.fronts, &rests)?])
    }

    /// Of each sequence so many tokens from a place on.
    fn part(&self, from: &[i64], lengths: &[i64]) -> Result<Part> {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let width = usize::try_from(longest).unwrap_or(0).next_multiple_of(STEP);
        let ids: Vec<Vec<u32>> = lengths.iter().map(|&length| vec![0; usize::try_from(length).unwrap_or(0)]).collect();
        let sequences: Vec<(&[u32], u32)> = ids.iter().map(|ids| (ids.as_slice(), u32::MAX)).collect();
        let tokens = usize::try_from(lengths.iter().sum::<i64>()).unwrap_or(0);
        let mut columns = Columns::fill(&sequences, tokens, width).0;
        // Where the tokens stand in the whole is known here; their ids may be on a device.
        let mut begin = 0;
        let mut rows = Vec::with_capacity(tokens);
        for ((from, length), whole) in from.iter().zip(lengths).zip(&self.lengths) {
            rows.extend(begin + from..begin + from + length);
            begin += whole;
        }
        columns[..tokens].copy_from_slice(&rows);
        let buffer = Tensor::f_from_slice(&columns)?.f_to(self.device())?;
        let mut ids = buffer.f_narrow(0, 0, signed(tokens))?;
        let rows = ids.f_detach_copy()?;
        ids.f_copy_(&self.ids()?.f_index_select(0, &rows)?)?;
        let (lengths, fronts) = (lengths.to_vec(), lengths.to_vec());
        let (max_len, width, max_id) = (longest, signed(width), self.max_id);
        let (mask, of_tokens) = (OnceCell::new(), OnceCell::new());
        let packed = Self { buffer, lengths, fronts, max_len, width, max_id, max_segment: 0, parts: None, mask, rows: of_tokens };
        Ok(Part { packed, rows })
    }

    /// Number of sequences.
    #[must_use]
    pub fn sequences(&self) -> i64 {
        signed(self.lengths.len())
    }

    /// Number of tokens in all sequences together.
    #[must_use]
    pub fn tokens(&self) -> i64 {
        self.lengths.iter().sum()
    }

    /// Tokens of each sequence.
    #[must_use]
    pub fn lengths(&self) -> &[i64] {
        &self.lengths
    }

    /// Tokens of the longest sequence.
    #[must_use]
    pub fn max_len(&self) -> i64 {
        self.max_len
    }

    /// The largest token id.
    #[must_use]
    pub fn max_id(&self) -> i64 {
        self.max_id
    }

    /// The largest segment.
    #[must_use]
    pub fn max_segment(&self) -> i64 {
        self.max_segment
    }

    /// Token ids, i64 `[tokens]`.
    ///
    /// # Errors
    /// What libtorch reports; so for the other columns.
    pub fn ids(&self) -> Result<Tensor> {
        self.column(0)
    }

    /// Position of each token within its sequence, i64 `[tokens]`.
    #[allow(clippy::missing_errors_doc)]
    pub fn positions(&self) -> Result<Tensor> {
        self.column(1)
    }

    /// Segment of each token, i64 `[tokens]`.
    #[allow(clippy::missing_errors_doc)]
    pub fn segments(&self) -> Result<Tensor> {
        self.column(2)
    }

    /// Where each token stands in a padded table `[sequences, width]`, as an index into its flattened form, i64 `[tokens]`.
    #[allow(clippy::missing_errors_doc)]
    pub fn slots(&self) -> Result<Tensor> {
        self.column(3)
    }

    /// Where each sequence begins, and the total, i32 `[sequences + 1]`.
    #[allow(clippy::missing_errors_doc)]
    pub fn cu_seqlens(&self) -> Result<Tensor> {
        let start = 4 * self.tokens();
        let tail = self.buffer.f_narrow(0, start, self.buffer.size()[0] - start)?;
        Ok(tail.f_view_dtype(Kind::Int)?.f_narrow(0, 0, self.sequences() + 1)?)
    }

    /// Tokens of each sequence on the device, i32 `[sequences]`.
    pub(crate) fn counts(&self) -> Result<Tensor> {
        let (begins, rows) = (self.cu_seqlens()?, self.sequences());
        Ok(begins.f_narrow(0, 1, rows)?.f_sub(&begins.f_narrow(0, 0, rows)?)?)
    }

    /// Width of the padded table: the longest sequence, rounded up as matrix kernels like it.
    #[must_use]
    pub fn width(&self) -> i64 {
        self.width
    }

    /// Whether all sequences are as long as the padded table is wide, so that the packed form is the padded one.
    #[must_use]
    pub fn is_even(&self) -> bool {
        self.tokens() == self.sequences() * self.width()
    }

    /// States `[tokens, heads, head_dim]` as a padded table `[sequences, heads, width, head_dim]`.
    pub(crate) fn spread(&self, states: &Tensor) -> Result<Tensor> {
        let (rows, width) = (self.sequences(), self.width());
        let [_, heads, size] = states.size()[..] else { return Ok(states.shallow_clone()) };
        let table = if self.is_even() {
            states.shallow_clone()
        } else {
            let empty = Tensor::f_zeros([rows * width, heads, size], (states.kind(), states.device()))?;
            empty.f_index_copy(0, &self.slots()?, states)?
        };
        Ok(table.f_view([rows, width, heads, size])?.f_transpose(1, 2)?)
    }

    /// What [`Packed::spread`] spread, `[tokens, heads, head_dim]`.
    pub(crate) fn gather(&self, table: &Tensor) -> Result<Tensor> {
        let states = table.f_transpose(1, 2)?.f_flatten(0, 1)?;
        if self.is_even() { Ok(states) } else { Ok(states.f_index_select(0, &self.slots()?)?) }
    }

    /// Which places of the padded table hold a token, bool `[sequences, 1, 1, width]`, as attention takes it. Made once a batch.
    pub(crate) fn mask(&self) -> Result<&Tensor> {
        if let Some(mask) = self.mask.get() {
            return Ok(mask);
        }
        let (rows, width) = (self.sequences(), self.width());
        let holds = Tensor::f_ones([self.tokens()], (Kind::Bool, self.device()))?;
        let mask = Tensor::f_zeros([rows * width], (Kind::Bool, self.device()))?.f_index_copy(0, &self.slots()?, &holds)?;
        let mask = mask.f_view([rows, 1, 1, width])?;
        Ok(self.mask.get_or_init(|| mask))
    }

    /// Which sequence each token is of, i64 `[tokens]`. Made once a batch.
    pub(crate) fn sequence_of_tokens(&self) -> Result<&Tensor> {
        if let Some(rows) = self.rows.get() {
            return Ok(rows);
        }
        let rows = self.slots()?.f_divide_scalar_mode(self.width(), "floor")?;
        Ok(self.rows.get_or_init(|| rows))
    }

    fn column(&self, number: i64) -> Result<Tensor> {
        Ok(self.buffer.f_narrow(0, number * self.tokens(), self.tokens())?)
    }
}

/// A part of every sequence of a batch.
#[derive(Debug)]
pub(crate) struct Part {
    /// The tokens of the part.
    pub(crate) packed: Packed,
    /// Which tokens of the whole they are, i64 `[tokens of the part]`.
    pub(crate) rows: Tensor,
}

impl Part {
    fn shallow_clone(&self) -> Self {
        Self { packed: self.packed.shallow_clone(), rows: self.rows.shallow_clone() }
    }

    fn moved(&self, copy: &dyn Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self { packed: self.packed.moved(copy)?, rows: copy(&self.rows)? })
    }
}

/// A batch as it stands in the buffer: ids, positions, segments and slots as i64, then the sequences' beginnings as pairs of i32.
struct Columns(Vec<i64>);

impl Columns {
    fn fill(sequences: &[(&[u32], u32)], tokens: usize, width: usize) -> Self {
        let mut all = vec![0_i64; 4 * tokens];
        let mut ends = vec![0_u32];
        let mut at = 0;
        for (row, (ids, context)) in sequences.iter().enumerate() {
            for (position, &id) in ids.iter().enumerate() {
                all[at] = i64::from(id);
                all[tokens + at] = signed(position);
                all[2 * tokens + at] = i64::from(position >= *context as usize);
                all[3 * tokens + at] = signed(row * width + position);
                at += 1;
            }
            ends.push(u32::try_from(at).unwrap_or(u32::MAX));
        }
        all.extend(ends.chunks(2).map(pair));
        Self(all)
    }
}

/// One or two i32 in the memory of an i64.
fn pair(ends: &[u32]) -> i64 {
    let mut bytes = [0; 8];
    for (place, end) in bytes.chunks_exact_mut(4).zip(ends) {
        place.copy_from_slice(&end.to_ne_bytes());
    }
    i64::from_ne_bytes(bytes)
}

/// A count as libtorch takes it.
pub(crate) fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
