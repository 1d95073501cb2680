"""Numbers of the masks of single techniques: the rate of DropBlock's seeds, the mean factor of Concrete Dropout."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastdrop._core import plan
from fastdrop._core.checks import as_positive_number
from fastdrop._core.concrete import soft_keep_mean
from fastdrop._core.plan import rounding_to_nearest
from fastdrop.variants._blocks import check_block_size, check_map_sizes, seed_rate

__all__ = ["concrete_mean", "drop_block_gamma"]


@rounding_to_nearest
def drop_block_gamma(
    p: float, spatial: Sequence[int], block_size: int | Sequence[int] = 7, *, exact_rate: bool = False
) -> float:
    """Return the probability that `fastdrop.drop_block` makes a position of a feature map the seed of a block.

    Parameters
    ----------
    p : float
        The intended share of dropped elements, in [0, 1].
    spatial : sequence of int
        The size of the map along each of its one to three dimensions, at least 1.
    block_size : int or sequence of int, default 7
        As in `fastdrop.drop_block`.
    exact_rate : bool, default False
        False: the paper's formula. True: the solution of an equation, so that the expected share dropped is `p`.

    Returns
    -------
    float
        In [0, 1], the same to the bit everywhere.

    Raises
    ------
    TypeError, ValueError
        As in `fastdrop.drop_block`; and for a map and a block whose equation would have more than 2**20 terms.

    Notes
    -----
    With sizes F and blocks of b, the paper's gamma is p prod(F) / prod(b) / prod(F - b + 1). The exact gamma is the least
    float64 number that solves

        mean over the cells of (1 - (1 - gamma)**n) = p

    where n is the number of positions whose block covers the cell. It is found by bisection and cached.

    Examples
    --------
    >>> from fastdrop import theory
    >>> theory.drop_block_gamma(0.1, (14, 14), 7)
    0.00625
    >>> round(theory.drop_block_gamma(0.1, (14, 14), 7, exact_rate=True), 6)
    0.006764
    """
    rate, sizes = plan.as_rate(p), check_map_sizes(spatial)
    return seed_rate(rate, sizes, check_block_size(block_size, sizes), plan.check_flag(exact_rate, "exact_rate"))


@rounding_to_nearest
def concrete_mean(p: float, temperature: float) -> float:
    """Return the mean of (1 - s) / (1 - p), the factor that `concrete_dropout` multiplies elements by.

    It is the ratio of the mean of the result to that of the input. `concrete_dropout` with ``exact_mean=True`` divides by
    this ratio.

    Parameters
    ----------
    p : float
        The rate of dropping, in [0, 1).
    temperature : float
        The softness of the decisions, above 0.

    Returns
    -------
    float
        The mean, with a relative error below 1e-12. It is 1 for p = 0 and p = 0.5, below 1 between them and above 1 for larger
        p. As p tends to 1, it tends to pi t / sin(pi t) if the temperature t is below 1, and has no bound otherwise.

    Raises
    ------
    TypeError, ValueError
        `p` is outside [0, 1), or `temperature` is not above 0.

    Notes
    -----
    The decision to drop is s = sigmoid((logit(p) + logit(u)) / t) for a uniform number u. The mean of 1 - s is the integral
    over v = logit(u) of the logistic density times sigmoid(-(logit(p) + v) / t). Gauss-Legendre quadrature computes it on both
    sides of v = -logit(p). The mean does not include the small epsilon of the authors' code; that of `concrete_dropout` does.

    References
    ----------
    .. [1] Y. Gal, J. Hron, A. Kendall, "Concrete dropout", NIPS 2017.

    Examples
    --------
    >>> import fastdrop.theory
    >>> [round(fastdrop.theory.concrete_mean(p, 2 / 3), 4) for p in (0.1, 0.5, 0.9, 0.99)]
    [0.9497, 1.0, 1.4529, 2.0125]
    """
    rate, t = plan.as_rate(p), as_positive_number(temperature, "temperature")
    if rate == 1.0:
        raise ValueError("p must be in [0, 1) here: the mean has no value for p = 1")
    if rate == 0.0:
        return 1.0
    keep = 1.0 - rate
    return soft_keep_mean(keep, math.log(rate / keep), t, 0.0).value / keep
