from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from fastdrop._core.types import Backend, FixedSeed, Mode, Rate, Seed

__all__ = ["apply_mask", "dropout", "dropout_backward", "dropout_mask"]

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
