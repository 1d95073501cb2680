"""DropConnect against its formulas, with the oracle's decisions."""

import hashlib
import itertools

import numpy as np
import pytest
from comparisons import DTYPES, assert_same_bytes, linear_layer, normal
from oracle import fold_in, keep

import fastdrop
from fastdrop._core import numbers

SEED, OFFSET = 31, 32
KEY = {"seed": SEED, "offset": OFFSET}
TOLERANCE = {"float64": 1e-13, "float32": 2e-6, "float16": 2e-3, "bfloat16": 1.6e-2}  # of sums of a dozen values near 1


def connections(n, per, p, outputs=4, inputs=6):
    """Return the factors of weights and biases of sample n."""
    n = n if per == "sample" else 0
    weight = np.reshape(keep(SEED, OFFSET, n * inputs * outputs, inputs * outputs, p), (inputs, outputs))
    name = int.from_bytes(hashlib.sha256(b"bias").digest()[:8], "little")
    return weight, np.array(keep(fold_in(SEED, name), OFFSET, n * outputs, outputs, p))


def close(got, want, dtype):
    assert got.dtype == dtype
    assert np.abs(got.astype(float) - want).max() <= TOLERANCE[str(dtype)] * max(1, np.abs(want).max())


@pytest.fixture
def usual_memory():
    """Restore the number of masked weights that are in memory at a time."""
    yield
    numbers.set_masked_at_once(numbers.MASKED_AT_ONCE)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mode", ["standard", "inverted"])
@pytest.mark.parametrize("per", ["sample", "batch"])
def test_drop_connect(engine, dtype, per, mode, usual_memory):
    x, weight, bias = linear_layer(dtype)
    grad = normal((5, 4), dtype, 4)
    scale = 1 / 0.6 if mode == "inverted" else 1.0
    for drop_bias in (True, False):
        y, dx = np.zeros((5, 4)), np.zeros((5, 6))
        dweight, dbias = np.zeros((6, 4)), np.zeros(4)
        for n in range(5):
            kept, kept_bias = connections(n, per, 0.4)
            bias_factor = scale * kept_bias if drop_bias else np.ones(4)
            for o in range(4):
                g = float(grad[n, o])
                y[n, o] = float(bias[o]) * bias_factor[o]
                dbias[o] += g * bias_factor[o]
                for i in range(6):
                    y[n, o] += scale * kept[i, o] * float(weight[i, o]) * float(x[n, i])
                    dx[n, i] += scale * kept[i, o] * float(weight[i, o]) * g
                    dweight[i, o] += scale * kept[i, o] * float(x[n, i]) * g
        rule = {"per": per, "mode": mode, "drop_bias": drop_bias, **KEY}
        for chunk in (numbers.MASKED_AT_ONCE, 2 * 24, 1):  # all at once; two samples at a time; one
            numbers.set_masked_at_once(chunk)
            close(fastdrop.drop_connect(x, weight, 0.4, bias=bias, **rule), y, dtype)
            gradients = fastdrop.drop_connect_backward(grad, x, weight, 0.4, bias=bias, **rule)
            for got, want in zip(gradients, (dx, dweight, dbias), strict=True):
                close(got, want, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_of_any_sizes_and_strides(dtype):
    """NumPy computes them, except those of single samples with few weights, which are added in the order of the inputs."""
    for n, inputs, outputs in itertools.product((0, 1, 2, 17), (0, 1, 3, 4, 33, 103), (0, 1, 4, 5, 40)):
        weight = normal((inputs, outputs), dtype, 2)
        strided = normal((2 * n, 3 * inputs), dtype, 1)[::-2, ::3]
        for x in (normal((n, inputs), dtype, 1), normal((inputs, n), dtype, 1).T, strided):
            want = np.zeros((n, outputs), dtype)
            if outputs < 4 or inputs * outputs > 4096:
                want = np.matmul(x[:, np.newaxis], np.broadcast_to(weight, (n, inputs, outputs)).copy()).reshape(n, outputs)
            else:
                for i in range(inputs):
                    want += x[:, i : i + 1] * weight[i]
            assert_same_bytes(fastdrop.drop_connect(x, weight, 0.0, per="sample", seed=1), want)
            if n != 1 or inputs * outputs > 4096:
                want = np.matmul(x[np.newaxis], weight[np.newaxis].copy())[0]
            assert_same_bytes(fastdrop.drop_connect(x, weight, 0.0, per="batch", seed=1), want)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_drop_connect_by_differences(training):
    x, weight, bias = linear_layer(np.float64)
    grad = normal((5, 4), seed=5)
    rule = {"training": training, **KEY}

    def loss(x, weight, bias):
        return (grad * fastdrop.drop_connect(x, weight, 0.4, bias=bias, **rule)).sum()

    gradients = fastdrop.drop_connect_backward(grad, x, weight, 0.4, bias=bias, **rule)
    for k, want in enumerate(gradients):
        for index in np.ndindex(want.shape):
            step = [np.zeros_like(x), np.zeros_like(weight), np.zeros_like(bias)]
            step[k][index] = 1e-3
            above, below = (loss(x + s * step[0], weight + s * step[1], bias + s * step[2]) for s in (1, -1))
            assert abs((above - below) / 2e-3 - want[index]) < 1e-9  # linear in each: no error but rounding


def test_drop_connect_at_the_ends():
    x, weight, bias = linear_layer(np.float64)
    plain = x @ weight + bias
    assert np.allclose(fastdrop.drop_connect(x, weight, 0.0, bias=bias, seed=1), plain, rtol=1e-13)
    assert np.allclose(fastdrop.drop_connect(x, weight, 0.5, bias=bias, training=False), plain, rtol=1e-13)
    assert not fastdrop.drop_connect(x, weight, 1.0, bias=bias, seed=1).any()
    assert fastdrop.drop_connect(x[:0], weight, 0.5, bias=bias, seed=1).shape == (0, 4)
    dx, dweight, dbias = fastdrop.drop_connect_backward(np.ones((0, 4)), x[:0], weight, 0.5, bias=bias, seed=1)
    assert (dx.shape, dweight.any(), dbias.any()) == ((0, 6), False, False)
    assert fastdrop.drop_connect(np.ones((3, 0)), np.ones((0, 2)), 0.5, seed=1).tolist() == [[0.0, 0.0]] * 3


def test_biases_past_the_end_of_the_stream_draw_nothing():
    """Weights without inputs have no indices, but their biases do."""
    stream, x, weight, bias = fastdrop.Stream(1), np.ones((2, 0)), np.ones((0, 4)), np.ones(4)
    with pytest.raises(OverflowError, match="goes past the end"):
        fastdrop.drop_connect(x, weight, bias=bias, start=2**53 - 1, seed=stream)
    assert stream.offset == 0
    assert fastdrop.drop_connect(x, weight, bias=bias, start=2**53 - 2, seed=stream).shape == (2, 4)
    assert fastdrop.drop_connect(x, weight, bias=bias, drop_bias=False, start=2**53, seed=stream).all()


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, "x must have shape", {"x": np.ones((2, 5))}),
        (ValueError, "x must have shape", {"weight": np.ones(6)}),
        (TypeError, "weight must have the dtype of x", {"weight": np.ones((6, 4), np.float32)}),
        (ValueError, "bias must have the shape", {"bias": np.ones(6)}),
        (TypeError, "bias must have a floating-point dtype", {"bias": np.ones(4, int)}),
        (ValueError, "per must be 'sample'", {"per": "row"}),
        (ValueError, "mode must be 'inverted'", {"mode": "up"}),
        (ValueError, "p must be in", {"p": 1.1}),
        (TypeError, "p must be a number", {"p": np.full((4, 6), 0.5)}),
        (TypeError, "drop_bias must be True or False", {"drop_bias": "no"}),
        (TypeError, "training must be True or False", {"training": 1}),
        (ValueError, "start must be", {"start": -1}),
        (OverflowError, "goes past the end", {"start": 2**55 // 24}),
        (ValueError, "x must have shape", {"x": np.ones((1, 2, 6))}),
        (ValueError, "out must have the shape of the result", {"out": np.ones((2, 6))}),
        (ValueError, "unknown backend", {"backend": "cuda"}),
    ],
)
def test_bad_drop_connect(error, words, arguments):
    stream = fastdrop.Stream(1)
    good = {"x": np.ones((2, 6)), "weight": np.ones((6, 4)), "seed": stream}
    with pytest.raises(error, match=words):
        fastdrop.drop_connect(**{**good, **arguments})
    assert stream.offset == 0


def test_drop_connect_draws_once_and_only_in_training():
    x, weight, bias = linear_layer(np.float64)
    grad = np.ones((5, 4))
    stream = fastdrop.Stream(SEED, OFFSET)
    drawn = fastdrop.drop_connect(x, weight, bias=bias, seed=stream)
    assert stream.offset == OFFSET + 1
    assert_same_bytes(drawn, fastdrop.drop_connect(x, weight, bias=bias, **KEY))
    fastdrop.drop_connect(x, weight, seed=stream, training=False)
    assert stream.offset == OFFSET + 1
    for training in (True, False):
        with pytest.raises(TypeError, match="seed is required here"):
            fastdrop.drop_connect_backward(grad, x, weight, seed=None, training=training)
    with pytest.raises(TypeError, match="seed must be the key of the forward pass; a Stream would draw another one"):
        fastdrop.drop_connect_backward(grad, x, weight, seed=stream)
    assert stream.offset == OFFSET + 1
    with pytest.raises(ValueError, match="grad must have the shape"):
        fastdrop.drop_connect_backward(grad[:2], x, weight, seed=1)


def test_a_matrix_of_outputs_and_inputs_is_not_taken_for_its_transpose():
    """Weights are (in, out): with weights that pass only one input on, the input that counts shows which way they lie."""
    weight = np.zeros((3, 3))
    weight[0, 2] = 5.0  # from input 0 to output 2
    y = fastdrop.drop_connect(np.array([[1.0, 0.0, 0.0]]), weight, training=False)
    assert y.tolist() == [[0.0, 0.0, 5.0]]


def test_the_default_keeps_the_expected_value():
    x, weight, bias = linear_layer(np.float64, 1)
    y = fastdrop.drop_connect(np.repeat(x, 20_000, axis=0), weight, 0.3, bias=bias, seed=6)
    assert np.allclose(y.mean(axis=0), x @ weight + bias, atol=0.15)


@pytest.mark.parametrize("per", ["sample", "batch"])
@pytest.mark.parametrize("outputs_of_nothing", [False, True])
def test_rows_of_a_larger_batch(engine, per, outputs_of_nothing):
    x, weight, bias = linear_layer(np.float64, 9)
    x, weight = (x[:, :0], weight[:0]) if outputs_of_nothing else (x, weight)
    rule = {"bias": bias, "per": per, **KEY}
    whole = fastdrop.drop_connect(x, weight, 0.4, **rule)
    assert np.allclose(fastdrop.drop_connect(x[4:], weight, 0.4, start=4, **rule), whole[4:], rtol=1e-14, atol=1e-14)
    grad = normal((9, 4), seed=4)
    dx, dweight, dbias = fastdrop.drop_connect_backward(grad, x, weight, 0.4, **rule)
    parts = [
        fastdrop.drop_connect_backward(grad[rows], x[rows], weight, 0.4, start=rows.start, **rule)
        for rows in (slice(0, 4), slice(4, 9))
    ]
    assert np.allclose(np.concatenate([part[0] for part in parts]), dx, rtol=1e-13, atol=1e-14)
    assert np.allclose(parts[0][1] + parts[1][1], dweight, rtol=1e-13, atol=1e-13)
    assert np.allclose(parts[0][2] + parts[1][2], dbias, rtol=1e-13, atol=1e-13)


def test_no_bias_no_gradient_of_it():
    x, weight, _ = linear_layer(np.float64)
    assert fastdrop.drop_connect_backward(np.ones((5, 4)), x, weight, **KEY)[2] is None


def test_out():
    x, weight, bias = linear_layer(np.float32)
    y, want = np.empty((5, 4), np.float32), fastdrop.drop_connect(x, weight, bias=bias, **KEY)
    assert fastdrop.drop_connect(x, weight, bias=bias, out=y, **KEY) is y
    assert_same_bytes(y, want)
    grad, place = normal((5, 4), np.float32), x.copy()
    want = fastdrop.drop_connect_backward(grad, x, weight, bias=bias, **KEY)
    got = fastdrop.drop_connect_backward(grad, place, weight, bias=bias, out=place, **KEY)
    assert got[0] is place
    for one, other in zip(got, want, strict=True):
        assert_same_bytes(one, other)


def test_lists():
    y = fastdrop.drop_connect([[1.0, 2.0]], [[3.0], [4.0]], 0.0, bias=[0.5], seed=1)
    assert y.tolist() == [[11.5]]
    dx, dweight, dbias = fastdrop.drop_connect_backward([[1.0]], [[1.0, 2.0]], [[3.0], [4.0]], 0.0, bias=[0.5], seed=1)
    assert (dx.tolist(), dweight.tolist(), dbias.tolist()) == ([[3.0, 4.0]], [[1.0], [2.0]], [1.0])
