"""Adaptive dropout: the probability of keeping an element comes from a network, and so does a gradient for that network."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.checks import finite_scalar, real_array
from fastdrop._core.settings import using
from fastdrop.elementary import sigmoid
from fastdrop.variants._masks import compute_type

__all__ = ["adaptive_dropout", "adaptive_dropout_backward", "standout", "standout_backward"]

Estimator = Literal["none", "straight_through", "score_function", "arm", "disarm"]
NEEDS = {  # estimator: the arguments that it is made of
    "none": (),
    "straight_through": ("x",),
    "score_function": ("losses",),
    "arm": ("losses", "antithetic_losses"),
    "disarm": ("losses", "antithetic_losses"),
}
DIGITS = 24  # of U(i), in `arm`


class Gate:
    """What decides: the probability of keeping each element, and the place of its numbers in the stream."""

    def __init__(self, like: NDArray[Any], logits: Any, alpha: Any, beta: Any, seed: Any, offset: Any, start: Any) -> None:
        plan.as_count(start, "start")
        self.shape, self.compute, self.start = like.shape, compute_type(like.dtype), start
        self.alpha = self.compute(finite_scalar(alpha, "alpha"))
        place = self.alpha * np.asarray(logits, like.dtype).astype(self.compute) + self.compute(finite_scalar(beta, "beta"))
        self.unknown = np.isnan(place)
        self.keep = np.where(self.unknown, self.compute(0), sigmoid(place))
        self.drop = self.compute(1) - self.keep
        self.rates = np.asarray(1.0 - self.keep.astype(np.float64))
        self.seed, self.offset = seed, offset

    def dropout(self, x: Any, training: bool, inverted: bool, out: Any, backward: bool) -> NDArray[Any]:
        mode = "inverted" if inverted else "standard"
        key = self.seed, self.offset
        return plan.dropout(x, self.rates, *key, training, mode, out, self.start, None, None, backward)

    def at_least(self, numbers: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return where U(i) is not below numbers in [0, 1]."""
        return plan.old_mask(self.shape, numbers, self.seed, self.offset, False, self.start, None, None)

    def mask(self) -> NDArray[np.bool_]:
        return self.at_least(self.rates)

    def antithetic_mask(self) -> NDArray[np.bool_]:
        """Return the mask that 1 - U(i) gives in place of U(i)."""
        return ~self.at_least(self.keep.astype(np.float64))

    def uniform(self) -> NDArray[np.float64]:
        """Return the first digits of U(i), and half of one in the last place: by bisection, as the stream has masks only."""
        below, step = np.zeros(self.shape), 0.5
        for _ in range(DIGITS):
            below += step * self.at_least(below + step)
            step /= 2
        return below + step

    def of_masks(self, estimator: str, losses: Any, antithetic_losses: Any) -> NDArray[Any]:
        """Return what losses alone say of the gradient with respect to the gate's argument."""
        if estimator == "score_function":
            return np.asarray(self.each(losses, "losses") * (self.mask().astype(self.compute) - self.keep))
        gain = self.each(losses, "losses") - self.each(antithetic_losses, "antithetic_losses")
        if estimator == "arm":
            return np.asarray(gain * (self.uniform() - 0.5).astype(self.compute))
        signs = self.mask().astype(self.compute) - self.antithetic_mask().astype(self.compute)
        return np.asarray(gain * (signs * (self.compute(0.5) * np.maximum(self.keep, self.drop))))

    def each(self, losses: Any, name: str) -> NDArray[Any]:
        """Return losses, one for each index of the leading axes, so that they broadcast to the elements."""
        given = real_array(losses, name, flags=False)
        if given.shape != self.shape[: given.ndim]:
            raise ValueError(f"{name} must have the shape {self.shape[:1]}, a loss for each example; got {given.shape}")
        return given.astype(self.compute).reshape(given.shape + (1,) * (len(self.shape) - given.ndim))


def adaptive_dropout(
    x: ArrayLike,
    logits: ArrayLike,
    alpha: float = 1.0,
    beta: float = 0.0,
    *,
    inverted: bool = False,
    antithetic: bool = False,
    seed: Any = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Keep each element with the probability sigmoid(alpha * logits + beta), which depends on the input: standout.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        The layer's activations, of any shape, strides and order.
    logits : array_like
        Of the shape and dtype of `x`. The paper's practical form has the layer's own values before its activation function;
        a network beside it may make them as well.
    alpha, beta : float, default 1 and 0
        P = sigmoid(alpha * logits + beta) is the probability of **keeping**, unlike other functions' p.
    inverted : bool, default False
        False, the paper: what is kept stays as it is; outside training the result is P * x. True: what is kept is divided by
        P, so that the expected value is x for any logits, and outside training the result is `x` itself.
    antithetic : bool, default False
        Use the mask that 1 - U(i) gives in place of U(i), for the second evaluation of the loss that ``estimator="arm"`` and
        ``"disarm"`` of `adaptive_dropout_backward` need. The seed must then be given, that of the first evaluation.
    seed, offset, training, out, start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`. What is dropped is +0.0.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; `logits` not like `x`; `alpha` or `beta` infinite or NaN.

    See Also
    --------
    adaptive_dropout_backward : the gradients.

    Notes
    -----
    Element i is dropped where U(i) < 1 - P(i), as in `dropout`. Where alpha * logits + beta is NaN, P is 0. The bits of P are
    the same everywhere (see `fastdrop.elementary.sigmoid`). Public code adds beta in other places: to the weights, for one. The
    paper's Algorithm 1, its own way of training the network that makes the logits, is not here: the estimators of
    `adaptive_dropout_backward` are others'.

    References
    ----------
    .. [1] J. Ba, B. Frey, "Adaptive dropout for training deep neural networks", NIPS 2013.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> h = np.array([2, -1, 0, 1], np.float32)  # a layer's values before its activation function
    >>> fastdrop.adaptive_dropout(np.maximum(h, 0), h, seed=42)
    array([2., 0., 0., 1.], dtype=float32)
    >>> fastdrop.adaptive_dropout(np.maximum(h, 0), h, training=False)
    array([1.761594 , 0.       , 0.       , 0.7310586], dtype=float32)
    """
    array, logits = plan.as_array(x, "x", out), plan.as_array(logits, "logits")
    plan.check(array, 0.0, seed, offset, out, backend, num_threads, logits, "x", "logits")
    with using(backend=backend, num_threads=num_threads), plan.RoundToNearest(), np.errstate(all="ignore"):
        gate = Gate(array, logits, alpha, beta, seed, offset, start)
        if not (training and antithetic):
            return gate.dropout(x, training, inverted, out, False)
        values = np.asarray(array).astype(gate.compute)
        if inverted:
            values *= (1.0 / (1.0 - gate.rates)).astype(gate.compute)
        kept = np.where(gate.antithetic_mask(), values, gate.compute(0))
        made = np.empty_like(array) if out is None else out
        np.asarray(made)[...] = kept
        return made


def adaptive_dropout_backward(
    grad: ArrayLike,
    logits: ArrayLike,
    alpha: float = 1.0,
    beta: float = 0.0,
    *,
    seed: Any,
    estimator: Estimator = "none",
    x: ArrayLike | None = None,
    losses: ArrayLike | None = None,
    antithetic_losses: ArrayLike | None = None,
    inverted: bool = False,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
) -> Any:
    """Return the gradient of `adaptive_dropout` with respect to its input; and an estimate of that of the logits.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to the result, of the same shape.
    logits, alpha, beta, inverted, seed, offset, training, start
        What the forward pass was given; see `dropout_backward` about `seed`.
    estimator : {"none", "straight_through", "score_function", "arm", "disarm"}
        What estimates the gradient of the expected loss with respect to the logits. With m the mask, u its numbers U(i), L the
        losses and L' the antithetic ones, the gradient with respect to l = alpha * logits + beta is

        - ``"none"``: not wanted, as in public code.
        - ``"straight_through"`` [2]_: grad x P (1 - P), as if the result were P x. Biased where the loss is not linear.
        - ``"score_function"`` [3]_: L (m - P). Subtract a baseline from the losses to make its variance smaller.
        - ``"arm"`` [4]_: (L - L') (u - 1/2). The first 24 digits of u are found by as many masks.
        - ``"disarm"`` [5]_: its mean given both masks, (L - L') (m - m') max(P, 1 - P) / 2: less variance, and two masks.
    x : array_like, optional
        The forward pass's input, of the shape and dtype of `grad`: for ``"straight_through"``; for every estimator if
        `inverted`, or outside training.
    losses, antithetic_losses : array_like, optional
        The part of the loss that each example (axis 0) has, of shape ``grad.shape[:1]`` (or one number, the loss of all): that
        of the forward pass, and that of another with ``antithetic=True``, all else as it was. In the unit of `grad`: where
        that is the gradient of a mean, each example's loss divided by their number.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray or tuple
        The gradient with respect to x; unless `estimator` is ``"none"``, a pair of it and the one with respect to `logits`,
        both like `grad`. The latter is 0 where the logits are NaN. Outside training it is the exact one.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `adaptive_dropout`; where `seed` is None; an unknown `estimator`, or one whose arguments are missing.

    Notes
    -----
    All but the straight-through estimator are unbiased. If `inverted`, the division by P has a gradient of its own, which is
    added: -grad y (1 - P).

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
    >>> fastdrop.adaptive_dropout_backward(grad, h, seed=42)
    array([[1., 0., 0., 1.]], dtype=float32)

    With the loss that the forward pass had:

    >>> loss = fastdrop.adaptive_dropout(h, h, seed=42).sum(axis=1)
    >>> dx, dlogits = fastdrop.adaptive_dropout_backward(grad, h, seed=42, estimator="score_function", losses=loss)
    >>> dlogits.shape
    (1, 4)
    """
    outer, logits = plan.as_array(grad, "grad", out), plan.as_array(logits, "logits")
    for other, name in ((logits, "logits"), (x, "x")):
        plan.check(outer, 0.0, seed, offset, out, backend, num_threads, other, "grad", name)
    check_estimator(estimator, training, inverted, {"x": x, "losses": losses, "antithetic_losses": antithetic_losses})
    with using(backend=backend, num_threads=num_threads), plan.RoundToNearest(), np.errstate(all="ignore"):
        gate = Gate(outer, logits, alpha, beta, seed, offset, start)
        if training:  # draws, once every argument has been found good
            gate.seed, gate.offset = plan.key_of(seed, offset, True)
        slopes: NDArray[Any] | None = None
        if training and estimator in ("score_function", "arm", "disarm"):
            slopes = gate.of_masks(estimator, losses, antithetic_losses)
        through = None if x is None else np.asarray(outer).astype(gate.compute) * np.asarray(x).astype(gate.compute)
        dx = gate.dropout(grad, training, inverted, out, True)
        if estimator == "none":
            return dx
        if through is not None:
            slopes = with_path(gate, slopes, through, training, inverted)
        dlogits = np.where(gate.unknown, gate.compute(0), gate.alpha * np.asarray(slopes))
        return dx, dlogits.astype(outer.dtype)


def with_path(gate: Gate, slopes: NDArray[Any] | None, through: NDArray[Any], training: bool, inverted: bool) -> NDArray[Any]:
    """Return the gate's gradient with what comes by way of the result; `through` is grad * x."""
    if inverted and not training:
        return np.zeros_like(through)
    if slopes is None:
        slopes = through * (gate.drop if inverted else gate.keep * gate.drop)
    if not inverted:
        return slopes
    scaled = through * (1.0 / (1.0 - gate.rates)).astype(gate.compute)
    return np.asarray(slopes - np.where(gate.mask(), scaled, gate.compute(0)) * gate.drop)


def check_estimator(estimator: Any, training: bool, inverted: bool, given: dict[str, Any]) -> None:
    if estimator not in NEEDS:
        raise ValueError(f"estimator must be one of {', '.join(map(repr, NEEDS))}; got {estimator!r}")
    needs = NEEDS[estimator] if training else ()
    if estimator != "none" and (inverted or not training):
        needs = (*needs, "x")
    missing = [name for name in needs if given[name] is None]
    if missing:
        raise ValueError(f"estimator {estimator!r} needs {' and '.join(missing)} here")


standout = adaptive_dropout
standout_backward = adaptive_dropout_backward
