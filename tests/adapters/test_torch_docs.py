"""The page about PyTorch and the docstrings of the adapter, run; and the names that it has."""

import doctest
import inspect
import re
from pathlib import Path

import pytest
from doctests import blocks_of, examples_of_blocks, run

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import fastdrop.torch  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "pytorch.md"
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.mark.skipif(not PAGE.is_file(), reason="no such page beside the tests")
def test_page():
    blocks = blocks_of(PAGE.read_text())
    assert all(block.count("\n") <= 12 for block in blocks)
    assert run(examples_of_blocks(blocks), clear_globs=False) > 20


@pytest.mark.parametrize("name", fastdrop.torch.__all__)
def test_docstrings(name):
    tests = doctest.DocTestFinder().find(getattr(fastdrop.torch, name), name, globs={})
    assert sum(run(test, clear_globs=False) for test in tests) > 0  # the compiler holds on to the globals


@pytest.mark.parametrize("name", [name for name in fastdrop.torch.__all__ if name != "Report"])
def test_docstrings_name_every_argument(name):
    named = getattr(fastdrop.torch, name)
    section = named.__doc__.partition("Parameters\n")[2].partition("Examples\n")[0]
    names = [name for name in inspect.signature(named).parameters if name not in ("options", "keywords")]
    assert all(re.search(rf"\b{argument}\b", section) for argument in names)
