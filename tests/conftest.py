"""Shared fixtures: restored settings, engines to run on, the data files, fresh interpreters."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import hypothesis
import pytest

import fastdrop
from fastdrop.verify.cases import REFERENCE, engines, threads_on_small_arrays

KNOWN_ANSWERS = Path(fastdrop.__file__).parent / "known_answers"
LARGE = "FASTDROP_TEST_LARGE"
# Files of tests that train, simulate or measure: those take seconds each. A single slow test has the marker itself.
SLOW_FILES = {
    "test_bench.py",
    "test_benchmarks.py",
    "test_examples.py",
    "test_recorded_results.py",
    "test_statistics.py",
    "test_training_noise.py",
    "test_tuning.py",
    "test_verify.py",
}

hypothesis.settings.register_profile(
    "fastdrop",
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],  # `engine` is the same for all examples
)
hypothesis.settings.load_profile("fastdrop")


def pytest_configure(config):
    config.addinivalue_line("markers", f"large: needs gigabytes of free memory; runs only if {LARGE}=1 is set")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.name in SLOW_FILES:
            item.add_marker(pytest.mark.slow)
    if os.environ.get(LARGE) != "1":
        for item in items:
            if "large" in item.keywords:
                item.add_marker(pytest.mark.skip(reason=f"needs gigabytes of free memory; set {LARGE}=1 to run it"))


@pytest.fixture(autouse=True)
def _settings_put_back():
    before = fastdrop.get_backend(), fastdrop.get_isa(), fastdrop.get_num_threads()
    with threads_on_small_arrays():
        yield
    fastdrop.set_backend(before[0])
    fastdrop.set_isa(before[1])
    fastdrop.set_num_threads(before[2])


@pytest.fixture(params=[REFERENCE, *engines()], ids=str)
def engine(request):
    """Run the test once per engine, which is in force for the whole test."""
    if reason := request.param.missing():
        pytest.skip(reason)
    with request.param.using():
        yield request.param


@pytest.fixture(scope="session")
def golden():
    return json.loads((KNOWN_ANSWERS / "stream1_golden.json").read_text())


@pytest.fixture
def run_python(tmp_path):
    """Return a function that runs a program in a fresh interpreter with extra environment variables; a hang is a failure."""

    def run(program, **environment):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FASTDROP_")}
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            env={**inherited, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run
