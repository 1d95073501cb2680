"""A gated recurrent unit with optional dropout of its state, for the examples."""

import numpy as np
from _network import Dense

from fastdrop import nn


def sigmoid(x):
    """Return 1 / (1 + exp(-x)), without overflow."""
    return np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1))


class Gru(nn.Layer):
    """A layer that reads sequences of shape (time, samples, inputs) and returns its states, (time, samples, units).

    `drop` is applied to the state before the matrix product. If `locked`, all steps use the mask of the first step (Gal and
    Ghahramani 2016); otherwise each step has a fresh mask. `zone`, if given, is applied to each new state and the previous one.
    """

    def __init__(self, inputs, units, rng, drop=None, locked=True, zone=None):
        super().__init__()
        self.units, self.locked = units, locked
        layers = {"input": Dense(inputs, 3 * units, rng, gain=1.0), "state": Dense(units, 3 * units, rng, gain=1.0)}
        layers |= {"drop": drop, "zone": zone}
        self.children = {name: layer for name, layer in layers.items() if layer is not None}

    def record(self, x, again=None):
        entering, made = self.children["input"].record(x)
        state, states, steps = np.zeros((x.shape[1], self.units), entering.dtype), [], []
        for t, gates in enumerate(entering):
            first = steps[0] if steps and self.locked else None
            state, step = self.step(state, gates, first, again and again[1][t])
            states.append(state)
            steps.append(step)
        return np.stack(states), (made, steps)

    def step(self, state, entering, first, again):
        """Return the next state, and the record for its gradient."""
        dropped, before = None, state
        if "drop" in self.children:
            before, dropped = self.children["drop"].record(
                state, again=again["dropped"] if again else first and first["dropped"]
            )
        leaving, made = self.children["state"].record(before)
        update, reset = (
            sigmoid(entering[:, part] + leaving[:, part]) for part in (slice(0, self.units), slice(self.units, 2 * self.units))
        )
        inner = leaving[:, 2 * self.units :]
        candidate = np.tanh(entering[:, 2 * self.units :] + reset * inner)
        new, zoned = candidate + update * (state - candidate), None
        if "zone" in self.children:
            new, zoned = self.children["zone"].record(new, state, again=again and again["zoned"])
        kept = {"dropped": dropped, "zoned": zoned, "made": made, "state": state}
        return new, kept | {"update": update, "reset": reset, "inner": inner, "candidate": candidate}

    def gradient(self, grad, record):
        made, steps = record
        entering, carried = [], np.zeros_like(grad[0])
        for step, of_output in zip(reversed(steps), grad[::-1], strict=True):
            carried, of_gates = self.step_gradient(carried + of_output, step)
            entering.append(of_gates)
        return self.children["input"].gradient(np.stack(entering[::-1]), made)

    def step_gradient(self, grad, step):
        """Return the gradients with respect to the previous state and to the inputs of the gates."""
        past = 0
        if "zone" in self.children:
            grad, past = self.children["zone"].gradient(grad, step["zoned"])
        update, reset, candidate = step["update"], step["reset"], step["candidate"]
        of_candidate = grad * (1 - update) * (1 - candidate * candidate)
        of_update = grad * (step["state"] - candidate) * update * (1 - update)
        of_reset = of_candidate * step["inner"] * reset * (1 - reset)
        entering = np.concatenate([of_update, of_reset, of_candidate], axis=1)
        leaving = np.concatenate([of_update, of_reset, of_candidate * reset], axis=1)
        before = self.children["state"].gradient(leaving, step["made"])
        if "drop" in self.children:
            before = self.children["drop"].gradient(before, step["dropped"])
        return before + grad * update + past, entering
