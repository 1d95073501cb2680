"""The noise of the weights in variational dropout, and the weights that it makes superfluous."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core.checks import as_finite_scalar, as_real_array, required
from fastdrop._core.plan import Call, rounding_to_nearest
from fastdrop._core.types import Backend
from fastdrop.variants._variational import BOUNDS, find_pruned, unclipped_log_alpha

__all__ = ["log_alpha", "log_alpha_backward", "prune"]


@rounding_to_nearest
def log_alpha(
    weight: ArrayLike,
    log_sigma2: ArrayLike,
    *,
    out: NDArray[Any] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return log alpha = log(sigma**2 / weight**2) of each weight, clipped to [-8, 8].

    Parameters
    ----------
    weight : array_like of float32, float64, float16 or bfloat16
        The means, of any shape.
    log_sigma2 : array_like
        The logarithms of the variances, of the shape and dtype of `weight`.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `weight`; it is 8 where a mean is 0. The bits are the same everywhere.

    Raises
    ------
    TypeError, ValueError
        Dtypes or shapes do not fit together.

    References
    ----------
    .. [1] D. Molchanov, A. Ashukha, D. Vetrov, "Variational dropout sparsifies deep neural networks", ICML 2017.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.theory.log_alpha(np.array([1.0, 0.01, 0.0]), np.array([-10.0, -5.0, -10.0])).round(4)
    array([-8.    ,  4.2103,  8.    ])
    """
    call = Call(training=False, out=out, backend=backend, num_threads=num_threads)
    with call.arrays(weight, name="weight", log_sigma2=required(log_sigma2, "log_sigma2")) as run:
        found = unclipped_log_alpha(np.asarray(run.x).astype(run.compute), run.others[0].astype(run.compute))
        return run.store(np.clip(found, *BOUNDS))


@rounding_to_nearest
def log_alpha_backward(
    grad: ArrayLike,
    weight: ArrayLike,
    log_sigma2: ArrayLike,
    *,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the gradients of `log_alpha` with respect to means and logarithms of variances.

    Parameters
    ----------
    grad : array_like of real numbers
        The gradient with respect to log alpha, of the shape of `weight`: `fastdrop.losses.variational_kl_backward` returns it.
    weight, log_sigma2, backend, num_threads
        As in `log_alpha`.

    Returns
    -------
    tuple of two numpy.ndarray
        Of the shape and dtype of `weight`: -2 grad / weight and grad; both 0 where log alpha was clipped, also at means of 0.

    Raises
    ------
    TypeError, ValueError
        As in `log_alpha`; and for a `grad` of another shape.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> weight, log_sigma2 = np.array([0.5, 0.0]), np.array([-4.0, -4.0])
    >>> slopes = fastdrop.losses.variational_kl_backward(fastdrop.theory.log_alpha(weight, log_sigma2))
    >>> dweight, dlog_sigma2 = fastdrop.theory.log_alpha_backward(slopes, weight, log_sigma2)
    >>> dweight.round(4), dlog_sigma2.round(4)
    (array([2.2565, 0.    ]), array([-0.5641,  0.    ]))
    """
    outer = as_real_array(grad, "grad", flags=False)
    with Call(training=False, backend=backend, num_threads=num_threads).arrays(
        weight, name="weight", log_sigma2=required(log_sigma2, "log_sigma2")
    ) as run:
        means = np.asarray(run.x).astype(run.compute)
        if outer.shape != means.shape:
            raise ValueError(f"grad must have the shape of weight, {means.shape}; got {outer.shape}")
        found = unclipped_log_alpha(means, run.others[0].astype(run.compute))
        inside = (found >= BOUNDS[0]) & (found <= BOUNDS[1])
        slopes = np.where(inside, outer, 0).astype(run.compute)
        dweight = np.divide(-(slopes + slopes), means, out=np.zeros_like(means), where=inside)
        return dweight.astype(run.x.dtype), slopes.astype(run.x.dtype)


@rounding_to_nearest
def prune(
    weight: ArrayLike,
    log_sigma2: ArrayLike,
    prune_above: float = 3.0,
    *,
    out: NDArray[Any] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return weights with 0 in place of those with too much noise, and the flags of the kept weights.

    Parameters
    ----------
    weight, log_sigma2
        As in `log_alpha`.
    prune_above : float, default 3
        Weights whose log alpha, not clipped, is not below this number are pruned. 3 is the dropout rate 0.95.
    out, backend, num_threads
        As in `dropout`; `out` takes the weights.

    Returns
    -------
    tuple of two numpy.ndarray
        The weights, `out` or a new array like `weight`; and a bool per weight, True where it was kept. A NaN is kept.

    Raises
    ------
    TypeError, ValueError
        As in `log_alpha`; and for a `prune_above` that is not a finite number.

    References
    ----------
    .. [1] D. Molchanov, A. Ashukha, D. Vetrov, "Variational dropout sparsifies deep neural networks", ICML 2017.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.theory.prune(np.array([1.0, 0.01]), np.array([-4.0, -4.0]))
    (array([1., 0.]), array([ True, False]))
    """
    least = as_finite_scalar(prune_above, "prune_above")
    call = Call(training=False, out=out, backend=backend, num_threads=num_threads)
    with call.arrays(weight, name="weight", log_sigma2=required(log_sigma2, "log_sigma2")) as run:
        means, log_variances = np.asarray(run.x).astype(run.compute), run.others[0].astype(run.compute)
        pruned = find_pruned(means, log_variances, least)
        made = run.store(run.x)
        made[pruned] = 0
        return made, np.asarray(~pruned)
