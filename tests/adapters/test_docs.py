"""The page about the adapters: the blocks of each library run in a process of their own."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from doctests import blocks_of

PAGE = Path(__file__).parents[2] / "docs" / "adapters.md"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="no such page beside the tests")

RUN = """
import doctest, sys
test = doctest.DocTestParser().get_doctest(sys.stdin.read(), {}, "adapters.md", None, 0)
result = doctest.DocTestRunner().run(test)
assert result.attempted > 5 and not result.failed, result
"""
NEEDS = {"jax": ("jax", "flax"), "keras": ("keras", "jax")}


@pytest.mark.parametrize("library", NEEDS)
def test_blocks_run(library):
    missing = [name for name in NEEDS[library] if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed")
    blocks = blocks_of(PAGE.read_text(), f"python {library}")
    assert blocks
    assert all(block.count("\n") <= 12 for block in blocks)
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", RUN], input="\n".join(blocks), env=environment, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stdout + done.stderr
