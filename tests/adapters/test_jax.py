"""The adapter for JAX: the bytes of NumPy's calls under every transform, and what it refuses."""

import re
import warnings

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed")

import jax.numpy as jnp  # noqa: E402
from jax import export  # noqa: E402

import fastdrop  # noqa: E402
import fastdrop.jax  # noqa: E402
from fastdrop.jax import _lowering  # noqa: E402
from fastdrop.verify.cases import spoiled  # noqa: E402

P = 0.3
DTYPES = ("float32", "float64", "float16", "bfloat16")
KEYS = {
    "threefry2x32": lambda seed: jax.random.key(seed),
    "rbg": lambda seed: jax.random.split(jax.random.key(seed, impl="rbg"))[0],
    "raw": lambda seed: jnp.array([7, seed], jnp.uint32),
    "raw of four words": lambda seed: jnp.array([7, seed, 1, 5], jnp.uint32),
}
ELEMENTWISE = ("dropout", "alpha_dropout", "gaussian_dropout")
EVERY_KEY = [("dropout", dtype, kind) for dtype in DTYPES for kind in KEYS]
ONE_KEY = [(name, dtype, "rbg") for name in ELEMENTWISE[1:] for dtype in DTYPES]


@pytest.fixture(autouse=True)
def wide():
    """Keep float64, which JAX makes float32 by default."""
    with jax.enable_x64(True):
        yield


def words(key):
    """Return the seed and the offset of a key."""
    data = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    high, low, *rest = (int(word) for word in data)
    return {"seed": high << 32 | low, "offset": rest[0] << 32 | rest[1] if rest else 0}


def array(dtype, *shape):
    return jnp.arange(1, 1 + np.prod(shape, dtype=int)).reshape(shape).astype(dtype)


def numpy(x):
    return np.asarray(x)


def same(found, wanted):
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    assert np.asarray(found).tobytes() == np.asarray(wanted).tobytes()


# Bytes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dtype", "kind"), EVERY_KEY + ONE_KEY)
def test_bytes_in_every_dtype_with_every_key(name, dtype, kind):
    key, x = KEYS[kind](42), array(dtype, 3, 50)
    ours, numpys = getattr(fastdrop.jax, name), getattr(fastdrop, name)
    wanted = numpys(numpy(x), P, **words(key))
    same(ours(x, P, key=key), wanted)
    same(jax.jit(lambda x, key: ours(x, P, key=key))(x, key), wanted)


def test_seed_of_a_key_is_its_number():
    assert words(jax.random.key(42)) == {"seed": 42, "offset": 0}


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (4097,), (2, 3, 4, 5)])
def test_shapes(shape):
    x = array("float32", *shape)
    same(fastdrop.jax.dropout(x, P, key=jax.random.key(1)), fastdrop.dropout(numpy(x), P, seed=1))


@pytest.mark.parametrize("p", [0, 0.0, 1, 1.0, 0.1, 1 / 3, 2.0**-40, 1 - 2.0**-53])
def test_rates_are_exact(p):
    x = array("float64", 1000)
    same(fastdrop.jax.dropout(x, p, key=jax.random.key(1)), fastdrop.dropout(numpy(x), p, seed=1))


def test_a_subnormal_rate_does_not_pass_for_0():
    """It makes the sum of -0.0 and the shift +0.0."""
    x = np.array([-0.0, 1], np.float32)
    with spoiled():
        same(fastdrop.jax.alpha_dropout(x, 1e-310, key=jax.random.key(42)), fastdrop.alpha_dropout(x, 1e-310, seed=42))


@pytest.mark.parametrize("given", [0.1, 0.0, 1.0])
def test_a_rate_of_jax_is_float32(given):
    x, key = array("float32", 1000), jax.random.key(1)
    rounded = float(np.float32(given))
    wanted = fastdrop.dropout(numpy(x), rounded, seed=1)
    same(fastdrop.jax.dropout(x, jnp.float64(given), key=key), wanted)
    same(jax.jit(lambda p: fastdrop.jax.dropout(x, p, key=key))(given), wanted)


PLACES = [
    {"shared_axes": 1},
    {"shared_axes": (0, -1)},
    {"shared_axes": (0, 1, 2)},
    {"noise_shape": (3, 1, None)},
    {"start": 1000},
    {"start": 7, "shared_axes": 0},
    {"global_shape": (9, 8, 10), "global_start": (2, 1, 3)},
    {"global_shape": (9, 8, 10), "global_start": (2, 1, 3), "shared_axes": 1},
]


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_places(place):
    x, key = array("float32", 3, 4, 5), jax.random.key(1)
    wanted = fastdrop.dropout(numpy(x), P, seed=1, **place)
    same(fastdrop.jax.dropout(x, P, key=key, **place), wanted)
    same(jax.jit(jax.grad(lambda x: (fastdrop.jax.dropout(x, P, key=key, **place) * x).sum() / 2))(x).astype(x.dtype), wanted)


def test_a_start_may_be_traced():
    x, key = array("float32", 3, 4, 5), jax.random.key(1)
    run = jax.jit(lambda i: fastdrop.jax.dropout(x, P, key=key, global_shape=(9, 8, 10), global_start=(i, 2, 2 * i)))
    for i in (0, 2):
        same(run(i), fastdrop.dropout(numpy(x), P, seed=1, global_shape=(9, 8, 10), global_start=(i, 2, 2 * i)))
    for i in (-1, 3, 7):
        with pytest.raises(ValueError, match="global_start must place the array inside global_shape"):
            run(i).block_until_ready()
    with pytest.raises(OverflowError, match="elements"):
        jax.jit(
            lambda i: fastdrop.jax.dropout(x, P, key=key, global_shape=(2**10, 2**32, 2**31), global_start=(i, 0, 0)),
        )(0)


CHANNELS = [
    ("dropout1d", (2, 3, 4)),
    ("dropout1d", (3, 4)),
    ("dropout2d", (2, 3, 4, 5)),
    ("dropout2d", (2, 3, 4)),
    ("dropout3d", (2, 3, 2, 4, 5)),
    ("dropout3d", (3, 2, 4, 5)),
    ("locked_dropout", (3, 2, 4)),
]


@pytest.mark.parametrize(("name", "shape"), CHANNELS)
def test_functions_that_share_decisions(name, shape):
    x = array("float32", *shape)
    same(getattr(fastdrop.jax, name)(x, P, key=jax.random.key(1)), getattr(fastdrop, name)(numpy(x), P, seed=1))


def test_threads_change_nothing():
    x, wanted = array("float32", 2**20), []
    before = fastdrop.get_num_threads()
    try:
        for threads in (1, 3):
            fastdrop.set_num_threads(threads)
            wanted.append(np.asarray(jax.jit(lambda x: fastdrop.jax.dropout(x, P, key=jax.random.key(1)))(x)))
    finally:
        fastdrop.set_num_threads(before)
    same(wanted[0], wanted[1])
    same(wanted[0], fastdrop.dropout(numpy(x), P, seed=1))


READ_ONCE = [
    {"shared_axes": (1,)},
    {"noise_shape": (None, 1)},
    {"global_shape": (9, 8), "global_start": (3, 0)},
]


@pytest.mark.parametrize("place", READ_ONCE, ids=str)
def test_sequences_that_are_read_once(place):
    """An iterator is read for the checks, and again for the call."""
    x = array("float32", 4, 8)
    given = {name: iter(values) for name, values in place.items()}
    same(fastdrop.jax.dropout(x, P, key=jax.random.key(1), **given), fastdrop.dropout(numpy(x), P, seed=1, **place))


HUGE = [
    ((4,), {"global_shape": (2**70,)}),
    ((4,), {"global_shape": (2**63,), "global_start": (2**40,)}),
    ((1, 4), {"global_shape": (2**40, 2**40)}),
    ((0, 4), {"global_shape": (2**62, 2**62), "global_start": (2**62, 5)}),
    ((0,), {"global_shape": (2**70,), "global_start": (2**69,)}),
]


@pytest.mark.parametrize(("shape", "place"), HUGE)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_blocks_of_huge_arrays(name, shape, place):
    """No check counts the elements of the whole, only those of the block."""
    x, key = array("float32", *shape), jax.random.key(1)
    same(getattr(fastdrop.jax, name)(x, P, key=key, **place), getattr(fastdrop, name)(numpy(x), P, seed=1, **place))


# Transforms ---------------------------------------------------------------------------------------------------------


def mask(name, grad, key):
    """Return what NumPy's backward function makes of a gradient."""
    found = getattr(fastdrop, f"{name}_backward")(numpy(grad), P, **words(key))
    return found[0] if isinstance(found, tuple) else found


@pytest.mark.parametrize(("name", "dtype", "kind"), EVERY_KEY + ONE_KEY)
def test_derivatives(name, dtype, kind):
    key, x = KEYS[kind](42), array(dtype, 2, 20)
    ours = getattr(fastdrop.jax, name)

    def run(x):
        return ours(x, P, key=key)

    ones = jnp.ones_like(x)
    wanted = mask(name, ones, key)
    same(jax.vjp(run, x)[1](ones)[0], wanted)
    same(jax.jit(jax.grad(lambda x: run(x).sum()))(x), wanted)
    y, tangent = jax.jvp(run, (x,), (ones,))
    same(y, getattr(fastdrop, name)(numpy(x), P, **words(key)))
    same(tangent, wanted)
    same(jax.vjp(jax.checkpoint(run), x)[1](ones)[0], wanted)
    same(jax.grad(lambda x: jax.checkpoint(run)(x).sum())(x), wanted)
    hessian = jax.hessian(lambda x: (run(x) * run(x)).sum() / 2)(x[0])
    unit = numpy(jnp.eye(20, dtype=dtype))
    same(hessian, np.stack([mask(name, mask(name, row, key), key) for row in unit]))


@pytest.mark.parametrize(("name", "dtype", "kind"), [case for case in EVERY_KEY + ONE_KEY if "raw" not in case[2]])
def test_vmap_of_keys_and_rows_is_one_call(name, dtype, kind):
    x, keys = array(dtype, 5, 30), jax.random.split(KEYS[kind](3), 5)
    ours, numpys = getattr(fastdrop.jax, name), getattr(fastdrop, name)
    wanted = np.stack([numpys(row, P, **words(key)) for row, key in zip(numpy(x), keys, strict=True)])
    run = jax.vmap(lambda x, key: ours(x, P, key=key))
    same(run(x, keys), wanted)
    same(jax.vmap(lambda x, key: ours(x, P, key=key), in_axes=(1, 0), out_axes=1)(x.T, keys), wanted.T)
    same(jax.vmap(lambda key: ours(x[0], P, key=key))(keys)[1], numpys(numpy(x[0]), P, **words(keys[1])))
    text = jax.jit(run).lower(x, keys).compile().as_text()
    assert text.count('custom_call_target="fastdrop_dropout"') == 1
    assert "while" not in text


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_vmap_without_keys_is_one_mask(name):
    x, key = jnp.ones((4, 3, 5)), jax.random.key(1)
    ours = getattr(fastdrop.jax, name)
    found = jax.vmap(lambda x: ours(x, P, key=key))(x)
    for row in found:
        same(row, ours(x[0], P, key=key))


def test_nested_vmap():
    x, keys = array("float32", 3, 4, 5), jax.random.split(jax.random.key(1), (3, 4))
    each = np.stack([[fastdrop.dropout(numpy(x[i, j]), P, **words(keys[i, j])) for j in range(4)] for i in range(3)])
    drop = lambda x, key: fastdrop.jax.dropout(x, P, key=key)  # noqa: E731
    same(jax.vmap(jax.vmap(drop))(x, keys), each)
    inner = jax.vmap(lambda x: jax.vmap(drop)(x, keys[0]))(x)
    for i in range(3):
        same(inner[i], np.stack([fastdrop.dropout(numpy(x[i, j]), P, **words(keys[0, j])) for j in range(4)]))
    outer = jax.vmap(lambda x, key: jax.vmap(lambda x: drop(x, key))(x))(x, keys[:, 0])
    for i in range(3):
        same(outer[i], fastdrop.dropout(numpy(x[i]), P, **words(keys[i, 0]), shared_axes=0))


def test_vmap_of_a_condition():
    """JAX then gives all operands of the branch an axis, also those without elements."""
    key, x = jax.random.key(42), array("float32", 4, 6)
    run = jax.vmap(lambda drops, x: jax.lax.cond(drops, lambda x: fastdrop.jax.dropout(x, P, key=key), lambda x: x, x))
    drops = np.array([True, False, True, True])
    dropped = [fastdrop.dropout(row, P, seed=42) for row in numpy(x)]
    same(run(jnp.asarray(drops), x), np.where(drops[:, None], dropped, numpy(x)))


def test_vmap_of_a_condition_without_operands():
    def drop():
        return fastdrop.jax.dropout(jnp.ones(6, "float32"), P, key=jax.random.key(42))

    run = jax.vmap(lambda drops: jax.lax.cond(drops, drop, lambda: jnp.zeros(6, "float32")))
    found = run(jnp.array([True, False]))
    same(found, np.stack([fastdrop.dropout(np.ones(6, np.float32), P, seed=42), np.zeros(6, np.float32)]))


def test_vmap_with_a_traced_start():
    x, key = array("float32", 2, 3, 4), jax.random.key(1)
    place = {"global_shape": (6, 4), "global_start": (2, 0)}
    run = jax.jit(
        lambda i: jax.vmap(lambda x: fastdrop.jax.dropout(x, P, key=key, global_shape=(6, 4), global_start=(i, 0)))(x)
    )
    for row, wanted in zip(run(2), numpy(x), strict=True):
        same(row, fastdrop.dropout(wanted, P, seed=1, **place))


def test_without_jit():
    """What is left of `jit` where it is disabled, as in a debugger: calls that are compiled one by one."""
    x, key = array("float32", 100), jax.random.key(1)
    with jax.disable_jit():
        same(jax.jit(fastdrop.jax.dropout)(x, P, key=key), fastdrop.dropout(numpy(x), P, **words(key)))
        gradient = jax.grad(lambda x: fastdrop.jax.dropout(x, P, key=key).sum())(x)
    same(gradient, fastdrop.dropout(np.ones(100, np.float32), P, **words(key)))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_cotangent_is_overwritten_where_nothing_else_needs_it(name):
    """XLA makes a copy of a cotangent that is needed later, and none of a temporary array, which saves memory."""
    x, weights, key = array("float32", 4096), array("float32", 4096) / 4096, jax.random.key(1)

    def weighted(x, weights):
        return (getattr(fastdrop.jax, name)(x, P, key=key) * weights).sum()

    def residual(x):
        return ((x + getattr(fastdrop.jax, name)(x, P, key=key)) ** 2).sum()

    same(jax.jit(jax.grad(weighted))(x, weights), mask(name, weights, key))
    same(weights, numpy(array("float32", 4096) / 4096))  # the caller's array, which is the cotangent
    slope = 2 * (x + getattr(fastdrop.jax, name)(x, P, key=key))
    same(jax.jit(jax.grad(residual))(x), numpy(slope) + mask(name, slope, key))

    plain = jax.jit(jax.value_and_grad(lambda x: getattr(fastdrop.jax, name)(x, P, key=key).sum()))
    assert plain.lower(x).compile().memory_analysis().temp_size_in_bytes < 1.5 * x.nbytes


def test_scan_and_while():
    x = array("float32", 100)

    def step(carry, key):
        return fastdrop.jax.dropout(carry, 0.01, key=key), None

    keys, wanted = jax.random.split(jax.random.key(1), 5), numpy(x)
    for key in keys:
        wanted = fastdrop.dropout(wanted, 0.01, **words(key))
    same(jax.lax.scan(step, x, keys)[0], wanted)
    gradient = jax.jit(jax.grad(lambda x: jax.lax.scan(step, x, keys)[0].sum()))(x)
    assert ((np.asarray(gradient) == 0) == (wanted == 0)).all()


def drop_at(i, whole):
    """Drop from a block that begins at a traced index."""
    x = jnp.ones(4, "float32")
    run = jax.jit(lambda i: fastdrop.jax.dropout(x, P, key=jax.random.key(1), global_shape=(whole,), global_start=(i,)))
    return jax.block_until_ready(run(i))


WRAPPED = [(np.int32(-100), 2**32 - 1), (np.int32(-(2**31)), 2**31 + 100), (np.int8(-1), 300), (np.int32(-4), 2**32 - 1)]
WIDE = [
    (np.int64(2**32 + 5), 64),
    (np.int64(-(2**32) + 5), 64),
    (np.uint64(2**64 - 2**32 + 5), 64),
    (np.int64(2**32), 2**32 - 1),
]


@pytest.mark.parametrize(
    ("i", "whole", "wide"), [(*case, False) for case in WRAPPED] + [(*case, True) for case in WIDE + WRAPPED]
)
def test_a_traced_place_does_not_wrap(i, whole, wide):
    """The handler takes 32 bits of each number."""
    with jax.enable_x64(wide), pytest.raises(jax.errors.JaxRuntimeError, match="global_start must place the array inside"):
        drop_at(i, whole)


@pytest.mark.parametrize("i", [np.int32(5), np.uint32(2**32 - 5), np.int64(2**32 - 5), np.uint64(2**32 - 5), np.uint8(200)])
def test_traced_places_of_every_type(i):
    wanted = fastdrop.dropout(np.ones(4, np.float32), P, seed=1, global_shape=(2**32 - 1,), global_start=(int(i),))
    same(drop_at(i, 2**32 - 1), wanted)


def test_sizes_for_a_traced_place():
    with pytest.raises(ValueError, match=r"^the sizes in global_shape must be below 2\*\*32 if global_start is traced; got"):
        drop_at(5, 2**32)


# Refused calls -------------------------------------------------------------------------------------------------------

KEY_SENTENCE = "key must be a key of JAX, such as jax.random.key(42)"
X = np.ones(3, np.float32)

BAD = [
    ({"x": [1.0]}, TypeError, "x must be an array of JAX or NumPy; got list"),
    ({"x": np.arange(3)}, TypeError, "x must have dtype float32, float64, float16 or bfloat16; got int64"),
    ({"x": np.ones(3, bool)}, TypeError, "x must have dtype float32, float64, float16 or bfloat16; got bool"),
    ({"x": np.ones(3, complex)}, TypeError, "x must have dtype float32, float64, float16 or bfloat16; got complex128"),
    ({"x": X.astype(">f4")}, TypeError, "x must have this machine's byte order; got dtype '>f4'"),
    ({"x": np.ma.ones(3, np.float32)}, TypeError, "x must be an array of JAX or NumPy; got MaskedArray"),
    ({"key": 42}, TypeError, f"{KEY_SENTENCE}; got int"),
    ({"key": np.uint64(42)}, TypeError, f"{KEY_SENTENCE}; got uint64"),
    ({"key": None}, TypeError, f"{KEY_SENTENCE}; got NoneType"),
    ({"key": np.array([1, 2])}, TypeError, f"{KEY_SENTENCE}; got an array of int64"),
    ({"key": np.array(5, np.uint32)}, ValueError, f"{KEY_SENTENCE}, of 2 or 4 words of uint32; got an array of shape ()"),
    ({"key": np.zeros(3, np.uint32)}, ValueError, f"{KEY_SENTENCE}, of 2 or 4 words of uint32; got an array of shape (3,)"),
    ({"key": "split"}, ValueError, "key must be one key; got an array of keys of shape (2,): use jax.vmap"),
    ({"p": 1.5}, ValueError, "p must be in [0, 1], the probability of dropping; got 1.5"),
    ({"p": "0.5"}, TypeError, "p must be a number in [0, 1], the probability of dropping; got '0.5' (str)"),
    ({"p": jnp.float32(1.5)}, ValueError, "p must be in [0, 1], the probability of dropping; got 1.5"),
    ({"p": jnp.ones(3)}, NotImplementedError, "p must be one number for all elements; got an array of shape (3,)"),
    ({"p": jnp.array(True)}, TypeError, "p must be a real number; got an array of bool"),
    ({"training": 1}, TypeError, None),
    ({"shared_axes": 1}, ValueError, None),
    ({"noise_shape": (2,)}, ValueError, None),
    ({"start": -1}, ValueError, None),
    ({"start": 2**55}, OverflowError, None),
    ({"global_start": (0,)}, ValueError, None),
    ({"global_shape": (2,)}, ValueError, None),
    ({"global_shape": (9,), "global_start": 3}, TypeError, None),
    ({"global_shape": (9,), "global_start": (True,)}, TypeError, None),
    ({"global_shape": (99,), "global_start": b"\x03"}, TypeError, None),
    ({"global_shape": (9,), "global_start": [jnp.int32(100)]}, ValueError, None),
    ({"global_shape": (9,), "global_start": [jnp.int32(-1)]}, ValueError, None),
    ({"global_shape": (9,), "global_start": (jnp.float32(1),)}, TypeError, None),
]


@pytest.mark.parametrize(("given", "kind", "sentence"), BAD, ids=lambda value: str(value)[:40])
def test_bad_input_when_traced(given, kind, sentence):
    """Raise what NumPy's callers see, or the sentence; a key that would be drawn is not."""
    drawn = []

    def draw():
        drawn.append(1)
        return jax.random.key(1)

    given = dict(given)
    if isinstance(given.get("key"), str):
        given["key"] = jax.random.split(jax.random.key(1))
    arguments = {"x": X, "p": P, "key": draw, **given}
    x, key = arguments.pop("x"), arguments.pop("key")
    with pytest.raises(kind) as found:
        fastdrop.jax.dropout(x, key=key, **arguments)
    if sentence is None:
        with pytest.raises(kind) as expected:
            fastdrop.dropout(X, seed=1, **arguments)
        sentence = str(expected.value)
    assert str(found.value) == sentence
    with pytest.raises(kind, match=re.escape(sentence)):
        jax.make_jaxpr(lambda: fastdrop.jax.dropout(x, key=key, **arguments))()
    assert not drawn


def test_a_traced_rate_out_of_range_writes_nothing():
    seen = []

    def run(p):
        y = fastdrop.jax.dropout(X, p, key=jax.random.key(1))
        jax.debug.callback(seen.append, y)
        return y

    with pytest.raises(jax.errors.JaxRuntimeError, match=r"p must be in \[0, 1\], the probability of dropping"):
        jax.block_until_ready(jax.jit(run)(1.5))
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"p must be in \[0, 1\], the probability of dropping"):
        jax.block_until_ready(jax.jit(run)(np.nan))
    assert not seen


@pytest.mark.parametrize("reason", ["", "the test took it away"])
@pytest.mark.filterwarnings("ignore:fastdrop.jax calls Python:RuntimeWarning")
def test_a_negative_subnormal_rate_does_not_pass_for_0(reason, monkeypatch):
    """XLA calls the handler, and Python, with subnormal numbers flushed."""
    if reason:
        monkeypatch.setattr(_lowering, "reject", lambda: reason)
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"p must be in \[0, 1\], the probability of dropping"):
        jax.jit(lambda p: fastdrop.jax.dropout(X, p, key=jax.random.key(1)))(np.float32(-1e-45)).block_until_ready()


@pytest.mark.parametrize("name", ["alpha_dropout", "gaussian_dropout"])
def test_these_take_numbers_for_p(name):
    with pytest.raises(NotImplementedError, match=rf"^p of {name} must be a Python number; got an array of JAX$"):
        getattr(fastdrop.jax, name)(X, jnp.float32(0.5), key=jax.random.key(1))


def test_gaussian_dropout_refuses_all():
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\) here"):
        fastdrop.jax.gaussian_dropout(X, 1.0, key=jax.random.key(1))


FAR = [
    ("float32", (4,), {"start": 2**50}),
    ("float64", (4,), {"start": 2**49}),
    ("float32", (4,), {"start": 2**50 - 4}),  # the last numbers of the stream
    ("float64", (4,), {"start": 2**49 - 4}),
    ("bfloat16", (4,), {"global_shape": (2**52,), "global_start": (2**51,)}),
    ("float64", (4, 8), {"global_shape": (2**52, 8), "global_start": (2**46 - 4, 0)}),
]


@pytest.mark.parametrize(("dtype", "shape", "place"), FAR)
def test_gaussian_dropout_ends_with_the_normal_numbers(dtype, shape, place):
    """The stream has fewer of them than bits of a mask: 2**50, or 2**49 of float64."""
    x, key = array(dtype, *shape), jax.random.key(42)
    try:
        wanted = fastdrop.gaussian_dropout(numpy(x), P, seed=42, **place)
    except OverflowError as error:
        with pytest.raises(OverflowError, match=f"^{re.escape(str(error))}$"):
            fastdrop.jax.gaussian_dropout(x, P, key=key, **place)
    else:
        same(fastdrop.jax.gaussian_dropout(x, P, key=key, **place), wanted)


def test_gaussian_dropout_counts_shared_numbers_once():
    """A traced place may be anywhere in the whole, so the last place must be inside the stream, too."""

    def drop(i, whole=(2**31, 2**20), **shared):
        return fastdrop.jax.gaussian_dropout(
            array("float32", 4, 8), P, key=jax.random.key(1), global_shape=whole, global_start=(i, 0), **shared
        )

    for axis in (0, 1):
        same(jax.jit(lambda i, axis=axis: drop(i, shared_axes=axis))(2**30), drop(2**30, shared_axes=axis))
    for run in (lambda: drop(2**30), lambda: jax.eval_shape(drop, 0)):
        with pytest.raises(OverflowError, match=r"^stream 1 has 2\*\*50 float32 numbers"):
            run()


def test_no_batch_of_rates_or_places():
    key = jax.random.key(1)
    with pytest.raises(NotImplementedError, match=r"^jax.vmap over p is not supported: all rows of a call have one p"):
        jax.vmap(lambda p: fastdrop.jax.dropout(X, p, key=key))(jnp.ones(3))
    with pytest.raises(NotImplementedError, match=r"^jax.vmap over global_start is not supported"):
        jax.vmap(lambda i: fastdrop.jax.dropout(X, P, key=key, global_shape=(9,), global_start=(i,)))(jnp.arange(3))


def test_no_derivative_of_the_rate():
    def loss(p):
        return fastdrop.jax.dropout(X, p, key=jax.random.key(1)).sum()

    with pytest.raises(NotImplementedError, match=r"^a mask has no derivative with respect to p: pass jax.lax.stop_gradient"):
        jax.grad(loss)(0.5)
    assert jax.grad(lambda p: loss(jax.lax.stop_gradient(p)))(0.5) == 0


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_are_refused_when_lowered(platform):
    traced = jax.jit(lambda x: fastdrop.jax.dropout(x, P, key=jax.random.key(1))).trace(X)
    with pytest.raises(NotImplementedError, match=rf"^fastdrop.jax runs on the platform cpu; got {platform}$"):
        traced.lower(lowering_platforms=(platform,))


def test_symbolic_shapes():
    """A shape can be inferred; a program for all sizes is refused when it is lowered."""
    rows = export.symbolic_shape("rows")
    x = jax.ShapeDtypeStruct((*rows, 4), jnp.float32)
    function = jax.jit(lambda x: fastdrop.jax.dropout(x, P, key=jax.random.key(1), shared_axes=1))
    assert jax.eval_shape(function, x) == x
    check = export.DisabledSafetyCheck.custom_call("fastdrop_dropout")
    with pytest.raises(NotImplementedError, match=r"sizes that are numbers when it compiles; got the shape \(rows, 4\)"):
        export.export(function, disabled_checks=[check])(x)


def test_functions_with_axes_of_their_own():
    with pytest.raises(ValueError, match=r"^dropout2d shares decisions along axes of its own"):
        fastdrop.jax.dropout2d(np.ones((2, 3, 4), np.float32), key=jax.random.key(1), shared_axes=0)
    with pytest.raises(ValueError, match=r"^x must have the dimensions \(C, L\) or \(N, C, L\); got 1 dimensions$"):
        fastdrop.jax.dropout1d(X, key=jax.random.key(1))
    with pytest.raises(TypeError, match=r"^x must be an array of JAX or NumPy; got list$"):
        fastdrop.jax.dropout1d([[1.0], [1.0, 2.0]], key=jax.random.key(1))
    with pytest.raises(ValueError, match=r"^x must have an axis of time, the first; got 0 dimensions$"):
        fastdrop.jax.locked_dropout(np.float32(1), key=jax.random.key(1))


def test_nothing_is_drawn_where_nothing_is_dropped():
    assert fastdrop.jax.dropout(jnp.asarray(X), P, key=pytest.fail, training=False).tolist() == [1, 1, 1]
    assert fastdrop.jax.dropout(jnp.asarray(X), 0.0, key=pytest.fail).tolist() == [1, 1, 1]


# Without the handler --------------------------------------------------------------------------------------------------


def test_python_gives_the_same_bytes_with_one_warning(monkeypatch):
    monkeypatch.setattr(_lowering, "reject", lambda: "the test took it away")
    _lowering.warn.cache_clear()
    jax.clear_caches()
    calls = [lambda x, key: fastdrop.jax.dropout(x, P, key=key, shared_axes=1, start=5)]
    calls += [lambda x, key, name=name: getattr(fastdrop.jax, name)(x, P, key=key) for name in ELEMENTWISE]
    calls += [lambda x, key: fastdrop.jax.dropout(x, jnp.float32(P), key=key)]
    calls += [lambda x, key, run=run: jax.vmap(lambda x: run(x, key))(x) for run in calls[1:4]]
    key, found = KEYS["rbg"](3), {}
    cases = [(k, dtype) for k in range(len(calls)) for dtype in (DTYPES if k < 4 else DTYPES[:1])]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for k, dtype in cases:
            x = array(dtype, 3, 4, 5)
            found[k, dtype] = jax.jit(calls[k])(x, key), jax.jit(jax.vmap(calls[k]))(x, jax.random.split(key, 3))
    assert [str(warning.message) for warning in caught] == [
        "fastdrop.jax calls Python from compiled code, which takes about 180 us per call, because this jaxlib does not accept "
        "its handler: the test took it away"
    ]
    assert caught[0].category is RuntimeWarning
    monkeypatch.undo()
    jax.clear_caches()
    for (k, dtype), (one, many) in found.items():
        x = array(dtype, 3, 4, 5)
        same(one, jax.jit(calls[k])(x, key))
        same(many, jax.jit(jax.vmap(calls[k]))(x, jax.random.split(key, 3)))


def test_functions_of_numpy_name_the_adapter_for_a_traced_array():
    with pytest.raises(TypeError, match=r"x must be convertible to a NumPy array; .* for which fastdrop\.jax has"):
        jax.jit(lambda x: fastdrop.dropout(x, 0.5, seed=1))(jnp.ones(3))
