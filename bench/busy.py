"""How busy the machine was during a run: other processes, time taken by the host, and the spread of the copy's times."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from .records import Record

__all__ = ["Watch", "describe", "drift", "reasons"]

STAT = Path("/proc/stat")
LEAST = 65536  # elements; the copy of a smaller array is measured with its call
OTHERS, STEAL, DRIFT = 0.2, 0.02, 0.25  # a machine is busy above one of these

IDLE = slice(3, 5)  # columns of /proc/stat: idle, waiting for input and output
STOLEN = 7


class Watch:
    """Reads the processor times of the machine and of the benchmark's own processes; `pids` gives the running ones."""

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        self.pids, self.before = pids, ticks(pids())

    def line(self) -> dict[str, Any] | None:
        """Return what happened since the last call: seconds, processors that others kept busy, share of stolen time, load.

        None if the system does not say.
        """
        now = ticks(self.pids())
        if now is None or self.before is None:
            return None
        total, busy, stolen, own = (after - before for after, before in zip(now, self.before, strict=True))
        self.before = now
        if total <= 0:
            return None
        count = os.cpu_count() or 1
        seconds = total / count / os.sysconf("SC_CLK_TCK")
        others = max(0, busy - own) / total * count
        return {
            "kind": "busy",
            "seconds": round(seconds, 2),
            "others": round(others, 3),
            "steal": round(stolen / total, 4),
            "load": os.getloadavg()[0],
        }


def ticks(pids: Iterable[int]) -> tuple[int, int, int, int] | None:
    """Return the machine's ticks: all, busy and stolen ones; and those of some processes with their finished children."""
    try:
        columns = [int(text) for text in STAT.read_text().splitlines()[0].split()[1:9]]
        own = sum(process_ticks(pid) for pid in pids)
    except (OSError, ValueError, IndexError):
        return None
    total, stolen = sum(columns), columns[STOLEN]
    return total, total - sum(columns[IDLE]) - stolen, stolen, own


def process_ticks(pid: int) -> int:
    """Return the ticks of a process and of its finished children; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # the name before may contain spaces
    except FileNotFoundError:
        return 0
    return sum(map(int, fields[11:15]))


# Reading a record ------------------------------------------------------------------------------------------------------


def drift(record: Record) -> float | None:
    """Return the 90 % quantile of how far copies are from the median of the copies of an equal array during the whole run."""
    equal: dict[tuple[tuple[int, ...], str, bool], list[float]] = {}
    for (name, contender), processes in record.rounds.items():
        case = record.cases[name]
        if contender == "copy" and case.size >= LEAST and case.group != "threads":
            times = [value for rounds in processes.values() for value in rounds.values()]
            both = case.what == "backward"  # copies two arrays
            equal.setdefault((case.shape, case.dtype, both), []).extend(times)
    apart = [np.abs(np.array(times) / np.median(times) - 1) for times in equal.values() if len(times) > 2]
    return float(np.quantile(np.concatenate(apart), 0.9)) if apart else None


def means(record: Record) -> dict[str, float] | None:
    """Return the means of the lines of `Watch` over the run, or None if the record has none."""
    lines = record.of_kind("busy")
    seconds = sum(line["seconds"] for line in lines)
    if not seconds:
        return None
    return {name: sum(line[name] * line["seconds"] for line in lines) / seconds for name in ("others", "steal", "load")}


def reasons(record: Record) -> list[str] | None:
    """Return why the machine counts as busy: nothing if it was quiet, None if the record does not say."""
    found, apart = means(record), drift(record)
    if found is None:
        return None
    wrong = []
    if found["others"] > OTHERS:
        wrong.append(f"other processes kept {found['others']:.2f} processors busy (allowed: {OTHERS})")
    if found["steal"] > STEAL:
        wrong.append(f"the host took {found['steal']:.1%} of the time (allowed: {STEAL:.0%})")
    if apart is not None and apart > DRIFT:
        wrong.append(f"a tenth of the copies were more than {apart:.1%} from their median (allowed: {DRIFT:.0%})")
    return wrong


def describe(record: Record) -> str:
    """Return a sentence about the machine during the run."""
    found, apart = means(record), drift(record)
    copies = "" if apart is None else f" Nine of ten copies were within {apart:.1%} of their median (at most {DRIFT:.0%})."
    if found is None:
        return f"The record does not say how busy the machine was.{copies}"
    state = "busy" if reasons(record) else "quiet"
    return (
        f"The machine was {state}: other processes kept {found['others']:.2f} processors busy (quiet: at most {OTHERS}), "
        f"the host took {found['steal']:.1%} of the time (at most {STEAL:.0%}), and the load was {found['load']:.2f}.{copies}"
    )
