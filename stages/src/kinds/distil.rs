//! `distil`: trains a smaller model to follow a larger one.

use qapipe_engine::{Default, Invalid, Lineage, OutputSpec, Param, Place, StageKind, Ty, Values};

use super::choice::A_MODEL;
use super::fine_tune::{CHECKPOINTS, DATA, HOW, LOG_EVERY, MICRO_BATCH, PRECISION, check_train, model_and_log};
use super::prune::{TEACHER_SHARE, TEMPERATURE};
use super::weights;

/// Distillation of a model into a smaller one.
pub struct Distil;

const NUMBERS: Ty = Ty::List(&Ty::Int { min: 0, max: 10_000 });
const WEIGHT: Ty = Ty::Float { min: 0.0, max: 1e6 };

const PARAMS: &[Param] = &[
    Param::required("teacher", A_MODEL, "The model to follow: of any size, with the student's tokenizer, and fine-tuned already."),
    DATA,
    Param::optional("model", A_MODEL, "The student to start from; a head that it lacks is drawn by the seed. Or write `layers`."),
    Param::optional("layers", NUMBERS, "The student is the teacher with only these layers, counted from 0; of T5 those of the encoder."),
    Param::optional("decoder_layers", NUMBERS, "Of a T5 the layers of the decoder that stay as well; all where it is left out."),
    TEACHER_SHARE,
    TEMPERATURE,
    Param::with(
        "hidden",
        WEIGHT,
        Default::Float(0.0),
        "What the distance of states between student and teacher is multiplied with in the loss.",
    ),
    Param::with(
        "attention",
        WEIGHT,
        Default::Float(0.0),
        "What the distance of the last layers' attention is multiplied with in the loss.",
    ),
    HOW,
    PRECISION,
    MICRO_BATCH,
    LOG_EVERY,
    CHECKPOINTS,
];

impl StageKind for Distil {
    fn name(&self) -> &'static str {
        "distil"
    }

    fn version(&self) -> u32 {
        2
    }

    fn doc(&self) -> &'static str {
        "Trains a smaller model to follow a larger one.\n\n\
         The student is a model of its own (`model`), or the teacher with some of its layers (`layers`), all else copied, as in \
         DistilBERT (Sanh et al. 2019, arXiv 1910.01108). Its loss mixes the gold answers with the teacher's, whose logits are \
         softened by a temperature (Hinton et al. 2015, arXiv 1503.02531).\n\n\
         `hidden` adds the mean squared difference of each token's state after each layer of the student and after the teacher's \
         that goes with it: the one that was kept, or else layer i of n with layer (i + 1) * m / n - 1 of m. What goes into the \
         first layer is compared as well where both are of one width. Where widths differ, states have no difference, and the \
         cosine similarities of each two tokens of a sequence are compared instead (relational distillation, after Park et al. \
         2019, arXiv 1904.05068).\n\n\
         `attention` adds KL(teacher || student) of where each token looks in the last layer (MiniLM, Wang et al. 2020, arXiv \
         2002.10957): the last layer alone needs no matching of layers, and was found to do better than all of them. It is for BERT \
         and the encoder of T5. A BERT of another number of heads has its queries and keys split into as many as the teacher has \
         (MiniLMv2, arXiv 2012.15828)."
    }

    fn params(&self) -> &'static [Param] {
        PARAMS
    }

    fn outputs(&self, _values: &Values) -> Vec<OutputSpec> {
        model_and_log()
    }

    fn check(&self, values: &Values) -> Result<(), Invalid> {
        match (values.has("model"), values.has("layers")) {
            (true, true) => {
                return Err(Invalid::new(
                    "layers",
                    "the student is a model of its own, and cannot be made of the teacher's layers as well",
                )
                .help("write either `model` or `layers`"));
            }
            (false, false) => {
                return Err(Invalid::new("", "there is no student")
                    .help("write `model = \"@…\"`, or `layers = [0, 2, 4]` to keep these of the teacher's"));
            }
            _ => {}
        }
        if values.has("decoder_layers") && !values.has("layers") {
            return Err(Invalid::new("decoder_layers", "layers of the decoder stay where layers of the encoder are chosen by `layers`"));
        }
        check_layers(values, "layers")?;
        check_layers(values, "decoder_layers")?;
        let counts = |param: &str| values.get(param).and_then(serde_json::Value::as_f64).is_some_and(|number| number > 0.0);
        if !["teacher_share", "hidden", "attention"].into_iter().any(counts) {
            return Err(Invalid::new("teacher_share", "nothing of the teacher counts").help("a fine-tune stage trains without one"));
        }
        check_train(values)
    }

    fn check_inputs(&self, stage: Lineage<'_>) -> Result<(), Invalid> {
        weights::plain(stage, "model")
    }

    fn seeded(&self) -> bool {
        true
    }

    fn place(&self) -> Place {
        Place::Worker
    }
}

/// Refuses a list of layers that is empty, or not in order.
fn check_layers(values: &Values, param: &str) -> Result<(), Invalid> {
    let Some(list) = values.get(param).and_then(serde_json::Value::as_array) else { return Ok(()) };
    let numbers: Vec<i64> = list.iter().filter_map(serde_json::Value::as_i64).collect();
    if numbers.is_empty() || !numbers.windows(2).all(|pair| pair[0] < pair[1]) {
        return Err(Invalid::new(param, "names at least one layer, each once, ascending"));
    }
    Ok(())
}
