"""The formula of each variant, as a user of NumPy writes it, on PCG64.

Most variants multiply by a factor: `FACTORS` makes it, and the gradient is multiplied by the same factor, which is stored. The
others have a pair of functions in `PAIRS`: the result, and a function from its gradient to that of the input.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..contender import SEED, Adapter, Call, Contender, Job
from ..variants import BACKWARD, FORWARD

Array = Any  # NumPy's types do not know the arguments
Arguments = SimpleNamespace  # the keywords of a row of the table of variants
Rng = np.random.Generator
Pair = tuple[Any, Callable[[Any], Any]]

F = np.float32
ALPHA = F(-1.7580993408473766)  # the value of a SELU at minus infinity


def uniform(rng: Rng, *shape: int) -> Array:
    return rng.random(shape, dtype=F)


def normal(rng: Rng, *shape: int) -> Array:
    return rng.standard_normal(shape, dtype=F)


def keep(rng: Rng, shape: tuple[int, ...], p: Any) -> Array:
    """Return 0 where an element is dropped, and 1 / (1 - p) elsewhere."""
    scale: Array = F(1) / (F(1) - p) if isinstance(p, np.ndarray) else F(1 / (1 - p))
    return (uniform(rng, *shape) >= p) * scale


# Factors ----------------------------------------------------------------------------------------------------------------


def like_input(rng: Rng, a: Arguments) -> Array:
    return keep(rng, a.x.shape, a.p)


def by_map(rng: Rng, a: Arguments) -> Array:
    return keep(rng, a.x.shape[:2] + (1,) * (a.x.ndim - 2), a.p)


def by_head(rng: Rng, a: Arguments) -> Array:
    kept = uniform(rng, *a.x.shape[:2], 1, 1) >= a.p
    return kept * (F(kept.shape[1]) / np.maximum(kept.sum(axis=1, keepdims=True), 1)).astype(F)


def by_group(rng: Rng, a: Arguments) -> Array:
    groups = a.x.shape[-1] // a.group_size
    return np.repeat(keep(rng, (*a.x.shape[:-1], groups), a.p), a.group_size, axis=-1)


def by_word_type(rng: Rng, a: Arguments) -> Array:
    return keep(rng, (a.num_embeddings,), a.p)[a.tokens][..., np.newaxis]


def by_block(rng: Rng, a: Arguments) -> Array:
    """Return DropBlock's mask: the seeds are dilated along one axis, then along the other."""
    n, channels, height, width = a.x.shape
    size, places = a.block_size, (height - a.block_size + 1) * (width - a.block_size + 1)
    gamma = a.p / size**2 * height * width / places
    seeds = uniform(rng, n, channels, height - size + 1, width - size + 1) < gamma
    rows = np.zeros((n, channels, height, width - size + 1), np.bool_)
    dropped = np.zeros(a.x.shape, np.bool_)
    for k in range(size):
        rows[:, :, k : k + seeds.shape[2]] |= seeds
    for k in range(size):
        dropped[..., k : k + seeds.shape[3]] |= rows
    kept = ~dropped
    return kept * F(kept.size / np.count_nonzero(kept))


def by_gate(rng: Rng, a: Arguments) -> Array:
    probability = 1 / (1 + np.exp(-a.logits))
    return (uniform(rng, *a.x.shape) < probability) / probability


def by_importance(rng: Rng, a: Arguments) -> Array:
    """Return factors of keep probabilities in proportion to the scores; Newton's method finds the proportion."""
    factor, wanted = (1 - a.p) / a.scores.mean(), (1 - a.p) * a.scores.size
    for _ in range(6):
        probability = np.clip(a.scores * factor, 0.01, 1)
        free = (probability > 0.01) & (probability < 1)
        factor += (wanted - probability.sum(dtype=np.float64)) / a.scores[free].sum(dtype=np.float64)
    probability = np.clip(a.scores * factor, 0.01, 1).astype(F)
    return (uniform(rng, *a.x.shape) < probability) / probability


def by_draws(rng: Rng, a: Arguments) -> Array:
    counts = rng.multinomial(a.k, a.probabilities, size=a.x.shape[:-1])
    return (counts / (a.k * a.probabilities)).astype(F)


def by_small_weights(rng: Rng, a: Arguments) -> Array:
    magnitude, targets = np.abs(a.weight), a.weight.shape[0] // 2
    small = magnitude <= np.partition(magnitude, targets - 1, axis=0)[targets - 1]
    return np.where(small, keep(rng, a.weight.shape, a.p), F(1))


def by_alpha(rng: Rng, a: Arguments) -> Array:
    return 1 + np.exp(a.log_alpha / 2) * normal(rng, *a.x.shape)


def by_concrete(rng: Rng, a: Arguments, shape: tuple[int, ...], temperature: float) -> Array:
    u, epsilon = uniform(rng, *shape), F(1e-7)
    z = (F(a.p_logit) + np.log(u + epsilon) - np.log(1 - u + epsilon)) / F(temperature)
    return (1 - 1 / (1 + np.exp(-z))) * F(1 + np.exp(a.p_logit))


FACTORS: dict[str, Callable[[Rng, Arguments], Any]] = {
    **dict.fromkeys(("dropout", "dropout-p-per-channel", "dropout-p-per-row", "dropout-p-per-element"), like_input),
    **dict.fromkeys(("dropout-every-second", "dropout-transposed", "attention_dropout"), like_input),
    **dict.fromkeys(("dropout1d", "dropout2d", "dropout3d", "spatial_dropout"), by_map),
    "apply_mask": lambda rng, a: a.mask * F(a.scale),
    "locked_dropout": lambda rng, a: keep(rng, (1, *a.x.shape[1:]), a.p),
    "drop_path": lambda rng, a: keep(rng, (len(a.x), 1, 1, 1), a.p),
    "word_dropout": lambda rng, a: keep(rng, (*a.x.shape[:-1], 1), a.p),
    "embedding_dropout": lambda rng, a: keep(rng, (len(a.x), 1), a.p),
    "embedding_dropout-tokens": by_word_type,
    "group_dropout-of-4": by_group,
    "group_dropout-short-rows": by_group,
    "drop_block": by_block,
    "drop_head": by_head,
    "gaussian_dropout": lambda rng, a: 1 + F((a.p / (1 - a.p)) ** 0.5) * normal(rng, *a.x.shape),
    "gaussian_dropout-alpha-per-unit": by_alpha,
    "uniform_dropout": lambda rng, a: 1 + F(a.half_width) * (2 * uniform(rng, *a.x.shape) - 1),
    "concrete_dropout": lambda rng, a: by_concrete(rng, a, a.x.shape, 0.1),
    "concrete_dropout-warm": lambda rng, a: by_concrete(rng, a, a.x.shape, 2 / 3),
    "spatial_concrete_dropout": lambda rng, a: by_concrete(rng, a, (*a.x.shape[:2], 1, 1), 2 / 3),
    "adaptive_dropout": by_gate,
    "importance_dropout-score-per-element": by_importance,
    "importance_dropout-score-per-channel": by_importance,
    "multinomial_dropout": by_draws,
    "weight_drop": lambda rng, a: keep(rng, a.weight.shape, a.p),
    "targeted_dropout": by_small_weights,
}


# Pairs ------------------------------------------------------------------------------------------------------------------


def alpha_numbers(p: float) -> tuple[Any, Any]:
    scale = ((1 - p) * (1 + p * float(ALPHA) ** 2)) ** -0.5
    return F(scale), F(-scale * p * float(ALPHA))


def to_alpha(rng: Rng, a: Arguments, shape: tuple[int, ...]) -> Pair:
    kept, (scale, shift) = uniform(rng, *shape) >= a.p, alpha_numbers(a.p)
    return np.where(kept, a.x, ALPHA) * scale + shift, lambda grad: grad * kept * scale


def end_of_block(rng: Rng, a: Arguments) -> Pair:
    factor = like_input(rng, a)
    return a.residual + (a.x + a.bias) * factor, lambda grad: grad * factor


def zoneout(rng: Rng, a: Arguments) -> Pair:
    kept = uniform(rng, *a.new.shape) >= a.p
    return np.where(kept, a.new, a.previous), lambda grad: grad * kept


def added_noise(rng: Rng, a: Arguments) -> Pair:
    return a.x + F(a.stddev) * normal(rng, *a.x.shape), lambda grad: grad


def drop_key(rng: Rng, a: Arguments) -> Pair:
    kept = uniform(rng, *a.x.shape) >= a.p
    return np.where(kept, a.x, F(-np.inf)), lambda grad: grad * kept


def renormalized(rng: Rng, a: Arguments) -> Pair:
    kept = uniform(rng, *a.x.shape) >= a.p
    y = a.x * kept
    total = y.sum(axis=-1, keepdims=True) + F(1e-8)
    y /= total
    return y, lambda grad: kept / total * (grad - (grad * y).sum(axis=-1, keepdims=True))


def adl(rng: Rng, a: Arguments) -> Pair:
    mean = a.x.mean(axis=1, keepdims=True)
    if rng.random() < a.p:
        kept = mean < F(0.8) * mean.max(axis=(2, 3), keepdims=True)
        return a.x * kept, lambda grad: grad * kept
    gate = 1 / (1 + np.exp(-mean))
    slope = gate * (1 - gate) / F(a.x.shape[1])
    return a.x * gate, lambda grad: grad * gate + slope * (grad * a.x).sum(axis=1, keepdims=True)


def tokens(rng: Rng, a: Arguments, prefix: int) -> Pair:
    n, length = a.x.shape[:2]
    kept = prefix + np.argpartition(uniform(rng, n, length - prefix), int((length - prefix) * (1 - a.p)), axis=1)
    kept = kept[:, : int((length - prefix) * (1 - a.p))]
    kept = np.concatenate([np.broadcast_to(np.arange(prefix), (n, prefix)), kept if prefix else np.sort(kept, axis=1)], axis=1)

    def back(grad: Array) -> Array:
        dx = np.zeros_like(a.x)
        np.put_along_axis(dx, kept[..., np.newaxis], grad, axis=1)
        return dx

    return np.take_along_axis(a.x, kept[..., np.newaxis], axis=1), back


def shakeout(rng: Rng, a: Arguments) -> Pair:
    factor = keep(rng, (len(a.weight), 1), a.p)
    return a.weight * factor + F(a.c) * (factor - 1) * np.sign(a.weight), lambda grad: grad * factor


def drop_connect(rng: Rng, a: Arguments) -> Pair:
    weights = a.weight * keep(rng, (len(a.x), *a.weight.shape), a.p)
    return (a.x[:, np.newaxis] @ weights)[:, 0], lambda grad: (grad[:, np.newaxis] @ weights.swapaxes(1, 2))[:, 0]


def noisy_layer(rng: Rng, a: Arguments, variance: Array) -> Pair:
    deviation = np.sqrt((a.x * a.x) @ variance + F(1e-8))
    z = normal(rng, *deviation.shape)

    def back(grad: Array) -> tuple[Array, Array, Array]:
        slope = grad * z / (2 * deviation)
        return (
            grad @ a.weight.T + 2 * a.x * (slope @ variance.T),
            a.x.T @ grad,
            ((a.x * a.x).T @ slope) * variance,
        )

    return a.x @ a.weight + deviation * z, back


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def divergence(rng: Rng, a: Arguments) -> Pair:
    k1, k2, k3 = 0.63576, 1.87320, 1.48695
    log_alpha = a.log_alpha.astype(np.float64)
    gate = sigmoid(-(k2 + k3 * log_alpha))
    total = (k1 * gate + np.logaddexp(0, -log_alpha) / 2).sum()
    return total, lambda _: -k1 * k3 * gate * (1 - gate) - sigmoid(-log_alpha) / 2


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def r_drop(rng: Rng, a: Arguments) -> Pair:
    """Return the loss of two passes: the mean cross-entropy, and the mean symmetric divergence."""
    first, second = (log_softmax(logits.astype(np.float64)) for logits in (a.first, a.second))
    p, q, ahead, rows = np.exp(first), np.exp(second), first - second, np.arange(len(first))
    apart = (p - q) * ahead
    entropy = -(first[rows, a.targets] + second[rows, a.targets])

    def back(_: Any) -> tuple[Array, Array]:
        grads = [
            p + (p * (ahead - (p * ahead).sum(axis=1, keepdims=True)) + p - q) / 2,
            q + (q * (-ahead + (q * ahead).sum(axis=1, keepdims=True)) + q - p) / 2,
        ]
        for grad in grads:
            grad[rows, a.targets] -= 1
        return (grads[0] / len(rows)).astype(a.first.dtype), (grads[1] / len(rows)).astype(a.second.dtype)

    return (entropy + apart.sum(axis=1) / 2).mean(), back


def regularizer(rng: Rng, a: Arguments) -> Pair:
    """Return the regularizer of concrete dropout with its default strengths; its first gradient is that of the logit."""
    p, norm = sigmoid(a.p_logit), np.square(a.weights, dtype=np.float64).sum()
    entropy = p * np.log(p) + (1 - p) * np.log(1 - p)
    return 1e-6 * norm / (1 - p) + 1e-5 * a.input_dim * entropy, lambda _: (
        1e-6 * norm * p / (1 - p) + 1e-5 * a.input_dim * p * (1 - p) * a.p_logit,
        F(2e-6 / (1 - p)) * a.weights,
    )


def without_gradient(made: Callable[[Rng, Arguments], Any]) -> Callable[[Rng, Arguments], Pair]:
    return lambda rng, a: (made(rng, a), lambda grad: None)


PAIRS: dict[str, Callable[[Rng, Arguments], Pair]] = {
    "dropout-bias-residual": end_of_block,
    "alpha_dropout": lambda rng, a: to_alpha(rng, a, a.x.shape),
    "feature_alpha_dropout": lambda rng, a: to_alpha(rng, a, (*a.x.shape[:2], 1, 1)),
    "zoneout": zoneout,
    "gaussian_noise": added_noise,
    "drop_key": drop_key,
    "attention_dropout-renormalised": renormalized,
    "attention_dropout-small-heads": renormalized,
    "adl": adl,
    "token_dropout": lambda rng, a: tokens(rng, a, 0),
    "patch_dropout": lambda rng, a: tokens(rng, a, 1),
    "shakeout": shakeout,
    "drop_connect": drop_connect,
    "variational_dense": lambda rng, a: noisy_layer(rng, a, np.exp(a.log_sigma2)),
    "variational_dropout": lambda rng, a: noisy_layer(rng, a, np.exp(np.minimum(a.log_alpha, 0)) * a.weight * a.weight),
    "losses.variational_kl": divergence,
    "losses.r_drop_loss": r_drop,
    "losses.concrete_regularizer": regularizer,
    "dropout_mask": without_gradient(lambda rng, a: uniform(rng, *a.shape) >= a.p),
    "layer_drop": without_gradient(lambda rng, a: uniform(rng, a.depth) >= a.p),
    "random.words": without_gradient(lambda rng, a: rng.integers(0, 2**32, a.n, np.uint32)),
    "random.uniform": without_gradient(lambda rng, a: uniform(rng, *a.shape)),
    "random.normal": without_gradient(lambda rng, a: normal(rng, *a.shape)),
    "elementary.exp": without_gradient(lambda rng, a: np.exp(a.x)),
    "elementary.log": without_gradient(lambda rng, a: np.log(a.x)),
    "elementary.sigmoid": without_gradient(lambda rng, a: sigmoid(a.x)),
    "elementary.logit": without_gradient(lambda rng, a: np.log(a.x / (1 - a.x))),
    "elementary.softplus": without_gradient(lambda rng, a: np.logaddexp(F(0), a.x)),
}


# Calls ------------------------------------------------------------------------------------------------------------------


def pair(job: Job) -> Callable[[Rng], Pair]:
    """Return a function that makes the result and the function of its gradient."""
    a, name, x = Arguments(**job.work.keywords), job.case.entry, job.work.input
    if name in PAIRS:
        return lambda rng: PAIRS[name](rng, a)

    def by_factor(rng: Rng) -> Pair:
        factor = FACTORS[name](rng, a)
        return x * factor, lambda grad: grad * factor

    return by_factor


def forward(job: Job) -> Call:
    make, rng = pair(job), np.random.default_rng(SEED)
    return lambda: make(rng)[0]


def both(job: Job) -> Call:
    make, rng, grad = pair(job), np.random.default_rng(SEED), job.work.grad

    def call() -> tuple[Any, Any]:
        y, back = make(rng)
        dx = back(grad)
        return y, dx[0] if isinstance(dx, tuple) else dx

    return call


ADAPTER = Adapter(
    (
        Contender(
            "formula-numpy",
            "the formula in NumPy",
            {FORWARD: forward, BACKWARD: both},
            frozenset({"float32"}),
            entries=frozenset({*FACTORS, *PAIRS}),
            read=lambda found: found,
        ),
    ),
    distributions=("numpy",),
)
