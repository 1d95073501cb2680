"""The programs of tests/long that judge masks: fair bits are those of the definition, and failures are noticed."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastdrop

LONG = Path(__file__).parents[1] / "long"
pytestmark = pytest.mark.skipif(not LONG.is_dir(), reason="the programs are not beside the tests")


def load(name):
    spec = importlib.util.spec_from_file_location(name, LONG / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("p", [0.1, 0.25])
def test_fair_bits_are_those_of_the_pairs_that_differ(p):
    pytest.importorskip("numba")
    n = 2**24 + 8  # more than two pieces
    packed = fastdrop.dropout_mask(n, p, seed=1, packed=True)
    done = subprocess.run([sys.executable, LONG / "_fair_bits.py"], input=packed.tobytes(), capture_output=True, timeout=300)
    kept = fastdrop.dropout_mask(n, p, seed=1)
    bits = kept[::2][kept[::2] != kept[1::2]]
    assert done.stdout == np.packbits(bits[: bits.size // 8 * 8], bitorder="little").tobytes()
    assert abs(bits.mean() - 0.5) < 5 * np.sqrt(0.25 / bits.size)


@pytest.mark.parametrize(
    ("line", "bad"),
    [
        ("   diehard_birthdays|   0|       100|     100|0.00000000|  FAILED  ", True),
        ("   diehard_birthdays|   0|       100|     100|0.99618027|   WEAK   ", False),
        ("   diehard_birthdays|   0|       100|     100|0.91354205|  PASSED  ", False),
        ("21 PASSED, 0 WEAK, 0 FAILED", False),
        ("  BCFN(2+0,13-2,T)                  R= +99.9  p = 1.1e-39     FAIL !!!        ", True),
        ("  no anomalies in 195 test result(s)", False),
        (" The following tests gave p-values outside [0.001, 0.9990]:", True),
        (" All tests were passed", False),
    ],
)
def test_failures_of_batteries_are_noticed(line, bad):
    assert bool(load("batteries").BAD.search(line)) is bad


def test_a_battery_that_prints_nothing_is_an_error(monkeypatch):
    batteries = load("batteries")
    monkeypatch.setattr(batteries, "run", lambda *arguments, **options: [])
    monkeypatch.setattr(batteries, "program", lambda name: name)
    options = batteries.argparse.Namespace(size="sts", minutes=1, seed=1)
    with pytest.raises(batteries.Failed, match="printed no result"):
        list(batteries.dieharder("words", options))


def test_the_bits_of_words_are_those_of_the_words():
    pytest.importorskip("scipy")
    bits = load("randomness").bits_of_words(100, 0.5, seed=3, offset=4)
    words = [int(word) for word in fastdrop.words(4, seed=3, offset=4)]
    assert bits.tolist() == [bool(words[i // 32] >> i % 32 & 1) for i in range(100)]


@pytest.mark.parametrize("kind", [np.asarray, np.ndarray.tolist])
def test_a_block_gets_its_part_of_rates_in_an_array_or_in_lists(monkeypatch, kind):
    pytest.importorskip("ml_dtypes")
    monkeypatch.syspath_prepend(str(LONG))
    cut = load("calls").cut
    rates, block = np.arange(12.0).reshape(3, 4), (slice(1, 3), slice(0, 2))
    assert np.array_equal(cut("p", kind(rates), (3, 4), block), rates[block])
    assert np.array_equal(cut("p", kind(rates[0]), (3, 4), block), rates[0, :2])
    assert cut("shared_axes", [0, 1, 1, 0], (3, 4), block) == [0, 1, 1, 0]
    assert cut("p", [[0.5], [0.5, 0.5]], (3, 4), block) == [[0.5], [0.5, 0.5]]
