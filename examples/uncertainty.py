"""Uncertainty by Monte Carlo dropout: digits like the training digits, corrupted digits, and other images.

    python examples/uncertainty.py                    # a minute or two
    python examples/uncertainty.py --short            # seconds, no conclusions

A network learns the digits 0 to 7 from few examples. It is then tested on other images of these digits; on the same images with
noise, upside down, or with shuffled pixels; on the digits 8 and 9; and on plain noise. The example measures the accuracy, the
calibration of the probabilities, and how well the uncertainty separates the other images from the digits (AUROC). It compares
one pass without dropout with many passes with dropout. It needs pip install ".[examples]".
"""

from pathlib import Path

import click
import numpy as np
from _network import Adam, Dense, Relu, batches, softmax, train_step
from _report import compared, conclude, console, mean_and_spread, save_figure
from rich.progress import track
from rich.table import Table
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from fastdrop import nn
from fastdrop.uncertainty import Classification, calibration, entropy, mc_predict, ood_auroc, plot_histograms

KNOWN, LABELS, BATCH, UNITS, P = 8, 200, 20, 256, 0.5  # KNOWN: number of learned classes
DIGITS = "digits"  # the images that are like the training images
LABELLED = (DIGITS, "noise added", "upside down")  # the images that have a right answer


class Softmax(nn.Layer):
    """A layer that converts scores to probabilities, for prediction only."""

    def record(self, x, again=None):
        return softmax(x), None


def images(seed):
    """Return images and labels for training, sets of test images by name, and the labels of the first set."""
    x, y = load_digits(return_X_y=True)
    x, rng = (x / 16).astype(np.float32), np.random.default_rng(seed)
    known = rng.permutation(np.flatnonzero(y < KNOWN))
    train, test = known[:LABELS], known[LABELS:]
    like = x[test]
    others = {
        DIGITS: like,
        "noise added": np.clip(like + 0.35 * rng.standard_normal(like.shape, np.float32), 0, 1),
        "upside down": like[:, ::-1].copy(),
        "shuffled pixels": rng.permuted(like, axis=1),
        "digits 8 and 9": x[y >= KNOWN],
        "plain noise": rng.random(like.shape, np.float32),
    }
    return x[train], y[train], others, y[test]


def trained(x, y, seed, epochs):
    """Return a network of two hidden layers, trained with dropout."""
    rng = np.random.default_rng(seed)
    network = nn.Sequential(
        [
            *(Dense(64, UNITS, rng), Relu(), nn.Dropout(P)),
            *(Dense(UNITS, UNITS, rng), Relu(), nn.Dropout(P)),
            Dense(UNITS, KNOWN, rng, gain=1.0),
        ],
        seed=seed,
    )
    optimizer = Adam(network)
    for _ in range(epochs):
        for chosen in batches(len(x), BATCH, rng):
            train_step(network, optimizer, x[chosen], y[chosen])
    return nn.Sequential({"network": network, "softmax": Softmax()})


def tried(network, others, labels, samples):
    """Return measurements per set of images, the entropies of many passes, and the probabilities of one and of many passes."""
    once = {name: network.eval().forward(x) for name, x in others.items()}
    many = {name: mc_predict(network, x, samples, reduce=Classification()) for name, x in others.items()}
    scores = {
        "one pass": {name: entropy(p) for name, p in once.items()},
        "many, entropy": {name: found.predictive_entropy for name, found in many.items()},
        "many, information": {name: found.mutual_information for name, found in many.items()},
    }
    rows = {}
    for name in others:
        row = rows[name] = {}
        if name in LABELLED:
            for how, p in (("one pass", once[name]), ("many", many[name].mean)):
                row[f"accuracy, {how}"] = float((p.argmax(axis=1) == labels).mean())
                row[f"ECE, {how}"] = calibration(p, labels).ece
        if name != DIGITS:
            row.update({f"AUROC, {how}": ood_auroc(each[DIGITS], each[name]) for how, each in scores.items()})
    return rows, scores["many, entropy"], {"one pass": once, "many passes": {name: found.mean for name, found in many.items()}}


def table(results, title, wanted):
    """Return a table of the measurements whose names begin with `wanted`: mean and standard deviation over the networks."""
    columns = list(dict.fromkeys(key for row in results[0].values() for key in row if key.startswith(wanted)))
    lines = Table("images", *(key.removeprefix("AUROC, ") for key in columns), title=title)
    for name in results[0]:
        cells = [[rows[name][key] for rows in results] for key in columns if key in results[0][name]]
        if cells:
            lines.add_row(name, *("{:.3f} ± {:.3f}".format(*mean_and_spread(values)) for values in cells))
    return lines


def conclusions(results):
    """Yield comparisons of many passes with one pass, network by network."""

    def of(name, key):
        return [rows[name][key] for rows in results]

    for name in LABELLED:
        verdict = compared(of(name, "ECE, many"), of(name, "ECE, one pass"), "networks")
        yield f"{name}: the calibration error of many passes is {verdict}"
    for name in results[0]:
        if name != DIGITS:
            one, many = of(name, "AUROC, one pass"), of(name, "AUROC, many, entropy")
            yield f"{name}: the AUROC of many passes is {compared(one, many, 'networks', ('larger', 'smaller'))}"


def draw(entropies, probabilities, labels, path):
    """Draw the entropies of all images, and the calibration of the probabilities under noise."""
    from matplotlib import pyplot

    figure, (left, *others) = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained", width_ratios=(1.6, 1, 1))
    plot_histograms({name: entropies[name] for name in entropies if name != "upside down"}, left)
    for ax, (how, p) in zip(others, probabilities.items(), strict=True):
        found = calibration(p["noise added"], labels, 10)
        found.plot(ax).set_title(f"noise added, {how}: ECE {found.ece:.3f}")
    save_figure(figure, path)


@click.command(help=__doc__.partition("\n\n")[0])
@click.option("--networks", type=click.IntRange(1), default=5, show_default=True)
@click.option("--epochs", type=click.IntRange(1), default=100, show_default=True)
@click.option("--samples", type=click.IntRange(1), default=100, show_default=True, help="The number of passes with dropout.")
@click.option("--short", is_flag=True, help="Two networks, few epochs and passes: only shows that the program works.")
@click.option("--figure", type=click.Path(path_type=Path), help="Draw the results of the last network to this file.")
def main(networks, epochs, samples, short, figure):
    networks, epochs, samples = (2, 3, 5) if short else (networks, epochs, samples)
    results = []
    with threadpool_limits(1, "blas"):
        for seed in track(range(networks), "networks", console=console, transient=True):
            x, y, others, labels = images(seed)
            rows, entropies, probabilities = tried(trained(x, y, seed, epochs), others, labels, samples)
            results.append(rows)
    console.print(f"{networks} networks; 'many' means {samples} passes with dropout")
    console.print(table(results, "accuracy, and calibration error (ECE)", ("accuracy", "ECE")))
    console.print(table(results, "AUROC: separation from the digits", ("AUROC",)))
    conclude(conclusions(results), short)
    if figure:
        draw(entropies, probabilities, labels, figure)


if __name__ == "__main__":
    main()
