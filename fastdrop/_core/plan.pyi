from collections.abc import Callable, Container, Sequence
from contextvars import ContextVar
from types import ModuleType, TracebackType
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self, disjoint_base

from fastdrop._core.keys import Key
from fastdrop._core.types import Backend, FixedSeed, Mode, Rate, Seed

_P = ParamSpec("_P")
_R = TypeVar("_R")
_R_co = TypeVar("_R_co", covariant=True)

STREAM: int
LEAST_PER_THREAD: int
FLOATS: str
SEEDS: str
override: ContextVar[Settings | None]

@disjoint_base
class Settings:
    @property
    def backend(self) -> str | None: ...
    @property
    def isa(self) -> str | None: ...
    @property
    def num_threads(self) -> int: ...
    def __init__(
        self, backend: str | None = None, isa: str | None = None, num_threads: int = 0, module: ModuleType | None = None
    ) -> None: ...
    def over(self, below: Settings) -> Settings: ...
    def become(self, other: Settings | None) -> None: ...

@disjoint_base
class RoundToNearest:
    def __enter__(self) -> None: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

class _Remembered(Protocol[_R_co]):
    def __call__(self, *args: Any) -> _R_co: ...
    def cache_clear(self) -> None: ...

def remembering(most: int) -> Callable[[Callable[..., _R]], _Remembered[_R]]: ...
def rounding_to_nearest(function: Callable[_P, _R]) -> Callable[_P, _R]: ...

ESTIMATORS: tuple[str, ...]

@disjoint_base
class Quick:
    def __init__(self, function: Callable[..., Any], use: int) -> None: ...

@disjoint_base
class Work: ...

@disjoint_base
class Laid: ...

@disjoint_base
class Decisions:
    def __init__(
        self,
        shape: tuple[int, ...],
        axes: tuple[int, ...],
        shared_axes: tuple[int, ...] = (),
        block: tuple[int, ...] = (),
        overhang: tuple[int, int] = (0, 0),
    ) -> None: ...

@disjoint_base
class Call:
    @property
    def seed(self) -> Any: ...
    @property
    def offset(self) -> Any: ...
    @property
    def training(self) -> Any: ...
    @property
    def out(self) -> Any: ...
    @property
    def start(self) -> Any: ...
    @property
    def global_shape(self) -> tuple[int, ...] | None: ...
    @property
    def global_start(self) -> tuple[int, ...] | None: ...
    @property
    def backend(self) -> Any: ...
    @property
    def num_threads(self) -> Any: ...
    @property
    def is_training(self) -> bool: ...
    def __init__(
        self,
        seed: Any = None,
        offset: Any = 0,
        training: Any = True,
        out: Any = None,
        start: Any = 0,
        global_shape: Any = None,
        global_start: Any = None,
        backend: Any = None,
        num_threads: Any = None,
        backward: bool = False,
    ) -> None: ...
    def drop(
        self,
        x: ArrayLike,
        p: Any,
        shared_axes: Any = None,
        *,
        noise_shape: Any = None,
        mode: str = "inverted",
        bias: Any = None,
        residual: Any = None,
        factor: Any = None,
        groups: tuple[Any, Any] | None = None,
        name: str | None = None,
    ) -> NDArray[Any]: ...
    def affine(
        self,
        x: ArrayLike,
        p: Any,
        factors: Any,
        shared_axes: Any = None,
        *,
        noise_shape: Any = None,
        signed: bool = False,
        name: str | None = None,
    ) -> NDArray[Any]: ...
    def gate(
        self, x: ArrayLike, logits: Any, gain: Any, shift: Any, *, mode: str = "inverted", antithetic: bool = False
    ) -> NDArray[Any]: ...
    def gate_backward(
        self,
        grad: ArrayLike,
        logits: Any,
        gain: Any,
        shift: Any,
        estimator: str,
        *,
        mode: str = "inverted",
        x: Any = None,
        losses: Any = None,
    ) -> NDArray[Any]: ...
    def select(
        self,
        x: ArrayLike,
        p: Any,
        other: Any,
        shared_axes: Any = None,
        *,
        noise_shape: Any = None,
        names: tuple[str, str] = ("x", "other"),
    ) -> NDArray[Any]: ...
    def rest(self, x: ArrayLike, p: Any) -> NDArray[Any]: ...
    def drop_decisions(self, x: ArrayLike, p: Any, mask: Decisions, per: str | None = None) -> NDArray[Any]: ...
    def drop_classes(
        self, x: ArrayLike, p: Any, mask: Decisions, classes: NDArray[np.int64], n: int, per_sample: bool
    ) -> NDArray[Any]: ...
    def divide_rows(self, x: ArrayLike, p: Any, mask: Decisions) -> NDArray[Any]: ...
    def divide_rows_backward(
        self, grad: ArrayLike, p: Any, mask: Decisions, x: ArrayLike | None, through_sum: bool
    ) -> NDArray[Any]: ...
    def fill_keys(self, x: ArrayLike, p: Any, mask: Decisions, fill: float, keeps_empty_rows: bool) -> NDArray[Any]: ...
    def unchanged(
        self,
        x: ArrayLike,
        name: str | None = None,
        shared_axes: tuple[int, ...] | None = None,
        /,
        *,
        draws_numbers: bool = False,
        **others: ArrayLike,
    ) -> NDArray[Any]: ...
    def mask(
        self, shape: Any, p: Any, noise_shape: Any = None, shared_axes: Any = None, packed: Any = False
    ) -> NDArray[Any]: ...
    def check_place(self, shape: Sequence[int], shared_axes: Any = None) -> None: ...
    def array_name(self) -> str: ...
    def arrays(
        self,
        x: ArrayLike,
        /,
        *,
        name: str | None = None,
        shape: Sequence[int] | None = None,
        p: Any = None,
        placed: Sequence[int] | None = None,
        **others: Any,
    ) -> Pass: ...

@disjoint_base
class Pass:
    @property
    def call(self) -> Call: ...
    @property
    def x(self) -> NDArray[Any]: ...
    @property
    def y(self) -> NDArray[Any]: ...
    @property
    def others(self) -> tuple[Any, ...]: ...
    @property
    def key(self) -> tuple[int, int]: ...
    @property
    def compute(self) -> type[np.floating[Any]]: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
    def mask(
        self, shape: Any, p: Any, shared_axes: Any = None, *, packed: bool = False, is_global: bool = True
    ) -> NDArray[Any]: ...
    def drop(
        self,
        x: ArrayLike,
        p: Any,
        shared_axes: Any = None,
        *,
        mode: str = "inverted",
        factor: Any = None,
        out: Any = None,
        is_global: bool = True,
    ) -> NDArray[Any]: ...
    def apply(
        self, mask: NDArray[Any], scale: float = 1.0, x: Any = None, out: Any = None, fill: float = 0.0
    ) -> NDArray[Any]: ...
    def store(self, values: Any) -> NDArray[Any]: ...
    def result(self) -> NDArray[Any]: ...
    def own_call(self, is_global: bool = True, out: Any = None) -> Call: ...

@disjoint_base
class Counter:
    @property
    def seed(self) -> int: ...
    @property
    def offset(self) -> int: ...
    def __init__(self, seed: Any = None, offset: int = 0) -> None: ...
    def next(self) -> Key: ...
    def key(self) -> Key: ...
    def use_up(self) -> None: ...

def set_process_settings(settings: Settings) -> None: ...
def register_chosen(function: Callable[..., Settings], refuse: Callable[[Settings], None]) -> None: ...
def register_key_type(type: type) -> None: ...
def set_bypass_bytes(size: int) -> None: ...
def set_least_per_thread(n: int) -> None: ...
def useful_threads(n: int, allowed: int) -> int: ...
def effective() -> Settings: ...
def as_word(value: object, name: str) -> int: ...
def as_count(value: object, name: str) -> int: ...
def as_shape(shape: object) -> tuple[int, ...]: ...
def as_rate(p: object) -> float: ...
def sign(number: float) -> int: ...
def are_indices(a: NDArray[Any], end: int) -> bool: ...
def broadcasts(a: NDArray[Any], shape: tuple[int, ...]) -> bool: ...
def to_array(value: Any, name: str) -> NDArray[Any]: ...
def as_real_array(value: Any, name: str, flags: bool = True) -> NDArray[Any]: ...
def as_array(x: Any, name: str, out: Any = None) -> NDArray[Any]: ...
def as_sizes(value: Any, name: str) -> tuple[int, ...]: ...
def as_groups(ndim: int, group_size: Any, axes: Any) -> dict[int, int]: ...
def as_axes(axes: Any, ndim: int, name: str) -> tuple[int, ...]: ...
def locate_block(shape: Sequence[int], global_shape: Any, global_start: Any) -> tuple[tuple[int, ...], tuple[int, ...]]: ...
def locate_mask(
    shape: Sequence[int], shared_axes: Any, start: int, global_shape: Any, global_start: Any
) -> tuple[int, tuple[int, ...]]: ...
def check_scalar(value: object) -> int: ...
def check_flag(value: object, name: str) -> bool: ...
def is_one_of(value: object, names: Container[str]) -> bool: ...
def check_mode(mode: Any, allowed: tuple[str, ...] = ("inverted", "standard")) -> str: ...
def check_operand(value: ArrayLike, x: NDArray[Any], name: str) -> None: ...
def check_out(out: Any, x: NDArray[Any], name: str = "input") -> int: ...
def find_key(seed: Any, offset: Any) -> tuple[int, int]: ...
def use_mask(x: Any, mask: Any, scale: Any, out: Any, backend: Any, num_threads: Any, fill: float = 0.0) -> NDArray[Any]: ...
def draw_mask(
    shape: Any, p: Any, call: Call, noise_shape: Any = None, shared_axes: Any = None, packed: bool = False
) -> NDArray[Any]: ...
def fold_in(seed: Any, data: Any) -> int: ...
def dropout(
    x: ArrayLike,
    p: Rate = 0.5,
    *,
    mode: Mode = "inverted",
    noise_shape: Sequence[int | None] | None = None,
    shared_axes: int | Sequence[int] | None = None,
    bias: NDArray[Any] | None = None,
    residual: NDArray[Any] | None = None,
    seed: Seed | None = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]: ...
def dropout_backward(
    grad: ArrayLike,
    p: Rate = 0.5,
    *,
    mode: Mode = "inverted",
    noise_shape: Sequence[int | None] | None = None,
    shared_axes: int | Sequence[int] | None = None,
    seed: FixedSeed,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]: ...
def dropout_mask(
    shape: int | Sequence[int],
    p: Rate = 0.5,
    *,
    noise_shape: Sequence[int | None] | None = None,
    shared_axes: int | Sequence[int] | None = None,
    packed: bool = False,
    seed: Seed,
    offset: int = 0,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]: ...
def apply_mask(
    x: ArrayLike,
    mask: NDArray[Any],
    scale: float = 1.0,
    *,
    out: NDArray[Any] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]: ...
