"""Monte Carlo dropout: its statistics against slow transcriptions and closed forms, its bits over engines."""

import doctest
import math
from functools import partial

import numpy as np
import oracle
import pytest
from comparisons import DTYPES, assert_same_bytes, by_reference, normal, scale_of, times
from example_runs import run_example

import fastdrop
from fastdrop import uncertainty
from fastdrop.uncertainty import (
    Classification,
    Moments,
    Regression,
    Samples,
    calibration,
    entropy,
    mc_dropout,
    mc_predict,
    model_precision,
    ood_auroc,
    pass_seed,
    reliability,
)
from fastdrop.uncertainty.counting import KeptCounts
from fastdrop.verify.cases import spoiled


def drop(x, stream):
    return fastdrop.dropout(x, 0.3, seed=stream)


def welford(results, type):
    """Return mean and sum of squares of numbers, an operation at a time."""
    mean = m2 = type(0)
    for n, y in enumerate(results, 1):
        d = type(type(y) - mean)
        mean = type(mean + type(d * type(1 / n)))
        m2 = type(m2 + type(d * type(type(y) - mean)))
    return mean, m2


def softmax(scores):
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


# Statistics ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_moments_are_welford_to_the_bit(dtype):
    results = normal((9, 5), dtype)
    moments = Moments()
    for y in results:
        moments.update(y)
    type = np.float64 if dtype == np.float64 else np.float32
    want = [welford(column, type) for column in results.T]
    assert_same_bytes(moments.mean, np.array([mean for mean, _ in want], type))
    assert_same_bytes(moments.m2, np.array([m2 for _, m2 in want], type))
    exact = results.astype(np.float64)
    np.testing.assert_allclose(moments.mean, exact.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moments.variance, exact.var(axis=0), rtol=1e-5)
    np.testing.assert_allclose(moments.std, exact.std(axis=0), rtol=1e-5)


def test_moments_of_large_numbers_do_not_cancel():
    moments = Moments()
    for y in (1e8, 1e8 + 1, 1e8 + 2):
        moments.update(np.array(y))
    assert moments.variance == pytest.approx(2 / 3)


def test_moments_in_chunks_and_in_any_layout():
    results = normal((3, 300, 301), np.float32)  # more than two chunks
    flat, turned = Moments(), Moments()
    for y in results:
        flat.update(y)
        turned.update(y.T)
    assert_same_bytes(turned.mean, np.ascontiguousarray(flat.mean.T))
    assert_same_bytes(turned.m2, np.ascontiguousarray(flat.m2.T))
    i, j = 170, 13
    assert (flat.mean[i, j], flat.m2[i, j]) == welford(results[:, i, j], np.float32)


def test_moments_in_a_hostile_environment():
    results = normal((20, 50), np.float32) * np.float32(1e-20)  # squares are subnormal

    def run():
        moments = Moments()
        for y in results:
            moments.update(y)
        few = mc_dropout(results[0], 0.3, 9, seed=1)
        return moments.mean, moments.m2, moments.variance, moments.std, few.mean, few.m2, few.variance

    calm = run()
    assert calm[1].max() > 0
    with spoiled():
        rough = run()
    for got, want in zip(rough, calm, strict=True):
        assert_same_bytes(got, want)


def test_results_must_keep_their_shape():
    moments = Moments()
    moments.update(np.zeros(3))
    with pytest.raises(ValueError, match=r"same shape; got \(4,\) after \(3,\)"):
        moments.update(np.zeros(4))
    with pytest.raises(TypeError, match="int64"):
        Moments().update(np.zeros(3, np.int64))


# A bare activation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 2, 3, 4, 7, 8, 100, 255, 256, 300])
def test_counts_of_masks(samples):
    rng = np.random.default_rng(samples)
    masks = rng.random((samples, 192)) < rng.random(192)
    masks[:, 0], masks[:, 1] = True, False
    counters = KeptCounts()
    for mask in masks:
        counters.add(np.packbits(mask, bitorder="little"))
    got = counters.counts(190)
    assert got.dtype.itemsize <= (1 if samples < 256 else 2)
    np.testing.assert_array_equal(got, masks.sum(axis=0)[:190])


def test_runs_of_elements_have_their_places_in_the_mask():
    n = 2**19 + 77  # more than the elements that are counted together
    found = mc_dropout(np.ones(n, np.float32), 0.5, 2, seed=3)
    kept = sum(fastdrop.dropout_mask(n, 0.5, seed=pass_seed(3, 0, t)).astype(np.float32) for t in range(2))
    np.testing.assert_array_equal(found.mean, kept)  # 2 * kept / 2


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shared", [None, (1,)])
def test_mc_dropout_is_its_formula(dtype, shared):
    """The masks are the stream's, those of each pass by its own seed; the rest is arithmetic."""
    x, p, samples = normal((7, 5), dtype), 0.3, 6
    found = mc_dropout(x, p, samples, seed=42, offset=3, shared_axes=shared)
    axes = () if shared is None else shared
    kept = sum(oracle.keep_laid(x.shape, p, pass_seed(42, 3, t), shared_axes=axes).astype(int) for t in range(samples))
    type = found.mean.dtype.type
    value = np.where(kept > 0, times(x, scale_of(p, dtype)).astype(type), type(0))
    k = kept.astype(type)
    assert_same_bytes(found.mean, value * (k / type(samples)))
    assert_same_bytes(found.m2, value * (value * ((type(samples) - k) * k / type(samples))))
    assert found.count == samples


def test_mc_dropout_has_the_same_bytes_by_every_engine(engine):
    x = normal((3, 12_345), np.float32)
    got = mc_dropout(x, 0.1, 5, seed=7)
    want = by_reference(mc_dropout, x, 0.1, 5, seed=7)
    assert_same_bytes(got.mean, want.mean)
    assert_same_bytes(got.m2, want.m2)


def test_mc_dropout_takes_backend_and_threads():
    x = normal((2, 100_000), np.float32)
    want = mc_dropout(x, 0.5, 4, seed=7, num_threads=1)
    for how in ({"backend": "numpy"}, {"num_threads": 2}):
        got = mc_dropout(x, 0.5, 4, seed=7, **how)
        assert_same_bytes(got.mean, want.mean)
        assert_same_bytes(got.m2, want.m2)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_mask_is_dropout_itself(dtype):
    x = normal((40,), dtype)
    found = mc_dropout(x, 0.5, 1, seed=5)
    want = fastdrop.dropout(x, 0.5, seed=pass_seed(5, 0, 0))
    np.testing.assert_array_equal(found.mean, want.astype(found.mean.dtype))
    assert not found.m2.any()


def test_mc_dropout_agrees_with_passes():
    x = normal((30, 40), np.float32)
    short = mc_dropout(x, 0.3, 50, seed=11)
    long = mc_predict(drop, x, 50, seed=11)
    np.testing.assert_allclose(short.mean, long.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(short.variance, long.variance, rtol=1e-4, atol=1e-6)
    continued = mc_predict(drop, x, 50, seed=11, reduce=mc_dropout(x, 0.3, 50, seed=11))
    np.testing.assert_allclose(continued.mean, mc_predict(drop, x, 100, seed=11).mean, rtol=1e-5, atol=1e-6)


def test_mc_dropout_at_the_edges():
    x = np.array([1.0, -2.0, np.nan, np.inf], np.float32)
    nothing = mc_dropout(x, 1.0, 9, seed=1)
    assert_same_bytes(nothing.mean, np.zeros(4, np.float32))
    assert_same_bytes(nothing.m2, np.zeros(4, np.float32))
    everything = mc_dropout(x, 0.0, 9, seed=1)
    np.testing.assert_array_equal(everything.mean, x)
    assert not everything.m2[:2].any()
    assert mc_dropout(np.zeros((0, 3), np.float32), 0.5, 3, seed=1).mean.shape == (0, 3)
    assert mc_dropout(np.float32(2), 0.0, 3, seed=1).mean == 2


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_a_masked_matrix_is_an_array():
    """`reshape` does not make it flat. The call once failed with a message of NumPy's after it had drawn a key."""
    x = np.ma.masked_array(np.matrix([[1.0, 2.0, 3.0]]))
    plain = np.asarray(x)
    found, want = (mc_dropout(each, 0.5, 3, seed=1) for each in (x, plain))
    assert_same_bytes(found.mean, want.mean)
    assert_same_bytes(found.m2, want.m2)
    moments = Moments()
    moments.update(x)
    assert_same_bytes(moments.mean, plain)


def test_mc_dropout_has_the_expected_moments():
    """With 4,000 masks of 400 elements: mean x and variance x**2 p / (1 - p), within 5 standard errors of their averages."""
    p, samples, n = 0.2, 4000, 400
    found = mc_dropout(np.full(n, 3.0), p, samples, seed=2)
    variance = 9 * p / (1 - p)
    assert abs(found.mean.mean() - 3) < 5 * math.sqrt(variance / (samples * n))
    q = 1 - p
    fourth = (3 / q) ** 4 * p * q * (1 - 3 * p * q)  # central moment of the values, 3 / q or 0
    assert abs(found.variance.mean() - variance) < 5 * math.sqrt((fourth - variance**2) / (samples * n)) + variance / samples


# Passes -------------------------------------------------------------------------------------------------------------


def test_passes_have_seeds_of_their_own():
    found = mc_predict(drop, np.ones(50), 4, seed=42, offset=9, reduce=Samples())
    want = [fastdrop.dropout(np.ones(50), 0.3, seed=pass_seed(42, 9, t)) for t in range(4)]
    for got, expected in zip(found.values, want, strict=True):
        assert_same_bytes(got, expected)
    assert len({y.tobytes() for y in found.values}) == 4


def test_half_of_the_passes_and_then_the_rest():
    x = normal((20, 10), np.float32)
    whole = mc_predict(drop, x, 30, seed=1)
    part = mc_predict(drop, x, 12, seed=1)
    assert mc_predict(drop, x, 18, seed=1, reduce=part) is part
    assert part.count == 30
    assert_same_bytes(part.mean, whole.mean)
    assert_same_bytes(part.m2, whole.m2)


def test_passes_have_the_same_bytes_by_every_engine(engine):
    x = normal((5, 700), np.float32)
    assert_same_bytes(mc_predict(drop, x, 3, seed=1).m2, by_reference(mc_predict, drop, x, 3, seed=1).m2)


def test_a_stream_is_drawn_from_once():
    stream = fastdrop.Stream(42)
    first = mc_predict(drop, np.ones(64), 5, seed=stream)
    second = mc_predict(drop, np.ones(64), 5, seed=stream)
    assert stream.offset == 2
    assert first.mean.tobytes() != second.mean.tobytes()
    assert_same_bytes(second.mean, mc_predict(drop, np.ones(64), 5, seed=42, offset=1).mean)
    assert mc_dropout(np.ones(64), 0.3, 5, seed=stream).mean.tobytes() != second.mean.tobytes()
    assert stream.offset == 3


def test_passes_stacked_along_the_batch():
    x = normal((3, 4), np.float32)
    found = mc_predict(drop, x, 5, seed=6, batch=2, reduce=Samples())
    want = []
    for first, size in ((0, 2), (2, 2), (4, 1)):
        y = fastdrop.dropout(np.concatenate([x] * size), 0.3, seed=pass_seed(6, 0, first))
        want.extend(y.reshape(size, 3, 4))
    assert found.count == 5
    for got, expected in zip(found.values, want, strict=True):
        assert_same_bytes(got, expected)
    with pytest.raises(ValueError, match="first axis"):
        mc_predict(lambda x, stream: x.sum(), x, 4, seed=1, batch=2)


class Layers:
    """What fastdrop.nn's layers look like from outside."""

    def __init__(self):
        self.stream = fastdrop.Stream(3)
        self.train()

    def train(self):
        self.training, self.sampling = True, False

    def eval(self, *, sampling=False):
        self.training, self.sampling = False, sampling

    def forward(self, x):
        assert not self.training  # where it would remember all the passes
        return fastdrop.dropout(x, 0.5, seed=self.stream, training=self.sampling)


def test_passes_of_layers():
    layers, x = Layers(), np.ones((4, 100), np.float32)
    found = mc_predict(layers, x, 6, reduce=Samples())
    for t, y in enumerate(found.values):
        assert_same_bytes(y, fastdrop.dropout(x, 0.5, seed=3, offset=t))
    with pytest.raises(TypeError, match="their own streams"):
        mc_predict(layers, x, 1, seed=1)


def test_passes_of_a_model():
    nn = pytest.importorskip("fastdrop.nn")
    model, again = (nn.Sequential({"a": nn.Dropout(0.5), "b": nn.Dropout(0.1)}, seed=3) for _ in range(2))
    x = normal((6, 50), np.float32)
    found = mc_predict(model, x, 5, reduce=Samples())
    again.eval(sampling=True)
    for y in found.values:
        assert_same_bytes(y, again.forward(x))
    assert model.training
    with pytest.raises(RuntimeError, match="forward pass"):  # nothing was remembered for a backward pass
        model.backward(x)


@pytest.mark.parametrize("mode", [(True, False), (False, False), (False, True)])
def test_layers_are_put_back_into_their_mode(mode):
    layers = Layers()
    layers.training, layers.sampling = mode
    mc_predict(layers, np.ones(3), 2)
    assert (layers.training, layers.sampling) == mode
    with pytest.raises(TypeError):
        mc_predict(layers, np.ones(3, np.int64), 2)
    assert (layers.training, layers.sampling) == mode


def test_each_layer_of_a_model_is_put_back_into_its_mode():
    nn = pytest.importorskip("fastdrop.nn")
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5), nn.Dropout(0.5), seed=3)
    model[1].eval()
    model[2].eval(sampling=True)
    before = [(layer.training, layer.sampling) for _, layer in model.walk()]
    mc_predict(model, np.ones(3), 2)
    assert [(layer.training, layer.sampling) for _, layer in model.walk()] == before


def test_bad_input():
    x, stream = np.ones(3), fastdrop.Stream(1)
    for call, error, match in (
        (lambda: mc_predict(drop, x, 0, seed=stream), ValueError, "samples must be at least 1"),
        (lambda: mc_predict(drop, x, 2, seed=stream, reduce=Samples), TypeError, "reduce must be an object with"),
        (lambda: mc_predict(drop, x, 5, seed=stream, batch=0), ValueError, "batch must be at least 1"),
        (lambda: mc_predict("drop", x, 5, seed=stream), TypeError, "forward must be a function"),
        (lambda: pass_seed(1, "a", 0), TypeError, "offset must be an integer"),
        (lambda: pass_seed(1, 0, -1), ValueError, "number must be an integer"),
        (lambda: mc_dropout(x, 1.5, 5, seed=stream), ValueError, "1.5"),
        (lambda: mc_dropout(x, 0.5, 0, seed=stream), ValueError, "samples"),
        (lambda: mc_dropout(x.astype(int), 0.5, 5, seed=stream), TypeError, "int64"),
        (lambda: mc_dropout(x, 0.5, 5, seed=stream, shared_axes=4), ValueError, "shared_axes"),
    ):
        with pytest.raises(error, match=match):
            call()
    assert stream.offset == 0


def test_a_linear_network_has_the_variance_of_its_formula():
    """Var[sum w x m / q] = p / (1 - p) sum (w x)**2, within 6 standard errors of a variance over 2,000 passes."""
    x, w, p = normal((6, 30)), normal((30, 1), seed=1), 0.25
    found = mc_predict(lambda x, s: fastdrop.dropout(x, p, seed=s) @ w, x, 2000, seed=8)
    want = p / (1 - p) * (x**2 @ w**2)
    np.testing.assert_allclose(found.variance, want, rtol=6 * math.sqrt(2 / 2000))
    np.testing.assert_allclose(found.mean, x @ w, atol=6 * math.sqrt(want.max() / 2000))


def test_progress(capsys):
    pytest.importorskip("rich")
    mc_predict(drop, np.ones(3), 4, seed=1, progress=True)
    mc_dropout(np.ones(3), 0.5, 4, seed=1, progress=True)
    shown = capsys.readouterr().out
    assert "passes" in shown
    assert "masks" in shown
    mc_predict(drop, np.ones(3), 4, seed=1)
    assert capsys.readouterr().out == ""


# Classification -----------------------------------------------------------------------------------------------------


def test_measures_of_classification():
    passes = softmax(normal((12, 6, 4)) * 2)
    found = Classification()
    for p in passes:
        found.update(p)
    mean = passes.mean(axis=0)
    predictive = -(mean * np.log(mean)).sum(axis=-1)
    expected = -(passes * np.log(passes)).sum(axis=-1).mean(axis=0)
    np.testing.assert_allclose(found.predictive_entropy, predictive, rtol=1e-12)
    np.testing.assert_allclose(found.expected_entropy, expected, rtol=1e-12)
    np.testing.assert_allclose(found.mutual_information, predictive - expected, rtol=1e-9)
    np.testing.assert_array_equal(found.prediction, mean.argmax(axis=-1))
    votes = np.array([np.bincount(column, minlength=4) for column in passes.argmax(axis=-1).T])
    np.testing.assert_array_equal(found.votes, votes)
    np.testing.assert_allclose(found.variation_ratio, 1 - votes.max(axis=-1) / 12)


def test_measures_have_the_same_bytes_by_every_engine(engine):
    passes, targets = softmax(normal((5, 40, 7)) * 3), normal((40, 7))

    def measured():
        found, regression = Classification(), Regression(2.0, targets)
        for p in passes:
            found.update(p)
            regression.update(p)
        return found.predictive_entropy, found.expected_entropy, found.mutual_information, regression.log_likelihood

    want = by_reference(measured)
    with spoiled():
        rough = measured()
    for got, hostile, expected in zip(measured(), rough, want, strict=True):
        assert_same_bytes(got, expected)
        assert_same_bytes(hostile, expected)


def test_certain_classifiers_that_disagree():
    found = Classification()
    for k in (0, 0, 1, 2):
        found.update(np.eye(3, dtype=np.float32)[[k]])
    assert found.expected_entropy == 0
    assert found.mutual_information == found.predictive_entropy == pytest.approx(1.5 * math.log(2))
    assert found.variation_ratio == 0.5


def test_information_is_never_negative():
    found = Classification()
    for _ in range(10):
        found.update(np.full((5, 7), 1 / 7, np.float32))
    assert (found.mutual_information >= 0).all()
    np.testing.assert_allclose(found.mutual_information, 0, atol=1e-6)


def test_ties_go_to_the_first_class():
    found = Classification()
    found.update(np.array([[0.1, 0.45, 0.45]]))
    np.testing.assert_array_equal(found.votes, [[0, 1, 0]])


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


def test_measures_need_a_pass():
    for name in ("predictive_entropy", "mutual_information", "prediction", "variation_ratio", "expected_entropy"):
        with pytest.raises(ValueError, match="at least one pass"):
            getattr(Classification(), name)


def test_scores_that_are_no_probabilities_change_nothing():
    found = Classification()
    with pytest.raises(ValueError, match="softmax"):
        found.update(np.array([[3.0, -1.0]]))
    assert found.count == 0


# Regression ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (5, 3)])
def test_log_likelihood_is_that_of_a_mixture(shape):
    stats = pytest.importorskip("scipy.stats")
    targets, passes, tau = normal(shape), normal((8, *shape), seed=1), 2.5
    found = Regression(tau, targets)
    for y in passes:
        found.update(y)
    densities = stats.norm(passes, 1 / math.sqrt(tau)).pdf(targets)
    if len(shape) == 2:
        densities = densities.prod(axis=-1)
    np.testing.assert_allclose(found.log_likelihood, np.log(densities.mean(axis=0)), rtol=1e-10)
    np.testing.assert_allclose(found.predictive_variance, passes.var(axis=0) + 1 / tau)


def test_log_likelihood_far_away():
    found = Regression(1.0, np.array([0.0]))
    for y in (1e4, 100.0, 1e4):
        found.update(np.array([y]))
    assert found.log_likelihood == pytest.approx(-5000 - math.log(3) - 0.5 * math.log(2 * math.pi))
    found.update(np.array([1e200]))  # whose square is infinite
    assert found.log_likelihood == pytest.approx(-5000 - math.log(4) - 0.5 * math.log(2 * math.pi))


def test_bad_regression():
    for call, match in (
        (lambda: Regression(0.0), "precision"),
        (lambda: Regression(math.inf), "precision"),
        (lambda: Regression(1.0, np.zeros((2, 2, 2))), r"\(N, D\)"),
        (lambda: Regression(1.0, np.zeros(2)).update(np.zeros((2, 1))), r"\(2,\); got \(2, 1\)"),
        (lambda: Regression(1.0).log_likelihood, "needs targets"),
        (lambda: Regression(1.0, np.zeros(2)).log_likelihood, "at least one pass"),
        (lambda: model_precision(1.0, 1.0, 10, 1e-3), "p must be below 1"),
        (lambda: model_precision(0.5, 1.0, 0, 1e-3), "samples"),
        (lambda: model_precision(0.5, 1.0, 10, 0.0), "weight_decay"),
        (lambda: model_precision(0.5, 1e200, 10, 1.0), "finite precision above 0; it is inf"),
        (lambda: model_precision(0.5, 1e-200, 10, 1.0), "finite precision above 0; it is 0.0"),
        (lambda: Regression(1.0, np.zeros((3, 0))), "at least one output"),
        (lambda: mc_predict(lambda x, stream: x, 1.0, 4, batch=2, seed=1), "with batch, x must have a first axis"),
    ):
        with pytest.raises(ValueError, match=match):
            call()


def test_model_precision_inverts_the_weight_decay():
    """The paper's code sets the weight decay to l**2 (1 - p) / (2 N tau)."""
    p, scale, n, tau = 0.05, 1e-2, 455, 0.15
    assert model_precision(p, scale, n, scale**2 * (1 - p) / (2 * n * tau)) == pytest.approx(tau)


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
    np.testing.assert_array_equal(heights, found.accuracy)
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
        ({"a": [1.0, np.nan]}, 3, ValueError, "the scores of 'a' must be finite; got"),
        ({"a": [1.0]}, "auto", TypeError, "bins must be an integer"),
        ({"a": [1.0]}, 0, ValueError, "bins must be at least 1"),
    ):
        with pytest.raises(exception, match=message):
            uncertainty.plot_histograms(scores, bins=bins)
    assert not pyplot.get_fignums()  # nothing was drawn


@pytest.mark.slow
def test_the_example_in_short(tmp_path):
    shown = run_example("uncertainty.py", "--short", "--figure", tmp_path / "digits.png", folder=tmp_path)
    assert (tmp_path / "digits.png").stat().st_size > 10_000
    assert "too short to draw conclusions" in shown
    assert "the AUROC of many passes is" not in shown
    assert "plain noise" in shown


def test_examples():
    pytest.importorskip("sklearn")
    for module in (uncertainty, reliability):
        result = doctest.testmod(module)
        assert result.attempted
        assert not result.failed
