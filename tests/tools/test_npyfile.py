"""Dropout of files: the bytes of `fastdrop.dropout` and `numpy.save`, in any order, a chunk at a time."""

import fcntl
import hashlib
import io
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastdrop
from fastdrop import npyfile

SHAPES = [(), (0,), (1,), (7,), (0, 5), (3, 0, 2), (5, 7), (1, 9), (9, 1), (33, 1, 5, 2), (3, 100), (100, 3), (2,) * 7]


def saved(x):
    file = io.BytesIO()
    np.save(file, x)
    return file.getvalue()


@pytest.fixture
def tiny_chunks(monkeypatch):
    monkeypatch.setattr(npyfile, "CHUNK_BYTES", 256)
    monkeypatch.setattr(npyfile, "LEAST_RUN", 8)


@pytest.mark.usefixtures("tiny_chunks")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_file_has_the_bytes_of_the_array(tmp_path, shape, order, dtype):
    x = np.array(np.arange(np.prod(shape, dtype=int)).reshape(shape) % 5 - 1, dtype, order=order)
    source, target = tmp_path / "in.npy", tmp_path / "out.npy"
    np.save(source, x)
    seen = []
    applied = npyfile.apply_file(
        source, target, 0.3, seed=2**64 - 1, offset=7, progress=lambda done, size: seen.append((done, size))
    )
    expected = saved(fastdrop.dropout(np.load(source), 0.3, seed=2**64 - 1, offset=7))
    assert target.read_bytes() == expected
    assert applied.sha256 == hashlib.sha256(expected).hexdigest()
    assert applied.dropped == x.size - fastdrop.dropout_mask(shape, 0.3, seed=2**64 - 1, offset=7).sum()
    assert (applied.shape, applied.dtype) == (shape, x.dtype)
    assert not x.size or seen[-1] == (x.size, x.size)
    assert list(tmp_path.iterdir()) in ([source, target], [target, source])


SOURCES = {
    "stream": lambda: fastdrop.Stream(5, 6),
    "generator": lambda: np.random.default_rng(5),
    "key": lambda: fastdrop.Key(5, 6),
    "seed sequence": lambda: np.random.SeedSequence(5),
}


@pytest.mark.usefixtures("tiny_chunks")
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_all_chunks_have_the_mask_of_one_key(tmp_path, source):
    x = np.arange(1, 1001).reshape(50, 20)
    np.save(tmp_path / "in.npy", x.astype(np.float64))
    seed, same = source(), source()
    applied = npyfile.apply_file(tmp_path / "in.npy", tmp_path / "out.npy", 0.3, seed=seed)
    expected = fastdrop.dropout(np.load(tmp_path / "in.npy"), 0.3, seed=same)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)
    assert applied.dropped == (expected == 0).sum()
    assert fastdrop.Key(seed) == fastdrop.Key(same)  # one key was drawn


@pytest.mark.parametrize("source", ["in.npy", "absent.npy", "text.npy"])
def test_an_error_draws_no_key(tmp_path, source):
    np.save(tmp_path / "in.npy", np.ones(9))
    (tmp_path / "text.npy").write_text("1 2 3")
    stream = fastdrop.Stream(5)
    with pytest.raises((OSError, ValueError)):
        npyfile.apply_file(tmp_path / source, tmp_path / "absent" / "out.npy", 0.3, seed=stream)
    with pytest.raises(ValueError, match="p must be in"):
        npyfile.apply_file(tmp_path / "in.npy", tmp_path / "out.npy", 1.5, seed=stream)
    assert stream.offset == 0


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format(tmp_path, version):
    x = np.linspace(-1, 1, 1000, dtype=np.float32)
    with open(tmp_path / "in.npy", "wb") as file:
        np.lib.format.write_array(file, x, version=version)
    npyfile.apply_file(tmp_path / "in.npy", tmp_path / "out.npy", 0.5, seed=3)
    assert (tmp_path / "out.npy").read_bytes() == saved(fastdrop.dropout(x, 0.5, seed=3))


def write_header(path, text, data):
    """Write a file of version 1.0 with this text as the header."""
    header = text.ljust(117) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data)


def test_a_file_of_python_2(tmp_path):
    """Its shape is written in long integers."""
    x = np.linspace(-1, 1, 4, dtype=np.float32)
    write_header(tmp_path / "in.npy", "{'descr': '<f4', 'fortran_order': False, 'shape': (4L,), }", x.tobytes())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # NumPy's advice to save the file again; the result is such a file
        npyfile.apply_file(tmp_path / "in.npy", tmp_path / "out.npy", 0.5, seed=3)
    assert (tmp_path / "out.npy").read_bytes() == saved(fastdrop.dropout(x, 0.5, seed=3))


def test_data_that_look_like_an_archive(tmp_path):
    """Python's zipfile finds the end of an archive anywhere in the last 64 KiB."""
    x = np.frombuffer(b"PK\5\6" + bytes(60), np.float32)
    np.save(tmp_path / "in.npy", x)
    npyfile.apply_file(tmp_path / "in.npy", tmp_path / "out.npy", 0.5, seed=3)
    assert (tmp_path / "out.npy").read_bytes() == saved(fastdrop.dropout(x, 0.5, seed=3))


@pytest.mark.parametrize("shape", [(5, 7), (7, 5, 3), (64, 2), (2, 64), (13, 11, 3, 2), (40,), (3, 1, 50)], ids=str)
@pytest.mark.parametrize("size", [4, 9, 64, 10_000])
def test_blocks_and_their_runs_cover_an_array_once(monkeypatch, shape, size):
    monkeypatch.setattr(npyfile, "LEAST_RUN", 4)
    index = np.arange(np.prod(shape)).reshape(shape)
    seen = []
    for corner, block in npyfile.blocks(shape, size):
        assert np.prod(block) <= size
        part = index[tuple(slice(at, at + n) for at, n in zip(corner, block, strict=True))].ravel()
        starts = np.array(list(npyfile.runs(shape, corner, block)))
        np.testing.assert_array_equal((starts[:, None] + np.arange(part.size // starts.size)).ravel(), part)
        seen.append(part)
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), index.ravel())


def test_blocks_have_long_runs_in_both_orders():
    for shape in [(3000, 2049), (2049, 3000), (4, 2**20), (2**20, 4), (300, 40, 500)]:
        for corner, block in npyfile.blocks(shape, 2**20):
            for axes in (slice(None), slice(None, None, -1)):
                pieces = len(list(npyfile.runs(shape[axes], corner[axes], block[axes])))
                assert np.prod(block) / pieces >= 128, (shape, corner, block)


def test_file_may_be_replaced_by_its_own_result_and_keeps_its_mode(tmp_path):
    x = np.linspace(-1, 1, 1000).reshape(10, 100)
    path = tmp_path / "x.npy"
    np.save(path, x)
    path.chmod(0o640)
    npyfile.apply_file(path, path, 0.5, seed=3)
    np.testing.assert_array_equal(np.load(path), fastdrop.dropout(x, 0.5, seed=3))
    assert path.stat().st_mode & 0o777 == 0o640


def test_link_stays_a_link(tmp_path):
    np.save(tmp_path / "x.npy", np.ones(8, np.float32))
    (tmp_path / "real.npy").write_bytes(b"old")
    (tmp_path / "link.npy").symlink_to("real.npy")
    npyfile.apply_file(tmp_path / "x.npy", tmp_path / "link.npy", 0.5, seed=42)
    assert (tmp_path / "link.npy").is_symlink()
    assert np.load(tmp_path / "real.npy").shape == (8,)


# Leftovers of killed runs ---------------------------------------------------------------------------------------------


def write_half(file):
    file.write(b"half")
    file.flush()


def test_a_run_waits_for_one_that_looks_for_leftovers(tmp_path, monkeypatch):
    """The other one holds the lock for a moment."""
    timers = []

    def open_while_another_looks(path, mode):
        file = open(path, mode)  # noqa: SIM115  the caller closes it
        if "x" in mode:
            looking = os.open(path, os.O_RDONLY)
            fcntl.flock(looking, fcntl.LOCK_SH)
            timers.append(threading.Timer(0.1, os.close, [looking]))
            timers[0].start()
        return file

    monkeypatch.setattr(npyfile, "open", open_while_another_looks, raising=False)
    with npyfile.replacement(tmp_path / "out.npy") as file:
        write_half(file)
        timers[0].join()
        assert npyfile.leftovers(tmp_path / "out.npy") == []


def test_a_file_is_locked_until_it_has_its_name(tmp_path, monkeypatch):
    replace, seen = os.replace, []

    def look_and_replace(temporary, target):
        seen.append(npyfile.leftovers(target))
        replace(temporary, target)

    monkeypatch.setattr(os, "replace", look_and_replace)
    with npyfile.replacement(tmp_path / "out.npy") as file:
        write_half(file)
    assert seen == [[]]
    assert (tmp_path / "out.npy").read_bytes() == b"half"


def test_leftovers_have_sizes_and_those_that_vanish_are_none(tmp_path, monkeypatch):
    part = tmp_path / ".fastdrop-0123.part"
    part.touch()
    assert npyfile.leftovers(tmp_path / "out.npy") == []  # a run that begins
    part.write_bytes(b"half")
    assert npyfile.leftovers(tmp_path / "out.npy") == [(part, 4)]
    monkeypatch.setattr(fcntl, "flock", lambda file, how: part.unlink())  # the run ends before its lock can be had
    assert npyfile.leftovers(tmp_path / "out.npy") == []


@pytest.mark.parametrize("order", ["C", "F"])
def test_exception_leaves_the_target_as_it_was(tmp_path, order):
    np.save(tmp_path / "in.npy", np.ones((30, 40), np.float32, order=order))
    (tmp_path / "out.npy").write_bytes(b"old")

    def fail(done, size):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        npyfile.apply_file(tmp_path / "in.npy", tmp_path / "out.npy", 0.5, seed=1, progress=fail)
    assert (tmp_path / "out.npy").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npy", "out.npy"]


class Stingy(io.BufferedReader):
    """A file that gives at most seven bytes at a time, as a file on a network may, and ends early where `end` says so."""

    end = None

    def readinto(self, buffer):
        most = 7 if self.end is None else max(0, min(7, self.end - self.tell()))
        return super().readinto(memoryview(buffer).cast("B")[:most])


@pytest.fixture
def stingy(monkeypatch):
    """Let `apply_file` read from a stingy file."""

    def open_stingily(path, mode):
        return Stingy(io.FileIO(path)) if mode == "rb" else open(path, mode)

    monkeypatch.setattr(npyfile, "open", open_stingily, raising=False)
    monkeypatch.setattr(Stingy, "end", None)


@pytest.mark.usefixtures("tiny_chunks", "stingy")
def test_reads_that_give_less_than_they_are_asked_for(tmp_path):
    x = np.linspace(-1, 1, 1200, dtype=np.float32).reshape(30, 40, order="F")
    np.save(tmp_path / "in.npy", x)
    npyfile.apply_file(tmp_path / "in.npy", tmp_path / "out.npy", 0.5, seed=1)
    assert (tmp_path / "out.npy").read_bytes() == saved(fastdrop.dropout(x, 0.5, seed=1))


@pytest.mark.usefixtures("tiny_chunks", "stingy")
@pytest.mark.parametrize("missing", [1, 4, 100, 4800])
def test_a_file_that_ends_while_it_is_read(tmp_path, monkeypatch, missing):
    np.save(tmp_path / "in.npy", np.ones((30, 40), np.float32, order="F"))
    (tmp_path / "out.npy").write_bytes(b"old")
    monkeypatch.setattr(Stingy, "end", (tmp_path / "in.npy").stat().st_size - missing)
    with pytest.raises(ValueError, match="the file became shorter while it was read"):
        npyfile.apply_file(tmp_path / "in.npy", tmp_path / "out.npy", 0.5, seed=1)
    assert (tmp_path / "out.npy").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npy", "out.npy"]


def test_array_of_objects_is_not_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    np.save(tmp_path / "in.npy", np.array([Trap()], object), allow_pickle=True)
    with pytest.raises(ValueError, match="objects"):
        npyfile.apply_file(tmp_path / "in.npy", tmp_path / "out.npy", 0.5, seed=1)


def test_only_regular_files_are_replaced(tmp_path):
    np.save(tmp_path / "in.npy", np.ones(4, np.float32))
    with pytest.raises(ValueError, match="must be a regular file"):
        npyfile.apply_file(tmp_path / "in.npy", Path("/dev/null"), 0.5, seed=1)
    assert Path("/dev/null").is_char_device()


def test_a_writable_file_stays_as_it_is(tmp_path):
    for name in ("old", "new"):
        (tmp_path / "old").write_bytes(b"old")
        npyfile.require_writable(tmp_path / name)
        assert [path.name for path in tmp_path.iterdir()] == ["old"]
        assert (tmp_path / "old").read_bytes() == b"old"
    with pytest.raises(ValueError, match="must be a regular file"):
        npyfile.require_writable(Path("/dev/null"))


MEASURE = """
import pathlib, re, sys
from fastdrop import npyfile
npyfile.apply_file(pathlib.Path("in.npy"), pathlib.Path("out.npy"), 0.5, seed=1)
print(re.search(r"VmHWM:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of resident memory is read from /proc")
@pytest.mark.parametrize("fortran_order", [False, True])
def test_memory_is_less_than_the_file(tmp_path, fortran_order):
    shape = (8192, 8192)  # 256 MiB, all of it a hole in the file
    np.lib.format.open_memmap(tmp_path / "in.npy", "w+", np.float32, shape, fortran_order=fortran_order)
    done = subprocess.run([sys.executable, "-c", MEASURE], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200 * 1024
    assert (tmp_path / "out.npy").stat().st_size == (tmp_path / "in.npy").stat().st_size
    (tmp_path / "out.npy").unlink()


@pytest.mark.parametrize("descr", ["<0f2", "<2f4"])
def test_elements_that_are_arrays_by_their_text_are_refused(tmp_path, descr):
    path = tmp_path / "x.npy"
    write_header(path, f"{{'descr': '{descr}', 'fortran_order': False, 'shape': (2,), }}", bytes(64))
    with pytest.raises(ValueError, match="its elements must be numbers; they have the type"):
        npyfile.read_layout(path)
