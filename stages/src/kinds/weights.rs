//! What the weights of a model are, as far as the pipeline tells.

use qapipe_engine::{Invalid, Lineage};

/// The parameters that choose matrices.
const CHOICE: [&str; 3] = ["targets", "exclude", "roles"];

/// How the stage that gives a model leaves its weights.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weights {
    /// Numbers, some of which may be left out.
    Numbers,
    /// Few bits a number.
    Packed,
    /// Frozen, with adapters beside them.
    Adapted,
    /// As a folder or a repository has them, which is not looked at before it is brought.
    Brought,
}

fn weights(stage: Lineage<'_>) -> Weights {
    match stage.kind() {
        "quantize" => Weights::Packed,
        "lora-adapt" => Weights::Adapted,
        "checkpoint" if stage.values().has("base") => Weights::Adapted,
        "checkpoint" if !stage.values().has("config") => Weights::Brought,
        _ => Weights::Numbers,
    }
}

/// Refuses a model that is an adapter beside frozen weights, where those themselves are needed.
///
/// # Errors
/// Where it is one.
pub(super) fn unadapted(stage: Lineage<'_>, param: &str) -> Result<(), Invalid> {
    let Some(model) = stage.input(param).filter(|model| weights(*model) == Weights::Adapted) else { return Ok(()) };
    let name = model.name();
    Err(Invalid::new(param, format!("`@{name}` is an adapter beside frozen weights"))
        .help(format!("merge the two first: a stage of kind \"export\" with `model = \"@{name}\"`")))
}

/// Refuses as well a model that is quantized, for a stage that changes the weights themselves.
///
/// # Errors
/// Where it is.
pub(super) fn plain(stage: Lineage<'_>, param: &str) -> Result<(), Invalid> {
    unadapted(stage, param)?;
    let Some(model) = stage.input(param).filter(|model| weights(*model) == Weights::Packed) else { return Ok(()) };
    let name = model.name();
    let (message, help) = match stage.kind() {
        "quantize" => ("is quantized already", "quantize the model that it is made from"),
        "prune" => ("is quantized, and has no single weights to leave out", "prune first, and quantize the model that comes of it"),
        _ => ("is quantized, and quantized weights do not train", "train adapters beside it with a stage of kind \"lora-adapt\""),
    };
    Err(Invalid::new(param, format!("`@{name}` {message}")).help(help))
}

/// Refuses to leave weights out of the matrices of a model that were chosen before: what was left out stays left out in later trainings.
///
/// # Errors
/// Where the two choose alike.
pub(super) fn unpruned(stage: Lineage<'_>) -> Result<(), Invalid> {
    let Some(model) = stage.input("model") else { return Ok(()) };
    let trained = std::iter::successors(Some(model), |made| (made.kind() == "fine-tune").then(|| made.input("model")).flatten());
    let alike = |other: &Lineage<'_>| CHOICE.iter().all(|param| stage.values().get(param) == other.values().get(param));
    let Some(before) = trained.filter(|made| made.kind() == "prune").find(alike) else { return Ok(()) };
    let message = format!("the matrices of `@{}` are pruned already, by `{}`", model.name(), before.name());
    Err(Invalid::new("model", message)
        .help("export it first, which makes zeros of what is left out, or choose other matrices by `targets`"))
}
