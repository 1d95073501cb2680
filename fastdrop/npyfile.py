"""Dropout of ``.npy`` files that may be larger than memory: one chunk at a time, to a new file that replaces the target."""

from __future__ import annotations

import fcntl
import hashlib
import io
import itertools
import math
import os
import secrets
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdrop._core.keys import Key, Seed
from fastdrop.variants.dropout import dropout, dropout_mask

__all__ = ["Applied", "apply_file", "leftovers", "replacement", "require_writable"]

CHUNK_BYTES = 2**24  # the size of a chunk; several arrays of this size are in memory
PART = ".fastdrop-"  # begins the name of an unfinished file
LEAST_RUN = 2**11  # elements to read or write in one piece, where an array's order makes pieces of a chunk


@dataclass(frozen=True)
class Applied:
    """The result of `apply_file`."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    size: int
    dropped: int
    seconds: float
    sha256: str

    @property
    def nbytes(self) -> int:
        """The size of the array in bytes, without the header."""
        return self.size * self.dtype.itemsize


@dataclass(frozen=True)
class Mask:
    """The arguments of a mask, and the operations with it."""

    p: float
    key: Key

    def apply(self, x: NDArray[Any], out: NDArray[Any], start: int) -> None:
        """Drop and scale the elements from index `start` on."""
        dropout(x, self.p, seed=self.key, start=start, out=out)

    def dropped(self, start: int, n: int) -> int:
        """Count the dropped among `n` elements. The mask is counted, because values may have been 0 before."""
        kept = dropout_mask(n, self.p, seed=self.key, start=start, packed=True)
        return n - int.from_bytes(kept.tobytes(), "little").bit_count()


@dataclass(frozen=True)
class Layout:
    """The header of a ``.npy`` file, and the position of its data."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    begin: int

    @property
    def size(self) -> int:
        """The number of elements of the array."""
        return math.prod(self.shape)

    @property
    def chunk(self) -> int:
        """The number of elements to process at a time."""
        return CHUNK_BYTES // self.dtype.itemsize

    def position(self, element: int) -> int:
        """Return the position of an element in the file in bytes; elements are counted in file order."""
        return self.begin + element * self.dtype.itemsize

    def header(self) -> bytes:
        """Return the header that ``numpy.save`` writes before the data."""
        text = io.BytesIO()
        fields = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": self.fortran, "shape": self.shape}
        np.lib.format.write_array_header_1_0(text, fields)
        return text.getvalue()


def read_layout(path: Path) -> Layout:
    """Read a file's header, of any version. No data are read; an array of objects is refused and not unpickled."""
    if path.exists() and not path.is_file():  # a pipe may keep its reader waiting for ever
        raise ValueError(f"{path} must be a regular file")
    if not begins_as_npy(path) and zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is an archive (.npz) of arrays, not a .npy file of one: write the array to its own file, "
            f"numpy.save('x.npy', numpy.load({path.name!r})[name])"
        )
    try:
        with warnings.catch_warnings():  # NumPy warns of a file of Python 2, which it reads
            warnings.filterwarnings("ignore", message=".*Python 2", category=UserWarning)
            x = np.lib.format.open_memmap(path, mode="r")
            check_header(path)
    except OSError:
        raise
    except Exception as error:  # Python's parser may raise any exception for a damaged header
        raise ValueError(f"{path} is not a complete .npy file of numbers: {error}") from error
    try:
        dropout(np.empty(0, x.dtype), seed=0)  # is the dtype one of those it takes?
    except TypeError as error:
        raise TypeError(f"{path}: {error}") from error
    return Layout(x.shape, x.dtype, x.flags.f_contiguous and not x.flags.c_contiguous, x.offset)


def begins_as_npy(path: Path) -> bool:
    """Return whether a file begins as a ``.npy`` file does. Its data may look like the end of an archive."""
    with open(path, "rb") as file:
        return file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX


def check_header(path: Path) -> None:
    """Raise ValueError for a header that NumPy maps and does not load: one whose elements are arrays."""
    with open(path, "rb") as file:
        major, _ = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        dtype = read(file)[2]
    if dtype.shape:  # "2f4" is an array of two
        raise ValueError(f"its elements must be numbers; they have the type {dtype}")


def apply_file(
    source: Path,
    target: Path,
    p: float,
    *,
    seed: Seed | None,
    offset: int = 0,
    progress: Callable[[int, int], None] = lambda done, size: None,
) -> Applied:
    """Write ``dropout(load(source), p, seed=seed, offset=offset)`` as the ``.npy`` file `target`.

    Parameters
    ----------
    source : Path
        A ``.npy`` file of float32, float64 or float16, of any shape and order and of any size.
    target : Path
        The file to write; may be `source`. It is created or replaced when the result is complete. Until then, and after any
        exception, it is unchanged.
    p, seed, offset
        As in `fastdrop.dropout`. The result is the same to the byte.
    progress : callable, optional
        A function that is called with the number of finished elements and the number of all elements.

    Returns
    -------
    Applied

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `fastdrop.dropout`; or the source is not a complete ``.npy`` file, or the target is not a regular file.
    OSError
        Reading or writing failed.
    """
    began = time.perf_counter()
    dropout(np.empty(0, np.float32), p, seed=0)  # checks p
    layout = read_layout(source)
    digest = hashlib.sha256()
    dropped = done = 0
    with open(source, "rb") as reading, replacement(target) as writing:
        mask = Mask(p, Key(seed, offset))  # one key for all chunks, drawn after all checks
        work = process_by_blocks if layout.fortran else process_in_order
        for n in work(layout, mask, reading, writing, digest.update):
            dropped += mask.dropped(done, n)  # blocks write other elements than these n, but the sum is that of all
            done += n
            progress(done, layout.size)
    return Applied(layout.shape, layout.dtype, layout.size, dropped, time.perf_counter() - began, digest.hexdigest())


@contextmanager
def replacement(target: Path) -> Iterator[io.BufferedRandom]:
    """Open a new file that replaces `target` when the block ends normally, and that is removed after an exception."""
    with suppress(FileNotFoundError):
        os.stat(target)  # raises OSError for a loop of links, which `resolve` may not notice
    if target.exists() and not target.is_file():  # asked of the name: the link /dev/stdout may lead to no path
        raise ValueError(f"{target} must be a regular file")
    given, target = target, target.resolve()  # a link stays a link
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {target.parent} does not exist")
    temporary = target.with_name(f"{PART}{secrets.token_hex(8)}.part")
    try:
        with open(temporary, "xb") as locked:  # open, and so locked, until the file has its new name
            with suppress(OSError):  # a system without locks
                fcntl.flock(locked, fcntl.LOCK_EX)
            with open(temporary, "r+b") as file:
                if target.exists():
                    temporary.chmod(target.stat().st_mode & 0o777)  # another file's right to run as its owner is not copied
                yield file
            os.replace(temporary, target)
    except OSError as error:
        if error.filename in (None, str(temporary)):  # the system names no file when it writes, as to a full disk
            error.filename = str(given)
        raise
    finally:
        with suppress(OSError):  # a folder that cannot be written, whose error is raised already
            temporary.unlink(missing_ok=True)


def require_writable(target: Path) -> None:
    """Raise the error that `replacement` would raise for `target`, which is left as it is."""
    with suppress(EndedEarly), replacement(target):
        raise EndedEarly


class EndedEarly(Exception):
    """Ends a replacement without replacing the target."""


def leftovers(target: Path) -> list[tuple[Path, int]]:
    """Return the unfinished files beside `target` of runs that were killed, with their sizes in bytes.

    The files of running processes are locked, except for a moment in which they are empty.
    """
    found = []
    for path in sorted(target.resolve().parent.glob(f"{PART}*.part")):
        with suppress(OSError), open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if size := path.stat().st_size:  # raises an error if the run has ended since the file was opened
                found.append((path, size))
    return found


Work = Iterator[int]  # yields the number of elements of each finished step
Update = Callable[[Any], None]  # of a hash


def process_in_order(
    layout: Layout, mask: Mask, reading: io.BufferedReader, writing: io.BufferedRandom, update: Update
) -> Work:
    """Process a file in C order, which is also the order of the mask.

    Neither file is mapped: an input that becomes shorter or a full disk would kill the process. `read_whole` and `write` raise
    an exception instead.
    """
    header = layout.header()
    writing.write(header)
    update(header)
    made = np.empty(min(layout.chunk, layout.size), layout.dtype)
    reading.seek(layout.begin)
    for first in range(0, layout.size, layout.chunk):
        n = min(layout.chunk, layout.size - first)
        read_whole(reading, made[:n])
        mask.apply(made[:n], made[:n], first)
        writing.write(made[:n].data)
        update(made[:n].data)
        yield n


def process_by_blocks(
    layout: Layout, mask: Mask, reading: io.BufferedReader, writing: io.BufferedRandom, update: Update
) -> Work:
    """Process a file in Fortran order in blocks that have long runs both in the file and in the mask's order, which is C order.

    For the file, a block is an array with reversed axes. It is read and not mapped: its runs have a few pages each, and the
    system maps many neighbours of a page with it.
    """
    header = layout.header()
    writing.write(header)
    for corner, block in blocks(layout.shape, layout.chunk):
        in_file = np.empty(block[::-1], layout.dtype)
        pieces = list(runs(layout.shape[::-1], corner[::-1], block[::-1]))
        for first, piece in zip(pieces, split(in_file, len(pieces)), strict=True):
            reading.seek(layout.position(first))
            read_whole(reading, piece)
        in_mask = np.ascontiguousarray(in_file.T)
        rows = list(runs(layout.shape, corner, block))
        for first, row in zip(rows, split(in_mask, len(rows)), strict=True):
            mask.apply(row, row, first)
        in_file[...] = in_mask.T
        for first, piece in zip(pieces, split(in_file, len(pieces)), strict=True):
            writing.seek(len(header) + first * layout.dtype.itemsize)
            writing.write(piece.data)
        yield in_mask.size
    writing.seek(0)
    while data := writing.read(CHUNK_BYTES):
        update(data)


def read_whole(file: io.BufferedReader, piece: NDArray[Any]) -> None:
    """Fill an array from a file. A read may return fewer bytes than requested; an empty one means the end of the file."""
    left = memoryview(piece.data).cast("B")
    while left:
        try:
            n = file.readinto(left)
        except OSError as error:
            error.filename = file.name
            raise
        if not n:
            raise ValueError("the file became shorter while it was read")
        left = left[n:]


def split(block: NDArray[Any], pieces: int) -> NDArray[Any]:
    """Cut a contiguous block into pieces of one length."""
    return block.reshape(pieces, -1)


def blocks(shape: Sequence[int], size: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yield the corner and the shape of blocks of at most `size` elements, which cover an array.

    A block is long enough along the first axes for runs of about LEAST_RUN elements in Fortran order. Along the last axes it is
    as long as `size` allows, so that the runs in C order are as long as possible.
    """
    most = [1] * len(shape)
    for axes, limit in ((range(len(shape)), LEAST_RUN), (reversed(range(len(shape))), size)):
        for axis in axes:
            parts = math.ceil(shape[axis] / (most[axis] * (limit // math.prod(most))))
            most[axis] = math.ceil(shape[axis] / parts)  # nearly equal sizes, without a small remainder at the end
            if parts > 1:
                break
    for corner in itertools.product(*(range(0, length, step) for length, step in zip(shape, most, strict=True))):
        yield corner, tuple(min(n, length - at) for n, length, at in zip(most, shape, corner, strict=True))


def runs(shape: Sequence[int], corner: Sequence[int], block: Sequence[int]) -> Iterator[int]:
    """Yield the C-order indices, in an array of `shape`, at which a block's runs of consecutive indices begin."""
    whole = len(shape)  # the block spans all axes from this one on
    while whole and block[whole - 1] == shape[whole - 1]:
        whole -= 1
    steps = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    first = sum(at * step for at, step in zip(corner, steps, strict=True))
    for outer in itertools.product(*map(range, block[: max(whole - 1, 0)])):
        yield first + sum(k * step for k, step in zip(outer, steps, strict=False))
