"""A small recurrent language model of characters, with locked masks, with fresh masks and without dropout.

    python examples/text_rnn.py              # some minutes
    python examples/text_rnn.py --short      # seconds, no conclusions

The text is Python's own help topics. Only a small part is used for training, so that the model without dropout memorises it.
Everything is NumPy. Another version of Python has a slightly different text.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

import click
import numpy as np
from _network import Adam, Dense, cross_entropy, train_step
from _recurrent import Gru
from _report import compared, conclude, console, mean_and_spread, save_figure
from rich.progress import Progress
from rich.table import Table
from threadpoolctl import threadpool_limits

from fastdrop import nn

P = 0.25
TRAINED, VALIDATED = 40_000, 20_000  # characters
WINDOW, BATCH, FEATURES, UNITS = 40, 16, 48, 160
CLIP = 1.0

# Text ---------------------------------------------------------------------------------------------------------------


def text() -> tuple[np.ndarray, np.ndarray, int]:
    """Return the characters for training and for validation as numbers, and the number of different characters."""
    whole = "\n".join(topics[name] for name in sorted(topics))[: TRAINED + VALIDATED]
    alphabet = {character: number for number, character in enumerate(sorted(set(whole)))}
    numbers = np.array([alphabet[character] for character in whole])
    return numbers[:TRAINED], numbers[TRAINED:], len(alphabet)


def windows(numbers, begins):
    """Return the windows of characters at each beginning, and the characters that follow each one, as (time, samples)."""
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


def language_model(size, seed, around, **of_state):
    """Return a model; `around` makes the dropout before and after the recurrent layer."""
    rng = np.random.default_rng(seed)
    recurrent = [Embedding(size, FEATURES, rng), around(), Gru(FEATURES, UNITS, rng, **of_state), around()]
    layers = [layer for layer in recurrent if layer is not None]
    return nn.Sequential([*layers, Dense(UNITS, size, rng, gain=1.0)], seed=seed)


MODELS = {
    "none": lambda *of: language_model(*of, lambda: None),
    "fresh masks": lambda *of: language_model(*of, lambda: nn.Dropout(P), drop=nn.Dropout(P), locked=False),
    "locked masks": lambda *of: language_model(*of, lambda: nn.LockedDropout(P), drop=nn.Dropout(P), locked=True),
}

# Runs ---------------------------------------------------------------------------------------------------------------

Curves = dict[str, np.ndarray]  # (seeds, points, 3): step, bits per character on the training and the validation text


def bits(model, numbers) -> float:
    """Return the mean cross-entropy of all windows, in bits per character."""
    begins = np.arange(0, len(numbers) - WINDOW, WINDOW)
    x, following = windows(numbers, begins)
    loss, _ = cross_entropy(model.eval().forward(x), following)
    model.train()
    return loss / np.log(2)


def train(model, seed, training, validation, steps: int, every: int, advance) -> list[tuple[int, float, float]]:
    """Train a model; return its loss on both texts after every `every` steps."""
    optimizer, curve = Adam(model, 3e-3, CLIP), []
    for step in range(1, steps + 1):
        begins = np.random.default_rng([seed, step]).integers(0, len(training) - WINDOW, BATCH)
        train_step(model, optimizer, *windows(training, begins))
        if step % every == 0:
            curve.append((step, bits(model, training[: len(validation)]), bits(model, validation)))
        advance()
    return curve


def run(seeds: int, steps: int, every: int) -> Curves:
    """Return the curves of each model."""
    training, validation, size = text()
    curves: dict[str, list] = {name: [] for name in MODELS}
    with Progress(console=console, transient=True) as progress, threadpool_limits(1, "blas"):
        task = progress.add_task("", total=seeds * len(MODELS) * steps)
        for seed in range(seeds):
            for name, make in MODELS.items():
                progress.update(task, description=f"seed {seed}: {name}")
                model = make(size, seed)
                curves[name].append(train(model, seed, training, validation, steps, every, lambda: progress.advance(task)))
    return {name: np.array(each) for name, each in curves.items()}


def best(curve: np.ndarray) -> np.ndarray:
    """Return the best loss on the validation text, for each seed."""
    return curve[:, :, 2].min(axis=1)


def table(curves: Curves) -> Table:
    """Return the best and the last losses of each model: mean and standard deviation over the seeds."""
    lines = Table("dropout", "best validation", "last validation", "last training", "last gap", title="bits per character")
    for name, curve in curves.items():
        last_training, last_validation = curve[:, -1, 1], curve[:, -1, 2]
        columns = best(curve), last_validation, last_training, last_validation - last_training
        lines.add_row(name, *("{:.3f} ± {:.3f}".format(*mean_and_spread(values)) for values in columns))
    return lines


def conclusions(curves: Curves) -> Iterator[str]:
    """Yield comparisons of each pair of models, seed by seed."""
    for one, other in itertools.combinations(reversed(curves), 2):
        verdict = compared(best(curves[one]), best(curves[other]), "seeds", ("better", "worse"))
        yield f"{one} against {other}, best validation: {verdict}"


def draw(curves: Curves, path: Path) -> None:
    """Draw the mean and the range of the curves over the seeds: validation as solid lines, training as dashed lines."""
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for number, (name, curve) in enumerate(curves.items()):
        steps, training, validation = np.moveaxis(curve, 2, 0)
        ax.plot(steps[0], validation.mean(axis=0), f"C{number}", label=name)
        ax.fill_between(steps[0], validation.min(axis=0), validation.max(axis=0), color=f"C{number}", alpha=0.2)
        ax.plot(steps[0], training.mean(axis=0), f"C{number}--", alpha=0.6)
    ax.set(xlabel="step", ylabel="bits per character", title="validation; training dashed")
    ax.grid(alpha=0.3)
    ax.legend(title="dropout")
    save_figure(figure, path)


@click.command(help=__doc__.partition("\n\n")[0])
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--steps", type=click.IntRange(10), default=1500, show_default=True)
@click.option("--short", is_flag=True, help="Two seeds, ten steps: only shows that the program works.")
@click.option("--figure", type=click.Path(path_type=Path), help="Draw the curves to this file.")
def main(seeds, steps, short, figure):
    seeds, steps = (2, 10) if short else (seeds, steps)
    curves = run(seeds, steps, every=max(5, steps // 30))
    console.print(table(curves))
    conclude(conclusions(curves), short)
    if figure:
        draw(curves, figure)


if __name__ == "__main__":
    main()
