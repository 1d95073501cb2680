from typing import Any

from numpy.typing import NDArray
from typing_extensions import disjoint_base

NOISES: tuple[str, ...]
FUNCTIONS: tuple[str, ...]

@disjoint_base
class NoiseWork: ...

def words(n: Any, seed: Any, offset: Any, start: Any) -> NDArray[Any]: ...
def uniform(shape: Any, seed: Any, offset: Any, start: Any, dtype: Any) -> NDArray[Any]: ...
def normal(shape: Any, seed: Any, offset: Any, start: Any, dtype: Any) -> NDArray[Any]: ...
def noise(
    x: Any,
    noise: str,
    params: Any,
    other: Any,
    with_sums: bool,
    seed: Any,
    offset: Any,
    out: Any,
    start: Any,
    backend: Any,
    num_threads: Any,
    backward: bool = False,
    other_name: str = "other",
) -> tuple[NDArray[Any], NDArray[Any] | None]: ...
def elementary(name: str, x: Any, out: Any, backend: Any, num_threads: Any) -> NDArray[Any]: ...
