//! Energy that a GPU has used, where the driver counts it.

use nvml_wrapper::Nvml;

/// A running count of one GPU's energy.
pub struct Energy {
    gpu: Option<(Nvml, Gpu)>,
    start: Option<u64>,
}

/// How the driver's library knows a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Gpu {
    Index(u32),
    Uuid(String),
}

impl Energy {
    /// Starts counting for the GPU that libtorch knows by `index`; none counts nothing. Without NVML, or on a card that does not count,
    /// the figure is unknown.
    pub fn start(index: Option<usize>) -> Self {
        let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
        let gpu = index.and_then(|index| Some((Nvml::init().ok()?, physical(index, visible.as_deref())?)));
        let mut energy = Self { gpu, start: None };
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
        let (nvml, gpu) = self.gpu.as_ref()?;
        let device = match gpu {
            Gpu::Index(index) => nvml.device_by_index(*index),
            Gpu::Uuid(uuid) => nvml.device_by_uuid(uuid.as_str()),
        };
        device.ok()?.total_energy_consumption().ok()
    }
}

/// The driver's GPU for an index among those that CUDA_VISIBLE_DEVICES leaves.
fn physical(index: usize, visible: Option<&str>) -> Option<Gpu> {
    let Some(visible) = visible.filter(|text| !text.trim().is_empty()) else { return u32::try_from(index).ok().map(Gpu::Index) };
    let name = visible.split(',').nth(index)?.trim();
    Some(name.parse().map_or_else(|_| Gpu::Uuid(name.to_owned()), Gpu::Index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_gpu_it_is_unknown() {
        assert_eq!(Energy::start(None).joules(), None);
    }

    #[test]
    fn visible_devices_are_counted_as_cuda_counts_them() {
        assert_eq!(physical(1, None), Some(Gpu::Index(1)));
        assert_eq!(physical(1, Some("3, 5")), Some(Gpu::Index(5)));
        assert_eq!(physical(0, Some("GPU-77ab")), Some(Gpu::Uuid("GPU-77ab".into())));
        assert_eq!(physical(2, Some("3,5")), None);
    }
}
