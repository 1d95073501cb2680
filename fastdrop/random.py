"""Where randomness comes from: seeds, streams of them, and keys derived from them."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from fastdrop._core import plan

__all__ = ["Stream", "fold_in"]

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


class Stream:
    """A seed, and the offset of the next draw under it.

    Every function that takes a ``seed`` takes a stream: it uses the stream's (seed, offset) and advances it by one, so
    that no two calls share a mask. `next` gives the pair to keep for the backward pass.

    Parameters
    ----------
    seed : int, numpy.random.SeedSequence, numpy.random.Generator or None
        What `dropout` takes as a seed; None for fresh entropy.
    offset : int, optional
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
    >>> seed, offset = stream.next()
    >>> x = np.ones(4, np.float32)
    >>> y = fastdrop.dropout(x, 0.5, seed=seed, offset=offset)
    >>> dx = fastdrop.dropout_backward(x, 0.5, seed=seed, offset=offset)
    >>> bool((y == dx).all()), stream
    (True, Stream(seed=42, offset=1))
    """

    __slots__ = ("_lock", "_offset", "_seed", "_spawned")

    def __init__(self, seed: Any = None, offset: int = 0) -> None:
        if isinstance(seed, Stream):
            raise TypeError(
                "seed must not be a Stream here; stream.spawn(n) and stream.fold_in(data) give streams of their own"
            )
        self._offset = plan.word_of(offset, "offset")
        self._seed, _ = plan.key_of(seed, 0)  # last: it may draw from what the caller gave
        self._spawned = 0
        self._lock = threading.Lock()

    @property
    def seed(self) -> int:
        """The seed; it never changes."""
        return self._seed

    @property
    def offset(self) -> int:
        """The offset of the next draw."""
        return self._offset

    def next(self) -> tuple[int, int]:
        """Return the (seed, offset) of one draw, and advance the offset by one.

        Raises
        ------
        OverflowError
            All 2**64 offsets are used up.
        """
        with self._lock:
            offset = self._offset
            if offset >= WORD:
                raise OverflowError("the stream has used all of its 2**64 offsets; go on with a child of it: spawn(1)")
            self._offset = offset + 1
        return self._seed, offset

    def fold_in(self, data: int | str) -> Stream:
        """Return the stream that a number or a name derives from this one's seed, at offset 0.

        This stream's own offset does not enter and is not advanced: the same data give the same stream at any time.
        """
        return Stream(fold_in(self._seed, data))

    def spawn(self, n: int) -> list[Stream]:
        """Return `n` new children; the k-th child of a stream, counted over all calls, is always the same.

        Raises
        ------
        ValueError
            `n` is negative.
        """
        count = plan.count_of(n, "n")
        with self._lock:
            first = self._spawned
            self._spawned += count
        return [Stream(fold_in(self._seed, FIRST_CHILD + k)) for k in range(first, first + count)]

    def state_dict(self) -> dict[str, int]:
        """Return all there is to know: ``stream`` (the rule's number), ``seed``, ``offset``, ``spawned``."""
        with self._lock:
            return {"stream": plan.STREAM, "seed": self._seed, "offset": self._offset, "spawned": self._spawned}

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
        stream = cls(plan.word_of(state["seed"], "seed"))
        used_up = state["offset"] == WORD
        stream._offset = WORD if used_up else plan.word_of(state["offset"], "offset")
        stream._spawned = plan.count_of(state["spawned"], "spawned")
        return stream

    def __reduce__(self) -> tuple[Any, ...]:
        return Stream.from_state_dict, (self.state_dict(),)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Stream):
            return NotImplemented
        return self.state_dict() == other.state_dict()

    __hash__ = None  # type: ignore[assignment]  # equality follows a state that changes

    def __repr__(self) -> str:
        return f"Stream(seed={self._seed}, offset={self._offset})"


def draw(seed: Any) -> tuple[int, int] | None:
    """Return the (seed, offset) that a stream, a SeedSequence, a Generator or None gives; None for anything else."""
    if isinstance(seed, Stream):
        return seed.next()
    if seed is None:
        seed = np.random.SeedSequence()
    if isinstance(seed, np.random.SeedSequence):
        return int(seed.generate_state(1, np.uint64)[0]), 0
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(0, WORD, dtype=np.uint64)), 0
    return None
