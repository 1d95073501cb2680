from collections.abc import Sequence
from typing import Any

DTYPES: dict[str, int]

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
