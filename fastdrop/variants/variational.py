"""Variational dropout: a dense layer with Gaussian noise of learned variance on its weights or inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import numbers, plan
from fastdrop._core.checks import as_finite_scalar
from fastdrop._core.numbers import Linear
from fastdrop._core.plan import Call, Pass
from fastdrop._core.types import Backend, FixedSeed, Seed
from fastdrop.variants._backward import backward_of
from fastdrop.variants._noise import multiply_by_normal, multiply_by_normal_backward
from fastdrop.variants._variational import check_broadcast, find_pruned

__all__ = ["variational_dense", "variational_dense_backward", "variational_dropout", "variational_dropout_backward"]

# Normal weights -----------------------------------------------------------------------------------------------------


def variational_dense(
    x: ArrayLike,
    weight: ArrayLike,
    log_sigma2: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    prune_above: float = 3.0,
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
    """Apply a dense layer with normal weights of learned means and variances: sparse variational dropout.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        The layer's input, of shape (..., in).
    weight : array_like
        The means, of shape (in, out) and the dtype of `x`.
    log_sigma2 : array_like
        The logarithms of the variances, of the shape and dtype of `weight`.
    bias : array_like, optional
        Of shape (out,) and the dtype of `x`; it has no noise.
    prune_above : float, default 3
        Outside training, weights whose log alpha (see `fastdrop.theory.log_alpha`), not clipped, is not below this number
        count as 0.
    seed, offset, backend, num_threads
        As in `dropout`.
    training : bool, default True
        False: the result is ``x @ fastdrop.theory.prune(weight, log_sigma2, prune_above)[0] + bias``.
    out : numpy.ndarray, optional
        Where to put the result: of shape (..., out) and the dtype of `x`.
    start, global_shape, global_start
        As in `dropout`: the place of the result in the result of a larger batch or layer.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array of shape (..., out) and the dtype of `x`, to which the result is rounded once; float16 and
        bfloat16 are computed in float32.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and for shapes or dtypes that do not fit together.

    See Also
    --------
    variational_dense_backward : the gradients.
    fastdrop.losses.variational_kl : the divergence to add to the loss.

    Notes
    -----
    The noise is drawn once per output, not per weight (the local reparameterisation of [2]_). The result is
    ``m + sqrt(v + 1e-8) * z``, with m = x @ weight + bias, v = (x * x) @ exp(log_sigma2), and number i of `normal` as z of
    element i. Root and noise take one pass of the kernels. NumPy's BLAS computes the matrix products, so their last bits may
    differ between machines. With one BLAS, the result has the same bits with every backend and number of threads.

    References
    ----------
    .. [1] D. Molchanov, A. Ashukha, D. Vetrov, "Variational dropout sparsifies deep neural networks", ICML 2017.
    .. [2] D. P. Kingma, T. Salimans, M. Welling, "Variational dropout and the local reparameterization trick", NIPS 2015.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x, weight = np.ones((2, 3), np.float32), np.full((3, 1), 0.5, np.float32)
    >>> log_sigma2 = np.full((3, 1), -4, np.float32)
    >>> fastdrop.variational_dense(x, weight, log_sigma2, seed=42).round(4)
    array([[1.5673],
           [1.4815]], dtype=float32)
    """
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    layer, least = Linear(x, weight, bias), as_finite_scalar(prune_above, "prune_above")
    log_variance = layer.operand(log_sigma2, layer.weight.shape, "log_sigma2")
    if call.is_training:
        return numbers.spread_weights(call, layer, log_variance, None)
    numbers.check_place(layer.result_shape, layer.compute, call)
    with call.arrays(layer.x, shape=layer.result_shape) as run:
        kept = np.where(find_pruned(layer.weight, log_variance, least), layer.compute(0), layer.weight)
        return run.store(layer.apply(layer.rows, kept).reshape(layer.result_shape))


@backward_of(variational_dense)
def variational_dense_backward(
    grad: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    log_sigma2: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    prune_above: float = 3.0,
    seed: FixedSeed,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    """Return the gradients of `variational_dense` with respect to its input, means, logarithms of variances and biases.

    Parameters
    ----------
    grad : array_like
        The gradient with respect to the result, of its shape and the dtype of `x`.
    bias : array_like, optional
        As in the forward pass. Its values are not used.
    out : numpy.ndarray, optional
        Where to put the gradient with respect to `x`: of its shape and dtype.

    Returns
    -------
    tuple of (numpy.ndarray, numpy.ndarray, numpy.ndarray, numpy.ndarray or None)
        The gradients with respect to `x`, `weight`, `log_sigma2` and `bias`, each of its shape and dtype. The last is None
        without a `bias`. Outside training, the gradient of a pruned weight is 0, and so is that of `log_sigma2`.

    Notes
    -----
    With z and v of `variational_dense`, q = grad * z / (2 sqrt(v + 1e-8)) and s = exp(log_sigma2):
    dx = grad @ weight.T + 2 x * (q @ s.T), dweight = x.T @ grad and dlog_sigma2 = ((x * x).T @ q) * s. They do not contain the
    gradient of the divergence, which `fastdrop.losses.variational_kl_backward` and `fastdrop.theory.log_alpha_backward` return.
    The sum for the bias has a fixed order.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x, weight = np.ones((1, 2)), np.full((2, 1), 0.5)
    >>> layer = {"x": x, "weight": weight, "log_sigma2": np.full((2, 1), -4.0), "seed": 42}
    >>> dx, dweight, dlog_sigma2, dbias = fastdrop.variational_dense_backward(np.ones((1, 1)), **layer)
    >>> dweight.tolist(), dbias
    ([[1.0], [1.0]], None)
    """
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    layer, least = Linear(x, weight, bias), as_finite_scalar(prune_above, "prune_above")
    log_variance = layer.operand(log_sigma2, layer.weight.shape, "log_sigma2")
    outer = layer.grad_rows(grad)
    if call.is_training:
        dbias = bias_gradient(layer, outer)
        return *numbers.spread_weights_backward(call, layer, outer, log_variance, None), dbias
    numbers.check_place(layer.result_shape, layer.compute, call)
    with call.arrays(layer.x, name="x") as run:
        pruned = find_pruned(layer.weight, log_variance, least)
        dx = outer @ np.where(pruned, layer.compute(0), layer.weight).T
        dweight = np.where(pruned, 0, layer.rows.T @ outer)
        gradients = layer.rounded(dweight), layer.rounded(np.zeros_like(layer.weight)), bias_gradient(layer, outer)
        return run.store(dx.reshape(layer.x.shape)), *gradients


def bias_gradient(layer: Linear, outer: NDArray[Any]) -> NDArray[Any] | None:
    """Return the sum over samples in a fixed order; None for a layer without bias."""
    if layer.bias is None:
        return None
    return layer.rounded(numbers.sum_to_shape(outer, layer.bias.shape))


# Multiplicative noise of learned variance ---------------------------------------------------------------------------


def variational_dropout(
    x: ArrayLike,
    weight: ArrayLike,
    log_alpha: ArrayLike,
    noise: Literal["input", "weight"] = "input",
    *,
    bias: ArrayLike | None = None,
    max_log_alpha: float | None = 0.0,
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
    """Apply a dense layer with multiplicative Gaussian noise of learned variance alpha: Kingma's variational dropout.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        The layer's input, of shape (..., in).
    weight : array_like
        Of shape (in, out) and the dtype of `x`.
    log_alpha : float or array_like
        The logarithm of alpha: one number for the layer, or an array that broadcasts to the array with the noise, `x` (shape
        (in,) for one per unit) or `weight` (shape (in, 1) or (out,) for one per unit, (in, out) for one per weight).
    noise : {"input", "weight"}
        ``"input"``, the paper's type A: the inputs are multiplied by normal numbers of mean 1 and variance alpha, one per
        input, so that the noise of the outputs is correlated. This is `gaussian_dropout` before the layer. ``"weight"``, type
        B: each weight has its own noise; only the sum of the noise at each output is drawn.
    bias : array_like, optional
        Of shape (out,) and the dtype of `x`; it has no noise.
    max_log_alpha : float or None, default 0
        Larger log alphas are clamped to this value, and their gradient is 0. In the paper alpha is at most 1, because its
        approximation of the divergence holds only there. None for no bound.
    seed, offset, backend, num_threads
        As in `dropout`.
    training : bool, default True
        False: there is no noise.
    out : numpy.ndarray, optional
        Where to put the result: of shape (..., out) and the dtype of `x`.
    start, global_shape, global_start
        As in `dropout`: the place of `x` (``noise="input"``) or of the result (``noise="weight"``) in a larger array.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array of shape (..., out) and the dtype of `x`, to which the result is rounded once; float16 and
        bfloat16 are computed in float32.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and for shapes or dtypes that do not fit together, or an unknown `noise`.

    See Also
    --------
    variational_dropout_backward : the gradients.
    fastdrop.losses.variational_kl : the divergence to add to the loss, with ``approximation="kingma"``.

    Notes
    -----
    Type B is ``m + sqrt(v + 1e-8) * z``, with m = x @ weight + bias, v = (x * x) @ (alpha * weight * weight), and number i of
    `normal` as z of element i. The promise about bits is that of `variational_dense`.

    References
    ----------
    .. [1] D. P. Kingma, T. Salimans, M. Welling, "Variational dropout and the local reparameterization trick", NIPS 2015.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x, weight = np.ones((2, 3), np.float32), np.full((3, 1), 0.5, np.float32)
    >>> fastdrop.variational_dropout(x, weight, -2.0, "weight", seed=42).round(4)
    array([[1.5914],
           [1.4749]], dtype=float32)
    """
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    layer, alpha = Linear(x, weight, bias), numbers.alphas(log_alpha, largest(max_log_alpha))
    on_input = is_on_input(noise, alpha, layer)
    if call.is_training:
        return numbers.multiply_noisy(call, layer, alpha) if on_input else numbers.spread_weights(call, layer, None, alpha)
    numbers.check_place(layer.x.shape if on_input else layer.result_shape, layer.compute, call)
    with call.arrays(layer.x, shape=layer.result_shape) as run:
        return run.store(layer.apply(layer.rows, layer.weight).reshape(layer.result_shape))


@backward_of(variational_dropout)
def variational_dropout_backward(
    grad: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike,
    log_alpha: ArrayLike,
    noise: Literal["input", "weight"] = "input",
    *,
    bias: ArrayLike | None = None,
    max_log_alpha: float | None = 0.0,
    seed: FixedSeed,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64], NDArray[Any] | None]:
    """Return the gradients of `variational_dropout` with respect to its input, weights, log alpha and biases.

    Parameters
    ----------
    grad : array_like
        The gradient with respect to the result, of its shape and the dtype of `x`.
    bias : array_like, optional
        As in the forward pass. Its values are not used.
    out : numpy.ndarray, optional
        Where to put the gradient with respect to `x`: of its shape and dtype.

    Returns
    -------
    tuple of (numpy.ndarray, numpy.ndarray, numpy.ndarray, numpy.ndarray or None)
        The gradients with respect to `x`, `weight`, `log_alpha` and `bias`, each of its shape and dtype, except that the
        gradient of `log_alpha` has float64. It is 0 where log alpha is above `max_log_alpha`, and outside training. The last is
        None without a `bias`.

    Notes
    -----
    The sums over the elements that share an alpha, and the sum for the bias, have a fixed order.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> layer = {"x": np.ones((1, 2)), "weight": np.full((2, 1), 0.5), "log_alpha": -2.0, "seed": 42}
    >>> dx, dweight, dlog_alpha, dbias = fastdrop.variational_dropout_backward(np.ones((1, 1)), **layer)
    >>> dx.shape, dweight.shape, dlog_alpha.shape, dbias
    ((1, 2), (2, 1), (), None)
    """
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    layer, most = Linear(x, weight, bias), largest(max_log_alpha)
    given = np.array(plan.to_array(log_alpha, "log_alpha"))  # `out` may share memory with it
    alpha, bound = numbers.alphas(given, most), np.inf if most is None else most
    on_input = is_on_input(noise, alpha, layer)
    outer = layer.grad_rows(grad)
    if call.is_training and not on_input:
        dbias = bias_gradient(layer, outer)
        return *numbers.spread_weights_backward(call, layer, outer, None, alpha, given, bound), dbias
    numbers.check_place(layer.x.shape if on_input else layer.result_shape, layer.compute, call)
    with call.arrays(layer.x, name="x") as run:
        dx, dweight, dlog_alpha = input_noise_backward(layer, outer, alpha, run)
        free = given.astype(np.float64) <= bound
        gradients = layer.rounded(dweight), np.where(free, dlog_alpha, 0.0), bias_gradient(layer, outer)
        return run.store(dx.reshape(layer.x.shape)), *gradients


def input_noise_backward(
    layer: Linear, outer: NDArray[Any], alpha: NDArray[np.float64], run: Pass
) -> tuple[NDArray[Any], NDArray[Any], Any]:
    """Return the gradients with respect to rows, weights and log alpha for noise on the inputs, or without noise."""
    dnoisy = outer @ layer.weight.T
    if not run.call.is_training:
        return dnoisy, layer.rows.T @ outer, np.zeros(alpha.shape)
    shape = layer.x.shape  # the alphas broadcast to it
    x, grad = layer.rows.reshape(shape), dnoisy.reshape(shape)
    noisy = multiply_by_normal(run.own_call(), x, np.sqrt(alpha)).reshape(layer.rows.shape)
    dweight = noisy.T @ outer
    dx, dlog_alpha = multiply_by_normal_backward(run.own_call(), grad, np.sqrt(alpha), x)
    return dx, dweight, dlog_alpha


def largest(max_log_alpha: Any) -> float | None:
    """Return the bound of log alphas, checked; None for no bound."""
    return None if max_log_alpha is None else as_finite_scalar(max_log_alpha, "max_log_alpha")


def is_on_input(noise: Any, log_alpha: NDArray[Any], layer: Linear) -> bool:
    """Return whether the inputs have the noise; raise an error unless log alpha broadcasts to the array with the noise."""
    if not plan.is_one_of(noise, ("input", "weight")):
        raise ValueError(f"noise must be 'input' (the paper's type A) or 'weight' (type B); got {noise!r}")
    on_input: bool = noise == "input"
    shape, name = (layer.x.shape, "x") if on_input else (layer.weight.shape, "weight")
    check_broadcast(log_alpha, shape, name)
    return on_input
