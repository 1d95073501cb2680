"""A dense layer trained with noise of a learned size: it learns, its rates move as they should, and to the same bits."""

import numpy as np
import pytest
from comparisons import assert_same_bytes

import fastdrop
from fastdrop import losses, theory

EXAMPLES, WIDTH = 2048, 32  # 65 536 elements: the fewest that two threads share
VARIANCE = 0.25  # of the targets about what the inputs say
STEPS, RATE = 300, 0.1
BATCH = 128  # examples of a step, but of every 25th, which takes all


@pytest.fixture(scope="module")
def data():
    """Return inputs, targets that a quarter of the weights make of them, targets that nothing makes, and those weights."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((EXAMPLES, WIDTH)).astype(np.float32)
    weights = np.where(rng.random((WIDTH, WIDTH)) < 0.25, rng.choice([-1.0, 1.0], (WIDTH, WIDTH)), 0)
    noise = np.sqrt(VARIANCE) * rng.standard_normal((EXAMPLES, WIDTH))
    return x, (x @ weights + noise).astype(np.float32), noise.astype(np.float32), weights != 0


def fit(y, target):
    """Return the mean over examples of minus the log likelihood, but for its constant, and the gradient."""
    error = y - target
    return 0.5 * float((error * error).sum(dtype=np.float64)) / (VARIANCE * len(y)), error / np.float32(VARIANCE * len(y))


def concrete(x, target, step, weights, rate):
    key = {"seed": 1, "offset": step}
    regularizer = (rate, weights, WIDTH)
    factors = {"weight_regularizer": 1e-4, "dropout_regularizer": 0.05}
    dropped = fastdrop.concrete_dropout(x, rate, **key)
    loss, grad = fit(dropped @ weights, target)
    _, drate = fastdrop.concrete_dropout_backward(grad @ weights.T, x, rate, **key)
    drate_too, dweights = losses.concrete_regularizer_backward(*regularizer, **factors)
    loss += losses.concrete_regularizer(*regularizer, **factors)
    return loss, (dropped.T @ grad + dweights, drate + drate_too)


def gaussian(x, target, step, weights, rate):
    """`rate` is log alpha, of all inputs."""
    key = {"seed": 2, "offset": step}
    noisy = fastdrop.gaussian_dropout(x, log_alpha=rate, **key)
    loss, grad = fit(noisy @ weights, target)
    _, drate = fastdrop.gaussian_dropout_backward(grad @ weights.T, x=x, log_alpha=rate, **key)
    loss += losses.variational_kl(rate, "kingma", shape=weights.shape) / EXAMPLES
    drate = drate + losses.variational_kl_backward(rate, "kingma", shape=weights.shape) / EXAMPLES
    return loss, (noisy.T @ grad, drate)


def sparse(x, target, step, weights, log_sigma2):
    key = {"seed": 3, "offset": step}
    loss, grad = fit(fastdrop.variational_dense(x, weights, log_sigma2, **key), target)
    _, *gradients, _ = fastdrop.variational_dense_backward(grad, x, weights, log_sigma2, **key)
    log_alpha = theory.log_alpha(weights, log_sigma2)
    slopes = losses.variational_kl_backward(log_alpha) / EXAMPLES
    loss += losses.variational_kl(log_alpha) / EXAMPLES
    more = theory.log_alpha_backward(slopes, weights, log_sigma2)
    return loss, [one + other for one, other in zip(gradients, more, strict=True)]


START = {concrete: np.array(-1.0), gaussian: np.array(-1.0), sparse: np.full((WIDTH, WIDTH), -6, np.float32)}


def train(model, x, target, start=None):
    """Return the losses and the two parameters after steps of Adam, shorter and shorter, from small weights."""
    weights = 0.1 * np.random.default_rng(1).standard_normal((WIDTH, WIDTH))
    parameters = [weights.astype(np.float32), START[model] if start is None else start]
    means, squares = ([np.zeros_like(one) for one in parameters] for _ in range(2))
    losses = []
    for step in range(1, STEPS + 1):
        begin = step * BATCH % EXAMPLES
        batch = slice(None) if step % 25 == 0 else slice(begin, begin + BATCH)
        loss, gradients = model(x[batch], target[batch], step, *parameters)
        losses.append(float(loss))
        for k, gradient in enumerate(gradients):
            gradient = np.asarray(gradient, parameters[k].dtype)
            means[k] = 0.9 * means[k] + 0.1 * gradient
            squares[k] = 0.99 * squares[k] + 0.01 * gradient * gradient
            size = np.sqrt(squares[k] / (1 - 0.99**step)) + 1e-8
            parameters[k] = parameters[k] - RATE * (1 - step / STEPS) * (means[k] / (1 - 0.9**step)) / size
    return np.array(losses), *parameters


@pytest.fixture(scope="module")
def trained(data):
    """Return what one thread of the C backend makes of each model."""
    with fastdrop.using(backend="c", num_threads=1):
        return {model: train(model, *data[:2]) for model in START}


@pytest.mark.parametrize("model", START)
def test_the_loss_falls(trained, model):
    losses = trained[model][0]
    assert losses[-20:].mean() < losses[:5].mean() / 10


@pytest.mark.parametrize("model", [concrete, gaussian])
def test_the_rate_falls_where_the_inputs_matter_and_rises_where_not(data, trained, model):
    x, _, unrelated, _ = data
    assert trained[model][2] < START[model] - 3
    assert train(model, x, unrelated, start=np.array(-4.0))[2] > -3


def test_the_rates_of_weights_rise_where_they_do_not_matter(data, trained):
    x, target, _, matters = data
    _, weights, log_sigma2 = trained[sparse]
    before, after = np.median(START[sparse] - np.log(0.1**2)), theory.log_alpha(weights, log_sigma2)
    assert np.median(after[matters]) < before - 3
    assert np.median(after[~matters]) > before + 3
    _, kept = theory.prune(weights, log_sigma2)
    assert kept[matters].all()
    assert kept[~matters].mean() < 0.75
    least = 0.5 * WIDTH  # the mean loss of the weights that made the targets
    assert fit(fastdrop.variational_dense(x, weights, log_sigma2, training=False), target)[0] < 1.1 * least


@pytest.mark.parametrize("settings", [{"num_threads": 2}, {"backend": "numpy"}], ids=["2 threads", "numpy"])
@pytest.mark.parametrize("model", START)
def test_the_same_bits(data, trained, model, settings):
    with fastdrop.using(**settings):
        again = train(model, *data[:2])
    for got, want in zip(again, trained[model], strict=True):
        assert_same_bytes(np.asarray(got), np.asarray(want))
