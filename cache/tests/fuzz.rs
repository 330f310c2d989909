//! Damaged action records: read as what they say, or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use qapipe_cache::{Digest, Store};
use qapipe_fuzz::{Hunt, PeakAlloc};

#[global_allocator]
static METER: PeakAlloc = PeakAlloc;

#[test]
fn records() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let digest = Digest::of_bytes(b"result").to_string();
    let record = format!(
        r#"{{"format":1,"fingerprint":"{digest}","kind":"toy","stage":"s","pipeline":"p","run":"r","outputs":{{"y":{{"digest":"{digest}","shape":"blob","bytes":6}}}},"facets":{{"kind":"toy","params.rank":"8"}},"cost":{{"wall_seconds":1.5}},"provenance":{{"host":"h"}}}}"#
    );
    let key: Digest = digest.parse().unwrap();
    store.put_record(&serde_json::from_str(&record).unwrap()).unwrap();
    let path = walk(&folder.path().join("records")).pop().unwrap();
    let hunt = Hunt {
        name: "records",
        corpus: vec![record.clone().into_bytes(), record.replace("\"format\":1", "\"format\":2").into_bytes()],
        words: &["\"format\":", "\"outputs\":", "null", "\"tree\"", "{}", "[]", "1e999"],
        factor: 200,
        base: 1 << 20,
    };
    hunt.run(|bytes| {
        std::fs::write(&path, bytes).unwrap();
        let read = store.record(&key);
        let all = store.records().count();
        if let Ok(Some(record)) = &read {
            assert!(record.fingerprint == key && all == 1, "a record of another result was served");
            let _missing = record.outputs.values().filter(|artifact| store.check(artifact).is_err()).count();
        }
        format!(
            "{} {all}",
            read.map_or_else(|error| error.to_string(), |record| format!("{:?}", record.map(|record| record.outputs.len())))
        )
    });
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
