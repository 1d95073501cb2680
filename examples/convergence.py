"""Measure the cost of each technique's convergence: epochs and seconds to a validation loss of 0.5 on scikit-learn's digits.

    python examples/convergence.py                                              # every technique, five folds: some minutes
    python examples/convergence.py --record bench/records/convergence.json      # ... for the benchmark's page
    python examples/convergence.py --short                                      # two folds, few epochs: seconds, no conclusions

The networks and the folds are those of digits_mlp.py. The example needs pip install ".[examples]".
"""

import datetime
import json
import statistics
import time
from pathlib import Path

import click
import numpy as np
from _digits import folds, predict, scored, steps_of, train_epochs
from _report import console
from digits_mlp import ROWS
from rich.progress import Progress
from rich.table import Table
from threadpoolctl import threadpool_limits

import fastdrop

LOSS = 0.5  # the validation loss to reach
Fold = dict  # "epochs" and "seconds" until the loss was reached, both None if it was not


def converge(row, fold, most: int) -> Fold:
    """Train until the validation loss is reached; the seconds are the processor's, and those of validation do not count."""
    model = row.make(np.random.default_rng(fold.seed), steps_of(most)).seed(fold.seed)
    images, labels = fold.validation
    seconds = 0.0
    for epoch, took in enumerate(train_epochs(model, fold, most, time.process_time), 1):
        seconds += took
        if scored(predict(model, images), labels)[0] <= LOSS:
            return {"epochs": epoch, "seconds": round(seconds, 4)}
    return {"epochs": None, "seconds": None}


def run(rows, number_of_folds: int, most: int) -> list[dict]:
    """Return one result per row, on one thread."""
    results = [{"network": row.network, "technique": row.name, "folds": []} for row in rows]
    with Progress(console=console, transient=True) as progress, threadpool_limits(1), fastdrop.using(num_threads=1):
        task = progress.add_task("", total=number_of_folds * len(rows))
        for fold in folds(number_of_folds):
            for row, result in zip(rows, results, strict=True):
                progress.update(task, description=f"fold {fold.number + 1}: {row.network}, {row.name}")
                result["folds"].append(converge(row, fold, most))
                progress.advance(task)
    return results


def table(results: list[dict]) -> Table:
    """Return a table: the folds that reached the loss, and the medians over them."""
    lines = Table("network", "dropout", "folds", "epochs", "seconds", title=f"to a validation loss of {LOSS}")
    for result in results:
        reached = [fold for fold in result["folds"] if fold["epochs"] is not None]
        epochs, seconds = ([fold[what] for fold in reached] for what in ("epochs", "seconds"))
        medians = (f"{statistics.median(epochs):g}", f"{statistics.median(seconds):.3f}") if reached else ("not reached", "")
        lines.add_row(result["network"], result["technique"], f"{len(reached)} of {len(result['folds'])}", *medians)
    return lines


@click.command(help=__doc__.partition("\n\n")[0])
@click.option("--folds", "number_of_folds", type=click.IntRange(1, 5), default=5, show_default=True)
@click.option("--epochs", "most", type=click.IntRange(1), default=120, show_default=True, help="The largest number of epochs.")
@click.option("--only", multiple=True, help="Only the techniques with this name. May be repeated.")
@click.option("--short", is_flag=True, help="Two folds, three epochs: only shows that the program works.")
@click.option("--record", type=click.Path(path_type=Path), help="Write the results to this file.")
def main(number_of_folds, most, only, short, record):
    if short:
        number_of_folds, most = 2, 3
    names = dict.fromkeys(row.name for row in ROWS if not row.samples)
    if unknown := sorted(set(only) - names.keys()):
        sentence = f"there is no technique {', '.join(unknown)}; the names are {', '.join(names)}"
        raise click.BadParameter(sentence, param_hint="--only")
    rows = [row for row in ROWS if row.name in (only or names) and not row.samples]
    results = run(rows, number_of_folds, most)
    console.print(table(results))
    if record:
        today = datetime.date.today().isoformat()
        lines = ",\n".join(json.dumps(result) for result in results)
        record.write_text(
            f'{{"date": "{today}", "loss": {LOSS}, "most": {most}, "results": [\n{lines}\n]}}\n', encoding="utf-8"
        )


if __name__ == "__main__":
    main()
