"""The functions of fastdrop_simple.h, from Python's ctypes, from Cython and from C: projects outside the tree."""

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastdrop
from fastdrop._core import native
from fastdrop.verify.cases import equal_bytes, spoiled

ROOT = Path(__file__).parents[2]
NEEDS_C = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
PAGE = ROOT / "docs" / "adapters.md"
HEADER = Path(fastdrop.get_include(), "fastdrop_simple.h")
u64, i64, void = ctypes.c_uint64, ctypes.c_int64, ctypes.c_void_p
KEY = (5, 7)


def c_function(name, result, *arguments):
    return ctypes.CFUNCTYPE(result, *arguments)(fastdrop.addresses()[name])


fd_drop = c_function("fd_drop", ctypes.c_int, void, void, i64, ctypes.c_int, ctypes.c_double, u64, u64, u64, ctypes.c_int)
fd_keep_bits = c_function("fd_keep_bits", ctypes.c_int, void, i64, ctypes.c_double, u64, u64, u64, ctypes.c_int)


def values(n, dtype):
    return np.random.default_rng(5).standard_normal(n).astype(dtype)


# Addresses ----------------------------------------------------------------------------------------------------------


def test_names():
    """Each function of the header has an address."""
    declared = set(re.findall(r"^[a-z_0-9]+[ a-z*]*[ *](fd_\w+)\(", HEADER.read_text(), re.M))
    assert fastdrop.addresses().keys() == declared
    assert len(declared) == 5


def test_capsules():
    api = ctypes.pythonapi
    api.PyCapsule_GetPointer.restype, api.PyCapsule_GetPointer.argtypes = void, [ctypes.py_object, ctypes.c_char_p]
    for name, capsule in fastdrop.addresses(capsules=True).items():
        assert api.PyCapsule_GetPointer(capsule, f"fastdrop.v1.{name}".encode()) == fastdrop.addresses()[name]
    with pytest.raises(TypeError, match="capsules must be True or False; got 'yes'"):
        fastdrop.addresses(capsules="yes")


def test_version():
    assert c_function("fd_abi", ctypes.c_int)() == 1


# Bytes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("n", [0, 1, 300, 3 * 4096 + 5])
def test_bytes_of_arrays(dtype, threads, n):
    number = ["float32", "float64", "float16", "bfloat16"].index(dtype)
    x = values(n, pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype)
    for p in (0.0, 0.3, 1.0):
        y = np.empty_like(x)
        assert fd_drop(x.ctypes.data, y.ctypes.data, n, number, p, *KEY, 70, threads) == 0
        assert equal_bytes(y, fastdrop.dropout(x, p, seed=KEY[0], offset=KEY[1], start=70))
        bits = np.empty((n + 7) // 8, np.uint8)
        assert fd_keep_bits(bits.ctypes.data, n, p, *KEY, 70, threads) == 0
        assert equal_bytes(bits, fastdrop.dropout_mask(n, p, packed=True, seed=KEY[0], offset=KEY[1], start=70))


def test_past_the_caches():
    x = values(5 * 2**20, np.float32)
    y = np.empty_like(x)
    assert fd_drop(x.ctypes.data, y.ctypes.data, x.size, 0, 0.3, *KEY, 0, 2) == 0
    assert equal_bytes(y, fastdrop.dropout(x, 0.3, seed=KEY[0], offset=KEY[1]))


def test_derive():
    derive = c_function("fd_derive", u64, u64, u64)
    assert [derive(seed, 7) for seed in (0, 42, 2**64 - 1)] == [fastdrop.fold_in(seed, 7) for seed in (0, 42, 2**64 - 1)]


# Bad input ----------------------------------------------------------------------------------------------------------

BAD = {
    "dtype": ({"dtype": 4}, 1, "dtype must be FD_FLOAT32, FD_FLOAT64, FD_FLOAT16 or FD_BFLOAT16"),
    "negative dtype": ({"dtype": -1}, 1, "dtype must be FD_FLOAT32, FD_FLOAT64, FD_FLOAT16 or FD_BFLOAT16"),
    "p above": ({"p": 1.5}, 2, "p must be in [0, 1], the probability of dropping"),
    "p below": ({"p": -0.1}, 2, "p must be in [0, 1], the probability of dropping"),
    "p nan": ({"p": float("nan")}, 2, "p must be in [0, 1], the probability of dropping"),
    "n": ({"n": -1}, 3, "n must be >= 0"),
    "end": ({"start": 2**55 - 7}, 4, "start + n must be at most 2**55, the number of elements of a stream"),
    "far": ({"start": 2**64 - 1}, 4, "start + n must be at most 2**55, the number of elements of a stream"),
    "threads": ({"threads": 0}, 5, "threads must be at least 1"),
    "no x": ({"x": 0}, 6, "the addresses of arrays with elements must not be 0"),
    "no y": ({"y": 0}, 6, "the addresses of arrays with elements must not be 0"),
}
ROOM = np.zeros(64, np.float32)
CALL = {"x": ROOM.ctypes.data, "y": ROOM.ctypes.data + 32, "n": 8, "dtype": 0, "p": 0.5, "seed": 1, "offset": 0, "start": 0}
PLACES = {
    "misaligned x": ({"x": ROOM.ctypes.data + 1}, 7, "x and y must be aligned to their elements"),
    "misaligned y": ({"y": ROOM.ctypes.data + 34}, 7, "x and y must be aligned to their elements"),
    "overlap": ({"y": ROOM.ctypes.data + 28}, 8, "y must be x, or must not overlap it"),
    "overlap before": ({"x": ROOM.ctypes.data + 60}, 8, "y must be x, or must not overlap it"),
}


@pytest.mark.parametrize("name", [*BAD, *PLACES])
def test_bad_input(name):
    """The error number and its sentence; and nothing is written."""
    options, error, sentence = {**BAD, **PLACES}[name]
    ROOM[...] = 7
    assert fd_drop(*{**CALL, "threads": 1, **options}.values()) == error
    assert (ROOM == 7).all()
    assert c_function("fd_error_text", ctypes.c_char_p, ctypes.c_int)(error).decode() == sentence == native.error_texts()[error]
    if name in BAD and not {"dtype", "x"} & options.keys():
        bits = {"out": 0 if "y" in options else ROOM.ctypes.data, "n": 8, "p": 0.5, "seed": 1, "offset": 0, "start": 0}
        bits |= {"threads": 1} | {name: value for name, value in options.items() if name != "y"}
        assert fd_keep_bits(*bits.values()) == error
        assert (ROOM == 7).all()


def test_a_negative_subnormal_does_not_pass_for_the_rate_0():
    with spoiled():
        assert fd_drop(*{**CALL, "threads": 1, "p": -1e-310}.values()) == 2


def test_error_numbers_that_do_not_exist():
    text = c_function("fd_error_text", ctypes.c_char_p, ctypes.c_int)
    assert text(-1) == text(9) == b"there is no such error number"


# Outside the tree ---------------------------------------------------------------------------------------------------

CYTHON = """
# cython: language_level=3
from libc.stdint cimport uint64_t
from fastdrop._core cimport native


def drop_rows(float[:, ::1] x, float[:, ::1] y, double p, uint64_t seed):
    cdef Py_ssize_t i
    cdef int error = 0
    with nogil:
        for i in range(x.shape[0]):
            error |= native.drop(&x[i, 0], &y[i, 0], x.shape[1], 0, p, native.derive(seed, i), 0, 0, 1)
    if error:
        raise ValueError(native.error_text(error).decode())
"""
# The search path is for an editable install, whose files Cython does not find by itself.
SETUP = """
import fastdrop
from pathlib import Path
from setuptools import Extension, setup
from Cython.Build import cythonize

extension = Extension("rows", ["rows.pyx"], include_dirs=[fastdrop.get_include()])
setup(ext_modules=cythonize(extension, build_dir="made", include_path=[str(Path(fastdrop.__file__).parents[1])]))
"""


@NEEDS_C
@pytest.mark.slow
@pytest.mark.skipif(not PAGE.is_file(), reason="no such page beside the tests")
def test_cython(tmp_path, run_python):
    """The function of the page, and one with a loop."""
    pytest.importorskip("Cython", reason="Cython is not installed")
    (example,) = re.findall(r"^```cython\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "rows.pyx").write_text(CYTHON + example)
    (tmp_path / "setup.py").write_text(SETUP)
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    program = """
    import sys
    sys.path.insert(0, "")
    import numpy as np, rows, fastdrop
    x = np.arange(600, dtype=np.float32).reshape(6, 100)
    y = np.zeros_like(x)
    rows.drop_rows(x, y, 0.3, 9)
    assert all((y[i] == fastdrop.dropout(x[i], 0.3, seed=fastdrop.fold_in(9, i))).all() for i in range(6))
    rows.drop(x[0], y[0], 0.5)
    assert (y[0] == fastdrop.dropout(x[0], 0.5, seed=42)).all()
    try:
        rows.drop_rows(x, y, 1.5, 9)
    except ValueError as error:
        print(error)
    """
    found = run_python(program)
    assert found.stdout.strip() == "p must be in [0, 1], the probability of dropping", found.stderr


@NEEDS_C
@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / "src_c" / "Makefile").is_file() or not shutil.which("make"), reason="no sources, or no make")
@pytest.mark.parametrize("shared", [False, True])
def test_c_program(tmp_path, shared):
    """The commands of the program's first lines, in another folder; the program, or library, has the sources alone."""
    environment = {name: value for name, value in os.environ.items() if name not in ("CFLAGS", "LDFLAGS")}
    build = [f"BUILD={tmp_path}/build", *(["CFLAGS=-O3 -fPIC"] if shared else [])]
    subprocess.run(["make", "-s", "-C", "src_c", "library", *build], cwd=ROOT, env=environment, check=True, timeout=300)
    command = ["cc", "-Wall", "-Werror", f"-I{HEADER.parent}", str(ROOT / "examples/drop.c")]
    command += [str(tmp_path / "build/libfastdrop.a"), "-fopenmp", "-lm", "-o", str(tmp_path / "drop")]
    subprocess.run([*command, "-shared", "-fPIC"] if shared else command, check=True, timeout=60)
    loader = [sys.executable, "-c", "import ctypes, sys; ctypes.CDLL(sys.argv[1]).main()"] if shared else []
    found = subprocess.run([*loader, str(tmp_path / "drop")], capture_output=True, text=True, check=True, timeout=60).stdout
    wanted = fastdrop.dropout(np.arange(1, 9, dtype=np.float32), 0.5, seed=42)
    assert np.array_equal(np.array(found.split(), np.float32), wanted)


@NEEDS_C
@pytest.mark.parametrize("language", ["c", "c++"])
def test_headers_stand_alone(tmp_path, language):
    source = tmp_path / "headers.c"
    source.write_text("#include <fastdrop_simple.h>\n#include <fastdrop.h>\nint use(void) { return FD_OK; }\n")
    command = ["cc", "-x", language, "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{HEADER.parent}"]
    done = subprocess.run([*command, "-fsyntax-only", str(source)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
