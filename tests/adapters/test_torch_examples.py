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


@pytest.mark.parametrize("way", ["Trainer", "plain loop"])
def test_training_argument(tmp_path, way):
    """The rate is the argument: with the same seed, another rate is another training."""
    if way == "Trainer":
        for package in ("transformers", "accelerate"):
            pytest.importorskip(package, reason=f"{package} is not installed")
    plain = ["--plain"] if way == "plain loop" else []
    found = {run("training_argument.py", "--dropout", rate, *plain, folder=tmp_path) for rate in ("0.1", "0.5")}
    assert len({each.splitlines()[-1].partition(":")[2] for each in found}) == 2
    assert all(("train_runtime" in each) == (way == "Trainer") for each in found)
