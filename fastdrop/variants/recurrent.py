"""Regularizers of a recurrent network's state."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.types import Rate

__all__ = ["zoneout", "zoneout_backward"]


def weighted(x: NDArray[Any], weight: Any) -> NDArray[Any]:
    """Return x times the weight, each rounded to the compute type; 0 where that weight is 0, also of infinities."""
    compute_type = np.float64 if x.dtype == np.float64 else np.float32
    weight = np.asarray(weight, np.float64).astype(compute_type)
    return np.where(weight == 0, compute_type(0), weight * x.astype(compute_type))


def zoneout(
    new: ArrayLike,
    previous: ArrayLike,
    p: Rate,
    *,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Let units of a recurrent state keep their previous value at random.

    Parameters
    ----------
    new : array_like of float32, float64, float16 or bfloat16
        The state that the cell has computed, of any shape.
    previous : array_like
        The state of the step before, of the shape and dtype of `new`.
    p : float or numpy.ndarray
        Probability that a unit keeps its **previous** value, in [0, 1]: the paper's z. It has 0.5 for the cells and 0.05
        for the hidden states of its language model. An array broadcasts, as in `dropout`.
    seed, offset, backend, num_threads
        As in `dropout`. Each step and each state takes an offset of its own.
    training : bool, default True
        False gives the expected state, p previous + (1 - p) new.
    out : numpy.ndarray, optional
        Where to put the result; may be `new` or `previous` itself.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `new`. In training each element is one of the two, unchanged. Nothing is scaled.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and for a `previous` of another shape or dtype.

    Notes
    -----
    Unit i keeps its previous value where `dropout` with the same arguments would drop element i. Outside training p
    and 1 - p are rounded once to the type that is computed with (float32 for the 16-bit ones), each product once, the
    sum once, and the result once to the dtype; what has weight 0 counts as 0 even where it is infinite or NaN.

    In an LSTM the paper computes the new hidden state from the new cell state **before** that one is zoned out, and
    gives both masks of their own.

    References
    ----------
    .. [1] D. Krueger, T. Maharaj, J. Kramar, M. Pezeshki, N. Ballas, N. R. Ke, A. Goyal, Y. Bengio, A. Courville,
       C. Pal, "Zoneout: regularizing RNNs by randomly preserving hidden activations", ICLR 2017.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> new, previous = np.array([1.0, 2.0, 3.0, 4.0]), np.array([-1.0, -2.0, -3.0, -4.0])
    >>> fastdrop.zoneout(new, previous, 0.5, seed=42)
    array([ 1., -2., -3., -4.])
    >>> fastdrop.zoneout(new, previous, 0.25, training=False)
    array([0.5, 1. , 1.5, 2. ])
    """
    new = np.asanyarray(new)
    if training:
        return plan.transform(
            new, p, seed, offset, "select", None, previous, out, 0, backend, num_threads, None, "new", "previous"
        )
    plan.check(new, p, seed, offset, out, backend, num_threads, previous, "new", "previous")
    with plan.RoundToNearest(), np.errstate(all="ignore"):
        rate = np.asarray(p, np.float64)
        state = weighted(np.asarray(previous, new.dtype), rate) + weighted(new, 1.0 - rate)
        out = np.empty_like(new) if out is None else out
        out[...] = state
    return out


def zoneout_backward(
    grad: ArrayLike,
    p: Rate,
    *,
    seed: Any,
    offset: int = 0,
    training: bool = True,
    backend: str | None = None,
    num_threads: int | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the gradients of `zoneout` with respect to the new and the previous state.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to the result of `zoneout`, of the same shape.
    p, offset, training
        What the forward pass was given.
    seed : int, Stream, numpy.random.SeedSequence or numpy.random.Generator
        What the forward pass used, as in `dropout_backward`.
    backend, num_threads
        As in `dropout`.

    Returns
    -------
    grad_new, grad_previous : numpy.ndarray
        Two new arrays like `grad`. In training each element of `grad` goes to one of them, and the other has +0.0
        there; outside training they are (1 - p) grad and p grad, with 0 where the weight is 0.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `zoneout`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> grad_new, grad_previous = fastdrop.zoneout_backward(np.ones(4), 0.5, seed=42)
    >>> grad_new, grad_previous
    (array([1., 0., 0., 0.]), array([0., 1., 1., 1.]))
    """
    grad = np.asanyarray(grad)
    plan.check(grad, p, seed, offset, None, backend, num_threads, name="grad")
    if not training:
        with plan.RoundToNearest(), np.errstate(all="ignore"):
            rate = np.asarray(p, np.float64)
            to_new, to_previous = (weighted(grad, weight).astype(grad.dtype) for weight in (1.0 - rate, rate))
        return to_new, to_previous
    seed, offset = plan.key_of(seed, offset, True)
    nothing = np.zeros((), grad.dtype)
    zeros = np.broadcast_to(nothing, grad.shape)
    to_new = plan.dropout(grad, p, seed, offset, True, "standard", None, 0, backend, num_threads, True)
    to_previous = plan.transform(zeros, p, seed, offset, "select", None, grad, np.empty_like(grad), 0, backend, num_threads)
    return to_new, to_previous
