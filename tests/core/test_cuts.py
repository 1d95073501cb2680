"""Chunks: f(x)[a:b] == f(x[a:b], start=a), for any cut and any strides.

The same holds for any block: f(x)[block] == f(x[block], global_shape=x.shape, global_start=...), for every function that makes
decisions per index. `BLOCKS` is the table of these functions.
"""

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import fastdrop
from fastdrop.verify.cases import DTYPES, TILE, awkward, equal_bytes

KEY = {"seed": 21, "offset": 22}
rates = st.sampled_from([0.0, 0.1, 0.5, 0.77, 1.0])
starts = st.sampled_from([0, 1, 127, 128, 2**32 - 5, 2**39 - 1, 2**48])
sizes = st.one_of(st.integers(0, 300), st.integers(TILE - 2, 2 * TILE + 200))
steps = st.integers(-3, 3).filter(bool)


@st.composite
def cuts(draw):
    """Draw a size, and the positions where an array of that size is cut."""
    n = draw(sizes)
    return n, [0, *sorted(draw(st.lists(st.integers(0, n), max_size=4))), n]


@given(cuts(), st.sampled_from(DTYPES), rates, starts, steps, steps)
def test_dropout(engine, cut, dtype, p, start, step, out_step):
    n, places = cut
    x = awkward(3 * n, dtype)[::step][:n]
    whole = fastdrop.dropout(x, p, start=start, **KEY)
    cut_up = np.zeros(3 * n, dtype)[::out_step][:n]
    for a, b in itertools.pairwise(places):
        fastdrop.dropout(x[a:b], p, start=start + a, out=cut_up[a:b], **KEY)
    assert equal_bytes(whole, cut_up)


@given(cuts(), rates, starts)
def test_masks(engine, cut, p, start):
    n, places = cut
    whole = fastdrop.dropout_mask(n, p, start=start, **KEY)
    parts = [fastdrop.dropout_mask(b - a, p, start=start + a, **KEY) for a, b in itertools.pairwise(places)]
    assert np.array_equal(np.concatenate(parts), whole)
    packed = fastdrop.dropout_mask(n, p, start=start, packed=True, **KEY)
    assert np.array_equal(packed, np.packbits(whole, bitorder="little"))


@given(cuts(), starts)
def test_words_and_uniforms(engine, cut, start):
    n, places = cut
    for function in (
        fastdrop.words,
        fastdrop.uniform,
        lambda size, **key: fastdrop.uniform(size, dtype=np.float64, **key),
    ):
        whole = function(n, start=start, **KEY)
        parts = [function(b - a, start=start + a, **KEY) for a, b in itertools.pairwise(places)]
        assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_rows_of_a_matrix(engine, rows):
    x = np.asfortranarray(awkward(300 * 41, "float32").reshape(300, 41))
    whole = fastdrop.dropout(x, 0.3, **KEY)
    for row in range(0, 300, rows):
        part = fastdrop.dropout(x[row : row + rows], 0.3, start=41 * row, **KEY)
        assert equal_bytes(part, whole[row : row + rows])


# Blocks of a larger array -------------------------------------------------------------------------------------------

# name: (shape, function of an array, of `part`, which returns that block of another whole array, and of the place). A string
# stands for a function and its backward function, with these keywords.
BLOCKS = {
    "dropout": ("dropout", (9, 13), {}),
    "dropout of shared maps": ("dropout", (5, 4, 3, 6), {"shared_axes": (2, 3)}),
    "dropout of one dimension": ("dropout", (301,), {}),
    "dropout1d": ("dropout1d", (5, 7, 4), {}),
    "dropout2d": ("dropout2d", (5, 7, 4, 3), {}),
    "dropout3d": ("dropout3d", (5, 7, 2, 4, 3), {}),
    "spatial_dropout": ("spatial_dropout", (5, 7, 4, 3), {}),
    "spatial_dropout, channels last": ("spatial_dropout", (5, 4, 3, 7), {"data_format": "channels_last"}),
    "locked_dropout": ("locked_dropout", (6, 5, 7), {}),
    "locked_dropout, time second": ("locked_dropout", (6, 5, 7), {"shared_axes": 1}),
    "group_dropout": ("group_dropout", (5, 23), {"group_size": 4}),
    "group_dropout of rectangles": ("group_dropout", (9, 4, 13), {"group_size": (3, 5), "axes": (0, 2)}),
    "group_dropout of one axis": ("group_dropout", (101,), {"group_size": 7}),
    "drop_path": ("drop_path", (9, 4), {}),
    "drop_path per batch": ("drop_path", (9, 4), {"per": "batch"}),
    "alpha_dropout": ("alpha_dropout", (9, 13), {"mean": 0.25}),
    "feature_alpha_dropout": ("feature_alpha_dropout", (5, 7, 4), {"mean": 0.25}),
    "gaussian_dropout": ("gaussian_dropout", (9, 13), {}),
    "zoneout_backward": (lambda x, part, **at: np.stack(fastdrop.zoneout_backward(x, 0.4, **at)), (9, 13)),
    "zoneout": (lambda x, part, **at: fastdrop.zoneout(x, part(-X), 0.4, **at), (9, 13)),
    "uniform_dropout": (lambda x, part, **at: fastdrop.uniform_dropout(x, 0.4, **at), (9, 13)),
    "gaussian_noise": (lambda x, part, **at: fastdrop.gaussian_noise(x, **at), (9, 13)),
    "gaussian_dropout, log alphas": (
        lambda x, part, **at: fastdrop.gaussian_dropout(x, log_alpha=part(X), **at),
        (9, 13),
    ),
    "concrete_dropout": (lambda x, part, **at: fastdrop.concrete_dropout(x, -1.0, **at), (9, 13)),
    "concrete_dropout_backward": (
        lambda x, part, **at: fastdrop.concrete_dropout_backward(x, part(X), -1.0, exact_mean=True, **at)[0],
        (9, 13),
    ),
    "spatial_concrete_dropout": (lambda x, part, **at: fastdrop.spatial_concrete_dropout(x, -1.0, **at), (5, 7, 4)),
    "spatial_concrete_dropout_backward": (
        lambda x, part, **at: fastdrop.spatial_concrete_dropout_backward(x, x, -1.0, data_format="channels_last", **at)[0],
        (5, 4, 7),
    ),
}
X = np.linspace(-3, 1, 9 * 13, dtype=np.float32).reshape(9, 13)


def calls_of_blocks():
    """Yield the name, the shape and the call of each row; both passes of those that are named."""
    for name, (function, shape, *keywords) in BLOCKS.items():
        if callable(function):
            yield pytest.param(shape, function, id=name)
            continue
        for suffix in ("", "_backward"):
            found = getattr(fastdrop, function + suffix)
            yield pytest.param(
                shape, lambda x, part, f=found, k=keywords[0], **at: first(f(x, 0.4, **k, **at)), id=name + suffix
            )


def first(result):
    """Return the gradient with respect to x, where there are others."""
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.parametrize(("shape", "call"), list(calls_of_blocks()))
@given(data=st.data())
def test_blocks(shape, call, data):
    x = awkward(int(np.prod(shape)), "float32").reshape(shape)
    bounds = [sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2))) for n in shape]
    block = tuple(slice(a, b) for a, b in bounds)
    start = data.draw(st.sampled_from([0, 5]))
    with np.errstate(all="ignore"):
        whole = call(x, lambda a: a, start=start, **KEY)
        place = {"global_shape": shape, "global_start": [a for a, _ in bounds], "start": start}
        part = call(x[block], lambda a: a[block], **place, **KEY)
    assert equal_bytes(np.ascontiguousarray(whole[(..., *block)]), part)


@pytest.mark.parametrize(("shape", "call"), list(calls_of_blocks()))
def test_blocks_outside_the_larger_array(shape, call):
    place = {"global_shape": shape, "global_start": [1, *[0] * (len(shape) - 1)]}
    with pytest.raises(ValueError, match="is not inside global_shape"):
        call(np.ones(shape, np.float32), lambda a: a, **place, **KEY)
