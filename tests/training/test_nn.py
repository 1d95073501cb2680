"""Layers: each against its functions and finite differences; order of passes; seeds; state; bad input."""

import copy
import doctest
import inspect
import json
import pickle
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from comparisons import assert_same_bytes, normal

import fastdrop
from fastdrop import losses, nn, schedules, theory
from fastdrop._core.docstrings import sections


def soft(shape):
    """Return attention probabilities."""
    weights = np.exp(normal(shape))
    return weights / weights.sum(axis=-1, keepdims=True)


TOKENS = np.array([[0, 1, 1, 5], [2, 0, 1, 3], [4, 4, 0, 2]])
ALLOWED = np.tril(np.ones((6, 6), bool))
WEIGHT, BIAS = normal((5, 7), seed=1), normal(5, seed=2)


def connect(p=0.3, **options):
    return nn.DropConnect(WEIGHT.T.copy(), p, bias=BIAS.copy(), **options)


# class: (how to make it, its arrays, what else its forward pass takes)
CASES = {
    "Dropout": (lambda: nn.Dropout(0.3), (normal((6, 8)),), {"residual": normal((6, 8), seed=5)}),
    "Dropout, standard": (lambda: nn.Dropout(0.3, mode="standard"), (normal((6, 8)),), {}),
    "Dropout, shared": (lambda: nn.Dropout(0.3, shared_axes=0), (normal((6, 8)),), {}),
    "Dropout, rates": (lambda: nn.Dropout(np.linspace(0, 1, 8)), (normal((6, 8)),), {}),
    "Dropout1d": (lambda: nn.Dropout1d(0.3), (normal((4, 5, 3)),), {}),
    "Dropout2d": (lambda: nn.Dropout2d(0.3), (normal((4, 5, 3, 2)),), {}),
    "Dropout3d": (lambda: nn.Dropout3d(0.3), (normal((4, 5, 3, 2, 2)),), {}),
    "SpatialDropout": (lambda: nn.SpatialDropout(0.3, data_format="channels_first"), (normal((4, 5, 3)),), {}),
    "LockedDropout": (lambda: nn.LockedDropout(0.3, shared_axes=1), (normal((4, 5, 3)),), {}),
    "GroupDropout": (lambda: nn.GroupDropout(0.3, group_size=3), (normal((6, 8)),), {}),
    "GaussianDropout": (lambda: nn.GaussianDropout(0.3), (normal((6, 8)),), {}),
    "GaussianDropout, a logarithm": (lambda: nn.GaussianDropout(log_alpha=-1.0), (normal((6, 8)),), {}),
    "GaussianDropout, logarithms": (lambda: nn.GaussianDropout(log_alpha=np.linspace(-4, 0, 8)), (normal((6, 8)),), {}),
    "GaussianNoise": (lambda: nn.GaussianNoise(1.5), (normal((6, 8)),), {}),
    "UniformDropout": (lambda: nn.UniformDropout(0.3), (normal((6, 8)),), {}),
    "ConcreteDropout": (lambda: nn.ConcreteDropout(0.3), (normal((6, 8)),), {}),
    "SpatialConcreteDropout": (lambda: nn.SpatialConcreteDropout(0.3, 0.5), (normal((6, 8, 3)),), {}),
    "ImportanceDropout": (lambda: nn.ImportanceDropout(0.3), (normal((6, 8)),), {"scores": np.arange(8.0)}),
    "MultinomialDropout": (lambda: nn.MultinomialDropout(5), (normal((6, 8)),), {"probabilities": np.arange(1.0, 9)}),
    "ADL": (lambda: nn.ADL(1.0), (normal((4, 5, 3, 2)),), {}),
    "ADL, importance": (lambda: nn.ADL(0.0), (normal((4, 5, 3, 2)),), {}),
    "VariationalDense": (
        lambda: nn.VariationalDense(WEIGHT.T.copy(), normal((7, 5), seed=4) - 3, bias=BIAS.copy()),
        (normal((4, 7)),),
        {},
    ),
    "VariationalDropout": (lambda: nn.VariationalDropout(WEIGHT.T.copy(), np.array(-1.0)), (normal((4, 7)),), {}),
    "VariationalDropout, B": (
        lambda: nn.VariationalDropout(WEIGHT.T.copy(), np.full((7, 5), -1.5), "weight", bias=BIAS.copy()),
        (normal((4, 7)),),
        {},
    ),
    "AdaptiveDropout": (lambda: nn.AdaptiveDropout(shift=0.3), (normal((6, 8)),), {"logits": normal((6, 8), seed=2)}),
    "TargetedDropout": (lambda: nn.TargetedDropout(0.5), (normal((5, 12)),), {}),
    "AlphaDropout": (lambda: nn.AlphaDropout(0.3, mean=0.1), (normal((6, 8)),), {}),
    "FeatureAlphaDropout": (lambda: nn.FeatureAlphaDropout(0.3), (normal((6, 8, 2)),), {}),
    "DropBlock": (lambda: nn.DropBlock(0.3, 2, per="sample"), (normal((2, 3, 6, 6)),), {}),
    "AttentionDropout": (lambda: nn.AttentionDropout(0.3), (soft((2, 3, 6, 6)),), {}),
    "AttentionDropout, columns": (lambda: nn.AttentionDropout(0.3, unit="key"), (soft((2, 3, 6, 6)),), {}),
    "AttentionDropout, windows": (lambda: nn.AttentionDropout(0.3, window=2), (soft((2, 3, 6, 6)),), {}),
    "DropHead": (lambda: nn.DropHead(0.3), (normal((4, 5, 3, 2)),), {}),
    "DropKey": (lambda: nn.DropKey(0.3, fill=-2.0), (normal((2, 3, 6, 6)),), {"allowed": ALLOWED}),
    "DropPath": (lambda: nn.DropPath(0.3), (normal((8, 5)),), {"residual": normal((8, 5), seed=5)}),
    "Zoneout": (lambda: nn.Zoneout(0.3), (normal((6, 8)), normal((6, 8), seed=1)), {}),
    "WordDropout": (lambda: nn.WordDropout(0.3), (normal((4, 5, 3)),), {}),
    "EmbeddingDropout": (lambda: nn.EmbeddingDropout(0.3), (normal((12, 3)),), {}),
    "EmbeddingDropout, tokens": (
        lambda: nn.EmbeddingDropout(0.3, num_embeddings=6, per="sample"),
        (normal((3, 4, 2)),),
        {"tokens": TOKENS},
    ),
    "TokenDropout": (lambda: nn.TokenDropout(0.3, num_prefix_tokens=1), (normal((4, 9, 3)),), {}),
    "TokenDropout, in place": (lambda: nn.TokenDropout(0.3, gather=False), (normal((4, 9, 3)),), {}),
    "PatchDropout": (lambda: nn.PatchDropout(0.3), (normal((4, 9, 3)),), {}),
    "WeightDrop": (lambda: nn.WeightDrop(0.3, unit="output"), (normal((12, 5)),), {}),
    "Shakeout": (lambda: nn.Shakeout(0.3, 0.2), (normal((5, 12)),), {}),
    "DropConnect": (connect, (normal((4, 7)),), {}),
    "DropConnect, inverted": (lambda: connect(per="batch", mode="inverted", drop_bias=False), (normal((4, 7)),), {}),
}
ALL = pytest.mark.parametrize("name", CASES)


def made(name):
    make, arrays, more = CASES[name]
    return make().seed(42), arrays, more


def dropped(layer, x, offset=0, p=0.3):
    """Return what a layer of `Dropout` gives at an offset."""
    return fastdrop.dropout(x, p, seed=layer.stream.seed, offset=offset)


def test_every_variant_has_cases():
    classes = {name for name in nn.__all__ if isinstance(getattr(nn, name), type) and issubclass(getattr(nn, name), nn.Variant)}
    assert {name.partition(",")[0] for name in CASES} == classes - {"Variant"}


def test_every_function_with_a_backward_pass_has_a_layer():
    layers = [layer for layer in vars(nn).values() if isinstance(layer, type) and hasattr(layer, "functions")]
    wanted = [getattr(fastdrop, name) for name in fastdrop.__all__ if f"{name}_backward" in fastdrop.__all__]
    wanted = {forward for forward in wanted if "training" in inspect.signature(forward).parameters}
    assert {layer.functions[0] for layer in layers} == wanted | {fastdrop.gaussian_noise}


# Passes -------------------------------------------------------------------------------------------------------------


@ALL
def test_a_layer_gives_the_bytes_of_its_function(name):
    layer, arrays, more = made(name)
    function = getattr(fastdrop, type(layer).functions[0].__name__)
    options = {key: value for key, value in layer.options.items() if key not in ("through_sum", "estimator")}
    options |= layer.own_parameters | {layer.scheduled: layer.current}
    for offset in range(3):
        y = layer.forward(*arrays, **more)
        assert_same_bytes(y, function(*arrays, seed=42, offset=offset, **options, **more))
    assert layer.stream == fastdrop.Stream(42, 3)


@ALL
def test_gradients_are_finite_differences(name):
    """With the mask held fixed each layer is smooth; all but renormalized attention are linear."""
    layer, arrays, more = made(name)
    y, record = layer.record(*arrays, **more)
    layer.stream.next()
    cotangent = normal(np.shape(y), seed=3)
    values = [*arrays, *layer.parameters.values()]
    grads = layer.backward(cotangent, record)
    grads = [*(grads if isinstance(grads, tuple) else (grads,)), *layer.gradients.values()]
    assert len(grads) == len(values)

    def loss():
        return float((layer.record(*arrays, again=record, **more)[0] * cotangent).sum())

    for k, (value, grad) in enumerate(zip(values, grads, strict=True)):
        direction, kept, h = normal(value.shape, seed=10 + k), value.copy(), 1e-6
        value += h * direction
        above = loss()
        value[...] = kept - h * direction
        below = loss()
        value[...] = kept
        assert (above - below) / (2 * h) == pytest.approx(float((grad * direction).sum()), rel=1e-6, abs=1e-7)


@ALL
def test_the_last_forward_is_the_first_backward(name):
    layer, arrays, more = made(name)
    records = [copy.deepcopy(layer).record(*arrays, **more)[1]._replace(offset=offset) for offset in range(3)]
    outputs = [layer.forward(*arrays, **more) for _ in range(3)]
    grad = normal(outputs[0].shape, seed=3)
    for record in reversed(records):
        got, want = layer.backward(grad), layer.backward(grad, record)
        for one, other in zip(got, want, strict=True):
            assert_same_bytes(one, other)
    with pytest.raises(RuntimeError, match="backward needs a forward pass in training mode"):
        layer.backward(grad)


@ALL
def test_a_pass_made_again_has_the_mask_of_its_record_and_draws_nothing(name):
    """Whatever the layer's seed and mode have become since."""
    layer, arrays, more = made(name)
    y, record = layer.record(*arrays, **more)
    assert (record.seed, record.offset, record.dropping) == (42, 0, True)
    before = bytes_of(layer.eval().seed(7).state_dict())
    z, same = layer.record(*arrays, again=record, **more)
    assert_same_bytes(y, z)
    assert bytes_of(layer.state_dict()) == before
    grad = normal(np.shape(y), seed=3)
    for one, other in zip(layer.backward(grad, same), layer.backward(grad, record), strict=True):
        assert_same_bytes(one, other)


@ALL
def test_between_the_passes_there_are_numbers_only(name):
    """No mask is stored: what a record holds on to is an argument of the forward pass."""
    layer, arrays, more = made(name)
    _, record = layer.record(*arrays, **more)
    given = {id(value) for value in [*arrays, *more.values(), *layer.parameters.values(), layer.current]}
    held = [value for value in [*record, *record.remembered.values()] if isinstance(value, np.ndarray)]
    assert {id(value) for value in held} <= given


@ALL
def test_outside_training_nothing_is_drawn_or_remembered(name):
    layer, arrays, more = made(name)
    first = layer.eval().forward(*arrays, **more)
    assert_same_bytes(layer.forward(*arrays, **more), first)
    assert layer.stream == fastdrop.Stream(42)
    with pytest.raises(RuntimeError, match="backward needs a forward pass in training mode"):
        layer.backward(first)
    _, record = layer.record(*arrays, **more)
    assert not record.dropping
    layer.backward(np.ones_like(first), record)  # a gradient outside training is to be had all the same


@ALL
def test_a_gradient_of_another_shape_is_refused(name):
    """With both shapes; also for a record that is given. The pass goes on waiting."""
    layer, arrays, more = made(name)
    y = layer.forward(*arrays, **more)
    _, record = layer.record(*arrays, **more)
    grad = np.ones((2, *y.shape))
    for given in ((), (record,)):
        with pytest.raises(ValueError, match="grad must have the shape of the output") as caught:
            layer.backward(grad, *given)
        assert f"{y.shape}; got shape {grad.shape}" in str(caught.value)
    layer.backward(np.ones_like(y))


@ALL
def test_evaluation_forgets_the_passes_of_training(name):
    layer, arrays, more = made(name)
    y = layer.forward(*arrays, **more)
    layer.eval().forward(*arrays, **more)
    for switched in (layer, layer.train()):
        with pytest.raises(RuntimeError, match="backward needs a forward pass in training mode"):
            switched.backward(np.ones_like(y))


def test_forward_passes_without_backward_passes_are_bounded():
    model, x = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.1), seed=42), normal(8)
    for _ in range(32):
        model.forward(x)
    with pytest.warns(RuntimeWarning, match="more than 32 forward passes of Sequential wait for a backward pass"):
        model.forward(x)
    for _ in range(17):
        model.forward(x)  # warns no more: a warning is an error here
    for _ in range(32):
        model.backward(x)
    with pytest.raises(RuntimeError, match="backward needs a forward pass"):
        model.backward(x)
    longer = nn.Dropout(0.5, seed=42)
    longer.max_pending = 50
    for _ in range(50):
        longer.forward(x)
    for offset in reversed(range(50)):
        assert_same_bytes(longer.backward(x), dropped(longer, x, offset, 0.5))


@pytest.mark.parametrize("value", ["no", 2, None, 0.0])
@pytest.mark.parametrize(
    "set_flag", [lambda layer, value: setattr(layer, "training", value), lambda layer, value: layer.eval(sampling=value)]
)
def test_flags_are_flags(set_flag, value):
    layer = nn.Dropout(0.5)
    with pytest.raises(TypeError, match=r"(training|sampling) must be True or False"):
        set_flag(layer, value)
    assert layer.training is True


@ALL
def test_rates_are_rates_or_are_not_there(name):
    layer, *_ = made(name)
    for attribute in ("p", "rate"):
        if hasattr(layer, attribute):
            value = np.asarray(getattr(layer, attribute))
            assert value.dtype == np.float64
            assert ((value >= 0) & (value <= 1)).all()
    without = ("VariationalDense", "AdaptiveDropout", "MultinomialDropout", "GaussianNoise", "UniformDropout", "Shifted")
    assert hasattr(layer, "rate") != name.startswith(without) or name.startswith("ADL")


def test_learned_rates():
    concrete = nn.ConcreteDropout(0.3)
    assert concrete.rate == pytest.approx(0.3)
    assert not hasattr(concrete, "p")
    assert concrete.temperature == 0.1
    concrete.parameters["p_logit"][...] = 0.0
    assert concrete.rate == 0.5
    variational = nn.VariationalDropout(np.ones((2, 2)), np.array(0.0))
    assert (variational.rate, variational.noise, hasattr(variational, "p")) == (0.5, "input", False)
    assert nn.GaussianDropout(log_alpha=0.0).rate == 0.5
    with pytest.raises(AttributeError, match=r"GaussianNoise has no rate; its stddev is 1\.5"):
        nn.GaussianNoise(1.5).rate  # noqa: B018


@ALL
def test_sampling_goes_on_dropping(name):
    layer, arrays, more = made(name)
    trained = [layer.forward(*arrays, **more) for _ in range(2)]
    layer.seed(42).forget()
    sampled = [layer.eval(sampling=True).forward(*arrays, **more) for _ in range(2)]
    for one, other in zip(trained, sampled, strict=True):
        assert_same_bytes(one, other)
    with pytest.raises(RuntimeError, match="backward needs a forward pass"):
        layer.backward(trained[0])
    assert not layer.train().sampling


def test_a_pass_that_fails_draws_nothing():
    layer = nn.Dropout(0.3, seed=42)
    with pytest.raises(TypeError, match="x must have a floating-point dtype"):
        layer.forward(np.arange(3))
    assert layer.stream == fastdrop.Stream(42)
    x = normal(4)
    layer.forward(x)
    with pytest.raises(TypeError, match="must have a floating-point dtype"):
        layer.backward(np.arange(4))
    assert_same_bytes(layer.backward(x), dropped(layer, x))  # it was still waiting


def test_a_backward_pass_has_the_rate_of_its_forward_pass():
    layer = nn.Dropout(schedules.Linear(0.0, 0.6, 3), seed=42)
    x = normal(200)
    for _ in range(3):
        layer.forward(x)
        layer.advance()
    assert layer.rate == 0.6
    for step in (2, 1, 0):
        want = fastdrop.dropout_backward(x, layer.p(step), seed=42, offset=step)
        assert_same_bytes(layer.backward(x), want)


def shifted(x, scores, beta=0.1, *, seed=None, offset=0, training=True):
    return x + beta * scores * offset


def shifted_backward(grad, scores, beta=0.1, *, sign=1, seed, offset=0, training=True):
    return sign * grad * beta * scores * offset


class Shifted(nn.Variant, forward=shifted, backward=shifted_backward, scheduled="beta"):
    pass


def test_a_variant_of_ones_own_may_have_a_rate_of_another_name_and_needs_its_arrays_again():
    layer, x, scores = Shifted(schedules.Linear(0.0, 1.0, 4), sign=-1, seed=fastdrop.Stream(1, 3)), np.ones(3), np.arange(3.0)
    layer.advance(2)
    np.testing.assert_array_equal(layer.forward(x, scores), 1 + 0.5 * scores * 3)
    np.testing.assert_array_equal(layer.backward(x), -0.5 * scores * 3)
    assert str(inspect.signature(Shifted)) == "(beta=0.1, *, sign=1, seed=None)"


def test_any_callable_is_a_schedule():
    layer = nn.Dropout(lambda step: 0.1 * step)
    layer.advance(4)
    assert layer.rate == 0.4


def test_probabilities_come_from_what_is_dropped_by_default():
    layer, x = nn.MultinomialDropout(5, seed=42), normal((6, 8))
    assert_same_bytes(layer.forward(x), fastdrop.multinomial_dropout(x, 5, seed=42))
    want = fastdrop.multinomial_dropout_backward(x, 5, theory.multinomial_probabilities(x), seed=42)
    assert_same_bytes(layer.backward(x), want)


def test_a_learned_rate_and_its_regularizer():
    layer, weights = nn.ConcreteDropout(0.3, seed=42), normal((5, 8))
    assert layer.rate == pytest.approx(0.3)
    value, of_weights = layer.regularize(weights, 8, dropout_regularizer=0.5)
    logit = layer.parameters["p_logit"]
    assert value == losses.concrete_regularizer(logit, weights, 8, dropout_regularizer=0.5)
    want = losses.concrete_regularizer_backward(logit, weights, 8, dropout_regularizer=0.5)
    assert layer.gradients["p_logit"] == want[0] != 0
    np.testing.assert_array_equal(of_weights, want[1])
    logit -= 1.0
    assert layer.rate < 0.2


@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_divergences_add_their_gradients(factor):
    """Against finite differences of what is returned."""
    layers = [
        nn.VariationalDense(normal((4, 3)), normal((4, 3), seed=1) - 2),
        nn.VariationalDropout(normal((4, 3)), np.full((4, 3), -1.5) + normal((4, 3), seed=1) / 4, "weight"),
        nn.VariationalDropout(normal((4, 3)), np.array(-1.5)),
    ]
    for layer in layers:
        assert layer.kl(factor) == factor * layer.kl(1.0) != 0
        layer.zero_gradients()
        layer.kl(factor)
        found = {name: value.copy() for name, value in layer.gradients.items()}
        for name, value in layer.parameters.items():
            direction, kept, h = normal(value.shape, seed=5), value.copy(), 1e-6
            value += h * direction
            above = layer.kl(factor)
            value[...] = kept - h * direction
            below = layer.kl(factor)
            value[...] = kept
            assert (above - below) / (2 * h) == pytest.approx(float((found[name] * direction).sum()), rel=1e-6, abs=1e-7)


def test_the_gradient_of_logits_is_to_be_had():
    x, logits = normal((6, 8)), normal((6, 8), seed=2)
    layer = nn.AdaptiveDropout(estimator="straight_through", seed=42)
    layer.forward(x, logits)
    want = fastdrop.adaptive_dropout_backward(x, logits, estimator="straight_through", x=x, seed=42)
    for one, other in zip(layer.backward(x), want, strict=True):
        assert_same_bytes(one, other)


# Models -------------------------------------------------------------------------------------------------------------


def model(seed=42):
    """Return layers with parameters, schedules with and without state, and a model in the model."""
    inner = nn.Sequential([nn.Dropout(schedules.Curriculum(0.5, 0.1)), nn.GroupDropout(0.2, group_size=2)])
    gap = schedules.ValidationDriven(0.2, target=0.1, gain=0.5).scaled(0.5)
    return nn.Sequential({"in": connect(), "middle": inner, "gap": nn.Dropout(gap), "out": nn.Dropout(0.1)}, seed=seed)


def trained(net, steps, first=0):
    """Train by gradient descent with fixed data, and return the outputs."""
    outputs = []
    for step in range(first, first + steps):
        y = net.forward(normal((4, 7), seed=100 + step))
        net.zero_gradients()
        net.backward(y / 10)
        for name, value in net.parameters.items():
            value -= 0.1 * net.gradients[name]
        net.children["gap"].p.schedule.update(1.0, 1.5 + 0.1 * (-1) ** step)
        net.advance()
        outputs.append(y)
    return outputs


def bytes_of(state):
    return {name: np.asarray(value).tobytes() for name, value in state.items()}


def test_each_layer_has_a_stream_of_its_full_name():
    net = model()
    root = fastdrop.Stream(42)
    names = {name: layer.stream for name, layer in net.walk() if isinstance(layer, nn.Variant)}
    assert names == {name: root.fold_in(name) for name in ("in", "middle.0", "middle.1", "gap", "out")}
    assert nn.Dropout(0.1).seed(42).stream == root
    assert nn.Dropout(0.1).seed(fastdrop.Key(42, 7)).stream == fastdrop.Stream(42, 7)
    own = nn.Sequential([nn.Dropout(0.1, seed=7)])
    assert own.children["0"].stream == fastdrop.Stream(7)  # a model without a seed leaves its layers theirs


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
    for key, error in (("3", KeyError), ("", KeyError), (3, IndexError)):
        with pytest.raises(error):
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


def test_forgetting_reaches_all_layers():
    net = model()
    net.forward(normal((4, 7)))
    net.children["middle"].children["0"].forward(normal(3))
    net.forget()
    for _, layer in net.walk():
        with pytest.raises(RuntimeError, match="backward needs a forward pass"):
            layer.backward(normal(3))


# State --------------------------------------------------------------------------------------------------------------


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


def test_a_state_of_another_format_is_refused():
    layer = nn.Dropout(0.5)
    with pytest.raises(ValueError, match="must have the format 1 of this version of fastdrop; got 2"):
        layer.load_state_dict(layer.state_dict() | {"format": np.array(2)})
    with pytest.raises(ValueError, match="missing: config, format"):
        layer.load_state_dict({key: value for key, value in layer.state_dict().items() if key not in ("config", "format")})


# Configurations -----------------------------------------------------------------------------------------------------


@ALL
def test_a_layer_is_made_again_from_its_configuration(name):
    layer, arrays, more = made(name)
    config = json.loads(json.dumps(layer.to_config(), allow_nan=False))
    again = nn.Layer.from_config(config)
    assert type(again) is type(layer)
    assert again.to_config() == config
    again.load_state_dict(layer.state_dict())
    assert_same_bytes(again(*arrays, **more), layer(*arrays, **more))


def test_a_model_is_made_again_from_its_configuration():
    net = model()
    config = json.loads(json.dumps(net.to_config(), allow_nan=False))
    again = nn.Sequential.from_config(config)
    trained(net, 3)
    assert net.to_config() == config  # what changes in training is state
    again.load_state_dict(net.state_dict())
    for one, other in zip(trained(net, 3, first=3), trained(again, 3, first=3), strict=True):
        assert_same_bytes(one, other)
    assert "GroupDropout" in repr(again)


class Scale(nn.Layer):
    """A layer of one's own, with an argument."""

    def __init__(self, factor, copies=1):
        super().__init__()
        self.factor = factor
        self.add_parameter("shift", np.zeros(copies))

    def own_config(self):
        return {"factor": self.factor}


@pytest.mark.parametrize(
    ("config", "error", "sentence"),
    [
        ({"class": "Dropuot", "p": 0.5}, ValueError, "no class Dropuot is a Layer; import the module that defines it first"),
        ({"p": 0.5}, TypeError, "must be a dictionary with the name of a class under 'class'"),
        ({"class": "Dropout", "rate": 0.5}, TypeError, "Dropout: got an unexpected keyword argument 'rate'"),
        ({"class": "Dropout", "p": 0.5}, ValueError, "mode is 'inverted' here, None in the configuration"),
        (lambda: nn.Dropout(lambda step: 0.5).to_config(), ValueError, "which a configuration cannot hold; use a Schedule"),
        (lambda: Scale(2.0, 3).to_config(), ValueError, "parameters.shift.shape is [1] here, [3] in the configuration"),
        ({"class": "Scale", "size": 3}, TypeError, "Scale must define own_config() and build(config) for its arguments"),
    ],
)
def test_a_configuration_that_cannot_be_followed(config, error, sentence):
    with pytest.raises(error) as caught:
        nn.Layer.from_config(config() if callable(config) else config)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("number", [Fraction(1, 4), Decimal("0.25"), np.longdouble(0.25)])
@pytest.mark.parametrize(
    "make",
    [
        lambda number: nn.Dropout(number),
        lambda number: nn.AlphaDropout(number, mean=number),
        lambda number: nn.UniformDropout(number),
        lambda number: nn.AdaptiveDropout(number, shift=number),
        lambda number: nn.TargetedDropout(0.5, fraction=number),
    ],
)
def test_numbers_that_json_cannot_hold_become_floats_in_a_configuration(make, number):
    layer = make(number)
    state = layer.state_dict()
    assert layer.to_config() == make(0.25).to_config()
    nn.Layer.from_config(layer.to_config()).load_state_dict(state)


@pytest.mark.parametrize("state", [None, 3, [], "x"])
def test_a_state_must_be_a_mapping(state):
    with pytest.raises(TypeError, match="the state must be a dictionary, as state_dict returns it; got"):
        nn.Dropout(0.5).load_state_dict(state)


@pytest.mark.parametrize("config", ["{", "-1", None, "[]"])
def test_the_configuration_in_a_state_must_be_json(config):
    layer = nn.Dropout(0.5)
    with pytest.raises(ValueError, match="the entry config of a state must be a configuration as JSON; got"):
        layer.load_state_dict(layer.state_dict() | {"config": config})


def test_a_configuration_has_one_class():
    assert nn.Layer.from_config(Scale(2.0).to_config()).factor == 2.0
    with pytest.raises(ValueError, match="no class Dropout is a AlphaDropout"):
        nn.AlphaDropout.from_config(nn.Dropout(0.5).to_config())
    with pytest.raises(TypeError, match="shared_axes cannot be written into a configuration"):
        nn.Dropout(0.5, shared_axes={0}).to_config()


# Descriptions -------------------------------------------------------------------------------------------------------


def test_a_description_has_what_a_model_card_needs():
    net = nn.Sequential(
        {
            "rates": nn.Dropout(np.linspace(0, 0.5, 5)),
            "gap": nn.DropBlock(schedules.Linear(0.0, 0.2, 10).clipped(0.1), 3),
            "learned": nn.ConcreteDropout(0.3),
            "noise": nn.GaussianNoise(2.0),
            "keys": nn.DropKey(0.1),
            "inner": nn.Sequential(nn.Dropout(0.5, mode="standard")),
        },
        seed=42,
    )
    table = nn.describe(net)
    rows = json.loads(table.to_json())
    assert [row["layer"] for row in rows] == ["rates", "gap", "learned", "noise", "keys", "inner.0"]
    assert [row["technique"] for row in rows][:3] == ["Dropout", "DropBlock", "ConcreteDropout"]
    assert [row["scaling"] for row in rows][-3:] == ["additive", "none", "standard"]
    assert rows[0]["rate"]["array"] == [0.0, 0.125, 0.25, 0.375, 0.5]
    assert (rows[1]["rate"], rows[1]["schedule"]["schedule"]["class"]) == (0.1, "Linear")
    assert rows[2]["rate"] == pytest.approx(0.3)
    assert (rows[3]["rate"], rows[3]["options"], rows[3]["paper"]) == (None, {"stddev": 2.0}, "")
    assert rows[5]["seed"] == fastdrop.Stream(42).fold_in("inner.0").seed
    assert {(row["stream"], row["version"]) for row in rows} == {(1, fastdrop.__version__)}
    assert rows[5]["paper"].endswith("JMLR 15 (2014) 1929-1958.")
    lines = table.to_markdown().splitlines()
    assert len(lines) == 2 + len(rows) == 2 + len(table)
    assert {line.count(" | ") for line in lines} == {9}
    assert "Clipped(schedule=Linear(start=0.0, end=0.2, steps=10, begin=0), low=0.1, high=1.0)" in lines[3]
    assert "| 0 to 0.5 |" in lines[2]
    assert (
        len(
            {
                line.index(str(seed))
                for line, seed in zip(repr(table).splitlines()[1:], (row.seed for row in table), strict=True)
            }
        )
        == 1
    )
    with pytest.raises(TypeError, match=r"model must be a fastdrop.nn.Layer; got 0.5"):
        nn.describe(0.5)


def test_a_rate_that_became_nan_is_described():
    table = nn.describe(nn.GaussianDropout(log_alpha=np.nan))
    assert "  nan  " in repr(table)
    assert json.loads(table.to_json())[0]["rate"] == {"float": "nan"}


def test_every_technique_with_a_paper_has_it_in_its_row():
    without = {nn.describe(make())[0].technique for make, *_ in CASES.values() if not nn.describe(make())[0].paper}
    assert without <= {"GaussianNoise", "GroupDropout", "ImportanceDropout", "WordDropout"}


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


# Bad input ----------------------------------------------------------------------------------------------------------

SHARED = nn.Dropout(0.1)


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: nn.Dropout(1.5), ValueError, "p must be in [0, 1], the probability of dropping; got 1.5"),
        (lambda: nn.ConcreteDropout(0.0), ValueError, "p, the initial rate, must be above 0 and below 1; got 0.0"),
        (lambda: nn.Dropout("0.5"), TypeError, "p must be"),
        (lambda: nn.Dropout(None), TypeError, "p must be"),
        (
            lambda: nn.Dropout(0.5, axes=2),
            TypeError,
            "Dropout: got an unexpected keyword argument 'axes'; it takes (p=0.5, *, mode=",
        ),
        (lambda: nn.GroupDropout(0.5), TypeError, "GroupDropout: missing a required"),
        (lambda: nn.Zoneout(), TypeError, "Zoneout: missing a required"),
        (lambda: nn.Dropout(0.5, seed=-1), ValueError, "seed must be an integer in [0, 2**64); got -1"),
        (lambda: nn.Dropout(lambda step: 1.5).forward(np.ones(3)), ValueError, "p must be in [0, 1]"),
        (lambda: nn.Sequential([nn.Dropout(), 0.5]), TypeError, "layers must be fastdrop.nn.Layer objects; got 0.5 as '1'"),
        (lambda: nn.Sequential({"a.b": nn.Dropout()}), ValueError, "not empty, without dots; got 'a.b'"),
        (lambda: nn.Sequential({"": nn.Dropout()}), ValueError, "not empty, without dots; got ''"),
        (lambda: nn.Sequential([SHARED, nn.Sequential([SHARED])]), ValueError, "the layers '0' and '1.0' are one and the same"),
        (lambda: nn.Variant(0.5), TypeError, "Variant has no forward and backward function"),
        (lambda: nn.Dropout().advance(-1), ValueError, "steps must be >= 0; got -1"),
        (lambda: nn.Layer().forward(1), NotImplementedError, "Layer must define record(x)"),
        (lambda: nn.Layer().gradient(1, 1), NotImplementedError, "Layer must define gradient(grad, record)"),
    ],
)
def test_bad_input_is_answered_by_a_sentence(make, error, sentence):
    with pytest.raises(error) as caught:
        make()
    assert sentence in str(caught.value)


def test_a_layer_says_what_it_is():
    assert repr(nn.DropBlock(0.1, 5)).startswith("DropBlock(0.1, block_size=5, exact_rate=False")
    assert "group_size" in str(inspect.signature(nn.GroupDropout))
    inner = nn.Sequential({"drop": nn.DropHead(0.2)})
    assert repr(nn.Sequential(nn.DropHead(0.1), inner)).splitlines() == [
        "Sequential(",
        "  (0): DropHead(0.1)",
        "  (1): Sequential(",
        "    (drop): DropHead(0.2)",
        "  )",
        ")",
    ]


@pytest.mark.parametrize("name", nn.__all__)
def test_docstrings_of_classes(name):
    """Each has an example that runs, and describes each argument that it is made with, and no other."""
    cls = getattr(nn, name)
    finder = doctest.DocTestFinder(recurse=False)
    for test in finder.find(cls, name, globs={}):
        assert doctest.DocTestRunner().run(test).failed == 0
        assert test.examples or name in ("Description", "Record")
    if hasattr(cls, "functions"):
        section = sections(cls.__doc__)[1]["Parameters"]
        headings = [line.partition(" : ")[0] for line in section.splitlines() if line[:1].strip()]
        assert headings == list(inspect.signature(cls).parameters)
        assert "As in the function." not in section


@pytest.mark.parametrize("module", [nn, schedules])
def test_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
