"""Train networks with every suitable variant on scikit-learn's digits; few labels make a network without dropout overfit.

    python examples/digits_mlp.py                     # all variants, five folds: some minutes
    python examples/digits_mlp.py --only "none" --only "inverted, p = 0.5"
    python examples/digits_mlp.py --short             # two folds, few epochs: seconds, no conclusions

The example needs pip install ".[examples]". It compares with PyTorch if PyTorch is installed.
"""

import importlib.util
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from _attention import Attention
from _digits import LABELS, SEED, Outcome, folds, steps_of, train, train_in_torch
from _network import Dense, Relu, Residual, Selu, Shaped
from _recurrent import Gru
from _report import compared, conclude, console, mean_and_spread, save_figure
from rich.progress import Progress
from rich.table import Table
from threadpoolctl import threadpool_limits

import fastdrop
from fastdrop import nn, schedules

UNITS, FEATURES = 256, 64
MAPS = (32, 8)  # a hidden layer as 32 maps of 8 units

# Networks -----------------------------------------------------------------------------------------------------------


def without(layers):
    """Return a model of the layers that are not None."""
    return nn.Sequential([layer for layer in layers if layer is not None])


def none():
    """Return no layer."""


def mlp(rng, drop=none, *, activation=Relu, gain=2.0, first=none, hidden=None, weights=none, linear=Dense):
    """Return a network with two hidden layers.

    `drop` makes the dropout after each hidden layer, `first` the dropout of the input, and `weights` the dropout of weights.
    """
    return without(
        [
            first(),
            linear(64, UNITS, rng, weights(), gain=gain),
            activation(),
            drop(),
            linear(UNITS, UNITS, rng, weights(), gain=gain) if hidden is None else hidden(rng),
            activation(),
            drop(),
            linear(UNITS, 10, rng, gain=1.0),
        ]
    )


def connections(rng):
    """Return a hidden layer that drops connections, initialized like the other layers."""
    weight = Dense(UNITS, UNITS, rng).own_parameters["weight"]
    return nn.DropConnect(weight, 0.5, bias=np.zeros(UNITS, np.float32))


def residual(rng, rates=(0.0,) * 4):
    """Return a network of four blocks, each x + path(x)."""
    blocks = [Residual(without([Dense(UNITS, UNITS, rng, gain=0.5), Relu()]), nn.DropPath(float(p))) for p in rates]
    return without([Dense(64, UNITS, rng), Relu(), *blocks, Dense(UNITS, 10, rng, gain=1.0)])


def noisy(inputs, outputs, rng, drop=None, gain=2.0):
    """Return a layer initialized like the others, with noise of the average size of its weights: alpha = 1."""
    weight = Dense(inputs, outputs, rng, gain=gain).own_parameters["weight"]
    return nn.VariationalDense(weight, np.full_like(weight, np.log(weight.var())), bias=np.zeros(outputs, np.float32))


class Regularized(nn.Sequential):
    """A sequence of layers that regularizes each learned rate together with the dense layer after it.

    Layers with noisy weights add the gradient of a share of the divergence; the schedule `warm_up` gives the share.
    """

    def __init__(self, layers, warm_up=None):
        super().__init__(layers)
        self.warm_up = warm_up

    def gradient(self, grad, record):
        layers = list(self)
        for layer in layers:
            if isinstance(layer, nn.VariationalDense):
                layer.kl(self.warm_up(layer.step) / LABELS)
        for drop, following in itertools.pairwise(layers):
            if isinstance(drop, nn.ConcreteDropout):
                weight, strengths = following.own_parameters["weight"], (1e-4 / LABELS, 1 / LABELS)
                _, of_weight = drop.regularize(weight, UNITS, weight_regularizer=strengths[0], dropout_regularizer=strengths[1])
                following.own_gradients["weight"] += of_weight
        return super().gradient(grad, record)


def concrete(rng, steps):
    """Return a network that learns its rates."""
    return Regularized(mlp(rng, lambda: nn.ConcreteDropout(0.3)).children)


def variational(rng, steps):
    """Return a network that learns the noise of each weight.

    The share of the divergence grows during the whole training, up to a hundredth. With 400 weights per label, the full
    divergence would prune nearly all weights.
    """
    return Regularized(mlp(rng, linear=noisy).children, schedules.Linear(0.0, 0.01, steps))


class ByInput(nn.Layer):
    """A layer that drops units by the scores that `judge` gives them."""

    def __init__(self, drop, judge):
        super().__init__()
        self.children, self.judge = {"drop": drop}, judge

    def record(self, x, again=None):
        return self.children["drop"].record(x, self.judge(x), again=again)

    def gradient(self, grad, record):
        return self.children["drop"].gradient(grad, record)


def by_magnitude():
    """Return a layer that drops a unit more often if its average size over the batch is smaller."""
    return ByInput(nn.ImportanceDropout(0.5), lambda x: np.abs(x).mean(axis=0))


def adaptive():
    """Return a layer that keeps a unit with probability sigmoid(x); if x is not 0, it equals the input of the activation."""
    return ByInput(nn.AdaptiveDropout(mode="standard"), lambda x: x)


class Rows(nn.Layer):
    """A network that reads an image as its eight rows, time first or samples first, and classifies a summary of them."""

    def __init__(self, layers, time_first):
        super().__init__()
        self.children, self.time_first = {"layers": without(layers)}, time_first

    def record(self, x, again=None):
        rows = x.reshape(len(x), 8, 8)
        y, made = self.children["layers"].record(rows.swapaxes(0, 1) if self.time_first else rows)
        return (y[-1] if self.time_first else y.mean(axis=1)), (made, y.shape)

    def gradient(self, grad, record):
        made, shape = record
        if self.time_first:
            whole = np.zeros(shape, grad.dtype)
            whole[-1] = grad
        else:
            whole = np.repeat(grad[:, np.newaxis] / np.float32(shape[1]), shape[1], axis=1)
        rows = self.children["layers"].gradient(whole, made)
        return (rows.swapaxes(0, 1) if self.time_first else rows).reshape(-1, 64)


def recurrent(rng, around=none, **of_state):
    """Return a recurrent network that reads the rows; `around` makes the dropout before and after the recurrent layer."""
    layers = [Dense(8, FEATURES, rng), Relu(), around(), Gru(FEATURES, 2 * FEATURES, rng, **of_state), around()]
    return Rows([*layers, Dense(2 * FEATURES, 10, rng, gain=1.0)], time_first=True)


def attending(rng, tokens=None, **of_attention):
    """Return a network in which the rows attend to each other."""
    layers = [Dense(8, FEATURES, rng), Relu(), Positions(rng), tokens, Attention(FEATURES, 4, rng, **of_attention)]
    layers += [Dense(FEATURES, UNITS, rng), Relu(), Dense(UNITS, 10, rng, gain=1.0)]
    return Rows(layers, time_first=False)


class Positions(nn.Layer):
    """Adds a trained vector to each of the eight rows."""

    def __init__(self, rng):
        super().__init__()
        self.add_parameter("position", rng.normal(0, 0.3, (8, FEATURES)).astype(np.float32))

    def record(self, x, again=None):
        return x + self.own_parameters["position"], None

    def gradient(self, grad, record):
        self.own_gradients["position"] += grad.sum(axis=0)
        return grad


# Variants -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A row of the table: the network's name, and a function that makes it from a generator and the number of steps."""

    name: str
    network: str
    make: Callable[[np.random.Generator, int], nn.Layer]
    samples: int = 0  # samples of Monte Carlo dropout


def dense(name, drop=none, samples=0, **options):
    """Return a row with the network of dense layers."""
    return Row(name, "dense", lambda rng, steps: mlp(rng, drop, **options), samples)


def scheduled(name, schedule):
    """Return a row with a scheduled rate; `schedule` makes one schedule for both layers from the number of steps."""

    def make(rng, steps):
        p = schedule(steps)
        return mlp(rng, lambda: nn.Dropout(p))

    return Row(f"inverted, {name}", "dense", make)


def layerwise(rng, steps):
    """Return a network with the larger rate in the deeper layer."""
    rates = iter(schedules.layerwise(0.6, 2))
    return mlp(rng, lambda: nn.Dropout(next(rates)))


ROWS = [
    dense("none"),
    dense("inverted, p = 0.5", lambda: nn.Dropout(0.5)),
    dense("inverted, p = 0.2", lambda: nn.Dropout(0.2)),
    dense("inverted, p = 0.5, inputs too", lambda: nn.Dropout(0.5), first=lambda: nn.Dropout(0.2)),
    dense("inverted, p = 0.5, 50 samples", lambda: nn.Dropout(0.5), samples=50),
    dense("standard, p = 0.5", lambda: nn.Dropout(0.5, mode="standard")),
    dense("Gaussian, p = 0.5", lambda: nn.GaussianDropout(0.5)),
    dense("Gaussian noise, 0.5", lambda: nn.GaussianNoise(0.5)),
    dense("uniform noise, 0.5", lambda: nn.UniformDropout(0.5)),
    Row("concrete, from 0.3", "dense", concrete),
    dense("importance, p = 0.5", by_magnitude),
    dense("adaptive", adaptive),
    Row("variational, sparse", "dense", variational),
    dense("evolutional, half drawn", lambda: nn.MultinomialDropout(UNITS // 2)),
    dense("attention-based, 32 maps", lambda: Shaped(nn.ADL(), MAPS)),
    dense("spatial, 32 maps of 8", lambda: Shaped(nn.SpatialDropout(0.5, data_format="channels_first"), MAPS)),
    dense("groups of 4", lambda: nn.GroupDropout(0.5, group_size=4)),
    dense("blocks of the image", first=lambda: Shaped(nn.DropBlock(0.3, 3), (1, 8, 8))),
    dense("connections", hidden=connections),
    dense("weights", weights=lambda: nn.WeightDrop(0.5)),
    dense("small weights", weights=lambda: nn.TargetedDropout(0.5)),
    dense("shakeout", weights=lambda: nn.Shakeout(0.5, 0.01)),
    scheduled("linear to 0.5", lambda steps: schedules.Linear(0.0, 0.5, steps)),
    scheduled("cosine from 0.5", lambda steps: schedules.Cosine(0.5, 0.0, steps)),
    scheduled("curriculum", lambda steps: schedules.Curriculum(0.5, 10 / steps)),
    scheduled("early", lambda steps: schedules.Early(0.5, steps // 2)),
    scheduled("late", lambda steps: schedules.Late(0.5, steps // 2)),
    scheduled("driven by the gap", lambda steps: schedules.ValidationDriven(0.2, target=0.2, gain=0.3)),
    Row("inverted, 0.3 then 0.6", "dense", layerwise),
    Row("none", "SELU", lambda rng, steps: mlp(rng, activation=Selu, gain=1.0)),
    Row("alpha, p = 0.2", "SELU", lambda rng, steps: mlp(rng, lambda: nn.AlphaDropout(0.2), activation=Selu, gain=1.0)),
    Row("none", "residual", lambda rng, steps: residual(rng)),
    Row("paths, up to 0.5", "residual", lambda rng, steps: residual(rng, [f(0) for f in schedules.layerwise(0.5, 4)])),
    Row("none", "recurrent", lambda rng, steps: recurrent(rng)),
    Row(
        "fresh masks",
        "recurrent",
        lambda rng, steps: recurrent(rng, lambda: nn.Dropout(0.3), drop=nn.Dropout(0.3), locked=False),
    ),
    Row("locked masks", "recurrent", lambda rng, steps: recurrent(rng, lambda: nn.LockedDropout(0.3), drop=nn.Dropout(0.3))),
    Row("zoneout", "recurrent", lambda rng, steps: recurrent(rng, zone=nn.Zoneout(0.3))),
    Row("none", "attention", lambda rng, steps: attending(rng)),
    Row("probabilities", "attention", lambda rng, steps: attending(rng, weights=nn.AttentionDropout(0.3))),
    Row("columns", "attention", lambda rng, steps: attending(rng, weights=nn.AttentionDropout(0.3, unit="key"))),
    Row("heads", "attention", lambda rng, steps: attending(rng, head=nn.DropHead(0.3))),
    Row("keys", "attention", lambda rng, steps: attending(rng, key=nn.DropKey(0.3))),
    Row("tokens", "attention", lambda rng, steps: attending(rng, tokens=nn.TokenDropout(0.3))),
]

# Runs ---------------------------------------------------------------------------------------------------------------

Results = dict[tuple[str, str], list[Outcome]]  # (network, variant) -> one outcome per fold


def run(rows, number_of_folds: int, epochs: int, with_torch: bool) -> Results:
    """Train each row on each fold, on one thread."""
    results: Results = {}
    dense_rows = {row.name for row in rows if row.network == "dense"} if with_torch else set()
    rates = {name: p for name, p in {"none": 0.0, "inverted, p = 0.5": 0.5}.items() if name in dense_rows}
    with Progress(console=console, transient=True) as progress, threadpool_limits(1), fastdrop.using(num_threads=1):
        task = progress.add_task("", total=number_of_folds * (len(rows) + len(rates)))
        for fold in folds(number_of_folds):
            for row in rows:
                progress.update(task, description=f"fold {fold.number + 1}: {row.network}, {row.name}")
                model = row.make(np.random.default_rng(fold.seed), steps_of(epochs)).seed(fold.seed)
                results.setdefault((row.network, row.name), []).append(train(model, fold, epochs, row.samples))
                progress.advance(task)
            for name, p in rates.items():
                progress.update(task, description=f"fold {fold.number + 1}: PyTorch, {name}")
                parameters = mlp(np.random.default_rng(fold.seed)).parameters
                weights = [value for key, value in parameters.items() if key.endswith("weight")]
                results.setdefault(("PyTorch", name), []).append(train_in_torch(weights, p, fold, epochs))
                progress.advance(task)
    return results


# Output -------------------------------------------------------------------------------------------------------------


def of_folds(outcomes: list[Outcome], what: str) -> tuple[float, float]:
    return mean_and_spread([getattr(outcome, what) for outcome in outcomes])


COLUMNS = {
    "training accuracy": ("training_accuracy", 100, "{:.1f} ± {:.1f}"),
    "validation accuracy": ("validation_accuracy", 100, "{:.1f} ± {:.1f}"),
    "validation loss": ("validation_loss", 1, "{:.2f} ± {:.2f}"),
    "gap": ("gap", 1, "{:.2f} ± {:.2f}"),
}


def microseconds(outcomes: list[Outcome]) -> str:
    """Return the time per step in the fastest fold; other work on the machine can only add time."""
    return f"{1e6 * min(outcome.step_seconds for outcome in outcomes):.0f}"


def table(results: Results) -> Table:
    """Return a table with one row per network and variant: mean and standard deviation over the folds."""
    lines = Table("network", "dropout", *COLUMNS, "step, µs", title="gap: validation loss minus training loss")
    network = ""
    for (of, name), outcomes in results.items():
        if of != network and network:
            lines.add_section()
        network = of
        cells = [text.format(*(factor * v for v in of_folds(outcomes, what))) for what, factor, text in COLUMNS.values()]
        lines.add_row(of, name, *cells, microseconds(outcomes))
    return lines


def conclusion(results: Results, network: str) -> str:
    """Compare the gap of the variants with the best validation accuracy with the gap without dropout, fold by fold."""
    without_any = results.get((network, "none"), [])
    variants = {name: outcomes for (of, name), outcomes in results.items() if of == network and name != "none"}
    if len(without_any) < 2 or not variants:
        return f"{network}: there are too few runs for a conclusion"
    best = sorted(variants, key=lambda name: -of_folds(variants[name], "validation_accuracy")[0])[:3]
    gaps = {name: [outcome.gap for outcome in outcomes] for name, outcomes in variants.items()}
    gap = [outcome.gap for outcome in without_any]
    return "\n".join(f"{network}, {name}: the gap is {compared(gaps[name], gap, 'folds')}" for name in best)


def beside_torch(results: Results) -> Iterator[str]:
    """Yield comparisons with the same networks in PyTorch: accuracy fold by fold, and time."""
    for (network, name), theirs in results.items():
        ours = results.get(("dense", name))
        if network == "PyTorch" and ours and len(ours) > 1:
            accuracies = [[outcome.validation_accuracy for outcome in outcomes] for outcomes in (theirs, ours)]
            yield f"PyTorch, {name}: validation accuracy is {compared(*accuracies, 'folds', ('lower', 'higher'))}"
            yield f"PyTorch, {name}: a step takes {microseconds(theirs)} µs, with fastdrop {microseconds(ours)} µs"


def draw(results: Results, path: Path) -> None:
    """Draw the gap and the validation accuracy of each row, with their standard deviations over the folds."""
    from matplotlib import pyplot

    networks = list(dict.fromkeys(network for network, _ in results))
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 0.24 * len(results) + 1.2), sharey=True, layout="constrained")
    for ax, what, factor, label in (
        (axes[0], "gap", 1, "gap: validation loss minus training loss"),
        (axes[1], "validation_accuracy", 100, "validation accuracy, %"),
    ):
        for line, ((network, name), outcomes) in enumerate(results.items()):
            mean, spread = of_folds(outcomes, what)
            color = f"C{networks.index(network)}"
            fill = "white" if name == "none" else color
            ax.errorbar(factor * mean, line, xerr=factor * spread, fmt="o", color=color, markerfacecolor=fill, capsize=2)
        ax.set(xlabel=label)
        ax.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(results)), [f"{network}: {name}" for network, name in results])
    axes[0].set_ylim(len(results) - 0.5, -0.5)
    save_figure(figure, path)


@click.command(help=__doc__.partition("\n\n")[0])
@click.option("--folds", "number_of_folds", type=click.IntRange(1, 5), default=5, show_default=True)
@click.option("--epochs", type=click.IntRange(1), default=60, show_default=True)
@click.option("--only", multiple=True, help="Only the variants with this name. May be repeated.")
@click.option("--network", multiple=True, help="Only this network. May be repeated.")
@click.option("--short", is_flag=True, help="Two folds, three epochs: only shows that the program works.")
@click.option("--torch/--no-torch", "with_torch", default=True, show_default=True, help="Compare with PyTorch.")
@click.option("--figure", type=click.Path(path_type=Path), help="Draw the table to this file.")
def main(number_of_folds, epochs, only, network, short, with_torch, figure):
    if short:
        number_of_folds, epochs = 2, 3
    rows = [row for row in ROWS if (not only or row.name in only) and (not network or row.network in network)]
    if not rows:
        raise click.UsageError(f"no row has this name and network; names are {', '.join(sorted({row.name for row in ROWS}))}")
    if with_torch and importlib.util.find_spec("torch") is None:
        console.print("PyTorch is not installed, so its rows are left out")
        with_torch = False
    results = run(rows, number_of_folds, epochs, with_torch)
    console.print(table(results))
    networks = dict.fromkeys(row.network for row in rows)
    conclude([*(conclusion(results, name) for name in networks), *beside_torch(results)], short)
    console.print(f"seed {SEED}, {epochs} epochs of {steps_of(1)} steps, one thread")
    if figure:
        draw(results, figure)


if __name__ == "__main__":
    main()
