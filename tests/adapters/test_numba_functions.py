"""fastdrop.numba_functions: NumPy's bytes in @njit, in prange, and in functions that Numba has cached."""

import doctest

import numpy as np
import pytest

numba = pytest.importorskip("numba", reason="Numba is not installed")

import fastdrop  # noqa: E402
from fastdrop import numba_functions  # noqa: E402
from fastdrop.verify.cases import equal_bytes  # noqa: E402


@numba.njit
def drop(x, p, seed, offset, start, out):
    return numba_functions.dropout(x, p, seed, offset, start, out)


@numba.njit(parallel=True)
def drop_rows(x, p, seed, out):
    for i in numba.prange(len(x)):
        numba_functions.dropout(x[i], p, numba_functions.fold_in(seed, i), 0, 0, out[i])
    return out


@numba.njit
def derive(seed, data):
    return numba_functions.fold_in(seed, data)


def values(shape, dtype="float32"):
    return np.random.default_rng(5).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(0,), (1,), (256,), (3, 5000), (2, 3, 4), ()])
@pytest.mark.parametrize("p", [0, 0.3, 1.0])
def test_bytes_of_arrays(dtype, shape, p):
    x = values(shape, dtype)
    out = np.empty_like(x)
    assert equal_bytes(drop(x, p, 9, 2, 70, out), fastdrop.dropout(x, p, seed=9, offset=2, start=70))
    assert equal_bytes(numba_functions.dropout(x, p, 9, 2, 70, np.empty_like(x)), out)


def test_in_place_and_read_only():
    x = values(100)
    wanted = fastdrop.dropout(x, 0.3, seed=9)
    x.flags.writeable = False
    assert equal_bytes(drop(x, 0.3, 9, 0, 0, np.empty_like(x)), wanted)
    x = x.copy()
    assert equal_bytes(drop(x, 0.3, 9, 0, 0, x), wanted)


def test_largest_numbers():
    x, most = values(100), 2**64 - 1
    wanted = fastdrop.dropout(x, 0.3, seed=most, offset=most, start=2**55 - 100)
    assert equal_bytes(drop(x, 0.3, np.uint64(most), np.uint64(most), 2**55 - 100, np.empty_like(x)), wanted)
    assert derive(np.uint64(most), np.uint64(most)) == fastdrop.fold_in(most, most)
    assert derive(3, 7) == fastdrop.fold_in(3, 7) == numba_functions.fold_in(3, 7)


def test_prange():
    x = values((50, 300))
    wanted = np.stack([fastdrop.dropout(row, 0.3, seed=fastdrop.fold_in(9, i)) for i, row in enumerate(x)])
    assert equal_bytes(drop_rows(x, 0.3, 9, np.empty_like(x)), wanted)


PROGRAM = """
import numba, numpy as np
from fastdrop.numba_functions import dropout, fold_in

@numba.njit(cache=True)
def drop(x, out):
    return dropout(x, 0.3, fold_in(9, 1), 0, 0, out)
"""


def test_cached_functions_survive_a_restart(run_python, tmp_path):
    (tmp_path / "cached.py").write_text(PROGRAM)
    program = """
    import sys
    sys.path.insert(0, "")
    padding = bytearray(int(sys.argv[-1] == "-c") + 10**6)  # nothing is at the same address twice
    import numpy as np
    from cached import drop
    made = drop(np.arange(100, dtype=np.float32), np.empty(100, np.float32))
    print(sum(drop.stats.cache_hits.values()), made.tobytes().hex())
    """
    first, second = (run_python(program, NUMBA_CACHE_DIR=str(tmp_path / "cache")).stdout.split() for _ in range(2))
    wanted = fastdrop.dropout(np.arange(100, dtype=np.float32), 0.3, seed=fastdrop.fold_in(9, 1)).tobytes().hex()
    assert first == ["0", wanted]
    assert second == ["1", wanted]


# Bad input ----------------------------------------------------------------------------------------------------------

CALL = {"x": np.ones(8, np.float32), "p": 0.5, "seed": 1, "offset": 0, "start": 0, "out": np.zeros(8, np.float32)}
LAYOUT = "must be a C-contiguous array of float32 or float64"
BAD_TYPES = {
    "strided x": ({"x": np.ones(16, np.float32)[::2]}, f"x {LAYOUT}"),
    "strided out": ({"out": np.zeros(16, np.float32)[::2]}, f"out {LAYOUT}"),
    "fortran": ({"x": np.ones((3, 4), np.float32, order="F")}, f"x {LAYOUT}"),
    "int": ({"x": np.ones(8, np.int64)}, f"x {LAYOUT}"),
    "half": ({"x": np.ones(8, np.float16)}, f"x {LAYOUT}"),
    "no array": ({"x": 1.0}, f"x {LAYOUT}"),
    "dtype of out": ({"out": np.zeros(8)}, "out must be a writable array with the dtype and the dimensions of x"),
    "dimensions of out": ({"out": np.zeros((8, 1), np.float32)}, "out must be a writable array"),
    "p": ({"p": "0.5"}, "p must be a number in [0, 1]"),
    "p bool": ({"p": True}, "p must be a number in [0, 1]"),
    "seed": ({"seed": 1.0}, "seed must be an integer in [0, 2**64)"),
    "offset": ({"offset": None}, "offset must be an integer in [0, 2**64)"),
    "start": ({"start": True}, "start must be an integer in [0, 2**64)"),
}
BAD_VALUES = {
    "p above": ({"p": 1.5}, "p must be in [0, 1], the probability of dropping"),
    "p nan": ({"p": float("nan")}, "p must be in [0, 1], the probability of dropping"),
    "seed": ({"seed": -1}, "seed, offset and start must be >= 0"),
    "offset": ({"offset": -1}, "seed, offset and start must be >= 0"),
    "start": ({"start": -1}, "seed, offset and start must be >= 0"),
    "end": ({"start": 2**55 - 7}, "start + n must be at most 2**55, the number of elements of a stream"),
    "shape": ({"x": np.ones(7, np.float32)}, "out must have the shape of x"),
}


@pytest.mark.parametrize("name", BAD_TYPES)
def test_bad_types(name):
    options, sentence = BAD_TYPES[name]
    call = {**CALL, "out": np.zeros(8, np.float32), **options}
    with pytest.raises(numba.TypingError) as found:
        drop(*call.values())
    assert sentence in str(found.value)
    assert not call["out"].any()


def test_read_only_out():
    out = np.zeros(8, np.float32)
    out.flags.writeable = False
    with pytest.raises(numba.TypingError, match="out must be a writable array"):
        drop(*{**CALL, "out": out}.values())


@pytest.mark.parametrize("name", BAD_VALUES)
def test_bad_values(name):
    options, sentence = BAD_VALUES[name]
    call = {**CALL, "out": np.zeros(8, np.float32), **options}
    with pytest.raises(ValueError) as found:  # noqa: PT011
        drop(*call.values())
    assert sentence in str(found.value)
    assert not call["out"].any()


def test_overlap():
    room = values(20)
    before = room.copy()
    with pytest.raises(ValueError, match=r"^out must be x, or must not overlap it$"):
        drop(room[:10], 0.5, 1, 0, 0, room[3:13])
    assert equal_bytes(room, before)


@pytest.mark.parametrize("which", ["x", "out"])
def test_misaligned(which):
    memory = bytearray(33)
    call = {**CALL, "out": np.zeros(8, np.float32), which: np.frombuffer(memory, np.float32, 8, 1)}
    with pytest.raises(ValueError, match=r"^x and out must be aligned to their elements$"):
        drop(*call.values())
    assert not any(memory)
    assert not call["out"].any()


def test_what_only_compiled_code_refuses():
    """Called from Python, the function is `fastdrop.dropout`."""
    room, unaligned = values(20), np.frombuffer(bytearray(33), np.float32, 8, 1)
    wanted = fastdrop.dropout(room[:10], 0.5, seed=1)
    assert equal_bytes(numba_functions.dropout(room[:10], 0.5, 1, 0, 0, room[3:13]), wanted)
    assert not numba_functions.dropout(CALL["x"], 1.0, 1, 0, 0, unaligned).any()
    with pytest.raises(OverflowError, match="stream 1 has 2"):
        numba_functions.dropout(*{**CALL, "start": 2**55 - 7}.values())


def test_bad_seeds_of_fold_in():
    with pytest.raises(ValueError, match="seed and data must be >= 0"):
        derive(1, -1)
    with pytest.raises(numba.TypingError, match="data must be an integer"):
        derive(1, 1.0)


@pytest.mark.parametrize("name", ["the module", *numba_functions.__all__])
def test_docstrings(name):
    found = doctest.DocTestFinder(recurse=False).find(getattr(numba_functions, name, numba_functions), name, module=False)
    assert [doctest.DocTestRunner(verbose=False).run(test).failed for test in found if test.examples] == [0]
