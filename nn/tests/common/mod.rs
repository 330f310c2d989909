//! What the tests share.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use std::path::{Path, PathBuf};

use qapipe_nn::{BertConfig, BertForQuestionAnswering, Network, Packed, Parameters, Placement, Weights};
use tch::{Device, Kind, Tensor};

/// The folder of BERT's golden tensors.
pub fn fixture() -> PathBuf {
    fixture_of("bert_tiny")
}

/// A folder of golden tensors that this crate keeps.
pub fn fixture_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The folder of shared data, where it is.
pub fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("QAPIPE_SHARED").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let path = root.join(name);
    if !path.exists() {
        eprintln!("skipped: no {}", path.display());
    }
    path.exists().then_some(path)
}

/// The configuration of the fixture.
pub fn config() -> BertConfig {
    // Tests run side by side: more threads than cores would wait for each other.
    qapipe_nn::device::set_threads(1);
    BertConfig::parse(&std::fs::read_to_string(fixture().join("config.json")).unwrap()).unwrap()
}

/// The golden tensors of the fixture.
pub fn golden() -> Weights {
    Weights::open(&fixture().join("golden.safetensors")).unwrap()
}

/// The fixture's model, to train on the CPU.
pub fn model() -> BertForQuestionAnswering {
    let weights = Weights::open_folder(&fixture()).unwrap();
    BertForQuestionAnswering::load(&weights, &config(), &Placement::training(Device::Cpu), 0).unwrap().0
}

/// The fixture's rows: ids, where segment 1 begins, and the labels.
pub fn rows() -> (Vec<Vec<u32>>, Vec<u32>, Tensor, Tensor) {
    let golden = golden();
    let table = |name: &str| Vec::<Vec<i64>>::try_from(golden.tensor(name).unwrap()).unwrap();
    let (ids, types, mask) = (table("ids"), table("tt"), table("am"));
    let lengths: Vec<usize> = mask.iter().map(|row| row.iter().filter(|&&one| one == 1).count()).collect();
    let cut = |(row, &length): (&Vec<i64>, &usize)| row[..length].iter().map(|&id| u32::try_from(id).unwrap()).collect();
    let contexts = types.iter().map(|row| u32::try_from(row.iter().take_while(|&&one| one == 0).count()).unwrap()).collect();
    let labels = |name: &str| golden.tensor(name).unwrap();
    (ids.iter().zip(&lengths).map(cut).collect(), contexts, labels("start_positions"), labels("end_positions"))
}

/// Rows as a packed batch.
pub fn packed(ids: &[Vec<u32>], contexts: &[u32]) -> Packed {
    let rows: Vec<(&[u32], u32)> = ids.iter().map(Vec::as_slice).zip(contexts.iter().copied()).collect();
    Packed::from_sequences(&rows, Device::Cpu).unwrap()
}

/// The largest absolute difference of two tensors.
pub fn difference(left: &Tensor, right: &Tensor) -> f64 {
    assert_eq!(left.size(), right.size());
    (left.to_kind(Kind::Double) - right.to_kind(Kind::Double)).abs().max().double_value(&[])
}

/// The numbers of a tensor.
pub fn numbers(tensor: &Tensor) -> Vec<f32> {
    Vec::<f32>::try_from(tensor.detach().to_kind(Kind::Float).contiguous().view(-1)).unwrap()
}

/// All weights of a model, by name.
pub fn values(model: &impl Network) -> Vec<(String, Vec<f32>)> {
    let parameters = model.parameters();
    parameters.iter().flat_map(|one| one.names()).map(|name| (name.to_owned(), numbers(&parameters.value(name).unwrap()))).collect()
}

/// Parameters whose gradient is not that of the golden tensors: by more than `most`, or by a thousandth of the largest number, for what is
/// small must be right as well. Those in `noise` need only be small. Both must have the same names.
pub fn wrong_gradients(parameters: &Parameters, golden: &Weights, most: f64, noise: &[&str]) -> Vec<String> {
    let mut ours: Vec<&str> = parameters.iter().flat_map(|one| one.names()).collect();
    let mut theirs: Vec<&str> = golden.names().filter_map(|name| name.strip_prefix("grad.")).collect();
    ours.sort_unstable();
    theirs.sort_unstable();
    assert_eq!(ours, theirs);
    let told = |name: &&str| {
        let theirs = golden.tensor(&format!("grad.{name}")).unwrap();
        let (found, size) = (difference(&parameters.gradient(name).unwrap(), &theirs), theirs.abs().max().double_value(&[]));
        assert_eq!(size < 1e-6, noise.contains(name), "{name}: {size}");
        let allowed = if noise.contains(name) { most } else { most.min(1e-3 * size) };
        (found > allowed).then(|| format!("{name}: {found} of {size}"))
    };
    ours.iter().filter_map(told).collect()
}

/// Asserts that all gradients are those of the golden tensors after a pass back from the whole loss (`pass(1.0)`), and that every one of them
/// would be seen to be wrong, were it a hundredth too large.
pub fn same_gradients<N: Network>(model: &mut N, golden: &Weights, most: f64, noise: &[&str], pass: impl Fn(&mut N, f64)) {
    pass(model, 1.0);
    assert_eq!(wrong_gradients(model.parameters(), golden, most, noise), Vec::<String>::new());
    // Gradients are gathered on top of those that are there.
    pass(model, 0.01);
    let all: usize = model.parameters().iter().map(|one| one.names().count()).sum();
    assert_eq!(wrong_gradients(model.parameters(), golden, most, noise).len(), all - noise.len());
}

/// A safetensors file, written by hand.
pub fn write(path: &Path, tensors: &[(String, Tensor)]) {
    let (mut header, mut data) = (Vec::new(), Vec::new());
    for (name, tensor) in tensors {
        let (dtype, size) = match tensor.kind() {
            Kind::Half => ("F16", 2),
            Kind::BFloat16 => ("BF16", 2),
            Kind::Int64 => ("I64", 8),
            _ => ("F32", 4),
        };
        let mut bytes = vec![0; tensor.numel() * size];
        tensor.contiguous().copy_data_u8(&mut bytes, tensor.numel());
        header.push(format!(
            r#""{name}":{{"dtype":"{dtype}","shape":{:?},"data_offsets":[{},{}]}}"#,
            tensor.size(),
            data.len(),
            data.len() + bytes.len()
        ));
        data.extend(bytes);
    }
    let header = format!("{{{}}}", header.join(","));
    std::fs::write(path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()).unwrap();
}

/// The CUDA device, where there is one.
pub fn cuda() -> Option<Device> {
    let found = qapipe_nn::device::resolve("cuda:0");
    if let Err(error) = &found {
        eprintln!("skipped: {error}");
    }
    found.ok()
}

/// The bytes of a tensor.
pub fn raw(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.to(Device::Cpu).contiguous();
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

/// Asserts that two tensors are the same in kind, shape and every bit.
pub fn assert_same(ours: &Tensor, theirs: &Tensor, what: &str) {
    assert_eq!((ours.kind(), ours.size()), (theirs.kind(), theirs.size()), "{what}");
    assert!(raw(ours) == raw(theirs), "{what}: {ours} {theirs}");
}
