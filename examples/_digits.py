"""The digits task: five folds with few labels, some of which are wrong; training and evaluation of a network."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from _network import Adam, batches, softmax, train_step
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold, train_test_split

from fastdrop import fold_in
from fastdrop.schedules import ValidationDriven

LABELS, WRONG, MONITORED, BATCH, SEED = 200, 0.1, 200, 20, 42  # labels per fold, share of wrong ones, samples to watch the gap


@dataclass(frozen=True)
class Fold:
    """Samples for training, for controlling a rate, and for validation: images of 64 numbers in [0, 1], and classes."""

    number: int
    training: tuple[np.ndarray, np.ndarray]
    monitored: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]

    @property
    def seed(self):
        """The seed of this fold."""
        return fold_in(SEED, self.number)


@dataclass(frozen=True)
class Outcome:
    """Losses and accuracies after training, and the time per step."""

    training_loss: float
    validation_loss: float
    training_accuracy: float
    validation_accuracy: float
    step_seconds: float

    @property
    def gap(self):
        """The generalization gap: validation loss minus training loss."""
        return self.validation_loss - self.training_loss


def folds(number: int) -> Iterator[Fold]:
    """Yield the first `number` of five folds; training labels are few and partly wrong, validation labels are true."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    for k, (rest, validation) in enumerate(StratifiedKFold(5, shuffle=True, random_state=SEED).split(x, y)):
        if k == number:
            return
        chosen, rest = train_test_split(rest, train_size=LABELS, stratify=y[rest], random_state=k)
        monitored, _ = train_test_split(rest, train_size=MONITORED, stratify=y[rest], random_state=k)
        rng = np.random.default_rng([SEED, k])
        wrong = rng.permutation(LABELS)[: int(WRONG * LABELS)]
        labels = y[chosen].copy()
        labels[wrong] = (labels[wrong] + rng.integers(1, 10, len(wrong))) % 10
        yield Fold(k, (x[chosen], labels), (x[monitored], y[monitored]), (x[validation], y[validation]))


def steps_of(epochs: int) -> int:
    """Return the number of updates in this many epochs."""
    return epochs * -(-LABELS // BATCH)


def predict(model, x, samples=0):
    """Return the probabilities of one pass without dropout, or the mean of `samples` passes with dropout."""
    passes = [softmax(model.eval(sampling=bool(samples)).forward(x)) for _ in range(samples or 1)]
    model.train()
    return sum(passes) / len(passes)


def scored(p, labels):
    """Return the cross-entropy and the accuracy of probabilities."""
    at_labels = p[np.arange(len(p)), labels]
    return float(-np.log(at_labels + 1e-12).mean(dtype=np.float64)), float((p.argmax(axis=1) == labels).mean())


def outcome(predicted, fold: Fold, step_seconds: float) -> Outcome:
    """Return the losses and accuracies of a function that predicts probabilities."""
    (training_loss, training_accuracy), (validation_loss, validation_accuracy) = (
        scored(predicted(x), labels) for x, labels in (fold.training, fold.validation)
    )
    return Outcome(training_loss, validation_loss, training_accuracy, validation_accuracy, step_seconds)


def train(model, fold: Fold, epochs: int, samples: int = 0) -> Outcome:
    """Train a model on a fold."""
    seconds = sum(train_epochs(model, fold, epochs))
    return outcome(lambda images: predict(model, images, samples), fold, seconds / steps_of(epochs))


def train_epochs(model, fold: Fold, epochs: int, clock: Callable[[], float] = time.perf_counter) -> Iterator[float]:
    """Train a model on a fold, and yield the seconds of each epoch; rates that follow the gap then receive the losses."""
    x, labels = fold.training
    driven = {id(layer.p): layer.p for _, layer in model.walk() if isinstance(getattr(layer, "p", None), ValidationDriven)}
    optimizer, rng = Adam(model), np.random.default_rng([SEED, fold.number])
    for _ in range(epochs):
        began = clock()
        for chosen in batches(len(x), BATCH, rng):
            train_step(model, optimizer, x[chosen], labels[chosen])
        seconds = clock() - began
        for schedule in driven.values():
            losses = (scored(predict(model, images), classes)[0] for images, classes in (fold.training, fold.monitored))
            schedule.update(*losses)
        yield seconds


def train_in_torch(weights, p: float, fold: Fold, epochs: int) -> Outcome:
    """Train the same network of dense layers in PyTorch, from the same weights and with the same batches."""
    import torch

    torch.manual_seed(fold.number)
    torch.set_num_threads(1)
    layers = []
    for weight in weights:
        dense = torch.nn.Linear(*weight.shape)
        with torch.no_grad():
            dense.weight.copy_(torch.from_numpy(weight.T))
            dense.bias.zero_()
        layers += [dense, torch.nn.ReLU(), torch.nn.Dropout(p)]
    model = torch.nn.Sequential(*layers[:-2])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, labels = map(torch.from_numpy, fold.training)
    rng = np.random.default_rng([SEED, fold.number])
    began = time.perf_counter()
    for _ in range(epochs):
        for chosen in map(torch.from_numpy, batches(len(x), BATCH, rng)):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[chosen]), labels[chosen]).backward()
            optimizer.step()
    seconds = (time.perf_counter() - began) / steps_of(epochs)
    model.eval()
    with torch.no_grad():
        return outcome(lambda images: model(torch.from_numpy(images)).softmax(dim=1).numpy(), fold, seconds)
