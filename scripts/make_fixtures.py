#!/usr/bin/env python3
"""Makes the golden tensors in nn/tests/fixtures: what transformers and torch answer for tiny models at random, on the CPU in fp32.

usage: scripts/make_fixtures.py [OUT]

Needs torch and transformers (made with torch 2.11.0, transformers 4.46.3). Each folder has the layout that `make parity` reads, and
more in its golden.safetensors:

  row_loss      of readers and language models: mean over rows of each row's loss when it runs alone, without padding
  grad.NAME     gradient of row_loss; where there is none, of loss
  after.NAME    weights after three AdamW steps on that loss: lr 0.01, weight decay 0.01 but on biases and norms (and, of Mamba, on A_log
                and D), clipped at 0.1

Mamba's rows for that loss: row_ids, of which row_lengths count; only what comes after row_sources tokens is a target.
"""
import pathlib, sys
import torch
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


def finish(model, row_loss, golden, folder):
    """Adds the loss over rows, its gradients, and the weights after some steps."""
    loss = row_loss()
    loss.backward()
    golden["row_loss"] = loss[None]
    golden.update({f"grad.{name}": value.grad.clone() for name, value in model.named_parameters()})
    model.zero_grad()
    steps(model, row_loss)
    golden.update({f"after.{name}": value for name, value in model.named_parameters()})
    save_file({name: value.detach().contiguous() for name, value in golden.items()}, folder / "golden.safetensors")


def steps(model, loss):
    plain = lambda name: name.endswith(("bias", "A_log", ".D")) or "LayerNorm" in name or "norm" in name
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


if __name__ == "__main__":
    bert()
    t5("t5_tiny", feed_forward_proj="relu", tie_word_embeddings=True)
    t5("t5_v11_tiny", feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    mamba()
