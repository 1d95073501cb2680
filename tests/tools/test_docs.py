"""Every example of the README, of the docs and of the public docstrings runs."""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
from doctests import blocks_of, examples_of_blocks, run

import fastdrop

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "docs/training.md", "docs/techniques.md", "docs/questions.md"]
MODULES = ["elementary", "losses", "monitor", "schedules", "theory", "typing"]  # the tests of the other modules run their own
LIKE_THE_PACKAGE = ["elementary", "losses", "schedules", "theory"]  # modules whose public objects have docstrings like its own


def public_objects():
    """Return the public objects of the package and of these modules, by name."""
    found = {name: getattr(fastdrop, name) for name in fastdrop.__all__}
    for part in LIKE_THE_PACKAGE:
        module = importlib.import_module(f"fastdrop.{part}")
        found |= {f"{part}.{name}": getattr(module, name) for name in module.__all__}
    return found


OBJECTS = public_objects()


def examples_of(name):
    """Return the doctests of a public object, including those of a class's members."""
    return doctest.DocTestFinder(exclude_empty=False).find(OBJECTS[name], f"fastdrop.{name}", globs={})


def modules_of(name):
    """Return a module of the package and, if it is a package itself, its modules."""
    module = importlib.import_module(f"fastdrop.{name}")
    inner = [found.name for found in pkgutil.iter_modules(getattr(module, "__path__", []))]
    return [module, *(importlib.import_module(f"{module.__name__}.{part}") for part in inner)]


@pytest.mark.parametrize("name", OBJECTS)
def test_docstrings(name):
    """Each public object has an example, and all examples of the object and its members run."""
    assert sum(run(test) for test in examples_of(name)) > 0


def test_docstring_of_the_package():
    assert run(doctest.DocTestFinder().find(fastdrop, "fastdrop")[0]) > 0


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_of_modules(module):
    tests = [test for each in modules_of(module) for test in doctest.DocTestFinder().find(each)]
    assert sum(run(test) for test in tests) > 0


@pytest.mark.parametrize("page", PAGES)
def test_pages(page):
    if not (ROOT / page).is_file():
        pytest.skip("no such page beside the tests")
    blocks = [block for block in blocks_of((ROOT / page).read_text()) if ">>>" in block]
    assert run(examples_of_blocks(blocks)) > 0


HEAD = re.compile(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: : .*)?$")  # of an entry: names, and what they take


def documented_arguments(function):
    """Return the names that head an entry of the section Parameters. Prose is indented, and names nothing."""
    section = inspect.cleandoc(function.__doc__).partition("Parameters\n----------\n")[2]
    names = []
    for line in re.split(r"\n\n\w+\n-+\n", section)[0].splitlines():
        if found := HEAD.match(line):
            names += [name.lstrip("*") for name in found[1].split(", ")]
    return names


@pytest.mark.parametrize("name", [name for name in OBJECTS if inspect.isroutine(OBJECTS[name])])
def test_docstrings_have_an_entry_for_every_argument_and_no_other(name):
    function = OBJECTS[name]
    assert sorted(documented_arguments(function)) == sorted(inspect.signature(function).parameters)


def test_prose_that_names_an_argument_is_no_entry():
    def function(x, p):
        """Drop.

        Parameters
        ----------
        x : array
            Dropped from, with probability p : see elsewhere.

        Notes
        -----
        p : is not documented.
        """

    assert documented_arguments(function) == ["x"]
