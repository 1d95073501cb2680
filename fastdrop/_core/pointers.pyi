from collections.abc import Sequence
from typing import Any, TypeVar

_Tensor = TypeVar("_Tensor")

DTYPES: dict[str, int]
MAX_DIMS: int

def drop(
    x: int,
    y: int,
    shape: int | Sequence[int],
    strides: Sequence[Sequence[int]] | None,
    dtype: int,
    p: Any,
    seed: int,
    offset: int,
    num_threads: int = 0,
    factors: Sequence[float] = (),
    is_new: bool = False,
    *,
    bias: int = 0,
    residual: int = 0,
    start: int = 0,
    noise_shape: Any = None,
    shared_axes: Any = None,
    global_shape: Any = None,
    global_start: Any = None,
) -> None: ...
def check(
    shape: Sequence[int],
    p: Any,
    noise_shape: Any = None,
    shared_axes: Any = None,
    global_shape: Any = None,
    global_start: Any = None,
    start: int = 0,
) -> None: ...
def register_torch(torch: Any, draws: tuple[Any, Any, Any]) -> None: ...
def register_functions(rule: Any, apply: Any, apply_add: Any) -> None: ...
def is_plain(x: Any) -> bool: ...
def lacks_storage(x: Any) -> bool: ...
def draw_word(generator: Any = None) -> int: ...
def drop_memory(x: _Tensor, out: _Tensor, rule: Sequence[Any], more: Sequence[Any]) -> _Tensor: ...
def eager_plain(x: _Tensor, rule: Sequence[Any], in_place: bool, more: Sequence[Any]) -> _Tensor: ...
def drop_usual(x: Any, p: Any, training: Any, in_place: Any, more: tuple[Any, Any] = ...) -> Any: ...
def xla_handler() -> int: ...
