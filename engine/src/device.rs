//! Where stages run that use tensors: what `--device` and `hints.device` say.

use std::fmt;
use std::str::FromStr;

use crate::error::StageError;

/// The devices that stages may run on which use tensors. A stage runs on one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Devices {
    /// The first GPU where there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// GPUs by their numbers, each once, in the order in which they are taken; there is at least one.
    Cuda(Vec<u16>),
}

/// Why a text names no devices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDevices {
    /// A word that is no device.
    #[error("`{0}` is none of auto, cpu, cuda, cuda:N; several GPUs are written cuda:0,cuda:1")]
    Unknown(String),
    /// `auto` or `cpu` beside something else.
    #[error("`{0}` stands alone: only GPUs make a list")]
    Alone(String),
    /// A GPU more than once.
    #[error("cuda:{0} is named twice")]
    Twice(u16),
}

/// What knows the GPUs of this machine. It is asked once a run at most, and only where stages may share a GPU or get one of several.
pub trait Gpus: fmt::Debug + Send + Sync {
    /// Bytes of memory of each GPU, by its number, where that is known; nothing where the GPUs are not known at all.
    fn memory(&self) -> Option<Vec<Option<u64>>>;
}

impl Devices {
    /// The error for a GPU that was named and is not among so many.
    #[must_use]
    pub fn lacking(&self, count: usize) -> Option<StageError> {
        let Self::Cuda(gpus) = self else { return None };
        let lacking = gpus.iter().find(|&&gpu| usize::from(gpu) >= count)?;
        let error = StageError::environment(format!("{} was asked for, but libtorch sees {count} CUDA devices", cuda(*lacking)));
        Some(error.help("`qapipe env` shows what there is; --device cpu works everywhere"))
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(gpus) => f.write_str(&gpus.iter().map(|&gpu| cuda(gpu)).collect::<Vec<_>>().join(",")),
        }
    }
}

/// The word for a GPU.
pub(crate) fn cuda(number: u16) -> String {
    format!("cuda:{number}")
}

/// The number of a GPU's word; `cuda` is the first.
fn number(word: &str) -> Option<u16> {
    if word == "cuda" { Some(0) } else { word.strip_prefix("cuda:")?.parse().ok() }
}

impl FromStr for Devices {
    type Err = NoDevices;

    fn from_str(text: &str) -> Result<Self, NoDevices> {
        match text {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            _ => {}
        }
        let mut gpus = Vec::new();
        for word in text.split(',') {
            match number(word) {
                Some(gpu) if gpus.contains(&gpu) => return Err(NoDevices::Twice(gpu)),
                Some(gpu) => gpus.push(gpu),
                None if matches!(word, "auto" | "cpu") => return Err(NoDevices::Alone(word.to_owned())),
                None => return Err(NoDevices::Unknown(word.to_owned())),
            }
        }
        Ok(Self::Cuda(gpus))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Devices, String> {
        text.parse().map_err(|error: NoDevices| error.to_string())
    }

    #[test]
    fn a_device_or_a_list_of_gpus() {
        assert_eq!((read("auto"), read("cpu")), (Ok(Devices::Auto), Ok(Devices::Cpu)));
        assert_eq!((read("cuda"), read("cuda:3")), (Ok(Devices::Cuda(vec![0])), Ok(Devices::Cuda(vec![3]))));
        assert_eq!(read("cuda:2,cuda,cuda:1"), Ok(Devices::Cuda(vec![2, 0, 1])), "in this order");
        let again = |text: &str| read(text).map(|devices| devices.to_string());
        assert_eq!(["auto", "cpu", "cuda:2,cuda:0"].map(again), ["auto", "cpu", "cuda:2,cuda:0"].map(|text| Ok(text.to_owned())));
    }

    #[test]
    fn what_is_no_list_says_why() {
        assert_eq!(read("cuda:0,cpu"), Err("`cpu` stands alone: only GPUs make a list".into()));
        assert_eq!(read("auto,cuda:0"), Err("`auto` stands alone: only GPUs make a list".into()));
        assert_eq!(read("cuda,cuda:0"), Err("cuda:0 is named twice".into()));
        for text in ["gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", "", "cuda:0,", "cuda:0;cuda:1", "cuda:0,1", "cuda:0, cuda:1"] {
            assert!(read(text).is_err_and(|error| error.contains("is none of")), "{text}");
        }
    }
}
