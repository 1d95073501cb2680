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


def zeros(x, p, training, inplace):
    return x * 0


def wrong_slope(x, p, training, inplace):
    """Return the right result, but the gradient of the identity."""
    from fastdrop.torch._functions import drop_usual

    return drop_usual(x, p, training, inplace).detach() + (x - x.detach())


@pytest.mark.parametrize("wrong", [None, zeros, wrong_slope])
def test_both_passes_of_both_ways_of_pytorch_are_compared(monkeypatch, wrong):
    torch = pytest.importorskip("torch")
    from fastdrop.torch import _functions, _native

    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    monkeypatch.setattr(adapters, "SIZES", (512,))
    monkeypatch.setattr(_native, "drop", wrong or _functions.drop_usual)
    monkeypatch.setattr(_native, "run", None)
    rows = adapters.rows_of("torch")
    assert next(rows).name == "512, float32, p = 0.1"
    if wrong:
        with pytest.raises(AssertionError, match=r"^512, float32, p = 0\.1, native: the adapter's result is not"):
            next(rows)
    else:
        assert sum("native" in row.name for row in rows) == 8
