"""Places in memory and in the stream at which only one path of the kernels is right."""

import numpy as np
import pytest

import fastdrop
from fastdrop._core import numbers
from fastdrop._core.plan import Call
from fastdrop.verify.cases import LINE, THREADED_SIZE, TILE

KEY = {"seed": 1}


@pytest.mark.parametrize("start", [0, 1, 8, 63, 64, 127, 128, 192, 2**39 - 64])
@pytest.mark.parametrize("n", [20000, 4096, 4100, THREADED_SIZE])
def test_packed_mask_made_in_place(engine, start, n):
    """A mask whose first index begins a group of 128 is made in place; one that begins half a group is not."""
    packed = fastdrop.dropout_mask(n, 0.3, start=start, packed=True, **KEY)
    flags = fastdrop.dropout_mask(n, 0.3, start=start, **KEY)
    assert packed.tobytes() == np.packbits(flags, bitorder="little").tobytes()


def test_packed_mask_with_shared_decisions_is_not_made_in_place(engine):
    packed = fastdrop.dropout_mask((3, 5000), 0.5, shared_axes=0, packed=True, seed=1)
    flags = fastdrop.dropout_mask(5000, 0.5, seed=1)
    assert np.array_equal(np.unpackbits(packed, count=15_000, bitorder="little"), np.tile(flags, 3))


def test_mask_in_the_memory_of_the_result(engine):
    x = np.arange(1, 30001, dtype=np.float32)  # several tiles: the first ones overwrite the flags of the others
    flags, packed = x % 3 == 0, np.packbits(x % 3 == 0, bitorder="little")
    wanted = fastdrop.apply_mask(x, flags, 2.0)
    for mask in (flags, packed):
        for at in (0, 4, 4096):
            out = np.zeros(x.size, np.float32)
            inside = out.view(np.uint8)[at : at + mask.nbytes].view(mask.dtype)
            inside[:] = mask
            assert fastdrop.apply_mask(x, inside, 2.0, out=out).tobytes() == wanted.tobytes()


def test_packed_mask_whose_tiles_begin_inside_a_byte(engine):
    """The first tile is short, so that the others begin at a cache line of the values."""
    n = 3 * TILE
    memory = np.ones(n + 2 * LINE, np.float32)
    aligned = -memory.ctypes.data % LINE // memory.itemsize
    for shift in range(LINE // memory.itemsize):
        x = memory[aligned + shift :][:n]
        assert fastdrop.apply_mask(x, np.full(n // 8, 255, np.uint8)).all()


@pytest.mark.parametrize("n", [1, 7, 8, 9, 15, 17, 4096, 4103])
@pytest.mark.parametrize("byte", [1, 2, 0x80, 0xFE])
def test_any_byte_but_0_is_true(engine, n, byte):
    flags = np.full(n, byte, np.uint8).view(np.bool_)
    x = np.ones(n, np.float32)
    assert fastdrop.apply_mask(x, flags).all()
    assert fastdrop.apply_mask(np.ones((n, 2), np.float32)[:, 0], flags).all()


NOISE = {
    "dropout": lambda x, other, out: fastdrop.dropout(x, 0.25, out=out, **KEY),
    "gaussian_dropout": lambda x, other, out: fastdrop.gaussian_dropout(x, 0.3, out=out, **KEY),
    "uniform_dropout": lambda x, other, out: fastdrop.uniform_dropout(x, 0.3, out=out, **KEY),
    "concrete_dropout": lambda x, other, out: fastdrop.concrete_dropout(x, 0.1, out=out, **KEY),
    "adaptive_dropout": lambda x, other, out: fastdrop.adaptive_dropout(x, other, out=out, **KEY),
    "zoneout": lambda x, other, out: fastdrop.zoneout(x, other, 0.5, out=out, **KEY),
    "residual": lambda x, other, out: fastdrop.dropout(x, 0.5, residual=other, out=out, **KEY),
    "multinomial_dropout": lambda x, other, out: fastdrop.multinomial_dropout(x, 9, np.ones(x.shape[-1]), out=out, **KEY),
    "scaled": lambda x, other, out: numbers.noise(Call(1, out=out), x, "scaled", (), other)[0],
    "rates": lambda x, other, out: fastdrop.dropout(x, np.abs(other) / 20000, out=out, **KEY),
}


@pytest.mark.parametrize("name", NOISE)
def test_result_whose_indices_share_memory(engine, name):
    """The input is read as it was, although most elements are written twice: (0, k + 3) and (2, k) are one."""
    memory, other = np.arange(1, 18006, dtype=np.float32), np.linspace(-1, 1, 27000, dtype=np.float32).reshape(3, 9000)
    rows = np.lib.stride_tricks.as_strided(memory, (3, 9000), (12, 8))
    places = 3 * np.arange(3)[:, np.newaxis] + 2 * np.arange(9000)
    wanted = NOISE[name](rows.copy(), other, None)
    NOISE[name](rows, other, rows)
    found = np.zeros(memory.size, bool)
    found[places[memory[places] == wanted]] = True
    assert found[places].all()


@pytest.mark.parametrize("name", NOISE)
@pytest.mark.parametrize("n", [100, 9000])
@pytest.mark.parametrize("shift", [1, 7, 64, -1, -7])
def test_operand_that_the_result_overlaps(engine, name, n, shift):
    """The result begins a few elements before or after the operand: elements would be overwritten before they are read."""
    memory = (np.arange(2 * n + 200, dtype=np.float32) % 97) / 50 - 1
    operand, place = slice(100, 100 + n), slice(100 + shift, 100 + shift + n)
    x, other = np.linspace(1, 2, n, dtype=np.float32), memory[operand].copy()
    wanted = NOISE[name](x, other, None), NOISE[name](other, x, None)
    for k in range(2):
        for reverse in (1, -1):
            now = memory.copy()
            inside, out = now[operand], now[place][::reverse]
            found = NOISE[name](*((x, inside) if k == 0 else (inside, x)), out)
            assert found.tobytes() == wanted[k].tobytes(), (k, reverse)


def test_packed_mask_of_all_indices_that_a_size_can_have():
    with pytest.raises(MemoryError):
        fastdrop.dropout_mask(2**63 - 1, 0.5, shared_axes=0, packed=True, **KEY)
