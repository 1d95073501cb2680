"""Calls of the Python backends: each function does in chunks what one kernel of the C library does.

The arrays that a call reads and writes have any layout; they do not overlap.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdrop._core.backends import gates, noise
from fastdrop._core.backends.chunks import CHUNK, Array, Source, chunks, elements
from fastdrop._core.backends.draws import draw_factors
from fastdrop._core.backends.rows import row_quotients

__all__ = ["apply", "divide_rows", "fill_mask", "fill_numbers", "function", "gate_slopes", "make_noise", "multiply_draws"]


def apply(
    source: Source,
    operation: str,
    x: Array,
    y: Array,
    other: Array | None,
    bias: Array | None,
    numbers: tuple[float, float, float],
    scales: Array | None,
    run: int,
    by_rates: bool,
) -> None:
    """Write the result of an operation to y.

    `numbers` are its scale, shift and fill. Instead of the scale, there may be one per `run` elements, in `scales`, or, if
    `by_rates`, each kept element is divided by its keep probability.
    """
    y = np.asarray(y)  # a subclass may define indexing or products differently
    change, compute = getattr(source.module, operation), source.compute
    made = y.reshape(-1) if y.flags.c_contiguous else np.empty(y.size, y.dtype)
    usual = scales is None and not by_rates
    straight = made.dtype == compute and other is None  # otherwise an operand might be overwritten before it is read
    scale, shift, fill = numbers
    for begin, end in chunks(y.size):
        bits = source.bits(begin, end)
        each, added = elements(x, begin, end, compute), elements(other, begin, end, compute)
        out = made[begin:end] if straight else np.empty(end - begin, compute)
        if operation == "select":
            change(each, out, bits, added)
        elif operation == "scale":
            factor = compute(scale) if usual else factors(source, scales, run, by_rates, begin, end)
            change(each, out, bits, factor, elements(bias, begin, end, compute), added)
        else:
            change(each, out, bits, compute(scale), compute(shift), compute(fill))
        if not straight:
            made[begin:end] = out
    if not y.flags.c_contiguous:
        np.copyto(y, made.reshape(y.shape))


def factors(source: Source, scales: Array | None, run: int, by_rates: bool, begin: int, end: int) -> Any:
    """Return one factor for each element."""
    if scales is not None and not by_rates:
        return scales[np.arange(begin, end) // run].astype(source.compute)
    if source.gate is not None:
        return source.compute(1.0) / source.keep(begin, end)
    return (1.0 / (1.0 - elements(source.rates, begin, end, np.float64))).astype(source.compute)


def gate_slopes(
    source: Source, estimator: int, divided: bool, grad: Array, x: Array | None, losses: Array | None, y: Array
) -> None:
    """Write the slopes of the logits of a gate, whose estimator has a number, to y in C order."""
    compute, slopes = source.compute, y.reshape(-1)
    for begin, end in chunks(slopes.size):
        masks = [source._replace(antithetic=other).flags_of(begin, end).astype(compute) for other in (False, True)]
        keep = source.keep(begin, end)
        arrays = [elements(each, begin, end, compute) for each in (grad, x, losses)]
        made = gates.slopes(gates.ESTIMATORS[estimator], divided, keep, masks, *arrays)
        gain = compute((source.gate or (1.0,))[0])
        slopes[begin:end] = np.where(np.signbit(keep), compute(0), gain * made)


def divide_rows(source: Source, x: Array, grad: Array | None, is_constant: bool, epsilon: float, y: Array) -> None:
    """Divide each row by the sum of its kept elements, or make the gradient. All are in C order."""
    compute, keys, made = source.compute, x.shape[-1], np.asarray(y).reshape(-1)
    for begin, end in chunks(made.size, max(CHUNK // keys, 1) * keys):
        kept = source.flags_of(begin, end).view(np.bool_).reshape(-1, keys)
        values = elements(x, begin, end, compute).reshape(-1, keys)
        slope = None if grad is None else elements(grad, begin, end, compute).reshape(-1, keys)
        made[begin:end] = row_quotients(values, kept, slope, is_constant, compute(epsilon)).reshape(-1)


def fill_mask(source: Source, n: int, out: Array, packed: bool) -> None:
    """Fill an array in C order with the keep flags, or the packed keep bits, of n elements."""
    flat = np.asarray(out).view(np.uint8) if packed else np.asarray(out).reshape(-1)
    for begin, end in chunks(n):
        if packed:
            flat[begin // 8 : (end + 7) // 8] = source.bits(begin, end)
        else:
            flat[begin:end] = source.flags_of(begin, end)


def fill_numbers(source: Source, name: str, out: Array) -> None:
    """Fill an array in C order with uniform or normal numbers."""
    each = np.asarray(out).reshape(-1)
    for begin, end in chunks(each.size):
        source.numbers(name, begin, each[begin:end])


def make_noise(
    source: Source,
    name: str,
    params: tuple[float, ...],
    x: Array,
    y: Array,
    other: Array | None,
    shifts: Array | None,
    sums: NDArray[np.float64] | None,
    tile: int,
) -> None:
    """Write x with a noise to y, and the sums of the parameter's gradient per tile to `sums`, if it is given."""
    compute, y = source.compute, np.asarray(y)
    drawn, parameters, made = noise.NUMBERS[name], [compute(each) for each in params], np.empty(y.size, y.dtype)
    for low, high in chunks(y.size):
        random = np.empty(high - low, compute)
        if drawn is not None:
            source.numbers(drawn, low, random)
        each, operand = elements(x, low, high, compute), elements(other, low, high, compute)
        changes, slopes = noise.NOISES[name](random, operand, *parameters)
        noisy = each + changes if name in noise.ADDED else each * changes
        made[low:high] = noisy if shifts is None else noisy + elements(shifts, low, high, compute)
        if sums is not None:
            sums[low // tile : -(-high // tile)] = noise.tile_sums((each * operand) * slopes, tile)
    np.copyto(y, made.reshape(y.shape))


def multiply_draws(source: Source, k: int, shares: NDArray[np.uint64], shared: bool, x: Array, y: Array) -> None:
    """Write x, with each feature multiplied by its factor after k draws, to y."""
    compute, y, features = source.compute, np.asarray(y), shares.size
    made = np.empty(y.size, y.dtype)
    for low, high in chunks(y.size, max(1, CHUNK // max(k, features)) * features):
        words = np.empty(k if shared else (high - low) // features * k, np.uint32)
        source.numbers("words", 0 if shared else low // features * k, words)
        changes = draw_factors(words.reshape(-1, k), shares).astype(compute)
        each = elements(x, low, high, compute).reshape(-1, features)
        made[low:high] = np.where(changes > 0, each * changes, compute(0)).reshape(-1)
    np.copyto(y, made.reshape(y.shape))


def function(module: ModuleType, name: str, x: Array, y: Array, tile: int) -> None:
    """Write an elementary function in float64 to y, in C order, or its sums per tile if `tile` is not 0."""
    made = y.reshape(-1)
    for low, high in chunks(x.size):
        values = module.elementary(name, elements(x, low, high, np.float64))
        if tile:
            made[low // tile : -(-high // tile)] = noise.tile_sums(values, tile)
        else:
            made[low:high] = values
