//! Weights in few bits on CUDA as on the CPU. Passes without doing anything where there is no CUDA device.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use qapipe_nn::quant::{Int4, Int8, Nf4, int8_product};
use qapipe_nn::{Weights, device};
use tch::{Device, Kind, Tensor};

use common::{assert_same, cuda, difference};

/// Shapes with rows that end within a vector, within a block, and at neither; one of more than 256 blocks; one as large as a layer.
const SHAPES: [[i64; 2]; 7] = [[1, 1], [5, 37], [24, 48], [7, 70], [130, 136], [33, 1000], [3072, 768]];
const KINDS: [Kind; 3] = [Kind::Float, Kind::BFloat16, Kind::Half];

fn random(shape: [i64; 2], seed: i64) -> Tensor {
    device::set_threads(1);
    tch::manual_seed(seed);
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

/// A place for a weight within a larger matrix: some rows down, so that it begins at any multiple of the kind's size.
fn within(shape: [i64; 2], kind: Kind, place: Device, rows: i64) -> (Tensor, Tensor) {
    let all = Tensor::full([shape[0] + rows + 1, shape[1]], 7.0, (kind, place));
    let part = all.narrow(0, rows, shape[0]);
    (all, part)
}

/// Asserts that kernels give what the CPU's loops give, whole and within a larger matrix, and touch nothing else.
fn compare(shape: [i64; 2], place: Device, what: &str, fill: impl Fn(&mut Tensor), host: impl Fn(Kind) -> Tensor) {
    for kind in KINDS {
        for rows in [0, 1, 3, 8] {
            let (all, mut part) = within(shape, kind, place, rows);
            fill(&mut part);
            assert_same(&part, &host(kind), &format!("{what} {shape:?} {kind:?} {rows}"));
            let others = Tensor::cat(&[all.narrow(0, 0, rows), all.narrow(0, rows + shape[0], 1)], 0);
            assert_eq!((others - 7.0).abs().max().double_value(&[]), 0.0, "{what} {shape:?} {kind:?} {rows}");
        }
    }
}

#[test]
fn nf4_comes_back_by_kernels_as_by_loops() {
    let Some(place) = cuda() else { return };
    for (shape, seed) in SHAPES.into_iter().zip(0..) {
        for (block, nested) in [(64, false), (64, true), (256, true), (4096, false)] {
            let host = Nf4::quantize(&random(shape, seed), block, nested).unwrap();
            let card = host.to_device(place).unwrap();
            let what = format!("nf4 {block} {nested}");
            compare(shape, place, &what, |out| card.dequantize_into(out).unwrap(), |kind| host.dequantize(kind).unwrap());
            assert_same(&card.dequantize_plainly().unwrap(), &host.dequantize_plainly().unwrap(), &what);
        }
    }
}

#[test]
fn int8_comes_back_by_kernels_as_by_loops() {
    let Some(place) = cuda() else { return };
    for (shape, seed) in SHAPES.into_iter().zip(0..) {
        let host = Int8::quantize(&random(shape, seed)).unwrap();
        let card = host.to_device(place).unwrap();
        compare(shape, place, "int8", |out| card.dequantize_into(out).unwrap(), |kind| host.dequantize(kind).unwrap());
        assert_same(&card.dequantize_plainly().unwrap(), &host.dequantize_plainly().unwrap(), "int8");
    }
}

#[test]
fn what_bitsandbytes_made_comes_back_by_kernels() {
    let Some(place) = cuda() else { return };
    let golden = Weights::open(&common::fixture_of("quant/golden.safetensors")).unwrap();
    for name in ["rows", "rest16", "rest_bf16", "rest", "blocks", "many_bf16", "edges", "tiny"] {
        for form in ["plain", "nested"].into_iter().filter(|form| golden.contains(&format!("{name}.{form}"))) {
            let weight = Nf4::open(&golden, &format!("{name}.{form}.weight")).unwrap().unwrap().to_device(place).unwrap();
            let theirs = golden.tensor(&format!("{name}.{form}")).unwrap();
            for kind in KINDS {
                assert_same(&weight.dequantize(kind).unwrap(), &theirs.to_kind(kind), name);
            }
        }
    }
}

#[test]
fn int4_comes_back_on_cuda() {
    let Some(place) = cuda() else { return };
    for (shape, seed) in SHAPES.into_iter().zip(0..) {
        let host = Int4::quantize(&random(shape, seed), 128, None).unwrap();
        let card = host.to_device(place).unwrap();
        for kind in KINDS {
            // A product and a sum may be one operation there.
            assert!(difference(&card.dequantize(kind).unwrap().to(Device::Cpu), &host.dequantize(kind).unwrap()) < 0.02);
        }
    }
}

#[test]
fn a_weight_is_packed_on_cuda_as_on_the_cpu() {
    let Some(place) = cuda() else { return };
    for (shape, seed) in SHAPES.into_iter().zip(0..) {
        for kind in [Kind::Float, Kind::Half, Kind::BFloat16] {
            let weight = random(shape, seed).to_kind(kind);
            let (host, card) = (Int8::quantize(&weight).unwrap(), Int8::quantize(&weight.to(place)).unwrap());
            assert_same(&card.scb, &host.scb, "scb");
            assert!(difference(&card.values.to(Device::Cpu), &host.values) <= 1.0);
            let (host, card) = (Nf4::quantize(&weight, 64, true).unwrap(), Nf4::quantize(&weight.to(place), 64, true).unwrap());
            let off = difference(&card.dequantize(Kind::Float).unwrap().to(Device::Cpu), &host.dequantize(Kind::Float).unwrap());
            assert!(off < 1.0, "{shape:?} {kind:?}: {off}");
            let packed = (card.packed.to(Device::Cpu).ne_tensor(&host.packed)).sum(Kind::Int64).int64_value(&[]);
            assert!(packed * 1000 <= shape[0] * shape[1], "{shape:?} {kind:?}: {packed}");
        }
    }
}

#[test]
fn products_in_eight_bits_are_those_of_the_cpu() {
    let Some(place) = cuda() else { return };
    // Few rows, and widths that are no multiple of eight, are filled up.
    for (rows, width, height) in [(1, 64, 32), (17, 64, 32), (40, 100, 33), (300, 768, 3072)] {
        let (x, weight) = (random([rows, width], 1), Int8::quantize(&random([height, width], 2)).unwrap());
        let _large = x.select(1, 5).fill_(20.0);
        let card = weight.to_device(place).unwrap();
        for (kind, off) in [(Kind::Float, 1e-3), (Kind::BFloat16, 0.02), (Kind::Half, 0.004)] {
            for outliers in [None, Some(6.0), Some(100.0)] {
                let x = x.to_kind(kind);
                let host = int8_product(&x, &weight, outliers).unwrap();
                let found = difference(&int8_product(&x.to(place), &card, outliers).unwrap().to(Device::Cpu), &host);
                let most = host.abs().max().double_value(&[]);
                assert!(found <= most * off, "{rows} {width} {height} {kind:?} {outliers:?}: {found} of {most}");
            }
        }
    }
}

/// Tells how fast kernels and plain operations are, and asserts that kernels are the faster ones.
#[test]
fn kernels_are_fast() {
    let Some(place) = cuda() else { return };
    let weight = random([8192, 4096], 1).to(place);
    let (nf4, int8) = (Nf4::quantize(&weight, 64, true).unwrap(), Int8::quantize(&weight).unwrap());
    let mut out = Tensor::zeros([8192, 4096], (Kind::BFloat16, place));
    let mut time = |what: &str, work: &mut dyn FnMut(&mut Tensor)| {
        work(&mut out);
        device::synchronize(place).unwrap();
        let start = std::time::Instant::now();
        (0..20).for_each(|_| work(&mut out));
        device::synchronize(place).unwrap();
        let each = start.elapsed().as_secs_f64() / 20.0;
        eprintln!("{what}: {:.1} us, {:.0} GB/s written", each * 1e6, 8192.0 * 4096.0 * 2.0 / each / 1e9);
        each
    };
    let kernel = time("nf4 kernel", &mut |out| nf4.dequantize_into(out).unwrap());
    let plain = time("nf4 plain", &mut |out| out.copy_(&nf4.dequantize_plainly().unwrap()));
    assert!(kernel * 5.0 < plain, "{kernel} {plain}");
    let kernel = time("int8 kernel", &mut |out| int8.dequantize_into(out).unwrap());
    let plain = time("int8 plain", &mut |out| out.copy_(&int8.dequantize_plainly().unwrap()));
    assert!(kernel * 1.5 < plain, "{kernel} {plain}");
}
