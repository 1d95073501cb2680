"""A training script gets its dropout from fastdrop by one added line, and a rate by one argument.

    python examples/training_argument.py [--plain]

The script is the `Trainer` of transformers if transformers and accelerate are installed. Otherwise, or with `--plain`, it is a
loop. The example needs pip install ".[torch]".
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile

try:
    import torch

    import fastdrop.torch
except ImportError as error:
    sys.exit(f"this example needs PyTorch: {error}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dropout", type=float, default=0.1, help="the rate of all dropout layers")
    parser.add_argument("--plain", action="store_true", help="a plain loop, without transformers")
    parser.add_argument("--short", action="store_true", help="a few steps only")
    return parser.parse_args()


def sentences(n: int) -> list[dict[str, torch.Tensor]]:
    """Return tokens and labels: whether token 1 comes more often than token 2."""
    tokens = torch.randint(0, 8, (n, 16), generator=torch.Generator().manual_seed(0))
    labels = ((tokens == 1).sum(1) > (tokens == 2).sum(1)).long()
    return [{"input_ids": each, "labels": label} for each, label in zip(tokens, labels, strict=True)]


class Model(torch.nn.Module):
    """A small Transformer, called as those of transformers are."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(8, 32)
        self.encoder = torch.nn.TransformerEncoderLayer(32, 2, 64, rate, batch_first=True)
        self.head = torch.nn.Linear(32, 2)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the loss."""
        logits = self.head(self.encoder(self.embedding(input_ids)).mean(1))
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


@fastdrop.torch.patched()  # the added line
def train(model: torch.nn.Module, data: list[dict[str, torch.Tensor]], steps: int, plain: bool) -> float:
    """Train as before; return the last loss, or Trainer's mean."""
    if not plain and all(map(importlib.util.find_spec, ("transformers", "accelerate"))):
        return train_with_trainer(model, data, steps)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(steps):
        batch = [data[(step * 16 + k) % len(data)] for k in range(16)]
        loss = model(**{key: torch.stack([each[key] for each in batch]) for key in batch[0]})["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def train_with_trainer(model: torch.nn.Module, data: list[dict[str, torch.Tensor]], steps: int) -> float:
    """Train with transformers."""
    from transformers import Trainer, TrainingArguments

    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(folder, max_steps=steps, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True)
        return float(Trainer(model, settings, train_dataset=data).train().training_loss)


def main() -> None:
    """Train with the rate of the command line."""
    given = arguments()
    torch.manual_seed(0)
    loss = train(Model(given.dropout).train(), sentences(256), 5 if given.short else 200, given.plain)
    print(f"dropout {given.dropout}: loss {loss:.4f}")


if __name__ == "__main__":
    main()
