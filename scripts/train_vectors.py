#!/usr/bin/env python3
"""Trains fastText skip-gram vectors (Bojanowski et al. 2017) on the paragraphs and questions of a SQuAD file.

    pip install fasttext-wheel tokenizers numpy
    scripts/train_vectors.py train-v2.0.json.gz OUT --dim 100 --lower --cover dev-v2.0.json.gz

Writes OUT.bin (the model, which can give every word a vector) and OUT.vec (text: `count dim`, then a word and its numbers a line, the most
frequent word first), and with --gzip OUT.vec.gz, the same with fewer digits.

Text is split as qapipe's word tokenizer does it: control characters go, white space and punctuation divide, a punctuation mark stands alone.
One thread by default: the same file and settings then give the same vectors.

--cover OTHER adds the words of another file to OUT.vec, behind those that were trained. Their vectors come from their character n-grams in
the trained model alone. OTHER's words are looked up and nothing is learnt from it: neither how often they occur there nor what stands
beside them counts, and its answers are not read. A word without an n-gram that was trained is left out.
"""

import argparse
import gzip
import json
import tempfile
from pathlib import Path

import fasttext
from tokenizers import normalizers, pre_tokenizers


def texts(path):
    """Paragraphs, each followed by its questions."""
    with (gzip.open if path.read_bytes()[:2] == b"\x1f\x8b" else open)(path, "rt", encoding="utf-8") as file:
        for article in json.load(file)["data"]:
            for paragraph in article["paragraphs"]:
                yield paragraph["context"]
                yield from (qa["question"] for qa in paragraph["qas"])


def splitter(lower):
    """Splits a text into words."""
    normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=lower)
    pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return lambda text: [word for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text))]


def write_text(path, words, vector, dimension, digits, opener=open):
    """Writes words and their vectors with this many significant digits."""
    with opener(path, "wt", encoding="utf-8", newline="\n") as file:
        file.write(f"{len(words)} {dimension}\n")
        for word in words:
            file.write(word + " " + " ".join(f"{x:.{digits}g}" for x in vector(word)) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="SQuAD JSON, plain or gzipped")
    parser.add_argument("out", help="where to write, without the ending")
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--lower", action="store_true", help="in lower case")
    parser.add_argument("--cover", type=Path, action="append", default=[], help="also give the words of this file vectors, by their n-grams")
    parser.add_argument("--gzip", action="store_true", help="also write OUT.vec.gz with 4 significant digits")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--least", type=int, default=2, help="a word that occurs less often is not trained")
    parser.add_argument("--bucket", type=int, default=200_000)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()

    split = splitter(given.lower)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as corpus:
        count = 0
        for text in texts(given.data):
            words = split(text)
            count += len(words)
            corpus.write(" ".join(words) + "\n")
        corpus.flush()
        print(f"{count} tokens")
        model = fasttext.train_unsupervised(
            corpus.name, model="skipgram", dim=given.dim, epoch=given.epochs, minCount=given.least, minn=3, maxn=6,
            bucket=given.bucket, ws=5, neg=10, lr=0.05, thread=given.threads, verbose=2,
        )
    model.save_model(f"{given.out}.bin")

    trained = [word for word in model.get_words() if word != "</s>"]
    known = set(trained)
    other = {word for path in given.cover for text in texts(path) for word in split(text)} - known
    covered = [word for word in sorted(other) if model.get_word_vector(word).any()]
    print(f"{len(trained)} words trained, {len(covered)} more by their n-grams")
    words = trained + covered
    write_text(f"{given.out}.vec", words, model.get_word_vector, given.dim, 6)
    if given.gzip:
        opener = lambda path, *rest, **more: gzip.open(path, *rest, compresslevel=9, **more)
        write_text(f"{given.out}.vec.gz", words, model.get_word_vector, given.dim, 4, opener)


if __name__ == "__main__":
    main()
