"""The table of seeded faults is large, fits the code, and names tests that exist."""

import sys

import pytest

if sys.version_info < (3, 11):
    pytest.skip("the table is read with tomllib", allow_module_level=True)

from mutations.run import ROOT, read_faults, stale

FAULTS = read_faults()


def test_size():
    assert len(FAULTS) >= 150
    assert len({fault.key for fault in FAULTS}) == len(FAULTS)


def test_faults_fit_the_code():
    assert stale(FAULTS) == []


def test_each_fault_has_tests():
    for fault in FAULTS:
        assert fault.tests, fault.key
        assert all((ROOT / test.partition("::")[0]).is_file() for test in fault.tests), fault.key
        assert fault.old != fault.new
