"""Keras's layers on each backend: NumPy's bytes, training, saving, and what they refuse.

Keras chooses its backend when it is imported, so each test is a process of its own.
"""

import importlib.util
import os
import subprocess
import sys

import pytest

pytest.importorskip("numpy")
if importlib.util.find_spec("keras") is None:
    pytest.skip("Keras is not installed", allow_module_level=True)

NEEDS = {"torch": "torch", "jax": "jax", "numpy": "numpy"}
BACKENDS = [
    pytest.param(
        name, marks=pytest.mark.skipif(importlib.util.find_spec(NEEDS[name]) is None, reason=f"{name} is not installed")
    )
    for name in NEEDS
]
TRAINED = BACKENDS[:2]

BEGIN = """
import doctest, re
import keras, numpy as np, fastdrop, fastdrop.keras
from fastdrop.random import Key

NAMES = fastdrop.keras.__all__
RATE, SEED = 0.3, 42

def key(draw):
    return Key(SEED, draw)

def array(*shape, dtype="float32"):
    return np.arange(1, 1 + np.prod(shape)).reshape(shape).astype(dtype)

def equal(found, wanted):
    found = keras.ops.convert_to_numpy(found)
    assert found.dtype == wanted.dtype and found.tobytes() == np.ascontiguousarray(wanted).tobytes()

def state(layer):
    return [int(word) for word in keras.ops.convert_to_numpy(layer.seed_generator.state.value)]

def refuses(kind, sentence, call):
    try:
        call()
    except kind as error:
        assert sentence in str(error), str(error)
    else:
        raise AssertionError("no error")
"""


def run(program, backend, **environment):
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + program],
        env={**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("backend", BACKENDS)
def test_bytes(backend):
    """Each call takes the next key; every backend gives what NumPy's functions give."""
    run(
        """
cases = [
    ("Dropout", {}, (3, 4, 5), "dropout", {}),
    ("Dropout", {"noise_shape": (3, 1, None)}, (3, 4, 5), "dropout", {"shared_axes": 1}),
    ("SpatialDropout1D", {}, (3, 4, 5), "dropout", {"shared_axes": 1}),
    ("SpatialDropout2D", {}, (3, 4, 4, 5), "dropout", {"shared_axes": (1, 2)}),
    ("SpatialDropout2D", {"data_format": "channels_first"}, (3, 5, 4, 4), "dropout", {"shared_axes": (2, 3)}),
    ("SpatialDropout3D", {}, (3, 2, 4, 4, 5), "dropout", {"shared_axes": (1, 2, 3)}),
    ("SpatialDropout3D", {"data_format": "channels_first"}, (3, 5, 2, 4, 4), "dropout", {"shared_axes": (2, 3, 4)}),
    ("GaussianDropout", {}, (3, 4, 5), "gaussian_dropout", {}),
    ("AlphaDropout", {}, (3, 4, 5), "alpha_dropout", {}),
    ("AlphaDropout", {"noise_shape": (None, None, 1)}, (3, 4, 5), "feature_alpha_dropout", {}),
]
for name, options, shape, function, place in cases:
    for dtype in ("float32", "float16", "float64"):
        if dtype == "float64" and keras.backend.backend() == "jax":
            continue  # JAX's default
        layer = getattr(fastdrop.keras, name)(RATE, seed=SEED, dtype=dtype, **options)
        x = array(*shape, dtype=dtype)
        for draw in range(3):
            equal(layer(x, training=True), getattr(fastdrop, function)(x, RATE, seed=key(draw), **place))
        equal(layer(x), x)
        equal(layer(x, training=False), x)
        assert state(layer) == [SEED, 3]
""",
        backend,
    )


FIT = """
def make():
    keras.utils.set_random_seed(5)
    layers = [
        keras.Input((6, 4)), fastdrop.keras.SpatialDropout1D(0.2), keras.layers.Dense(8, "selu"),
        fastdrop.keras.AlphaDropout(0.1), fastdrop.keras.GaussianDropout(0.1), keras.layers.Flatten(),
        fastdrop.keras.Dropout(0.3, seed=SEED), keras.layers.Dense(1),
    ]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(0.02), "mse")
    return model

generator = np.random.default_rng(1)
x = generator.normal(size=(64, 6, 4)).astype("float32")
y = x.sum((1, 2))[:, None]
model = make()
history = model.fit(x, y, batch_size=16, epochs=8, verbose=0).history["loss"]
assert history[-1] < history[0]
"""


@pytest.mark.parametrize("backend", TRAINED)
def test_a_model_fits_twice_to_the_same_weights(backend):
    program = (
        FIT
        + """
import hashlib
print(hashlib.sha256(b"".join(weights.tobytes() for weights in model.get_weights())).hexdigest())
"""
    )
    first, second = run(program, backend), run(program, backend)
    assert first == second
    assert len(first.strip()) == 64


@pytest.mark.parametrize("backend", TRAINED)
def test_a_model_is_saved_and_loaded(backend, tmp_path):
    """The loaded model predicts the same. A layer with a seed begins anew: Keras saves the seed, not the number of draws."""
    run(
        FIT
        + f"""
path = {str(tmp_path / "model.keras")!r}
model.save(path)
loaded = keras.saving.load_model(path)
equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
drop = loaded.layers[-2]
assert state(drop) == [SEED, 0]
equal(drop(array(3, 4), training=True), fastdrop.dropout(array(3, 4), 0.3, seed=SEED))
""",
        backend,
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_shapes_are_inferred(backend):
    """A layer that drops at all times, inside a layer whose input has unknown sizes."""
    run(
        """
class Inner(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        drop = fastdrop.keras
        self.layers = [drop.Dropout(RATE, (None, 1, None)), drop.SpatialDropout1D(RATE), drop.GaussianDropout(RATE)]

    def call(self, x):
        for layer in self.layers:
            x = layer(x, training=True)
        return x

inputs = keras.Input((None, 4))
model = keras.Model(inputs, Inner()(inputs))
assert model.output_shape == (None, None, 4), model.output_shape
assert model(np.ones((2, 3, 4), "float32")).shape == (2, 3, 4)
""",
        backend,
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_configurations(backend):
    run(
        """
for name in NAMES:
    layer = getattr(fastdrop.keras, name)(RATE, seed=SEED, name="drop")
    config = layer.get_config()
    peer = getattr(keras.layers, name)(RATE, seed=SEED, name="drop").get_config()
    assert config == peer
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer) and again.get_config() == config
    assert issubclass(type(layer), getattr(keras.layers, name))
""",
        backend,
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_drawn_for_bad_input(backend):
    run(
        """
layer = fastdrop.keras.Dropout(RATE, seed=SEED, noise_shape=(2, None), autocast=False)
refuses(TypeError, "inputs must have dtype float32, float64, float16 or bfloat16; got int32",
        lambda: layer(keras.ops.ones((3, 4), "int32"), training=True))
refuses(ValueError, "noise_shape (2, 4) does not broadcast to shape (3, 4)", lambda: layer(array(3, 4), training=True))
refuses(ValueError, "noise_shape must have one entry", lambda: layer(array(3), training=True))
assert state(layer) == [SEED, 0]
refuses(ValueError, "p must be in [0, 1) here", lambda: fastdrop.keras.GaussianDropout(1.0))
layer = fastdrop.keras.GaussianDropout(RATE, seed=SEED)
layer.rate = 1.0
refuses(ValueError, "p must be in [0, 1) here", lambda: layer(array(3), training=True))
assert state(layer) == [SEED, 0]
refuses(ValueError, "rate", lambda: fastdrop.keras.Dropout(1.5))
equal(fastdrop.keras.Dropout(0.0)(array(3), training=True), array(3))
equal(fastdrop.keras.Dropout(1.0)(array(3), training=True), np.zeros(3, "float32"))
""",
        backend,
    )


def test_other_backends_are_refused():
    """TensorFlow need not be installed to be named."""
    run(
        """
keras.backend.backend = lambda: "tensorflow"
for name in NAMES:
    refuses(NotImplementedError, "fastdrop.keras has layers for the backends torch, jax and numpy; Keras runs on tensorflow",
            lambda: getattr(fastdrop.keras, name)(RATE))
""",
        "numpy",
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_docstrings(backend):
    printed = run(
        """
finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
tests = [test for name in NAMES for test in finder.find(getattr(fastdrop.keras, name), name, globs={"fastdrop": fastdrop})]
tests += [test for test in finder.find(fastdrop.keras, "fastdrop.keras") if test.name == "fastdrop.keras"]
results = [runner.run(test) for test in tests if test.examples]
assert not any(result.failed for result in results)
print(len(results))
""",
        backend,
    )
    assert int(printed.split()[-1]) == 7


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="Keras's default backend is installed")
@pytest.mark.skipif(not any(importlib.util.find_spec(name) for name in ("jax", "torch")), reason="no backend is installed")
def test_verify_finds_a_backend(tmp_path):
    """Nobody has to name one: without a configuration, Keras would import TensorFlow."""
    program = "from fastdrop.verify import runner\nprint(runner.check_adapter('keras', runner.ADAPTERS['keras'], [(7, 0.5)]))"
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    environment |= {"KERAS_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert "passed=True" in done.stdout, done.stdout + done.stderr
