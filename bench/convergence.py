"""The cost of each technique's convergence: the record of ``examples/convergence.py``, shown beside the times."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["FILE", "Technique", "read", "techniques"]

FILE = Path(__file__).with_name("records") / "convergence.json"


@dataclass(frozen=True)
class Technique:
    """A technique in a network: the folds that reached the loss, and the medians over them."""

    network: str
    name: str
    reached: int
    folds: int
    epochs: float | None
    seconds: float | None  # of a processor


def read(path: Path = FILE) -> dict[str, Any] | None:
    """Return the record, or None if this installation has none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def techniques(record: dict[str, Any]) -> Iterator[Technique]:
    """Yield the techniques of a record."""
    for result in record["results"]:
        reached = [fold for fold in result["folds"] if fold["epochs"] is not None]
        epochs, seconds = (median(fold[what] for fold in reached) if reached else None for what in ("epochs", "seconds"))
        yield Technique(result["network"], result["technique"], len(reached), len(result["folds"]), epochs, seconds)
