"""fastdrop for JAX on CPUs: functions with JAX's keys and the same masks as `fastdrop.dropout`.

`fastdrop.jax.nnx` and `fastdrop.jax.linen` have Flax's modules.

Examples
--------
>>> import jax, jax.numpy as jnp, fastdrop.jax
>>> x, key = jnp.ones((2, 4)), jax.random.key(42)
>>> loss = lambda x: fastdrop.jax.dropout(x, 0.5, key=key).sum()
>>> bool((jax.jit(jax.grad(loss))(x) == fastdrop.jax.dropout(x, 0.5, key=key)).all())
True
"""

from fastdrop._core.optional import missing

try:
    import jax as _jax  # noqa: F401  # so that the error names the missing package, and the extra
except ImportError as error:
    raise missing("fastdrop.jax", error, "jax") from error

from fastdrop.jax._functions import (
    alpha_dropout,
    dropout,
    dropout1d,
    dropout2d,
    dropout3d,
    gaussian_dropout,
    locked_dropout,
)

__all__ = [
    "alpha_dropout",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "gaussian_dropout",
    "locked_dropout",
]
