"""Monte Carlo passes, and the counts of masks of a bare activation: their formulas, their seeds, their bits over engines."""

import functools
import math
import sys

import numpy as np
import oracle
import pytest
from comparisons import DTYPES, assert_same_bytes, by_reference, normal, scale_of, times
from example_runs import run_example

import fastdrop
from fastdrop.uncertainty import Moments, Samples, mc_dropout, mc_predict, pass_seed
from fastdrop.uncertainty.counting import KeptCounts


def drop(x, stream):
    return fastdrop.dropout(x, 0.3, seed=stream)


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
    for offset, error in ((2, ValueError), ("a", TypeError)):
        with pytest.raises(error, match="offset must be"):
            mc_predict(layers, x, 1, offset=offset)
    assert layers.stream.offset == 6


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


def test_the_own_signature_of_forward_counts():
    """`functools.wraps` copies the signature of the inner function, which may take no stream."""

    def double(x):
        return 2 * x

    @functools.wraps(double)
    def around(x, stream):
        return drop(double(x), stream)

    class Odd:
        __signature__ = "none"

        __call__ = staticmethod(around)

    x = np.ones(100, np.float32)
    expected = mc_predict(lambda x, stream: drop(2 * x, stream), x, 3, seed=1)
    assert_same_bytes(mc_predict(around, x, 3, seed=1).mean, expected.mean)
    assert_same_bytes(mc_predict(Odd(), x, 3, seed=1).mean, expected.mean)


def test_bad_input():
    x, stream = np.ones(3), fastdrop.Stream(1)
    for call, error, match in (
        (lambda: mc_predict(drop, x, 0, seed=stream), ValueError, "samples must be at least 1"),
        (lambda: mc_predict(drop, x, 2, seed=stream, reduce=Samples), TypeError, "reduce must be an object with"),
        (lambda: mc_predict(drop, x, 5, seed=stream, batch=0), ValueError, "batch must be at least 1"),
        (lambda: mc_predict(drop, 1.0, 4, seed=stream, batch=2), ValueError, "with batch, x must have a first axis"),
        (lambda: mc_predict("drop", x, 5, seed=stream), TypeError, "forward must be a function"),
        (lambda: mc_predict(lambda x: drop(x, stream), x, 5, seed=stream), TypeError, r"function of \(x, stream\), such as"),
        (lambda: mc_predict(lambda x, *, stream: x, x, 5, seed=stream), TypeError, "cannot be called with two arguments"),
        (lambda: pass_seed(1, "a", 0), TypeError, "offset must be an integer"),
        (lambda: pass_seed(1, 0, -1), ValueError, "number must be an integer"),
        (lambda: mc_dropout(x, 1.5, 5, seed=stream), ValueError, "1.5"),
        (lambda: mc_dropout(x, 0.5, 0, seed=stream), ValueError, "samples"),
        (lambda: mc_dropout(x.astype(int), 0.5, 5, seed=stream), TypeError, "int64"),
        (lambda: mc_dropout(x, 0.5, 5, seed=stream, shared_axes=4), ValueError, "shared_axes"),
        (lambda: mc_predict(drop, x, 5, seed=stream, progress="no"), TypeError, "progress must be True or False; got 'no'"),
        (lambda: mc_dropout(x, 0.5, 5, seed=stream, progress=np.ones(2)), TypeError, "progress must be True or False; got"),
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


def test_without_rich_no_key_is_drawn(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    stream = fastdrop.Stream(1)
    for call in (lambda **given: mc_predict(drop, np.ones(3), 4, **given), lambda **given: mc_dropout(np.ones(3), **given)):
        with pytest.raises(ImportError, match=r"a progress bar needs rich: pip install"):
            call(seed=stream, progress=True)
    assert stream.offset == 0


def test_without_memory_for_the_counts_no_key_is_drawn(monkeypatch):
    allocated = np.empty

    def empty(shape, dtype=float, **more):
        if np.dtype(dtype) == np.uint8:
            raise MemoryError
        return allocated(shape, dtype, **more)

    stream = fastdrop.Stream(1)
    monkeypatch.setattr(np, "empty", empty)
    with pytest.raises(MemoryError):
        mc_dropout(np.ones(3), 0.5, 4, seed=stream)
    assert stream.offset == 0


@pytest.mark.slow
def test_the_example_in_short(tmp_path):
    shown = run_example("uncertainty.py", "--short", "--figure", tmp_path / "digits.png", folder=tmp_path)
    assert (tmp_path / "digits.png").stat().st_size > 10_000
    assert "too short to draw conclusions" in shown
    assert "the AUROC of many passes is" not in shown
    assert "plain noise" in shown
