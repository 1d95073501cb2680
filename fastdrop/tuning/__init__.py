"""Search for dropout rates: with cross-validation in studies that are stored and continued, or by training the rates.

`search` and `nearest` need Optuna: ``pip install "fastdrop-kernels[tuning]"``.

`search` chooses values by name: rates of layers, techniques, or any other argument of a training function. It keeps
studies in a file (SQLite) together with a description of their data. A new study first tries the best choices of the earlier
studies whose data are most similar, which is a practical form of meta-learning. `learned_rates` trains the rates together with
the weights.

Examples
--------
>>> from fastdrop.tuning import search
>>> def train(fold, input, hidden):  # returns the score on the fold, for example the accuracy
...     return 1 - (input - 0.1) ** 2 - (hidden - 0.4) ** 2
>>> found = search(train, {"input": (0.0, 0.5), "hidden": [0.2, 0.4, 0.6]}, trials=30, folds=2, seed=42)
>>> found.best["hidden"], abs(found.best["input"] - 0.1) < 0.05
(0.4, True)
"""

from fastdrop.tuning.bilevel import Learned, learned_rates
from fastdrop.tuning.descriptions import describe, distance
from fastdrop.tuning.studies import Trial, Tuned, nearest, search

__all__ = ["Learned", "Trial", "Tuned", "describe", "distance", "learned_rates", "nearest", "search"]
