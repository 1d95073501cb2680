"""Federated dropout on handwritten digits: clients train parts of a network, and the server knows which from eight bytes.

Twenty clients have the digits of two or three classes each. Every round some of them get the rows and columns of a random
half of the hidden units, train them on their own digits, and send them back. Against the same with the whole network:
accuracy on digits of nobody's, and bytes sent.

    python examples/federated.py                 # about ten seconds
    python examples/federated.py --rounds 3
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import fastdrop
from fastdrop.federated import Update, aggregate, client_seed, extract, kept_units

SEED = 42
CLIENTS, EACH_ROUND, HIDDEN, BATCH = 20, 8, 256, 16
AXES = {"w1": (None, "hidden"), "b1": ("hidden",), "w2": ("hidden", None), "b2": (None,)}


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return images and labels to train on, and others to test on."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    order = np.argsort(fastdrop.words(len(x), seed=SEED), kind="stable")
    train, test = order[400:], order[:400]
    return x[train], y[train], x[test], y[test]


def shares(y: np.ndarray) -> list[np.ndarray]:
    """Return the indices of each client's digits: sorted by class and cut, so that a client sees few classes."""
    return np.array_split(np.argsort(y, kind="stable"), CLIENTS)


def new_network() -> dict[str, np.ndarray]:
    """Return weights, uniform and of the size that keeps the variance."""
    shapes = {"w1": (64, HIDDEN), "w2": (HIDDEN, 10)}
    weights = {name: fastdrop.uniform(shape, seed=fastdrop.fold_in(SEED, name)) - 0.5 for name, shape in shapes.items()}
    weights = {name: value * np.float32(np.sqrt(24 / len(value))) for name, value in weights.items()}
    return {**weights, "b1": np.zeros(HIDDEN, np.float32), "b2": np.zeros(10, np.float32)}


def scores(weights: dict[str, np.ndarray], x: np.ndarray, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the hidden activations, times a factor, and the classes' scores."""
    hidden = np.maximum(x @ weights["w1"] + weights["b1"], 0) * np.float32(scale)
    return hidden, hidden @ weights["w2"] + weights["b2"]


def train(weights: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray, scale: float, seed: int, rate: float = 0.1) -> None:
    """Train for one epoch by stochastic gradient descent, in place."""
    order = np.argsort(fastdrop.words(len(x), seed=fastdrop.fold_in(seed, "order")), kind="stable")
    for batch in np.array_split(order, -(-len(x) // BATCH)):
        hidden, out = scores(weights, x[batch], scale)
        grad = np.exp(out - out.max(axis=1, keepdims=True))
        grad /= grad.sum(axis=1, keepdims=True)
        grad[np.arange(len(batch)), y[batch]] -= 1
        grad /= len(batch)
        back = (grad @ weights["w2"].T) * (hidden > 0) * np.float32(scale)
        gradients = {"w1": x[batch].T @ back, "b1": back.sum(axis=0), "w2": hidden.T @ grad, "b2": grad.sum(axis=0)}
        for name, gradient in gradients.items():
            weights[name] -= np.float32(rate) * gradient


def run(p: float, rounds: int) -> tuple[list[float], list[float], dict[str, np.ndarray]]:
    """Return accuracy and megabytes sent after each round, and the last network."""
    x, y, test_x, test_y = digits()
    parts, weights = shares(y), new_network()
    accuracies, megabytes, sent = [], [], 0
    for number in range(rounds):
        chosen = np.argsort(fastdrop.words(CLIENTS, seed=SEED, offset=number), kind="stable")[:EACH_ROUND]
        updates = []
        for client in chosen.tolist():
            seed = client_seed(SEED, number, client)
            part = extract(weights, AXES, kept_units({"hidden": HIDDEN}, p, seed))
            mine = parts[client]
            train(part, x[mine], y[mine], 1 / (1 - p), seed)
            kept = kept_units({"hidden": HIDDEN}, p, seed)  # what the server does: it was told nothing about the masks
            updates.append(Update(part, kept, len(mine)))
            sent += 8 + 2 * sum(value.nbytes for value in part.values())  # the seed, the part, and the part again
        weights, _ = aggregate(weights, AXES, updates)
        accuracies.append(float((scores(weights, test_x)[1].argmax(axis=1) == test_y).mean()))
        megabytes.append(sent / 1e6)
    return accuracies, megabytes, weights


def plot(results: dict[float, tuple[list[float], list[float]]], path: Path) -> None:
    """Draw accuracy over bytes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for p, (accuracies, megabytes) in results.items():
        ax.plot(megabytes, accuracies, label="whole network" if p == 0 else f"parts, p = {p}")
    ax.set(xlabel="megabytes sent, both ways", ylabel="accuracy on digits of nobody's", ylim=(0, 1))
    ax.legend(loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    """Train with and without, print a table, draw a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--figure", type=Path, help="where to draw accuracy over bytes (a .png)")
    options = parser.parse_args()
    results = {}
    print(f"{'p':>4} {'rounds':>7} {'MB sent':>8} {'accuracy, last ten rounds':>26}")
    for p in (0.0, 0.25, 0.5):
        accuracies, megabytes, _ = run(p, options.rounds)
        results[p] = accuracies, megabytes
        last = np.array(accuracies[-10:])
        print(f"{p:4} {options.rounds:7} {megabytes[-1]:8.2f} {last.mean():15.3f} +- {last.std():.3f}")
    if options.figure:
        plot(results, options.figure)


if __name__ == "__main__":
    main()
