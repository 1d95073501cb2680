"""Numbers that are not float64 are converted under rounding to nearest, whatever the caller's rounding; a NaN never traps."""

import ctypes
import ctypes.util
import decimal
import fractions
import platform
import sys

import numpy as np
import pytest

import fastdrop
from fastdrop import losses, theory

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"), reason="the constants are those of glibc"
)
ROUNDINGS = {"x86_64": (0x400, 0x800, 0xC00), "aarch64": (0x400000, 0x800000, 0xC00000)}  # down, up, toward zero
KEY = {"seed": 1}
THIRD = np.longdouble(1) / 3
X, Y, COLUMN = np.ones(64, np.float32), np.ones(64), np.ones((64, 1))
LIST = [1 / 3 + k / 7 for k in range(64)]
LARGE_INTEGERS = [np.int64(2**53 + 1 + 2 * k) for k in range(63)] + [0.5]  # an array of them is of float64
NUMBERS = {
    "decimal": decimal.Decimal("0.1"),
    "fraction": fractions.Fraction(1, 3),
    "longdouble": THIRD,
    "integer": 1,
    "float32": np.float32(1 / 3),
}
ARRAYS = {
    "longdouble": np.arange(1, 65).astype(np.longdouble) / 67,
    "list": LIST,
    "decimals": [decimal.Decimal(k) / 67 for k in range(64)],
}
CALLS = {
    "bias": lambda: fastdrop.dropout(X, 0.5, bias=LIST, **KEY),
    "residual": lambda: fastdrop.dropout(X, 0.5, residual=LIST, **KEY),
    "bias of longdoubles": lambda: fastdrop.dropout(X, 0.5, bias=list(ARRAYS["longdouble"]), **KEY),
    "zoneout": lambda: fastdrop.zoneout(X, LIST, 0.5, **KEY),
    "x": lambda: fastdrop.dropout(LIST, 0.3, **KEY),
    "logits": lambda: fastdrop.adaptive_dropout(X, LIST, **KEY),
    "stddev": lambda: fastdrop.gaussian_noise(X, stddev=THIRD, **KEY),
    "p_logit": lambda: fastdrop.concrete_dropout(X, THIRD, **KEY),
    "p_logit, decimal": lambda: fastdrop.concrete_dropout(X, decimal.Decimal("0.1"), **KEY),
    "stddev in float64": lambda: fastdrop.gaussian_noise(Y, stddev=THIRD, **KEY),
    "mean": lambda: fastdrop.alpha_dropout(Y, 0.3, mean=THIRD, **KEY),
    "log_alpha": lambda: fastdrop.gaussian_dropout(Y, log_alpha=ARRAYS["longdouble"], **KEY),
    "log_alpha of a layer": lambda: fastdrop.variational_dropout(
        Y.reshape(1, -1), COLUMN, -ARRAYS["longdouble"][:, None], **KEY
    ),
    "fill": lambda: fastdrop.drop_key(Y.reshape(1, 1, 8, 8), 0.5, fill=THIRD, **KEY),
    "scores": lambda: fastdrop.importance_dropout(Y, ARRAYS["longdouble"], 0.3, **KEY),
    "scores of a list": lambda: fastdrop.importance_dropout(Y, LARGE_INTEGERS, 0.3, **KEY),
    "losses": lambda: fastdrop.adaptive_dropout_backward(
        Y, Y, estimator="score_function", x=Y, losses=ARRAYS["longdouble"], **KEY
    )[1],
    "relu_moments": lambda: np.stack(theory.relu_moments(ARRAYS["longdouble"], ARRAYS["longdouble"])),
    "relu_moments of a list": lambda: np.stack(theory.relu_moments(list(ARRAYS["longdouble"]), LIST)),
    "r_drop_loss": lambda: np.float64(losses.r_drop_loss(ARRAYS["longdouble"].reshape(8, 8), LIST_OF_ROWS, np.arange(8))),
    "variance_shift": lambda: np.float64(theory.variance_shift(THIRD)),
    "variance_shift of rates": lambda: np.asarray(theory.variance_shift(ARRAYS["longdouble"])),
    **{f"p, {name}": lambda p=p: fastdrop.dropout(X, p, **KEY) for name, p in NUMBERS.items()},
    **{f"mask, {name}": lambda p=p: fastdrop.dropout_mask(2**16, p, **KEY) for name, p in NUMBERS.items()},
    **{f"scale, {name}": lambda scale=scale: fastdrop.apply_mask(X, X > 0, scale) for name, scale in NUMBERS.items()},
    **{f"rates, {name}": lambda p=p: fastdrop.dropout(X, np.asarray(p, float), **KEY) for name, p in ARRAYS.items()},
    "rates": lambda: fastdrop.dropout(X, ARRAYS["longdouble"], **KEY),
}
LIST_OF_ROWS = [[float(np.sin(8 * row + k)) for k in range(8)] for row in range(8)]


def outcome(call):
    try:
        return call().tobytes()
    except (TypeError, ValueError) as error:
        return str(error)


@pytest.fixture(params=[0, 1, 2], ids=["down", "up", "toward zero"])
def rounding(request):
    """Return a function that calls another one in this rounding mode."""
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    mode = ROUNDINGS[platform.machine()][request.param]

    def under(call):
        before = library.fegetround()
        assert library.fesetround(mode) == 0
        try:
            return outcome(call), library.fegetround()
        finally:
            library.fesetround(before)

    yield lambda call: under(call)
    assert library.fegetround() == 0


@pytest.mark.parametrize("name", CALLS)
def test_the_callers_rounding_changes_no_number(rounding, name):
    wanted = outcome(CALLS[name])
    found, mode = rounding(CALLS[name])
    assert found == wanted
    assert mode in ROUNDINGS[platform.machine()]  # the caller's mode is as it was


TRAPPING = """
    import ctypes, ctypes.util
    import numpy as np
    import fastdrop
    x = np.ones(9, np.float32)
    quiet = float("nan")
    values = [quiet, -1.0, 2.0, float("inf"), -5e-324, -0.0, 0.0, 1.0]
    with np.errstate(all="ignore"):
        singles = [np.float32(value) for value in values]
    calls = [
        *(lambda p=p: fastdrop.dropout(x, p, seed=1) for p in values),
        *(lambda p=p: fastdrop.dropout_mask(9, p, seed=1) for p in singles),
        *(lambda p=np.full(9, p): fastdrop.dropout(x, p, seed=1) for p in (*values, *singles)),
        *(lambda p=np.full(9, p): fastdrop.zoneout(x, x, p, seed=1) for p in (*values, *singles)),
        *(lambda p=p: fastdrop.concrete_dropout(x, p, seed=1) for p in values),
        *(lambda x=np.full(9, p): fastdrop.dropout(x, 0.5, seed=1) for p in singles),
        *(lambda p=p: fastdrop.gaussian_noise(x, stddev=p, seed=1) for p in values),
        *(lambda p=p: fastdrop.apply_mask(x, x > 0, p) for p in values),
    ]
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    def outcome(call, trapping):
        library.feclearexcept(0x3D)
        if trapping:
            library.feenableexcept(0x1D)  # invalid, division by zero, overflow, underflow
        try:
            return call().tobytes()
        except (TypeError, ValueError) as error:
            return type(error).__name__
        finally:
            library.fedisableexcept(0x1D)
    with np.errstate(all="ignore"):
        for k, call in enumerate(calls):
            wanted = outcome(call, False)
            print(k, flush=True)
            assert outcome(call, True) == wanted, k
    print("alive")
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors may have no traps")
def test_a_nan_does_not_trap(run_python):
    done = run_python(TRAPPING)
    assert (done.returncode, done.stdout[-6:]) == (0, "alive\n"), done.stdout[-30:] + done.stderr
