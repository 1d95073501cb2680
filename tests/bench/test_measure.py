"""Measuring: exact times on a fake clock, and the estimates from the samples."""

import numpy as np
import pytest

from fastdrop.bench import measure
from fastdrop.bench.measure import Effort, Prepared, estimate, interleave, paired


class Clock:
    """A clock that only its own calls advance."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def call(self, name, *durations, **more):
        """Return a call that takes each of the durations in turn, and then the last one again and again."""
        left = list(durations)

        def run():
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]
            return name

        return Prepared(run, **more)

    def perf_counter(self):
        return self.now

    def process_time(self):
        return 2 * self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(measure, "time", made)
    return made


def test_rounds_run_everybody_and_first_calls_are_not_timed(clock):
    calls = {"base": clock.call("base", 9, 1, 2, 4), "other": clock.call("other", 9, 3, 4, 8)}
    found = interleave(calls, "base", Effort(seconds=0, least_rounds=3))
    assert {name: samples.seconds for name, samples in found.items()} == {"base": [1, 2, 4], "other": [3, 4, 8]}
    assert found["other"].rounds == [0, 1, 2]
    assert found["other"].processors == 2


def test_call_that_had_its_time_sits_out_the_later_rounds(clock):
    calls = {"base": clock.call("base", 1), "quick": clock.call("quick", 2), "slow": clock.call("slow", 50)}
    found = interleave(calls, "base", Effort(seconds=20, least_rounds=2))
    assert {name: len(samples.rounds) for name, samples in found.items()} == {"base": 10, "quick": 10, "slow": 2}


def test_patience_ends_the_rounds_but_for_the_first(clock):
    for patience, rounds in ((0, 1), (100, 2), (110, 3)):  # a round takes 52
        calls = {"base": clock.call("base", 2), "slow": clock.call("slow", 50)}
        found = interleave(calls, "base", Effort(seconds=0, least_rounds=5, patience=patience))
        assert len(found["slow"].rounds) == len(found["base"].rounds) == rounds


def test_short_call_is_repeated_and_its_time_divided(clock):
    calls = {"base": clock.call("base", measure.LEAST_SAMPLE / 8), "other": clock.call("other", measure.LEAST_SAMPLE)}
    found = interleave(calls, "base", Effort(seconds=0, least_rounds=1))
    assert found["base"].seconds == pytest.approx([measure.LEAST_SAMPLE / 8])
    assert found["other"].seconds == pytest.approx([measure.LEAST_SAMPLE])
    assert clock.calls.count("base") == 1 + (1 + 2) + (1 + 8)


def test_order_within_a_round_is_random_and_differs_between_processes(clock):
    orders = []
    for seed in (0, 1):
        clock.calls.clear()
        interleave({name: clock.call(name, 1) for name in "ab"}, "a", Effort(seconds=0, least_rounds=40), seed)
        orders.append(["".join(clock.calls[k : k + 2]) for k in range(2, 82, 2)])
        assert set(orders[-1]) == {"ab", "ba"}
    assert orders[0] != orders[1]


def test_result_is_checked_before_anything_is_timed(clock):
    def refuse(result):
        raise ValueError(result)

    calls = {"base": clock.call("base", 1), "wrong": clock.call("wrong", 1, check=refuse)}
    with pytest.raises(ValueError, match="wrong"):
        interleave(calls, "base", Effort(seconds=1))
    assert clock.calls == ["base", "wrong"]
    told = []
    found = interleave(calls, "base", Effort(seconds=0), refused=lambda name, error: told.append((name, str(error))))
    assert told == [("wrong", "wrong")]
    assert set(found) == {"base"}


def test_ratio_is_the_median_within_rounds_that_ran_both():
    one, other = [{0: 3.0, 1: 4.0, 2: 8.0}, {0: 5.0}], [{0: 1.0, 2: 4.0}, {1: 1.0}]
    assert [list(values) for values in paired(one, other)] == [[3, 2]]
    found = estimate([np.array([1.0, 2, 9]), np.array([4.0])])
    assert (found.value, found.n) == (3, 4)
    assert 1 <= found.low <= 3 <= found.high <= 9


def test_interval_covers_the_median_of_what_was_drawn_from():
    """Of 200 intervals of 95 % for 3 processes of 40 values, nearly all contain the true median, and they are narrow."""
    rng = np.random.default_rng(7)
    found = [estimate([np.exp(rng.normal(0, 0.1, 40)) for _ in range(3)]) for _ in range(200)]
    assert 180 <= sum(one.low <= 1 <= one.high for one in found) <= 200
    assert np.median([one.high - one.low for one in found]) < 0.08


def test_interval_of_processes_that_differ_is_as_wide_as_they_are():
    found = estimate([np.full(50, 1.0), np.full(50, 1.5), np.full(50, 2.0)])
    assert (found.low, found.value, found.high) == (1, 1.5, 2)
