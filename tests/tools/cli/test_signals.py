"""Ctrl-C in commands that run for long: what they leave of the terminal and of their files."""

import importlib.util
import os
import select
import signal
import subprocess
import sys
import time

import pytest
from command_line import INTERRUPTIBLE

pty = pytest.importorskip("pty")

HIDE_CURSOR, SHOW_CURSOR = b"\x1b[?25l", b"\x1b[?25h"
MOST_SECONDS = 120  # a hang is a failure


class Screen:
    """A terminal, and what a process has written to it."""

    def __init__(self):
        self.master, self.terminal = pty.openpty()
        self.seen = b""

    def read(self):
        """Read what is there; return whether more may come."""
        assert select.select([self.master], [], [], MOST_SECONDS)[0]
        try:
            got = os.read(self.master, 2**16)
        except OSError:  # Linux's end of a terminal that nobody has open
            return False
        self.seen += got
        return bool(got)


@pytest.fixture
def screen():
    made = Screen()
    yield made
    os.close(made.master)


def interrupt(screen, folder, arguments, is_time, **environment):
    """Start a command on the screen, press Ctrl-C when it is time, and return the exit code."""
    variables = os.environ | {"TERM": "xterm", "TMPDIR": str(folder)} | environment
    command = [sys.executable, "-c", INTERRUPTIBLE, *arguments]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=screen.terminal, env=variables) as running:
        os.close(screen.terminal)
        try:
            end = time.monotonic() + MOST_SECONDS
            while not is_time():
                assert running.poll() is None, screen.seen
                assert time.monotonic() < end
                time.sleep(0.01)
            running.send_signal(signal.SIGINT)
            while screen.read():
                pass
            return running.wait(MOST_SECONDS)
        finally:
            running.kill()


def test_verify_gives_the_cursor_back(screen, tmp_path):
    assert interrupt(screen, tmp_path, ["verify"], lambda: screen.read() and b"checked" in screen.seen) == 130
    assert screen.seen.rindex(SHOW_CURSOR) > screen.seen.rindex(HIDE_CURSOR)
    assert screen.seen.endswith(b"Error: stopped by SIGINT\r\n")


def test_bench_gives_the_cursor_back_and_removes_its_folder(screen, tmp_path):
    pytest.importorskip("sklearn")
    arguments = ["bench", "--quick", "--only", "64K-p0.1", "--only", "c", "--record", "record.jsonl"]
    assert interrupt(screen, tmp_path, arguments, lambda: list(tmp_path.glob("fastdrop-bench-*/0.log"))) == 130
    assert screen.seen.rindex(SHOW_CURSOR) > screen.seen.rindex(HIDE_CURSOR)
    assert screen.seen.endswith(b"Error: stopped by SIGINT\r\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
def test_torch_build_removes_its_folder(screen, tmp_path):
    compiler, started = tmp_path / "compiler", tmp_path / "started"
    compiler.write_text(f"#!/bin/sh\ntouch {started}\nexec sleep {MOST_SECONDS}\n")
    compiler.chmod(0o755)
    environment = {"CXX": str(compiler), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert interrupt(screen, tmp_path, ["torch-build"], started.exists, **environment) == 130
    assert screen.seen.endswith(b"Error: stopped by SIGINT\r\n")
    assert [path for path in (tmp_path / "cache").rglob("*") if "tmp" in path.name] == []
