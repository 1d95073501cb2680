"""What the tests of the adapter for PyTorch share: tensors, their bytes, the state of the generator."""

import numpy as np
import pytest
import torch

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
SEED = 2**63 + 5  # above what an int64 holds
KEY = {"seed": SEED, "offset": 2**64 - 1}
SHAPES = {"dropout1d": (3, 4, 5), "dropout2d": (3, 4, 5, 2), "dropout3d": (3, 4, 5, 2, 2), "feature_alpha_dropout": (3, 4, 5)}
FUNCTIONS = ["dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"]
LAYERS = {  # the shapes of their inputs
    "Dropout": (3, 4), "Dropout1d": (2, 3, 4), "Dropout2d": (2, 3, 4, 4), "Dropout3d": (2, 3, 4, 4, 4), "AlphaDropout": (3, 4),
    "FeatureAlphaDropout": (2, 3, 4), "LockedDropout": (4, 2, 3), "DropPath": (8, 3), "GaussianDropout": (3, 4),
    "DropBlock2d": (2, 3, 9, 9), "ConcreteDropout": (3, 4),
}  # fmt: skip


def randn(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def to_numpy(x):
    """Return an array of the same bytes."""
    x = x.detach().contiguous()
    if x.dtype == torch.bfloat16:
        return x.view(torch.int16).numpy().view(pytest.importorskip("ml_dtypes").bfloat16)
    return x.numpy()


def equal(tensor, array):
    return to_numpy(tensor).tobytes() == np.ascontiguousarray(array).tobytes()


def state():
    return torch.get_rng_state().clone()
