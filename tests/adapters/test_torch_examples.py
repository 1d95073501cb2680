"""The examples with PyTorch, in their short forms, as a reader runs them."""

import subprocess
import sys

import pytest
from example_runs import EXAMPLES

pytest.importorskip("torch", reason="PyTorch is not installed")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not EXAMPLES.is_dir(), reason="no examples beside the tests")]


def run(name, *arguments, folder):
    command = [sys.executable, str(EXAMPLES / name), "--short", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_mask(tmp_path):
    """It asserts that the masks are equal at every step; the losses drift apart by roundings alone."""
    lines = run("one_mask.py", folder=tmp_path).splitlines()[1:]
    assert [line[:18].strip() for line in lines] == ["NumPy", "PyTorch", "PyTorch, compiled"]
    assert all(float(line.split()[-1]) < 1e-5 for line in lines)


def test_training_argument(tmp_path):
    found = {run("training_argument.py", "--dropout", rate, folder=tmp_path) for rate in ("0.1", "0.5")}
    assert len(found) == 2
    assert all("loss" in each for each in found)
