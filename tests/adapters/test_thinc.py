"""fastdrop.thinc: masks of an Ops from a stream, callbacks of spaCy's configurations, a layer that saves no mask."""

import copy
import doctest
import gc
import inspect
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from example_runs import EXAMPLES

pytest.importorskip("thinc.api", reason="thinc is not installed")

from thinc.api import (
    Config,
    Model,
    NumpyOps,
    Padded,
    Ragged,
    chain,
    get_current_ops,
    get_ops,
    registry,
    set_current_ops,
    set_dropout_rate,
    use_ops,
)
from thinc.layers import Linear

import fastdrop
import fastdrop.thinc as ft
from fastdrop.verify.cases import equal_bytes

PAGE = Path(__file__).parents[2] / "docs" / "adapters.md"
ONES = np.ones((20, 6), np.float32)
WANTED = fastdrop.dropout(ONES, 0.3, seed=7)


@pytest.fixture(autouse=True)
def _ops_put_back():
    before = get_current_ops()
    yield
    set_current_ops(before)


# Ops ----------------------------------------------------------------------------------------------------------------


def test_masks():
    ops = ft.FastdropOps(seed=7)
    assert equal_bytes(ops.get_dropout_mask((20, 6), 0.3), WANTED)
    assert equal_bytes(ops.get_dropout_mask((20, 6), 0.3), fastdrop.dropout(ONES, 0.3, seed=7, offset=1))
    assert equal_bytes(ops.get_dropout_mask(5, 0.3), fastdrop.dropout(ONES[0, :5], 0.3, seed=7, offset=2))
    assert ops.get_dropout_mask((0, 4), 0.3).shape == (0, 4)
    assert ops.stream.offset == 4


@pytest.mark.parametrize("rate", [None, 0.0, -1.0, 1.0, 2.0])
def test_rates_that_draw_nothing(rate):
    ops = ft.FastdropOps(seed=7)
    assert equal_bytes(ops.get_dropout_mask((2, 3), rate), NumpyOps().get_dropout_mask((2, 3), rate))
    assert ops.stream.offset == 0


def test_masks_may_be_written_to():
    ops = ft.FastdropOps(seed=7)
    for rate in (0.3, 0.0, 1.0):
        ops.get_dropout_mask((20, 6), rate)[...] = 5
    assert equal_bytes(ft.FastdropOps(seed=7).get_dropout_mask((20, 6), 0.3), WANTED)
    assert equal_bytes(ops.get_dropout_mask((20, 6), 0.3), fastdrop.dropout(ONES, 0.3, seed=7, offset=1))


def test_threads_may_put_smaller_ones_in_between():
    class Raced(ft.FastdropOps):
        ones = property(lambda self: np.ones(1, np.float32), lambda self, value: None)

    assert equal_bytes(Raced(seed=7).get_dropout_mask((20, 6), 0.3), WANTED)


def test_by_name():
    assert isinstance(get_ops("fastdrop", seed=7), ft.FastdropOps)
    before = get_current_ops()
    with use_ops("fastdrop", seed=7):
        assert equal_bytes(get_current_ops().get_dropout_mask((20, 6), 0.3), WANTED)
        assert Linear(2, 3).ops.name == "fastdrop"
    assert get_current_ops() is before


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda ops: pickle.loads(pickle.dumps(ops))])
def test_copies_carry_the_stream(duplicate):
    ops = ft.FastdropOps(seed=7)
    ops.get_dropout_mask((20, 6), 0.3)
    other = duplicate(ops)
    assert other.stream == ops.stream
    assert equal_bytes(other.get_dropout_mask((20, 6), 0.3), fastdrop.dropout(ONES, 0.3, seed=7, offset=1))
    assert ops.stream.offset == 1
    assert ops.use_blis == other.use_blis


def test_own_stream():
    stream = fastdrop.Stream(7)
    assert ft.FastdropOps(seed=stream).stream is stream


BAD_OPS = {
    "text": (lambda: ft.FastdropOps(seed="x"), TypeError, "seed must be an integer in [0, 2**64)"),
    "negative": (lambda: ft.FastdropOps(seed=-1), ValueError, "seed must be an integer in [0, 2**64)"),
    "callback": (lambda: ft.replace_ops("x"), TypeError, "seed must be an integer in [0, 2**64)"),
    "2**64": (lambda: ft.replace_ops(2**64), ValueError, "seed must be an integer in [0, 2**64)"),
    "rate": (lambda: ft.Dropout(1.5), ValueError, "p must be in [0, 1], the probability of dropping; got 1.5"),
    "rate text": (lambda: ft.Dropout("x"), TypeError, "p must be a number in [0, 1]"),
    "layer": (lambda: ft.Dropout(0.5, seed=-1), ValueError, "seed must be an integer in [0, 2**64)"),
    "restore": (lambda: ft.restore_ops()("nlp"), ValueError, "fastdrop.restore_ops.v1 needs fastdrop.ops.v1"),
}


@pytest.mark.parametrize("name", BAD_OPS)
def test_bad_input(name):
    run, error, sentence = BAD_OPS[name]
    before = get_current_ops()
    with pytest.raises(error) as found:
        run()
    assert sentence in str(found.value)
    assert get_current_ops() is before


@pytest.mark.parametrize(
    ("rate", "error", "sentence"),
    [
        (float("nan"), ValueError, "p must be in [0, 1], the probability of dropping; got nan"),
        ("0.5", ValueError, "drop must be a finite number; got '0.5'"),
        ([0.5], TypeError, "drop must be a finite number; got [0.5] (list)"),
        (np.array([0.5, 0.5]), TypeError, "drop must be a finite number"),
    ],
)
def test_bad_rates(rate, error, sentence):
    ops = ft.FastdropOps(seed=7)
    with pytest.raises(error) as found:
        ops.get_dropout_mask((2, 3), rate)
    assert sentence in str(found.value)
    assert ops.stream.offset == 0


@pytest.mark.parametrize(
    ("shape", "error", "sentence"),
    [
        ((-1,), ValueError, "each size in shape must be >= 0; got -1"),
        (-1, ValueError, "each size in shape must be >= 0; got -1"),
        (2.7, TypeError, "each size in shape must be an integer >= 0; got 2.7 (float)"),
        ((2, 2.7), TypeError, "each size in shape must be an integer >= 0; got 2.7 (float)"),
    ],
)
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_bad_shapes(shape, error, sentence, rate):
    """NumPy would take -1 for the size that is left over."""
    ops = ft.FastdropOps(seed=7)
    ops.get_dropout_mask((4, 4), 0.3)
    with pytest.raises(error) as found:
        ops.get_dropout_mask(shape, rate)
    assert str(found.value) == sentence
    assert ops.stream.offset == 1


def test_shapes_and_rates_of_numpy():
    ops = ft.FastdropOps(seed=7)
    assert equal_bytes(ops.get_dropout_mask(np.array([20, 6]), np.array(0.3)), fastdrop.dropout(ONES, 0.3, seed=7))
    assert equal_bytes(ops.get_dropout_mask((np.int32(2),), np.float32(-1)), np.ones(2, np.float32))


# The layer ----------------------------------------------------------------------------------------------------------


def inputs():
    x = np.random.default_rng(5).standard_normal((20, 6)).astype(np.float32)
    lengths = np.array([12, 8], np.int32)
    return {
        "array": x,
        "ragged": Ragged(x, lengths),
        "padded": Padded(x.reshape(10, 2, 6), np.full(10, 2, np.int32), np.full(2, 10, np.int32), np.arange(2, dtype=np.int32)),
        "list": [x[:12], x[12:]],
    }


def flat(x):
    """Return the numbers of any of these types as one array."""
    if isinstance(x, list):
        return np.concatenate(x)
    return getattr(x, "data", x).reshape(20, 6) if not isinstance(x, np.ndarray) else x


@pytest.mark.parametrize("name", inputs())
def test_layer(name):
    """Every type gets the mask of one array, forward and backward."""
    x, layer = inputs()[name], ft.Dropout(0.3, seed=7)
    for offset in range(2):
        wanted = fastdrop.dropout(flat(x), 0.3, seed=7, offset=offset)
        y, backprop = layer(x, is_train=True)
        assert type(y) is type(x)
        assert equal_bytes(flat(y), wanted)
        assert equal_bytes(flat(backprop(x)), wanted)


def test_layer_outside_training():
    layer, x = ft.Dropout(0.3, seed=7), inputs()["array"]
    assert layer.predict(x) is x
    set_dropout_rate(layer, 0.0)
    assert layer(x, is_train=True)[0] is x
    set_dropout_rate(layer, 0.6)
    assert equal_bytes(layer(x, is_train=True)[0], fastdrop.dropout(x, 0.6, seed=7))


def test_no_mask_is_saved():
    """The backward pass holds the key, and no array."""
    _, backprop = ft.Dropout(0.3, seed=7)(inputs()["array"], is_train=True)
    held = [cell.cell_contents for cell in backprop.__closure__]
    assert sorted(type(each).__name__ for each in held) == ["Key", "float"]
    assert not [each for each in gc.get_referents(*held) if isinstance(each, np.ndarray)]


@pytest.mark.parametrize(
    "duplicate",
    [
        lambda layer: layer.copy(),
        lambda layer: pickle.loads(pickle.dumps(layer)),
        lambda layer: ft.Dropout(0.1, seed=1).from_bytes(layer.to_bytes()),
    ],
)
def test_copies_of_layers_carry_the_key(duplicate):
    layer, x = ft.Dropout(0.3, seed=2**64 - 1), inputs()["array"]
    layer(x, is_train=True)
    wanted = fastdrop.dropout(x, 0.3, seed=2**64 - 1, offset=1)
    assert equal_bytes(duplicate(layer)(x, is_train=True)[0], wanted)
    assert equal_bytes(layer(x, is_train=True)[0], wanted)


def test_layer_of_a_configuration():
    config = Config().from_str('[model]\n@layers = "fastdrop.Dropout.v1"\nrate = 0.3\nseed = 7\n')
    layer = registry.resolve(config)["model"]
    x = inputs()["array"]
    assert isinstance(layer, Model)
    assert equal_bytes(layer(x, is_train=True)[0], fastdrop.dropout(x, 0.3, seed=7))


def test_layer_in_a_model():
    model = chain(Linear(4, 6), ft.Dropout(0.3, seed=7))
    x = inputs()["array"]
    model.initialize(x, x[:, :4])
    y, backprop = model(x, is_train=True)
    assert y.shape == (20, 4)
    assert backprop(y).shape == x.shape


def test_bad_arrays():
    layer = ft.Dropout(0.3, seed=7)
    with pytest.raises(TypeError, match="x must have a floating-point dtype"):
        layer(np.ones((2, 3), np.int64), is_train=True)
    with pytest.raises(TypeError, match=r"each array in x must have a floating-point dtype.*; got int64"):
        layer([ONES, np.ones(3, np.int64)], is_train=True)
    for x in ([1.0, 2], "abc"):
        with pytest.raises(TypeError, match="x must have a floating-point dtype"):
            layer(x, is_train=True)
    assert layer.attrs["offset"] == 0


def test_a_layer_has_one_rate():
    layer = ft.Dropout(0.3, seed=7)
    for rate in ([0.3] * ONES.shape[-1], np.full(ONES.shape[-1], 0.3)):
        set_dropout_rate(layer, rate)
        with pytest.raises(TypeError, match=r"^p must be a number in \[0, 1\]"):
            layer(ONES, is_train=True)
    assert layer.attrs["offset"] == 0


# spaCy --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restores", [False, True])
@pytest.mark.skipif(not PAGE.is_file(), reason="no such page beside the tests")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_callbacks(restores):
    """The configuration of the page; the Ops of before is current again where the configuration asks for it."""
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed")
    before = get_current_ops()
    (callbacks,) = re.findall(r"^```ini\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    text = f'[nlp]\nlang = "en"\n{callbacks}'
    config = spacy.util.load_config_from_str(text if restores else text.partition("[nlp.after_pipeline_creation]")[0])
    spacy.util.load_model_from_config(config, auto_fill=True)
    if not restores:
        assert get_current_ops().stream == fastdrop.Stream(3)
        ft.restore_ops()("a pipeline")
    assert get_current_ops() is before


@pytest.mark.skipif(not PAGE.is_file(), reason="no such page beside the tests")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*no training configuration:UserWarning")
def test_a_pipeline_within_a_pipeline(tmp_path):
    """A component of another pipeline is loaded while the first pipeline is made; both have the callbacks."""
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed")
    before = get_current_ops()
    (callbacks,) = re.findall(r"^```ini\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    load = spacy.util.load_config_from_str
    inner = spacy.util.load_model_from_config(load(f'[nlp]\nlang = "en"\n{callbacks}'), auto_fill=True)
    inner.add_pipe("sentencizer")
    inner.to_disk(tmp_path)
    pipe = f'pipeline = ["sentencizer"]\n{callbacks}\n[components]\n[components.sentencizer]\nsource = "{tmp_path}"'
    spacy.util.load_model_from_config(load(f'[nlp]\nlang = "en"\n{pipe}'), auto_fill=True)
    assert get_current_ops() is before


@pytest.mark.slow
@pytest.mark.skipif(not (EXAMPLES / "text_classifier.py").is_file(), reason="no examples beside the tests")
def test_text_classifier(tmp_path):
    """The example, in its short form: it trains with each Ops, and two runs with one seed give the same bytes."""
    for package in ("spacy", "sklearn"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    command = [sys.executable, str(EXAMPLES / "text_classifier.py"), "--short"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    head, _, numpy, ours, ratio, last = done.stdout.splitlines()
    assert head == "225 sentences to train, 75 to test, 2 epochs, 2 seeds"
    assert ratio.endswith("the median of 2 ratios")
    assert last == "two runs with one seed: the same bytes"
    accuracies = [float(line.split()[1]) for line in (numpy, ours)]
    assert min(accuracies) > 0.5
    assert abs(accuracies[0] - accuracies[1]) < 0.15  # of 75 sentences


# The page -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["the module", *ft.__all__])
def test_docstrings(name):
    documented = getattr(ft, name, ft)
    found = doctest.DocTestFinder(recurse=False).find(documented, name, module=False)
    assert [doctest.DocTestRunner(verbose=False).run(test).failed for test in found if test.examples] == [0]
    if documented is not ft:
        section = documented.__doc__.partition("Parameters\n")[2].partition("Examples\n")[0]
        assert all(argument in section for argument in inspect.signature(documented).parameters)
