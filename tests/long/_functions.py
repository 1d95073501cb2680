"""All public functions by name, with the keywords that a random call gives them; layers and objects with a state included."""

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastdrop
from fastdrop import elementary, federated, losses, nn, schedules, theory, uncertainty

NOT_CALLED = {"using", "Key", "Stream", "show_config"}
SECOND_INPUTS = {"AdaptiveDropout", "ImportanceDropout", "Zoneout"}  # layers of two arrays
RATE_SCHEDULES = [name for name in schedules.__all__ if name[0].isupper() and name not in ("Schedule", "ValidationDriven")]
LAYERS = [name for name in nn.__all__ if inspect.isclass(getattr(nn, name)) and issubclass(getattr(nn, name), nn.Variant)]
LAYERS.remove("Variant")


@dataclass(frozen=True)
class Function:
    """A function, the keywords of a random call, and whether its result is the same each time."""

    call: Any
    words: tuple[str, ...]
    repeatable: bool = True

    @property
    def draws_a_mask(self):
        """Whether a call may get another backend, an output, a place."""
        return {"seed", "backend"} <= set(self.words)


def words_of(function, without=()):
    return tuple(
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in without and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    )


def setter(name):
    """Return a function that makes a setting and restores the one before."""

    def call(**given):
        before = getattr(fastdrop, name.replace("set_", "get_"))()
        try:
            getattr(fastdrop, name)(**given)
        finally:
            getattr(fastdrop, name)(before)

    return call


def used(name, backend, num_threads):
    with fastdrop.using(isa=name, backend=backend, num_threads=num_threads):
        return fastdrop.dropout_mask(9, 0.5, seed=1)


def layer(cls):
    """Return a function that makes a layer and runs both passes, in training or outside."""

    def call(inputs, second_input, grad, training, **own):
        made = cls(**own).train() if training is True else cls(**own).eval()
        y = made(inputs, second_input) if cls.__name__ in SECOND_INPUTS else made(inputs)
        return y, made.backward(np.ones_like(y) if np.shape(grad) != np.shape(y) else grad), made.describe_arguments()

    return call


def schedule(cls):
    """Return a function that makes a schedule and asks it for a rate."""

    def call(step, **own):
        made = cls(**own)
        return made(step), made.to_config().get("class")

    return call


def stream(seed, offset, n, data, state):
    made = fastdrop.Stream(seed, offset)
    keys = made.next(), made.spawn(n), made.fold_in(data)
    return keys, fastdrop.Stream.from_state_dict(state), made.state_dict()


def moments(x, samples, precision, targets):
    """Give an array to each of the reductions."""
    results = []
    for made in (uncertainty.Moments(), uncertainty.Regression(precision, targets), uncertainty.Samples()):
        for _ in range(2):
            made.update(x)
        results.append(made.count)
    return results


def classification(probabilities):
    made = uncertainty.Classification()
    made.update(probabilities)
    return made.predictive_entropy, made.mutual_information, made.variation_ratio, made.prediction


def validation_driven(p, target, gain, max_change, tolerance, low, high, number):
    made = schedules.ValidationDriven(
        p, target=target, gain=gain, max_change=max_change, tolerance=tolerance, low=low, high=high
    )
    return made.update(number, 1.0), made.state_dict()


def functions():
    """Return all functions by name."""
    found = {
        name: Function(getattr(fastdrop, name), words_of(getattr(fastdrop, name)))
        for name in fastdrop.__all__
        if name not in NOT_CALLED
    }
    for module in (elementary, losses, theory):
        found |= {name: Function(getattr(module, name), words_of(getattr(module, name))) for name in module.__all__}
    for module, skipped in ((uncertainty, ("plot_histograms", "mc_predict")), (federated, ()), (schedules, ("plot",))):
        for name in module.__all__:
            if not name[0].isupper() and name not in skipped:
                function = getattr(module, name)
                found[name] = Function(function, words_of(function, ("progress",)))
    for name in LAYERS:
        cls = getattr(nn, name)
        found[name] = Function(layer(cls), ("inputs", "second_input", "grad", "training", *words_of(cls)))
    for name in RATE_SCHEDULES:
        found[name] = Function(schedule(getattr(schedules, name)), ("step", *words_of(getattr(schedules, name))))
    for name in ("set_backend", "set_isa", "set_num_threads"):
        word = "number" if name == "set_num_threads" else "name"
        found[name] = Function(setter(name), (word,))
    found["using"] = Function(used, words_of(used))
    found["Key"] = Function(fastdrop.Key, ("seed", "offset"))
    found["Stream"] = Function(stream, words_of(stream))
    found["Moments"] = Function(moments, words_of(moments))
    found["Classification"] = Function(classification, words_of(classification))
    found["ValidationDriven"] = Function(validation_driven, words_of(validation_driven))
    return found


FUNCTIONS = functions()
