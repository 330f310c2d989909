//! Values of all parameters at some time.

use std::path::Path;

use tch::{Device, Tensor};

use super::Parameters;
use crate::error::Result;
use crate::weights::{Weights, wide, write};

/// Values of all parameters at some time, on the host.
#[derive(Debug)]
pub struct Snapshot(Vec<Tensor>);

impl Parameters {
    /// Values of all parameters, for [`Parameters::restore`].
    ///
    /// # Errors
    /// Where the host has no memory.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let copy = |flat: &Tensor| Ok(flat.f_to_device_(Device::Cpu, flat.kind(), false, true)?);
        Ok(Snapshot(std::iter::once(&self.master).chain(&self.apart).map(copy).collect::<Result<_>>()?))
    }

    /// Writes a snapshot of masters to a file.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn save_snapshot(&self, snapshot: &Snapshot, path: &Path) -> Result<()> {
        let parts = snapshot.0.first().map(|flat| self.parts_of(flat, "")).transpose()?;
        write(path, wide(parts.unwrap_or_default())?, &[])
    }

    /// Reads a snapshot of masters.
    ///
    /// # Errors
    /// Where the file is of other parameters.
    pub fn read_snapshot(&self, path: &Path) -> Result<Snapshot> {
        let flat = self.master.f_zeros_like()?.f_to(Device::Cpu)?;
        self.read_flat(&Weights::open(path)?, "", &flat)?;
        Ok(Snapshot(vec![flat]))
    }

    /// Puts values back.
    ///
    /// # Errors
    /// Where the snapshot is of other parameters.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for (mut flat, kept) in std::iter::once(&self.master).chain(&self.apart).map(Tensor::shallow_clone).zip(&snapshot.0) {
            flat.f_copy_(kept)?;
        }
        self.renew()
    }
}
