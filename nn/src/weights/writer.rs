//! Writing safetensors.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::{Dtype, SafeTensorError, View};
use tch::{Kind, Tensor};

use super::error::{Problem, WeightsError};
use crate::error::Result;

/// Writes tensors under their names, each in its own kind (f32, f16, bf16, i8, u8, i32 or i64), and some free text, as a safetensors file.
/// Equal content gives equal bytes.
///
/// # Errors
/// Where a tensor is of another kind, or the file cannot be written.
pub fn write(path: &Path, tensors: Vec<(String, Tensor)>, text: &[(&str, String)]) -> Result<()> {
    let mut stored = BTreeMap::new();
    for (name, tensor) in tensors {
        let problem = Problem::Kind { name: name.clone(), kind: format!("{:?}", tensor.kind()) };
        let dtype = dtype(tensor.kind()).ok_or_else(|| WeightsError { path: path.to_path_buf(), problem })?;
        stored.insert(name, Stored::new(&tensor, dtype)?);
    }
    // More than one entry would come in the map's order, which differs from run to run; so they travel as one JSON text beside `format`.
    let mut metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    if !text.is_empty() {
        let object: BTreeMap<_, _> = text.iter().cloned().collect();
        metadata = HashMap::from([("qapipe".to_owned(), serde_json::to_string(&object)?)]);
    }
    safetensors::serialize_to_file(&stored, Some(metadata), path).map_err(|error| wrong(path, error).into())
}

fn wrong(path: &Path, error: SafeTensorError) -> WeightsError {
    let problem = match error {
        SafeTensorError::IoError(source) => Problem::Io(source),
        other => Problem::Header(other.to_string()),
    };
    WeightsError { path: path.to_path_buf(), problem }
}

/// The same tensors with floating-point numbers as f32 and whole numbers as i32.
pub(crate) fn wide(tensors: Vec<(String, Tensor)>) -> Result<Vec<(String, Tensor)>> {
    let kind = |tensor: &Tensor| if tensor.is_floating_point() { Kind::Float } else { Kind::Int };
    tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.f_detach()?.f_to_kind(kind(&tensor))?))).collect()
}

/// The format's name of a kind, of those that are written.
fn dtype(kind: Kind) -> Option<Dtype> {
    Some(match kind {
        Kind::Float => Dtype::F32,
        Kind::Half => Dtype::F16,
        Kind::BFloat16 => Dtype::BF16,
        Kind::Int8 => Dtype::I8,
        Kind::Uint8 => Dtype::U8,
        Kind::Int => Dtype::I32,
        Kind::Int64 => Dtype::I64,
        _ => return None,
    })
}

/// A tensor on its way to a file.
struct Stored {
    shape: Vec<usize>,
    dtype: Dtype,
    tensor: Tensor,
}

impl Stored {
    fn new(tensor: &Tensor, dtype: Dtype) -> Result<Self> {
        let tensor = tensor.f_detach()?.f_to(tch::Device::Cpu)?.f_contiguous()?;
        let shape = tensor.size().iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect();
        Ok(Self { shape, dtype, tensor })
    }
}

impl View for &Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        self.tensor.copy_data_u8(&mut bytes, self.tensor.numel());
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()
    }
}
