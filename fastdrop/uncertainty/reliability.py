"""Whether probabilities are what they say, and whether uncertainty tells the known from the unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core.checks import at_least_one, check_indices, probabilities_of
from fastdrop._core.optional import axes, missing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Calibration", "calibration", "ood_auroc", "plot_histograms"]


@dataclass(frozen=True)
class Calibration:
    """How right a classifier is, by how sure it is: one number for each bin of confidence.

    Attributes
    ----------
    edges : numpy.ndarray
        Of the bins, from 0 to 1; a bin has its upper edge.
    counts : numpy.ndarray of int64
        Predictions in each bin.
    confidence, accuracy : numpy.ndarray
        The mean of the predicted probabilities, and the share that was right; NaN where a bin is empty.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def ece(self) -> float:
        """The expected calibration error: the mean over the predictions of their bin's |accuracy - confidence|."""
        used = self.counts > 0
        gaps = np.abs(self.accuracy - self.confidence)[used]
        return float(sum(n * gap for n, gap in zip(self.counts[used], gaps, strict=True)) / self.counts.sum())

    @property
    def mce(self) -> float:
        """The largest calibration error of a bin."""
        return float(np.nanmax(np.abs(self.accuracy - self.confidence)))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the reliability diagram: accuracy over confidence, a bar a bin; what is calibrated follows the diagonal."""
        ax = axes(ax)
        widths = np.diff(self.edges)
        ax.bar(self.edges[:-1], self.accuracy, widths, align="edge", color="C0", edgecolor="white", label="accuracy")
        ax.plot(self.confidence, self.accuracy, "o", color="black", markersize=3, label="mean confidence")
        ax.plot([0, 1], [0, 1], "--", color="0.4", label="calibrated")
        ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", title=f"ECE {self.ece:.3f}", aspect="equal")
        ax.legend(loc="upper left")
        return ax


def calibration(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> Calibration:
    """Return how right a classifier is, by how sure it is.

    Parameters
    ----------
    probabilities : array_like
        Of shape (N, classes), in [0, 1]. The prediction is the most probable class, the confidence its probability.
    labels : array_like of int
        The true classes, of shape (N,).
    bins : int, default 15
        Of equal width.

    Returns
    -------
    Calibration
        Sums are taken in the order of the predictions, so that the same input gives the same bits.

    Raises
    ------
    TypeError
        Labels that are no integers.
    ValueError
        Shapes that do not fit, no prediction at all, or a number outside its range.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017.

    Examples
    --------
    >>> from fastdrop.uncertainty import reliability
    >>> found = calibration([[0.8, 0.2], [0.8, 0.2], [0.3, 0.7]], [0, 1, 1], bins=5)
    >>> found.counts, round(found.ece, 3)
    (array([0, 0, 0, 3, 0]), 0.1)
    """
    p, y = probabilities_of(probabilities), np.asarray(labels)
    if y.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers; got {y.dtype}")
    if p.ndim != 2 or y.shape != p.shape[:1] or not p.size:
        raise ValueError(f"probabilities must have shape (N, classes) and labels (N,), N > 0; got {p.shape} and {y.shape}")
    check_indices(y, p.shape[1], "labels", "the classes")
    size = at_least_one(bins, "bins")
    best = p.argmax(axis=1)
    confidence = np.minimum(p[np.arange(len(p)), best], 1.0)
    edges = np.linspace(0.0, 1.0, size + 1)
    where = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, size - 1)
    counts = np.bincount(where, minlength=size)
    with np.errstate(invalid="ignore"):
        return Calibration(
            edges,
            counts,
            np.bincount(where, confidence, size) / counts,
            np.bincount(where, best == y, size) / counts,
        )


def ood_auroc(known: ArrayLike, unknown: ArrayLike) -> float:
    """Return how well scores tell inputs unlike the training data from those like it (needs scikit-learn).

    Parameters
    ----------
    known, unknown : array_like
        A score for each input of the two kinds, larger where it is less familiar: an entropy, a mutual information.

    Returns
    -------
    float
        The area under the receiver operating characteristic: the probability that an unknown input has the larger score.
        1 is perfect, 0.5 is chance.

    Raises
    ------
    ImportError
        scikit-learn is not installed.
    ValueError
        One of them is empty, or has NaN.

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
    scores = [np.asarray(given, np.float64).reshape(-1) for given in (known, unknown)]
    if not all(part.size and not np.isnan(part).any() for part in scores):
        raise ValueError("known and unknown must each have at least one score, and no NaN")
    truth = np.repeat([0, 1], [part.size for part in scores])
    return float(roc_auc_score(truth, np.concatenate(scores)))


def plot_histograms(
    scores: Mapping[str, ArrayLike], ax: Axes | None = None, *, xlabel: str = "predictive entropy (nats)", bins: int = 30
) -> Axes:
    """Draw the distributions of a score over several sets of inputs, by name, over each other.

    Parameters
    ----------
    scores : mapping of str to array_like
        For each set its scores.
    ax : matplotlib.axes.Axes, optional
        Where to draw; new ones by default.
    xlabel : str, optional
        What the score is.
    bins : int, default 30
        Of equal width, over all of them.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes(ax)
    arrays: dict[str, Any] = {name: np.asarray(given, np.float64).reshape(-1) for name, given in scores.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(arrays.values())), bins)
    for number, (name, values) in enumerate(arrays.items()):
        color = f"C{number}"
        ax.hist(values, edges.tolist(), density=True, histtype="stepfilled", alpha=0.15, color=color)
        ax.hist(values, edges.tolist(), density=True, histtype="step", linewidth=1.5, color=color, label=name)
    ax.set(xlabel=xlabel, ylabel="density")
    ax.legend()
    return ax
