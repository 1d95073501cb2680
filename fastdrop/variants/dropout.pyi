from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastdrop._core.types import Mode, Rate

__all__ = ["apply_mask", "dropout", "dropout_backward", "dropout_mask", "uniform", "words"]

def dropout(
    x: ArrayLike,
    p: Rate = 0.5,
    *,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    mode: Mode = "inverted",
    out: NDArray[Any] | None = None,
    start: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
    noise_shape: Sequence[int | None] | None = None,
    shared_axes: int | Sequence[int] | None = None,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    residual: NDArray[Any] | None = None,
    bias: NDArray[Any] | None = None,
) -> NDArray[Any]: ...
def dropout_backward(
    grad: ArrayLike,
    p: Rate = 0.5,
    *,
    seed: Any,
    offset: int = 0,
    training: bool = True,
    mode: Mode = "inverted",
    out: NDArray[Any] | None = None,
    start: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
    noise_shape: Sequence[int | None] | None = None,
    shared_axes: int | Sequence[int] | None = None,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
) -> NDArray[Any]: ...
def dropout_mask(
    shape: int | Sequence[int],
    p: Rate = 0.5,
    *,
    seed: Any,
    offset: int = 0,
    packed: bool = False,
    start: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
    noise_shape: Sequence[int | None] | None = None,
    shared_axes: int | Sequence[int] | None = None,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
) -> NDArray[Any]: ...
def apply_mask(
    x: ArrayLike,
    mask: NDArray[Any],
    scale: float = 1.0,
    *,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]: ...
def words(n: int, *, seed: Any, offset: int = 0, start: int = 0) -> NDArray[np.uint32]: ...
def uniform(
    shape: int | Sequence[int], *, seed: Any, offset: int = 0, start: int = 0, dtype: DTypeLike = np.float32
) -> NDArray[Any]: ...
