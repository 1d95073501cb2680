"""Federated dropout on handwritten digits: clients train parts of a network, and a seed of eight bytes names each part.

Twenty clients have the digits of two or three classes each. In every round some clients receive the rows and columns of a
random subset of the hidden units, train them on their own digits, and send them back. The example compares this with sending
the whole network: accuracy on digits that no client has, and bytes sent.

    python examples/federated.py                      # a quarter of a minute
    python examples/federated.py --short              # seconds, no conclusions

The example needs pip install ".[examples]".
"""

from pathlib import Path

import click
import numpy as np
from _network import cross_entropy
from _report import conclude, console, mean_and_spread, save_figure
from rich.progress import track
from rich.table import Table
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from fastdrop.federated import Update, aggregate, client_seed, extract, kept_units

SEED = 42
CLIENTS, EACH_ROUND, HIDDEN, BATCH = 20, 8, 256, 16
AXES = {"w1": (None, "hidden"), "b1": ("hidden",), "w2": ("hidden", None), "b2": (None,)}


RATES = (0.0, 0.25, 0.5)


def digits():
    """Return images and labels for training, and images and labels for testing."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    order = np.random.default_rng(SEED).permutation(len(x))
    train, test = order[400:], order[:400]
    return x[train], y[train], x[test], y[test]


def shares(y):
    """Return the indices of each client's digits; digits are sorted by class and split, so that a client has few classes."""
    return np.array_split(np.argsort(y, kind="stable"), CLIENTS)


def new_network():
    """Return the server's initial weights."""
    rng = np.random.default_rng(SEED)
    first, second = rng.standard_normal((64, HIDDEN), np.float32), rng.standard_normal((HIDDEN, 10), np.float32)
    first *= np.float32((2 / 64) ** 0.5)
    second *= np.float32((1 / HIDDEN) ** 0.5)
    return {"w1": first, "b1": np.zeros(HIDDEN, np.float32), "w2": second, "b2": np.zeros(10, np.float32)}


def scores(weights, x, scale=1.0):
    """Return the scaled hidden activations and the scores of the classes."""
    hidden = np.maximum(x @ weights["w1"] + weights["b1"], 0) * np.float32(scale)
    return hidden, hidden @ weights["w2"] + weights["b2"]


def train(weights, x, y, scale, seed, rate=0.1):
    """Train for one epoch by stochastic gradient descent, in place."""
    order = np.random.default_rng(seed).permutation(len(x))
    for batch in np.array_split(order, -(-len(x) // BATCH)):
        hidden, logits = scores(weights, x[batch], scale)
        _, grad = cross_entropy(logits, y[batch])
        back = (grad @ weights["w2"].T) * (hidden > 0) * np.float32(scale)
        gradients = {"w1": x[batch].T @ back, "b1": back.sum(axis=0), "w2": hidden.T @ grad, "b2": grad.sum(axis=0)}
        for name, gradient in gradients.items():
            weights[name] -= np.float32(rate) * gradient


def run(p, rounds):
    """Return accuracy and megabytes sent after each round."""
    x, y, test_x, test_y = digits()
    parts, weights, rng = shares(y), new_network(), np.random.default_rng(SEED)
    curve, sent = [], 0
    for number in track(range(rounds), f"p = {p}", console=console, transient=True):
        updates = []
        for client in rng.permutation(CLIENTS)[:EACH_ROUND].tolist():
            seed = client_seed(SEED, number, client)
            part = extract(weights, AXES, kept_units({"hidden": HIDDEN}, p, seed))
            mine = parts[client]
            train(part, x[mine], y[mine], HIDDEN / len(part["b1"]), seed)
            kept = kept_units({"hidden": HIDDEN}, p, seed)  # the server computes the same units from the seed
            updates.append(Update(part, kept, len(mine)))
            sent += 8 + 2 * sum(value.nbytes for value in part.values())  # the seed, the part to the client, and the part back
        weights, _ = aggregate(weights, AXES, updates)
        accuracy = (scores(weights, test_x)[1].argmax(axis=1) == test_y).mean()
        curve.append((sent / 1e6, accuracy))
    return np.array(curve)


def draw(curves, path):
    """Draw the accuracy against the bytes sent."""
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for p, curve in curves.items():
        ax.plot(*curve.T, label="the whole network" if p == 0 else f"parts, p = {p}")
    ax.set(xlabel="megabytes sent in both directions", ylabel="accuracy on test digits", ylim=(0, 1))
    ax.grid(alpha=0.3)
    ax.legend(loc="lower right")
    save_figure(figure, path)


@click.command(help=__doc__.partition("\n\n")[0])
@click.option("--rounds", type=click.IntRange(1), default=150, show_default=True)
@click.option("--short", is_flag=True, help="Two rounds: only shows that the program works.")
@click.option("--figure", type=click.Path(path_type=Path), help="Draw the accuracy against the bytes to this file.")
def main(rounds, short, figure):
    rounds = 2 if short else rounds
    with threadpool_limits(1, "blas"):
        curves = {p: run(p, rounds) for p in RATES}
    lines = Table("p", "MB sent", "accuracy, mean of the last ten rounds", title=f"{rounds} rounds")
    for p, curve in curves.items():
        mean, spread = mean_and_spread(curve[-10:, 1])
        lines.add_row(str(p), f"{curve[-1, 0]:.2f}", f"{mean:.3f} ± {spread:.3f}")
    console.print(lines)
    conclude([], short)
    if figure:
        draw(curves, figure)


if __name__ == "__main__":
    main()
