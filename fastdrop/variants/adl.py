"""The attention-based dropout layer (ADL): attention maps from a network's activations select the dropped regions."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import ArrayLike, NDArray

from fastdrop._core import numbers
from fastdrop._core.checks import as_share, required
from fastdrop._core.plan import Call, as_array, as_rate
from fastdrop._core.types import Backend, DataFormat, FixedSeed, Seed
from fastdrop.variants._axes import axes_of_maps
from fastdrop.variants._backward import backward_of

__all__ = ["adl", "adl_backward"]


def adl(
    x: ArrayLike,
    p: float = 0.75,
    threshold: float = 0.8,
    *,
    data_format: DataFormat = "channels_first",
    seed: Seed | None = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Hide the most discriminative region of feature maps, or emphasise it: the attention-based dropout layer (ADL).

    The mean over the channels, A, is the attention map of a sample. With probability `p`, the positions with high A are dropped
    in the whole batch; otherwise the whole batch is multiplied by sigmoid(A), the importance map.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Feature maps: samples along the first axis, any number of spatial dimensions.
    p : float, default 0.75
        Probability of dropping positions, in [0, 1], instead of multiplying by the importance map; the paper's drop_rate.
    threshold : float, default 0.8
        A position is dropped if A is not below `threshold` times its maximum in the sample; in [0, 1]. Public code uses 0.5,
        0.8 and 0.9.
    data_format : {"channels_first", "channels_last"}
        Whether the channels are the second axis or the last.
    seed, offset, training, out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`; outside training `x` itself. Nothing is rescaled, as in the paper.

    Raises
    ------
    TypeError, ValueError
        As in `dropout`; and for an array of fewer than two dimensions, a bad `threshold` or `data_format`.

    Notes
    -----
    There is one decision per call: positions are dropped if U(0) < p. So the function has no `start` and no `global_shape`.

    A position is kept only if A < threshold * max(A), with the maximum over the positions of the sample. With ReLU before the
    layer, A >= 0, as in the paper. Other cases: a negative maximum is less than its product with a threshold below 1, so no
    position is dropped; with a maximum of 0, only positions with A < 0 are kept; NaN drops all positions of its sample. A
    position with A = 0 is dropped if the maximum or the threshold is 0, because 0 is not below 0.

    In the compute type (float32 for the 16-bit ones), A is the sum over the channels, divided by their number. In the sum, the
    second half of the channels is added to the first until one is left; the first half has one more if their number is odd.
    The sigmoid is that of `fastdrop.elementary`. The product with it is rounded once more, to the dtype. Dropped elements are
    +0.0.

    References
    ----------
    .. [1] J. Choe, H. Shim, "Attention-based dropout layer for weakly supervised object localization", CVPR 2019.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.array([[[1.0, 2.0, 9.0, 5.0], [1.0, 0.0, 7.0, 7.0]]])  # one sample, two channels, four places
    >>> fastdrop.adl(x, 1.0, seed=42)
    array([[[1., 2., 0., 5.],
            [1., 0., 0., 7.]]])
    >>> fastdrop.adl(x - 4, 0.0, seed=42).round(2)
    array([[[-0.14, -0.09,  4.91,  0.88],
            [-0.14, -0.19,  2.95,  2.64]]])
    """
    x = as_array(x, "x")
    call = Call(seed, offset, training, out, backend=backend, num_threads=num_threads)
    rule = Rule.from_array(x, "x", p, threshold, data_format)
    if not call.is_training:
        return call.unchanged(x)
    return numbers.hide_or_stress(call, x, rule.p, rule.threshold, rule.channels)


@backward_of(adl)
def adl_backward(
    grad: ArrayLike,
    x: ArrayLike,
    p: float = 0.75,
    threshold: float = 0.8,
    *,
    data_format: DataFormat = "channels_first",
    seed: FixedSeed,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `adl` with respect to its input.

    Parameters
    ----------
    x : array_like
        The input of `adl`, of the shape and dtype of `grad`.

    Notes
    -----
    If positions were dropped, the gradient is `grad` with 0 there; the choice of positions counts as a constant. Otherwise,
    with s = sigmoid(A) and C channels, it is grad s + (s (1 - s) / C) sum(grad x). The sum over the channels has the order of
    the sum in `adl`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.array([[[1.0, 2.0, 9.0, 5.0], [1.0, 0.0, 7.0, 7.0]]])
    >>> fastdrop.adl_backward(np.ones((1, 2, 4)), x, 1.0, seed=42)
    array([[[1., 1., 0., 1.],
            [1., 1., 0., 1.]]])
    """
    grad = as_array(grad, "grad")
    call = Call(seed, offset, training, out, backend=backend, num_threads=num_threads, backward=True)
    rule = Rule.from_array(grad, "grad", p, threshold, data_format)
    values = required(x, "x")
    if not call.is_training:
        return call.unchanged(grad, x=values)
    return numbers.hide_or_stress(call, grad, rule.p, rule.threshold, rule.channels, values)


class Rule(NamedTuple):
    """The checked arguments that select the dropped positions."""

    p: float
    threshold: float
    channels: int  # the axis

    @staticmethod
    def from_array(x: NDArray[Any], name: str, p: Any, threshold: Any, data_format: Any) -> Rule:
        """Return the rule for an array, or raise an error for a bad argument."""
        axes = axes_of_maps(x, data_format, name)
        channels = 1 if data_format == "channels_first" else len(axes) + 1
        return Rule(as_rate(p), as_share(threshold, "threshold"), channels)
