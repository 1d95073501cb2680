"""Made by tests/layer_stubs.py."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from numpy.typing import ArrayLike, NDArray

from fastdrop._core.types import DataFormat, Mode, Per, Rate, Seed
from fastdrop.nn import _variants
from fastdrop.nn.description import Description, describe
from fastdrop.nn.layer import Layer
from fastdrop.nn.sequential import Sequential
from fastdrop.nn.variant import Record, Variant
from fastdrop.variants import adaptive, attention, blocks, targeted

__all__ = [
    "ADL",
    "AdaptiveDropout",
    "AlphaDropout",
    "AttentionDropout",
    "ConcreteDropout",
    "Description",
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
    "Layer",
    "LockedDropout",
    "MultinomialDropout",
    "PatchDropout",
    "Record",
    "Sequential",
    "Shakeout",
    "SpatialConcreteDropout",
    "SpatialDropout",
    "TargetedDropout",
    "TokenDropout",
    "UniformDropout",
    "Variant",
    "VariationalDense",
    "VariationalDropout",
    "WeightDrop",
    "WordDropout",
    "Zoneout",
    "describe",
]

class ADL(_variants.ADL):
    def __init__(
        self,
        p: float | Callable[[int], float] = 0.75,
        threshold: float = 0.8,
        *,
        data_format: DataFormat = "channels_first",
        seed: Seed | None = None,
    ) -> None: ...

class AdaptiveDropout(_variants.AdaptiveDropout):
    def __init__(
        self,
        gain: float | Callable[[int], float] = 1.0,
        shift: float = 0.0,
        *,
        mode: Literal["inverted", "standard"] = "inverted",
        estimator: adaptive.Estimator = "none",
        seed: Seed | None = None,
    ) -> None: ...

class AlphaDropout(_variants.AlphaDropout):
    def __init__(
        self, p: float | Callable[[int], float] = 0.5, *, mean: float = 0.0, var: float = 1.0, seed: Seed | None = None
    ) -> None: ...

class AttentionDropout(_variants.AttentionDropout):
    def __init__(
        self,
        p: float | Callable[[int], float] = 0.1,
        *,
        unit: attention.Unit = "element",
        shared_axes: int | Sequence[int] | None = None,
        window: int = 1,
        exact_rate: bool = True,
        renormalize: bool | None = None,
        through_sum: bool = True,
        seed: Seed | None = None,
    ) -> None: ...

class ConcreteDropout(_variants.ConcreteDropout):
    def __init__(
        self,
        p: float = 0.1,
        temperature: float | Callable[[int], float] = 0.1,
        *,
        epsilon: float = 1e-07,
        exact_mean: bool = False,
        seed: Seed | None = None,
    ) -> None: ...

class DropBlock(_variants.DropBlock):
    def __init__(
        self,
        p: float | Callable[[int], float] = 0.1,
        block_size: int | Sequence[int] = 7,
        *,
        exact_rate: bool = False,
        shared_axes: int | Sequence[int] | None = None,
        mode: blocks.Scaling = "inverted",
        per: Per = "batch",
        data_format: DataFormat = "channels_first",
        seed: Seed | None = None,
    ) -> None: ...

class DropConnect(_variants.DropConnect):
    def __init__(
        self,
        weight: NDArray[Any],
        p: float | Callable[[int], float] = 0.5,
        *,
        bias: NDArray[Any] | None = None,
        seed: Seed | None = None,
        per: Per = "sample",
        mode: Literal["inverted", "standard"] = "inverted",
        drop_bias: bool = True,
    ) -> None: ...

class DropHead(_variants.DropHead):
    def __init__(self, p: float | Callable[[int], float] = 0.1, *, seed: Seed | None = None) -> None: ...

class DropKey(_variants.DropKey):
    def __init__(
        self,
        p: float | Callable[[int], float] = 0.1,
        *,
        shared_axes: int | Sequence[int] | None = None,
        fill: float = ...,
        empty_rows: attention.EmptyRows = "keep",
        seed: Seed | None = None,
    ) -> None: ...

class DropPath(_variants.DropPath):
    def __init__(
        self, p: Rate | Callable[[int], float] = 0.0, *, per: Per = "sample", mode: Mode = "inverted", seed: Seed | None = None
    ) -> None: ...

class Dropout(_variants.Dropout):
    def __init__(
        self,
        p: Rate | Callable[[int], float] = 0.5,
        *,
        mode: Mode = "inverted",
        noise_shape: Sequence[int | None] | None = None,
        shared_axes: int | Sequence[int] | None = None,
        seed: Seed | None = None,
    ) -> None: ...

class Dropout1d(_variants.Dropout1d):
    def __init__(self, p: Rate | Callable[[int], float] = 0.5, *, seed: Seed | None = None) -> None: ...

class Dropout2d(_variants.Dropout2d):
    def __init__(self, p: Rate | Callable[[int], float] = 0.5, *, seed: Seed | None = None) -> None: ...

class Dropout3d(_variants.Dropout3d):
    def __init__(self, p: Rate | Callable[[int], float] = 0.5, *, seed: Seed | None = None) -> None: ...

class EmbeddingDropout(_variants.EmbeddingDropout):
    def __init__(
        self,
        p: Rate | Callable[[int], float] = 0.1,
        *,
        num_embeddings: int | None = None,
        per: Per = "batch",
        seed: Seed | None = None,
    ) -> None: ...

class FeatureAlphaDropout(_variants.FeatureAlphaDropout):
    def __init__(
        self, p: float | Callable[[int], float] = 0.5, *, mean: float = 0.0, var: float = 1.0, seed: Seed | None = None
    ) -> None: ...

class GaussianDropout(_variants.GaussianDropout):
    def __init__(
        self, p: float | Callable[[int], float] = 0.5, *, log_alpha: ArrayLike | None = None, seed: Seed | None = None
    ) -> None: ...

class GaussianNoise(_variants.GaussianNoise):
    def __init__(self, stddev: float | Callable[[int], float] = 1.0, *, seed: Seed | None = None) -> None: ...

class GroupDropout(_variants.GroupDropout):
    def __init__(
        self,
        p: float | Callable[[int], float] = 0.5,
        *,
        group_size: int | Sequence[int],
        axes: int | Sequence[int] = -1,
        seed: Seed | None = None,
    ) -> None: ...

class ImportanceDropout(_variants.ImportanceDropout):
    def __init__(
        self,
        p: float | Callable[[int], float] = 0.5,
        *,
        axis: int | Sequence[int] | None = None,
        floor: float = 0.01,
        shared_axes: int | Sequence[int] | None = None,
        seed: Seed | None = None,
    ) -> None: ...

class LockedDropout(_variants.LockedDropout):
    def __init__(
        self, p: Rate | Callable[[int], float] = 0.5, *, shared_axes: int | Sequence[int] = 0, seed: Seed | None = None
    ) -> None: ...

class MultinomialDropout(_variants.MultinomialDropout):
    def __init__(self, k: int | Callable[[int], int], *, per: Per = "sample", seed: Seed | None = None) -> None: ...

class Shakeout(_variants.Shakeout):
    def __init__(
        self,
        p: float | Callable[[int], float] = 0.5,
        c: float = 0.1,
        *,
        unit: Literal["input", "weight"] = "input",
        seed: Seed | None = None,
    ) -> None: ...

class SpatialDropout(_variants.SpatialDropout):
    def __init__(
        self, p: Rate | Callable[[int], float] = 0.5, *, data_format: DataFormat = "channels_first", seed: Seed | None = None
    ) -> None: ...

class TargetedDropout(_variants.TargetedDropout):
    def __init__(
        self,
        p: float | Callable[[int], float] = 0.5,
        *,
        fraction: float = 0.5,
        among: targeted.Among = "output",
        mode: targeted.Scaling = "inverted",
        seed: Seed | None = None,
    ) -> None: ...

class TokenDropout(_variants.TokenDropout):
    def __init__(
        self,
        p: float | Callable[[int], float] = 0.5,
        *,
        num_prefix_tokens: int = 0,
        ordered: bool = True,
        gather: bool = True,
        seed: Seed | None = None,
    ) -> None: ...

class UniformDropout(_variants.UniformDropout):
    def __init__(self, half_width: float | Callable[[int], float] = 0.1, *, seed: Seed | None = None) -> None: ...

class VariationalDense(_variants.VariationalDense):
    def __init__(
        self,
        weight: NDArray[Any],
        log_sigma2: NDArray[Any],
        prune_above: float | Callable[[int], float] = 3.0,
        *,
        bias: NDArray[Any] | None = None,
        seed: Seed | None = None,
    ) -> None: ...

class VariationalDropout(_variants.VariationalDropout):
    def __init__(
        self,
        weight: NDArray[Any],
        log_alpha: NDArray[Any],
        noise: Literal["input", "weight"] | Callable[[int], Literal["input", "weight"]] = "input",
        *,
        bias: NDArray[Any] | None = None,
        seed: Seed | None = None,
        max_log_alpha: float | None = 0.0,
    ) -> None: ...

class WeightDrop(_variants.WeightDrop):
    def __init__(
        self, p: Rate | Callable[[int], float] = 0.5, *, unit: Literal["weight", "output"] = "weight", seed: Seed | None = None
    ) -> None: ...

class WordDropout(_variants.WordDropout):
    def __init__(
        self, p: Rate | Callable[[int], float] = 0.05, *, mode: Mode = "inverted", seed: Seed | None = None
    ) -> None: ...

class Zoneout(_variants.Zoneout):
    def __init__(self, p: Rate | Callable[[int], float], *, seed: Seed | None = None) -> None: ...

class PatchDropout(_variants.PatchDropout, TokenDropout):
    def __init__(
        self,
        p: float | Callable[[int], float] = 0.5,
        *,
        num_prefix_tokens: int = 1,
        ordered: bool = False,
        seed: Seed | None = None,
    ) -> None: ...

class SpatialConcreteDropout(_variants.SpatialConcreteDropout, ConcreteDropout):
    def __init__(
        self,
        p: float = 0.1,
        temperature: float | Callable[[int], float] = 0.6666666666666666,
        *,
        epsilon: float = 1e-07,
        exact_mean: bool = False,
        data_format: DataFormat = "channels_first",
        seed: Seed | None = None,
    ) -> None: ...
