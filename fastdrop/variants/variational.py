"""Variational dropout: Gaussian noise on the weights of a dense layer whose size is learned, its cost and what it prunes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import numbers, plan
from fastdrop._core.checks import finite_scalar
from fastdrop._core.settings import using
from fastdrop.elementary import exp, log, sigmoid, softplus
from fastdrop.variants._masks import compute_type
from fastdrop.variants._noise import alphas as alpha_of
from fastdrop.variants._noise import log_alphas as logs
from fastdrop.variants._noise import sum_to_shape as summed_to
from fastdrop.variants.gaussian import gaussian_dropout, gaussian_dropout_backward

__all__ = [
    "log_alpha_of",
    "log_alpha_of_backward",
    "prune",
    "variational_dense",
    "variational_dense_backward",
    "variational_dropout",
    "variational_dropout_backward",
    "variational_kl",
    "variational_kl_backward",
]

LEAST_VARIANCE = 1e-8  # under the root, as the authors' code has it: the root has a slope where the variance is 0
LOG_ALPHAS = (-8.0, 8.0)  # what log alpha is clipped to, as in the authors' code

# Molchanov et al., -KL = K1 sigmoid(K2 + K3 log alpha) - log(1 + 1 / alpha) / 2 - K1.
K1, K2, K3 = 0.63576, 1.87320, 1.48695
# Kingma et al., -KL = C0 + log(alpha) / 2 + C1 alpha + C2 alpha**2 + C3 alpha**3. The paper leaves C0 open: minus half the sum
# of Euler's constant and log 2 makes the divergence 0 at infinite alpha, as Molchanov's is.
C0, C1, C2, C3 = -0.6351814227307391, 1.16145124, -1.50204118, 0.58629921


# A dense layer ------------------------------------------------------------------------------------------------------


class Dense:
    """A dense layer's operands, checked, in the type that is computed with; `rows` are those of x, an example each."""

    def __init__(self, x: ArrayLike, weights: ArrayLike, bias: ArrayLike | None) -> None:
        given, matrix = plan.as_array(x, "x"), plan.as_array(weights, "weights")
        if not given.ndim or matrix.ndim != 2 or given.shape[-1] != len(matrix):
            raise ValueError(f"x must have shape (..., in) and weights (in, out); got {given.shape} and {matrix.shape}")
        self.dtype, self.shape = given.dtype, given.shape
        self.result_shape = (*given.shape[:-1], matrix.shape[1])
        self.compute = compute_type(given.dtype)
        self.rows = self.flat(np.asarray(given))
        self.weights = self.operand(matrix, matrix.shape, "weights")
        self.bias = None if bias is None else self.operand(bias, matrix.shape[1:], "bias")

    def operand(self, value: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[Any]:
        """Return an operand in the compute type, or raise naming it."""
        array = np.asarray(plan.as_array(value, name))
        if array.dtype != self.dtype or array.shape != shape:
            raise (TypeError if array.dtype != self.dtype else ValueError)(
                f"{name} must have the dtype of x, {self.dtype}, and shape {shape}; got {array.dtype} and {array.shape}"
            )
        return array.astype(self.compute, copy=False)

    def flat(self, array: NDArray[Any]) -> NDArray[Any]:
        return array.reshape(math.prod(array.shape[:-1]), array.shape[-1]).astype(self.compute, copy=False)

    def grad(self, value: ArrayLike) -> NDArray[Any]:
        """Return the rows of the gradient with respect to the result."""
        return self.flat(self.operand(value, self.result_shape, "grad"))

    def rounded(self, array: NDArray[Any], shape: tuple[int, ...] | None = None) -> NDArray[Any]:
        """Return an array in the operands' dtype, of the result's shape unless told another."""
        return array.astype(self.dtype, copy=False).reshape(self.result_shape if shape is None else shape)

    def affine(self, rows: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
        """Return rows @ weights + bias, of shape (examples, out)."""
        product: NDArray[Any] = rows @ weights
        if self.bias is not None:
            product += self.bias
        return product

    def affine_backward(
        self, grad: NDArray[Any], rows: NDArray[Any], weights: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the gradients of `affine` with respect to rows and weights."""
        return grad @ weights.T, rows.T @ grad

    def spread(self, variance: NDArray[Any], seed: Any, offset: int, start: int) -> NDArray[Any]:
        """Return the layer's result for weights that are normal, of mean `weights` and of this variance each."""
        mean = self.affine(self.rows, self.weights)
        variances = (self.rows * self.rows) @ variance
        return numbers.old_noise(mean, "spread", (LEAST_VARIANCE,), variances, False, seed, offset, mean, start, None, None)[0]

    def spread_backward(
        self, grad: NDArray[Any], variance: NDArray[Any], seed: Any, offset: int, start: int
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return the gradients of `spread` with respect to rows, weights and variance."""
        squares = self.rows * self.rows
        slopes, _ = numbers.old_noise(
            grad, "spread_slope", (LEAST_VARIANCE,), squares @ variance, False, seed, offset, None, start, None, None, True
        )
        dx, dweights = self.affine_backward(grad, self.rows, self.weights)
        dx += (self.rows + self.rows) * (slopes @ variance.T)
        return dx, dweights, squares.T @ slopes

    def gradients(self, grad: NDArray[Any], dx: NDArray[Any], *others: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Return gradients as the caller gets them: that of x, others, and that of a bias, where there is one."""
        found = (self.rounded(dx, self.shape), *others)
        if self.bias is None:
            return found
        return (*found, self.rounded(summed_to(grad.astype(np.float64), self.bias.shape), self.bias.shape))


def variational_dense(
    x: ArrayLike,
    weights: ArrayLike,
    log_sigma2: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    threshold: float = 3.0,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    start: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Apply a dense layer whose weights are normal, each of a learned mean and variance: sparse variational dropout.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        The layer's input, of shape (..., in).
    weights : array_like
        The means, of shape (in, out) and the dtype of `x`.
    log_sigma2 : array_like
        The logarithms of the variances, of the shape and dtype of `weights`.
    bias : array_like, optional
        Of shape (out,) and the dtype of `x`; it has no noise.
    threshold : float, default 3
        Outside training, weights whose log alpha (see `log_alpha_of`) is not below it count as 0.
    seed, offset, backend, num_threads
        As in `dropout`.
    training : bool, default True
        False: the result is ``x @ prune(weights, log_sigma2, threshold)[0] + bias``.
    start : int, default 0
        The index, in the result of a larger batch, of the first element: that batch's rows before times out.

    Returns
    -------
    numpy.ndarray
        Of shape (..., out) and the dtype of `x`, which is rounded to once; float16 and bfloat16 are computed with in float32.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; shapes or dtypes that do not go together.

    See Also
    --------
    variational_dense_backward : the gradients.
    variational_kl : what is added to the loss.

    Notes
    -----
    The noise is drawn once for each output, not for each weight (the local reparameterisation of [2]_): with z of `normal`,
    element i taking number i, the result is ``m + sqrt(v + 1e-8) * z``, m = x @ weights + bias, v = (x * x) @ exp(log_sigma2).
    Root and noise are one pass of the kernels. The matrix products are NumPy's, of the BLAS that it has: their last bits are
    not promised. All else, and so the whole with one BLAS, has the same bits with every backend and number of threads.

    References
    ----------
    .. [1] D. Molchanov, A. Ashukha, D. Vetrov, "Variational dropout sparsifies deep neural networks", ICML 2017.
    .. [2] D. P. Kingma, T. Salimans, M. Welling, "Variational dropout and the local reparameterization trick", NIPS 2015.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x, weights = np.ones((2, 3), np.float32), np.full((3, 1), 0.5, np.float32)
    >>> log_sigma2 = np.full((3, 1), -4, np.float32)
    >>> fastdrop.variational_dense(x, weights, log_sigma2, seed=42).round(4)
    array([[1.5673],
           [1.4815]], dtype=float32)
    """
    layer = Dense(x, weights, bias)
    log_variance = layer.operand(log_sigma2, layer.weights.shape, "log_sigma2")
    with using(backend=backend, num_threads=num_threads), plan.RoundToNearest(), np.errstate(all="ignore"):
        if training:
            return layer.rounded(layer.spread(exp(log_variance), seed, offset, start))
        plan.as_word(offset, "offset")
        return layer.rounded(layer.affine(layer.rows, prune(layer.weights, log_variance, threshold)[0]))


def variational_dense_backward(
    grad: ArrayLike,
    x: ArrayLike,
    weights: ArrayLike,
    log_sigma2: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    threshold: float = 3.0,
    seed: Any,
    offset: int = 0,
    training: bool = True,
    start: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
) -> tuple[NDArray[Any], ...]:
    """Return the gradients of `variational_dense` with respect to its input, means and logarithms of variances.

    Parameters
    ----------
    grad : array_like
        The gradient with respect to the result, of its shape and the dtype of `x`.
    x, weights, log_sigma2, bias, threshold, seed, offset, training, start
        What the forward pass was given; see `dropout_backward` about `seed`. The numbers in `bias` are not used.
    backend, num_threads
        As in `dropout`.

    Returns
    -------
    tuple of numpy.ndarray
        The gradients with respect to `x`, `weights`, `log_sigma2` and, where one is given, `bias`: each of its shape and dtype.
        Outside training that of `weights` is 0 where they are pruned, and that of `log_sigma2` is 0.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `variational_dense`; and where `seed` is None.

    Notes
    -----
    With q = grad * z / (2 sqrt(v + 1e-8)), z and v those of `variational_dense`: dx = grad @ weights.T + 2 x * (q @ s.T),
    dweights = x.T @ grad and dlog_sigma2 = ((x * x).T @ q) * s, s = exp(log_sigma2). The divergence's gradient is not in them:
    `variational_kl_backward` and `log_alpha_of_backward` have it. The bias's sum has a fixed order.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x, weights = np.ones((1, 2)), np.full((2, 1), 0.5)
    >>> layer = {"x": x, "weights": weights, "log_sigma2": np.full((2, 1), -4.0), "seed": 42}
    >>> dx, dweights, dlog_sigma2 = fastdrop.variational_dense_backward(np.ones((1, 1)), **layer)
    >>> dweights.tolist()
    [[1.0], [1.0]]
    """
    layer = Dense(x, weights, bias)
    log_variance = layer.operand(log_sigma2, layer.weights.shape, "log_sigma2")
    outer, shape = layer.grad(grad), layer.weights.shape
    with using(backend=backend, num_threads=num_threads), plan.RoundToNearest(), np.errstate(all="ignore"):
        if training:
            variance = exp(log_variance)
            dx, dweights, dvariance = layer.spread_backward(outer, variance, seed, offset, start)
            dlog_sigma2 = dvariance * variance
        else:
            plan.check(outer, 0.0, seed, offset, None, None, None, name="grad")
            pruned, kept = prune(layer.weights, log_variance, threshold)
            dx, dweights = layer.affine_backward(outer, layer.rows, pruned)
            dweights, dlog_sigma2 = np.where(kept, dweights, 0), np.zeros(shape)
        return layer.gradients(outer, dx, layer.rounded(dweights, shape), layer.rounded(dlog_sigma2, shape))


# Kingma's types -----------------------------------------------------------------------------------------------------


def clamped(log_alpha: Any, most: float | None) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return log alphas of at most `most`, and which of them have a gradient: those not above it."""
    given = logs(log_alpha)
    if most is None:
        return given, np.ones(given.shape, np.bool_)
    bound = finite_scalar(most, "max_log_alpha")
    return np.minimum(given, bound), given <= bound


def is_type_a(type: str, log_alpha: NDArray[Any], layer: Dense) -> bool:
    """Return whether the noise is that of the inputs; raise where the alphas do not fit what has it."""
    if type not in ("A", "B"):
        raise ValueError(f"type must be 'A', noise on the inputs, or 'B', noise on the weights; got {type!r}")
    shape, of = (layer.shape, "x") if type == "A" else (layer.weights.shape, "weights")
    check_broadcast(log_alpha, shape, of)
    return type == "A"


def check_broadcast(log_alpha: NDArray[Any], shape: tuple[int, ...], of: str) -> None:
    try:
        fits = np.broadcast_shapes(log_alpha.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"log_alpha has shape {log_alpha.shape}, which does not broadcast to the shape {shape} of {of}")


def variational_dropout(
    x: ArrayLike,
    weights: ArrayLike,
    log_alpha: Any,
    type: Literal["A", "B"] = "A",
    *,
    bias: ArrayLike | None = None,
    max_log_alpha: float | None = 0.0,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    start: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Apply a dense layer with multiplicative Gaussian noise whose variance alpha is learned: Kingma's variational dropout.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        The layer's input, of shape (..., in).
    weights : array_like
        Of shape (in, out) and the dtype of `x`.
    log_alpha : float or numpy.ndarray
        The logarithm of alpha: one number for the layer, or an array that broadcasts to `x` (type A: shape (in,) for one a
        unit) or to `weights` (type B: shape (in, 1) or (out,) for one a unit, (in, out) for one a weight).
    type : {"A", "B"}
        ``"A"``: the inputs are multiplied by normal numbers of mean 1 and variance alpha, one for each input, so that the
        noise of the outputs is correlated: `gaussian_dropout` before the layer. ``"B"``: each weight has a noise of its own,
        of which only the sum at each output is drawn.
    bias : array_like, optional
        Of shape (out,) and the dtype of `x`; it has no noise.
    max_log_alpha : float or None, default 0
        Larger log alphas count as this, and their gradient is 0: the paper has alpha at most 1, as its approximation of the
        divergence holds only there. None for no bound.
    seed, offset, backend, num_threads
        As in `dropout`.
    training : bool, default True
        False: there is no noise.
    start : int, default 0
        The index of the first element that has noise, in a larger batch: of `x` in type A, of the result in type B.

    Returns
    -------
    numpy.ndarray
        Of shape (..., out) and the dtype of `x`, which is rounded to once; float16 and bfloat16 are computed with in float32.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; shapes or dtypes that do not go together; an unknown `type`.

    See Also
    --------
    variational_dropout_backward : the gradients.
    variational_kl : what is added to the loss, with ``rule="kingma"``.

    Notes
    -----
    Type B is ``m + sqrt(v + 1e-8) * z``, m = x @ weights + bias, v = (x * x) @ (alpha * weights * weights), with element i
    taking number i of `normal`. Bits are promised as in `variational_dense`.

    References
    ----------
    .. [1] D. P. Kingma, T. Salimans, M. Welling, "Variational dropout and the local reparameterization trick", NIPS 2015.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x, weights = np.ones((2, 3), np.float32), np.full((3, 1), 0.5, np.float32)
    >>> fastdrop.variational_dropout(x, weights, -2.0, "B", seed=42).round(4)
    array([[1.5914],
           [1.4749]], dtype=float32)
    """
    layer = Dense(x, weights, bias)
    log_alpha, _ = clamped(log_alpha, max_log_alpha)
    on_inputs = is_type_a(type, log_alpha, layer)
    with using(backend=backend, num_threads=num_threads), plan.RoundToNearest(), np.errstate(all="ignore"):
        if training and not on_inputs:
            variance = alpha_of(log_alpha).astype(layer.compute) * (layer.weights * layer.weights)
            return layer.rounded(layer.spread(variance, seed, offset, start))
        noisy = noisy_rows(layer, log_alpha, seed, offset, training, start)
        return layer.rounded(layer.affine(noisy, layer.weights))


def variational_dropout_backward(
    grad: ArrayLike,
    x: ArrayLike,
    weights: ArrayLike,
    log_alpha: Any,
    type: Literal["A", "B"] = "A",
    *,
    bias: ArrayLike | None = None,
    max_log_alpha: float | None = 0.0,
    seed: Any,
    offset: int = 0,
    training: bool = True,
    start: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
) -> tuple[NDArray[Any], ...]:
    """Return the gradients of `variational_dropout` with respect to its input, weights and log alpha.

    Parameters
    ----------
    grad : array_like
        The gradient with respect to the result, of its shape and the dtype of `x`.
    x, weights, log_alpha, type, bias, max_log_alpha, seed, offset, training, start
        What the forward pass was given; see `dropout_backward` about `seed`. The numbers in `bias` are not used.
    backend, num_threads
        As in `dropout`.

    Returns
    -------
    tuple of numpy.ndarray
        The gradients with respect to `x`, `weights`, `log_alpha` and, where one is given, `bias`: each of its shape and dtype,
        but that of `log_alpha` of float64. The last is 0 where log alpha is above `max_log_alpha`, and outside training.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `variational_dropout`; and where `seed` is None.

    Notes
    -----
    The sums over what shares an alpha, and that of the bias, have a fixed order.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> layer = {"x": np.ones((1, 2)), "weights": np.full((2, 1), 0.5), "log_alpha": -2.0, "seed": 42}
    >>> dx, dweights, dlog_alpha = fastdrop.variational_dropout_backward(np.ones((1, 1)), **layer)
    >>> dx.shape, dweights.shape, dlog_alpha.shape
    ((1, 2), (2, 1), ())
    """
    layer = Dense(x, weights, bias)
    log_alpha, free = clamped(log_alpha, max_log_alpha)
    on_inputs = is_type_a(type, log_alpha, layer)
    outer = layer.grad(grad)
    with using(backend=backend, num_threads=num_threads), plan.RoundToNearest(), np.errstate(all="ignore"):
        alpha = alpha_of(log_alpha).astype(layer.compute)
        plan.check(outer, 0.0, seed, offset, None, None, None, name="grad")
        plan.as_count(start, "start")
        if training:  # draws, once every argument has been found good
            seed, offset = plan.key_of(seed, offset, True)
        if training and not on_inputs:
            variance = alpha * (layer.weights * layer.weights)
            dx, dweights, dvariance = layer.spread_backward(outer, variance, seed, offset, start)
            dweights += ((layer.weights + layer.weights) * alpha) * dvariance
            dlog_alpha = summed_to((dvariance * variance).astype(np.float64), log_alpha.shape)
        else:
            noisy = noisy_rows(layer, log_alpha, seed, offset, training, start)
            dnoisy, dweights = layer.affine_backward(outer, noisy, layer.weights)
            like_x = layer.shape  # the alphas broadcast to it
            dx, dlog_alpha = gaussian_dropout_backward(
                dnoisy.reshape(like_x),
                x=layer.rows.reshape(like_x),
                log_alpha=log_alpha,
                seed=seed,
                offset=offset,
                training=training,
                start=start,
            )
        dlog_alpha = np.where(free, dlog_alpha, 0.0)
        return layer.gradients(outer, dx, layer.rounded(dweights, layer.weights.shape), dlog_alpha)


def noisy_rows(
    layer: Dense, log_alpha: NDArray[np.float64], seed: Any, offset: int, training: bool, start: int
) -> NDArray[Any]:
    """Return the inputs with their noise."""
    x = layer.rows.reshape(layer.shape)
    noisy = gaussian_dropout(x, log_alpha=log_alpha, seed=seed, offset=offset, training=training, start=start)
    return noisy.reshape(layer.rows.shape)


# The divergence -----------------------------------------------------------------------------------------------------


def variational_kl(
    log_alpha: Any,
    rule: Literal["molchanov", "kingma"] = "molchanov",
    *,
    shape: Sequence[int] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> np.float64:
    """Return the divergence of the weights' distribution from the log-uniform prior, summed over the weights.

    Parameters
    ----------
    log_alpha : float or numpy.ndarray
        The logarithms of the weights' alphas.
    rule : {"molchanov", "kingma"}
        ``"molchanov"``: for any alpha; within 0.01 of the exact integral for log alpha in [-8, 8]. ``"kingma"``: a polynomial
        for alpha at most 1, at most 0.041 below the integral for log alpha in [-8, 0]; larger alphas count as 1, and their
        gradient is 0.
    shape : sequence of int, optional
        The shape of the weights, to which `log_alpha` broadcasts where weights share an alpha (one for each unit, one for the
        layer): the divergence of each counts as often as weights have it. By default that is once.
    backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.float64
        At least 0 but for the approximation's error; 0 at infinite alpha, by either rule. Its bits are the same everywhere:
        the sum has a fixed order.

    Raises
    ------
    TypeError, ValueError
        `log_alpha` not of real numbers, or of a shape that does not broadcast to `shape`; an unknown `rule`.

    Notes
    -----
    Molchanov: ``k1 * sigmoid(-(k2 + k3 * log_alpha)) + softplus(-log_alpha) / 2``, k1 = 0.63576, k2 = 1.87320, k3 = 1.48695.
    Kingma: ``0.63518 - (log_alpha / 2 + c1 alpha + c2 alpha**2 + c3 alpha**3)``, c1 = 1.16145124, c2 = -1.50204118,
    c3 = 0.58629921. The paper leaves the constant open; this one is that of the exact integral.

    References
    ----------
    .. [1] D. Molchanov, A. Ashukha, D. Vetrov, "Variational dropout sparsifies deep neural networks", ICML 2017.
    .. [2] D. P. Kingma, T. Salimans, M. Welling, "Variational dropout and the local reparameterization trick", NIPS 2015.

    Examples
    --------
    >>> import fastdrop
    >>> round(float(fastdrop.variational_kl(-2.0)), 4)
    1.5405
    >>> round(float(fastdrop.variational_kl(-2.0, shape=(10, 5))), 4)  # one alpha for fifty weights
    77.0266
    """
    given, count = shared(log_alpha, rule, shape)
    with using(backend=backend, num_threads=num_threads), plan.RoundToNearest(), np.errstate(all="ignore"):
        if rule == "molchanov":
            each = K1 * sigmoid(-(K2 + K3 * given)) + 0.5 * softplus(-given)
        else:
            least = np.minimum(given, 0.0)
            alpha = exp(least)
            each = -(C0 + (0.5 * least + alpha * (C1 + alpha * (C2 + alpha * C3))))
        return np.float64(count * summed_to(each, ()))


def variational_kl_backward(
    log_alpha: Any,
    rule: Literal["molchanov", "kingma"] = "molchanov",
    *,
    shape: Sequence[int] | None = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[np.float64]:
    """Return the gradient of `variational_kl` with respect to log alpha.

    Parameters
    ----------
    log_alpha, rule, shape, backend, num_threads
        As in `variational_kl`.

    Returns
    -------
    numpy.ndarray
        Of float64 and the shape of `log_alpha`, to be multiplied by the divergence's weight in the loss.

    Raises
    ------
    TypeError, ValueError
        As in `variational_kl`.

    See Also
    --------
    log_alpha_of_backward : from there to the weights.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.variational_kl_backward(np.array([-2.0, 0.0])).round(4)
    array([-0.6175, -0.3591])
    >>> fastdrop.variational_kl_backward(np.array([-2.0, 1.0]), "kingma").round(4)
    array([-0.6065,  0.    ])
    """
    given, count = shared(log_alpha, rule, shape)
    with using(backend=backend, num_threads=num_threads), plan.RoundToNearest(), np.errstate(all="ignore"):
        if rule == "molchanov":
            place = K2 + K3 * given
            slopes = (K1 * K3) * (sigmoid(place) * sigmoid(-place)) + 0.5 * sigmoid(-given)
        else:
            alpha = exp(np.minimum(given, 0.0))
            slopes = 0.5 + alpha * (C1 + alpha * (2 * C2 + alpha * (3 * C3)))
            slopes = np.where(given > 0, 0.0, slopes)
        made: NDArray[np.float64] = np.asarray(0.0 - count * slopes)
    return made


def shared(log_alpha: Any, rule: str, shape: Sequence[int] | None) -> tuple[NDArray[np.float64], float]:
    """Return log alphas as float64, and how many weights have each."""
    given = logs(log_alpha)
    if rule not in ("molchanov", "kingma"):
        raise ValueError(f"rule must be 'molchanov' or 'kingma'; got {rule!r}")
    if shape is None:
        return given, 1.0
    sizes = tuple(plan.as_count(size, "a size in shape") for size in shape)
    check_broadcast(given, sizes, "the weights")
    return given, math.prod(sizes) / max(1, given.size)


# From weights to alphas ---------------------------------------------------------------------------------------------


def pair(weights: ArrayLike, log_sigma2: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return means and logarithms of variances, checked, in the type that is computed with."""
    means, log_variances = plan.as_array(weights, "weights"), plan.as_array(log_sigma2, "log_sigma2")
    plan.check(means, 0.0, None, 0, None, None, None, log_variances, "weights", "log_sigma2")
    compute = compute_type(means.dtype)
    return np.asarray(means).astype(compute, copy=False), np.asarray(log_variances).astype(compute, copy=False)


def unclipped(means: NDArray[Any], log_variances: NDArray[Any]) -> NDArray[Any]:
    """Return log alphas; infinity where the mean is 0."""
    halves = log(np.abs(means))
    return np.asarray(np.where(means == 0, means.dtype.type(np.inf), log_variances - (halves + halves)))


def log_alpha_of(
    weights: ArrayLike, log_sigma2: ArrayLike, *, backend: str | None = None, num_threads: int | None = None
) -> NDArray[Any]:
    """Return log alpha = log(sigma**2 / weights**2) of each weight, clipped to [-8, 8].

    Parameters
    ----------
    weights : array_like of float32, float64, float16 or bfloat16
        The means, of any shape.
    log_sigma2 : array_like
        The logarithms of the variances, of the shape and dtype of `weights`.
    backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        Of the shape and dtype of `weights`; 8 where a mean is 0.

    Raises
    ------
    TypeError, ValueError
        Dtypes or shapes that do not go together.

    References
    ----------
    .. [1] D. Molchanov, A. Ashukha, D. Vetrov, "Variational dropout sparsifies deep neural networks", ICML 2017.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.log_alpha_of(np.array([1.0, 0.01, 0.0]), np.array([-10.0, -5.0, -10.0])).round(4)
    array([-8.    ,  4.2103,  8.    ])
    """
    with using(backend=backend, num_threads=num_threads), plan.RoundToNearest(), np.errstate(all="ignore"):
        means, log_variances = pair(weights, log_sigma2)
        clipped = np.clip(unclipped(means, log_variances), *LOG_ALPHAS)
        return np.asarray(clipped.astype(np.asarray(weights).dtype))


def log_alpha_of_backward(
    grad: ArrayLike,
    weights: ArrayLike,
    log_sigma2: ArrayLike,
    *,
    backend: str | None = None,
    num_threads: int | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the gradients of `log_alpha_of` with respect to means and logarithms of variances.

    Parameters
    ----------
    grad : array_like of real numbers
        The gradient with respect to log alpha, of the shape of `weights`: that of `variational_kl_backward`.
    weights, log_sigma2, backend, num_threads
        As in `log_alpha_of`.

    Returns
    -------
    tuple of two numpy.ndarray
        Of the shape and dtype of `weights`: -2 grad / weights and grad; both 0 where log alpha was clipped, also at means of 0.

    Raises
    ------
    TypeError, ValueError
        As in `log_alpha_of`; a `grad` of another shape.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> weights, log_sigma2 = np.array([0.5, 0.0]), np.array([-4.0, -4.0])
    >>> slopes = fastdrop.variational_kl_backward(fastdrop.log_alpha_of(weights, log_sigma2))
    >>> dweights, dlog_sigma2 = fastdrop.log_alpha_of_backward(slopes, weights, log_sigma2)
    >>> dweights.round(4), dlog_sigma2.round(4)
    (array([2.2565, 0.    ]), array([-0.5641,  0.    ]))
    """
    with using(backend=backend, num_threads=num_threads), plan.RoundToNearest(), np.errstate(all="ignore"):
        means, log_variances = pair(weights, log_sigma2)
        outer = np.asarray(grad)
        if outer.shape != means.shape:
            raise ValueError(f"grad must have the shape of weights, {means.shape}; got {outer.shape}")
        raw = unclipped(means, log_variances)
        inside = (raw >= LOG_ALPHAS[0]) & (raw <= LOG_ALPHAS[1])
        dtype = np.asarray(weights).dtype
        slopes = np.where(inside, outer, 0).astype(means.dtype)
        dweights = np.divide(-(slopes + slopes), means, out=np.zeros_like(means), where=inside)
    return dweights.astype(dtype), slopes.astype(dtype)


def prune(
    weights: ArrayLike,
    log_sigma2: ArrayLike,
    threshold: float = 3.0,
    *,
    backend: str | None = None,
    num_threads: int | None = None,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return weights with those set to 0 whose noise drowns them, and which were kept.

    Parameters
    ----------
    weights, log_sigma2, backend, num_threads
        As in `log_alpha_of`.
    threshold : float, default 3
        Weights whose log alpha is not below it are pruned: 3 is the dropout rate 0.95.

    Returns
    -------
    tuple of two numpy.ndarray
        Weights of the shape and dtype of `weights`; and a bool for each, True where it was kept. A NaN is kept.

    Raises
    ------
    TypeError, ValueError
        As in `log_alpha_of`; `threshold` not a finite number.

    References
    ----------
    .. [1] D. Molchanov, A. Ashukha, D. Vetrov, "Variational dropout sparsifies deep neural networks", ICML 2017.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.prune(np.array([1.0, 0.01]), np.array([-4.0, -4.0]))
    (array([1., 0.]), array([ True, False]))
    """
    least = finite_scalar(threshold, "threshold")
    with using(backend=backend, num_threads=num_threads), plan.RoundToNearest(), np.errstate(all="ignore"):
        pruned = np.clip(unclipped(*pair(weights, log_sigma2)), *LOG_ALPHAS) >= least
    made = np.array(weights)
    made[pruned] = 0
    return made, ~np.asarray(pruned)
