"""Nothing that fastdrop does at run time touches a network: no socket is made, and no name is looked up."""

import subprocess
import sys

import numpy as np
import pytest

# An audit hook sees every socket of the process, those of other libraries too, and cannot be removed.
REFUSING = """
import os, sys
def refuse(event, arguments):
    if event.partition(".")[0] in ("socket", "urllib", "http", "ftplib", "smtplib"):
        os.write(2, f"network: {event}".encode())
        os._exit(7)
sys.addaudithook(refuse)
"""
FUNCTIONS = """
import importlib
import numpy as np, fastdrop
for name in fastdrop.SUBMODULES:
    importlib.import_module(f"fastdrop.{name}")
x = np.ones((8, 3, 5, 5), np.float32)
for backend in fastdrop.config()["backends"]:
    with fastdrop.using(backend=backend):
        key = fastdrop.Key()
        y = fastdrop.dropout(x, 0.1, seed=key)
        fastdrop.dropout_backward(y, 0.1, seed=key)
        fastdrop.spatial_dropout(x, 0.1), fastdrop.gaussian_dropout(x, 0.1), fastdrop.alpha_dropout(x, 0.1)
        fastdrop.words(9, seed=1), fastdrop.normal(9, seed=1), fastdrop.Stream().fold_in("a").next()
layer = fastdrop.nn.Dropout(0.1)
layer(x)
"""
COMMAND = """
from fastdrop.__main__ import main
from fastdrop.verify import runner
runner.ADAPTERS.clear()  # other libraries answer for themselves
sys.argv[1:] = {arguments!r}
main()
"""
STREAM = ["stream", "--kind", "words", "--seed", "1", "--count", "9"]


def run(program, folder):
    """Run a program in a folder without fastdrop's source, which may be without compiled modules."""
    return subprocess.run([sys.executable, "-c", REFUSING + program], capture_output=True, timeout=300, cwd=folder)


def test_functions_use_no_network(tmp_path):
    done = run(FUNCTIONS, tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    "arguments", [["info"], ["verify"], STREAM, ["apply", "in.npy", "out.npy", "-p", "0.1", "--seed", "1"]], ids=lambda a: a[0]
)
def test_commands_use_no_network(arguments, tmp_path):
    pytest.importorskip("rich")
    np.save(tmp_path / "in.npy", np.ones(9))
    done = run(COMMAND.format(arguments=arguments), tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("call", ["socket.socket()", "socket.getaddrinfo('localhost', 80)"])
def test_a_network_call_is_noticed(call, tmp_path):
    done = run(f"import socket\ntry:\n    {call}\nexcept BaseException:\n    pass", tmp_path)
    assert done.returncode == 7
    assert b"network: socket." in done.stderr
