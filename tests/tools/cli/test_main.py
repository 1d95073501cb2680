"""The command as a whole: its help, wrong environments, missing packages, and standard streams that are closed or full."""

import os
import subprocess
import sys

import pytest
from command_line import APPLY, STREAM, process, python, run

import fastdrop

WRONG_VARIABLES = [
    ("FASTDROP_BACKEND", "cuda", "unknown backend 'cuda': the backends are 'c', 'numba', 'numpy'"),
    ("FASTDROP_ISA", "sse9", "unknown instruction set 'sse9': this build has "),
    ("FASTDROP_NUM_THREADS", "many", "num_threads must be an integer >= 1; got 'many'"),
]


@pytest.mark.parametrize(("variable", "value", "said"), WRONG_VARIABLES)
@pytest.mark.parametrize(
    "arguments",
    [
        ("info",),
        ("info", "--json"),
        ("verify",),
        ("apply", "in.npy", "out.npy", "-p", "0.1", "--seed", "1"),
        STREAM,
        ("bench", "--quick", "--only", "64K-p0.1"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_wrong_environment_ends_a_command_in_one_line(folder, arguments, variable, value, said):
    done = process(folder, *arguments, env=os.environ | {variable: value})
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: environment variable {variable}: {said}")
    assert done.stderr.count("\n") == 1  # without the warning that other programs get when they import the package
    assert not done.stdout
    assert not (folder / "out.npy").exists()


def test_the_installed_command_ends_in_one_line_too(folder):
    (folder / "fastdrop").write_text("from fastdrop.__main__ import main\nmain()\n")
    done = python(folder, "fastdrop", "info", env=os.environ | {"FASTDROP_BACKEND": "cuda"})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("Error: environment variable FASTDROP_BACKEND: unknown backend 'cuda'")


def test_help_needs_no_environment(tmp_path):
    for arguments in (("--help",), ("--version",), ("apply", "--help")):
        assert process(tmp_path, *arguments, env=os.environ | {"FASTDROP_BACKEND": "cuda"}).returncode == 0


WITHOUT = "import sys; sys.modules[{!r}] = None; from fastdrop.__main__ import main; main()"


@pytest.mark.parametrize("package", ["click", "rich"])
def test_command_line_without_its_packages_says_what_to_install(tmp_path, package):
    done = python(tmp_path, "-c", WITHOUT.format(package), "info")
    assert done.returncode == 1
    assert done.stderr == f'fastdrop: the command line needs {package}: pip install "fastdrop-kernels[cli]"\n'


def test_help_names_the_commands_in_full():
    shown = run("--help").output
    for name in ("apply", "bench", "info", "stream", "verify"):
        assert f"  {name}" in shown
    assert "..." not in shown.partition("Commands:")[2]
    assert run("--version").output == f"fastdrop, version {fastdrop.__version__}\n"


# Standard streams and signals ---------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    "arguments", [("apply", "in.npy", "out.npy", *APPLY), ("info",), ("info", "--json"), ("--help",), STREAM]
)
def test_a_full_standard_output_is_an_error_in_one_line(folder, arguments):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "fastdrop", *arguments]
        buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        done = subprocess.run(command, cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, env=buffered)
    assert (done.returncode, done.stderr) == (1, "Error: standard output: No space left on device\n")


@pytest.mark.parametrize("arguments", [("info",), ("stream", "--kind", "packed", "--seed", "7", "--count", "unlimited")])
def test_a_closed_pipe_ends_a_command_without_words(folder, arguments):
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "fastdrop", *arguments]
    if arguments == ("info",):
        os.close(reader)  # before a word is written
    with subprocess.Popen(command, cwd=folder, stdout=writer, stderr=subprocess.PIPE) as running:
        os.close(writer)
        if arguments != ("info",):
            got = os.read(reader, 100)
            assert fastdrop.dropout_mask(800, 0.5, seed=7, packed=True).tobytes().startswith(got)
            os.close(reader)
        assert running.communicate(timeout=120) == (None, b"")
    assert running.returncode == 1


def with_closed(number, folder, *arguments):
    """Run a command that begins without one of the standard streams, as after ``2>&-`` in a shell."""
    command = ["sh", "-c", f'exec "$0" -m fastdrop "$@" {number}>&-', sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, timeout=120)


@pytest.mark.parametrize("number", [1, 2])
def test_apply_needs_neither_of_the_standard_streams(folder, number):
    done = with_closed(number, folder, "apply", "in.npy", "out.npy", *APPLY)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (folder / "out.npy").exists()


def test_stream_needs_an_open_standard_output(folder):
    done = with_closed(1, folder, *STREAM)
    assert (done.returncode, done.stderr) == (1, b"Error: standard output is closed\n")
    done = with_closed(2, folder, *STREAM)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout


INTERRUPTED_IMPORT = """
import os, signal, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "fastdrop._cli.commands":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
signal.signal(signal.SIGINT, signal.default_int_handler)
from fastdrop.__main__ import main
main()
"""


def test_an_interrupt_while_the_command_is_loaded_ends_it_in_one_line(folder):
    done = python(folder, "-c", INTERRUPTED_IMPORT, "info")
    assert (done.returncode, done.stderr) == (130, "Error: stopped by SIGINT\n")
