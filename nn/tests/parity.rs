//! Agreement with the reference implementation: logits, losses, gradients, optimiser steps.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use qapipe_nn::parity::{TOLERANCE, Verdict, check_all};
use qapipe_nn::{AdamW, AdamWConfig, Forward, Network, Reader, span_loss};

use common::{difference, fixture, golden, model, packed, rows, same_gradients, shared};

/// A copy of the fixture that may be changed.
fn copy() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("bert");
    std::fs::create_dir(&inner).unwrap();
    for file in ["config.json", "model.safetensors", "golden.safetensors"] {
        std::fs::copy(fixture().join(file), inner.join(file)).unwrap();
    }
    (folder, inner)
}

#[test]
fn the_fixture_agrees() {
    let report = check_all(fixture().parent().unwrap()).unwrap();
    assert!(report.passed(), "{report}");
    assert!(report.to_string().contains("equal"));
    let Verdict::Checked(checks) = &report.folders[0].1 else { unreachable!() };
    assert_eq!(checks.iter().map(|check| check.what.as_str()).collect::<Vec<_>>(), ["start", "end", "loss"]);
}

#[test]
fn every_family_has_a_fixture() {
    let root = fixture().parent().unwrap().to_path_buf();
    // A folder without a configuration is of no model.
    let configs =
        std::fs::read_dir(root).unwrap().filter_map(|entry| std::fs::read_to_string(entry.unwrap().path().join("config.json")).ok());
    let found: Vec<&str> = configs.map(|config| qapipe_nn::models::family(&config).unwrap().family).collect();
    for family in qapipe_nn::models::families() {
        assert!(found.contains(&family), "no fixture of {family}; see scripts/make_fixtures.py");
    }
}

#[test]
fn the_folder_itself_may_be_named() {
    assert!(check_all(&fixture()).unwrap().passed());
}

#[test]
fn the_shared_oracles_agree() {
    let Some(oracles) = shared("oracles") else { return };
    let report = check_all(&oracles).unwrap();
    assert!(report.passed(), "{report}");
    assert!(report.folders.iter().any(|(_, verdict)| matches!(verdict, Verdict::Checked(_))));
}

#[test]
fn a_changed_weight_is_noticed() {
    let (root, folder) = copy();
    let path = folder.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 0x01;
    std::fs::write(&path, bytes).unwrap();
    let report = check_all(root.path()).unwrap();
    assert!(!report.passed());
    assert!(report.to_string().contains("DIFFERENT"), "{report}");
}

#[test]
fn a_damaged_folder_fails_and_the_others_are_still_compared() {
    let (root, folder) = copy();
    let other = root.path().join("damaged");
    std::fs::create_dir(&other).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(folder.join(file), other.join(file)).unwrap();
    }
    std::fs::write(other.join("golden.safetensors"), b"short").unwrap();
    let report = check_all(root.path()).unwrap();
    assert!(!report.passed());
    assert!(matches!(report.folders[0].1, Verdict::Checked(_)) && matches!(report.folders[1].1, Verdict::Failed(_)));
}

#[test]
fn a_family_that_is_not_built_is_skipped_and_skipping_alone_is_no_pass() {
    let (root, folder) = copy();
    std::fs::write(folder.join("config.json"), r#"{"model_type": "xlnet"}"#).unwrap();
    let report = check_all(root.path()).unwrap();
    assert!(matches!(&report.folders[0].1, Verdict::Skipped(why) if why.contains("xlnet")));
    assert!(!report.passed());
    assert!(!check_all(tempfile::tempdir().unwrap().path()).unwrap().passed());
}

#[test]
fn gradients_agree() {
    let (ids, contexts, starts, ends) = rows();
    let (mut model, golden, batch) = (model(), golden(), packed(&ids, &contexts));
    assert_eq!(model.parameters().iter().flat_map(|one| one.names()).count(), 39);
    // Softmax does not see what is added to all its inputs: the gradient of these is rounding noise in both.
    let layers = "bert.encoder.layer";
    let keys = [0, 1].map(|layer| format!("{layers}.{layer}.attention.self.key.bias"));
    let noise = [keys[0].as_str(), &keys[1], "bert.encoder.layer.1.output.LayerNorm.bias", "qa_outputs.bias"];
    same_gradients(&mut model, &golden, TOLERANCE, &noise, |model, share| {
        let logits = model.forward(&batch, &mut Forward::training(1)).unwrap();
        let loss = span_loss(&logits, &batch, &starts, &ends).unwrap();
        assert!(difference(&loss.view(1), &golden.tensor("row_loss").unwrap()) < TOLERANCE);
        model.parameters_mut().backward(&(loss * share)).unwrap();
    });
}

#[test]
fn optimiser_steps_agree() {
    let (ids, contexts, starts, ends) = rows();
    let (mut model, golden, batch) = (model(), golden(), packed(&ids, &contexts));
    let mut optimiser = AdamW::new(model.parameters(), AdamWConfig::default()).unwrap();
    for _ in 0..3 {
        let logits = model.forward(&batch, &mut Forward::training(1)).unwrap();
        let loss = span_loss(&logits, &batch, &starts, &ends).unwrap();
        let parameters = model.parameters_mut();
        parameters.backward(&loss).unwrap();
        let norm = optimiser.clip_grad_norm(parameters, 0.1).unwrap();
        assert!(norm.double_value(&[]) > 0.1);
        optimiser.step(parameters, 0.01).unwrap();
    }
    assert_eq!(optimiser.steps(), 3);
    // Softmax does not see what is added to all its inputs, so the gradient of some biases is rounding noise, which Adam blows up.
    let noise = |name: &&str| golden.tensor(&format!("grad.{name}")).unwrap().abs().max().double_value(&[]) < 1e-6;
    let (skipped, names): (Vec<&str>, Vec<&str>) = golden.names().filter_map(|name| name.strip_prefix("after.")).partition(noise);
    assert_eq!(skipped.len(), 4, "{skipped:?}");
    for name in names {
        let found = difference(&model.parameters().value(name).unwrap(), &golden.tensor(&format!("after.{name}")).unwrap());
        assert!(found < 5.0 * TOLERANCE, "{name}: {found}");
    }
}
