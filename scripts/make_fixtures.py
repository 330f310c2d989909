#!/usr/bin/env python3
"""Makes the golden tensors in nn/tests/fixtures: what transformers and torch answer for tiny models at random, on the CPU in fp32.

usage: scripts/make_fixtures.py [OUT]

Needs torch, transformers, sentencepiece and bitsandbytes (made with torch 2.11.0, transformers 4.46.3, bitsandbytes 0.48.2). Each folder of a
model has the layout that `make parity` reads, and more in its golden.safetensors:

  row_loss      of readers and language models: mean over rows of each row's loss when it runs alone, without padding
  grad.NAME     gradient of row_loss; where there is none, of loss
  after.NAME    weights after three AdamW steps on that loss: lr 0.01, weight decay 0.01 but on biases and norms (and, of Mamba, on A_log
                and D), clipped at 0.1

Mamba's rows for that loss: row_ids, of which row_lengths count; only what comes after row_sources tokens is a target.
"""
import json, pathlib, sys
import torch
import torch.nn.functional as F
from lstm_reference import Lstm
from safetensors.torch import save_file
from transformers import BertConfig, BertForQuestionAnswering, MambaConfig, MambaForCausalLM, T5Config, T5ForConditionalGeneration

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent / "nn/tests/fixtures")


def bert():
    torch.manual_seed(7)
    config = BertConfig(vocab_size=24, hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, initializer_range=0.3,
                        max_position_embeddings=20, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = BertForQuestionAnswering(config).eval()
    for name, value in model.named_parameters():
        if "LayerNorm" in name or name.endswith("bias"):
            value.data += 0.1 * torch.randn_like(value)
    folder = OUT / "bert_tiny"
    model.save_pretrained(folder, safe_serialization=True)
    lengths, width = [18, 11, 5], 18
    ids, types, mask = (torch.zeros(3, width, dtype=torch.long) for _ in range(3))
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(1, config.vocab_size, (length,))
        types[row, length // 2:length] = 1
        mask[row, :length] = 1
    starts, ends = torch.tensor([3, 10, 0]), torch.tensor([7, 10, 4])
    out = model(input_ids=ids, token_type_ids=types, attention_mask=mask, start_positions=starts, end_positions=ends)
    golden = {"ids": ids, "tt": types, "am": mask, "start_positions": starts, "end_positions": ends, "start": out.start_logits,
              "end": out.end_logits, "loss": out.loss[None]}

    def row_loss():
        rows = (model(input_ids=ids[r:r + 1, :n], token_type_ids=types[r:r + 1, :n], start_positions=starts[r:r + 1], end_positions=ends[r:r + 1]).loss
                for r, n in enumerate(lengths))
        return torch.stack(list(rows)).mean()

    finish(model, row_loss, golden, folder)


def mamba():
    torch.manual_seed(8)
    config = MambaConfig(vocab_size=24, hidden_size=12, num_hidden_layers=2, state_size=5, conv_kernel=4, time_step_rank=3, use_bias=True,
                         initializer_range=0.5)
    model = MambaForCausalLM(config).eval()
    for name, value in model.named_parameters():
        if "norm" in name or name.endswith(("bias", "A_log", ".D")):
            value.data += 0.2 * torch.randn_like(value)
    folder = OUT / "mamba_tiny"
    model.save_pretrained(folder, safe_serialization=True)
    ids = torch.randint(1, config.vocab_size, (2, 13))
    out = model(input_ids=ids, labels=ids)
    golden = {"ids": ids, "logits": out.logits, "loss": out.loss[None], "gen": model.generate(ids[:1], max_new_tokens=8, do_sample=False)}
    lengths, sources = [17, 9, 2, 41], [5, 8, 1, 30]
    rows = torch.randint(1, config.vocab_size, (4, 41))
    golden.update(row_ids=rows, row_lengths=torch.tensor(lengths), row_sources=torch.tensor(sources))

    def row_loss():
        losses = []
        for row, length, source in zip(rows, lengths, sources):
            labels = row[None, :length].clone()
            labels[:, :source] = -100
            losses.append(model(input_ids=row[None, :length], labels=labels).loss)
        return torch.stack(losses).mean()

    finish(model, row_loss, golden, folder)


LSTMS = {
    "lstm_dot_tiny": dict(attention="dot", head="flatten", positions=9),
    "lstm_heads_tiny": dict(attention="multi-head", head="max-pooling", residual=True, num_hidden_layers=2, positions=9),
    "lstm_self_tiny": dict(attention="self-attention", head="max-pooling", residual=True, train_words=False, positions=30),
    "lstm_bidaf_tiny": dict(attention="bidaf", head="span", character_vocab_size=9, exact_match=True, train_words=False),
}


def lstm(name, **shape):
    config = dict(model_type="lstm", vocab_size=24, word_size=5, train_words=True, character_vocab_size=0, character_size=3, character_filters=4,
                  character_kernel=3, word_length=6, exact_match=False, hidden_size=4, num_hidden_layers=1, residual=False, attention="dot",
                  num_attention_heads=2, head="flatten", positions=30, dropout_rate=0.0)
    config.update(shape)
    torch.manual_seed(9)
    model = Lstm(config)
    for key, value in model.named_parameters():
        value.data += 0.3 * torch.randn_like(value)
    if config["character_vocab_size"]:
        model.characters.table.copy_(torch.randint(0, config["character_vocab_size"], model.characters.table.shape))
    model.words.weight.requires_grad_(config["train_words"])
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / "model.safetensors", metadata={"format": "pt"})
    lengths, fronts, width = [18, 11, 5], [6, 5, 3], 18
    ids, types, mask = (torch.zeros(3, width, dtype=torch.long) for _ in range(3))
    for row, (length, front) in enumerate(zip(lengths, fronts)):
        ids[row, :length] = torch.randint(1, config["vocab_size"], (length,))
        types[row, front:length] = 1
        mask[row, :length] = 1
    labels = torch.tensor([[8, 0, 3], [10, 0, 3]])
    windows = lambda: [model.window(ids[row, :length], front) for row, (length, front) in enumerate(zip(lengths, fronts))]

    def row_loss():
        losses = [F.cross_entropy(logits[None], labels[side, row, None]) for row, window in enumerate(windows()) for side, logits in enumerate(window)]
        return torch.stack(losses).sum() / (2 * len(lengths))

    padded = lambda side: torch.stack([F.pad(window[side], (0, width - len(window[side])), value=-1e4) for window in windows()])
    golden = {"ids": ids, "tt": types, "am": mask, "start_positions": labels[0], "end_positions": labels[1], "start": padded(0), "end": padded(1),
              "loss": row_loss()[None]}
    finish(model, row_loss, golden, folder)


def quantized():
    """Weights in few bits, which another script makes, for it needs bitsandbytes."""
    import make_quant_fixtures
    make_quant_fixtures.OUT = OUT
    make_quant_fixtures.main()


def finish(model, row_loss, golden, folder):
    """Adds the loss over rows, its gradients, and the weights after some steps."""
    loss = row_loss()
    loss.backward()
    golden["row_loss"] = loss[None]
    trained = [name for name, value in model.named_parameters() if value.requires_grad]
    golden.update({f"grad.{name}": value.grad.clone() for name, value in model.named_parameters() if name in trained})
    model.zero_grad()
    steps(model, row_loss)
    golden.update({f"after.{name}": value for name, value in model.named_parameters() if name in trained})
    save_file({name: value.detach().contiguous() for name, value in golden.items()}, folder / "golden.safetensors")


def steps(model, loss):
    plain = lambda name: name.endswith(("bias", "A_log", ".D", "words.weight", "characters.weight")) or "norm" in name.lower() or "bias_" in name
    groups = [{"params": [p for n, p in model.named_parameters() if not plain(n)], "weight_decay": 0.01},
              {"params": [p for n, p in model.named_parameters() if plain(n)], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=0.01)
    for _ in range(3):
        optimiser.zero_grad()
        loss().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimiser.step()


def t5(name, **shape):
    torch.manual_seed(8)
    config = T5Config(vocab_size=28, d_model=12, d_kv=4, d_ff=16, num_layers=2, num_heads=3, relative_attention_num_buckets=8,
                      relative_attention_max_distance=16, dropout_rate=0.0, decoder_start_token_id=0, **shape)
    model = T5ForConditionalGeneration(config).eval()
    for key, value in model.named_parameters():
        if "layer_norm" in key:
            value.data += 0.1 * torch.randn_like(value)
        if "relative_attention_bias" in key:
            value.data *= 3
    folder = OUT / name
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "generation_config.json").unlink()
    lengths, counts = [23, 40, 7], [5, 3, 1]
    ids, mask = torch.zeros(3, 40, dtype=torch.long), torch.zeros(3, 40, dtype=torch.long)
    labels = torch.full((3, 5), -100)
    for row, (length, count) in enumerate(zip(lengths, counts)):
        ids[row, :length] = torch.randint(2, config.vocab_size, (length,))
        mask[row, :length] = 1
        labels[row, :count] = torch.cat([torch.randint(2, config.vocab_size, (count - 1,)), torch.ones(1, dtype=torch.long)])
    out = model(input_ids=ids, attention_mask=mask, labels=labels)
    written = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=8, do_sample=False, num_beams=1)
    bias = model.encoder.block[0].layer[0].SelfAttention
    distances = torch.arange(-200, 201)[None]
    buckets = lambda both: bias._relative_position_bucket(distances, both, config.relative_attention_num_buckets, config.relative_attention_max_distance)
    golden = {"ids": ids, "am": mask, "labels": labels, "logits": out.logits, "loss": out.loss[None], "gen": written, "buckets_bi": buckets(True),
              "buckets_uni": buckets(False)}
    out.loss.backward()
    golden.update({f"grad.{key}": value.grad.clone() for key, value in model.named_parameters()})
    save_file({key: value.detach().contiguous() for key, value in golden.items()}, folder / "golden.safetensors")


def spiece():
    """A small SentencePiece model, and the ids that T5's fast tokenizer gives with it."""
    import sentencepiece, tempfile
    from transformers import T5TokenizerFast
    folder = OUT.parents[2] / "stages/tests/fixtures/spiece"
    folder.mkdir(parents=True, exist_ok=True)
    words = "the town of harbour lies by a river and its old bridge was built in year by who named after largest ship".split()
    text = [" ".join(words[(at * step + step) % len(words)] for at in range(12)) + f" {1700 + 7 * step}." for step in range(1, 60)]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as lines:
        lines.write("\n".join(text))
        lines.flush()
        sentencepiece.SentencePieceTrainer.train(input=lines.name, model_prefix=str(folder / "x"), vocab_size=78, model_type="unigram",
                                                 normalization_rule_name="identity", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2)
    (folder / "x.model").rename(folder / "spiece.model")
    (folder / "x.vocab").unlink()
    tokenizer = T5TokenizerFast(str(folder / "spiece.model"))
    asked = ["the harbour", " the  old   bridge ", "unknown Zürich 1742!", "", "question: who built the bridge? context: the town lies by a river.",
             "<extra_id_0> was built in <extra_id_99>", "a"]
    rows = [{"text": text, "ids": tokenizer(text)["input_ids"], "back": tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)}
            for text in asked]
    (folder / "expected.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    quantized()
    spiece()
    bert()
    t5("t5_tiny", feed_forward_proj="relu", tie_word_embeddings=True)
    t5("t5_v11_tiny", feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    mamba()
    for name, shape in LSTMS.items():
        lstm(name, **shape)
