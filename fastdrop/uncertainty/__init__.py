"""Uncertainty of a network's predictions, estimated by Monte Carlo dropout: many forward passes with dropout on.

`mc_predict` runs any forward pass many times and reduces the results one by one, so that memory holds one result and the
statistics. `mc_dropout` computes the same statistics for a single activation from counts of its masks, which is faster. Further
functions give the predictive mean and variance, entropies and measures derived from them, the calibration of a classifier, and
how well a score detects inputs that differ from the training data.

The statistics, entropies and likelihoods are sums in a fixed order of functions that have the same bits everywhere
(`fastdrop.elementary`). They are the same to the bit for any backend, number of threads and machine, if the results of the
forward pass are.

Examples
--------
>>> import numpy as np, fastdrop
>>> from fastdrop.uncertainty import mc_predict
>>> weights = np.ones((4, 2), np.float32)
>>> def forward(x, stream):
...     return fastdrop.dropout(x, 0.5, seed=stream) @ weights
>>> found = mc_predict(forward, np.ones((3, 4), np.float32), samples=50, seed=42)
>>> found.count, found.mean.shape, bool(abs(found.mean - 4).max() < 1)
(50, (3, 2), True)
"""

from fastdrop.uncertainty.measures import entropy, model_precision
from fastdrop.uncertainty.passes import mc_dropout, mc_predict, pass_seed
from fastdrop.uncertainty.reductions import Classification, Moments, Reduction, Regression, Samples
from fastdrop.uncertainty.reliability import Calibration, calibration, ood_auroc, plot_histograms

__all__ = [
    "Calibration",
    "Classification",
    "Moments",
    "Reduction",
    "Regression",
    "Samples",
    "calibration",
    "entropy",
    "mc_dropout",
    "mc_predict",
    "model_precision",
    "ood_auroc",
    "pass_seed",
    "plot_histograms",
]
