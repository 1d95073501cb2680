"""The times of the adapters: each result is compared before it is timed."""

import numpy as np
import pytest
from click.testing import CliRunner

from fastdrop.bench import adapters


def row(wanted):
    return adapters.Row("ones", lambda: np.ones(3), lambda: np.ones(3), np.ones(3), wanted)


def test_times_both_sides(monkeypatch):
    monkeypatch.setitem(adapters.ROWS, "torch", lambda: iter([row(np.ones(3))]))
    monkeypatch.setattr(adapters.os, "sched_setaffinity", lambda *_: None)
    shown = CliRunner().invoke(adapters.main, ["torch", "--seconds", "0.01"])
    assert shown.exit_code == 0
    name, theirs, ours, ratio = shown.output.splitlines()[-1].split()
    assert name == "ones"
    assert min(float(theirs), float(ours), float(ratio)) > 0


def test_a_wrong_result_is_not_timed(monkeypatch):
    monkeypatch.setitem(adapters.ROWS, "torch", lambda: iter([row(np.zeros(3))]))
    with pytest.raises(AssertionError, match=r"^ones: the adapter's result is not fastdrop.dropout's$"):
        list(adapters.rows_of("torch"))
