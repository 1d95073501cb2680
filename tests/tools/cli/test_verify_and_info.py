"""`fastdrop verify` and `fastdrop info`."""

import json
import os

import pytest
from command_line import process, run

import fastdrop
from fastdrop._core import native


@pytest.mark.parametrize("minutes", ["nan", "inf", "-inf", "0"])
def test_the_time_limit_of_verify_is_a_number(monkeypatch, minutes):
    """NaN is neither below a limit nor above it: the checks would never end."""
    monkeypatch.setattr("fastdrop._cli.commands.long_checks", lambda *arguments: iter(()))
    done = run("verify", "--long", "--minutes", minutes)
    assert done.exit_code == 2
    assert "--minutes" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_verify_passes_here(tmp_path):
    done = process(tmp_path, "verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert "checks passed" in done.stdout
    assert "FAILED" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    for isa in fastdrop.config()["isas"]:
        assert f"c-{isa} " in done.stdout


@pytest.mark.slow
def test_verify_fails_and_says_where(monkeypatch):
    monkeypatch.setattr(native, "contracts", lambda isa: isa == "portable")
    done = run("verify")
    assert done.exit_code == 1
    assert "FAILED c-portable, contraction: a * b + c" in done.output
    assert "1 of " in done.output.splitlines()[-1]


def test_info_is_the_configuration():
    assert json.loads(run("info", "--json").output) == fastdrop.config()
    shown = run("info").output
    for name in fastdrop.config():
        assert f"\n{name} " in shown
    assert fastdrop.config()["isas"][-1] in shown
    assert "FASTDROP_NUM_THREADS" in shown


def test_info_shows_what_the_environment_asks_for(tmp_path):
    wanted = {"FASTDROP_ISA": "portable", "FASTDROP_NUM_THREADS": "1"}
    done = process(tmp_path, "info", "--json", env=os.environ | wanted)
    assert json.loads(done.stdout)["isa"] == "portable"
    assert json.loads(done.stdout)["num_threads"] == 1


ASCII = {"PYTHONIOENCODING": "ascii"}


@pytest.mark.slow
def test_tables_in_ascii(tmp_path):
    for command in ("info", "verify"):
        done = process(tmp_path, command, env=os.environ | ASCII)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.isascii()
