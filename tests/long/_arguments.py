"""Random arguments for the public functions: with most of them a call works, and with some it must not.

`Draw` has the random choices of one call, and the shape and the dtype that its arrays have in common. `MAKERS` has a function
per keyword. The choices depend on (seed, number of the call) alone, so the same arguments can be made again.
"""

import itertools
import math
import random

import ml_dtypes
import numpy as np
from _liars import (
    CHANGES,
    CLASSES,
    ChangingArray,
    ChangingDtype,
    ChangingNumber,
    ChangingSequence,
    Meddler,
    lying_objects,
)

import fastdrop
from fastdrop import federated, uncertainty
from fastdrop.verify.cases import DTYPES, SPECIAL_RATES, awkward

WRONG_DTYPES = (
    "int32",
    "uint8",
    "bool",
    "complex64",
    "object",
    "S3",
    "M8[s]",
    ">f4",
    ">f8",
    ">f2",
    "longdouble",
    "U2",
    "f4,f8",
    "V4",
)
LENGTHS = (1, 1, 2, 2, 3, 3, 4, 5, 7, 8, 13, 16, 33)
FAR = (2**32 - 5, 2**39 - 1, 2**48, 2**55 - 3, 2**55, 2**63 - 1, 2**63, 2**64 - 1, 2**64)
# The number of axes that a function or a layer asks for, where it asks for one. A layer has the name of its function.
AXES_OF = {
    2: "drop_connect variational_dense variational_dropout shakeout targeted_dropout weight_drop drop_connect_moments "
    "fast_dropout_moments multinomial_dropout calibration",
    3: "dropout1d embedding_dropout token_dropout patch_dropout locked_dropout",
    4: "adl attention_dropout drop_block drop_head drop_key dropout2d spatial_dropout spatial_concrete_dropout",
    5: "dropout3d",
}
AXES = {name.replace("_", ""): axes for axes, names in AXES_OF.items() for name in names.split()}
LINEAR = ("drop_connect", "variational", "fast_dropout", "DropConnect", "Variational")  # x is (samples, in), weight (in, out)


class Draw:
    """The random choices of one call."""

    def __init__(self, seed, number):
        self.random = random.Random(f"{seed}/{number}")
        self.choice, self.below = self.random.choice, self.random.randrange

    def begin(self, name):
        """Choose the values that the arguments of a call of this function share."""
        self.name = name
        self.arrays = []  # all that were made, so that a later argument can meddle with one, or overlap it
        self.base = None  # the memory that x and out share
        self.hostile = self.choice((0, 0, 0, 0.08, 0.08, 0.4))
        self.dtype = np.dtype(self.choice(WRONG_DTYPES if self.chance(0.06) else DTYPES))
        self.shape = self.draw_shape(AXES.get(name.removesuffix("_backward").replace("_", "").lower()))
        self.outputs = self.choice((1, 2, 3, 5))
        self.placed = self.chance(0.25)
        self.place = tuple(self.choice((0, 0, 0, 1, 2, 5, 2**20)) for _ in self.shape)
        return self

    def chance(self, p):
        """Return True with probability p."""
        return self.random.random() < p

    def draw_shape(self, axes):
        """Return a shape, most often of this number of axes."""
        kind = self.random.random()
        if kind < 0.03:
            return ()
        if kind < 0.06:
            return (1,) * self.choice((32, 33, 63, 64))
        if axes is None or kind < 0.2:
            axes = self.choice((1, 1, 2, 2, 3, 4, 5, 6))
        if kind > 0.95:
            return (1,) * (axes - 1) + (self.choice((4095, 4096, 4097, 9001)),)
        lengths = (0, *LENGTHS) if self.chance(0.1) else LENGTHS
        return tuple(self.choice(lengths) for _ in range(axes))

    @property
    def size(self):
        """The number of elements of `shape`."""
        return math.prod(self.shape)

    def array(self, shape=None, dtype=None, *, writeable=False):
        """Return an array in one of many layouts, with awkward or with ordinary values."""
        shape = self.shape if shape is None else shape
        dtype = self.dtype if dtype is None else np.dtype(dtype)
        shape = shape if math.prod(shape) < 2**20 and len(shape) <= 64 else (3,)
        made = self.laid(shape, dtype)
        source = self.values(max(made.size, 1), dtype)
        made[...] = np.resize(source, made.shape)
        if not writeable and self.chance(0.1):
            made.flags.writeable = False
        self.arrays.append(made)
        return made

    def values(self, n, dtype):
        """Return n values of a dtype."""
        if dtype.name in DTYPES:
            if self.chance(0.3):
                return awkward(n, dtype.name)
            return (np.linspace(0.0, 1.0, n + 3)[1 : n + 1] * self.choice((1, 1, -3, 10))).astype(dtype)
        return np.resize(
            np.arange(7).astype(f"V{dtype.itemsize}" if dtype.kind == "V" else dtype)
            if dtype.names is None
            else np.zeros(7, dtype),
            n,
        )

    def laid(self, shape, dtype):
        """Return an empty array in a layout."""
        layout = self.choice(("C", "C", "C", "F", "steps", "reversed", "swapped", "misaligned", "field", "part", "broadcast"))
        if layout == "F":
            return np.empty(shape, dtype, order="F")
        if layout == "steps":
            longer = [2 * n + 1 if axis < 8 else n for axis, n in enumerate(shape)]
            return np.empty(longer, dtype)[
                (..., *(slice(1, None, 2) if axis < 8 else slice(None) for axis in range(len(shape))))
            ]
        if layout == "reversed":
            return np.empty(shape, dtype)[(..., *(slice(None, None, self.choice((1, -1))) for _ in shape))]
        if layout == "swapped" and len(shape) > 1:
            return np.empty((*shape[1:], shape[0]), dtype).transpose(len(shape) - 1, *range(len(shape) - 1))
        if layout == "misaligned" and not dtype.hasobject:
            return np.empty(math.prod(shape) * dtype.itemsize + 1, np.uint8)[1:].view(dtype).reshape(shape)
        if layout == "field" and dtype.names is None:
            return np.empty(shape, [("before", np.int8), ("value", dtype)])["value"]
        if layout == "part" and shape:
            return np.empty((*shape[:-1], shape[-1] + 3), dtype)[..., 1:-2]
        return np.empty(shape, dtype)

    def main(self):
        """Return the array from which the call drops."""
        if self.dtype.hasobject or self.chance(0.05):
            return np.resize(np.linspace(0, 1, 5), self.shape).tolist()
        if self.chance(0.1):  # with the output beside it in the same memory
            self.base = np.resize(self.values(self.size + 9, self.dtype), self.size + 9)
            self.arrays.append(self.base)
            return self.base[: self.size].reshape(self.shape)
        if self.chance(0.04):
            x = self.array()
            return np.broadcast_to(x[:1], x.shape) if x.shape else x
        if self.chance(0.03):
            made = np.ones(self.shape, self.dtype if self.dtype.kind == "f" else "f4").view(
                self.choice((np.matrix, np.ndarray)) if len(self.shape) == 2 else np.ndarray
            )
            return np.ma.masked_array(made) if self.chance(0.3) else made
        return self.array()

    def output(self, shape=None, dtype=None):
        """Return an array for the result: new, overlapping the input, or the input itself."""
        if self.base is not None and self.chance(0.8):
            shift = self.choice((0, 0, 1, 3, 9))
            return self.base[shift : shift + self.size].reshape(self.shape)
        if shape is None and self.arrays and self.chance(0.15):
            return self.arrays[0]
        return self.array(shape, dtype, writeable=not self.chance(0.05))

    def broadcastable(self):
        """Return a shape that broadcasts to that of the call."""
        shape = self.shape[self.below(len(self.shape) + 1) :]
        return tuple(1 if self.chance(0.2) else n for n in shape)

    def same_shape(self):
        """Return the shape of the call, or one that broadcasts to it."""
        return self.broadcastable() if self.chance(0.2) else self.shape

    def axis(self):
        """Return the number of an axis, most often of one that exists."""
        return (
            self.below(-len(self.shape) - 1, len(self.shape) + 1)
            if self.chance(0.1) or not self.shape
            else self.below(-len(self.shape), len(self.shape))
        )


# One function per keyword -------------------------------------------------------------------------------------------


def rate(d):
    kind = d.random.random()
    if kind < 0.4:
        return d.choice((0.1, 0.3, 0.5, 0.7, 0.25))
    if kind < 0.75:
        return d.choice(
            (*SPECIAL_RATES, 1 - 2**-54, 2**-1074, np.float32(0.3), np.float16(0.5), np.float64(1), np.int8(0), 1, 0)
        )
    if kind < 0.8:
        return d.choice((np.nan, -0.1, 1 + 2**-52, -5e-324, np.inf, np.array(0.4), np.array([0.4])))
    shape = d.broadcastable() if d.chance(0.5) else d.shape
    rates = np.resize(np.array(SPECIAL_RATES), shape).astype(d.choice(("f4", "f8", "f8", "f2", "i4")))
    if rates.size and d.chance(0.05) and rates.dtype.kind == "f":
        rates.reshape(-1)[d.below(rates.size)] = d.choice((np.nan, -1, 2))
    d.arrays.append(rates)
    return rates if d.chance(0.7) else rates[::-1] if rates.ndim else rates.tolist()


def seed(d):
    number = d.choice((0, 1, 42, 2**63, 2**64 - 1, d.below(2**64)))
    return d.choice(
        (
            number,
            number,
            number,
            fastdrop.Key(number, 3),
            fastdrop.Stream(number, 5),
            fastdrop.Stream(number, 2**64 - 1),
            np.random.default_rng(number),
            np.random.SeedSequence(number),
            np.random.PCG64(number),
            np.uint64(number),
            np.random.MT19937(number),
            None,
        )
    )


def whole_shape(d):
    return tuple(n + a + d.choice((0, 0, 1, 3, 2**20)) for n, a in zip(d.shape, d.place, strict=True)) if d.placed else None


def whole_start(d):
    return d.place if d.placed else None


def axes_or_none(d):
    return d.choice((None, None, d.axis(), (d.axis(),), (d.axis(), d.axis()), [d.axis()], (), np.int64(d.axis())))


def weight(d):
    if d.name.startswith(LINEAR):
        return d.array((d.shape[-1] if d.shape else 1, d.outputs))
    return d.main() if not d.arrays else d.array()


def grad(d):
    if d.name.startswith(LINEAR):
        return d.array((*d.shape[:-1], d.outputs))
    if d.name.startswith(("token_dropout", "patch_dropout")) and len(d.shape) > 1 and d.chance(0.5):
        return d.array((d.shape[0], (d.shape[1] + 1) // 2, *d.shape[2:]))
    return d.main() if not d.arrays else d.array()


def out(d):
    if d.chance(0.7):
        return None
    if d.name == "words":
        return d.array((d.shape[0] if d.shape else 3,), "uint32", writeable=True)
    if d.name == "dropout_mask":
        shape, dtype = ((-(-d.size // 8),), "uint8") if d.chance(0.3) else (d.shape, "bool")
        return d.array(shape, dtype, writeable=True)
    if d.name.startswith(LINEAR) and not d.name.endswith("_backward"):
        return d.output((*d.shape[:-1], d.outputs))
    return d.output()


def several(d):
    widths = [d.choice(LENGTHS[2:7]) for _ in range(d.choice((1, 2, 2, 3)) + 1)]
    return [d.array(shape) for shape in itertools.pairwise(widths)]


def probabilities(d):
    classes = d.shape[-1] if d.shape else 3
    shape = (classes,) if d.chance(0.5) else (*d.shape[:-1], classes)
    made = np.resize(np.linspace(0.5, 1, 7), shape)
    return made / made.sum(-1, keepdims=True) if made.size else made


def small(d):
    return d.choice((0, 1, 1, 2, 2, 3, 4, 5, 8))


def number(d):
    return d.choice((0.0, 0.1, 0.5, 1.0, 1.0, 2.5, -1.0, 1e-300, 1e300, np.float32(0.7), 1, 5e-324))


def flag(d):
    return d.choice((True, False, np.True_))


def one_of(*names):
    """Return a maker that chooses one of these names."""
    return lambda d: d.choice(names)


def unit_sizes(d):
    return {"a": small(d), "b": d.choice(LENGTHS)}


def kept(d):
    return (
        federated.kept_units({"a": 4, "b": 5}, 0.5, d.below(100))
        if d.chance(0.8)
        else {"a": np.arange(small(d)), "b": np.array([0, 4])}
    )


def network(d):
    return {"w": d.array((4, 5)), "v": d.array((5,)), "s": d.array((2, 2))}


def updates(d):
    units = kept(d)
    whole = {"w": d.array((4, 5)), "v": d.array((5,)), "s": d.array((2, 2))}
    try:
        part = federated.extract(whole, NETWORK_AXES, units)
    except (TypeError, ValueError):
        part = whole
    return [federated.Update(part, units, d.choice((1, 2, 0, 10)))] * d.choice((0, 1, 1, 2))


def schedule(d):
    return d.choice(
        (
            0.3,
            fastdrop.schedules.Linear(0.1, 0.5, 10),
            fastdrop.schedules.Constant(0.2),
            lambda step: 0.5,
            fastdrop.schedules.Early(0.4, 3),
        )
    )


NETWORK_AXES = {"w": ("a", "b"), "v": ("b",), "s": (None, None)}

MAKERS = {
    "allowed": lambda d: d.choice((None, d.array(d.same_shape(), "bool"))),
    "among": one_of("output", "layer"),
    "antithetic": flag,
    "antithetic_losses": lambda d: d.choice((None, d.array(d.shape[:1]))),
    "approximation": one_of("molchanov", "kingma"),
    "axes": lambda d: (
        NETWORK_AXES if d.name in ("extract", "aggregate") else d.choice((-1, d.axis(), (d.axis(), d.axis()), [d.axis()]))
    ),
    "axis": axes_or_none,
    "backend": one_of(None, None, None, "c", "numpy"),
    "begin": small,
    "bias": lambda d: d.choice((None, d.array((d.outputs,) if d.name.startswith(LINEAR) else d.broadcastable()))),
    "bins": small,
    "block_size": lambda d: d.choice((1, 2, 3, 7, (2, 3), (1, 1, 2), (3,), [2, 2])),
    "c": number,
    "capsules": flag,
    "client": lambda d: d.choice((0, 7, "a name", 2**64 - 1)),
    "column_probabilities": lambda d: d.choice((None, np.full(3, 1 / 3))),
    "correlation": lambda d: d.choice((0.0, 0.5, -1, 1)),
    "count": one_of("fixed", "random"),
    "cov": lambda d: d.choice((None, np.eye(d.choice(LENGTHS[:6])))),
    "cutoff": small,
    "data": lambda d: d.choice((0, 7, "a name", "", 2**64 - 1, "ä\ud800")),
    "data_format": one_of("channels_first", "channels_last"),
    "depth": small,
    "drop_bias": flag,
    "dropout_regularizer": number,
    "dtype": lambda d: d.choice((d.dtype, d.dtype.type, d.dtype.str, "float32", np.float64, float, ml_dtypes.bfloat16)),
    "empty_rows": one_of("keep", "fill"),
    "end": rate,
    "epsilon": lambda d: d.choice((1e-7, 1e-7, 1e-3, 0.0, 1e-300, 1.0)),
    "estimator": one_of("none", "straight_through", "score_function", "arm", "disarm"),
    "every": small,
    "exact_mean": flag,
    "exact_rate": flag,
    "factor": number,
    "fill": lambda d: d.choice((-np.inf, 0.0, -1e9, np.nan, d.array(d.broadcastable()))),
    "first": lambda d: d.array(),
    "floor": lambda d: d.choice((0.01, 0.0, 0.5, 1.0, 2**-64)),
    "form": one_of("paper", "code"),
    "fraction": rate,
    "gain": number,
    "gamma": number,
    "gather": flag,
    "global_shape": whole_shape,
    "global_start": whole_start,
    "grad": grad,
    "grad_mean": lambda d: d.array((*d.shape[:-1], d.outputs)),
    "grad_var": lambda d: d.array((*d.shape[:-1], d.outputs)),
    "group_size": lambda d: d.choice((1, 2, 3, 5, 100, (2, 2), (1, 3), [2])),
    "half_width": lambda d: None if d.name.startswith("variance") and d.chance(0.8) else d.choice((0.1, 0.0, 1.0, 2.0, 1e300)),
    "high": number,
    "input_dim": small,
    "k": lambda d: d.choice((1, 2, 3, 100, 0)),
    "kept": kept,
    "known": lambda d: d.array(),
    "labels": lambda d: np.arange(d.shape[0] if d.shape else 1) % max(1, d.shape[-1] if d.shape else 1),
    "layers": lambda d: d.choice((None, [0], [0, 1], ())),
    "length_scale": number,
    "lengths": lambda d: [small(d) for _ in range(d.choice((1, 1, 2)))],
    "log_alpha": lambda d: (
        d.choice((None, 0.0, -1.0))
        if d.chance(0.4)
        else d.array(d.same_shape() if not d.name.startswith(LINEAR) else (d.shape[-1] if d.shape else 1, d.outputs))
    ),
    "log_sigma2": lambda d: d.array((d.shape[-1] if d.shape else 1, d.outputs) if d.name.startswith(LINEAR) else d.shape),
    "logits": lambda d: d.array(d.same_shape()),
    "losses": lambda d: d.choice((None, d.array(d.shape[:1]))),
    "low": number,
    "mask": lambda d: d.choice(
        (
            d.array(d.same_shape(), "bool"),
            np.packbits(np.arange(d.size) % 3 > 0, bitorder="little"),
            np.ones(d.shape[:-1], bool),
        )
    ),
    "max_change": number,
    "max_log_alpha": number,
    "mean": number,
    "mode": one_of("inverted", "inverted", "standard", "unscaled"),
    "n": lambda d: d.shape[0] if d.shape else 3,
    "name": lambda d: d.choice(("c", "numpy", None, *fastdrop.config()["isas"])),
    "new": lambda d: d.main(),
    "noise": one_of("input", "weight"),
    "noise_shape": lambda d: d.choice((None, None, tuple(d.choice((None, 1, n)) for n in d.shape), [1] * len(d.shape))),
    "num_cells": small,
    "num_embeddings": lambda d: d.choice((None, 4, 100)),
    "num_prefix_tokens": lambda d: d.choice((0, 1, 2)),
    "num_threads": lambda d: d.choice((None, None, 1, 2, 3)),
    "num_tokens": lambda d: d.choice((None, d.shape[1] if len(d.shape) > 1 else 4)),
    "number": lambda d: d.choice((1, 2, None, 3)),
    "offset": lambda d: d.choice((0, 0, 0, 1, 2**32 + 7, 2**64 - 1)),
    "ordered": flag,
    "out": out,
    "p": rate,
    "p_logit": lambda d: d.choice((-1.0, 0.0, 30.0, -800.0, np.array([0.5], "f4"), np.array(-2.0), -np.inf, np.nan)),
    "packed": flag,
    "parameters": network,
    "per": one_of("sample", "batch"),
    "power": number,
    "precision": number,
    "previous": lambda d: d.array(),
    "probabilities": probabilities,
    "prune_above": number,
    "renormalize": lambda d: d.choice((None, True, False)),
    "residual": lambda d: d.choice((None, d.array())),
    "return_indices": flag,
    "round": small,
    "row_probabilities": lambda d: d.choice((None, np.full(4, 1 / 4))),
    "rule": one_of("paper", "timm"),
    "samples": small,
    "scale": number,
    "schedule": schedule,
    "schedules": lambda d: [schedule(d) for _ in range(d.choice((1, 2, 2, 3)))],
    "scores": lambda d: d.array(d.same_shape()),
    "second": lambda d: d.array(),
    "seed": seed,
    "shape": lambda d: (
        d.choice((d.shape, d.shape, list(d.shape), d.size, (1,) * 66, (2**33, 2**33)))
        if d.name != "Early"
        else d.choice(("constant", "linear"))
    ),
    "shared_axes": axes_or_none,
    "shift": number,
    "spatial": lambda d: d.choice(((8, 8), (5,), (2, 3, 4), (0, 1), [7, 7])),
    "start": lambda d: (
        rate(d)
        if d.name in ("Linear", "Cosine", "Polynomial", "Exponential")
        else 0
        if d.chance(0.7)
        else d.choice((1, 5, 127, 128, *FAR))
    ),
    "stddev": number,
    "steps": small,
    "strength": number,
    "target": number,
    "targets": lambda d: np.arange(math.prod(d.shape[:-1])).reshape(d.shape[:-1]) % max(1, d.shape[-1] if d.shape else 1),
    "temperature": lambda d: d.choice((0.1, 2 / 3, 0.5, 1.0, 1e-3, 100)),
    "threshold": rate,
    "through_sum": flag,
    "tokens": lambda d: d.choice((None, np.arange(math.prod(d.shape[:-1])).reshape(d.shape[:-1]) % 4)),
    "tolerance": number,
    "training": one_of(True, True, True, True, False),
    "u": lambda d: d.array((4, 2)),
    "unit": lambda d: d.choice(
        {"attention": ("element", "key"), "weight_drop": ("weight", "output"), "shakeout": ("input", "weight")}.get(
            d.name.removesuffix("_backward").removesuffix("_dropout").lower(), ("element", "key", "weight", "output", "input")
        )
    ),
    "units": unit_sizes,
    "unknown": lambda d: d.array(),
    "updates": updates,
    "v": lambda d: d.array((3, 2)),
    "var": lambda d: d.choice((1.0, 0.5, 2.0)) if d.chance(0.8) else number(d),
    "weight": weight,
    "weight_decay": number,
    "weight_regularizer": number,
    "weights": lambda d: (
        d.choice((None, np.ones((3, 2)))) if d.name.startswith("variance") else several(d) if d.chance(0.7) else d.array()
    ),
    "widths": lambda d: d.choice((1, 2, [2, 3])),
    "window": lambda d: d.choice((1, 1, 2, 3, 100)),
    "x": lambda d: d.main(),
    # of layers, and of tests of objects with a state
    "inputs": lambda d: d.main(),
    "second_input": lambda d: d.array(),
    "step": small,
    "reduce": lambda d: d.choice((None, uncertainty.Samples(), uncertainty.Moments())),
    "state": lambda d: d.choice(
        (
            {"stream": 1, "seed": 3, "offset": 0, "spawned": 0},
            {},
            {"stream": 2},
            {"stream": 1, "seed": -1, "offset": 2, "spawned": "x"},
        )
    ),
}


# Wrong and unusual arguments ---------------------------------------------------------------------------------------


def liar(d):
    kind = d.below(6)
    if kind == 0:
        return d.choice(tuple(lying_objects()))()
    if kind == 1:
        return ChangingNumber(*d.choice(((1, 2), (0, 2**70), (0.5, 7), (1, -1))))
    if kind == 2:
        return ChangingArray(d.array(), d.array(d.draw_shape(None)), np.ones(3, d.choice(WRONG_DTYPES[:3])))
    if kind == 3:
        return d.choice(
            (ChangingDtype("f4", "f8"), ChangingDtype("f8", "f4", "i4"), ChangingSequence(1, 5, 2), ChangingSequence(2**62, 1))
        )
    if kind == 4 and d.arrays:
        return Meddler(d.choice(d.arrays), d.choice((0, 1, 0.5)), d.choice(CHANGES))
    usual = d.dtype if d.dtype.kind == "f" else np.dtype("f4")
    return np.ones(d.shape, usual).view(d.choice(CLASSES))


def oddity(d):
    return d.choice(
        (
            None,
            True,
            False,
            "x",
            "",
            b"x",
            np.nan,
            np.inf,
            -1,
            -(2**63),
            2**31,
            2**63,
            2**64,
            2**70,
            10**400,
            -0.0,
            1.5,
            1j,
            [],
            [1, 2],
            (),
            (None,),
            {},
            set(),
            object(),
            type,
            print,
            Ellipsis,
            NotImplemented,
            slice(3),
            range(3),
            np.float32(2),
            np.int64(-1),
            np.array(3),
            np.array([]),
            np.array([0.5, 0.5]),
            np.array("x"),
            np.array([True]),
            np.array(None),
            [[1, 2], [3]],
            [None],
            "0.5",
            (1,) * 66,
            (2**40,) * 3,
            (-1,),
            (0,),
            bytearray(b"abc"),
            memoryview(b"abcd"),
            {"a": 1},
            np.bool_(True),
            np.datetime64("2020"),
            np.zeros(2, "f4,f4"),
            np.zeros(3, ">f4"),
            iter([1]),
        )
    )


def hostile(d, word):
    """Return an argument that does not fit the keyword, or only by chance."""
    kind = d.below(5)
    if kind == 0:
        return liar(d)
    if kind == 1:
        return MAKERS[d.choice(tuple(MAKERS))](d)
    if kind == 2:
        return d.array(d.draw_shape(None), d.choice((*DTYPES, *WRONG_DTYPES)))
    return oddity(d)


def arguments(d, words):
    """Return arguments for these keywords."""
    made = {}
    for word in words:
        made[word] = hostile(d, word) if d.chance(d.hostile) else MAKERS[word](d)
    for word in ("k", "samples"):  # 2**31 draws per sample or passes are allowed, and take a minute or hours
        if type(made.get(word)) is int and made[word] == 2**31:
            made[word] = 2**32
    return made
