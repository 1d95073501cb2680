"""Calibration of a classifier's probabilities, and detection of inputs that differ from the training data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.checks import as_positive_count, as_probabilities, as_real_array, check_indices, require
from fastdrop._core.optional import axes, missing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Calibration", "calibration", "ood_auroc", "plot_histograms"]


@dataclass(frozen=True)
class Calibration:
    """The accuracy of a classifier per bin of confidence; `calibration` returns it.

    Attributes
    ----------
    edges : numpy.ndarray
        The edges of the bins, from 0 to 1. A bin includes its upper edge.
    counts : numpy.ndarray of int64
        The number of predictions in each bin.
    confidence : numpy.ndarray
        The mean confidence in each bin; NaN for an empty bin.
    accuracy : numpy.ndarray
        The share of right predictions in each bin; NaN for an empty bin.
    ece : float
        The expected calibration error.
    mce : float
        The maximum calibration error.

    Examples
    --------
    >>> from fastdrop.uncertainty import calibration
    >>> found = calibration([[0.8, 0.2], [0.8, 0.2], [0.3, 0.7]], [0, 1, 1], bins=5)
    >>> found.accuracy.round(3), round(found.mce, 3)
    (array([  nan,   nan,   nan, 0.667,   nan]), 0.1)
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    @plan.rounding_to_nearest
    def ece(self) -> float:
        """The expected calibration error: the mean over all predictions of |accuracy - confidence| of their bin."""
        used = self.counts > 0
        gaps = np.abs(self.accuracy - self.confidence)[used]
        return float(sum(n * gap for n, gap in zip(self.counts[used], gaps, strict=True)) / self.counts.sum())

    @property
    @plan.rounding_to_nearest
    def mce(self) -> float:
        """The maximum calibration error: the largest |accuracy - confidence| of a bin."""
        return float(np.nanmax(np.abs(self.accuracy - self.confidence)))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the reliability diagram: accuracy over confidence, one bar per bin that has predictions.

        The bars of a calibrated classifier follow the diagonal.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            The axes to draw into. By default a new figure is made.

        Returns
        -------
        matplotlib.axes.Axes
            The axes.

        Raises
        ------
        ImportError
            Matplotlib is not installed.
        TypeError
            `ax` is not a Matplotlib Axes.
        """
        ax = axes(ax)
        left, widths, used = self.edges[:-1], np.diff(self.edges), self.counts > 0
        ax.bar(left[used], self.accuracy[used], widths[used], align="edge", color="C0", edgecolor="white", label="accuracy")
        ax.plot(self.confidence, self.accuracy, "o", color="black", markersize=3, label="mean confidence")
        ax.plot([0, 1], [0, 1], "--", color="0.4", label="calibrated")
        ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", title=f"ECE {self.ece:.3f}", aspect="equal")
        ax.legend()  # where it hides the fewest bars
        return ax


@plan.rounding_to_nearest
def calibration(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> Calibration:
    """Return the accuracy of a classifier per bin of confidence.

    Parameters
    ----------
    probabilities : array_like
        The predicted distributions, of shape (N, classes), as in `entropy`. The prediction is the most probable class, and the
        confidence is its probability.
    labels : array_like of int
        The true classes, of shape (N,).
    bins : int, default 15
        The number of bins, which have equal widths.

    Returns
    -------
    Calibration
        Accuracy and confidence per bin, and the calibration errors. Sums are taken in the order of the predictions, so that
        the same input gives the same bits.

    Raises
    ------
    TypeError
        The labels are not integers, or the probabilities are not real numbers.
    ValueError
        Shapes do not fit together, there is no prediction, a number is out of range, or probabilities do not sum to 1.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017.

    Examples
    --------
    >>> from fastdrop.uncertainty import calibration
    >>> found = calibration([[0.8, 0.2], [0.8, 0.2], [0.3, 0.7]], [0, 1, 1], bins=5)
    >>> found.counts, round(found.ece, 3)
    (array([0, 0, 0, 3, 0]), 0.1)
    """
    p, y = as_probabilities(probabilities), np.asarray(plan.to_array(labels, "labels"))
    if y.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers; got {y.dtype}")
    if p.ndim != 2 or y.shape != p.shape[:1] or not p.size:
        raise ValueError(f"probabilities must have shape (N, classes) and labels (N,), N > 0; got {p.shape} and {y.shape}")
    check_indices(y, p.shape[1], "labels", "the classes")
    size = as_positive_count(bins, "bins")
    best = p.argmax(axis=1)
    confidence = np.minimum(p[np.arange(len(p)), best], 1.0)
    edges = np.linspace(0.0, 1.0, size + 1)
    where = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, size - 1)
    counts = np.bincount(where, minlength=size)
    return Calibration(
        edges,
        counts,
        np.bincount(where, confidence, size) / counts,
        np.bincount(where, best == y, size) / counts,
    )


@plan.rounding_to_nearest
def ood_auroc(known: ArrayLike, unknown: ArrayLike) -> float:
    """Return how well a score detects inputs that are unlike the training data, as an AUROC (needs scikit-learn).

    Parameters
    ----------
    known, unknown : array_like
        The scores of inputs that are like the training data, and of inputs that are not. A score is larger for less familiar
        inputs: an entropy or a mutual information, for example.

    Returns
    -------
    float
        The area under the receiver operating characteristic: the probability that an unknown input has a larger score than a
        known one. 1 is perfect, 0.5 is chance.

    Raises
    ------
    ImportError
        scikit-learn is not installed.
    TypeError
        The scores are not real numbers.
    ValueError
        There are no scores of one kind, or a score is NaN.

    References
    ----------
    .. [1] D. Hendrycks, K. Gimpel, "A baseline for detecting misclassified and out-of-distribution examples in neural
       networks", ICLR 2017.

    Examples
    --------
    >>> from fastdrop.uncertainty import ood_auroc
    >>> ood_auroc([0.1, 0.2, 0.3], [0.25, 0.4])
    0.8333333333333334
    """
    try:
        from sklearn.metrics import roc_auc_score
    except ImportError as error:
        raise missing("the AUROC", error, "bench") from error
    scores = [as_scores(given, name) for given, name in ((known, "known"), (unknown, "unknown"))]
    if not all(part.size and not np.isnan(part).any() for part in scores):
        raise ValueError("known and unknown must each have at least one score, and no NaN")
    ranks = np.unique(np.concatenate(scores), return_inverse=True)[1]  # scikit-learn takes no infinite scores
    truth = np.repeat([0, 1], [part.size for part in scores])
    return float(roc_auc_score(truth, ranks.reshape(-1)))


def plot_histograms(
    scores: Mapping[str, ArrayLike], ax: Axes | None = None, *, xlabel: str = "predictive entropy (nats)", bins: int = 30
) -> Axes:
    """Draw histograms of a score for several sets of inputs into one figure.

    Parameters
    ----------
    scores : mapping of str to array_like
        The scores of each set, by the name of the set.
    ax : matplotlib.axes.Axes, optional
        The axes to draw into. By default a new figure is made.
    xlabel : str, optional
        The label of the axis of scores.
    bins : int, default 30
        The number of bins, which have equal widths and cover all scores.

    Returns
    -------
    matplotlib.axes.Axes
        The axes.

    Raises
    ------
    ImportError
        Matplotlib is not installed.
    TypeError
        `scores` is not a mapping, scores are not real numbers, `bins` is not an integer, or `ax` is not a Matplotlib Axes.
    ValueError
        A score is infinite or NaN, or `bins` is below 1.

    Examples
    --------
    >>> from fastdrop.uncertainty import plot_histograms
    >>> ax = plot_histograms({"known": [0.1, 0.2], "unknown": [0.8, 0.9]})  # doctest: +SKIP
    """
    if not isinstance(scores, Mapping):
        raise TypeError(f"scores must be a mapping of names to arrays; got {scores!r}")
    count = as_positive_count(bins, "bins")
    arrays: dict[str, Any] = {name: as_scores(given, f"the scores of {name!r}") for name, given in scores.items()}
    for name, values in arrays.items():
        require(bool(np.isfinite(values).all()), f"the scores of {name!r}", "finite", scores[name])
    edges = np.histogram_bin_edges(np.concatenate([*arrays.values(), np.empty(0)]), count)
    ax = axes(ax)
    for number, (name, values) in enumerate(arrays.items()):
        color = f"C{number}"
        ax.hist(values, edges.tolist(), density=True, histtype="stepfilled", alpha=0.15, color=color)
        ax.hist(values, edges.tolist(), density=True, histtype="step", linewidth=1.5, color=color, label=name)
    ax.set(xlabel=xlabel, ylabel="density")
    ax.legend()
    return ax


def as_scores(given: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return scores as one row."""
    return as_real_array(given, name).astype(np.float64).reshape(-1)
