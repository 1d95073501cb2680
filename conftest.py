"""Make pytest test the installed package, add the option --once, and refuse paths that do not exist.

`python -m pytest` puts the checkout first on the path. Unless it was built in place, the package there has no compiled modules.
"""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
if not list((ROOT / "fastdrop" / "_core").glob("native.*.so")):
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]


def pytest_addoption(parser):
    parser.addoption(
        "--once", action="store_true", help="run each test function once on each engine, with its first parameters"
    )


def pytest_configure(config):
    for argument in config.args:  # with several processes, pytest-xdist ends without a word about it
        if not Path(argument.partition("::")[0]).exists():
            raise pytest.UsageError(f"file or directory not found: {argument}")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--once"):
        kept = set({(item.nodeid.partition("[")[0], engine(item)): item for item in reversed(items)}.values())
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = [item for item in items if item in kept]


def engine(item):
    return str(item.callspec.params.get("engine")) if hasattr(item, "callspec") else ""
