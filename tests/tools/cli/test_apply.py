"""`fastdrop apply`: what it writes, what it refuses, and what is left when it is stopped."""

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from command_line import APPLY, INTERRUPTIBLE, process, python, run

import fastdrop
from fastdrop._cli import commands
from fastdrop.verify.cases import THREADED_SIZE


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
    done = run("apply", folder / "in.npy", folder / "out.npy", "--p", 0.5, "--seed", 1)
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(np.load(folder / "out.npy"), fastdrop.dropout(x, 0.5, seed=1))


@pytest.mark.parametrize("seed", [0, 2**64 - 1, 2**63])
@pytest.mark.parametrize("written", [str, hex])
def test_apply_takes_every_seed(folder, seed, written):
    done = run("apply", folder / "in.npy", folder / "in.npy", "-p", 0.5, "--seed", written(seed))
    assert done.exit_code == 0, done.output
    kept = fastdrop.dropout_mask((100, 300), 0.5, seed=seed)
    assert not np.load(folder / "in.npy")[~kept].any()


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        (("--threads", 1), {"num_threads": 1}),
        (("--threads", 3), {"num_threads": 3}),
        (("--backend", "numpy"), {"backend": "numpy"}),
    ],
    ids=str,
)
def test_apply_gives_the_same_bytes_whatever_computes(folder, monkeypatch, options, setting):
    np.save(folder / "in.npy", np.linspace(-1, 1, THREADED_SIZE, dtype=np.float32))
    seen = []

    def seen_apply_file(*arguments, **keywords):
        seen.append(fastdrop.config())
        return apply_file(*arguments, **keywords)

    apply_file = commands.apply_file
    monkeypatch.setattr(commands, "apply_file", seen_apply_file)
    for name, extra in (("plain.npy", ()), ("other.npy", options)):
        assert run("apply", folder / "in.npy", folder / name, "-p", 0.3, "--seed", 9, *extra).exit_code == 0
    assert setting.items() <= seen[1].items()
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
    done = python(folder, "-c", FULL, "apply", "in.npy", "out.npy", "-p", "0.1", "--seed", "1")
    assert (done.returncode, done.stderr) == (1, "Error: out.npy: File too large\n")
    assert [path.name for path in folder.iterdir()] == ["in.npy"]


# Hostile files ------------------------------------------------------------------------------------------------------

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
    done = python(folder, "-c", TRUNCATING, "apply", "in.npy", "out.npy", *APPLY)
    assert (done.returncode, done.stderr) == (2, "Error: the file became shorter while it was read\n")
    assert (folder / "out.npy").read_bytes() == b"old"
    assert sorted(path.name for path in folder.iterdir()) == ["in.npy", "out.npy"]


def test_the_leftover_of_a_killed_run_is_named_and_not_that_of_a_running_one(folder):
    (folder / ".fastdrop-0123.part").write_bytes(b"half")
    assert run("apply", folder / "in.npy", folder / "a" / "out.npy", *APPLY).exit_code == 1
    (folder / ".fastdrop-4567.part").write_bytes(b"half")
    with open(folder / ".fastdrop-4567.part", "rb") as running:
        fcntl.flock(running, fcntl.LOCK_EX)
        done = process(folder, "apply", "in.npy", "out.npy", *APPLY)
    said = f"Note: a run that was killed has left {folder}/.fastdrop-0123.part (4 bytes), which can be removed\n"
    assert (done.returncode, done.stderr) == (0, said)


def test_a_run_locks_its_unfinished_file(folder):
    from fastdrop import npyfile

    with npyfile.replacement(folder / "out.npy") as file:
        file.write(b"half")
        file.flush()
        assert [path.stat().st_size for path in folder.glob(".fastdrop-*.part")] == [4]
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
    done = python(folder, "-c", TWO_SIGNALS, "apply", "in.npy", "out.npy", *APPLY)
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
