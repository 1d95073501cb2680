"""The axes along which elements share one decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastdrop._core import plan

__all__ = ["axes_of_layouts", "axes_of_maps", "check_data_format", "count_axes", "shape_of"]


def axes_of_layouts(x: ArrayLike, layouts: Sequence[str], name: str) -> tuple[int, ...]:
    """Return the axes after the channels; `x` must have the dimensions of one of the layouts, such as "NCHW"."""
    ndim = count_axes(x)
    for layout in layouts:
        if len(layout) == ndim:
            return tuple(range(layout.index("C") + 1, ndim))
    wanted = " or ".join(f"({', '.join(layout)})" for layout in layouts)
    raise ValueError(f"{name} must have the dimensions {wanted}; got shape {np.shape(x)}")


def axes_of_maps(x: ArrayLike, data_format: Any, name: str) -> tuple[int, ...]:
    """Return the spatial axes: all but those of samples and channels."""
    check_data_format(data_format)
    ndim = count_axes(x)
    if ndim < 2:
        raise ValueError(f"{name} must have an axis of samples and one of channels; got shape {np.shape(x)}")
    return tuple(range(2, ndim) if data_format == "channels_first" else range(1, ndim - 1))


def count_axes(x: ArrayLike) -> int:
    """Return the number of dimensions. For an array this avoids the microsecond that `numpy.ndim` takes."""
    return x.ndim if isinstance(x, np.ndarray) else np.ndim(x)


def shape_of(x: ArrayLike) -> tuple[int, ...]:
    """Return the shape; for an array without the time that `numpy.shape` takes."""
    return x.shape if isinstance(x, np.ndarray) else np.shape(x)


def check_data_format(data_format: Any) -> None:
    """Raise an error unless it is "channels_first" or "channels_last"."""
    if not plan.is_one_of(data_format, ("channels_first", "channels_last")):
        raise ValueError(f"data_format must be 'channels_first' or 'channels_last'; got {data_format!r}")
