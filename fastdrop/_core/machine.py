"""The machine's processors and caches."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["MOST_THREADS", "automatic_num_threads", "last_level_cache"]

MOST_THREADS = 4 * (os.cpu_count() or 1)  # more gain nothing, and OpenMP ends a process that cannot start them
DEFAULT_CACHE = 2**25  # bytes, for systems that do not report the size
CPU_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
CONTROL_GROUPS = Path("/sys/fs/cgroup")
OWN_CONTROL_GROUP = Path("/proc/self/cgroup")


def quota(text: str) -> float:
    """Return the processors that a line of cgroup's cpu.max allows: "max 100000", "150000 100000"."""
    allowed, _, period = text.partition(" ")
    return float("inf") if allowed == "max" else int(allowed) / int(period or 100_000)


def cgroup_quota() -> float:
    """Return the number of processors that the control groups of this process allow: the least of its own and its parents'.

    This reads version 2 of Linux control groups. Without a limit, the result is infinity.
    """
    least = float("inf")
    try:
        lines = OWN_CONTROL_GROUP.read_text().splitlines()
        own = next(line[3:] for line in lines if line.startswith("0::"))
        folder = CONTROL_GROUPS / own.lstrip("/")
        for group in [folder, *folder.parents]:
            if (group / "cpu.max").is_file():
                least = min(least, quota((group / "cpu.max").read_text().strip()))
            if group == CONTROL_GROUPS:
                break
    except (OSError, StopIteration, ValueError):
        pass
    return least


def automatic_num_threads() -> int:
    """Return the number of processors that this process may use: the lesser of its affinity and its control groups' quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, int(min(cpus, cgroup_quota())))


def last_level_cache() -> int:
    """Return the size in bytes of the largest cache that one core can use."""
    sizes = []
    for entry in CPU_CACHES.glob("index*/size"):
        text = entry.read_text().strip()
        if text.endswith("K"):
            sizes.append(1024 * int(text[:-1]))
    return max(sizes, default=DEFAULT_CACHE)
