"""fastdrop for PyTorch on CPUs: functions and layers with PyTorch's signatures, the same masks as `fastdrop.dropout`.

Examples
--------
>>> import torch, fastdrop.torch
>>> x = torch.ones(2, 4, requires_grad=True)
>>> y = fastdrop.torch.dropout(x, 0.5, seed=42)
>>> y.sum().backward()
>>> bool((x.grad == y).all())
True
"""

from fastdrop._core.optional import missing

try:
    import torch as _torch  # noqa: F401  # what is missing has a name here, and an extra
except ImportError as error:
    raise missing("fastdrop.torch", error, "torch") from error

from fastdrop.torch._attention import attention_dropout, drop_key, scaled_dot_product_attention
from fastdrop.torch._functions import (
    alpha_dropout,
    drop_path,
    dropout,
    dropout1d,
    dropout2d,
    dropout3d,
    dropout_add,
    feature_alpha_dropout,
    locked_dropout,
    weight_drop,
)
from fastdrop.torch._layers import (
    AlphaDropout,
    ConcreteDropout,
    DropBlock2d,
    Dropout,
    Dropout1d,
    Dropout2d,
    Dropout3d,
    DropPath,
    FeatureAlphaDropout,
    GaussianDropout,
    LockedDropout,
    WeightDrop,
)
from fastdrop.torch._models import Report, convert, patched, revert
from fastdrop.torch._native import build, load
from fastdrop.torch._noise import concrete_dropout, drop_block2d, embedding_dropout, gaussian_dropout

__all__ = [
    "AlphaDropout",
    "ConcreteDropout",
    "DropBlock2d",
    "DropPath",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
    "GaussianDropout",
    "LockedDropout",
    "Report",
    "WeightDrop",
    "alpha_dropout",
    "attention_dropout",
    "build",
    "concrete_dropout",
    "convert",
    "drop_block2d",
    "drop_key",
    "drop_path",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "dropout_add",
    "embedding_dropout",
    "feature_alpha_dropout",
    "gaussian_dropout",
    "locked_dropout",
    "patched",
    "revert",
    "scaled_dot_product_attention",
    "weight_drop",
]

load()
