"""Run the benchmark: select cases and contenders, start the processes that measure them, and collect the record."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import fastdrop
from fastdrop._core import settings

from . import environment, memory
from .busy import Watch
from .cases import Case, Entry, matching, read
from .contenders import added_files, by_name
from .measure import Effort
from .records import Record
from .variants import VARIANT_CASES
from .worker import THREAD_VARIABLES, Request

__all__ = ["QUICK", "THOROUGH", "Mode", "Selection", "run", "select"]


VARIANTS_EFFORT = Effort(seconds=0.15, least_rounds=1, patience=3, most_rounds=21)


@dataclass(frozen=True)
class Mode:
    """How much to measure."""

    effort: Effort
    processes: int
    variants: Effort = VARIANTS_EFFORT  # of the rows of the table of variants, which one process measures

    def processes_for(self, case: Case) -> int:
        """Return the number of processes that measure a case."""
        return 1 if case.what in VARIANT_CASES else self.processes


QUICK = Mode(Effort(seconds=0.3, least_rounds=3, patience=4), processes=1)
THOROUGH = Mode(Effort(seconds=0.25, least_rounds=1, patience=8, most_rounds=41), processes=3)


# Selection ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Selection:
    """The entries to measure, with the requested contenders."""

    entries: tuple[Entry, ...]
    memory: bool = True  # whether to measure the memory that a call uses beyond its arrays

    @property
    def cases(self) -> list[Case]:
        """All cases, in order."""
        return [case for entry in self.entries for case in entry.cases]


def select(quick: bool, only: Sequence[str], added: Sequence[str] = ()) -> Selection:
    """Return the selection of cases and contenders.

    Parameters
    ----------
    quick : bool
        Select only the quick cases and contenders.
    only : sequence of str
        Patterns of cases, groups or contenders. If a pattern matches a case, only matching cases are kept; if one matches a
        contender, only matching contenders are kept. Yardsticks are always kept.
    added : sequence of str
        Contenders from files, which take part in every case that they can do.

    Raises
    ------
    ValueError
        A pattern matches nothing.
    """
    plan = read()
    entries = [entry for entry in plan.entries if entry.quick or not quick]
    every = {name for entry in plan.entries for case in entry.cases for name in names_of(case)}
    contenders = set(plan.quick) if quick else set(by_name())
    for pattern in only:
        if not matching([pattern], [*every, *by_name()]):
            raise ValueError(
                f"--only {pattern!r} matches no case, group or contender; groups are {', '.join(groups())}; contenders are "
                f"{', '.join(by_name())}"
            )
    if wanted := [pattern for pattern in only if matching([pattern], every)]:
        entries = [keep_cases(entry, wanted) for entry in (plan.entries if quick else entries)]
    if wanted := matching(only, by_name()):
        contenders = set(wanted)
    chosen = [keep_contenders(with_added(entry, added), contenders | set(added)) for entry in entries]
    return Selection(tuple(entry for entry in chosen if entry.cases), memory=not only and not quick)


def groups() -> list[str]:
    return list(dict.fromkeys(case.group for entry in read().entries for case in entry.cases))


def names_of(case: Case) -> tuple[str, ...]:
    """Return the names by which `--only` can select a case."""
    return case.name, case.entry, case.group


def keep_cases(entry: Entry, patterns: Sequence[str]) -> Entry:
    return replace(entry, cases=tuple(case for case in entry.cases if matching(patterns, names_of(case))))


def with_added(entry: Entry, added: Sequence[str]) -> Entry:
    """Return the entry with added contenders in the cases that they can do; parts and threads are for fastdrop alone."""

    def able(case: Case) -> tuple[str, ...]:
        alone = case.group in ("parts", "threads", "training")
        return () if alone else tuple(name for name in added if by_name()[name][0].takes_part(case))

    return replace(entry, cases=tuple(replace(case, contenders=(*case.contenders, *able(case))) for case in entry.cases))


def keep_contenders(entry: Entry, contenders: set[str]) -> Entry:
    """Return the entry with the requested contenders; leave out cases in which only yardsticks remain."""
    kept = []
    for case in entry.cases:
        names = tuple(name for name in case.contenders if name in contenders or by_name()[name][0].kind == "yardstick")
        if any(by_name()[name][0].kind != "yardstick" for name in names):
            kept.append(replace(case, contenders=names))
    return replace(entry, cases=tuple(kept))


# Processes that measure ---------------------------------------------------------------------------------------------


class Worker:
    """A process that runs `worker`; it starts with the first request."""

    def __init__(self, number: int, threads: int, isa: str | None, folder: str) -> None:
        self.number, self.threads, self.isa, self.folder = number, threads, isa, folder
        self.process: subprocess.Popen[str] | None = None

    def started(self) -> subprocess.Popen[str]:
        """Return the process, and start it if needed; the output of its libraries goes to a file in the folder."""
        if self.process is None:
            variables = {**dict.fromkeys(THREAD_VARIABLES, str(self.threads)), "TF_CPP_MIN_LOG_LEVEL": "3"}
            if self.threads == 1:
                variables["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
            with Path(self.folder, f"{self.number}.log").open("a") as log:
                self.process = subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        "fastdrop.bench.worker",
                        str(self.threads),
                        self.isa or "",
                        *map(str, added_files()),
                    ],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    cwd=self.folder,  # outside a checkout, where the package may not be built
                    env=os.environ | variables,
                )
        return self.process

    def ask(self, case: Case, effort: Effort) -> Iterator[dict[str, Any]]:
        """Yield the answers of the process; if it dies, yield a line that says so."""
        process = self.started()
        assert process.stdin is not None
        assert process.stdout is not None
        doing = None
        try:
            process.stdin.write(Request(case, case.contenders, effort, self.number, self.threads).as_json() + "\n")
            process.stdin.flush()
            for text in process.stdout:
                answer = json.loads(text)
                if answer["kind"] == "done":
                    return
                doing = answer.get("contender", doing)
                yield answer
        except BrokenPipeError:
            pass
        why = ended(process.wait())
        self.stop()
        yield {"kind": "died", "case": case.name, "contender": doing, "process": self.number, "why": why}

    def stop(self) -> None:
        """End the process, if there is one, and close its pipes."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def ended(code: int) -> str:
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


# The run ------------------------------------------------------------------------------------------------------------

Tell = Callable[[str, bool], None]  # receives a text about the current work, and whether a step begins
Show = Callable[[Record, Entry], None]  # receives each finished entry


def step_count(selection: Selection, mode: Mode) -> int:
    """Return the number of steps that `run` reports."""
    return sum(map(mode.processes_for, selection.cases)) + selection.memory


def run(
    selection: Selection,
    mode: Mode,
    *,
    threads: int = 1,
    isa: str | None = None,
    tell: Tell = lambda text, begins: None,
    show: Show = lambda record, entry: None,
) -> Record:
    """Measure the selection, and return the record.

    Parameters
    ----------
    selection : Selection
        The cases and contenders to measure.
    mode : Mode
        The time to spend and the number of processes.
    threads : int
        The number of threads for every library.
    isa : str, optional
        The instruction set of fastdrop's C kernels.
    tell, show : callable, optional
        `tell` receives the progress, `show` each finished entry.

    Raises
    ------
    ValueError, RuntimeError
        The number of threads or the instruction set is not available.
    ImportError
        scikit-learn is not installed.
    """
    with fastdrop.using(isa=isa, num_threads=threads):  # raises if one of them is not available
        record = Record()
        record.add({"kind": "environment", **environment.describe(settings.checked_num_threads(threads), isa)})
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fastdrop-bench-"))
        workers = [stack.enter_context(Worker(number, threads, isa, folder)) for number in range(mode.processes)]
        watch = Watch(lambda: [os.getpid(), *(worker.process.pid for worker in workers if worker.process)])
        for entry in selection.entries:
            for case in entry.cases:
                record.add({"kind": "case", **case.fields()})
                effort = mode.variants if case.what in VARIANT_CASES else mode.effort
                ask_all(workers[: mode.processes_for(case)], case, effort, record, tell)
            if (line := watch.line()) is not None:
                record.add(line)
            show(record, entry)
    if selection.memory:
        tell("memory of a forward and a backward pass", True)
        record.add({"kind": "memory", **memory.held(threads)})
    return record


def ask_all(workers: Sequence[Worker], case: Case, effort: Effort, record: Record, tell: Tell) -> None:
    """Measure a case in each process; a contender that kills one process is left out of the next ones."""
    for worker in workers:
        tell(case.name, True)
        for answer in worker.ask(case, effort):
            if answer["kind"] == "failed":
                raise ImportError(answer["why"])
            if answer["kind"] == "doing":
                tell(f"{case.name}: {answer['text']}", False)
            elif answer["kind"] == "died":
                record.add(answer)
                case = without(case, answer["contender"])
            elif not is_known(record, answer):
                record.add(answer)


def without(case: Case, contender: str | None) -> Case:
    return replace(case, contenders=tuple(name for name in case.contenders if name != contender))


def is_known(record: Record, answer: dict[str, Any]) -> bool:
    """Return whether another process already gave the same answer."""
    if answer["kind"] == "samples":
        return False
    same = {name: value for name, value in answer.items() if name != "process"}
    return any(same.items() <= line.items() for line in record.lines)
