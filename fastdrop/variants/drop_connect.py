"""DropConnect: a linear layer that drops connections, different ones per sample."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from numpy.typing import ArrayLike, NDArray

from fastdrop._core import numbers, plan
from fastdrop._core.numbers import Connections, Linear
from fastdrop._core.plan import Call
from fastdrop._core.types import Backend, FixedSeed, Per, Seed
from fastdrop.variants._backward import backward_of

__all__ = ["drop_connect", "drop_connect_backward"]


def drop_connect(
    x: ArrayLike,
    weight: ArrayLike,
    p: float = 0.5,
    *,
    bias: ArrayLike | None = None,
    per: Per = "sample",
    mode: Literal["inverted", "standard"] = "inverted",
    drop_bias: bool = True,
    seed: Seed | None = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Apply a linear layer and drop some of its connections, different ones per sample: DropConnect.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        The layer's input, of shape (N, in).
    weight : array_like
        Of shape (in, out) and the dtype of `x`.
    p : float, default 0.5
        Probability of dropping a connection, in [0, 1]. (The paper's p is the probability of keeping it.)
    bias : array_like, optional
        Of shape (out,) and the dtype of `x`.
    per : {"sample", "batch"}
        ``"sample"``: each sample has its own mask, as in the paper. ``"batch"``: one mask for all samples, as in most
        public code.
    mode : {"inverted", "standard"}
        ``"inverted"``: kept weights are scaled by 1 / (1 - p) in training, and unscaled outside training. ``"standard"``, as in
        the paper: kept weights are unscaled in training, and all weights are scaled by 1 - p outside training.
    drop_bias : bool, default True
        Whether the biases are dropped too, as in the paper.
    seed, offset, backend, num_threads
        As in `dropout`.
    training : bool, default True
        False: the result is the mean over all masks; but with p = 1 in inverted mode, it is the result with unchanged weights.
        `fastdrop.theory.drop_connect_moments` has the paper's inference.
    out : numpy.ndarray, optional
        Where to put the result: of shape (N, out) and the dtype of `x`.
    start : int, default 0
        The index of the first sample of `x` in a larger batch. It has no effect with ``per="batch"``, where all samples have
        the same mask.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array of shape (N, out) and the dtype of `x`, to which the result is rounded once; float16 and
        bfloat16 are computed in float32.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and for shapes or dtypes that do not fit together, an unknown `per` or `mode`.

    See Also
    --------
    drop_connect_backward : the gradients.
    fastdrop.theory.drop_connect_moments : mean and variance over all masks.

    Notes
    -----
    The connection from input i to output o of sample n is dropped if U(j) < p, with j = (n in + i) out + o; with
    ``per="batch"``, j = i out + o. The bias of output o has the index n out + o (with ``per="batch"``, o) under the seed
    ``fold_in(seed, "bias")`` and the same offset. A dropped connection has the weight 0: with an infinite input the output is
    NaN. Masks and masked weights are the same to the bit everywhere. With one mask per sample, at least 4 outputs and at most
    4,096 weights, products are added in the order of the inputs, with the same bits everywhere. NumPy's BLAS computes the other
    products, so their last bits may differ between machines.

    References
    ----------
    .. [1] L. Wan, M. Zeiler, S. Zhang, Y. LeCun, R. Fergus, "Regularization of neural networks using DropConnect",
       ICML 2013.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.drop_connect(np.ones((2, 2), np.float32), np.ones((2, 2), np.float32), 0.5, seed=42)
    array([[2., 0.],
           [2., 2.]], dtype=float32)
    """
    layer, rule = Linear(x, weight, bias), check_rule(p, per, mode, drop_bias, start)
    call = Call(seed, offset, training, out, rule.first_sample * layer.weight.size, None, None, backend, num_threads)
    return numbers.connect(Connections(call, layer, rule))


@backward_of(drop_connect)
def drop_connect_backward(
    grad: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    p: float = 0.5,
    *,
    bias: ArrayLike | None = None,
    per: Per = "sample",
    mode: Literal["inverted", "standard"] = "inverted",
    drop_bias: bool = True,
    seed: FixedSeed,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    """Return the gradients of `drop_connect` with respect to its input, weights and biases.

    Parameters
    ----------
    grad : array_like
        The gradient with respect to the result of `drop_connect`, of shape (N, out) and the dtype of `x`.
    bias : array_like, optional
        As in the forward pass. Its values are not used.
    out : numpy.ndarray, optional
        Where to put the gradient with respect to `x`: of its shape and dtype.

    Returns
    -------
    tuple of (numpy.ndarray, numpy.ndarray, numpy.ndarray or None)
        The gradients with respect to `x`, `weight` and `bias`, each of its shape and the dtype of `x`. The last is None without
        a `bias`.

    Notes
    -----
    As in `drop_connect`, the last bits of the matrix products and of the sums over samples may differ between machines.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x, weight, grad = np.ones((2, 2), np.float32), np.ones((2, 1), np.float32), np.ones((2, 1), np.float32)
    >>> dx, dweight, dbias = fastdrop.drop_connect_backward(grad, x, weight, 0.5, seed=42)
    >>> dx, dweight, dbias
    (array([[2., 0.],
           [0., 0.]], dtype=float32), array([[2.],
           [0.]], dtype=float32), None)
    """
    layer, rule = Linear(x, weight, bias), check_rule(p, per, mode, drop_bias, start)
    outer = layer.grad_rows(grad)
    call = Call(seed, offset, training, out, rule.first_sample * layer.weight.size, None, None, backend, num_threads, True)
    return numbers.connect_backward(Connections(call, layer, rule), outer)


class Rule(NamedTuple):
    """The checked arguments that select the dropped connections and the scaling of kept weights."""

    p: float
    per_sample: bool
    mode: str
    drop_bias: bool
    first_sample: int  # whose masks come first


@plan.remembering(256)
def check_rule(p: Any, per: Any, mode: Any, drop_bias: Any, start: Any) -> Rule:
    """Return the rule, or raise an error that names the bad argument."""
    if not plan.is_one_of(per, ("sample", "batch")):
        raise ValueError(f"per must be 'sample', one mask per sample, or 'batch', one mask for all; got {per!r}")
    first, drops_bias = plan.as_count(start, "start"), plan.check_flag(drop_bias, "drop_bias")
    return Rule(plan.as_rate(p), per == "sample", plan.check_mode(mode), drops_bias, first if per == "sample" else 0)
