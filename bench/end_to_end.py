"""The cost of dropout in training: a PyTorch step without dropout, with `torch.nn.Dropout`, and with fastdrop.

There are two small networks on scikit-learn's digits: a perceptron with two hidden layers, and one Transformer encoder layer
over the 64 pixels. A step is a forward pass, a backward pass and an update.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import fastdrop

from .contender import SEED, Adapter, Call, Contender, Job
from .data import digits

WIDTH, BATCH = 1024, 512  # the perceptron
MODEL, HEADS, INNER, SENTENCES = 128, 4, 512, 64  # the encoder


def seeded_layers(p: float) -> Callable[[], Any]:
    """Return a function that makes fastdrop's layers for PyTorch, each with a seed of its own."""
    adapter, layers = importlib.import_module("fastdrop.torch"), itertools.count()
    return lambda: adapter.Dropout(p, seed=fastdrop.fold_in(SEED, next(layers)))


def layers_of(torch: Any, kind: str, p: float) -> Callable[[], Any]:
    """Return the function that makes dropout layers of one of three kinds."""
    kinds: dict[str, Callable[[], Any]] = {
        "none": torch.nn.Identity,
        "torch": partial(torch.nn.Dropout, p),
        "fastdrop": seeded_layers(p),
    }
    return kinds[kind]


def perceptron(torch: Any, dropout: Callable[[], Any]) -> tuple[Any, Any, Any]:
    """Return a perceptron, a batch and its labels."""
    nn = torch.nn
    hidden = [nn.Linear(64, WIDTH), nn.ReLU(), dropout(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), dropout()]
    pixels, labels = digits()
    return nn.Sequential(*hidden, nn.Linear(WIDTH, 10)), torch.from_numpy(pixels[:BATCH]), torch.from_numpy(labels[:BATCH])


def encoder(torch: Any, dropout: Callable[[], Any]) -> tuple[Any, Any, Any]:
    """Return a Transformer encoder layer between an embedding of pixels and a classifier, a batch and its labels."""
    nn, functional = torch.nn, torch.nn.functional

    class Encoder(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.place = nn.Linear(1, MODEL), nn.Parameter(torch.randn(64, MODEL) * 0.02)
            self.queries, self.back = nn.Linear(MODEL, 3 * MODEL), nn.Linear(MODEL, MODEL)
            self.before, self.after = nn.LayerNorm(MODEL), nn.LayerNorm(MODEL)
            self.inner, self.outer, self.classes = nn.Linear(MODEL, INNER), nn.Linear(INNER, MODEL), nn.Linear(MODEL, 10)
            self.drops = nn.ModuleList(dropout() for _ in range(4))

        def attend(self, x: Any) -> Any:
            heads = self.queries(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
            query, key, value = heads
            weights = functional.softmax(query @ key.mT / (MODEL // HEADS) ** 0.5, dim=-1)
            return self.back((self.drops[0](weights) @ value).transpose(1, 2).flatten(-2))

        def forward(self, pixels: Any) -> Any:
            x = self.embedding(pixels[..., None]) + self.place
            x = x + self.drops[1](self.attend(self.before(x)))
            x = x + self.drops[3](self.outer(self.drops[2](functional.relu(self.inner(self.after(x))))))
            return self.classes(x.mean(1))

    pixels, labels = digits()
    return Encoder(), torch.from_numpy(pixels[:SENTENCES]), torch.from_numpy(labels[:SENTENCES])


def step(network: Any, kind: str, job: Job) -> Call:
    """Return a call that does one training step."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(job.threads)
    torch.manual_seed(SEED)
    require_gradient(torch, job.p)
    made, x, labels = network(torch, layers_of(torch, kind, job.p))
    optimizer = torch.optim.SGD(made.parameters(), lr=1e-2)

    def call() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(made(x), labels)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return call


def require_gradient(torch: Any, p: float) -> None:
    """Check that the layer drops the same elements as `fastdrop.dropout`, in both directions."""
    x = torch.arange(1.0, 1001.0, requires_grad=True)
    layer, seed = seeded_layers(p)(), fastdrop.fold_in(SEED, 0)
    y = layer(x)
    (grad,) = torch.autograd.grad(y.sum(), x)
    np.testing.assert_array_equal(y.detach().numpy(), fastdrop.dropout(x.detach().numpy(), p, seed=seed))
    np.testing.assert_array_equal(grad.numpy() * x.detach().numpy(), y.detach().numpy())


def contender(kind: str, label: str, role: str) -> Contender:
    works = {"perceptron step": partial(step, perceptron, kind), "encoder step": partial(step, encoder, kind)}
    return Contender(f"step-{kind}", label, works, frozenset({"float32"}), role)


ADAPTER = Adapter(
    (
        contender("none", "the step without dropout", "yardstick"),
        contender("torch", "with torch.nn.Dropout", "peer"),
        contender("fastdrop", "with fastdrop's masks", "fastdrop"),
    ),
    module="torch",
    distributions=("torch",),
)
