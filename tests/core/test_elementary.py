"""Elementary functions: equal bits on every engine for all uniforms, accuracy, and the ends of the range."""

import hashlib
import json
import tracemalloc
from pathlib import Path

import mpmath
import numpy as np
import pytest
from scipy import special

import fastdrop
from fastdrop import elementary
from fastdrop.verify.cases import DTYPES, engines, equal_bytes

KNOWN_ANSWERS = Path(fastdrop.__file__).parent / "known_answers"
GOLDEN = json.loads((KNOWN_ANSWERS / "noise_golden.json").read_text())["functions"]
ENGINES = [engine for engine in engines() if engine.num_threads != 1 and not engine.missing()]
FUNCTIONS = {name: getattr(elementary, name) for name in elementary.__all__}
TRUE = {
    "exp": np.exp,
    "log": np.log,
    "sigmoid": special.expit,
    "logit": special.logit,
    "softplus": lambda x: np.logaddexp(0, x),
}
# Errors in units of the last place, as stated in the docstrings.
BOUNDS = {"exp": 0.98, "log": 0.81, "sigmoid": 2.4, "logit": 2.6, "softplus": 2.8}


def arguments(name):
    """Return all 2**23 values of `uniform`, or as many over the range in which the function changes."""
    u = (np.arange(2**23, dtype=np.float32) * 2 + 1) * np.float32(2**-24)
    return u if name in ("log", "logit") else (u - np.float32(0.5)) * np.float32(200)


def digest(values):
    return hashlib.sha256(values.astype(values.dtype.newbyteorder("<")).tobytes()).hexdigest()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_bits_over_all_uniforms(name):
    x = arguments(name)
    for engine in ENGINES:
        with engine.using():
            assert digest(FUNCTIONS[name](x)) == GOLDEN[name]["float32"], str(engine)
            assert digest(FUNCTIONS[name](x[::32].astype(np.float64) * 1.1)) == GOLDEN[name]["float64"], str(engine)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_bits_of_the_reference(name):
    x = arguments(name)
    with fastdrop.using(backend="numpy"):
        assert digest(FUNCTIONS[name](x)) == GOLDEN[name]["float32"]
        assert digest(FUNCTIONS[name](x[::32].astype(np.float64) * 1.1)) == GOLDEN[name]["float64"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_accuracy_of_float32(name):
    x = arguments(name)
    with np.errstate(all="ignore"):
        want = TRUE[name](x.astype(np.float64))
        got = FUNCTIONS[name](x).astype(np.float64)
        finite = np.isfinite(want.astype(np.float32))
        ulp = np.spacing(np.abs(want[finite]).astype(np.float32)).astype(np.float64)
        error = np.abs(got[finite] - want[finite]) / ulp
        assert np.array_equal(got[~finite], want[~finite].astype(np.float32))
    assert error.max() < BOUNDS[name]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_accuracy_of_float64(name):
    mpmath.mp.dps = 80
    true = {
        "exp": mpmath.exp,
        "log": mpmath.log,
        "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
        "logit": lambda x: mpmath.log(x / (1 - x)),
        "softplus": lambda x: mpmath.log(1 + mpmath.exp(x)),
    }[name]
    rng = np.random.default_rng(1)
    if name in ("log", "logit"):
        x = np.concatenate([rng.random(300), rng.random(100) * 1e-9, 0.5 + (rng.random(100) - 0.5) * 1e-5])
    else:
        x = np.concatenate([rng.normal(size=300) * 30, rng.normal(size=100) * 1e-6])
    for argument, got in zip(x.tolist(), FUNCTIONS[name](x).tolist(), strict=True):
        want = true(mpmath.mpf(argument))
        assert abs((mpmath.mpf(got) - want) / want) < 3 * 2.0**-52


def test_ends_of_the_range():
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45, 88.8, -104.0, 1.0, 2.0, -1.0], np.float32)
    with np.errstate(all="ignore"):
        for name, function in FUNCTIONS.items():
            want = TRUE[name](x.astype(np.float64)).astype(np.float32)
            np.testing.assert_allclose(function(x), want, rtol=3e-7, atol=3e-45, err_msg=name)


def test_ends_of_the_range_of_float64():
    """Past the ends of exp too, where the exponent of its result is far from any of a float64."""
    large = np.array([36.7, 709.7, 709.9, 711, 744.4, 746, 1e3, 1e5, 1e6, 2**31, 2**32, 1e9, 1e18, 1e300, np.inf])
    x = np.concatenate([large, -large, [np.nan, 0.0, -0.0, 1.0, 0.5, 5e-324, -5e-324, 2.0**-1022, 1 - 2.0**-53]])
    with np.errstate(all="ignore"):
        for name, function in FUNCTIONS.items():
            made = []
            for engine in ENGINES:
                with engine.using():
                    made.append(function(x))
            np.testing.assert_allclose(made[0], TRUE[name](x), rtol=1e-15, atol=1e-308, err_msg=name)
            assert all(equal_bytes(each, made[0]) for each in made), name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_number_alone(dtype):
    """Where all numbers are usual ones, a kernel takes fewer steps; their results must not depend on that."""
    ends = np.array([80, 88.7, 89, 104, 700, 709.7, 710, 746, 0.5, 1, 0, np.inf, np.nan], dtype)
    info = np.finfo(dtype)
    ends = np.concatenate([ends, [info.max, info.tiny, info.tiny / 2, info.smallest_subnormal, 1 - info.epsneg]]).astype(dtype)
    with np.errstate(all="ignore"):
        ends = np.concatenate([ends, np.nextafter(ends, dtype(0)), np.nextafter(ends, dtype(np.inf))])
    x = np.concatenate([ends, -ends])
    for name, function in FUNCTIONS.items():
        with fastdrop.using(backend="numpy"):
            want = function(x)
        for engine in ENGINES:
            with engine.using():
                alone = np.concatenate([function(x[k : k + 1]) for k in range(x.size)])
                assert equal_bytes(alone, want), (name, str(engine))
                assert equal_bytes(function(x), want), (name, str(engine))


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_outputs_and_layouts(dtype):
    x = (np.arange(12, dtype=np.float32) / 4).astype(dtype).reshape(3, 4)
    y = elementary.softplus(x)
    wide = x.astype(np.float64 if dtype == "float64" else np.float32)
    assert y.dtype == x.dtype
    assert equal_bytes(y, elementary.softplus(wide).astype(dtype))
    assert equal_bytes(np.ascontiguousarray(elementary.softplus(np.asfortranarray(x))), y)
    assert equal_bytes(np.ascontiguousarray(elementary.softplus(x[:, ::-2])), np.ascontiguousarray(y[:, ::-2]))
    inside = x.copy()
    assert elementary.softplus(inside, out=inside) is inside
    assert equal_bytes(inside, y)
    assert elementary.exp(x[:0]).shape == (0, 4)


LAYOUTS = {
    "C": lambda a: a,
    "Fortran": np.asfortranarray,
    "backwards": lambda a: a[::-1].copy()[::-1],
    "every other": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "transposed": lambda a: a.T.copy().T,
    "misaligned": lambda a: misaligned(a),
    "subclass": lambda a: a.copy().view(Subclass),
}


class Subclass(np.ndarray):
    pass


def misaligned(a):
    made = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    made[...] = a
    return made


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("into", LAYOUTS)
@pytest.mark.parametrize("of", LAYOUTS)
def test_layouts_of_input_and_output(of, into, dtype):
    x = ((np.arange(60, dtype=np.float32) - 30) / 8).astype(dtype).reshape(5, 12)
    want = elementary.sigmoid(x)
    given, out = LAYOUTS[of](x), LAYOUTS[into](np.zeros_like(x))
    before = given.copy()
    for engine in ENGINES:
        out[...] = 0
        with engine.using():
            made = elementary.sigmoid(given)
            assert elementary.sigmoid(given, out=out) is out
        assert type(made) is type(given)
        assert made.strides == np.empty_like(given).strides
        assert equal_bytes(np.array(made, order="C", subok=False), want), str(engine)
        assert equal_bytes(np.array(out, order="C", subok=False), want), str(engine)
    assert np.array_equal(given, before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shift", [-65536, -5, -1, 0, 1, 5, 65536])
def test_outputs_that_overlap_the_input(shift, dtype):
    line = np.linspace(-4, 4, 210_000, dtype=np.float32).astype(dtype)
    inside = slice(70_000, 140_000)
    want = elementary.sigmoid(line[inside].copy())
    for engine in ENGINES:
        memory = line.copy()
        out = memory[inside.start + shift : inside.stop + shift] if shift else memory[inside]
        with engine.using():
            elementary.sigmoid(memory[inside], out=out)
        assert equal_bytes(out, want), str(engine)
        untouched = np.ones(line.size, np.bool_)
        untouched[inside.start + shift : inside.stop + shift] = False
        assert equal_bytes(memory[untouched], line[untouched])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_plain_arrays_are_not_copied(dtype):
    x = np.linspace(-4, 4, 100_000).astype(dtype)
    out = np.empty_like(x)
    with fastdrop.using(backend="c"):
        tracemalloc.start()
        try:
            elementary.sigmoid(x, out=out)
            elementary.sigmoid(x, out=x)
            in_place = tracemalloc.get_traced_memory()[1]
            elementary.sigmoid(out)
            new = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert in_place < x.nbytes / 4
    assert x.nbytes <= new < x.nbytes * 5 / 4


def test_bad_input():
    with pytest.raises(TypeError, match="x must have a floating-point dtype"):
        elementary.exp(np.arange(3))
    with pytest.raises(ValueError, match="out must have the shape"):
        elementary.exp(np.ones(3), out=np.ones(2))
    with pytest.raises(ValueError, match="backend"):
        elementary.exp(np.ones(3), backend="cobol")


def test_a_hard_mask_does_not_keep_a_result_from_being_written(engine):
    out = np.ma.MaskedArray(np.full(3, 7.0), [True, False, False], hard_mask=True)
    assert elementary.exp(np.zeros(3), out=out) is out
    assert out.data.tolist() == [1.0, 1.0, 1.0]
