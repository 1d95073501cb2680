"""Passes of layers: each against its functions and finite differences; their order; what they draw and remember."""

import copy
import inspect

import numpy as np
import pytest
from comparisons import assert_same_bytes, normal
from layer_cases import ALL, CASES, bytes_of, made

import fastdrop
from fastdrop import losses, nn, schedules, theory


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
    values = [*arrays, *(record.remembered[name] for name in layer.parameters)]  # a learned rate is that of the record
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
    given = {id(value) for value in [*arrays, *more.values(), *layer.parameters.values()]}
    np.testing.assert_array_equal(record.value, layer.current)
    learned = {name: record.remembered[name] for name in layer.learned if name in layer.parameters}
    np.testing.assert_equal(learned, {name: layer.parameters[name] for name in learned})
    held = [value for value in [*record[1:], *record.remembered.values()] if isinstance(value, np.ndarray)]
    assert {id(value) for value in held} - {id(value) for value in learned.values()} <= given


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


@pytest.mark.parametrize(
    ("make", "records", "sentence"),
    [
        (lambda: nn.Dropout(0.5, seed=1), [5, [], (0.5, 1, 0, True, {}, (3,))], "the record that record"),
        (
            lambda: nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5), seed=1),
            [5, [], [1, 2, 3]],
            "the list of 2 records that record",
        ),
        (lambda: nn.Sequential(nn.Dropout(0.5), seed=1), [[5]], "the record that record"),
        (lambda: nn.MultinomialDropout(2, seed=1), [5], "the record that record"),
    ],
)
def test_a_record_of_another_kind_is_refused(make, records, sentence):
    layer, x = make(), np.ones(3)
    before = bytes_of(layer.state_dict())
    for record in records:
        with pytest.raises(TypeError, match=f"again must be {sentence}"):
            layer.record(x, again=record)
        with pytest.raises(TypeError, match=f"record must be {sentence}"):
            layer.backward(x, record=record)
    assert bytes_of(layer.state_dict()) == before


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
    for most, rate in ((0.0, 0.5), (-np.log(3.0), 0.25), (None, 0.75)):
        bounded = nn.VariationalDropout(np.ones((2, 2)), np.array([np.log(3.0), -np.log(4.0)]), max_log_alpha=most)
        np.testing.assert_allclose(bounded.rate, [rate, 0.2], rtol=1e-15)
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


def test_a_backward_pass_has_the_rates_of_its_forward_pass_whatever_becomes_of_their_array():
    p, x = np.full(50, 0.5), normal(50)
    for layer in (nn.Dropout(p, seed=1), nn.Dropout(lambda step: p, seed=1)):
        p[:] = 0.5
        layer.forward(x)
        p[:] = 0
        layer.forward(x)
        later = 0.0 if callable(layer.p) else 0.5
        for offset, rate in ((1, later), (0, 0.5)):
            assert_same_bytes(layer.backward(x), fastdrop.dropout_backward(x, rate, seed=1, offset=offset))
    layer = nn.Dropout(np.full(50, 0.5), seed=1)
    layer.forward(x)
    layer.p[:] = 0
    assert_same_bytes(layer.backward(x), fastdrop.dropout_backward(x, 0.5, seed=1))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: nn.ConcreteDropout(0.3), "p_logit"),
        (lambda: nn.SpatialConcreteDropout(0.3), "p_logit"),
        (lambda: nn.GaussianDropout(log_alpha=np.linspace(-2, 0, 5)), "log_alpha"),
        (lambda: nn.VariationalDropout(normal((5, 4)), np.full(5, -1.0)), "log_alpha"),
    ],
)
def test_a_pass_keeps_the_learned_rates_that_it_had(make, name):
    layer, same, x = make().seed(1), make().seed(1), normal((6, 5))
    y, record = layer.record(x)
    layer.forward(x)
    same.forward(x)
    layer.parameters[name][...] += 0.5
    assert_same_bytes(layer.record(x, again=record)[0], y)
    assert_same_bytes(layer.backward(y), same.backward(y, same.record(x)[1]._replace(offset=1)))
    assert_same_bytes(layer.gradients[name], same.gradients[name])


def test_a_pass_keeps_the_options_that_it_had():
    axes, x = [0], np.ones((40, 30))
    layer = nn.Dropout(0.5, shared_axes=axes, seed=1)
    y = layer.forward(x)
    axes[0] = 1
    assert_same_bytes(layer.backward(x), y)
    assert layer.to_config()["shared_axes"] == [0]


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
    y, record = layer.record(x)
    layer.eval()
    assert_same_bytes(layer.record(x, again=record)[0], y)


def test_outside_training_no_probabilities_are_computed():
    layer, x = nn.MultinomialDropout(2).eval(), np.array([[np.inf, 1.0]])  # infinity has no share
    y, record = layer.record(x)
    assert y is x
    assert layer.backward(x, record) is x
    assert layer.eval(sampling=True)(x[:, 1:]) == 1
    with pytest.raises(ValueError, match="x must be finite"):
        layer(x)


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


@pytest.mark.parametrize("factor", [np.nan, np.inf, True, "2", None])
def test_the_factor_of_a_divergence_is_a_number(factor):
    for layer in (nn.VariationalDense(normal((4, 3)), normal((4, 3))), nn.VariationalDropout(normal((4, 3)), np.array(-1.5))):
        with pytest.raises((TypeError, ValueError), match="factor must be"):
            layer.kl(factor)
        assert not any(value.any() for value in layer.gradients.values())


def test_the_gradient_of_logits_is_to_be_had():
    x, logits = normal((6, 8)), normal((6, 8), seed=2)
    layer = nn.AdaptiveDropout(estimator="straight_through", seed=42)
    layer.forward(x, logits)
    want = fastdrop.adaptive_dropout_backward(x, logits, estimator="straight_through", x=x, seed=42)
    for one, other in zip(layer.backward(x), want, strict=True):
        assert_same_bytes(one, other)
