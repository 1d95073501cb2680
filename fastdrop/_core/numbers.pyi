from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from typing_extensions import disjoint_base

from fastdrop._core.plan import Call

NOISES: tuple[str, ...]
FUNCTIONS: tuple[str, ...]

@disjoint_base
class Noise: ...

def words(n: int, call: Call) -> NDArray[Any]: ...
def check_place(shape: int | Sequence[int], dtype: DTypeLike, call: Call) -> None: ...
def numbers(name: str, shape: int | Sequence[int], dtype: DTypeLike, call: Call) -> NDArray[Any]: ...
def noise(
    call: Call,
    x: ArrayLike,
    name: str,
    params: Sequence[float],
    other: Any = None,
    *,
    with_sums: bool = False,
    other_name: str = "other",
) -> tuple[NDArray[Any], NDArray[np.float64] | None]: ...
def elementary(name: str, x: Any, out: Any, backend: Any, num_threads: Any) -> NDArray[Any]: ...
def share_words(probabilities: ArrayLike, features: int) -> NDArray[np.uint64]: ...
def multiply_draws(call: Call, x: ArrayLike, k: int, probabilities: ArrayLike, shared: bool) -> NDArray[Any]: ...
def keep_probabilities(
    scores: ArrayLike, p: float, axes: tuple[int, ...], floor: float, call: Call, *, drop: bool = False
) -> NDArray[np.float64]: ...
def find_others(weight: NDArray[Any], targets: int, by_column: bool, call: Call) -> NDArray[np.bool_]: ...
