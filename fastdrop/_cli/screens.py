"""The screen output of the commands: errors in one line, progress bars, tables."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from fastdrop._core.settings import require_settings
from fastdrop.verify.runner import Mismatch

__all__ = ["FAILURE", "USAGE", "end", "errors_in_one_line", "progress_bar", "replace_what_cannot_be_encoded", "show", "table"]

USAGE, FAILURE = 2, 1  # exit codes: a wrong argument; a failure of a correct call


def end(message: str, exit_code: int) -> NoReturn:
    """End with an error, in one line and without a traceback."""
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    sys.exit(exit_code)


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Print the errors that a user can cause in one line; a wrong environment variable is checked first."""
    try:
        require_settings()
    except (ValueError, TypeError, RuntimeError, ImportError) as error:
        end(str(error), USAGE)
    try:
        yield
    except (ValueError, TypeError, OverflowError) as error:
        end(str(error), USAGE)
    except OSError as error:
        about = f"{error.filename}: " if error.filename else ""
        end(f"{about}{error.strerror or error}", FAILURE)
    except (ImportError, Mismatch) as error:
        end(str(error), FAILURE)


def progress_bar(*columns: Any) -> Progress:
    """Return a progress bar on standard error, which is shown only on a terminal. A closed standard error is None."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        console=Console(stderr=True),
        disable=not (sys.stderr and sys.stderr.isatty()),
        transient=True,
    )


def table(*headings: str, right: Sequence[str] = ()) -> Table:
    """Return an empty table that wraps long text and cuts nothing off."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        made.add_column(heading, overflow="fold", justify="right" if heading in right else "left")
    return made


PLAIN = {"±": "+-", "×": "x", "µ": "u", "–": "-", "—": "-", "…": "...", "≥": ">=", "≤": "<="}


def plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return the replacement of a character that a stream cannot encode, and the position after it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":  # a byte of a file's name that is not UTF-8
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return PLAIN.get(character, "?"), error.start + 1


codecs.register_error("fastdrop.plain", plain)


def replace_what_cannot_be_encoded() -> None:
    """Let standard output write characters that it can encode in place of others."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="fastdrop.plain")


def show(*lines: Table | Text | str) -> None:
    """Print to standard output, in the width of the terminal or 80 columns."""
    replace_what_cannot_be_encoded()
    console = Console(highlight=False, markup=False, emoji=False)
    for line in lines:
        console.print(line)
