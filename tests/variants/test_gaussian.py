"""Normal numbers and Gaussian dropout: golden bits, accuracy, distribution, gradients, cuts."""

import hashlib
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats

import fastdrop
from fastdrop._core import native
from fastdrop._core.arithmetic import fixed_sum
from fastdrop._core.backends.elementary import normal32
from fastdrop.verify.cases import DTYPES, engines, equal_bytes

KNOWN_ANSWERS = Path(fastdrop.__file__).parent / "known_answers"
GOLDEN = json.loads((KNOWN_ANSWERS / "noise_golden.json").read_text())["normals"]
SEED, OFFSET = 11, 3


def every_engine():
    for engine in engines():
        if not engine.missing():
            with engine.using():
                yield engine


# Normal numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{case['dtype']}-{case['start']}")
def test_golden_normals(case):
    arguments = {key: case[key] for key in ("seed", "offset", "start", "dtype")}
    with fastdrop.using(backend="numpy"):
        reference = fastdrop.normal(case["n"], **arguments)
    little = reference.astype(reference.dtype.newbyteorder("<"))
    assert hashlib.sha256(little.tobytes()).hexdigest() == case["sha256"]
    for engine in every_engine():
        assert equal_bytes(fastdrop.normal(case["n"], **arguments), reference), str(engine)


def test_accuracy_of_float32():
    z = fastdrop.normal(10**6, seed=SEED)
    u = (fastdrop.words(10**6, seed=SEED).astype(np.float64) + 0.5) / 2**32
    assert np.abs(z - special.ndtri(u)).max() < 7.5e-7


def test_every_octave_and_both_ends_of_float32():
    ends = np.concatenate([2**k + np.arange(-3, 4) for k in range(3, 31)])
    words = np.unique(np.concatenate([np.arange(64), ends, 2**31 - 1 - np.arange(300)])).astype(np.uint32)
    z = normal32(words)
    assert np.abs(z - special.ndtri((words.astype(np.float64) + 0.5) / 2**32)).max() < 7.5e-7
    assert (np.diff(z) >= 0).all()  # as for all words
    np.testing.assert_array_equal(normal32(~words), -z)
    assert 6.33 < -z.min() < 6.34


@pytest.mark.parametrize("sigma", [0.5, 1, 2, 3, 4, 5, 5.5])
def test_tails_of_float32(sigma):
    low, high = 0, 2**31  # how many words are below -sigma: bisection, for normal32 never falls
    while low < high:
        middle = (low + high) // 2
        if normal32(np.array([middle], np.uint32))[0] < -sigma:
            low = middle + 1
        else:
            high = middle
    assert low / 2**32 == pytest.approx(special.ndtr(-sigma), rel=2e-5, abs=2**-32)


def test_accuracy_of_float64():
    u = fastdrop.uniform(10**5, seed=SEED, dtype=np.float64)
    z = fastdrop.normal(10**5, seed=SEED, dtype=np.float64)
    assert np.abs(z / special.ndtri(u) - 1).max() < 1e-14


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_distribution(seed, dtype):
    z = fastdrop.normal(10**6, seed=seed, dtype=dtype).astype(np.float64)
    assert stats.kstest(z, "norm").pvalue > 1e-4
    n = 10**5
    ordered = np.sort(z[:n])  # Anderson and Darling's statistic of a fully specified distribution: 3.857 is its 1 % point
    i = np.arange(1, n + 1)
    square = -n - ((2 * i - 1) * (special.log_ndtr(ordered) + special.log_ndtr(-ordered[::-1]))).sum() / n
    assert square < 6.0  # 0.1 %
    for moment, want, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**moment).mean() - want) < 4.5 * math.sqrt(variance / z.size)


def test_correlation_between_neighbours_offsets_and_seeds():
    n = 10**6
    z = fastdrop.normal(n + 200, seed=SEED, offset=OFFSET).astype(np.float64)
    others = {f"lag {lag}": z[lag : lag + n] for lag in (1, 2, 3, 4, 5, 8, 16, 127, 128)}
    others["offset"] = fastdrop.normal(n, seed=SEED, offset=OFFSET + 1).astype(np.float64)
    others["seed"] = fastdrop.normal(n, seed=SEED + 1, offset=OFFSET).astype(np.float64)
    for name, other in others.items():
        assert abs((z[:n] * other).mean()) < 4.5 / math.sqrt(n), name
        assert abs(((z[:n] ** 2 - 1) * (other**2 - 1)).mean()) < 4.5 * 2 / math.sqrt(n), name


@pytest.mark.parametrize(("dtype", "end"), [("float32", 2**50), ("float64", 2**49)])
def test_cuts_and_the_end_of_the_stream(dtype, end):
    for start in (0, 2**32 - 700, end - 3000):
        whole = fastdrop.normal(3000, seed=SEED, start=start, dtype=dtype)
        for a, b in ((0, 1), (1, 130), (129, 1025), (1023, 3000)):
            assert equal_bytes(fastdrop.normal(b - a, seed=SEED, start=start + a, dtype=dtype), whole[a:b])
    with pytest.raises(OverflowError, match="past the end"):
        fastdrop.normal(2, seed=SEED, start=end - 1, dtype=dtype)


def test_bad_input_to_normal():
    with pytest.raises(TypeError, match="seed is required here"):
        fastdrop.normal(3, seed=None)
    with pytest.raises(TypeError, match="dtype must be float32 or float64"):
        fastdrop.normal(3, seed=1, dtype=np.int32)
    with pytest.raises(ValueError, match="size in shape"):
        fastdrop.normal(-1, seed=1)


# Gaussian noise and dropout -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_formulas(dtype):
    x = np.random.default_rng(1).normal(size=5000).astype(dtype)
    type = np.float64 if dtype == "float64" else np.float32
    z = fastdrop.normal(5000, seed=SEED, offset=OFFSET, start=9, dtype=type)
    where = {"seed": SEED, "offset": OFFSET, "start": 9}
    scale = type(math.sqrt(0.2 / (1 - 0.2)))
    want = (x.astype(type) * (type(1) + scale * z)).astype(dtype)
    assert equal_bytes(fastdrop.gaussian_dropout(x, 0.2, **where), want)
    dx, dlog_alpha = fastdrop.gaussian_dropout_backward(x, 0.2, **where)
    assert equal_bytes(dx, want)
    assert dlog_alpha is None
    assert equal_bytes(fastdrop.gaussian_noise(x, 0.3, **where), (x.astype(type) + type(0.3) * z).astype(dtype))


def test_learned_alpha():
    rng = np.random.default_rng(2)
    x, g, h = rng.normal(size=4000), rng.normal(size=4000), 1e-6
    dx, dlog_alpha = fastdrop.gaussian_dropout_backward(g, log_alpha=-1.0, seed=SEED, x=x)
    rise = [(g * fastdrop.gaussian_dropout(x, log_alpha=-1.0 + s * h, seed=SEED)).sum() for s in (1, -1)]
    assert dlog_alpha == pytest.approx((rise[0] - rise[1]) / (2 * h), rel=1e-6)
    np.testing.assert_allclose(dx, g * fastdrop.gaussian_dropout(np.ones_like(x), log_alpha=-1.0, seed=SEED), rtol=1e-15)
    half, _ = fastdrop.gaussian_dropout_backward(g, 0.5, seed=SEED)
    assert equal_bytes(half, fastdrop.gaussian_dropout_backward(g, log_alpha=0.0, seed=SEED, x=x)[0])


@pytest.mark.parametrize("shape", [(), (1,), (7,), (1, 7), (50, 1), (4, 1, 7)])
def test_an_alpha_for_each_unit(shape):
    rng = np.random.default_rng(3)
    x, g = rng.normal(size=(2, 4, 50, 7))
    log_alpha, h = rng.normal(size=shape) - 1, 1e-6
    dx, slopes = fastdrop.gaussian_dropout_backward(g, log_alpha=log_alpha, seed=SEED, x=x)
    assert np.shape(slopes) == shape
    same = fastdrop.gaussian_dropout(x, log_alpha=np.broadcast_to(log_alpha, x.shape), seed=SEED)
    np.testing.assert_allclose(fastdrop.gaussian_dropout(x, log_alpha=log_alpha, seed=SEED), same, rtol=1e-15)
    direction = rng.normal(size=shape)
    rise = [(g * fastdrop.gaussian_dropout(x, log_alpha=log_alpha + s * h * direction, seed=SEED)).sum() for s in (1, -1)]
    assert (slopes * direction).sum() == pytest.approx((rise[0] - rise[1]) / (2 * h), rel=1e-5)
    np.testing.assert_allclose(dx * x, g * same, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_of_every_engine(dtype):
    x, g = np.random.default_rng(4).normal(size=(2, 300, 401)).astype(dtype)
    each = np.linspace(-3, 1, 401)

    def results():
        return [
            fastdrop.gaussian_noise(x, 0.5, seed=SEED),
            fastdrop.gaussian_dropout(x, 0.5, seed=SEED),
            *map(np.asarray, fastdrop.gaussian_dropout_backward(g, log_alpha=0.0, seed=SEED, x=x)),
            *map(np.asarray, fastdrop.gaussian_dropout_backward(g, log_alpha=each, seed=SEED, x=x)),
        ]

    with fastdrop.using(backend="numpy"):
        want = results()
    for engine in every_engine():
        for got, wanted in zip(results(), want, strict=True):
            assert equal_bytes(got, wanted), str(engine)


def test_layouts_overlap_and_order():
    x = np.random.default_rng(5).normal(size=(100, 90)).astype(np.float32)
    want = fastdrop.gaussian_dropout(x, 0.3, seed=SEED)
    assert equal_bytes(np.ascontiguousarray(fastdrop.gaussian_dropout(np.asfortranarray(x), 0.3, seed=SEED)), want)
    buffer = np.zeros(9050, np.float32)
    buffer[50:] = x.ravel()
    fastdrop.gaussian_dropout(buffer[50:], 0.3, seed=SEED, out=buffer[:9000])
    assert equal_bytes(buffer[:9000], want.ravel())
    assert fastdrop.gaussian_dropout(np.float32(2), 0.3, seed=SEED).shape == ()


def test_sums_have_one_order():
    values = np.random.default_rng(6).normal(size=1000)
    total = values.copy()
    while len(total) > 1:
        half = (len(total) + 1) // 2
        total = np.concatenate([total[: len(total) - half] + total[half:], total[len(total) - half : half]])
    assert fixed_sum(values)[0] == total[0]


def test_moments():
    y = fastdrop.gaussian_dropout(np.full(10**6, 2.0), 0.2, seed=SEED)
    assert y.mean() == pytest.approx(2, abs=5 * math.sqrt(4 * 0.25 / 10**6))
    assert y.var() == pytest.approx(4 * 0.25, rel=0.01)


def test_outside_training_and_edges():
    x = np.ones(5, np.float32)
    assert fastdrop.gaussian_dropout(x, 0.5, training=False) is x
    assert fastdrop.gaussian_noise(x, 2.0, training=False) is x
    dx, dlog_alpha = fastdrop.gaussian_dropout_backward(x, 0.5, seed=1, training=False)
    assert dx is x
    assert dlog_alpha is None
    for log_alpha in (-1.0, np.zeros(5)):
        dx, dlog_alpha = fastdrop.gaussian_dropout_backward(x, log_alpha=log_alpha, x=x, seed=1, training=False)
        assert dx is x
        np.testing.assert_array_equal(dlog_alpha, np.zeros_like(log_alpha))
    np.testing.assert_array_equal(fastdrop.gaussian_dropout(x, 0.0, seed=1), x)
    np.testing.assert_array_equal(fastdrop.gaussian_noise(x, 0.0, seed=1), x)
    assert fastdrop.gaussian_dropout(x[:0], 0.5, seed=1).shape == (0,)
    assert fastdrop.gaussian_dropout_backward(x[:0], log_alpha=0.0, seed=1, x=x[:0])[1] == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"p": 1.0}, ValueError, r"\[0, 1\) here"),
        ({"p": -0.1}, ValueError, "p must be in"),
        ({"p": "half"}, TypeError, "p must be a number"),
        ({"log_alpha": "0"}, TypeError, "log_alpha"),
        ({"log_alpha": 710.0}, ValueError, "log_alpha"),
        ({"log_alpha": np.nan}, ValueError, "log_alpha"),
        ({"log_alpha": np.zeros(2)}, ValueError, "does not broadcast"),
        ({"seed": 1.5}, TypeError, "seed"),
        ({"out": np.ones(3)}, TypeError, "out must have the dtype"),
        ({"start": -1}, ValueError, "start"),
        ({"training": "no"}, TypeError, "training must be True or False; got 'no'"),
        ({"p": True}, TypeError, "p must be a number"),
        ({"p": "half", "log_alpha": 0.0}, TypeError, "p must be a number"),
        ({"p": -0.1, "log_alpha": np.zeros(3)}, ValueError, "p must be in"),
    ],
)
def test_bad_input(arguments, error, message):
    x = np.ones(3, np.float32)
    for training in (True, False):
        given = {"seed": 1, "training": training, **arguments}
        with pytest.raises(error, match=message):
            fastdrop.gaussian_dropout(x, **given)
        with pytest.raises(error, match=message):
            fastdrop.gaussian_dropout_backward(x, x=x if "log_alpha" in arguments else None, **given)


@pytest.mark.parametrize("log_alpha", [-1.0, np.zeros(3)])
@pytest.mark.parametrize(
    "place", [{"start": 2**50}, {"global_shape": (2,)}, {"global_shape": (2**60,), "global_start": (9**17,)}]
)
def test_nothing_is_drawn_for_a_bad_place(log_alpha, place):
    stream, out = fastdrop.Stream(1), np.full(3, 5, np.float32)
    with pytest.raises((ValueError, OverflowError)):
        fastdrop.gaussian_dropout(np.ones(3, np.float32), log_alpha=log_alpha, seed=stream, out=out, **place)
    assert stream.offset == 0
    assert (out == 5).all()


@pytest.mark.parametrize(
    ("stddev", "error"), [(-1, ValueError), (np.nan, ValueError), (np.inf, ValueError), ("1", TypeError), (None, TypeError)]
)
def test_bad_stddev(stddev, error):
    with pytest.raises(error, match="stddev"):
        fastdrop.gaussian_noise(np.ones(3, np.float32), stddev, seed=1)


def test_bad_backward():
    g = np.ones(3, np.float32)
    with pytest.raises(TypeError, match="seed is required here"):
        fastdrop.gaussian_dropout_backward(g, 0.5, seed=None)
    with pytest.raises(ValueError, match="x must have the shape"):
        fastdrop.gaussian_dropout_backward(g, log_alpha=0.0, seed=1, x=g[:2])
    with pytest.raises(TypeError, match="x must be given with log_alpha"):
        fastdrop.gaussian_dropout_backward(g, log_alpha=0.0, seed=1)
    with pytest.raises(TypeError, match="x must not be given without log_alpha"):
        fastdrop.gaussian_dropout_backward(g, 0.5, seed=1, x=g)
    with pytest.raises(ValueError, match="x must have the shape"):
        fastdrop.gaussian_dropout_backward(g, log_alpha=np.zeros(3), seed=1, x=g[:2])


# The machine code ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("objdump") is None, reason="objdump is not installed")
def test_no_fused_multiply_add_in_the_kernels():
    listing = subprocess.run(["objdump", "-d", native.__file__], capture_output=True, text=True, check=True).stdout
    assert re.search(r"\bv?mul[ps]s\b|\bfmul\b", listing)  # it is a listing of the kernels
    assert not re.search(r"\b(vfn?m(add|sub)\w*|fn?m(add|sub)|fml[as])\b", listing)
