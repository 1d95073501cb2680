"""Statistical tests of the masks, with fixed seeds, so that no test fails by chance.

A p-value below `LEAST`, or a standard score beyond `MOST`, is a failure: a good generator has one in a million. The
thresholds were chosen before the seeds were tried.
"""

import itertools

import numpy as np
import pytest
from scipy import stats

import fastdrop

N = 2**20
LEAST = 1e-6
MOST = stats.norm.isf(LEAST / 2)  # 4.9


ONES = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)


def dropped(p, *, n=N, seed=1, offset=0, start=0):
    return ~fastdrop.dropout_mask(n, p, seed=seed, offset=offset, start=start)


def score_of_pairs(a, b, p):
    """Return the standard score of the correlation of two runs of independent events of probability p."""
    return float(np.sum((a - p) * (b - p)) / (np.sqrt(a.size) * p * (1 - p)))


def chi_square(counts, probabilities):
    """Return the p-value of counts of independent trials."""
    expected = counts.sum() * np.asarray(probabilities)
    return stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue


# The rate -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1e-4, 1e-3, 0.01, 0.1, 0.2, 0.25, 0.3, 0.5, 0.6, 0.75, 0.9, 0.99, 0.9999])
def test_rate(p):
    assert stats.binomtest(int(dropped(p).sum()), N, p).pvalue > LEAST


@pytest.mark.parametrize("p", [2**-16, 2**-20, 2**-23, 3e-8, 1 - 2**-20])
def test_tiny_rate(p):
    """Rates below 2**-23, the resolution of a float32 uniform, hold too: 2**28 elements, packed."""
    n = 2**28
    packed = fastdrop.dropout_mask(n, p, seed=2, packed=True)
    kept = int(ONES[packed].sum(dtype=np.int64))
    assert stats.binomtest(n - kept, n, p).pvalue > LEAST


@pytest.mark.parametrize("p", [0.1, 0.5, 0.7])
def test_rate_of_each_run(p):
    """The number of dropped elements in each run of 1024 is binomial: its spread is neither too small nor too large."""
    counts = dropped(p).reshape(-1, 1024).sum(axis=1)
    scores = (counts - 1024 * p) ** 2 / (1024 * p * (1 - p))
    total = stats.chi2(counts.size)
    assert LEAST < total.cdf(scores.sum()) < 1 - LEAST


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("period", [4, 8, 32, 64, 128, 4096])
def test_rate_of_each_position(p, period):
    counts = dropped(p).reshape(-1, period).sum(axis=0)
    trials = N // period
    total = np.sum((counts - trials * p) ** 2 / (trials * p * (1 - p)))
    assert LEAST < stats.chi2(period).cdf(total) < 1 - LEAST


# Neighbours: in one mask, in neighbouring offsets, in neighbouring seeds --------------------------------------------


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("lag", [1, 2, 3, 4, 5, 7, 8, 16, 31, 32, 33, 64, 127, 128, 129, 512, 4095, 4096, 2**17])
def test_neighbours_are_independent(p, lag):
    a = dropped(p)
    assert abs(score_of_pairs(a[:-lag], a[lag:], p)) < MOST


@pytest.mark.parametrize("p", [0.3, 0.5])
@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize("phase", [0, 1, 2, 3])
def test_joint_distribution_of_neighbours(p, size, phase):
    """All 2**size patterns of a group have the right probabilities; a mask shared by neighbours would have two patterns."""
    groups = dropped(p)[phase : phase + (N - size) // size * size].reshape(-1, size)
    counts = np.bincount(groups @ (1 << np.arange(size)), minlength=2**size)
    ones = ONES[: 2**size].astype(int)
    assert chi_square(counts, p**ones * (1 - p) ** (size - ones)) > LEAST


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_pairs_within_a_group_of_a_plane(p):
    """Each pair of the 128 positions of a Philox block is uncorrelated."""
    blocks = (dropped(p).reshape(-1, 128) - p) / np.sqrt(p * (1 - p))
    scores = (blocks.T @ blocks / np.sqrt(len(blocks)))[np.triu_indices(128, 1)]
    assert abs(scores).max() < stats.norm.isf(LEAST / 2 / scores.size)
    assert abs(scores.std() - 1) < MOST / np.sqrt(2 * scores.size)


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("step", [1, 2, 3, 2**31, 2**32, 2**63])
@pytest.mark.parametrize("what", ["seed", "offset"])
def test_neighbouring_seeds_and_offsets(p, step, what):
    for base in (0, 2**62):
        a, b = (dropped(p, **{"seed": 7, what: number}) for number in (base, base + step))
        assert abs(score_of_pairs(a, b, p)) < MOST


def test_one_element_over_many_offsets_and_seeds():
    for what, i in itertools.product(("seed", "offset"), (0, 1, 127, 128)):
        runs = np.array([dropped(0.5, n=1, start=i, **{"seed": 3, what: k}).item() for k in range(4096)])
        assert stats.binomtest(int(runs.sum()), runs.size, 0.5).pvalue > LEAST
        assert abs(score_of_pairs(runs[:-1], runs[1:], 0.5)) < MOST


def test_streams_children_are_independent():
    children = [dropped(0.5, n=2**16, seed=child.seed) for child in fastdrop.Stream(4).spawn(20)]
    for a, b in itertools.combinations(children, 2):
        assert abs(score_of_pairs(a, b, 0.5)) < MOST


# The numbers behind the masks ---------------------------------------------------------------------------------------


def test_masks_are_nested_in_the_rate():
    rates = [0.0, 2**-64, 2**-20, 0.1, 0.1 + 2**-56, 0.25, np.nextafter(0.25, 1), 0.3, 0.5, 0.9, 1 - 2**-53, 1.0]
    masks = [dropped(p, n=2**16) for p in rates]
    for smaller, larger in itertools.pairwise(masks):
        assert not (smaller & ~larger).any()
    assert not masks[0].any()
    assert masks[-1].all()


def test_the_number_behind_a_mask_is_uniform():
    """The number of evenly spaced rates, of 64, that drop an element gives the first six digits of its uniform number."""
    digits = np.sum([dropped(k / 64) for k in range(1, 64)], axis=0)
    assert chi_square(np.bincount(digits, minlength=64), np.full(64, 1 / 64)) > LEAST


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_words_and_masks_are_independent(p):
    a = dropped(p)
    b = fastdrop.uniform(N, seed=1) < p
    assert abs(score_of_pairs(a, b, p)) < MOST


# Uniforms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "digits"), [(np.float32, 24), (np.float64, 53)])
def test_uniforms_lie_on_their_lattice(dtype, digits):
    u = fastdrop.uniform(N, seed=5, dtype=dtype)
    numerators = np.ldexp(u.astype(np.float64), digits)
    assert u.dtype == dtype
    assert (numerators % 2 == 1).all()  # odd numbers of 2**-digits: the midpoints of equal parts
    assert numerators.min() >= 1
    assert numerators.max() <= 2**digits - 1


def test_uniforms_reach_both_ends_but_not_0_or_1():
    u = fastdrop.uniform(2**26, seed=6)
    assert 0 < u.min() < 2**-20
    assert 1 - 2**-20 < u.max() < 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_uniforms_are_uniform(dtype, seed):
    u = fastdrop.uniform(N, seed=seed, dtype=dtype)
    assert stats.kstest(u.astype(np.float64), "uniform").pvalue > LEAST
    assert abs(stats.norm.ppf(u[:4096].astype(np.float64)).mean()) * 64 < MOST


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lag", [1, 2, 3, 4, 8])
def test_neighbouring_uniforms_are_independent(dtype, lag):
    u = fastdrop.uniform(N, seed=7, dtype=dtype).astype(np.float64)
    score = np.sum((u[:-lag] - 0.5) * (u[lag:] - 0.5)) * 12 / np.sqrt(N - lag)
    assert abs(score) < MOST


@pytest.mark.parametrize("byte", range(4))
def test_bytes_of_words(byte):
    values = fastdrop.words(N, seed=8).view(np.uint8).reshape(N, 4)[:, byte]
    assert chi_square(np.bincount(values, minlength=256), np.full(256, 1 / 256)) > LEAST
