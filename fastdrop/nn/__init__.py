"""Layers: one class per variant, with the passes, modes and state that training needs.

Each layer calls two functions of `fastdrop`. Between a forward pass and its backward pass it stores the seed, the offset and
the rate, and no mask. These layers only drop; build networks from `Layer` and `Sequential`, or without them.

Examples
--------
>>> import numpy as np
>>> from fastdrop import nn, schedules
>>> model = nn.Sequential({"input": nn.Dropout(0.2), "hidden": nn.Dropout(schedules.Linear(0.0, 0.5, 100))}, seed=42)
>>> x = np.ones((2, 4), np.float32)
>>> for step in range(100):
...     y = model(x)
...     dx = model.backward(np.ones_like(y))
...     model.advance()
>>> model["hidden"].rate
0.5
>>> bool((model.eval()(x) == x).all())
True
>>> state = model.state_dict()  # for numpy.savez; load_state_dict continues from there, to the bit
>>> state["hidden.step"], state["hidden.stream.offset"]
(100, 100)
"""

from fastdrop.nn import _variants
from fastdrop.nn._variants import *  # noqa: F403
from fastdrop.nn.description import Description, describe
from fastdrop.nn.layer import Layer
from fastdrop.nn.sequential import Sequential
from fastdrop.nn.variant import Record, Variant

__all__ = ["Description", "Layer", "Record", "Sequential", "Variant", "describe", *_variants.__all__]
