"""Dropout as a module of Flax, in both of its interfaces."""

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed")
pytest.importorskip("flax", reason="Flax is not installed")

import jax.numpy as jnp  # noqa: E402
from flax import linen, nnx  # noqa: E402

import fastdrop.jax  # noqa: E402
import fastdrop.jax.linen  # noqa: E402
import fastdrop.jax.nnx  # noqa: E402

X = jnp.arange(1.0, 13).reshape(3, 4)
RATE = 0.3


def same(found, wanted):
    assert np.asarray(found).tobytes() == np.asarray(wanted).tobytes()


# nnx ----------------------------------------------------------------------------------------------------------------


def layer_and_peer(**options):
    """Return our module and Flax's, with the same stream of keys."""
    return [kind(RATE, rngs=nnx.Rngs(dropout=7), **options) for kind in (fastdrop.jax.nnx.Dropout, nnx.Dropout)]


@pytest.mark.parametrize("axes", [(), (0,), (0, 1)])
def test_nnx_takes_the_keys_that_flax_would(axes):
    layer, peer = layer_and_peer(broadcast_dims=axes)
    for _ in range(3):
        key = peer.rngs()
        same(layer(X), fastdrop.jax.dropout(X, RATE, key=key, shared_axes=axes or None))


def test_nnx_modes_and_keys_of_a_call():
    layer, _ = layer_and_peer()
    assert layer(X, deterministic=True) is X
    layer.eval()
    assert layer(X) is X
    key = jax.random.key(3)
    same(layer(X, deterministic=False, rngs=key), fastdrop.jax.dropout(X, RATE, key=key))
    first = nnx.Rngs(dropout=5).dropout()
    for rngs in (nnx.Rngs(dropout=5), nnx.Rngs(dropout=5).dropout):
        same(layer(X, deterministic=False, rngs=rngs), fastdrop.jax.dropout(X, RATE, key=first))


def test_nnx_in_jit_and_grad():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.drop = fastdrop.jax.nnx.Dropout(RATE, rngs=rngs)
            self.linear = nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, x):
            return self.linear(self.drop(x))

    model, eager = Model(nnx.Rngs(0)), Model(nnx.Rngs(0))
    run = nnx.jit(lambda model, x: model.drop(x))
    for _ in range(2):
        same(run(model, X), eager.drop(X))
    kernel = nnx.jit(nnx.grad(lambda model: model(X).sum()))(model)["linear"]["kernel"]
    dropped = eager.drop(X)
    np.testing.assert_allclose(kernel[...], np.asarray(dropped).sum(0)[:, None].repeat(2, 1), rtol=1e-6)


@pytest.mark.parametrize("x", [jnp.arange(3), "text"])
def test_nnx_draws_no_key_for_bad_input(x):
    layer, peer = layer_and_peer()
    with pytest.raises(TypeError, match=r"^x must"):
        layer(x)
    key = peer.rngs()
    same(layer(X), fastdrop.jax.dropout(X, RATE, key=key))


def test_nnx_says_what_is_missing():
    with pytest.raises(ValueError, match=r"^`deterministic` is False, but no `rngs` argument was provided to Dropout"):
        fastdrop.jax.nnx.Dropout(RATE)(X)
    with pytest.raises(ValueError, match=r"^No `deterministic` argument was provided to Dropout"):
        fastdrop.jax.nnx.Dropout(RATE, deterministic=None)(X)
    with pytest.raises(TypeError, match=r"^key must be a key of JAX, such as jax.random.key"):
        fastdrop.jax.nnx.Dropout(RATE)(X, rngs=42)


@pytest.mark.parametrize(
    ("dims", "kind", "sentence"),
    [
        (1, TypeError, "broadcast_dims must be a sequence of integers; got 1"),
        ((1, 1), ValueError, "broadcast_dims (1, 1) name an axis twice"),
        ((9,), ValueError, "broadcast_dims (9,) are out of range for an array of"),
    ],
)
def test_bad_axes(dims, kind, sentence):
    """The errors have the name that Flax's users know."""
    key = jax.random.key(7)
    for call in (
        lambda: fastdrop.jax.nnx.Dropout(RATE, broadcast_dims=dims)(X, rngs=key),
        lambda: fastdrop.jax.linen.Dropout(RATE, broadcast_dims=dims).apply({}, X, deterministic=False, rngs={"dropout": key}),
    ):
        with pytest.raises(kind) as found:
            call()
        assert str(found.value).startswith(sentence)


@pytest.mark.parametrize("passes", ["no", 0, np.array([True, False])], ids=str)
def test_flags_of_modules(passes):
    layer, peer = layer_and_peer()
    with pytest.raises(TypeError, match=r"^deterministic must be True or False; got"):
        layer(X, deterministic=passes)
    with pytest.raises(TypeError, match=r"^deterministic must be True or False; got"):
        fastdrop.jax.linen.Dropout(RATE).apply({}, X, deterministic=passes, rngs={"dropout": jax.random.key(7)})
    same(layer(X, deterministic=np.bool_(False)), fastdrop.jax.dropout(X, RATE, key=peer.rngs()))


def test_no_key_is_drawn_where_everything_is_dropped():
    """As in Flax, which needs no rngs for a rate of 1."""
    layer, own = fastdrop.jax.nnx.Dropout(1.0, rngs=nnx.Rngs(7)), nnx.Dropout(1.0, rngs=nnx.Rngs(7))
    same(layer(X), own(X))
    assert layer.rngs.count[...] == own.rngs.count[...] == 0
    same(fastdrop.jax.nnx.Dropout(1.0)(X), own(X))
    same(fastdrop.jax.linen.Dropout(1.0, deterministic=False).apply({}, X), own(X))


# linen --------------------------------------------------------------------------------------------------------------


class Keys(linen.Module):
    """Shows the key that a module at its place gets."""

    @linen.compact
    def __call__(self):
        return self.make_rng("dropout")


@pytest.mark.parametrize("axes", [(), (0,), (0, 1)])
def test_linen_takes_the_keys_that_flax_would(axes):
    layer, rngs = fastdrop.jax.linen.Dropout(RATE, broadcast_dims=axes), {"dropout": jax.random.key(7)}
    key = Keys().apply({}, rngs=rngs)
    wanted = fastdrop.jax.dropout(X, RATE, key=key, shared_axes=axes or None)
    same(layer.apply({}, X, deterministic=False, rngs=rngs), wanted)
    same(jax.jit(lambda x: layer.apply({}, x, deterministic=False, rngs=rngs))(X), wanted)


def test_linen_modes_and_keys_of_a_call():
    layer, key = fastdrop.jax.linen.Dropout(RATE), jax.random.key(3)
    assert layer.apply({}, X, deterministic=True) is X
    same(layer.apply({}, X, deterministic=False, rng=key), fastdrop.jax.dropout(X, RATE, key=key))
    own = fastdrop.jax.linen.Dropout(RATE, deterministic=True)
    assert own.apply({}, X) is X


def test_linen_in_a_model():
    class Model(linen.Module):
        @linen.compact
        def __call__(self, x):
            return fastdrop.jax.linen.Dropout(RATE, deterministic=False)(linen.Dense(2)(x))

    model, rngs = Model(), {"dropout": jax.random.key(7)}
    variables = model.init({"params": jax.random.key(1), **rngs}, X)
    gradient = jax.grad(lambda variables: model.apply(variables, X, rngs=rngs).sum())(variables)
    kept = model.apply(variables, X, rngs=rngs) != 0
    np.testing.assert_allclose(gradient["params"]["Dense_0"]["bias"], kept.sum(0) / 0.7, rtol=1e-6)


def test_linen_refuses_bad_input():
    with pytest.raises(TypeError, match=r"^x must have dtype"):
        fastdrop.jax.linen.Dropout(RATE).apply({}, jnp.arange(3), deterministic=False, rngs={"dropout": jax.random.key(1)})
