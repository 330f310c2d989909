//! Lets `qapipe-worker`, and it alone, find libtorch: where it was built, beside the executable, or in `lib` beside its folder.
//! Gives both executables the same name of their build, so that `qapipe` never uses the worker of another.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// What the results of a worker hang on.
const SOURCES: [&str; 7] = ["Cargo.lock", "cache/src", "engine/src", "nn/src", "stages/src", "worker/src", "src/worker.rs"];

fn main() {
    println!("cargo:rerun-if-env-changed=DEP_QAPIPE_NN_LIBDIR");
    let built = std::env::var("DEP_QAPIPE_NN_LIBDIR").ok();
    let installed = ["$ORIGIN", "$ORIGIN/lib", "$ORIGIN/../lib", "$ORIGIN/../lib/qapipe"].map(String::from);
    for folder in built.into_iter().chain(installed) {
        println!("cargo:rustc-link-arg-bin=qapipe-worker=-Wl,-rpath,{folder}");
    }
    let mut hasher = DefaultHasher::new();
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
        files(Path::new(source)).iter().for_each(|file| (file, std::fs::read(file).ok()).hash(&mut hasher));
    }
    println!("cargo:rustc-env=QAPIPE_BUILD={:016x}", hasher.finish());
}

/// The file, or all files under the folder, in order.
fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else { return vec![path.to_owned()] };
    let mut below: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    below.sort();
    below.iter().flat_map(|path| files(path)).collect()
}
