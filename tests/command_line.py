"""The command line as the tests call it: within their process, or in a process of its own."""

import subprocess
import sys

import pytest

pytest.importorskip("rich")
from click.testing import CliRunner

from fastdrop._cli.commands import cli

APPLY = ("-p", "0.1", "--seed", "1")
STREAM = ("stream", "--kind", "words", "--seed", "1", "--count", "9")

# The signals' handlers are what a shell's command has, whatever the tests run under.
INTERRUPTIBLE = """
import signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
from fastdrop.__main__ import main
main()
"""


def run(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="fastdrop")


def python(folder, *arguments, **options):
    """Run Python in a folder; a hang is a failure."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, **options)


def process(folder, *arguments, **options):
    """Run the command in a process of its own."""
    return python(folder, "-m", "fastdrop", *arguments, **options)
