"""`fastdrop verify --long`: everything passes here, and broken backends, cuts and threads are seen to fail."""

import itertools
import re
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

import fastdrop
from fastdrop.verify import long
from fastdrop.verify.cases import REFERENCE, Engine, compute
from fastdrop.verify.runner import Mismatch

pytest.importorskip("rich")
from click.testing import CliRunner

from fastdrop._cli.commands import cli

ISA = fastdrop.config()["isas"][-1]


def draw(seed=1):
    return np.random.default_rng(seed)


def test_random_cases_reach_everything():
    cases = [long.any_case(random) for random in [draw()] for _ in range(3000)]
    assert {case.op for case in cases} == set(long.OPS)
    assert {case.geometry for case in cases} == set(long.GEOMETRIES)
    assert {case.rates for case in cases} == set(long.RATES_OF)
    assert min(case.n for case in cases) == 0
    assert max(case.n for case in cases) > 2**17
    counts = Counter(case.start.bit_length() for case in cases if case.start)
    assert len(counts) > 50
    assert {0.0, 1.0} < {case.p for case in cases}
    assert [long.any_case(draw(7)) for _ in range(2)] == [long.any_case(draw(7))] * 2


@pytest.mark.slow
def test_the_reference_computes_every_random_case():
    random = draw(2)
    for _ in range(100):
        with REFERENCE.using():
            compute(long.any_case(random))


@pytest.mark.parametrize("trial", long.TRIALS)
def test_trials_pass(trial):
    random = draw(3)
    for _ in range(10):
        long.TRIALS[trial](Engine("c", ISA), random)


def wrong_once(monkeypatch, name, is_wrong):
    """Let a public function return a wrong last element in certain calls."""
    function = getattr(fastdrop, name)

    def wrong(*arguments, **keywords):
        found = function(*arguments, **keywords)
        if is_wrong(found, keywords) and found.size:
            found.reshape(-1)[-1] = 77
        return found

    monkeypatch.setattr(fastdrop, name, wrong)


def not_numpy(found, keywords):
    return fastdrop.config()["backend"] != "numpy"


@pytest.mark.parametrize("trial", ["random cases", "hostile settings", "Python threads"])
def test_wrong_bytes_fail_and_name_their_case(monkeypatch, trial):
    wrong_once(monkeypatch, "words", not_numpy)
    monkeypatch.setattr(long, "OPS", {"words": long.OPS["words"]})
    tally = long.Tally(Engine("c", ISA), trial, long.TRIALS[trial])
    random = draw(4)
    for _ in range(5):
        tally.add(random)
    outcome = tally.outcome()
    assert outcome.passed is False
    assert re.search(r"[1-5] of 5 trials failed; the first: .*Case\(op='words', n=\d+, start=\d+", outcome.detail)


@pytest.mark.parametrize("keyword", ["start", "global_start"])
def test_wrong_cuts_fail(monkeypatch, keyword):
    wrong_once(monkeypatch, "dropout", lambda found, keywords: np.any(keywords.get(keyword, 0)))
    random = draw(5)
    failed = 0
    for _ in range(10):
        try:
            long.random_cuts(Engine("c", ISA), random)
        except Mismatch:
            failed += 1
    assert failed > 5


def test_settings_that_are_lost_fail(monkeypatch):
    from fastdrop._core import native

    def leaky(case):
        native.float_begin()  # and never restored
        return np.zeros(1)

    monkeypatch.setattr(long, "compute", leaky)
    with pytest.raises(Mismatch, match="floating-point settings were changed"):
        long.hostile_settings(Engine("c", ISA), draw(6))


def test_wrong_statistics_fail(monkeypatch):
    pytest.importorskip("scipy")
    mask = fastdrop.dropout_mask
    monkeypatch.setattr(fastdrop, "dropout_mask", lambda n, p, *, seed, offset=0: mask(n, p, seed=seed // 2, offset=offset))
    failed = {found.check for found in long.statistics(0) if found.passed is False}
    assert failed == {"neighbouring seeds", "one-hot keys"}


def test_statistics_without_scipy_are_skipped(monkeypatch):
    monkeypatch.delitem(sys.modules, "fastdrop.verify.randomness", raising=False)
    monkeypatch.delattr(fastdrop.verify, "randomness", raising=False)
    monkeypatch.setitem(sys.modules, "scipy", None)
    [found] = long.statistics(0)
    assert (found.passed, "scipy" in found.detail) == (None, True)


# Large arrays -------------------------------------------------------------------------------------------------------


def test_large_arrays_that_do_not_fit_or_come_too_late_are_skipped(monkeypatch):
    monkeypatch.setattr(long, "free_memory", lambda: 2**20)
    assert {found.passed for found in long.large_arrays(lambda: True)} == {None}
    monkeypatch.setattr(long, "free_memory", lambda: float("inf"))  # the system does not say
    assert {found.passed for found in long.large_arrays(lambda: True)} == {None}
    monkeypatch.setattr(long, "free_memory", lambda: 2**60)
    assert {found.detail for found in long.large_arrays(lambda: False)} == {"half of the time is over"}


@pytest.fixture
def less_large(monkeypatch):
    monkeypatch.setattr(long, "LARGE", 100_003)
    monkeypatch.setattr(long, "ENDS", (0, 50_000, 96_003))
    monkeypatch.setattr(long, "free_memory", lambda: 2**60)


def test_large_arrays_pass(less_large):
    assert [found.passed for found in long.large_arrays(lambda: True)] == [True] * len(long.LARGE_ARRAYS)


def test_wrong_large_arrays_fail(less_large, monkeypatch):
    for name in ("dropout", "dropout_mask"):
        wrong_once(monkeypatch, name, lambda found, keywords: keywords.get("start", 0) > 60_000)
    assert [found.passed for found in long.large_arrays(lambda: True)] == [False] * len(long.LARGE_ARRAYS)


# The command --------------------------------------------------------------------------------------------------------


@pytest.fixture
def short(monkeypatch):
    """Leave out the checks that other tests run."""
    monkeypatch.setattr(long, "checks", lambda: iter(()))
    monkeypatch.setattr(long, "statistics", lambda seed: iter(()))
    monkeypatch.setattr(long, "large_arrays", lambda has_time: iter(()))
    monkeypatch.setattr(long, "every_engine", lambda: [Engine("c", ISA)])
    monkeypatch.setattr(long, "ADAPTERS", {"no_such_library": lambda cases: ""})


def test_the_command_ends_with_a_table(short):
    done = CliRunner().invoke(cli, ["verify", "--long", "--minutes", "0.001", "--seed", "5"])
    assert done.exit_code == 0, done.output
    for trial in long.TRIALS:
        assert re.search(rf"c-{ISA} +{trial} +ok .* \d+ trials", done.output)
    assert "all 4 checks passed" in done.output
    assert done.output.splitlines()[-1] == "the random cases are those of --seed 5"


def test_the_command_fails_where_a_trial_does(short, monkeypatch):
    def fail(engine, random):
        raise Mismatch("made up")

    monkeypatch.setitem(long.TRIALS, "random cuts", fail)
    done = CliRunner().invoke(cli, ["verify", "--long", "--minutes", "0.001"])
    assert done.exit_code == 1
    assert re.search(rf"FAILED c-{ISA}, random cuts: (\d+) of \1 trials failed; the first: made up", done.output)
    assert "1 of 4 checks failed" in done.output


def test_progress_is_a_share_of_the_time(short, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(long, "time", SimpleNamespace(monotonic=lambda: next(ticks) / 100))
    seen = []
    list(long.long_checks(0.01, 1, lambda share, what: seen.append((share, what))))
    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.5 < shares[-1] <= 1
    assert f"c-{ISA}, random cuts, trial 1" in {what for _, what in seen}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--minutes", "3"), "--minutes and --seed need --long"),
        (("--seed", "3"), "--minutes and --seed need --long"),
        (("--long", "--minutes", "0"), "0.0 is not in the range x>0"),
        (("--long", "--seed", "-1"), "seed must be an integer in [0, 2**64)"),
    ],
)
def test_wrong_options_are_refused(options, said, tmp_path):
    command = [sys.executable, "-m", "fastdrop", "verify", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
