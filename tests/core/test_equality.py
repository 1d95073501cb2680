"""Every engine gives the bytes of the reference in every case of the table, and touches nothing around the output."""

import functools
import itertools
import re
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

import fastdrop
from fastdrop._core import plan
from fastdrop.verify.cases import (
    DTYPES,
    GEOMETRIES,
    LINE,
    OPS,
    RATES_OF,
    REFERENCE,
    SIZES,
    THREADED_SIZE,
    THREADS,
    TILE,
    Case,
    awkward,
    cases,
    compute,
    engines,
    equal_bytes,
    guarded,
    laid_cases,
    past_caches,
)

TABLE = [(op, n, engine) for op in OPS if OPS[op].rates for n in (*SIZES, THREADED_SIZE) for engine in engines()]
LAID = [op for op in OPS if OPS[op].laid]


@functools.lru_cache(maxsize=500)
def expected(case):
    with REFERENCE.using():
        return compute(case)


@pytest.mark.parametrize(("op", "n", "engine"), TABLE, indirect=["engine"], ids=str)
def test_table(op, n, engine):
    for case in cases(op, [n]):
        assert equal_bytes(compute(case), expected(case)), case


@pytest.mark.parametrize("op", LAID)
def test_laid_masks(op, engine):
    for case in laid_cases(op):
        assert equal_bytes(compute(case), expected(case)), case


def test_choices_meet():
    """Every geometry meets every kind of rates, size and way of writing, on each dtype."""
    cases = [case for op in LAID for case in laid_cases(op)]
    dtypes = {case: case.op.rsplit("-", 1)[1] for case in cases if case.op.rsplit("-", 1)[-1] in DTYPES}
    sizes = {case.n for case in cases}
    for choices in (
        [(case.geometry, case.rates) for case in cases],
        [(case.op, case.past_caches) for case in cases],
        [(case.op, case.geometry) for case in cases],
        [(case.op, case.rates) for case in cases],
        [(case.geometry, case.n) for case in cases],
        [(case.rates, case.n) for case in cases],
        [(case.geometry, case.past_caches) for case in cases],
        [(dtype, case.geometry) for case, dtype in dtypes.items()],
        [(dtype, case.rates) for case, dtype in dtypes.items()],
        [(dtype, case.past_caches) for case, dtype in dtypes.items()],
    ):
        first, second = map(set, zip(*choices, strict=True))
        assert set(choices) == set(itertools.product(first, second))
    assert {case.geometry for case in cases} == set(GEOMETRIES)
    assert {case.rates for case in cases} == set(RATES_OF)
    assert set(dtypes.values()) == set(DTYPES)
    assert min(sizes) == 1
    assert max(sizes) == THREADED_SIZE


@pytest.mark.parametrize("start", [0, 5])
def test_every_number_of_groups(engine, start):
    """Test every number of groups up to a tile, because registers and batches of the kernels differ in size."""
    for groups in range(TILE // 128 + 2):
        for n in (128 * groups, 128 * groups + 66):
            for p in (0.5, 0.2, 2**-40):
                case = Case("packed-mask", n, start, p)
                assert equal_bytes(compute(case), expected(case)), case


def test_sizes_lie_around_the_tile_of_the_kernels():
    header = Path(fastdrop.get_include(), "fastdrop.h").read_text()
    assert re.search(rf"FD_TILE = {TILE}\b", header)


def test_the_table_runs_on_several_threads():
    assert plan.useful_threads(THREADED_SIZE, THREADS) == THREADS
    assert plan.useful_threads(SIZES[-1], THREADS) == 1


@pytest.fixture(params=["through the caches", "past the caches"])
def bypass(request):
    """Test both ways of writing an output at every size."""
    with past_caches() if request.param == "past the caches" else nullcontext():
        yield


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_misalignment_of_the_output(engine, dtype, bypass):
    lanes = LINE // np.dtype(dtype).itemsize
    for n in (1, lanes + 1, TILE - 1, TILE, 2 * TILE + 5):
        x = awkward(n, dtype)
        with REFERENCE.using():
            y = fastdrop.dropout(x, 0.3, seed=3, start=77)
        for shift in range(lanes):
            with guarded(n, dtype, shift) as out:
                fastdrop.dropout(x, 0.3, seed=3, start=77, out=out)
            assert equal_bytes(out, y), (n, shift)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_misalignment_of_the_input(engine, dtype, bypass):
    n = TILE + 7
    for shift in range(LINE // np.dtype(dtype).itemsize):
        with guarded(n, dtype, shift) as x:
            x[...] = awkward(n, dtype)
            with REFERENCE.using():
                y = fastdrop.dropout(x, 0.3, seed=3)
            with guarded(n, dtype) as out:
                fastdrop.dropout(x, 0.3, seed=3, out=out)
        assert equal_bytes(out, y), shift


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_write_past_the_caches(engine, dtype, bypass):
    x = awkward(THREADED_SIZE, dtype)
    with REFERENCE.using():
        y = fastdrop.dropout(x, 0.5, seed=4, start=5)
    for shift in (0, 1):
        with guarded(THREADED_SIZE, dtype, shift) as out:
            fastdrop.dropout(x, 0.5, seed=4, start=5, out=out)
        assert equal_bytes(out, y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_in_place(engine, dtype, bypass):
    for n in (*SIZES, THREADED_SIZE):
        with guarded(n, dtype, 1) as x:
            x[...] = awkward(n, dtype)
            y = fastdrop.dropout(x, 0.4, seed=6, start=1)
            assert fastdrop.dropout(x, 0.4, seed=6, start=1, out=x) is x
        assert equal_bytes(x, y), n


@pytest.mark.parametrize("index", [-16, -1, 8, 23])
def test_guards_notice_a_write_outside(index):
    with pytest.raises(AssertionError, match="outside"), guarded(8, "float32") as out:
        np.lib.stride_tricks.as_strided(out[:1], (2,), (index * out.itemsize,))[1] = 0


def test_comparison_is_to_the_bit():
    a = np.array([0.0, np.nan, 1.0])
    b = a.copy()
    b.view(np.uint64)[1] ^= np.uint64(1)  # another payload
    assert equal_bytes(a, b)
    assert not equal_bytes(a, np.array([-0.0, np.nan, 1.0]))
    assert not equal_bytes(a, np.array([0.0, np.inf, 1.0]))
    assert not equal_bytes(a, a.astype(np.float32))
