"""The file of a monitor: how it is read, and how it is continued."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fastdrop.monitor.entries import Entry

__all__ = ["end_after_last_line", "read"]

FIRST_BYTES = b'{"step": '  # of each line


def end_after_last_line(path: Path) -> None:
    """Cut off an incomplete last line, which a killed process leaves; raise ValueError unless a `Monitor` wrote the file."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        end = begin_of_line(file, size)
        file.seek(begin_of_line(file, end - 1) if end else 0)
        if not (is_entry(file.readline()) if end else may_begin_entry(file.read())):
            raise ValueError(f"path must be a file that a Monitor wrote, or a new one; {str(path)!r} is another file")
        if end < size:
            file.truncate(end)


def begin_of_line(file: BinaryIO, at: int) -> int:
    """Return the position after the last line break before a position; 0 if there is none."""
    while at > 0:
        begin = max(0, at - 4096)
        file.seek(begin)
        found = file.read(at - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        at = begin
    return 0


def may_begin_entry(text: bytes) -> bool:
    """Return whether a text without a line break may be the beginning of a file of a `Monitor`."""
    if not FIRST_BYTES.startswith(text[: len(FIRST_BYTES)]):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return True  # half an entry
    return is_entry(text)


def is_entry(line: bytes) -> bool:
    """Return whether a line is an entry of a `Monitor`."""
    try:
        entry = json.loads(line) if line.startswith(FIRST_BYTES) else None
    except (ValueError, RecursionError):
        return False
    return isinstance(entry, dict) and "kind" in entry


def read(path: Any) -> Iterator[Entry]:
    """Yield the entries of a file that a `Monitor` wrote or is writing.

    Parameters
    ----------
    path : str or path-like
        The file.

    Yields
    ------
    dict
        An entry, as `Monitor.layer`, `Monitor.gradient` and `Monitor.losses` return it. ``kind`` is ``"layer"``,
        ``"gradient"`` or ``"losses"``, and ``step`` is the step.

    Raises
    ------
    ValueError
        A line is not JSON in UTF-8. An incomplete last line is left out.

    Examples
    --------
    >>> import os, tempfile
    >>> from fastdrop.monitor import read
    >>> path = os.path.join(tempfile.mkdtemp(), "run.jsonl")
    >>> with open(path, "w") as file:
    ...     written = file.write('{"step": 0, "kind": "losses"}' + chr(10) + '{"step": 1, "ki')
    >>> list(read(path))
    [{'step': 0, 'kind': 'losses'}]
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return  # it is still being written, or was never finished
            try:
                yield json.loads(line.decode())
            except ValueError as error:  # of the encoding too
                raise ValueError(f"line {number} of {path} is not JSON: {error}") from None
