//! Adapters on disk, as PEFT writes and reads them: `adapter_config.json` and `adapter_model.safetensors`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Tensor;

use crate::adapter_patterns::Patterns;
use crate::error::{NnError, Result};
use crate::parameters::Parameters;
use crate::tuning::{Lora, scale};
use crate::weights::{Weights, write};

/// Name of the configuration.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// Name of the weights.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
/// What stands before the names of the model's modules.
const BEFORE: &str = "base_model.model.";

/// The fields of PEFT's `LoraConfig` that say what an adapter is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdapterConfig {
    peft_type: String,
    #[serde(default)]
    task_type: Option<String>,
    #[serde(default)]
    base_model_name_or_path: Option<String>,
    r: i64,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default = "none")]
    bias: String,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    target_modules: Value,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    rank_pattern: Patterns<i64>,
    #[serde(default)]
    alpha_pattern: Patterns<f64>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default = "yes")]
    init_lora_weights: Value,
    #[serde(default)]
    inference_mode: bool,
    /// Layers of the base that stand for several: not understood.
    #[serde(default, skip_serializing)]
    layer_replication: Value,
    /// Tokens after which alone an adapter counts: not understood.
    #[serde(default, skip_serializing)]
    alora_invocation_tokens: Value,
}

fn none() -> String {
    "none".to_owned()
}

fn yes() -> Value {
    Value::Bool(true)
}

/// An adapter's configuration and weights.
#[derive(Debug)]
pub struct AdapterFile {
    config: AdapterConfig,
    weights: Weights,
}

impl AdapterConfig {
    /// What PEFT is told of adapters of these modules, for a model that does a task (PEFT's name for it).
    pub(crate) fn new(lora: &Lora, modules: Vec<String>, heads: Vec<String>, task: &str) -> Self {
        Self {
            peft_type: "LORA".to_owned(),
            task_type: Some(task.to_owned()),
            base_model_name_or_path: Some("base".to_owned()),
            r: lora.rank,
            lora_alpha: lora.alpha,
            lora_dropout: lora.dropout,
            bias: none(),
            fan_in_fan_out: false,
            target_modules: modules.into(),
            modules_to_save: (!heads.is_empty()).then_some(heads),
            rank_pattern: Patterns::default(),
            alpha_pattern: Patterns::default(),
            use_rslora: lora.rank_stabilised,
            use_dora: lora.decomposed,
            init_lora_weights: yes(),
            inference_mode: true,
            layer_replication: Value::Null,
            alora_invocation_tokens: Value::Null,
        }
    }

    fn check(self) -> Result<Self, String> {
        if self.peft_type != "LORA" {
            return Err(format!("peft_type is {:?}; LORA is what is understood", self.peft_type));
        }
        if self.bias != "none" || self.fan_in_fan_out {
            return Err("adapters with biases (`bias`) or of transposed weights (`fan_in_fan_out`) are not understood".to_owned());
        }
        if self.changes_base() {
            return Err(format!(
                "its base is not the model as it was (`init_lora_weights` is {}): convert it with PEFT",
                self.init_lora_weights
            ));
        }
        if !self.layer_replication.is_null() || !self.alora_invocation_tokens.is_null() {
            return Err("adapters with `layer_replication` or `alora_invocation_tokens` are not understood".to_owned());
        }
        if self.r < 1 || self.rank_pattern.numbers().any(|rank| rank < 1) {
            return Err("a rank is below 1".to_owned());
        }
        Ok(self)
    }

    /// Whether the adapter began by taking something away from the weights that it stands beside (PiSSA, OLoRA, CorDA, LoftQ do).
    fn changes_base(&self) -> bool {
        const KEEP: [&str; 3] = ["gaussian", "eva", "orthogonal"];
        self.init_lora_weights.as_str().is_some_and(|way| !KEEP.contains(&way))
    }

    /// The rank of a module's adapter.
    fn rank(&self, module: &str) -> i64 {
        self.rank_pattern.get(module).unwrap_or(self.r)
    }

    /// The scale of a module's adapter.
    fn scale(&self, module: &str) -> f64 {
        let alpha = self.alpha_pattern.get(module).unwrap_or(self.lora_alpha);
        scale(alpha, self.rank(module), self.use_rslora)
    }
}

/// The adapter of one module, as read.
pub(crate) struct ModuleAdapter {
    /// A, `[rank, in]`.
    pub(crate) down: Tensor,
    /// B, `[out, rank]`.
    pub(crate) up: Tensor,
    /// Lengths of rows, `[out]`.
    pub(crate) magnitude: Option<Tensor>,
    pub(crate) scale: f64,
}

impl AdapterFile {
    /// Reads an adapter's folder.
    ///
    /// # Errors
    /// Where a file is missing or broken, or the adapter is of a sort that is not understood.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(ADAPTER_CONFIG);
        let text = std::fs::read_to_string(&path).map_err(NnError::io(&path))?;
        let wrong = |message: String| NnError::Fit(format!("{}: {message}", path.display()));
        let config: AdapterConfig = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let pickled = !folder.join(ADAPTER_WEIGHTS).exists() && folder.join("adapter_model.bin").exists();
        if pickled {
            return Err(wrong(
                "its weights are a pickle (adapter_model.bin), which could run any program; save them as safetensors".into(),
            ));
        }
        Ok(Self { config: config.check().map_err(wrong)?, weights: Weights::open(&folder.join(ADAPTER_WEIGHTS))? })
    }

    /// The adapter of a module, where there is one for it.
    pub(crate) fn module(&self, module: &str) -> Result<Option<ModuleAdapter>> {
        let name = |part: &str| format!("{BEFORE}{module}.{part}");
        if !self.weights.contains(&name("lora_A.weight")) {
            return Ok(None);
        }
        let (down, up) = (self.weights.floats(&name("lora_A.weight"))?, self.weights.floats(&name("lora_B.weight"))?);
        let length = name("lora_magnitude_vector");
        let magnitude = if self.weights.contains(&length) { Some(self.weights.floats(&length)?) } else { None };
        let rank = self.config.rank(module);
        if down.size().first() != Some(&rank) {
            return Err(NnError::Fit(format!("the adapter of {module} is {:?}, and its configuration gives rank {rank}", down.size())));
        }
        Ok(Some(ModuleAdapter { down, up, magnitude, scale: self.config.scale(module) }))
    }

    /// Whether it has a tensor of this name instead of the model's.
    pub(crate) fn brings(&self, name: &str) -> bool {
        self.weights.contains(&format!("{BEFORE}{name}"))
    }

    /// A tensor of a module that was trained whole, where there is one of this name.
    pub(crate) fn whole(&self, name: &str) -> Result<Option<Tensor>> {
        if self.brings(name) { Ok(Some(self.weights.floats(&format!("{BEFORE}{name}"))?)) } else { Ok(None) }
    }

    /// Names of tensors, as the model has them, that belong to none of some modules and are none of some tensors.
    pub(crate) fn unplaced(&self, placed: impl Fn(&str) -> bool) -> Vec<String> {
        let bare = |name: &str| name.strip_prefix(BEFORE).unwrap_or(name).to_owned();
        self.weights.names().map(bare).filter(|name| !placed(name)).collect()
    }
}

/// Writes what trained of a model as an adapter's folder, for a task by PEFT's name; gives the modules that have adapters.
///
/// # Errors
/// Where the model has no adapters that train, or a file cannot be written.
pub fn save_adapter(parameters: &Parameters, lora: &Lora, task: &str, folder: &Path) -> Result<Vec<String>> {
    let tensors = parameters.trained()?;
    let modules: Vec<String> = tensors.iter().filter_map(|(name, _)| name.strip_suffix(".lora_A.weight")).map(str::to_owned).collect();
    if modules.is_empty() {
        return Err(NnError::Fit("no adapter of the model trains".into()));
    }
    let whole = tensors.iter().map(|(name, _)| name).filter(|name| !name.contains(".lora_"));
    let mut heads: Vec<String> = whole.map(|name| name.rsplit_once('.').map_or(name.as_str(), |(module, _)| module).to_owned()).collect();
    heads.dedup();
    let plain = lora.targets.exclude.is_empty() && !lora.targets.targets.iter().any(|pattern| pattern.contains('*'));
    let named = if plain && !lora.targets.targets.is_empty() { lora.targets.targets.clone() } else { modules.clone() };
    save(folder, &AdapterConfig::new(lora, named, heads, task), tensors)?;
    Ok(modules)
}

/// Writes an adapter's folder: tensors by the names that the model has for them.
fn save(folder: &Path, config: &AdapterConfig, tensors: Vec<(String, Tensor)>) -> Result<()> {
    let path = folder.join(ADAPTER_CONFIG);
    let text = serde_json::to_string_pretty(config)? + "\n";
    std::fs::write(&path, text).map_err(NnError::io(&path))?;
    let tensors = tensors.into_iter().map(|(name, tensor)| (format!("{BEFORE}{name}"), tensor)).collect();
    write(&folder.join(ADAPTER_WEIGHTS), tensors, &[])
}
