"""Where randomness comes from: seeds, keys, streams of them; and random numbers that are the same on every machine."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastdrop._core import numbers, plan
from fastdrop._core.types import Backend, Seed

__all__ = ["Key", "Stream", "fold_in", "normal", "uniform", "words"]

WORD = 2**64
FIRST_CHILD = 2**63  # child k of a stream derives from FIRST_CHILD + k


def fold_in(seed: int, data: int | str) -> int:
    """Derive a seed from a seed and a number or a name.

    Different data give unrelated seeds, the same data the same one, on every machine: how a layer, a worker or a
    round gets a seed of its own from the seed of a run.

    Parameters
    ----------
    seed : int
        In [0, 2**64).
    data : int or str
        A number in [0, 2**64), or a name: the first 8 bytes, little-endian, of the SHA-256 of its UTF-8. Numbers
        from 2**63 on are what `Stream.spawn` uses.

    Returns
    -------
    int
        In [0, 2**64).

    Raises
    ------
    ValueError
        A number outside its range.
    TypeError
        A seed that is no integer, data that are neither an integer nor a string.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.fold_in(42, 7)
    18189261930134888871
    >>> fastdrop.fold_in(42, "encoder.0") == fastdrop.fold_in(42, "encoder.1")
    False
    """
    return plan.fold_in(seed, data)


class SeedAndOffset(NamedTuple):
    """The two integers of a key."""

    seed: int
    offset: int


class Key(SeedAndOffset):
    """The seed and the offset of one call: what a mask is made of, and made of again for the backward pass.

    Every function takes a key as its ``seed``. A key has no state: the same key gives the same mask, any number of times.

    Parameters
    ----------
    seed : int, numpy.random.SeedSequence, numpy.random.Generator, numpy.random.BitGenerator or None
        An integer in [0, 2**64), or a source of one. None, the default, takes fresh entropy from the system.
    offset : int, default 0
        Which call under the seed this is, in [0, 2**64).

    Raises
    ------
    TypeError
        A seed of another kind, or an offset that is not an integer.
    ValueError
        A number outside its range.

    See Also
    --------
    Stream.next : the key of the next call under one seed.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> key = fastdrop.Key()  # fresh entropy
    >>> x = np.ones(1000, np.float32)
    >>> y = fastdrop.dropout(x, 0.5, seed=key)
    >>> dx = fastdrop.dropout_backward(x, 0.5, seed=key)
    >>> bool((y == dx).all())
    True
    >>> fastdrop.Key(42, 7)
    Key(seed=42, offset=7)
    """

    __slots__ = ()

    def __new__(cls, seed: Seed | None = None, offset: int = 0) -> Key:
        """Draw the two numbers, if the seed is not an integer already."""
        return tuple.__new__(cls, plan.find_key(seed, offset))


class Stream(plan.Counter):
    """A seed, and the offset of the next draw under it.

    Every forward function takes a stream as its ``seed``: it uses the stream's next key and advances the offset by one, so
    that no two calls share a mask. `next` returns the key to keep for a backward pass.

    Parameters
    ----------
    seed : int, Key, numpy.random.SeedSequence, numpy.random.Generator, numpy.random.BitGenerator or None
        What `dropout` takes as a seed, except another stream. None, the default, takes fresh entropy from the system. A key
        gives the offset, too.
    offset : int, default 0
        The offset of the first draw, in [0, 2**64).

    Attributes
    ----------
    seed : int
        The seed; it never changes.
    offset : int
        The offset of the next draw.

    Notes
    -----
    Drawing is safe from many threads at once, but which thread gets which offset is theirs to settle: give each its own
    child (`spawn`) where the result must not depend on it.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> stream = fastdrop.Stream(42)
    >>> key = stream.next()
    >>> x = np.ones(4, np.float32)
    >>> y = fastdrop.dropout(x, 0.5, seed=key)
    >>> dx = fastdrop.dropout_backward(x, 0.5, seed=key)
    >>> bool((y == dx).all()), stream
    (True, Stream(seed=42, offset=1))
    """

    __slots__ = ("_lock", "_spawned")

    def __init__(self, seed: Any = None, offset: int = 0) -> None:
        if isinstance(seed, Stream):
            raise TypeError(
                "seed must not be a Stream here; stream.spawn(n) and stream.fold_in(data) give streams of their own"
            )
        super().__init__(seed, offset)  # may draw from what the caller gave
        self._spawned = 0
        self._lock = threading.Lock()

    def fold_in(self, data: int | str) -> Stream:
        """Return the stream that a number or a name derives from this one's seed, at offset 0.

        This stream's own offset does not enter and is not advanced: the same data give the same stream at any time.
        """
        return Stream(fold_in(self.seed, data))

    def spawn(self, n: int) -> list[Stream]:
        """Return `n` new children; the k-th child of a stream, counted over all calls, is always the same.

        Raises
        ------
        ValueError
            `n` is negative.
        """
        count = plan.as_count(n, "n")
        with self._lock:
            first = self._spawned
            self._spawned += count
        return [Stream(fold_in(self.seed, FIRST_CHILD + k)) for k in range(first, first + count)]

    def state_dict(self) -> dict[str, int]:
        """Return all there is to know: ``stream`` (the rule's number), ``seed``, ``offset``, ``spawned``."""
        with self._lock:
            return {"stream": plan.STREAM, "seed": self.seed, "offset": self.offset, "spawned": self._spawned}

    @classmethod
    def from_state_dict(cls, state: dict[str, int]) -> Stream:
        """Return the stream that `state_dict` described.

        Raises
        ------
        ValueError
            The state is of another rule than stream 1, lacks an entry, or has one outside its range.
        TypeError
            An entry that is no integer.
        """
        missing = {"seed", "offset", "spawned"} - state.keys()
        if missing:
            raise ValueError(f"a stream's state has 'stream', 'seed', 'offset' and 'spawned'; missing: {sorted(missing)}")
        if state.get("stream", plan.STREAM) != plan.STREAM:
            raise ValueError(f"this is fastdrop's stream {plan.STREAM}; the state is of stream {state['stream']!r}")
        is_used_up = state["offset"] == WORD
        stream = cls(plan.as_word(state["seed"], "seed"), 0 if is_used_up else plan.as_word(state["offset"], "offset"))
        if is_used_up:
            stream.use_up()
        stream._spawned = plan.as_count(state["spawned"], "spawned")
        return stream

    def __reduce__(self) -> tuple[Any, ...]:
        return Stream.from_state_dict, (self.state_dict(),)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Stream):
            return NotImplemented
        return self.state_dict() == other.state_dict()

    __hash__ = None  # type: ignore[assignment]  # equality follows a state that changes

    def __repr__(self) -> str:
        return f"Stream(seed={self.seed}, offset={self.offset})"


def words(
    n: int,
    *,
    seed: Seed,
    offset: int = 0,
    out: NDArray[np.uint32] | None = None,
    start: int = 0,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[np.uint32]:
    """Return random 32-bit words: Philox4x32-10 in counter mode.

    Parameters
    ----------
    n : int
        How many.
    seed, offset
        As in `dropout`: the key, and the upper half of the counter.
    out : numpy.ndarray, optional
        The array to fill: of uint32 and shape ``(n,)``.
    start : int, default 0
        The index of the first word; the last must be below 2**50.
    backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array of uint32 and shape ``(n,)``.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and where `seed` is None.

    References
    ----------
    .. [1] J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

    Examples
    --------
    >>> import fastdrop
    >>> [f"{word:08x}" for word in fastdrop.words(4, seed=0)]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    return numbers.words(n, plan.Call(seed, offset, True, out, start, None, None, backend, num_threads))


def uniform(
    shape: int | Sequence[int],
    *,
    dtype: DTypeLike = np.float32,
    seed: Seed,
    offset: int = 0,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return random numbers that are uniform in the open interval (0, 1): never 0, never 1.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the result.
    dtype : {numpy.float32, numpy.float64}
        float32 takes one word per number and has 2**23 values; float64 takes two words and has 2**52 values.
    seed, offset
        As in `dropout`.
    out : numpy.ndarray, optional
        The array to fill: of `shape` and `dtype`.
    start : int, default 0
        The index of the first number; the last must be below 2**50 (float32) or 2**49 (float64).
    global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array of `dtype` and `shape`, in C order.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and where `seed` is None.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.uniform(3, seed=42)
    array([0.6129599 , 0.4685865 , 0.07323176], dtype=float32)
    """
    call = plan.Call(seed, offset, True, out, start, global_shape, global_start, backend, num_threads)
    return numbers.numbers("uniform", shape, dtype, call)


def normal(
    shape: int | Sequence[int],
    *,
    dtype: DTypeLike = np.float32,
    seed: Seed,
    offset: int = 0,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return random numbers of the standard normal distribution.

    Number i is the inverse of the distribution function at a uniform number that is made of word i alone: so any chunk can be
    had by itself, and every backend, instruction set and number of threads gives the same bits.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the result.
    dtype : {numpy.float32, numpy.float64}
        float32 takes the word w of each index, u = (w + 1/2) / 2**32; float64 takes two words and is the normal number at
        `uniform`'s u.
    seed, offset
        As in `dropout`.
    out : numpy.ndarray, optional
        The array to fill: of `shape` and `dtype`.
    start : int, default 0
        The index of the first number; the last must be below 2**50 (float32) or 2**49 (float64).
    global_shape, global_start, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array of `dtype` and `shape`, in C order.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and where `seed` is None.

    Notes
    -----
    float32: piecewise polynomials, one for each power of two of u or 1 - u, of a fit of our own (src_c/fit_normal.py). Absolute
    error below 7.5e-7, values up to 6.34 from 0, and none smaller than one at a lower u. float64: algorithm AS 241 [1]_ with a
    logarithm of our own, relative error below 1e-14, values up to 8.2 from 0.

    References
    ----------
    .. [1] M. J. Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied Statistics 37 (1988)
       477-484.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.normal(3, seed=42)
    array([ 0.2870415, -0.0788236, -1.4521368], dtype=float32)
    """
    call = plan.Call(seed, offset, True, out, start, global_shape, global_start, backend, num_threads)
    return numbers.numbers("normal", shape, dtype, call)


plan.register_key_type(Key)
