"""Every example of the README and of the public docstrings, run."""

import doctest
import inspect
import re
from pathlib import Path

import pytest

import fastdrop

README = Path(__file__).parents[1] / "README.md"


def examples_of_the_package():
    """Return the doctests of all public objects, members of classes included, by the name of the object."""
    finder = doctest.DocTestFinder(exclude_empty=False)
    found = {"fastdrop": finder.find(fastdrop, "fastdrop")[:1]}
    for name in fastdrop.__all__:
        found[name] = finder.find(getattr(fastdrop, name), f"fastdrop.{name}", globs={})
    return found


def examples_of_the_readme():
    """Return the doctests of the README's Python blocks, as one: a block goes on from the ones before it."""
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), flags=re.MULTILINE | re.DOTALL)
    text = "\n".join(block for block in blocks if ">>>" in block)
    return doctest.DocTestParser().get_doctest(text, {}, "README", str(README), 0)


def run(test):
    report = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert not result.failed, "".join(report)
    return result.attempted


@pytest.mark.parametrize("name", ["fastdrop", *fastdrop.__all__])
def test_docstrings(name):
    """Each public object has an example, and each of its examples and its members' runs."""
    assert sum(run(test) for test in examples_of_the_package()[name]) > 0


@pytest.mark.skipif(not README.is_file(), reason="no README beside the tests")
def test_readme():
    assert run(examples_of_the_readme()) > 0


@pytest.mark.parametrize("name", [name for name in fastdrop.__all__ if name != "Stream"])
def test_docstrings_name_every_argument(name):
    function = getattr(fastdrop, name)
    names = inspect.signature(function).parameters
    section = function.__doc__.partition("Parameters\n")[2].partition("Returns\n")[0]
    assert all(re.search(rf"\b{argument}\b", section) for argument in names)
