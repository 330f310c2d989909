//! Devices and the process.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use qapipe_nn::bench::{self, BertBench, MambaBench, Repeats, T5Adapt, T5Generate, T5Train};
use qapipe_nn::device;
use tch::Device;

#[test]
fn names_are_resolved_or_refused() {
    assert_eq!(device::resolve("cpu").unwrap(), Device::Cpu);
    assert!(device::resolve("auto").is_ok());
    for name in ["gpu", "cuda:x", "cuda:", ""] {
        let text = device::resolve(name).unwrap_err().to_string();
        assert!(text.contains("write auto, cpu, cuda or cuda:N"), "{text}");
    }
    if device::info().cuda.is_empty() {
        assert!(device::resolve("cuda:0").unwrap_err().to_string().contains("cuda:0 was asked for"));
    }
}

#[test]
fn the_machine_is_described() {
    let info = device::info();
    assert_eq!(info.libtorch, "2.11.0");
    assert!(info.folder.unwrap().join("libtorch_cpu.so").exists());
    assert_eq!(info.cuda.is_empty(), info.no_cuda.is_some());
}

#[test]
fn the_cpu_needs_no_waiting_and_counts_no_memory() {
    device::synchronize(Device::Cpu).unwrap();
    device::reset_peak_memory(Device::Cpu).unwrap();
    assert_eq!(device::peak_memory(Device::Cpu).unwrap(), None);
    device::set_threads(1);
    assert_eq!(device::threads(), 1);
    device::set_deterministic(true).unwrap();
}

#[test]
fn errors_of_libtorch_are_errors_of_one_line() {
    if device::info().cuda.is_empty() {
        let text = device::pinned(&tch::Tensor::from_slice(&[1_i64])).unwrap_err().to_string();
        assert!(text.starts_with("libtorch: ") && text.lines().count() == 1, "{text}");
        assert!(device::seed(Device::Cuda(0), 1).is_err());
    }
}

/// One executable for CPU and CUDA: the CUDA half must be no dependency of it. The names of what it depends on lie in one table, each after a
/// zero; a name that the program itself uses may lie elsewhere.
#[cfg(target_os = "linux")]
#[test]
fn the_executable_hangs_on_the_cpu_half_only() {
    let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let tables: Vec<&[u8]> = bytes.split(|byte| !byte.is_ascii_graphic() && *byte != 0).collect();
    let named = |table: &[u8], name: &str| table.split(|byte| *byte == 0).any(|found| found == name.as_bytes());
    let table = tables.into_iter().find(|table| named(table, "libtorch_cpu.so") && named(table, "libc.so.6")).unwrap();
    assert!(!named(table, "libtorch_cuda.so") && !named(table, "libc10_cuda.so"));
}

#[test]
fn the_bench_runs_anywhere() {
    device::set_threads(1);
    let lengths = bench::lengths(None).unwrap();
    let bert = BertBench { repeats: Repeats { warm_up: 0, timed: 2 }, ..BertBench::base(lengths.clone(), Device::Cpu).tiny() };
    let (first, second) = (bert.run().unwrap(), bert.run().unwrap());
    assert!(first.examples_per_s > 0.0 && first.peak_gib.is_none());
    assert_eq!(first.loss.map(f64::to_bits), second.loss.map(f64::to_bits));
    let train = T5Train::base(lengths, Device::Cpu).tiny().run().unwrap();
    assert!(train.loss.is_some_and(f64::is_finite) && train.real_tokens_per_s > 0.0);
    let written = T5Generate::base(Device::Cpu).tiny().run().unwrap();
    let adapted = T5Adapt { train: T5Train::base(bench::lengths(None).unwrap(), Device::Cpu).tiny() }.run().unwrap();
    assert!(adapted.len() == 3 && adapted.iter().all(|row| row.loss.is_some_and(f64::is_finite)));
    assert!(written.loss.is_none() && written.examples_per_s > 0.0);
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for wrong in ["[]", "[3, 0]", "{}", "[1.5]"] {
        std::fs::write(file.path(), wrong).unwrap();
        assert!(bench::lengths(Some(file.path())).is_err(), "{wrong}");
    }
}

#[test]
fn the_bench_of_mamba_runs_anywhere() {
    device::set_threads(1);
    let rows = MambaBench::small(Device::Cpu).tiny().run().unwrap();
    let systems: Vec<&str> = rows.iter().map(|row| row.system.as_str()).collect();
    let names = ["forward", "fwd+bwd", "prompt 9 + 3 new"].map(|what| format!("mamba-130m {what} f32 cpu qapipe"));
    assert_eq!(systems, names);
    assert!(rows.iter().all(|row| row.ms_per_step > 0.0 && row.peak_gib.is_none()));
    assert!(rows[1].loss.is_some_and(|loss| (loss - 200_f64.ln()).abs() < 0.5), "{:?}", rows[1].loss);
}
