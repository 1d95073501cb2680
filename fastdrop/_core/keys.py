"""The sources of randomness: seeds, keys, and streams of keys."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias, Union

import numpy as np

from fastdrop._core import plan

__all__ = ["FixedSeed", "Key", "Seed", "Stream", "fold_in"]

WORD = 2**64
FIRST_CHILD = 2**63  # child k of a stream derives from FIRST_CHILD + k
MOST_CHILDREN = 2**20  # of one call: more would take gigabytes


def fold_in(seed: int, data: int | str) -> int:
    """Derive a seed from a seed and a number or a name.

    The same data give the same seed on every machine, and different data give unrelated seeds. So each layer, worker or
    round gets its own seed from the seed of a run.

    Parameters
    ----------
    seed : int
        In [0, 2**64).
    data : int or str
        A number in [0, 2**64), or a name. A name stands for the first 8 bytes, little-endian, of the SHA-256 of its UTF-8.
        `Stream.spawn` uses the numbers from 2**63 on.

    Returns
    -------
    int
        In [0, 2**64).

    Raises
    ------
    ValueError
        A number outside its range.
    TypeError
        A seed that is not an integer, or data that are neither an integer nor a string.

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
    """The seed and the offset of one call.

    Every function that drops elements or draws numbers takes a key as its ``seed``. A mask depends only on its key, `p` and the
    index, so the backward pass can regenerate it. A key has no state: the same key gives the same mask, any number of times.

    Parameters
    ----------
    seed : int, Key, Stream, numpy.random.SeedSequence, numpy.random.Generator, numpy.random.BitGenerator or None
        An integer in [0, 2**64), or a source that gives one. A key gives its offset too, and a stream gives its next key. None,
        the default, takes fresh entropy from the system.
    offset : int, default 0
        The number of the call under the seed (a step, a layer), in [0, 2**64). It must not be given with a key or a stream.

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
        Any seed that `dropout` takes, except another stream. None, the default, takes fresh entropy from the system. A key
        also sets the offset.
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
    Several threads may draw at once, but the order in which they get the offsets is not fixed. If the result must not depend
    on that order, give each thread its own child (`spawn`). A copy of a stream draws the same keys, also the copy in a
    process that was forked: there, take ``stream.fold_in(number)`` with the number of the worker.

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

    def __init__(self, seed: StreamSeed = None, offset: int = 0) -> None:
        if isinstance(seed, Stream):
            raise TypeError("seed must not be a Stream here; stream.spawn(n) and stream.fold_in(data) return new streams")
        super().__init__(seed, offset)  # may draw from the given generator
        self._spawned = 0
        self._lock = threading.Lock()

    def fold_in(self, data: int | str) -> Stream:
        """Return a stream, at offset 0, whose seed is derived from this stream's seed and a number or a name.

        This stream's offset is neither used nor advanced: the same data give the same stream at any time.
        """
        return Stream(fold_in(self.seed, data))

    def spawn(self, n: int) -> list[Stream]:
        """Return `n` new children; the k-th child of a stream, counted over all calls, is always the same.

        Raises
        ------
        ValueError
            `n` is negative or above 2**20. Further calls return further children.
        OverflowError
            A stream has 2**63 children, and fewer than `n` are left.
        """
        count = plan.as_count(n, "n")
        if count > MOST_CHILDREN:
            raise ValueError(f"n must be at most 2**20 in one call, and further calls return further children; got {count}")
        with self._lock:
            first = self._spawned
            if count > WORD - FIRST_CHILD - first:
                raise OverflowError(f"a stream has 2**63 children; {first} are spawned, and {count} more were requested")
            self._spawned += count
        return [Stream(fold_in(self.seed, FIRST_CHILD + k)) for k in range(first, first + count)]

    def state_dict(self) -> dict[str, int]:
        """Return the whole state: ``stream`` (the number of the rule), ``seed``, ``offset``, ``spawned``."""
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
            The state is no mapping, or an entry is not an integer.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"a stream's state must be a mapping, as state_dict returns it; got {state!r}")
        missing = {"seed", "offset", "spawned"} - state.keys()
        if missing:
            raise ValueError(f"a stream's state must have 'stream', 'seed', 'offset' and 'spawned'; missing: {sorted(missing)}")
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


# Classes of NumPy are written as text, so that numpy.random is loaded when a call needs it and not with the package.
# The seeds of a stream: all but another stream, whose `spawn` and `fold_in` make streams.
StreamSeed: TypeAlias = Union[int, Key, "np.random.SeedSequence", "np.random.Generator", "np.random.BitGenerator", None]
# Seeds without a state give the same mask each time. A backward function takes only these.
FixedSeed: TypeAlias = Union[int, Key, "np.random.SeedSequence"]
Seed: TypeAlias = Union[FixedSeed, Stream, "np.random.Generator", "np.random.BitGenerator"]

plan.register_key_type(Key)
