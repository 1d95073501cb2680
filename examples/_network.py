"""The layers without dropout that the examples need, a loss and an optimizer; fastdrop.nn has the dropout layers."""

from collections.abc import Iterator

import numpy as np

from fastdrop import nn
from fastdrop.elementary import exp, log

LAMBDA, ALPHA = 1.0507009873554805, 1.6732632423543772  # SELU's


class Dense(nn.Layer):
    """A linear layer along the last axis; `drop`, if given, is applied to its weights."""

    def __init__(self, inputs, outputs, rng, drop=None, gain=2.0):
        super().__init__()
        limit = (3 * gain / inputs) ** 0.5
        self.add_parameter("weight", rng.uniform(-limit, limit, (outputs, inputs)).T.astype(np.float32, order="C"))
        self.add_parameter("bias", np.zeros(outputs, np.float32))
        self.children = {} if drop is None else {"drop": drop}

    def record(self, x, again=None):
        weight, dropped = self.own_parameters["weight"], None
        if self.children:
            weight, dropped = self.children["drop"].record(weight, again=again and again[2])
        return x @ weight + self.own_parameters["bias"], (x, weight, dropped)

    def gradient(self, grad, record):
        x, weight, dropped = record
        rows = grad.reshape(-1, grad.shape[-1])
        of_weight = x.reshape(-1, x.shape[-1]).T @ rows
        if self.children:
            of_weight = self.children["drop"].gradient(of_weight, dropped)
        self.own_gradients["weight"] += of_weight
        self.own_gradients["bias"] += rows.sum(axis=0)
        return grad @ weight.T


class Relu(nn.Layer):
    """Rectified linear units."""

    def record(self, x, again=None):
        return np.maximum(x, 0), x > 0

    def gradient(self, grad, record):
        return grad * record


class Selu(nn.Layer):
    """Scaled exponential linear units, for alpha dropout."""

    def record(self, x, again=None):
        y = np.where(x > 0, LAMBDA * x, LAMBDA * ALPHA * np.expm1(np.minimum(x, 0)))
        return y, (x, y)

    def gradient(self, grad, record):
        x, y = record
        return grad * np.where(x > 0, LAMBDA, y + LAMBDA * ALPHA)


class Shaped(nn.Layer):
    """A layer that receives each sample in another shape; the result has the original shape."""

    def __init__(self, layer, shape):
        super().__init__()
        self.children, self.shape = {"inside": layer}, shape

    def record(self, x, again=None):
        y, made = self.children["inside"].record(x.reshape(len(x), *self.shape), again=again)
        return y.reshape(x.shape), made

    def gradient(self, grad, record):
        return self.children["inside"].gradient(grad.reshape(len(grad), *self.shape), record).reshape(grad.shape)


class Residual(nn.Layer):
    """x + drop(path(x)): a residual block whose path may be dropped."""

    def __init__(self, path, drop):
        super().__init__()
        self.children = {"path": path, "drop": drop}

    def record(self, x, again=None):
        path, made = self.children["path"].record(x, again=again and again[0])
        y, dropped = self.children["drop"].record(path, again=again and again[1], residual=x)
        return y, (made, dropped)

    def gradient(self, grad, record):
        made, dropped = record
        return grad + self.children["path"].gradient(self.children["drop"].gradient(grad, dropped), made)


def softmax(logits):
    """Return probabilities along the last axis."""
    powers = exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def cross_entropy(logits, labels):
    """Return the mean of -log p(label) over all rows, and its gradient with respect to the logits."""
    p = softmax(logits)
    at_labels = np.expand_dims(labels, -1)
    loss = -log(np.take_along_axis(p, at_labels, -1) + p.dtype.type(1e-30)).mean(dtype=np.float64)
    np.put_along_axis(p, at_labels, np.take_along_axis(p, at_labels, -1) - 1, -1)
    return float(loss), p / np.float32(labels.size)


class Adam:
    """The optimizer of Kingma and Ba; `clip` bounds the norm of the whole gradient."""

    def __init__(self, model, rate=1e-3, clip=None):
        self.model, self.rate, self.clip, self.steps = model, rate, clip, 0
        self.means = {name: np.zeros_like(value) for name, value in model.parameters.items()}
        self.squares = {name: np.zeros_like(value) for name, value in model.parameters.items()}

    def step(self):
        """Update the parameters, and set their gradients to 0."""
        self.steps += 1
        gradients = self.model.gradients
        if self.clip:
            norm = np.sqrt(sum(float((value * value).sum()) for value in gradients.values()))
            for value in gradients.values():
                value *= np.float32(min(1.0, self.clip / (norm + 1e-12)))
        rate = np.float32(self.rate * (1 - 0.999**self.steps) ** 0.5 / (1 - 0.9**self.steps))
        for name, value in self.model.parameters.items():
            gradient, mean, square = gradients[name], self.means[name], self.squares[name]
            mean += np.float32(0.1) * (gradient - mean)
            square += np.float32(0.001) * (gradient * gradient - square)
            value -= rate * mean / (np.sqrt(square) + np.float32(1e-8))
        self.model.zero_gradients()

    def state_dict(self):
        """Return the moments and the number of steps."""
        moments = {"mean": self.means, "square": self.squares}
        arrays = {f"{kind}.{name}": value.copy() for kind, all_ in moments.items() for name, value in all_.items()}
        return {"steps": self.steps, **arrays}

    def load_state_dict(self, state):
        """Restore a state that `state_dict` returned."""
        self.steps = int(state["steps"])
        for kind, arrays in {"mean": self.means, "square": self.squares}.items():
            for name, value in arrays.items():
                value[...] = state[f"{kind}.{name}"]


def train_step(model, optimizer, x, labels):
    """Update the parameters once, advance the schedules, and return the loss."""
    loss, grad = cross_entropy(model.forward(x), labels)
    model.backward(grad)
    optimizer.step()
    model.advance()
    return loss


def batches(n, size, rng) -> Iterator[np.ndarray]:
    """Yield the indices of n samples in random order, `size` at a time."""
    order = rng.permutation(n)
    for begin in range(0, n, size):
        yield order[begin : begin + size]
