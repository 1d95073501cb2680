"""Arrays and dtypes whose attributes are not true: no call may read or write past an array's end."""

import contextlib
from pathlib import Path
from unittest import mock

import lying_arrays
import numpy as np
import pytest

import fastdrop
from fastdrop._core import numbers, plan

TESTS = str(Path(lying_arrays.__file__).parent)
# Each class is a subclass of ndarray. `made` makes one over memory of its own.
CLASSES = """
    import sys
    sys.path.insert(0, {tests!r})
    import numpy as np
    from lying_arrays import Copying, Larger, OtherDtype, OtherStrides, Smaller, Wrapping
    import fastdrop
    from fastdrop import elementary

    class Shrinking(np.ndarray):
        def __array_finalize__(self, parent):
            if parent is not None and isinstance(parent, Shrinking):
                np.ndarray.resize(self, (1,), refcheck=False)

    class Growing(np.ndarray):
        def __array_finalize__(self, parent):
            if parent is not None and isinstance(parent, Growing):
                np.ndarray.resize(self, (2**16,), refcheck=False)

    class Changing:
        "A dtype that is another one each time."
        def __init__(self):
            self.asked = 0
        @property
        def dtype(self):
            self.asked += 1
            return np.dtype(np.float32 if self.asked % 2 == {odd} else np.float64)

    N = 2**16  # large enough that a write past the end leaves the heap's small blocks

    def made(kind, dtype=np.float32, n=N):
        if kind in (Shrinking, Growing):
            x = np.ndarray.__new__(kind, (n,), dtype)
            x.fill(1)
            return x
        return np.ones(n, dtype).view(kind)
"""

CALLS = """
    def calls(kind):
        x, x64, plain = made(kind), made(kind, np.float64), np.ones(N, np.float32)
        flags, packed = made(kind, bool), made(kind, np.uint8, N // 8)
        rates = made(kind)
        key = dict(seed=1)
        for p in (0.5, np.full(N, 0.5)):
            yield lambda: fastdrop.dropout(x, p, **key)
            yield lambda: fastdrop.dropout(x[::2], p[::2] if np.ndim(p) else p, **key)
            yield lambda: fastdrop.dropout(x, p, out=x, **key)
            yield lambda: fastdrop.dropout(plain, p, out=x, **key)
            yield lambda: fastdrop.dropout(plain[1:], 0.5, out=x[:-1], **key)
            yield lambda: fastdrop.dropout(x[1:], 0.5, out=plain[:-1], **key)
            yield lambda: fastdrop.dropout(x, p, residual=plain, **key)
            yield lambda: fastdrop.dropout(plain, p, residual=x, **key)
            yield lambda: fastdrop.dropout(plain, p, bias=x, out=plain, **key)
            yield lambda: fastdrop.dropout(x, p, training=False, mode="standard", **key)
        yield lambda: fastdrop.dropout(plain, rates, **key)
        yield lambda: fastdrop.dropout(plain, x64, **key)
        yield lambda: fastdrop.dropout(plain, 0.5, out=made(kind, np.float32, 8), **key)
        yield lambda: fastdrop.apply_mask(plain, flags)
        yield lambda: fastdrop.apply_mask(plain, packed)
        yield lambda: fastdrop.apply_mask(x, flags, out=x)
        yield lambda: fastdrop.dropout_mask(N, 0.5, out=flags, **key)
        yield lambda: fastdrop.dropout_mask(10**7, 0.5, out=flags, **key)
        yield lambda: fastdrop.dropout_mask(N, 0.5, packed=True, out=packed, **key)
        yield lambda: fastdrop.dropout_mask(3, 0.5, out=flags, **key)
        yield lambda: fastdrop.uniform(N, out=x, **key)
        yield lambda: fastdrop.normal(10**7, out=x, **key)
        yield lambda: fastdrop.uniform(N, out=x, dtype=np.float64, **key)
        yield lambda: fastdrop.words(10**7, out=made(kind, np.uint32), **key)
        yield lambda: fastdrop.words(N, out=made(kind, np.uint32)[::2], **key)
        yield lambda: fastdrop.gaussian_dropout(x, 0.5, **key)
        yield lambda: fastdrop.gaussian_dropout(plain, 0.5, out=x, **key)
        yield lambda: fastdrop.concrete_dropout(x, 0.0, **key)
        yield lambda: fastdrop.zoneout(x, plain, 0.5, **key)
        yield lambda: fastdrop.zoneout(plain, x, 0.5, **key)
        yield lambda: fastdrop.group_dropout(x, 0.5, group_size=4, **key)
        yield lambda: fastdrop.alpha_dropout(x, 0.5, **key)
        yield lambda: fastdrop.adaptive_dropout(x, plain, **key)
        yield lambda: fastdrop.adaptive_dropout(plain, x, **key)
        yield lambda: elementary.exp(x)
        yield lambda: elementary.exp(plain, out=x)
        yield lambda: elementary.exp(x[::2], out=x[1::2])

    for engine in ({{}}, {{"backend": "numpy"}}):
        for kind in (Larger, Smaller, OtherDtype, OtherStrides, Shrinking, Growing, Wrapping, Copying):
            with fastdrop.using(**engine), np.errstate(all="ignore"):
                for k, call in enumerate(calls(kind)):
                    print(engine, kind.__name__, k, file=sys.stderr, flush=True)
                    try:
                        call()
                    except Exception:  # of NumPy or of ours; the process must live
                        pass
    print("alive")
"""

DTYPES = """
    for name in ("uniform", "normal"):
        for engine in ({{}}, {{"backend": "numpy"}}):
            with fastdrop.using(**engine):
                for _ in range(3):
                    try:
                        made = getattr(fastdrop, name)(2**16, dtype=Changing(), seed=1)
                        same = getattr(fastdrop, name)(2**16, dtype=made.dtype, seed=1)
                        print(made.tobytes() == same.tobytes())
                    except TypeError:
                        print(True)
"""


def test_arrays(run_python):
    done = run_python(CLASSES.format(odd=0, tests=TESTS) + CALLS.format())
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr[-2000:]


@pytest.mark.parametrize("odd", [0, 1])
def test_dtypes(run_python, odd):
    done = run_python(CLASSES.format(odd=odd, tests=TESTS) + DTYPES.format())
    assert (done.returncode, done.stdout) == (0, "True\n" * 12), done.stderr[-2000:]


class Smaller(np.ndarray):
    shape = property(lambda self: (64, 2))


def test_targeted_weights_have_their_own_shape():
    weight = np.ones((6400, 64), np.float32)
    for _ in range(3):  # a write past an end is not noticed at once
        made = fastdrop.targeted_dropout(weight.view(Smaller), 0.5, seed=1)
        assert np.asarray(made).shape == weight.shape


@pytest.mark.parametrize("axis", [-1, 2, 6])
def test_sums_need_an_axis_of_the_array(axis):
    with pytest.raises(ValueError, match=rf"needs an axis in \[0, 2\) of an array of shape \(2, 3\); got {axis}"):
        numbers.sum_along(np.ones((2, 3)), axis)


@pytest.mark.parametrize("other", [np.ones((2, 2)), np.ones(6), np.ones((2, 3), np.float32)])
def test_sums_of_products_need_two_arrays_alike(other):
    with pytest.raises(ValueError, match=r"two arrays of one shape and dtype; got \(2, 3\) of float64 and"):
        numbers.sum_along(np.ones((2, 3)), 1, other)


def test_a_gradient_of_other_axes_than_x():
    grad, x = np.ones((5, 4, 7, 2)), np.ones((5, 4, 7, 2))
    assert fastdrop.adl_backward(grad, x, 0.0, data_format="channels_last", seed=1).shape == x.shape
    with pytest.raises(ValueError, match=r"needs an axis in \[0, 4\)"):
        fastdrop.adl_backward(grad.view(lying_arrays.OtherStrides), x, 0.0, data_format="channels_last", seed=1)


def test_a_mask_of_another_shape_than_the_array_is_refused():
    with pytest.raises(ValueError, match=r"must have the shape \(1, 2, 1, 1\) of its mask"):
        plan.Call(seed=1).drop_decisions(np.ones((8, 4, 64, 64), np.float32), 0.5, plan.Decisions((1, 2, 1, 1), (0, 1)))


class Meddler:
    """A number that changes the shape, the dtype or the strides of an array when it is converted."""

    def __init__(self, array, number, name, value):
        self.array, self.number, self.change = array, number, (name, value)

    def __index__(self):
        setattr(self.array, *self.change)
        return self.number

    def __float__(self):
        return float(self.__index__())


CHANGES = [("dtype", "u1"), ("dtype", "f8"), ("shape", (-1,)), ("shape", (4, -1)), ("strides", (0, 0, 0))]
SHIELDED = {
    "dropout": fastdrop.dropout,
    "dropout_backward": fastdrop.dropout_backward,
    "dropout1d": fastdrop.dropout1d,
    "drop_path": fastdrop.drop_path,
    "alpha_dropout": fastdrop.alpha_dropout,
}


@pytest.mark.parametrize("name", SHIELDED)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change[0]}={change[1]}")
@pytest.mark.parametrize("argument", ["offset", "start", "num_threads", "global_start", "p"])
@pytest.mark.filterwarnings("ignore:Setting the:DeprecationWarning")
def test_an_argument_that_changes_the_array_changes_no_result(name, change, argument):
    """The array may be changed, but the call works on the array as it was given: a changed dtype once wrote past the result.

    A function may need the rate and the place before it looks at the array; then it works on the changed one.
    """
    function, is_early = SHIELDED[name], argument in ("p", "global_start")
    wanted = function(np.ones((4, 2, 512), np.float32), 0.5, seed=1)
    x = np.ones((4, 2, 512), np.float32)
    meddler = Meddler(x, 1 if argument in ("num_threads", "p") else 0, *change)
    given = {"p": 0.5, "seed": 1, argument: meddler}
    if argument == "global_start":
        given |= {"global_shape": (4, 2, 512), "global_start": (meddler, 0, 0)}
    try:
        y = function(x, given.pop("p"), **given)
    except (TypeError, ValueError):
        assert is_early  # p must be a real number, and a changed array may not fit
        return
    if is_early:
        assert (y.shape, y.dtype) in {(wanted.shape, wanted.dtype), (x.shape, x.dtype)}
    else:
        assert (y.shape, y.dtype, y.tobytes()) == (wanted.shape, wanted.dtype, wanted.tobytes())


@pytest.mark.filterwarnings("ignore:Setting the:DeprecationWarning")
def test_a_number_in_an_array_of_objects_changes_no_result():
    x, p = np.ones((4, 2, 512), np.float32), np.empty((), object)
    wanted = fastdrop.dropout(x, 0.0, seed=1)
    p[()] = Meddler(x, 0, "shape", (-1,))
    y = fastdrop.dropout(x, p, seed=1)
    assert (y.shape, y.tobytes()) == (wanted.shape, wanted.tobytes())


@pytest.mark.parametrize("gather", [True, False])
@pytest.mark.parametrize("argument", ["num_prefix_tokens", "seed", "offset"])
def test_tokens_of_an_array_that_an_argument_changes(argument, gather):
    """The positions are chosen for the shape after the conversions, or the call works on the array as it was given."""
    x = np.ones((2, 6, 4), np.float32)
    given = {"seed": 1, argument: Meddler(x, 1, "shape", (-1,))}
    try:
        y, kept = fastdrop.token_dropout(x, 0.5, gather=gather, return_indices=True, **given)
    except ValueError as error:
        assert "must have samples and tokens" in str(error)  # noqa: PT017
    else:
        assert (kept.shape, y.shape) == ((2, 3), (2, 3, 4) if gather else (2, 6, 4))


def test_a_strength_that_changes_the_logits():
    first, targets = np.ones((2, 3, 4)), np.zeros((2, 3), np.intp)
    for function in (fastdrop.losses.r_drop_loss, fastdrop.losses.r_drop_loss_backward):
        second = np.ones((2, 3, 4))
        with pytest.raises(ValueError, match="must have the same shape"):
            function(first, second, targets, strength=Meddler(second, 1, "shape", (-1,)))


MEDDLED = """
    import inspect, os, sys, warnings
    sys.path[:0] = [{tests!r}, os.path.join({tests!r}, "core")]
    import numpy as np
    from test_every_function import FUNCTIONS, good_arguments
    from test_liars import Meddler, MeddlingArray

    warnings.simplefilter("ignore")
    CHANGES = [("dtype", "u1"), ("dtype", "f8"), ("shape", (-1,))]

    def arguments(name):
        "Return good arguments of its own, with an output, a rate per element and a residual if the function takes them."
        given = good_arguments(name)
        given |= {{word: value.copy() for word, value in given.items() if isinstance(value, np.ndarray)}}
        words, x = inspect.signature(FUNCTIONS[name]).parameters, given.get("x", given.get("grad"))
        if "residual" in words:
            given["residual"] = np.ones_like(x)
        if "out" in words and isinstance(made := FUNCTIONS[name](**given), np.ndarray):
            given["out"] = np.empty_like(made)
        if "p" in words and words["p"].annotation == "Rate" and isinstance(x, np.ndarray):
            given["p"] = np.full(x.shape, 0.5)
        return given

    def call(name, changed, word, change):
        given = arguments(name)
        value = given.get(word, 0)
        meddler = MeddlingArray if isinstance(value, np.ndarray) else Meddler
        given[word] = meddler(given[changed], value, *change)
        try:
            FUNCTIONS[name](**given)
        except Exception:  # of NumPy or of ours; the process must live
            pass

    for name in FUNCTIONS:
        words = inspect.signature(FUNCTIONS[name]).parameters
        arrays = [word for word, value in arguments(name).items() if isinstance(value, np.ndarray)] if words else []
        for changed in arrays:
            for word in words:
                if word != changed and (word in arrays or word in ("seed", "offset", "group_size", "num_tokens")):
                    for change in CHANGES:
                        print(name, changed, word, change, file=sys.stderr, flush=True)
                        call(name, changed, word, change)
    print("alive")
"""


class MeddlingArray(Meddler):
    """An array that changes another array when it is converted."""

    def __array__(self, dtype=None, copy=None):
        with contextlib.suppress(ValueError):  # NumPy cannot make each change
            setattr(self.array, *self.change)
        return self.number


def test_no_argument_that_changes_another_array_ends_or_hangs_the_process(run_python):
    """Operands and outputs too: after a change of the dtype, a call read past them, wrote past them, or did not return."""
    done = run_python(MEDDLED.format(tests=TESTS))
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr[-500:]


class Acting:
    """An integer that runs code while it is converted."""

    def __init__(self, value, act):
        self.value, self.act = value, act

    def __index__(self):
        self.act()
        return self.value


def test_words_are_not_written_past_an_output_that_has_changed():
    out = np.empty(1000, np.uint32)

    class Shortening(np.random.Generator):
        def integers(self, *arguments, **keywords):
            out.dtype = np.uint8
            return 1

    with pytest.raises(ValueError, match=r"out must keep its shape \(1000,\)"):
        fastdrop.random.words(1000, seed=Shortening(np.random.PCG64()), out=out)


def test_rates_of_a_mask_are_those_that_were_checked():
    p = np.full(4096, 0.5, np.float32)
    want = fastdrop.dropout_mask(4096, p.copy(), seed=1)
    found = fastdrop.dropout_mask(4096, p, seed=1, start=Acting(0, lambda: setattr(p, "dtype", np.float64)))
    assert np.array_equal(found, want)


def test_weights_whose_shape_changes_are_refused():
    weight = np.ones((1000, 2), np.float32)
    with pytest.raises(ValueError, match="must keep their shapes"):
        fastdrop.targeted_dropout(weight, seed=1, num_threads=Acting(1, lambda: setattr(weight, "shape", (2, 1000))))


def test_an_object_that_claims_to_be_a_key_is_no_seed():
    claiming = mock.Mock(spec=fastdrop.Key)
    assert isinstance(claiming, fastdrop.Key)
    with pytest.raises(TypeError, match="seed must be"):
        fastdrop.dropout(np.ones(4), seed=claiming)


def test_features_are_those_that_were_checked():
    x = np.ones(1, np.float32)

    class Probabilities:
        def __array__(self, dtype=None, copy=None):
            x.shape = ()
            return np.ones(1)

    assert fastdrop.multinomial_dropout(x, 3, Probabilities(), seed=1).shape == (1,)


def test_targets_of_a_loss_are_those_that_were_checked():
    logits, targets = np.zeros((2, 3)), np.zeros(2, np.int64)

    class Form(str):
        def __eq__(self, other):
            targets[:] = -(10**12)
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    with contextlib.suppress(ValueError):
        assert np.isfinite(fastdrop.losses.r_drop_loss(logits, logits, targets, form=Form("paper")))


RACE = """
import threading, time
import numpy as np
import fastdrop
weights, ones, some, x = np.ones(10**6), np.ones(10**6), np.linspace(0.5, 1, 10**6), np.ones((1, 10**6), np.float16)
def write():
    while True:
        np.copyto(weights, some)
        np.arccosh(ones, out=weights)  # zeros
threading.Thread(target=write, daemon=True).start()
end = time.monotonic() + 3
while time.monotonic() < end:
    try:
        fastdrop.multinomial_dropout(x, 1, weights, seed=1)
    except ValueError as error:
        assert "not all of them 0" in str(error)
print("still here")
"""


@pytest.mark.slow
def test_probabilities_that_another_thread_changes(run_python):
    """They are checked and used in one copy. NumPy writes without the interpreter's lock."""
    done = run_python(RACE)
    assert (done.returncode, done.stdout) == (0, "still here\n"), done.stderr[-500:]
