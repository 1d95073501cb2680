"""The sections of docs/adapters.md, and docs/scale.md, run as a reader does; one without its library is skipped."""

import subprocess
import sys
from pathlib import Path

import pytest
from doctests import blocks_of, examples_of_blocks, run
from example_runs import EXAMPLES

PAGE = Path(__file__).parents[2] / "docs" / "adapters.md"
SCALE = PAGE.parent / "scale.md"
NEEDS = {"Dask": ["dask.array", "xarray"], "thinc and spaCy": ["thinc.api"], "Compiled code": ["numba"]}


def run_blocks(text):
    """Run the blocks of a page, which import all that they use, and return how many examples it has."""
    blocks = blocks_of(text)
    assert all(block.count("\n") <= 12 for block in blocks)
    return run(examples_of_blocks(blocks, {}))


@pytest.mark.parametrize("section", NEEDS)
@pytest.mark.skipif(not PAGE.is_file(), reason="no such page beside the tests")
def test_section(section):
    for library in NEEDS[section]:
        pytest.importorskip(library, reason=f"{library} is not installed")
    text = PAGE.read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    assert run_blocks(text) > 5


@pytest.mark.skipif(not SCALE.is_file(), reason="no such page beside the tests")
def test_scale():
    pytest.importorskip("dask.array", reason="Dask is not installed")
    assert run_blocks(SCALE.read_text()) == 3


@pytest.mark.slow
@pytest.mark.skipif(not (EXAMPLES / "scale.py").is_file(), reason="no examples beside the tests")
def test_simulated_workers(tmp_path):
    command = [sys.executable, str(EXAMPLES / "scale.py"), "workers", "--short"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("100 workers, 600 groups of 1e+16 elements: all equal to the reference")
    assert "an array of 2**56 elements is refused: stream 1 has 2**55 elements" in found.stdout


@pytest.mark.slow
@pytest.mark.skipif(not (EXAMPLES / "scale.py").is_file(), reason="no examples beside the tests")
def test_zarr_to_zarr(tmp_path):
    for library in ("distributed", "zarr"):
        pytest.importorskip(library, reason=f"{library} is not installed")
    command = [sys.executable, str(EXAMPLES / "scale.py"), "zarr", "--short"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stderr
    assert "equal to NumPy's bytes" in found.stdout
