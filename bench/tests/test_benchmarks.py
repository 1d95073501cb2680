"""Timings by pytest-benchmark: ``pytest bench --benchmark-enable``. In the test suite each runs once, for its result.

Every result is checked against the reference, so that nothing wrong is ever timed. ``numpy.copyto`` on the same bytes
is the row to compare with.
"""

import numpy as np
import pytest

import fastdrop
from fastdrop.testing import DTYPES, REFERENCE, engines, equal_bytes

SIZES = {"a call": 256, "L2": 2**16, "L3": 2**20}
RATES = (0.1, 0.5)
KEY = {"seed": 61, "offset": 62}
BY_ISA = [engine for engine in engines() if engine.num_threads in (None, 1)]

sizes = pytest.mark.parametrize("n", SIZES.values(), ids=SIZES)
rates = pytest.mark.parametrize("p", RATES)
dtypes = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture(params=BY_ISA, ids=str)
def engine(request):
    """Each backend and instruction set, on one thread."""
    if reason := request.param.missing():
        pytest.skip(reason)
    with request.param.using():
        yield request.param


def reference(function, *arguments, **more):
    with REFERENCE.using():
        return function(*arguments, **KEY, **more)


def values(n, dtype):
    return np.linspace(-1, 1, n).astype(dtype)


@dtypes
@sizes
def test_copy(benchmark, n, dtype):
    x = values(n, dtype)
    y = np.empty_like(x)
    benchmark(np.copyto, y, x)
    assert equal_bytes(y, x)


@rates
@dtypes
@sizes
def test_dropout(benchmark, engine, n, dtype, p):
    x = values(n, dtype)
    y = np.empty_like(x)
    benchmark(fastdrop.dropout, x, p, out=y, **KEY)
    assert equal_bytes(y, reference(fastdrop.dropout, x, p))


@rates
@sizes
def test_packed_mask(benchmark, engine, n, p):
    mask = benchmark(fastdrop.dropout_mask, n, p, packed=True, **KEY)
    assert equal_bytes(mask, reference(fastdrop.dropout_mask, n, p, packed=True))


@sizes
def test_uniform(benchmark, engine, n):
    u = benchmark(fastdrop.uniform, n, **KEY)
    assert equal_bytes(u, reference(fastdrop.uniform, n))
