//! Energy that a GPU has used, where the driver counts it.

use nvml_wrapper::Nvml;

/// A running count of one GPU's energy.
pub struct Energy {
    nvml: Option<Nvml>,
    index: u32,
    start: Option<u64>,
}

impl Energy {
    /// Starts counting for GPU `index`; none counts nothing. Without NVML, or on a card that does not count, the figure is unknown.
    pub fn start(index: Option<usize>) -> Self {
        let index = index.and_then(|index| u32::try_from(index).ok());
        let nvml = index.and_then(|_| Nvml::init().ok());
        let mut energy = Self { nvml, index: index.unwrap_or(0), start: None };
        energy.start = energy.total();
        energy
    }

    /// Joules since the start.
    #[allow(clippy::cast_precision_loss)]
    pub fn joules(&self) -> Option<f64> {
        Some(self.total()?.saturating_sub(self.start?) as f64 / 1000.0)
    }

    /// Millijoules since the driver was loaded.
    fn total(&self) -> Option<u64> {
        self.nvml.as_ref()?.device_by_index(self.index).ok()?.total_energy_consumption().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_gpu_it_is_unknown() {
        assert_eq!(Energy::start(None).joules(), None);
    }
}
