"""Dropout as a module of `flax.linen`, with Flax's arguments.

Examples
--------
>>> import jax, jax.numpy as jnp
>>> from fastdrop.jax.linen import Dropout
>>> layer = Dropout(0.5, deterministic=False)
>>> layer.apply({}, jnp.ones((2, 4)), rngs={"dropout": jax.random.key(42)}).shape
(2, 4)
"""

from __future__ import annotations

from typing import Any

import jax

from fastdrop._core import plan
from fastdrop._core.optional import missing
from fastdrop.jax._functions import dropout, place_in_flax

try:
    from flax import linen
    from flax.linen.module import merge_param
except ImportError as error:
    raise missing("fastdrop.jax.linen", error, "jax") from error

__all__ = ["Dropout"]


class Dropout(linen.Dropout):
    """`flax.linen.Dropout` with fastdrop's masks.

    Parameters
    ----------
    rate : float
        Probability of dropping, in [0, 1].
    broadcast_dims : sequence of int, default ()
        Axes along which elements share a decision.
    deterministic : bool, optional
        Whether the inputs are returned unchanged, as outside training.
    rng_collection : str, default "dropout"
        The name of the keys in ``rngs``.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from fastdrop.jax.linen import Dropout
    >>> layer, x = Dropout(0.5, broadcast_dims=(1,)), jnp.ones((2, 4))
    >>> y = layer.apply({}, x, deterministic=False, rngs={"dropout": jax.random.key(42)})
    >>> bool((y[:, :1] == y).all())
    True
    """

    @linen.compact
    def __call__(self, inputs: Any, deterministic: bool | None = None, rng: Any = None) -> jax.Array:
        """Return the inputs with elements dropped.

        Parameters
        ----------
        inputs : jax.Array
            The inputs.
        deterministic : bool, optional
            The value for this call, instead of the module's own.
        rng : jax.Array, optional
            The key for this call, instead of one from ``rngs``.

        Returns
        -------
        jax.Array
            The result of `fastdrop.jax.dropout`.
        """
        passes = merge_param("deterministic", self.deterministic, deterministic)

        def draw() -> Any:
            return self.make_rng(self.rng_collection) if rng is None else rng

        inputs, axes = place_in_flax(inputs, self.broadcast_dims)
        return dropout(inputs, self.rate, key=draw, training=not plan.check_flag(passes, "deterministic"), shared_axes=axes)
