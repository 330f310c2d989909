//! Writing safetensors.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::{Dtype, SafeTensorError, View};
use tch::{Kind, Tensor};

use super::error::{Problem, WeightsError};
use crate::error::Result;

/// Writes tensors under their names, floating-point numbers as f32 and whole numbers as i32, and some free text, as a safetensors file. Equal content gives equal bytes.
pub(crate) fn write(path: &Path, tensors: Vec<(String, Tensor)>, text: &[(&str, String)]) -> Result<()> {
    let mut stored = BTreeMap::new();
    for (name, tensor) in tensors {
        stored.insert(name, Stored::new(&tensor)?);
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

/// A tensor on its way to a file.
struct Stored {
    shape: Vec<usize>,
    tensor: Tensor,
}

impl Stored {
    fn new(tensor: &Tensor) -> Result<Self> {
        let kind = if tensor.is_floating_point() { Kind::Float } else { Kind::Int };
        let tensor = tensor.f_detach()?.f_to(tch::Device::Cpu)?.f_to_kind(kind)?.f_contiguous()?;
        let shape = tensor.size().iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect();
        Ok(Self { shape, tensor })
    }
}

impl View for &Stored {
    fn dtype(&self) -> Dtype {
        if self.tensor.is_floating_point() { Dtype::F32 } else { Dtype::I32 }
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
        self.tensor.numel() * 4
    }
}
