"""Layers: a class for each variant, with the passes, modes and state that training needs.

Each layer only calls the functions of `fastdrop`. Between a forward and its backward pass it keeps numbers, no mask: the
seed, the offset and the rate. This is for what drops; networks are yours, of `Layer` and `Sequential` or without them.

Examples
--------
>>> import numpy as np
>>> from fastdrop import nn, schedules
>>> model = nn.Sequential({"input": nn.Dropout(0.2), "hidden": nn.Dropout(schedules.Linear(0.0, 0.5, 100))}, seed=42)
>>> x = np.ones((2, 4), np.float32)
>>> for step in range(100):
...     y = model.forward(x)
...     dx = model.backward(np.ones_like(y))
...     model.advance()
>>> model.children["hidden"].rate
0.5
>>> bool((model.eval().forward(x) == x).all())
True
>>> state = model.state_dict()  # for numpy.savez; load_state_dict goes on from there, to the bit
>>> state["hidden.step"], state["hidden.stream.offset"]
(100, 100)
"""

from fastdrop.nn import _layer, _variants
from fastdrop.nn._layer import *  # noqa: F403
from fastdrop.nn._variants import *  # noqa: F403

__all__ = [*_layer.__all__, *_variants.__all__]
