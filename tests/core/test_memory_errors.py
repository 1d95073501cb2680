"""When memory runs out, a call raises MemoryError and draws nothing: results are allocated before keys are drawn."""

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
