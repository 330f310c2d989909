//! `prompt`: asks a model that was not trained for it.

use qapipe_engine::{Accepts, ArtifactType, Default, Invalid, OutputSpec, Param, Place, StageKind, Ty, Values};

use super::choice::A_MODEL;
use crate::template::{Slot, Template};

/// Answers by prompts with examples.
pub struct Prompt;

const PARAMS: &[Param] = &[
    Param::required("model", A_MODEL, "The model to ask: one that writes, T5 or Mamba."),
    Param::required(
        "data",
        Ty::Ref(Accepts { types: &[ArtifactType::EXAMPLES], part: &[] }),
        "The questions: the dev part is asked, examples come from the train part.",
    ),
    Param::with(
        "shots",
        Ty::Int { min: 0, max: 64 },
        Default::Int(4),
        "Examples in a prompt, half of them without an answer; the seed decides which.",
    ),
    Param::with(
        "context",
        Ty::Bool,
        Default::Bool(true),
        "Whether the usual template shows the paragraph; without it the model answers from memory.",
    ),
    Param::optional(
        "template",
        Ty::Str,
        "The text around {question} and {context}, which may name {title}; the usual one where it is not given.",
    ),
    Param::with("header", Ty::Str, Default::Str(""), "What stands before everything else, such as an instruction."),
    Param::with("separator", Ty::Str, Default::Str("\n\n"), "What stands between two examples."),
    Param::with(
        "no_answer",
        Ty::Str,
        Default::Str("I don't know."),
        "The answer of examples that have none; a model that writes it, or one of the usual ways to say so, abstains.",
    ),
    Param::with(
        "stop",
        Ty::List(&Ty::Str),
        Default::Absent,
        "Texts that end an answer, beside the model's own end; a line break where none is given.",
    ),
    Param::with("max_answer_length", Ty::Int { min: 1, max: 4096 }, Default::Int(32), "Longest answer, in tokens."),
    Param::with(
        "max_length",
        Ty::Int { min: 16, max: 1_000_000 },
        Default::Int(2048),
        "Longest prompt, in tokens; a longer one is an error.",
    ),
    Param::with(
        "null_threshold",
        Ty::Float { min: -1e9, max: 1e9 },
        Default::Float(0.0),
        "Abstain where the logarithm of the probability of `no_answer` exceeds the answer's by more than this; with version 1.1 of the data there is always an answer.",
    ),
    Param::with(
        "precision",
        Ty::Choice(&["auto", "fp32", "bf16"]),
        Default::Str("auto"),
        "What the model computes in; auto: bf16 on CUDA, fp32 on the CPU.",
    ),
    Param::hint("batch_tokens", Ty::Int { min: 1, max: 1_000_000_000 }, Default::Int(32_768), "Most tokens in the model at once."),
];

impl StageKind for Prompt {
    fn name(&self) -> &'static str {
        "prompt"
    }

    fn version(&self) -> u32 {
        1
    }

    fn doc(&self) -> &'static str {
        "Asks a model that writes, with examples in the prompt, and takes down its answers.\n\n\
         A prompt is the header, the examples with their answers, and the question. Examples come from the train part only, of other \
         articles than are asked about, and are the same for every question. The usual template is \"{context}\\n\\nQ: {question}\\nA:\" \
         for Mamba and \"question: {question} context: {context}\" for T5, which ends in \"answer:\" where there are examples. The answer \
         is the likeliest text, token by token, up to the model's end token or a `stop`. \"I don't know\", \"unanswerable\" and the like \
         count as no answer, and so does an answer that is less likely than `no_answer` by `null_threshold`. Every answer is kept as soon \
         as it is there: what was asked before, by the same model in the same words, is not asked again. `evaluate` scores the answers."
    }

    fn params(&self) -> &'static [Param] {
        PARAMS
    }

    fn outputs(&self, _values: &Values) -> Vec<OutputSpec> {
        vec![OutputSpec::new("predictions", ArtifactType::PREDICTIONS)]
    }

    fn check(&self, values: &Values) -> Result<(), Invalid> {
        let stops = values.get("stop").and_then(serde_json::Value::as_array);
        if stops.is_some_and(|stops| stops.iter().any(|stop| stop.as_str() == Some(""))) {
            return Err(Invalid::new("stop", "an empty text ends every answer before it begins").help("write `stop = []` for none at all"));
        }
        let context = values.get("context").and_then(serde_json::Value::as_bool).unwrap_or(true);
        match values.text("template").map(Template::parse) {
            Some(Err(wrong)) => {
                Err(Invalid::new("template", wrong).help("a template is a text like \"{context}\\n\\nQ: {question}\\nA:\""))
            }
            Some(Ok(template)) if !context && template.has(Slot::Context) => {
                Err(Invalid::new("context", "`context` is false, but the template shows {context}").help("leave one of them out"))
            }
            _ => Ok(()),
        }
    }

    fn seeded(&self) -> bool {
        true
    }

    fn place(&self) -> Place {
        Place::Worker
    }
}
