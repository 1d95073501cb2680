"""The commands: they convert arguments to calls of the library, and results to screens."""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.progress import TaskProgressColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

import fastdrop
from fastdrop._cli.raw import KINDS, Raw, pieces
from fastdrop._cli.screens import FAILURE, end, errors_in_one_line, progress_bar, replace_what_cannot_be_encoded, show, table
from fastdrop._cli.signals import stopping_cleanly
from fastdrop._core import settings
from fastdrop._core.types import Backend
from fastdrop.bench.command import bench
from fastdrop.npyfile import Applied, apply_file, leftovers, replacement
from fastdrop.verify.distributions import describe_others, find_others
from fastdrop.verify.long import long_checks
from fastdrop.verify.runner import Outcome, checks

__all__ = ["cli"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(fastdrop.__version__)
def cli() -> None:
    """Dropout for NumPy arrays: fast, and reproducible to the bit."""


# Arguments ----------------------------------------------------------------------------------------------------------


def finite(ctx: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Refuse NaN, which compares as neither outside nor inside a range, and infinity."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number")
    return value


def integer(text: str) -> int:
    """Read an integer, decimal or with the prefix 0x, 0o or 0b."""
    try:
        return int(text, 0)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not an integer") from None


SEED = click.option(
    "--seed",
    type=integer,
    metavar="INTEGER",
    required=True,
    help="The seed, in [0, 2**64), decimal or 0x...: the same seed gives the same mask.",
)
OFFSET = click.option(
    "--offset",
    type=integer,
    metavar="INTEGER",
    default="0",
    show_default=True,
    help="The number of the mask under the seed, in [0, 2**64).",
)
BACKEND = click.option("--backend", type=click.Choice(list(settings.BACKENDS)), help="The backend; all give the same bytes.")
THREADS = click.option("--threads", type=int, help="The largest number of threads; the result does not depend on it.")


# apply --------------------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("source", metavar="IN.npy", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", metavar="OUT.npy", type=click.Path(dir_okay=False, path_type=Path))
@click.option("-p", "--p", type=float, required=True, help="The probability of dropping an element, in [0, 1].")
@SEED
@OFFSET
@BACKEND
@THREADS
def apply(source: Path, target: Path, p: float, seed: int, offset: int, backend: Backend | None, threads: int | None) -> None:
    """Apply dropout to a file.

    Drops elements of the array in IN.npy, scales the others by 1 / (1 - p), and writes OUT.npy. The files may be larger than
    memory, and may be the same file. OUT.npy appears when the result is complete.
    """
    bar = progress_bar(TaskProgressColumn(), TimeRemainingColumn())
    with stopping_cleanly(writes=True), errors_in_one_line(), fastdrop.using(backend=backend, num_threads=threads), bar:
        task = bar.add_task(target.name)
        applied = apply_file(
            source,
            target,
            p,
            seed=seed,
            offset=offset,
            progress=lambda n, size: bar.update(task, completed=n, total=size),
        )
    show_applied(target, applied)
    show_leftovers(target)


def show_leftovers(target: Path) -> None:
    """Name the unfinished files beside `target` of runs that were killed."""
    for path, size in leftovers(target):
        click.echo(f"Note: a run that was killed has left {path} ({size:,} bytes), which can be removed", err=True)


def show_applied(target: Path, applied: Applied) -> None:
    gigabytes, size = applied.nbytes / 1e9, applied.size
    share = f"{applied.dropped / size:.4%} ({applied.dropped:,} of {size:,})" if size else "nothing: the array is empty"
    replace_what_cannot_be_encoded()
    click.echo(target)
    click.echo(f"  shape    {applied.shape}, {applied.dtype}")
    click.echo(f"  dropped  {share}")
    click.echo(f"  time     {applied.seconds:.2f} s, {gigabytes / applied.seconds:.2f} GB/s")
    click.echo(f"  SHA-256  {applied.sha256}")


# stream -------------------------------------------------------------------------------------------------------------


def for_kinds(*kinds: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return a callback that refuses an option without effect on the chosen kind of data, which is read before."""

    def check(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
        given = ctx.get_parameter_source(parameter.name or "") is not ParameterSource.DEFAULT
        if given and ctx.params.get("kind", kinds[0]) not in kinds:
            raise click.UsageError(f"{parameter.opts[0]} is for --kind {' and '.join(kinds)}; got --kind {ctx.params['kind']}")
        return value

    return check


def number_or_unlimited(text: str) -> int | None:
    """Read a number of elements; None means all elements of the stream."""
    return None if text == "unlimited" else integer(text)


@cli.command()
@click.option("--kind", type=click.Choice(list(KINDS)), required=True, is_eager=True, help="The kind of data to write.")
@SEED
@OFFSET
@click.option(
    "-p",
    "--p",
    "p",
    type=float,
    default=0.5,
    show_default=True,
    callback=for_kinds("mask", "packed"),
    help="The probability of dropping, for mask and packed.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float64"]),
    default="float32",
    show_default=True,
    callback=for_kinds("normal"),
    help="The dtype, for normal.",
)
@click.option(
    "--count", type=number_or_unlimited, metavar="INTEGER|unlimited", required=True, help="The number of elements to write."
)
@click.option(
    "--out", "target", type=click.Path(dir_okay=False, path_type=Path), help="The file to write, instead of standard output."
)
@BACKEND
@THREADS
def stream(
    kind: str,
    seed: int,
    offset: int,
    p: float,
    dtype: str,
    count: int | None,
    target: Path | None,
    backend: Backend | None,
    threads: int | None,
) -> None:
    """Write the raw bytes of a stream, for test batteries.

    words: 32-bit words. mask: one byte per element, 1 if the element is kept. packed: one bit per element, the first in the
    least significant bit. normal: standard normal numbers. The bytes are little-endian, and hold what fastdrop.words,
    fastdrop.dropout_mask and fastdrop.normal return from index 0 on. The command needs little memory, whatever the count.
    """
    using = partial(fastdrop.using, backend=backend, num_threads=threads)
    with errors_in_one_line(), using():
        made = pieces(Raw(kind, seed, offset, p, dtype), count)
        if target is not None:
            with stopping_cleanly(writes=True), replacement(target) as file:
                file.writelines(made)
            show_leftovers(target)
            return
        if sys.stdout is None:
            raise OSError("standard output is closed")
    with using():
        for piece in made:
            sys.stdout.buffer.write(piece)  # a closed pipe ends this command as it ends the others
        sys.stdout.buffer.flush()  # here, where main catches its error


# verify -------------------------------------------------------------------------------------------------------------


@cli.command()
@click.option("--long", "is_long", is_flag=True, help="Check random cases, large arrays and statistics too.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    callback=finite,
    help="The time limit, with --long.  [default: 60]",
)
@click.option("--seed", type=integer, metavar="INTEGER", help="The seed of the random cases, with --long.  [default: fresh]")
@click.pass_context
def verify(ctx: click.Context, is_long: bool, minutes: float | None, seed: int | None) -> None:
    """Check the kernels on this machine.

    Every backend and instruction set that runs here must give the known answers and the same bytes, with any number of threads
    and with any floating-point settings of the caller. The exit code is 0 if they do, else 1.
    """
    if not is_long and (minutes, seed) != (None, None):
        raise click.UsageError("--minutes and --seed need --long")
    with errors_in_one_line():
        key = fastdrop.Key(seed)
    began = time.perf_counter()
    outcomes = []
    # While a kernel hangs, no handler of Python runs. So SIGTERM and SIGHUP keep their own, which end the process.
    with stopping_cleanly(numbers=[signal.SIGINT]), errors_in_one_line(), progress_bar(TimeElapsedColumn()) as bar:
        task = bar.add_task("checking", total=1 if is_long else None)

        def progress(share: float, what: str) -> None:
            bar.update(task, completed=share, description=what)

        for outcome in long_checks(minutes or 60, key.seed, progress) if is_long else checks():
            outcomes.append(outcome)
            bar.update(task, description=f"checked {outcome.engine}, {outcome.check}")
    failed = show_outcomes(outcomes, time.perf_counter() - began)
    if is_long:
        show(f"the random cases are those of --seed {key.seed}")
    ctx.exit(FAILURE if failed else 0)


VERDICTS = {True: ("ok", "green"), False: ("FAILED", "bold red"), None: ("skipped", "dim")}


def show_outcomes(outcomes: list[Outcome], seconds: float) -> list[Outcome]:
    rows = table("engine", "check", "result", "ms", "about", right=["ms"])
    for outcome in outcomes:
        detail = "see below" if outcome.passed is False else outcome.detail
        verdict = Text(*VERDICTS[outcome.passed])
        rows.add_row(outcome.engine, outcome.check, verdict, f"{outcome.seconds * 1e3:.1f}", detail)
    failed = [outcome for outcome in outcomes if outcome.passed is False]
    ran = sum(outcome.passed is not None for outcome in outcomes)
    show(rows, "")
    for outcome in failed:
        show(Text(f"FAILED {outcome.engine}, {outcome.check}: {outcome.detail}", "red"))
    show(f"{len(failed)} of {ran} checks failed" if failed else f"all {ran} checks passed in {seconds:.2f} s")
    return failed


# info ---------------------------------------------------------------------------------------------------------------


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def info(as_json: bool) -> None:
    """Show the settings, this build and this machine."""
    with errors_in_one_line():
        found = fastdrop.config()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    rows = table("setting", "value", "set in the environment by")
    for name, value in found.items():
        rows.add_row(name, as_text(name, value), settings.VARIABLES.get(name, ""))
    show(rows)
    if names := find_others():
        show(Text(describe_others(names), "red"))


def as_text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if name.endswith("bytes") else str(value)


# torch-build --------------------------------------------------------------------------------------------------------


@cli.command("torch-build")
@click.option("--force", is_flag=True, help="Compile again, even if the operator is there.")
def torch_build(force: bool) -> None:
    """Compile the native operator for PyTorch.

    With it, eager calls of fastdrop.torch go through C++, which makes calls on small tensors faster. Compiling needs a C++
    compiler and takes about a minute. The operator stays in the user's cache and is used until fastdrop, PyTorch or Python is
    upgraded.
    """
    with stopping_cleanly(), errors_in_one_line():
        import fastdrop.torch

        try:
            click.echo(fastdrop.torch.build(force=force))
        except RuntimeError as error:
            end(str(error), FAILURE)


# bench --------------------------------------------------------------------------------------------------------------

cli.add_command(bench)
