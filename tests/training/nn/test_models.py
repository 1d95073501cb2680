"""Models: layers in a row, their seeds and modes, and their gradients."""

import numpy as np
import pytest
from comparisons import assert_same_bytes, normal
from layer_cases import model

import fastdrop
from fastdrop import nn


def test_each_layer_has_a_stream_of_its_full_name():
    net = model()
    root = fastdrop.Stream(42)
    names = {name: layer.stream for name, layer in net.walk() if isinstance(layer, nn.Variant)}
    assert names == {name: root.fold_in(name) for name in ("in", "middle.0", "middle.1", "gap", "out")}
    assert nn.Dropout(0.1).seed(42).stream == root
    assert nn.Dropout(0.1).seed(fastdrop.Key(42, 7)).stream == fastdrop.Stream(42, 7)
    own = nn.Sequential([nn.Dropout(0.1, seed=7)])
    assert own.children["0"].stream == fastdrop.Stream(7)  # a model without a seed leaves its layers theirs


def test_models_of_two_keys_of_one_stream_drop_independently():
    stream, x = fastdrop.Stream(42), np.ones((3, 64))
    first, second, third = (nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.2), seed=stream.next()) for _ in range(3))
    assert first[0].stream == fastdrop.Stream(42).fold_in("0")  # offset 0 is the seed itself
    assert second["1"].stream == fastdrop.Stream(42).fold_in(1).fold_in("1")
    assert len({layer.stream.seed for net in (first, second, third) for layer in net}) == 6
    assert len({net(x).tobytes() for net in (first, second, third) for _ in range(2)}) == 6


def test_layers_share_a_stream_after_loading_if_they_did_before():
    stream, x = fastdrop.Stream(42), np.ones(64)
    net = nn.Sequential(nn.Dropout(0.5, seed=stream), nn.Dropout(0.5, seed=stream), nn.Dropout(0.5, seed=42))
    net(x)
    state = net.state_dict()
    want = [net(x) for _ in range(3)]
    net.load_state_dict(state)
    np.testing.assert_array_equal([net(x) for _ in range(3)], want)
    assert net[0].stream is net[1].stream is not net[2].stream


def test_a_layer_whose_stream_is_used_up_says_so():
    layer = nn.Dropout(0.5, seed=fastdrop.Stream(1, 2**64 - 1))
    layer(np.ones(3))
    with pytest.raises(OverflowError, match="the stream has used all of its 2"):
        layer(np.ones(3))


def test_a_model_is_its_layers_in_a_row():
    net, x = model(), normal((4, 7))
    y = net.forward(x)
    want = x
    for layer in (layer for name, layer in model().walk() if isinstance(layer, nn.Variant)):
        want = layer.forward(want)
    assert_same_bytes(y, want)
    once, record = model().record(x)
    assert_same_bytes(net.record(x, again=record)[0], once)


def test_forward_passes_of_a_model_wait_last_in_first_out():
    net, first, second = model(), normal((4, 7)), normal((3, 7), seed=1)
    y = [net.forward(first), net.forward(second)]
    assert net.backward(y[1]).shape == (3, 7)
    assert net.backward(y[0]).shape == (4, 7)


def test_gradients_add_up_until_set_to_zero():
    net, x = model(), normal((4, 7))
    y, record = net.record(x)
    net.backward(y, record)
    once = {name: value.copy() for name, value in net.gradients.items()}
    net.backward(y, record)
    assert list(once) == list(net.parameters) == ["in.weight", "in.bias"]
    for name, value in net.gradients.items():
        assert_same_bytes(value, 2 * once[name])
    net.zero_gradients()
    assert not any(value.any() for value in net.gradients.values())
    with pytest.raises(TypeError):
        net.parameters["in.weight"] = x


def test_a_model_is_a_sequence_of_layers():
    a, b, c = nn.Dropout(0.1), nn.Dropout(0.2), nn.Dropout(0.3)
    net = nn.Sequential(a, nn.Sequential({"b": b}), c, seed=42)
    assert (len(net), list(net), net[0], net[-1], net["2"], net["1.b"]) == (3, [a, net[1], c], a, c, c, b)
    part = net.eval()[1:]
    assert list(part.children) == ["1", "2"]
    assert (part.training, part[1]) == (False, c)
    for key, error, sentence in (
        ("3", KeyError, "no layer is called '3'"),
        ("", KeyError, "no layer is called ''"),
        (3, IndexError, r"the index of a layer must be in \[-3, 3\); got 3"),
        (-4, IndexError, r"must be in \[-3, 3\); got -4"),
        (1.5, TypeError, r"by its index, its name or a slice; got 1\.5"),
        (None, TypeError, "by its index, its name or a slice; got None"),
    ):
        with pytest.raises(error, match=sentence):
            net[key]
    x = normal(5)
    net.train()
    y = net(x)
    assert_same_bytes(nn.Sequential([nn.Dropout(0.1), nn.Sequential({"b": nn.Dropout(0.2)}), nn.Dropout(0.3)], seed=42)(x), y)
    assert net.backward(y).shape == (5,)
    assert len(nn.Sequential()) == 0


def test_modes_reach_all_layers():
    net = model().eval(sampling=True)
    assert {(layer.training, layer.sampling) for _, layer in net.walk()} == {(False, True)}
    net.train()
    assert {(layer.training, layer.sampling) for _, layer in net.walk()} == {(True, False)}


def test_modes_that_are_set_reach_all_layers():
    net, x = model(), normal((4, 7))
    net["middle"](x)
    net.training = False
    assert {layer.training for _, layer in net.walk()} == {False}
    assert not net["middle"]._pending
    net.sampling = True
    assert {layer.sampling for _, layer in net.walk()} == {True}
    net["middle"].training, net["middle"].sampling = True, False
    modes = {name: (layer.training, layer.sampling) for name, layer in net.walk()}
    assert [name for name, mode in modes.items() if mode == (True, False)] == ["middle", "middle.0", "middle.1"]
    part = net[1:]
    assert (part.training, part.sampling, part["middle"].training) == (False, True, True)
    assert {name: (layer.training, layer.sampling) for name, layer in net.walk()} == modes


def test_forgetting_reaches_all_layers():
    net = model()
    net.forward(normal((4, 7)))
    net.children["middle"].children["0"].forward(normal(3))
    net.forget()
    for _, layer in net.walk():
        with pytest.raises(RuntimeError, match="backward needs a forward pass"):
            layer.backward(normal(3))


@pytest.mark.parametrize(
    "use",
    [
        nn.Layer.eval,
        nn.Layer.state_dict,
        lambda layer: layer.seed(1),
        nn.describe,
        nn.Sequential,
        lambda layer: layer.advance(),
    ],
)
def test_a_layer_that_is_only_an_attribute_is_refused(use):
    """Otherwise ``eval`` would not reach it, and it would go on dropping."""

    class Own(nn.Layer):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

    layer = Own()
    with pytest.raises(TypeError, match=r"the layer Own\.drop must be in children.*write self\.children\['drop'\] = \.\.\."):
        use(layer)
    layer.children["inside"] = layer.drop
    use(layer)


def test_a_layer_inside_a_child_may_be_an_attribute_too():
    class Own(nn.Layer):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)
            self.children["net"] = nn.Sequential(self.drop)

    layer = Own()
    assert [name for name, _ in layer.walk()] == ["", "net", "net.0"]
    assert not layer.eval().drop.training
