//! Builds the C++ half against libtorch's headers, and tells this crate's tests and its dependents where libtorch is.

use std::path::{Path, PathBuf};

const SOURCES: [&str; 21] = [
    "src/cpp/attention.cpp",
    "src/cpp/choose.cpp",
    "src/cpp/conv.cpp",
    "src/cpp/conv_cpu.cpp",
    "src/cpp/dequantise.cpp",
    "src/cpp/dequantise_cpu.cpp",
    "src/cpp/kernels.cpp",
    "src/cpp/lstm.cpp",
    "src/cpp/lstm_cpu.cpp",
    "src/cpp/lstm_cuda.cpp",
    "src/cpp/low_rank.cpp",
    "src/cpp/masked.cpp",
    "src/cpp/norm.cpp",
    "src/cpp/optimiser.cpp",
    "src/cpp/places.cpp",
    "src/cpp/restored.cpp",
    "src/cpp/runtime.cpp",
    "src/cpp/scan.cpp",
    "src/cpp/scan_cpu.cpp",
    "src/cpp/scan_cuda.cpp",
    "src/cpp/scan_plain.cpp",
];

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    println!("cargo::rerun-if-changed=src/cpp");
    let home = libtorch()?;
    let libraries = home.join("lib");
    println!("cargo::metadata=libdir={}", libraries.display());
    println!("cargo::rustc-link-search=native={}", libraries.display());
    println!("cargo::rustc-link-arg=-Wl,-rpath,{}", libraries.display());
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .flag_if_supported("-fvisibility=hidden")
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .opt_level(2)
        .debug(false)
        .warnings(false)
        .include(home.join("include"))
        .files(SOURCES)
        .try_compile("qapipe_nn_shim")
        .map_err(|error| format!("building the C++ half of qapipe-nn: {error}"))
}

/// The absolute folder of libtorch: what the build script of tch uses.
fn libtorch() -> Result<PathBuf, String> {
    let given = std::env::var("LIBTORCH").map_err(|_| "LIBTORCH is not set; run scripts/libtorch, or set it to a libtorch 2.11.0")?;
    let home = Path::new(&given).canonicalize().map_err(|error| format!("LIBTORCH is {given}: {error}; run scripts/libtorch"))?;
    let header = home.join("include/ATen/core/Tensor.h");
    if header.exists() { Ok(home) } else { Err(format!("LIBTORCH is {given}, but there is no include/ATen in it; run scripts/libtorch")) }
}
