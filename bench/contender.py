"""What a contender is, and what it is given to do."""

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

__all__ = ["SEED", "Absent", "Adapter", "Array", "Call", "Contender", "Job"]

Array = NDArray[Any]
Call = Callable[[], Any]

SEED = 42


class Absent(Exception):
    """A contender cannot do this here; the text says why."""


@dataclass(frozen=True)
class Job:
    """The work: ``residual + dropout(x + bias)`` at rate `p`, or what else `case.what` says, on arrays that are there."""

    case: Case
    x: Array
    out: Array  # room for the result, every page of it touched
    p: Any  # a float, or an array that has a rate for each element
    threads: int
    bias: Array | None = None
    residual: Array | None = None
    grads: tuple[Array, Array] | None = None  # the gradient that comes in, and room for the one that goes out

    @property
    def scale(self) -> Any:
        """What kept elements are multiplied by: 1 / (1 - p), in the arrays' dtype."""
        if isinstance(self.p, np.ndarray):
            return 1 / (1 - self.p)
        return self.x.dtype.type(1 / (1 - self.p))

    @property
    def gradients(self) -> tuple[Array, Array]:
        """`grads`, of a case that goes backward."""
        assert self.grads is not None
        return self.grads

    @property
    def mask_shape(self) -> tuple[int, ...]:
        """The shape of the mask."""
        return self.case.noise_shape or self.x.shape


Make = Callable[[Job], Call]  # may raise Absent

PLAIN = frozenset({"float32", "float64"})
EVERY_DTYPE = PLAIN | {"float16", "bfloat16"}


@dataclass(frozen=True)
class Contender:
    """Somebody who does dropout.

    `does` has a way for each kind of work; `takes` names the dtypes, and of ``noise_shape``, ``bias``, ``residual`` and
    ``rates`` what it can be given. `using` is a context in which its calls run, `read` makes an array of its result, and
    `exact` says that its bytes must be the reference's.
    """

    name: str
    label: str
    does: Mapping[str, Make]
    takes: frozenset[str] = PLAIN
    kind: str = "peer"  # or "fastdrop", "yardstick"
    using: Callable[[], AbstractContextManager[Any]] = nullcontext
    read: Callable[[Any], Any] = np.asarray
    exact: bool = False

    def takes_part(self, case: Case) -> bool:
        """Return whether this contender can do a case, where its library is installed."""
        needed = {case.dtype, *case.operands}
        needed |= {"noise_shape"} if case.noise_shape else set()
        needed |= {"rates"} if case.rate == "each" else set()
        return case.what in self.does and needed <= self.takes


def nothing() -> str | None:
    return None


@dataclass(frozen=True)
class Adapter:
    """A library, and the contenders that are made of it."""

    contenders: tuple[Contender, ...]
    module: str | None = None  # what must be there to import; None where nothing but NumPy is needed
    distributions: tuple[str, ...] = field(default=())  # one of which has the version
    missing_here: Callable[[], str | None] = nothing

    def missing(self) -> str | None:
        """Return why these contenders cannot take part here; None where they can."""
        if self.module and importlib.util.find_spec(self.module) is None:
            name = (self.distributions or (self.module,))[0]
            return f'{name} is not installed: pip install "fastdrop-kernels[peers]"'
        return self.missing_here()

    def versions(self) -> dict[str, str]:
        """Return the version of what is installed, by name."""
        found = {}
        for name in self.distributions:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return found
