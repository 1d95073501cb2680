"""Monte Carlo dropout: any forward pass run many times, with its results reduced one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from typing import Any, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop import dropout_mask, elementary
from fastdrop._core import plan
from fastdrop._core.arithmetic import compute_type, fixed_sum
from fastdrop._core.checks import as_floats, as_positive_count, as_positive_number, as_probabilities
from fastdrop._core.optional import track
from fastdrop._core.settings import using
from fastdrop._core.types import Backend, Seed
from fastdrop.random import Stream, fold_in
from fastdrop.uncertainty.counting import WORD_BYTES, KeptCounts

__all__ = [
    "Classification",
    "Moments",
    "Reduction",
    "Regression",
    "Samples",
    "entropy",
    "mc_dropout",
    "mc_predict",
    "model_precision",
    "pass_seed",
]

CHUNK = 2**15  # elements that are updated together: five arrays of them fit into a second-level cache
RUN = 2**19  # elements whose masks are counted together: the packed masks and their counters fit into a second-level cache
DOMAIN = "mc"  # the name under which passes derive their seeds


# Reductions ---------------------------------------------------------------------------------------------------------


class Reduction(Protocol):
    """The protocol of objects that take the results of passes one after the other.

    Attributes
    ----------
    count : int
        The number of results so far.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop.uncertainty import mc_predict
    >>> class Largest:
    ...     count, value = 0, -np.inf
    ...     def update(self, y):
    ...         self.count, self.value = self.count + 1, np.maximum(self.value, y)
    >>> mc_predict(lambda x, stream: x, np.ones(2), 3, seed=42, reduce=Largest()).value
    array([1., 1.])
    """

    count: int

    def update(self, y: NDArray[Any]) -> None:
        """Add the result of one more pass."""


class Moments:
    """Mean and variance of the results, computed by Welford's method without keeping the results.

    Attributes
    ----------
    count : int
        The number of results so far.
    mean : numpy.ndarray
        The mean of the results: of float64 for results of float64, otherwise of float32.
    variance : numpy.ndarray
        The mean of the squared differences from the mean (divided by `count`).
    std : numpy.ndarray
        The square root of the variance.
    m2 : numpy.ndarray
        The sum of the squared differences from the mean.

    Notes
    -----
    Result number n, y, is added by ``d = y - mean; mean += d * (1 / n); m2 += d * (y - mean)``. Each operation is rounded
    once, in this order.

    References
    ----------
    .. [1] B. P. Welford, "Note on a method for calculating corrected sums of squares and products", Technometrics 4 (1962).

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop.uncertainty import Moments
    >>> moments = Moments()
    >>> for y in (1.0, 2.0, 6.0):
    ...     moments.update(np.array([y]))
    >>> moments.mean, moments.variance.round(6)
    (array([3.]), array([4.666667]))
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: NDArray[Any] = np.zeros(0)
        self.m2: NDArray[Any] = np.zeros(0)
        self._scratch: NDArray[Any] = np.zeros((2, 0))

    def begin(self, shape: tuple[int, ...], type: type[np.floating[Any]]) -> None:
        """Set everything to zero, for results of a shape."""
        self.mean, self.m2 = np.zeros(shape, type), np.zeros(shape, type)
        self._scratch = np.empty((2, min(self.mean.size, CHUNK)), type)

    def update(self, y: NDArray[Any]) -> None:
        """Add one more result.

        Parameters
        ----------
        y : numpy.ndarray of float32, float64, float16 or bfloat16
            The result, of the same shape each time.

        Raises
        ------
        TypeError
            The result has another dtype.
        ValueError
            The result has another shape than the results before.
        """
        values = plan.as_array(y, "y")
        if not self.count:
            self.begin(values.shape, compute_type(values.dtype))
        elif values.shape != self.mean.shape:
            raise ValueError(f"each pass must have the same shape; got {values.shape} after {self.mean.shape}")
        self.count += 1
        flat, mean, m2 = values.reshape(-1), self.mean.reshape(-1), self.m2.reshape(-1)
        with plan.RoundToNearest(), np.errstate(all="ignore"):
            weight = self.mean.dtype.type(1.0 / self.count)
            for at in range(0, flat.size, CHUNK):
                part = slice(at, at + CHUNK)
                welford(flat[part], weight, mean[part], m2[part], *self._scratch)

    @property
    def variance(self) -> NDArray[Any]:
        """The mean of the squared differences from the mean (divided by `count`)."""
        with plan.RoundToNearest(), np.errstate(all="ignore"):
            spread: NDArray[Any] = self.m2 / self.m2.dtype.type(max(self.count, 1))
            return spread

    @property
    def std(self) -> NDArray[Any]:
        """The square root of the variance."""
        variance = self.variance
        with plan.RoundToNearest(), np.errstate(all="ignore"):
            deviation: NDArray[Any] = np.sqrt(variance)
            return deviation


def welford(
    y: NDArray[Any], weight: Any, mean: NDArray[Any], m2: NDArray[Any], difference: NDArray[Any], term: NDArray[Any]
) -> None:
    """Add one more y to mean and m2; its weight is 1 / count. The last two arrays are scratch memory."""
    difference, term = difference[: y.size], term[: y.size]
    np.subtract(y, mean, out=difference)
    np.multiply(difference, weight, out=term)
    np.add(mean, term, out=mean)
    np.subtract(y, mean, out=term)
    np.multiply(difference, term, out=term)
    np.add(m2, term, out=m2)


class Classification(Moments):
    """Measures of uncertainty of a classifier whose results are probabilities, with the classes along the last axis.

    It has the mean and the variance of `Moments` too.

    Attributes
    ----------
    votes : numpy.ndarray of int64
        For each class, the number of passes in which it is the most probable one. The first class wins a tie.
    prediction : numpy.ndarray of int64
        The most probable class by the mean of the probabilities.
    predictive_entropy : numpy.ndarray of float64
        The entropy of the mean probabilities: the whole uncertainty of the prediction.
    expected_entropy : numpy.ndarray of float64
        The mean of the entropies of the passes: the uncertainty that remains if the weights are known.
    mutual_information : numpy.ndarray of float64
        The difference of the two entropies: the disagreement of the passes (BALD). It is never below 0.
    variation_ratio : numpy.ndarray of float64
        The share of passes whose most probable class is not the one with the most votes.

    Raises
    ------
    ValueError
        By `update`: probabilities outside [0, 1], or a sum over the classes that is not 1. By the measures: no pass yet.

    Notes
    -----
    Entropies are in nats. With p_t the probabilities of pass t and p their mean, the predictive entropy is H[p], and the
    expected entropy is the mean of H[p_t].

    References
    ----------
    .. [1] Y. Gal, Z. Ghahramani, "Dropout as a Bayesian approximation: representing model uncertainty in deep learning",
       ICML 2016.
    .. [2] N. Houlsby, F. Huszar, Z. Ghahramani, M. Lengyel, "Bayesian active learning for classification and preference
       learning", arXiv:1112.5745, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop.uncertainty import Classification
    >>> found = Classification()
    >>> found.update(np.array([[1.0, 0.0], [0.5, 0.5]]))
    >>> found.update(np.array([[0.0, 1.0], [0.5, 0.5]]))
    >>> found.predictive_entropy.round(3), found.expected_entropy.round(3), found.mutual_information.round(3)
    (array([0.693, 0.693]), array([0.   , 0.693]), array([0.693, 0.   ]))
    """

    def __init__(self) -> None:
        super().__init__()
        self.votes: NDArray[np.int64] = np.zeros(0, np.int64)
        self._entropies: NDArray[np.float64] = np.zeros(0)  # the sum over the passes

    def begin(self, shape: tuple[int, ...], type: type[np.floating[Any]]) -> None:
        """Set everything to zero, for results of a shape."""
        super().begin(shape, type)
        self.votes, self._entropies = np.zeros(shape, np.int64), np.zeros(shape[:-1])

    def update(self, y: NDArray[Any]) -> None:
        """Add the probabilities of one more pass, of shape (..., classes)."""
        entropies = entropy(y)
        super().update(y)
        classes = self.votes.shape[-1]
        best = np.argmax(np.asarray(y), axis=-1).reshape(-1)
        self.votes.reshape(-1, classes)[np.arange(best.size), best] += 1
        with plan.RoundToNearest():
            self._entropies += entropies

    @property
    def prediction(self) -> NDArray[np.int64]:
        """The most probable class by the mean of the probabilities."""
        self._require_pass()
        best: NDArray[np.int64] = np.argmax(self.mean, axis=-1)
        return best

    @property
    def predictive_entropy(self) -> NDArray[np.float64]:
        """The entropy of the mean probabilities: the whole uncertainty of the prediction."""
        self._require_pass()
        return shannon_entropy(self.mean.astype(np.float64))

    @property
    def expected_entropy(self) -> NDArray[np.float64]:
        """The mean of the entropies of the passes: the uncertainty that remains if the weights are known."""
        self._require_pass()
        with plan.RoundToNearest():
            return self._entropies / self.count

    @property
    def mutual_information(self) -> NDArray[np.float64]:
        """The mutual information between the prediction and the weights (BALD): the disagreement of the passes."""
        with plan.RoundToNearest():
            return np.maximum(self.predictive_entropy - self.expected_entropy, 0.0)

    @property
    def variation_ratio(self) -> NDArray[np.float64]:
        """The share of passes whose most probable class is not the one with the most votes."""
        self._require_pass()
        with plan.RoundToNearest():
            ratio: NDArray[np.float64] = 1.0 - self.votes.max(axis=-1) / self.count
        return ratio

    def _require_pass(self) -> None:
        if not self.count:
            raise ValueError("the measures need at least one pass; there was none yet")


class Regression(Moments):
    """Predictive variance and log likelihood of a regression whose observations have noise of a known precision.

    It has the mean and the variance of `Moments` too.

    Parameters
    ----------
    precision : float
        The precision tau: 1 divided by the variance of the observations' noise. See `model_precision`.
    targets : array_like, optional
        The observations, of the shape of the results, (N,) or (N, D). Without them there is no log likelihood.

    Attributes
    ----------
    predictive_variance : numpy.ndarray
        The variance of a new observation: the variance of the results plus the variance of the noise, 1 / tau.
    log_likelihood : numpy.ndarray of float64
        The log likelihood of each target under all passes together, of shape (N,).

    Raises
    ------
    TypeError, ValueError
        The precision is not above 0, or the targets do not have one or two dimensions. By `update`: a result does not have the
        shape of the targets. By `log_likelihood`: no targets, or no pass yet.

    Notes
    -----
    With several outputs the predictive covariance of the paper is the covariance of the results plus I / tau;
    `predictive_variance` is its diagonal. The log likelihood of the T passes as a mixture of Gaussians is
    ``logsumexp_t(-tau / 2 ||target - y_t||**2) - log T - D / 2 log(2 pi) + D / 2 log tau``.

    References
    ----------
    .. [1] Y. Gal, Z. Ghahramani, "Dropout as a Bayesian approximation: representing model uncertainty in deep learning",
       ICML 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop.uncertainty import Regression
    >>> found = Regression(precision=4.0, targets=np.array([1.0]))
    >>> for y in (0.0, 2.0):
    ...     found.update(np.array([y]))
    >>> found.predictive_variance, found.log_likelihood.round(4)
    (array([1.25]), array([-2.2258]))
    """

    def __init__(self, precision: float, targets: ArrayLike | None = None) -> None:
        super().__init__()
        self.precision = as_positive_number(precision, "precision")
        self.targets = None if targets is None else as_floats(targets, "targets")
        if self.targets is not None and self.targets.ndim not in (1, 2):
            raise ValueError(f"targets must have shape (N,) or (N, D); got {self.targets.shape}")
        self._largest: NDArray[np.float64] = np.zeros(0)  # the largest exponent so far
        self._total: NDArray[np.float64] = np.zeros(0)  # the sum of exp(exponent - largest)

    def update(self, y: NDArray[Any]) -> None:
        """Add the predictions of one more pass."""
        if self.targets is not None and np.shape(y) != self.targets.shape:
            raise ValueError(f"a pass must have the shape of the targets, {self.targets.shape}; got {np.shape(y)}")
        super().update(y)
        if self.targets is None:
            return
        with plan.RoundToNearest(), np.errstate(over="ignore"):
            apart = self.targets - np.asarray(y, np.float64)
            square = apart * apart if apart.ndim == 1 else fixed_sum(apart * apart)[..., 0]
            exponent = np.maximum(-0.5 * self.precision * square, np.finfo(np.float64).min)
            largest = exponent if self.count == 1 else np.maximum(self._largest, exponent)
            more = elementary.exp(exponent - largest)
            self._total = more if self.count == 1 else self._total * elementary.exp(self._largest - largest) + more
            self._largest = largest

    @property
    def predictive_variance(self) -> NDArray[Any]:
        """The variance of a new observation: the variance of the results plus the variance of the noise, 1 / tau."""
        variance = self.variance
        with plan.RoundToNearest(), np.errstate(all="ignore"):
            total: NDArray[Any] = variance + variance.dtype.type(1.0 / self.precision)
            return total

    @property
    def log_likelihood(self) -> NDArray[np.float64]:
        """The log likelihood of each target under all passes together, of shape (N,)."""
        if self.targets is None or not self.count:
            raise ValueError("the log likelihood needs targets, and at least one pass")
        size = 1 if self.targets.ndim == 1 else self.targets.shape[1]
        logs = elementary.log(np.array([self.count, 2 * math.pi / self.precision]))
        with plan.RoundToNearest():
            likelihood: NDArray[np.float64] = self._largest + elementary.log(self._total) - (logs[0] + 0.5 * size * logs[1])
        return likelihood


class Samples:
    """All results themselves, for statistics that need them, such as quantiles. It takes the memory of all results.

    Attributes
    ----------
    values : list of numpy.ndarray
        Copies of the results, in order.
    count : int
        The number of results so far.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop.uncertainty import Samples
    >>> found = Samples()
    >>> for y in (1.0, 5.0, 2.0):
    ...     found.update(np.array([y]))
    >>> np.median(found.values, axis=0)
    array([2.])
    """

    def __init__(self) -> None:
        self.values: list[NDArray[Any]] = []

    @property
    def count(self) -> int:
        """The number of results so far."""
        return len(self.values)

    def update(self, y: NDArray[Any]) -> None:
        """Add a copy of one more result."""
        self.values.append(np.array(y))


# Passes -------------------------------------------------------------------------------------------------------------

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
    return fold_in(fold_in(fold_in(seed, DOMAIN), offset), number)


def pass_runner(forward: Any, seed: Seed | None, offset: int) -> Callable[[Any, int], Any]:
    """Return a function of (x, k) that runs pass k on an input."""
    own = getattr(forward, "forward", None)
    if callable(own):
        if seed is not None:
            raise TypeError("seed must not be given with layers, which draw from their own streams")
        return lambda x, number: own(x)
    if not callable(forward):
        raise TypeError(f"forward must be a function of (x, stream), or have a method forward(x); got {forward!r}")
    seed, offset = plan.find_key(seed, offset)
    return lambda x, number: forward(x, Stream(pass_seed(seed, offset, number)))


@contextmanager
def sampling(forward: Any) -> Iterator[None]:
    """Let layers drop without recording passes for `backward`, and then restore their mode."""
    if not hasattr(forward, "sampling"):
        yield
        return
    was_training, was_sampling = forward.training, forward.sampling
    forward.eval(sampling=True)
    try:
        yield
    finally:
        if was_training:
            forward.train()
        else:
            forward.eval(sampling=was_sampling)


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
        draws from its own streams: it is put into ``eval(sampling=True)``, and afterwards back into its mode. Other objects
        with a method ``forward(x)`` are called in their current mode.
    x : array_like
        The input of `forward`. If `batch` is 1, it may be anything that `forward` takes.
    samples : int, default 100
        The number of passes.
    reduce : Reduction, optional
        The object that takes the results: `Moments` (a new one by default), `Classification`, `Regression`, `Samples`, or any
        object with a method ``update(y)`` and an integer ``count``. If it already has results, the passes that follow are run:
        50 passes and then 50 more, with the same (seed, offset), are the same as 100.
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
        The number of the run under the seed, in [0, 2**64).

    Returns
    -------
    Reduction
        `reduce`, or the new `Moments`.

    Raises
    ------
    TypeError
        `forward` is neither a function nor has a method ``forward``, or a seed is given for layers.
    ValueError
        `samples` or `batch` is below 1, or the results change their shape.

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
    found: Any = Moments() if reduce is None else reduce
    run = pass_runner(forward, seed, offset)
    first = found.count
    groups = range(first, first + samples, batch)
    with sampling(forward):
        for number in track(groups, "passes", progress):
            size = min(batch, first + samples - number)
            if size == 1:
                found.update(np.asarray(run(x, number)))
            else:
                for y in stacked(run, x, number, size):
                    found.update(y)
    return found


def stacked(run: Callable[[Any, int], Any], x: ArrayLike, number: int, size: int) -> NDArray[Any]:
    """Return the results of `size` passes that are run as one, on `size` copies of the input."""
    values = np.asarray(x)
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
    """Return mean and variance of the dropout of an activation over many masks, from counts of the masks.

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
        As in `fastdrop.dropout`; or `samples` is below 1.

    Notes
    -----
    Let v be the value of an element if it is kept, and k the number of the T masks that keep it. The mean is v (k / T), and
    the sum of squared differences is v v (k (T - k) / T). The counts are exact, so the results do not carry the rounding errors
    of T updates. They are the same to the bit for any backend and number of threads. They take memory for both, and one byte
    per element (two for 256 masks or more).

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop.uncertainty import mc_dropout
    >>> found = mc_dropout(np.float32([1, 2, 3]), 0.25, samples=400, seed=42)
    >>> found.mean.round(2), found.variance.round(1)  # near x and x**2 / 3
    (array([1.02, 1.95, 2.93], dtype=float32), array([0.3, 1.4, 3.1], dtype=float32))
    """
    values = plan.as_array(x, "x")
    rate = plan.as_rate(p)
    count = as_positive_count(samples, "samples")
    shared = () if shared_axes is None else plan.as_axes(shared_axes, values.ndim, "shared_axes")
    shape = [1 if axis in shared else size for axis, size in enumerate(values.shape)]
    found = Moments()
    found.begin(values.shape, compute_type(values.dtype))
    found.count = count
    with using(backend=backend, num_threads=num_threads):  # which are checked before the key is drawn
        kept = kept_counts(math.prod(shape), rate, plan.find_key(seed, offset), count, progress).reshape(shape)
    with plan.RoundToNearest(), np.errstate(all="ignore"):
        scale = 1.0 / (1.0 - rate) if rate < 1.0 else 0.0
        flat, times = values.reshape(-1), np.broadcast_to(kept, values.shape).reshape(-1)
        for at in range(0, flat.size, CHUNK):
            part = slice(at, at + CHUNK)
            fill_moments(flat[part], times[part], scale, count, found.mean.reshape(-1)[part], found.m2.reshape(-1)[part])
    return found


def kept_counts(size: int, p: float, key: tuple[int, int], samples: int, progress: bool) -> NDArray[Any]:
    """Return how many of the masks of these passes keep each element."""
    counts = np.empty(size, np.min_scalar_type(samples))
    steps = ((at, pass_seed(*key, number)) for at in range(0, size, RUN) for number in range(samples))  # may be very many
    total = -(-size // RUN) * samples
    for at, group in groupby(track(steps, "masks", progress, total), key=itemgetter(0)):
        part = counts[at : at + RUN]
        padded = -(-part.size // (8 * WORD_BYTES)) * 8 * WORD_BYTES
        counters = KeptCounts()
        for _, seed in group:
            counters.add(dropout_mask(padded, p, seed=seed, packed=True, start=at))
        part[:] = counters.counts(part.size)
    return counts


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


# Measures ---------------------------------------------------------------------------------------------


def entropy(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return the entropy of distributions over classes, in nats.

    Parameters
    ----------
    probabilities : array_like
        The distributions, of shape (..., classes): numbers in [0, 1] whose sum over the classes is 1. The sum may be off by
        0.01, which leaves room for the rounding of 16-bit types.

    Returns
    -------
    numpy.ndarray of float64
        The entropies, of shape (...,). A probability of 0 adds 0.

    Raises
    ------
    TypeError
        The probabilities are not real numbers.
    ValueError
        There is no axis of classes, a number is outside [0, 1], or a sum is not 1.

    Examples
    --------
    >>> from fastdrop.uncertainty import entropy
    >>> entropy([[0.5, 0.5], [1.0, 0.0]]).round(4)
    array([0.6931, 0.    ])
    """
    return shannon_entropy(as_probabilities(probabilities))


def shannon_entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the entropy of distributions along the last axis that are checked already."""
    logs = elementary.log(np.where(p > 0, p, 1.0))
    with plan.RoundToNearest():
        total: NDArray[np.float64] = 0.0 - fixed_sum(p * logs)[..., 0]
    return total


def model_precision(p: float, length_scale: float, samples: int, weight_decay: float) -> float:
    """Return the precision tau of the observations that training with dropout and weight decay implies.

    Parameters
    ----------
    p : float
        Probability of dropping, in [0, 1).
    length_scale : float
        The length scale l of the prior: large for a function that is expected to vary slowly.
    samples : int
        The number N of training samples.
    weight_decay : float
        The factor lambda of the objective: mean squared error plus lambda ||W||**2.

    Returns
    -------
    float
        tau = (1 - p) l**2 / (2 N lambda).

    Raises
    ------
    TypeError, ValueError
        An argument is not a number above 0, or p is not in [0, 1).

    References
    ----------
    .. [1] Y. Gal, Z. Ghahramani, "Dropout as a Bayesian approximation: representing model uncertainty in deep learning",
       ICML 2016.

    Examples
    --------
    >>> from fastdrop.uncertainty import model_precision
    >>> model_precision(0.5, length_scale=0.5, samples=64, weight_decay=0.0078125)
    0.125
    """
    rate = plan.as_rate(p)
    if rate == 1.0:
        raise ValueError("p must be below 1: a network that drops everything predicts nothing")
    square = as_positive_number(length_scale, "length_scale") ** 2
    return (
        (1.0 - rate) * square / (2.0 * as_positive_count(samples, "samples") * as_positive_number(weight_decay, "weight_decay"))
    )
