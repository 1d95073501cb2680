"""Fuzz the reading of ``.npy`` headers, guided by coverage: libFuzzer through atheris (pip install atheris).

    python tests/long/fuzz_npy.py --count 5000000

The input is a file. `read_layout` must return the layout that NumPy finds, or raise ValueError or TypeError with a sentence. A
file that it accepts is also processed: the result must be the dropout of what NumPy loads.
"""

import os
import sys
import tempfile
import warnings
from pathlib import Path

import _fuzzing
import numpy as np

with _fuzzing.instrumented():
    from fastdrop import npyfile

import fastdrop

FOLDER = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
SOURCE, TARGET = FOLDER / "x.npy", FOLDER / "y.npy"
LARGE = 2**20  # bytes of an array that is processed too
PROCESSED = 16  # one in so many accepted files


def one_input(data):
    """Read a file with these bytes."""
    SOURCE.write_bytes(data)
    try:
        layout = npyfile.read_layout(SOURCE)
    except (ValueError, TypeError) as error:
        if len(str(error).split()) < 4:
            raise AssertionError(f"no sentence: {error!r}") from error
        return
    assert layout.size >= 0 <= layout.begin <= len(data)
    assert layout.begin + layout.size * layout.dtype.itemsize <= len(data)
    if len(data) < LARGE and sum(data) % PROCESSED == 0:
        check_result(layout)


def check_result(layout):
    """Check that the file is processed as the array that NumPy loads."""
    x = np.load(SOURCE, allow_pickle=False)
    assert (x.shape, x.dtype) == (layout.shape, layout.dtype)
    npyfile.apply_file(SOURCE, TARGET, 0.5, seed=1)
    assert np.load(TARGET).tobytes() == fastdrop.dropout(x, 0.5, seed=1).tobytes()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    sys.exit(_fuzzing.main(__doc__, one_input, Path(__file__).parent / "corpus/npy", max_len=400))
