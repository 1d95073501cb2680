"""A piece of the whole is the whole of the piece: f(x)[a:b] == f(x[a:b], start=a), for any cut and any strides."""

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
    """A size, and the places where an array of that size is cut."""
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
