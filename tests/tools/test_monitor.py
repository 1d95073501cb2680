"""What a monitor says about layers and losses, and that it can be read while it is written and after a kill."""

import doctest
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from comparisons import DTYPES, normal

import fastdrop
from fastdrop import monitor as module
from fastdrop.monitor import Monitor, plot, read


def drop(x, p=0.25):
    return fastdrop.dropout(x, p, seed=4)


# What is seen -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_entry_against_its_formulas(dtype):
    x = normal((40, 50)).astype(dtype)
    x[:10] = 0  # not counted as dropped
    y, monitor = drop(x), Monitor()
    monitor.step = 7
    entry = monitor.layer("hidden", x, y)
    mask = fastdrop.dropout_mask(x.shape, 0.25, seed=4)
    a, b = x.astype(np.float64), y.astype(np.float64)
    assert entry["rate"] == (~mask[10:]).mean()
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
    shift = Monitor(sample=x.size).layer("hidden", x, drop(x, 1 - q))["variance_shift"]
    assert shift == pytest.approx(v / ((c * c + v) / q - c * c), rel=0.02)
    assert shift == pytest.approx(fastdrop.variance_shift(1 - q, mean=c, var=v), rel=0.02)


def test_a_sample_of_a_large_array_misses_no_column():
    x = np.zeros((4096, 64), np.float32)
    x[:, 5] = 1.0
    entry = Monitor(sample=1000).layer("hidden", x, x)
    assert entry["mean_before"] == pytest.approx(1 / 64, rel=0.1)
    assert entry["size"] == x.size


def test_awkward_arrays():
    monitor, x = Monitor(), normal(100)
    gone = monitor.layer("all", x, np.zeros(100))
    assert (gone["rate"], gone["variance_after"], gone["variance_shift"]) == (1, 0, None)
    assert monitor.layer("none", np.zeros(3), np.zeros(3))["rate"] is None
    assert monitor.layer("empty", np.zeros(0), np.zeros(0))["mean_before"] is None
    assert monitor.layer("nan", np.array([np.nan, 1]), np.array([0.0, 1]))["mean_before"] is None
    assert monitor.layer("tokens", np.ones((2, 8, 3)), np.ones((2, 6, 3)))["rate"] == 0.25
    json.dumps(monitor.entries(), allow_nan=False)


def test_losses():
    monitor = Monitor()
    monitor.step = 3
    assert monitor.losses(np.float32(0.25), 1) == {
        "step": 3, "kind": "losses", "training": 0.25, "validation": 1.0, "gap": 0.75,
    }  # fmt: skip
    assert monitor.losses(float("nan"), 1)["gap"] is None


def test_bad_input(tmp_path):
    for call, error, match in (
        (lambda: Monitor(every=0), ValueError, "every must be at least 1"),
        (lambda: Monitor(sample=0.5), TypeError, "sample"),
        (lambda: Monitor().watch(3), TypeError, r"forward\(x\); got 3"),
        (lambda: Monitor().losses("much", 1), ValueError, "much"),
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
        first = monitor.layer("hidden", normal(50), drop(normal(50)))
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


@pytest.mark.parametrize("rest", ["", "x", "x" * 4095, "x" * 4096, "x" * 9000])
@pytest.mark.parametrize("lines", ["", "{}\n", "{}\n" * 3000])
def test_half_a_line_is_cut_off(tmp_path, lines, rest):
    path = tmp_path / "run.jsonl"
    path.write_text(lines + rest)
    Monitor(path).close()
    assert path.read_text() == lines


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
    assert entry["rate"] == (got == 0).mean()
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
    nn = pytest.importorskip("fastdrop.nn")
    model = nn.Sequential({"first": nn.Dropout(0.2), "rest": nn.Sequential({"last": nn.Dropout(0.7)})}, seed=1)
    plain = nn.Sequential({"first": nn.Dropout(0.2), "rest": nn.Sequential({"last": nn.Dropout(0.7)})}, seed=1)
    x = np.ones((100, 100), np.float32)
    with Monitor() as monitor:
        monitor.watch(model, "model")
        np.testing.assert_array_equal(model.forward(x), plain.forward(x))
        np.testing.assert_array_equal(model.backward(x), plain.backward(x))
        model.eval().forward(x)
    seen = [(entry["layer"], entry["training"]) for entry in monitor.entries()]
    assert seen == [(f"model.{name}", training) for training in (True, False) for name in ("first", "rest.last")]
    rates = [entry["rate"] for entry in monitor.entries()]
    np.testing.assert_allclose(rates, [0.2, 0.7, 0, 0], atol=0.03)
    with pytest.raises(ValueError, match="drops"):
        monitor.watch(nn.Sequential([]))


# Plots --------------------------------------------------------------------------------------------------------------


def test_plot():
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    monitor, x = Monitor(), normal(1000)
    for step in range(4):
        monitor.step = step
        for name, p in (("first", 0.1), ("second", 0.2 * step)):
            monitor.layer(name, x, drop(x, p))
        monitor.layer("first", x, x, training=False)  # not drawn
        monitor.losses(1 / (step + 1), 1)
    axes = monitor.plot()
    seen = [entry for entry in monitor.entries() if entry["kind"] == "layer" and entry["training"]]
    for line, name in zip(axes[0].lines, ("first", "second"), strict=True):
        assert line.get_label() == name
        np.testing.assert_array_equal(line.get_ydata(), [entry["rate"] for entry in seen if entry["layer"] == name])
    np.testing.assert_allclose(axes[2].lines[2].get_ydata(), [1 - 1 / (step + 1) for step in range(4)])
    pyplot.close(axes[0].figure)
    pyplot.close(plot([])[0].figure)


def test_examples():
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed
