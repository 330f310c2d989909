//! Values of all parameters at some time.

use tch::{Device, Tensor};

use super::Parameters;
use crate::error::Result;

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
