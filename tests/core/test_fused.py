"""Operations in the same pass: a bias, a residual, the caller's own mask; and the order of roundings."""

import contextlib
import itertools
from decimal import Decimal

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import fastdrop
from fastdrop._core import plan
from fastdrop.verify.cases import (
    COMPUTED,
    DTYPES,
    GUARD,
    REFERENCE,
    THREADED_SIZE,
    TILE,
    awkward,
    equal_bytes,
    past_caches,
    special_rates,
    zoo,
)

KEY = {"seed": 81, "offset": 82}
SHAPE = (90, 101)


def operands(shape, dtype):
    """Return x, residual and bias, each with its own awkward values."""
    n = int(np.prod(shape))
    memory = awkward(n + 40, dtype)
    return memory[:n].reshape(shape), memory[11 : n + 11].reshape(shape), memory[5 : 5 + shape[-1]]


def fused(x, kept, factor, bias=None, residual=None):
    """Return residual + (kept ? (x + bias) * factor : 0), step by step in the compute type."""
    compute = np.dtype(COMPUTED[x.dtype.name])
    with np.errstate(all="ignore"):
        value = x.astype(compute)
        if bias is not None:
            value = value + bias.astype(compute)
        value = np.where(kept, value * np.asarray(factor).astype(compute), compute.type(0))
        if residual is not None:
            value = residual.astype(compute) + value
        return value.astype(x.dtype)


def which(residual, bias, use):
    return {name: value for name, value in (("residual", residual), ("bias", bias)) if name in use}


singles = st.floats(width=32, allow_nan=False)
USES = [("residual",), ("bias",), ("residual", "bias")]


# The values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("use", USES, ids="-".join)
def test_the_order_of_roundings(engine, dtype, use):
    x, residual, bias = operands(SHAPE, dtype)
    more = which(residual, bias, use)
    for p in (0.0, 0.3, 1.0):
        kept, scale = fastdrop.dropout_mask(SHAPE, p, **KEY), 1 / (1 - p) if p < 1 else 0
        assert equal_bytes(fastdrop.dropout(x, p, **more, **KEY), fused(x, kept, scale, **more))
        assert equal_bytes(fastdrop.dropout(x, p, mode="standard", **more, **KEY), fused(x, kept, 1, **more))
    p = special_rates((101,))
    kept = fastdrop.dropout_mask(SHAPE, p, **KEY)
    with np.errstate(all="ignore"):
        assert equal_bytes(fastdrop.dropout(x, p, **more, **KEY), fused(x, kept, 1 / (1 - p), **more))


@settings(max_examples=40)
@given(
    st.lists(st.tuples(*[st.floats(width=32, allow_nan=False)] * 3), min_size=1, max_size=50), st.sampled_from([0.1, 0.5, 0.9])
)
def test_each_step_is_rounded_once(engine, values, p):
    """No operation is fused. Sums and products of two float32 in double, rounded to float32, are correctly rounded."""
    x, bias, residual = np.array(values, np.float32).T.copy()
    kept = fastdrop.dropout_mask(len(values), p, **KEY)
    y = fastdrop.dropout(x, p, bias=bias, residual=residual, **KEY)
    scale = float(np.float32(1 / (1 - p)))
    with np.errstate(all="ignore"):
        for i in range(len(values)):
            value = np.float32(float(np.float32(float(x[i]) + float(bias[i]))) * scale) if kept[i] else 0.0
            wanted = np.float32(float(residual[i]) + float(value))
            assert equal_bytes(y[i : i + 1], np.array([wanted]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_signs_of_zero(engine, dtype):
    """-0.0 + dropped +0.0 is +0.0; -0.0 + kept -0.0 is -0.0."""
    zero = np.full(300, -0.0, dtype)
    kept = fastdrop.dropout_mask(300, 0.5, **KEY)
    for y in (fastdrop.dropout(zero, 0.5, residual=zero, **KEY), fastdrop.dropout(zero, 0.5, bias=zero, **KEY)):
        assert np.array_equal(np.signbit(y), kept)
    y = fastdrop.dropout(np.full(300, np.nan, dtype), 1.0, residual=zero, bias=zero, **KEY)
    assert not y.view(f"u{y.itemsize}").any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("use", USES, ids="-".join)
def test_outside_training(engine, dtype, use):
    """Inverted: (x + bias) + residual. Standard: (x + bias) * (1 - p) + residual; the product is +0.0 if p is 1."""
    x, residual, bias = operands(SHAPE, dtype)
    more = which(residual, bias, use)
    for p in (0.3, 1.0, special_rates((101,)), special_rates(SHAPE, "float32")):
        rates = np.asarray(p, np.float64)
        y = fastdrop.dropout(x, p, training=False, **more)
        assert equal_bytes(y, fused(x, True, 1, **more))
        assert y is not x
        y = fastdrop.dropout(x, p, training=False, mode="standard", **more)
        assert equal_bytes(y, fused(x, rates < 1, 1 - rates, **more))


@pytest.mark.parametrize("past", [False, True], ids=["through the caches", "past the caches"])
def test_threads(engine, past):
    x, residual, bias = operands((THREADED_SIZE // 101 + 1, 101), "bfloat16" if "bfloat16" in DTYPES else "float16")
    kept = fastdrop.dropout_mask(x.shape, 0.3, **KEY)
    if past:
        with past_caches():
            y = fastdrop.dropout(x, 0.3, bias=bias, residual=residual, **KEY)
    else:
        y = fastdrop.dropout(x, 0.3, bias=bias, residual=residual, **KEY)
    assert equal_bytes(y, fused(x, kept, 1 / 0.7, bias, residual))


@pytest.mark.parametrize(
    ("length", "dtype"),
    [
        *itertools.product([2, 205, 1023, 1024, 1025, 2100, 3000], ["float32"]),
        *itertools.product([511, 512, 513, 1025], ["float64"]),
        *itertools.product([1025, 2047, 2048, 2049], ["float16"]),
    ],
)
@pytest.mark.parametrize("past", [False, True], ids=["through the caches", "past the caches"])
def test_lengths_of_a_bias(engine, past, length, dtype):
    """A short bias, up to 4 KiB, is repeated once per call; a longer one is read in place, and copied where two rows meet."""
    x, residual, bias = operands((3 * TILE // length + 2, length), dtype)
    wanted = fused(x, fastdrop.dropout_mask(x.shape, 0.3, **KEY), 1 / 0.7, bias, residual)
    with past_caches() if past else contextlib.nullcontext():
        for start in range(16):  # tiles begin at a cache line, so pieces begin at each place of a row
            y = np.empty(x.size + start, dtype)[start:].reshape(x.shape)
            assert equal_bytes(fastdrop.dropout(x, 0.3, bias=bias, residual=residual, out=y, **KEY), wanted)
        every_other = np.repeat(bias, 2)[::2]
        assert equal_bytes(fastdrop.dropout(x, 0.3, bias=every_other, residual=residual, **KEY), wanted)


@pytest.mark.parametrize("width", [1000, 1024, 1100, 2000, 4000])
def test_parts_of_rows(engine, width):
    """Long parts are read and written in place; the elements where two of them meet are copied."""
    x, residual, bias = operands((5, 4096), "float32")
    x, residual, bias = x[:, 7 : width + 7], residual[:, :width], bias[:width]
    kept, y = fastdrop.dropout_mask(x.shape, 0.3, **KEY), np.zeros((5, 4096), np.float32)
    wanted = fused(x, kept, 1 / 0.7, bias, residual)
    fastdrop.dropout(x, 0.3, bias=bias, residual=residual, out=y[:, 3 : width + 3], **KEY)
    assert equal_bytes(y[:, 3 : width + 3], wanted)
    assert not y[:, :3].any()
    assert not y[:, width + 3 :].any()


def test_gradients(engine):
    """The gradient of a residual is `grad`; that of x is dropout_backward, and that of a bias its sum over rows."""
    x, residual, bias = (np.linspace(a, 1, n).reshape(shape) for a, n, shape in ((-1, 40, (8, 5)), (0, 40, (8, 5)), (2, 5, 5)))
    grad = np.linspace(1, 2, 40).reshape(8, 5)
    gradient = fastdrop.dropout_backward(grad, 0.5, **KEY)

    def loss(x, residual, bias):
        return (fastdrop.dropout(x, 0.5, residual=residual, bias=bias, **KEY) * grad).sum()

    for k, wanted in enumerate((gradient, grad, gradient.sum(axis=0))):
        for i in np.ndindex(wanted.shape):
            step = [np.zeros(a.shape) for a in (x, residual, bias)]
            step[k][i] = 2**-8
            higher, lower = (loss(*(a + s * d for a, d in zip((x, residual, bias), step, strict=True))) for s in (1, -1))
            assert np.isclose((higher - lower) * 2**7, wanted[i], rtol=1e-9, atol=1e-9)


# The other operations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_affine(engine, dtype):
    x, compute = awkward(2 * TILE + 9, dtype), np.dtype(COMPUTED[dtype]).type
    for p, factors in itertools.product(
        (0.0, 0.3, 1.0), ((0.88, -0.2, -1.7580993408473766), (1.0, -0.0, np.nan), (2.0, 1e30, 0.0))
    ):
        kept = fastdrop.dropout_mask(x.size, p, **KEY)
        with np.errstate(all="ignore"):
            scale, shift, fill = (compute(factor) for factor in factors)
            wanted = np.where(kept, x.astype(compute) * scale + shift, fill).astype(dtype)
            y = plan.Call(**KEY).affine(x, p, factors)
        assert equal_bytes(y, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_select(engine, dtype):
    x, other, _ = operands((2 * TILE + 9,), dtype)
    for p in (0.0, 0.3, 1.0, special_rates(x.shape)):
        kept = fastdrop.dropout_mask(x.size, p, **KEY)
        y = plan.Call(**KEY).select(x, p, other)
        assert equal_bytes(y, np.where(kept, x, other))


# Memory -------------------------------------------------------------------------------------------------------------


def field(a):
    """Return a copy of an array as a field of a structure, with other bytes between the elements."""
    fields = np.zeros(a.shape, [("before", "i1"), ("value", a.dtype)])
    fields["value"] = a
    return fields["value"]


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "reversed": lambda a: a[..., ::-1].copy()[..., ::-1],
    "every other": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "misaligned": lambda a: np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
    "a structure's field": field,
    "read-only": lambda a: np.broadcast_to(a, a.shape),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strided_operands(engine, layout, dtype):
    x, residual, bias = operands((70, 63), dtype)
    y = fastdrop.dropout(x, 0.4, residual=residual, bias=bias, **KEY)
    change = LAYOUTS[layout]
    for turn in range(1, 8):  # each operand as it is, or changed
        a, b, c = (change(o) if turn >> k & 1 else o for k, o in enumerate((x, residual, bias)))
        assert equal_bytes(fastdrop.dropout(a, 0.4, residual=b, bias=c, **KEY), y)
    out = np.empty(x.shape[::-1], dtype).T
    fastdrop.dropout(change(x), 0.4, residual=change(residual), bias=change(bias), out=out, **KEY)
    assert equal_bytes(out, y)


@pytest.mark.parametrize("name", zoo("float32"))
def test_shapes(engine, name):
    """Test 0, 1 and 32 dimensions, empty arrays and read-only arrays."""
    x = zoo("float32")[name]
    bias = awkward(x.shape[-1], "float32") if x.ndim else np.float32(0.5)
    residual = np.zeros(x.shape, np.float32)
    y = fastdrop.dropout(x, 0.4, residual=residual, bias=bias, **KEY)
    kept = fastdrop.dropout_mask(x.shape, 0.4, **KEY)
    assert equal_bytes(np.asarray(y), np.asarray(fused(x, kept, 1 / 0.6, np.asarray(bias), residual)))


@pytest.mark.skipif(np.__version__.startswith("1."), reason="NumPy 1 has 32 dimensions")
def test_all_the_dimensions_of_numpy(engine):
    """64 dimensions work, also if an operand's memory order differs from its index order."""
    flat = awkward(24, "float32").reshape(2, 3, 4)
    shape = (2, *[1] * 30, 3, *[1] * 30, 4, 1)
    p, mask = np.linspace(0, 1, 24).reshape(2, 3, 4), np.arange(24).reshape(2, 3, 4) % 3 == 0
    x, rates, flags = (np.asfortranarray(a).reshape(shape, order="F") for a in (flat, p, mask))
    y = fastdrop.dropout(flat, p, residual=flat, **KEY)
    assert equal_bytes(fastdrop.dropout(x, rates, residual=x, **KEY).reshape(flat.shape), y)
    assert equal_bytes(fastdrop.apply_mask(x, flags).reshape(flat.shape), fastdrop.apply_mask(flat, mask))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["x", "residual", "bias"])
def test_in_place(engine, name, dtype):
    for shape in ((1, 5001), (5001,), SHAPE):
        given_operands = dict(zip(("x", "residual", "bias"), (a.copy() for a in operands(shape, dtype)), strict=True))
        if name == "bias" and len(shape) == 2 and shape[0] > 1:
            continue  # its shape differs from that of the result
        y = fastdrop.dropout(p=0.4, **given_operands, **KEY)
        out = given_operands[name].reshape(shape)
        assert fastdrop.dropout(p=0.4, **given_operands, out=out, **KEY) is out
        assert equal_bytes(out, y)


@pytest.mark.parametrize("shift", [-4097, -101, -1, 1, 7, 101, 5000])
@pytest.mark.parametrize("name", ["residual", "bias", "p", "x"])
def test_overlaps(engine, name, shift):
    """The result is as if the output did not overlap an operand."""
    n = 60 * 101
    memory = np.resize(np.array([0.0, 0.25, 0.5, 1.0, 0.9], np.float32), n + 2 * 5000)
    place = memory[5000 : 5000 + n].reshape(60, 101)
    x, residual, bias = operands((60, 101), "float32")
    given_operands = {"x": x, "residual": residual, "bias": bias, "p": 0.4}
    given_operands[name] = place[30] if name == "bias" else place
    apart = {key: np.copy(value) if key == name else value for key, value in given_operands.items()}
    y = fastdrop.dropout(**apart, **KEY)
    out = memory[5000 + shift : 5000 + shift + n].reshape(60, 101)
    assert fastdrop.dropout(**given_operands, out=out, **KEY) is out
    assert equal_bytes(out, y)


def test_all_operands_are_one_array(engine):
    x = awkward(5000, "float32").copy()
    y = fastdrop.dropout(x.copy(), 0.4, residual=x.copy(), bias=x.copy(), **KEY)
    assert equal_bytes(fastdrop.dropout(x, 0.4, residual=x, bias=x, out=x, **KEY), y)


# The caller's own mask ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 1 / 3, -2, 0, np.float32(1.25), 1e300, np.inf])
def test_apply_mask(engine, dtype, scale):
    """Dropped elements are replaced, not multiplied: they are +0.0 whatever they were."""
    for n in (0, 1, 7, 64, 129, TILE + 5, 2 * TILE + 77):
        x, kept = awkward(n, dtype), np.arange(n) * 7 % 13 < 6
        with np.errstate(all="ignore"):
            wanted = fused(x, kept, np.float64(scale))
        assert equal_bytes(fastdrop.apply_mask(x, kept, scale), wanted)
        assert equal_bytes(fastdrop.apply_mask(x, np.packbits(kept, bitorder="little"), scale), wanted)


def test_apply_mask_is_what_dropout_does(engine):
    x = awkward(THREADED_SIZE, "float32")
    y = fastdrop.dropout(x, 0.25, **KEY)
    for packed in (False, True):
        mask = fastdrop.dropout_mask(x.shape, 0.25, packed=packed, **KEY)
        assert equal_bytes(fastdrop.apply_mask(x, mask, 1 / 0.75), y)


@pytest.mark.parametrize("shape", [(), (1,), (23,), (20, 1), (18, 1, 1), (1, 20, 23), (18, 20, 23)])
@pytest.mark.parametrize("name", ["C", "Fortran", "transposed", "sliced", "reversed"])
def test_masks_are_broadcast(engine, name, shape):
    x = zoo("float32")[name]
    own = tuple(size if n > 1 else 1 for size, n in zip(x.shape[x.ndim - len(shape) :], shape, strict=True))
    mask = (np.arange(int(np.prod(own))) * 5 % 7 < 4).reshape(own)
    for laid in (mask, np.asfortranarray(mask), mask[(slice(None, None, -1),) * mask.ndim]):
        wanted = fused(x, np.broadcast_to(laid, x.shape), 2.0)
        assert equal_bytes(fastdrop.apply_mask(x, laid, 2.0), wanted)
        out = np.empty(x.shape[::-1], np.float32).T
        assert fastdrop.apply_mask(x, laid, 2.0, out=out) is out
        assert equal_bytes(out, wanted)


def test_strided_masks(engine):
    x, memory = awkward(3000, "float64"), np.arange(9000) % 5 < 3
    fields = np.zeros(3000, [("a", "f4"), ("mask", bool)])
    fields["mask"] = memory[:3000]
    for mask in (memory[::3], memory[::-3], fields["mask"], memory[1:3001]):
        assert equal_bytes(fastdrop.apply_mask(x, mask), fused(x, mask, 1))
    packed = np.packbits(memory, bitorder="little")[:750]
    assert equal_bytes(
        fastdrop.apply_mask(x, packed[::-2]), fused(x, np.unpackbits(packed[::-2], bitorder="little").astype(bool), 1)
    )


def test_any_byte_but_0_is_true(engine):
    x, mask = awkward(3000, "float32"), np.resize(np.array([0, 1, 2, 128, 255], np.uint8), 3000).view(bool)
    assert equal_bytes(fastdrop.apply_mask(x, mask), fused(x, mask.view(np.uint8) != 0, 1))


def test_apply_mask_in_place(engine):
    for layout in (np.array, np.asfortranarray, lambda a: a[::-1].copy()[::-1]):
        x, kept = layout(awkward(70 * 90, "float32").reshape(70, 90)), np.arange(90) % 3 > 0
        wanted = fused(x, kept, 3)
        assert fastdrop.apply_mask(x, kept, 3, out=x) is x
        assert equal_bytes(x, wanted)


@pytest.mark.parametrize("begin", [0, 1, 3000, 11_990])
def test_a_mask_that_shares_memory_with_the_output(engine, begin):
    memory = awkward(5000, "float32").copy()
    flags = memory.view(bool)
    mask = flags[begin : begin + 4000]
    kept, x = mask.copy().view(np.uint8) != 0, awkward(4000, "float32")
    wanted = fused(x, kept, 1)
    assert equal_bytes(fastdrop.apply_mask(x, mask, out=memory[:4000]), wanted)
    memory = awkward(5000, "float32").copy()
    packed = memory.view(np.uint8)[begin : begin + 500]
    wanted = fused(x, np.unpackbits(packed, bitorder="little").astype(bool), 1)
    assert equal_bytes(fastdrop.apply_mask(x, packed, out=memory[:4000]), wanted)


# Bad input ----------------------------------------------------------------------------------------------------------

X = np.ones((3, 4), np.float32)
BAD_OPERANDS = [
    ("residual", np.ones((3, 4)), TypeError, "residual must have the dtype of the input, '<f4'; got '<f8'"),
    ("residual", np.ones((3, 4), ">f4"), TypeError, "residual must have the dtype of the input, '<f4'; got '>f4'"),
    ("residual", np.ones((3, 4), int), TypeError, "residual must have the dtype of the input"),
    ("residual", np.ones((4, 3), np.float32), ValueError, r"residual must have the shape \(3, 4\); got \(4, 3\)"),
    ("residual", np.ones(4, np.float32), ValueError, r"residual must have the shape \(3, 4\); got \(4,\)"),
    ("residual", 1.0, ValueError, r"residual must have the shape \(3, 4\); got \(\)"),
    ("residual", "a", TypeError, "residual must be an array of the dtype of the input, '<f4'; got 'a'"),
    ("residual", [[1], [2, 3]], TypeError, r"residual must be an array .* got \[\[1\], \[2, 3\]\]"),
    ("bias", np.ones(4), TypeError, "bias must have the dtype of the input, '<f4'; got '<f8'"),
    ("bias", np.ones(3, np.float32), ValueError, r"bias must have the shape \(4,\); got \(3,\)"),
    ("bias", np.ones((1, 4), np.float32), ValueError, r"bias must have the shape \(4,\); got \(1, 4\)"),
    ("bias", np.ones(1, np.float32), ValueError, r"bias must have the shape \(4,\); got \(1,\)"),
    ("bias", [None, "b", 1j, 2], TypeError, "bias must be an array of the dtype of the input"),
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "value", "exception", "pattern"), BAD_OPERANDS)
def test_bad_operands(name, value, exception, pattern, training):
    stream, out = fastdrop.Stream(1), np.full((3, 4), GUARD, np.float32)
    with pytest.raises(exception, match=pattern):
        fastdrop.dropout(X, 0.5, seed=stream, training=training, out=out, **{name: value})
    assert stream.offset == 0
    assert (out == GUARD).all()


BAD_MASKS = [
    (np.ones((3, 4), np.int64), 1, TypeError, "mask must have the dtype bool, or uint8 if it is packed; got int64"),
    (np.ones((3, 4), np.float32), 1, TypeError, "mask must have the dtype bool, or uint8 if it is packed; got float32"),
    (None, 1, TypeError, "mask must have the dtype bool, or uint8 if it is packed; got object"),
    (np.ones((4, 3), bool), 1, ValueError, r"mask has shape \(4, 3\), .* broadcast to the shape \(3, 4\) of x"),
    (np.ones((1, 3, 4), bool), 1, ValueError, r"mask has shape \(1, 3, 4\), .* broadcast to the shape \(3, 4\) of x"),
    (np.ones(3, bool), 1, ValueError, r"mask has shape \(3,\)"),
    (np.ones(3, np.uint8), 1, ValueError, r"a packed mask of 12 elements must have shape \(2,\), .*; got \(3,\)"),
    (np.ones((1, 2), np.uint8), 1, ValueError, r"a packed mask of 12 elements must have shape \(2,\), .*; got \(1, 2\)"),
    (np.ones((3, 4), bool), "2", TypeError, "scale must be a number; got '2'"),
    (np.ones((3, 4), bool), b"2", TypeError, "scale must be a number; got b'2'"),
    (np.ones((3, 4), bool), None, TypeError, "scale must be a number; got None"),
    (np.ones((3, 4), bool), 2j, TypeError, "scale must be a number; got 2j"),
    (np.ones((3, 4), bool), np.complex64(2), TypeError, r"scale must be a number; got .*2\+0j"),
    (np.ones((3, 4), bool), np.array("2"), TypeError, r"scale must be a number; got array\('2'"),
    (np.ones((3, 4), bool), np.array("two"), TypeError, r"scale must be a number; got array\('two'"),
    (np.ones((3, 4), bool), np.array([2.0]), TypeError, r"scale must be a number; got array\(\[2\.\]\)"),
    (np.ones((3, 4), bool), bytearray(b"2"), TypeError, r"scale must be a number; got bytearray\(b'2'\)"),
    (np.ones((3, 4), bool), [2.0], TypeError, r"scale must be a number; got \[2\.0\]"),
    (np.ones((3, 4), bool), 10**400, ValueError, "scale must be in the range of float64; got 1000"),
    (np.ones((3, 4), bool), Decimal("sNaN"), ValueError, r"scale must be in the range of float64; got Decimal\('sNaN'\)"),
]


@pytest.mark.parametrize(("mask", "scale", "exception", "pattern"), BAD_MASKS)
def test_bad_masks(mask, scale, exception, pattern):
    out = np.full((3, 4), GUARD, np.float32)
    with pytest.raises(exception, match=pattern):
        fastdrop.apply_mask(X, mask, scale, out=out)
    assert (out == GUARD).all()


@pytest.mark.parametrize(
    ("keywords", "exception", "pattern"),
    [
        ({"x": np.ones((3, 4), int)}, TypeError, "x must have a floating-point dtype"),
        ({"out": np.ones((4, 3), np.float32)}, ValueError, r"out must have the shape of the input, \(3, 4\); got \(4, 3\)"),
        ({"out": np.ones((3, 4))}, TypeError, "out must have the dtype of the input"),
        ({"out": np.broadcast_to(np.float32(0), (3, 4))}, ValueError, "out must be writable; it is read-only"),
        ({"backend": "cuda"}, ValueError, "unknown backend 'cuda'"),
        ({"num_threads": 0}, ValueError, "num_threads must be an integer >= 1; got 0"),
    ],
    ids=str,
)
def test_bad_input_of_apply_mask(keywords, exception, pattern):
    with pytest.raises(exception, match=pattern):
        fastdrop.apply_mask(**{"x": X, "mask": np.ones((3, 4), bool), **keywords})


def test_engines_can_be_named_for_one_call():
    x, mask = awkward(1000, "float32"), np.arange(1000) % 3 > 0
    with REFERENCE.using():
        y = fastdrop.apply_mask(x, mask, 1.5)
    for backend in fastdrop.config()["backends"]:
        assert equal_bytes(fastdrop.apply_mask(x, mask, 1.5, backend=backend, num_threads=2), y)
