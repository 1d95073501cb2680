"""Entropies, the model precision, calibration and the detection of other data: against loops and papers' formulas."""

import doctest
import math
from functools import partial

import numpy as np
import pytest
from comparisons import DTYPES, normal, softmax

from fastdrop import uncertainty
from fastdrop.uncertainty import (
    Classification,
    calibration,
    entropy,
    measures,
    model_precision,
    ood_auroc,
    passes,
    reductions,
    reliability,
)

# Measures -----------------------------------------------------------------------------------------------------------


def test_entropy():
    np.testing.assert_allclose(entropy(np.full((2, 3, 8), 1 / 8)), np.full((2, 3), math.log(8)))
    assert entropy([1.0, 0.0]) == 0
    assert not np.signbit(entropy([1.0, 0.0]))
    for bad, match in (([2.0, -1.0], "0, 1"), ([np.nan, 1.0], "0, 1"), (0.5, "axis of classes")):
        with pytest.raises(ValueError, match=match):
            entropy(bad)
    for bad in (["a", "b"], [1j, 0.0], np.array([1, "x"], object)):
        with pytest.raises(TypeError, match="probabilities must be real numbers"):
            entropy(bad)


@pytest.mark.parametrize("rows", [[[0.5, 0.5], [0.6, 0.3]], [[0.5, 0.6], [0.5, 0.5]], [[0.0, 0.0], [0.0, 1.0]]])
def test_rows_that_do_not_sum_to_one_are_refused(rows):
    sentence = r"probabilities must sum to 1 over the classes; row \d+ sums to (0\.9|1\.1|0)\b"
    found = Classification()
    for call in (lambda: entropy(rows), lambda: calibration(rows, [0, 1]), lambda: found.update(np.array(rows))):
        with pytest.raises(ValueError, match=sentence):
            call()
    assert found.count == 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rounded_probabilities_are_taken(dtype):
    """Rows of a softmax that is computed in the dtype itself, of many classes, do not sum to 1 exactly."""
    found = Classification()
    for scores in normal((3, 50, 1000), np.float32):
        p = softmax(scores).astype(dtype)
        found.update(p)
        entropy(p)
        entropy(p.astype(np.float64))
    assert (found.predictive_entropy > 0).all()
    entropy(found.mean)


def test_model_precision_inverts_the_weight_decay():
    """The paper's code sets the weight decay to l**2 (1 - p) / (2 N tau)."""
    p, scale, n, tau = 0.05, 1e-2, 455, 0.15
    assert model_precision(p, scale, n, scale**2 * (1 - p) / (2 * n * tau)) == pytest.approx(tau)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((1.0, 1.0, 10, 1e-3), "p must be below 1"),
        ((0.5, 1.0, 0, 1e-3), "samples"),
        ((0.5, 1.0, 10, 0.0), "weight_decay"),
        ((0.5, 1e200, 10, 1.0), "finite precision above 0; it is inf"),
        ((0.5, 1e-200, 10, 1.0), "finite precision above 0; it is 0.0"),
    ],
)
def test_bad_model_precision(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        model_precision(*arguments)


# Calibration --------------------------------------------------------------------------------------------------------


def test_calibration_against_a_loop():
    p, labels, bins = softmax(normal((300, 4)) * 2), np.arange(300) % 4, 10
    found = calibration(p, labels, bins)
    error = largest = 0.0
    for b in range(bins):
        inside = [i for i in range(300) if b / bins < p[i].max() <= (b + 1) / bins]
        assert found.counts[b] == len(inside)
        if inside:
            right = sum(int(p[i].argmax()) == labels[i] for i in inside) / len(inside)
            sure = sum(p[i].max() for i in inside) / len(inside)
            assert (found.accuracy[b], found.confidence[b]) == pytest.approx((right, sure))
            error += len(inside) / 300 * abs(right - sure)
            largest = max(largest, abs(right - sure))
    assert found.ece == pytest.approx(error)
    assert found.mce == pytest.approx(largest)


def test_sure_and_right():
    found = calibration(np.eye(3), [0, 1, 2])
    assert found.ece == 0
    assert found.counts[-1] == 3
    assert calibration(np.eye(3), [1, 2, 0]).ece == 1


def test_bad_calibration():
    for p, labels, bins, error, match in (
        (np.eye(2), [0.0, 1.0], 5, TypeError, "integers"),
        (np.eye(2), [0], 5, ValueError, r"\(N, classes\)"),
        (np.eye(2), [0, 2], 5, ValueError, "0 to 2"),
        (np.eye(2) * 3, [0, 1], 5, ValueError, "softmax"),
        (np.eye(2), [0, 1], 0, ValueError, "bins"),
        (np.zeros((0, 2)), np.zeros(0, int), 5, ValueError, "N > 0"),
    ):
        with pytest.raises(error, match=match):
            calibration(p, labels, bins)


@pytest.mark.parametrize("known", [[-math.inf, 3.0], [math.inf, 3.0], [True, False], [-1e308, 1e308]])
def test_auroc_of_infinite_and_extreme_scores(known):
    """An infinite score is the least or the most familiar of all: only the order counts."""
    pytest.importorskip("sklearn")
    unknown = [-math.inf, 0.5, math.inf]
    pairs = [float(b > a) + 0.5 * (b == a) for a in known for b in unknown]
    assert ood_auroc(known, unknown) == pytest.approx(sum(pairs) / len(pairs))


@pytest.mark.parametrize("bad", [["a"], [1j], None, [[1.0], [1.0, 2.0]]])
def test_auroc_names_scores_that_are_no_numbers(bad):
    pytest.importorskip("sklearn")
    with pytest.raises((TypeError, ValueError), match="unknown must be"):
        ood_auroc([0.5], bad)


def test_auroc_counts_pairs():
    pytest.importorskip("sklearn")
    known, unknown = normal(40).round(1), normal(30, seed=1).round(1) + 1
    pairs = [(u > k) + 0.5 * (u == k) for u in unknown for k in known]
    assert ood_auroc(known, unknown) == pytest.approx(sum(pairs) / len(pairs))
    for bad in ([], [math.nan]):
        with pytest.raises(ValueError, match="at least one score"):
            ood_auroc(known, bad)


def test_plots():
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    found = calibration(softmax(normal((300, 4)) * 2), np.arange(300) % 4, 10)
    ax = found.plot()
    heights = np.array([bar.get_height() for bar in ax.patches])
    np.testing.assert_array_equal(heights, found.accuracy[found.counts > 0])
    assert f"{found.ece:.3f}" in ax.get_title()
    same = uncertainty.plot_histograms({"digits": normal(50), "noise": normal(50, seed=1)}, ax)
    assert same is ax
    assert {"digits", "noise"} <= {text.get_text() for text in ax.get_legend().get_texts()}
    pyplot.close(ax.figure)
    for call in (found.plot, partial(uncertainty.plot_histograms, {"digits": normal(50)})):
        with pytest.raises(TypeError, match=r"ax must be a matplotlib\.axes\.Axes, or None for a new figure; got 3"):
            call(ax=3)
    for scores, bins, exception, message in (
        ({"a": ["x"]}, 3, TypeError, "the scores of 'a' must be real numbers; got"),
        ({"a": ["0.5"]}, 3, TypeError, "the scores of 'a' must be real numbers; got"),
        ({"a": [0.5 + 1j]}, 3, TypeError, "the scores of 'a' must be real numbers; got"),
        ({"a": [1.0, np.nan]}, 3, ValueError, "the scores of 'a' must be finite; got"),
        ({"a": [1.0]}, "auto", TypeError, "bins must be an integer"),
        ({"a": [1.0]}, 0, ValueError, "bins must be at least 1"),
    ):
        with pytest.raises(exception, match=message):
            uncertainty.plot_histograms(scores, bins=bins)
    assert not pyplot.get_fignums()  # nothing was drawn


def test_the_legend_of_an_underconfident_classifier_hides_no_bar():
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    p = np.full((9, 10), 0.7 / 9)
    p[:, 0] = 0.3
    ax = calibration(p, np.zeros(9, int), 10).plot()
    ax.figure.canvas.draw()
    legend = ax.get_legend().get_window_extent()
    assert not any(legend.overlaps(bar.get_window_extent()) for bar in ax.patches)
    pyplot.close(ax.figure)


def test_examples():
    pytest.importorskip("sklearn")
    for module in (uncertainty, measures, passes, reductions, reliability):
        result = doctest.testmod(module)
        assert result.attempted
        assert not result.failed
