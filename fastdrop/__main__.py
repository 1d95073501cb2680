"""The command `fastdrop`, also as ``python -m fastdrop``."""

import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command line, or print in one line why it cannot run."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_at_once)
    try:
        from fastdrop._cli.commands import cli
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in {"click", "rich"}:
            raise
        sys.exit(f'fastdrop: the command line needs {package}: pip install "fastdrop-kernels[cli]"')
    try:
        cli(prog_name="fastdrop")  # whatever it prints, it flushes
    except OSError as error:  # the commands report the files that they cannot read or write
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter tries to write again at its end
        sys.exit(f"Error: standard output: {error.strerror}")


def end_at_once(number: int, frame: FrameType | None) -> None:
    """End the process, also in the middle of an import. A command replaces this handler while it has something to clean up."""
    if sys.stderr:  # None if it is closed
        os.write(sys.stderr.fileno(), b"Error: stopped by SIGINT\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
