"""Every example of the README and of the public docstrings, run."""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

import fastdrop

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "docs/techniques.md"]
MODULES = ["elementary", "losses", "schedules", "theory"]  # the others have this in their own tests


def examples_of_the_package():
    """Return the doctests of all public objects, members of classes included, by the name of the object."""
    finder = doctest.DocTestFinder(exclude_empty=False)
    found = {"fastdrop": finder.find(fastdrop, "fastdrop")[:1]}
    for name in fastdrop.__all__:
        found[name] = finder.find(getattr(fastdrop, name), f"fastdrop.{name}", globs={})
    return found


def examples_of_the_page(path):
    """Return the doctests of a page's Python blocks, as one: a block goes on from the ones before it."""
    blocks = re.findall(r"^```python\n(.*?)^```", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    text = "\n".join(block for block in blocks if ">>>" in block)
    return doctest.DocTestParser().get_doctest(text, {}, path.name, str(path), 0)


def run(test):
    report = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert not result.failed, "".join(report)
    return result.attempted


@pytest.mark.parametrize("name", ["fastdrop", *fastdrop.__all__])
def test_docstrings(name):
    """Each public object has an example, and each of its examples and its members' runs."""
    assert sum(run(test) for test in examples_of_the_package()[name]) > 0


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_of_modules(module):
    tests = doctest.DocTestFinder().find(importlib.import_module(f"fastdrop.{module}"))
    assert sum(run(test) for test in tests) > 0


@pytest.mark.parametrize("page", PAGES)
def test_pages(page):
    if not (ROOT / page).is_file():
        pytest.skip("no such page beside the tests")
    assert run(examples_of_the_page(ROOT / page)) > 0


@pytest.mark.parametrize("name", [name for name in fastdrop.__all__ if name != "Stream"])
def test_docstrings_name_every_argument(name):
    function = getattr(fastdrop, name)
    names = inspect.signature(function).parameters
    section = function.__doc__.partition("Parameters\n")[2].partition("Returns\n")[0]
    assert all(re.search(rf"\b{argument}\b", section) for argument in names)
