#!/usr/bin/env python3
"""Makes the word vectors in stages/tests/fixtures/vectors: tiny fastText models, and what fastText itself answers for words.

usage: scripts/make_vector_fixtures.py [OUT]

Needs: pip install fasttext-wheel (made with 0.9.2)

  model.bin      a skip-gram model with n-grams of 2 to 4 characters in 50 buckets
  model.vec      its words as text, as fastText writes it: a header, and a space at the end of each row
  words.bin      a skip-gram model without n-grams
  labels.bin     a model that classifies, with labels in its dictionary
  labels.ftz     the same, quantized
  expected.json  for each .bin: words with their vectors, known ones first
"""
import json
import pathlib
import sys
import tempfile

import fasttext

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent / "stages/tests/fixtures/vectors")

SENTENCES = [
    "the river seine flows through paris , the capital of france .",
    "the river rhine flows through köln and basel .",
    "who won the cup in 1990 ? germany won the cup in 1990 .",
    "naïve café owners in zürich read 北京 news and москва news .",
    "paris and zürich and köln are cities ; France is a country .",
]
UNKNOWN = ["rivers", "Paris", "zürichs", "cafés", "москве", "北京市", "京", "1991", "x", "naïvété", "😀s", "</s>"]


def vectors(model, words):
    return {word: [float(x) for x in model.get_word_vector(word)] for word in words}


def save_text(model, path):
    """As fastText's own saveVectors does it."""
    words = model.get_words()
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{len(words)} {model.get_dimension()}\n")
        for word in words:
            file.write(word + " " + "".join(f"{x:.5g} " for x in model.get_word_vector(word)) + "\n")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    expected = {}
    with tempfile.TemporaryDirectory() as folder:
        plain, labelled = pathlib.Path(folder) / "plain.txt", pathlib.Path(folder) / "labelled.txt"
        plain.write_text("\n".join(SENTENCES * 20) + "\n", encoding="utf-8")
        labelled.write_text("\n".join(f"__label__{at % 2} {text}" for at, text in enumerate(SENTENCES * 20)) + "\n", encoding="utf-8")
        common = dict(dim=5, epoch=20, minCount=1, thread=1, ws=3, neg=3, lr=0.2, verbose=0)
        model = fasttext.train_unsupervised(str(plain), minn=2, maxn=4, bucket=50, **common)
        model.save_model(str(OUT / "model.bin"))
        save_text(model, OUT / "model.vec")
        expected["model.bin"] = vectors(model, model.get_words() + UNKNOWN)
        words = fasttext.train_unsupervised(str(plain), minn=0, maxn=0, **common)
        words.save_model(str(OUT / "words.bin"))
        expected["words.bin"] = vectors(words, words.get_words() + UNKNOWN)
        common = dict(common, dim=4, minn=2, maxn=3, bucket=300)
        labels = fasttext.train_supervised(str(labelled), **common)
        labels.save_model(str(OUT / "labels.bin"))
        expected["labels.bin"] = vectors(labels, labels.get_words() + UNKNOWN)
        labels.quantize(input=str(labelled), retrain=False)
        labels.save_model(str(OUT / "labels.ftz"))
    (OUT / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
