"""Search for the rates of each layer by cross-validation on digits; start a second search from the best earlier rates.

    python examples/tuning.py                         # three minutes
    python examples/tuning.py --store studies.db      # stores all trials: stop it, start it again, and it continues
    python examples/tuning.py --short                 # seconds, no conclusions

The first two searches have 300 labels: in one all are right, in the other a fifth are wrong. A third task has 150 labels, a
fifth of them wrong. It is searched twice: warm, starting from the best rates on the most similar data, and cold. For each task,
rates are also trained together with the weights, which takes one training run instead of many. All rates are compared on
digits that no search has seen. The example needs pip install ".[examples,tuning]".
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
# Rates of the input and of two hidden layers; the number of units that are dropped together.
SPACE = {"input": (0.0, 0.5), "first": (0.0, 0.8), "second": (0.0, 0.8), "group_size": [1, 4]}
NOTHING = {"input": 0.0, "first": 0.0, "second": 0.0, "group_size": 1}
USUAL = {"input": 0.2, "first": 0.5, "second": 0.5, "group_size": 1}
TASKS = {"300 labels": (300, 0.0), "300, a fifth wrong": (300, 0.2), "150, a fifth wrong": (150, 0.2)}
*EARLIER, NEW = TASKS
WARM, COLD = f"{NEW}, warm", f"{NEW}, cold"  # the two searches of the new task


def tasks():
    """Return the images and labels of each task, and images and labels for testing."""
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
    """Return a network of two hidden layers, with dropout of the input and after each hidden layer."""
    return nn.Sequential(
        [
            *(input, Dense(64, UNITS, rng), Relu()),
            *(first, Dense(UNITS, UNITS, rng), Relu()),
            *(second, Dense(UNITS, 10, rng, gain=1.0)),
        ]
    )


def dropping(choice):
    """Return the dropout layers for a choice of rates."""
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
    """Return the loss on a fold after training on the other folds; `search` calls this function."""
    x, y = task
    splits = list(StratifiedKFold(folds, shuffle=True, random_state=SEED).split(x, y))
    train, validation = splits[fold]
    return loss_after((x[train], y[train]), (x[validation], y[validation]), fold, epochs, choice)


def searches(given, trials, folds, epochs, store):
    """Return the results of all searches; the new task is searched warm, from the most similar earlier task, and cold."""
    options = {"trials": trials, "folds": folds, "seed": SEED, "maximize": False, "store": store, "progress": True}
    found = {}
    for name, task, warm in (*((name, name, 0) for name in EARLIER), (WARM, NEW, 1), (COLD, NEW, 0)):
        objective, description = partial(on_fold, given[task], folds, epochs), describe(*given[task])
        found[name] = search(objective, SPACE, name=name, description=description, warm=warm, **options)
    return found


class Concrete(nn.Layer):
    """Concrete dropout, whose rate has a gradient; the caller sets the logit of the rate and the step, which is the offset."""

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
    """Return rates that are trained together with the weights; a third of the images is for validation."""
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

    start, steps = dict.fromkeys(drops, 0.2), epochs * len(train) // BATCH  # as many steps as a training run has
    return learned_rates(model.parameters, of_training, update, of_validation, start, steps=steps, learning_rate=0.02)


def choices_of(name, found, trained):
    """Return the choices of rates that are compared for a task."""
    best = {f"found: {key}": each.best for key, each in found.items() if key.startswith(name)}
    return {"no dropout": NOTHING, "0.2, 0.5, 0.5": USUAL, **best, "trained": {**trained[name].rates, "group_size": 1}}


def on_test(given, found, trained, test, epochs, networks):
    """Return the losses on the test digits for each task and choice of rates."""
    return {
        name: {
            key: [loss_after(task, test, seed, epochs, choice) for seed in range(100, 100 + networks)]
            for key, choice in choices_of(name, found, trained).items()
        }
        for name, task in given.items()
    }


def table(losses, found, trained):
    """Return a table of the rates and their losses."""
    lines = Table("labels", "rates", "input", "first", "second", "group size", "loss on the test digits")
    for task, of_task in losses.items():
        choices = choices_of(task, found, trained)
        for name, values in of_task.items():
            rates = (f"{choices[name][key]:.2f}" for key in ("input", "first", "second"))
            spread = "{:.3f} ± {:.3f}".format(*mean_and_spread(values))
            lines.add_row(task, name, *rates, str(choices[name]["group_size"]), spread)
    return lines


def conclusions(losses):
    """Yield comparisons of the found rates with no dropout, network by network."""
    for task, by_rates in losses.items():
        for name, values in by_rates.items():
            if name.startswith(("found", "trained")):
                verdict = compared(values, by_rates["no dropout"], "networks")
                yield f"{name}: the loss on the test digits is {verdict}, against no dropout ({task})"


def draw(found, path):
    """Draw the best loss so far against the trials, for the warm and the cold search."""
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
@click.option("--trials", type=click.IntRange(1), default=25, show_default=True, help="The number of trials per search.")
@click.option("--short", is_flag=True, help="Four trials of few epochs: only shows that the program works.")
@click.option("--store", type=click.Path(path_type=Path), help="Store all trials in this file.")
@click.option("--figure", type=click.Path(path_type=Path), help="Draw the two searches with few labels to this file.")
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
