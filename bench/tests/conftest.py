"""Configure pytest-benchmark: times are taken only on request; in the test suite each case runs once, to check its result."""

import os

import pytest

import fastdrop

for variable in ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"):
    os.environ.setdefault(variable, "3" if variable.endswith("LEVEL") else "0")


def pytest_configure(config):
    if not (config.option.benchmark_only or config.option.benchmark_enable):
        config.option.benchmark_disable = True


@pytest.fixture(autouse=True)
def _one_thread():
    with fastdrop.using(num_threads=1):
        yield
