"""The axes along which elements share one decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from fastdrop._core import plan

__all__ = ["ALL_AXES", "axes_of_layouts", "axes_of_maps", "check_data_format"]

ALL_AXES = tuple(range(64))  # as many as NumPy's arrays may have; a slice of it takes half the time of `tuple(range(...))`


def axes_of_layouts(x: NDArray[Any], layouts: Sequence[str], name: str) -> tuple[int, ...]:
    """Return the axes after the channels; `x` must have the dimensions of one of the layouts, such as "NCHW"."""
    ndim = x.ndim
    for layout in layouts:
        if len(layout) == ndim:
            return ALL_AXES[layout.index("C") + 1 : ndim]
    wanted = " or ".join(f"({', '.join(layout)})" for layout in layouts)
    raise ValueError(f"{name} must have the dimensions {wanted}; got shape {x.shape}")


def axes_of_maps(x: NDArray[Any], data_format: Any, name: str) -> tuple[int, ...]:
    """Return the spatial axes: all but those of samples and channels."""
    check_data_format(data_format)
    ndim = x.ndim
    if ndim < 2:
        raise ValueError(f"{name} must have an axis of samples and one of channels; got shape {x.shape}")
    return ALL_AXES[2:ndim] if data_format == "channels_first" else ALL_AXES[1 : ndim - 1]


def check_data_format(data_format: Any) -> None:
    """Raise an error unless it is "channels_first" or "channels_last"."""
    if not plan.is_one_of(data_format, ("channels_first", "channels_last")):
        raise ValueError(f"data_format must be 'channels_first' or 'channels_last'; got {data_format!r}")
