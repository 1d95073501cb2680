from contextvars import ContextVar
from types import ModuleType, TracebackType
from typing import Any

from numpy.typing import NDArray
from typing_extensions import disjoint_base

STREAM: int
LEAST_PER_THREAD: int
FLOATS: str
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

@disjoint_base
class RoundToNearest:
    def __enter__(self) -> None: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

@disjoint_base
class Work: ...

def set_process_settings(settings: Settings) -> None: ...
def set_forked() -> None: ...
def set_bypass_bytes(size: int) -> None: ...
def set_least_per_thread(n: int) -> None: ...
def useful_threads(n: int, allowed: int) -> int: ...
def effective() -> Settings: ...
def word_of(value: object, name: str) -> int: ...
def count_of(value: object, name: str) -> int: ...
def check_scalar(value: object) -> int: ...
def rate_of(p: object) -> float: ...
def key_of(seed: Any, offset: Any, required: bool = False) -> tuple[int, int]: ...
def check(
    x: Any,
    p: Any,
    seed: Any,
    offset: Any,
    out: Any,
    backend: Any,
    num_threads: Any,
    other: Any = None,
    name: str = "x",
    other_name: str = "other",
) -> None: ...
def array_of(x: Any, name: str, out: Any = None) -> NDArray[Any]: ...
def check_out(out: Any, x: NDArray[Any]) -> int: ...
def geometry_of(noise_shape: Any, shared_axes: Any, global_shape: Any, global_start: Any) -> tuple[Any, ...] | None: ...
def dropout(
    x: Any,
    p: Any,
    seed: Any,
    offset: Any,
    training: Any,
    mode: Any,
    out: Any,
    start: Any,
    backend: Any,
    num_threads: Any,
    backward: bool = False,
    geometry: tuple[Any, ...] | None = None,
    bias: Any = None,
    residual: Any = None,
    factor: Any = None,
) -> NDArray[Any]: ...
def transform(
    x: Any,
    p: Any,
    seed: Any,
    offset: Any,
    op: str,
    factors: Any,
    other: Any,
    out: Any,
    start: Any,
    backend: Any,
    num_threads: Any,
    geometry: tuple[Any, ...] | None = None,
    name: str = "x",
    other_name: str = "other",
) -> NDArray[Any]: ...
def apply_mask(x: Any, mask: Any, scale: Any, out: Any, backend: Any, num_threads: Any) -> NDArray[Any]: ...
def dropout_mask(
    shape: Any,
    p: Any,
    seed: Any,
    offset: Any,
    packed: bool,
    start: Any,
    backend: Any,
    num_threads: Any,
    geometry: tuple[Any, ...] | None = None,
) -> NDArray[Any]: ...
def fold_in(seed: Any, data: Any) -> int: ...
