"""A small recurrent language model, character by character: locked dropout against fresh masks against none.

    python examples/text_rnn.py              # some minutes
    python examples/text_rnn.py --short      # seconds, and no conclusions

The text is that of Python's own help topics, which come with Python: a little of it is trained on, so that the model without
dropout learns it by heart. Everything is NumPy; another version of Python has a slightly different text.
"""

import itertools
import sys
from pathlib import Path
from pydoc_data.topics import topics

import click
import numpy as np
from _network import Adam, Dense, cross_entropy, train_step
from _recurrent import Gru
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from threadpoolctl import threadpool_limits

from fastdrop import nn

SEED, P = 42, 0.25
TRAINED, VALIDATED = 40_000, 20_000  # characters
WINDOW, BATCH, FEATURES, UNITS = 40, 16, 48, 160
CLIP = 1.0
console = Console(width=None if sys.stdout.isatty() else 100)

# Text ---------------------------------------------------------------------------------------------------------------


def text() -> tuple[np.ndarray, np.ndarray, int]:
    """Return characters to train on and to validate on, as numbers, and how many different ones there are."""
    whole = "\n".join(topics[name] for name in sorted(topics))[: TRAINED + VALIDATED]
    alphabet = {character: number for number, character in enumerate(sorted(set(whole)))}
    numbers = np.array([alphabet[character] for character in whole])
    return numbers[:TRAINED], numbers[TRAINED:], len(alphabet)


def windows(numbers, begins):
    """Return the characters from each beginning on, and the ones that follow them, as (time, samples)."""
    at = np.arange(WINDOW)[:, np.newaxis] + begins
    return numbers[at], numbers[at + 1]


# Models -------------------------------------------------------------------------------------------------------------


class Embedding(nn.Layer):
    """A trained vector for each character."""

    def __init__(self, size, features, rng):
        super().__init__()
        self.add_parameter("weight", rng.normal(0, 0.3, (size, features)).astype(np.float32))

    def record(self, x, again=None):
        return self.own_parameters["weight"][x], x

    def gradient(self, grad, record):
        np.add.at(self.own_gradients["weight"], record, grad)


def language_model(size, around, **of_state):
    """Return a model; `around` makes what precedes and follows the recurrent layer."""
    rng = np.random.default_rng(SEED)
    recurrent = [Embedding(size, FEATURES, rng), around(), Gru(FEATURES, UNITS, rng, **of_state), around()]
    layers = [layer for layer in recurrent if layer is not None]
    return nn.Sequential([*layers, Dense(UNITS, size, rng, gain=1.0)], seed=SEED)


MODELS = {
    "none": lambda size: language_model(size, lambda: None),
    "fresh masks": lambda size: language_model(size, lambda: nn.Dropout(P), drop=nn.Dropout(P), locked=False),
    "locked masks": lambda size: language_model(size, lambda: nn.LockedDropout(P), drop=nn.Dropout(P), locked=True),
}

# Runs ---------------------------------------------------------------------------------------------------------------


def bits(model, numbers) -> float:
    """Return the mean cross-entropy of all windows, in bits a character."""
    begins = np.arange(0, len(numbers) - WINDOW, WINDOW)
    x, following = windows(numbers, begins)
    loss, _ = cross_entropy(model.eval().forward(x), following)
    model.train()
    return loss / np.log(2)


def train(model, training, validation, steps: int, every: int, advance) -> list[tuple[int, float, float]]:
    """Train a model; return its loss on both texts, every so many steps."""
    optimizer, curve = Adam(model, 3e-3, CLIP), []
    for step in range(1, steps + 1):
        begins = np.random.default_rng([SEED, step]).integers(0, len(training) - WINDOW, BATCH)
        train_step(model, optimizer, *windows(training, begins))
        if step % every == 0:
            curve.append((step, bits(model, training[: len(validation)]), bits(model, validation)))
        advance()
    return curve


def run(steps: int, every: int) -> dict[str, list[tuple[int, float, float]]]:
    """Return the curve of each model."""
    training, validation, size = text()
    curves = {}
    with Progress(console=console, transient=True) as progress, threadpool_limits(1, "blas"):
        for name, make in MODELS.items():
            task = progress.add_task(name, total=steps)
            curves[name] = train(make(size), training, validation, steps, every, lambda task=task: progress.advance(task))
    return curves


def table(curves) -> Table:
    """Return the best and the last loss of each model."""
    columns = "dropout", "best validation", "at step", "last validation", "last training", "last gap"
    lines = Table(*columns, title="bits a character")
    for name, curve in curves.items():
        (best_step, _, best), (_, training, validation) = min(curve, key=lambda point: point[2]), curve[-1]
        losses = (f"{value:.3f}" for value in (validation, training, validation - training))
        lines.add_row(name, f"{best:.3f}", str(best_step), *losses)
    return lines


def conclusions(curves):
    """Yield who did better than whom."""
    best = {name: min(validation for _, _, validation in curve) for name, curve in curves.items()}
    for one, other in itertools.combinations(sorted(best, key=best.get), 2):
        yield f"{one}: {best[other] - best[one]:.3f} bits a character better than {other}"


def draw(curves, path: Path) -> None:
    """Draw the curves: validation in full, training in dashes."""
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for number, (name, curve) in enumerate(curves.items()):
        steps, training, validation = zip(*curve, strict=True)
        ax.plot(steps, validation, f"C{number}", label=name)
        ax.plot(steps, training, f"C{number}--", alpha=0.6)
    ax.set(xlabel="step", ylabel="bits a character", title="validation; training in dashes")
    ax.grid(alpha=0.3)
    ax.legend(title="dropout")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


@click.command(help=__doc__.partition("\n\n")[0])
@click.option("--steps", type=click.IntRange(10), default=1500, show_default=True)
@click.option("--short", is_flag=True, help="Twenty steps: to see that it runs.")
@click.option("--figure", type=click.Path(path_type=Path), help="Draw the curves, too.")
def main(steps, short, figure):
    steps = 20 if short else steps
    curves = run(steps, every=max(10, steps // 30))
    console.print(table(curves))
    for line in conclusions(curves):
        console.print(line)
    if figure:
        draw(curves, figure)
        console.print(f"drawn: {figure}")


if __name__ == "__main__":
    main()
