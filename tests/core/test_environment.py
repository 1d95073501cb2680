"""Each floating-point setting of the caller, set by this file's own constants: none reaches a result, and all are put back."""

import ctypes
import ctypes.util
import importlib.util
import platform
import struct
import sys
from contextlib import contextmanager

import numpy as np
import pytest

import fastdrop
from fastdrop import elementary, losses, theory, uncertainty
from fastdrop.variants._blocks import seed_rate, window_rate
from fastdrop.verify.cases import OPS, THREADED_SIZE, Case, compute

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="the environment has the layout of glibc on x86-64"
)
# Bits of MXCSR. glibc's fenv_t has it after 28 bytes of the x87 unit, whose control word comes first.
DENORMALS_ARE_ZERO, FLUSH_TO_ZERO, DOWN, UP, TO_ZERO = 0x0040, 0x8000, 0x2000, 0x4000, 0x6000
SETTINGS = {
    "denormals are zero": (DENORMALS_ARE_ZERO, 0x037F),
    "flush to zero": (FLUSH_TO_ZERO, 0x037F),
    "down": (DOWN, 0x077F),
    "up": (UP, 0x0B7F),
    "toward zero": (TO_ZERO, 0x0F7F),
    "x87 in single precision": (0, 0x007F),
    "all": (DENORMALS_ARE_ZERO | FLUSH_TO_ZERO | TO_ZERO, 0x0C7F),
}
KEY = {"seed": 1}
X = np.geomspace(1e-44, 1, 600).astype(np.float32).reshape(4, 5, 30)
SMALL = np.geomspace(1e-323, 1, 600).reshape(4, 5, 30)
THIRDS = np.linspace(0.01, 0.99, 600).reshape(4, 5, 30)
IMAGE = (np.linspace(1, 2, 840) / 3).astype(np.float32).reshape(2, 5, 12, 7)
RATES = (0.1, 1 / 3, 0.7)
HALF = X.astype(np.float16)
GRAD, WEIGHT = THIRDS[0].astype(np.float32), np.ones((4, 30), np.float32)
PROBABILITIES, LABELS = np.stack([THIRDS, 1 - THIRDS], axis=-1).reshape(-1, 2), np.arange(600) % 3 // 2


def reliability():
    found = uncertainty.calibration(PROBABILITIES, LABELS)
    return found.edges, found.confidence, found.accuracy, found.ece, found.mce


CALLS = {
    "mask of tiny rates": lambda: fastdrop.dropout_mask(X.shape, SMALL, **KEY),
    "rates": lambda: fastdrop.dropout(X, THIRDS, **KEY),
    "rate": lambda: fastdrop.dropout(X, 1 / 3, **KEY),
    "subnormal rate": lambda: fastdrop.dropout(SMALL, 5e-324, **KEY),
    "bias and residual": lambda: fastdrop.dropout(X, 0.3, bias=X[0, 0], residual=X, **KEY),
    "half": lambda: fastdrop.dropout(HALF, 0.3, residual=HALF, **KEY),
    "rates in evaluation": lambda: fastdrop.dropout(X, THIRDS, mode="standard", training=False, **KEY),
    "strided": lambda: fastdrop.dropout(X.T, 0.3, **KEY),
    "concrete_dropout": lambda: fastdrop.concrete_dropout(X, 0.1, temperature=0.3, **KEY),
    "concrete_dropout, mean": lambda: fastdrop.concrete_dropout(X, 0.1, temperature=0.3, exact_mean=True, **KEY),
    "concrete_dropout_backward": lambda: fastdrop.concrete_dropout_backward(X, X, 0.1, temperature=0.3, **KEY)[1],
    "gaussian_dropout": lambda: fastdrop.gaussian_dropout(X, 1 / 3, **KEY),
    "gaussian_noise": lambda: fastdrop.gaussian_noise(X, stddev=1 / 3, **KEY),
    "uniform_dropout": lambda: fastdrop.uniform_dropout(X, 0.1, **KEY),
    "uniform": lambda: fastdrop.uniform(600, dtype=np.float64, **KEY),
    "normal": lambda: fastdrop.normal(600, dtype=np.float64, **KEY),
    "alpha_dropout": lambda: fastdrop.alpha_dropout(X, 1 / 3, mean=0.1, var=0.7, **KEY),
    "drop_path": lambda: fastdrop.drop_path(X, 1 / 3, residual=X, **KEY),
    "group_dropout": lambda: fastdrop.group_dropout(X, 1 / 3, group_size=7, **KEY),
    "zoneout": lambda: fastdrop.zoneout(X, X[::-1], 1 / 3, training=False),
    "adaptive_dropout": lambda: fastdrop.adaptive_dropout(X, X, **KEY),
    "adaptive_dropout_backward": lambda: fastdrop.adaptive_dropout_backward(
        SMALL, THIRDS, estimator="straight_through", x=THIRDS, **KEY
    ),
    "importance_dropout": lambda: fastdrop.importance_dropout(X, X[0, 0] + 1, 1 / 3, **KEY),
    "targeted_dropout": lambda: fastdrop.targeted_dropout(X[0], 1 / 3, fraction=1 / 3, **KEY),
    "multinomial_dropout": lambda: fastdrop.multinomial_dropout(X, 4, THIRDS[0, 0] / THIRDS[0, 0].sum(), **KEY),
    "attention_dropout": lambda: fastdrop.attention_dropout(IMAGE, 0.3, renormalize=True, **KEY),
    "drop_block": lambda: fastdrop.drop_block(IMAGE, 0.3, 2, exact_rate=True, **KEY),
    "drop_block in float64": lambda: [fastdrop.drop_block(IMAGE.astype(np.float64), p, 2, **KEY) for p in RATES],
    "drop_head": lambda: fastdrop.drop_head(IMAGE, 0.4, **KEY),
    "token_dropout": lambda: fastdrop.token_dropout(X, 1 / 3, **KEY),
    "adl": lambda: fastdrop.adl(IMAGE, 0.7, **KEY),
    "concrete_dropout_backward, mean": lambda: fastdrop.concrete_dropout_backward(
        THIRDS, THIRDS, 0.1, temperature=0.3, exact_mean=True, **KEY
    )[1],
    "gaussian_dropout of log alpha": lambda: fastdrop.gaussian_dropout(THIRDS, log_alpha=-THIRDS, **KEY),
    "gaussian_dropout in float64": lambda: [fastdrop.gaussian_dropout(THIRDS, p, **KEY) for p in RATES],
    "gaussian_dropout_backward": lambda: [
        fastdrop.gaussian_dropout_backward(THIRDS, log_alpha=-p, x=THIRDS, **KEY)[1] for p in RATES
    ],
    "alpha_dropout in float64": lambda: [fastdrop.alpha_dropout(THIRDS, p, mean=0.1, var=0.7, **KEY) for p in RATES],
    "shakeout": lambda: [fastdrop.shakeout(THIRDS[0], p, 0.3, **KEY) for p in RATES],
    "rates of blocks": lambda: [seed_rate(p, (13, 9), (3, 2), exact) for p in RATES for exact in (False, True)],
    "rates of windows": lambda: [window_rate(p, 7) for p in RATES],
    "drop_key": lambda: fastdrop.drop_key(IMAGE, 0.3, fill=1 / 3, **KEY),
    "multinomial_probabilities": lambda: fastdrop.theory.multinomial_probabilities(THIRDS[0]),
    "rates of paths": lambda: fastdrop.schedules.drop_path_rates(1 / 3, 13),
    "schedules": lambda: [fastdrop.schedules.Exponential(p, 0.1, 7)(3) for p in RATES],
    "concrete_regularizer": lambda: fastdrop.losses.concrete_regularizer(0.1, THIRDS, 5),
    "variational_kl": lambda: fastdrop.losses.variational_kl(-THIRDS, shape=(10, *THIRDS.shape)),
    "bias gradients": lambda: [
        function(GRAD, np.ones((5, 4), np.float32), WEIGHT, -WEIGHT, *more, bias=WEIGHT[0], **KEY)[3]
        for function, *more in ((fastdrop.variational_dense_backward,), (fastdrop.variational_dropout_backward, "weight"))
    ],
    "calibration": reliability,
    "subnormal rate of attention": lambda: fastdrop.attention_dropout(IMAGE, 5e-324, renormalize=True, **KEY),
    "subnormal rate of tokens": lambda: fastdrop.token_dropout(X, 5e-324, ordered=False, return_indices=True, **KEY),
    "subnormal rate of alpha_dropout": lambda: fastdrop.alpha_dropout(SMALL, 5e-324, mean=-0.0, **KEY),
    "subnormal variance": lambda: fastdrop.alpha_dropout(SMALL, 0.5, var=1e-310, **KEY),
    "subnormal fill": lambda: fastdrop.drop_key(SMALL[np.newaxis], 0.5, fill=5e-324, **KEY),
    "subnormal weights": lambda: fastdrop.targeted_dropout(SMALL[0, :, ::-1], 1.0, fraction=0.05, among="layer", **KEY),
    "subnormal log alpha above the largest": lambda: fastdrop.variational_dropout_backward(
        np.ones((4, 4)), np.ones((4, 30)), SMALL[0, :4].T, np.full((30, 4), 1e-310), "weight", max_log_alpha=0.0, **KEY
    ),
    "exp": lambda: elementary.exp(X),
    "log": lambda: elementary.log(SMALL),
    "sigmoid of half": lambda: elementary.sigmoid(HALF),
}
if importlib.util.find_spec("sklearn"):
    CALLS["ood_auroc"] = lambda: uncertainty.ood_auroc(THIRDS[0], THIRDS[1:] ** 2)


@contextmanager
def environment(name):
    """Set one of the settings for a block; give the block a function that returns the settings in force."""
    mxcsr, control = SETTINGS[name]
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    before = ctypes.create_string_buffer(32)
    library.fegetenv(before)
    hostile = ctypes.create_string_buffer(before.raw, 32)
    struct.pack_into("<H", hostile, 0, control)
    struct.pack_into("<I", hostile, 28, struct.unpack_from("<I", before, 28)[0] | mxcsr)

    def now():
        found = ctypes.create_string_buffer(32)
        library.fegetenv(found)
        return struct.unpack_from("<H", found, 0)[0] & 0xF3F, struct.unpack_from("<I", found, 28)[0] & 0xFFC0

    library.fesetenv(hostile)
    try:
        yield now
    finally:
        library.fesetenv(before)


def forget():
    """Clear all caches of results, so that each is computed again."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "fastdrop":
            for value in vars(module).values():
                getattr(value, "cache_clear", lambda: None)()


def bits(result):
    return [np.asarray(each).tobytes() for each in (result if isinstance(result, tuple) else (result,))]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("backend", ["c", "numpy"])
def test_setting(setting, backend):
    with fastdrop.using(backend=backend):
        wanted = {name: bits(call()) for name, call in CALLS.items()}
        forget()
        with environment(setting) as now:
            before, found, after = now(), {}, {}
            for name, call in CALLS.items():
                found[name] = bits(call())
                after[name] = now()
    assert [name for name in CALLS if found[name] != wanted[name]] == []
    assert [name for name in CALLS if after[name] != before] == []
    assert before == (SETTINGS[setting][1] & 0xF3F, before[1])
    assert before[1] & SETTINGS[setting][0] == SETTINGS[setting][0]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: theory.keep_probabilities([1.0, -1e-310], 0.5), r"scores must be finite and >= 0; .* at index \(1,\)"),
        (lambda: fastdrop.gaussian_noise(SMALL, -1e-310, **KEY), "stddev must be .* >= 0"),
        (lambda: fastdrop.alpha_dropout(SMALL, var=-1e-310, **KEY), "var must be above 0"),
    ],
    ids=["scores", "stddev", "var"],
)
def test_a_negative_subnormal_does_not_pass_for_0(call, sentence):
    forget()
    with environment("denormals are zero"), pytest.raises(ValueError, match=sentence):
        call()


CACHED = {
    "rate of tokens": (lambda p: fastdrop.token_dropout(X, p, ordered=False, **KEY), 0.0),
    "rate of attention": (lambda p: fastdrop.attention_dropout(IMAGE, p, renormalize=True, **KEY), 0.0),
    "rates of blocks": (lambda p: [seed_rate(p, (13, 9), (3, 2), exact) for exact in (False, True)], 1e-310),
    "rate of windows": (lambda p: window_rate(p, 7), 1e-310),
    "mean of alpha_dropout": (lambda mean: fastdrop.alpha_dropout(SMALL, 1.0, mean=mean, **KEY), 1e-310),
}


@pytest.mark.parametrize("name", CACHED)
def test_a_subnormal_does_not_get_the_result_of_another(name):
    call, first = CACHED[name]
    forget()
    wanted = bits(call(2e-310))
    forget()
    with environment("denormals are zero"):
        call(first)
        assert bits(call(2e-310)) == wanted


def test_0_does_not_get_the_result_of_a_subnormal():
    with environment("denormals are zero"):
        fastdrop.concrete_dropout(SMALL, 0.1, temperature=1e-310, **KEY)
        fastdrop.alpha_dropout(SMALL, 0.5, var=1e-310, **KEY)
        with pytest.raises(ValueError, match="temperature must be finite and above 0"):
            fastdrop.concrete_dropout(SMALL, 0.1, temperature=0.0, **KEY)
        with pytest.raises(ValueError, match="var must be above 0"):
            fastdrop.alpha_dropout(SMALL, 0.5, var=0.0, **KEY)


@pytest.mark.parametrize("setting", SETTINGS)
def test_setting_with_kernels_of_each_kind(setting):
    cases = [Case(op, n, 77, 0.3) for op in OPS for n in (1000, THREADED_SIZE)]
    with fastdrop.using(num_threads=3):
        wanted = [bits(compute(case)) for case in cases]
        with environment(setting):
            found = [bits(compute(case)) for case in cases]
    assert [case.op for case, a, b in zip(cases, found, wanted, strict=True) if a != b] == []


TRAPS = """
    import ctypes, ctypes.util
    import numpy as np
    import fastdrop
    from fastdrop import elementary
    from fastdrop.verify.cases import THREADED_SIZE, os_threads, threads_on_small_arrays
    small_arrays = threads_on_small_arrays()
    small_arrays.__enter__()
    x = np.full(THREADED_SIZE, 3e38, np.float32)
    x[::3], x[1::7] = np.inf, 1e-44
    calls = [
        lambda: fastdrop.dropout(x, 0.9, seed=1),
        lambda: fastdrop.dropout(x, 0.5, residual=-x, seed=1),
        lambda: fastdrop.gaussian_dropout(x, 0.9, seed=1),
        lambda: fastdrop.concrete_dropout(x, 3.0, seed=1),
        lambda: fastdrop.normal(THREADED_SIZE, dtype=np.float64, seed=1),
        lambda: elementary.exp(x),
        lambda: fastdrop.dropout(x.astype(np.float16), 0.9, seed=1),
    ]
    with np.errstate(all="ignore"), fastdrop.using(num_threads=1):
        wanted = [call().tobytes() for call in calls]
    x16 = x.astype(np.float16)
    calls[-1] = lambda: fastdrop.dropout(x16, 0.9, seed=1)
    before = os_threads()
    ctypes.CDLL(ctypes.util.find_library("m")).feenableexcept(0x1D)  # the threads of the pool are born with these traps
    with fastdrop.using(num_threads=3):
        found = [call().tobytes() for call in calls]
    print(found == wanted, os_threads() - before)
"""


def test_traps_in_the_threads_of_the_pool(run_python):
    done = run_python(TRAPS)
    assert (done.returncode, done.stdout) == (0, "True 2\n"), done.stderr


WILD = np.float32([[3e38, -3e38], [1e-44, np.inf]])  # products of these overflow, underflow and are invalid
HALVES = np.full((4, 2, 2), 60_000, np.float16)
LEAST = np.array([np.longdouble("1e-4000"), np.longdouble(1)])  # 0 in float64
TINY, FAR = np.array([1e-300, 5e-324, 1e-160, 1.0]), [[1e5, -1e5]]


def regression():
    found = uncertainty.Regression(1e-300, [1e-170, np.inf])
    found.update(np.array([0.0, np.inf]))
    return found.log_likelihood


LOUD = {
    "drop_connect": lambda: fastdrop.drop_connect(WILD, WILD, 0.0, **KEY),
    "variational_dense": lambda: fastdrop.variational_dense(WILD, WILD, -WILD, **KEY),
    "variational_dense_backward": lambda: fastdrop.variational_dense_backward(*HALVES, **KEY),
    "variational_dropout": lambda: fastdrop.variational_dropout(WILD, WILD, 0.0, "weight", **KEY),
    "variational_dropout_backward": lambda: fastdrop.variational_dropout_backward(WILD, WILD, WILD, 0.0, **KEY),
    "drop_connect_moments": lambda: theory.drop_connect_moments(*HALVES[:2]),
    "variance_shift": lambda: theory.variance_shift(TINY, mean=1e200, var=1e-300),
    "relu_moments": lambda: theory.relu_moments(-TINY, TINY),
    "sigmoid_moments": lambda: theory.sigmoid_moments(TINY, TINY),
    "fast_dropout_moments": lambda: theory.fast_dropout_moments(TINY, TINY[:, None], 1e-300),
    "dropout_regularizer": lambda: theory.dropout_regularizer([np.diag(TINY)] * 3),
    "r_drop_loss": lambda: losses.r_drop_loss(FAR, [[0.0, 1.0]], [0]),
    "r_drop_loss_backward": lambda: losses.r_drop_loss_backward(FAR, [[0.0, 1.0]], [0]),
    "entropy": lambda: uncertainty.entropy([[1e-310, 1.0]]),
    "regression": regression,
    "residual of a list": lambda: fastdrop.dropout(np.ones((1, 1), np.float32), 0.5, residual=[[1e300]], **KEY),
    "rates": lambda: fastdrop.dropout(np.ones(2, np.float32), LEAST, **KEY),
    "scores": lambda: theory.keep_probabilities(LEAST, 0.5),
    "gaussian_dropout_backward": lambda: fastdrop.gaussian_dropout_backward(
        np.full(8, 1e-300), log_alpha=-200.0, x=np.ones(8), **KEY
    ),
    "concrete_dropout_backward": lambda: fastdrop.concrete_dropout_backward(np.full(8, 1e-304), np.ones(8), -16.0, **KEY),
    "concrete_dropout_backward, mean": lambda: fastdrop.concrete_dropout_backward(
        np.full(8, np.inf), np.ones(8), 0.0, 2.0, exact_mean=True, **KEY
    ),
    "spatial_concrete_dropout_backward": lambda: fastdrop.spatial_concrete_dropout_backward(
        np.full((2, 2, 2), 1e-304), np.ones((2, 2, 2)), -16.0, **KEY
    ),
}


@pytest.mark.parametrize("name", LOUD)
@pytest.mark.filterwarnings("error")
def test_the_callers_handling_of_numpys_errors_is_not_used_and_put_back(name):
    with np.errstate(all="ignore"):
        wanted = bits(LOUD[name]())
    with np.errstate(all="raise", call=None):
        before = np.geterr()
        found = bits(LOUD[name]())
        assert np.geterr() == before
    assert found == wanted
