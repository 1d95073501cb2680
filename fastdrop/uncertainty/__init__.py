"""What a network does not know, read off its dropout: passes with the masks on, and what they say together.

`mc_predict` runs any forward pass many times and reduces the results as they come, so that memory holds one pass and the
statistics; `mc_dropout` does the same for a bare activation at the price of drawing the masks. Then: predictive mean and
variance, entropies and what follows from them, calibration, and detection of what is unlike the training data.

All up to the entropies and likelihoods are sums in a fixed order, of functions that have the same bits everywhere
(`fastdrop.elementary`): the same to the bit for any backend and number of threads and on every machine, as far as the forward
pass is.

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

from fastdrop.uncertainty.passes import (
    Classification,
    Moments,
    Reduction,
    Regression,
    Samples,
    entropy,
    mc_dropout,
    mc_predict,
    model_precision,
    pass_seed,
)
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
