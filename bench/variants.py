"""The measurements of each public function: one row per function, or per kind of its arguments, in `VARIANTS`.

A row gives the shape of the arrays and the arguments. Each row becomes a case for the forward pass, one for the backward pass,
and one for a call on about 256 elements. The bounds are times of `numpy.copyto` on an array of that shape.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastdrop

__all__ = [
    "BACKWARD",
    "CALL",
    "CALL_BOUND",
    "DTYPE_BOUND",
    "FORWARD",
    "OTHER_DTYPES",
    "PLAIN_RATE",
    "VARIANTS",
    "Variant",
    "Work",
    "is_random",
    "variant_named",
]

Array = Any
Arguments = Callable[[Array], dict[str, Any]]

FORWARD, BACKWARD, CALL = "variant", "variant backward", "variant call"  # the kind of measurement of a case
VARIANT_CASES = (FORWARD, BACKWARD, CALL)
OTHER_DTYPES = ("float64", "bfloat16")
DTYPE_BOUND = 1.5  # the wanted bound of a pass in another dtype, in times of its ratio to the copy in float32
CALL_BOUND = 6  # the wanted bound of a call on about 256 elements, in times of numpy.multiply
P = PLAIN_RATE = 0.1

Shape = tuple[int, ...]
Sizes = tuple[Shape, Shape]  # for the passes; for a call on about 256 elements
MAPS: Sizes = ((32, 64, 56, 56), (2, 8, 4, 4))
VOLUMES: Sizes = ((8, 64, 4, 56, 56), (2, 4, 2, 4, 4))
ROWS: Sizes = ((32, 200, 1024), (2, 8, 16))
SCORES: Sizes = ((32, 8, 160, 160), (2, 2, 8, 8))
HEADS: Sizes = ((32, 8, 200, 128), (2, 2, 8, 8))
WEIGHTS: Sizes = ((2560, 2560), (16, 16))
FLAT: Sizes = ((32 * 200 * 1024,), (256,))
BLOCK_MAPS: Sizes = ((32, 64, 56, 56), (1, 4, 8, 8))


@dataclass(frozen=True)
class Variant:
    """A row: a public function with its arguments."""

    name: str  # the function's name, and the kind of arguments if they are unusual
    function: str  # the name below `fastdrop`
    sizes: Sizes
    arguments: Arguments  # takes an array of activations; returns the keywords, of the backward function too
    wanted: float | None = None  # the bound of both passes, in times of numpy.copyto
    again: bool = False  # whether the backward function gets the input too, although it can do without
    limit: str = ""  # why the bound of a pass may be missed
    call_limit: str = ""  # why that of a small call may be missed
    parts: tuple[str, ...] = ("dropout_mask", "dropout")  # cases whose times show this: passes, and small calls

    @property
    def forward(self) -> Callable[..., Any]:
        """The public function."""
        found: Any = fastdrop
        for part in self.function.split("."):
            found = getattr(found, part)
        return found  # type: ignore[no-any-return]

    @property
    def backward(self) -> Callable[..., Any] | None:
        """The backward function, or None if there is none."""
        module, _, name = f"fastdrop.{self.function}".rpartition(".")
        owner = fastdrop if module == "fastdrop" else getattr(fastdrop, module.partition(".")[2])
        return getattr(owner, f"{name}_backward", None)

    @property
    def other_dtypes(self) -> tuple[str, ...]:
        """The dtypes besides float32 in which the passes are measured: none if the function takes no array."""
        given = self.arguments(np.ones(self.sizes[1], np.float32)).values()
        return OTHER_DTYPES if any(isinstance(value, np.ndarray) for value in given) else ()

    def shape(self, what: str) -> Shape:
        """Return the shape of the array for a kind of case."""
        return self.sizes[what == CALL]


@dataclass(frozen=True)
class Work:
    """A row with its arrays. `out` and `grad_out` are memory for the results, where the functions take it."""

    variant: Variant
    keywords: dict[str, Any]
    out: Array | None
    grad: Array | None
    grad_out: Array | None

    @property
    def input(self) -> Array:
        """The array with respect to which the backward function returns the first gradient."""
        return next(iter(self.keywords.values()))

    def options(self, function: Callable[..., Any], out: Array | None) -> dict[str, Any]:
        """Return the keywords of the row that a function takes."""
        known = inspect.signature(function).parameters
        given = {**self.keywords, "grad": self.grad, "out": out}
        if "grad" in known and not self.variant.again:  # leave out arrays that a backward function does not need
            given = {name: value for name, value in given.items() if name != "x" or is_required(known.get(name))}
        return {name: value for name, value in given.items() if name in known and value is not None}

    @classmethod
    def of(cls, variant: Variant, x: Array, both: bool, room: Callable[..., Array], filled: Callable[..., Array]) -> Work:
        """Return the work on an array; `room` and `filled` make arrays whose pages were touched."""
        made = cls(variant, of_dtype(variant.arguments(x), x.dtype), None, None, None)
        forward = variant.forward
        first = forward(**made.options(forward, None), **({"seed": 0} if is_random(forward) else {}))
        takes_out = "out" in inspect.signature(forward).parameters
        out = room(first.shape, first.dtype.name) if takes_out else None
        if not both:
            return cls(variant, made.keywords, out, None, None)
        grad = filled(first.shape, first.dtype.name, 3) if np.ndim(first) else None
        return cls(variant, made.keywords, out, grad, room(made.input.shape, made.input.dtype.name))


def of_dtype(keywords: dict[str, Any], dtype: Any) -> dict[str, Any]:
    """Return arguments whose float32 arrays have another dtype: weights, logits and gates have that of the activations."""
    return {
        name: value.astype(dtype) if isinstance(value, np.ndarray) and value.dtype == np.float32 and name != "p" else value
        for name, value in keywords.items()
    }


def is_required(parameter: inspect.Parameter | None) -> bool:
    return parameter is not None and parameter.default is parameter.empty


def is_random(function: Callable[..., Any]) -> bool:
    """Return whether a function takes a seed."""
    return "seed" in inspect.signature(function).parameters


# Arrays besides the activations -----------------------------------------------------------------------------------------


def numbers(*shape: int) -> Array:
    """Return normal float32 numbers, the same for a shape."""
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)


def with_rates(*broadcast: int) -> Arguments:
    """Return arguments whose `p` has these sizes; 0 stands for the size of the array."""

    def arguments(x: Array) -> dict[str, Any]:
        shape = tuple(size or whole for size, whole in zip(broadcast, x.shape, strict=True))
        return {"x": x, "p": np.resize(np.linspace(0.05, 0.5, 1021, dtype=np.float32), shape)}

    return arguments


def end_of_block(x: Array) -> dict[str, Any]:
    """Return the operands of residual + dropout(x + bias), the end of a block of a Transformer."""
    return {"x": x, "p": P, "bias": numbers(x.shape[-1]), "residual": numbers(*x.shape)}


def tokens_of(x: Array) -> dict[str, Any]:
    """Return looked-up embeddings: about as many sequences of tokens as `x` has rows, from a vocabulary of 10,000."""
    ids = np.random.default_rng(2).integers(0, 10_000, x.shape[:2])
    return {"x": x, "p": P, "tokens": ids, "num_embeddings": 10_000}


def probabilities(x: Array) -> Array:
    """Return a softmax over the last axis."""
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def renormalized(x: Array) -> dict[str, Any]:
    return {"x": probabilities(x), "p": P, "renormalize": True}


def by_scores(shape: Callable[[Shape], Shape]) -> Arguments:
    def arguments(x: Array) -> dict[str, Any]:
        return {"x": x, "scores": np.abs(numbers(*shape(x.shape))), "p": 0.5}

    return arguments


def drawn(x: Array) -> dict[str, Any]:
    weights = np.sqrt((x.reshape(-1, x.shape[-1]).astype(np.float64) ** 2).mean(axis=0)) + 1e-3
    return {"x": x, "k": x.shape[-1] // 2, "probabilities": weights / weights.sum()}


def connected(x: Array) -> dict[str, Any]:
    """Return a batch and weights with one decision per sample and weight: as many as `x` has elements."""
    samples, inputs, outputs = x.shape
    return {"x": np.abs(numbers(samples, inputs)), "weight": numbers(inputs, outputs), "p": P}


def dense(log: str) -> Arguments:
    """Return arguments of a layer with noise on its weights; its result is like `x`."""

    def arguments(x: Array) -> dict[str, Any]:
        features = x.shape[-1]
        return {"x": x, "weight": numbers(features, features) / 16, log: numbers(features, features) - 4, **more}

    more = {"noise": "weight"} if log == "log_alpha" else {}
    return arguments


def logits_of(x: Array) -> dict[str, Any]:
    rows = x.reshape(-1, x.shape[-1])
    return {"first": rows, "second": rows[::-1].copy(), "targets": np.arange(len(rows)) % x.shape[-1]}


def weights_and_rate(x: Array) -> dict[str, Any]:
    return {"weights": numbers(*x.shape), "p_logit": LOGIT, "input_dim": len(x)}


def usual(name: str = "x", **more: Any) -> Arguments:
    """Return arguments of the array under a name, and of these values."""
    return lambda x: {name: x, **more}


def shaped(**more: Any) -> Arguments:
    """Return arguments of a function that makes an array from a shape."""
    return lambda x: {"shape": x.shape, **more}


# The rows ---------------------------------------------------------------------------------------------------------------


def row(
    function: str, sizes: Sizes, arguments: Arguments, wanted: float | None = None, special: str = "", **more: Any
) -> Variant:
    """Return a row; `more` are further fields."""
    return Variant(f"{function}-{special}" if special else function, function, sizes, arguments, wanted, **more)


LOGIT = math.log(P / (1 - P))
STRIDED: Sizes = ((32, 200, 2048), (2, 8, 32))
STEPS: Sizes = ((200, 32, 1024), (8, 2, 16))
TABLE: Sizes = ((6400, 1024), (16, 16))
CONNECTIONS: Sizes = ((64, 256, 400), (4, 8, 8))
SMALL_HEADS: Sizes = ((256, 16, 16, 16), (1, 2, 8, 16))
SHORT_GROUPS: Sizes = ((1024, 400, 16), (8, 2, 16))
DEPTH: Sizes = ((48,), (48,))
DENSE: Sizes = ((6400, 256), (16, 16))
LOGITS: Sizes = ((65536, 10), (26, 10))

# Why bounds are missed. The times were measured on the record's machine, interleaved with numpy.multiply of 256 numbers or with
# a copy.
RATE_PER_CHANNEL = "The mask with a rate per channel takes 0.9 of a copy, three times as long as one with a single rate."
RATE_PER_ELEMENT = "The check of the rates takes 0.5 of a copy, and the mask 2.2: each element is compared with its own rate."
ALL_WORDS = "The call decides about all 10,000 words; their mask and the lookup take half of the time."
MAP_STEPS = "The map of attention and the mask of its places take 3 times as long as numpy.multiply."
DEVIATIONS = "The noise takes 3 times as long as numpy.multiply, and the scales are computed before it."
MAP_PASSES = "If a map fits in a cache, the backward pass reads two arrays and writes one: one and a half copies of memory."
MAP_NOISE = "The noise of the maps and the product take 2.6 and 2.7 times as long as numpy.multiply."
ALPHA_GRADIENT = "The backward pass generates the noise again, and sums the gradient of log_alpha over all rows in float64."
ROW_PASSES = "The backward pass takes 1.2 copies to read two arrays and write one, 0.6 to divide them twice, 0.3 for the mask."
SHORT_ROWS = (
    "The arrays fit in the caches, where a copy is fast: the mask takes 1.3 copies, and dividing each element 1.2. "
    "The backward pass divides twice."
)
LEVELS = "The keep probabilities and the dropping take 4.8 and 4.3 times as long as numpy.multiply."
CHANNEL_LEVELS = "The keep probabilities and the dropping take 2.7 and 5.3 times as long as numpy.multiply."
TOKEN_WORDS = "The random words take 2.3 times as long as numpy.multiply; sorting them comes on top."
SEEDS = "The mask of seeds and the dropping take 2.3 and 1.4 times as long as numpy.multiply."
DRAWS = "Counting the draws and multiplying take 6 times as long as numpy.multiply."
LEAST_OF_OUTPUTS = "Finding the weights of least magnitude of each output takes almost all of the time."
LEAST = "Finding the weights of least magnitude takes 8 times as long as numpy.multiply."
BATCH_PRODUCT = (
    "In the records to 2026-12-02, numpy.matmul of so small a batch takes 1.8 times as long as numpy.multiply, and dropping "
    "the connections 1.5 times; checks come on top."
)
PRODUCTS = (
    "Each of two products takes 1.5 times as long as numpy.multiply, and the noise takes twice as long; checks come on top."
)
PRODUCTS_AND_EXP = f"{PRODUCTS} The variances need exp in float64, 1.1 times as long."
ROW_ARGUMENTS = (
    "A call that divides no rows takes 4.1 times as long as numpy.multiply. The mask, the sums and the quotients take only "
    "0.6 to 1.3 times as long; the arguments of rows take the rest."
)
SUM_IN_FLOAT64 = "Each term of the sum takes exponentials, divisions and a logarithm in float64, which take longer than memory."
WEIGHTS_IN_FLOAT64 = "Its elementary functions of 256 numbers in float64 take 6 times as long as numpy.multiply."
NUMPY_CALLS = (
    "In the records to 2026-12-02, NumPy's exp of both passes, called twice, and its log take 3 times as long as "
    "numpy.multiply; loops come on top."
)
ARGUMENTS = "The squares and their sum take 1.6 times as long as numpy.multiply; checks of arguments and rates come on top."

VARIANTS: tuple[Variant, ...] = (
    row("dropout", ROWS, usual(p=P)),
    row("dropout", MAPS, with_rates(1, 0, 1, 1), 1.6, "p-per-channel", limit=RATE_PER_CHANNEL),
    row("dropout", ROWS, with_rates(0, 1, 1), 1.6, "p-per-row"),
    row("dropout", ROWS, with_rates(0, 0, 0), 4, "p-per-element", limit=RATE_PER_ELEMENT),
    row("dropout", STRIDED, lambda x: {"x": x[..., ::2], "p": P}, 3, "every-second"),
    row("dropout", MAPS, lambda x: {"x": x.transpose(0, 2, 3, 1), "p": P}, 6, "transposed"),
    row("dropout", ROWS, end_of_block, special="bias-residual"),
    row("dropout_mask", FLAT, shaped(p=P)),
    row("apply_mask", ROWS, lambda x: {"x": x, "mask": numbers(*x.shape) > -1.28, "scale": 1 / (1 - P)}),
    # whole features, samples, steps, groups
    row("dropout1d", ROWS, usual(p=P)),
    row("dropout2d", MAPS, usual(p=P)),
    row("dropout3d", VOLUMES, usual(p=P)),
    row("spatial_dropout", MAPS, usual(p=P)),
    row("locked_dropout", STEPS, usual(p=P)),
    row("drop_path", MAPS, usual(p=P)),
    row("layer_drop", DEPTH, lambda x: {"depth": x.size, "p": P}),
    row("word_dropout", ROWS, usual(p=P)),
    row("embedding_dropout", TABLE, usual(p=P)),
    row("embedding_dropout", ROWS, tokens_of, 2, "tokens", call_limit=ALL_WORDS, parts=("dropout_mask-call",)),
    row(
        "token_dropout",
        ROWS,
        lambda x: {"x": x, "p": 0.5, "num_tokens": x.shape[1]},
        call_limit=TOKEN_WORDS,
        parts=("random.words-call",),
    ),
    row("patch_dropout", ROWS, lambda x: {"x": x, "p": 0.5, "num_tokens": x.shape[1]}),
    row("group_dropout", ROWS, usual(p=P, group_size=4), 2, "of-4"),
    row("group_dropout", SHORT_GROUPS, usual(p=P, group_size=2), 2, "short-rows"),
    row(
        "drop_block",
        BLOCK_MAPS,
        usual(p=P, block_size=7),
        2.5,
        call_limit=SEEDS,
        parts=("dropout_mask-call", "apply_mask-call"),
    ),
    row("adl", MAPS, usual(p=0.75), 4, call_limit=MAP_STEPS, parts=("apply_mask-call",)),
    row("zoneout", ROWS, lambda x: {"new": x, "previous": x + 1, "p": P}),
    # values other than 0 and x / (1 - p)
    row("alpha_dropout", ROWS, usual(p=P)),
    row("feature_alpha_dropout", MAPS, usual(p=P)),
    row("gaussian_dropout", ROWS, usual(p=P)),
    row(
        "gaussian_dropout",
        ROWS,
        lambda x: {"x": x, "log_alpha": numbers(x.shape[-1]) - 2},
        4,
        "alpha-per-unit",
        again=True,
        limit=ALPHA_GRADIENT,
        call_limit=DEVIATIONS,
        parts=("random.normal", "gaussian_dropout-call"),
    ),
    row("gaussian_noise", ROWS, usual(stddev=0.5)),
    row("uniform_dropout", ROWS, usual(half_width=0.5), 3),
    row("concrete_dropout", ROWS, usual(p_logit=LOGIT)),
    row("concrete_dropout", ROWS, usual(p_logit=LOGIT, temperature=2 / 3), 7.8, "warm"),
    row(
        "spatial_concrete_dropout",
        MAPS,
        usual(p_logit=LOGIT),
        1.6,
        limit=MAP_PASSES,
        call_limit=MAP_NOISE,
        parts=("gaussian_dropout", "apply_mask"),
    ),
    # rates that depend on the data
    row("adaptive_dropout", ROWS, lambda x: {"x": x, "logits": numbers(*x.shape) + 1}, 8),
    row(
        "importance_dropout",
        ROWS,
        by_scores(lambda shape: shape),
        25,
        "score-per-element",
        call_limit=LEVELS,
        parts=("dropout-p-per-element-call",),
    ),
    row(
        "importance_dropout",
        MAPS,
        by_scores(lambda shape: (1, shape[1], 1, 1)),
        2,
        "score-per-channel",
        call_limit=CHANNEL_LEVELS,
        parts=("dropout-p-per-channel-call",),
    ),
    row("multinomial_dropout", ROWS, drawn, 15, call_limit=DRAWS, parts=("random.words-call",)),
    # weights
    row("weight_drop", WEIGHTS, lambda x: {"weight": numbers(*x.shape), "p": P}),
    row(
        "targeted_dropout",
        WEIGHTS,
        lambda x: {"weight": numbers(*x.shape), "p": 0.5},
        20,
        limit=LEAST_OF_OUTPUTS,
        call_limit=LEAST,
        parts=("dropout", "dropout-call"),
    ),
    row("shakeout", WEIGHTS, lambda x: {"weight": numbers(*x.shape), "p": P, "c": 0.1}, 1.5),
    row("drop_connect", CONNECTIONS, connected, call_limit=BATCH_PRODUCT, parts=("dropout-call",)),
    row(
        "variational_dense",
        DENSE,
        dense("log_sigma2"),
        call_limit=PRODUCTS,
        parts=("random.normal-call", "elementary.exp-call"),
    ),
    row(
        "variational_dropout",
        DENSE,
        dense("log_alpha"),
        call_limit=PRODUCTS_AND_EXP,
        parts=("random.normal-call", "elementary.exp-call"),
    ),
    # attention
    row("attention_dropout", SCORES, lambda x: {"x": probabilities(x), "p": P}),
    row(
        "attention_dropout",
        SCORES,
        renormalized,
        3,
        "renormalised",
        again=True,
        limit=ROW_PASSES,
        call_limit=ROW_ARGUMENTS,
        parts=("attention_dropout", "dropout_mask-call", "attention_dropout-call"),
    ),
    row(
        "attention_dropout",
        SMALL_HEADS,
        renormalized,
        3,
        "small-heads",
        again=True,
        limit=SHORT_ROWS,
        call_limit=ROW_ARGUMENTS,
        parts=("attention_dropout", "dropout_mask-call", "attention_dropout-call"),
    ),
    row("drop_head", HEADS, usual(p=P)),
    row("drop_key", SCORES, usual(p=P), 2),
    # numbers, losses and elementary functions
    row("random.words", FLAT, lambda x: {"n": x.size}),
    row("random.uniform", ROWS, shaped()),
    row("random.normal", ROWS, shaped()),
    row(
        "losses.variational_kl",
        WEIGHTS,
        lambda x: {"log_alpha": numbers(*x.shape) - 2},
        15,
        limit=SUM_IN_FLOAT64,
        call_limit=WEIGHTS_IN_FLOAT64,
        parts=("elementary.softplus-call",),
    ),
    row("losses.r_drop_loss", LOGITS, logits_of, call_limit=NUMPY_CALLS, parts=()),
    row("losses.concrete_regularizer", WEIGHTS, weights_and_rate, call_limit=ARGUMENTS, parts=()),
    row("elementary.exp", ROWS, usual()),
    row("elementary.log", ROWS, lambda x: {"x": x + 1}),
    row("elementary.sigmoid", ROWS, usual()),
    row("elementary.logit", ROWS, lambda x: {"x": np.clip(x, 0.01, 0.99)}),
    row("elementary.softplus", ROWS, usual()),
)


@functools.cache
def variant_named(name: str) -> Variant:
    """Return the row of a name."""
    return next(variant for variant in VARIANTS if variant.name == name)
