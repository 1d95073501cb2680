"""The state of layers: training that is stopped and resumed, and states that do not fit."""

import copy
import json
import pickle

import numpy as np
import pytest
from comparisons import assert_same_bytes, normal
from layer_cases import bytes_of, model, trained

import fastdrop
from fastdrop import nn, schedules


@pytest.mark.parametrize("through", ["savez", "pickle", "copy"])
def test_a_run_that_was_stopped_and_resumed_is_the_same_to_the_byte(engine, tmp_path, through):
    whole = model()
    wanted = trained(whole, 12)
    stopped = model()
    found = trained(stopped, 5)
    if through == "savez":
        np.savez(tmp_path / "state.npz", **stopped.state_dict())
        resumed = model(seed=43)
        with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
            resumed.load_state_dict(state)
    else:
        resumed = pickle.loads(pickle.dumps(stopped)) if through == "pickle" else copy.deepcopy(stopped)
    found += trained(resumed, 7, first=5)
    for one, other in zip(found, wanted, strict=True):
        assert_same_bytes(one, other)
    assert bytes_of(resumed.state_dict()) == bytes_of(whole.state_dict())
    assert resumed.children["gap"].rate == whole.children["gap"].rate != 0.1


def test_what_the_state_has():
    net = model()
    trained(net, 3)
    state = net.state_dict()
    assert state["middle.0.step"] == 3
    assert state["gap.stream.offset"] == 3
    assert state["gap.p.schedule.p"] == net.children["gap"].p.schedule.p
    assert state["format"] == 1
    assert json.loads(state["config"]) == net.to_config()
    state["in.weight"].fill(7)  # a copy
    assert not (net.parameters["in.weight"] == 7).any()


UNLIKE = {
    "class": (lambda: nn.AlphaDropout(0.5), "class is 'Dropout' here, 'AlphaDropout' in the state"),
    "rate": (lambda: nn.Dropout(0.25), "p is 0.5 here, 0.25 in the state"),
    "mode": (lambda: nn.Dropout(0.5, mode="standard"), "mode is 'inverted' here, 'standard' in the state"),
    "option": (lambda: nn.Dropout(0.5, shared_axes=(0, 1)), "shared_axes is None here, [0, 1] in the state"),
    "schedule": (lambda: nn.Dropout(schedules.Linear(0, 1, 10)), "p is 0.5 here, {'class': 'Linear'"),
    "function": (lambda: nn.Dropout(lambda step: 0.5), "p is 0.5 here, {'function': "),
    "rates": (lambda: nn.Dropout(np.full(2, 0.5)), "p is 0.5 here, {'array': [0.5, 0.5], 'dtype': 'float64'} in the state"),
}


@pytest.mark.parametrize(("other", "sentence"), UNLIKE.values(), ids=UNLIKE)
def test_a_state_of_another_configuration_is_refused(other, sentence, tmp_path):
    """By a sentence that names what differs, alone and inside a model, before anything is changed."""
    np.savez(tmp_path / "state.npz", **other().state_dict())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
        with pytest.raises(ValueError, match="the state does not fit this Dropout: ") as caught:
            nn.Dropout(0.5, seed=1).load_state_dict(state)
        assert sentence in str(caught.value)
    inside = nn.Sequential(nn.Sequential({"drop": nn.Dropout(0.5, seed=1)}))
    before = bytes_of(inside.state_dict())
    with pytest.raises(ValueError, match=r"the state does not fit this Sequential: 0\.drop\.") as caught:
        inside.load_state_dict(nn.Sequential(nn.Sequential({"drop": other()})).state_dict())
    assert f"0.drop.{sentence}" in str(caught.value)
    assert bytes_of(inside.state_dict()) == before


def test_a_state_of_another_schedule_is_refused():
    linear, cosine = (nn.Dropout(kind(0.0, 0.5, 100)) for kind in (schedules.Linear, schedules.Cosine))
    with pytest.raises(ValueError, match=r"p\.class is 'Linear' here, 'Cosine' in the state"):
        linear.load_state_dict(cosine.state_dict())
    with pytest.raises(ValueError, match=r"p\.steps is 100 here, 50 in the state"):
        linear.load_state_dict(nn.Dropout(schedules.Linear(0.0, 0.5, 50)).state_dict())


def falling(step):
    return 0.5 / (1 + step)


@pytest.mark.parametrize("wrapped", [lambda p: p, lambda p: schedules.Clipped(p, 0.1, 0.4)])
def test_a_schedule_that_is_a_lambda_is_not_loaded_in_silence(wrapped):
    """Nothing tells one lambda from another."""
    net = nn.Sequential(nn.Dropout(wrapped(lambda step: 0.9)))
    with pytest.warns(RuntimeWarning, match="a schedule that is a lambda, which may be another one than the layer's"):
        net.load_state_dict(nn.Sequential(nn.Dropout(wrapped(lambda step: 0.1))).state_dict())
    named = nn.Dropout(wrapped(falling))
    named.load_state_dict(nn.Dropout(wrapped(falling)).state_dict())  # warns of nothing: a warning is an error here


def test_a_state_of_layers_that_share_a_stream_is_for_such_layers():
    stream = fastdrop.Stream(1)
    shared = nn.Sequential(nn.Dropout(0.5, seed=stream), nn.Dropout(0.5, seed=stream))
    apart = nn.Sequential(nn.Dropout(0.5, seed=1), nn.Dropout(0.5, seed=1))
    with pytest.raises(ValueError, match=r"shared parts is None here, \[\['0\.stream', '1\.stream'\]\] in the state"):
        apart.load_state_dict(shared.state_dict())
    with pytest.raises(ValueError, match=r"shared parts is \[\['0\.stream', '1\.stream'\]\] here, None in the state"):
        shared.load_state_dict(apart.state_dict())


def test_an_early_state_of_layers_that_shared_a_stream_is_loaded_as_the_error_says():
    def net(seed):
        stream = fastdrop.Stream(seed)
        return nn.Sequential(nn.Dropout(0.5, seed=stream), nn.Dropout(0.5, seed=stream))

    model, saved = net(1), net(2)
    saved(np.ones(8))
    state = saved.state_dict()
    state["config"] = json.dumps({key: value for key, value in json.loads(state["config"]).items() if key != "shared parts"})
    with pytest.raises(ValueError, match="An early state has no 'shared parts'") as caught:
        model.load_state_dict(state)
    advised = str(caught.value).partition("load ")[2]
    model.load_state_dict(eval(advised))
    assert model[0].stream is model[1].stream
    assert model[0].stream.key() == fastdrop.Key(2, 2)


def test_a_state_of_another_format_is_refused():
    layer = nn.Dropout(0.5)
    with pytest.raises(ValueError, match="must have the format 1 of this version of fastdrop; got 2"):
        layer.load_state_dict(layer.state_dict() | {"format": np.array(2)})
    with pytest.raises(ValueError, match="missing: config, format"):
        layer.load_state_dict({key: value for key, value in layer.state_dict().items() if key not in ("config", "format")})


@pytest.mark.parametrize("state", [None, 3, [], "x"])
def test_a_state_must_be_a_mapping(state):
    with pytest.raises(TypeError, match="the state must be a dictionary, as state_dict returns it; got"):
        nn.Dropout(0.5).load_state_dict(state)


@pytest.mark.parametrize("config", ["{", "-1", None, "[]"])
def test_the_configuration_in_a_state_must_be_json(config):
    layer = nn.Dropout(0.5)
    with pytest.raises(ValueError, match="the entry config of a state must be a configuration as JSON; got"):
        layer.load_state_dict(layer.state_dict() | {"config": config})


# Files --------------------------------------------------------------------------------------------------------------


def test_large_seeds_survive_a_file(tmp_path):
    layer = nn.Dropout(0.5, seed=fastdrop.Stream(2**64 - 1, 2**64 - 2))
    np.savez(tmp_path / "state.npz", **layer.state_dict())
    other = nn.Dropout(0.5)
    with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
        other.load_state_dict(state)
    assert other.stream == layer.stream


def test_loading_forgets_passes_that_wait():
    layer = nn.Dropout(0.3, seed=1)
    layer.forward(normal(3))
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match="backward needs a forward pass"):
        layer.backward(normal(3))


def without(key):
    return lambda state: {name: value for name, value in state.items() if name != key}


@pytest.mark.parametrize(
    ("spoil", "error", "sentence"),
    [
        (without("out.step"), ValueError, "the state does not fit this Sequential; missing: out.step"),
        (lambda state: state | {"tail.step": 3}, ValueError, "unknown: tail.step"),
        (lambda state: state | {"out.step": -1}, ValueError, "step must be >= 0; got -1"),
        (lambda state: state | {"out.step": 0.5}, TypeError, "step must be an integer >= 0"),
        (lambda state: state | {"out.stream.offset": -1}, ValueError, "offset must be an integer in [0, 2**64); got -1"),
        (lambda state: state | {"out.stream.stream": 2}, ValueError, "this is fastdrop's stream 1"),
        (lambda state: state | {"in.bias": np.ones(4)}, ValueError, "parameter bias has shape (5,) and dtype float64"),
        (lambda state: state | {"in.bias": np.ones(5, np.float32)}, ValueError, "the state has (5,), float32"),
        (lambda state: state | {"gap.p.schedule.p": 2.0}, ValueError, "p must be a number in [0, 1]"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(spoil, error, sentence):
    net, other = model(), model(seed=1)
    trained(net, 2)
    trained(other, 3)
    before = bytes_of(net.state_dict())
    with pytest.raises(error) as caught:
        net.load_state_dict(spoil(other.state_dict()))
    assert sentence in str(caught.value)
    assert bytes_of(net.state_dict()) == before
