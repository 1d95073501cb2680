"""One network trained three times, with equal masks at every step: in NumPy, in eager PyTorch and in compiled PyTorch.

The losses still drift apart, because matrix products are rounded differently. The example prints how far.

    python examples/one_mask.py

The example needs pip install ".[torch]".
"""

from __future__ import annotations

import sys

import numpy as np

import fastdrop

try:
    import torch

    import fastdrop.torch
except ImportError as error:
    sys.exit(f"this example needs PyTorch: {error}")

SEED, RATE, WIDTH, SHORT = 42, 0.3, 64, 20


def data(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return points, and a smooth function of them."""
    x = rng.standard_normal((256, 8)).astype(np.float32)
    return x, np.sin(x.sum(axis=1, keepdims=True)).astype(np.float32)


def weights(rng: np.random.Generator) -> list[np.ndarray]:
    """Return the matrices of a network with one hidden layer."""
    return [(rng.standard_normal(shape) / shape[0] ** 0.5).astype(np.float32) for shape in ((8, WIDTH), (WIDTH, 1))]


def numpy_step(step: int, x: np.ndarray, y: np.ndarray, parameters: list[np.ndarray]) -> tuple[float, np.ndarray]:
    """Take a step of descent; return the loss, and where 0 is."""
    first, second = parameters
    hidden = np.tanh(x @ first)
    dropped = fastdrop.dropout(hidden, RATE, seed=SEED, offset=step)
    error = dropped @ second - y
    grad = 2 * error / len(x)
    back = fastdrop.dropout_backward(grad @ second.T, RATE, seed=SEED, offset=step)
    first -= np.float32(0.05) * (x.T @ (back * (1 - hidden * hidden)))
    second -= np.float32(0.05) * (dropped.T @ grad)
    return float((error**2).mean()), dropped == 0


def torch_step(key: torch.Tensor, x: torch.Tensor, y: torch.Tensor, parameters: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Return the loss, and where 0 is; `key` is the seed and the step."""
    dropped = fastdrop.torch.dropout(torch.tanh(x @ parameters[0]), RATE, seed=key)
    return (dropped @ parameters[1] - y).square().mean(), dropped == 0


def train(forward: object, steps: int, start: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """Train with PyTorch; return each step's loss and mask."""
    parameters = [torch.from_numpy(each.copy()).requires_grad_() for each in start]
    optimizer, found = torch.optim.SGD(parameters, lr=0.05), []
    for step in range(steps):
        optimizer.zero_grad()
        loss, mask = forward(torch.tensor([SEED, step]), torch.from_numpy(x), torch.from_numpy(y), parameters)
        loss.backward()
        optimizer.step()
        found.append((loss.item(), mask.numpy()))
    return found


def main() -> None:
    """Train three times, and compare."""
    steps = SHORT if "--short" in sys.argv else 300
    rng = np.random.default_rng(1)
    x, y = data(rng)
    start = weights(rng)
    parameters = [each.copy() for each in start]
    runs = {
        "NumPy": [numpy_step(step, x, y, parameters) for step in range(steps)],
        "PyTorch": train(torch_step, steps, start, x, y),
        "PyTorch, compiled": train(torch.compile(torch_step), steps, start, x, y),
    }
    for step in range(steps):
        kept = fastdrop.dropout_mask((len(x), WIDTH), RATE, seed=SEED, offset=step)
        assert all((run[step][1] == ~kept).all() for run in runs.values())
    print(f"{steps} steps with the same masks; the last loss, and the largest distance from NumPy's on the way:")
    reference = np.array([loss for loss, _ in runs["NumPy"]])
    for name, run in runs.items():
        losses = np.array([loss for loss, _ in run])
        print(f"{name:18} {losses[-1]:.6f} {np.abs(losses - reference).max():.1e}")


if __name__ == "__main__":
    main()
