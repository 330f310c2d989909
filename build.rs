//! Lets `qapipe-worker`, and it alone, find libtorch: where it was built, beside the executable, or in `lib` beside its folder.

fn main() {
    println!("cargo:rerun-if-env-changed=DEP_QAPIPE_NN_LIBDIR");
    let built = std::env::var("DEP_QAPIPE_NN_LIBDIR").ok();
    let installed = ["$ORIGIN", "$ORIGIN/lib", "$ORIGIN/../lib", "$ORIGIN/../lib/qapipe"].map(String::from);
    for folder in built.into_iter().chain(installed) {
        println!("cargo:rustc-link-arg-bin=qapipe-worker=-Wl,-rpath,{folder}");
    }
}
