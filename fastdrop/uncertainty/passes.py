"""Monte Carlo dropout: a forward pass that is run many times, with its results reduced one by one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop import dropout_mask
from fastdrop._core import plan
from fastdrop._core.arithmetic import compute_type
from fastdrop._core.checks import as_positive_count
from fastdrop._core.optional import check_progress, track
from fastdrop._core.settings import using
from fastdrop._core.types import Backend, Seed
from fastdrop.random import Stream, fold_in
from fastdrop.uncertainty.counting import WORD_BYTES, KeptCounts
from fastdrop.uncertainty.reductions import CHUNK, Moments, Reduction

__all__ = ["mc_dropout", "mc_predict", "pass_seed"]

RUN = 2**19  # elements whose masks are counted together: the packed masks and their counters fit into a second-level cache
DOMAIN = "mc"  # the name under which passes derive their seeds

Reduced = TypeVar("Reduced", bound=Reduction)


def pass_seed(seed: int, offset: int, number: int) -> int:
    """Return the seed of one pass of a Monte Carlo run.

    Parameters
    ----------
    seed, offset : int
        The seed and the offset of the run, both in [0, 2**64).
    number : int
        The number of the pass, counted from 0.

    Returns
    -------
    int
        The seed of the pass, in [0, 2**64).

    Raises
    ------
    TypeError, ValueError
        As in `fastdrop.fold_in`.

    Examples
    --------
    >>> from fastdrop.uncertainty import pass_seed
    >>> pass_seed(42, 0, 0) == pass_seed(42, 0, 1)
    False
    """
    return fold_in(fold_in(fold_in(seed, DOMAIN), plan.as_word(offset, "offset")), plan.as_word(number, "number"))


def pass_runner(forward: Any, seed: Seed | None, offset: int) -> Callable[[Any, int], Any]:
    """Return a function of (x, k) that runs pass k on an input."""
    own = getattr(forward, "forward", None)
    if callable(own):
        if seed is not None:
            raise TypeError("seed must not be given with layers, which draw from their own streams")
        if plan.as_word(offset, "offset"):
            raise ValueError(f"offset must be 0 with layers, which draw from their own streams; got {offset!r}")
        return lambda x, number: own(x)
    if not callable(forward):
        raise TypeError(f"forward must be a function of (x, stream), or have a method forward(x); got {forward!r}")
    if not takes_stream(forward):
        raise TypeError(
            f"forward must be a function of (x, stream), such as lambda x, stream: fastdrop.dropout(x, 0.1, seed=stream); "
            f"got {forward!r}, which cannot be called with two arguments"
        )
    seed, offset = plan.find_key(seed, offset)
    return lambda x, number: forward(x, Stream(pass_seed(seed, offset, number)))


def takes_stream(forward: Callable[..., Any]) -> bool:
    """Return whether a function can be called with (x, stream), as far as its own signature says.

    The function that a decorator wraps may take other arguments than the one that is called.
    """
    try:
        signature = inspect.signature(forward, follow_wrapped=False)
    except (TypeError, ValueError):  # a function without a signature, which only the call can check
        return True
    try:
        signature.bind(None, None)
    except TypeError:
        return False
    return True


@contextmanager
def sampling(forward: Any) -> Iterator[None]:
    """Let layers drop without recording passes for `backward`, and then restore the mode of each."""
    if not hasattr(forward, "sampling"):
        yield
        return
    layers = [layer for _, layer in forward.walk()] if hasattr(forward, "walk") else [forward]
    modes = [(layer.training, layer.sampling) for layer in layers]
    forward.eval(sampling=True)
    try:
        yield
    finally:
        for layer, mode in zip(layers, modes, strict=True):
            layer.training, layer.sampling = mode


@overload
def mc_predict(
    forward: Any,
    x: Any,
    samples: int = 100,
    *,
    batch: int = 1,
    progress: bool = False,
    seed: Seed | None = None,
    offset: int = 0,
) -> Moments: ...


@overload
def mc_predict(
    forward: Any,
    x: Any,
    samples: int = 100,
    *,
    reduce: Reduced,
    batch: int = 1,
    progress: bool = False,
    seed: Seed | None = None,
    offset: int = 0,
) -> Reduced: ...


def mc_predict(
    forward: Any,
    x: Any,
    samples: int = 100,
    *,
    reduce: Any = None,
    batch: int = 1,
    progress: bool = False,
    seed: Seed | None = None,
    offset: int = 0,
) -> Any:
    """Run a forward pass many times with dropout on, and reduce the results one by one (Monte Carlo dropout).

    Parameters
    ----------
    forward : callable or object with a method ``forward``
        A function of (x, stream). It passes the stream as the seed to the functions that it calls, for example
        ``fastdrop.dropout(x, 0.1, seed=stream)``, any number of times. Or a layer of `fastdrop.nn`, whose ``forward(x)``
        draws from its own streams: it is put into ``eval(sampling=True)``, and afterwards each layer inside is put back into
        its mode. As with every ``eval``, forward passes that wait for a backward pass are forgotten. Other objects with a
        method ``forward(x)`` are called in their current mode.
    x : array_like
        The input of `forward`. If `batch` is 1, it may be anything that `forward` takes.
    samples : int, default 100
        The number of passes.
    reduce : Reduction, optional
        The object that takes the results: `Moments` (a new one by default), `Classification`, `Regression`, `Samples`, or any
        object with a method ``update(y)`` and an integer ``count``. If it already has results, the passes that follow are run:
        50 passes and then 50 more, with the same (seed, offset), are the same as 100 if `batch` divides 50.
    batch : int, default 1
        The number of passes to run as one. `x` is repeated this many times along its first axis, and the result is cut apart.
        This is faster for small inputs and takes the memory of `batch` passes. The masks are the masks of the repeated
        array, so they depend on `batch`. Do not use it if samples depend on each other in `forward` (by batch statistics, or
        by masks shared over the batch).
    progress : bool, default False
        Show a progress bar (with rich).
    seed : int, Key, Stream, numpy.random.SeedSequence, numpy.random.Generator, numpy.random.BitGenerator or None
        As in `fastdrop.dropout`. It is drawn from once. Pass k has its own stream, which depends on (seed, offset) and k
        alone (`pass_seed`). A seed must not be given for layers.
    offset : int, default 0
        The number of the run under the seed, in [0, 2**64); 0 for layers.

    Returns
    -------
    Reduction
        `reduce`, or the new `Moments`.

    Raises
    ------
    TypeError
        `forward` is neither a function nor has a method ``forward``, `reduce` has no ``update`` or no ``count``, `progress` is
        not a bool, or a seed is given for layers.
    ValueError
        `samples` or `batch` is below 1, the results change their shape, `batch` is above 1 and `x` has no axis, or an offset
        is given for layers.
    ImportError
        `progress` is True and rich is not installed.

    See Also
    --------
    mc_dropout : the same for a single activation, faster.

    Notes
    -----
    The statistics are the same to the bit for any backend and number of threads, if the results of `forward` are. Memory holds
    one result and the statistics.

    References
    ----------
    .. [1] Y. Gal, Z. Ghahramani, "Dropout as a Bayesian approximation: representing model uncertainty in deep learning",
       ICML 2016.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> from fastdrop.uncertainty import Classification, mc_predict
    >>> x = np.linspace(-3, 3, 7, dtype=np.float32)[:, np.newaxis]
    >>> def forward(x, stream):
    ...     score = fastdrop.dropout(x, 0.3, seed=stream) * np.float32([-1, 1])
    ...     return np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
    >>> found = mc_predict(forward, x, 100, seed=42, reduce=Classification())
    >>> found.prediction
    array([0, 0, 0, 0, 1, 1, 1])
    >>> int(found.predictive_entropy.argmax())
    3
    """
    samples, batch = as_positive_count(samples, "samples"), as_positive_count(batch, "batch")
    check_progress(progress)
    found: Any = Moments() if reduce is None else check_reduction(reduce)
    values = as_repeatable(x) if min(samples, batch) > 1 else x  # before a key is drawn
    run = pass_runner(forward, seed, offset)
    first = found.count
    groups = range(first, first + samples, batch)
    with sampling(forward):
        for number in track(groups, "passes", progress):
            size = min(batch, first + samples - number)
            if size == 1:
                found.update(np.asarray(run(x, number)))
            else:
                for y in stacked(run, values, number, size):
                    found.update(y)
    return found


def check_reduction(reduce: Any) -> Any:
    """Return an object that takes results, or raise an error for another one, such as a class in place of its object."""
    is_counting = isinstance(getattr(reduce, "count", None), (int, np.integer))
    if not is_counting or not callable(getattr(reduce, "update", None)):
        raise TypeError(f"reduce must be an object with a method update(y) and an integer count; got {reduce!r}")
    return reduce


def as_repeatable(x: ArrayLike) -> NDArray[Any]:
    """Return an input as an array that can be repeated along its first axis."""
    values = np.asarray(plan.to_array(x, "x"))
    if not values.ndim:
        raise ValueError("with batch, x must have a first axis, along which it is repeated; it has no dimensions")
    return values


def stacked(run: Callable[[Any, int], Any], values: NDArray[Any], number: int, size: int) -> NDArray[Any]:
    """Return the results of `size` passes that are run as one, on `size` copies of the input."""
    y = np.asarray(run(np.concatenate([values] * size), number))
    if y.ndim == 0 or len(y) != size * len(values):
        raise ValueError(
            f"with batch, forward must keep the first axis: from {size * len(values)} samples it made shape {y.shape}"
        )
    return y.reshape(size, len(values), *y.shape[1:])


def mc_dropout(
    x: ArrayLike,
    p: float = 0.5,
    samples: int = 100,
    *,
    shared_axes: int | Sequence[int] | None = None,
    progress: bool = False,
    seed: Seed | None = None,
    offset: int = 0,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> Moments:
    """Return the mean and the variance of the dropout of an activation over many masks, from counts of the masks.

    The masks are those of ``mc_predict(lambda x, stream: dropout(x, p, seed=stream), x, samples, seed=seed)``. An element is
    either dropped or kept, so its mean and variance follow from the number of masks that keep it. The masks are counted
    without reading `x`, so the whole costs little more than making the masks.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        The activation.
    p : float, default 0.5
        Probability of dropping an element, in [0, 1].
    samples : int, default 100
        The number of masks.
    shared_axes : int or sequence of int, optional
        As in `fastdrop.dropout`.
    progress : bool, default False
        Show a progress bar (with rich).
    seed, offset
        As in `mc_predict`.
    backend, num_threads
        As in `fastdrop.dropout`.

    Returns
    -------
    Moments
        Mean and variance. More passes can be added to them.

    Raises
    ------
    TypeError, ValueError
        As in `fastdrop.dropout`; or `samples` is below 1, or `progress` is not a bool.
    ImportError
        `progress` is True and rich is not installed.

    Notes
    -----
    Let v be the value of an element if it is kept, and k the number of the T masks that keep it. The mean is v (k / T), and
    the sum of squared differences is v v (k (T - k) / T). The counts are exact, so the results do not carry the rounding errors
    of T updates. They are the same to the bit for any backend and number of threads. The call takes memory for both results,
    and one byte per element (two for 256 masks or more).

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop.uncertainty import mc_dropout
    >>> found = mc_dropout(np.float32([1, 2, 3]), 0.25, samples=400, seed=42)
    >>> found.mean.round(2), found.variance.round(1)  # near x and x**2 / 3
    (array([1.02, 1.95, 2.93], dtype=float32), array([0.3, 1.4, 3.1], dtype=float32))
    """
    values = np.asarray(plan.as_array(x, "x"))  # a masked array may have a base that is never flat
    rate = plan.as_rate(p)
    samples = as_positive_count(samples, "samples")
    check_progress(progress)
    shared = () if shared_axes is None else plan.as_axes(shared_axes, values.ndim, "shared_axes")
    shape = [1 if axis in shared else size for axis, size in enumerate(values.shape)]
    found = Moments()
    found.begin(values.shape, compute_type(values.dtype))
    found.count = samples
    kept = np.empty(shape, np.min_scalar_type(samples))
    with using(backend=backend, num_threads=num_threads):  # which are checked before the key is drawn
        count_kept(kept.reshape(-1), rate, plan.find_key(seed, offset), samples, progress)
    with plan.RoundToNearest(), np.errstate(all="ignore"):
        scale = 1.0 / (1.0 - rate) if rate < 1.0 else 0.0
        flat, times = values.reshape(-1), np.broadcast_to(kept, values.shape).reshape(-1)
        for at in range(0, flat.size, CHUNK):
            part = slice(at, at + CHUNK)
            fill_moments(flat[part], times[part], scale, samples, found.mean.reshape(-1)[part], found.m2.reshape(-1)[part])
    return found


def count_kept(counts: NDArray[Any], p: float, key: tuple[int, int], samples: int, progress: bool) -> None:
    """Write how many of the masks of these passes keep each element."""
    places = range(0, counts.size, RUN)
    steps = ((at, pass_seed(*key, number)) for at in places for number in range(samples))  # may be very many
    total = len(places) * samples
    for at, group in groupby(track(steps, "masks", progress, total), key=itemgetter(0)):
        part = counts[at : at + RUN]
        padded = -(-part.size // (8 * WORD_BYTES)) * 8 * WORD_BYTES
        counters = KeptCounts()
        for _, seed in group:
            counters.add(dropout_mask(padded, p, seed=seed, packed=True, start=at))
        part[:] = counters.counts(part.size)


def fill_moments(x: NDArray[Any], kept: NDArray[Any], scale: float, samples: int, mean: NDArray[Any], m2: NDArray[Any]) -> None:
    """Write the mean and the sum of squared differences of elements that `kept` of the masks keep; both are 0 for no mask."""
    type = mean.dtype.type
    value = x.astype(type, copy=False) * type(scale)
    value = value.astype(x.dtype, copy=False).astype(type, copy=False)  # rounded as dropout rounds it
    np.copyto(value, 0.0, where=kept == 0)
    times = kept.astype(type)
    np.divide(times, type(samples), out=mean)
    np.multiply(value, mean, out=mean)
    np.subtract(type(samples), times, out=m2)
    np.multiply(m2, times, out=m2)
    np.divide(m2, type(samples), out=m2)
    np.multiply(value, m2, out=m2)
    np.multiply(value, m2, out=m2)
