//! Lets this crate's tests find libtorch without exported variables.

fn main() {
    println!("cargo:rerun-if-env-changed=DEP_QAPIPE_NN_LIBDIR");
    if let Ok(folder) = std::env::var("DEP_QAPIPE_NN_LIBDIR") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
