"""Statistical tests of masks, which the batteries of other programs lack or apply to words only. They need SciPy.

A test takes a function like `fastdrop.dropout_mask` and a size, and returns p-values. They are uniform in (0, 1) if the
function is perfect. A statistic that is discrete has a range of p-values for each value; one of them is drawn, with fixed
random numbers. `judge` turns the p-values of a test into a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

import fastdrop

__all__ = ["LEAST", "TESTS", "Judged", "Mask", "PValues", "Test", "judge"]

LEAST = 1e-6  # a test whose p-values are less probable than this has failed
ENOUGH = 100  # p-values, from which their distribution is tested too

Mask = Callable[..., NDArray[np.bool_]]  # (n, p, seed=, offset=): True for each element that is kept
PValues = NDArray[np.float64]


# Verdicts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """The verdict on the p-values of a test: their number, and two probabilities that a perfect mask gives such ones."""

    number: int
    extreme: float  # of the one that is nearest to 0 or 1, times their number (Bonferroni)
    uniform: float  # of their distribution (Kolmogorov and Smirnov); 1 if there are too few

    @property
    def passed(self) -> bool:
        """Whether both are at least `LEAST`; NaN is not."""
        return self.extreme >= LEAST and self.uniform >= LEAST


def judge(pvalues: PValues) -> Judged:
    """Return the verdict on the p-values of a test."""
    nearest = float(np.minimum(pvalues, 1 - pvalues).min())
    uniform = stats.kstest(pvalues, "uniform").pvalue if pvalues.size >= ENOUGH else 1.0
    return Judged(pvalues.size, float(np.minimum(1.0, 2 * nearest * pvalues.size)), float(uniform))


def of_counts(counts: NDArray[Any], n: Any, p: Any) -> PValues:
    """Return the p-values of numbers of successes in n trials with probability p."""
    return of_discrete(stats.binom.cdf(counts - 1, n, p), stats.binom.pmf(counts, n, p))


def of_discrete(below: NDArray[Any], here: NDArray[Any]) -> PValues:
    """Draw a p-value from each value's range: `below` is the probability of a lesser value, `here` that of the value itself."""
    drawn = np.random.default_rng(below.size).random(below.shape)
    return np.asarray(below + drawn * here, np.float64)


def of_scores(scores: NDArray[Any]) -> PValues:
    """Return the p-values of standard scores."""
    return np.asarray(special.ndtr(scores), np.float64)


# Algebra ------------------------------------------------------------------------------------------------------------


def binary_rank(mask: Mask, size: int) -> PValues:
    """Test the ranks of `size` matrices of 64 x 64 bits."""
    bits = mask(size * 64 * 64, 0.5, seed=1)
    ranks = ranks_of(np.packbits(bits, bitorder="little").view(np.uint64).reshape(size, 64))
    probabilities = np.array([probability_of_rank(rank, 64) for rank in range(65)])
    return of_discrete(np.cumsum(probabilities)[ranks] - probabilities[ranks], probabilities[ranks])


def ranks_of(rows: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the ranks of matrices over the field of two elements; each word is a row."""
    rows, every = rows.copy(), np.arange(len(rows))
    used = np.zeros(rows.shape, bool)
    for column in range(64):
        candidates = (rows >> np.uint64(column) & np.uint64(1)).astype(bool) & ~used
        pivot = candidates.argmax(axis=1)
        used[every, pivot] |= candidates.any(axis=1)
        rows ^= np.where(candidates, rows[every, pivot][:, None], np.uint64(0))
    ranks: NDArray[np.int64] = used.sum(axis=1)
    return ranks


def probability_of_rank(rank: int, n: int) -> float:
    """Return the probability that an n x n matrix of random bits has this rank."""
    found = 2.0 ** (rank * (2 * n - rank) - n * n)
    for i in range(rank):
        found *= (1 - 2.0 ** (i - n)) ** 2 / (1 - 2.0 ** (i - rank))
    return found


def linear_complexity(mask: Mask, size: int) -> PValues:
    """Test the linear complexities of `size` blocks of 512 bits, and of a thousandth as many of 8,192 bits."""
    return np.concatenate([complexities(mask, size, 512), complexities(mask, max(1, size // 1000), 2**13, offset=1)])


def complexities(mask: Mask, size: int, n: int, offset: int = 0) -> PValues:
    blocks = np.packbits(mask(size * n, 0.5, seed=2, offset=offset).reshape(size, n), axis=1, bitorder="little")
    found = np.array([complexity(int.from_bytes(block.tobytes(), "little"), n) for block in blocks])
    after = found - n // 2  # 0 with probability 1/2, k > 0 with 4**-k, k < 0 with 2 * 4**(k - 1)
    share = 4.0 ** -np.abs(after)
    here = np.where(after > 0, share, share / 2)
    below = np.where(after > 0, 1 - 4 / 3 * share, share / 6)
    return of_discrete(below, here)


def complexity(bits: int, n: int) -> int:
    """Return the length of the shortest linear feedback shift register that gives n bits (Berlekamp and Massey)."""
    connection, previous, length, since, window = 1, 1, 0, 1, 0
    for k in range(n):
        window = window << 1 | (bits >> k & 1)
        if (connection & window).bit_count() & 1:
            before, connection = connection, connection ^ previous << since
            if 2 * length <= k:
                length, previous, since = k + 1 - length, before, 0
        since += 1
    return length


# Correlations -------------------------------------------------------------------------------------------------------


def signs(kept: NDArray[np.bool_], p: float = 0.5) -> NDArray[np.float32]:
    """Return numbers of mean 0 and variance 1 in place of the elements."""
    return np.where(kept, np.float32(np.sqrt(p / (1 - p))), np.float32(-np.sqrt((1 - p) / p)))


def autocorrelation(mask: Mask, size: int, p: float = 0.5) -> PValues:
    """Test the correlations of `size` elements with those up to 4,096 places away."""
    spectrum = np.fft.rfft(signs(mask(size, p, seed=3), p).astype(np.float64))
    return of_scores(np.fft.irfft(np.abs(spectrum) ** 2, size)[1:4097] / np.sqrt(size))


def autocorrelation_of_few(mask: Mask, size: int) -> PValues:
    """Do the same test on a mask that drops one element in ten."""
    return autocorrelation(mask, size, 0.1)


PLANES = 6
SHIFTS = (0, 1, 2, 31, 32, 127, 128, 129, 4096)


def planes(mask: Mask, size: int) -> PValues:
    """Test the correlations of each pair of the first binary digits of the elements' numbers, at several distances."""
    digits = [plane(mask, size, j) for j in range(PLANES)]
    pairs = [(a, b, shift) for a in range(PLANES) for b in range(PLANES) if a != b for shift in SHIFTS]
    agreements = [np.count_nonzero(digits[a][: size - shift] == digits[b][shift:]) for a, b, shift in pairs]
    return of_counts(np.array(agreements), np.array([size - shift for _, _, shift in pairs]), 0.5)


def plane(mask: Mask, n: int, j: int) -> NDArray[np.bool_]:
    """Return digit j of each element's number: the parity of how many positive multiples of 2**-(j+1) it reaches."""
    found = np.zeros(n, bool)
    for multiple in range(1, 2 ** (j + 1)):
        found ^= mask(n, multiple / 2 ** (j + 1), seed=4)
    return found


def one_hot_keys(mask: Mask, size: int) -> PValues:
    """Test the correlations of `size` elements under each pair of 129 keys: 0, and each bit of the seed and the offset."""
    keys = [(0, 0), *((2**bit, 0) for bit in range(64)), *((0, 2**bit) for bit in range(64))]
    rows = np.stack([signs(mask(size, 0.5, seed=seed, offset=offset)) for seed, offset in keys])
    return of_pairs(rows)


def of_pairs(rows: NDArray[np.float32]) -> PValues:
    """Return the p-values of the correlations of each pair of rows of signs. Their products are exact sums of 1 and -1."""
    number, size = rows.shape
    return of_counts((size + (rows @ rows.T)[np.triu_indices(number, 1)]) // 2, size, 0.5)


# Families of keys: a row of 256 elements of each ---------------------------------------------------------------------

ROW = 256


def rows_of(mask: Mask, keys: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    return np.stack([mask(ROW, 0.5, seed=seed, offset=offset) for seed, offset in keys])


def family(keys: Callable[[int], Sequence[tuple[int, int]]]) -> Callable[[Mask, int], PValues]:
    """Return the test of a family of keys: of neighbours, of numbers that differ in one bit, of each element over the keys."""

    def test(mask: Mask, size: int) -> PValues:
        rows = rows_of(mask, keys(size))
        numbers = np.arange(size)
        partners = [numbers ^ 2**bit for bit in range(1, size.bit_length() - 1)]
        agreements = [(rows[:-1] == rows[1:]).sum(axis=1)]
        agreements += [(rows == rows[other])[numbers < other].sum(axis=1) for other in partners]
        sums = [found.sum() for found in agreements]
        counts = np.concatenate([*agreements, sums, rows.sum(axis=0)])
        trials = [*(np.full(found.size, ROW) for found in agreements), [ROW * found.size for found in agreements]]
        return np.concatenate([of_counts(counts, np.concatenate([*trials, np.full(ROW, size)]), 0.5), of_pairs(signs(rows.T))])

    return test


neighbouring_seeds = family(lambda size: [(seed, 0) for seed in range(size)])
neighbouring_offsets = family(lambda size: [(5, offset) for offset in range(size)])
folded_keys = family(lambda size: [(fastdrop.fold_in(6, data), 0) for data in range(size)])


# Rates --------------------------------------------------------------------------------------------------------------


def counts_of_dropped(mask: Mask, size: int) -> PValues:
    """Test the numbers of dropped elements for `size` pairs of a seed and a rate: uniform, near 0, and near 1."""
    draw = np.random.default_rng(7)
    n = 2**16
    small = 10 ** draw.uniform(-4, 0, size)
    rates = np.choose(np.arange(size) % 3, [draw.random(size), small, 1 - small])
    seeds = draw.integers(0, 2**64, size, dtype=np.uint64)
    counts = [n - np.count_nonzero(mask(n, float(p), seed=int(seed))) for p, seed in zip(rates, seeds, strict=True)]
    return of_counts(np.array(counts), n, rates)


# The table ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Test:
    """A test, and its sizes for `fastdrop verify --long` and for the record."""

    function: Callable[[Mask, int], PValues]
    light: int
    full: int


TESTS = {
    "binary rank": Test(binary_rank, 2_000, 40_000),
    "linear complexity": Test(linear_complexity, 1_000, 20_000),
    "autocorrelation, p = 0.5": Test(autocorrelation, 2**20, 2**25),
    "autocorrelation, p = 0.1": Test(autocorrelation_of_few, 2**20, 2**25),
    "planes": Test(planes, 2**18, 2**23),
    "one-hot keys": Test(one_hot_keys, 2**14, 2**20),
    "neighbouring seeds": Test(neighbouring_seeds, 2**12, 2**16),
    "neighbouring offsets": Test(neighbouring_offsets, 2**12, 2**16),
    "folded keys": Test(folded_keys, 2**12, 2**16),
    "counts of dropped": Test(counts_of_dropped, 1_000, 10_000),
}
