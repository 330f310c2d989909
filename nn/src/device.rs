//! Devices: which there are, loading CUDA, threads, memory, seeds.

use std::ffi::{CStr, c_void};
use std::path::PathBuf;

use serde::Serialize;
use tch::{Cuda, Device, Tensor};

use crate::error::{NnError, Result};
use crate::shim;

/// Version of libtorch that this was built for.
pub const LIBTORCH: &str = "2.11.0";

/// What libtorch and its devices are, for `env`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DeviceInfo {
    /// Version of libtorch that this was built for.
    pub libtorch: &'static str,
    /// Folder that libtorch was loaded from.
    pub folder: Option<PathBuf>,
    /// Threads that one operation may use on the CPU.
    pub threads: i64,
    /// CUDA devices, by index.
    pub cuda: Vec<CudaDevice>,
    /// Why there is no CUDA, where there is none.
    pub no_cuda: Option<String>,
}

/// One CUDA device.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CudaDevice {
    /// Its marketing name.
    pub name: Option<String>,
    /// Its memory in bytes.
    pub memory: Option<u64>,
}

/// Memory of a CUDA device, in bytes, as libtorch's allocator counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceMemory {
    /// In tensors now.
    pub allocated: u64,
    /// Most in tensors at one time since the last reset.
    pub peak: u64,
    /// Most held from the device at one time since the last reset.
    pub reserved: u64,
}

/// The device of a name: `auto` (the first CUDA device where there is one, else the CPU), `cpu`, `cuda`, `cuda:N`. Loads CUDA where it
/// is needed; call it before anything else of libtorch, which looks for CUDA once and remembers.
///
/// # Errors
/// On another name, and where a CUDA device was asked for that is not there.
pub fn resolve(name: &str) -> Result<Device> {
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "auto" => return Ok(if matches!(load_cuda(), Ok(true)) && Cuda::is_available() { Device::Cuda(0) } else { Device::Cpu }),
        "cuda" => 0,
        other => other
            .strip_prefix("cuda:")
            .and_then(|number| number.parse::<u8>().ok())
            .ok_or_else(|| NnError::Device(format!("{other:?} is none; write auto, cpu, cuda or cuda:N")))?,
    };
    if !load_cuda()? {
        return Err(NnError::Device(format!(
            "{name} was asked for, but this libtorch has no CUDA; run scripts/libtorch --cuda, or use cpu"
        )));
    }
    let count = Cuda::device_count();
    if i64::from(index) < count {
        return Ok(Device::Cuda(usize::from(index)));
    }
    Err(NnError::Device(format!("{name} was asked for, but libtorch sees {count} CUDA devices; check nvidia-smi, or use cpu")))
}

/// Loads libtorch's CUDA half where it is beside the CPU half, so that one executable serves both. Tells whether it is loaded.
///
/// # Errors
/// Where the library is there but cannot be loaded: a library that it needs is missing.
#[allow(unsafe_code)]
pub fn load_cuda() -> Result<bool> {
    let Some(path) = library_folder().map(|folder| folder.join("libtorch_cuda.so")).filter(|path| path.exists()) else { return Ok(false) };
    // SAFETY: this is libtorch's own library, of the same build as the loaded half; its initialisers register kernels and nothing else.
    let loaded = unsafe { open_forever(&path) };
    loaded.map(|()| true).map_err(|error| NnError::Device(format!("cannot load {}: {error}", path.display())))
}

/// Opens a library with its symbols for everyone, and never closes it.
///
/// # Safety
/// The library's initialisers must be sound to run.
#[allow(unsafe_code)]
#[cfg(unix)]
unsafe fn open_forever(path: &std::path::Path) -> Result<(), libloading::Error> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: by the contract above.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL)? };
    std::mem::forget(library);
    Ok(())
}

/// Elsewhere than on Unix, the usual search applies.
///
/// # Safety
/// The library's initialisers must be sound to run.
#[allow(unsafe_code)]
#[cfg(not(unix))]
unsafe fn open_forever(path: &std::path::Path) -> Result<(), libloading::Error> {
    // SAFETY: by the contract above.
    std::mem::forget(unsafe { libloading::Library::new(path)? });
    Ok(())
}

/// The folder of the libtorch_cpu that this process runs on.
fn library_folder() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.contains("/libtorch_cpu.so"))?;
    let path = PathBuf::from(&line[line.find('/')?..]);
    path.parent().map(PathBuf::from)
}

/// What libtorch and its devices are.
#[must_use]
pub fn info() -> DeviceInfo {
    let no_cuda = match load_cuda() {
        Err(error) => Some(error.to_string()),
        Ok(false) => Some("this libtorch has no CUDA".to_owned()),
        Ok(true) if !Cuda::is_available() => Some("libtorch sees no CUDA device".to_owned()),
        Ok(true) => None,
    };
    let count = if no_cuda.is_none() { usize::try_from(Cuda::device_count()).unwrap_or(0) } else { 0 };
    DeviceInfo { libtorch: LIBTORCH, folder: library_folder(), threads: threads(), cuda: (0..count).map(cuda_device).collect(), no_cuda }
}

/// What one CUDA device is.
fn cuda_device(index: usize) -> CudaDevice {
    let memory = shim::total_memory(Device::Cuda(index)).ok().and_then(|total| u64::try_from(total).ok());
    CudaDevice { name: device_name(index), memory }
}

/// The marketing name of a CUDA device. Unlike [`info`] this does nothing on any device.
#[must_use]
pub fn name(device: Device) -> Option<String> {
    match device {
        Device::Cuda(index) => device_name(index),
        _ => None,
    }
}

/// The name of a CUDA device, asked of the loaded CUDA half: `at::cuda::getDeviceProperties`, whose result begins with the name.
#[allow(unsafe_code)]
fn device_name(index: usize) -> Option<String> {
    let index = i8::try_from(index).ok()?;
    #[cfg(unix)]
    let this = libloading::os::unix::Library::this();
    #[cfg(not(unix))]
    let this = libloading::os::windows::Library::this().ok()?;
    // SAFETY: the symbol is that function of libtorch 2.11: it takes an index (signed char) and gives a pointer to a cudaDeviceProp that
    // lives as long as the process and begins with `char name[256]`. It throws on an index that is not there; ours is below the count.
    unsafe {
        let properties = this.get::<unsafe extern "C" fn(i8) -> *const c_void>(b"_ZN2at4cuda19getDevicePropertiesEa\0").ok()?;
        let pointer = properties(index);
        if pointer.is_null() {
            return None;
        }
        Some(CStr::from_ptr(pointer.cast()).to_string_lossy().into_owned())
    }
}

/// Lets the process keep the memory of freed tensors, up to a limit, for the next ones: on the CPU, a third of a training's time went into
/// getting it anew. For a process that does little else.
pub fn keep_pages() {
    shim::keep_pages();
}

/// Sets how many threads one operation may use on the CPU. Results on the CPU depend on it in the last bits.
pub fn set_threads(threads: usize) {
    tch::set_num_threads(i32::try_from(threads.max(1)).unwrap_or(i32::MAX));
}

/// How many threads one operation may use on the CPU.
#[must_use]
pub fn threads() -> i64 {
    i64::from(tch::get_num_threads())
}

/// Asks libtorch for algorithms that give the same bits every time, where it has them. On the CPU all that this crate uses do anyway.
///
/// # Errors
/// What libtorch reports.
pub fn set_deterministic(on: bool) -> Result<()> {
    shim::deterministic(on)
}

/// Seeds the random numbers of a device. Models seed them by themselves on every pass ([`crate::Forward`]).
///
/// # Errors
/// Where the device is not there.
pub fn seed(device: Device, seed: u64) -> Result<()> {
    shim::seed(device, seed)
}

/// Waits until a device has done what it was given; at once on the CPU.
///
/// # Errors
/// What went wrong on the device since the last wait.
pub fn synchronize(device: Device) -> Result<()> {
    if device.is_cuda() { shim::synchronize(device) } else { Ok(()) }
}

/// What libtorch's allocator holds and held on a device; unknown on the CPU, where there is none.
///
/// # Errors
/// Where the device is not there.
pub fn memory(device: Device) -> Result<Option<DeviceMemory>> {
    if !device.is_cuda() {
        return Ok(None);
    }
    let found = shim::memory(device)?;
    let bytes = |count: i64| u64::try_from(count).unwrap_or(0);
    Ok(Some(DeviceMemory { allocated: bytes(found.allocated), peak: bytes(found.peak), reserved: bytes(found.reserved) }))
}

/// Most bytes in tensors at one time on a device since the last reset; unknown on the CPU.
///
/// # Errors
/// Where the device is not there.
pub fn peak_memory(device: Device) -> Result<Option<u64>> {
    Ok(memory(device)?.map(|memory| memory.peak))
}

/// Starts the measuring of the peak anew.
///
/// # Errors
/// Where the device is not there.
pub fn reset_peak_memory(device: Device) -> Result<()> {
    if device.is_cuda() { shim::reset_peak(device) } else { Ok(()) }
}

/// Gives memory that is free back to the system and to the devices, for other processes: the allocators keep it otherwise.
pub fn give_back() {
    shim::give_back();
}

/// A copy of a host tensor in page-locked memory, from which a transfer overlaps with work. Needs CUDA.
///
/// # Errors
/// Where there is no CUDA, or no memory.
pub fn pinned(tensor: &Tensor) -> Result<Tensor> {
    shim::pin(tensor)
}
