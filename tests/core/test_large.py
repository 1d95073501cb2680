"""More elements than 32 bits can count, if memory allows; otherwise indices near 2**32."""

import numpy as np
import pytest

import fastdrop

KEY = {"seed": 51, "offset": 52}


def places(n):
    """The places where a 32-bit count would go wrong, and both ends."""
    return [place for place in (0, 2**31 - 2000, 2**32 - 2000, n - 4000) if place + 4000 <= n]


@pytest.mark.large
@pytest.mark.parametrize("num_threads", [1, 2])
def test_dropout_of_2_31_elements(num_threads):
    """In place; this needs 8 GiB."""
    n = 2**31 + 4099
    x = np.ones(n, np.float32)
    fastdrop.dropout(x, 0.1, out=x, num_threads=num_threads, **KEY)
    for place in places(n):
        part = fastdrop.dropout(np.ones(4000, np.float32), 0.1, start=place, **KEY)
        assert np.array_equal(x[place : place + 4000], part)
    kept = sum(int(np.count_nonzero(x[begin : begin + 2**26])) for begin in range(0, n, 2**26))
    assert abs(kept - 0.9 * n) < 5 * np.sqrt(0.09 * n)


@pytest.mark.large
def test_dropout_of_2_31_elements_with_strides():
    """One row repeated 2**15 + 2 times, in reverse order: the input takes 256 KiB, the output 8 GiB."""
    wide = np.broadcast_to(np.ones((1, 2**16), np.float32), (2**15 + 2, 2**16))[:, ::-1]
    out = np.empty(wide.shape, np.float32)
    fastdrop.dropout(wide, 0.1, out=out, **KEY)
    flat = out.reshape(-1)
    for place in places(flat.size):
        part = fastdrop.dropout(np.ones(4000, np.float32), 0.1, start=place, **KEY)
        assert np.array_equal(flat[place : place + 4000], part)


@pytest.mark.large
@pytest.mark.parametrize("p", [0.5, 0.1])
def test_packed_mask_of_2_32_elements(p):
    """This needs 513 MiB."""
    n = 2**32 + 8 * 4099
    packed = fastdrop.dropout_mask(n, p, packed=True, **KEY)
    for place in places(n):
        part = fastdrop.dropout_mask(4000, p, start=place, packed=True, **KEY)
        assert np.array_equal(packed[place // 8 : place // 8 + 500], part)


@pytest.mark.large
def test_words_and_uniforms_of_2_31():
    """This needs 8 GiB per array."""
    n = 2**31 + 4099
    for function in (fastdrop.words, fastdrop.uniform):
        whole = function(n, **KEY)
        for place in places(n):
            assert np.array_equal(whole[place : place + 4000], function(4000, start=place, **KEY))
        del whole


@pytest.mark.parametrize("size", [1, 63, 5000])
@pytest.mark.parametrize("end", [2**31, 2**32, 2**38, 2**39, 2**54])
def test_indices_across_a_power_of_two(engine, end, size):
    """Indices near 2**31 and 2**32 elements, and near 2**31 and 2**32 groups of 128."""
    mask = fastdrop.dropout_mask(2 * size, 0.4, start=end - size, **KEY)
    assert np.array_equal(mask[:size], fastdrop.dropout_mask(size, 0.4, start=end - size, **KEY))
    assert np.array_equal(mask[size:], fastdrop.dropout_mask(size, 0.4, start=end, **KEY))
    low = fastdrop.dropout_mask(2 * size, 0.4, start=0, **KEY)
    assert size < 60 or not np.array_equal(mask[size:], low[:size])  # no index was cut to fewer bits
