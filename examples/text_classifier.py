"""A text classifier of spaCy, trained from a configuration with each Ops: accuracies, times, and the share of dropout.

The sentences are those of docstrings: the classifier learns whether one is NumPy's or scikit-learn's.

    python examples/text_classifier.py [--short]

The example needs pip install ".[thinc]" spacy scikit-learn.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import random
import time
import warnings
from collections.abc import Iterator
from statistics import mean, median, stdev
from typing import Any

import spacy
from spacy.training import Example
from thinc.api import fix_random_seed

MODULES = {
    "numpy": ["numpy", "numpy.linalg", "numpy.fft", "numpy.ma", "numpy.random", "numpy.polynomial", "numpy.lib"],
    "sklearn": ["sklearn.linear_model", "sklearn.ensemble", "sklearn.metrics", "sklearn.preprocessing", "sklearn.cluster"],
}
CONFIG = """
[nlp]
lang = "en"
pipeline = ["textcat"]
{callbacks}
[components]

[components.textcat]
factory = "textcat"

[components.textcat.model]
@architectures = "spacy.TextCatReduce.v1"
exclusive_classes = true
use_reduce_first = false
use_reduce_last = false
use_reduce_mean = true
use_reduce_max = true

[components.textcat.model.tok2vec]
@architectures = "spacy.HashEmbedCNN.v2"
pretrained_vectors = null
width = 96
depth = 2
embed_size = 2000
window_size = 1
maxout_pieces = 3
subword_features = true
"""
CALLBACKS = {
    "numpy": "",
    "fastdrop": """
[nlp.before_creation]
@callbacks = "fastdrop.ops.v1"
seed = {seed}

[nlp.after_pipeline_creation]
@callbacks = "fastdrop.restore_ops.v1"
""",
}


def read_sentences(package: str) -> list[str]:
    """Return the sentences of the docstrings of a package's public objects, without its name."""
    found = set()
    for name in MODULES[package]:
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", dir(module)):
            found.update(split(inspect.getdoc(getattr(module, public, None)) or ""))
    return sorted(found)


def split(text: str) -> Iterator[str]:
    """Yield the sentences of paragraphs of prose, which hold neither code nor a name that tells the package."""
    for paragraph in text.split("\n\n"):
        sentence = " ".join(paragraph.split()).partition(". ")[0]
        words = sentence.lower().split()
        if 6 <= len(words) <= 30 and not any(
            mark in sentence.lower() for mark in (">>>", "numpy", "np.", "sklearn", "scikit", "::")
        ):
            yield sentence


def split_data(size: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return labelled sentences to train and to test with."""
    both = {package: read_sentences(package) for package in MODULES}
    order = random.Random(0)
    data = []
    for package, sentences in both.items():
        order.shuffle(sentences)
        data += [(sentence, package) for sentence in sentences[:size]]
    order.shuffle(data)
    return data[len(data) // 4 :], data[: len(data) // 4]


def make_pipeline(ops: str, seed: int) -> Any:
    """Return a pipeline whose weights and masks have this seed."""
    fix_random_seed(seed)
    config = spacy.util.load_config_from_str(CONFIG.format(callbacks=CALLBACKS[ops].format(seed=seed)))
    return spacy.util.load_model_from_config(config, auto_fill=True)


class Stopwatch:
    """Adds up the processor time within the masks of a model's Ops."""

    def __init__(self, ops: Any) -> None:
        self.seconds, self.make = 0.0, ops.get_dropout_mask
        ops.get_dropout_mask = self

    def __call__(self, shape: Any, drop: Any) -> Any:
        began = time.process_time()
        mask = self.make(shape, drop)
        self.seconds += time.process_time() - began
        return mask


def train(ops: str, seed: int, data: list[tuple[str, str]], epochs: int) -> tuple[Any, float, float]:
    """Return a trained pipeline, the processor seconds of its training, and those of its masks."""
    pipeline = make_pipeline(ops, seed)
    examples = [
        Example.from_dict(pipeline.make_doc(text), {"cats": {package: float(package == label) for package in MODULES}})
        for text, label in data
    ]
    optimizer = pipeline.initialize(lambda: examples)
    ops_of_models = {id(node.ops): node.ops for node in pipeline.get_pipe("textcat").model.walk()}
    watches = [Stopwatch(found) for found in ops_of_models.values()]
    began = time.process_time()
    order = random.Random(seed)
    for _ in range(epochs):
        order.shuffle(examples)
        for batch in spacy.util.minibatch(examples, 64):
            pipeline.update(batch, sgd=optimizer, drop=0.2)
    seconds = time.process_time() - began
    for found in ops_of_models.values():
        del found.get_dropout_mask  # the class's own comes back, and the model can be saved
    return pipeline, seconds, sum(watch.seconds for watch in watches)


def accuracy(pipeline: Any, data: list[tuple[str, str]]) -> float:
    """Return the share of sentences whose package is found."""
    docs = pipeline.pipe([text for text, _ in data])
    return mean(max(doc.cats, key=doc.cats.get) == label for doc, (_, label) in zip(docs, data, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="few sentences, two seeds")
    is_short = parser.parse_args().short
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    training, testing = split_data(150 if is_short else 600)
    epochs, seeds = (2, 2) if is_short else (6, 5)
    print(f"{len(training)} sentences to train, {len(testing)} to test, {epochs} epochs, {seeds} seeds")
    print("Ops       accuracy       CPU s  of masks")
    runs: dict[str, list[tuple[Any, float, float]]] = {ops: [] for ops in CALLBACKS}
    for seed in range(seeds):  # both take turns, so that what else runs on the machine slows both
        for ops, found in runs.items():
            found.append(train(ops, seed, training, epochs))
    for ops, found in runs.items():
        scores = [accuracy(pipeline, testing) for pipeline, _, _ in found]
        seconds, masks = mean(run[1] for run in found), mean(run[2] for run in found)
        print(f"{ops:9} {mean(scores):.3f} +- {stdev(scores):.3f} {seconds:6.2f}  {masks:6.3f} ({masks / seconds:.1%})")
    ratios = [theirs[1] / ours[1] for theirs, ours in zip(*runs.values(), strict=True)]
    print(f"training with fastdrop's Ops: {median(ratios):.2f} times as fast, the median of {seeds} ratios")
    first, second = (train("fastdrop", 1, training, epochs)[0].to_bytes() for _ in range(2))
    print(f"two runs with one seed: {'the same bytes' if first == second else 'DIFFERENT BYTES'}")


if __name__ == "__main__":
    main()
