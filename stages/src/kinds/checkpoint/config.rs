//! The shape of a new model: the keys of Hugging Face's `config.json`, family by family.

use qapipe_engine::{Default, Invalid, Param, Ty, Values};

const SIZE: Ty = Ty::Int { min: 1, max: 262_144 };
const LAYERS: Ty = Ty::Int { min: 1, max: 1024 };
const SHARE: Ty = Ty::Float { min: 0.0, max: 0.99 };
const SMALL: Ty = Ty::Float { min: 0.0, max: 1.0 };

/// All keys. What is left out is as in the family's own defaults.
pub(super) const CONFIG: &[Param] = &[
    Param::with(
        "model_type",
        Ty::Choice(&["bert", "t5", "mamba", "lstm"]),
        Default::Str("bert"),
        "Family of the model; the other keys are its own.",
    ),
    Param::optional("hidden_size", SIZE, "Width of the states; for bert: 768; mamba: 768; lstm: of each direction, 128."),
    Param::optional("num_hidden_layers", LAYERS, "Number of layers; for bert: 12; mamba: 32; lstm: those after the attention, 1."),
    Param::optional(
        "num_attention_heads",
        LAYERS,
        "Attention heads; for bert: they divide hidden_size, 12; lstm: they divide twice hidden_size, 4.",
    ),
    Param::optional("intermediate_size", SIZE, "For bert: width within the feed-forward layers, 3072; mamba: width within a block, 1536."),
    Param::optional("max_position_embeddings", Ty::Int { min: 8, max: 131_072 }, "For bert: longest window, in tokens; 512."),
    Param::optional("type_vocab_size", Ty::Int { min: 1, max: 16 }, "For bert: number of segments; 2."),
    Param::optional("hidden_act", Ty::Choice(&["gelu", "gelu_new", "relu"]), "For bert: activation of the feed-forward layers; gelu."),
    Param::optional("hidden_dropout_prob", SHARE, "For bert: dropout of states in training; 0.1."),
    Param::optional("attention_probs_dropout_prob", SHARE, "For bert: dropout of attention weights in training; 0.1."),
    Param::optional("layer_norm_eps", SMALL, "For bert: added to the variance in layer normalisation; 1e-12."),
    Param::optional("initializer_range", SMALL, "For bert, mamba: standard deviation of new weights; bert 0.02, mamba 0.1."),
    Param::optional("d_model", SIZE, "For t5: width of the states; 512."),
    Param::optional("d_kv", SIZE, "For t5: width of an attention head; 64."),
    Param::optional("d_ff", SIZE, "For t5: width within the feed-forward layers; 2048."),
    Param::optional("num_layers", LAYERS, "For t5: layers of the encoder; 6."),
    Param::optional("num_decoder_layers", LAYERS, "For t5: layers of the decoder; as many as the encoder has."),
    Param::optional("num_heads", LAYERS, "For t5: attention heads; 8."),
    Param::optional("relative_attention_num_buckets", Ty::Int { min: 4, max: 4096 }, "For t5: buckets of relative positions; 32."),
    Param::optional("relative_attention_max_distance", Ty::Int { min: 4, max: 131_072 }, "For t5: distance of the last bucket; 128."),
    Param::optional("dropout_rate", SHARE, "Dropout in training; for t5: 0.1; lstm: of what goes into each LSTM, 0.2."),
    Param::optional("layer_norm_epsilon", SMALL, "For t5, mamba: added to the mean square in normalisation; t5 1e-6, mamba 1e-5."),
    Param::optional("initializer_factor", Ty::Float { min: 0.0, max: 100.0 }, "For t5: scale of new weights; 1."),
    Param::optional(
        "feed_forward_proj",
        Ty::Choice(&["relu", "gelu", "gated-gelu", "gated-relu"]),
        "For t5: relu as in version 1.0, or gated-gelu as in 1.1.",
    ),
    Param::optional("tie_word_embeddings", Ty::Bool, "For t5: whether the output shares the embedding's weights, as in version 1.0; true."),
    Param::optional("state_size", Ty::Int { min: 1, max: 256 }, "For mamba: numbers of state a channel; 16."),
    Param::optional("expand", Ty::Int { min: 1, max: 64 }, "For mamba: width within a block, in widths of the states; 2."),
    Param::optional("conv_kernel", Ty::Int { min: 1, max: 64 }, "For mamba: tokens that the convolution sees; 4."),
    Param::optional("word_size", SIZE, "For lstm: width of a word's vector; 100."),
    Param::optional("train_words", Ty::Bool, "For lstm: whether the words' vectors train; true."),
    Param::optional(
        "character_vocab_size",
        Ty::Int { min: 0, max: 100_000 },
        "For lstm: characters that are told apart, two of them for none and for others; 0, for none at all.",
    ),
    Param::optional("character_size", SIZE, "For lstm: width of a character's vector; 16."),
    Param::optional("character_filters", SIZE, "For lstm: features that a word gets from its characters; 100."),
    Param::optional("character_kernel", LAYERS, "For lstm: characters that a feature sees at once; 5."),
    Param::optional("word_length", LAYERS, "For lstm: characters of a word that are looked at; 16."),
    Param::optional("exact_match", Ty::Bool, "For lstm: whether a token knows if its word stands in the other text as well; false."),
    Param::optional("residual", Ty::Bool, "For lstm: whether what goes into a layer is added to what comes out; false."),
    Param::optional(
        "attention",
        Ty::Choice(&["dot", "multi-head", "self-attention", "bidaf"]),
        "For lstm: how the paragraph looks at the question; self-attention and bidaf also look at the paragraph itself; dot.",
    ),
    Param::optional(
        "head",
        Ty::Choice(&["flatten", "max-pooling", "span"]),
        "For lstm: a score a position, the greatest values over all positions, or a score a position after LSTMs for start and end; flatten.",
    ),
    Param::optional("positions", SIZE, "For lstm: words of a paragraph that can be an answer, but for the head span; 350."),
    Param::optional("time_step_rank", SIZE, "For mamba: rank of the time step's map; a sixteenth of the width."),
];

/// Which keys a family has, beside `model_type`.
const FAMILIES: &[(&str, &[&str])] = &[
    (
        "bert",
        &[
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
            "hidden_act",
            "hidden_dropout_prob",
            "attention_probs_dropout_prob",
            "layer_norm_eps",
            "initializer_range",
        ],
    ),
    (
        "t5",
        &[
            "d_model",
            "d_kv",
            "d_ff",
            "num_layers",
            "num_decoder_layers",
            "num_heads",
            "relative_attention_num_buckets",
            "relative_attention_max_distance",
            "dropout_rate",
            "layer_norm_epsilon",
            "initializer_factor",
            "feed_forward_proj",
            "tie_word_embeddings",
        ],
    ),
    (
        "mamba",
        &[
            "hidden_size",
            "num_hidden_layers",
            "intermediate_size",
            "state_size",
            "expand",
            "conv_kernel",
            "time_step_rank",
            "layer_norm_epsilon",
            "initializer_range",
        ],
    ),
    (
        "lstm",
        &[
            "word_size",
            "train_words",
            "character_vocab_size",
            "character_size",
            "character_filters",
            "character_kernel",
            "word_length",
            "exact_match",
            "hidden_size",
            "num_hidden_layers",
            "residual",
            "attention",
            "num_attention_heads",
            "head",
            "positions",
            "dropout_rate",
        ],
    ),
];

/// The keys of a family.
fn keys(family: &str) -> &'static [&'static str] {
    FAMILIES.iter().find(|(name, _)| *name == family).map_or(&[], |(_, keys)| keys)
}

/// Refuses keys of another family, and sizes that do not fit each other.
pub(super) fn check(values: &Values) -> Result<(), Invalid> {
    let Some(given) = values.get("config").and_then(serde_json::Value::as_object) else { return Ok(()) };
    let family = values.text("config.model_type").unwrap_or("bert");
    let strange = given.keys().find(|key| *key != "model_type" && !keys(family).contains(&key.as_str()));
    if let Some(key) = strange {
        return Err(Invalid::new(&format!("config.{key}"), format!("a {family} has no `{key}`"))
            .help(format!("it has {}", keys(family).join(", "))));
    }
    let number = |name: &str| values.get(&format!("config.{name}")).and_then(serde_json::Value::as_i64);
    let (width, heads) = (number("hidden_size").unwrap_or(768), number("num_attention_heads").unwrap_or(12));
    if family == "bert" && width % heads != 0 {
        return Err(Invalid::new("config.num_attention_heads", format!("{heads} heads do not divide a hidden_size of {width}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_says_whose_it_is() {
        for key in &CONFIG[1..] {
            let owners: Vec<&str> = FAMILIES.iter().filter(|(_, keys)| keys.contains(&key.name)).map(|&(name, _)| name).collect();
            assert!(!owners.is_empty(), "{} belongs to no family", key.name);
            let stated =
                key.doc.contains(&format!("{}: ", owners.join(", "))) || owners.iter().all(|owner| key.doc.contains(&format!("{owner}: ")));
            assert!(stated, "{}: {}", key.name, key.doc);
        }
        for (family, keys) in FAMILIES {
            assert!(keys.iter().all(|key| CONFIG.iter().any(|known| known.name == *key)), "{family}");
        }
    }
}
