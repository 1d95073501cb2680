"""DropBlock: contiguous regions of feature maps are dropped together."""

from __future__ import annotations

import functools
import math
import operator
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.settings import using
from fastdrop.variants._masks import apply, apply_counted, block_mask

__all__ = ["drop_block", "drop_block_backward", "drop_block_gamma"]

DataFormat = Literal["channels_first", "channels_last"]
Scale = Literal["batch", "sample", "none"]


def drop_block(
    x: ArrayLike,
    p: float = 0.1,
    block_size: int | Sequence[int] = 7,
    *,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    exact_rate: bool = False,
    shared_channels: bool = False,
    scale: Scale = "batch",
    data_format: DataFormat = "channels_first",
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Drop blocks of feature maps, and scale what is left by how much of it there is.

    Each place of a map from which a block lies inside it is a seed with probability gamma (`drop_block_gamma`), and the
    blocks of all seeds are set to zero.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Of shape (samples, channels, ...) with one, two or three spatial dimensions; see `data_format`.
    p : float, default 0.1
        How much is meant to be dropped, in [0, 1]; the paper's 1 - keep_prob.
    block_size : int or sequence of int, default 7
        The size of a block, or one for each spatial dimension; even ones are as good as odd ones. A block larger than
        the map is cut to it.
    seed, offset
        As in `dropout`.
    training : bool, default True
        False returns `x` itself (with `out`, copies it there).
    exact_rate : bool, default False
        True solves for the gamma with which the expected share that is dropped is `p`. The paper's gamma takes no
        account of blocks that overlap and drops less: 9.3 % where p = 0.1, on maps of 14 by 14 with blocks of 7.
    shared_channels : bool, default False
        True draws one mask for all channels of a sample. The paper found one for each to work better.
    scale : {"batch", "sample", "none"}
        ``"batch"``, the paper's: what is left times the size of the whole mask over the number it keeps, so that a
        sample's values depend on the others. ``"sample"`` counts in each sample by itself; ``"none"`` does not scale.
    data_format : {"channels_first", "channels_last"}
        Which axis holds the channels: 1 or the last. The mask is the same for both.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`. Dropped elements are +0.0.

    Raises
    ------
    TypeError
        `x` or `out` of another dtype; `p`, `block_size`, `seed` or `offset` not numbers of their kind.
    ValueError
        `x` of other than three to five dimensions, `p` outside [0, 1], a block size below 1 or too many of them, an
        unknown `scale` or `data_format`, an `out` of another shape or read-only.

    See Also
    --------
    drop_block_gamma : the rate of seeds.

    Notes
    -----
    Whether place (i0, i1, ...) is the first corner of a block is the decision of its C-order index in an array of shape
    (samples, channels, F0 - b0 + 1, ...), with channels 1 if they are shared; it is a seed where U(index) < gamma.

    The scale is computed from integer counts, in double, and rounded once to the type that is computed with. Where
    all is dropped the result is zeros. At p = 1 the paper's gamma is below 1 as well, unless the block is a single element
    or the whole map; `exact_rate` then drops everything.

    References
    ----------
    .. [1] G. Ghiasi, T.-Y. Lin, Q. V. Le, "DropBlock: a regularization method for convolutional networks", NeurIPS 2018.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.ones((1, 1, 5, 6), np.float32)
    >>> fastdrop.drop_block(x, 0.3, 2, seed=2, scale="none")[0, 0]
    array([[1., 1., 1., 1., 1., 1.],
           [1., 1., 0., 0., 1., 1.],
           [1., 1., 0., 0., 0., 1.],
           [1., 1., 1., 0., 0., 1.],
           [1., 1., 1., 1., 1., 1.]], dtype=float32)
    """
    options = (p, block_size, exact_rate, shared_channels, scale, data_format)
    return masked(x, "x", options, seed, offset, training, out, backend, num_threads)


def drop_block_backward(
    grad: ArrayLike,
    p: float = 0.1,
    block_size: int | Sequence[int] = 7,
    *,
    seed: Any,
    offset: int = 0,
    training: bool = True,
    exact_rate: bool = False,
    shared_channels: bool = False,
    scale: Scale = "batch",
    data_format: DataFormat = "channels_first",
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `drop_block` with respect to its input: the same mask and scale.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to `drop_block`'s result.
    p, block_size, offset, training, exact_rate, shared_channels, scale, data_format
        What the forward pass was given.
    seed : int, Stream, numpy.random.SeedSequence or numpy.random.Generator
        What the forward pass used; see `dropout_backward`.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `grad`; outside training, `grad` itself.

    Raises
    ------
    TypeError, ValueError
        As in `drop_block`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> grad = np.ones((1, 1, 6), np.float32)
    >>> fastdrop.drop_block_backward(grad, 0.5, 3, seed=1)
    array([[[2., 2., 0., 0., 0., 2.]]], dtype=float32)
    """
    options = (p, block_size, exact_rate, shared_channels, scale, data_format)
    return masked(grad, "grad", options, seed, offset, training, out, backend, num_threads)


def drop_block_gamma(
    p: float, spatial: Sequence[int], block_size: int | Sequence[int] = 7, *, exact_rate: bool = False
) -> float:
    """Return the probability with which `drop_block` makes a place of a feature map the seed of a block.

    Parameters
    ----------
    p : float
        How much is meant to be dropped, in [0, 1].
    spatial : sequence of int
        The size of the map along each of its dimensions, at least 1.
    block_size : int or sequence of int, default 7
        As in `drop_block`.
    exact_rate : bool, default False
        False: the paper's formula. True: the solution of an equation, so that the expected share dropped is `p`.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    TypeError, ValueError
        As in `drop_block`.

    Notes
    -----
    With sizes F and blocks of b, the paper's gamma is p prod(F) / prod(b) / prod(F - b + 1). The exact one solves

        mean over the cells of (1 - (1 - gamma)**n) = p

    by bisection in double, n being the number of places whose block covers the cell. It is kept for later calls.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.drop_block_gamma(0.1, (14, 14), 7)
    0.00625
    >>> round(fastdrop.drop_block_gamma(0.1, (14, 14), 7, exact_rate=True), 6)
    0.006764
    """
    rate, sizes = plan.as_rate(p), sizes_from(spatial, "spatial", "sizes")
    block = clipped_block(block_size, sizes)
    if exact_rate:
        return exact_gamma(rate, sizes, block)
    with plan.RoundToNearest():
        return rate * math.prod(sizes) / math.prod(block) / math.prod(map(places_of, sizes, block))


# One call -----------------------------------------------------------------------------------------------------------


def masked(
    x: ArrayLike,
    name: str,
    options: tuple[Any, ...],
    seed: Any,
    offset: int,
    training: bool,
    out: NDArray[Any] | None,
    backend: str | None,
    num_threads: int | None,
) -> NDArray[Any]:
    """Forward and backward are one: the mask is made again from (seed, offset)."""
    p, block_size, exact_rate, shared_channels, scale, data_format = options
    rate, array = plan.as_rate(p), plan.as_array(x, name, out)
    samples, channels, *spatial = channels_first_shape(array, name, data_format)
    block = clipped_block(block_size, spatial)
    if scale not in ("batch", "sample", "none"):
        raise ValueError(f"scale must be 'batch', 'sample' or 'none'; got {scale!r}")
    if not training:
        return plan.dropout(x, rate, seed, offset, False, "inverted", out, 0, backend, num_threads, name == "grad")
    with using(backend=backend, num_threads=num_threads):
        gamma = drop_block_gamma(rate, spatial, block, exact_rate=exact_rate) if array.size else 0.0
        key = plan.key_of(seed, offset, name == "grad")
        mask = block_mask((samples, 1 if shared_channels else channels), tuple(spatial), block, gamma, *key)
        if data_format == "channels_last":
            mask = np.moveaxis(mask, 1, -1)
        if scale == "none":
            return apply(array, mask, 1.0, out)
        return apply_counted(array, mask, scale == "sample", out)


def channels_first_shape(x: NDArray[Any], name: str, data_format: Any) -> tuple[int, ...]:
    """Return the shape with the channels second, or raise naming what is wrong."""
    if data_format not in ("channels_first", "channels_last"):
        raise ValueError(f"data_format must be 'channels_first' or 'channels_last'; got {data_format!r}")
    if not 3 <= x.ndim <= 5:
        raise ValueError(
            f"{name} must have samples, channels and one to three spatial dimensions; got an array of shape {x.shape}"
        )
    return x.shape if data_format == "channels_first" else (x.shape[0], x.shape[-1], *x.shape[1:-1])


def sizes_from(value: Any, name: str, what: str) -> tuple[int, ...]:
    """Return integers of at least 1, or raise naming them."""
    try:
        sizes = tuple(map(operator.index, value))
    except TypeError:
        raise TypeError(f"{name} must be {what} >= 1, integers; got {value!r}") from None
    if not sizes or min(sizes) < 1:
        raise ValueError(f"{name} must be {what} >= 1; got {value!r}")
    return sizes


def clipped_block(block_size: Any, spatial: Sequence[int]) -> tuple[int, ...]:
    """Return the size of a block along each spatial dimension, no larger than the map's."""
    each = [block_size] * len(spatial) if np.ndim(block_size) == 0 else block_size
    sizes = sizes_from(each, "block_size", "one size, or one for each spatial dimension,")
    if len(sizes) != len(spatial):
        raise ValueError(
            f"block_size must be one size, or one for each of {len(spatial)} spatial dimensions; got {block_size!r}"
        )
    return tuple(map(min, sizes, spatial))


# The rate -----------------------------------------------------------------------------------------------------------


def places_of(size: int, length: int) -> int:
    """Return from how many places along an axis a block lies inside."""
    return size - length + 1


def covers(spatial: tuple[int, ...], block: tuple[int, ...]) -> Counter[int]:
    """Return how many cells of a map are covered by the blocks of n places, for each n."""
    total = Counter({1: 1})
    for size, length in zip(spatial, block, strict=True):
        last = size - length
        along = Counter(min(i, last) - max(0, i - length + 1) + 1 for i in range(size))
        product: Counter[int] = Counter()
        for n, cells in total.items():
            for m, more in along.items():
                product[n * m] += cells * more
        total = product
    return total


def at_least_one(gamma: float, n: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return 1 - (1 - gamma)**n by squaring: of a draws and b more, one among the a, or none and one among the b."""
    result, power = np.zeros(n.shape), gamma
    while n.any():
        result = np.where(n & 1, result + (1.0 - result) * power, result)
        power = power + (1.0 - power) * power
        n = n >> 1
    return result


@functools.lru_cache(maxsize=1024)
def exact_gamma(p: float, spatial: tuple[int, ...], block: tuple[int, ...]) -> float:
    """Return the gamma with which the expected share of a map that is dropped is p."""
    if p in (0.0, 1.0):
        return p
    found = sorted(covers(spatial, block).items())
    n, cells = np.array([n for n, _ in found]), np.array([float(cells) for _, cells in found])
    low, high = 0.0, 1.0
    with plan.RoundToNearest():
        wanted = p * math.prod(spatial)
        middle = 0.5
        while low < middle < high:
            dropped = math.fsum((cells * at_least_one(middle, n)).tolist())  # rounded once, whatever the order
            low, high = (middle, high) if dropped < wanted else (low, middle)
            middle = (low + high) / 2
    return high
