"""The quick benchmark: what it measures is checked, and how it measures is right to the digit on a clock of its own."""

import sys

import numpy as np
import pytest

from fastdrop import quickbench, timing
from fastdrop.verify import Mismatch

SIZES = {"4 K": 2**12, "64 K": 2**16}
ONCE = timing.Effort(seconds=0, least_rounds=1)


@pytest.fixture
def layer(monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.setattr(quickbench, "SIZES", SIZES)
    return quickbench.activations()


def test_data_are_activations_of_a_layer(layer):
    assert layer.shape == (1797, 1024)
    assert layer.dtype == np.float32
    assert 0.3 < np.count_nonzero(layer) / layer.size < 0.7
    assert layer.min() == 0
    arrays = quickbench.data()
    assert {name: x.size for name, x in arrays.items()} == {"activations": layer.size} | SIZES
    np.testing.assert_array_equal(arrays["4 K"], layer.ravel()[: 2**12])


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'pip install "fastdrop-kernels\[bench\]"'):
        quickbench.activations()


def test_every_contender_does_dropout_and_is_timed(layer):
    chosen = quickbench.contenders()
    steps = []
    found = quickbench.run(chosen, effort=ONCE, step=steps.append)
    assert [(cell.size, cell.p) for cell in found.cells] == [(size, rate) for size in SIZES for rate in quickbench.RATES]
    for cell in found.cells:
        assert cell.timings.keys() == chosen.keys()
        assert cell.timings["copy"].ratio == 1
    assert "numpy" in found.engines
    assert len(steps) == quickbench.step_count()


def not_scaled(x, out, p, threads):
    return lambda: np.where(np.random.default_rng(0).random(x.shape) < p, 0, x)


def too_many(x, out, p, threads):
    return quickbench.by_numpy(x, out, p + 0.02, threads)


def never(x, out, p, threads):
    return lambda: x * np.float32(1 / (1 - p))


def instead_of_kept(value):
    def make(x, out, p, threads):
        drop = quickbench.by_numpy(x, out, p, threads)
        return lambda: np.where(drop() != 0, np.float32(value), np.float32(0))

    return make


@pytest.mark.parametrize("make", [not_scaled, too_many, never, instead_of_kept(np.inf), instead_of_kept(np.nan)])
def test_contender_that_does_no_dropout_is_refused(layer, make):
    chosen = quickbench.contenders()
    chosen = {"copy": chosen["copy"], "wrong": quickbench.Contender("wrong", make)}
    with pytest.raises(Mismatch, match="wrong"):
        quickbench.run(chosen, effort=ONCE)


class Clock:
    """A clock that only the calls on it move."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def call(self, name, *durations):
        """Return a call that takes each of the durations in turn, then the last of them."""
        left = list(durations)

        def run():
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]
            return name

        return run

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(timing, "time", made)
    return made


def test_ratio_is_the_median_within_rounds(clock):
    calls = {"base": clock.call("base", 9, 1, 2, 4), "other": clock.call("other", 9, 3, 4, 8)}  # the first is not timed
    found = timing.interleave(calls, "base", timing.Effort(seconds=0, least_rounds=3))
    assert found["base"] == timing.Timing(2, 1, 3)
    assert found["other"] == timing.Timing(4, 2, 3)


def test_call_that_had_its_time_sits_out_the_later_rounds(clock):
    calls = {"base": clock.call("base", 1), "quick": clock.call("quick", 2), "slow": clock.call("slow", 50)}
    found = timing.interleave(calls, "base", timing.Effort(seconds=20, least_rounds=2))
    assert {name: timed.rounds for name, timed in found.items()} == {"base": 10, "quick": 10, "slow": 2}
    assert {name: timed.ratio for name, timed in found.items()} == {"base": 1, "quick": 2, "slow": 50}


def test_patience_ends_the_rounds_but_for_the_first(clock):
    for patience, rounds in ((0, 1), (100, 2), (110, 3)):  # a round takes 52
        calls = {"base": clock.call("base", 2), "slow": clock.call("slow", 50)}
        found = timing.interleave(calls, "base", timing.Effort(seconds=0, least_rounds=5, patience=patience))
        assert found["slow"].rounds == found["base"].rounds == rounds


def test_short_call_is_repeated_and_its_time_divided(clock):
    calls = {"base": clock.call("base", timing.LEAST_SAMPLE / 8), "other": clock.call("other", timing.LEAST_SAMPLE)}
    found = timing.interleave(calls, "base", timing.Effort(seconds=0, least_rounds=1))
    assert found["base"].seconds == pytest.approx(timing.LEAST_SAMPLE / 8)
    assert found["other"].ratio == pytest.approx(8)
    assert clock.calls.count("base") == 1 + (1 + 2) + (1 + 8)


def test_order_within_a_round_is_random(clock):
    timing.interleave({name: clock.call(name, 1) for name in "ab"}, "a", timing.Effort(seconds=0, least_rounds=40))
    rounds = ["".join(clock.calls[k : k + 2]) for k in range(2, 82, 2)]
    assert set(rounds) == {"ab", "ba"}


def test_result_is_checked_before_anything_is_timed(clock):
    def check(name, result):
        seen.append((name, result))
        if name == "wrong":
            raise ValueError(name)

    seen = []
    calls = {"base": clock.call("base", 1), "wrong": clock.call("wrong", 1)}
    with pytest.raises(ValueError, match="wrong"):
        timing.interleave(calls, "base", timing.Effort(seconds=1), check)
    assert seen == [("base", "base"), ("wrong", "wrong")]
    assert clock.calls == ["base", "wrong"]
