"""The command line, as its user has it: in a process of its own where that matters."""

import fcntl
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import fastdrop
from fastdrop._core import native

pytest.importorskip("rich")
from click.testing import CliRunner

from fastdrop._cli import raw
from fastdrop._cli.commands import cli


def run(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="fastdrop")


def process(folder, *arguments, **options):
    command = [sys.executable, "-m", "fastdrop", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, **options)


@pytest.fixture
def folder(tmp_path):
    x = np.linspace(-1, 1, 30_000, dtype=np.float32).reshape(100, 300)
    x[::3] = 0  # zeros that are none of dropout's
    np.save(tmp_path / "in.npy", x)
    return tmp_path


# apply --------------------------------------------------------------------------------------------------------------


def test_apply_writes_what_the_library_computes(folder):
    done = process(folder, "apply", "in.npy", "out.npy", "-p", "0.1", "--seed", "42", "--offset", "3")
    assert (done.returncode, done.stderr) == (0, "")
    x = np.load(folder / "in.npy")
    np.save(folder / "expected.npy", fastdrop.dropout(x, 0.1, seed=42, offset=3))
    assert (folder / "out.npy").read_bytes() == (folder / "expected.npy").read_bytes()
    dropped = x.size - fastdrop.dropout_mask(x.shape, 0.1, seed=42, offset=3).sum()
    assert f"{dropped / x.size:.4%} ({dropped:,} of 30,000)" in done.stdout
    assert "(100, 300), float32" in done.stdout
    assert " s, " in done.stdout
    assert "GB/s" in done.stdout
    assert hashlib.sha256((folder / "out.npy").read_bytes()).hexdigest() in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such a name")
def test_apply_to_a_file_whose_name_is_not_utf_8(folder):
    name, strict = os.fsdecode(b"\xff.npy"), os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    bytes_as_they_are = {"encoding": "utf-8", "errors": "surrogateescape"}
    done = process(folder, "apply", "in.npy", name, "-p", "0.1", "--seed", "1", env=strict, **bytes_as_they_are)
    assert (done.returncode, done.stderr, done.stdout.splitlines()[:1]) == (0, "", [name])


@pytest.mark.parametrize("shape", [(), (0,), (3, 0)], ids=str)
def test_apply_takes_scalars_and_empty_arrays(folder, shape):
    x = np.full(shape, 3.5)
    np.save(folder / "in.npy", x)
    done = run("apply", folder / "in.npy", folder / "out.npy", "-p", 0.5, "--seed", 1)
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(np.load(folder / "out.npy"), fastdrop.dropout(x, 0.5, seed=1))


@pytest.mark.parametrize("seed", [0, 2**64 - 1, 2**63])
@pytest.mark.parametrize("written", [str, hex])
def test_apply_takes_every_seed(folder, seed, written):
    done = run("apply", folder / "in.npy", folder / "in.npy", "-p", 0.5, "--seed", written(seed))
    assert done.exit_code == 0, done.output
    kept = fastdrop.dropout_mask((100, 300), 0.5, seed=seed)
    assert not np.load(folder / "in.npy")[~kept].any()


@pytest.mark.parametrize("options", [("--threads", 1), ("--threads", 2), ("--backend", "numpy")])
def test_apply_gives_the_same_bytes_whatever_computes(folder, options):
    for name, extra in (("plain.npy", ()), ("other.npy", options)):
        assert run("apply", folder / "in.npy", folder / name, "-p", 0.3, "--seed", 9, *extra).exit_code == 0
    assert (folder / "plain.npy").read_bytes() == (folder / "other.npy").read_bytes()


def bad_files(folder):
    np.save(folder / "integers.npy", np.arange(9))
    np.save(folder / "swapped.npy", np.arange(9, dtype=np.dtype("f8").newbyteorder("S")))
    np.save(folder / "objects.npy", np.array([None, 1], object), allow_pickle=True)
    np.savez(folder / "many.npz", x=np.ones(3))
    whole = (folder / "in.npy").read_bytes()
    (folder / "short.npy").write_bytes(whole[:-1])
    (folder / "text.npy").write_text("0.1 0.2 0.3")
    (folder / "nothing.npy").write_bytes(b"")
    (folder / "header.npy").write_bytes(whole.replace(b"'<f4', 'for", b'(((""", \'for'))


SOURCES = {
    "integers.npy": "int64",
    "swapped.npy": "byte order",
    "objects.npy": "objects",
    "many.npz": "is an archive (.npz) of arrays, not a .npy file of one: write the array to its own file, numpy.save(",
    "short.npy": "not a complete .npy file",
    "text.npy": "not a complete .npy file",
    "nothing.npy": "not a complete .npy file",
    "header.npy": "not a complete .npy file",
    "absent.npy": "does not exist",
    ".": "is a directory",
}


@pytest.mark.parametrize(("source", "said"), SOURCES.items())
def test_apply_refuses_files_in_one_line(folder, source, said):
    bad_files(folder)
    done = run("apply", folder / source, folder / "out.npy", "-p", 0.1, "--seed", 1)
    assert done.exit_code == 2
    assert said in done.output.splitlines()[-1]
    assert source in done.output
    assert "Traceback" not in done.output
    assert not (folder / "out.npy").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-p", 1.5, "--seed", 1), "p must be in [0, 1]"),
        (("-p", -0.1, "--seed", 1), "p must be in [0, 1]"),
        (("-p", "nan", "--seed", 1), "p must be in [0, 1]"),
        (("-p", "half", "--seed", 1), "'half' is not a valid float"),
        (("-p", 0.1, "--seed", -1), "seed must be an integer in [0, 2**64)"),
        (("-p", 0.1, "--seed", 2**64), "seed must be an integer in [0, 2**64)"),
        (("-p", 0.1, "--seed", "0.5"), "'0.5' is not an integer"),
        (("-p", 0.1, "--seed", 1, "--offset", 2**64), "offset must be an integer in [0, 2**64)"),
        (("-p", 0.1, "--seed", 1, "--threads", 0), "num_threads must be an integer >= 1"),
        (("-p", 0.1, "--seed", 1, "--backend", "cuda"), "'cuda' is not one of"),
        (("-p", 0.1), "Missing option '--seed'"),
        (("--seed", 1), "Missing option '-p'"),
    ],
)
def test_apply_refuses_arguments_in_one_line(folder, options, said):
    (folder / "out.npy").write_bytes(b"old")
    done = run("apply", folder / "in.npy", folder / "out.npy", *options)
    assert done.exit_code == 2
    assert said in done.output.splitlines()[-1]
    assert (folder / "out.npy").read_bytes() == b"old"


def test_apply_says_where_there_is_no_folder(folder):
    done = run("apply", folder / "in.npy", folder / "absent" / "out.npy", "-p", 0.1, "--seed", 1)
    assert done.exit_code == 1
    assert "does not exist" in done.output


# The signals' handlers are what a shell's command has, whatever the tests run under.
INTERRUPTIBLE = """
import signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
from fastdrop.__main__ import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "fortran_order"),
    [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGHUP, False), (signal.SIGTERM, True)],
)
def test_interrupted_apply_leaves_no_file(tmp_path, number, fortran_order):
    shape = (2**16, 2**16)  # a hole of 16 GiB: the slowest backend would be at it for minutes
    np.lib.format.open_memmap(tmp_path / "in.npy", "w+", np.float32, shape, fortran_order=fortran_order)
    (tmp_path / "out.npy").write_bytes(b"old")
    options = ["-p", "0.1", "--seed", "1", "--backend", "numpy"]
    command = [sys.executable, "-c", INTERRUPTIBLE, "apply", "in.npy", "out.npy", *options]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as running:
        while not any(path.stat().st_size > 2**20 for path in tmp_path.glob(".fastdrop-*.part")):
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(number)
        said = running.communicate()[1]
    assert running.returncode == 128 + number
    assert said == f"Error: stopped by {number.name}; no half-written file is left\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npy", "out.npy"]
    assert (tmp_path / "out.npy").read_bytes() == b"old"


FULL = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # like a disk that is full after so many bytes
from fastdrop.__main__ import main
main()
"""


def test_apply_to_a_full_disk_leaves_no_file(folder):
    command = [sys.executable, "-c", FULL, "apply", "in.npy", "out.npy", "-p", "0.1", "--seed", "1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (1, "Error: out.npy: File too large\n")
    assert [path.name for path in folder.iterdir()] == ["in.npy"]


# Hostile files and streams ------------------------------------------------------------------------------------------

APPLY = ("-p", "0.1", "--seed", "1")
STREAM = ("stream", "--kind", "words", "--seed", "1", "--count", "9")
TRUNCATING = """
import os, sys
from fastdrop import npyfile
npyfile.CHUNK_BYTES = 4096
run = npyfile.process_in_order
def cut(*arguments):
    for n in run(*arguments):
        os.truncate("in.npy", 200)  # by somebody else, after the first chunk
        yield n
npyfile.process_in_order = cut
from fastdrop.__main__ import main
main()
"""


def test_an_input_that_is_cut_while_it_is_read_is_an_error(folder):
    (folder / "out.npy").write_bytes(b"old")
    command = [sys.executable, "-c", TRUNCATING, "apply", "in.npy", "out.npy", *APPLY]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (2, "Error: the file became shorter while it was read\n")
    assert (folder / "out.npy").read_bytes() == b"old"
    assert sorted(path.name for path in folder.iterdir()) == ["in.npy", "out.npy"]


def test_the_leftover_of_a_killed_run_is_named_and_not_that_of_a_running_one(folder):
    (folder / ".fastdrop-0123.part").write_bytes(b"half")
    assert run("apply", folder / "in.npy", folder / "a" / "out.npy", *APPLY).exit_code == 1
    with open(folder / ".fastdrop-4567.part", "wb") as running:
        fcntl.flock(running, fcntl.LOCK_EX)
        done = process(folder, "apply", "in.npy", "out.npy", *APPLY)
    said = f"Note: a run that was killed has left {folder}/.fastdrop-0123.part (4 bytes), which can be removed\n"
    assert (done.returncode, done.stderr) == (0, said)


def test_a_run_locks_its_unfinished_file(folder):
    from fastdrop import npyfile

    with npyfile.replacement(folder / "out.npy"):
        assert list(folder.glob(".fastdrop-*.part"))
        assert npyfile.leftovers(folder / "out.npy") == []


def test_a_pipe_without_a_writer_is_refused(folder):
    os.mkfifo(folder / "pipe.npy")
    done = process(folder, "apply", "pipe.npy", "out.npy", *APPLY)
    assert (done.returncode, done.stderr) == (2, "Error: pipe.npy must be a regular file\n")


def test_a_loop_of_links_is_an_error_in_one_line(folder):
    (folder / "a.npy").symlink_to("b.npy")
    (folder / "b.npy").symlink_to("a.npy")
    done = process(folder, "apply", "in.npy", "a.npy", *APPLY)
    assert (done.returncode, done.stderr) == (1, "Error: a.npy: Too many levels of symbolic links\n")
    done = process(folder, "apply", "a.npy", "out.npy", *APPLY)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert (folder / "a.npy").is_symlink()


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


def test_no_right_to_run_as_another_user_is_copied(folder):
    (folder / "out.npy").write_bytes(b"old")
    (folder / "out.npy").chmod(0o6755)
    assert run("apply", folder / "in.npy", folder / "out.npy", *APPLY).exit_code == 0
    assert (folder / "out.npy").stat().st_mode & 0o7777 == 0o755


def test_elements_that_are_arrays_are_refused(folder):
    header = {"descr": "<f4", "fortran_order": False, "shape": (5,)}
    with open(folder / "odd.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        text = folder / "odd.npy"
    whole = text.read_bytes()
    text.write_bytes(whole.replace(b"'<f4'", b"('<f4', (2, 2))").replace(b" " * 10, b"", 1) + bytes(80))
    done = run("apply", text, folder / "out.npy", *APPLY)
    assert done.exit_code == 2, done.output
    assert "its elements must be numbers; they have the type ('<f4', (2, 2))" in done.output


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
    command = [sys.executable, "-c", INTERRUPTED_IMPORT, "info"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (130, "Error: stopped by SIGINT\n")


TWO_SIGNALS = """
import os, signal
from fastdrop import npyfile
class Removing(type(npyfile.Path())):
    def unlink(self, missing_ok=False):
        os.kill(os.getpid(), signal.SIGTERM)  # while the first one's file is removed
        super().unlink(missing_ok=missing_ok)
replacement = npyfile.replacement
npyfile.replacement = lambda target: replacement(Removing(target))
def stop(*arguments):
    os.kill(os.getpid(), signal.SIGTERM)
    yield 1
npyfile.process_in_order = stop
from fastdrop.__main__ import main
main()
"""


def test_a_second_signal_does_not_stop_the_removal(folder):
    command = [sys.executable, "-c", TWO_SIGNALS, "apply", "in.npy", "out.npy", *APPLY]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (143, "Error: stopped by SIGTERM; no half-written file is left\n")
    assert [path.name for path in folder.iterdir()] == ["in.npy"]


def test_apply_shows_its_progress_on_a_terminal_alone(folder):
    pty = pytest.importorskip("pty")
    master, terminal = pty.openpty()
    with open(master, "rb", buffering=0) as screen, open(terminal, "wb", buffering=0) as stderr:
        command = [sys.executable, "-m", "fastdrop", "apply", "in.npy", "out.npy", "-p", "0.1", "--seed", "1"]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=stderr, timeout=120)
        seen = screen.read(2**16)
    assert b"out.npy" in seen
    assert b"100%" in seen
    assert b"\x1b" not in done.stdout


# stream -------------------------------------------------------------------------------------------------------------

STREAMS = {
    "words": (lambda: fastdrop.words(5000, seed=7, offset=3), ()),
    "mask": (lambda: fastdrop.dropout_mask(5000, 0.1, seed=7, offset=3), ("-p", 0.1)),
    "packed": (lambda: fastdrop.dropout_mask(5000, 0.1, seed=7, offset=3, packed=True), ("--p", 0.1)),
    "normal": (lambda: fastdrop.normal(5000, seed=7, offset=3), ()),
    "normal-float64": (lambda: fastdrop.normal(5000, seed=7, offset=3, dtype="float64"), ("--dtype", "float64")),
}


def stream(kind, *options, count=5000):
    return run("stream", "--kind", kind.partition("-")[0], "--seed", 7, "--offset", 3, "--count", count, *options)


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("piece", [raw.PIECE, 1024])  # 5,000 elements are a part of one, or four of them and a part
def test_stream_writes_the_bytes_of_the_library(monkeypatch, kind, piece):
    monkeypatch.setattr(raw, "PIECE", piece)
    expected, options = STREAMS[kind]
    done = stream(kind, *options)
    assert (done.exception, done.stderr_bytes) == (None, b"")
    assert done.stdout_bytes == expected().tobytes()
    assert stream(kind, *options, "--backend", "numpy").stdout_bytes == done.stdout_bytes


def test_stream_to_a_file(folder):
    done = stream("words", "--out", folder / "words.bin")
    assert (done.exit_code, done.output) == (0, "")
    assert (folder / "words.bin").read_bytes() == fastdrop.words(5000, seed=7, offset=3).tobytes()


def test_stream_of_nothing_is_empty_but_checked():
    assert (stream("words", count=0).exit_code, stream("words", count=0).output) == (0, "")
    assert stream("mask", "-p", 7, count=0).exit_code == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--count", -1), 'count must be in [0, 1125899906842624] for words, or "unlimited"; got -1'),
        (("--count", 2**50 + 1), "count must be in [0, 1125899906842624]"),
        (("--count", "all"), "'all' is not an integer"),
        (("--kind", "mask", "-p", 1.5), "p must be in [0, 1]"),
        (("--seed", 2**64), "seed must be an integer in [0, 2**64)"),
        (("--threads", 0), "num_threads must be an integer >= 1"),
        (("--dtype", "float16"), "'float16' is not one of"),
        (("--out", "absent/words.bin"), "absent does not exist"),
    ],
)
def test_stream_refuses_arguments_in_one_line(tmp_path, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    done = stream("words", *options)
    assert done.exit_code == (1 if "--out" in options else 2)
    assert said in done.stderr.splitlines()[-1]
    assert not done.stdout


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


# verify, info, bench ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minutes", ["nan", "inf", "-inf", "0"])
def test_the_time_limit_of_verify_is_a_number(monkeypatch, minutes):
    """NaN is neither below a limit nor above it: the checks would never end."""
    monkeypatch.setattr("fastdrop._cli.commands.long_checks", lambda *arguments: iter(()))
    done = run("verify", "--long", "--minutes", minutes)
    assert done.exit_code == 2
    assert "--minutes" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_verify_passes_here(tmp_path):
    done = process(tmp_path, "verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert "checks passed" in done.stdout
    assert "FAILED" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    for isa in fastdrop.config()["isas"]:
        assert f"c-{isa} " in done.stdout


@pytest.mark.slow
def test_verify_fails_and_says_where(monkeypatch):
    monkeypatch.setattr(native, "contracts", lambda isa: isa == "portable")
    done = run("verify")
    assert done.exit_code == 1
    assert "FAILED c-portable, contraction: a * b + c" in done.output
    assert "1 of " in done.output.splitlines()[-1]


def test_info_is_the_configuration():
    assert json.loads(run("info", "--json").output) == fastdrop.config()
    shown = run("info").output
    for name in fastdrop.config():
        assert f"\n{name} " in shown
    assert fastdrop.config()["isas"][-1] in shown
    assert "FASTDROP_NUM_THREADS" in shown


def test_info_shows_what_the_environment_asks_for(tmp_path):
    wanted = {"FASTDROP_ISA": "portable", "FASTDROP_NUM_THREADS": "1"}
    done = process(tmp_path, "info", "--json", env=os.environ | wanted)
    assert json.loads(done.stdout)["isa"] == "portable"
    assert json.loads(done.stdout)["num_threads"] == 1


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
    assert done.stderr.splitlines()[-1].startswith(f"Error: environment variable {variable}: {said}")
    assert "Traceback" not in done.stderr
    assert not done.stdout
    assert not (folder / "out.npy").exists()


def test_help_needs_no_environment(tmp_path):
    for arguments in (("--help",), ("--version",), ("apply", "--help")):
        assert process(tmp_path, *arguments, env=os.environ | {"FASTDROP_BACKEND": "cuda"}).returncode == 0


ASCII = {"PYTHONIOENCODING": "ascii"}


@pytest.mark.slow
def test_tables_in_ascii(tmp_path):
    for command in ("info", "verify"):
        done = process(tmp_path, command, env=os.environ | ASCII)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.isascii()


@pytest.mark.slow
def test_bench_in_ascii_writes_its_files_and_shows_its_tables(tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    options = ["--quick", "--only", "64K-p0.1", "--only", "c", "--record", "record.jsonl", "--html", "report.html"]
    done = process(tmp_path, "bench", *options, env=os.environ | ASCII)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^fastdrop, C \(.*\+- *\d+%$", done.stdout, re.MULTILINE)
    assert (tmp_path / "record.jsonl").read_text(encoding="utf-8")
    assert "</html>" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["show_entry", "show_end"])
def test_bench_writes_its_files_before_it_shows_them(tmp_path, monkeypatch, stage):
    """The record after each entry, so that a run that is interrupted is not lost."""
    from fastdrop.bench import command

    def fail(*arguments):
        raise RuntimeError("the screen is gone")

    monkeypatch.setattr(command, stage, fail)
    done = bench("--only", "64K-p0.1", "--only", "c", "--record", tmp_path / "record.jsonl")
    assert "the screen is gone" in str(done.exception)
    assert (tmp_path / "record.jsonl").stat().st_size > 0


def bench(*arguments):
    pytest.importorskip("sklearn")
    return run("bench", "--quick", *arguments)


@pytest.mark.slow
def test_bench_shows_a_table_and_writes_record_and_report(tmp_path):
    pytest.importorskip("matplotlib")
    record, html = tmp_path / "record.jsonl", tmp_path / "report.html"
    done = bench("--only", "64K", "--only", "c", "--only", "idiom-pcg64", "--record", record, "--html", html)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    for name in ("numpy.copyto", f"fastdrop, C ({fastdrop.get_isa()})", "idiom, PCG64"):
        (line,) = [line for line in lines if line.startswith(f"{name}  ")]
        assert len(re.findall(r"[0-9.]+", line.removeprefix(name))) >= 4  # two rates, a time and a ratio each
    assert "PyTorch F.dropout" not in done.output
    assert "C, portable" in " ".join(done.output.split())
    assert max(map(len, lines)) <= 80
    assert "\n        numexpr, the Numba loops and MKL. All others" in done.output  # the legend is not folded
    assert "</html>" in html.read_text()
    again = bench("--only", "64K-p0.1", "--only", "c", "--against", record)
    assert again.exit_code == 0, again.output
    assert re.search(r"\d of 1 rows: no clear difference", again.output)


@pytest.mark.slow
def test_bench_ends_with_an_error_where_fastdrop_is_wrong(monkeypatch):
    """A record in which a kernel gave other bytes."""
    from fastdrop.bench import command

    def wrong(*arguments, **more):
        found = measure(*arguments, **more)
        why = "the bytes are not the reference's"
        found.add({"kind": "refused", "case": "64K-p0.1", "contender": "c", "why": why, "own": True})
        return found

    measure = command.run
    monkeypatch.setattr(command, "run", wrong)
    done = bench("--only", "64K-p0.1", "--only", "c")
    assert done.exit_code == 1
    assert "WRONG: fastdrop, C, 64K-p0.1: the bytes are not the reference's" in done.output
    assert done.output.endswith("Error: fastdrop's own results are wrong: see above\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--only", "abacus"), "--only 'abacus' matches no case, group or contender; groups are size, call"),
        (("--threads", 0), "num_threads must be an integer >= 1"),
        (("--threads", "many"), "'many' is not a valid integer"),
        (("--isa", "mmx"), "unknown instruction set 'mmx': this build has 'portable'"),
        (("--against", "absent.jsonl"), "does not exist"),
        (("--against", __file__), "is not a record of fastdrop's benchmark"),
        (("--html", "/no/such/folder/report.html"), "the folder /no/such/folder does not exist"),
        (("--record", "/no/such/folder/record.jsonl"), "the folder /no/such/folder does not exist"),
    ],
)
def test_bench_refuses_options_in_one_line_before_measuring(monkeypatch, options, said):
    from fastdrop.bench import run as bench_run

    monkeypatch.setattr(bench_run, "ask_all", None)  # would be called to measure
    done = run("bench", "--quick", *options)
    assert done.exit_code == 2
    assert said in done.output.splitlines()[-1]
    assert "Traceback" not in done.output


def test_bench_refuses_an_instruction_set_that_is_not_here(monkeypatch):
    monkeypatch.setattr(native, "isas", lambda: {"portable": True, "avx512": False})
    done = run("bench", "--isa", "avx512")
    assert done.exit_code == 2
    assert "this machine cannot run 'avx512'" in done.output


NO_SKLEARN = """
import os, sys
os.environ["PYTHONPATH"] = sys.argv.pop(1)  # for the processes that measure
from fastdrop.__main__ import main
main()
"""


def test_bench_without_scikit_learn_says_what_to_install(tmp_path):
    (tmp_path / "sklearn").mkdir()
    (tmp_path / "sklearn" / "__init__.py").write_text("raise ModuleNotFoundError('sklearn')\n")
    command = [sys.executable, "-c", NO_SKLEARN, str(tmp_path), "bench", "--quick", "--only", "64K"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr == 'Error: the benchmark needs scikit-learn: pip install "fastdrop-kernels[bench]"\n'


WITHOUT = "import sys; sys.modules[{!r}] = None; from fastdrop.__main__ import main; main()"


@pytest.mark.parametrize("package", ["click", "rich"])
def test_command_line_without_its_packages_says_what_to_install(tmp_path, package):
    command = [sys.executable, "-c", WITHOUT.format(package), "info"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr == f'fastdrop: the command line needs {package}: pip install "fastdrop-kernels[cli]"\n'


def test_help_names_the_commands_in_full():
    shown = run("--help").output
    for name in ("apply", "bench", "info", "stream", "verify"):
        assert f"  {name}" in shown
    assert "..." not in shown.partition("Commands:")[2]
    assert run("--version").output == f"fastdrop, version {fastdrop.__version__}\n"
