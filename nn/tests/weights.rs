//! Weights files: what is read, and what is refused.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::io::Write;
use std::path::Path;

use proptest::prelude::*;
use qapipe_nn::weights::Problem;
use qapipe_nn::{Weights, WeightsError};
use tch::Kind;

/// A file of these bytes.
fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file.flush().unwrap();
    file
}

/// A safetensors file of a header and data.
fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

/// What opening these bytes ends in.
fn refusal(bytes: &[u8]) -> WeightsError {
    Weights::open(file(bytes).path()).unwrap_err()
}

#[test]
fn kinds_of_numbers_are_read_as_f32() {
    let header = r#"{"h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"BF16","shape":[2],"data_offsets":[4,8]},
        "f":{"dtype":"F32","shape":[1,1],"data_offsets":[8,12]},"i":{"dtype":"I64","shape":[],"data_offsets":[12,20]}}"#;
    let mut data = vec![0x00, 0x3C, 0x00, 0xC0, 0x80, 0x3F, 0x00, 0xC0];
    data.extend(2.5_f32.to_le_bytes());
    data.extend(7_i64.to_le_bytes());
    let file = file(&safetensors(header, &data));
    let weights = Weights::open(file.path()).unwrap();
    assert_eq!(common::numbers(&weights.floats("h").unwrap()), [1.0, -2.0]);
    assert_eq!(common::numbers(&weights.floats("b").unwrap()), [1.0, -2.0]);
    assert_eq!(weights.floats("f").unwrap().double_value(&[0, 0]), 2.5);
    assert_eq!((weights.tensor("i").unwrap().kind(), weights.bytes()), (Kind::Int64, 20));
    assert!(weights.floats("i").unwrap_err().to_string().contains("kind Int64"));
    assert!(weights.tensor("absent").unwrap_err().to_string().contains("there is no tensor \"absent\""));
}

#[test]
fn older_norm_names_are_understood() {
    let header = r#"{"a.LayerNorm.gamma":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a.LayerNorm.beta":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    let file = file(&safetensors(header, &[0; 8]));
    assert_eq!(Weights::open(file.path()).unwrap().names().collect::<Vec<_>>(), ["a.LayerNorm.bias", "a.LayerNorm.weight"]);
}

#[test]
fn both_forms_of_a_name_are_one_too_many() {
    let header = r#"{"LayerNorm.gamma":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"LayerNorm.weight":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    assert!(matches!(refusal(&safetensors(header, &[0; 8])).problem, Problem::Duplicate(name) if name == "LayerNorm.weight"));
}

#[test]
fn names_given_twice_are_refused() {
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    assert!(matches!(refusal(&safetensors(header, &[0; 4])).problem, Problem::Duplicate(name) if name == "a"));
}

#[test]
fn pickles_are_refused() {
    let mut old_tar = vec![0; 600];
    old_tar[257..262].copy_from_slice(b"ustar");
    for bytes in [b"PK\x03\x04and then a zip".as_slice(), b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19", b"\x80\x04cos\nsystem\n", &old_tar] {
        let error = refusal(bytes);
        assert!(error.to_string().ends_with("refused: pickle checkpoints can run code; convert to safetensors"), "{error}");
    }
}

#[test]
fn a_header_of_128_bytes_is_no_pickle() {
    let inner = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let header = format!("{inner}{}", " ".repeat(0x0280 - inner.len()));
    assert!(Weights::open(file(&safetensors(&header, &[0; 4])).path()).is_ok());
}

#[test]
fn sizes_that_no_header_has_are_refused_without_taking_memory() {
    for length in [u64::MAX, 1 << 62, 100_000_001] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(b"{}");
        assert!(matches!(refusal(&bytes).problem, Problem::HeaderSize(found) if found == length));
    }
    let mut bytes = 50_000_000_u64.to_le_bytes().to_vec();
    bytes.extend(b"{}");
    assert!(matches!(refusal(&bytes).problem, Problem::Truncated));
}

#[test]
fn what_is_no_safetensors_file_is_told() {
    for bytes in [b"".as_slice(), b"abc", b"\x02\0\0\0\0\0\0\0[]", b"\0\0\0\0\0\0\0\0"] {
        assert!(matches!(refusal(bytes).problem, Problem::NotSafetensors(_)), "{bytes:?}");
    }
    assert!(matches!(refusal(&safetensors("{\"a\":", &[])).problem, Problem::Header(_)));
    assert!(matches!(refusal(&safetensors("{\"a\":1}", &[])).problem, Problem::Header(_)));
}

#[test]
fn offsets_that_lie_are_refused() {
    let entry = |name: &str, from: u64, to: u64| format!(r#""{name}":{{"dtype":"F32","shape":[1],"data_offsets":[{from},{to}]}}"#);
    let cases = [
        ("overlapping", format!("{{{},{}}}", entry("a", 0, 4), entry("b", 2, 6)), 6),
        ("gap", format!("{{{},{}}}", entry("a", 0, 4), entry("b", 8, 12)), 12),
        ("backwards", format!("{{{}}}", entry("a", 4, 0)), 4),
        ("out of range", format!("{{{}}}", entry("a", 0, 4)), 2),
        ("far out of range", format!("{{{}}}", entry("a", u64::MAX - 4, u64::MAX)), 4),
        ("trailing bytes", format!("{{{}}}", entry("a", 0, 4)), 40),
        ("size", r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,4]}}"#.to_owned(), 4),
        ("overflow", r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4611686018427387904],"data_offsets":[0,4]}}"#.to_owned(), 4),
        ("negative", r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#.to_owned(), 4),
        ("kind", r#"{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}"#.to_owned(), 4),
    ];
    for (case, header, size) in cases {
        let error = refusal(&safetensors(&header, &vec![0; size]));
        assert!(matches!(error.problem, Problem::Layout { .. } | Problem::Truncated | Problem::Header(_)), "{case}: {error}");
    }
    let many = format!(r#"{{"a":{{"dtype":"F32","shape":[{}1],"data_offsets":[0,4]}}}}"#, "1,".repeat(100));
    assert!(refusal(&safetensors(&many, &[0; 4])).to_string().contains("more dimensions"));
}

#[test]
fn a_folder_without_safetensors_says_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let told = |folder: &Path| Weights::open_folder(folder).unwrap_err().problem;
    assert!(matches!(told(folder.path()), Problem::Io(_)));
    std::fs::write(folder.path().join("pytorch_model.bin"), b"PK").unwrap();
    assert!(matches!(told(folder.path()), Problem::Pickle));
    assert!(matches!(Weights::open(folder.path()).unwrap_err().problem, Problem::Io(_)));
}

/// A safetensors file of f32 tensors of one number each.
fn shard(tensors: &[(&str, f32)]) -> Vec<u8> {
    let entry = |(at, (name, _)): (usize, &(&str, f32))| {
        format!(r#""{name}":{{"dtype":"F32","shape":[1],"data_offsets":[{},{}]}}"#, at * 4, at * 4 + 4)
    };
    let header = format!("{{{}}}", tensors.iter().enumerate().map(entry).collect::<Vec<_>>().join(","));
    safetensors(&header, &tensors.iter().flat_map(|(_, number)| number.to_le_bytes()).collect::<Vec<_>>())
}

/// A folder with an index of these tensors and files, and the files `one` and `two`.
fn sharded(index: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    std::fs::write(folder.path().join("one.safetensors"), shard(&[("a", 1.0), ("x.LayerNorm.gamma", 2.0)])).unwrap();
    std::fs::write(folder.path().join("two.safetensors"), shard(&[("b", 3.0), ("unnamed", 4.0)])).unwrap();
    folder
}

const INDEX: &str = r#"{"metadata":{"total_size":16},
    "weight_map":{"a":"one.safetensors","b":"two.safetensors","x.LayerNorm.gamma":"one.safetensors"}}"#;

#[test]
fn several_files_are_one_table() {
    let folder = sharded(INDEX);
    let weights = Weights::open_folder(folder.path()).unwrap();
    assert_eq!(weights.names().collect::<Vec<_>>(), ["a", "b", "unnamed", "x.LayerNorm.weight"]);
    let number = |name: &str| weights.floats(name).unwrap().double_value(&[0]);
    assert_eq!(["a", "b", "unnamed", "x.LayerNorm.weight"].map(number), [1.0, 3.0, 4.0, 2.0]);
    assert_eq!((weights.bytes(), weights.shape("b")), (16, Some([1].as_slice())));
    assert!(weights.path().ends_with("model.safetensors.index.json"));
    // One file beside the index is the whole model.
    std::fs::write(folder.path().join("model.safetensors"), shard(&[("whole", 5.0)])).unwrap();
    assert_eq!(Weights::open_folder(folder.path()).unwrap().names().collect::<Vec<_>>(), ["whole"]);
}

#[test]
fn an_index_that_is_none_is_refused() {
    let told = |index: &str| Weights::open_folder(sharded(index).path()).unwrap_err().to_string();
    for (index, problem) in [
        ("{\"weight_map\":", "not an index of weights: EOF while parsing"),
        ("{}", "not an index of weights: missing field `weight_map`"),
        ("[]", "not an index of weights: "),
        (r#"{"weight_map":{}}"#, "not an index of weights: it names no tensor"),
        (r#"{"weight_map":{"a":7}}"#, "not an index of weights: invalid type"),
    ] {
        let error = told(index);
        assert!(error.contains("model.safetensors.index.json: ") && error.contains(problem), "{index}: {error}");
    }
}

#[test]
fn an_index_names_nothing_outside_of_its_folder_and_no_other_kind_of_file() {
    let strange =
        ["../one.safetensors", "/etc/one.safetensors", "sub/one.safetensors", "./one.safetensors", "..", "", "one.bin", "config.json"];
    for file in strange {
        let index = format!(r#"{{"weight_map":{{"a":{file:?}}}}}"#);
        let error = Weights::open_folder(sharded(&index).path()).unwrap_err();
        assert!(matches!(&error.problem, Problem::ShardName(name) if name == file), "{file}: {error}");
    }
}

#[test]
fn files_hold_what_their_index_says() {
    let folder = sharded(INDEX);
    std::fs::remove_file(folder.path().join("two.safetensors")).unwrap();
    let error = Weights::open_folder(folder.path()).unwrap_err();
    assert!(error.to_string().ends_with("the index names \"two.safetensors\", which is not there; fetch it as well"), "{error}");
    std::fs::write(folder.path().join("two.safetensors"), shard(&[("other", 3.0)])).unwrap();
    let error = Weights::open_folder(folder.path()).unwrap_err();
    assert!(error.to_string().contains("says that tensor \"b\" is in \"two.safetensors\", and it is not"), "{error}");
    std::fs::write(folder.path().join("two.safetensors"), shard(&[("b", 3.0), ("a", 1.0)])).unwrap();
    let error = Weights::open_folder(folder.path()).unwrap_err();
    assert!(matches!(&error.problem, Problem::InTwoShards { name, .. } if name == "a"), "{error}");
    assert!(error.to_string().contains("two.safetensors: tensor \"a\" is in ") && error.to_string().contains("one.safetensors"), "{error}");
    std::fs::write(folder.path().join("two.safetensors"), b"PK\x03\x04 a pickle").unwrap();
    assert!(matches!(Weights::open_folder(folder.path()).unwrap_err().problem, Problem::Pickle));
    let swapped = sharded(r#"{"weight_map":{"a":"two.safetensors","b":"one.safetensors"}}"#);
    assert!(matches!(Weights::open_folder(swapped.path()).unwrap_err().problem, Problem::NotInShard { .. }));
}

proptest! {
    #[test]
    fn a_truncated_file_is_refused(keep in 0.0..1.0_f64) {
        let whole = std::fs::read(common::fixture().join("model.safetensors")).unwrap();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let keep = (keep * whole.len() as f64) as usize;
        prop_assert!(Weights::open(file(&whole[..keep]).path()).is_err());
    }

    #[test]
    fn a_changed_header_never_panics(at in 0_usize..4000, byte in any::<u8>()) {
        let mut bytes = std::fs::read(common::fixture().join("model.safetensors")).unwrap();
        bytes[at] = byte;
        if let Ok(weights) = Weights::open(file(&bytes).path()) {
            for name in weights.names() {
                let _ = weights.floats(name);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Weights::open(file(&bytes).path());
    }

    #[test]
    fn arbitrary_headers_never_panic(shape in proptest::collection::vec(any::<u64>(), 0..4), from in any::<u64>(), to in any::<u64>(), size in 0_usize..64) {
        let header = format!(r#"{{"a":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{from},{to}]}}}}"#);
        if let Ok(weights) = Weights::open(file(&safetensors(&header, &vec![0; size])).path()) {
            prop_assert!(weights.floats("a").is_ok());
        }
    }
}
