"""Dropout on addresses gives the bytes of dropout on arrays, in every layout and on every engine."""

import itertools
import mmap
import re
from pathlib import Path

import numpy as np
import pytest
from comparisons import normal

import fastdrop
from fastdrop._core import pointers
from fastdrop.verify.cases import equal_bytes

KEY = (5, 7)


def strides(a):
    return tuple(step // a.itemsize for step in a.strides)


def drop(x, y, p=0.3, shape=None, steps=None, **options):
    pointers.drop(
        x.ctypes.data,
        y.ctypes.data,
        x.shape if shape is None else shape,
        steps,
        pointers.DTYPES[x.dtype.name],
        p,
        *KEY,
        **options,
    )
    return y


@pytest.fixture(params=["float32", "float64", "float16", "bfloat16"])
def dtype(request):
    return np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if request.param == "bfloat16" else request.param)


PLACES = [
    {},
    {"shared_axes": 1},
    {"shared_axes": (-1, 0)},
    {"noise_shape": (4, 1, None)},
    {"start": 1000},
    {"global_shape": (9, 6, 10), "global_start": (4, 0, 2)},
    {"global_shape": (9, 6, 10), "shared_axes": (2,)},
]


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("p", [0, 0.3, 1])
def test_bytes_of_arrays(engine, dtype, place, p):
    x, bias, residual = normal((4, 6, 8), dtype), normal(8, dtype, 1), normal((4, 6, 8), dtype, 2)
    for with_bias, with_residual in itertools.product([False, True], repeat=2):
        more = ({"bias": bias} if with_bias else {}) | ({"residual": residual} if with_residual else {})
        wanted = fastdrop.dropout(x, p, seed=KEY[0], offset=KEY[1], **more, **place)
        addresses = {name: array.ctypes.data for name, array in more.items()}
        assert equal_bytes(drop(x, np.empty_like(x), p, **addresses, **place), wanted)


@pytest.mark.parametrize("order", [(2, 0, 1), (0, 2, 1), (2, 1, 0)])
@pytest.mark.parametrize("place", [{}, {"shared_axes": 1}], ids=str)
def test_strides(engine, dtype, order, place):
    x = normal((4, 6, 8), dtype).transpose(order)
    residual = normal(x.shape, dtype, 1)[::-1]
    y = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), dtype)[..., ::2]
    wanted = fastdrop.dropout(x, 0.3, seed=KEY[0], offset=KEY[1], residual=residual, **place)
    steps = (strides(x), strides(y), strides(residual))
    assert equal_bytes(drop(x, y, steps=steps, residual=residual.ctypes.data, **place), wanted)


@pytest.mark.parametrize("shift", [-40, -3, 0, 1, 40])
def test_overlap_and_place(engine, shift):
    """An output that overlaps an operand gets the result as if it did not."""
    room, other = normal(300, np.float32), normal(100, np.float32, 1)
    operand, y = room[100:200], room[100 + shift : 200 + shift]
    wanted = fastdrop.dropout(operand.copy(), 0.3, seed=KEY[0], offset=KEY[1])
    assert equal_bytes(drop(operand, y), wanted)
    wanted = fastdrop.dropout(other, 0.3, seed=KEY[0], offset=KEY[1], residual=operand.copy())
    assert equal_bytes(drop(other, y, residual=operand.ctypes.data), wanted)


@pytest.mark.parametrize("shape", [(100,), (5000, 2), (3, 5000)])
def test_a_bias_in_the_memory_of_the_result(engine, shape):
    """Each row reads all biases, so the first row must not overwrite them."""
    x, y = normal(shape, np.float32), normal(shape, np.float32, 1)
    bias = y.reshape(-1)[: shape[-1]]
    wanted = fastdrop.dropout(x, 0.3, seed=KEY[0], offset=KEY[1], bias=bias.copy())
    assert equal_bytes(drop(x, y, bias=bias.ctypes.data), wanted)


def test_misaligned(engine, dtype):
    room = np.zeros(100 * dtype.itemsize + 2, np.uint8)
    x, y = room[1:-1].view(dtype), np.zeros_like(room)[1:-1].view(dtype)
    x[...] = normal(100, dtype)
    assert equal_bytes(drop(x, y), fastdrop.dropout(x, 0.3, seed=KEY[0], offset=KEY[1]))


def test_factors():
    x = normal((4, 6), np.float64)
    wanted = np.where(fastdrop.dropout_mask(x.shape, 0.3, seed=KEY[0], offset=KEY[1]), x * 2.0 + 1.0, -7.0)
    assert equal_bytes(drop(x, np.empty_like(x), factors=(2.0, 1.0, -7.0)), wanted)
    assert equal_bytes(drop(x, np.empty_like(x), factors=(1.0,)), fastdrop.dropout(x, 0.3, seed=5, offset=7, mode="standard"))


def test_threads_and_sizes():
    for n in (0, 1, 7, 4097, 100_000):
        x = normal(n, np.float32)
        for threads in (0, 1, 2, 64):
            wanted = fastdrop.dropout(x, 0.3, seed=KEY[0], offset=KEY[1])
            assert equal_bytes(drop(x, np.empty_like(x), shape=n, num_threads=threads), wanted)


def test_rates():
    x, p = normal((4, 6), np.float32), np.linspace(0, 1, 6)
    wanted = fastdrop.dropout(x, p, seed=KEY[0], offset=KEY[1])
    assert equal_bytes(drop(x, np.empty_like(x), p), wanted)


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"p": 1.5}, ValueError, r"p must be in \[0, 1\]"),
        ({"p": "0.5"}, TypeError, "p must be a number"),
        ({"shape": -1}, ValueError, "shape must be >= 0"),
        ({"shape": 2.5}, TypeError, "each size in shape must be an integer"),
        ({"steps": ((1,), (1,))}, ValueError, "strides must have one number per axis"),
        ({"factors": (1.0, 2.0)}, ValueError, r"factors must be \(\), \(scale,\)"),
        ({"shared_axes": 2}, ValueError, "shared_axes .* out of range"),
        ({"global_shape": (1, 1)}, ValueError, "is not inside global_shape"),
        ({"start": 2**55}, OverflowError, "goes past the end|the last index would be"),
    ],
)
def test_refusals_write_nothing(options, error, sentence):
    x, y = normal((4, 6), np.float32), np.full((4, 6), 7, np.float32)
    with pytest.raises(error, match=sentence):
        drop(x, y, **options)
    assert (y == 7).all()
    if not options.keys() & {"shape", "steps", "factors", "start"}:
        with pytest.raises(error, match=sentence):
            pointers.check(x.shape, **{"p": 0.3, **options})


@pytest.mark.parametrize("number", ["dtype", "seed", "offset"])
def test_numbers(number):
    x, y = normal(4, np.float32), np.full(4, 7, np.float32)
    given = {"dtype": 0, "seed": 1, "offset": 0} | {number: -1 if number != "dtype" else 4}
    with pytest.raises(ValueError, match=f"{number} must be"):
        pointers.drop(x.ctypes.data, y.ctypes.data, 4, None, p=0.3, **given)
    assert (y == 7).all()


def test_no_memory():
    x = normal(4, np.float32)
    for addresses in ((0, x.ctypes.data), (x.ctypes.data, 0)):
        with pytest.raises(ValueError, match="addresses of memory; got 0"):
            pointers.drop(*addresses, 4, None, 0, 0.3, *KEY)
    pointers.drop(0, 0, 0, None, 0, 0.3, *KEY)


def flags_of_pages(array):
    """Return the flags of the pages in the middle of an array, as Linux shows them."""
    middle = array.ctypes.data + array.nbytes // 2
    for begin, end, lines in re.findall(
        r"^(\w+)-(\w+) [^\n]*\n((?:\w+:.*\n)+)", Path("/proc/self/smaps").read_text(), re.MULTILINE
    ):
        if int(begin, 16) <= middle < int(end, 16):
            return re.search(r"VmFlags:(.*)", lines)[1].split()
    raise AssertionError("no such pages")


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").is_dir(), reason="the system has no large pages")
def test_only_a_large_new_result_gets_large_pages():
    for size, is_new in ((16 << 20, True), (16 << 20, False), (2 << 20, True)):
        memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        y = np.frombuffer(memory, np.float32)
        x = np.ones_like(y)
        drop(x, y, is_new=is_new)
        assert ("hg" in flags_of_pages(y)) == (is_new and size > 4 << 20)
        assert equal_bytes(y, fastdrop.dropout(x, 0.3, seed=KEY[0], offset=KEY[1]))
