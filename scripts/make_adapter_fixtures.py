#!/usr/bin/env python3
"""Makes nn/tests/fixtures/adapters: adapters that PEFT writes for the tiny models of the other fixtures, and what the adapted models answer.

usage: scripts/make_adapter_fixtures.py [OUT]

Needs torch, transformers and peft (made with torch 2.11.0, transformers 4.46.3, peft 0.14.0), and the fixtures of make_fixtures.py in OUT. A
folder BASE.CASE holds adapter_config.json and adapter_model.safetensors as PEFT saves them, none of it zero, for the model in OUT/BASE, and
golden.safetensors, whose inputs are those of BASE:

  logits...     of the adapted model: start and end of BERT; of T5; of Mamba after each token of ids
  merged...     the same of the model that merge_and_unload gives
  loss          of BERT, the mean over rows of each row's loss when it runs alone; of T5 and Mamba, that of the batch
  grad.NAME     gradient of the loss, for each tensor of the adapter, by its name in the model
"""
import copy, json, pathlib, shutil, sys
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import BertForQuestionAnswering, MambaForCausalLM, T5ForConditionalGeneration

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent / "nn/tests/fixtures")
BERT = dict(task_type="QUESTION_ANS", target_modules=["query", "value"], modules_to_save=["qa_outputs"])
T5 = dict(task_type="SEQ_2_SEQ_LM", target_modules=["q", "v"])
MAMBA = dict(task_type="CAUSAL_LM", target_modules=["in_proj", "x_proj", "out_proj"])
# Patterns are regular expressions, and of those that fit, the first counts: in the file's order, which is not that of the alphabet.
BERT_PATTERNS = dict(target_modules=["query", "value", "output.dense"], rank_pattern={"self.query": 4, r"layer\.1\..*dense": 1},
                     alpha_pattern={"self.value": 9, r"layer\.\d\.attention\.self\.value": 2, "bert.encoder.layer.0.attention.self.query": 7})
T5_PATTERNS = dict(rank_pattern={"EncDecAttention.v": 1, "v": 3}, alpha_pattern={"block.*DecAttention.q": 20})
CASES = {
    "bert_tiny": {"lora": dict(BERT, r=3, lora_alpha=8), "rslora": dict(BERT, r=4, lora_alpha=3, use_rslora=True),
                  "dora": dict(BERT, r=3, lora_alpha=8, use_dora=True), "patterns": {**BERT, "r": 2, "lora_alpha": 4, **BERT_PATTERNS}},
    "t5_tiny": {"lora": dict(T5, r=3, lora_alpha=8), "patterns": {**T5, "r": 2, "lora_alpha": 4, **T5_PATTERNS}},
    "t5_v11_tiny": {"dora": dict(T5, r=2, lora_alpha=5, use_dora=True, use_rslora=True)},
    "mamba_tiny": {"lora": dict(MAMBA, r=3, lora_alpha=8), "dora": dict(MAMBA, r=2, lora_alpha=6, use_dora=True)},
}


def bert(model, given):
    answer = model(input_ids=given["ids"], token_type_ids=given["tt"], attention_mask=given["am"])
    losses = []
    for row, length in enumerate(given["am"].sum(1).tolist()):
        labels = dict(start_positions=given["start_positions"][row:row + 1], end_positions=given["end_positions"][row:row + 1])
        losses.append(model(input_ids=given["ids"][row:row + 1, :length], token_type_ids=given["tt"][row:row + 1, :length], **labels).loss)
    return {".start": answer.start_logits, ".end": answer.end_logits}, torch.stack(losses).mean()


def t5(model, given):
    answer = model(input_ids=given["ids"], attention_mask=given["am"], labels=given["labels"])
    return {"": answer.logits}, answer.loss


def mamba(model, given):
    answer = model(input_ids=given["ids"], labels=given["ids"])
    return {"": answer.logits}, answer.loss


KINDS = {"bert": (BertForQuestionAnswering, bert), "t5": (T5ForConditionalGeneration, t5), "mamba": (MambaForCausalLM, mamba)}


def filled(model):
    """What adapters begin with says little: B is zero, and lengths are those that the rows have."""
    for name, value in model.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            value.data += 0.5 * torch.randn_like(value)
        if "lora_magnitude" in name:
            value.data *= 1 + 0.3 * torch.rand_like(value)


def bare(name):
    """A tensor's name in the model."""
    name = name.removeprefix("base_model.model.").replace(".modules_to_save.default", "").replace(".default", "")
    return name.removesuffix(".weight") if "lora_magnitude" in name else name


def make(base, case, config):
    torch.manual_seed(11)
    kind, answers = KINDS[base.split("_")[0]]
    model = get_peft_model(kind.from_pretrained(OUT / base), LoraConfig(lora_dropout=0.0, **copy.deepcopy(config)))
    filled(model)
    folder = OUT / "adapters" / f"{base}.{case}"
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    path = folder / "adapter_config.json"
    told = json.loads(path.read_text())
    told.update(base_model_name_or_path=base, target_modules=sorted(told["target_modules"]), alpha_pattern=config.get("alpha_pattern", {}))
    path.write_text(json.dumps(told, indent=2) + "\n")
    model = PeftModel.from_pretrained(kind.from_pretrained(OUT / base), folder, is_trainable=True).eval()
    given = load_file(OUT / base / "golden.safetensors")
    logits, loss = answers(model.base_model.model, given)
    loss.backward()
    golden = {f"logits{side}": value for side, value in logits.items()} | {"loss": loss[None]}
    golden.update({f"grad.{bare(name)}": value.grad.clone() for name, value in model.named_parameters() if value.requires_grad})
    merged = model.merge_and_unload()
    with torch.no_grad():
        golden.update({f"merged{side}": value for side, value in answers(merged, given)[0].items()})
    save_file({name: value.detach().contiguous() for name, value in golden.items()}, folder / "golden.safetensors")


if __name__ == "__main__":
    for base, cases in CASES.items():
        for case, config in cases.items():
            make(base, case, config)
