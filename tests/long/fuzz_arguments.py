"""Fuzz the checks of arguments, guided by coverage: libFuzzer through atheris (pip install atheris).

    python tests/long/fuzz_arguments.py --count 5000000

The input chooses a function and its argument. A call must work, or raise TypeError, ValueError or OverflowError with a
sentence.
"""

import ast
import sys
import warnings
from pathlib import Path

import _fuzzing
import numpy as np

with _fuzzing.instrumented():
    import fastdrop
    from fastdrop import federated, schedules, theory

X = np.ones((2, 3, 4, 6), np.float32)
# Functions of one text, which is a literal of Python: its value is an argument.
FUNCTIONS = (
    lambda value: fastdrop.dropout(X, value, seed=1),
    lambda value: fastdrop.dropout(X, seed=value),
    lambda value: fastdrop.dropout(X, seed=1, offset=value),
    lambda value: fastdrop.dropout(X, seed=1, shared_axes=value),
    lambda value: fastdrop.dropout(X, seed=1, noise_shape=value),
    lambda value: fastdrop.dropout(X, seed=1, global_shape=value, global_start=value),
    lambda value: fastdrop.dropout(X, seed=1, global_shape=(9, 9, 9, 9), global_start=value),
    lambda value: fastdrop.dropout(X, seed=1, start=value),
    lambda value: fastdrop.dropout(X, seed=1, mode=value),
    lambda value: fastdrop.dropout(X, seed=1, backend=value, num_threads=value),
    lambda value: fastdrop.dropout(value, seed=1),
    lambda value: fastdrop.dropout_mask(small(value), seed=1),
    lambda value: fastdrop.group_dropout(X, group_size=value, seed=1),
    lambda value: fastdrop.group_dropout(X, group_size=2, axes=value, seed=1),
    lambda value: fastdrop.drop_block(X, 0.3, value, seed=1),
    lambda value: fastdrop.attention_dropout(X, window=value, seed=1),
    lambda value: fastdrop.drop_key(X, fill=value, seed=1),
    lambda value: fastdrop.apply_mask(X, np.ones(X.shape, bool), value),
    lambda value: fastdrop.fold_in(1, value),
    lambda value: fastdrop.Stream.from_state_dict(value),
    lambda value: federated.kept_units(value, 0.5, 1),
    lambda value: schedules.Schedule.from_config(value),
    lambda value: fastdrop.nn.Layer.from_config(value),
    lambda value: theory.keep_probabilities(value, 0.5),
)
ALLOWED = (TypeError, ValueError, OverflowError, MemoryError)


def small(shape):
    """Return a shape, or refuse one of very many elements, whose mask would only take time."""
    numbers = shape if isinstance(shape, (tuple, list)) else [shape]
    if any(isinstance(n, int) and 4096 < n < 2**40 for n in numbers):
        raise ValueError("this shape is left out here")
    return shape


def one_input(data):
    """Call a function with an argument of these bytes."""
    if len(data) < 2:
        return
    try:
        value = ast.literal_eval(data[1:].decode("latin1"))
    except Exception:  # no literal: the text itself
        value = data[1:].decode("latin1")
    try:
        FUNCTIONS[data[0] % len(FUNCTIONS)](value)
    except ALLOWED as error:
        if not isinstance(error, MemoryError) and len(str(error).split()) < 3:
            raise AssertionError(f"no sentence: {error!r}") from error


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    sys.exit(_fuzzing.main(__doc__, one_input, Path(__file__).parent / "corpus/arguments", max_len=80))
