"""The table of a model's dropout layers for a model card."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import fastdrop
from fastdrop._core import plan
from fastdrop._core.config import encode
from fastdrop._core.docstrings import sections
from fastdrop._core.sharing import SHARED
from fastdrop.nn.layer import Layer
from fastdrop.nn.variant import Variant

__all__ = ["Description", "describe"]

MODES = ("inverted", "standard", "unscaled")


@dataclass(frozen=True)
class Row:
    """The entries of one layer for a model card; see `describe`."""

    layer: str
    technique: str
    paper: str
    rate: Any
    schedule: Any
    scaling: str
    options: dict[str, Any]
    seed: int
    offset: int
    stream: int
    version: str

    def cells(self) -> list[str]:
        """Return each entry as text."""
        options = ", ".join(f"{name}={format_config(value)}" for name, value in self.options.items() if value is not None)
        values = asdict(self) | {"options": options, "rate": format_rate(self.rate), "schedule": format_config(self.schedule)}
        return [str(value) for value in values.values()]


class Description(Sequence[Row]):
    """A table with one row per layer of a model that drops; `describe` makes it."""

    columns = tuple(field.name for field in fields(Row))

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = tuple(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> Any:
        return self.rows[key]

    def to_markdown(self) -> str:
        """Return the table in Markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *(row.cells() for row in self.rows)]
        return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)

    def to_json(self) -> str:
        """Return a list of one object per layer, in JSON."""
        return json.dumps([asdict(row) for row in self.rows], indent=2, allow_nan=False)

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def __repr__(self) -> str:
        lines = [list(self.columns), *(row.cells() for row in self.rows)]
        widths = [max(len(line[k]) for line in lines) for k in range(len(self.columns))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )


def describe(model: Layer) -> Description:
    """Return a table of the layers of a model that drop, with all entries that are needed to report or to repeat the dropout.

    Parameters
    ----------
    model : Layer
        A layer, or layers that contain others.

    Returns
    -------
    Description
        One row per layer that drops, with ``to_markdown()`` and ``to_json()``. A row has the full name of the layer, the
        technique and its paper, the current rate and its schedule, the scaling of kept values, the other arguments, the seed
        and the offset of the next pass, and the versions of the random stream (`docs/stream.md`) and of fastdrop. If each
        element has its own rate, the row has all rates, and its text shows the smallest and the largest. If a layer has no
        rate, the rate is None, and the argument of the layer is among the other arguments.

    Examples
    --------
    >>> from fastdrop import nn
    >>> model = nn.Sequential({"input": nn.Dropout(0.2), "maps": nn.DropBlock(0.1, 5)}, seed=42)
    >>> table = nn.describe(model)
    >>> [(row.layer, row.technique, row.rate) for row in table]
    [('input', 'Dropout', 0.2), ('maps', 'DropBlock', 0.1)]
    >>> table[0].paper.split(",")[0]
    'N. Srivastava'
    >>> table.to_markdown().splitlines()[0]
    '| layer | technique | paper | rate | schedule | scaling | options | seed | offset | stream | version |'
    """
    if not isinstance(model, Layer):
        raise TypeError(f"model must be a fastdrop.nn.Layer; got {model!r}")
    return Description([describe_layer(name, layer) for name, layer in model.walk() if isinstance(layer, Variant)])


def describe_layer(name: str, layer: Variant) -> Row:
    """Return the row of one layer."""
    given = getattr(layer, layer.scheduled)
    options = {key: encode(value, key) for key, value in layer.options.items()}
    if layer.scheduled != "p":
        options = {layer.scheduled: encode(layer.current, layer.scheduled), **options}
    mode = options.get("mode")
    return Row(
        layer=name,
        technique=type(layer).__name__,
        paper=paper(layer),
        rate=encode(getattr(layer, "rate", None), "rate"),
        schedule=encode(given, layer.scheduled) if callable(given) else None,
        scaling=options.pop("mode") if mode in MODES else layer.scaling,
        options=options,
        seed=layer.stream.seed,
        offset=layer.stream.offset,
        stream=plan.STREAM,
        version=fastdrop.__version__,
    )


def paper(layer: Variant) -> str:
    """Return the first reference in the docstring of the layer's function; it is empty for a technique without a paper."""
    references = sections(inspect.cleandoc(layer.functions[0].__doc__ or ""))[1].get("References", "")
    first = re.split(r"^\.\. \[\d+\] ", references, flags=re.MULTILINE)[1:2]
    return " ".join(first[0].split()) if first else ""


def format_rate(rate: Any) -> str:
    """Return a rate as text; for an array, its smallest and its largest entry."""
    if isinstance(rate, dict) and "float" in rate:
        return str(rate["float"])  # of a learned rate that has become NaN
    if isinstance(rate, dict):
        values = [float(value) for value in flatten(rate["array"])]
        return f"{min(values):.4g} to {max(values):.4g}"
    return "" if rate is None else f"{rate:.4g}"


def flatten(values: Any) -> list[Any]:
    """Return the numbers in nested lists."""
    return [number for each in values for number in flatten(each)] if isinstance(values, list) else [values]


def format_config(config: Any) -> str:
    """Return a configuration as text; the configuration of an object becomes the call that makes it."""
    if isinstance(config, dict) and "class" in config:
        arguments = (f"{key}={format_config(value)}" for key, value in config.items() if key not in ("class", SHARED))
        return f"{config['class']}({', '.join(arguments)})"
    if isinstance(config, dict):
        return ", ".join(map(str, config.values()))  # a function, an array, or an infinite number
    if isinstance(config, list):
        return f"({', '.join(map(format_config, config))})"
    return "" if config is None else repr(config)
