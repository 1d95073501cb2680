"""A contender (one way to do dropout) and a job (the work that it is given)."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cases import Case
from .variants import Work

__all__ = ["EVERY_DTYPE", "PLAIN", "SEED", "Absent", "Adapter", "Array", "Call", "Contender", "Job"]

Array = NDArray[Any]
Call = Callable[[], Any]

SEED = 42


class Absent(Exception):
    """A contender cannot do this work on this machine; the text says why."""


@dataclass(frozen=True, eq=False)
class Job:
    """The work: ``residual + dropout(x + bias)`` at rate `p`, or the work that `case.what` names, on allocated arrays."""

    case: Case
    x: Array
    out: Array  # memory for the result, with every page touched
    p: Any  # a float, or an array with one rate per element
    threads: int
    bias: Array | None = None
    residual: Array | None = None
    grads: tuple[Array, Array] | None = None  # the incoming gradient, and memory for the outgoing one
    variant: Work | None = None  # the arguments of a row of the table of variants

    @property
    def scale(self) -> Any:
        """The factor 1 / (1 - p) of kept elements, in the arrays' dtype."""
        if isinstance(self.p, np.ndarray):
            return 1 / (1 - self.p)
        return self.x.dtype.type(1 / (1 - self.p))

    @property
    def gradients(self) -> tuple[Array, Array]:
        """`grads` of a case that has a backward pass."""
        assert self.grads is not None
        return self.grads

    @property
    def work(self) -> Work:
        """`variant` of a case of the table of variants."""
        assert self.variant is not None
        return self.variant

    @property
    def mask_shape(self) -> tuple[int, ...]:
        """The shape of the mask."""
        return self.case.noise_shape or self.x.shape


Make = Callable[[Job], Call]  # may raise Absent

PLAIN = frozenset({"float32", "float64"})
EVERY_DTYPE = PLAIN | {"float16", "bfloat16"}


@dataclass(frozen=True)
class Contender:
    """One way to do dropout.

    `does` maps each kind of work to a function that prepares the call. `takes` names the supported dtypes, and those of
    ``noise_shape``, ``bias``, ``residual`` and ``rates`` that are supported. The calls run in the context `using`. `read`
    converts a result to an array. `exact` says that the result must have the bytes of the reference.
    """

    name: str
    label: str
    does: Mapping[str, Make]
    takes: frozenset[str] = PLAIN
    kind: str = "peer"  # or "fastdrop", "yardstick"
    using: Callable[[], AbstractContextManager[Any]] = nullcontext
    read: Callable[[Any], Any] = np.asarray
    exact: bool = False
    entries: frozenset[str] | None = None  # the entries of the table of cases that it can do; None: all

    def takes_part(self, case: Case) -> bool:
        """Return whether this contender can do a case, given that its library is installed."""
        needed = {case.dtype, *case.operands}
        needed |= {"noise_shape"} if case.noise_shape else set()
        needed |= {"rates"} if case.rate == "each" else set()
        knows = self.entries is None or case.entry in self.entries
        return knows and case.what in self.does and needed <= self.takes


def nothing() -> str | None:
    return None


@dataclass(frozen=True)
class Adapter:
    """A library and its contenders."""

    contenders: tuple[Contender, ...]
    module: str | None = None  # the module to import; None if NumPy is enough
    distributions: tuple[str, ...] = field(default=())  # installed distributions of these names have the version
    missing_here: Callable[[], str | None] = nothing

    def missing(self) -> str | None:
        """Return why these contenders cannot take part here, or None if they can."""
        if self.module and importlib.util.find_spec(self.module) is None:
            name = (self.distributions or (self.module,))[0]
            return f'{name} is not installed: pip install "fastdrop-kernels[peers]"'
        return self.missing_here()

    def versions(self) -> dict[str, str]:
        """Return the version of each installed distribution by name."""
        found = {}
        for name in self.distributions:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return found
