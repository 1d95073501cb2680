"""Describe the environment of a measurement: machine, build, versions, settings."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from pathlib import Path
from typing import Any

import fastdrop
from fastdrop._core import machine, native

from .contenders import adapters

__all__ = ["describe", "processor"]


def describe(threads: int, isa: str | None) -> dict[str, Any]:
    """Return the description of the environment for a record."""
    versions = {name: text for adapter in adapters() for name, text in adapter.versions().items()}
    versions.pop("scikit-learn", None)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": processor(),
        "processors": machine.automatic_num_threads(),
        "machine_processors": os.cpu_count(),
        "caches": caches(),
        "memory_bytes": memory(),
        "huge_pages": huge_pages(),
        "system": platform.platform(),
        "python": platform.python_version() + ("" if getattr(sys, "_is_gil_enabled", lambda: True)() else ", free-threaded"),
        "build": native.build(),
        "threading": native.threading(),
        "isa": isa or fastdrop.get_isa(),
        "isas": fastdrop.config()["isas"],
        "threads": threads,
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else [],
        "versions": versions,
    }


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def caches() -> dict[str, int]:
    """Return the size in bytes of each data cache of the first processor, smallest first."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind, level, size = ((folder / name).read_text().strip() for name in ("type", "level", "size"))
        if kind != "Instruction":
            found[f"L{level}"] = int(size[:-1]) * {"K": 2**10, "M": 2**20}[size[-1]]
    return found


def memory() -> int | None:
    """Return the bytes of memory that are available, or None if the system does not say."""
    found = machine.free_memory()
    return None if found == float("inf") else int(found)


def huge_pages() -> str | None:
    """Return the kernel's setting of transparent huge pages, which determines the cost of fresh memory."""
    path = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return path.read_text().partition("[")[2].partition("]")[0] if path.is_file() else None
