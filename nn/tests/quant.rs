//! Weights in few bits: the bytes that bitsandbytes makes, what comes back of them, and what is refused of a file.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use proptest::prelude::*;
use qapipe_nn::Weights;
use qapipe_nn::quant::{Absmax, Int4, Int8, Nf4, dynamic_map, int8_product};
use qapipe_nn::weights::write;
use tch::{Device, Kind, Tensor};

use common::{assert_same, difference, numbers};

/// What bitsandbytes made.
fn golden() -> Weights {
    qapipe_nn::device::set_threads(1);
    Weights::open(&common::fixture_of("quant/golden.safetensors")).unwrap()
}

const WEIGHTS: [&str; 8] = ["rows", "rest16", "rest_bf16", "rest", "blocks", "many_bf16", "edges", "tiny"];
const KINDS: [Kind; 3] = [Kind::Float, Kind::Half, Kind::BFloat16];

/// Names of golden weights in a format.
fn stored(golden: &Weights, format: &str) -> Vec<&'static str> {
    WEIGHTS.into_iter().filter(|name| golden.contains(&format!("{name}.{format}"))).collect()
}

/// Weights of a file with these tensors.
fn file(tensors: &[(String, Tensor)]) -> (tempfile::TempDir, Weights) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write(&path, tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect(), &[]).unwrap();
    let weights = Weights::open(&path).unwrap();
    (folder, weights)
}

fn random(shape: [i64; 2], seed: i64) -> Tensor {
    tch::manual_seed(seed);
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

#[test]
fn the_dynamic_map_is_that_of_bitsandbytes() {
    assert_same(&Tensor::from_slice(&dynamic_map()), &golden().tensor("dynamic_map").unwrap(), "map");
}

#[test]
fn nf4_is_stored_as_bitsandbytes_stores_it() {
    let golden = golden();
    for form in ["plain", "nested"] {
        for name in stored(&golden, form) {
            let weight = golden.tensor(name).unwrap();
            let ours = Nf4::quantize(&weight, 64, form == "nested").unwrap();
            let parts = ours.tensors(&format!("{name}.{form}.weight"));
            assert_eq!(parts.len(), if form == "nested" { 6 } else { 4 });
            for (part, tensor) in parts {
                assert_same(&tensor, &golden.tensor(&part).unwrap(), &part);
            }
            assert_eq!((ours.kind, ours.shape.to_vec()), (weight.kind(), weight.size()));
        }
    }
}

#[test]
fn nf4_comes_back_as_bitsandbytes_has_it() {
    let golden = golden();
    for form in ["plain", "nested"] {
        for name in stored(&golden, form) {
            let theirs = golden.tensor(&format!("{name}.{form}")).unwrap();
            let opened = Nf4::open(&golden, &format!("{name}.{form}.weight")).unwrap().unwrap();
            assert_same(&opened.dequantize_plainly().unwrap(), &theirs, name);
            for kind in KINDS {
                assert_same(&opened.dequantize(kind).unwrap(), &theirs.to_kind(kind), name);
            }
        }
    }
}

#[test]
fn int8_is_that_of_bitsandbytes() {
    let golden = golden();
    for name in stored(&golden, "int8") {
        let ours = Int8::quantize(&golden.tensor(name).unwrap()).unwrap();
        for (part, tensor) in ours.tensors(&format!("{name}.int8.weight")) {
            assert_same(&tensor, &golden.tensor(&part).unwrap(), &part);
        }
        let theirs = golden.tensor(&format!("{name}.int8")).unwrap();
        let opened = Int8::open(&golden, &format!("{name}.int8.weight")).unwrap().unwrap();
        assert_same(&opened.dequantize_plainly().unwrap(), &theirs, name);
        for kind in KINDS {
            assert_same(&opened.dequantize(kind).unwrap(), &theirs.to_kind(kind), name);
        }
    }
}

#[test]
fn products_in_eight_bits_are_those_of_bitsandbytes() {
    let golden = golden();
    let weight = Int8::open(&golden, "rows.int8.weight").unwrap().unwrap();
    for (kind, most) in [("f32", 2e-5), ("f16", 0.05), ("bf16", 0.4)] {
        let x = golden.tensor(&format!("x.{kind}")).unwrap();
        assert_same(&int8_product(&x, &weight, None).unwrap(), &golden.tensor(&format!("y.{kind}")).unwrap(), kind);
        // How the columns with outliers are summed in half precision differs between processors.
        let theirs = golden.tensor(&format!("y.{kind}.outliers")).unwrap();
        assert!(difference(&int8_product(&x, &weight, Some(6.0)).unwrap(), &theirs) <= most, "{kind}");
        let deep = x.view([5, 1, 48]);
        assert_eq!(int8_product(&deep, &weight, None).unwrap().size(), [5, 1, 24]);
        assert_same(&int8_product(&x, &weight, Some(100.0)).unwrap(), &golden.tensor(&format!("y.{kind}")).unwrap(), kind);
    }
    assert!(int8_product(&random([3, 47], 1), &weight, None).unwrap_err().to_string().contains("cannot be multiplied"));
}

#[test]
fn outliers_apart_bring_the_product_nearer() {
    let (x, weight) = (random([40, 64], 3), random([32, 64], 4));
    let _large = x.select(1, 5).fill_(30.0);
    let exact = x.matmul(&weight.tr());
    let int8 = Int8::quantize(&weight).unwrap();
    let [with, without] = [Some(6.0), None].map(|outliers| difference(&int8_product(&x, &int8, outliers).unwrap(), &exact));
    assert!(with < 0.5 && with < without / 3.0, "{with} {without}");
}

#[test]
fn an_odd_count_of_numbers_is_filled_up_with_zero() {
    let weight = random([5, 37], 5);
    let odd = Nf4::quantize(&weight, 64, false).unwrap();
    let even =
        Nf4::quantize(&Tensor::cat(&[weight.view([1, -1]), Tensor::zeros([1, 1], (Kind::Float, Device::Cpu))], 1), 64, false).unwrap();
    assert_eq!(odd.packed.size(), [93, 1]);
    assert_same(&odd.packed, &even.packed, "packed");
    assert_same(
        &odd.dequantize(Kind::Float).unwrap().view(-1),
        &even.dequantize(Kind::Float).unwrap().view(-1).narrow(0, 0, 185),
        "numbers",
    );
}

#[test]
fn equal_scales_can_be_nested() {
    for weight in [random([1, 40], 1), Tensor::ones([8, 64], (Kind::Float, Device::Cpu))] {
        let [nested, plain] = [true, false].map(|nested| Nf4::quantize(&weight, 64, nested).unwrap().dequantize(Kind::Float).unwrap());
        assert_same(&nested, &plain, "numbers");
    }
}

#[test]
fn a_weight_takes_the_bits_that_papers_say() {
    let weight = random([1024, 1024], 2);
    #[allow(clippy::cast_precision_loss)]
    let bits = |bytes: usize| bytes as f64 * 8.0 / (1024.0 * 1024.0);
    assert_eq!(bits(Nf4::quantize(&weight, 64, false).unwrap().bytes()), 4.5);
    assert!((bits(Nf4::quantize(&weight, 64, true).unwrap().bytes()) - 4.127).abs() < 1e-4);
    assert_eq!(bits(Int8::quantize(&weight).unwrap().bytes()), 8.0 + 32.0 / 1024.0);
    assert_eq!(bits(Int4::quantize(&weight, 128, None).unwrap().bytes()), 4.25);
}

#[test]
fn part_of_a_larger_matrix_is_filled() {
    let weight = random([6, 70], 7);
    let (nf4, int8, int4) =
        (Nf4::quantize(&weight, 64, true).unwrap(), Int8::quantize(&weight).unwrap(), Int4::quantize(&weight, 32, None).unwrap());
    for kind in KINDS {
        let all = Tensor::zeros([20, 70], (kind, Device::Cpu));
        nf4.dequantize_into(&mut all.narrow(0, 1, 6)).unwrap();
        int8.dequantize_into(&mut all.narrow(0, 7, 6)).unwrap();
        int4.dequantize_into(&mut all.narrow(0, 13, 6)).unwrap();
        assert_same(&all.narrow(0, 1, 6), &nf4.dequantize(kind).unwrap(), "nf4");
        assert_same(&all.narrow(0, 7, 6), &int8.dequantize(kind).unwrap(), "int8");
        assert_same(&all.narrow(0, 13, 6), &int4.dequantize(kind).unwrap(), "int4");
        assert_eq!(all.narrow(0, 0, 1).abs().sum(Kind::Float).double_value(&[]), 0.0);
        assert_eq!(all.narrow(0, 19, 1).abs().sum(Kind::Float).double_value(&[]), 0.0);
        // Not behind each other in memory: the fallback fills them.
        let wide = Tensor::zeros([70, 6], (kind, Device::Cpu));
        nf4.dequantize_into(&mut wide.tr()).unwrap();
        assert_same(&wide.tr(), &nf4.dequantize(kind).unwrap(), "nf4");
        int8.dequantize_into(&mut wide.tr()).unwrap();
        assert_same(&wide.tr(), &int8.dequantize(kind).unwrap(), "int8");
    }
    let mut other = Tensor::zeros([6, 71], (Kind::Float, Device::Cpu));
    for error in [nf4.dequantize_into(&mut other), int8.dequantize_into(&mut other), int4.dequantize_into(&mut other)] {
        assert!(error.unwrap_err().to_string().contains("does not fit into [6, 71]"));
    }
    assert!(nf4.dequantize(Kind::Int).unwrap_err().to_string().contains("cannot be dequantized to Int"));
}

/// The weighted squared error that is left.
fn error(weight: &Tensor, packed: &Int4, importance: &Tensor) -> f64 {
    ((weight - packed.dequantize(Kind::Float).unwrap()).to_kind(Kind::Double).square() * importance).sum(Kind::Double).double_value(&[])
}

#[test]
fn int4_with_importance_is_never_worse_and_mostly_better() {
    for (seed, group) in [(1, 128), (2, 32), (3, 50)] {
        let weight = random([24, 300], seed);
        let importance = random([1, 300], seed + 9).view(-1).square().square();
        let plain = Int4::quantize(&weight, group, None).unwrap();
        let searched = Int4::quantize(&weight, group, Some(&importance)).unwrap();
        for row in 0..24 {
            let of = |packed: &Int4| {
                let squares = (weight.get(row) - packed.dequantize(Kind::Float).unwrap().get(row)).to_kind(Kind::Double).square();
                (squares * &importance).sum(Kind::Double).double_value(&[])
            };
            assert!(of(&searched) <= of(&plain) * (1.0 + 1e-6), "row {row}");
        }
        assert!(error(&weight, &searched, &importance) < 0.97 * error(&weight, &plain, &importance));
        assert_eq!((searched.scale.size(), searched.scale.kind()), (vec![24, (299 / group) + 1], Kind::Half));
    }
}

#[test]
fn int4_is_within_half_a_step() {
    for (shape, group, size) in [([7, 130], 128, 1.0), ([3, 5], 128, 1e30), ([4, 33], 16, 1e-20), ([4, 33], 16, 1e-7)] {
        let weight = random(shape, 5) * size;
        let packed = Int4::quantize(&weight, group, None).unwrap();
        let step = (weight.max() - weight.min()).double_value(&[]) / 15.0;
        // Half a step, and what f16 may take from either end of it.
        assert!(difference(&packed.dequantize(Kind::Float).unwrap(), &weight) < step * 0.52, "{shape:?} {size}");
    }
}

#[test]
fn every_format_goes_to_disk_and_back() {
    for (name, beside) in [("encoder.0.query.weight", "encoder.0.query"), ("layers.0.weight_hh_l0", "layers.0.weight_hh_l0")] {
        let weight = random([9, 100], 8).to_kind(Kind::BFloat16);
        for nested in [false, true] {
            let nf4 = Nf4::quantize(&weight, 128, nested).unwrap();
            let (_folder, weights) = file(&nf4.tensors(name));
            assert!(weights.contains(&format!("{name}.quant_state.bitsandbytes__nf4")));
            let opened = Nf4::open(&weights, name).unwrap().unwrap();
            assert_eq!((opened.kind, opened.block, matches!(opened.absmax, Absmax::Nested(_))), (Kind::BFloat16, 128, nested));
            assert_same(&opened.dequantize(Kind::Float).unwrap(), &nf4.dequantize(Kind::Float).unwrap(), name);
            assert!(Int8::open(&weights, name).unwrap().is_none() && Int4::open(&weights, name).unwrap().is_none());
        }
        let int8 = Int8::quantize(&weight).unwrap();
        let (_folder, weights) = file(&int8.tensors(name));
        let mut names = [name.to_owned(), format!("{beside}.SCB"), format!("{beside}.weight_format")];
        names.sort();
        assert_eq!(weights.names().collect::<Vec<_>>(), names);
        assert_same(
            &Int8::open(&weights, name).unwrap().unwrap().dequantize(Kind::Float).unwrap(),
            &int8.dequantize(Kind::Float).unwrap(),
            name,
        );
        assert!(Nf4::open(&weights, name).unwrap().is_none() && Int4::open(&weights, name).unwrap().is_none());
        let int4 = Int4::quantize(&weight, 64, None).unwrap();
        let (_folder, weights) = file(&int4.tensors(name));
        assert_same(
            &Int4::open(&weights, name).unwrap().unwrap().dequantize(Kind::Float).unwrap(),
            &int4.dequantize(Kind::Float).unwrap(),
            name,
        );
        assert!(Nf4::open(&weights, name).unwrap().is_none() && Int8::open(&weights, name).unwrap().is_none());
    }
}

#[test]
fn a_file_keeps_the_kinds_of_its_tensors() {
    let kinds = [Kind::Float, Kind::Half, Kind::BFloat16, Kind::Int8, Kind::Uint8, Kind::Int, Kind::Int64];
    let tensors: Vec<(String, Tensor)> =
        kinds.iter().map(|&kind| (format!("{kind:?}"), Tensor::from_slice(&[0_i64, 1, 77]).to_kind(kind))).collect();
    let (_folder, weights) = file(&tensors);
    for (name, tensor) in &tensors {
        assert_eq!(weights.kind(name), Some(tensor.kind()));
        assert_same(&weights.tensor(name).unwrap(), tensor, name);
    }
    assert_eq!(weights.kind("absent"), None);
    let path = tempfile::NamedTempFile::new().unwrap();
    let wrong = vec![("truth".to_owned(), Tensor::from_slice(&[true]))];
    assert!(write(path.path(), wrong, &[]).unwrap_err().to_string().contains("tensor \"truth\" is of kind Bool"));
}

/// What opening a weight `w` fails with, once a part of its file is changed or, without a tensor, left out.
fn refused<T: std::fmt::Debug>(
    parts: Vec<(String, Tensor)>,
    open: fn(&Weights, &str) -> qapipe_nn::Result<Option<T>>,
    part: &str,
    change: Option<Tensor>,
) -> String {
    let mut parts: Vec<(String, Tensor)> = parts.into_iter().filter(|(name, _)| name != part).collect();
    parts.extend(change.map(|tensor| (part.to_owned(), tensor)));
    let (_folder, weights) = file(&parts);
    let error = open(&weights, "w").unwrap_err().to_string();
    assert!(error.contains("tensor \"w\": it cannot be read as"), "{error}");
    error
}

fn zeros(shape: &[i64], kind: Kind) -> Option<Tensor> {
    Some(Tensor::zeros(shape, (kind, Device::Cpu)))
}

#[test]
fn broken_nf4_is_refused() {
    let nested = || Nf4::quantize(&random([9, 100], 1), 64, true).unwrap().tensors("w");
    for (part, change, message) in [
        ("w", None, "its part \"w\" is missing"),
        ("w", zeros(&[449, 1], Kind::Uint8), "its part \"w\" is of shape [449, 1] and should be [450, 1]"),
        ("w", zeros(&[450, 1], Kind::Int8), "its part \"w\" is of kind Int8 and should be Uint8"),
        ("w.absmax", None, "its part \"w.absmax\" is missing"),
        ("w.absmax", zeros(&[15], Kind::Float), "its part \"w.absmax\" is of kind Float"),
        ("w.absmax", zeros(&[14], Kind::Uint8), "its part \"w.absmax\" is of shape [14] and should be [15]"),
        ("w.quant_map", None, "its part \"w.quant_map\" is missing"),
        ("w.quant_map", zeros(&[16], Kind::Float), "its quant_map is not that of nf4"),
        ("w.quant_map", Some(Tensor::full(16, f64::NAN, (Kind::Float, Device::Cpu))), "its quant_map is not that of nf4"),
        ("w.nested_absmax", None, "its part \"w.nested_absmax\" is missing"),
        ("w.nested_absmax", zeros(&[2], Kind::Float), "its part \"w.nested_absmax\" is of shape [2] and should be [1]"),
        ("w.nested_quant_map", None, "its part \"w.nested_quant_map\" is missing"),
        ("w.nested_quant_map", zeros(&[255], Kind::Float), "should be [256]"),
        ("w.quant_state.bitsandbytes__nf4", None, "its part \"w.quant_state.bitsandbytes__nf4\" is missing"),
        ("w.quant_state.bitsandbytes__nf4", zeros(&[3], Kind::Uint8), "its part \"w.quant_state.bitsandbytes__nf4\" is malformed"),
        ("w.quant_state.bitsandbytes__fp4", zeros(&[3], Kind::Uint8), "it is in fp4, which is not supported"),
    ] {
        let error = refused(nested(), Nf4::open, part, change);
        assert!(error.contains(message), "{part}: {error}");
    }
}

#[test]
fn a_broken_state_of_nf4_is_refused() {
    let good = r#"{"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [9, 100], "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 2.5}"#;
    for (from, to, message) in [
        ("\"nf4\"", "\"fp4\"", "its quant_type is \"fp4\""),
        (": 64", ": 0", "its blocksize is 0"),
        (": 64", ": -64", "its blocksize is -64"),
        ("[9, 100]", "[9]", "a weight of shape [9] cannot be"),
        ("[9, 100]", "[-9, 100]", "a weight of shape [-9, 100] cannot be"),
        ("[9, 100]", "[9, 0]", "a weight of shape [9, 0] cannot be"),
        ("[9, 100]", "[4611686018427387904, 4]", "cannot be"),
        ("[9, 100]", "[9000, 100]", "its part \"w\" is of shape [450, 1] and should be [450000, 1]"),
        ("[9, 100]", "null", "is malformed"),
        ("\"dtype\": \"float32\", \"shape\"", "\"dtype\": \"int8\", \"shape\"", "its dtype is \"int8\""),
        (": 256", ": 128", "nested_blocksize 128"),
        ("\"nested_dtype\": \"float32\"", "\"nested_dtype\": \"float16\"", "nested_dtype Some(\"float16\")"),
        (", \"nested_offset\": 2.5", "", "its state lacks nested_blocksize or nested_offset"),
        ("}", "", "is malformed"),
    ] {
        let state = Tensor::from_slice(good.replace(from, to).as_bytes());
        let parts = Nf4::quantize(&random([9, 100], 1), 64, true).unwrap().tensors("w");
        let error = refused(parts, Nf4::open, "w.quant_state.bitsandbytes__nf4", Some(state));
        assert!(error.contains(message), "{to}: {error}");
    }
}

#[test]
fn broken_int8_is_refused() {
    let good = || Int8::quantize(&random([9, 100], 1)).unwrap().tensors("w");
    for (part, change, message) in [
        ("w", None, "its part \"w\" is missing"),
        ("w", zeros(&[9, 100], Kind::Float), "its part \"w\" is of kind Float and should be Int8"),
        ("w", zeros(&[900], Kind::Int8), "a weight of shape [900] cannot be"),
        ("w", zeros(&[9, 0], Kind::Int8), "a weight of shape [9, 0] cannot be"),
        ("w", zeros(&[8, 100], Kind::Int8), "its part \"w.SCB\" is of shape [9] and should be [8]"),
        ("w.SCB", None, "its part \"w.SCB\" is missing"),
        ("w.SCB", zeros(&[9], Kind::Half), "its part \"w.SCB\" is of kind Half"),
        ("w.weight_format", Some(Tensor::from(1_u8)), "its rows do not lie behind each other"),
        ("w.weight_format", zeros(&[1], Kind::Uint8), "should be []"),
    ] {
        let error = refused(good(), Int8::open, part, change);
        assert!(error.contains(message), "{part}: {error}");
    }
    // Files of older versions say nothing of it.
    let (_folder, weights) = file(&good().into_iter().filter(|(name, _)| name != "w.weight_format").collect::<Vec<_>>());
    assert!(Int8::open(&weights, "w").unwrap().is_some());
}

#[test]
fn broken_int4_is_refused() {
    let good = || Int4::quantize(&random([9, 101], 1), 64, None).unwrap().tensors("w");
    let shape = |sizes: &[i32]| Some(Tensor::from_slice(sizes));
    for (part, change, message) in [
        ("w", None, "its part \"w\" is missing"),
        ("w", zeros(&[9, 50], Kind::Uint8), "is of shape [9, 50] and should be [9, 51]"),
        ("w.scale", None, "its part \"w.scale\" is missing"),
        ("w.scale", zeros(&[9, 3], Kind::Half), "is of shape [9, 3] and should be [9, 2]"),
        ("w.minimum", None, "its part \"w.minimum\" is missing"),
        ("w.minimum", zeros(&[9, 2], Kind::Float), "its part \"w.minimum\" is of kind Float and should be Half"),
        ("w.shape", None, "its part \"w.shape\" is missing"),
        ("w.shape", shape(&[9, 101]), "is of shape [2] and should be [3]"),
        ("w.shape", shape(&[9, -101, 64]), "a weight of shape [9, -101] cannot be"),
        ("w.shape", shape(&[9, 101, 0]), "groups of 0 inputs cannot be"),
        ("w.shape", shape(&[9, 101, 102]), "groups of 102 inputs cannot be"),
    ] {
        let error = refused(good(), Int4::open, part, change);
        assert!(error.contains(message), "{part}: {error}");
    }
}

#[test]
fn weights_that_cannot_be_quantized_are_refused() {
    let ones = |shape: &[i64], kind: Kind| Tensor::ones(shape, (kind, Device::Cpu));
    for (weight, message) in [
        (ones(&[3], Kind::Float), "it should be a matrix"),
        (ones(&[3, 2], Kind::Int), "it should be a matrix of floating-point numbers"),
        (ones(&[0, 2], Kind::Float), "it is empty"),
        (ones(&[2, 2], Kind::Float) * f64::INFINITY, "not finite"),
        (ones(&[2, 2], Kind::Half) * f64::NAN, "not finite"),
    ] {
        let errors =
            [Nf4::quantize(&weight, 64, false).map(drop), Int8::quantize(&weight).map(drop), Int4::quantize(&weight, 64, None).map(drop)];
        for error in errors {
            let error = error.unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
    let weight = random([4, 8], 1);
    assert!(Nf4::quantize(&weight, 48, false).unwrap_err().to_string().contains("no blocks of 48"));
    assert!(Int4::quantize(&weight, 0, None).unwrap_err().to_string().contains("a group of 0"));
    assert!(Int4::quantize(&weight, 8, Some(&Tensor::ones(7, (Kind::Float, Device::Cpu)))).unwrap_err().to_string().contains("8 inputs"));
    let negative = Tensor::ones(8, (Kind::Float, Device::Cpu)) * -1.0;
    assert!(Int4::quantize(&weight, 8, Some(&negative)).unwrap_err().to_string().contains("negative"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn zero_stays_zero_and_nothing_is_far_off(height in 1_i64..9, width in 1_i64..150, seed in 0_i64..1000, size in -12_i32..12) {
        let weight = random([height, width], seed) * 10.0_f64.powi(size);
        let zeros = random([height, width], seed + 1).gt(0.3);
        let weight = weight.masked_fill(&zeros, 0.0);
        let most = weight.abs().max().double_value(&[]);
        let nf4 = Nf4::quantize(&weight, 64, false).unwrap().dequantize(Kind::Float).unwrap();
        let int8 = Int8::quantize(&weight).unwrap().dequantize(Kind::Float).unwrap();
        for (back, off) in [(&nf4, 0.16), (&int8, 0.00395)] {
            prop_assert!(numbers(&back.masked_select(&zeros)).iter().all(|&number| number == 0.0));
            prop_assert!(difference(back, &weight) <= most * off);
        }
    }

    #[test]
    fn loops_and_plain_operations_agree(height in 1_i64..40, width in 1_i64..300, seed in 0_i64..1000, block in 0..3_u32, nested: bool) {
        let weight = random([height, width], seed);
        let nf4 = Nf4::quantize(&weight, 64 << block, nested).unwrap();
        let int8 = Int8::quantize(&weight).unwrap();
        let (one, other) = (nf4.dequantize_plainly().unwrap(), int8.dequantize_plainly().unwrap());
        for kind in KINDS {
            assert_same(&nf4.dequantize(kind).unwrap(), &one.to_kind(kind), "nf4");
            assert_same(&int8.dequantize(kind).unwrap(), &other.to_kind(kind), "int8");
        }
    }
}
