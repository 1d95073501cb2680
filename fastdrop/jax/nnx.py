"""Dropout as a module of `flax.nnx`, with Flax's arguments.

Examples
--------
>>> import jax.numpy as jnp
>>> from flax import nnx
>>> from fastdrop.jax.nnx import Dropout
>>> layer = Dropout(0.5, rngs=nnx.Rngs(dropout=42))
>>> layer(jnp.ones((2, 4))).shape
(2, 4)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from fastdrop._core import plan
from fastdrop._core.optional import missing
from fastdrop.jax._functions import dropout, place_in_flax

try:
    from flax import nnx
    from flax.nnx.module import first_from
except ImportError as error:
    raise missing("fastdrop.jax.nnx", error, "jax") from error

__all__ = ["Dropout"]


class Dropout(nnx.Dropout):
    """`flax.nnx.Dropout` with fastdrop's masks.

    Parameters
    ----------
    rate : float
        Probability of dropping, in [0, 1].
    broadcast_dims : sequence of int, default ()
        Axes along which elements share a decision.
    deterministic : bool, default False
        Whether the inputs are returned unchanged, as outside training.
    rng_collection : str, default "dropout"
        The name of the stream of keys.
    rngs : flax.nnx.Rngs or flax.nnx.RngStream, optional
        The source of the keys.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from fastdrop.jax.nnx import Dropout
    >>> layer = Dropout(0.5, broadcast_dims=(1,), rngs=nnx.Rngs(dropout=42))
    >>> y = layer(jnp.ones((2, 4)))
    >>> bool((y[:, :1] == y).all())
    True
    """

    rate: float
    broadcast_dims: Sequence[int]
    deterministic: bool | None

    def __call__(self, inputs: Any, *, deterministic: bool | None = None, rngs: Any = None) -> jax.Array:
        """Return the inputs with elements dropped.

        Parameters
        ----------
        inputs : jax.Array
            The inputs.
        deterministic : bool, optional
            The value for this call, instead of the module's own.
        rngs : flax.nnx.Rngs, flax.nnx.RngStream or jax.Array, optional
            The source of the key, or the key itself, for this call instead of the module's own.

        Returns
        -------
        jax.Array
            The result of `fastdrop.jax.dropout`.
        """
        passes = first_from(
            deterministic,
            self.deterministic,
            error_msg="No `deterministic` argument was provided to Dropout: give it to the constructor or to the call",
        )

        def draw() -> Any:
            source = self.rngs if rngs is None else rngs
            if source is None:
                raise ValueError(
                    "`deterministic` is False, but no `rngs` argument was provided to Dropout: give it to the constructor or "
                    "to the call"
                )
            if isinstance(source, nnx.Rngs):
                source = source[self.rng_collection]
            return source() if callable(source) else source

        inputs, axes = place_in_flax(inputs, self.broadcast_dims)
        return dropout(inputs, self.rate, key=draw, training=not plan.check_flag(passes, "deterministic"), shared_axes=axes)
