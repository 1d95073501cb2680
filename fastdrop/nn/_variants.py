"""One layer per variant of dropout. Each names the functions of its two passes; `Variant` defines its behaviour."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import fastdrop
from fastdrop import elementary, losses, theory
from fastdrop._core import plan
from fastdrop._core.checks import as_finite_scalar, as_floats
from fastdrop._core.types import FixedSeed, Seed
from fastdrop.nn.variant import Record, Variant, as_record
from fastdrop.variants.attention import check_rule, divides_rows
from fastdrop.variants.variational import largest

__all__ = [
    "ADL",
    "AdaptiveDropout",
    "AlphaDropout",
    "AttentionDropout",
    "ConcreteDropout",
    "DropBlock",
    "DropConnect",
    "DropHead",
    "DropKey",
    "DropPath",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "EmbeddingDropout",
    "FeatureAlphaDropout",
    "GaussianDropout",
    "GaussianNoise",
    "GroupDropout",
    "ImportanceDropout",
    "LockedDropout",
    "MultinomialDropout",
    "PatchDropout",
    "Shakeout",
    "SpatialConcreteDropout",
    "SpatialDropout",
    "TargetedDropout",
    "TokenDropout",
    "UniformDropout",
    "VariationalDense",
    "VariationalDropout",
    "WeightDrop",
    "WordDropout",
    "Zoneout",
]

# Elements, channels, blocks -----------------------------------------------------------------------------------------


class Dropout(Variant, forward=fastdrop.dropout, backward=fastdrop.dropout_backward):
    """Drops elements: `fastdrop.dropout`. ``forward(x, residual=...)`` adds the residual in the same pass.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.Dropout(0.5, seed=42)
    >>> layer(np.ones(6, np.float32))
    array([2., 0., 0., 0., 0., 2.], dtype=float32)
    >>> layer.backward(np.ones(6, np.float32))
    array([2., 0., 0., 0., 0., 2.], dtype=float32)
    >>> layer.eval()(np.ones(2, np.float32))
    array([1., 1.], dtype=float32)
    """


class Dropout1d(Variant, forward=fastdrop.dropout1d, backward=fastdrop.dropout1d_backward):
    """Drops channels of sequences: `fastdrop.dropout1d`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.Dropout1d(0.5, seed=42)
    >>> y = layer(np.ones((2, 3, 8), np.float32))
    >>> dx = layer.backward(np.ones_like(y))
    """


class Dropout2d(Variant, forward=fastdrop.dropout2d, backward=fastdrop.dropout2d_backward):
    """Drops channels of images: `fastdrop.dropout2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.Dropout2d(0.5, seed=42)
    >>> y = layer(np.ones((2, 3, 8, 8), np.float32))
    >>> dx = layer.backward(np.ones_like(y))
    """


class Dropout3d(Variant, forward=fastdrop.dropout3d, backward=fastdrop.dropout3d_backward):
    """Drops channels of volumes: `fastdrop.dropout3d`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.Dropout3d(0.5, seed=42)
    >>> y = layer(np.ones((2, 3, 4, 4, 4), np.float32))
    >>> dx = layer.backward(np.ones_like(y))
    """


class SpatialDropout(Variant, forward=fastdrop.spatial_dropout, backward=fastdrop.spatial_dropout_backward):
    """Drops whole feature maps: `fastdrop.spatial_dropout`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.SpatialDropout(0.5, seed=42)
    >>> y = layer(np.ones((2, 3, 8), np.float32))
    >>> dx = layer.backward(np.ones_like(y))
    """


class LockedDropout(Variant, forward=fastdrop.locked_dropout, backward=fastdrop.locked_dropout_backward):
    """Drops the same features at all time steps: `fastdrop.locked_dropout`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.LockedDropout(0.5, seed=42)
    >>> y = layer(np.ones((7, 2, 3), np.float32))
    >>> dx = layer.backward(np.ones_like(y))
    """


class GroupDropout(Variant, forward=fastdrop.group_dropout, backward=fastdrop.group_dropout_backward):
    """Drops groups of neighbours: `fastdrop.group_dropout`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.GroupDropout(0.5, group_size=2, seed=42)
    >>> y = layer(np.ones((2, 8), np.float32))
    >>> dx = layer.backward(np.ones_like(y))
    """


class GaussianDropout(Variant, forward=fastdrop.gaussian_dropout, backward=fastdrop.gaussian_dropout_backward):
    """Multiplies elements by normal numbers of mean 1: `fastdrop.gaussian_dropout`.

    Parameters
    ----------
    log_alpha : float or numpy.ndarray, optional
        The logarithm of the variance, which is trained instead of `p`; `p` is then not used and has no schedule. It becomes the
        parameter ``log_alpha``, of float64, and `rate` is the learned rate.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.GaussianDropout(log_alpha=0.0, seed=42)
    >>> y = layer(np.ones((2, 4), np.float32))
    >>> dx = layer.backward(np.ones_like(y))
    >>> layer.rate, layer.gradients["log_alpha"].shape
    (0.5, ())
    """

    scaling = "mean 1"
    learned = ("log_alpha",)

    def __init__(self, p: Any = 0.5, *, log_alpha: ArrayLike | None = None, seed: Seed | None = None) -> None:
        parameters = {} if log_alpha is None else {"log_alpha": as_floats(log_alpha, "log_alpha")}
        if parameters and callable(p):
            raise ValueError(f"p must have no schedule if log_alpha is given, which is trained instead of p; got {p!r}")
        self.set_up(parameters, p, seed=seed)

    @property
    def rate(self) -> Any:
        """The rate p of dropout with the same variance, p / (1 - p); the learned rate if it is trained."""
        return learned_rate(self.own_parameters["log_alpha"]) if self.own_parameters else super().rate

    def describe_arguments(self) -> str:
        """Return the rate or the logarithm, as `repr` shows it."""
        trained = self.own_parameters.get("log_alpha")
        return (
            super().describe_arguments() if trained is None else f"log_alpha={(trained if trained.ndim else trained.item())!r}"
        )

    def remember(self, x: Any, **more: Any) -> dict[str, Any]:
        """Return the input and the logarithm if the variance is trained."""
        return super().remember(x, **more) if self.own_parameters else {}


def learned_rate(logit: NDArray[np.float64]) -> Any:
    """Return the rate p of a logit log(p / (1 - p)): a float, or an array of them."""
    rate = elementary.sigmoid(logit)
    return rate if np.ndim(rate) else float(rate)


def gaussian_noise_backward(grad: Any, stddev: Any = 1.0, *, seed: FixedSeed, offset: int = 0, training: bool = True) -> Any:
    """Return the gradient of the result, which for added noise is also the gradient of the input."""
    return grad


class GaussianNoise(Variant, forward=fastdrop.gaussian_noise, backward=gaussian_noise_backward, scheduled="stddev"):
    """Adds normal numbers: `fastdrop.gaussian_noise`. The standard deviation may have a schedule, in [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.GaussianNoise(0.1, seed=42)
    >>> y = layer(np.ones((2, 4), np.float32))
    >>> dx = layer.backward(np.ones_like(y))
    """

    scaling = "additive"


class UniformDropout(
    Variant, forward=fastdrop.uniform_dropout, backward=fastdrop.uniform_dropout_backward, scheduled="half_width"
):
    """Multiplies by uniform numbers around 1: `fastdrop.uniform_dropout`. The half width may have a schedule, in [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.UniformDropout(0.1, seed=42)
    >>> y = layer(np.ones((2, 4), np.float32))
    >>> dx = layer.backward(np.ones_like(y))
    """

    scaling = "mean 1"


class AlphaDropout(Variant, forward=fastdrop.alpha_dropout, backward=fastdrop.alpha_dropout_backward):
    """Drops elements, and keeps the mean and the variance in a SELU network: `fastdrop.alpha_dropout`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.AlphaDropout(0.2, seed=42)
    >>> y = layer(np.ones((2, 4), np.float32))
    >>> dx = layer.backward(np.ones_like(y))
    """

    scaling = "restores mean and variance"


class FeatureAlphaDropout(Variant, forward=fastdrop.feature_alpha_dropout, backward=fastdrop.feature_alpha_dropout_backward):
    """Applies alpha dropout to whole channels: `fastdrop.feature_alpha_dropout`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.FeatureAlphaDropout(0.2, seed=42)
    >>> y = layer(np.ones((2, 3, 8), np.float32))
    >>> dx = layer.backward(np.ones_like(y))
    """

    scaling = "restores mean and variance"


class DropBlock(Variant, forward=fastdrop.drop_block, backward=fastdrop.drop_block_backward):
    """Drops blocks of feature maps: `fastdrop.drop_block`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.DropBlock(0.1, 3, seed=42)
    >>> y = layer(np.ones((2, 3, 8, 8), np.float32))
    >>> dx = layer.backward(np.ones_like(y))
    """


# Learned rates ------------------------------------------------------------------------------------------------------


class ConcreteDropout(
    Variant, forward=fastdrop.concrete_dropout, backward=fastdrop.concrete_dropout_backward, scheduled="temperature"
):
    """Learns its rate: `fastdrop.concrete_dropout`.

    Parameters
    ----------
    p : float
        The initial rate, above 0 and below 1; its logit is the parameter ``p_logit``, of float64.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer, weights = nn.ConcreteDropout(0.3, seed=42), np.ones((4, 3), np.float32)
    >>> y = layer(np.ones((2, 4), np.float32))
    >>> dx = layer.backward(np.ones_like(y))
    >>> value, dweights = layer.regularize(weights, input_dim=4)
    >>> layer.parameters["p_logit"][...] -= 0.1 * layer.gradients["p_logit"]
    >>> round(layer.rate, 2)
    0.25
    """

    scaling = "inverted, of the mean"
    learned = ("p_logit",)

    def __init__(self, p: float = 0.1, *arguments: Any, **options: Any) -> None:
        self._first_rate = plan.as_rate(p)
        if self._first_rate in (0.0, 1.0):
            raise ValueError(f"p, the initial rate, must be above 0 and below 1; got {p!r}")
        self.set_up({"p_logit": elementary.logit(np.array(self._first_rate))}, *arguments, **options)

    @property
    def rate(self) -> float:
        """The learned rate at this step."""
        return float(learned_rate(self.own_parameters["p_logit"]))

    def own_config(self) -> dict[str, Any]:
        """Return the initial rate, the temperature and the options."""
        return {"p": self._first_rate, **super().own_config()}

    def describe_arguments(self) -> str:
        """Return the rate, the temperature and the options, as `repr` shows them."""
        return f"{self.rate:.4g}, {super().describe_arguments()}"

    def regularize(self, weights: Any, input_dim: int, **strengths: Any) -> tuple[float, Any]:
        """Return the regularizer's value and its gradient with respect to the weights, and add the gradient of the logit.

        The arguments are those of `fastdrop.losses.concrete_regularizer`. Without the regularizer, training lowers the rate to
        the value that fits the training data best.
        """
        given = self.own_parameters["p_logit"], weights, input_dim
        of_rate, of_weights = losses.concrete_regularizer_backward(*given, **strengths)
        self.own_gradients["p_logit"] += of_rate
        return float(losses.concrete_regularizer(*given, **strengths)), of_weights


class SpatialConcreteDropout(
    ConcreteDropout,
    forward=fastdrop.spatial_concrete_dropout,
    backward=fastdrop.spatial_concrete_dropout_backward,
    scheduled="temperature",
):
    """Learns its rate and drops whole feature maps: `fastdrop.spatial_concrete_dropout`.

    Parameters
    ----------
    p : float
        The initial rate, as in `ConcreteDropout`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.SpatialConcreteDropout(0.2, seed=42)
    >>> y = layer(np.ones((2, 3, 8), np.float32))
    >>> round(layer.rate, 3)
    0.2
    """


class VariationalDense(
    Variant, forward=fastdrop.variational_dense, backward=fastdrop.variational_dense_backward, scheduled="prune_above"
):
    """A linear layer that learns the noise of each weight: `fastdrop.variational_dense`.

    Parameters
    ----------
    weight : numpy.ndarray
        The means of the weights, of shape (in, out). It becomes the parameter ``weight``, which is trained in place.
    log_sigma2 : numpy.ndarray
        The logarithms of the weights' variances, of the same shape: the parameter ``log_sigma2``.
    bias : numpy.ndarray, optional
        Of shape (out,): the parameter ``bias``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.VariationalDense(np.ones((4, 3)), np.full((4, 3), -4.0), seed=42)
    >>> y = layer(np.ones((2, 4)))
    >>> dx = layer.backward(np.ones_like(y))
    >>> round(layer.kl(), 2)  # add it to the loss; the gradients are added already
    31.61
    """

    scaling = "mean 1"

    def __init__(
        self,
        weight: NDArray[Any],
        log_sigma2: NDArray[Any],
        prune_above: Any = 3.0,
        *,
        bias: NDArray[Any] | None = None,
        seed: Seed | None = None,
    ) -> None:
        self.set_up({"weight": weight, "log_sigma2": log_sigma2, "bias": bias}, prune_above=prune_above, seed=seed)

    def kl(self, factor: float = 1.0) -> float:
        """Return the divergence of the weights from their prior times a factor, and add its gradients to the parameters'.

        See `fastdrop.losses.variational_kl`. The loss of a whole data set contains the divergence once. If the loss is a mean
        over examples, pass 1 / (number of examples in the data set) as the factor.
        """
        given = self.own_parameters["weight"], self.own_parameters["log_sigma2"]
        log_alpha, factor = theory.log_alpha(*given), as_finite_scalar(factor, "factor")
        slopes = factor * losses.variational_kl_backward(log_alpha)
        for name, part in zip(("weight", "log_sigma2"), theory.log_alpha_backward(slopes, *given), strict=True):
            self.own_gradients[name] += part
        return factor * float(losses.variational_kl(log_alpha))


class VariationalDropout(
    Variant, forward=fastdrop.variational_dropout, backward=fastdrop.variational_dropout_backward, scheduled="noise"
):
    """A linear layer with Kingma, Salimans and Welling's noise of learned variance: `fastdrop.variational_dropout`.

    Parameters
    ----------
    weight : numpy.ndarray
        Of shape (in, out). It becomes the parameter ``weight``, which is trained in place.
    log_alpha : numpy.ndarray
        The logarithms of the noise's variance, of a shape that the function takes: the parameter ``log_alpha``.
    noise : {"input", "weight"}
        Whether the inputs or the weights have the noise.
    bias : numpy.ndarray, optional
        Of shape (out,): the parameter ``bias``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.VariationalDropout(np.ones((4, 3)), np.array(-1.0), seed=42)
    >>> y = layer(np.ones((2, 4)))
    >>> dx = layer.backward(np.ones_like(y))
    >>> round(layer.kl(), 2), round(layer.rate, 3)
    (10.58, 0.269)
    """

    scaling = "mean 1"
    learned = ("log_alpha",)

    def __init__(
        self,
        weight: NDArray[Any],
        log_alpha: NDArray[Any],
        noise: Any = "input",
        *,
        bias: NDArray[Any] | None = None,
        seed: Seed | None = None,
        **options: Any,
    ) -> None:
        self.set_up({"weight": weight, "log_alpha": log_alpha, "bias": bias}, noise, seed=seed, **options)

    @property
    def rate(self) -> Any:
        """The learned rate: the p of dropout with the same variance, p / (1 - p). `max_log_alpha` bounds the variance."""
        log_alpha, most = np.asarray(self.own_parameters["log_alpha"], np.float64), largest(self.options["max_log_alpha"])
        return learned_rate(log_alpha if most is None else np.minimum(log_alpha, most))

    def kl(self, factor: float = 1.0) -> float:
        """Return the divergence of the weights from their prior times a factor, and add its gradient to that of log alpha.

        See `fastdrop.losses.variational_kl`, with the approximation "kingma". The loss of a whole data set contains the
        divergence once. If the loss is a mean over examples, pass 1 / (number of examples in the data set) as the factor.
        """
        factor = as_finite_scalar(factor, "factor")
        log_alpha, shape = self.own_parameters["log_alpha"], self.own_parameters["weight"].shape
        self.own_gradients["log_alpha"] += factor * losses.variational_kl_backward(log_alpha, "kingma", shape=shape)
        return factor * float(losses.variational_kl(log_alpha, "kingma", shape=shape))


class AdaptiveDropout(
    Variant, forward=fastdrop.adaptive_dropout, backward=fastdrop.adaptive_dropout_backward, scheduled="gain"
):
    """Keeps units with probabilities that follow logits: `fastdrop.adaptive_dropout`, ``forward(x, logits)``.

    With ``estimator="straight_through"``, ``backward(grad)`` returns the gradients with respect to x and to the logits. The
    other estimators need losses, which a layer cannot pass on: call `fastdrop.adaptive_dropout_backward` for them.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> x = np.ones((2, 4), np.float32)
    >>> layer = nn.AdaptiveDropout(seed=42)
    >>> y = layer(x, np.zeros_like(x))
    >>> dx = layer.backward(np.ones_like(y))
    """

    def remember(self, *inputs: Any, **more: Any) -> dict[str, Any]:
        """Return the logits, and the input if an estimator needs it."""
        given = super().remember(*inputs, **more)
        if plan.is_one_of(self.options["estimator"], ("none",)):
            del given["x"]
        return given


# Importance ---------------------------------------------------------------------------------------------------------


class ImportanceDropout(Variant, forward=fastdrop.importance_dropout, backward=fastdrop.importance_dropout_backward):
    """Drops elements with low scores more often: `fastdrop.importance_dropout`, ``forward(x, scores)``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.ImportanceDropout(0.5, seed=42)
    >>> y = layer(np.ones((2, 4), np.float32), np.arange(4.0))
    >>> dx = layer.backward(np.ones_like(y))
    """

    scaling = "by each probability"


class MultinomialDropout(
    Variant, forward=fastdrop.multinomial_dropout, backward=fastdrop.multinomial_dropout_backward, scheduled="k"
):
    """Keeps only a random sample of features: `fastdrop.multinomial_dropout`.

    ``forward(x)`` computes the probabilities from the features; ``forward(x, probabilities=...)`` uses the given ones.

    Parameters
    ----------
    k : int or callable
        The number of draws per sample, at least 1. Or a callable step -> k that returns an integer; the schedules of
        `fastdrop.schedules` return rates.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.MultinomialDropout(2, seed=42)
    >>> y = layer(np.ones((2, 4), np.float32))
    >>> dx = layer.backward(np.ones_like(y))
    """

    scaling = "by count / (k P)"

    def record(self, x: Any, **more: Any) -> tuple[Any, Record]:
        """Return the output and a record; see `Layer.record`."""
        again = more.get("again")
        dropping = self.training or self.sampling if again is None else as_record(again, "again").dropping
        if more.setdefault("probabilities", None) is None and dropping:
            more["probabilities"] = theory.multinomial_probabilities(x)
        return super().record(x, **more)


class ADL(Variant, forward=fastdrop.adl, backward=fastdrop.adl_backward):
    """Hides the most discriminative region of feature maps, or emphasises it: `fastdrop.adl`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.ADL(0.75, seed=42)
    >>> y = layer(np.ones((2, 3, 8, 8), np.float32))
    >>> dx = layer.backward(np.ones_like(y))
    """

    scaling = "none"


# Attention ----------------------------------------------------------------------------------------------------------


class AttentionDropout(Variant, forward=fastdrop.attention_dropout, backward=fastdrop.attention_dropout_backward):
    """Drops attention probabilities: `fastdrop.attention_dropout`. If rows are renormalized, the layer stores its input.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.AttentionDropout(0.1, seed=42)
    >>> y = layer(np.full((2, 4, 6, 6), 1 / 6, np.float32))
    >>> dx = layer.backward(np.ones_like(y))
    """

    @property
    def renormalizes(self) -> bool:
        """Whether each row is divided by its sum."""
        rule = [self.options[name] for name in ("unit", "shared_axes", "window", "exact_rate", "renormalize")]
        return check_rule(0.0, *rule).renormalize

    @property
    def scaling(self) -> str:
        """The scaling of kept values."""
        return "by row sums" if self.renormalizes else "inverted"

    def remember(self, x: Any, **more: Any) -> dict[str, Any]:
        """Return the probabilities, which the gradient of a renormalized row needs."""
        unit, window, renormalize = (self.options[name] for name in ("unit", "window", "renormalize"))  # which the pass checked
        return {"x": x} if divides_rows(unit, window, renormalize) else {}


class DropHead(Variant, forward=fastdrop.drop_head, backward=fastdrop.drop_head_backward):
    """Drops attention heads: `fastdrop.drop_head`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.DropHead(0.1, seed=42)
    >>> y = layer(np.ones((2, 4, 6, 8), np.float32))
    >>> dx = layer.backward(np.ones_like(y))
    """

    scaling = "by the number kept"


class DropKey(Variant, forward=fastdrop.drop_key, backward=fastdrop.drop_key_backward):
    """Drops keys before the softmax: `fastdrop.drop_key`, ``forward(x, allowed=...)``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.DropKey(0.1, seed=42)
    >>> y = layer(np.zeros((2, 4, 6, 6), np.float32), allowed=np.tri(6, dtype=bool))
    >>> dx = layer.backward(np.ones_like(y))
    """

    scaling = "none"


# Paths, states ------------------------------------------------------------------------------------------------------


class DropPath(Variant, forward=fastdrop.drop_path, backward=fastdrop.drop_path_backward):
    """Drops the path of a residual block: `fastdrop.drop_path`, ``forward(x, residual=...)``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> x = np.ones((4, 3), np.float32)
    >>> layer = nn.DropPath(0.2, seed=42)
    >>> y = layer(2 * x, residual=x)
    >>> dpath = layer.backward(np.ones_like(y))
    """


class Zoneout(Variant, forward=fastdrop.zoneout, backward=fastdrop.zoneout_backward):
    """Keeps the previous value of some units of a recurrent state: `fastdrop.zoneout`, ``forward(new, previous)``.

    ``backward(grad)`` returns the gradients with respect to the new and to the previous state.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.Zoneout(0.1, seed=42)
    >>> y = layer(np.ones((2, 4)), np.zeros((2, 4)))
    >>> dnew, dprevious = layer.backward(np.ones_like(y))
    """

    scaling = "none; the mean outside training"


# Words and tokens ---------------------------------------------------------------------------------------------------


class WordDropout(Variant, forward=fastdrop.word_dropout, backward=fastdrop.word_dropout_backward):
    """Drops words, each occurrence independently: `fastdrop.word_dropout`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.WordDropout(0.05, seed=42)
    >>> y = layer(np.ones((2, 7, 3), np.float32))
    >>> dx = layer.backward(np.ones_like(y))
    """


class EmbeddingDropout(Variant, forward=fastdrop.embedding_dropout, backward=fastdrop.embedding_dropout_backward):
    """Drops word types: `fastdrop.embedding_dropout`, ``forward(weight)`` or ``forward(embedded, tokens=tokens)``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.EmbeddingDropout(0.1, seed=42)
    >>> weight = layer(np.ones((20, 3), np.float32))
    >>> dweight = layer.backward(np.ones_like(weight))
    """


class TokenDropout(Variant, forward=fastdrop.token_dropout, backward=fastdrop.token_dropout_backward):
    """Keeps a random subset of the tokens: `fastdrop.token_dropout`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.TokenDropout(0.5, seed=42)
    >>> y = layer(np.ones((2, 8, 3), np.float32))
    >>> y.shape, layer.backward(np.ones_like(y)).shape
    ((2, 4, 3), (2, 8, 3))
    """

    scaling = "none"

    def remember(self, x: Any, **more: Any) -> dict[str, Any]:
        """Return the number of tokens."""
        return {"num_tokens": np.shape(x)[1]}


class PatchDropout(TokenDropout, forward=fastdrop.patch_dropout, backward=fastdrop.patch_dropout_backward):
    """Keeps a random subset of the patches: `fastdrop.patch_dropout`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.PatchDropout(0.5, seed=42)
    >>> y = layer(np.ones((2, 9, 3), np.float32))
    >>> y.shape, layer.backward(np.ones_like(y)).shape
    ((2, 5, 3), (2, 9, 3))
    """


# Weights ------------------------------------------------------------------------------------------------------------


class WeightDrop(Variant, forward=fastdrop.weight_drop, backward=fastdrop.weight_drop_backward):
    """Drops recurrent weights, once per forward pass: `fastdrop.weight_drop`, ``forward(weight)``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.WeightDrop(0.5, seed=42)
    >>> dropped = layer(np.ones((4, 4), np.float32))
    >>> dweight = layer.backward(np.ones_like(dropped))
    """


class TargetedDropout(Variant, forward=fastdrop.targeted_dropout, backward=fastdrop.targeted_dropout_backward):
    """Drops weights of small magnitude: `fastdrop.targeted_dropout`, ``forward(weight)``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.TargetedDropout(0.5, seed=42)
    >>> dropped = layer(np.ones((4, 4), np.float32))
    >>> dweight = layer.backward(np.ones_like(dropped))
    """


class Shakeout(Variant, forward=fastdrop.shakeout, backward=fastdrop.shakeout_backward):
    """Enhances or reverses weights: `fastdrop.shakeout`, ``forward(weight)``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.Shakeout(0.5, 0.1, seed=42)
    >>> shaken = layer(np.ones((4, 4), np.float32))
    >>> dweight = layer.backward(np.ones_like(shaken))
    """

    scaling = "Shakeout's"


class DropConnect(Variant, forward=fastdrop.drop_connect, backward=fastdrop.drop_connect_backward):
    """A linear layer that drops connections, different ones per sample: `fastdrop.drop_connect`.

    Parameters
    ----------
    weight : numpy.ndarray
        Of shape (in, out). It becomes the parameter ``weight``, which is trained in place.
    bias : numpy.ndarray, optional
        Of shape (out,): the parameter ``bias``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastdrop import nn
    >>> layer = nn.DropConnect(np.ones((4, 4), np.float32), 0.5, seed=42)
    >>> y = layer(np.ones((2, 4), np.float32))
    >>> dx = layer.backward(np.ones_like(y))
    >>> layer.gradients["weight"].shape
    (4, 4)
    """

    def __init__(
        self, weight: NDArray[Any], p: Any = 0.5, *, bias: NDArray[Any] | None = None, seed: Seed | None = None, **options: Any
    ) -> None:
        self.set_up({"weight": weight, "bias": bias}, p, seed=seed, **options)
