"""Code as users write it, for mypy and pyright: right code passes, and each marked line is an error for both."""

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_type

import fastdrop
from fastdrop import nn, schedules

x: NDArray[np.float32] = np.ones((2, 3, 8, 8), np.float32)

# Functions
key = fastdrop.Key(42, 7)
y = fastdrop.dropout(x, 0.5, seed=key)
dx = fastdrop.dropout2d_backward(x, 0.5, seed=42)
fastdrop.dropout2d(x, 0.5, seed=np.random.default_rng(1), backend="numpy")
fastdrop.spatial_dropout(x, 0.5, data_format="channels_last", seed=1)
assert_type(fastdrop.dropout(x, 0.5, seed=1), NDArray[np.float32])
assert_type(fastdrop.dropout2d_backward(x.astype(np.float16), 0.5, seed=1), NDArray[np.float16])
assert_type(fastdrop.dropout(x, 0.5, seed=1), NDArray[np.float64])  # error: assert-type
listed: NDArray[np.float64] = fastdrop.locked_dropout([[1.0, 2.0]], 0.5, seed=1)
dx32, dweight, dbias = fastdrop.drop_connect_backward(x[0, 0, :1], x[0, 0, :1], x[0, 0], seed=1)
assert_type(dx32, NDArray[np.float32])
assert_type(dbias, NDArray[np.float32] | None)
assert_type(fastdrop.zoneout_backward(x, 0.1, seed=1)[1], NDArray[np.float32])
assert_type(fastdrop.concrete_dropout_backward(x, x, -1.0, seed=1), tuple[NDArray[np.float32], np.float64])
fastdrop.alpha_dropout(x, np.float32(0.5), mean=np.float16(0.5), seed=1)
fastdrop.dropout(x, np.float32(0.5), seed=1)
fastdrop.layer_drop(3, np.float32(0.5), seed=1)
fastdrop.alpha_dropout(x, x, seed=1)  # error: call-overload
shift = fastdrop.theory.variance_shift(0.1)
fastdrop.theory.fast_dropout_moments([1.0], [[2.0]], mode="unscaled")  # error: arg-type
fastdrop.theory.drop_connect_moments(x, [[2.0]], mode="standard")
fastdrop.dropout(x, rate=0.5, seed=1)  # error: call-overload
fastdrop.dropout2d(x, "0.5", seed=1)  # error: call-overload
fastdrop.dropout2d(x, 0.5, seed=1, backend="cuda")  # error: call-overload
fastdrop.dropout2d_backward(x, 0.5)  # error: call-overload
fastdrop.dropout2d_backward(x, 0.5, seed=fastdrop.Stream(1))  # error: call-overload
fastdrop.spatial_dropout(x, 0.5, data_format="NCHW", seed=1)  # error: call-overload

# Layers
drop = nn.Dropout(0.5, mode="standard", seed=42)
nn.Dropout(schedules.Linear(0.0, 0.5, 100))
nn.Dropout(np.full(8, 0.5))
nn.Dropout(lambda step: 0.1)
nn.GroupDropout(0.5, group_size=2)
nn.VariationalDense(np.ones((4, 3)), np.ones((4, 3))).kl(0.1)
rate: float = nn.ConcreteDropout(0.3).rate
nn.Dropout(rate=0.5)  # error: call-arg
nn.Dropout("0.5")  # error: arg-type
nn.Dropout(0.5, mode="half")  # error: arg-type
nn.Dropout(0.5, seed=1.5)  # error: arg-type
nn.GroupDropout(0.5)  # error: call-arg
nn.Dropout2d(0.5, axes=1)  # error: call-arg

# Models
model = nn.Sequential(nn.Dropout(0.2), nn.Dropout2d(0.1), seed=42)
nn.Sequential([nn.Dropout(0.2)], seed=fastdrop.Key(42))
nn.Sequential({"input": nn.Dropout(0.2)})
first: nn.Layer = model[0]
rest: nn.Sequential = model[1:]
named: nn.Layer = model["1"]
layers: list[nn.Layer] = list(model)
card: str = nn.describe(model).to_markdown()
evaluated: nn.Sequential = model.eval(sampling=True)
remade: nn.Dropout = nn.Dropout.from_config(drop.to_config())
nn.Sequential(0.5)  # error: call-overload
model.eval(True)  # error: call-arg
