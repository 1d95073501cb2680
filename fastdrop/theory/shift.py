"""How much smaller the variance of activations is at inference than in training with dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastdrop._core.checks import as_finite_number, as_floats
from fastdrop._core.plan import rounding_to_nearest
from fastdrop.theory.noise import Floats, noise_variance

__all__ = ["variance_inflation", "variance_shift"]


@rounding_to_nearest
def variance_shift(
    p: ArrayLike | None = None,
    mean: ArrayLike = 0.0,
    var: ArrayLike = 1.0,
    *,
    half_width: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    correlation: float = 0.0,
) -> Any:
    """Return the variance of activations at inference divided by their variance in training with dropout.

    A batch normalization that follows dropout divides by the wrong variance at inference: its running variance is that of
    training.

    Parameters
    ----------
    p : float or array_like, optional
        Probability of dropping, in [0, 1]. Give either `p` or `half_width`. The result holds for both modes of `dropout`, and
        for Gaussian noise of the variance p / (1 - p).
    mean, var : float or array_like, default 0 and 1
        Mean and variance of the activations without dropout; `var` is above 0.
    half_width : float or array_like, optional
        The half width of uniform noise instead of dropout, >= 0.
    weights : array_like, optional
        The weights of a linear layer between dropout and the normalization, of shape (in,), or of shape (in, out) for one
        result per output. By default there is no layer between them.
    correlation : float, default 0
        The correlation of any two activations that `weights` add up, in [-1, 1].

    Returns
    -------
    float or numpy.ndarray
        The ratio, in [0, 1], of the shape that the arguments broadcast to. It is 0 where p is 1.

    Raises
    ------
    TypeError
        An argument is not a real number, or not exactly one of `p` and `half_width` is given.
    ValueError
        A number is out of range, shapes do not fit together, or so many activations cannot have this correlation.

    See Also
    --------
    variance_inflation : the inverse.

    Notes
    -----
    For activations of mean c, variance v and correlation rho, multiplied by noise of mean 1 and variance a, the ratio is

        v (1 + rho K) / (v (1 + rho K) + a (c**2 + v)),    K = (sum w)**2 / sum(w**2) - 1.

    Here a is p / (1 - p) for dropout and half_width**2 / 3 for uniform noise, and K is 0 without weights.

    References
    ----------
    .. [1] X. Li, S. Chen, X. Hu, J. Yang, "Understanding the disharmony between dropout and batch normalization by
       variance shift", CVPR 2019.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.theory.variance_shift(0.5)
    0.5
    >>> fastdrop.theory.variance_shift(0.5, mean=1.0, var=2.0)
    0.4
    >>> round(fastdrop.theory.variance_shift(0.5, weights=[1.0, 1.0, 1.0], correlation=0.5), 3)
    0.667
    >>> fastdrop.theory.variance_shift(half_width=[0.1, 0.3]).round(4)
    array([0.9967, 0.9709])
    """
    signal, excess = signal_and_excess(noise_variance(p, half_width), mean, var, weights, correlation)
    return float_or_array(np.where(np.isinf(excess), 0.0, signal / (signal + excess)))


@rounding_to_nearest
def variance_inflation(
    p: ArrayLike | None = None,
    mean: ArrayLike = 0.0,
    var: ArrayLike = 1.0,
    *,
    half_width: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    correlation: float = 0.0,
) -> Any:
    """Return the factor by which dropout multiplies the variance of activations in training.

    Parameters
    ----------
    p, mean, var, half_width, weights, correlation
        As in `variance_shift`.

    Returns
    -------
    float or numpy.ndarray
        1 / `variance_shift`. Without weights it is 1 + a (1 + mean**2 / var) for noise of the variance a. It is infinite
        where p is 1.

    Raises
    ------
    TypeError, ValueError
        As in `variance_shift`.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.theory.variance_inflation(0.5, mean=1.0, var=2.0)
    2.5
    """
    signal, excess = signal_and_excess(noise_variance(p, half_width), mean, var, weights, correlation)
    return float_or_array(1.0 + excess / signal)


def signal_and_excess(
    noise: Floats, mean: ArrayLike, var: ArrayLike, weights: ArrayLike | None, correlation: Any
) -> tuple[Floats, Floats]:
    """Return the variance without noise and the variance that noise adds, both over the sum of the squared weights.

    Both are also divided by a power of 4, because they would be infinite for a large variance.
    """
    c, v, rho = as_floats(mean, "mean"), as_floats(var, "var"), as_finite_number(correlation, "correlation")
    if not (np.isfinite(c).all() and ((v > 0) & (v < np.inf)).all()):
        raise ValueError(f"mean must be finite, and var finite and above 0; got {mean!r} and {var!r}")
    if not -1 <= rho <= 1:
        raise ValueError(f"correlation must be in [-1, 1]; got {correlation!r}")
    common = shared_variance(weights)
    if not (1.0 + rho * common > 0).all():
        raise ValueError(f"correlation {correlation!r} is not possible with these weights: the variance would not be above 0")
    half = np.frexp(v)[1] // 2
    try:
        m, s = np.ldexp(c, -half), np.ldexp(v, -2 * half)
        signal, excess = s * (1.0 + rho * common), np.where(noise == 0, 0.0, noise * (m * m + s))  # no 0 times infinity
        np.add(signal, excess)  # raises an error unless the shapes broadcast; broadcast_shapes takes 32 axes only
        return signal, excess
    except ValueError:
        shapes = [np.shape(each) for each in (noise, c, v, common)]
        raise ValueError(f"p, mean, var and the outputs of weights must broadcast; got the shapes {shapes}") from None


def shared_variance(weights: ArrayLike | None) -> Floats:
    """Return K = (sum w)**2 / sum(w**2) - 1 of each output; a correlation rho makes its variance 1 + rho K times as large."""
    if weights is None:
        return np.asarray(0.0)
    w = as_floats(weights, "weights")
    if w.ndim not in (1, 2) or not np.isfinite(w).all() or not (w != 0).any(axis=0).all():
        raise ValueError("weights must have shape (in,) or (in, out), be finite, and not all be 0 for an output")
    w = np.ascontiguousarray(w.T)  # sums along the last axis have the same bits for one output and for many
    w = np.ldexp(w, -np.frexp(np.abs(w).max(axis=-1, keepdims=True, initial=0.0))[1])  # so that no square is infinite
    return np.asarray(w.sum(axis=-1) ** 2 / (w * w).sum(axis=-1) - 1.0)


def float_or_array(value: Any) -> Any:
    """Return a float for an array without dimensions."""
    return value if np.ndim(value) else float(value)
