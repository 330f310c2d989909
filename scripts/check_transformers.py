#!/usr/bin/env python3
"""Checks that models go from Transformers to qapipe and back: random models of every family that Transformers knows, saved by it, are
brought in, trained for one step at learning rate 0, and what qapipe wrote is loaded by Transformers again: every tensor must be equal, none
missing, none left over, and so must the logits.

usage: scripts/check_transformers.py OUT [--full]

  OUT      folder for the models and the store
  --full   the published shapes (bert-base-uncased, t5-base, t5-v1.1-base, mamba-130m) instead of tiny ones; needs 12 GB of disk
  QAPIPE   the command (default: qapipe on the path)

Needs torch, transformers (tried with 4.46.3 and 5), tokenizers.
"""
import json, os, pathlib, subprocess, sys
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (BertConfig, BertForQuestionAnswering, MambaConfig, MambaForCausalLM, T5Config, T5ForConditionalGeneration)

SIZES = {"bert": 108_893_186, "t5": 222_903_552, "t5_v11": 247_577_856, "mamba": 129_135_360}
# What a pipeline begins with that brings a model in.
BEGIN = """
name = "{pipeline}"
[stages.sample]
kind = "dataset"
source = "sample"
limit_train = 4
limit_dev = 2
[stages.base]
kind = "checkpoint"
source = "{folder}"
[stages.features]
kind = "tokenize"
dataset = "@sample"
model = "@base"
max_length = 480
stride = 100
"""
PIPELINE = BEGIN + """
[stages.tuned]
kind = "fine-tune"
model = "@base"
data = "@features"
precision = "fp32"
train = {{ steps = 1, lr = 0.0, batch = 2 }}
"""


def letters(special, around):
    """A tokenizer of single bytes: enough for any model with more rows than that."""
    vocabulary = {piece: number for number, piece in enumerate(special + sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    if around:
        single, pair, used = around
        tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=[(piece, vocabulary[piece]) for piece in used])
    return tokenizer


def shapes(full):
    tiny = dict(vocab_size=300)
    t5 = dict(d_model=768, d_ff=3072, num_layers=12, num_heads=12) if full else dict(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, **tiny)
    v11 = {**t5, "d_ff": 2048} if full else t5
    bert = {} if full else dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, **tiny)
    mamba = dict(vocab_size=50280, hidden_size=768, num_hidden_layers=24) if full else dict(hidden_size=32, num_hidden_layers=2, **tiny)
    bert_around = ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ["[CLS]", "[SEP]"])
    t5_around = ("$A </s>", "$A </s> $B </s>", ["</s>"])
    return {
        "bert": (BertForQuestionAnswering, BertConfig(**bert), letters(["[PAD]", "[UNK]", "[CLS]", "[SEP]"], bert_around)),
        "t5": (T5ForConditionalGeneration, T5Config(decoder_start_token_id=0, **t5), letters(["<pad>", "</s>", "<unk>"], t5_around)),
        "t5_v11": (T5ForConditionalGeneration, T5Config(decoder_start_token_id=0, feed_forward_proj="gated-gelu", tie_word_embeddings=False, **v11),
                   letters(["<pad>", "</s>", "<unk>"], t5_around)),
        "mamba": (MambaForCausalLM, MambaConfig(**mamba), letters(["<|endoftext|>"], None)),
    }


def logits(model, name):
    torch.manual_seed(3)
    ids = torch.randint(5, 200, (2, 17))
    with torch.no_grad():
        if name.startswith("t5"):
            return model(input_ids=ids, labels=ids[:, :5].contiguous()).logits
        out = model(input_ids=ids)
        return torch.stack([out.start_logits, out.end_logits]) if name == "bert" else out.logits


def check(name, kind, config, tokenizer, out):
    torch.manual_seed(1)
    model = kind(config).eval()
    folder = out / name
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    pipeline = out / f"{name}.toml"
    pipeline.write_text(PIPELINE.format(pipeline=f"back_{name}", folder=folder))
    qapipe = [os.environ.get("QAPIPE", "qapipe")]
    subprocess.run(qapipe + ["run", str(pipeline), "--store", str(out / "store"), "--quiet"], check=True)
    told = subprocess.run(qapipe + ["logs", "base", "--store", str(out / "store")], capture_output=True, text=True).stdout
    back = out / f"{name}_back"
    subprocess.run(qapipe + ["get", str(pipeline), "tuned", "--store", str(out / "store"), "-o", str(back)], check=True, capture_output=True)
    again, found = kind.from_pretrained(next(back.glob("**/config.json")).parent, output_loading_info=True)
    again.eval()
    count = sum(value.numel() for value in again.parameters())
    wrong = {key: list(value) for key, value in found.items() if value}
    unequal = [key for key, value in model.state_dict().items() if not torch.equal(value, again.state_dict()[key])]
    difference = (logits(model, name) - logits(again, name)).abs().max().item()
    left = [line for line in told.splitlines() if "not in the file" in line or "not used" in line]
    fine = not wrong and not unequal and not left and difference == 0.0
    print(json.dumps({"model": name, "parameters": count, "loading": wrong, "unequal": unequal, "left_over": left, "logits_differ": difference,
                      "fine": fine}), flush=True)
    return fine, count


if __name__ == "__main__":
    full = "--full" in sys.argv
    out = pathlib.Path([word for word in sys.argv[1:] if not word.startswith("--")][0]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    good = True
    for name, (kind, config, tokenizer) in shapes(full).items():
        fine, count = check(name, kind, config, tokenizer, out)
        good &= fine and (not full or count == SIZES[name])
    sys.exit(0 if good else 1)
