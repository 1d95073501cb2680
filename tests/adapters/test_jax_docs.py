"""The docstrings of the adapter for JAX, run; and the arguments that they name."""

import doctest
import importlib
import inspect
import re

import pytest
from doctests import run

jax = pytest.importorskip("jax", reason="JAX is not installed")
pytest.importorskip("flax", reason="Flax is not installed")

import fastdrop.jax  # noqa: E402

MODULES = ["fastdrop.jax", "fastdrop.jax.nnx", "fastdrop.jax.linen"]


@pytest.mark.parametrize("module", MODULES)
def test_docstrings(module):
    found = importlib.import_module(module)
    for named in (found, *(getattr(found, name) for name in found.__all__)):
        tests = doctest.DocTestFinder(recurse=False).find(named, getattr(named, "__name__", module), globs={})
        assert sum(run(test) for test in tests) > 0


@pytest.mark.parametrize("name", fastdrop.jax.__all__)
def test_docstrings_name_every_argument(name):
    named = getattr(fastdrop.jax, name)
    section = named.__doc__.partition("Parameters\n")[2].partition("Examples\n")[0]
    assert all(re.search(rf"\b{argument}\b", section) for argument in inspect.signature(named).parameters)
