"""Keras's layers on each backend: NumPy's bytes, training, saving, and what they refuse; the checks are in keras_checks.py.

Keras chooses its backend when it is imported, and importing it takes seconds, so one process makes all checks of a backend.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("keras") is None:
    pytest.skip("Keras is not installed", allow_module_level=True)

CHECKS = Path(__file__).parents[1] / "keras_checks.py"
BACKENDS = [
    pytest.param(name, marks=pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed"))
    for name in ("torch", "jax", "numpy")
]


def run(*arguments, without=(), **environment):
    """Run Python in a process of its own, and return the lines that it prints."""
    inherited = {name: value for name, value in os.environ.items() if name not in without}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**inherited, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.mark.parametrize("backend", BACKENDS)
def test_backend(backend):
    """Each check of keras_checks.py; a second process trains the same model to the same weights."""
    *weights, last = run(CHECKS, KERAS_BACKEND=backend)
    assert last == f"7 checks on {backend}"
    if backend != "numpy":  # where Keras does not train
        assert run(CHECKS, "weights", KERAS_BACKEND=backend) == weights
        assert len(weights[0]) == 64


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="Keras's default backend is installed")
@pytest.mark.skipif(not any(importlib.util.find_spec(name) for name in ("jax", "torch")), reason="no backend is installed")
def test_verify_finds_a_backend(tmp_path):
    """Nobody has to name one: without a configuration, Keras would import TensorFlow."""
    program = "from fastdrop.verify import runner\nprint(runner.check_adapter('keras', runner.ADAPTERS['keras'], [(7, 0.5)]))"
    (line,) = run("-c", program, without=["KERAS_BACKEND"], KERAS_HOME=str(tmp_path))
    assert "passed=True" in line
