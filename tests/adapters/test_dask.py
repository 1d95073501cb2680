"""fastdrop.dask: NumPy's bytes whatever the chunks are, keys drawn once, everything checked when the graph is made."""

import doctest
import inspect
import pickle

import numpy as np
import pytest
from doctests import run

pytest.importorskip("dask.array", reason="Dask is not installed")

import dask
import dask.array as da
import hypothesis.strategies as st
from hypothesis import given, settings

import fastdrop
import fastdrop.dask as fd
from fastdrop.verify.cases import equal_bytes

OF_SHAPE = ["dropout_mask", "normal", "uniform"]
OF_ARRAY = [name for name in fd.__all__ if name not in (*OF_SHAPE, "apply_mask")]
DIMENSIONS = {
    "dropout1d": (2, 3),
    "dropout2d": (3, 4),
    "dropout3d": (4, 5),
    "spatial_dropout": (2, 4),
    "locked_dropout": (1, 4),
}
DTYPES = ["float32", "float64", "float16"]


@pytest.fixture(autouse=True)
def _threads():
    with dask.config.set(scheduler="threads"):
        yield


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as workers,
        distributed.Client(workers) as client,
    ):
        yield client


@st.composite
def chunked(draw, ndim=(0, 4), longest=7):
    """Draw a shape and chunks of it, regular ones and others."""
    shape = tuple(draw(st.lists(st.integers(0, longest), min_size=ndim[0], max_size=ndim[1])))
    return shape, tuple(draw(cut(size)) for size in shape)


@st.composite
def cut(draw, size):
    """Draw the sizes of the blocks along an axis."""
    if size and draw(st.booleans()):
        return da.core.normalize_chunks(draw(st.integers(1, size)), (size,))[0]
    ends = sorted(draw(st.lists(st.integers(1, size - 1), unique=True))) if size > 1 else []
    return tuple(int(n) for n in np.diff([0, *ends, size]))


def options(draw, name, ndim):
    """Draw the options of a function."""
    if name == "dropout" and ndim:
        return {"shared_axes": draw(st.lists(st.integers(0, ndim - 1), unique=True))}
    if name == "locked_dropout":
        return {"shared_axes": draw(st.integers(-ndim, ndim - 1))}
    if name == "spatial_dropout":
        return {"data_format": draw(st.sampled_from(["channels_first", "channels_last"]))}
    return {}


def values(shape, dtype="float32"):
    return np.random.default_rng(5).standard_normal(shape).astype(dtype)


# Bytes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_ARRAY)
@given(data=st.data())
@settings(max_examples=25)
def test_bytes_of_arrays(name, data):
    """The bytes are NumPy's, and rechunking before or after changes nothing."""
    shape, chunks = data.draw(chunked(DIMENSIONS.get(name, (0, 4))))
    x = values(shape, data.draw(st.sampled_from(DTYPES)))
    keywords = options(data.draw, name, x.ndim)
    wanted = getattr(fastdrop, name)(x, 0.3, seed=9, offset=2, **keywords)
    made = getattr(fd, name)(da.from_array(x, chunks), 0.3, seed=9, offset=2, **keywords)
    assert made.chunks == da.from_array(x, chunks).chunks
    assert made.dtype == x.dtype
    assert equal_bytes(made.compute(), wanted)
    other = tuple(data.draw(cut(size)) for size in shape)
    before = getattr(fd, name)(da.from_array(x, chunks).rechunk(other), 0.3, seed=9, offset=2, **keywords)
    assert equal_bytes(before.compute(), wanted)
    assert equal_bytes(made.rechunk(other).compute(), wanted)


@pytest.mark.parametrize("option", [{"shared_axes": (1,)}, {"noise_shape": (None, 1)}], ids=str)
def test_sequences_that_are_read_once(option):
    """An iterator is read for the checks, and again for each block."""
    (name, values), x = *option.items(), np.ones((4, 6), np.float32)
    wanted = fastdrop.dropout(x, 0.5, seed=42, **option)
    assert equal_bytes(fd.dropout(da.from_array(x, 2), 0.5, seed=42, **{name: iter(values)}).compute(), wanted)
    mask = fd.dropout_mask(iter((4, 6)), 0.5, seed=42, **{name: iter(values)}, chunks=2)
    assert equal_bytes(mask.compute(), wanted > 0)


CHANGED = {
    "axes": (fd.dropout, {"shared_axes": [1]}, [0]),
    "noise": (fd.dropout, {"noise_shape": [4, 1]}, [1, 6]),
    "log alpha": (fd.gaussian_dropout, {"log_alpha": np.array(-1.0)}, 2.0),
    "stddev": (fd.gaussian_noise, {"stddev": np.array([0.5])}, 2.0),
    "mean": (fd.alpha_dropout, {"mean": np.array(0.5)}, 2.0),
}


@pytest.mark.parametrize("name", CHANGED)
def test_later_changes_of_an_argument_change_nothing(name):
    function, options, other = CHANGED[name]
    (value,) = options.values()
    made = function(da.ones((4, 6), chunks=2, dtype="float32"), seed=42, **options)
    wanted = getattr(fastdrop, made.name.partition("-")[0])(np.ones((4, 6), np.float32), seed=42, **options)
    value[() if isinstance(value, np.ndarray) else slice(None)] = other
    assert equal_bytes(made.compute(), wanted)


@pytest.mark.parametrize("name", OF_SHAPE)
@given(data=st.data())
@settings(max_examples=25)
def test_bytes_of_shapes(name, data):
    shape, chunks = data.draw(chunked())
    keywords = {"dtype": data.draw(st.sampled_from(["float32", "float64"]))} if name != "dropout_mask" else {"p": 0.3}
    wanted = getattr(fastdrop, name)(shape, seed=9, offset=2, **keywords)
    made = getattr(fd, name)(shape, chunks=chunks, seed=9, offset=2, **keywords)
    assert made.dtype == wanted.dtype
    assert equal_bytes(made.compute(), wanted)


@given(data=st.data())
def test_bytes_of_own_masks(data):
    """A mask may have other chunks than x, and fewer axes."""
    shape, chunks = data.draw(chunked())
    x = values(shape)
    kept = tuple(data.draw(st.sampled_from([1, size])) for size in shape[data.draw(st.integers(0, len(shape))) :])
    mask = np.asarray(values(kept) > 0)
    wanted = fastdrop.apply_mask(x, mask, 1.5)
    for given_mask in (mask, da.from_array(mask, tuple(data.draw(cut(size)) for size in kept))):
        assert equal_bytes(fd.apply_mask(da.from_array(x, chunks), given_mask, 1.5).compute(), wanted)


@pytest.mark.parametrize("name", ["dropout", "alpha_dropout", "gaussian_noise", "locked_dropout"])
def test_masked_arrays_stay_masked(name):
    """With NumPy's values, also below the array's own mask; whether the graph knows of the mask or only the blocks."""
    x = np.ma.masked_greater(values((6, 8)), 0.3)
    wanted = getattr(fastdrop, name)(x, 0.5, seed=3)
    known = da.from_array(x, chunks=(4, 3))
    unknown = da.from_array(x.data, chunks=(4, 3)).map_blocks(
        np.ma.masked_greater, 0.3, dtype=x.dtype, meta=np.empty((0, 0), x.dtype)
    )
    for array in (known, unknown):
        y = getattr(fd, name)(array, 0.5, seed=3).compute()
        assert type(y) is np.ma.MaskedArray
        assert equal_bytes(y.mask, wanted.mask)
        assert equal_bytes(y.data, wanted.data)


def test_bfloat16():
    x = values((6, 5)).astype(pytest.importorskip("ml_dtypes").bfloat16)
    assert equal_bytes(fd.dropout(da.from_array(x, 2), 0.3, seed=9).compute(), fastdrop.dropout(x, 0.3, seed=9))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")  # the cluster's threads do
@given(data=st.data())
@settings(max_examples=6)
def test_bytes_on_processes(cluster, data):
    """Every function at once on a cluster of two processes."""
    shape, chunks = data.draw(chunked((4, 4), 4))
    x = values(shape)
    whole = da.from_array(x, chunks)
    pairs = [
        (
            getattr(fastdrop, name)(x[..., 0] if name == "dropout1d" else x, 0.3, seed=9),
            getattr(fd, name)(whole[..., 0] if name == "dropout1d" else whole, 0.3, seed=9),
        )
        for name in OF_ARRAY
        if shape[-1] or name != "dropout1d"
    ]
    pairs += [(getattr(fastdrop, name)(shape, seed=9), getattr(fd, name)(shape, seed=9, chunks=chunks)) for name in OF_SHAPE]
    pairs.append((fastdrop.apply_mask(x, x > 0), fd.apply_mask(whole, whole > 0)))
    found = cluster.gather(cluster.compute([made for _, made in pairs]))
    assert all(equal_bytes(made, wanted) for made, (wanted, _) in zip(found, pairs, strict=True))


def test_one_thread_per_block(monkeypatch):
    asked = []
    monkeypatch.setitem(fd.FUNCTIONS, "dropout", lambda x, **keywords: asked.append(keywords["num_threads"]) or x * 1)
    task = fd.BlockTask("dropout", (1, 0), {}, (4,), (range(0, 4, 2),), False)
    da.map_blocks(task, da.ones(4, chunks=2, dtype="float32"), dtype="float32").compute()
    assert set(asked[-2:]) == {1}


def test_xarray():
    """`apply_ufunc` hands over the whole Dask array."""
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    x = values((6, 8))
    labelled = xarray.DataArray(da.from_array(x, 3), dims=("time", "feature"))
    made = xarray.apply_ufunc(fd.dropout, labelled, kwargs={"p": 0.3, "seed": 9, "shared_axes": 0}, dask="allowed")
    assert made.dims == ("time", "feature")
    assert isinstance(made.data, da.Array)
    assert equal_bytes(made.values, fastdrop.dropout(x, 0.3, seed=9, shared_axes=0))


# Names and keys -----------------------------------------------------------------------------------------------------


def test_names():
    """Equal arguments give equal names, however they are written; others give others."""
    x = da.ones((4, 4), chunks=2, dtype="float32")
    name = fd.dropout(x, 0.5, seed=3).name
    assert name == fd.dropout(p=0.5, x=x, mode="inverted", seed=fastdrop.Key(3), offset=0).name
    assert name.startswith("dropout-")
    others = [fd.dropout(x, 0.5, seed=4), fd.dropout(x, 0.4, seed=3), fd.dropout(x + 1, 0.5, seed=3)]
    others += [fd.dropout(x.rechunk(4), 0.5, seed=3), fd.dropout(x, 0.5, seed=3, offset=1), fd.alpha_dropout(x, 0.5, seed=3)]
    others += [fd.normal((4, 4), chunks=2, seed=3), fd.normal((4, 4), chunks=4, seed=3), fd.uniform((4, 4), chunks=2, seed=3)]
    assert len({name, *(made.name for made in others)}) == 1 + len(others)


def test_names_in_another_process(run_python):
    program = """
    import dask.array as da, fastdrop.dask
    print(fastdrop.dask.dropout(da.ones((4, 4), chunks=2, dtype="float32"), 0.5, seed=3).name)
    """
    wanted = fd.dropout(da.ones((4, 4), chunks=2, dtype="float32"), 0.5, seed=3).name
    assert run_python(program).stdout.strip() == wanted


@pytest.mark.parametrize("name", [*OF_ARRAY, *OF_SHAPE])
def test_streams_are_drawn_from_once(name):
    """The key is that of the next call, and computing twice draws nothing."""
    stream, x = fastdrop.Stream(7, 3), values((2, 3, 4, 3) if name == "dropout3d" else (2, 3, 4))
    arguments = (x.shape, da.from_array(x, 2)) if name in OF_SHAPE else (x, da.from_array(x, 2))
    if name in OF_SHAPE:
        made = getattr(fd, name)(x.shape, chunks=2, seed=stream)
    else:
        made = getattr(fd, name)(arguments[1], seed=stream)
    assert stream.offset == 4
    wanted = getattr(fastdrop, name)(arguments[0], seed=fastdrop.Key(7, 3))
    assert equal_bytes(made.compute(), wanted)
    assert equal_bytes(made.compute(), wanted)
    assert stream.offset == 4


def test_chunks_are_checked_before_the_draw():
    stream = fastdrop.Stream(7)
    with pytest.raises(ValueError, match="Chunks do not add up to shape"):
        fd.normal((4, 6), chunks=((1, 1), (6,)), seed=stream)
    assert stream.offset == 0


def test_fresh_entropy_is_drawn_once():
    x = da.ones((8, 8), chunks=2, dtype="float32")
    made = fd.dropout(x)
    assert equal_bytes(made.compute(), made.compute())
    assert made.name != fd.dropout(x).name


def test_generators():
    made = fd.dropout(da.ones(64, chunks=8, dtype="float32"), seed=np.random.default_rng(1))
    wanted = fastdrop.dropout(np.ones(64, np.float32), seed=np.random.default_rng(1))
    assert equal_bytes(made.compute(), wanted)


def test_outside_training():
    x, stream = da.ones((4, 4), chunks=2, dtype="float32"), fastdrop.Stream(1)
    assert fd.dropout(x, seed=stream, training=False) is x
    assert fd.alpha_dropout(x, seed=stream, training=False) is x
    scaled = fd.dropout(x, 0.25, seed=stream, training=False, mode="standard")
    assert equal_bytes(scaled.compute(), np.full((4, 4), 0.75, np.float32))
    assert stream.offset == 0
    with pytest.raises(TypeError, match="seed must be"):
        fd.dropout(x, seed="x", training=False)


def test_a_task_is_small():
    """Equal blocks have a rule for their place, so that a task does not carry the places of all blocks."""
    made = fd.dropout(da.zeros(10**6, chunks=10, dtype="float32"), 0.5, seed=3)
    (layer,) = [layer for name, layer in made.dask.layers.items() if name == made.name]
    assert len(pickle.dumps(layer.task.func if layer.task.args is None else layer.task)) < 2000
    assert isinstance(fd.start_of_blocks((10, 10, 3)), range)
    assert list(fd.start_of_blocks((10, 10, 3))) == [0, 10, 20]
    assert list(fd.start_of_blocks((10, 3, 10))) == [0, 10, 13]
    assert list(fd.start_of_blocks((0,))) == [0]


# Bad input ----------------------------------------------------------------------------------------------------------


def ones(shape=(4, 4), dtype="float32"):
    return da.ones(shape, chunks=2, dtype=dtype)


def unknown():
    x = ones()
    return x[x.sum(axis=1) > 0]


FLOATS = "x must have a floating-point dtype"
BAD = {
    "int": (lambda s: fd.dropout(ones(dtype="int64"), seed=s), TypeError, FLOATS),
    "complex": (lambda s: fd.gaussian_noise(ones(dtype="complex64"), seed=s), TypeError, FLOATS),
    "numpy": (lambda s: fd.dropout(np.ones(4), seed=s), TypeError, "x must be a dask.array.Array; got ndarray"),
    "unknown": (lambda s: fd.dropout(unknown(), seed=s), ValueError, "x must have known chunk sizes"),
    "p above": (lambda s: fd.dropout(ones(), 1.5, seed=s), ValueError, "p must be in [0, 1]"),
    "p nan": (
        lambda s: fd.gaussian_dropout(ones(), float("nan"), seed=s),
        ValueError,
        "p must be in [0, 1], the probability of dropping; got nan",
    ),
    "p text": (lambda s: fd.dropout(ones(), "0.5", seed=s), TypeError, "p must be a number in [0, 1]"),
    "p array": (lambda s: fd.dropout(ones(), np.full(4, 0.5), seed=s), TypeError, "p must be one number for a Dask array"),
    "p array of a mask": (
        lambda s: fd.dropout_mask((4, 4), np.full((4, 4), 0.5), seed=s),
        TypeError,
        "p must be one number for a Dask array",
    ),
    "p ragged": (
        lambda s: fd.dropout(ones(), [[1], [1, 2]], seed=s),
        ValueError,
        "p must be an array, or lists of equal lengths",
    ),
    "log alpha": (
        lambda s: fd.gaussian_dropout(ones(), log_alpha=np.zeros((4, 4)), seed=s),
        TypeError,
        "log_alpha must be one number for a Dask array; got an array of shape (4, 4)",
    ),
    "shape ragged": (lambda s: fd.normal([[1], [1, 2]], seed=s), TypeError, "each size in shape must be an integer >= 0"),
    "axes": (lambda s: fd.dropout(ones(), shared_axes=2, seed=s), ValueError, "shared_axes (2,) are out of range"),
    "time": (lambda s: fd.locked_dropout(ones(), shared_axes=-3, seed=s), ValueError, "shared_axes (-3,) are out of range"),
    "noise": (lambda s: fd.dropout(ones(), noise_shape=(2, 4), seed=s), ValueError, "does not broadcast to shape (4, 4)"),
    "dimensions": (lambda s: fd.dropout3d(ones(), seed=s), ValueError, "x must have"),
    "mode": (lambda s: fd.dropout(ones(), mode="x", seed=s), ValueError, "mode must be"),
    "training": (lambda s: fd.dropout(ones(), training="no", seed=s), TypeError, "training must be True or False"),
    "training array": (
        lambda s: fd.dropout(ones(), training=np.array([True, False]), seed=s),
        TypeError,
        "training must be True or False",
    ),
    "backend": (lambda s: fd.dropout(ones(), backend="x", seed=s), ValueError, "backend"),
    "stddev": (lambda s: fd.gaussian_noise(ones(), -1.0, seed=s), ValueError, "stddev must be"),
    "dtype": (lambda s: fd.normal((4, 4), dtype="int32", seed=s), TypeError, "dtype"),
    "shape": (lambda s: fd.normal((4, -1), seed=s), ValueError, "each size in shape must be >= 0"),
    "chunks unknown": (
        lambda s: fd.normal(4, chunks=((float("nan"),),), seed=s),
        ValueError,
        "chunks must have known sizes >= 0; got ((nan,),)",
    ),
    "chunks negative": (lambda s: fd.normal(4, chunks=-5, seed=s), ValueError, "chunks must have known sizes >= 0; got -5"),
    "chunks below 0": (
        lambda s: fd.dropout_mask(4, chunks=((-1, 5),), seed=s),
        ValueError,
        "chunks must have known sizes >= 0",
    ),
    "chunks of nothing": (
        lambda s: fd.uniform((4, 0), chunks=0, seed=s),
        ValueError,
        "chunks must have more than 0 elements along an axis that has some; got 0",
    ),
    "offset": (lambda s: fd.dropout(ones(), seed=s, offset=3), ValueError, "offset must not be given with a stream"),
    "out": (lambda s: fd.dropout(ones(), seed=s, out=np.ones(4)), TypeError, "unexpected keyword argument 'out'"),
    "end": (
        lambda s: fd.dropout(da.zeros((2**30, 2**26), chunks=2**22, dtype="float32"), seed=s),
        OverflowError,
        "stream 1 has 2**55 elements",
    ),
    "end of numbers": (
        lambda s: fd.normal((2**30, 2**21), chunks=2**20, seed=s),
        OverflowError,
        "stream 1 has 2**50",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, monkeypatch):
    """The kind of error and its sentence, when the graph is made; and nothing is drawn and no task is made."""
    run, error, sentence = BAD[name]
    stream, graphs = fastdrop.Stream(1), []
    monkeypatch.setattr(da, "map_blocks", lambda *given, **more: graphs.append(given))
    with pytest.raises(error) as found:
        run(stream)
    assert sentence in str(found.value)
    assert stream.offset == 0
    assert not graphs


BAD_SEEDS = {
    "text": (lambda: fd.dropout(ones(), seed="x"), TypeError, "seed must be an integer in [0, 2**64)"),
    "negative": (lambda: fd.dropout(ones(), seed=-1), ValueError, "seed must be an integer in [0, 2**64)"),
    "none": (lambda: fd.normal(4, seed=None), TypeError, "seed is required here"),
    "none of a mask": (lambda: fd.dropout_mask(4, seed=None), TypeError, "seed is required here"),
    "packed": (lambda: fd.apply_mask(ones(), np.ones(2, np.uint8)), TypeError, "mask must be of bool for a Dask array"),
    "mask": (lambda: fd.apply_mask(ones(), np.ones(3, bool)), ValueError, "mask has shape (3,), which does not broadcast"),
    "mask of float": (lambda: fd.apply_mask(ones(), ones()), TypeError, "mask must have the dtype bool"),
    "mask of more axes": (lambda: fd.apply_mask(ones(), np.ones((2, 4, 4), bool)), ValueError, "which does not broadcast"),
    "scale": (lambda: fd.apply_mask(ones(), np.ones(4, bool), "2"), TypeError, "scale must be a number"),
}


@pytest.mark.parametrize("name", BAD_SEEDS)
def test_bad_seeds_and_masks(name):
    run, error, sentence = BAD_SEEDS[name]
    with pytest.raises(error) as found:
        run()
    assert sentence in str(found.value)


def test_blocks_of_another_library():
    class Other(np.lib.mixins.NDArrayOperatorsMixin):
        ndim, shape, dtype = 1, (0,), np.dtype("float32")

        def __array_function__(self, *given):
            return NotImplemented

    x = ones((4,))
    x._meta = Other()
    with pytest.raises(TypeError, match="x must have blocks that are NumPy arrays; its blocks are Other"):
        fd.dropout(x, seed=1)


# The page -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", fd.__all__)
def test_docstrings(name):
    function = getattr(fd, name)
    (test,) = doctest.DocTestFinder().find(function, name, module=False, globs={})
    assert run(test) > 1
    section = function.__doc__.partition("Parameters\n")[2].partition("Returns\n")[0]
    assert all(argument in section for argument in inspect.signature(function).parameters)
    assert function.__doc__.isascii()


def test_tasks_hold_the_rate_as_a_number():
    """Whatever made it: a task that held a Dask array would compute it in each block."""
    names = {fd.dropout(ones(), p, seed=3).name for p in (0.5, np.float32(0.5), np.array(0.5), da.from_array(np.array(0.5)))}
    assert len(names) == 1
    names = {fd.dropout_mask((4, 4), p, seed=3).name for p in (0.5, np.array(0.5))}
    assert len(names) == 1
