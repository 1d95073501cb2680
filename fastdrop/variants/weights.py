"""Dropout of weights: of a weight matrix, of connections, example by example; shakeout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.checks import non_negative_scalar
from fastdrop._core.settings import using
from fastdrop._core.types import Mode, Rate
from fastdrop.random import fold_in
from fastdrop.theory import linear_moments

__all__ = [
    "drop_connect",
    "drop_connect_backward",
    "drop_connect_moments",
    "shakeout",
    "shakeout_backward",
    "weight_drop",
    "weight_drop_backward",
]

CHUNK = 2**22  # masked weights that are in memory at a time

# Weight drop --------------------------------------------------------------------------------------------------------


def drop_weights(
    weight: ArrayLike, p: Rate, variational: bool, seed: Any, offset: int, training: bool, backward: bool, *run: Any
) -> NDArray[Any]:
    """`weight_drop` and its backward pass; `run` is (out, backend, num_threads)."""
    if variational and not np.ndim(weight):
        raise ValueError("variational=True drops output rows, the first axis of the weights; a 0-d array has none")
    out, backend, num_threads = run
    geometry = plan.geometry_of(None, range(1, np.ndim(weight)), None, None) if variational else None
    return plan.dropout(weight, p, seed, offset, training, "inverted", out, 0, backend, num_threads, backward, geometry)


def weight_drop(
    weight: ArrayLike,
    p: Rate = 0.5,
    *,
    variational: bool = False,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Drop the recurrent weights of an RNN, once for a whole forward pass, and scale the others by 1 / (1 - p).

    Parameters
    ----------
    weight : array_like of float32, float64, float16 or bfloat16
        The hidden-to-hidden weights, output rows along the first axis.
    p : float or numpy.ndarray, default 0.5
        Probability of dropping a weight, in [0, 1]; an array that broadcasts to `weight` gives each its own.
    variational : bool, default False
        Whether the weights of an output row share one decision.
    seed, offset, training, out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `weight`; outside training `weight` itself, also if `variational`.

    Raises
    ------
    TypeError, ValueError
        As in `dropout`; rows of a 0-d array.

    Notes
    -----
    The weight of C-order index i is dropped where U(i) < p; output row r, if `variational`, where U(r) < p. Call it once
    a forward pass and use the result in all time steps. The authors' code goes on dropping outside training if
    `variational`; this function does not.

    References
    ----------
    .. [1] S. Merity, N. S. Keskar, R. Socher, "Regularizing and optimizing LSTM language models", ICLR 2018.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.weight_drop(np.ones((2, 4), np.float32), 0.5, seed=42)
    array([[2., 0., 0., 0.],
           [0., 2., 2., 0.]], dtype=float32)
    """
    return drop_weights(weight, p, variational, seed, offset, training, False, out, backend, num_threads)


def weight_drop_backward(
    grad: ArrayLike,
    p: Rate = 0.5,
    *,
    variational: bool = False,
    seed: Any,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `weight_drop` with respect to the raw weights.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to `weight_drop`'s result, of the same shape.
    p, variational, seed, offset, training
        What the forward pass was given; see `dropout_backward` about `seed`.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `grad`; outside training `grad` itself.

    Raises
    ------
    TypeError, ValueError
        As in `weight_drop`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.weight_drop_backward(np.ones(4, np.float32), 0.5, seed=42)
    array([2., 0., 0., 0.], dtype=float32)
    """
    return drop_weights(grad, p, variational, seed, offset, training, True, out, backend, num_threads)


# DropConnect --------------------------------------------------------------------------------------------------------


class Layer:
    """A linear layer whose connections are dropped: what is given, checked, in the type that is computed with.

    Examples that share a mask are a group: `x` has shape (groups, examples, in). The weights' masks of all groups have
    the shape (groups, out, in), the biases' (groups, out).
    """

    def __init__(
        self, x: ArrayLike, weight: ArrayLike, p: float, bias: ArrayLike | None, per: str, mode: str, training: bool
    ) -> None:
        given, matrix = plan.as_array(x, "x"), plan.as_array(weight, "weight")
        if given.ndim != 2 or matrix.ndim != 2 or given.shape[1] != matrix.shape[1]:
            raise ValueError(f"x must have shape (N, in) and weight (out, in); got {given.shape} and {matrix.shape}")
        if per not in ("example", "batch"):
            raise ValueError(f"per must be 'example', a mask for each, or 'batch', one for all; got {per!r}")
        if mode not in ("standard", "inverted"):
            raise ValueError(f"mode must be 'standard' or 'inverted'; got {mode!r}")
        self.dtype = given.dtype
        self.compute = np.dtype(np.float64 if given.dtype == np.float64 else np.float32)
        self.examples = 1 if per == "example" and training else len(given)  # of a group
        self.groups = len(given) if per == "example" and training else 1
        self.p, self.mode, self.training = plan.as_rate(p), mode, training
        self.x = self.grouped(given)
        self.weight = self.operand(matrix, matrix.shape, "weight")
        self.bias = None if bias is None else self.operand(bias, matrix.shape[:1], "bias")

    def operand(self, value: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[Any]:
        """Return an operand in the compute type, or raise naming it."""
        array = plan.as_array(value, name)
        if array.dtype != self.dtype:
            raise TypeError(f"{name} must have the dtype of x, {self.dtype}; got {array.dtype}")
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}; got {array.shape}")
        return array.astype(self.compute, copy=False)

    def grouped(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return rows, one an example, as (groups, examples, columns) in the compute type."""
        return rows.reshape(self.groups, self.examples, rows.shape[1]).astype(self.compute, copy=False)

    def rounded(self, value: NDArray[Any]) -> NDArray[Any]:
        """Return a result in the dtype of x."""
        return value.astype(self.dtype, copy=False)

    def key(self, seed: Any, offset: int, required: bool) -> tuple[int, int]:
        """Return the (seed, offset) of the call; outside training nothing is drawn from what the caller gave."""
        return plan.key_of(seed if self.training or seed is None else 0, offset, required)

    def drop(self, values: NDArray[Any], first_group: int, seed: int, offset: int) -> NDArray[Any]:
        """Return values, of (some groups, ...), with the masks of the groups from `first_group` on, or their mean over all."""
        start = first_group * int(np.prod(values.shape[1:], dtype=np.int64))
        made = np.empty(values.shape, values.dtype)
        return plan.dropout(values, self.p, seed, offset, self.training, self.mode, made, start, None, None)

    def chunks(self) -> Iterator[slice]:
        """Yield runs of groups whose masked weights fit in memory."""
        step = max(1, CHUNK // max(1, self.weight.size))
        for begin in range(0, self.groups, step):
            yield slice(begin, min(begin + step, self.groups))

    def broadcast(self, values: NDArray[Any], chunk: slice) -> NDArray[Any]:
        """Return what each group has the same of, for the groups of a chunk."""
        return np.broadcast_to(values, (chunk.stop - chunk.start, *values.shape))


def drop_connect(
    x: ArrayLike,
    weight: ArrayLike,
    p: float = 0.5,
    *,
    bias: ArrayLike | None = None,
    per: Literal["example", "batch"] = "example",
    mode: Mode = "standard",
    drop_bias: bool = True,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Apply a linear layer some of whose connections are dropped, others for each example: DropConnect.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        The layer's input, of shape (N, in).
    weight : array_like
        Of shape (out, in) and the dtype of `x`.
    p : float, default 0.5
        Probability of dropping a connection, in [0, 1]. (The paper's p is that of keeping.)
    bias : array_like, optional
        Of shape (out,) and the dtype of `x`.
    per : {"example", "batch"}
        ``"example"``: each example has a mask of its own, as in the paper. ``"batch"``: one mask for all, as in most
        public code.
    mode : {"standard", "inverted"}
        ``"standard"``, the paper: weights kept are as they are in training. ``"inverted"``: they are scaled by
        1 / (1 - p), and outside training the layer is the plain one.
    drop_bias : bool, default True
        Whether the biases are dropped too, as in the paper.
    seed, offset, backend, num_threads
        As in `dropout`.
    training : bool, default True
        False: the mean over all masks is returned; see `drop_connect_moments` for the paper's inference.

    Returns
    -------
    numpy.ndarray
        Of shape (N, out) and the dtype of `x`, which is rounded to once; float16 and bfloat16 are computed with in
        float32.

    Raises
    ------
    TypeError, ValueError
        As in `dropout`; shapes or dtypes that do not go together; an unknown `per` or `mode`.

    See Also
    --------
    drop_connect_moments : mean and variance over all masks.

    Notes
    -----
    The connection from input i to output o of example n is dropped where U(j) < p, j = (n out + o) in + i; per batch,
    j = o in + i. The bias of output o has index n out + o, per batch o, under the seed ``fold_in(seed, "bias")`` and the
    same offset. Masks and masked weights are the same to the bit everywhere. The matrix products are NumPy's, of the
    BLAS that it has: their last bits are not promised.

    References
    ----------
    .. [1] L. Wan, M. Zeiler, S. Zhang, Y. LeCun, R. Fergus, "Regularization of neural networks using DropConnect",
       ICML 2013.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.drop_connect(np.ones((2, 2), np.float32), np.ones((2, 2), np.float32), 0.5, seed=42)
    array([[1., 0.],
           [1., 1.]], dtype=float32)
    """
    layer = Layer(x, weight, p, bias, per, mode, training)
    with using(backend=backend, num_threads=num_threads):
        seed, offset = layer.key(seed, offset, False)
        result = np.empty((*layer.x.shape[:2], len(layer.weight)), layer.compute)
        for chunk in layer.chunks():
            masked = layer.drop(layer.broadcast(layer.weight, chunk), chunk.start, seed, offset)
            np.matmul(layer.x[chunk], masked.swapaxes(1, 2), out=result[chunk])
        if layer.bias is not None:
            biases = layer.broadcast(layer.bias, slice(0, layer.groups))
            if drop_bias:
                biases = layer.drop(biases, 0, fold_in(seed, "bias"), offset)
            result += biases[:, np.newaxis]
        return layer.rounded(result.reshape(layer.groups * layer.examples, len(layer.weight)))


def drop_connect_backward(
    grad: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    p: float = 0.5,
    *,
    per: Literal["example", "batch"] = "example",
    mode: Mode = "standard",
    drop_bias: bool = True,
    seed: Any,
    offset: int = 0,
    training: bool = True,
    backend: str | None = None,
    num_threads: int | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the gradients of `drop_connect` with respect to its input, weights and biases.

    Parameters
    ----------
    grad : array_like
        The gradient with respect to `drop_connect`'s result, of shape (N, out) and the dtype of `x`.
    x, weight, p, per, mode, drop_bias, seed, offset, training
        What the forward pass was given; see `dropout_backward` about `seed`.
    backend, num_threads
        As in `dropout`.

    Returns
    -------
    tuple of three numpy.ndarray
        Of the shapes of `x`, of `weight` and of a bias, (out,), in the dtype of `x`. The last means nothing where
        there was no bias.

    Raises
    ------
    TypeError, ValueError
        As in `drop_connect`; and where `seed` is None.

    Notes
    -----
    As in `drop_connect`, the matrix products and the sums over examples are not promised to the last bit.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x, weight, grad = np.ones((2, 2), np.float32), np.ones((1, 2), np.float32), np.ones((2, 1), np.float32)
    >>> dx, dweight, dbias = fastdrop.drop_connect_backward(grad, x, weight, 0.5, seed=42)
    >>> dx, dweight
    (array([[1., 0.],
           [0., 0.]], dtype=float32), array([[1., 0.]], dtype=float32))
    """
    layer = Layer(x, weight, p, None, per, mode, training)
    outputs = layer.grouped(layer.operand(grad, (layer.groups * layer.examples, len(layer.weight)), "grad"))
    with using(backend=backend, num_threads=num_threads):
        seed, offset = layer.key(seed, offset, True)
        dx, dweight = np.empty_like(layer.x), np.zeros_like(layer.weight)
        for chunk in layer.chunks():
            masked = layer.drop(layer.broadcast(layer.weight, chunk), chunk.start, seed, offset)
            np.matmul(outputs[chunk], masked, out=dx[chunk])
            products = np.matmul(outputs[chunk].swapaxes(1, 2), layer.x[chunk])
            dweight += layer.drop(products, chunk.start, seed, offset).sum(axis=0)
        biases = outputs.sum(axis=1)
        if drop_bias:
            biases = layer.drop(biases, 0, fold_in(seed, "bias"), offset)
        dbias = biases.sum(axis=0)
    return layer.rounded(dx.reshape(layer.groups * layer.examples, dx.shape[2])), layer.rounded(dweight), layer.rounded(dbias)


def drop_connect_moments(
    x: ArrayLike,
    weight: ArrayLike,
    p: float = 0.5,
    *,
    bias: ArrayLike | None = None,
    mode: Mode = "standard",
    drop_bias: bool = True,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return mean and variance of `drop_connect`'s result over all masks: the Gaussian of the paper's inference.

    The paper draws samples of this Gaussian, applies the activation function to each, and averages.

    Parameters
    ----------
    x, weight, p, bias, mode, drop_bias
        As in `drop_connect`.

    Returns
    -------
    tuple of two numpy.ndarray
        Mean and variance, of shape (N, out) and the dtype of `x`. In standard mode (1 - p) (W x + b) and
        p (1 - p) ((W * W) (x * x) + b * b); a bias that is not dropped adds itself to the mean and nothing to the
        variance. In inverted mode W x + b, and p / (1 - p) in place of p (1 - p); both are 0 where p is 1.

    Raises
    ------
    TypeError, ValueError
        As in `drop_connect`.

    Notes
    -----
    The matrix products are NumPy's, of the BLAS that it has: their last bits are not promised.

    References
    ----------
    .. [1] L. Wan, M. Zeiler, S. Zhang, Y. LeCun, R. Fergus, "Regularization of neural networks using DropConnect",
       ICML 2013.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> mean, variance = fastdrop.drop_connect_moments(np.array([[1.0, 2.0]]), np.array([[3.0, -1.0]]), 0.5)
    >>> mean, variance
    (array([[0.5]]), array([[3.25]]))

    The paper's inference, with a ReLU:

    >>> samples = np.random.default_rng(0).normal(mean, np.sqrt(variance), (1000, 1, 1))
    >>> np.maximum(samples, 0).mean(axis=0).shape
    (1, 1)
    """
    layer = Layer(x, weight, p, bias, "batch", mode, False)
    mean, variance = linear_moments(layer.x[0], layer.weight, layer.p, layer.bias, mode, drop_bias)
    return layer.rounded(mean), layer.rounded(variance)


# Shakeout -----------------------------------------------------------------------------------------------------------


def unit_axes(weight: ArrayLike, per: str) -> tuple[Any, ...] | None:
    """Return the geometry of shakeout's mask over weights of (out, in, ...)."""
    if per == "weight":
        return None
    if per != "unit":
        raise ValueError(f"per must be 'unit', a decision for each input unit, or 'weight'; got {per!r}")
    if np.ndim(weight) != 2:
        raise ValueError(f"per 'unit' decides for each column of weights of shape (out, in); got shape {np.shape(weight)}")
    return plan.geometry_of(None, 0, None, None)


def shakeout(
    weight: ArrayLike,
    p: float = 0.5,
    c: float = 0.1,
    *,
    per: Literal["unit", "weight"] = "unit",
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Enhance or reverse weights at random: Shakeout, which is dropout with a bias towards the weights' signs.

    With r = 0 where dropped and 1 / (1 - p) where kept, the weights W become r W + c (r - 1) sign(W).

    Parameters
    ----------
    weight : array_like of float32, float64, float16 or bfloat16
        The weights of a layer, of shape (out, in); with ``per="weight"`` of any shape.
    p : float, default 0.5
        Probability of dropping, in [0, 1]; the paper's tau.
    c : float, default 0.1
        The paper's c, finite and >= 0: a dropped weight becomes ``-c sign(W)``. With 0 this is dropout.
    per : {"unit", "weight"}
        ``"unit"``: the weights of an input unit, a column, share one decision, as in the paper. ``"weight"``: each
        decides by itself.
    seed, offset, training, out, backend, num_threads
        As in `dropout`. One mask is drawn a call, for all examples that go through the weights (the paper's
        examples have one each).

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `weight`; outside training `weight` itself, the expected value for p < 1.

    Raises
    ------
    TypeError, ValueError
        As in `dropout`; a bad `c`; an unknown `per`, or a shape that does not go with it.

    Notes
    -----
    Input unit i is dropped where U(i) < p; per weight, the weight of C-order index i.

    With T the type that is computed with (float32 for float16 and bfloat16), s = T(1 / (1 - p)), b = T(c p / (1 - p))
    and d = T(c), each computed in float64 and rounded once (at p = 1, where nothing is kept, s and b are 0): a kept
    weight becomes W s + b if W > 0, W s - b if W < 0 and W s otherwise, the product rounded and then the sum; a dropped
    one -d if W > 0, d if W < 0 and +0.0 otherwise. The result is rounded once more to the dtype of the weights.

    References
    ----------
    .. [1] G. Kang, J. Li, D. Tao, "Shakeout: a new regularized deep neural network training scheme", AAAI 2016.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.shakeout(np.array([[4.0, 4.0], [-2.0, -2.0]]), 0.5, 0.25, seed=42)
    array([[ 8.25, -0.25],
           [-4.25,  0.25]])
    """
    given, rate = plan.as_array(weight, "weight"), plan.as_rate(p)
    geometry, reversal = unit_axes(given, per), non_negative_scalar(c, "c")
    if not training:
        return plan.dropout(weight, rate, seed, offset, False, "inverted", out, 0, backend, num_threads)
    kept, dropped = shaken(given, rate, reversal)
    return plan.transform(
        kept, rate, seed, offset, "select", None, dropped, out, 0, backend, num_threads, geometry, name="weight"
    )


def shaken(weight: NDArray[Any], p: float, c: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return what each weight becomes where it is kept, and where it is dropped."""
    compute: Any = np.float64 if weight.dtype == np.float64 else np.float32
    with plan.RoundToNearest(), np.errstate(all="ignore"):
        scale = 1.0 / (1.0 - p) if p < 1.0 else 0.0
        enhanced = c * p / (1.0 - p) if p < 1.0 else 0.0
        s, b, d = compute(scale), compute(enhanced), compute(c)
        w: NDArray[Any] = weight.astype(compute)
        positive, negative = w > 0, w < 0
        product = w * s
        kept = np.where(positive, product + b, np.where(negative, product - b, product))
        dropped = np.where(positive, compute(0) - d, np.where(negative, d, compute(0)))
        return kept.astype(weight.dtype), dropped.astype(weight.dtype)


def shakeout_backward(
    grad: ArrayLike,
    p: float = 0.5,
    *,
    per: Literal["unit", "weight"] = "unit",
    seed: Any,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `shakeout` with respect to the weights; their signs count as constants, so c does not enter.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to `shakeout`'s result, of the same shape.
    p, per, seed, offset, training
        What the forward pass was given; see `dropout_backward` about `seed`.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `grad`; outside training `grad` itself.

    Raises
    ------
    TypeError, ValueError
        As in `shakeout`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.shakeout_backward(np.ones((1, 4), np.float32), 0.5, seed=42)
    array([[2., 0., 0., 0.]], dtype=float32)
    """
    geometry = unit_axes(grad, per)
    rate = plan.as_rate(p)
    return plan.dropout(grad, rate, seed, offset, training, "inverted", out, 0, backend, num_threads, True, geometry)
