"""Reductions of the results of Monte Carlo passes: running statistics, and the results themselves."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop import elementary
from fastdrop._core import plan
from fastdrop._core.arithmetic import compute_type, fixed_sum
from fastdrop._core.checks import as_floats, as_positive_number
from fastdrop.uncertainty.measures import entropy, shannon_entropy

__all__ = ["CHUNK", "Classification", "Moments", "Reduction", "Regression", "Samples"]

CHUNK = 2**15  # elements that are updated together: five arrays of them fit into a second-level cache


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
        values = np.asarray(plan.as_array(y, "y"))
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
            raise ValueError("the measures need at least one pass; call update first")


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
        The precision is not above 0, or the targets do not have one or two dimensions, or have no output. By `update`: a result
        does not have the shape of the targets. By `log_likelihood`: no targets, or no pass yet.

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
        if self.targets is not None and self.targets.ndim == 2 and not self.targets.shape[1]:
            raise ValueError(f"targets must have at least one output, D >= 1; got shape {self.targets.shape}")
        self._largest: NDArray[np.float64] = np.zeros(0)  # the largest exponent so far
        self._total: NDArray[np.float64] = np.zeros(0)  # the sum of exp(exponent - largest)

    def update(self, y: NDArray[Any]) -> None:
        """Add the predictions of one more pass."""
        if self.targets is not None and np.shape(y) != self.targets.shape:
            raise ValueError(f"a pass must have the shape of the targets, {self.targets.shape}; got {np.shape(y)}")
        super().update(y)
        if self.targets is None:
            return
        with plan.RoundToNearest(), np.errstate(all="ignore"):
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
        with plan.RoundToNearest():
            logs = elementary.log(np.array([self.count, 2 * math.pi / self.precision]))
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
