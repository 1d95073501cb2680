"""Check a contender's result before it is timed: the share of dropped elements and each kept value must be right.

fastdrop's own results must also have the bytes of the reference.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastdrop.verify.cases import equal_bytes
from fastdrop.verify.runner import Mismatch

from .contender import Array, Contender, Job
from .contenders import own
from .variants import BACKWARD, CALL, FORWARD, is_random

__all__ = ["check", "equal_results"]

PIECE = 2**18  # elements checked at a time, so that they stay in the caches
SIGMAS = 7  # a correct result is refused once in 10**11 times
ROUNDING = {"float64": 1e-14, "float32": 1e-6, "float16": 4e-3, "bfloat16": 3e-2}
SMALLEST = {"float16": 2.0**-24}  # the absolute rounding error of subnormals; the other types have none at the data's size


def check(contender: Contender, job: Job, found: Any, part: int = 1) -> None:
    """Raise Mismatch if a result is wrong for the case; for plain dropout, check only every `part`-th piece."""
    what = job.case.what
    if contender.kind == "yardstick":
        return  # a copy or a product by NumPy
    if what in ("perceptron step", "encoder step"):
        require(math.isfinite(found), f"the loss is {found}")
    elif what == "call" and contender.name == own.EVALUATION:
        require(equal_results(shaped(contender.read(found), job), job.x), "a call outside training changes an element")
    elif what in ("dropout", "call"):
        require_dropout(job, shaped(contender.read(found), job), part)
    elif what == "backward":
        require_both_ways(job, *(shaped(part, job) for part in contender.read(found)))
    elif what in ("mask", "packed mask"):
        require_mask(job, np.asarray(contender.read(found)).reshape(-1))
    elif what in ("gaussian", "concrete"):
        require_noise(job, shaped(contender.read(found), job))
    elif what == BACKWARD and contender.exact:  # a backward pass alone, whose results are the gradients
        require_distribution(job, found, first=1)
    elif what in (FORWARD, BACKWARD):
        require_distribution(job, contender.read(found))
    elif what not in ("words", CALL):
        raise KeyError(what)


def equal_results(one: Any, other: Any) -> bool:
    """Return whether two results have the same bytes; a result may be several arrays."""
    if isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)):
        return len(one) == len(other) and all(map(equal_results, one, other))
    if isinstance(one, (tuple, list)) or isinstance(other, (tuple, list)):
        return False
    if one is None or other is None:
        return one is other
    a, b = np.asarray(one), np.asarray(other)
    if a.dtype == b.dtype and a.shape == b.shape and np.array_equal(bits(a), bits(b)):
        return True  # the usual case; this test is fast
    return equal_bytes(a, b)


def bits(array: Array) -> Array:
    return np.ascontiguousarray(array).view(f"u{array.itemsize}")


def require(holds: bool, text: str) -> None:
    if not holds:
        raise Mismatch(text)


def shaped(found: Any, job: Job) -> Array:
    array = np.asarray(found)
    require(array.shape == job.x.shape, f"the result has shape {array.shape} instead of {job.x.shape}")
    require(array.dtype == job.x.dtype, f"the result has dtype {array.dtype} instead of {job.x.dtype}")
    return array


def require_share(dropped: int, expected: float, variance: float, of: int) -> None:
    """Check the number of dropped elements against its expectation."""
    require(
        abs(dropped - expected) <= SIGMAS * math.sqrt(variance) + 1e-6 * of,
        f"{dropped / of:.4%} of the elements are dropped instead of {expected / of:.4%}",
    )


class Tally:
    """Counts of dropped, wrong and decisive elements over the pieces of a result."""

    def __init__(self) -> None:
        self.wrong = self.dropped = self.decisive = 0
        self.expected = self.variance = 0.0

    def add(self, dropped: Array, kept: Array, decisive: Array, p: Any) -> None:
        """Add a piece.

        `dropped` and `kept` flag the elements that look so, `decisive` those where the two can be told apart; `p` is one rate
        or an array of rates.
        """
        n = int(np.count_nonzero(decisive))
        self.wrong += dropped.size - int(np.count_nonzero(dropped | kept))
        self.dropped += int(np.count_nonzero(dropped & decisive))
        self.decisive += n
        rates = p[decisive].astype(np.float64) if isinstance(p, np.ndarray) else np.float64(p)
        self.expected += float(rates.sum()) if rates.ndim else n * float(rates)
        self.variance += float((rates * (1 - rates)).sum()) * (1 if rates.ndim else n)


def pieces(job: Job, y: Array, part: int) -> Iterator[tuple[Array, Array, Any, Any]]:
    """Yield the values (x + bias) / (1 - p), the results, the rates and the residual of every `part`-th piece of the arrays."""
    rows = job.x.shape[-1] if job.bias is not None else 1
    piece = max(1, PIECE // rows) * rows
    kind = np.float64 if job.x.dtype == np.float64 else np.float32
    for begin in range(0, job.x.size, piece * part):
        here = slice(begin, begin + piece)
        x, found = (array.reshape(-1)[here].astype(kind, copy=False) for array in (job.x, y))
        p = job.p.reshape(-1)[here] if isinstance(job.p, np.ndarray) else job.p
        if job.bias is not None:
            x = (x.reshape(-1, rows) + job.bias.astype(kind)).reshape(-1)
        residual = kind(0) if job.residual is None else job.residual.reshape(-1)[here].astype(kind, copy=False)
        keep: Any = 1 - np.asarray(p, kind)
        yield x / keep, found, p, residual


def require_dropout(job: Job, y: Array, part: int) -> None:
    """Check that each element is the residual plus the scaled (x + bias) or plus 0, and check the number of dropped ones."""
    tally, rounding, smallest = Tally(), ROUNDING[job.x.dtype.name], SMALLEST.get(job.x.dtype.name, 0)
    for value, found, p, residual in pieces(job, y, part):
        allowed = rounding * (np.abs(value) + np.abs(residual)) + smallest
        dropped = np.abs(found - residual) <= allowed if job.residual is not None else found == 0
        tally.add(dropped, np.abs(found - residual - value) <= allowed, np.abs(value) > 4 * allowed, p)
    require(not tally.wrong, f"{tally.wrong} elements are neither dropped nor scaled by 1 / (1 - p)")
    together = job.x.size / math.prod(job.mask_shape)  # elements per decision
    require_share(tally.dropped, tally.expected, tally.variance * together, tally.decisive)
    if job.case.noise_shape:
        require_shared(job, y)


def require_shared(job: Job, y: Array) -> None:
    """Check that elements which share a decision are dropped together."""
    axes = tuple(k for k, n in enumerate(job.mask_shape) if n == 1)
    for k in range(len(y)):  # one sample at a time
        alive, zero = job.x[k : k + 1] != 0, y[k : k + 1] == 0
        some = (alive & zero).any(axes, keepdims=True) & (alive & ~zero).any(axes, keepdims=True)
        require(not some.any(), "some elements that share a decision are dropped and others are kept")


def require_both_ways(job: Job, y: Array, dx: Array) -> None:
    require_dropout(job, y, 1)
    alive = (job.x != 0) & (job.gradients[0] != 0)
    require(bool(((y != 0) == (dx != 0))[alive].all()), "the gradient's mask differs from the mask of the forward pass")


def require_mask(job: Job, found: Array) -> None:
    """Check keep flags, or keep bits if the case has packed masks."""
    n = job.x.size
    if job.case.what == "packed mask":
        ones_of = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1)
        kept = int((np.bincount(found, minlength=256) * ones_of).sum())
        require(found.size == (n + 7) // 8, f"the mask has {found.size} bytes instead of {(n + 7) // 8}")
    else:
        require(
            found.size == n and int(found.max()) <= 1 and int(found.min()) >= 0,
            "some flags are neither 0 nor 1, or the number of flags is wrong",
        )
        kept = int(np.count_nonzero(found))
    require_share(n - kept, n * job.p, n * job.p * (1 - job.p), n)


def require_noise(job: Job, y: Array) -> None:
    """Check the noise factors: for Gaussian noise their mean and variance, for a concrete mask their range and rate."""
    alive = job.x != 0
    factors = y[alive].astype(np.float64) / job.x[alive]
    n, variance = factors.size, job.p / (1 - job.p)
    if job.case.what == "concrete":  # a factor is nearer to 0 than to 1 / (1 - p) with probability p
        most = 1 / (1 - job.p)
        require(bool(((factors >= 0) & (factors <= most * (1 + 1e-5))).all()), "some factors lie outside [0, 1 / (1 - p)]")
        require_share(int(np.count_nonzero(factors < most / 2)), n * job.p, n * job.p * (1 - job.p), n)
        return
    require(
        abs(factors.mean() - 1) <= SIGMAS * math.sqrt(variance / n),
        f"the factors' mean is {factors.mean():.5f} instead of 1",
    )
    spread = SIGMAS * variance * math.sqrt(2 / n) + 1e-5
    require(abs(factors.var() - variance) <= spread, f"the factors' variance is {factors.var():.5f} instead of {variance:.5f}")


# Variants ---------------------------------------------------------------------------------------------------------------

RUNS = 12  # of fastdrop, with other offsets
DEVIATIONS = 12  # Student's t with 11 degrees of freedom exceeds 12 once in 10**7 times
LARGEST = 10
DRIFT = 2e-3  # the relative error that a formula in float32 may have


def require_distribution(job: Job, found: Any, first: int = 0) -> None:
    """Check that a variant's results have the moments that fastdrop's have; of (result, gradient), `first` names the first."""
    wanted = list(zip(inputs(job), expected_moments(job), strict=False))[first:]
    for k, (part, (of, expected)) in enumerate(zip(several(found), wanted, strict=False), first):
        own, other = np.asarray(expected.like), np.asarray(part)
        require(own.shape == other.shape, f"the result has shape {other.shape} instead of {own.shape}")
        center, spread = expected.values.mean(axis=0), expected.values.std(axis=0, ddof=1)
        apart = np.abs(moments(other, of) - center)
        far = apart > DEVIATIONS * spread * math.sqrt(1 + 1 / RUNS) + DRIFT * np.abs(center) + 1e-6
        names = ", ".join(name for name, wrong in zip(moment_names(own), far, strict=True) if wrong)
        require(not far.any(), f"{names} of the {'gradient' if k else 'result'} differ from those of fastdrop")


def several(found: Any) -> tuple[Any, ...]:
    return found if isinstance(found, tuple) else (found,)


def inputs(job: Job) -> tuple[Any, Any]:
    """Return the arrays that a variant's results are divided by, if they have the same shape."""
    return job.work.input, job.work.grad


@dataclass(frozen=True)
class Moments:
    """The moments of several runs of fastdrop, and a result of the right shape."""

    values: Array
    like: Array


@functools.lru_cache(maxsize=1)
def expected_moments(job: Job) -> tuple[Moments, ...]:
    """Return the moments of fastdrop's results, and of its gradients for a case of both passes."""
    at = own.both_at(job) if job.case.what == BACKWARD else own.forward_at(job)
    runs = RUNS if is_random(job.work.variant.forward) else 2
    made: list[list[Array]] = []
    for offset in range(runs):
        last = several(at(1000 + offset))
        made.append([moments(part, of) for part, of in zip(last, inputs(job), strict=False)])
    return tuple(Moments(np.array(values), part) for values, part in zip(zip(*made, strict=True), last, strict=True))


def moment_names(y: Array) -> list[str]:
    return ["the share of 0", "the mean", "the mean square", *(f"the products along axis {k}" for k in range(y.ndim))]


def moments(y: Any, of: Any) -> Array:
    """Return the share of zeros and infinities, mean and mean square, and the mean product of neighbours along each axis.

    A result that is shaped like its input is divided by it first, so that these are the moments of the factors; they are cut
    off at `LARGEST`, because noise that is added gives small inputs huge factors.
    """
    values = np.asarray(y)
    divisor = first_part(of) if of is not None and np.shape(of) == values.shape else None
    values = first_part(values)
    finite = np.isfinite(values)
    values = np.where(finite, values, 0).astype(np.float32 if values.dtype.itemsize < 8 else np.float64)
    empty = np.mean(~finite | (values == 0))
    if divisor is not None:
        values = np.divide(values, divisor, out=np.zeros_like(values), where=divisor != 0).clip(-LARGEST, LARGEST)
    found = [empty, values.mean(dtype=np.float64), np.square(values).mean(dtype=np.float64)]
    for axis in range(values.ndim):
        along = np.moveaxis(values, axis, 0)
        found.append((along[:-1] * along[1:]).mean(dtype=np.float64) if len(along) > 1 else 0.0)
    return np.array(found)


def first_part(y: Array) -> Array:
    """Return a corner of an array with at most `PIECE` elements; its longest axes are cut."""
    shape = list(y.shape)
    while math.prod(shape) > PIECE:
        longest = shape.index(max(shape))
        shape[longest] = (shape[longest] + 1) // 2
    return y[tuple(slice(n) for n in shape)]
