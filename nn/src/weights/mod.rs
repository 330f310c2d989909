//! Weights on disk: safetensors, read by mmap under Hugging Face's names.

mod error;
mod file_id;
mod header;
mod index;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use tch::{Kind, Tensor};

pub use error::{Problem, WeightsError};
pub use file_id::FileId;
use header::Entry;
pub use index::Index;
pub(crate) use writer::wide;
pub use writer::write;

use crate::error::Result;

/// Safetensors files, one or several that belong together, mapped into memory: opening them reads their headers only.
///
/// Older names are understood: `LayerNorm.gamma` and `.beta` are `.weight` and `.bias`.
#[derive(Debug)]
pub struct Weights {
    /// The file, or the index of several.
    path: PathBuf,
    shards: Vec<Shard>,
    /// Tensors by name, with the number of the shard that holds them.
    entries: BTreeMap<String, (usize, Entry)>,
    metadata: BTreeMap<String, String>,
    files: Vec<FileId>,
}

/// One file of weights.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    map: Mmap,
}

impl Weights {
    /// Opens a file, and checks that its header is sound: nothing of it is trusted.
    ///
    /// # Errors
    /// Where it cannot be read, is no safetensors file (a pickle is refused), or its header is damaged or malicious.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let mut weights = Self::none(path);
        weights.add(path)?;
        Ok(weights)
    }

    /// Opens `model.safetensors` of a model's folder, or else the files that `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// As [`Weights::open`] and [`Index::open`]; where a file that the index names is missing, does not hold a tensor that the index says
    /// it holds, or holds one that another file holds as well; and with the reason where the folder holds its weights in another form.
    pub fn open_folder(folder: &Path) -> Result<Self, WeightsError> {
        let path = folder.join("model.safetensors");
        if path.exists() {
            return Self::open(&path);
        }
        let index = folder.join(Index::FILE);
        if index.exists() {
            return Self::open_shards(folder, &Index::open(&index)?);
        }
        let pickle = folder.join("pytorch_model.bin").exists();
        let problem = if pickle { Problem::Pickle } else { Problem::Io(std::io::Error::from(std::io::ErrorKind::NotFound)) };
        Err(WeightsError { path, problem })
    }

    /// Opens the files that an index names, and checks that they hold what it says.
    fn open_shards(folder: &Path, index: &Index) -> Result<Self, WeightsError> {
        let mut weights = Self::none(&folder.join(Index::FILE));
        let wrong = |problem| WeightsError { path: folder.join(Index::FILE), problem };
        for file in index.files() {
            if !folder.join(file).exists() {
                return Err(wrong(Problem::NoShard(file.to_owned())));
            }
            weights.add(&folder.join(file))?;
        }
        for (name, file) in index.tensors() {
            let holder = weights.entries.get(name).and_then(|(shard, _)| weights.shards.get(*shard));
            if holder.is_none_or(|shard| shard.path != folder.join(file)) {
                return Err(wrong(Problem::NotInShard { name: name.to_owned(), file: file.to_owned() }));
            }
        }
        Ok(weights)
    }

    fn none(path: &Path) -> Self {
        Self { path: path.to_path_buf(), shards: Vec::new(), entries: BTreeMap::new(), metadata: BTreeMap::new(), files: Vec::new() }
    }

    /// Adds a file's tensors.
    fn add(&mut self, path: &Path) -> Result<(), WeightsError> {
        let wrong = |problem| WeightsError { path: path.to_path_buf(), problem };
        let (map, id) = map(path).map_err(|source| wrong(Problem::Io(source)))?;
        let (entries, metadata) = header::read(&map).map_err(wrong)?;
        let number = self.shards.len();
        for (name, entry) in entries {
            if let Some((other, _)) = self.entries.get(&name) {
                let file = self.shards.get(*other).map(|shard| shard.path.display().to_string()).unwrap_or_default();
                return Err(wrong(Problem::InTwoShards { name, file }));
            }
            self.entries.insert(name, (number, entry));
        }
        self.metadata.extend(metadata);
        self.shards.push(Shard { path: path.to_path_buf(), map });
        self.files.push(id);
        Ok(())
    }

    /// The file, or the index of several files.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which files they are.
    #[must_use]
    pub fn files(&self) -> &[FileId] {
        &self.files
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether there is a tensor of that name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The shape of a tensor.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[i64]> {
        self.entries.get(name).map(|(_, entry)| entry.shape.as_slice())
    }

    /// The kind of a tensor; none where there is no such tensor, or its kind is none of libtorch's.
    #[must_use]
    pub fn kind(&self, name: &str) -> Option<Kind> {
        self.entries.get(name).and_then(|(_, entry)| entry.kind)
    }

    /// Free text that the headers hold.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Bytes of all tensors together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.entries.values().map(|(_, entry)| entry.range.len() as u64).sum()
    }

    /// A copy of a tensor, of the kind that it is stored in, on the CPU.
    ///
    /// # Errors
    /// Where there is none of that name, or its kind is none of libtorch's.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let absent = || WeightsError { path: self.path.clone(), problem: Problem::Absent(name.to_owned()) };
        let (number, entry) = self.entries.get(name).ok_or_else(absent)?;
        let shard = self.shards.get(*number).ok_or_else(absent)?;
        let wrong = |problem| WeightsError { path: shard.path.clone(), problem };
        let kind = entry.kind.ok_or_else(|| wrong(Problem::Kind { name: name.to_owned(), kind: entry.dtype.clone() }))?;
        let bytes = shard.map.get(entry.range.clone()).ok_or_else(|| wrong(Problem::Truncated))?;
        Ok(Tensor::f_from_data_size(bytes, &entry.shape, kind)?)
    }

    /// A copy of a floating-point tensor in f32, on the CPU.
    ///
    /// # Errors
    /// As [`Weights::tensor`], and where the tensor holds no floating-point numbers.
    pub fn floats(&self, name: &str) -> Result<Tensor> {
        self.numbers(name, &[Kind::Float, Kind::Half, Kind::BFloat16, Kind::Double], Kind::Float)
    }

    /// A copy of a tensor of whole numbers in i32, on the CPU.
    ///
    /// # Errors
    /// As [`Weights::tensor`], and where the tensor holds other numbers.
    pub fn whole_numbers(&self, name: &str) -> Result<Tensor> {
        self.numbers(name, &[Kind::Int, Kind::Int64], Kind::Int)
    }

    /// A copy of a tensor that is stored in one of some kinds, in one.
    fn numbers(&self, name: &str, stored: &[Kind], wanted: Kind) -> Result<Tensor> {
        let tensor = self.tensor(name)?;
        if stored.contains(&tensor.kind()) {
            return Ok(tensor.f_to_kind(wanted)?);
        }
        let problem = Problem::Kind { name: name.to_owned(), kind: format!("{:?}", tensor.kind()) };
        Err(WeightsError { path: self.path.clone(), problem }.into())
    }
}

/// Maps a file into memory, for reading.
#[allow(unsafe_code)]
fn map(path: &Path) -> std::io::Result<(Mmap, FileId)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(std::io::Error::from(std::io::ErrorKind::IsADirectory));
    }
    // SAFETY: the map is read only. A file that is truncated while it is mapped would fault; model files are written whole and renamed
    // into place, and those of the store are read-only.
    Ok((unsafe { Mmap::map(&file) }?, FileId::of(&metadata)))
}
