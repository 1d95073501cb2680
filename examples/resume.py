"""A training run that is killed and resumed ends with the same bytes as a run that was not killed.

    python examples/resume.py                # kills, resumes and compares, with every backend: about a minute
    python examples/resume.py train --checkpoint run.npz     # one run: kill it, start it again, and it continues

Everything that fastdrop computes, including the exponentials of the softmax, is the same to the bit for every backend and
number of threads. The matrix products come from NumPy's BLAS; their last bits may depend on the BLAS, the processor and the
number of threads. Each run here therefore gives the BLAS one thread; the table shows fastdrop's threads.
"""

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from _network import Adam, Dense, Relu, train_step
from _report import console
from rich.progress import Progress
from rich.table import Table
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

import fastdrop
from fastdrop import nn, schedules

SEED, STEPS, KILLED_AT, EVERY = 42, 200, 117, 10
BATCH, UNITS = 128, 512  # 65,536 activations per layer

# Training -----------------------------------------------------------------------------------------------------------


def network(seed: int, steps: int) -> nn.Sequential:
    """Return a network with a scheduled rate, one that remembers losses, and dropped weights."""
    rng = np.random.default_rng(seed)
    return nn.Sequential(
        {
            "first": Dense(64, UNITS, rng),
            "relu": Relu(),
            "drop": nn.Dropout(schedules.Curriculum(0.5, 10 / steps)),
            "second": Dense(UNITS, UNITS, rng, drop=nn.WeightDrop(0.2)),
            "relu2": Relu(),
            "drop2": nn.Dropout(schedules.ValidationDriven(0.3, target=0.1, tolerance=0.01)),
            "last": Dense(UNITS, 10, rng, gain=1.0),
        },
        seed=seed,
    )


def save(path: Path, **parts) -> None:
    """Write the state of all parts to a file; at any time the file is either the complete old one or the complete new one."""
    entries = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    unfinished = path.with_suffix(".tmp.npz")
    np.savez(unfinished, **entries)
    os.replace(unfinished, path)


def load(path: Path, **parts) -> None:
    """Restore the state of each part from a file."""
    with np.load(path, allow_pickle=False) as entries:
        for name, part in parts.items():
            part.load_state_dict({key.removeprefix(f"{name}."): entries[key] for key in entries if key.startswith(f"{name}.")})


def digest(model: nn.Layer) -> str:
    """Return the SHA-256 of all weights."""
    total = hashlib.sha256()
    for name, value in sorted(model.parameters.items()):
        total.update(name.encode() + value.tobytes())
    return total.hexdigest()


def training(checkpoint: Path, steps: int):
    """Train, starting from the checkpoint if there is one; yield the number of each step, then the digest of the weights."""
    x, labels = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    model = network(SEED, steps)
    optimizer = Adam(model)
    if checkpoint.exists():
        load(checkpoint, model=model, optimizer=optimizer)
    while optimizer.steps < steps:
        chosen = np.random.default_rng([SEED, optimizer.steps]).integers(0, len(x), BATCH)  # a function of the step: no state
        loss = train_step(model, optimizer, x[chosen], labels[chosen])
        model.children["drop2"].p.update(0.0, loss)
        if optimizer.steps % EVERY == 0:
            save(checkpoint, model=model, optimizer=optimizer)
        yield str(optimizer.steps)
    yield digest(model)


# Killing and resuming -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """The settings of a run, and the step after which it is killed, or None."""

    backend: str
    num_threads: int
    killed_at: int | None


def cases(steps: int, short: bool) -> list[Case]:
    """Return the runs to compare; the first one is not killed."""
    killed_at = KILLED_AT * steps // STEPS
    others = [("c", 2), ("numpy", 1)]
    if not short:
        others += [("c", 1)] + [("numba", 1)] * (importlib.util.find_spec("numba") is not None)
    return [Case("c", 1, None)] + [Case(backend, threads, killed_at) for backend, threads in others]


def run(case: Case, steps: int, folder: Path, advance) -> str:
    """Train in separate processes, the first of which may be killed, and return the digest."""
    checkpoint = folder / f"{case.backend}-{case.num_threads}-{case.killed_at}.npz"
    command = [sys.executable, __file__, "train", "--checkpoint", str(checkpoint), "--steps", str(steps)]
    command += ["--backend", case.backend, "--num-threads", str(case.num_threads)]
    done = 0
    for killed_at in [case.killed_at, None] if case.killed_at else [None]:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in map(str.strip, process.stdout):
                if not line.isdigit():
                    return line
                advance(max(0, int(line) - done))
                done = max(done, int(line))
                if killed_at and done >= killed_at:
                    process.kill()  # SIGKILL: the process cannot clean up
                    break
    raise click.ClickException(f"this run ended without a result: {' '.join(command)}")


def outcome(case: Case, found: str, wanted: str) -> tuple[str, ...]:
    history = f"after step {case.killed_at}" if case.killed_at else "no"
    return case.backend, str(case.num_threads), history, found[:16], "yes" if found == wanted else "NO"


@click.group(invoke_without_command=True, help=__doc__.partition("\n\n")[0])
@click.option("--steps", type=click.IntRange(20), default=STEPS, show_default=True)
@click.option("--short", is_flag=True, help="A few steps and cases: only shows that the program works.")
@click.pass_context
def main(context, steps, short):
    if context.invoked_subcommand:
        return
    steps = 30 if short else steps
    results = Table("backend", "threads", "killed", "SHA-256 of the weights", "same", title=f"after {steps} steps")
    found = []
    with tempfile.TemporaryDirectory() as folder, Progress(console=console, transient=True) as progress:
        for case in cases(steps, short):
            task = progress.add_task(f"{case.backend}, {case.num_threads}", total=steps)
            found.append(run(case, steps, Path(folder), lambda n, task=task: progress.advance(task, n)))
            results.add_row(*outcome(case, found[-1], found[0]))
    console.print(results)
    if len(set(found)) > 1:
        raise click.ClickException("the weights differ")
    console.print("all have the same weights, to the byte")


@main.command()
@click.option("--checkpoint", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--steps", type=click.IntRange(1), default=STEPS, show_default=True)
@click.option("--backend", default="c", show_default=True)
@click.option("--num-threads", type=click.IntRange(1), default=1, show_default=True)
def train(checkpoint, steps, backend, num_threads):
    """Train, starting from the checkpoint if there is one; print each step, then the digest of the weights."""
    with fastdrop.using(backend=backend, num_threads=num_threads), threadpool_limits(1, "blas"):
        for line in training(checkpoint, steps):
            click.echo(line)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
