//! Peak memory.

use qapipe_nn::device;
use tch::Device;

use crate::error::Error;

/// Most bytes held at one time since the last reset: of the device on CUDA, of the process on the CPU; none where the system does not tell.
///
/// # Errors
/// Where the device is gone.
pub fn peak(place: Device) -> Result<Option<u64>, Error> {
    Ok(device::peak_memory(place)?.or_else(peak_of_process))
}

/// Most bytes that this process held of a GPU since its stage began: what no other process could have meanwhile. Nothing on the CPU. That the peak
/// was measured anew within the stage makes no difference, since the allocator keeps what it holds until the stage's end.
///
/// # Errors
/// Where the device is gone.
pub fn held(place: Device) -> Result<Option<u64>, Error> {
    Ok(device::memory(place)?.map(|memory| memory.reserved))
}

/// Starts the measuring of the peak anew: what the stages before held is none of this one's.
///
/// # Errors
/// Where the device is gone.
pub fn reset_peak(place: Device) -> Result<(), Error> {
    // Linux's word for it; where it is not understood, the peak is that of the whole process.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    Ok(device::reset_peak_memory(place)?)
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
