"""Monitoring of training: the rate, the dropped share, moments and gradients per layer, and the losses.

A `Monitor` writes one line of JSON per observation, at once. So the file can be read while training runs, and after the
process was killed. `read` reads the file, and `plot` draws it.

Examples
--------
>>> import numpy as np, fastdrop
>>> from fastdrop.monitor import Monitor
>>> monitor = Monitor()  # with a path: writes to a file
>>> x = np.arange(1, 1001, dtype=np.float32)
>>> seen = monitor.layer("hidden", before=x, after=fastdrop.dropout(x, 0.2, seed=42), rate=0.2)
>>> seen["rate"], round(seen["dropped"], 2), round(seen["variance_shift"], 2)
(0.2, 0.18, 0.51)
>>> monitor.losses(training=0.3, validation=0.5)["gap"]
0.2
"""

from __future__ import annotations

from fastdrop.monitor.files import read
from fastdrop.monitor.monitor import Monitor
from fastdrop.monitor.plots import plot

__all__ = ["Monitor", "plot", "read"]
