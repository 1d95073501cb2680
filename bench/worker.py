"""A process that measures: it reads one request per line from standard input and writes JSON lines to standard output.

Each process imports the libraries that its cases need and sets them to the agreed number of threads. The libraries' own output
goes to standard error.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import fastdrop
from fastdrop.verify.runner import Mismatch, every_engine

from .cases import Case
from .checks import check, equal_results
from .contender import Absent, Contender, Job
from .contenders import add_file, by_name, own
from .data import job_of
from .measure import Effort, Prepared, interleave
from .variants import BACKWARD, FORWARD

__all__ = ["THREAD_VARIABLES", "measure", "work"]

Emit = Callable[..., None]  # takes the kind of a message and its fields

THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS"),
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "PJRT_NPROC"),
)


OTHERS_PART = 16  # the first process checks every piece of a result, the other processes every 16th


@dataclass(frozen=True)
class Request:
    """A request to a worker: the case, its contenders, the time to measure, and the number of this process."""

    case: Case
    names: tuple[str, ...]
    effort: Effort
    process: int = 0
    threads: int = 1

    @classmethod
    def of(cls, text: str) -> Request:
        """Read the text that `as_json` wrote."""
        fields = json.loads(text)
        case, effort, names = Case.of(fields.pop("case")), Effort(**fields.pop("effort")), tuple(fields.pop("names"))
        return cls(case, names, effort, **fields)

    def as_json(self) -> str:
        """Return the request as a line of text."""
        fields = {"case": self.case.fields(), "names": self.names, "effort": self.effort.__dict__}
        return json.dumps(fields | {"process": self.process, "threads": self.threads})


def prepared_contenders(request: Request, job: Job, emit: Emit) -> Iterator[tuple[Contender, Prepared]]:
    """Yield each contender that can take part, with its prepared call; emit the reason for each one that cannot."""
    for name in request.names:
        contender, adapter = by_name()[name]
        if not contender.takes_part(request.case):
            continue
        try:
            if reason := adapter.missing():
                raise Absent(reason)
            emit("doing", contender=name, text=f"preparing {contender.label}")
            call = contender.does[request.case.what](job)
        except Absent as reason:
            emit("skipped", contender=name, why=str(reason))
        except Exception as error:  # a failing library must not stop the others
            emit("skipped", contender=name, why=f"fails: {reason_of(error)}")
        else:
            yield contender, Prepared(call, contender.using)


def reason_of(error: Exception) -> str:
    """Return the message of an exception in one line."""
    said = (str(error).splitlines() or [""])[0][:200]
    return said if isinstance(error, Mismatch) else f"{type(error).__name__}: {said}"


class Answers:
    """Checks results before anything is timed; fastdrop's own must have the bytes of the reference."""

    def __init__(self, job: Job, emit: Emit, process: int) -> None:
        self.job, self.emit = job, emit
        self.reference: Any = None
        self.wrong: Exception | None = None  # why there is no reference
        self.part = 1 if process == 0 else OTHERS_PART

    def checked_reference(self) -> Any:
        """Return the reference's result, after the check that every contender has to pass; raise the same error each time."""
        if self.wrong is None and self.reference is None:
            try:
                made = own.reference(self.job)
                check(own.REFERENCE, self.job, made, self.part)
                self.reference = made
            except Exception as error:
                self.wrong = error
        if self.wrong is not None:
            raise self.wrong
        return self.reference

    def check(self, contender: Contender, found: Any) -> None:
        """Raise Mismatch if a result is wrong; emit that it was checked."""
        self.emit("doing", contender=contender.name, text=f"checking {contender.label}")
        if not contender.exact:
            check(contender, self.job, found, self.part)
        elif not equal_results(found, self.checked_reference()):
            raise Mismatch("the bytes differ from those of the reference")
        self.emit("checked", contender=contender.name, exact=contender.exact)

    def check_engines(self, timed: list[Contender]) -> None:
        """Check every available backend and instruction set that is not timed."""
        done = {contender.name for contender in timed}
        for engine in every_engine():
            name = f"c-{engine.isa}" if engine.isa else engine.backend
            contender = by_name()[name][0]
            if name not in done and not engine.missing() and contender.takes_part(self.job.case):
                try:
                    with contender.using():
                        found = contender.does[self.job.case.what](self.job)()
                    self.check(contender, found)
                except Absent:
                    return
                except Exception as error:
                    self.emit("refused", contender=name, why=reason_of(error), own=True)


def measure(request: Request, emit: Emit) -> None:
    """Check and time the contenders of a case, and pass the results to `emit`."""
    try:
        job = job_of(request.case, request.threads, len(request.names))
    except Absent as reason:
        emit("skipped", contender=None, why=str(reason))
        return
    answers = Answers(job, emit, request.process)
    contenders: dict[str, Contender] = {}
    calls: dict[str, Prepared] = {}
    for contender, prepared in prepared_contenders(request, job, emit):
        contenders[contender.name] = contender
        calls[contender.name] = replace(prepared, check=partial(answers.check, contender))
    if any(contender.exact for contender in contenders.values()):
        with suppress(Exception):  # each comparison with it reports the error
            answers.checked_reference()  # now: later, it would overwrite the result that is compared with it
        if request.process == 0 and request.case.what not in (FORWARD, BACKWARD):  # of variants, on the small call
            answers.check_engines(list(contenders.values()))

    def refused(name: str, error: Exception) -> None:
        emit("refused", contender=name, why=reason_of(error), own=contenders[name].kind == "fastdrop")

    def begin() -> None:
        emit("doing", text="timing")

    baseline = next((name for name in contenders if contenders[name].kind == "yardstick"), None)
    if baseline is None:
        return
    for name, samples in interleave(calls, baseline, request.effort, request.process, refused, begin).items():
        seconds = [float(f"{value:.5g}") for value in samples.seconds]
        emit("samples", contender=name, rounds=samples.rounds, seconds=seconds, processors=round(samples.processors, 3))


def settle(threads: int, isa: str | None) -> None:
    """Set fastdrop's backend, threads and instruction set in this process; other libraries read the environment."""
    fastdrop.set_backend("c")
    fastdrop.set_num_threads(threads)
    if isa is not None:
        fastdrop.set_isa(isa)


def work() -> None:
    """Answer requests until there are no more.

    The arguments are the number of threads, the instruction set (empty for the best one), and files of contenders.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    settle(int(sys.argv[1]), sys.argv[2] or None)
    for path in sys.argv[3:]:
        add_file(Path(path))
    for line in sys.stdin:
        request = Request.of(line)

        def emit(kind: str, *, about: Request = request, **fields: Any) -> None:
            print(json.dumps({"kind": kind, "case": about.case.name, "process": about.process, **fields}), file=answers)

        try:
            measure(request, emit)
        except ImportError as error:
            emit("failed", why=str(error))
        gc.collect()  # libraries keep arrays in reference cycles; another process measures next
        emit("done")


if __name__ == "__main__":
    work()
