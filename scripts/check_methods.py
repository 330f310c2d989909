#!/usr/bin/env python3
"""Checks that what the methods write is what the libraries of others read and write: adapters are PEFT's, weights in few bits bitsandbytes's,
masks numpy's bits, and exported models Transformers'. Random models, saved by Transformers, go through pipelines of lora-adapt, quantize,
prune and export; training is one step of two examples.

usage: scripts/check_methods.py OUT [--full] [MODEL...]

  OUT      folder for the models and the store
  --full   the published shapes (bert-base-uncased, t5-base, mamba-130m) instead of tiny ones; needs 20 GB of disk
  MODEL    bert, t5 or mamba (default: all)
  QAPIPE   the command (default: qapipe on the path)

Prints a table of what each method made, and one line of JSON a check. Needs torch, transformers, tokenizers, peft (tried with 0.14) and
bitsandbytes (0.48, on the CPU).
"""
import json, os, pathlib, subprocess, sys, time, warnings
warnings.simplefilter("ignore")
import numpy
import torch
import bitsandbytes.functional as bnb
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file
from check_transformers import BEGIN, logits, shapes

# Of the published shapes: adapters of rank 8 on query and value (of Mamba in_proj and x_proj; of BERT with the head), and weights under masks.
TRAINED = {"bert": 12 * 2 * 2 * 768 * 8 + 1538, "t5": 884_736, "mamba": 24 * 8 * (768 + 3072 + 1536 + 80)}
MASKED = {"bert": 84_934_656, "t5": 198_180_864}
MOST_MIB = {("t5", "nf4"): 150, ("t5", "int8"): 240}
STEP = "train = { steps = 1, lr = 1e-2, batch = 2 }"
TRAIN = 'data = "@features"\nprecision = "fp32"\n' + STEP
STAGES = {
    "lora": ("lora-adapt", "base", "rank = 8\nalpha = 32.0\n" + TRAIN),
    "dora": ("lora-adapt", "base", "rank = 4\ndora = true\nrslora = true\n" + TRAIN),
    "merged": ("export", "lora", ""),
    "merged_dora": ("export", "dora", ""),
    "nf4": ("quantize", "base", 'scheme = "nf4"'),
    "int8": ("quantize", "base", 'scheme = "int8"'),
    "qlora": ("lora-adapt", "nf4", "rank = 8\nalpha = 32.0\n" + TRAIN),
    "pruned": ("prune", "base", 'sparsity = 0.9\nbudget = "shared"\n' + TRAIN),
    "dense": ("export", "pruned", ""),
}


class Check:
    """The pipeline of one model, and what is wrong with it."""

    def __init__(self, name, kind, config, tokenizer, out, full):
        self.name, self.kind, self.out, self.full, self.good, self.rows = name, kind, out, full, True, []
        torch.manual_seed(1)
        self.model = kind(config).eval()
        self.base = out / name
        self.model.save_pretrained(self.base, safe_serialization=True)
        tokenizer.save(str(self.base / "tokenizer.json"))
        self.pipeline = out / f"methods_{name}.toml"
        stages = (f'[stages.{stage}]\nkind = "{kind}"\nmodel = "@{model}"\n{more}\n' for stage, (kind, model, more) in STAGES.items())
        self.pipeline.write_text(BEGIN.format(pipeline=f"methods_{name}", folder=self.base) + "".join(stages))
        self.before = logits(self.model, name)

    def qapipe(self, *words):
        command = [os.environ.get("QAPIPE", "qapipe"), *words, "--store", str(self.out / "store")]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def run(self):
        for stage in STAGES:
            start = time.time()
            self.qapipe("run", str(self.pipeline), stage, "--quiet")
            target = self.out / f"{self.name}_{stage}"
            self.qapipe("get", str(self.pipeline), stage, "-o", str(target))
            size = sum(file.stat().st_size for file in self.folder(stage).glob("*.safetensors"))
            self.rows.append((stage, size, time.time() - start))

    def folder(self, stage):
        configs = sorted((self.out / f"{self.name}_{stage}").glob("**/config.json"), key=lambda path: len(path.parts))
        return configs[0].parent

    def log(self, stage):
        return self.qapipe("logs", stage)

    def tell(self, check, fine, **found):
        self.good &= bool(fine)
        print(json.dumps({"model": self.name, "check": check, **found, "fine": bool(fine)}), flush=True)

    def again(self, folder):
        return self.kind.from_pretrained(folder).eval()

    def apart(self, check, one, other, most):
        off = (one - other).abs().max().item()
        self.tell(check, off <= most, logits_differ=off, most=most)


def adapters(check):
    """PEFT reads an adapter, and it says what the merged model says; it has as many numbers as PEFT would train."""
    for stage, merged in (("lora", "merged"), ("dora", "merged_dora")):
        model = PeftModel.from_pretrained(check.again(check.base), check.folder(stage)).eval()
        named = set(load_file(check.folder(stage) / "adapter_model.safetensors"))
        wanted = {f"base_model.model.{key.removeprefix('base_model.model.').replace('.default', '').replace('modules_to_save.', '')}"
                  for key in model.state_dict() if "lora_" in key or "modules_to_save" in key}
        wanted = {key.removesuffix(".weight") if "lora_magnitude" in key else key for key in wanted}
        check.tell(f"{stage}: PEFT has the same tensors", named == wanted, tensors=len(named), unequal=sorted(named ^ wanted)[:4])
        adapted = logits(model.base_model.model, check.name)
        check.apart(f"{stage}: PEFT's logits and those of the exported model", adapted, logits(check.again(check.folder(merged)), check.name),
                    1e-4 if check.full else 1e-5)
        moved = (adapted - check.before).abs().max().item()
        check.tell(f"{stage}: the adapter does something", moved > 1e-4, logits_moved=moved)
        if stage == "lora":
            count = sum(value.numel() for value in load_file(check.folder(stage) / "adapter_model.safetensors").values())
            fine = f"{count} of them trained" in check.log(stage) and (not check.full or count == TRAINED[check.name])
            check.tell("lora: numbers that train, in the log and in the file", fine, count=count, log=check.log(stage).splitlines()[:1])


def few_bits(check):
    """Every packed matrix is what bitsandbytes makes of it, key by key and bit by bit."""
    state = check.model.state_dict()
    for scheme, end in (("nf4", ".quant_state.bitsandbytes__nf4"), ("int8", ".SCB")):
        packed, unequal, keys, matrices = safe_open(check.folder(scheme) / "model.safetensors", "pt"), [], 0, 0
        names = set(packed.keys())
        for key in sorted(name for name in names if name.endswith(end)):
            name = key.removesuffix(end) if scheme == "nf4" else key.removesuffix(".SCB") + ".weight"
            for part, value in ORACLES[scheme](state[name], name).items():
                keys += 1
                ours = packed.get_tensor(part) if part in names else None
                if ours is None or ours.dtype != value.dtype or ours.shape != value.shape or ours.numpy().tobytes() != value.numpy().tobytes():
                    unequal.append(part)
                names.discard(part)
            matrices += 1
        # What a model computes with in f32 whatever the rest is (of Mamba, A and the steps' bias) is kept in f32.
        kinds = {name: packed.get_tensor(name).dtype for name in names}
        left = {str(kind): list(kinds.values()).count(kind) for kind in kinds.values()}
        others = [name for name in names if not torch.equal(packed.get_tensor(name), state[name].to(kinds[name]))]
        size = (check.folder(scheme) / "model.safetensors").stat().st_size / 2**20
        most = MOST_MIB.get((check.name, scheme)) if check.full else None
        check.tell(f"{scheme}: bitsandbytes's bytes", matrices and not unequal and not others and (most is None or size <= most), matrices=matrices,
                   tensors=keys, unequal=unequal[:4], others=left, others_unequal=others[:4], mib=round(size, 1), most_mib=most)


def nf4(weight, name):
    packed, state = bnb.quantize_4bit(weight.clone(), blocksize=64, compress_statistics=True, quant_type="nf4")
    return {name: packed} | {f"{name}.{part}": value for part, value in state.as_dict(packed=True).items()}


def int8(weight, name):
    values, scales, _ = bnb.int8_vectorwise_quant(weight.clone())
    module = name.removesuffix(".weight")
    return {name: values, f"{module}.SCB": scales, f"{module}.weight_format": torch.tensor(0, dtype=torch.uint8)}


ORACLES = {"nf4": nf4, "int8": int8}


def on_top(check):
    """An adapter beside weights of four bits is PEFT's on the numbers that bitsandbytes gives back."""
    model = check.again(check.base)
    for name, value in list(model.named_parameters()):
        with safe_open(check.folder("nf4") / "model.safetensors", "pt") as file:
            if f"{name}.quant_map" in file.keys():
                packed, state = bnb.quantize_4bit(value.data.clone(), blocksize=64, compress_statistics=True, quant_type="nf4")
                value.data = bnb.dequantize_4bit(packed, state)
            elif name in file.keys():
                value.data = file.get_tensor(name).float()
    adapted = logits(PeftModel.from_pretrained(model, check.folder("qlora")).eval().base_model.model, check.name)
    target = check.out / f"{check.name}_merged_qlora"
    text = check.pipeline.read_text()
    check.pipeline.write_text(text + '[stages.merged_qlora]\nkind = "export"\nmodel = "@qlora"\n')
    check.qapipe("run", str(check.pipeline), "merged_qlora", "--quiet")
    check.qapipe("get", str(check.pipeline), "merged_qlora", "-o", str(target))
    check.apart("qlora: PEFT's logits on bitsandbytes's numbers and those of the exported model", adapted,
                logits(check.again(check.folder("merged_qlora")), check.name), 1e-4 if check.full else 1e-5)


def masks(check):
    """Bits are numpy's, the exported model has zeros where they are zero, and Transformers says the same with either."""
    base, dense = check.model.state_dict(), check.again(check.folder("dense"))
    exported, unequal, kept, under = dense.state_dict(), [], 0, 0
    with safe_open(check.folder("pruned") / "model.safetensors", "pt") as file:
        names = [name for name in file.keys() if name.endswith(".mask")]
        for name in names:
            weight = name.removesuffix(".mask")
            bits, values = file.get_tensor(name).numpy(), file.get_tensor(f"{weight}.mask_values")
            stay = numpy.unpackbits(bits)[:base[weight].numel()].astype(bool)
            built = torch.where(torch.from_numpy(stay), base[weight].reshape(-1), 0.0).reshape(base[weight].shape)
            same = numpy.array_equal(numpy.packbits((exported[weight] != 0).numpy().reshape(-1)), bits)
            if not same or not torch.equal(exported[weight], built) or not torch.equal(values, base[weight].reshape(-1)[torch.from_numpy(stay)]):
                unequal.append(weight)
            base[weight] = built
            kept, under = kept + int(stay.sum()), under + stay.size
    told = [line for line in check.log("pruned").splitlines() if "weights stay" in line]
    fine = not unequal and f"of {under} weights stay" in "".join(told) and (not check.full or under == MASKED.get(check.name, under))
    check.tell("pruned: numpy's bits", fine, matrices=len(names), under_masks=under, kept=kept, share=round(kept / under, 6), unequal=unequal[:4], log=told)
    model = check.again(check.base)
    heads = {name: exported[name] for name in exported if name.startswith("qa_outputs")}
    model.load_state_dict({**base, **heads})
    check.apart("pruned: Transformers' logits with masked weights and those of the exported model", logits(model.eval(), check.name),
                logits(dense, check.name), 0.0)


def main():
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    out, full = pathlib.Path(words[0]).resolve(), "--full" in sys.argv
    out.mkdir(parents=True, exist_ok=True)
    good = True
    for name, (kind, config, tokenizer) in shapes(full).items():
        if name not in (words[1:] or ["bert", "t5", "mamba"]):
            continue
        check = Check(name, kind, config, tokenizer, out, full)
        check.run()
        for part in (adapters, few_bits, on_top, masks):
            part(check)
        dense = (check.base / "model.safetensors").stat().st_size
        print(f"{'MODEL':<8} {'METHOD':<12} {'MiB':>9} {'OF f32':>7} {'SECONDS':>8}\n{name:<8} {'f32':<12} {dense / 2**20:>9.2f} {1:>7.3f}")
        for stage, size, seconds in check.rows:
            print(f"{name:<8} {stage:<12} {size / 2**20:>9.2f} {size / dense:>7.3f} {seconds:>8.1f}", flush=True)
        good &= check.good
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
