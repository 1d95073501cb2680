"""The rate of DropBlock's seeds against exact sums, and the mean factor of Concrete Dropout against quadrature."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.integrate
import scipy.special

from fastdrop import theory
from fastdrop.variants._blocks import chance_of_any, expected_dropped, solve_rate

# Rates of DropBlock --------------------------------------------------------------------------------------------------


def expected_share(gamma, spatial, block):
    """Return the expected share of cells dropped: for each cell, the places that cover it counted one by one."""
    places = list(itertools.product(*(range(size - length + 1) for size, length in zip(spatial, block, strict=True))))
    total = Fraction(0)
    for cell in itertools.product(*map(range, spatial)):
        n = sum(all(p <= c < p + b for p, c, b in zip(place, cell, block, strict=True)) for place in places)
        total += 1 - (1 - Fraction(gamma)) ** n
    return float(total / math.prod(spatial))


@pytest.mark.parametrize("p", [1e-12, 0.1, 0.5, 0.999])
@pytest.mark.parametrize(("spatial", "block"), [((14, 14), (7, 7)), ((5, 9), (4, 3)), ((3, 4, 5), (2, 2, 2)), ((11,), (11,))])
def test_the_exact_gamma_solves_its_equation(spatial, block, p):
    gamma = theory.drop_block_gamma(p, spatial, block, exact_rate=True)
    assert expected_share(gamma, spatial, block) == pytest.approx(p, rel=1e-13)


@pytest.mark.parametrize("p", [1e-300, 1e-12, 0.1, 1 / 3, 0.7, 1 - 2**-53])
def test_the_last_bit_of_the_exact_gamma(p):
    """Where one place covers all cells gamma is p itself; elsewhere the next double below drops too little."""
    assert theory.drop_block_gamma(p, (8,), 8, exact_rate=True) == p
    n, cells = np.array([1, 2, 3]), np.array([2.0, 2.0, 4.0])
    gamma = solve_rate(p, n, cells)
    assert expected_dropped(np.nextafter(gamma, 0), n, cells) < p * 8 <= expected_dropped(gamma, n, cells)
    assert chance_of_any(gamma, n[:1]) == gamma


def test_the_papers_gamma():
    assert theory.drop_block_gamma(0.1, (14, 14), 7) == pytest.approx(0.1 / 49 * 14**2 / 8**2, rel=1e-15)
    assert theory.drop_block_gamma(0.2, (5, 9, 4), (2, 3, 9)) == pytest.approx(0.2 * 180 / 24 / (4 * 7 * 1), rel=1e-15)
    assert expected_share(theory.drop_block_gamma(0.1, (14, 14), 7), (14, 14), (7, 7)) == pytest.approx(0.0929, abs=5e-5)
    assert theory.drop_block_gamma(1.0, (14, 14), 1) == 1.0


@pytest.mark.parametrize("spatial", [(10**12,), (2**40, 2**40), (10**6, 4)])
def test_the_rate_of_huge_maps_is_found_at_once(spatial):
    for exact_rate in (False, True):
        assert 0.09 / 9 < theory.drop_block_gamma(0.1, spatial, (9, 1)[: len(spatial)], exact_rate=exact_rate) < 0.12 / 9


def test_an_equation_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="an equation of at most 1048576 terms"):
        theory.drop_block_gamma(0.1, (2**21 + 1,), 2**20 + 1, exact_rate=True)


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ValueError, "spatial", {"spatial": (3, 0)}),
        (TypeError, "spatial", {"spatial": 14}),
        (TypeError, "spatial", {"spatial": "14"}),
        (TypeError, "spatial", {"spatial": (True, 3)}),
        (ValueError, "spatial must be one to three sizes", {"spatial": ()}),
        (ValueError, "spatial must be one to three sizes", {"spatial": (2, 2, 2, 2)}),
        (ValueError, "below 2", {"spatial": (2**63,)}),
        (ValueError, "block_size", {"block_size": 2**64}),
        (TypeError, "exact_rate must be True or False", {"exact_rate": None}),
        (ValueError, "p must be in", {"p": 2}),
    ],
)
def test_bad_rates_of_blocks(error, words, arguments):
    with pytest.raises(error, match=words):
        theory.drop_block_gamma(**{"p": 0.1, "spatial": (5, 5), "block_size": 2, **arguments})


# Concrete dropout ---------------------------------------------------------------------------------------------------


def concrete_mean_by_bisection(p, t):
    """Integrate over u with adaptive quadrature, cut where the decision turns."""
    turn = np.log((1 - p) / p)
    cuts = sorted({-60.0, 60.0, *(turn + t * np.array([-40, -20, -5, -1, 0, 1, 5, 20, 40])), -5.0, 0.0, 5.0})

    def integrand(v):
        return scipy.special.expit(v) * scipy.special.expit(-v) * scipy.special.expit((turn - v) / t)

    parts = [scipy.integrate.quad(integrand, a, b, epsabs=0, epsrel=1e-13, limit=200)[0] for a, b in itertools.pairwise(cuts)]
    return math.fsum(parts) / (1 - p)


@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")
@pytest.mark.parametrize("t", [1e-3, 0.1, 2 / 3, 1.0, 3.0, 40.0])
@pytest.mark.parametrize("p", [1e-6, 0.1, 0.2, 0.5, 0.9, 0.99, 1 - 1e-6])
def test_concrete_mean(p, t):
    assert math.isclose(theory.concrete_mean(p, t), concrete_mean_by_bisection(p, t), rel_tol=1e-12)


def test_concrete_mean_at_the_ends():
    assert theory.concrete_mean(0.0, 0.1) == 1
    assert math.isclose(theory.concrete_mean(0.5, 0.3), 1, rel_tol=1e-15)
    assert [round(theory.concrete_mean(p, 2 / 3), 2) for p in (0.9, 0.99)] == [1.45, 2.01]
    limit = math.pi * 0.4 / math.sin(math.pi * 0.4)
    assert math.isclose(theory.concrete_mean(1 - 1e-12, 0.4), limit, rel_tol=1e-10)
    for bad, error in (((1.0, 0.1), ValueError), ((-0.1, 0.1), ValueError), ((0.5, 0), ValueError), (("0.5", 0.1), TypeError)):
        with pytest.raises(error, match="must be"):
            theory.concrete_mean(*bad)
