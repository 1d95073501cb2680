"""Dropout for NumPy arrays: fast, and reproducible to the bit.

Examples
--------
>>> import numpy as np, fastdrop
>>> x = np.ones((2, 4), np.float32)
>>> y = fastdrop.dropout(x, 0.5, seed=42)
>>> dx = fastdrop.dropout_backward(np.ones_like(y), 0.5, seed=42)  # the same mask; nothing was stored
"""

from fastdrop._core.settings import (
    config,
    get_backend,
    get_isa,
    get_num_threads,
    set_backend,
    set_isa,
    set_num_threads,
    show_config,
    using,
)
from fastdrop.random import Key, Stream, fold_in, normal, uniform, words
from fastdrop.variants.adaptive import adaptive_dropout, adaptive_dropout_backward
from fastdrop.variants.adl import adl, adl_backward
from fastdrop.variants.alpha import alpha_dropout, alpha_dropout_backward, feature_alpha_dropout, feature_alpha_dropout_backward
from fastdrop.variants.attention import (
    attention_dropout,
    attention_dropout_backward,
    drop_head,
    drop_head_backward,
    drop_key,
    drop_key_backward,
)
from fastdrop.variants.blocks import drop_block, drop_block_backward
from fastdrop.variants.channels import (
    dropout1d,
    dropout1d_backward,
    dropout2d,
    dropout2d_backward,
    dropout3d,
    dropout3d_backward,
    spatial_dropout,
    spatial_dropout_backward,
)
from fastdrop.variants.concrete import (
    concrete_dropout,
    concrete_dropout_backward,
    spatial_concrete_dropout,
    spatial_concrete_dropout_backward,
)
from fastdrop.variants.depth import drop_path, drop_path_backward, layer_drop
from fastdrop.variants.drop_connect import drop_connect, drop_connect_backward
from fastdrop.variants.dropout import apply_mask, dropout, dropout_backward, dropout_mask
from fastdrop.variants.gaussian import gaussian_dropout, gaussian_dropout_backward, gaussian_noise
from fastdrop.variants.groups import group_dropout, group_dropout_backward
from fastdrop.variants.importance import importance_dropout, importance_dropout_backward
from fastdrop.variants.multinomial import multinomial_dropout, multinomial_dropout_backward
from fastdrop.variants.recurrent import locked_dropout, locked_dropout_backward, zoneout, zoneout_backward
from fastdrop.variants.targeted import targeted_dropout, targeted_dropout_backward
from fastdrop.variants.tokens import patch_dropout, patch_dropout_backward, token_dropout, token_dropout_backward
from fastdrop.variants.uniform import uniform_dropout, uniform_dropout_backward
from fastdrop.variants.variational import (
    variational_dense,
    variational_dense_backward,
    variational_dropout,
    variational_dropout_backward,
)
from fastdrop.variants.weights import shakeout, shakeout_backward, weight_drop, weight_drop_backward
from fastdrop.variants.words import embedding_dropout, embedding_dropout_backward, word_dropout, word_dropout_backward

__version__: str  # read from the installed distribution at its first use

__all__ = [
    "Key",
    "Stream",
    "adaptive_dropout",
    "adaptive_dropout_backward",
    "addresses",
    "adl",
    "adl_backward",
    "alpha_dropout",
    "alpha_dropout_backward",
    "apply_mask",
    "attention_dropout",
    "attention_dropout_backward",
    "concrete_dropout",
    "concrete_dropout_backward",
    "config",
    "drop_block",
    "drop_block_backward",
    "drop_connect",
    "drop_connect_backward",
    "drop_head",
    "drop_head_backward",
    "drop_key",
    "drop_key_backward",
    "drop_path",
    "drop_path_backward",
    "dropout",
    "dropout1d",
    "dropout1d_backward",
    "dropout2d",
    "dropout2d_backward",
    "dropout3d",
    "dropout3d_backward",
    "dropout_backward",
    "dropout_mask",
    "embedding_dropout",
    "embedding_dropout_backward",
    "feature_alpha_dropout",
    "feature_alpha_dropout_backward",
    "fold_in",
    "gaussian_dropout",
    "gaussian_dropout_backward",
    "gaussian_noise",
    "get_backend",
    "get_include",
    "get_isa",
    "get_num_threads",
    "group_dropout",
    "group_dropout_backward",
    "importance_dropout",
    "importance_dropout_backward",
    "layer_drop",
    "locked_dropout",
    "locked_dropout_backward",
    "multinomial_dropout",
    "multinomial_dropout_backward",
    "normal",
    "patch_dropout",
    "patch_dropout_backward",
    "set_backend",
    "set_isa",
    "set_num_threads",
    "shakeout",
    "shakeout_backward",
    "show_config",
    "spatial_concrete_dropout",
    "spatial_concrete_dropout_backward",
    "spatial_dropout",
    "spatial_dropout_backward",
    "targeted_dropout",
    "targeted_dropout_backward",
    "token_dropout",
    "token_dropout_backward",
    "uniform",
    "uniform_dropout",
    "uniform_dropout_backward",
    "using",
    "variational_dense",
    "variational_dense_backward",
    "variational_dropout",
    "variational_dropout_backward",
    "weight_drop",
    "weight_drop_backward",
    "word_dropout",
    "word_dropout_backward",
    "words",
    "zoneout",
    "zoneout_backward",
]

# Submodules that are loaded at their first use, such as `fastdrop.nn` after `import fastdrop`.
SUBMODULES = (
    "elementary",
    "federated",
    "losses",
    "monitor",
    "nn",
    "schedules",
    "theory",
    "tuning",
    "typing",
    "uncertainty",
    "verify",
)
# Likewise, but `dir` does not list them, because their frameworks may not be installed.
ADAPTERS = ("dask", "jax", "keras", "numba_functions", "thinc", "torch")


def __getattr__(name: str) -> object:
    """Load a submodule or the version at its first use."""
    import importlib
    import sys

    if name in SUBMODULES or name in ADAPTERS:
        return importlib.import_module(f"fastdrop.{name}")
    if name == "__version__":
        import importlib.metadata  # takes as long as the rest of the package

        globals()[name] = importlib.metadata.version("fastdrop-kernels")
        return globals()[name]
    # With these arguments, Python's traceback suggests a similar name.
    raise AttributeError(f"module 'fastdrop' has no attribute {name!r}", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return sorted({*__all__, *SUBMODULES, "__version__"})


def get_include() -> str:
    """Return the folder of ``fastdrop.h`` and ``fastdrop_simple.h``, for C and Cython code that uses fastdrop's kernels.

    Examples
    --------
    >>> import fastdrop, pathlib
    >>> pathlib.Path(fastdrop.get_include(), "fastdrop.h").is_file()
    True
    """
    import os

    return os.path.join(os.path.dirname(__file__), "include")


def addresses(*, capsules: bool = False) -> "dict[str, object]":  # as text for the stub
    """Return the functions of ``fastdrop_simple.h``, for code that is compiled or linked at run time.

    Parameters
    ----------
    capsules : bool, default False
        Whether each address is in a capsule. The name of the capsule has the version of the interface: ``fastdrop.v1.fd_drop``.

    Returns
    -------
    dict
        The addresses of ``fd_drop``, ``fd_keep_bits``, ``fd_derive``, ``fd_error_text`` and ``fd_abi``, by name, as integers or
        capsules. They are valid as long as the process runs.

    Raises
    ------
    TypeError
        For `capsules` that is not a bool.

    See Also
    --------
    get_include : the folder of the header, which describes the functions.

    Examples
    --------
    >>> import ctypes, fastdrop
    >>> ctypes.CFUNCTYPE(ctypes.c_int)(fastdrop.addresses()["fd_abi"])()
    1
    """
    from fastdrop._core import native

    if not isinstance(capsules, bool):
        raise TypeError(f"capsules must be True or False; got {capsules!r}")
    found = native.addresses()
    return {name: native.capsule(f"fastdrop.v1.{name}".encode(), at) if capsules else at for name, at in found.items()}
