"""The statistical tests of `fastdrop.verify.randomness`: masks pass them, and generators with known faults do not."""

import numpy as np
import pytest

pytest.importorskip("scipy")
import fastdrop
from fastdrop.verify import randomness
from fastdrop.verify.randomness import TESTS, judge


def small(name, mask):
    """Run a test at a quarter of its light size."""
    test = TESTS[name]
    return judge(test.function(mask, test.light // 4))


def of_numbers(numbers):
    """Return a mask function that compares numbers in [0, 1) with p."""
    return lambda n, p, *, seed, offset=0: numbers(n, seed, offset) >= p


def generator(seed, offset):
    return np.random.default_rng([seed % 2**32, seed >> 32, offset % 2**32, offset >> 32])


def numpy_numbers(n, seed, offset):
    return generator(seed, offset).random(n)


def low_bits(n, seed, offset):
    """Return numbers whose first digit is bit 8 of a linear congruential generator: it has period 512."""
    states = np.cumprod(np.full(512, 1664525, np.uint32), dtype=np.uint32)
    states = states * np.uint32(2 * seed + 1)
    return np.resize((states >> np.uint32(8)) % np.uint32(2), n) / 2


def repeated(n, seed, offset):
    return np.resize(numpy_numbers(500, seed, offset), n)


def shift_register(n, seed, offset):
    """Return numbers whose first digits are the bits of a linear feedback shift register of 31 bits."""
    bits = generator(seed, offset).integers(0, 2, n, dtype=np.uint8)
    for begin in range(31, n, 3):
        bits[begin : begin + 3] = bits[begin - 31 : begin - 28][: n - begin] ^ bits[begin - 3 : begin][: n - begin]
    return bits / 2


def equal_planes(n, seed, offset):
    first = generator(seed, offset).integers(0, 2, n)
    return (first * 3 + numpy_numbers(n, seed, offset + 1)) / 4


FAULTS = {
    "low bits of an LCG": (of_numbers(low_bits), ["binary rank", "linear complexity", "autocorrelation, p = 0.5"]),
    "a repeated block": (of_numbers(repeated), ["autocorrelation, p = 0.5", "autocorrelation, p = 0.1"]),
    "a shift register": (of_numbers(shift_register), ["linear complexity"]),
    "two equal planes": (of_numbers(equal_planes), ["planes", "counts of dropped"]),
    "the lowest bit of the seed lost": (
        of_numbers(lambda n, seed, offset: numpy_numbers(n, seed >> 1, offset)),
        ["one-hot keys", "neighbouring seeds"],
    ),
    "the offset ignored": (
        of_numbers(lambda n, seed, offset: numpy_numbers(n, seed, 0)),
        ["one-hot keys", "neighbouring offsets"],
    ),
    "only 2**20 seeds": (of_numbers(lambda n, seed, offset: numpy_numbers(n, seed % 2**20, offset)), ["one-hot keys"]),
    "rates of 8 bits": (lambda n, p, *, seed: numpy_numbers(n, seed, 0) >= round(p * 256) / 256, ["counts of dropped"]),
    "every count right": (lambda n, p, *, seed: np.arange(n) >= round(n * p), ["counts of dropped"]),
}


@pytest.mark.parametrize("name", TESTS)
def test_masks_pass(name):
    found = small(name, fastdrop.dropout_mask)
    assert found.passed, found


@pytest.mark.parametrize("name", TESTS)
def test_another_good_generator_passes(name):
    found = small(name, of_numbers(numpy_numbers))
    assert found.passed, found


@pytest.mark.parametrize(("fault", "name"), [(fault, name) for fault, (_, names) in FAULTS.items() for name in names])
def test_faults_are_found(fault, name):
    found = small(name, FAULTS[fault][0])
    assert not found.passed, found


def test_folding_that_repeats_seeds_is_found(monkeypatch):
    fold_in = fastdrop.fold_in
    monkeypatch.setattr(fastdrop, "fold_in", lambda seed, data: fold_in(seed, data // 2))
    assert not small("folded keys", fastdrop.dropout_mask).passed


def test_verdicts():
    even = (np.arange(1000) + 0.5) / 1000
    assert judge(even).passed
    assert not judge(even / 1.5).passed  # not uniform
    assert not judge(np.append(even, 1e-12)).passed  # too far off
    assert not judge(np.append(even, 1 - 1e-12)).passed  # too good
    assert not judge(np.full(even.size, np.nan)).passed
    assert not judge(np.append(even[:9], np.nan)).passed
    assert judge(np.array([1e-3])).extreme == pytest.approx(2e-3)


def test_ranks_and_complexities_of_known_bits():
    identity = np.uint64(1) << np.arange(64, dtype=np.uint64)
    ones = np.full(64, 2**64 - 1, np.uint64)
    lower = (identity << np.uint64(1)) - np.uint64(1)
    matrices = np.stack([identity, ones, lower, identity & np.uint64(2**40 - 1), ones * np.uint64(0), identity[::-1]])
    np.testing.assert_array_equal(randomness.ranks_of(matrices), [64, 1, 64, 40, 0, 64])
    assert sum(randomness.probability_of_rank(rank, 64) for rank in range(65)) == pytest.approx(1)
    assert randomness.complexity(0, 64) == 0
    assert randomness.complexity(1 << 63, 64) == 64
    assert randomness.complexity(int("01" * 32, 2), 64) == 2
    assert randomness.complexity(int("1001110" * 9, 2), 63) == 3  # the longest sequence of three bits
