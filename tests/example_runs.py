"""Running the scripts of examples/ as a reader does: in a fresh interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run_example(name, *arguments, folder):
    """Return what the script prints; a warning or an error fails. Skips where what the examples need is not there."""
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
