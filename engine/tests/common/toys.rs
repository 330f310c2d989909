//! Toy kinds of stage: every sort of parameter, nothing to run.

use qapipe_engine::{
    Accepts, ArtifactType, Default, Invalid, Kinds, OutputSpec, Override, Param, Pipeline, StageCx, StageError, StageKind, Ty, Values,
};

const EXAMPLES: Accepts = Accepts { types: &[ArtifactType::EXAMPLES], part: &[] };
const FEATURES: Accepts = Accepts { types: &[ArtifactType::FEATURES], part: &[] };
const MODEL: Accepts = Accepts { types: &[ArtifactType::MODEL], part: &[] };
const TOKENIZER: Accepts = Accepts { types: &[ArtifactType::MODEL], part: &["tokenizer.json", "vocab.txt"] };
const ANYTHING: Accepts = Accepts { types: &[], part: &[] };

/// A kind made of its declarations.
pub struct Toy {
    pub name: &'static str,
    pub params: &'static [Param],
    pub outputs: &'static [(&'static str, ArtifactType)],
    pub seeded: bool,
}

impl StageKind for Toy {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> u32 {
        1
    }

    fn doc(&self) -> &'static str {
        "A toy."
    }

    fn params(&self) -> &'static [Param] {
        self.params
    }

    fn outputs(&self, values: &Values) -> Vec<OutputSpec> {
        match values.get("outputs") {
            Some(serde_json::Value::Array(names)) => {
                names.iter().filter_map(|name| name.as_str()).map(|name| OutputSpec::new(name, ArtifactType::FILE)).collect()
            }
            Some(serde_json::Value::Object(places)) => {
                let spec = |(name, place): (&String, &serde_json::Value)| {
                    let place = place.as_str().map(Into::into);
                    OutputSpec { place, ..OutputSpec::new(name, ArtifactType::FILE) }
                };
                places.iter().map(spec).collect()
            }
            _ => self.outputs.iter().map(|(name, artifact)| OutputSpec::new(name, *artifact)).collect(),
        }
    }

    fn check(&self, values: &Values) -> Result<(), Invalid> {
        if values.has("targets") && values.text("scheme") == Some("int8") {
            return Err(Invalid::new("targets", "`targets` and the scheme `int8` exclude each other").help("leave one out"));
        }
        Ok(())
    }

    fn seeded(&self) -> bool {
        self.seeded
    }

    fn run(&self, _: &StageCx<'_>) -> Result<(), StageError> {
        Ok(())
    }
}

const DATA: Toy = Toy {
    name: "dataset",
    params: &[
        Param::optional("train", Ty::Path { hub: false }, "Questions to learn from."),
        Param::optional("dev", Ty::OneOf(&[Ty::Choice(&["sample"]), Ty::Path { hub: false }]), "Questions to be scored on."),
        Param::optional("files", Ty::List(&Ty::Path { hub: false }), "More files."),
    ],
    outputs: &[("examples", ArtifactType::EXAMPLES)],
    seeded: false,
};

const CHECKPOINT: Toy = Toy {
    name: "checkpoint",
    params: &[Param::required("source", Ty::Path { hub: true }, "Where the weights come from.")],
    outputs: &[("model", ArtifactType::MODEL)],
    seeded: false,
};

const TOKENIZE: Toy = Toy {
    name: "tokenize",
    params: &[
        Param::required("dataset", Ty::Ref(EXAMPLES), "What to tokenize."),
        Param::required("model", Ty::RefOrPath(TOKENIZER), "Whose tokenizer."),
        Param::with("max_length", Ty::Int { min: 8, max: 512 }, Default::Int(384), "Tokens a window."),
    ],
    outputs: &[("features", ArtifactType::FEATURES)],
    seeded: false,
};

/// The nested table of [`TRAIN`].
const SCHEDULE: &[Param] = &[
    Param::with("lr", Ty::Float { min: 0.0, max: 1.0 }, Default::Float(1e-3), "Learning rate."),
    Param::with("epochs", Ty::Int { min: 1, max: i64::MAX }, Default::Int(2), "Passes over the data."),
    Param::with("warmup", Ty::Float { min: 0.0, max: 1.0 }, Default::Int(0), "Share of steps."),
];

/// The parameters of [`TRAIN`].
const TRAIN_PARAMS: [Param; 10] = [
    Param::required("model", Ty::Ref(MODEL), "What to train."),
    Param::required("data", Ty::Ref(FEATURES), "What to train on."),
    Param::with("rank", Ty::Int { min: 1, max: 1024 }, Default::Int(8), "Rank of the adapters."),
    Param::with("alpha", Ty::Float { min: 0.0, max: f64::INFINITY }, Default::Float(16.0), "Scale of the adapters."),
    Param::with("scheme", Ty::Choice(&["nf4", "int8", "int4"]), Default::Str("nf4"), "How weights are stored."),
    Param::with("double", Ty::Bool, Default::Bool(false), "Whether to quantize the scales too."),
    Param::optional("targets", Ty::List(&Ty::Str), "Layers to adapt."),
    Param::with("limit", Ty::OneOf(&[Ty::Float { min: 0.0, max: 1.0 }, Ty::Choice(&["all"])]), Default::Str("all"), "Share of the data."),
    Param::with("train", Ty::Table(SCHEDULE), Default::Table, "The schedule."),
    Param::hint("batch", Ty::Int { min: 1, max: 4096 }, Default::Int(64), "Rows at a time."),
];

const TRAIN_OUTPUTS: &[(&str, ArtifactType)] = &[("model", ArtifactType::MODEL), ("log", ArtifactType::TRAINING_LOG)];
const TRAIN: Toy = Toy { name: "train", params: &TRAIN_PARAMS, outputs: TRAIN_OUTPUTS, seeded: true };

/// The parameters of [`TRAIN`] as a later version might have them: two more, each with a default.
const LATER_PARAMS: [Param; 12] = {
    let mut params = [Param::with("dropout", Ty::Float { min: 0.0, max: 1.0 }, Default::Float(0.1), "New."); 12];
    let mut index = 0;
    while index < TRAIN_PARAMS.len() {
        params[index + 1] = TRAIN_PARAMS[index];
        index += 1;
    }
    params[11] = Param::with("extra", Ty::Table(SCHEDULE), Default::Table, "New too.");
    params
};
const LATER: Toy = Toy { name: "train", params: &LATER_PARAMS, outputs: TRAIN_OUTPUTS, seeded: true };

const COMMAND: Toy = Toy {
    name: "command",
    params: &[
        Param::required("run", Ty::List(&Ty::Str), "The program and its arguments."),
        Param::optional("inputs", Ty::Map(&Ty::RefOrPath(ANYTHING)), "What it reads."),
        Param::required("outputs", Ty::OneOf(&[Ty::List(&Ty::Str), Ty::Map(&Ty::Str)]), "What it writes."),
    ],
    outputs: &[],
    seeded: false,
};

/// All toy kinds.
pub fn kinds() -> Kinds {
    Kinds::new(&[&DATA, &CHECKPOINT, &TOKENIZE, &TRAIN, &COMMAND])
}

/// The same after an upgrade that gave `train` new parameters.
pub fn later_kinds() -> Kinds {
    Kinds::new(&[&DATA, &CHECKPOINT, &TOKENIZE, &LATER, &COMMAND])
}

/// The checked pipeline, or all errors, one a line.
pub fn load(text: &str, overrides: &[&str]) -> Result<Pipeline, String> {
    let overrides: Vec<Override> = overrides.iter().map(|text| text.parse().expect("an override")).collect();
    Pipeline::parse(text, "p.toml".as_ref(), &kinds(), &overrides).map_err(|errors| errors.to_string())
}

/// The pipeline of a text that has no errors.
pub fn good(text: &str, overrides: &[&str]) -> Pipeline {
    load(text, overrides).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The errors of a text that has some.
pub fn errors(text: &str, overrides: &[&str]) -> String {
    load(text, overrides).err().unwrap_or_else(|| panic!("no error in\n{}", &text[..text.len().min(2000)]))
}
