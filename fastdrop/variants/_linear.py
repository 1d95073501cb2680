"""The checked arrays of a linear layer, in the compute type. Weights have the shape (in, out), as in x @ weight."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdrop._core import plan
from fastdrop._core.arithmetic import compute_type

__all__ = ["Linear"]


class Linear:
    """The layer ``x @ weight + bias``, for x of shape (..., in), weight of (in, out), and bias of (out,) or None.

    Attributes
    ----------
    x : numpy.ndarray
        The input, as it was given.
    rows, weight, bias : numpy.ndarray
        The input as a matrix with one row per sample, and the parameters, in the type `compute`.
    dtype : numpy.dtype
        The dtype that the operands were given in.
    result_shape : tuple of int
        The shape of the layer's result.
    """

    def __init__(self, x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> None:
        self.x, matrix = np.asarray(plan.as_array(x, "x")), plan.as_array(weight, "weight")
        if not self.x.ndim or matrix.ndim != 2 or self.x.shape[-1] != len(matrix):
            raise ValueError(f"x must have shape (..., in) and weight (in, out); got {self.x.shape} and {matrix.shape}")
        self.dtype, self.compute = self.x.dtype, compute_type(self.x.dtype)
        self.result_shape = (*self.x.shape[:-1], matrix.shape[1])
        self.rows = self.flat(self.x)
        self.weight = self.operand(matrix, matrix.shape, "weight")
        self.bias = None if bias is None else self.operand(bias, matrix.shape[1:], "bias")

    def operand(self, value: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[Any]:
        """Return an operand in the compute type, or raise an error that names it."""
        array = np.asarray(plan.as_array(value, name))
        if array.dtype != self.dtype:
            raise TypeError(f"{name} must have the dtype of x, {self.dtype}; got {array.dtype}")
        if array.shape != shape:
            raise ValueError(f"{name} must have the shape {shape}; got {array.shape}")
        return array.astype(self.compute, copy=False)

    def flat(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array as a matrix with one row per sample, in the compute type."""
        return array.reshape(math.prod(array.shape[:-1]), array.shape[-1]).astype(self.compute, copy=False)

    def grad_rows(self, grad: ArrayLike) -> NDArray[Any]:
        """Return the gradient with respect to the result as a matrix with one row per sample."""
        return self.flat(self.operand(grad, self.result_shape, "grad"))

    def rounded(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array in the dtype of the operands."""
        return array.astype(self.dtype, copy=False)

    def apply(self, rows: NDArray[Any], weight: NDArray[Any]) -> NDArray[Any]:
        """Return rows @ weight + bias."""
        product: NDArray[Any] = rows @ weight
        if self.bias is not None:
            product += self.bias
        return product
