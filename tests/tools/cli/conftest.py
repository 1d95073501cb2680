"""A folder with a file for the command line."""

import numpy as np
import pytest


@pytest.fixture
def folder(tmp_path):
    x = np.linspace(-1, 1, 30_000, dtype=np.float32).reshape(100, 300)
    x[::3] = 0  # zeros that are none of dropout's
    np.save(tmp_path / "in.npy", x)
    return tmp_path
