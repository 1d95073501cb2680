"""What test_keras.py checks on one backend of Keras, in a process of its own: Keras chooses its backend when it is imported.

KERAS_BACKEND=jax python tests/keras_checks.py            # every check; the first that fails ends the process
KERAS_BACKEND=jax python tests/keras_checks.py weights    # prints the hash of the weights of a trained model
"""

import doctest
import hashlib
import sys
import tempfile
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest

import fastdrop
import fastdrop.keras
from fastdrop.random import Key

BACKEND = keras.backend.backend()
NAMES = fastdrop.keras.__all__
RATE, SEED = 0.3, 42


def key(draw):
    return Key(SEED, draw)


def array(*shape, dtype="float32"):
    return np.arange(1, 1 + np.prod(shape)).reshape(shape).astype(dtype)


def equal(found, wanted):
    found = keras.ops.convert_to_numpy(found)
    assert found.dtype == wanted.dtype
    assert found.tobytes() == np.ascontiguousarray(wanted).tobytes()


def state(layer):
    return [int(word) for word in keras.ops.convert_to_numpy(layer.seed_generator.state.value)]


def refuses(kind, sentence, call):
    with pytest.raises(kind) as caught:
        call()
    assert sentence in str(caught.value)


# The layers -----------------------------------------------------------------------------------------------------------

CASES = [
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


def check_bytes():
    """Each call takes the next key; every backend gives what NumPy's functions give."""
    for name, options, shape, function, place in CASES:
        for dtype in ("float32", "float16", "float64"):
            if dtype == "float64" and BACKEND == "jax":
                continue  # JAX's default
            layer = getattr(fastdrop.keras, name)(RATE, seed=SEED, dtype=dtype, **options)
            x = array(*shape, dtype=dtype)
            for draw in range(3):
                equal(layer(x, training=True), getattr(fastdrop, function)(x, RATE, seed=key(draw), **place))
            equal(layer(x), x)
            equal(layer(x, training=False), x)
            assert state(layer) == [SEED, 3]


class Inner(keras.layers.Layer):
    """A layer whose own layers drop at all times."""

    def __init__(self):
        super().__init__()
        drop = fastdrop.keras
        self.layers = [drop.Dropout(RATE, (None, 1, None)), drop.SpatialDropout1D(RATE), drop.GaussianDropout(RATE)]

    def call(self, x):
        for layer in self.layers:
            x = layer(x, training=True)
        return x


def check_inferred_shapes():
    """The sizes of the input are unknown when the model is made."""
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, Inner()(inputs))
    assert model.output_shape == (None, None, 4)
    assert model(np.ones((2, 3, 4), "float32")).shape == (2, 3, 4)


def check_configurations():
    for name in NAMES:
        layer = getattr(fastdrop.keras, name)(RATE, seed=SEED, name="drop")
        config = layer.get_config()
        assert config == getattr(keras.layers, name)(RATE, seed=SEED, name="drop").get_config()
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
        assert type(again) is type(layer)
        assert again.get_config() == config
        assert issubclass(type(layer), getattr(keras.layers, name))


# What is refused ------------------------------------------------------------------------------------------------------


def check_that_nothing_is_drawn_for_bad_input():
    layer = fastdrop.keras.Dropout(RATE, seed=SEED, noise_shape=(2, None), autocast=False)
    integers = keras.ops.ones((3, 4), "int32")
    wanted = "inputs must have dtype float32, float64, float16 or bfloat16; got int32"
    refuses(TypeError, wanted, lambda: layer(integers, training=True))
    refuses(ValueError, "noise_shape (2, 4) does not broadcast to shape (3, 4)", lambda: layer(array(3, 4), training=True))
    refuses(ValueError, "noise_shape must have one entry", lambda: layer(array(3), training=True))
    assert state(layer) == [SEED, 0]
    refuses(ValueError, "p must be in [0, 1) here", lambda: fastdrop.keras.GaussianDropout(1.0))
    layer = fastdrop.keras.AlphaDropout(RATE, seed=SEED, noise_shape=5)
    refuses(ValueError, "noise_shape must have one entry", lambda: layer(array(3), training=True))
    layer.rate = np.full(3, RATE)
    refuses(TypeError, "p must be a number in [0, 1]", lambda: layer(array(3), training=True))
    assert state(layer) == [SEED, 0]
    layer = fastdrop.keras.Dropout(0.0, seed=SEED)
    layer.rate = RATE
    refuses(ValueError, "rate must not change from 0", lambda: layer(array(3), training=True))
    layer = fastdrop.keras.GaussianDropout(RATE, seed=SEED)
    layer.rate = 1.0
    refuses(ValueError, "p must be in [0, 1) here", lambda: layer(array(3), training=True))
    assert state(layer) == [SEED, 0]
    refuses(ValueError, "rate", lambda: fastdrop.keras.Dropout(1.5))
    equal(fastdrop.keras.Dropout(0.0)(array(3), training=True), array(3))
    equal(fastdrop.keras.Dropout(1.0)(array(3), training=True), np.zeros(3, "float32"))


def check_that_other_backends_are_refused():
    """TensorFlow need not be installed to be named."""
    wanted = "fastdrop.keras has layers for the backends torch, jax and numpy; Keras runs on tensorflow"
    with mock.patch.object(keras.backend, "backend", return_value="tensorflow"):
        for name in NAMES:
            refuses(NotImplementedError, wanted, lambda name=name: getattr(fastdrop.keras, name)(RATE))


def check_docstrings():
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    found = [test for name in NAMES for test in finder.find(getattr(fastdrop.keras, name), name, globs={"fastdrop": fastdrop})]
    found += [test for test in finder.find(fastdrop.keras, "fastdrop.keras") if test.name == "fastdrop.keras"]
    results = [runner.run(test) for test in found if test.examples]
    assert not any(result.failed for result in results)
    assert len(results) == 1 + len(NAMES)


# Training -------------------------------------------------------------------------------------------------------------


def fit():
    """Return a trained model, and its inputs."""
    generator = np.random.default_rng(1)
    x = generator.normal(size=(64, 6, 4)).astype("float32")
    y = x.sum((1, 2))[:, None]
    keras.utils.set_random_seed(5)
    layers = [
        keras.Input((6, 4)),
        fastdrop.keras.SpatialDropout1D(0.2),
        keras.layers.Dense(8, "selu"),
        fastdrop.keras.AlphaDropout(0.1),
        fastdrop.keras.GaussianDropout(0.1),
        keras.layers.Flatten(),
        fastdrop.keras.Dropout(0.3, seed=SEED),
        keras.layers.Dense(1),
    ]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(0.02), "mse")
    history = model.fit(x, y, batch_size=16, epochs=8, verbose=0).history["loss"]
    assert history[-1] < history[0]
    return model, x


def print_weights(model):
    print(hashlib.sha256(b"".join(weights.tobytes() for weights in model.get_weights())).hexdigest())


def check_a_trained_model():
    """The loaded model predicts the same. A layer with a seed begins anew: Keras saves the seed, not the number of draws."""
    if BACKEND == "numpy":
        return  # Keras does not train there
    model, x = fit()
    print_weights(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        loaded = keras.saving.load_model(path)
    equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    drop = loaded.layers[-2]
    assert state(drop) == [SEED, 0]
    equal(drop(array(3, 4), training=True), fastdrop.dropout(array(3, 4), 0.3, seed=SEED))


if __name__ == "__main__":
    if sys.argv[1:] == ["weights"]:
        print_weights(fit()[0])
    else:
        checks = [function for name, function in vars().copy().items() if name.startswith("check_")]
        for check in checks:
            check()
        print(f"{len(checks)} checks on {BACKEND}")
