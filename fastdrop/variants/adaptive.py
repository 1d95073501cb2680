"""Adaptive dropout: logits, which a network computes, determine the keep probability of each element.

A mask has no gradient, so the gradient with respect to the logits is estimated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.arithmetic import apart, row_blocks
from fastdrop._core.checks import as_finite_scalar, as_real_array, required
from fastdrop._core.plan import Call, Pass
from fastdrop._core.types import Backend, FixedSeed, Seed
from fastdrop.elementary import sigmoid
from fastdrop.variants._backward import backward_of

__all__ = ["adaptive_dropout", "adaptive_dropout_backward"]

Estimator = Literal["none", "straight_through", "score_function", "arm", "disarm"]
NEEDS = {  # estimator: the arguments that it needs
    "none": (),
    "straight_through": ("x",),
    "score_function": ("losses",),
    "arm": ("losses", "antithetic_losses"),
    "disarm": ("losses", "antithetic_losses"),
}
DIGITS = 24  # of U(i), in `arm`


def adaptive_dropout(
    x: ArrayLike,
    logits: ArrayLike,
    gain: float = 1.0,
    shift: float = 0.0,
    *,
    mode: Literal["inverted", "standard"] = "inverted",
    antithetic: bool = False,
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
    """Keep each element with its own probability, sigmoid(gain * logits + shift): adaptive dropout, or standout.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        The layer's activations, of any shape, strides and order.
    logits : array_like
        Of the shape and dtype of `x`. In the practical form of the paper, the logits are the layer's values before its
        activation function. They may also come from another network.
    gain, shift : float, default 1 and 0
        P = sigmoid(gain * logits + shift) is the probability of **keeping** an element, unlike the p of other functions. The
        paper calls them alpha and beta.
    mode : {"inverted", "standard"}
        ``"inverted"``: kept elements are divided by P in training, so that the expected value is x wherever P > 0; outside
        training the result is `x` itself. ``"standard"``, as in the paper: kept elements are unscaled in training; outside
        training the result is P * x.
    antithetic : bool, default False
        Use the mask that 1 - U(i) gives instead of U(i). The estimators "arm" and "disarm" of `adaptive_dropout_backward` need
        a second evaluation of the loss with this mask. Then the seed is required: pass that of the first evaluation.
    seed, offset, training, out, start, global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`. Dropped elements are +0.0.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and for `logits` that are not like `x`, or a `gain` or `shift` that is infinite or NaN.

    See Also
    --------
    adaptive_dropout_backward : the gradients.

    Notes
    -----
    P and 1 / P are computed in the compute type, 1 - P in float64. Element i is dropped if U(i) < 1 - P(i), as in `dropout`. If
    gain * logits + shift is NaN, P is 0. The bits of P are the same everywhere (see `fastdrop.elementary.sigmoid`). Public
    code adds the shift in other places, for example to the weights. Algorithm 1 of the paper, which trains the network that
    computes the logits, is not implemented: the estimators of `adaptive_dropout_backward` come from other papers.

    References
    ----------
    .. [1] J. Ba, B. Frey, "Adaptive dropout for training deep neural networks", NIPS 2013.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> h = np.array([2, -1, 0, 1], np.float32)  # a layer's values before its activation function
    >>> fastdrop.adaptive_dropout(np.maximum(h, 0), h, mode="standard", seed=42)
    array([2., 0., 0., 1.], dtype=float32)
    >>> fastdrop.adaptive_dropout(np.maximum(h, 0), h, mode="standard", training=False)
    array([1.761594 , 0.       , 0.       , 0.7310586], dtype=float32)
    """
    x = plan.as_array(x, "x")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads)
    if plan.check_flag(antithetic, "antithetic") and seed is None and call.is_training:
        raise TypeError("seed is required here, for an antithetic mask: pass the key of the first evaluation")
    line = Line(gain, shift, mode)
    given = required(logits, "logits")
    if call.is_training:
        return call.gate(x, given, line.gain, line.shift, mode=line.mode, antithetic=antithetic)
    call.check_place(x.shape)
    with call.arrays(x, logits=given) as run:
        return Gate(run, line).mean(x)


@backward_of(adaptive_dropout)
def adaptive_dropout_backward(
    grad: ArrayLike,
    logits: ArrayLike,
    gain: float = 1.0,
    shift: float = 0.0,
    *,
    estimator: Estimator = "none",
    x: ArrayLike | None = None,
    losses: ArrayLike | None = None,
    antithetic_losses: ArrayLike | None = None,
    mode: Literal["inverted", "standard"] = "inverted",
    seed: FixedSeed,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return the gradient of `adaptive_dropout` with respect to its input, and an estimate of that of the logits.

    Parameters
    ----------
    estimator : {"none", "straight_through", "score_function", "arm", "disarm"}
        The estimator of the gradient of the expected loss with respect to the logits. With m the mask, u its numbers U(i), L
        the losses and L' the antithetic ones, the gradient with respect to l = gain * logits + shift is

        - ``"none"``: not computed, as in public code.
        - ``"straight_through"`` [2]_: grad x P (1 - P), as if the result were P x; in inverted mode it is divided by P:
          grad x (1 - P). Biased unless the loss is linear.
        - ``"score_function"`` [3]_: L (m - P). Subtract a baseline from the losses to reduce its variance.
        - ``"arm"`` [4]_: (L - L') (u - 1/2). It costs 24 masks, one for each digit of u that is used.
        - ``"disarm"`` [5]_: the mean of ARM given both masks, (L - L') (m - m') max(P, 1 - P) / 2, where m' is the antithetic
          mask. It has less variance than ARM, and costs two masks.
    x : array_like, optional
        The input of the forward pass, of the shape and dtype of `grad`. ``"straight_through"`` needs it; every estimator needs
        it in inverted mode and outside training.
    losses, antithetic_losses : array_like, optional
        The loss of each sample (axis 0), of shape ``grad.shape[:1]``, or one number, the loss of all samples. `losses` are
        those of the forward pass; `antithetic_losses` are those of a second pass with ``antithetic=True`` and the same other
        arguments. They have the unit of `grad`: if `grad` is the gradient of a mean over samples, divide each sample's loss by
        the number of samples.
    out : numpy.ndarray, optional
        Where to put the gradient with respect to x.

    Returns
    -------
    tuple of (numpy.ndarray, numpy.ndarray or None)
        The gradients with respect to x and to `logits`, both like `grad`. The latter is None if `estimator` is ``"none"``, and
        0 where the logits are NaN. Outside training it is exact.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `adaptive_dropout`; and for a seed that is missing or has a state, an unknown `estimator`, or missing arguments of
        the estimator.

    Notes
    -----
    All estimators but the straight-through one are unbiased. In inverted mode the division by P has a gradient, which is added:
    -grad y (1 - P).

    References
    ----------
    .. [1] J. Ba, B. Frey, "Adaptive dropout for training deep neural networks", NIPS 2013.
    .. [2] Y. Bengio, N. Leonard, A. Courville, "Estimating or propagating gradients through stochastic neurons for conditional
       computation", arXiv:1308.3432, 2013.
    .. [3] R. J. Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement learning", Machine
       Learning 8 (1992) 229-256.
    .. [4] M. Yin, M. Zhou, "ARM: augment-REINFORCE-merge gradient for stochastic binary networks", ICLR 2019.
    .. [5] Z. Dong, A. Mnih, G. Tucker, "DisARM: an antithetic gradient estimator for binary latent variables", NeurIPS 2020.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> h = np.array([[2, -1, 0, 1]], np.float32)
    >>> grad = np.ones_like(h)
    >>> dx, _ = fastdrop.adaptive_dropout_backward(grad, h, mode="standard", seed=42)
    >>> dx
    array([[1., 0., 0., 1.]], dtype=float32)

    With the loss of the forward pass:

    >>> loss = fastdrop.adaptive_dropout(h, h, seed=42).sum(axis=1)
    >>> dx, dlogits = fastdrop.adaptive_dropout_backward(grad, h, estimator="score_function", x=h, losses=loss, seed=42)
    >>> dlogits.shape
    (1, 4)
    """
    grad = plan.as_array(grad, "grad")
    call = Call(seed, offset, training, out, start, global_shape, global_start, backend, num_threads, True)
    line = Line(gain, shift, mode)
    given = {"x": x, "losses": losses, "antithetic_losses": antithetic_losses}
    check_estimator(estimator, call.is_training, mode, given)
    if estimator == "none" and x is losses is antithetic_losses is None and call.is_training:
        return call.gate(grad, required(logits, "logits"), line.gain, line.shift, mode=line.mode), None
    shape = grad.shape
    losses, antithetic_losses = (each_sample(given[name], name, shape) for name in ("losses", "antithetic_losses"))
    call.check_place(shape)
    with call.arrays(grad, logits=required(logits, "logits"), x=x) as run:
        gate = Gate(run, line)
        # First, because the result may be written over an operand.
        dlogits = None if estimator == "none" else gate.slopes(estimator, losses, antithetic_losses)
        return gate.drop() if call.is_training else gate.mean(grad), dlogits


def check_estimator(estimator: Any, training: bool, mode: str, given: dict[str, Any]) -> None:
    """Raise an error unless the estimator is known and all its arguments were given."""
    if not plan.is_one_of(estimator, NEEDS):
        raise ValueError(f"estimator must be one of {', '.join(map(repr, NEEDS))}; got {estimator!r}")
    needs = NEEDS[estimator] if training else ()
    if estimator != "none" and (mode == "inverted" or not training):
        needs = (*needs, "x")
    missing = [name for name in needs if given[name] is None]
    if missing:
        raise ValueError(f"estimator {estimator!r} needs {' and '.join(missing)} here")


def each_sample(losses: Any, name: str, shape: tuple[int, ...]) -> NDArray[Any] | None:
    """Return losses, one per sample, in a shape that broadcasts to the elements."""
    if losses is None:
        return None
    given = as_real_array(losses, name, flags=False)
    if given.ndim and given.shape != shape[:1]:
        raise ValueError(
            f"{name} must have the shape {shape[:1]}, one loss per sample, or be one number; got shape {given.shape}"
        )
    return given.reshape(given.shape + (1,) * (len(shape) - given.ndim))


class Line:
    """The checked arguments that convert logits to probabilities and that scale kept elements."""

    def __init__(self, gain: Any, shift: Any, mode: Any) -> None:
        self.gain, self.shift = as_finite_scalar(gain, "gain"), as_finite_scalar(shift, "shift")
        self.mode = plan.check_mode(mode)


class Gate:
    """The mask of one call that logits determine."""

    def __init__(self, run: Pass, line: Line) -> None:
        self.run, self.line, self.logits = run, line, run.others[0]

    def keep(self, block: Any) -> NDArray[Any]:
        """Return the keep probabilities of a block in the compute type."""
        compute = self.run.compute
        argument = compute(self.line.gain) * self.logits[block].astype(compute) + compute(self.line.shift)
        return np.where(np.isnan(argument), compute(0), sigmoid(argument))

    def drop(self) -> NDArray[Any]:
        """Return the call's array times the mask."""
        run, line = self.run, self.line
        run.own_call(out=run.y).gate(run.x, self.logits, line.gain, line.shift, mode=line.mode)
        return run.result()

    def mean(self, given: NDArray[Any]) -> NDArray[Any]:
        """Return the call's array times the mean of the mask, the result outside training. In inverted mode that is `given`.

        The pass may have a view of the array that was given.
        """
        run, line = self.run, self.line
        if line.mode == "inverted":
            return run.call.unchanged(given)
        self.logits = apart(self.logits, run.y)
        x, y = apart(np.asarray(run.x), np.asarray(run.y)), np.asarray(run.y)
        for block in row_blocks(x.shape):
            keep = self.keep(block)
            y[block] = np.where(keep == 0, run.compute(0), x[block].astype(run.compute) * keep)  # infinity times 0 is 0 here
        return run.result()

    def slopes(self, estimator: Estimator, losses: Any, antithetic_losses: Any) -> NDArray[Any]:
        """Return the estimate of the gradient with respect to the logits."""
        run, type = self.run, self.run.compute
        if not run.call.is_training:
            return self.mean_slopes()
        given = None if losses is None else losses.astype(type)
        if estimator in ("arm", "disarm"):
            given = given - antithetic_losses.astype(type)
        if estimator == "arm":
            given = given * (self.uniform() - 0.5).astype(type)
        made = run.own_call().gate_backward(
            run.x,
            self.logits,
            self.line.gain,
            self.line.shift,
            "given" if estimator == "arm" else estimator,
            mode=self.line.mode,
            x=run.others[1],
            losses=None if estimator == "straight_through" else np.asarray(given),
        )
        return made.astype(run.x.dtype, copy=False)

    def mean_slopes(self) -> NDArray[Any]:
        """Return the gradient with respect to the logits outside training."""
        run, type = self.run, self.run.compute
        slopes = np.zeros(run.x.shape, run.x.dtype)
        if self.line.mode == "inverted":
            return slopes
        grad, x = np.asarray(run.x), run.others[1]
        for block in row_blocks(grad.shape):
            keep = self.keep(block)
            through = (grad[block].astype(type) * x[block].astype(type)) * (keep * (type(1) - keep))
            slopes[block] = np.where(keep == 0, type(0), type(self.line.gain) * through)
        return slopes

    def uniform(self) -> NDArray[np.float64]:
        """Return the first digits of U(i) plus half a unit in the last place, by bisection with masks of the stream."""
        shape = self.run.x.shape
        below, step = np.zeros(shape), 0.5
        for _ in range(DIGITS):
            below += step * self.run.mask(shape, below + step)
            step /= 2
        return below + step
