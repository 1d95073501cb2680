"""The machine's processors, caches and memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["MOST_THREADS", "automatic_num_threads", "free_memory", "last_level_cache"]

MOST_THREADS = 4 * (os.cpu_count() or 1)  # more gain nothing
DEFAULT_CACHE = 2**25  # bytes, for systems that do not report the size
CPU_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
CONTROL_GROUPS = Path("/sys/fs/cgroup")
OWN_CONTROL_GROUP = Path("/proc/self/cgroup")
MEMORY = Path("/proc/meminfo")


def quota(text: str) -> float:
    """Return the processors that a line of cgroup's cpu.max allows: "max 100000", "150000 100000"."""
    allowed, _, period = text.partition(" ")
    return float("inf") if allowed == "max" else int(allowed) / int(period or 100_000)


def control_groups() -> Iterator[Path]:
    """Yield the folders of this process's control groups, its own first and then its parents'.

    They are those of version 2 of Linux control groups; there may be none.
    """
    try:
        lines = OWN_CONTROL_GROUP.read_text().splitlines()
        own = next(line[3:] for line in lines if line.startswith("0::"))
    except (OSError, StopIteration, ValueError):  # a name may have bytes that are no text
        return
    folder = CONTROL_GROUPS / own.lstrip("/")
    for group in [folder, *folder.parents]:
        yield group
        if group == CONTROL_GROUPS:
            break


def cgroup_quota() -> float:
    """Return the number of processors that the control groups allow: the least of all. Without a limit, it is infinity."""
    least = float("inf")
    for group in control_groups():
        with suppress(OSError, ValueError):
            least = min(least, quota((group / "cpu.max").read_text().strip()))
    return least


def free_memory() -> float:
    """Return the bytes of memory that this process can take without swapping; infinity if the system does not say.

    In a container, the system's free memory is the host's, so the control groups' limits count too.
    """
    least = float("inf")
    with suppress(OSError, StopIteration, ValueError):
        lines = MEMORY.read_text().splitlines()
        least = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    for group in control_groups():
        with suppress(OSError, ValueError):  # "max" is no limit
            limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
            least = min(least, max(0, limit - used + cached_files(group)))
    return least


def cached_files(group: Path) -> int:
    """Return the bytes of files that a control group holds in memory, and that the kernel drops if memory is needed."""
    with suppress(OSError, StopIteration, ValueError):
        lines = (group / "memory.stat").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    return 0


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
