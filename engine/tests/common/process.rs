//! Runs of a project in processes of their own: the test executable, started again for one ignored test.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::AtomicBool;

use qapipe_cache::Store;
use qapipe_engine::{Engine, ErrorClass, Kinds, Options, Pipeline, StageKind};

const FOLDER: &str = "QAPIPE_TEST_FOLDER";

/// What each test file that uses this declares: `#[test] #[ignore = "…"] fn other_process() { process::serve(KINDS) }`.
pub fn serve(kinds: &'static [&'static dyn StageKind]) {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let pipeline = Pipeline::load(&folder.join("pipeline.toml"), &Kinds::new(kinds), &[]).unwrap();
    std::process::exit(run(folder, pipeline));
}

/// Exits with 0 if all went well, 4 if the machine is at fault, 1 for any other failure.
fn run(folder: &Path, pipeline: Pipeline) -> i32 {
    let Ok(store) = Store::open(&folder.join(".qapipe")) else { return 4 };
    let options = Options { jobs: 2, ..Options::default() };
    let outcome = Engine::new(store, pipeline, options).unwrap().run(&(), &AtomicBool::new(false)).unwrap();
    for (stage, error) in outcome.failures() {
        println!("{stage}: {error}");
    }
    match outcome.failures().next() {
        None => 0,
        Some((_, error)) if error.class == ErrorClass::Environment => 4,
        Some(_) => 1,
    }
}

/// The command that runs the project in a folder.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "other_process", "--ignored", "--nocapture"]).env(FOLDER, folder);
    command
}

pub fn start(folder: &Path) -> Child {
    command(folder).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The same behind a shell script in which the user owns a mount namespace; none where the system does not allow that.
/// The script gets the command as `"$@"`.
pub fn in_namespace(folder: &Path, script: &str) -> Option<ExitStatus> {
    let enter = |script: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]).current_dir(folder);
        unshare
    };
    let allowed = enter("mount -t tmpfs none .").stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    allowed.then(|| {
        let inner = command(folder);
        enter(script).arg(inner.get_program()).args(inner.get_args()).env(FOLDER, folder).status().unwrap()
    })
}
