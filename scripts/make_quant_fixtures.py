#!/usr/bin/env python3
"""Makes nn/tests/fixtures/quant/golden.safetensors: what bitsandbytes makes of small weights at random, on the CPU.

usage: scripts/make_quant_fixtures.py [OUT]

Needs torch and bitsandbytes (made with torch 2.11.0, bitsandbytes 0.48.2). Of each weight NAME:

  NAME                     the weight
  NAME.plain.weight...     in nf4, under the names of a state dict; NAME.nested.weight... with nested scales
  NAME.plain, NAME.nested  what comes back, in f32
  NAME.int8.weight, .SCB   in eight bits; NAME.int8 what comes back, in f32

The weight `blocks`, which has more than 256 blocks, is there with nested scales only, and `tiny`, of which no reciprocal is a number, in nf4 only.

Products in eight bits of x.KIND with the weight `rows`: y.KIND, and y.KIND.outliers with the threshold 6.
"""
import pathlib, sys, warnings
warnings.simplefilter("ignore")
import torch
import bitsandbytes.functional as bnb
from safetensors.torch import save_file

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent / "nn/tests/fixtures")
OPS = torch.ops.bitsandbytes


def weights():
    torch.manual_seed(5)
    edges = torch.randn(14, 64)
    edges[0] = 0
    edges[1] *= 1e-30
    edges[2] *= 1e30
    edges[3] = 0.25
    edges[4, :32] = 0
    edges[5] = torch.linspace(-1, 1, 64)
    tiny = torch.randn(3, 64)
    tiny[0] *= 1e-41
    tiny[1] *= 1e-39
    return {
        "rows": torch.randn(24, 48),
        "rest16": torch.randn(5, 38).half(),
        "rest_bf16": torch.randn(5, 38).bfloat16(),
        "rest": 0.02 * torch.randn(7, 30),
        "blocks": (0.05 * torch.randn(130, 1) * torch.randn(130, 128)).half(),
        "many_bf16": (0.05 * torch.randn(10, 130)).bfloat16(),
        "edges": edges,
        "tiny": tiny,
    }


def nf4(name, weight, golden):
    for form, nested in (("plain", False), ("nested", True)):
        if name == "blocks" and not nested:
            continue
        packed, state = bnb.quantize_4bit(weight.clone(), blocksize=64, compress_statistics=nested, quant_type="nf4")
        golden[f"{name}.{form}.weight"] = packed
        golden.update({f"{name}.{form}.weight.{key}": value for key, value in state.as_dict(packed=True).items()})
        state.dtype = torch.float32
        golden[f"{name}.{form}"] = bnb.dequantize_4bit(packed, state)


def int8(name, weight, golden):
    values, scales, _ = bnb.int8_vectorwise_quant(weight.clone())
    golden.update({f"{name}.int8.weight": values, f"{name}.int8.SCB": scales, f"{name}.int8.weight_format": torch.tensor(0, dtype=torch.uint8)})
    golden[f"{name}.int8"] = OPS.int8_vectorwise_dequant(values, scales)


def products(golden):
    values, scales = golden["rows.int8.weight"], golden["rows.int8.SCB"]
    for kind, dtype in (("f32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16)):
        x = torch.randn(5, 48)
        x[1, 7], x[3, 7], x[2, 30], x[4] = 9.0, -0.5, -11.0, 0.0
        x = x.to(dtype)
        golden[f"x.{kind}"] = x
        for form, threshold in (("", 0.0), (".outliers", 6.0)):
            rows, sizes, columns = bnb.int8_vectorwise_quant(x.clone(), threshold)
            rows[4] = 0  # of zeros; bitsandbytes leaves it to how no number becomes a whole one
            golden[f"y.{kind}{form}"] = OPS.int8_mixed_scaled_mm(x, rows, values, sizes, scales, columns)[0]


def main():
    golden = {}
    for name, weight in weights().items():
        golden[name] = weight
        nf4(name, weight, golden)
        if name not in ("tiny", "blocks"):
            int8(name, weight, golden)
    products(golden)
    golden["dynamic_map"] = bnb.create_dynamic_map()
    folder = OUT / "quant"
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in golden.items()}, folder / "golden.safetensors")


if __name__ == "__main__":
    main()
