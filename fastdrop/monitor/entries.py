"""The entries of a monitor: samples of arrays, and the numbers of a pass."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdrop._core import plan
from fastdrop.nn._measures import replaced_share

__all__ = ["Entry", "Sample", "as_loss", "detached", "gradient_entry", "json_value", "look", "lost_share", "pass_entry"]

Entry = dict[str, Any]


class Sample(NamedTuple):
    """Evenly spaced elements of an array, and the size of the whole array."""

    size: int
    values: NDArray[Any]

    @property
    def norm(self) -> float | None:
        """The Euclidean norm of the whole array, estimated from the elements."""
        if not self.values.size:
            return None
        with np.errstate(all="ignore"):
            values = self.values.astype(np.float64)
            return math.sqrt(float(values @ values) * (self.size / values.size))


def look(array: Any, most: int) -> Sample:
    """Return copies of at most `most` evenly spaced elements, so that the array may be overwritten."""
    values = np.asarray(plan.to_array(detached(array), "array"))
    step = -(-values.size // most) or 1
    while step > 1 and math.gcd(step, values.size) > 1:  # so that the elements are not all at one place of an axis
        step += 1
    return Sample(values.size, values.reshape(-1)[::step].copy())


def detached(array: Any) -> Any:
    """Return a tensor of PyTorch as one that NumPy can read, also where it is part of a graph; another value as it is."""
    if not hasattr(array, "detach"):
        return array
    array = array.detach()
    return array.float() if str(array.dtype) == "torch.bfloat16" else array


def pass_entry(name: str, before: Sample, after: Sample, training: bool, rate: float | None, dropped: float | None) -> Entry:
    """Return the entry of a forward pass."""
    entry: Entry = {"kind": "layer", "layer": name, "training": bool(training), "size": before.size}
    entry |= {"rate": None if rate is None else float(rate), "dropped": dropped}
    with np.errstate(all="ignore"):
        for when, seen in (("before", before), ("after", after)):
            values = seen.values.astype(np.float64)
            entry[f"mean_{when}"] = values.mean() if values.size else None
            entry[f"variance_{when}"] = values.var() if values.size else None
        earlier, later = entry["variance_before"], entry["variance_after"]
        entry["variance_shift"] = earlier / later if later and earlier is not None else None
    return entry


def lost_share(before: Sample, after: Sample, replacement: Any) -> float | None:
    """Return the share of elements that are missing after, or that became `replacement`; None if the array grew."""
    if after.size == before.size:
        return replaced_share(before.values, after.values, replacement)
    return 1 - after.size / before.size if after.size < before.size else None


def gradient_entry(name: str, after: Sample, before: Sample) -> Entry:
    """Return the entry of a backward pass."""
    zeros = 1 - np.count_nonzero(before.values) / before.values.size if before.values.size else None
    norms = {"norm_after": after.norm, "norm_before": before.norm}
    return {"kind": "gradient", "layer": name, **norms, "zeros": zeros}


def as_loss(value: Any, name: str) -> float:
    """Return a loss, which may be the number of any library, NaN or infinite."""
    try:
        if isinstance(value, (bool, np.bool_, str, bytes, bytearray, memoryview)):
            raise ValueError  # float would read a number in it
        return float(detached(value))
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # RuntimeError: a tensor without data
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} must be a number, the loss; got {value!r} ({type(value).__name__})") from None


def json_value(value: Any) -> Any:
    """Return a number that JSON can represent; None for a number that is not finite."""
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value
