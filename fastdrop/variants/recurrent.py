"""Dropout of recurrent networks: one mask for all time steps, and states that keep their previous value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core.checks import required
from fastdrop._core.plan import Call, as_array, as_axes
from fastdrop._core.types import Backend, FixedSeed, Rate, Seed
from fastdrop.variants._backward import backward_of

__all__ = ["locked_dropout", "locked_dropout_backward", "zoneout", "zoneout_backward"]


def locked_dropout(
    x: ArrayLike,
    p: Rate = 0.5,
    *,
    shared_axes: int | Sequence[int] = 0,
    seed: Seed | None = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Drop the same features of a sequence at all time steps: variational dropout for recurrent networks.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        A batch of sequences; usually (time, samples, features) or (samples, time, features).
    p : float or numpy.ndarray, default 0.5
        Probability of dropping a feature of a sequence, as in `dropout`.
    shared_axes : int or sequence of int, default 0
        The axis of time, or several axes, along which one decision is shared: 0 as in the AWD-LSTM's ``LockedDropout``, 1 if
        the samples come first, as in Flair's.
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        As in `dropout`: kept features times 1 / (1 - p), dropped ones +0.0; outside training `x` itself.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and for `shared_axes` that `x` does not have.

    Notes
    -----
    The mask has the shape of `x` without its axis of time; feature d of sample b has the mask bit of index b D + d. The mask
    does not depend on the number of steps: with one key, every piece of a sequence gets the mask of the whole, and both orders
    of the axes give the same mask.

    References
    ----------
    .. [1] Y. Gal, Z. Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks",
       NIPS 2016.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.locked_dropout(np.ones((2, 3, 4), np.float32), 0.5, seed=42)
    >>> bool((y[0] == y[1]).all())
    True
    """
    x = as_array(x, "x")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    return call.drop(x, p, time_axes(x, shared_axes))


@backward_of(locked_dropout)
def locked_dropout_backward(
    grad: ArrayLike,
    p: Rate = 0.5,
    *,
    shared_axes: int | Sequence[int] = 0,
    seed: FixedSeed,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `locked_dropout` with respect to its input.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> dx = fastdrop.locked_dropout_backward(np.ones((2, 3, 4), np.float32), 0.5, seed=42)
    >>> dx[0]
    array([[2., 0., 0., 0.],
           [0., 2., 2., 0.],
           [2., 0., 0., 0.]], dtype=float32)
    """
    grad = as_array(grad, "grad")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    return call.drop(grad, p, time_axes(grad, shared_axes))


def time_axes(x: NDArray[Any], shared_axes: Any) -> Any:
    """Return the axes that share a decision; there must be at least one."""
    if type(shared_axes) is int:  # the usual case, which the plan checks
        return shared_axes
    axes = as_axes(shared_axes, x.ndim, "shared_axes")
    if not axes:
        raise ValueError("shared_axes must name at least one axis, that of time")
    return axes


# States -------------------------------------------------------------------------------------------------------------


def zoneout(
    new: ArrayLike,
    previous: ArrayLike,
    p: Rate,
    *,
    seed: Seed | None = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
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
        Probability that a unit keeps its **previous** value, in [0, 1]: the paper's z. The paper uses 0.5 for the cells
        and 0.05 for the hidden states of its language model. An array broadcasts, as in `dropout`.
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.
        Pass another offset for each step and each state. Outside training the result is the expected state,
        p previous + (1 - p) new. `out` may be `new` or `previous` itself.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `new`. In training each element is that of `new` or of `previous`. Nothing is scaled.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and for a `previous` of another shape or dtype.

    Notes
    -----
    Unit i keeps its previous value if `dropout` with the same arguments would drop element i. Outside training, p and 1 - p are
    rounded once to the compute type (float32 for the 16-bit ones), each product once, the sum once, and the result once to the
    dtype. A state with weight 0 counts as 0, even if it is infinite or NaN.

    In an LSTM, the paper computes the new hidden state from the new cell state **before** zoneout of the cell state, and uses
    separate masks for the two.

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
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    new, previous = as_array(new, "new"), required(previous, "previous")
    if call.is_training:
        return call.select(new, p, previous, names=("new", "previous"))
    with call.arrays(new, name="new", p=p, placed=new.shape, previous=previous) as run:
        to_new, to_previous = weights_of_states(p, run.compute)
        return run.store(weighted(run.others[0], to_previous) + weighted(run.x, to_new))


@backward_of(zoneout)
def zoneout_backward(
    grad: ArrayLike,
    p: Rate,
    *,
    seed: FixedSeed,
    offset: int = 0,
    training: bool = True,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the gradients of `zoneout` with respect to the new and the previous state.

    Returns
    -------
    dnew, dprevious : numpy.ndarray
        Two new arrays like `grad`. In training each element of `grad` goes to one of them, and the other has +0.0
        there; outside training they are (1 - p) grad and p grad, with 0 where the weight is 0.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> dnew, dprevious = fastdrop.zoneout_backward(np.ones(4), 0.5, seed=42)
    >>> dnew, dprevious
    (array([1., 0., 0., 0.]), array([0., 1., 1., 1.]))
    """
    grad = as_array(grad, "grad")
    call = Call(seed, offset, training, None, start, global_shape, global_start, backend, num_threads, True)
    if call.is_training:
        return call.drop(grad, p, mode="standard"), call.rest(grad, p)
    return expected_gradient(call, grad, p, 0), expected_gradient(call, grad, p, 1)


def expected_gradient(call: Call, grad: NDArray[Any], p: Rate, state: int) -> NDArray[Any]:
    """Return the gradient with respect to the new state (0) or the previous one (1) outside training."""
    with call.arrays(grad, p=p, placed=grad.shape) as run:
        return run.store(weighted(run.x, weights_of_states(p, run.compute)[state]))


def weights_of_states(p: Rate, compute: type[np.floating[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return 1 - p and p, rounded to the compute type."""
    rate = np.asarray(p, np.float64)
    return (1.0 - rate).astype(compute), rate.astype(compute)


def weighted(x: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
    """Return x times the weight, in the weight's type; 0 where the weight is 0, even if x is infinite or NaN there."""
    made: NDArray[Any] = np.where(weight == 0, weight.dtype.type(0), weight * np.asarray(x).astype(weight.dtype))
    return made
