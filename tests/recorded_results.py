"""Calls of every public function whose results are recorded: names and places of functions may change, results may not.

Each row of the table is one call of one function with one set of options; it is made for several dtypes and layouts of
the arrays. A row's computation has a stable id, "technique/dtype/layout/options", which names no function and no keyword:
when a function is renamed, edit the call, never the id. `tests/data/recorded_results.json` has the SHA-256 of each result.

    python tests/recorded_results.py --add                            # records the ids that have no hash yet
    python tests/recorded_results.py --change ID ... --reason "..."   # records that results were changed on purpose

No hash is ever overwritten: the first record stays, and a change is added beside it with its reason.
"""

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

import fastdrop
from fastdrop import elementary, federated, losses, schedules, theory, uncertainty

RECORD = Path(__file__).parent / "data" / "recorded_results.json"
KEY = {"seed": 0x0123456789ABCDEF, "offset": 2**32 + 7}
DTYPES = {name: np.dtype(getattr(ml_dtypes, name, name)) for name in ("float32", "float64", "float16", "bfloat16")}
WIDE = ("float64",)
MANY = 105_003  # elements, enough for three threads in the tests


# Inputs and digests -------------------------------------------------------------------------------------------------


def pattern(shape: tuple[int, ...], salt: int = 0) -> np.ndarray:
    """Return multiples of 1/64 in (-4, 4), exact in every dtype."""
    index = np.arange(math.prod(shape), dtype=np.int64) + 7919 * salt
    return (((index * 2654435761) % 509 - 254) / 64).reshape(shape)


def shares(shape: tuple[int, ...] | int, salt: int = 0) -> np.ndarray:
    """Return float64 numbers in (0, 1)."""
    return (np.abs(pattern((shape,) if isinstance(shape, int) else shape, salt)) + 1 / 8) / 8


def pieces(shape: tuple[int, ...], cut: str) -> list[tuple[slice, ...]]:
    """Return the uneven parts that an array is cut into: along the first axis; for "blocks" also along the last."""

    def parts(n: int, *bounds: int) -> list[slice]:
        return [slice(a, b) for a, b in zip((0, *bounds), (*bounds, n), strict=True)]

    rows = parts(shape[0], shape[0] // 5, shape[0] // 2 + 1)
    if cut == "start" or len(shape) == 1:
        return [(piece,) for piece in rows]
    middle = (slice(None),) * (len(shape) - 2)
    return [(row, *middle, column) for row in rows for column in parts(shape[-1], shape[-1] // 3)]


class Inputs:
    """The inputs of a call: arrays of one dtype and layout, and their place in the whole if they are a piece of it."""

    def __init__(self, shape: tuple[int, ...], dtype: str, layout: str, piece: tuple[slice, ...] = (), cut: str = "") -> None:
        self.full, self.dtype, self.layout, self.piece = shape, DTYPES.get(dtype), layout, piece
        self.rows_before = piece[0].start or 0 if piece else 0
        self.where: dict[str, Any] = {}
        if cut == "start":
            self.where = {"start": self.rows_before * math.prod(shape[1:])}
        elif cut == "blocks":
            begin = [part.start or 0 for part in piece]
            self.where = {"global_shape": shape, "global_start": (*begin, *[0] * (len(shape) - len(begin)))}

    @property
    def key(self) -> dict[str, Any]:
        """The keywords seed, offset and those of the piece's place."""
        return {**KEY, **self.where}

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the piece."""
        return np.broadcast_to(False, self.full)[self.piece].shape

    @property
    def x(self) -> np.ndarray:
        return self.like(0)

    @property
    def grad(self) -> np.ndarray:
        return self.like(1)

    def like(self, salt: int) -> np.ndarray:
        """Return an array of the row's shape, or the piece of it."""
        return self.laid(pattern(self.full, salt)[self.piece])

    def values(self, *shape: int, salt: int = 2) -> np.ndarray:
        """Return a whole array of any shape."""
        return self.laid(pattern(shape, salt))

    def dense(self, *shape: int, salt: int = 2) -> np.ndarray:
        """Return a whole array for results that are rounded: times sqrt(3) - 1, few of them are half-way between digits."""
        return self.laid(pattern(shape, salt) * (math.sqrt(3) - 1))

    def per_row(self, salt: int = 3) -> np.ndarray:
        """Return a number for each index of the first axis."""
        return self.laid(pattern(self.full[:1], salt)[self.piece[:1]])

    def sparse(self, *shape: int, salt: int = 0) -> np.ndarray:
        """Return a matrix with one number in each row and at most one in each column, or the piece of its rows.

        In its products no two terms are added, so that they do not depend on the order that BLAS adds in.
        """
        rows, columns = np.arange(shape[0]), np.arange(shape[0]) * 7 + salt
        matrix = np.zeros(shape)
        matrix[rows, columns % shape[1]] = pattern(shape[:1], salt) + 1 / 128
        return self.laid(matrix[self.piece[:1]])

    def laid(self, values: np.ndarray) -> np.ndarray:
        """Return values in the dtype, and in the memory order of the layout."""
        values = values.astype(self.dtype)
        if self.layout != "strided":
            return values
        wide = np.empty((*values.shape[:0:-1], 2 * values.shape[0]), self.dtype)
        view = wide[..., ::2].T
        view[...] = values
        return view


def rounded_to_9_digits(array: np.ndarray) -> np.ndarray:
    """Round to 9 significant digits, and -0.0 to 0.0; float32 and narrower numbers keep their value."""
    if array.dtype.kind not in "fV":
        return array
    digits = [float(f"{value:.8e}") + 0.0 for value in array.astype(np.float64).ravel().tolist()]
    return np.array(digits).astype(array.dtype).reshape(array.shape)


def flat(results: Any) -> Iterator[np.ndarray]:
    """Yield the arrays of nested tuples and lists; integers and numbers count as arrays without dimensions."""
    if isinstance(results, (tuple, list)):
        for result in results:
            yield from flat(result)
    elif isinstance(results, int) and not isinstance(results, bool):
        yield np.asarray(results, np.uint64 if results >= 0 else np.int64)
    else:
        yield np.asarray(results)


def digest(results: Any, rounded: bool = False) -> str:
    """Return the SHA-256 over dtype, shape and bytes, in C order, of each array."""
    found = hashlib.sha256()
    for result in flat(results):
        array = rounded_to_9_digits(result) if rounded else result
        found.update(f"{array.dtype.name}{array.shape}".encode())
        found.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return found.hexdigest()


# Rows ---------------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A call; `rounded` where it goes through BLAS or libm, whose last bits are not promised."""

    technique: str
    options: str
    shape: tuple[int, ...]
    call: Callable[[Inputs], Any]
    dtypes: tuple[str, ...]
    layouts: tuple[str, ...]
    rounded: bool


class Case(NamedTuple):
    """One recorded result."""

    id: str
    compute: Callable[[], Any]
    rounded: bool

    def digest(self) -> str:
        return digest(self.compute(), self.rounded)


ROWS: list[Row] = []
CUTS = {"chunked": "start", "blocks": "blocks"}  # by layout: which keywords say where a piece lies


def add(
    technique: str,
    options: str,
    shape: tuple[int, ...],
    call: Callable[[Inputs], Any],
    *,
    dtypes: tuple[str, ...] = tuple(DTYPES),
    layouts: str = "C strided",
    rounded: bool = False,
) -> None:
    ROWS.append(Row(technique, options, shape, call, dtypes, tuple(layouts.split()), rounded))


def number(technique: str, options: str, call: Callable[[], Any], *, rounded: bool = False) -> None:
    """Add a call without arrays of one dtype or layout."""
    add(technique, options, (), lambda _: call(), dtypes=("-",), layouts="-", rounded=rounded)


def closed(technique: str, options: str, call: Callable[[Inputs], Any]) -> None:
    """Add a closed form in float64, which goes through BLAS or libm."""
    add(technique, options, (), call, dtypes=WIDE, rounded=True)


def given(options: dict[str, Any], inputs: Inputs) -> dict[str, Any]:
    """Return options as they are passed; those that are functions make arrays."""
    return {name: value(inputs) if callable(value) else value for name, value in options.items()}


def both(technique: str, forward: Any, backward: Any, variants: dict[str, Any], layouts: str = "C strided") -> None:
    """Add forward(x, **options, **key) and backward(grad, **options, **key) for each variant, (shape, options, more)."""
    for name, (shape, options, *more) in variants.items():
        how = {"layouts": " ".join([layouts, *more])}
        add(f"{technique}-forward", name, shape, lambda a, o=options: forward(a.x, **given(o, a), **a.key), **how)
        if backward:
            add(f"{technique}-backward", name, shape, lambda a, o=options: backward(a.grad, **given(o, a), **a.key), **how)


def of_x(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Return a backward function that returns the first of its gradients alone, that with respect to x."""
    return lambda *arrays, **options: backward(*arrays, **options)[0]


def compute(row: Row, dtype: str, layout: str) -> Any:
    """Return a row's result; that of pieces, put together."""
    cut = CUTS.get(layout)
    if not cut:
        return row.call(Inputs(row.shape, dtype, layout))
    parts = pieces(row.shape, cut)
    results = [row.call(Inputs(row.shape, dtype, layout, piece, cut)) for piece in parts]
    if cut == "start":
        return np.concatenate(results)
    whole = np.empty(row.shape, results[0].dtype)
    for piece, result in zip(parts, results, strict=True):
        whole[piece] = result
    return whole


def cases() -> dict[str, Case]:
    """Return all cases by id."""
    found: dict[str, Case] = {}
    for row in ROWS:
        for dtype in row.dtypes:
            for layout in row.layouts:
                name = f"{row.technique}/{dtype}/{layout}/{row.options}"
                if name in found:
                    raise ValueError(f"two rows have the id {name!r}")
                found[name] = Case(name, lambda row=row, dtype=dtype, layout=layout: compute(row, dtype, layout), row.rounded)
    return found


# Dropout of elements and of what is shared --------------------------------------------------------------------------

FLAT, IMAGE = (37, 45), (4, 6, 7, 5)

both(
    "dropout",
    fastdrop.dropout,
    fastdrop.dropout_backward,
    {
        "0.3": (FLAT, {"p": 0.3, "mode": "inverted"}, "chunked", "blocks"),
        "0.5": ((9001,), {"p": 0.5, "mode": "inverted"}, "chunked"),
        "0": (FLAT, {"p": 0.0, "mode": "inverted"}),
        "1": (FLAT, {"p": 1.0, "mode": "inverted"}),
        "0.1 of many": ((MANY // 3, 3), {"p": 0.1, "mode": "inverted"}),
        "0.3 standard": (FLAT, {"p": 0.3, "mode": "standard"}, "chunked"),
        "0.3 standard outside training": (FLAT, {"p": 0.3, "mode": "standard", "training": False}),
        "rates": (FLAT, {"p": lambda a: shares(a.shape[-1:]), "mode": "inverted"}, "chunked"),
        "rate per row": (FLAT, {"p": lambda a: shares((a.shape[0], 1)), "mode": "inverted"}),
        "shared maps": (IMAGE, {"p": 0.4, "shared_axes": (2, 3), "mode": "inverted"}, "blocks"),
        "shared rows": (IMAGE, {"p": 0.4, "shared_axes": 0, "mode": "inverted"}, "blocks"),
        "noise shape": (IMAGE, {"p": 0.4, "noise_shape": (None, 1, None, 1), "mode": "inverted"}),
    },
)
add(
    "dropout-forward",
    "0.3 bias",
    FLAT,
    lambda a: fastdrop.dropout(a.x, 0.3, bias=a.values(45), **a.key),
    layouts="C strided chunked",
)
add("dropout-forward", "0.3 residual", FLAT, lambda a: fastdrop.dropout(a.x, 0.3, residual=a.like(4), **a.key))
add(
    "dropout-forward",
    "0.3 bias residual",
    FLAT,
    lambda a: fastdrop.dropout(a.x, 0.3, bias=a.values(45), residual=a.like(4), **a.key),
    layouts="C strided chunked",
)
add("dropout-forward", "0.3 out", FLAT, lambda a: fastdrop.dropout(a.x, 0.3, out=a.like(5), **a.key))

for length, size in (("1", 1), ("many", 20_011)):
    add("words", length, (size,), lambda a: fastdrop.words(*a.shape, **a.key), dtypes=("-",), layouts="C chunked")
    for technique, generate in (("uniform", fastdrop.uniform), ("normal", fastdrop.normal)):
        add(
            technique,
            length,
            (size,),
            lambda a, f=generate: f(a.shape, dtype=a.dtype, **a.key),
            dtypes=("float32", "float64"),
            layouts="C chunked",
        )


def mask(a: Inputs, p: Any, **options: Any) -> Any:
    return fastdrop.dropout_mask(a.shape, p, **options, **a.key)


for name, p in (("0.3", 0.3), ("0.5", 0.5), ("0", 0.0), ("1", 1.0), ("1e-12", 1e-12), ("rates", shares(45))):
    add("mask", name, FLAT, lambda a, p=p: mask(a, p), dtypes=("-",), layouts="C chunked")
    add("mask", f"{name} packed", FLAT, lambda a, p=p: mask(a, p, packed=True), dtypes=("-",), layouts="C")
add("mask", "0.3 of many", (MANY,), lambda a: mask(a, 0.3), dtypes=("-",), layouts="C chunked")
add("mask", "0.3 blocks", FLAT, lambda a: mask(a, 0.3), dtypes=("-",), layouts="blocks")
add("mask", "shared maps", IMAGE, lambda a: mask(a, 0.4, shared_axes=(2, 3)), dtypes=("-",), layouts="C blocks")
add("mask", "shared maps packed", IMAGE, lambda a: mask(a, 0.4, shared_axes=(2, 3), packed=True), dtypes=("-",), layouts="C")
add("mask", "noise shape", IMAGE, lambda a: mask(a, 0.4, noise_shape=(None, 1, 7, 1)), dtypes=("-",), layouts="C")

add("apply-mask", "1.25", FLAT, lambda a: fastdrop.apply_mask(a.x, pattern(a.shape, 6) > 0, 1.25))
add("apply-mask", "1", FLAT, lambda a: fastdrop.apply_mask(a.x, pattern(a.shape, 6) > 0))
add("apply-mask", "1/3 packed", FLAT, lambda a: fastdrop.apply_mask(a.x, mask(a, 0.3, packed=True), 1 / 3))

for dims, forward, backward in (
    (1, fastdrop.dropout1d, fastdrop.dropout1d_backward),
    (2, fastdrop.dropout2d, fastdrop.dropout2d_backward),
    (3, fastdrop.dropout3d, fastdrop.dropout3d_backward),
):
    space = (7, 5, 3)[:dims]
    shapes = {"0.3": ((8, 9, *space), {"p": 0.3}, "blocks"), "0.5 of one sample": ((29, *space), {"p": 0.5})}
    if dims == 2:  # an array of three dimensions has samples, channels and one dimension here
        del shapes["0.5 of one sample"]
    rates = {"rates": ((8, 9, *space), {"p": lambda a: shares((1, 9, *[1] * (len(a.shape) - 2)))})}
    both(f"channels-{dims}d", forward, backward, {**shapes, **rates})
both(
    "spatial",
    fastdrop.spatial_dropout,
    fastdrop.spatial_dropout_backward,
    {
        "0.3 channels last": (IMAGE, {"p": 0.3, "data_format": "channels_last"}, "blocks"),
        "0.3 channels first": (IMAGE, {"p": 0.3, "data_format": "channels_first"}, "blocks"),
    },
)
both(
    "locked",
    fastdrop.locked_dropout,
    fastdrop.locked_dropout_backward,
    {
        "0.3 time 0": ((11, 4, 13), {"p": 0.3, "shared_axes": 0}, "blocks"),
        "0.3 time 1": ((11, 4, 13), {"p": 0.3, "shared_axes": 1}, "blocks"),
    },
)
both(
    "group",
    fastdrop.group_dropout,
    fastdrop.group_dropout_backward,
    {
        "0.3 by 4": (FLAT, {"p": 0.3, "group_size": 4, "axes": -1}, "blocks"),
        "0.3 by 3 and 2": (IMAGE, {"p": 0.3, "group_size": (3, 2), "axes": (2, 3)}, "blocks"),
    },
)
both("head", fastdrop.drop_head, fastdrop.drop_head_backward, {"0.3": ((5, 8, 6, 4), {"p": 0.3}, "blocks")})
both(
    "word",
    fastdrop.word_dropout,
    fastdrop.word_dropout_backward,
    {
        "0.2": ((6, 9, 5), {"p": 0.2, "mode": "unscaled"}, "blocks"),
        "0.2 inverted": ((6, 9, 5), {"p": 0.2}, "blocks"),
        "0.2 standard outside training": ((6, 9, 5), {"p": 0.2, "mode": "standard", "training": False}),
    },
)
both(
    "embedding",
    fastdrop.embedding_dropout,
    fastdrop.embedding_dropout_backward,
    {
        "0.2 matrix": ((101, 7), {"p": 0.2}),
        "rates": ((101, 7), {"p": lambda a: shares((101, 1))}),
        **{
            f"0.4 tokens per {name}": (
                (6, 9, 5),
                {"p": 0.4, "tokens": np.arange(54).reshape(6, 9) ** 2 % 31, "num_embeddings": 31, "per": per},
            )
            for name, per in (("batch", "batch"), ("sequence", "sample"))
        },
    },
)
both(
    "path",
    fastdrop.drop_path,
    fastdrop.drop_path_backward,
    {
        "0.3 rows": ((29, 3, 5), {"p": 0.3, "per": "sample"}, "blocks"),
        "0.3 batch": ((29, 3, 5), {"p": 0.3, "per": "batch"}, "blocks"),
        "0.3 rows unscaled": ((29, 3, 5), {"p": 0.3, "per": "sample", "mode": "unscaled"}),
        "0.3 rows standard": ((29, 3, 5), {"p": 0.3, "per": "sample", "mode": "standard"}),
        "0.3 rows standard outside training": ((29, 3, 5), {"p": 0.3, "per": "sample", "mode": "standard", "training": False}),
        "rates": ((29, 3, 5), {"p": lambda a: shares((29, 1, 1)), "per": "sample"}),
    },
)
add("path-forward", "0.3 residual", (29, 3, 5), lambda a: fastdrop.drop_path(a.x, 0.3, residual=a.like(4), **a.key))
for name, rule in (("paper", "paper"), ("timm", "timm")):
    number("path-rates", name, lambda rule=rule: schedules.drop_path_rates(0.3, 17, rule))
number("layer", "0.3", lambda: fastdrop.layer_drop(48, 0.3, **KEY))
number("layer", "rates", lambda: fastdrop.layer_drop(48, shares(48), **KEY))
number("layer", "outside training", lambda: fastdrop.layer_drop(48, 0.3, training=False, **KEY))

# Recurrent states and weights ---------------------------------------------------------------------------------------

for name, p in (("0.3", lambda: 0.3), ("rates", lambda: shares(45))):
    layouts = "C strided chunked blocks" if name == "0.3" else "C strided"
    add("zoneout-forward", name, FLAT, lambda a, p=p: fastdrop.zoneout(a.x, a.like(4), p(), **a.key), layouts=layouts)
    add("zoneout-backward", name, FLAT, lambda a, p=p: fastdrop.zoneout_backward(a.grad, p(), **a.key))
OUTSIDE = "0.3 outside training"
add("zoneout-forward", OUTSIDE, FLAT, lambda a: fastdrop.zoneout(a.x, a.like(4), 0.3, training=False, **a.key))
add("zoneout-backward", OUTSIDE, FLAT, lambda a: fastdrop.zoneout_backward(a.grad, 0.3, training=False, **a.key))
both(
    "weight",
    fastdrop.weight_drop,
    fastdrop.weight_drop_backward,
    {
        "0.3": (FLAT, {"p": 0.3, "unit": "weight"}, "chunked", "blocks"),
        "0.3 outputs": (FLAT, {"p": 0.3, "unit": "output"}, "blocks"),
        "rates": (FLAT, {"p": lambda a: shares(45), "unit": "weight"}),
    },
)
PLACED = "C strided chunked blocks"
# These were recorded with weights of shape (out, in), so that a row was an output and a column an input.
add("weight-forward", "0.3 rows", FLAT, lambda a: fastdrop.weight_drop(a.x.T, 0.3, unit="output", **a.key).T)
add("weight-backward", "0.3 rows", FLAT, lambda a: fastdrop.weight_drop_backward(a.grad.T, 0.3, unit="output", **a.key).T)
add("shakeout-forward", "0.3 units", FLAT, lambda a: fastdrop.shakeout(a.x.T, 0.3, 0.2, unit="input", **a.key).T)
add("shakeout-backward", "0.3 units", FLAT, lambda a: fastdrop.shakeout_backward(a.grad.T, 0.3, unit="input", **a.key).T)
add("shakeout-forward", "0.3 weights", FLAT, lambda a: fastdrop.shakeout(a.x, 0.3, 0.2, unit="weight", **a.key), layouts=PLACED)
add(
    "shakeout-backward",
    "0.3 weights",
    FLAT,
    lambda a: fastdrop.shakeout_backward(a.grad, 0.3, unit="weight", **a.key),
    layouts=PLACED,
)
for name, among, fraction, mode in (
    ("outputs 0.5", "output", 0.5, "unscaled"),
    ("layer 0.4", "layer", 0.4, "unscaled"),
    ("outputs 0.75", "output", 0.75, "unscaled"),
    ("outputs 0.5 inverted", "output", 0.5, "inverted"),
):
    options = {"p": 0.3, "among": among, "fraction": fraction, "mode": mode}
    add("targeted-forward", name, (37, 44), lambda a, o=options: fastdrop.targeted_dropout(a.x, **o, **a.key))
    add("targeted-backward", name, (37, 44), lambda a, o=options: fastdrop.targeted_dropout_backward(a.grad, a.x, **o, **a.key))


def connect(a: Inputs, make: str, bias: bool = True, **options: Any) -> Any:
    """Return the result of a layer of 23 inputs and 19 outputs for 17 samples."""
    x, weight = getattr(a, make)(17, 23, salt=0), a.values(19, 23, salt=7).T
    return fastdrop.drop_connect(x, weight, 0.4, bias=a.values(19, salt=8) if bias else None, **options, **a.key)


def connect_backward(a: Inputs, make: str, **options: Any) -> Any:
    grad, x, weight = getattr(a, make)(17, 19, salt=1), getattr(a, make)(17, 23, salt=0), a.values(19, 23, salt=7).T
    dx, dweight, dbias = fastdrop.drop_connect_backward(grad, x, weight, 0.4, bias=a.values(19), **options, **a.key)
    return dx, dweight.T, dbias


for name, options in {
    "0.4 samples standard": {"per": "sample", "mode": "standard"},
    "0.4 samples inverted": {"per": "sample", "mode": "inverted"},
    "0.4 batch standard": {"per": "batch", "mode": "standard"},
    "0.4 batch inverted, bias kept": {"per": "batch", "mode": "inverted", "drop_bias": False},
    "0.4 standard outside training": {"per": "batch", "mode": "standard", "training": False},
}.items():
    for kind, make, dtypes in (("sparse", "sparse", tuple(DTYPES)), ("dense", "dense", WIDE)):
        how = {"dtypes": dtypes, "rounded": True}
        add("connect-forward", f"{name} {kind}", (), lambda a, m=make, o=options: connect(a, m, **o), **how)
        add("connect-backward", f"{name} {kind}", (), lambda a, m=make, o=options: connect_backward(a, m, **o), **how)
closed("connect-forward", "0.4 samples standard without bias", lambda a: connect(a, "dense", False, mode="standard"))
for name, options in {
    "standard": {"mode": "standard"},
    "inverted, bias kept": {"mode": "inverted", "drop_bias": False},
}.items():
    closed(
        "connect-moments",
        f"0.4 {name}",
        lambda a, o=options: theory.drop_connect_moments(a.dense(17, 23), a.dense(19, 23).T, 0.4, bias=a.dense(19), **o),
    )

# Noise --------------------------------------------------------------------------------------------------------------

both(
    "gaussian",
    fastdrop.gaussian_dropout,
    of_x(fastdrop.gaussian_dropout_backward),
    {"0.3": (FLAT, {"p": 0.3}, "chunked", "blocks")},
)
for name, log_alpha in (("log alpha", lambda a: -0.7), ("log alphas", lambda a: a.values(45).astype(np.float64) - 3)):
    add(
        "gaussian-forward",
        name,
        FLAT,
        lambda a, f=log_alpha: fastdrop.gaussian_dropout(a.x, log_alpha=f(a), **a.key),
        layouts="C strided chunked",
    )
    add(
        "gaussian-backward",
        name,
        FLAT,
        lambda a, f=log_alpha: fastdrop.gaussian_dropout_backward(a.grad, log_alpha=f(a), x=a.x, **a.key),
    )
add(
    "gaussian-backward",
    "0.3 and log alpha",
    FLAT,
    lambda a: fastdrop.gaussian_dropout_backward(a.grad, log_alpha=-0.8472978603872034, x=a.x, **a.key),
)
both("gaussian", fastdrop.gaussian_dropout, None, {"0.3 of many": ((MANY,), {"p": 0.3})})
both("gaussian-noise", fastdrop.gaussian_noise, None, {"0.7": (FLAT, {"stddev": 0.7}, "chunked", "blocks")})
both(
    "uniform-noise",
    fastdrop.uniform_dropout,
    fastdrop.uniform_dropout_backward,
    {"0.2": (FLAT, {"half_width": 0.2}, "chunked", "blocks")},
)
for technique, forward, backward in (
    ("alpha", fastdrop.alpha_dropout, fastdrop.alpha_dropout_backward),
    ("feature-alpha", fastdrop.feature_alpha_dropout, fastdrop.feature_alpha_dropout_backward),
):
    both(
        technique,
        forward,
        backward,
        {
            "0.3": ((9, 8, 7), {"p": 0.3}, "blocks"),
            "0.3 of mean and variance": ((9, 8, 7), {"p": 0.3, "mean": 0.25, "var": 1.5}),
        },
    )

# Learned rates ------------------------------------------------------------------------------------------------------

for name, options in {
    "t 0.1": {"temperature": 0.1},
    "t 2/3": {"temperature": 2 / 3},
    "t 0.3": {"temperature": 0.3},
    "t 0.1, epsilon": {"temperature": 0.1, "epsilon": 1e-5},
}.items():
    chunks = {"layouts": "C strided chunked blocks"}
    add("concrete-forward", name, FLAT, lambda a, o=options: fastdrop.concrete_dropout(a.x, -0.8, **o, **a.key), **chunks)
    add(
        "concrete-backward",
        name,
        FLAT,
        lambda a, o=options: fastdrop.concrete_dropout_backward(a.grad, a.x, -0.8, **o, **a.key),
    )
    add(
        "concrete-backward",
        f"{name}, of x alone",
        FLAT,
        lambda a, o=options: fastdrop.concrete_dropout_backward(a.grad, a.x, -0.8, **o, **a.key)[0],
        layouts="chunked",
    )
for name, layout in (("channels last", "channels_last"), ("channels first", "channels_first")):
    options = {"temperature": 2 / 3, "data_format": layout}
    add(
        "spatial-concrete-forward",
        name,
        IMAGE,
        lambda a, o=options: fastdrop.spatial_concrete_dropout(a.x, -0.8, **o, **a.key),
        layouts="C strided blocks",
    )
    add(
        "spatial-concrete-backward",
        name,
        IMAGE,
        lambda a, o=options: fastdrop.spatial_concrete_dropout_backward(a.grad, a.x, -0.8, **o, **a.key),
    )
for name, options in {"defaults": {}, "strong": {"weight_regularizer": 0.01, "dropout_regularizer": 0.02}}.items():
    for technique, function in (
        ("concrete-regularizer-forward", losses.concrete_regularizer),
        ("concrete-regularizer-backward", losses.concrete_regularizer_backward),
    ):
        add(technique, name, FLAT, lambda a, f=function, o=options: f(-0.8, a.x, 45, **o))
        add(technique, f"{name}, two", FLAT, lambda a, f=function, o=options: f(-0.8, [a.x, a.values(45)], 45, **o))

for name, options in {
    "unscaled": {"mode": "standard"},
    "inverted": {"mode": "inverted"},
    "unscaled outside training": {"mode": "standard", "training": False},
}.items():
    how = {"layouts": PLACED}
    for technique in ("adaptive", "standout"):  # recorded under two names
        add(
            f"{technique}-forward",
            name,
            FLAT,
            lambda a, o=options: fastdrop.adaptive_dropout(a.x, a.like(4), 0.75, 0.25, **o, **a.key),
            **how,
        )
        add(
            f"{technique}-backward",
            name,
            FLAT,
            lambda a, o=options: fastdrop.adaptive_dropout_backward(a.grad, a.like(4), 0.75, 0.25, x=a.x, **o, **a.key)[0],
            **how,
        )
add(
    "adaptive-forward",
    "antithetic",
    FLAT,
    lambda a: fastdrop.adaptive_dropout(a.x, a.like(4), 0.75, 0.25, antithetic=True, mode="standard", **a.key),
)
for estimator in ("straight_through", "score_function", "arm", "disarm"):
    for name, mode in (("unscaled", "standard"), ("inverted", "inverted")):
        add(
            "adaptive-backward",
            f"{estimator.replace('_', ' ')} {name}",
            FLAT,
            lambda a, e=estimator, m=mode: fastdrop.adaptive_dropout_backward(
                a.grad,
                a.like(4),
                0.75,
                0.25,
                estimator=e,
                x=a.x,
                losses=a.per_row(),
                antithetic_losses=a.per_row(5),
                mode=m,
                **a.key,
            ),
        )


def variational(a: Inputs, kind: str, make: str, bias: bool = True, backward: bool = False, **options: Any) -> Any:
    """Return the result of a layer of 23 inputs and 19 outputs for 17 samples; `kind` is "dense", or the type "A" or "B"."""
    x, weight = getattr(a, make)(17, 23, salt=0), a.values(23, 19, salt=7)
    if "start" in a.where:
        a.where = {"start": a.rows_before * (23 if kind == "A" else 19)}
    options |= {"bias": a.values(19, salt=8) if bias else None, **a.key}
    if kind == "dense":
        forward, gradients = fastdrop.variational_dense, fastdrop.variational_dense_backward
        operands = (x, weight, a.values(23, 19, salt=9) - a.dtype.type(2))
    else:
        forward, gradients = fastdrop.variational_dropout, fastdrop.variational_dropout_backward
        operands = (
            x,
            weight,
            -np.float64(0.9) if bias else shares(23)[:, None] - 1.5 if kind == "B" else shares(23) - 1.5,
            {"A": "input", "B": "weight"}[kind],
        )
    if not backward:
        return forward(*operands, **options)
    *found, of_bias = gradients(getattr(a, make)(17, 19, salt=1), *operands, **options)
    return found if of_bias is None else (*found, of_bias)


for kind in ("dense", "A", "B"):
    for bias in (True, False):
        for how, make, dtypes in (("sparse", "sparse", tuple(DTYPES)), ("dense", "dense", WIDE)):
            layouts = "C strided chunked" if make == "sparse" else "C strided"
            name = f"{kind} {'bias' if bias else 'no bias'} {how}"
            forward = lambda a, k=kind, m=make, b=bias: variational(a, k, m, b)  # noqa: E731
            backward = lambda a, k=kind, m=make, b=bias: variational(a, k, m, b, True)  # noqa: E731
            add("variational-forward", name, (17,), forward, dtypes=dtypes, layouts=layouts, rounded=True)
            add("variational-backward", name, (17,), backward, dtypes=dtypes, rounded=True)
closed(
    "variational-forward", "dense outside training", lambda a: variational(a, "dense", "dense", training=False, prune_above=1.0)
)
closed(
    "variational-backward",
    "dense outside training",
    lambda a: variational(a, "dense", "dense", backward=True, training=False, prune_above=1.0),
)
for name, most in (("at most -1", -1.0), ("unbounded", None)):
    for kind in ("A", "B"):
        closed("variational-forward", f"{kind} {name}", lambda a, k=kind, m=most: variational(a, k, "dense", max_log_alpha=m))
        closed(
            "variational-backward",
            f"{kind} {name}",
            lambda a, k=kind, m=most: variational(a, k, "dense", False, True, max_log_alpha=m),
        )
add("log-alpha-forward", "-", FLAT, lambda a: theory.log_alpha(a.x, a.like(4)))
add("log-alpha-backward", "-", FLAT, lambda a: theory.log_alpha_backward(a.grad, a.x, a.like(4)))
add("prune", "3", FLAT, lambda a: theory.prune(a.x, a.like(4)))
add("prune", "0.5", FLAT, lambda a: theory.prune(a.x, a.like(4), 0.5))
for rule in ("molchanov", "kingma"):
    add("kl-forward", rule, FLAT, lambda a, r=rule: losses.variational_kl(a.x - 2, r), dtypes=WIDE)
    add("kl-backward", rule, FLAT, lambda a, r=rule: losses.variational_kl_backward(a.x - 2, r), dtypes=WIDE)
    add("kl-forward", f"{rule} shared", (37, 1), lambda a, r=rule: losses.variational_kl(a.x - 2, r, shape=FLAT), dtypes=WIDE)
    add(
        "kl-backward",
        f"{rule} shared",
        (37, 1),
        lambda a, r=rule: losses.variational_kl_backward(a.x - 2, r, shape=FLAT),
        dtypes=WIDE,
    )

# Importance ---------------------------------------------------------------------------------------------------------

for name, options in {
    "0.4 per channel": {"scores": shares(45)},
    "0.4 per token": {"scores": shares((37, 1)), "shared_axes": 1},
    "0.4 per element": {"scores": shares(FLAT), "axis": 1, "floor": 0.2},
}.items():
    both("importance", fastdrop.importance_dropout, fastdrop.importance_dropout_backward, {name: (FLAT, {**options, "p": 0.4})})
for name, options in {"all": {}, "axis": {"axis": 1}, "floor": {"axis": 0, "floor": 0.25}}.items():
    number("keep-probabilities", name, lambda o=options: theory.keep_probabilities(shares(FLAT) ** 2, 0.4, **o))
for per in ("sample", "batch"):
    options = {"k": 20, "probabilities": shares(45), "per": per}
    both("multinomial", fastdrop.multinomial_dropout, fastdrop.multinomial_dropout_backward, {f"20 per {per}": (FLAT, options)})
    both("multinomial", fastdrop.multinomial_dropout, None, {f"20 of its own per {per}": (FLAT, {"k": 20, "per": per})})
add("multinomial-probabilities", "-", FLAT, lambda a: theory.multinomial_probabilities(a.x))

# Attention and tokens -----------------------------------------------------------------------------------------------

HEADS = (3, 4, 5, 13)
SHARED = {"none": None, "heads": 1, "batch": 0, "both": (0, 1)}


def probabilities(a: Inputs) -> np.ndarray:
    """Return rows of positive numbers, of the order of probabilities."""
    return a.laid(np.abs(pattern(a.full)) / 16 + 1 / 64)


for name, options in {
    **{f"elements shared by {name}": {"unit": "element", "shared_axes": axes} for name, axes in SHARED.items()},
    **{f"columns shared by {name}": {"unit": "key", "shared_axes": axes} for name, axes in SHARED.items()},
    "elements renormalized": {"unit": "element", "renormalize": True},
    "columns scaled": {"unit": "key", "renormalize": False},
    "elements window 3": {"unit": "element", "window": 3, "exact_rate": False},
    "columns window 3": {"unit": "key", "window": 3, "exact_rate": False},
    "elements window 3 exact": {"unit": "element", "window": 3},
    "columns window 3 exact": {"unit": "key", "window": 3},
}.items():
    options["p"] = 0.3
    add("attention-forward", name, HEADS, lambda a, o=options: fastdrop.attention_dropout(probabilities(a), **o, **a.key))
    add(
        "attention-backward",
        name,
        HEADS,
        lambda a, o=options: fastdrop.attention_dropout_backward(a.grad, x=probabilities(a), **o, **a.key),
    )
add(
    "attention-backward",
    "columns, sums constant",
    HEADS,
    lambda a: fastdrop.attention_dropout_backward(a.grad, 0.3, unit="key", x=probabilities(a), through_sum=False, **a.key),
)
CAUSAL = np.tri(5, 13, 4, dtype=np.bool_)
for name, options in {
    **{f"0.4 shared by {name}": {"p": 0.4, "shared_axes": axes} for name, axes in SHARED.items()},
    "0.9": {"p": 0.9},
    "0.9 empty rows": {"p": 0.9, "empty_rows": "fill"},
    "0.7 causal": {"p": 0.7, "allowed": CAUSAL},
}.items():
    both("key", fastdrop.drop_key, fastdrop.drop_key_backward, {name: (HEADS, options)})
both("key", fastdrop.drop_key, None, {"0.4 fill": (HEADS, {"p": 0.4, "fill": -1e4})})

TOKENS = (6, 29, 3)
for name, options in {
    "0.6": {"num_prefix_tokens": 0, "ordered": True},
    "0.6 prefix": {"num_prefix_tokens": 2, "ordered": True},
    "0.6 unordered": {"num_prefix_tokens": 1, "ordered": False},
}.items():
    kept = 29 - options["num_prefix_tokens"]
    rows = options["num_prefix_tokens"] + max(1, int(kept * (1 - 0.6)))
    for technique, forward, backward in (
        ("token", fastdrop.token_dropout, fastdrop.token_dropout_backward),
        ("patch", fastdrop.patch_dropout, fastdrop.patch_dropout_backward),
    ):
        add(
            f"{technique}-forward",
            name,
            TOKENS,
            lambda a, f=forward, o=options: f(a.x, 0.6, return_indices=True, **o, **a.key),
        )
        add(
            f"{technique}-backward",
            name,
            (6, rows, 3),
            lambda a, f=backward, o=options: f(a.grad, 0.6, num_tokens=29, **o, **a.key),
        )
both("token", fastdrop.token_dropout, fastdrop.token_dropout_backward, {"0.6 in place": (TOKENS, {"p": 0.6, "gather": False})})

# Maps ---------------------------------------------------------------------------------------------------------------

MAPS = (3, 4, 11, 10)
both(
    "block",
    fastdrop.drop_block,
    fastdrop.drop_block_backward,
    {
        name: (shape, {"p": 0.2, "block_size": 3, "data_format": "channels_first", **options})
        for name, shape, options in (
            ("0.2", MAPS, {}),
            ("0.2 exact", MAPS, {"exact_rate": True}),
            ("0.2 one mask", MAPS, {"shared_axes": 1}),
            ("0.2 scaled by sample", MAPS, {"per": "sample"}),
            ("0.2 unscaled", MAPS, {"mode": "unscaled"}),
            ("0.2 channels last", MAPS, {"data_format": "channels_last"}),
            ("0.2 of 2 by 4", MAPS, {"block_size": (2, 4)}),
            ("0.2 of one dimension", (3, 5, 40), {}),
            ("0.2 of three dimensions", (2, 3, 6, 7, 5), {}),
        )
    },
)
for name, exact in (("paper", False), ("exact", True)):
    for size in (3, (2, 4)):
        number(
            "block-gamma",
            f"{name} {size}",
            lambda e=exact, s=size: [theory.drop_block_gamma(p / 10, (11, 10), s, exact_rate=e) for p in range(11)],
            rounded=True,
        )
for name, rate, threshold, layout in (
    ("drop", 1.0, 0.8, "channels_first"),
    ("importance", 0.0, 0.8, "channels_first"),
    ("0.75 channels last", 0.75, 0.5, "channels_last"),
):
    options = {"p": rate, "threshold": threshold, "data_format": layout}
    add("attention-map-forward", name, MAPS, lambda a, o=options: fastdrop.adl(a.x, **o, **a.key))
    add("attention-map-backward", name, MAPS, lambda a, o=options: fastdrop.adl_backward(a.grad, a.x, **o, **a.key))

# Functions of numbers -----------------------------------------------------------------------------------------------

add("elementary", "exp", FLAT, lambda a: elementary.exp(a.x))
add("elementary", "sigmoid", FLAT, lambda a: elementary.sigmoid(a.x))
add("elementary", "softplus", FLAT, lambda a: elementary.softplus(a.x))
add("elementary", "log", FLAT, lambda a: elementary.log(a.laid(shares(FLAT))))
add("elementary", "logit", FLAT, lambda a: elementary.logit(a.laid(shares(FLAT))))

# Closed forms and losses --------------------------------------------------------------------------------------------


def fast_moments_backward(a: Inputs, mode: str) -> tuple[np.ndarray, ...]:
    """Return the gradients; the weights' one as (out, in), as it was recorded."""
    dx, dweight, dbias = fastdrop.theory.fast_dropout_moments_backward(
        a.dense(17, 19), a.dense(17, 19, salt=3), a.dense(17, 23), a.dense(19, 23).T, 0.4, a.dense(19), mode=mode
    )
    return dx, dweight.T, dbias


for technique, function in (
    ("variance-shift", fastdrop.theory.variance_shift),
    ("variance-inflation", fastdrop.theory.variance_inflation),
):
    for name, options in {
        "defaults": {},
        "moments": {"mean": 0.25, "var": 1.5},
        "weights": {"mean": 0.25, "weights": np.abs(pattern((9, 45))).T + 1, "correlation": 0.1},
    }.items():
        closed(technique, name, lambda a, f=function, o=options: [f(p / 10, **o) for p in range(1, 10)])
    closed(technique, "uniform noise", lambda a, f=function: [f(None, 0.25, 1.5, half_width=w / 10) for w in range(1, 6)])
for name, mode in (("standard", "standard"), ("inverted", "inverted")):
    for bias in (True, False):
        closed(
            "fast-moments-forward",
            f"0.4 {name} {'bias' if bias else 'no bias'}",
            lambda a, m=mode, b=bias: fastdrop.theory.fast_dropout_moments(
                a.dense(17, 23), a.dense(19, 23).T, 0.4, a.dense(19) if b else None, mode=m
            ),
        )
    closed(
        "fast-moments-backward",
        f"0.4 {name}",
        lambda a, m=mode: fast_moments_backward(a, m),
    )
closed("sigmoid-moments", "-", lambda a: fastdrop.theory.sigmoid_moments(a.dense(99), shares(99)))
closed("relu-moments", "-", lambda a: fastdrop.theory.relu_moments(a.dense(99), shares(99)))


def network(a: Inputs) -> list[np.ndarray]:
    """Return the weights of a network of three linear layers, from 7 inputs to 4 outputs."""
    return [a.dense(6, 7).T, a.dense(5, 6, salt=3).T, a.dense(4, 5, salt=4).T]


def regularizer_gradients(a: Inputs, options: dict[str, Any]) -> list[np.ndarray]:
    """Return the gradients as (out, in), as they were recorded."""
    return [gradient.T for gradient in fastdrop.theory.dropout_regularizer_backward(network(a), **options)]


COV = pattern((7, 9)) @ pattern((7, 9)).T / 9
for name, options in {
    "0.4": {"p": 0.4},
    "rates": {"p": [0.1, 0.3]},
    "second moment": {"cov": COV, "p": 0.4},
    "one layer": {"cov": COV, "p": 0.4, "layers": [1]},
}.items():
    closed("explicit-regularizer-forward", name, lambda a, o=options: fastdrop.theory.dropout_regularizer(network(a), **o))
    closed("explicit-regularizer-backward", name, lambda a, o=options: regularizer_gradients(a, o))
closed("nuclear-envelope", "0.4", lambda a: fastdrop.theory.nuclear_norm_envelope(a.dense(4, 7).T, None, 0.4, 5))
closed(
    "nuclear-envelope",
    "second moment",
    lambda a: fastdrop.theory.nuclear_norm_envelope(a.dense(4, 7).T, COV, [0.4, 0.2], (5, 6)),
)
closed("matrix-completion", "0.4", lambda a: fastdrop.theory.matrix_completion_regularizer(a.dense(9, 4), a.dense(7, 4), 0.4))
closed(
    "matrix-completion",
    "probabilities",
    lambda a: fastdrop.theory.matrix_completion_regularizer(
        a.dense(9, 4),
        a.dense(7, 4),
        0.4,
        row_probabilities=shares(9) / shares(9).sum(),
        column_probabilities=shares(7) / shares(7).sum(),
    ),
)
for technique, function in (
    ("r-drop-forward", fastdrop.losses.r_drop_loss),
    ("r-drop-backward", fastdrop.losses.r_drop_loss_backward),
):
    for form in ("paper", "code"):
        for name, chosen in (("all", None), ("some", np.arange(12) % 3 != 1)):
            closed(
                technique,
                f"{form} {name}",
                lambda a, f=function, form=form, m=chosen: f(
                    a.dense(12, 5), a.dense(12, 5, salt=3), np.arange(12) ** 2 % 5, 0.75, mask=m, form=form
                ),
            )

# Seeds and streams --------------------------------------------------------------------------------------------------

number("fold-in", "numbers", lambda: [fastdrop.fold_in(KEY["seed"], n) for n in (0, 1, 2**32, 2**64 - 1)])
number("fold-in", "names", lambda: [fastdrop.fold_in(KEY["seed"], name) for name in ("", "layer 1", "Größe")])


def keys(stream: fastdrop.Stream, count: int) -> list[int]:
    """Return the seeds and offsets of a stream's next draws, one after the other."""
    return [part for _ in range(count) for part in tuple(stream.next())]


number("stream", "next", lambda: keys(fastdrop.Stream(5, 2**40), 5))
number("stream", "children", lambda: [keys(child, 2) for child in fastdrop.Stream(5).spawn(3)])
number("stream", "grandchildren", lambda: [keys(child, 2) for child in fastdrop.Stream(5).spawn(2)[1].spawn(2)])
number("stream", "fold-in", lambda: [keys(fastdrop.Stream(5).fold_in(data), 2) for data in (7, "name")])
number("stream", "seed sequence", lambda: keys(fastdrop.Stream(np.random.SeedSequence(5)), 2))
number("stream", "seed sequence, mask", lambda: fastdrop.dropout_mask((99,), 0.5, seed=np.random.SeedSequence(5)))


def from_stream(a: Inputs) -> list[np.ndarray]:
    """Return what two draws of a stream give."""
    stream = fastdrop.Stream(5)
    found = []
    for _ in range(2):
        seed, offset = stream.next()
        found.append(fastdrop.dropout(a.x, 0.5, seed=seed, offset=offset))
    return found


add("stream", "dropout", FLAT, from_stream)

# Federated ----------------------------------------------------------------------------------------------------------

SERVER, AXES = (
    {"w": pattern((9, 40)), "v": pattern((40, 30), 1), "b": pattern((30,), 2)},
    {"w": (None, "a"), "v": ("a", "b"), "b": ("b",)},
)
UNITS = {"a": 40, "b": 30}


def client_units(client: int, count: str = "random") -> dict[str, np.ndarray]:
    return federated.kept_units(UNITS, 0.4, federated.client_seed(42, 3, client), count=count)


def aggregated() -> list[np.ndarray]:
    """Return the server's parameters after three clients changed their parts, and the counts."""
    updates = []
    for client in range(3):
        kept = client_units(client)
        part = {name: value * (client + 2) / 3 for name, value in federated.extract(SERVER, AXES, kept).items()}
        updates.append(federated.Update(part, kept, client + 1))
    parameters, counts = federated.aggregate(SERVER, AXES, updates)
    return [*(parameters[name] for name in SERVER), *(counts[name] for name in SERVER)]


number("federated", "client seed", lambda: [federated.client_seed(42, 3, client) for client in (0, 7, "phone")])
number("federated", "units", lambda: [client_units(client)[layer] for client in range(3) for layer in UNITS])
number("federated", "units, rates", lambda: [*federated.kept_units(UNITS, {"a": 0.2, "b": 0.7}, 17, count="random").values()])
number("federated", "units, fixed", lambda: [client_units(client, "fixed")[layer] for client in range(3) for layer in UNITS])
number("federated", "extract", lambda: list(federated.extract(SERVER, AXES, client_units(1)).values()))
number("federated", "aggregate", aggregated)

# Uncertainty --------------------------------------------------------------------------------------------------------


def softmax_like(x: np.ndarray) -> np.ndarray:
    """Return probabilities along the last axis, by operations that are exactly rounded."""
    positive = np.abs(np.asarray(x, np.float64)) + 1 / 8
    total = positive[..., 0]
    for k in range(1, positive.shape[-1]):
        total = total + positive[..., k]
    return positive / total[..., None]


def dropped(x: np.ndarray, stream: fastdrop.Stream) -> np.ndarray:
    seed, offset = stream.next()
    return fastdrop.dropout(x, 0.4, seed=seed, offset=offset)


def predicted(reduce: Any, of: Callable[[Any], Any] = lambda y: y, **options: Any) -> Any:
    return uncertainty.mc_predict(lambda x, s: of(dropped(x, s)), pattern((12, 5)), 9, seed=77, reduce=reduce, **options)


def moments(found: Any) -> list[Any]:
    return [found.mean, found.variance, found.std]


add("mc-dropout", "0.4", FLAT, lambda a: moments(uncertainty.mc_dropout(a.x, 0.4, 7, **KEY)))
add("mc-dropout", "0.4 shared", FLAT, lambda a: moments(uncertainty.mc_dropout(a.x, 0.4, 7, shared_axes=1, **KEY)))
number("mc-predict", "moments", lambda: moments(predicted(uncertainty.Moments())))
number("mc-predict", "moments, offset", lambda: moments(predicted(uncertainty.Moments(), offset=3)))
number("mc-predict", "samples", lambda: predicted(uncertainty.Samples()).values)


def classified() -> list[Any]:
    found = predicted(uncertainty.Classification(), softmax_like)
    measures = [found.predictive_entropy, found.expected_entropy, found.mutual_information, found.variation_ratio]
    return [found.mean, found.votes, found.prediction, *measures]


def regressed() -> list[Any]:
    found = predicted(uncertainty.Regression(2.5, pattern((12, 5), 3)))
    return [found.mean, found.predictive_variance, found.log_likelihood]


def calibrated() -> list[Any]:
    found = uncertainty.calibration(softmax_like(pattern((60, 4))), np.arange(60) ** 2 % 4, 8)
    return [found.edges, found.counts, found.confidence, found.accuracy]


number("mc-predict", "classification", classified)
number("mc-predict", "regression", regressed)
number("pass-seed", "-", lambda: [uncertainty.pass_seed(5, 2**33, n) for n in range(5)])
number("entropy", "-", lambda: uncertainty.entropy(softmax_like(pattern((12, 5)))))
number("calibration", "-", calibrated, rounded=True)
number("model-precision", "-", lambda: uncertainty.model_precision(0.4, 0.3, 64, 0.0125))
number("ood-auroc", "-", lambda: uncertainty.ood_auroc(shares(50), shares(40, 1) + 1 / 16), rounded=True)

# Schedules ----------------------------------------------------------------------------------------------------------


def rates(schedule: Callable[[int], float]) -> np.ndarray:
    return np.array([schedule(step) for step in (*range(0, 60, 7), 99, 100, 101, 1000)])


LINEAR = schedules.Linear(0.05, 0.45, 90, begin=9)
for name, schedule in {
    "constant": schedules.Constant(0.3),
    "linear": LINEAR,
    "stepwise": schedules.Stepwise(0.4, 0.5, 20),
    "early": schedules.Early(0.4, 50),
    "early linear": schedules.Early(0.4, 50, "linear"),
    "late": schedules.Late(0.4, 50),
    "scaled": LINEAR.scaled(0.3),
    "clipped": LINEAR.clipped(0.1, 0.3),
    "phases": schedules.Phases((LINEAR, 0.2, schedules.Constant(0.6)), (30, 40)),
    "then": LINEAR.then(40, 0.125),
}.items():
    number("schedule", name, lambda s=schedule: rates(s))
for name, schedule in {
    "cosine": schedules.Cosine(0.5, 0.1, 80, begin=5),
    "polynomial": schedules.Polynomial(0.5, 0.1, 80, 3.0),
    "exponential": schedules.Exponential(0.5, 0.1, 0.02),
    "curriculum": schedules.Curriculum(0.5, 0.03),
}.items():
    number("schedule", name, lambda s=schedule: rates(s), rounded=True)
for rule in ("paper", "timm"):
    number("schedule", f"layerwise {rule}", lambda r=rule: [rates(s) for s in schedules.layerwise(LINEAR, 5, r)])
number("schedule", "drop path", lambda: [rates(s) for s in schedules.scheduled_drop_path(0.3, 4, 70)])


def driven() -> list[float]:
    schedule = schedules.ValidationDriven(0.3, target=0.1, tolerance=0.01)
    return [schedule.update(1 - k / 16, 1 - k / 16 + abs(float(pattern((1,), k)[0])) / 8) for k in range(12)]


number("schedule", "validation driven", driven)


# The record ---------------------------------------------------------------------------------------------------------


def read() -> dict[str, Any]:
    """Return the record: "recorded", hashes by id, and "changed", entries {"sha256", "reason"} by id."""
    return json.loads(RECORD.read_text()) if RECORD.exists() else {"recorded": {}, "changed": {}}


def expected(record: dict[str, Any]) -> dict[str, str]:
    """Return the hash that each id must have now."""
    return record["recorded"] | {name: entry["sha256"] for name, entry in record["changed"].items()}


def add_missing(record: dict[str, Any]) -> str:
    """Record the cases that have no hash; refuse where one has a hash and another result."""
    known, found = expected(record), {name: case.digest() for name, case in cases().items()}
    if differing := [name for name in found if known.get(name, found[name]) != found[name]]:
        raise SystemExit("These results differ from the record; --add changes none of them:\n" + "\n".join(differing))
    missing = {name: hash for name, hash in found.items() if name not in known}
    record["recorded"] |= missing
    return f"Recorded {len(missing)} results; {len(known)} were recorded before."


def change(record: dict[str, Any], ids: list[str], reason: str) -> str:
    """Record new hashes beside the old ones, with the reason."""
    table, known = cases(), expected(record)
    if unknown := [name for name in ids if name not in known or name not in table]:
        raise SystemExit("These ids have no recorded result or no call:\n" + "\n".join(unknown))
    found = {name: table[name].digest() for name in ids}
    if equal := [name for name in ids if found[name] == known[name]]:
        raise SystemExit("These results are as recorded; they have not changed:\n" + "\n".join(equal))
    record["changed"] |= {name: {"sha256": hash, "reason": reason} for name, hash in found.items()}
    return f"Recorded {len(found)} changes."


def main() -> None:
    parser = argparse.ArgumentParser(description="Record results of public functions.")
    parser.add_argument("--add", action="store_true", help="record the ids that have no hash yet")
    parser.add_argument("--change", nargs="+", metavar="ID", default=[], help="record new results of these ids")
    parser.add_argument("--reason", help="why they changed, in one sentence")
    arguments = parser.parse_args()
    if arguments.add == bool(arguments.change) or bool(arguments.change) != bool(arguments.reason):
        parser.error('give either --add, or --change ID ... --reason "..."')
    record = read()
    done = add_missing(record) if arguments.add else change(record, arguments.change, arguments.reason)
    RECORD.write_text(json.dumps({key: dict(sorted(record[key].items())) for key in ("recorded", "changed")}, indent=1) + "\n")
    sys.stdout.write(done + "\n")


if __name__ == "__main__":
    main()
