//! Peak memory.

use qapipe_nn::device;
use tch::Device;

use crate::error::Error;

/// Most bytes held at one time: of the device since its last reset on CUDA, of the process on the CPU; none where the system does not tell.
///
/// # Errors
/// Where the device is gone.
pub fn peak(place: Device) -> Result<Option<u64>, Error> {
    Ok(device::peak_memory(place)?.or_else(peak_of_process))
}

/// Most bytes that this process had in memory.
fn peak_of_process() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_memory() {
        assert!(!cfg!(target_os = "linux") || peak_of_process().is_some_and(|bytes| bytes > 1_000_000));
    }
}
