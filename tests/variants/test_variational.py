"""Variational dropout against its formulas, number by number, and its gradients against differences."""

import math
from functools import partial

import numpy as np
import pytest
from comparisons import DTYPES, assert_gradients, assert_same_bytes, by_reference, normal

import fastdrop
from fastdrop import losses, theory

SEED, OFFSET = 41, 42
KEY = {"seed": SEED, "offset": OFFSET}
TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}  # of sums of a few values near 1
LOG_ALPHA = {"input": {"layer": (), "unit": (4,), "input": (5, 4)}, "weight": {"layer": (), "unit": (4, 1), "weight": (4, 3)}}


def operands(dtype=np.float64):
    """Return x, weight, log_sigma2, bias and a gradient of a layer of 5 samples, 4 inputs and 3 outputs."""
    arrays = (
        normal((5, 4), seed=1),
        normal((4, 3), seed=2),
        normal((4, 3), seed=3) - 1,
        normal(3, seed=4),
        normal((5, 3), seed=5),
    )
    return [array.astype(dtype) for array in arrays]


def close(got, want, dtype):
    want = np.asarray(want, float)
    assert got.dtype == dtype
    assert got.shape == want.shape
    assert np.abs(got.astype(float) - want).max() <= TOLERANCE[str(dtype)] * max(1, np.abs(want).max())


def spread(x, weight, variance, bias, dtype, start=0):
    """Return the layer's result for normal weights, a product and a number at a time."""
    z = fastdrop.normal(start + 15, dtype=np.float64 if dtype == np.float64 else np.float32, **KEY)[start:]
    y = np.zeros((5, 3))
    for n in range(5):
        for o in range(3):
            mean = sum(float(x[n, i]) * float(weight[i, o]) for i in range(4)) + float(bias[o])
            square = sum(float(x[n, i]) ** 2 * variance[i, o] for i in range(4))
            y[n, o] = mean + math.sqrt(square + 1e-8) * float(z[3 * n + o])
    return y


# The dense layer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_variational_dense(engine, dtype):
    x, weight, log_sigma2, bias, _ = operands(dtype)
    variance = np.exp(log_sigma2.astype(float))
    got = fastdrop.variational_dense(np.asfortranarray(x), weight, log_sigma2, bias=bias, **KEY)
    close(got, spread(x, weight, variance, bias, dtype), dtype)
    nothing = np.zeros(3, dtype)
    got = fastdrop.variational_dense(x, weight, log_sigma2, start=9, **KEY)
    close(got, spread(x, weight, variance, nothing, dtype, 9), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradients_of_variational_dense(engine, dtype):
    x, weight, log_sigma2, bias, grad = operands(dtype)
    z = fastdrop.normal((5, 3), dtype=np.float64 if dtype == np.float64 else np.float32, **KEY)
    want = [np.zeros((5, 4)), np.zeros((4, 3)), np.zeros((4, 3)), np.zeros(3)]
    for n in range(5):
        for o in range(3):
            variances = [math.exp(float(s)) for s in log_sigma2[:, o]]
            root = math.sqrt(sum(float(x[n, i]) ** 2 * variances[i] for i in range(4)) + 1e-8)
            g = float(grad[n, o])
            q = g * float(z[n, o]) / (2 * root)
            for i in range(4):
                want[0][n, i] += g * float(weight[i, o]) + 2 * float(x[n, i]) * q * variances[i]
                want[1][i, o] += g * float(x[n, i])
                want[2][i, o] += q * float(x[n, i]) ** 2 * variances[i]
            want[3][o] += g
    got = fastdrop.variational_dense_backward(grad, x, weight, log_sigma2, bias=bias, **KEY)
    for one, other in zip(got, want, strict=True):
        close(one, other, dtype)
    assert fastdrop.variational_dense_backward(grad, x, weight, log_sigma2, **KEY)[3] is None


@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_variational_dense_by_differences(training):
    x, weight, log_sigma2, bias, grad = operands()
    weight[1, 2] = 1e-3  # one that is pruned outside training

    def loss(x, weight, log_sigma2, bias):
        return (grad * fastdrop.variational_dense(x, weight, log_sigma2, bias=bias, training=training, **KEY)).sum()

    gradients = fastdrop.variational_dense_backward(grad, x, weight, log_sigma2, bias=bias, training=training, **KEY)
    assert_gradients(loss, [x, weight, log_sigma2, bias], gradients)


def test_pruned_outside_training():
    x, weight, log_sigma2, bias, _ = operands()
    weight[0, 0] = 0
    log_alpha = log_sigma2 - np.log(weight**2, where=weight != 0, out=np.full((4, 3), -np.inf))
    for prune_above in (3.0, 0.0, -2.0):
        pruned = np.where(log_alpha < prune_above, weight, 0)
        assert 0 < np.count_nonzero(pruned) < 12
        got = fastdrop.variational_dense(x, weight, log_sigma2, bias=bias, prune_above=prune_above, training=False)
        assert np.allclose(got, x @ pruned + bias, rtol=1e-13, atol=1e-13)
        made, kept = theory.prune(weight, log_sigma2, prune_above)
        assert_same_bytes(made, pruned)
        assert_same_bytes(kept, log_alpha < prune_above)


def test_moments_of_variational_dense():
    x, weight, log_sigma2, _, _ = operands()
    n = 20_000
    y = fastdrop.variational_dense(np.repeat(x[:1], n, axis=0), weight, log_sigma2, seed=7)
    mean, variance = x[:1] @ weight, x[:1] ** 2 @ np.exp(log_sigma2)
    assert (np.abs(y.mean(axis=0) - mean) < 5 * np.sqrt(variance / n)).all()
    assert np.allclose(y.var(axis=0), variance, rtol=0.05)


def test_leading_axes_and_empty_layers():
    x, weight, log_sigma2, _, grad = operands()
    flat = fastdrop.variational_dense(x[:4], weight, log_sigma2, **KEY)
    deep = fastdrop.variational_dense(x[:4].reshape(2, 2, 4), weight, log_sigma2, **KEY)
    assert_same_bytes(deep, flat.reshape(2, 2, 3))
    dx, *_ = fastdrop.variational_dense_backward(grad[:4].reshape(2, 2, 3), x[:4].reshape(2, 2, 4), weight, log_sigma2, **KEY)
    assert dx.shape == (2, 2, 4)
    for rows, inputs, outputs in ((0, 4, 3), (5, 0, 3), (5, 4, 0)):
        x, weight = np.ones((rows, inputs)), np.ones((inputs, outputs))
        y = fastdrop.variational_dense(x, weight, weight, bias=np.ones(outputs), **KEY)
        assert y.shape == (rows, outputs)
        shapes = fastdrop.variational_dense_backward(y, x, weight, weight, bias=np.ones(outputs), **KEY)
        assert [one.shape for one in shapes] == [x.shape, weight.shape, weight.shape, (outputs,)]


def test_no_variance_and_no_input():
    weight = normal((4, 3), seed=2)
    y = fastdrop.variational_dense(np.zeros((5, 4)), weight, np.full((4, 3), -np.inf), **KEY)
    assert_same_bytes(y, np.sqrt(1e-8) * fastdrop.normal((5, 3), dtype=np.float64, **KEY))
    *gradients, none = fastdrop.variational_dense_backward(np.ones((5, 3)), np.zeros((5, 4)), weight, weight, **KEY)
    assert none is None
    assert all(np.isfinite(gradient).all() for gradient in gradients)


# Kingma's types -----------------------------------------------------------------------------------------------------


def alphas(noise, per, seed=6):
    return normal(LOG_ALPHA[noise][per], seed=seed) - 1.5


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("per", ["layer", "unit", "weight"])
def test_type_b(engine, dtype, per):
    x, weight, _, bias, _ = operands(dtype)
    log_alpha = alphas("weight", per)
    variance = np.exp(np.broadcast_to(log_alpha, (4, 3))) * weight.astype(float) ** 2
    got = fastdrop.variational_dropout(x, weight, log_alpha, "weight", bias=bias, max_log_alpha=None, **KEY)
    close(got, spread(x, weight, variance, bias, dtype), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("per", ["layer", "unit", "input"])
def test_type_a(engine, dtype, per):
    x, weight, _, bias, _ = operands(dtype)
    log_alpha = alphas("input", per)
    z = fastdrop.normal((5, 4), dtype=np.float64 if dtype == np.float64 else np.float32, **KEY).astype(float)
    noisy = x.astype(float) * (1 + np.exp(log_alpha / 2) * z)
    want = [[sum(noisy[n, i] * float(weight[i, o]) for i in range(4)) + float(bias[o]) for o in range(3)] for n in range(5)]
    close(fastdrop.variational_dropout(x, weight, log_alpha, bias=bias, max_log_alpha=None, **KEY), want, dtype)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("noise", "per"), [(noise, per) for noise in ("input", "weight") for per in LOG_ALPHA[noise]])
def test_gradients_of_both_types_by_differences(noise, per, training):
    x, weight, _, bias, grad = operands()
    log_alpha = alphas(noise, per)

    def layer(function, *given):
        x, weight, log_alpha, bias = given[-4:]
        return function(*given[:-4], x, weight, log_alpha, noise, bias=bias, training=training, **KEY)

    def loss(*arrays):
        return (grad * layer(fastdrop.variational_dropout, *arrays)).sum()

    arrays = [x, weight, log_alpha, bias]
    gradients = layer(fastdrop.variational_dropout_backward, grad, *arrays)
    assert_gradients(loss, arrays, gradients)


@pytest.mark.parametrize("noise", ["input", "weight"])
def test_alphas_above_the_bound(noise):
    x, weight, _, _, grad = operands()
    log_alpha = np.array([0.5, 0.0, -0.5, 2.0] if noise == "input" else [0.5, 0.0, -0.5])
    given = (x, weight, log_alpha, noise)
    clamped = fastdrop.variational_dropout(x, weight, np.minimum(log_alpha, 0), noise, **KEY)
    assert_same_bytes(fastdrop.variational_dropout(*given, **KEY), clamped)
    slopes = fastdrop.variational_dropout_backward(grad, *given, **KEY)[2]
    assert (slopes == 0).tolist() == (log_alpha > 0).tolist()
    unbounded = fastdrop.variational_dropout(*given, max_log_alpha=None, **KEY)
    assert not np.array_equal(unbounded, clamped)
    assert_same_bytes(fastdrop.variational_dropout(*given, max_log_alpha=2, **KEY), unbounded)
    assert fastdrop.variational_dropout_backward(grad, *given, max_log_alpha=None, **KEY)[2].all()


def test_type_b_per_weight_is_the_dense_layer():
    x, weight, log_sigma2, bias, _ = operands()
    log_alpha = log_sigma2 - np.log(weight**2)
    other = fastdrop.variational_dropout(x, weight, log_alpha, "weight", bias=bias, max_log_alpha=None, **KEY)
    assert np.allclose(fastdrop.variational_dense(x, weight, log_sigma2, bias=bias, **KEY), other, rtol=1e-12)


# Bits ---------------------------------------------------------------------------------------------------------------


def in_all_ways(dtype):
    """Return the bytes of everything, on a layer of 100 000 outputs."""
    x, weight, grad = normal((500, 30), dtype, 1), normal((30, 200), dtype, 2), normal((500, 200), dtype, 3)
    log_sigma2, log_alpha = normal((30, 200), dtype, 4), normal((30, 1), np.float64, 5) - 1
    given = (x, weight, log_sigma2)
    clipped = theory.log_alpha(weight, log_sigma2)
    made = [clipped, *theory.prune(weight, log_sigma2), fastdrop.variational_dense(*given, **KEY)]
    made += fastdrop.variational_dense_backward(grad, *given, bias=weight[0], **KEY)
    for noise, alpha in (("input", -1.0), ("input", log_alpha[:, 0]), ("weight", log_alpha)):
        made.append(fastdrop.variational_dropout(x, weight, alpha, noise, **KEY))
        made += fastdrop.variational_dropout_backward(grad, x, weight, alpha, noise, **KEY)[:3]
    for approximation in ("molchanov", "kingma"):
        slopes = losses.variational_kl_backward(clipped, approximation)
        made += [losses.variational_kl(clipped, approximation), slopes]
        made += theory.log_alpha_backward(slopes, weight, log_sigma2)
    return [np.asarray(one) for one in made]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_engines_agree(engine, dtype):
    """To the byte, products included: the engines share one BLAS."""
    for got, want in zip(in_all_ways(dtype), by_reference(in_all_ways, dtype), strict=True):
        assert_same_bytes(got, want)


def test_the_arguments_choose_the_backend():
    x, weight, log_sigma2, _, grad = operands()
    for function, given in (
        (fastdrop.variational_dense, (x, weight, log_sigma2)),
        (fastdrop.variational_dense_backward, (grad, x, weight, log_sigma2)),
        (fastdrop.variational_dropout, (x, weight, -1.0)),
        (fastdrop.variational_dropout_backward, (grad, x, weight, -1.0)),
    ):
        with pytest.raises(ValueError, match="unknown backend 'cuda'"):
            function(*given, backend="cuda", **KEY)
        with pytest.raises(ValueError, match="num_threads must be"):
            function(*given, num_threads=0, **KEY)
        function(*given, backend="numpy", num_threads=2, **KEY)


# Arguments ----------------------------------------------------------------------------------------------------------


def test_keys_are_drawn_once():
    x, weight, log_sigma2, _, _ = operands()
    for layer in (
        partial(fastdrop.variational_dense, x, weight, log_sigma2),
        partial(fastdrop.variational_dropout, x, weight, -1.0),
        partial(fastdrop.variational_dropout, x, weight, -1.0, "weight"),
    ):
        stream = fastdrop.Stream(SEED, OFFSET)
        assert_same_bytes(layer(seed=stream), layer(**KEY))
        assert stream.offset == OFFSET + 1
        layer(seed=stream, training=False)
        assert stream.offset == OFFSET + 1


@pytest.mark.parametrize("noise", ["input", "weight"])
def test_the_backward_passes_take_no_seed_with_a_state(noise):
    x, weight, log_sigma2, _, grad = operands()
    stream = fastdrop.Stream(SEED, OFFSET)
    with pytest.raises(TypeError, match="seed must be the key of the forward pass"):
        fastdrop.variational_dropout_backward(grad, x, weight, -1.0, noise, seed=stream)
    with pytest.raises(TypeError, match="seed must be the key of the forward pass"):
        fastdrop.variational_dense_backward(grad, x, weight, log_sigma2, seed=stream)
    assert stream.offset == OFFSET
    got = fastdrop.variational_dropout_backward(grad, x, weight, -1.0, noise, seed=stream.next())
    for one, other in zip(got[:3], fastdrop.variational_dropout_backward(grad, x, weight, -1.0, noise, **KEY)[:3], strict=True):
        assert_same_bytes(one, other)


def in_pieces(function, noise, x, grad, rows, columns, **place):
    """Return a forward or backward pass over some rows of x and some outputs."""
    _, weight, log_sigma2, bias, _ = operands()
    given = (x[rows], weight[:, columns], log_sigma2[:, columns] if noise is None else np.full((4, 1), -1.0)[:, 0:1])
    if noise == "input":
        given = (*given[:2], np.linspace(-2, -1, 4))
    more = {} if noise is None else {"noise": noise}
    arrays = given if grad is None else (grad[rows, columns], *given)
    return function(*arrays, bias=bias[columns], **more, **place, **KEY)


LAYERS = [
    (fastdrop.variational_dense, fastdrop.variational_dense_backward, None),
    (fastdrop.variational_dropout, fastdrop.variational_dropout_backward, "weight"),
    (fastdrop.variational_dropout, fastdrop.variational_dropout_backward, "input"),
]


@pytest.mark.parametrize(("forward", "backward", "noise"), LAYERS)
def test_blocks_of_a_larger_batch(engine, forward, backward, noise):
    x, _, _, _, grad = operands()
    everything, rows = slice(None), slice(2, 5)
    columns = everything if noise == "input" else slice(1, 3)
    whole = in_pieces(forward, noise, x, None, everything, everything)
    width = 4 if noise == "input" else 3
    near = {"rtol": 1e-13, "atol": 1e-13}
    by_start = in_pieces(forward, noise, x, None, rows, everything, start=2 * width)
    assert np.allclose(by_start, whole[rows], **near)
    place = {"global_shape": (5, width), "global_start": (2, columns.start or 0)}
    assert np.allclose(in_pieces(forward, noise, x, None, rows, columns, **place), whole[rows, columns], **near)
    want = in_pieces(backward, noise, x, grad, rows, everything, start=2 * width)
    got = in_pieces(backward, noise, x, grad, rows, everything, global_shape=(5, width), global_start=(2, 0))
    for one, other in zip(got, want, strict=True):
        assert np.allclose(one, other, **near)


@pytest.mark.parametrize(("forward", "backward", "noise"), LAYERS)
def test_out(forward, backward, noise):
    x, _, _, _, grad = operands()
    everything = slice(None)
    y = np.empty((5, 3))
    want = in_pieces(forward, noise, x, None, everything, everything)
    assert in_pieces(forward, noise, x, None, everything, everything, out=y) is y
    assert_same_bytes(y, want)
    want = in_pieces(backward, noise, x, grad, everything, everything)
    place = x.copy()
    got = in_pieces(backward, noise, place, grad, everything, everything, out=place)
    assert got[0] is place
    for one, other in zip(got, want, strict=True):
        assert_same_bytes(one, other)


@pytest.mark.parametrize("noise", ["input", "weight"])
def test_the_gradient_of_the_input_over_the_log_alphas(noise):
    x, weight, _, _, grad = operands()
    log_alpha = np.array([-1.0, 0.5, -2.0, 0.25]).reshape((4,) if noise == "input" else (4, 1))
    want = fastdrop.variational_dropout_backward(grad, x, weight, log_alpha, noise, **KEY)
    out = np.empty_like(x)
    shared = out.reshape(-1)[3:7].reshape(log_alpha.shape)
    shared[...] = log_alpha
    got = fastdrop.variational_dropout_backward(grad, x, weight, shared, noise, out=out, **KEY)
    for one, other in zip(got[:3], want[:3], strict=True):
        assert_same_bytes(one, other)


def test_lists():
    x, weight, log_sigma2, bias, grad = operands()
    want = fastdrop.variational_dense(x, weight, log_sigma2, bias=bias, **KEY)
    lists = [array.tolist() for array in (x, weight, log_sigma2)]
    assert_same_bytes(fastdrop.variational_dense(*lists, bias=bias.tolist(), **KEY), want)
    want = fastdrop.variational_dropout(x, weight, np.full(4, -1.0), **KEY)
    assert_same_bytes(fastdrop.variational_dropout(lists[0], lists[1], [-1.0] * 4, **KEY), want)
    want = fastdrop.variational_dense_backward(grad, x, weight, log_sigma2, **KEY)
    for one, other in zip(fastdrop.variational_dense_backward(grad.tolist(), *lists, **KEY)[:3], want[:3], strict=True):
        assert_same_bytes(one, other)


@pytest.mark.parametrize("training", [True, False])
def test_the_backward_passes_need_a_seed(training):
    x, weight, log_sigma2, _, grad = operands()
    with pytest.raises(TypeError, match="seed is required here"):
        fastdrop.variational_dense_backward(grad, x, weight, log_sigma2, seed=None, training=training)
    for noise in ("input", "weight"):
        with pytest.raises(TypeError, match="seed is required here"):
            fastdrop.variational_dropout_backward(grad, x, weight, -1.0, noise, seed=None, training=training)


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, r"x must have shape \(\.\.\., in\) and weight \(in, out\)", {"x": np.ones((5, 3))}),
        (ValueError, r"x must have shape", {"weight": np.ones(4)}),
        (ValueError, r"x must have shape", {"x": np.float64(1)}),
        (TypeError, "x must have a floating-point dtype", {"x": np.ones((5, 4), int)}),
        (TypeError, "weight must have the dtype of x, float64", {"weight": np.ones((4, 3), np.float32)}),
        (ValueError, r"bias must have .*shape \(3,\)", {"bias": np.ones(4)}),
        (ValueError, "offset must be", {"offset": -1}),
        (ValueError, "start must be", {"start": -1}),
        (ValueError, "is not inside global_shape", {"global_shape": (1, 1)}),
        (OverflowError, "float64 numbers", {"start": 2**49 - 1}),
        (ValueError, "out must have the shape of the result", {"out": np.ones(3)}),
        (TypeError, "training must be True or False", {"training": "no"}),
    ],
)
def test_bad_layers(error, words, arguments):
    stream = fastdrop.Stream(1)
    good = {"x": np.ones((5, 4)), "weight": np.ones((4, 3)), "seed": 1 if "offset" in arguments else stream}
    for function, more in (
        (fastdrop.variational_dense, {"log_sigma2": np.ones((4, 3))}),
        (fastdrop.variational_dropout, {"log_alpha": -1.0, "noise": "input"}),
        (fastdrop.variational_dropout, {"log_alpha": -1.0, "noise": "weight"}),
    ):
        with pytest.raises(error, match=words):
            function(**{**good, **more, **arguments})
    assert stream.offset == 0


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ValueError, "noise must be 'input' .the paper's type A.", lambda x, w: fastdrop.variational_dropout(x, w, -1.0, "A")),
        (ValueError, "noise must be 'input'", lambda x, w: fastdrop.variational_dropout(x, w, -1.0, ["input"])),
        (ValueError, "does not broadcast .* of x", lambda x, w: fastdrop.variational_dropout(x, w, np.ones(3))),
        (ValueError, "does not broadcast .* of weight", lambda x, w: fastdrop.variational_dropout(x, w, np.ones(4), "weight")),
        (TypeError, "log_alpha must be", lambda x, w: fastdrop.variational_dropout(x, w, "small")),
        (TypeError, "max_log_alpha must be", lambda x, w: fastdrop.variational_dropout(x, w, 0.0, max_log_alpha="1")),
        (ValueError, "max_log_alpha must be", lambda x, w: fastdrop.variational_dropout(x, w, 0.0, max_log_alpha=np.nan)),
        (ValueError, "below 709", lambda x, w: fastdrop.variational_dropout(x, w, 1e3, "weight", max_log_alpha=None)),
        (ValueError, "below 709", lambda x, w: fastdrop.variational_dropout(x, w, np.nan)),
        (ValueError, r"log_sigma2 must have .*\(4, 3\)", lambda x, w: fastdrop.variational_dense(x, w, w[:2])),
        (TypeError, "prune_above must be", lambda x, w: fastdrop.variational_dense(x, w, w, prune_above=None, training=False)),
        (ValueError, "grad must have .*shape", lambda x, w: fastdrop.variational_dense_backward(x, x, w, w, seed=1)),
    ],
)
def test_bad_arguments(error, words, call):
    with pytest.raises(error, match=words):
        call(np.ones((5, 4)), np.ones((4, 3)))


@pytest.mark.parametrize("training", [True, False])
def test_gradient_may_overwrite_the_input(training):
    x, weight, grad = (np.random.default_rng(0).standard_normal(shape) for shape in ((5, 4), (4, 3), (5, 3)))
    keywords = {"seed": 3, "training": training}
    for call in (
        lambda x, **more: fastdrop.variational_dense_backward(grad, x, weight, weight - 3, **keywords, **more),
        lambda x, **more: fastdrop.variational_dropout_backward(grad, x, weight, weight[0], "weight", **keywords, **more),
    ):
        mine = x.copy()
        for found, want in zip(call(mine, out=mine)[:3], call(x)[:3], strict=True):
            assert_same_bytes(found, want)


BACKWARD = {
    "dense": lambda grad, x, weight, **more: fastdrop.variational_dense_backward(grad, x, weight, weight - 3, **more),
    "input": lambda grad, x, weight, **more: fastdrop.variational_dropout_backward(grad, x, weight, -1.0, **more),
    "weight": lambda grad, x, weight, **more: fastdrop.variational_dropout_backward(grad, x, weight, -1.0, "weight", **more),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", BACKWARD)
def test_gradient_of_the_bias_has_its_own_memory(name, training):
    """The gradient of one sample is also the sum over the samples, but it may be overwritten."""
    x, weight, grad = (np.random.default_rng(0).standard_normal(shape) for shape in ((1, 4), (4, 4), (1, 4)))
    keywords = {"bias": np.ones(4), "seed": 3, "training": training}
    want = grad[0].copy()
    dbias = BACKWARD[name](grad, x, weight, out=grad, **keywords)[-1]
    assert not np.shares_memory(dbias, grad)
    assert_same_bytes(dbias, want)


def test_rates_in_another_order_are_converted_under_own_settings():
    """exp(100) is no float32 number. NumPy would raise an error."""
    x, weight = np.ones((2, 3), np.float32), np.ones((3, 2), np.float32)
    large = np.asfortranarray(np.full((3, 2), 100.0))
    with np.errstate(all="raise"):
        y = fastdrop.variational_dropout(x, weight, large, "weight", max_log_alpha=None, seed=1)
    assert y.shape == (2, 2)
