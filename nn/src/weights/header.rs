//! The header of a safetensors file, checked before anything is believed: eight bytes of length, JSON, then the tensors, back to back.
//!
//! The crate `safetensors` checks lengths, offsets and sizes; on top of that come what it lets pass (names given twice) and errors that
//! name the tensor.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;

use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use tch::Kind;

use super::error::Problem;

/// Most bytes that a header may have: what the format's own reader accepts.
pub(super) const MOST: u64 = 100_000_000;

/// Most dimensions that a tensor may have.
const MOST_DIMENSIONS: usize = 8;

/// A tensor in the file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) dtype: String,
    pub(super) kind: Option<Kind>,
    pub(super) shape: Vec<i64>,
    pub(super) range: Range<usize>,
}

type Contents = (BTreeMap<String, Entry>, BTreeMap<String, String>);

/// Reads and checks the header of a file's bytes.
pub(super) fn read(bytes: &[u8]) -> Result<Contents, Problem> {
    let text = text(bytes)?;
    refuse_duplicates(text)?;
    let (size, header) = SafeTensors::read_metadata(bytes).map_err(problem)?;
    let start = size + 8;
    let mut entries = BTreeMap::new();
    for (name, info) in header.tensors() {
        let (from, to) = info.data_offsets;
        let shape = shape(&name, &info.shape)?;
        let entry = Entry { dtype: format!("{:?}", info.dtype), kind: kind(info.dtype), shape, range: start + from..start + to };
        let name = modern(name);
        if entries.contains_key(&name) {
            return Err(Problem::Duplicate(name));
        }
        entries.insert(name, entry);
    }
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    Ok((entries, metadata))
}

/// The header's JSON, once the beginning of the file is plausible.
fn text(bytes: &[u8]) -> Result<&str, Problem> {
    if is_pickle(bytes) {
        return Err(Problem::Pickle);
    }
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(Problem::NotSafetensors("it is shorter than the eight bytes of a header's length"));
    };
    let length = u64::from_le_bytes(*length);
    if length > MOST {
        return Err(Problem::HeaderSize(length));
    }
    let header = usize::try_from(length).ok().and_then(|length| rest.get(..length)).ok_or(Problem::Truncated)?;
    if header.first() != Some(&b'{') {
        return Err(Problem::NotSafetensors("its header is no JSON object"));
    }
    std::str::from_utf8(header).map_err(|error| Problem::Header(error.to_string()))
}

/// Whether a file is what `torch.save` writes: a zip with a pickle in it, or a bare pickle (protocol 2 and later), or an old tar.
fn is_pickle(bytes: &[u8]) -> bool {
    let zip = bytes.starts_with(b"PK\x03\x04");
    let bare =
        bytes.first() == Some(&0x80) && bytes.get(1).is_some_and(|&protocol| (2..=5).contains(&protocol)) && bytes.get(8) != Some(&b'{');
    let tar = bytes.get(257..262) == Some(b"ustar");
    zip || bare || tar
}

/// Refuses a header that gives a name twice: which of the two counts would be up to the reader.
fn refuse_duplicates(text: &str) -> Result<(), Problem> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let twice = deserializer.deserialize_map(Names).map_err(|error| Problem::Header(error.to_string()))?;
    twice.map_or(Ok(()), |name| Err(Problem::Duplicate(name)))
}

/// Looks for the first name that a JSON object gives twice.
struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Option<String>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut seen, mut twice) = (HashSet::new(), None);
        while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
            if !seen.insert(name.clone()) {
                twice = twice.or(Some(name));
            }
        }
        Ok(twice)
    }
}

/// The current form of a name.
pub(super) fn modern(name: String) -> String {
    if let Some(stem) = name.strip_suffix("LayerNorm.gamma") {
        return format!("{stem}LayerNorm.weight");
    }
    match name.strip_suffix("LayerNorm.beta") {
        Some(stem) => format!("{stem}LayerNorm.bias"),
        None => name,
    }
}

/// A shape as libtorch takes it.
fn shape(name: &str, shape: &[usize]) -> Result<Vec<i64>, Problem> {
    let layout = |message: &str| Problem::Layout { name: name.to_owned(), message: message.to_owned() };
    if shape.len() > MOST_DIMENSIONS {
        return Err(layout("it has more dimensions than are accepted"));
    }
    shape.iter().map(|&size| i64::try_from(size).map_err(|_| layout("a dimension is too large"))).collect()
}

/// libtorch's kind for a stored one, where it has one.
fn kind(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::BOOL => Kind::Bool,
        Dtype::U8 => Kind::Uint8,
        Dtype::I8 => Kind::Int8,
        Dtype::I16 => Kind::Int16,
        Dtype::I32 => Kind::Int,
        Dtype::I64 => Kind::Int64,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        _ => return None,
    })
}

/// What the format's reader found, in our words.
fn problem(error: SafeTensorError) -> Problem {
    let layout = |name: &str, message: &str| Problem::Layout { name: name.to_owned(), message: message.to_owned() };
    match error {
        SafeTensorError::HeaderTooLarge | SafeTensorError::HeaderTooSmall | SafeTensorError::InvalidHeaderLength => Problem::Truncated,
        SafeTensorError::InvalidOffset(name) => layout(&name, "its bytes overlap another's, leave a gap, or run backwards"),
        SafeTensorError::MetadataIncompleteBuffer => Problem::Truncated,
        SafeTensorError::TensorInvalidInfo => Problem::Header("a tensor's shape does not fit its number of bytes".into()),
        SafeTensorError::ValidationOverflow => Problem::Header("a tensor's shape is too large".into()),
        SafeTensorError::InvalidHeaderDeserialization(error) => Problem::Header(error.to_string()),
        other => Problem::Header(other.to_string()),
    }
}
