"""Arrays that are divided among devices: each device drops from its part what the whole array would lose there.

JAX counts its devices when it starts, so each test is a process of its own.
"""

import os
import subprocess
import sys

import pytest

pytest.importorskip("jax", reason="JAX is not installed")

BEGIN = """
import re
import jax, jax.numpy as jnp, numpy as np, fastdrop, fastdrop.jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

key, x = jax.random.key(42), jnp.arange(1.0, 97).reshape(8, 12)
wanted = fastdrop.dropout(np.asarray(x), 0.3, seed=42)

def mesh(*sizes):
    return jax.make_mesh(sizes, ("a", "b")[:len(sizes)], axis_types=(AxisType.Auto,) * len(sizes))

def gathers(function, *arguments):
    return bool(re.search("all-gather|all-reduce|all-to-all|collective", function.lower(*arguments).compile().as_text()))

def equal(found, wanted):
    assert np.asarray(found).tobytes() == np.asarray(wanted).tobytes()
"""


def run(program, devices=2, **environment):
    flags = f"--xla_force_host_platform_device_count={devices}"
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + program],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_devices_give_the_bytes_of_one_without_communication():
    run("""
for spec in (P("a"), P(None, "a"), P()):
    divided = jax.device_put(x, NamedSharding(mesh(2), spec))
    function = jax.jit(lambda x, key: fastdrop.jax.dropout(x, 0.3, key=key))
    assert not gathers(function, divided, key)
    y = function(divided, key)
    equal(y, wanted)
    assert y.sharding.spec == spec
    equal(fastdrop.jax.dropout(divided, 0.3, key=key), wanted)
    traced = jax.jit(lambda x, p: fastdrop.jax.dropout(x, p, key=key))
    assert not gathers(traced, divided, 0.3)
    equal(traced(divided, 0.3), fastdrop.dropout(np.asarray(x), float(np.float32(0.3)), seed=42))
""")


def test_the_test_sees_a_gather():
    run("""
divided = jax.device_put(x, NamedSharding(mesh(2), P("a")))
assert gathers(jax.jit(lambda x: jax.lax.with_sharding_constraint(x, NamedSharding(mesh(2), P()))), divided)
""")


def test_a_mesh_of_two_axes():
    run(
        """
for spec in (P("a", "b"), P("b", "a"), P(("a", "b")), P(None, ("b", "a")), P("b")):
    for name, options in (("dropout", {}), ("dropout", {"shared_axes": 1}), ("dropout", {"start": 1000}),
                          ("dropout", {"global_shape": (10, 20), "global_start": (1, 2)}),
                          ("gaussian_dropout", {}), ("alpha_dropout", {})):
        divided = jax.device_put(x, NamedSharding(mesh(2, 2), spec))
        function = jax.jit(lambda x, key: getattr(fastdrop.jax, name)(x, 0.3, key=key, **options))
        assert not gathers(function, divided, key)
        equal(function(divided, key), getattr(fastdrop, name)(np.asarray(x), 0.3, seed=42, **options))
""",
        devices=4,
    )


def test_derivatives_and_batches():
    run("""
divided = jax.device_put(x, NamedSharding(mesh(2), P("a")))
loss = lambda x: (fastdrop.jax.dropout(x, 0.3, key=key) * x).sum() / 2
equal(jax.jit(jax.grad(loss))(divided), wanted)
keys = jax.random.split(key, 8)
batch = jax.jit(jax.vmap(lambda x, key: fastdrop.jax.dropout(x, 0.3, key=key)))
assert not gathers(batch, divided, keys)
equal(batch(divided, keys), batch(x, keys))
one = jax.jit(jax.vmap(lambda x: fastdrop.jax.dropout(x, 0.3, key=key)))
assert not gathers(one, divided)
equal(one(divided), fastdrop.dropout(np.asarray(x), 0.3, seed=42, shared_axes=0))
""")


def test_explicit_axes():
    run("""
explicit = jax.make_mesh((2,), ("a",), axis_types=(AxisType.Explicit,))
with jax.set_mesh(explicit):
    divided = jax.device_put(x, NamedSharding(explicit, P("a")))
    function = jax.jit(lambda x: fastdrop.jax.dropout(x, 0.3, key=key))
    y = function(divided)
    equal(y, wanted)
    assert y.sharding.spec == P("a", None)
    assert not gathers(function, divided)
    loss = lambda x: (fastdrop.jax.dropout(x, 0.3, key=key) * x).sum() / 2
    equal(jax.jit(jax.grad(loss))(divided), wanted)
""")


def test_arrays_that_are_made_within_a_function():
    """Their mesh is known from their types alone."""
    run("""
explicit = jax.make_mesh((2,), ("a",), axis_types=(AxisType.Explicit,))
ones = fastdrop.dropout(np.ones((8, 12), np.float32), 0.3, seed=42)
drop = lambda x: fastdrop.jax.dropout(x, 0.3, key=key)
with jax.set_mesh(explicit):
    for spec in (P("a"), P(None, "a"), P()):
        divided = jax.device_put(x, NamedSharding(explicit, spec))
        gradient = jax.jit(jax.grad(lambda x: drop(x).sum()))
        equal(gradient(divided), ones)
        assert not gathers(gradient, divided)
        equal(jax.jit(lambda: drop(jnp.ones((8, 12), out_sharding=spec)))(), ones)
    step = jax.checkpoint(lambda x, key: (fastdrop.jax.dropout(x, 0.3, key=key), None))
    deep = lambda x: jax.lax.scan(step, x, jax.random.split(key, 3))[0].sum()
    equal(jax.jit(jax.grad(deep))(divided), jax.jit(jax.grad(deep))(x))
""")


def test_no_operand_on_the_mesh():
    """The gradient of a sum needs the shape of x alone, so nothing says how the axes of the mesh are used."""
    run("""
for kind in (AxisType.Auto, AxisType.Explicit):
    with jax.set_mesh(jax.make_mesh((2,), ("a",), axis_types=(kind,))):
        ones = fastdrop.dropout(np.ones((8, 12), np.float32), 0.3, seed=42)
        equal(jax.jit(lambda: fastdrop.jax.dropout(jnp.ones((8, 12)), 0.3, key=key))(), ones)
        equal(jax.jit(jax.grad(lambda x: fastdrop.jax.dropout(x, 0.3, key=key).sum()))(x), ones)
""")


def test_shard_map():
    """A part has the mask of its own shape and key, unless it is told its place in the whole."""
    run("""
def part(x, key):
    begin = (jax.lax.axis_index("a") * x.shape[0], 0)
    return fastdrop.jax.dropout(x, 0.3, key=key, global_shape=(8, 12), global_start=begin)

whole = jax.shard_map(part, mesh=mesh(2), in_specs=(P("a"), P()), out_specs=P("a"))
equal(jax.jit(whole)(x, key), wanted)
equal(jax.jit(jax.grad(lambda x: (whole(x, key) * x).sum() / 2))(x), wanted)
assert not gathers(jax.jit(whole), jax.device_put(x, NamedSharding(mesh(2), P("a"))), key)
plain = lambda x, key: fastdrop.jax.dropout(x, 0.3, key=key)
alone = jax.shard_map(plain, mesh=mesh(2), in_specs=(P("a"), P()), out_specs=P("a"))
half = np.asarray(x)[:4], np.asarray(x)[4:]
equal(alone(x, key), np.concatenate([fastdrop.dropout(each, 0.3, seed=42) for each in half]))
one = jnp.ones((4, 12))
varied = jax.shard_map(lambda key: plain(one, key[0]), mesh=mesh(2), in_specs=P("a"), out_specs=P("a"))
keys = jax.random.split(key, 2)
equal(varied(keys), np.concatenate([fastdrop.jax.dropout(one, 0.3, key=each) for each in keys]))
""")


def test_shard_map_over_some_axes():
    """The part is then divided among devices along the other axes."""
    run(
        """
import contextlib
ones = fastdrop.dropout(np.ones((8, 12), np.float32), 0.3, seed=42)

def part(x):
    return fastdrop.jax.dropout(x, 0.3, key=key, global_shape=(8, 12), global_start=(jax.lax.axis_index("a") * x.shape[0], 0))

for kind in (AxisType.Auto, AxisType.Explicit):
    four = jax.make_mesh((2, 2), ("a", "b"), axis_types=(kind,) * 2)
    over_a = lambda function: jax.jit(jax.shard_map(function, mesh=four, in_specs=P("a"), out_specs=P("a"), axis_names={"a"}))
    for context in (contextlib.nullcontext(), four, jax.set_mesh(four)):
        with context:
            for spec in (P("a", "b"), P("b", "a"), P()):
                divided = jax.device_put(x, NamedSharding(four, spec))
                equal(over_a(part)(divided), wanted)
                equal(over_a(jax.grad(lambda x: part(x).sum()))(divided), ones)
""",
        devices=4,
    )


def test_unequal_shards_are_refused():
    """XLA asks for the parts when it compiles, and wraps the error in its own."""
    run("""
unequal = NamedSharding(mesh(2), P("a"))
function = jax.jit(lambda x: fastdrop.jax.dropout(jax.lax.with_sharding_constraint(x, unequal), 0.3, key=key))
try:
    function(jnp.ones((5, 4)))
except jax.errors.JaxRuntimeError as error:
    assert ("NotImplementedError: fastdrop.jax on the platform cpu needs equal shards: an axis of 5 elements is divided among "
            "2 devices") in str(error)
else:
    raise AssertionError("no error")
""")


def test_long_axes_are_refused():
    """The first index of a part would not fit in 32 bits. Shardy itself refuses such axes."""
    run("""
from fastdrop.jax._lowering import divisions
divided = NamedSharding(mesh(2), P("a"))
assert divisions(mesh(2), (2**32,), divided) == ("a",)
assert divisions(mesh(2), (2, 2**33), divided) == ("a", None)
jax.config.update("jax_use_shardy_partitioner", False)
function = jax.jit(lambda x: fastdrop.jax.dropout(x, 0.3, key=key))
try:
    function.lower(jax.ShapeDtypeStruct((2**33,), np.float16, sharding=divided)).compile()
except jax.errors.JaxRuntimeError as error:
    assert "at most 2**32 elements among devices; got one of 8589934592 elements" in str(error)
else:
    raise AssertionError("no error")
""")


def test_the_partitioner_before_shardy():
    run("""
jax.config.update("jax_use_shardy_partitioner", False)
divided = jax.device_put(x, NamedSharding(mesh(2), P("a")))
with mesh(2):
    function = jax.jit(lambda x: fastdrop.jax.dropout(x, 0.3, key=key))
    assert not gathers(function, divided)
    equal(function(divided), wanted)
""")


def test_python_on_two_devices():
    run("""
import warnings
from fastdrop.jax import _lowering
_lowering.reject = lambda: "the test took it away"
divided = jax.device_put(x, NamedSharding(mesh(2), P("a")))
function = jax.jit(lambda x: fastdrop.jax.dropout(x, 0.3, key=key))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    equal(function(divided), wanted)
assert sum(warning.category is RuntimeWarning for warning in caught) == 1
""")
