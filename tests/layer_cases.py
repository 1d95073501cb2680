"""Layers to test: one or more of each variant, with arrays for them, and a model of several."""

import numpy as np
import pytest
from comparisons import normal, softmax

from fastdrop import nn, schedules

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
    "AttentionDropout": (lambda: nn.AttentionDropout(0.3), (softmax(normal((2, 3, 6, 6))),), {}),
    "AttentionDropout, columns": (lambda: nn.AttentionDropout(0.3, unit="key"), (softmax(normal((2, 3, 6, 6))),), {}),
    "AttentionDropout, windows": (lambda: nn.AttentionDropout(0.3, window=2), (softmax(normal((2, 3, 6, 6))),), {}),
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


def model(seed=42):
    """Return layers with parameters, schedules with and without state, and a model in the model."""
    inner = nn.Sequential([nn.Dropout(schedules.Curriculum(0.5, 0.1)), nn.GroupDropout(0.2, group_size=2)])
    gap = schedules.ValidationDriven(0.2, target=0.1, gain=0.5).scaled(0.5)
    return nn.Sequential({"in": connect(), "middle": inner, "gap": nn.Dropout(gap), "out": nn.Dropout(0.1)}, seed=seed)


def bytes_of(state):
    return {name: np.asarray(value).tobytes() for name, value in state.items()}


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
