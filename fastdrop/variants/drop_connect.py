"""DropConnect: a linear layer that drops connections, different ones per sample."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.plan import Call, Pass
from fastdrop._core.types import Backend, FixedSeed, Per, Seed
from fastdrop.variants._backward import backward_of
from fastdrop.variants._linear import Linear

__all__ = ["drop_connect", "drop_connect_backward"]

CHUNK = 2**22  # masked weights that are in memory at a time


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
        False: the result is the mean over all masks. `fastdrop.theory.drop_connect_moments` has the paper's inference.
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
    ``fold_in(seed, "bias")`` and the same offset. Masks and masked weights are the same to the bit everywhere. NumPy's BLAS
    computes the matrix products, so their last bits may differ between machines.

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
    call.check_place(masks_shape(layer, rule))
    with call.arrays(layer.x, shape=layer.result_shape) as run:
        masks = Masks(layer, rule, run)
        rows = masks.group(layer.rows)
        result = np.empty((*rows.shape[:2], layer.weight.shape[1]), layer.compute)
        for chunk in masks.chunks():
            np.matmul(rows[chunk], masks.drop_weights(layer.weight, chunk), out=result[chunk])
        if layer.bias is not None:
            result += masks.drop_biases(layer.bias)[:, np.newaxis]
        return run.store(result.reshape(layer.result_shape))


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
    call.check_place(masks_shape(layer, rule))
    with call.arrays(layer.x, name="x") as run:
        masks = Masks(layer, rule, run)
        rows, outer = masks.group(layer.rows), masks.group(outer)
        dx, dweight = np.empty_like(rows), np.zeros_like(layer.weight)
        for chunk in masks.chunks():
            np.matmul(outer[chunk], masks.drop_weights(layer.weight, chunk).swapaxes(1, 2), out=dx[chunk])
            products = np.matmul(rows[chunk].swapaxes(1, 2), outer[chunk])
            dweight += masks.drop_weights(products, chunk).sum(axis=0)
        dbias = None
        if layer.bias is not None:
            dbias = layer.rounded(masks.drop_biases(outer.sum(axis=1)).sum(axis=0))
        return run.store(dx.reshape(layer.x.shape)), layer.rounded(dweight), dbias


class Rule(NamedTuple):
    """The checked arguments that select what is dropped and how kept weights are scaled."""

    p: float
    per: str
    mode: str
    drop_bias: bool
    first_sample: int  # whose masks come first


def check_rule(p: Any, per: Any, mode: Any, drop_bias: Any, start: Any) -> Rule:
    """Return the rule, or raise an error that names the bad argument."""
    if not plan.is_one_of(per, ("sample", "batch")):
        raise ValueError(f"per must be 'sample', one mask per sample, or 'batch', one mask for all; got {per!r}")
    first = plan.as_count(start, "start")
    drops_bias = plan.check_flag(drop_bias, "drop_bias")
    return Rule(plan.as_rate(p), per, plan.check_mode(mode), drops_bias, first if per == "sample" else 0)


def masks_shape(layer: Linear, rule: Rule) -> tuple[int, ...]:
    """Return the shape of the masks of all weights, or raise an error if the input is not a matrix."""
    if layer.x.ndim != 2:
        raise ValueError(f"x must have shape (N, in) and weight (in, out); got {layer.x.shape} and {layer.weight.shape}")
    return (len(layer.x) if rule.per == "sample" else 1, *layer.weight.shape)


class Masks:
    """The masks of one call. Samples that share a mask are a group: the weights' masks have the shape (groups, in, out).

    Outside training, all samples are one group, whose mask is replaced by the mean over all masks.
    """

    def __init__(self, layer: Linear, rule: Rule, run: Pass) -> None:
        samples = len(layer.rows)
        self.groups, self.samples = (samples, 1) if rule.per == "sample" and run.call.is_training else (1, samples)
        self.rule, self.run = rule, run
        self.step = max(1, CHUNK // max(1, layer.weight.size))  # groups whose masked weights fit in memory

    def group(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return rows, one per sample, as (groups, samples, columns)."""
        return rows.reshape(self.groups, self.samples, rows.shape[1])

    def chunks(self) -> Iterator[slice]:
        """Yield runs of groups whose masked weights fit in memory."""
        for begin in range(0, self.groups, self.step):
            yield slice(begin, min(begin + self.step, self.groups))

    def drop_weights(self, weights: NDArray[Any], chunk: slice) -> NDArray[Any]:
        """Return the weights of the groups of a chunk, of shape (..., in, out), with the masks of these groups."""
        return self.drop(np.broadcast_to(weights, (chunk.stop - chunk.start, *weights.shape[-2:])), chunk.start, self.run.key)

    def drop_biases(self, biases: NDArray[Any]) -> NDArray[Any]:
        """Return the biases of all groups, of shape (..., out), with the masks of the groups, if biases are dropped."""
        each = np.broadcast_to(biases, (self.groups, biases.shape[-1]))
        if not self.rule.drop_bias:
            return each
        seed, offset = self.run.key
        return self.drop(each, 0, (plan.fold_in(seed, "bias"), offset))

    def drop(self, values: NDArray[Any], first_group: int, key: tuple[int, int]) -> NDArray[Any]:
        """Return the values of the groups from `first_group` on with their masks, or with the mean of all masks."""
        start = (self.rule.first_sample + first_group) * math.prod(values.shape[1:])
        made = np.empty(values.shape, values.dtype)
        return Call(*key, self.run.call.training, made, start).drop(values, self.rule.p, mode=self.rule.mode)
