"""Finding rates: search with cross-validation that can be stopped and goes on, and learns from earlier searches.

Needs Optuna: ``pip install "fastdrop-kernels[tuning]"``.

Whatever is searched for is given by name: rates of layers, variants, anything that a training function takes. Studies are
kept in a file (SQLite) together with a description of their data; a new one first tries what was best on the data most
like its own. That is the practical form of meta-learned rates. `learned_rates` trains them instead, with the weights.

Examples
--------
>>> from fastdrop.tuning import search
>>> def train(fold, input, hidden):  # returns the accuracy on the fold, say
...     return 1 - (input - 0.1) ** 2 - (hidden - 0.4) ** 2
>>> found = search(train, {"input": (0.0, 0.5), "hidden": [0.2, 0.4, 0.6]}, trials=30, folds=2, seed=42)
>>> found.best["hidden"], abs(found.best["input"] - 0.1) < 0.05
(0.4, True)
"""

from fastdrop.tuning.bilevel import Learned, learned_rates
from fastdrop.tuning.studies import Trial, Tuned, describe, distance, nearest, search

__all__ = ["Learned", "Trial", "Tuned", "describe", "distance", "learned_rates", "nearest", "search"]
