//! Adapters that PEFT wrote: what the adapted models answer, merged and not, how they train, what is written of them, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::path::{Path, PathBuf};

use qapipe_nn::weights::write;
use qapipe_nn::{
    ADAPTER_CONFIG, ADAPTER_WEIGHTS, AdamW, AdamWConfig, AnyModel, BertConfig, BertForQuestionAnswering, Form, Forward, Lora, Network,
    Packed, Pairs, Placement, Selection, Tuning, Weights, models, save_adapter, span_loss,
};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

use common::{difference, fixture_of};

/// The fixtures: the model, and the adapter for it.
const CASES: [&str; 9] = [
    "bert_tiny.lora",
    "bert_tiny.rslora",
    "bert_tiny.dora",
    "bert_tiny.patterns",
    "t5_tiny.lora",
    "t5_tiny.patterns",
    "t5_v11_tiny.dora",
    "mamba_tiny.lora",
    "mamba_tiny.dora",
];
/// Most by which logits may differ, of the largest number or of one, whichever is more; and gradients, of the largest number of their tensor.
const MOST: f64 = 1e-5;

fn adapter_of(case: &str) -> PathBuf {
    qapipe_nn::device::set_threads(1);
    fixture_of("adapters").join(case)
}

fn base_of(case: &str) -> PathBuf {
    fixture_of(case.split('.').next().unwrap())
}

/// An adapter's folder with its model in it, as `lora-adapt` leaves them.
fn assembled(adapter: &Path, base: &Path) -> TempDir {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join(models::BASE)).unwrap();
    let copy = |from: &Path, file: &str, to: &Path| std::fs::copy(from.join(file), to.join(file)).unwrap();
    for file in [ADAPTER_CONFIG, ADAPTER_WEIGHTS] {
        copy(adapter, file, place.path());
    }
    for file in ["config.json", "model.safetensors"] {
        copy(base, file, &place.path().join(models::BASE));
    }
    place
}

fn load(folder: &Path) -> AnyModel {
    let (model, report) = models::load(folder, &Placement::inference(Device::Cpu), 0).unwrap();
    assert_eq!(report, qapipe_nn::LoadReport::default());
    model
}

/// The inputs of a model's golden tensors, and what PEFT's adapted model makes of them.
struct Golden {
    base: Weights,
    adapted: Weights,
}

impl Golden {
    fn of(case: &str) -> Self {
        let open = |folder: &Path| Weights::open(&folder.join("golden.safetensors")).unwrap();
        Self { base: open(&base_of(case)), adapted: open(&adapter_of(case)) }
    }

    fn table(&self, name: &str) -> Vec<Vec<i64>> {
        Vec::try_from(self.base.tensor(name).unwrap()).unwrap()
    }

    /// Rows of ids, each as long as some other table says.
    fn rows(&self, ids: &str, counts: &str, counted: impl Fn(i64) -> bool) -> Vec<Vec<u32>> {
        let cut = |(ids, marks): (Vec<i64>, Vec<i64>)| {
            ids.into_iter().zip(marks).filter(|&(_, mark)| counted(mark)).map(|(id, _)| u32::try_from(id).unwrap()).collect()
        };
        self.table(ids).into_iter().zip(self.table(counts)).map(cut).collect()
    }

    /// The packed batch of a model that points, with its labels.
    fn packed(&self) -> (Packed, Tensor, Tensor) {
        let ids = self.rows("ids", "am", |mark| mark == 1);
        let fronts = self.table("tt").into_iter().map(|row| row.iter().take_while(|&&segment| segment == 0).count());
        let rows: Vec<(&[u32], u32)> = ids.iter().zip(fronts).map(|(row, front)| (row.as_slice(), u32::try_from(front).unwrap())).collect();
        let labels = ["start_positions", "end_positions"].map(|name| self.base.tensor(name).unwrap());
        let [starts, ends] = labels;
        (Packed::from_sequences(&rows, Device::Cpu).unwrap(), starts, ends)
    }

    /// The batch of a model that writes: of a language model, each row's first token and what comes after.
    fn pairs(&self, form: Form) -> Pairs {
        let rows: Vec<(Vec<u32>, Vec<u32>)> = if form == Form::Causal {
            self.rows("ids", "ids", |_| true).into_iter().map(|row| (row[..1].to_vec(), row[1..].to_vec())).collect()
        } else {
            self.rows("ids", "am", |mark| mark == 1).into_iter().zip(self.rows("labels", "labels", |label| label >= 0)).collect()
        };
        let rows: Vec<(&[u32], &[u32])> = rows.iter().map(|(source, target)| (source.as_slice(), target.as_slice())).collect();
        Pairs::collate(form, &rows).unwrap()
    }

    /// PEFT's logits where ours are, one after the other.
    fn logits(&self, model: &AnyModel, what: &str) -> Tensor {
        let of = |name: String| self.adapted.tensor(&name).unwrap();
        let real = |marks: Tensor, logits: Tensor| {
            let places = marks.view([-1]).nonzero().view([-1]);
            logits.flatten(0, 1).index_select(0, &places)
        };
        match model {
            AnyModel::Reader(_) => {
                let marks = self.base.tensor("am").unwrap().eq(1);
                Tensor::cat(&[".start", ".end"].map(|side| real(marks.shallow_clone(), of(format!("{what}{side}")))), 0)
            }
            AnyModel::Writer(model) if model.form() == Form::Causal => {
                let logits = of(what.to_owned());
                logits.narrow(1, 0, logits.size()[1] - 1).flatten(0, 1)
            }
            AnyModel::Writer(_) => real(self.base.tensor("labels").unwrap().ge(0), of(what.to_owned())),
        }
    }
}

/// Our logits, one after the other.
fn logits(model: &AnyModel, golden: &Golden) -> Tensor {
    match model {
        AnyModel::Reader(model) => {
            let logits = model.forward(&golden.packed().0, &mut Forward::inference()).unwrap();
            Tensor::cat(&[logits.start, logits.end], 0)
        }
        AnyModel::Writer(model) => model.logits(&golden.pairs(model.form()), &mut Forward::inference()).unwrap(),
    }
}

/// The loss of the golden tensors, with its gradient.
fn loss(model: &AnyModel, golden: &Golden) -> Tensor {
    let mut forward = Forward::training(1);
    match model {
        AnyModel::Reader(model) => {
            let (packed, starts, ends) = golden.packed();
            span_loss(&model.forward(&packed, &mut forward).unwrap(), &packed, &starts, &ends).unwrap()
        }
        AnyModel::Writer(model) => model.forward(&golden.pairs(model.form()), &mut forward).unwrap().mean(Kind::Float).neg(),
    }
}

/// By how much some numbers differ, of the largest or of one, whichever is more.
fn off(ours: &Tensor, theirs: &Tensor) -> f64 {
    difference(ours, theirs) / theirs.abs().max().double_value(&[]).max(1.0)
}

fn config(folder: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join(ADAPTER_CONFIG)).unwrap()).unwrap()
}

/// What PEFT was told, as we are told it.
fn lora(case: &str) -> Lora {
    let config = config(&adapter_of(case));
    let targets: Vec<&str> = config["target_modules"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    Lora {
        rank: config["r"].as_i64().unwrap(),
        alpha: config["lora_alpha"].as_f64().unwrap(),
        dropout: 0.0,
        rank_stabilised: config["use_rslora"] == true,
        decomposed: config["use_dora"] == true,
        targets: Selection::of(&targets),
        head: !config["modules_to_save"].is_null(),
    }
}

/// The tensors of an adapter's file by their names there.
fn tensors(folder: &Path) -> Vec<(String, Tensor)> {
    let weights = Weights::open(&folder.join(ADAPTER_WEIGHTS)).unwrap();
    weights.names().map(|name| (name.to_owned(), weights.tensor(name).unwrap())).collect()
}

fn bare(name: &str) -> &str {
    name.strip_prefix("base_model.model.").unwrap()
}

/// The model of a case with adapters that train, begun with the numbers of PEFT's.
fn training(case: &str) -> AnyModel {
    let tuning = Tuning::Adapters(lora(case));
    let (mut model, _) = models::load_tuned(&base_of(case), &Placement::training(Device::Cpu), 0, &tuning).unwrap();
    for (name, values) in tensors(&adapter_of(case)) {
        model.network_mut().parameters_mut().set(bare(&name), &values).unwrap();
    }
    model
}

/// Cases whose adapters are all of one rank: those that we can begin.
fn even() -> impl Iterator<Item = &'static str> {
    CASES.into_iter().filter(|case| !case.ends_with("patterns"))
}

#[test]
fn logits_are_those_of_peft() {
    for case in CASES {
        let (golden, folder) = (Golden::of(case), assembled(&adapter_of(case), &base_of(case)));
        let model = load(folder.path());
        let found = off(&logits(&model, &golden), &golden.logits(&model, "logits"));
        assert!(found < MOST, "{case}: {found}");
        let without = off(&logits(&load(&base_of(case)), &golden), &golden.logits(&model, "logits"));
        assert!(without > 0.05, "{case}: the adapter changes nothing ({without})");
    }
}

#[test]
fn merged_it_says_the_same() {
    for case in CASES {
        let (golden, folder) = (Golden::of(case), assembled(&adapter_of(case), &base_of(case)));
        let model = load(folder.path());
        let dense = model.network().parameters().dense(Kind::Float).unwrap();
        let place = tempfile::tempdir().unwrap();
        std::fs::copy(base_of(case).join("config.json"), place.path().join("config.json")).unwrap();
        write(&place.path().join("model.safetensors"), dense, &[]).unwrap();
        let merged = logits(&load(place.path()), &golden);
        for (theirs, what) in [(golden.logits(&model, "merged"), "PEFT's merged"), (logits(&model, &golden), "unmerged")] {
            let found = off(&merged, &theirs);
            assert!(found < MOST, "{case}, {what}: {found}");
        }
        let names = |folder: &Path| Weights::open_folder(folder).unwrap().names().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(names(place.path()), names(&base_of(case)), "{case}");
    }
}

#[test]
fn gradients_are_those_of_peft() {
    for case in even() {
        let (golden, mut model) = (Golden::of(case), training(case));
        let loss = loss(&model, &golden);
        assert!(off(&loss.view(1), &golden.adapted.tensor("loss").unwrap()) < MOST, "{case}");
        model.network_mut().parameters_mut().backward(&loss).unwrap();
        let parameters = model.network().parameters();
        let mut ours: Vec<&str> = parameters.iter().flat_map(|one| one.names()).collect();
        let mut theirs: Vec<&str> = golden.adapted.names().filter_map(|name| name.strip_prefix("grad.")).collect();
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs, "{case}");
        // Softmax does not see what is added to all its inputs: the gradient of the head's bias is rounding noise in both.
        for name in ours {
            let wanted = golden.adapted.tensor(&format!("grad.{name}")).unwrap();
            let (found, size) = (difference(&parameters.gradient(name).unwrap(), &wanted), wanted.abs().max().double_value(&[]));
            let noise = name == "qa_outputs.bias";
            assert_eq!(size < 1e-6, noise, "{case} {name}: {size}");
            assert!(found < if noise { 1e-6 } else { MOST * size }, "{case} {name}: {found} of {size}");
        }
    }
}

#[test]
fn what_is_written_is_what_peft_writes() {
    for case in even() {
        let (model, place) = (training(case), tempfile::tempdir().unwrap());
        let task = config(&adapter_of(case))["task_type"].as_str().unwrap().to_owned();
        let touched = save_adapter(model.network().parameters(), &lora(case), &task, place.path()).unwrap();
        let (ours, theirs) = (tensors(place.path()), tensors(&adapter_of(case)));
        assert_eq!(ours, theirs, "{case}");
        assert!(touched.iter().all(|module| theirs.iter().any(|(name, _)| bare(name) == format!("{module}.lora_A.weight"))), "{case}");
        let (ours, theirs) = (config(place.path()), config(&adapter_of(case)));
        for field in ["peft_type", "task_type", "r", "bias", "fan_in_fan_out", "target_modules", "use_rslora", "use_dora", "inference_mode"]
        {
            assert_eq!(ours[field], theirs[field], "{case} {field}");
        }
        assert_eq!(ours["lora_alpha"].as_f64(), theirs["lora_alpha"].as_f64(), "{case}");
        assert_eq!(ours["modules_to_save"].is_null(), theirs["modules_to_save"].is_null(), "{case}");
        let (golden, again) = (Golden::of(case), assembled(place.path(), &base_of(case)));
        let again = load(again.path());
        assert!(off(&logits(&again, &golden), &golden.logits(&again, "logits")) < MOST, "{case}");
    }
}

#[test]
fn a_step_of_training_keeps_names_and_shapes_and_the_base() {
    for case in even() {
        let (golden, mut model, place) = (Golden::of(case), training(case), tempfile::tempdir().unwrap());
        let mut optimiser = AdamW::new(model.network().parameters(), AdamWConfig::default()).unwrap();
        let loss = loss(&model, &golden);
        let parameters = model.network_mut().parameters_mut();
        parameters.backward(&loss).unwrap();
        optimiser.step(parameters, 0.01).unwrap();
        let _touched = save_adapter(parameters, &lora(case), "QUESTION_ANS", place.path()).unwrap();
        let (ours, theirs) = (tensors(place.path()), tensors(&adapter_of(case)));
        let shapes = |tensors: &[(String, Tensor)]| {
            tensors.iter().map(|(name, tensor)| (name.clone(), tensor.kind(), tensor.size())).collect::<Vec<_>>()
        };
        assert_eq!(shapes(&ours), shapes(&theirs), "{case}");
        assert!(ours.iter().zip(&theirs).all(|((_, after), (_, before))| !after.equal(before)), "{case}: something has not moved");
        let base = Weights::open_folder(&base_of(case)).unwrap();
        for name in base.names().filter(|name| !name.starts_with("qa_outputs")) {
            assert!(parameters.value(name).unwrap().equal(&base.tensor(name).unwrap()), "{case} {name} has moved");
        }
    }
}

#[test]
fn fresh_adapters_change_nothing_and_have_the_sizes_that_peft_gives_them() {
    for case in even() {
        let tuning = Tuning::Adapters(Lora { head: false, ..lora(case) });
        let (model, _) = models::load_tuned(&base_of(case), &Placement::training(Device::Cpu), 5, &tuning).unwrap();
        let theirs = tensors(&adapter_of(case)).into_iter().filter(|(name, _)| name.contains(".lora_"));
        let count: usize = theirs.map(|(_, tensor)| tensor.numel()).sum();
        assert_eq!(model.network().parameters().trainable(), count as u64, "{case}");
        let golden = Golden::of(case);
        let found = off(&logits(&model, &golden).detach(), &logits(&load(&base_of(case)), &golden));
        assert!(found < 1e-6, "{case}: {found}");
    }
}

/// The message about a BERT's adapter that was changed, or put beside another model.
fn refused(base: &Path, change: impl Fn(&Path)) -> String {
    let folder = assembled(&adapter_of("bert_tiny.lora"), base);
    change(folder.path());
    let error = models::load(folder.path(), &Placement::inference(Device::Cpu), 0).err().unwrap().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

/// Changes a field of an adapter's configuration.
fn with(field: &'static str, value: Value) -> impl Fn(&Path) {
    move |folder| {
        let mut config = config(folder);
        config[field] = value.clone();
        std::fs::write(folder.join(ADAPTER_CONFIG), config.to_string()).unwrap();
    }
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let other = |change: BertConfig| {
        let place = tempfile::tempdir().unwrap();
        BertForQuestionAnswering::init(&change, &Placement::inference(Device::Cpu), 1).unwrap().save(place.path()).unwrap();
        refused(place.path(), |_| ())
    };
    let wide = other(BertConfig { hidden_size: 24, ..common::config() });
    let module = "bert.encoder.layer.0.attention.self.query";
    assert!(wide.contains(&format!("of another shape: the adapter of {module} is [12, 3] [3, 12], its matrix [24, 24]")), "{wide}");
    let flat = other(BertConfig { num_hidden_layers: 1, ..common::config() });
    assert!(flat.contains("of an adapter and not of the model: bert.encoder.layer.1.attention.self.query.lora_A.weight"), "{flat}");
    let t5 = refused(&fixture_of("t5_tiny"), |_| ());
    assert!(t5.contains("of an adapter and not of the model") && t5.contains("and 2 more"), "{t5}");
}

#[test]
fn an_adapter_that_is_not_understood_is_refused() {
    let base = fixture_of("bert_tiny");
    for (field, value, wanted) in [
        ("peft_type", json!("IA3"), "peft_type is \"IA3\"; LORA is what is understood"),
        ("bias", json!("lora_only"), "adapters with biases (`bias`)"),
        ("fan_in_fan_out", json!(true), "`fan_in_fan_out`) are not understood"),
        ("init_lora_weights", json!("pissa_niter_4"), "its base is not the model as it was (`init_lora_weights` is \"pissa_niter_4\")"),
        ("layer_replication", json!([[0, 2]]), "`layer_replication`"),
        ("alora_invocation_tokens", json!([1]), "`alora_invocation_tokens` are not understood"),
        ("r", json!(0), "a rank is below 1"),
        ("r", json!(4), "the adapter of bert.encoder.layer.0.attention.self.query is [3, 12], and its configuration gives rank 4"),
        ("r", json!("3"), "invalid type: string \"3\""),
        ("alpha_pattern", json!({"(": 3}), "\"(\" is no regular expression"),
    ] {
        let error = refused(&base, with(field, value));
        assert!(error.contains(wanted), "{field}: {error}");
    }
}

#[test]
fn what_else_a_configuration_may_say_changes_nothing() {
    let golden = Golden::of("bert_tiny.lora");
    for (field, value) in [
        ("rank_pattern", Value::Null),
        ("init_lora_weights", json!("gaussian")),
        ("inference_mode", json!(false)),
        ("a_word_of_the_future", json!({"x": 1})),
        ("target_modules", json!("all-linear")),
    ] {
        let folder = assembled(&adapter_of("bert_tiny.lora"), &fixture_of("bert_tiny"));
        with(field, value)(folder.path());
        let model = load(folder.path());
        assert!(off(&logits(&model, &golden), &golden.logits(&model, "logits")) < MOST, "{field}");
    }
}

#[test]
fn damaged_files_are_refused() {
    let base = fixture_of("bert_tiny");
    let pickled = refused(&base, |folder| std::fs::rename(folder.join(ADAPTER_WEIGHTS), folder.join("adapter_model.bin")).unwrap());
    assert!(pickled.contains("its weights are a pickle (adapter_model.bin), which could run any program"), "{pickled}");
    let cut = refused(&base, |folder| {
        let path = folder.join(ADAPTER_WEIGHTS);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
    });
    assert!(cut.contains(ADAPTER_WEIGHTS), "{cut}");
    let half = refused(&base, |folder| {
        let kept = tensors(folder).into_iter().filter(|(name, _)| !name.ends_with("layer.0.attention.self.value.lora_B.weight")).collect();
        write(&folder.join(ADAPTER_WEIGHTS), kept, &[]).unwrap();
    });
    assert!(half.contains("bert.encoder.layer.0.attention.self.value.lora_B.weight"), "{half}");
    let alone = refused(&base, |folder| std::fs::remove_dir_all(folder.join(models::BASE)).unwrap());
    assert!(alone.contains("base/config.json"), "{alone}");
    let gone = refused(&base, |folder| std::fs::remove_file(folder.join(ADAPTER_WEIGHTS)).unwrap());
    assert!(gone.contains(ADAPTER_WEIGHTS), "{gone}");
}

#[test]
fn an_adapter_is_not_trained_over_and_what_has_none_is_not_written_as_one() {
    let folder = assembled(&adapter_of("bert_tiny.lora"), &fixture_of("bert_tiny"));
    let others = Lora { targets: Selection::of(&["key"]), ..lora("bert_tiny.lora") };
    for tuning in [Tuning::Whole, Tuning::Adapters(lora("bert_tiny.lora")), Tuning::Adapters(others)] {
        let error = models::load_tuned(folder.path(), &Placement::training(Device::Cpu), 0, &tuning).err().unwrap().to_string();
        assert!(error.contains("adapter"), "{error}");
    }
    let (model, place) = (load(&fixture_of("bert_tiny")), tempfile::tempdir().unwrap());
    let error = save_adapter(model.network().parameters(), &lora("bert_tiny.lora"), "QUESTION_ANS", place.path()).unwrap_err().to_string();
    assert!(error.contains("no adapter of the model trains"), "{error}");
}
