"""The entries of a monitor about layers and losses; its file can be read while it is written and after a kill."""

import copy
import json
import math
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from comparisons import DTYPES, normal

import fastdrop
from fastdrop import nn, schedules
from fastdrop.monitor import Monitor, plot, read


def drop(x, p=0.25):
    return fastdrop.dropout(x, p, seed=4)


# Observations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_entry_against_its_formulas(dtype):
    x = normal((40, 50)).astype(dtype)
    x[:10] = 0  # not counted as dropped
    y, monitor = drop(x), Monitor()
    monitor.step = 7
    entry = monitor.layer("hidden", before=x, after=y, rate=0.25)
    mask = fastdrop.dropout_mask(x.shape, 0.25, seed=4)
    a, b = x.astype(np.float64), y.astype(np.float64)
    assert entry["dropped"] == (~mask[10:]).mean()
    assert entry["rate"] == 0.25
    assert (entry["step"], entry["kind"], entry["layer"], entry["training"], entry["size"]) == (
        7,
        "layer",
        "hidden",
        True,
        2000,
    )
    np.testing.assert_allclose([entry["mean_before"], entry["mean_after"]], [a.mean(), b.mean()], rtol=1e-12)
    np.testing.assert_allclose([entry["variance_before"], entry["variance_after"]], [a.var(), b.var()], rtol=1e-12)
    assert entry["variance_shift"] == pytest.approx(a.var() / b.var())
    assert monitor.entries() == [entry]


def test_the_shift_is_that_of_the_paper():
    """v / ((c**2 + v) / q - c**2) for activations of mean c and variance v; 3 standard errors are about 2 %."""
    c, v, q = 0.7, 1.3, 0.6
    x = c + v**0.5 * normal((200, 300))
    shift = Monitor(sample=x.size).layer("hidden", before=x, after=drop(x, 1 - q))["variance_shift"]
    assert shift == pytest.approx(v / ((c * c + v) / q - c * c), rel=0.02)
    assert shift == pytest.approx(fastdrop.theory.variance_shift(1 - q, mean=c, var=v), rel=0.02)


def test_a_sample_of_a_large_array_misses_no_column():
    x = np.zeros((4096, 64), np.float32)
    x[:, 5] = 1.0
    entry = Monitor(sample=1024).layer("hidden", before=x, after=x)
    assert entry["mean_before"] == pytest.approx(1 / 64, rel=0.1)
    assert entry["size"] == x.size


def test_awkward_arrays():
    monitor, x = Monitor(), normal(100)
    gone = monitor.layer("all", before=x, after=np.zeros(100))
    assert (gone["dropped"], gone["variance_after"], gone["variance_shift"]) == (1, 0, None)
    assert monitor.layer("none", before=np.zeros(3), after=np.zeros(3))["dropped"] is None
    assert monitor.layer("empty", before=np.zeros(0), after=np.zeros(0))["mean_before"] is None
    grown = monitor.layer("grown", before=np.zeros(0), after=np.array([1.0, 2.0]))
    assert (grown["dropped"], grown["variance_after"], grown["variance_shift"]) == (None, 0.25, None)
    assert monitor.layer("nan", before=np.array([np.nan, 1]), after=np.array([0.0, 1]))["mean_before"] is None
    assert monitor.layer("tokens", before=np.ones((2, 8, 3)), after=np.ones((2, 6, 3)))["dropped"] == 0.25
    assert monitor.layer("dense", before=np.ones((2, 8)), after=np.ones((2, 16)))["dropped"] is None
    assert monitor.layer("noise", before=x, after=x * 0, replacement=None)["dropped"] is None
    state = normal(100, seed=1)
    kept = np.where(np.arange(100) < 30, state, x)
    assert monitor.layer("state", before=x, after=kept, replacement=state)["dropped"] == 0.3
    json.dumps(monitor.entries(), allow_nan=False)


def test_losses():
    monitor = Monitor()
    monitor.step = 3
    assert monitor.losses(np.float32(0.25), 1) == {
        "step": 3, "kind": "losses", "training": 0.25, "validation": 1.0, "gap": 0.75,
    }  # fmt: skip
    assert monitor.losses(float("nan"), 1)["gap"] is None


@pytest.mark.parametrize("scale", [(1e150, 1e-150), (1e200, 1e200), (math.inf, math.inf)])
def test_a_shift_beyond_float64_warns_of_nothing(scale):
    """A run that diverges is one to look at, also where warnings are errors."""
    before, after = (np.array([1.0, -1.0]) * factor for factor in scale)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        entry = Monitor().layer("a", before=before, after=after)
    assert entry["variance_shift"] is None


@pytest.mark.parametrize("bad", ["x", None, [1.0, 2.0], 1j, True, np.True_, b"1", bytearray(b"1"), memoryview(b"1"), 10**400])
def test_a_loss_that_is_no_number_is_named(bad):
    monitor = Monitor()
    with pytest.raises((TypeError, ValueError), match="validation must be a number, the loss; got"):
        monitor.losses(1.0, bad)
    assert not monitor.entries()


def test_bad_input(tmp_path):
    x = np.ones(3)
    for call, error, match in (
        (lambda: Monitor(every=0), ValueError, "every must be at least 1"),
        (lambda: Monitor(sample=0.5), TypeError, "sample"),
        (lambda: Monitor().watch(3), TypeError, r"forward\(x\); got 3"),
        (lambda: Monitor().losses("much", 1), ValueError, "much"),
        (lambda: Monitor().losses("0.5", 1), ValueError, "training must be a number, the loss; got '0.5'"),
        (lambda: Monitor().losses(10**400, 1), ValueError, "training must be a number, the loss; got 1000"),
        (lambda: Monitor().layer(3, before=x, after=x), TypeError, "name must be a string; got 3"),
        (
            lambda: Monitor().layer("a", before=x * 1j, after=x),
            TypeError,
            "before must be real numbers; got an array of complex128",
        ),
        (lambda: Monitor().layer("a", before=x, after=["b"]), TypeError, "after must be real numbers"),
        (lambda: Monitor().layer("a", before=x, after=x, training="no"), TypeError, "training must be True or False; got 'no'"),
        (lambda: Monitor().layer("a", before=x, after=x, rate="0.5"), TypeError, "rate must be a number; got '0.5'"),
        (
            lambda: Monitor().layer("a", before=x, after=x, replacement=[0, 1]),
            ValueError,
            r"replacement must be one number, .* \(3,\)",
        ),
        (lambda: Monitor().gradient(None, after=x, before=x), TypeError, "name must be a string"),
        (lambda: Monitor().gradient("a", after=x, before=[[1], [1, 2]]), ValueError, "before must be an array, or lists"),
    ):
        with pytest.raises(error, match=match):
            call()
    monitor = Monitor(tmp_path / "run.jsonl")
    monitor.step = -1
    with pytest.raises(ValueError, match="step must be >= 0"):
        monitor.losses(1, 2)
    monitor.close()
    assert not (tmp_path / "run.jsonl").read_text()


# Files --------------------------------------------------------------------------------------------------------------


def test_a_file_has_the_entries_at_once(tmp_path):
    path = tmp_path / "run.jsonl"
    with Monitor(path) as monitor:
        first = monitor.layer("hidden", before=normal(50), after=drop(normal(50)))
        assert list(read(path)) == [first]
        second = monitor.losses(1, 2)
        assert list(read(path)) == monitor.entries() == [first, second]


def test_a_file_is_continued(tmp_path):
    path = tmp_path / "run.jsonl"
    with Monitor(path) as monitor:
        monitor.losses(1, 2)
    with path.open("a") as file:
        file.write('{"step": 1, "kind": "los')  # a kill in the middle of a line
    assert len(list(read(path))) == 1
    with Monitor(path) as monitor:
        monitor.step = 1
        monitor.losses(3, 4)
        assert [entry["training"] for entry in monitor.entries()] == [1, 3]
    with pytest.raises(ValueError, match="the monitor is closed and records nothing more; another Monitor continues its file"):
        monitor.losses(5, 6)
    assert len(monitor.entries()) == 2


LINE = '{"step": 0, "kind": "losses", "training": 1.0}\n'


@pytest.mark.parametrize("rest", ["", "{", '{"step": 1', "x" * 4095, "x" * 4096, "x" * 9000])
@pytest.mark.parametrize("lines", [LINE, LINE * 300, LINE.replace("losses", "l" * 9000)])
def test_half_a_line_is_cut_off(tmp_path, lines, rest):
    path = tmp_path / "run.jsonl"
    path.write_text(lines + rest)
    Monitor(path).close()
    assert path.read_text() == lines


@pytest.mark.parametrize("rest", ["", "{", '{"step', '{"step": 12, "kind": "los'])
def test_half_a_first_line_is_cut_off(tmp_path, rest):
    path = tmp_path / "run.jsonl"
    path.write_text(rest)
    Monitor(path).close()
    assert not path.read_text()


@pytest.mark.parametrize(
    "content",
    [
        b"x", b"\n", b'{"training": 1.0}', b'{"step": 1, "loss": 0.5}',
        b'{"step": 1, "loss": 0.5}\n{"step": 2, "loss"', b"[1]\n", b'{"step": 1, "kind"\n',
        b'{\n  "step": 0,\n  "kind": "losses"\n}', b"\x93NUMPY\n" + bytes(8000), b'{"step": ' + b"[" * 100_000 + b"\n",
    ],
)  # fmt: skip
def test_a_file_that_no_monitor_wrote_is_refused_and_stays(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"path must be a file that a Monitor wrote, or a new one; .*other' is another file"):
        Monitor(path)
    assert path.read_bytes() == content


def test_what_is_not_json_is_named(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text("{}\nnonsense\n{}\n")
    with pytest.raises(ValueError, match=r"line 2 of .*run\.jsonl"):
        list(read(path))


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_killed_run_can_be_read(tmp_path):
    path = tmp_path / "run.jsonl"
    program = f"""
from fastdrop.monitor import Monitor
monitor = Monitor({str(path)!r})
while True:
    monitor.losses(1, 2)
    monitor.step += 1
"""
    child = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path)
    try:
        end = time.monotonic() + 60
        while not path.is_file() or path.stat().st_size < 5000:
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    steps = [entry["step"] for entry in read(path)]
    assert steps == list(range(len(steps)))
    assert len(steps) > 50


# Layers that are watched --------------------------------------------------------------------------------------------


class Layer:
    training = True

    def forward(self, x, bias=0.0):
        y = fastdrop.dropout(x, 0.5, seed=1, training=self.training)
        x[...] = -1  # what it was given is its own
        return y + bias


def test_watching_a_layer():
    layer, monitor, x = Layer(), Monitor(every=2), np.ones(1000)
    assert monitor.watch(layer, "hidden") is layer
    got = layer.forward(x.copy(), bias=0.0)
    np.testing.assert_array_equal(got, fastdrop.dropout(x, 0.5, seed=1))
    (entry,) = monitor.entries()
    assert entry["layer"] == "hidden"
    assert entry["mean_before"] == 1
    assert entry["dropped"] == (got == 0).mean()
    assert entry["rate"] is None
    monitor.step = 1
    layer.forward(x.copy())
    assert len(monitor.entries()) == 1  # every second step
    monitor.step, layer.training = 2, False
    layer.forward(x.copy())
    assert [entry["training"] for entry in monitor.entries()] == [True, False]
    monitor.close()
    layer.forward(x.copy())
    assert len(monitor.entries()) == 2
    assert "forward" not in vars(layer)


def test_watching_a_model():
    model = nn.Sequential({"first": nn.Dropout(0.2), "rest": nn.Sequential({"last": nn.Dropout(0.7)})}, seed=1)
    plain = nn.Sequential({"first": nn.Dropout(0.2), "rest": nn.Sequential({"last": nn.Dropout(0.7)})}, seed=1)
    x = np.ones((100, 100), np.float32)
    with Monitor() as monitor:
        monitor.watch(model, "model")
        np.testing.assert_array_equal(model.forward(x), plain.forward(x))
        np.testing.assert_array_equal(model.backward(x), plain.backward(x))
        model.eval().forward(x)
    passes = [entry for entry in monitor.entries() if entry["kind"] == "layer"]
    seen = [(entry["layer"], entry["training"]) for entry in passes]
    assert seen == [(f"model.{name}", training) for training in (True, False) for name in ("first", "rest.last")]
    np.testing.assert_allclose([entry["dropped"] for entry in passes], [0.2, 0.7, 0, 0], atol=0.03)
    assert [entry["rate"] for entry in passes] == [0.2, 0.7, 0.2, 0.7]
    assert not {"record", "gradient"} & vars(model.children["first"]).keys()
    with pytest.raises(ValueError, match="drops"):
        monitor.watch(nn.Sequential([]))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_of_a_watched_model_is_a_model_of_its_own(duplicate):
    monitor, model = Monitor(), nn.Sequential(nn.Dropout(0.5), nn.DropConnect(np.ones((3, 3))), seed=1)
    other = duplicate(monitor.watch(model))
    other.parameters["1.weight"][...] = 2
    got = other(np.ones((4, 3)))
    assert not monitor.entries()
    assert (other[0].stream.offset, model[0].stream.offset) == (1, 0)
    np.testing.assert_array_equal(got, 2 * model(np.ones((4, 3))))


def test_a_monitor_that_is_closed_leaves_the_others_watching():
    for number in range(2):
        monitors, layer = (Monitor(), Monitor()), nn.Dropout(0.5, seed=1)
        for monitor in monitors:
            monitor.watch(layer)
        monitors[number].close()
        layer(np.ones(3))
        assert [len(monitor.entries()) for monitor in monitors] == [number, 1 - number]
        monitors[1 - number].close()
        assert "record" not in vars(layer)


def test_a_layer_that_is_watched_again_is_recorded_once_under_its_new_name():
    monitor, other, inner = Monitor(), Monitor(), nn.Dropout(0.5, seed=1)
    model = nn.Sequential({"drop": inner})
    monitor.watch(inner, "alone")
    other.watch(model)
    for _ in range(3):
        monitor.watch(model, "model")
    model.backward(model(np.ones(3)))
    assert [entry["layer"] for entry in monitor.entries()] == ["model.drop"] * 2
    assert len(other.entries()) == 2
    other.close()
    monitor.close()
    assert not {"record", "gradient"} & vars(inner).keys()


def test_a_method_of_the_object_itself_comes_back():
    layer = SimpleNamespace(forward=drop)
    monitor = Monitor()
    copied = copy.deepcopy(monitor.watch(layer))
    assert copied.forward is drop
    layer.forward(normal((10, 10)))
    monitor.close()
    assert layer.forward is drop
    assert len(monitor.entries()) == 1


WEIGHT = normal((64, 64))
MAPS = (16, 8, 16, 16)


@pytest.mark.parametrize(
    ("make", "shape", "rate", "share"),
    [
        (lambda nn: nn.Dropout(0.3), (200, 200), 0.3, 0.3),
        (lambda nn: nn.Dropout(schedules.Linear(0.1, 0.5, 10)), (200, 200), 0.1, 0.1),
        (lambda nn: nn.Dropout(0.3, mode="standard"), (200, 200), 0.3, 0.3),
        (lambda nn: nn.AlphaDropout(0.3), (200, 200), 0.3, 0.3),
        (lambda nn: nn.FeatureAlphaDropout(0.3), (200, 200, 2), 0.3, 0.3),
        (lambda nn: nn.ConcreteDropout(0.27), (200, 200), 0.27, 0.27),
        (lambda nn: nn.ConcreteDropout(0.27, 2 / 3), (200, 200), 0.27, 0.312),  # the mean of its soft decisions is above p
        (lambda nn: nn.ConcreteDropout(0.27, 2 / 3, exact_mean=True), (200, 200), 0.27, 0.312),
        (lambda nn: nn.DropKey(0.3), (50, 4, 10, 10), 0.3, 0.3),
        (lambda nn: nn.DropKey(0.3, fill=-3.0), (50, 4, 10, 10), 0.3, 0.3),
        (lambda nn: nn.Dropout2d(0.3), (64, 64, 3, 3), 0.3, 0.3),
        (lambda nn: nn.TokenDropout(0.25), (10, 40, 20), 0.25, 0.25),
        (lambda nn: nn.Shakeout(0.3, 0.5, unit="weight"), (200, 200), 0.3, 0.3),
        (lambda nn: nn.WeightDrop(0.3), (200, 200), 0.3, 0.3),
        (lambda nn: nn.DropConnect(WEIGHT, 0.3), (20, 64), 0.3, 0.3),
        (lambda nn: nn.Zoneout(0.3), (200, 200), 0.3, 0.3),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_rate_that_was_meant_and_the_share_that_was_dropped(make, shape, rate, share, dtype):
    layer, monitor = make(nn).seed(3), Monitor()
    monitor.watch(layer, "hidden")
    x = normal(shape).astype(dtype)
    if isinstance(layer, nn.DropConnect):
        layer.own_parameters["weight"] = WEIGHT.astype(dtype)
    inputs = (x, normal(shape, seed=1).astype(dtype)) if isinstance(layer, nn.Zoneout) else (x,)
    layer.forward(*inputs)
    layer.eval().forward(*inputs)
    dropping, evaluating = monitor.entries()
    assert dropping["rate"] == pytest.approx(rate, rel=1e-12)
    assert dropping["dropped"] == pytest.approx(share, abs=0.025)
    if not isinstance(layer, nn.TokenDropout | nn.Zoneout):  # Zoneout mixes both states in evaluation
        assert evaluating["dropped"] == 0
    assert evaluating["rate"] == dropping["rate"]


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
def test_the_share_of_dropped_keys_follows_the_rounding_of_their_value(dtype):
    dtype = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype
    monitor = Monitor()
    monitor.watch(nn.DropKey(0.3, fill=-1e12, seed=3)).forward(normal((50, 4, 10, 10)).astype(dtype))
    assert monitor.entries()[0]["dropped"] == pytest.approx(0.3, abs=0.025)


def test_arrays_may_be_lists_and_in_any_order():
    new, previous = normal((40, 50)), normal((40, 50), seed=1)
    entries = []
    for inputs, named in (
        ((new, previous), {}),
        ((new, previous.tolist()), {}),
        ((new.tolist(),), {"previous": previous.tolist()}),
        ((), {"previous": previous, "new": new}),
    ):
        monitor = Monitor()
        monitor.watch(nn.Zoneout(0.3, seed=3)).forward(*inputs, **named)
        entries += monitor.entries()
    assert entries == 4 * entries[:1]


def test_a_residual_hides_no_dropped_element():
    for layer in (nn.Dropout(0.3, seed=1), nn.DropPath(0.3, seed=1)):
        monitor, x = Monitor(), normal((400, 50), np.float32)
        monitor.watch(layer).forward(x, residual=normal((400, 50), np.float32, seed=1))
        assert monitor.entries()[0]["dropped"] == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_with_a_residual_a_zero_does_not_count_as_dropped(p):
    monitor, x = Monitor(), np.maximum(normal((100, 100)), 0)  # as after a ReLU
    y = monitor.watch(nn.Dropout(p, seed=1)).forward(x, residual=np.ones((100, 100)))
    assert monitor.entries()[0]["dropped"] == pytest.approx((y[x > 0] == 1).mean(), abs=1e-12)


@pytest.mark.parametrize(
    ("make", "rate"),
    [
        (lambda nn: nn.GaussianDropout(0.3), 0.3),
        (lambda nn: nn.GaussianDropout(log_alpha=np.log(0.25)), 0.2),
        (lambda nn: nn.GaussianNoise(0.3), None),
        (lambda nn: nn.VariationalDense(WEIGHT, WEIGHT - 8), None),
        (lambda nn: nn.VariationalDropout(WEIGHT, np.full(64, np.log(0.25))), 0.2),
    ],
)
def test_noise_drops_nothing(make, rate):
    monitor = Monitor()
    monitor.watch(make(nn).seed(1)).forward(normal((20, 64)))
    (entry,) = monitor.entries()
    assert entry["dropped"] is None
    assert entry["rate"] == (None if rate is None else pytest.approx(rate))


def test_the_mask_of_dropped_connections_is_that_of_the_layer():
    """The share is counted in a mask that is made again: with the unit matrix the output shows the connections."""
    monitor = Monitor()
    layer = monitor.watch(nn.DropConnect(np.ones((50, 50)), 0.4, per="batch", seed=5))
    connections = layer.forward(np.eye(50))
    assert monitor.entries()[0]["dropped"] == pytest.approx((connections == 0).mean(), abs=1e-12)


def test_gradients_are_recorded():
    model = nn.Sequential({"first": nn.Dropout(0.5), "second": nn.AlphaDropout(0.2)}, seed=1)
    monitor, x, grad = Monitor(), normal((50, 60)), normal((50, 60), seed=1)
    monitor.watch(model)
    model.forward(x)
    result = model.backward(grad)
    second, first = [entry for entry in monitor.entries() if entry["kind"] == "gradient"]
    assert (first["layer"], second["layer"]) == ("first", "second")
    assert second["norm_after"] == pytest.approx(np.linalg.norm(grad))
    assert first["norm_after"] == second["norm_before"]
    assert first["norm_before"] == pytest.approx(np.linalg.norm(result))
    assert first["zeros"] == pytest.approx((result == 0).mean(), abs=1e-12)
    model.forward(x)
    monitor.step, monitor.every = 1, 2
    model.backward(grad)
    assert len(monitor.entries()) == 6  # not in this step


def test_before_and_after_are_named():
    """A call that swaps two arrays of the same shape would go unnoticed."""
    for record in (Monitor().layer, Monitor().gradient):
        with pytest.raises(TypeError, match="positional argument"):
            record("hidden", np.ones(3), np.ones(3))


def test_norms_of_large_gradients_are_estimated():
    grad = normal((1000, 1000), np.float32)
    entry = Monitor().gradient("hidden", after=grad, before=drop(grad))
    assert entry["norm_after"] == pytest.approx(np.linalg.norm(grad), rel=0.03)
    assert entry["zeros"] == pytest.approx(0.25, abs=0.02)
    empty = Monitor().gradient("hidden", after=[], before=[np.nan])
    assert (empty["norm_after"], empty["norm_before"], empty["zeros"]) == (None, None, 0)


def test_any_object_with_a_backward_method_is_watched():
    class Twice:
        def forward(self, x):
            return 2 * x

        def backward(self, grad):
            return 2 * grad

    monitor = Monitor()
    layer = monitor.watch(Twice())
    layer.backward(grad=layer.forward(x=np.ones(4)))
    assert [entry["kind"] for entry in monitor.entries()] == ["layer", "gradient"]
    assert monitor.entries()[1]["norm_before"] == 8
    monitor.close()
    assert not vars(layer)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_layer_of_pytorch_is_watched_while_it_is_trained(dtype):
    torch = pytest.importorskip("torch")
    monitor, x = Monitor(), torch.ones(1000, dtype=getattr(torch, dtype), requires_grad=True)
    layer = monitor.watch(torch.nn.Dropout(0.25), "hidden")
    y = layer(x)
    y.sum().backward()
    (entry,) = monitor.entries()
    assert entry["dropped"] == int((y == 0).sum()) / 1000 > 0.1
    assert (entry["mean_before"], entry["variance_before"]) == (1, 0)
    assert torch.equal(x.grad, y.detach())


def test_what_cannot_be_watched_is_refused_at_once():
    class Slots:
        __slots__ = ()

        def forward(self, x):
            return x

    with pytest.raises(TypeError, match=r"a layer must be an object without slots, .* got <"):
        Monitor().watch(Slots())


def test_a_pass_without_an_array_is_not_recorded():
    class Draw:
        def forward(self):
            return 3.0

    monitor = Monitor()
    assert monitor.watch(Draw()).forward() == 3
    assert not monitor.entries()


def test_a_bad_step_is_named_when_a_layer_runs():
    monitor = Monitor()
    layer = monitor.watch(Layer())
    monitor.step = "a"
    with pytest.raises(TypeError, match="step must be an integer"):
        layer.forward(np.ones(3))


def test_a_loss_without_data_is_named():
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match="training must be a number, the loss; got tensor"):
        Monitor().losses(torch.empty((), device="meta"), 1)


def test_entries_of_something_else_are_not_drawn():
    pytest.importorskip("matplotlib")
    for bad in ({"a": 1}, 3, "kind"):
        with pytest.raises(ValueError, match="entries must be entries of a Monitor, as read yields them; got"):
            plot([bad])


# Plots --------------------------------------------------------------------------------------------------------------


def test_plot():
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    monitor, x = Monitor(), normal(1000)
    for step in range(4):
        monitor.step = step
        for name, p in (("first", 0.1), ("second", 0.2 * step)):
            monitor.layer(name, before=x, after=drop(x, p), rate=p)
        monitor.layer("first", before=x, after=x, training=False)  # not drawn
        monitor.losses(1 / (step + 1), 1)
        monitor.gradient("first", after=x, before=x)
    axes = monitor.plot()
    seen = [entry for entry in monitor.entries() if entry["kind"] == "layer" and entry["training"]]
    for line, name in zip(axes[0].lines[:2], ("first", "second"), strict=True):
        assert line.get_label() == name
        np.testing.assert_array_equal(line.get_ydata(), [entry["dropped"] for entry in seen if entry["layer"] == name])
    for line, name in zip(axes[0].lines[2:], ("first", "second"), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), [entry["rate"] for entry in seen if entry["layer"] == name])
    np.testing.assert_allclose(axes[2].lines[0].get_ydata(), np.linalg.norm(x))
    np.testing.assert_allclose(axes[3].lines[2].get_ydata(), [1 - 1 / (step + 1) for step in range(4)])
    pyplot.close(axes[0].figure)
    pyplot.close(plot([])[0].figure)


def test_a_layer_has_one_color_on_all_axes():
    """Backward passes reach the last layer first."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    model, monitor = nn.Sequential({name: nn.Dropout(0.2) for name in ("first", "second", "third")}, seed=1), Monitor()
    monitor.watch(model).backward(model(normal(50)))
    shares, shifts, norms, _ = monitor.plot()
    found = [[(line.get_label(), line.get_color()) for line in ax.lines[:3]] for ax in (shares, shifts, norms)]
    assert found == [[("first", "C0"), ("second", "C1"), ("third", "C2")]] * 3
    pyplot.close(shares.figure)


def test_a_file_that_is_not_utf_8(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(b'{"step": 0}\n\xff\xfe\n')
    entries = read(path)
    assert next(entries) == {"step": 0}
    with pytest.raises(ValueError, match=r"line 2 of .* is not JSON: 'utf-8' codec"):
        next(entries)
