"""The quick way of `dropout` and its backward function does the same as the general way: `__call__` of the Cython function."""

import contextlib
import copy
import functools
import inspect
import itertools
import pickle
import pydoc
import weakref
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastdrop
from fastdrop.verify.cases import values

QUICK = (fastdrop.dropout, fastdrop.dropout_backward)


class Subclass(np.ndarray):
    pass


ARRAYS = {
    "plain": lambda: values((3, 5), "float32"),
    "float64": lambda: values((40,), "float64"),
    "float16": lambda: values((2, 3, 4), "float16"),
    "bfloat16": lambda: values((9,), "bfloat16"),
    "long": lambda: values((3000,), "float32"),
    "no dimensions": lambda: np.array(3.0, np.float32),
    "empty": lambda: np.ones((3, 0), np.float32),
    "transposed": lambda: values((3, 5), "float32").T,
    "strided": lambda: values((12,), "float32")[::2],
    "broadcast": lambda: np.broadcast_to(np.float32(2), (2, 3)),
    "misaligned": lambda: np.ones(25, np.uint8)[1:].view(np.float32),
    "swapped": lambda: np.ones(4, np.dtype(np.float32).newbyteorder("S")),
    "integers": lambda: np.arange(4),
    "list": lambda: [1.0, 2.0],
    "subclass": lambda: np.ones(4, np.float32).view(Subclass),
    "masked": lambda: np.ma.masked_less(np.arange(4.0), 2),
}
OUTS = {
    "none": lambda x: None,
    "fits": np.empty_like,
    "x": lambda x: x,
    "subclass": lambda x: np.empty_like(x).view(Subclass),
    "other shape": lambda x: np.empty((7, 7), np.asarray(x).dtype),
    "other dtype": lambda x: np.empty(np.shape(x), np.int8),
    "strided": lambda x: np.empty((*np.shape(x), 2), np.asarray(x).dtype)[..., 0],
    "reversed": lambda x: np.asarray(x)[::-1] if np.ndim(x) else x,
    "list": lambda x: [],
}
RATES = (0.0, -0.0, 0.1, 0.5, 1.0, 5e-324, 1.5, -1e-300, np.nan, np.inf, 0, 1, True, np.float32(0.5), "0.5", None, [0.5])
INTEGERS = (0, 1, 2**64 - 1, 2**64, -1, np.uint64(7), np.array(7))
SEEDS = (*INTEGERS, True, 1.0, "1", fastdrop.Key(1, 2), np.random.SeedSequence(3), (1, 2))
OTHERS = (
    {},
    {"training": True},
    {"training": False},
    {"training": 1},
    {"mode": "inverted"},
    {"mode": "standard"},
    {"start": 5},
    {"shared_axes": 0},
    {"noise_shape": None, "num_threads": None, "global_shape": None},
    {"backend": "numpy"},
    {"num_threads": 1},
    {"offset": 3},
    {"offset": -1},
    {"offset": True},
    {"offset": None},
    {"nothing": None},
)


def outcome(function, made, p, seed, out, others):
    """Return all that a caller sees of a call: the result and the bytes of all arrays, or the error."""
    x = ARRAYS[made]()
    to = OUTS[out](x)
    with np.errstate(all="ignore"):
        try:
            found = function(x, p, seed=seed, out=to, **others)
        except Exception as error:
            return type(error), str(error), np.asarray(x).tobytes()
    arrays = [np.asarray(each).tobytes() for each in (found, x, () if to is None else to)]
    return type(found), found.shape, found.dtype, found.strides, found is to, found is x, arrays


@settings(deadline=None, max_examples=400)
@given(
    st.sampled_from(QUICK),
    st.sampled_from(sorted(ARRAYS)),
    st.sampled_from(RATES),
    st.sampled_from(SEEDS),
    st.sampled_from(sorted(OUTS)),
    st.sampled_from(OTHERS),
)
def test_both_ways_are_one(function, made, p, seed, out, others):
    call = (made, p, seed, out, others)
    assert outcome(function, *call) == outcome(function.__call__, *call)


@pytest.mark.parametrize("function", QUICK)
@pytest.mark.parametrize("made", ARRAYS)
@pytest.mark.parametrize("out", OUTS)
def test_each_array_with_each_out(function, made, out):
    call = (made, 0.5, 7, out, {})
    assert outcome(function, *call) == outcome(function.__call__, *call)


@pytest.mark.parametrize("function", QUICK)
def test_an_out_that_overlaps_or_is_read_only(function):
    for shift, writable in itertools.product((0, 1, 2, 8), (True, False)):
        found = []
        for way in (function, function.__call__):
            memory = values((24,), "float32").copy()
            out = memory[shift : shift + 8]
            out.flags.writeable = writable
            with contextlib.nullcontext() if writable else pytest.raises(ValueError, match="read-only"):
                way(memory[2:10], 0.5, seed=1, out=out)
            found.append(memory.tobytes())
        assert found[0] == found[1]


def test_settings_and_streams_hold_for_both_ways():
    x = values((9,), "float32")
    for way in (fastdrop.dropout, fastdrop.dropout.__call__):
        with fastdrop.using(backend="numpy"):
            assert np.array_equal(way(x, 0.5, seed=3), fastdrop.dropout(x, 0.5, seed=3, backend="c"), equal_nan=True)
        stream = fastdrop.Stream(5)
        for offset in range(3):
            want = fastdrop.dropout(x, 0.5, seed=5, offset=offset)
            assert np.array_equal(way(x, 0.5, seed=stream), want, equal_nan=True)
        with pytest.raises(ValueError, match="out must have the shape"):
            way(x, 0.5, seed=stream, out=np.empty(3, np.float32))
        assert stream.offset == 3  # the call that failed drew nothing
        assert way(x, 0.5).shape == x.shape


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [
        ((), {}),
        ((), {"p": 0.5}),
        ((np.ones(3), 0.5, "inverted"), {}),
        ((np.ones(3),), {"x": np.ones(3), "grad": np.ones(3)}),
        ((np.ones(3), 0.5), {"p": 0.5}),
        ((np.ones(3),), {"sed": 1}),
    ],
)
@pytest.mark.parametrize("function", QUICK)
def test_calls_that_do_not_fit_the_signature(function, arguments, keywords):
    errors = []
    for way in (function, function.__call__):
        with pytest.raises(TypeError) as error:
            way(*arguments, **keywords)
        errors.append(str(error.value))
    assert errors[0] == errors[1]


def test_a_seed_is_required_backwards():
    with pytest.raises(TypeError, match="seed"):
        fastdrop.dropout_backward(np.ones(3), 0.5)


def test_names_that_are_made_at_run_time():
    x = values((9,), "float32")
    name = "".join(["se", "ed"])
    want = fastdrop.dropout(x, 0.5, seed=3).tobytes()
    assert fastdrop.dropout(x, 0.5, **{name: 3}).tobytes() == want
    assert fastdrop.dropout(x=x, p=0.5, seed=3).tobytes() == want


@pytest.mark.parametrize("function", QUICK)
def test_the_object_is_a_function_of_the_module(function):
    assert function.__module__ == "fastdrop.variants.dropout"
    assert inspect.isroutine(function)
    assert "Parameters" in function.__doc__
    assert list(inspect.signature(function).parameters)[1:3] == ["p", "mode"]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(function, protocol)) is function
    assert copy.copy(function) is function is copy.deepcopy(function)
    assert weakref.ref(function)() is function
    assert {function: 1}[function] == 1
    with pytest.raises(TypeError):
        type(function)()
    wrapper = functools.wraps(function)(lambda *arguments: None)
    assert wrapper.__name__ == function.__name__
    x = np.ones(4, np.float32)
    assert np.array_equal(functools.partial(function, p=0.5)(x, seed=1), function(x, 0.5, seed=1))

    class Owner:
        method = function

    with pytest.raises(TypeError):
        Owner().method(x, 0.5, seed=1)  # its owner is the first argument
    with mock.patch.object(fastdrop, function.__name__, autospec=True) as patched:
        getattr(fastdrop, function.__name__)(x, 0.5, seed=1)
        patched.assert_called_once()


@pytest.mark.parametrize("function", QUICK)
def test_help_shows_the_docstring(function):
    assert function.__doc__.splitlines()[0] in pydoc.render_doc(function)


@pytest.mark.parametrize("function", QUICK)
def test_a_key_whose_number_changes_the_result(function):
    """`_replace` checks nothing, so a part of a key may run code."""

    class Seed:
        def __index__(self):
            out.resize(1, refcheck=False)
            return 3

    x, out = np.ones(1000, np.float32), np.ones(1000, np.float32)
    with pytest.raises(ValueError, match="must keep their shapes"):
        function(x, 0.5, seed=fastdrop.Key(1)._replace(seed=Seed()), out=out)


def test_methods_of_streams_are_those_of_a_copy():
    """Python's own class of compiled methods would be shared by a deep copy, and have no signature."""
    stream = fastdrop.Stream(1)
    copied, draw = copy.deepcopy((stream, stream.next))
    draw()
    assert (stream.offset, copied.offset) == (0, 1)
    assert list(inspect.signature(fastdrop.Stream.next).parameters) == ["self"]
