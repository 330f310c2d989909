//! The executable that runs torch-backed stages; `qapipe` starts it.

fn main() -> std::process::ExitCode {
    qapipe_worker::main(env!("QAPIPE_BUILD"))
}
