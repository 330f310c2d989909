#!/usr/bin/env python3
"""Digest of the windows that Python's `tokenizers` cuts of a SQuAD file: the figure that stages/tests/windows.rs compares with.

Usage: window_digest.py TOKENIZER.json DATA.json[.gz] [--max-length 384] [--stride 128]
Needs: pip install tokenizers blake3

The digest is BLAKE3 over little-endian u32: for each window, in order, the number of ids, the ids, the position of the first
context token, the number of context tokens, and first and last code point of each. Prints the number of windows and the digest.
"""
import argparse
import gzip
import json
import struct

from blake3 import blake3
from tokenizers import Tokenizer


def questions(path):
    with open(path, "rb") as file:
        raw = file.read()
    data = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    for article in data["data"]:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                yield asked["question"].lstrip(), paragraph["context"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tokenizer")
    parser.add_argument("data")
    parser.add_argument("--max-length", type=int, default=384)
    parser.add_argument("--stride", type=int, default=128)
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(args.tokenizer)
    tokenizer.no_padding()
    tokenizer.enable_truncation(args.max_length, stride=args.stride, strategy="only_second")
    digest = blake3()
    windows = 0
    for encoding in tokenizer.encode_batch(list(questions(args.data))):
        for window in [encoding, *encoding.overflowing]:
            context = [at for at, sequence in enumerate(window.sequence_ids) if sequence == 1]
            numbers = [len(window.ids), *window.ids, context[0] if context else 0, len(context)]
            for at in context:
                numbers.extend(window.offsets[at])
            digest.update(struct.pack(f"<{len(numbers)}I", *numbers))
            windows += 1
    print(windows, digest.hexdigest())


if __name__ == "__main__":
    main()
