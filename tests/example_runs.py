"""Run the scripts of examples/ as a reader does, in a fresh interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run_example(name, *arguments, folder):
    """Return the output of a script; a warning or an error fails. Skip if a package that the examples need is missing."""
    for package in ("click", "matplotlib", "rich", "sklearn", "threadpoolctl", "fastdrop.nn"):
        pytest.importorskip(package)
    if not (EXAMPLES / name).is_file() or not (EXAMPLES / "_network.py").is_file():
        pytest.skip("no examples beside the tests")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)],
        env={**os.environ, "MPLBACKEND": "Agg"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
