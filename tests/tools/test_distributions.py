"""Another distribution that claims the package `fastdrop` is named, and how to mend it."""

import pytest

from fastdrop import verify
from fastdrop.verify import distributions, runner

SENTENCE = (
    "fast_drop_server also installs the package fastdrop, and each overwrites files of the other: "
    "pip uninstall fast_drop_server fastdrop-kernels, then install fastdrop-kernels again"
)


@pytest.fixture
def other(tmp_path, monkeypatch):
    """Install another distribution with a package `fastdrop`."""
    folder = tmp_path / "fast_drop_server-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: fast_drop_server\nVersion: 1.0\n")
    (folder / "top_level.txt").write_text("fastdrop\n")
    (folder / "RECORD").write_text("fastdrop/__init__.py,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_alone():
    assert distributions.find_others() == []
    assert runner.check_distributions() == "no other one has a package fastdrop"


@pytest.mark.usefixtures("other")
def test_verify_names_it():
    first = next(verify.checks())
    assert (first.engine, first.check, first.passed) == ("install", "one distribution", False)
    assert first.detail == SENTENCE


@pytest.mark.usefixtures("other")
def test_info_names_it():
    pytest.importorskip("click")
    from click.testing import CliRunner

    from fastdrop._cli.commands import cli

    assert SENTENCE in " ".join(CliRunner().invoke(cli, ["info"]).output.split())


def test_module_as_a_command(run_python):
    """It works whoever owns the command `fastdrop`."""
    pytest.importorskip("click")
    program = "import runpy, sys; sys.argv = ['fastdrop', '--version']; runpy.run_module('fastdrop', run_name='__main__')"
    found = run_python(program)
    assert found.stdout.startswith("fastdrop, version "), found.stderr


def test_adapters_that_are_missing_or_wrong():
    """A missing library is skipped, and a result with other bytes fails."""
    missing = runner.check_adapter("no_such_library", lambda cases: "never run")
    assert (missing.passed, missing.detail) == (None, "No module named 'no_such_library'")
    wrong = runner.check_adapter("numpy", lambda cases: runner.compare(cases, ["float32"], lambda x, p, seed: [x]))
    assert (wrong.passed, wrong.detail) == (
        False,
        "float32, 1 elements, p = 0.1: the result must have the bytes of an array's",
    )
