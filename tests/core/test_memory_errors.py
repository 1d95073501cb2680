"""When memory runs out, a call raises MemoryError, and has drawn and written nothing: arrays are allocated before."""

import inspect

import pytest

import fastdrop

# A result of a gigabyte, of an input that takes four bytes, in a process that may have 400 MB more.
PROGRAM = """
import resource
import numpy as np
import fastdrop

shape, value = (64, 32, 256, 512), np.float32(1)
x = np.broadcast_to(value, shape)
stream = fastdrop.Stream(7)
fastdrop.{name}({small}seed=1)  # load whatever the function loads
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20,) * 2)
try:
    fastdrop.{name}({large}seed=stream)
except MemoryError:
    print(stream.offset)
else:
    print("no MemoryError")
"""
# Calls by the arguments before the seed, of an array `{x}`.
CALLS = {
    "group_dropout": "{x}, 0.5, group_size=4, ",
    "zoneout": "{x}, {x}, 0.5, ",
    "concrete_dropout": "{x}, 0.0, ",
    "spatial_concrete_dropout": "{x}, 0.0, ",
    "adaptive_dropout": "{x}, {x}, ",
    "importance_dropout": "{x}, np.ones(512, np.float32), 0.5, axis=-1, ",
    "multinomial_dropout": "{x}, 3, np.ones(512) / 512, ",
    "gaussian_noise": "{x}, ",
    "uniform_dropout": "{x}, ",
    "dropout_mask": "{x}.shape + (8,), ",
    "normal": "{x}.shape, ",
    "uniform": "{x}.shape, ",
    "words": "{x}.size, ",
}
# Functions of one array and a rate; the others take something that this array is not, such as a matrix of weights.
LIKE_DROPOUT = [
    *("dropout", "dropout2d", "spatial_dropout", "locked_dropout", "drop_path", "alpha_dropout", "feature_alpha_dropout"),
    *("gaussian_dropout", "weight_drop", "word_dropout", "drop_head", "drop_key", "attention_dropout", "drop_block", "adl"),
    *("targeted_dropout", "token_dropout", "patch_dropout"),
]


@pytest.mark.parametrize("name", [*LIKE_DROPOUT, *CALLS])
def test_nothing_is_drawn_when_memory_runs_out(run_python, name):
    call = CALLS.get(name, "{x}, 0.5, ")
    small = call.replace("{x}", "np.ones((2, 2, 8, 512), np.float32)")
    done = run_python(PROGRAM.format(name=name, small=small, large=call.replace("{x}", "x")))
    assert done.stdout.strip() == "0", done.stdout + done.stderr


# NumPy gets its memory from functions that refuse one allocation. The function that should free memory is `getpid`, which does
# nothing to it, because Python code cannot run while an exception is raised.
FAILING_ARRAYS = """
import ctypes
import numpy as np
import fastdrop
from fastdrop._core import plan

try:
    from numpy._core._multiarray_umath import _ARRAY_API
except ImportError:  # NumPy 1
    from numpy.core._multiarray_umath import _ARRAY_API

pointer, size = ctypes.c_void_p, ctypes.c_size_t


class Handler(ctypes.Structure):  # PyDataMem_Handler of NumPy's C API
    _fields_ = [
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("context", pointer),
        ("malloc", ctypes.CFUNCTYPE(pointer, pointer, size)),
        ("calloc", ctypes.CFUNCTYPE(pointer, pointer, size, size)),
        ("realloc", ctypes.CFUNCTYPE(pointer, pointer, pointer, size)),
        ("free", ctypes.CFUNCTYPE(None, pointer, pointer, size)),
    ]


libc, python, left = ctypes.CDLL(None), ctypes.pythonapi, -1
libc.malloc.restype = libc.calloc.restype = libc.realloc.restype = pointer
libc.malloc.argtypes, libc.calloc.argtypes, libc.realloc.argtypes = [size], [size, size], [pointer, size]
python.PyCapsule_New.restype, python.PyCapsule_New.argtypes = ctypes.py_object, [pointer, ctypes.c_char_p, pointer]
python.PyCapsule_GetPointer.restype, python.PyCapsule_GetPointer.argtypes = pointer, [ctypes.py_object, ctypes.c_char_p]


def unless_refused(function):
    def allocate(context, *arguments):
        global left
        left -= 1
        return None if left == -1 else function(*arguments)

    return allocate


types = dict(Handler._fields_)
functions = [types[name](unless_refused(getattr(libc, name))) for name in ("malloc", "calloc", "realloc")]
handler = Handler(b"refusing", 1, None, *functions, ctypes.cast(libc.getpid, types["free"]))
capsule = python.PyCapsule_New(ctypes.addressof(handler), b"mem_handler", None)
set_handler = ctypes.cast(python.PyCapsule_GetPointer(_ARRAY_API, None), ctypes.POINTER(pointer))[304]
before = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(set_handler)(capsule)

plan.set_bypass_bytes(0)  # small maps are processed as large ones
stream, found = fastdrop.Stream(7), []
for dtype in (np.float32, np.float64, np.float16):
    x, rows, weight = np.ones((2, 3, 32, 32), dtype), np.ones((6, 5), dtype), np.ones((5, 4), dtype)
    grad, bias, per_unit = np.ones((6, 4), dtype), np.ones(4, dtype), np.zeros((5, 1))
    call = lambda out, seed: fastdrop.{call}
    shape = call(None, 7)
    out = np.empty_like(shape[0] if isinstance(shape, tuple) else shape)
    failures = 0
    for refused in range(60):
        out.fill(-7)
        offset, left = stream.offset, refused
        try:
            call(out, {seed})
        except MemoryError:
            failures += 1
            if (out != -7).any() or stream.offset != offset:
                found.append((dtype.__name__, refused))
        left = -1
    assert failures, "no allocation was refused"
print("written or drawn:", found)
"""
WITH_ARRAYS = {
    "spatial_concrete_dropout": "(x, 0.1, seed=seed, out=out)",
    "spatial_concrete_dropout_backward": "(x, x, 0.1, exact_mean=True, seed=seed, out=out)",
    "concrete_dropout_backward": "(x, x, 0.1, exact_mean=True, seed=seed, out=out)",
    "gaussian_dropout_backward": "(x, log_alpha=per_unit.repeat(32, 1)[0], x=x, seed=seed, out=out)",
    "adl": "(x, 0.5, seed=seed, out=out)",
    "drop_connect": "(rows, weight, bias=bias, seed=seed, out=out)",
    "drop_connect_backward": "(grad, rows, weight, bias=bias, seed=seed, out=out)",
    "variational_dense": "(rows, weight, weight, bias=bias, seed=seed, out=out)",
    "variational_dense_backward": "(grad, rows, weight, weight, bias=bias, seed=seed, out=out)",
    "variational_dropout": "(rows, weight, per_unit[:, 0], bias=bias, seed=seed, out=out)",
    "variational_dropout_backward": "(grad, rows, weight, per_unit[:, 0], bias=bias, seed=seed, out=out)",
    "variational_dropout ": "(rows, weight, per_unit, 'weight', bias=bias, seed=seed, out=out)",
    "variational_dropout_backward ": "(grad, rows, weight, per_unit, 'weight', bias=bias, seed=seed, out=out)",
    "importance_dropout": "(x, x, 0.3, seed=seed, out=out)",
    "multinomial_dropout": "(rows, 3, seed=seed, out=out)",
    "targeted_dropout": "(rows, 0.3, seed=seed, out=out)",
    "attention_dropout": "(x, 0.3, renormalize=True, seed=seed, out=out)",
    "drop_block": "(x, 0.3, 3, seed=seed, out=out)",
}


@pytest.mark.parametrize("name", WITH_ARRAYS)
def test_all_arrays_are_allocated_before_a_key_is_drawn_and_anything_is_written(run_python, name):
    seed = "7" if "backward" in name else "stream"
    done = run_python(FAILING_ARRAYS.replace("{call}", name.strip() + WITH_ARRAYS[name]).replace("{seed}", seed))
    assert done.stdout.strip() == "written or drawn: []", done.stdout + done.stderr[-3000:]


def test_bits_of_a_repeated_mask_need_no_memory(run_python):
    """They are made once if there is memory for them, and with each repetition if not: the key is drawn by then."""
    done = run_python(
        """
        import resource
        import numpy as np
        import fastdrop

        x = np.ones((2, 2**22), np.float32)
        wanted = fastdrop.dropout(x, 0.5, seed=7, backend="numpy", shared_axes=0)
        out = np.empty_like(x)
        fastdrop.dropout(x[:, :8], 0.5, seed=1, shared_axes=0)
        blocks = []
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        most = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (used, most))
        try:
            while True:  # what the process has kept
                blocks.append(np.empty(2**18, np.uint8))
        except MemoryError:
            fastdrop.dropout(x, 0.5, seed=7, shared_axes=0, out=out)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        print((out == wanted).all())
        """
    )
    assert done.stdout.strip() == "True", done.stdout + done.stderr


def test_every_function_that_draws_is_tried_or_takes_another_array():
    drawing = {
        name for name in fastdrop.__all__ if "seed" in getattr(inspect.signature(getattr(fastdrop, name)), "parameters", ())
    }
    others = {
        "dropout1d",
        "dropout3d",
        "embedding_dropout",
        "drop_connect",
        "shakeout",
        "variational_dense",
        "variational_dropout",
    }
    forward = {name for name in drawing if not name.endswith("_backward")} - {"layer_drop", "fold_in", "Key", "Stream"}
    assert forward == {*LIKE_DROPOUT, *CALLS, *others}
