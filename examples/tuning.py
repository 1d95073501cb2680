"""Rates of each layer by cross-validated search on digits; then on other data, started from what was best on the first.

    python examples/tuning.py                         # three minutes
    python examples/tuning.py --store studies.db      # keeps what is tried: stop it, and it goes on
    python examples/tuning.py --short                 # seconds, and no conclusions

First, searches with 300 labels, all of them right, and with 300 of which a fifth are wrong. Then one with 150, a fifth
wrong, twice: first trying what was best on the data most like these, and from nothing. For each, rates that are trained
with the weights, too: they take one training in place of many. What counts in the end is digits that
no search has seen. Needs pip install "fastdrop-kernels[examples,tuning]".
"""

import tempfile
from functools import partial
from pathlib import Path

import click
import numpy as np
from _network import Adam, Dense, Relu, batches, cross_entropy, train_step
from _report import compared, conclude, console, mean_and_spread, save_figure
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from fastdrop import concrete_dropout, concrete_dropout_backward, fold_in, nn
from fastdrop.tuning import describe, learned_rates, search

SEED, UNITS, BATCH = 42, 128, 20
# Rates of the input and of two hidden layers; what is dropped together: units by themselves, or in fours.
SPACE = {"input": (0.0, 0.5), "first": (0.0, 0.8), "second": (0.0, 0.8), "group_size": [1, 4]}
NOTHING = {"input": 0.0, "first": 0.0, "second": 0.0, "group_size": 1}
USUAL = {"input": 0.2, "first": 0.5, "second": 0.5, "group_size": 1}
TASKS = {"300 labels": (300, 0.0), "300, a fifth wrong": (300, 0.2), "150, a fifth wrong": (150, 0.2)}
*EARLIER, NEW = TASKS
WARM, COLD = f"{NEW}, warm", f"{NEW}, cold"  # its two searches


def tasks():
    """Return for each task its images and labels, and others to test on."""
    x, y = load_digits(return_X_y=True)
    x, rng = (x / 16).astype(np.float32), np.random.default_rng(SEED)
    order, found = rng.permutation(len(x)), {}
    for name, (size, share) in TASKS.items():
        chosen, order = order[:size], order[size:]
        labels, wrong = y[chosen], rng.permutation(size)[: int(share * size)]
        labels[wrong] = (labels[wrong] + rng.integers(1, 10, len(wrong))) % 10
        found[name] = x[chosen], labels
    return found, (x[order], y[order])


def network(rng, input, first, second):
    """Return two hidden layers, with something that drops before the first and after each."""
    return nn.Sequential(
        [
            *(input, Dense(64, UNITS, rng), Relu()),
            *(first, Dense(UNITS, UNITS, rng), Relu()),
            *(second, Dense(UNITS, 10, rng, gain=1.0)),
        ]
    )


def dropping(choice):
    """Return the layers that drop, for a choice of rates."""
    sizes = {"input": 1, "first": choice["group_size"], "second": choice["group_size"]}
    return {name: nn.GroupDropout(choice[name], group_size=size) for name, size in sizes.items()}


def loss_after(train, validation, seed, epochs, choice):
    """Return the cross-entropy on other data after training with a choice of rates."""
    rng = np.random.default_rng(seed)
    model = network(rng, **dropping(choice)).seed(seed)
    optimizer, (x, y) = Adam(model), train
    for _ in range(epochs):
        for chosen in batches(len(x), BATCH, rng):
            train_step(model, optimizer, x[chosen], y[chosen])
    return cross_entropy(model.eval().forward(validation[0]), validation[1])[0]


def on_fold(task, folds, epochs, fold, **choice):
    """Return the loss on a fold after training on the others: what `search` calls."""
    x, y = task
    splits = list(StratifiedKFold(folds, shuffle=True, random_state=SEED).split(x, y))
    train, validation = splits[fold]
    return loss_after((x[train], y[train]), (x[validation], y[validation]), fold, epochs, choice)


def searches(given, trials, folds, epochs, store):
    """Return what was found for each task; for the new one, from what was found for that most like it, and from nothing."""
    options = {"trials": trials, "folds": folds, "seed": SEED, "maximize": False, "store": store, "progress": True}
    found = {}
    for name, task, warm in (*((name, name, 0) for name in EARLIER), (WARM, NEW, 1), (COLD, NEW, 0)):
        objective, description = partial(on_fold, given[task], folds, epochs), describe(*given[task])
        found[name] = search(objective, SPACE, name=name, description=description, warm=warm, **options)
    return found


class Concrete(nn.Layer):
    """Soft dropout, whose rate has a gradient; the rate's logit and the step, which names the noise, are set from outside."""

    def __init__(self, seed):
        super().__init__()
        self.noise, self.logit, self.of_logit = {"seed": seed, "offset": 0}, 0.0, 0.0

    def record(self, x, again=None):
        return (concrete_dropout(x, self.logit, **self.noise), x) if self.training else (x, None)

    def gradient(self, grad, record):
        if record is None:
            return grad
        dx, self.of_logit = concrete_dropout_backward(grad, record, self.logit, **self.noise)
        return dx


def trained_rates(task, seed, epochs):
    """Return rates that are trained with the weights, on a third of the images for validation."""
    x, y = task
    train, validation = next(StratifiedKFold(3, shuffle=True, random_state=seed).split(x, y))
    drops = {name: Concrete(fold_in(seed, name)) for name in ("input", "first", "second")}
    model = network(np.random.default_rng(seed), **drops)
    optimizer = Adam(model)

    def gradients_of(chosen):
        logits, record = model.record(x[chosen])
        loss, grad = cross_entropy(logits, y[chosen])
        model.zero_gradients()
        model.gradient(grad, record)
        return loss, {name: value.copy() for name, value in model.gradients.items()}

    def of_training(rates, step):
        for name, drop in drops.items():
            drop.logit, drop.noise["offset"] = float(np.log(rates[name] / (1 - rates[name]))), step
        model.train()
        _, of_weights = gradients_of(np.random.default_rng([seed, step]).permutation(train)[:BATCH])
        return of_weights, {name: float(drop.of_logit) for name, drop in drops.items()}

    def update(gradients):
        for name, value in model.gradients.items():
            value[...] = gradients[name]
        optimizer.step()

    def of_validation(step):
        model.eval()
        return gradients_of(validation)

    start, steps = dict.fromkeys(drops, 0.2), epochs * len(train) // BATCH  # as long as training at these rates will take
    return learned_rates(model.parameters, of_training, update, of_validation, start, steps=steps, learning_rate=0.02)


def choices_of(name, found, trained):
    """Return the rates that are compared for a task."""
    best = {f"found: {key}": each.best for key, each in found.items() if key.startswith(name)}
    return {"no dropout": NOTHING, "0.2, 0.5, 0.5": USUAL, **best, "trained": {**trained[name].rates, "group_size": 1}}


def on_test(given, found, trained, test, epochs, networks):
    """Return for each task and choice of rates the losses on the test digits."""
    return {
        name: {
            key: [loss_after(task, test, seed, epochs, choice) for seed in range(100, 100 + networks)]
            for key, choice in choices_of(name, found, trained).items()
        }
        for name, task in given.items()
    }


def table(losses, found, trained):
    """Return the losses, and what was found."""
    lines = Table("labels", "rates", "input", "first", "second", "in groups of", "loss on the test digits")
    for task, of_task in losses.items():
        choices = choices_of(task, found, trained)
        for name, values in of_task.items():
            rates = (f"{choices[name][key]:.2f}" for key in ("input", "first", "second"))
            spread = "{:.3f} ± {:.3f}".format(*mean_and_spread(values))
            lines.add_row(task, name, *rates, str(choices[name]["group_size"]), spread)
    return lines


def conclusions(losses):
    """Yield how the rates that were found compare with no dropout, network by network."""
    for task, by_rates in losses.items():
        for name, values in by_rates.items():
            if name.startswith(("found", "trained")):
                verdict = compared(values, by_rates["no dropout"], "networks")
                yield f"{name}: the loss on the test digits is {verdict}, against no dropout ({task})"


def draw(found, path):
    """Draw the best loss so far over the trials, with and without what was known."""
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for name in (WARM, COLD):
        scores = [trial.score for trial in found[name].trials]
        line = ax.step(range(1, len(scores) + 1), np.minimum.accumulate(scores), where="post", label=name)[0]
        ax.plot(range(1, len(scores) + 1), scores, "o", markersize=3, alpha=0.5, color=line.get_color())
    ax.set(xlabel="trial", ylabel="cross-validated loss, and the best so far")
    ax.legend()
    save_figure(figure, path)


@click.command(help=__doc__.partition("\n\n")[0])
@click.option("--trials", type=click.IntRange(1), default=25, show_default=True, help="Of each search.")
@click.option("--short", is_flag=True, help="Four trials of few epochs: to see that it runs.")
@click.option("--store", type=click.Path(path_type=Path), help="Keep all trials in this file.")
@click.option("--figure", type=click.Path(path_type=Path), help="Draw the two searches with few labels, too.")
def main(trials, short, store, figure):
    trials, folds, epochs, networks = (4, 2, 2, 2) if short else (trials, 3, 60, 5)
    given, test = tasks()
    with threadpool_limits(1, "blas"), tempfile.TemporaryDirectory() as folder:
        found = searches(given, trials, folds, epochs, store or Path(folder) / "studies.db")
        trained = {name: trained_rates(task, SEED, epochs) for name, task in given.items()}
        losses = on_test(given, found, trained, test, epochs, networks)
    console.print(f"the first trial of {WARM!r} is from {found[WARM].trials[0].origin!r}")
    console.print(table(losses, found, trained))
    conclude(conclusions(losses), short)
    if figure:
        draw(found, figure)


if __name__ == "__main__":
    main()
