"""Each mistake raises the right exception with a sentence that says what was wrong and what is allowed; it has no other effect.

Nothing else: the output is as it was, a Stream is not advanced, a Generator is not drawn from.
"""

import decimal
import re

import numpy as np
import pytest

import fastdrop
from fastdrop.verify.cases import GUARD

X = np.ones(6, np.float32)
READ_ONLY = np.ones(6, np.float32)
READ_ONLY.flags.writeable = False

RANGE64 = r"an integer in \[0, 2\*\*64\)"
NUMBERS = r"p must be a number or a NumPy array of numbers in \[0, 1\]"
RATES = [
    (-0.1, ValueError, r"p must be in \[0, 1\].*-0\.1"),
    (1.0000001, ValueError, r"p must be in \[0, 1\].*1\.0000001"),
    (2, ValueError, r"p must be in \[0, 1\].*2"),
    (10**400, ValueError, r"p must be in \[0, 1\]"),
    (float("nan"), ValueError, r"p must be in \[0, 1\].*nan"),
    (float("inf"), ValueError, r"p must be in \[0, 1\].*inf"),
    (np.float32(-1), ValueError, r"p must be in \[0, 1\]"),
    (decimal.Decimal("1.5"), ValueError, r"p must be in \[0, 1\]"),
    ("0.5", TypeError, rf"{NUMBERS}.*'0\.5' \(str\)"),
    (None, TypeError, rf"{NUMBERS}.*NoneType"),
    (0.5j, TypeError, rf"{NUMBERS}.*complex"),
    ([0.5], TypeError, rf"{NUMBERS}.*list"),
    (np.array(["a"]), TypeError, r"p must be a number or an array of real numbers in \[0, 1\]; got an array of <U1"),
    (
        np.array([0.5j]),
        TypeError,
        r"p must be a number or an array of real numbers in \[0, 1\]; got an array of complex",
    ),
    (np.array([0.5] * 4 + [1.5, 2.0]), ValueError, r"each p must be in \[0, 1\].*1\.5.* at index \(4,\)"),
    (np.array([0.5] * 5 + [np.nan], np.float32), ValueError, r"each p must be in \[0, 1\].*nan.* at index \(5,\)"),
    (np.array([0.5] * 5 + [-0.25], np.float32), ValueError, r"each p must be in \[0, 1\].*-0.25.* at index \(5,\)"),
    (np.array([0.5] * 5 + [-0.25]), ValueError, r"each p must be in \[0, 1\].*-0.25.* at index \(5,\)"),
    (np.array([[0.1], [-0.5]]), ValueError, r"each p must be in \[0, 1\].*-0\.5.* at index \(1, 0\)"),
    (np.full(4, 0.5), ValueError, r"p has shape \(4,\), which does not broadcast to the shape \(6,\)"),
    (np.full((2, 6), 0.5), ValueError, r"p has shape \(2, 6\), which does not broadcast to the shape \(6,\)"),
    (np.array("0.5"), TypeError, rf"{NUMBERS}.*'0\.5'"),
    (np.complex64(0.5), TypeError, rf"{NUMBERS}.*complex64"),
    (np.timedelta64(1), TypeError, rf"{NUMBERS}.*timedelta64"),
]
OFFSETS = [
    (-1, ValueError, rf"offset must be {RANGE64}; got -1"),
    (2**64, ValueError, rf"offset must be {RANGE64}; got 18446744073709551616"),
    (1.0, TypeError, rf"offset must be {RANGE64}; got 1\.0 \(float\)"),
    (None, TypeError, rf"offset must be {RANGE64}; got None"),
    ("1", TypeError, rf"offset must be {RANGE64}; got '1' \(str\)"),
]
STARTS = [
    (-1, ValueError, "start must be >= 0; got -1"),
    (1.0, TypeError, r"start must be an integer >= 0; got 1\.0 \(float\)"),
    (None, TypeError, "start must be an integer >= 0; got None"),
    (2**64, OverflowError, rf"start {2**64} with 6 of them goes past the end"),
]
SEEDS = [
    (-1, ValueError, rf"seed must be {RANGE64}; got -1"),
    (2**64, ValueError, rf"seed must be {RANGE64}; got {2**64}"),
    (1.0, TypeError, rf"seed must be {RANGE64}(, a fastdrop\.Key, .*SeedSequence, .*BitGenerator)?; got 1\.0 \(float\)"),
    ("1", TypeError, rf"seed must be {RANGE64}.*'1' \(str\)"),
    (np.float64(1), TypeError, rf"seed must be {RANGE64}"),
    (True, TypeError, rf"seed must be {RANGE64}.*True \(bool\)"),
]
SHAPES = [
    (-1, ValueError, "each size in shape must be >= 0; got -1"),
    ((2, -3), ValueError, "each size in shape must be >= 0; got -3"),
    (2.0, TypeError, r"each size in shape must be an integer >= 0; got 2\.0 \(float\)"),
    ((2, None), TypeError, "each size in shape must be an integer >= 0; got None"),
    ("ab", TypeError, r"each size in shape must be an integer >= 0; got 'ab' \(str\)"),
    (b"ab", TypeError, r"each size in shape must be an integer >= 0; got b'ab' \(bytes\)"),
    (memoryview(b"ab"), TypeError, r"each size in shape must be an integer >= 0; got <memory"),
    ((1,) * 65, ValueError, "shape must have at most 64 dimensions; got 65"),
    (2**63, OverflowError, r"each size in shape must be below 2\*\*63"),
    ((2**40, 2**40), OverflowError, r"has 2\*\*63 elements or more"),
]
BACKENDS = [
    ("cuda", ValueError, "unknown backend 'cuda': the backends are 'c', 'numba', 'numpy'"),
    ("", ValueError, "unknown backend ''"),
    (["c"], ValueError, "unknown backend .*: the backends are 'c', 'numba', 'numpy'"),
]
THREADS = [
    (0, ValueError, "num_threads must be an integer >= 1; got 0"),
    (-1, ValueError, "num_threads must be an integer >= 1; got -1"),
    (1.5, TypeError, r"num_threads must be an integer >= 1; got 1\.5 \(float\)"),
    ("2", TypeError, r"num_threads must be an integer >= 1; got '2' \(str\)"),
]
MODES = [
    ("Inverted", ValueError, "mode must be 'inverted', 'standard' or 'unscaled'; got 'Inverted'"),
    (None, ValueError, "mode must be 'inverted', 'standard' or 'unscaled'; got None"),
]
FLOATS = r"must have a floating-point dtype: float32, float64, float16 or bfloat16 \(of ml_dtypes\); got"
ARRAYS = [
    *((np.ones(6, dtype), TypeError, f"{FLOATS} {dtype}")
      for dtype in ("int32", "uint8", "bool", "complex64", "object")),
    (np.ones(6, np.longdouble), TypeError, FLOATS),
    (np.zeros(6, [("a", "f4")]), TypeError, FLOATS),
    (np.ones(6, np.dtype("f8").newbyteorder()), TypeError, "must have this machine's byte order; got dtype .* converts it"),
    (["a"], TypeError, f"{FLOATS} <U1"),
    (None, TypeError, f"{FLOATS} object"),
]  # fmt: skip
OUTPUTS = [
    ([0.0] * 6, TypeError, r"out must be a numpy\.ndarray; got list"),
    (np.ones(6, np.float64), TypeError, "out must have the dtype of the input, '<f4'; got '<f8'"),
    (np.ones(6, ">f4"), TypeError, "out must have the dtype of the input, '<f4'; got '>f4'"),
    (np.ones(5, np.float32), ValueError, r"out must have the shape of the input, \(6,\); got \(5,\)"),
    (np.ones((6, 1), np.float32), ValueError, r"out must have the shape of the input, \(6,\); got \(6, 1\)"),
    (READ_ONLY, ValueError, "out must be writable; it is read-only"),
]


def table(**rows):
    """Return one parameter set (keyword, value, exception, pattern) per row."""
    return [
        pytest.param(name, *row, id=f"{name}-{type(row[0]).__name__}-{number}")
        for name, values in rows.items()
        for number, row in enumerate(values)
    ]


def refuses(function, arguments, exception, pattern):
    """Check that a call is refused and changes nothing, for every kind of seed."""
    generator = np.random.default_rng(1)
    drawn = generator.bit_generator.state
    stream = fastdrop.Stream(1)
    before = stream.state_dict()
    seeds = [arguments["seed"]] if "seed" in arguments else [1, stream, generator]
    for seed in seeds:
        with pytest.raises(exception, match=pattern):
            function(**{**arguments, "seed": seed})
    assert stream.state_dict() == before
    assert generator.bit_generator.state == drawn


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("function", [fastdrop.dropout, fastdrop.dropout_backward])
@pytest.mark.parametrize(
    ("name", "value", "exception", "pattern"),
    table(p=RATES, offset=OFFSETS, start=STARTS, backend=BACKENDS, num_threads=THREADS, mode=MODES),
)
def test_dropout(function, name, value, exception, pattern, training):
    out = np.full(6, GUARD, np.float32)
    array = "grad" if function is fastdrop.dropout_backward else "x"
    refuses(function, {array: X, "out": out, "training": training, name: value}, exception, pattern)
    assert (out == GUARD).all()


@pytest.mark.parametrize("function", [fastdrop.dropout, fastdrop.dropout_backward])
@pytest.mark.parametrize(("name", "value", "exception", "pattern"), table(x=ARRAYS, out=OUTPUTS, seed=SEEDS))
def test_dropout_arrays_and_seeds(function, name, value, exception, pattern):
    array = "grad" if function is fastdrop.dropout_backward else "x"
    arguments = {array if name == "x" else name: value}
    refuses(function, {array: X, **arguments}, exception, f"{array} {pattern}" if name == "x" else pattern)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("ndim", [65, 66, 1000])
def test_more_dimensions_than_an_array_can_have(packed, ndim):
    """A packed mask has one dimension, so NumPy does not check the shape."""
    for geometry in ({}, {"shared_axes": 0}, {"noise_shape": (1,) * ndim}, {"global_shape": (2,) * ndim}):
        with pytest.raises(ValueError, match=f"at most 64 dimensions; got {ndim}"):
            fastdrop.dropout_mask((1,) * ndim, 0.5, seed=1, packed=packed, **geometry)


def test_as_many_dimensions_as_the_kernels_have():
    mask = fastdrop.dropout_mask((1,) * 63 + (9,), 0.5, seed=1, packed=True, shared_axes=0)
    assert mask.tobytes() == fastdrop.dropout_mask(9, 0.5, seed=1, packed=True).tobytes()


@pytest.mark.parametrize(
    ("name", "value", "exception", "pattern"),
    table(shape=SHAPES, p=RATES, offset=OFFSETS, start=STARTS, backend=BACKENDS, num_threads=THREADS, seed=SEEDS),
)
@pytest.mark.parametrize("packed", [True, False])
def test_dropout_mask(name, value, exception, pattern, packed):
    refuses(fastdrop.dropout_mask, {"shape": 6, "packed": packed, name: value}, exception, pattern)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "value", "exception", "pattern"), table(shape=SHAPES, offset=OFFSETS, start=STARTS, seed=SEEDS)
)
def test_uniform(name, value, exception, pattern, dtype):
    refuses(fastdrop.uniform, {"shape": 6, "dtype": dtype, name: value}, exception, pattern)


@pytest.mark.parametrize("dtype", ["int32", "float16", "object", "complex64", np.dtype("f4").newbyteorder()])
def test_uniform_dtype(dtype):
    refuses(
        fastdrop.uniform,
        {"shape": 6, "dtype": dtype},
        TypeError,
        "dtype must be float32 or float64, in this machine's byte order; got ",
    )


@pytest.mark.parametrize(
    ("name", "value", "exception", "pattern"),
    table(
        n=[
            (-1, ValueError, "n must be >= 0; got -1"),
            (1.0, TypeError, r"n must be an integer >= 0; got 1\.0 \(float\)"),
            (2**63, OverflowError, r"n must be below 2\*\*63"),
        ],
        offset=OFFSETS,
        start=STARTS,
        seed=SEEDS,
    ),
)
def test_words(name, value, exception, pattern):
    refuses(fastdrop.words, {"n": 6, name: value}, exception, pattern)


@pytest.mark.parametrize(("function", "dtype"), [("words", np.uint32), ("uniform", np.float32), ("normal", np.float32)])
def test_an_output_of_random_numbers_of_another_shape(function, dtype):
    with pytest.raises(ValueError, match=r"out must have the shape of the result, \(5,\); got \(3,\)"):
        getattr(fastdrop.random, function)(5, seed=1, out=np.empty(3, dtype))


@pytest.mark.parametrize("function", [fastdrop.dropout_backward, fastdrop.dropout_mask, fastdrop.words, fastdrop.uniform])
def test_none_is_no_seed_where_a_result_must_be_made_again(function):
    with pytest.raises(TypeError, match="seed is required here"):
        function(X if function is fastdrop.dropout_backward else 6, seed=None)


@pytest.mark.parametrize(
    ("seed", "way"),
    [
        ("encoder.0", "fastdrop.fold_in(0, name) makes a seed of a name"),
        ((42, 7), "fastdrop.Key(seed, offset) makes a key of two integers, and numpy.random.SeedSequence(integers) a seed of"),
        ([1, 2, 3], "numpy.random.SeedSequence(integers) a seed of any number of them"),
    ],
)
def test_the_message_says_how_to_make_a_seed(seed, way):
    with pytest.raises(TypeError, match=re.escape(f"; got {seed!r} ({type(seed).__name__}); ") + ".*" + re.escape(way)):
        fastdrop.dropout(np.ones(3), seed=seed)


def test_an_offset_beside_a_stream():
    stream = fastdrop.Stream(1)
    with pytest.raises(ValueError, match=r"offset must not be given with a stream.*got offset 3 and seed Stream\(seed=1"):
        fastdrop.dropout(X, seed=stream, offset=3)
    assert stream.offset == 0


# The end of the stream ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "end", "what"),
    [
        (lambda n, **more: fastdrop.dropout(np.ones(n), **more), 55, "elements"),
        (lambda n, **more: fastdrop.dropout_backward(np.ones(n), **more), 55, "elements"),
        (fastdrop.dropout_mask, 55, "elements"),
        (lambda n, **more: fastdrop.dropout_mask(n, packed=True, **more), 55, "elements"),
        (fastdrop.words, 50, "words"),
        (fastdrop.uniform, 50, "float32 numbers"),
        (lambda n, **more: fastdrop.uniform(n, dtype=np.float64, **more), 49, "float64 numbers"),
    ],
)
def test_indices_past_the_end(engine, function, end, what):
    assert len(function(7, start=2**end - 7, seed=1)) > 0
    assert len(function(0, start=2**end, seed=1)) == 0
    for n, start in ((7, 2**end - 6), (1, 2**end), (0, 2**end + 1)):
        with pytest.raises(OverflowError, match=rf"stream 1 has 2\*\*{end} {what}; start {start} .* past the end"):
            function(n, start=start, seed=1)


@pytest.mark.parametrize("function", [fastdrop.words, fastdrop.uniform, fastdrop.dropout_mask])
def test_more_elements_than_the_stream_has(function):
    """The error is raised before memory is allocated."""
    with pytest.raises(OverflowError, match="past the end"):
        function(2**55 + 1, seed=1)


# Keys and streams ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "data", "exception", "pattern"),
    [
        (-1, 0, ValueError, rf"seed must be {RANGE64}; got -1"),
        (2**64, 0, ValueError, rf"seed must be {RANGE64}"),
        (1.0, 0, TypeError, rf"seed must be {RANGE64}"),
        (None, 0, TypeError, rf"seed must be {RANGE64}"),
        (0, -1, ValueError, rf"data must be {RANGE64}; got -1"),
        (0, 2**64, ValueError, rf"data must be {RANGE64}"),
        (0, 1.0, TypeError, rf"data must be {RANGE64} or a string; got 1\.0 \(float\)"),
        (0, b"name", TypeError, rf"data must be {RANGE64} or a string; got b'name' \(bytes\)"),
    ],
)
def test_fold_in(seed, data, exception, pattern):
    with pytest.raises(exception, match=pattern):
        fastdrop.fold_in(seed, data)
    if isinstance(seed, int) and 0 <= seed < 2**64:
        with pytest.raises(exception, match=pattern):
            fastdrop.Stream(seed).fold_in(data)


@pytest.mark.parametrize(("name", "value", "exception", "pattern"), table(seed=SEEDS, offset=OFFSETS))
def test_stream(name, value, exception, pattern):
    generator = np.random.default_rng(1)
    drawn = generator.bit_generator.state
    with pytest.raises(exception, match=pattern):
        fastdrop.Stream(**{"seed": generator, name: value})
    assert generator.bit_generator.state == drawn


def test_a_stream_is_no_seed_of_a_stream():
    with pytest.raises(TypeError, match=r"must not be a Stream here; stream\.spawn\(n\) and stream\.fold_in\(data\)"):
        fastdrop.Stream(fastdrop.Stream(1))


@pytest.mark.parametrize(("n", "exception"), [(-1, ValueError), (1.5, TypeError), (None, TypeError)])
def test_spawn(n, exception):
    stream = fastdrop.Stream(1)
    with pytest.raises(exception, match=r"n must be .*>= 0; got"):
        stream.spawn(n)
    assert stream.state_dict()["spawned"] == 0


def test_spawn_of_too_many():
    stream = fastdrop.Stream.from_state_dict({**fastdrop.Stream(1).state_dict(), "spawned": 2**63 - 3})
    for n in (2**20 + 1, 2**32):
        with pytest.raises(ValueError, match=rf"n must be at most 2\*\*20 in one call.*; got {n}"):
            stream.spawn(n)
    with pytest.raises(OverflowError, match=r"a stream has 2\*\*63 children; 9223372036854775805 are spawned, and 4 more"):
        stream.spawn(4)
    last = stream.spawn(3)[2]
    assert last.seed == fastdrop.fold_in(1, 2**64 - 1)
    with pytest.raises(OverflowError, match="a stream has"):
        stream.spawn(1)
    assert stream.spawn(0) == []


GOOD_STATE = {"stream": 1, "seed": 5, "offset": 6, "spawned": 7}


@pytest.mark.parametrize(
    ("change", "exception", "pattern"),
    [
        ({"stream": 2}, ValueError, "stream 1; the state is of stream 2"),
        ({"seed": -1}, ValueError, rf"seed must be {RANGE64}; got -1"),
        ({"seed": None}, TypeError, rf"seed must be {RANGE64}; got None"),
        ({"seed": np.random.default_rng(1)}, TypeError, rf"seed must be {RANGE64}; got Generator"),
        ({"offset": -1}, ValueError, rf"offset must be {RANGE64}; got -1"),
        ({"offset": 2**64 + 1}, ValueError, rf"offset must be {RANGE64}; got {2**64 + 1}"),
        ({"offset": 1.5}, TypeError, "offset must be an integer"),
        ({"spawned": -1}, ValueError, "spawned must be >= 0; got -1"),
        ({"spawned": 0.5}, TypeError, "spawned must be an integer >= 0"),
    ],
)
def test_from_state_dict(change, exception, pattern):
    assert fastdrop.Stream.from_state_dict(GOOD_STATE).state_dict() == GOOD_STATE
    with pytest.raises(exception, match=pattern):
        fastdrop.Stream.from_state_dict({**GOOD_STATE, **change})


@pytest.mark.parametrize("name", ["seed", "offset", "spawned"])
def test_from_state_dict_names_what_is_missing(name):
    state = {key: value for key, value in GOOD_STATE.items() if key != name}
    with pytest.raises(ValueError, match=rf"missing: \['{name}'\]"):
        fastdrop.Stream.from_state_dict(state)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("function", "more"),
    [
        (fastdrop.concrete_dropout_backward, {"p_logit": 0.5}),
        (fastdrop.spatial_concrete_dropout_backward, {"p_logit": 0.5}),
        (fastdrop.gaussian_dropout_backward, {"log_alpha": -1.0}),
        (fastdrop.adl_backward, {"p": 0.5}),
    ],
)
def test_an_input_of_another_shape_than_the_gradient(function, more, training):
    grad = np.ones((2, 3, 4), np.float32)
    with pytest.raises(ValueError, match=r"x must have the shape \(2, 3, 4\).*; got \(2, 3, 5\)"):
        function(grad, x=np.ones((2, 3, 5), np.float32), seed=1, training=training, **more)
