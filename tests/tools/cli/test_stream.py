"""`fastdrop stream`: the bytes of the library."""

import sys
from functools import partial

import pytest
from command_line import STREAM, process, run

import fastdrop
from fastdrop._cli import raw

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


@pytest.mark.skipif(sys.platform != "linux", reason="a folder in which nobody may write, not even root")
def test_stream_names_the_file_that_it_cannot_write():
    done = stream("words", "--out", "/proc/words.bin")
    assert (done.exit_code, done.stderr) == (1, "Error: /proc/words.bin: No such file or directory\n")


def test_stream_to_a_pipe_by_name_is_refused(folder):
    done = process(folder, *STREAM, "--out", "/dev/stdout")  # a pipe
    assert (done.returncode, done.stderr) == (2, "Error: /dev/stdout must be a regular file\n")


def test_stream_names_the_leftover_of_a_killed_run(folder):
    (folder / ".fastdrop-0123.part").write_bytes(b"half")
    done = stream("words", "--out", folder / "words.bin")
    said = f"Note: a run that was killed has left {folder}/.fastdrop-0123.part (4 bytes), which can be removed\n"
    assert (done.exit_code, done.stderr, done.stdout) == (0, said, "")


ENDS = {  # kind and dtype: the function of the library, and the end of its indices
    ("words", "float32"): (fastdrop.words, 2**50),
    ("packed", "float32"): (fastdrop.dropout_mask, 2**55),
    ("normal", "float32"): (fastdrop.normal, 2**50),
    ("normal", "float64"): (partial(fastdrop.normal, dtype="float64"), 2**49),
}


@pytest.mark.parametrize(("kind", "dtype"), ENDS)
def test_the_end_of_a_stream_is_that_of_the_library(kind, dtype):
    function, end = ENDS[kind, dtype]
    function(1, seed=7, start=end - 1)
    with pytest.raises((ValueError, OverflowError)):
        function(1, seed=7, start=end)
    data = raw.Raw(kind, 7, dtype=dtype)
    assert len(next(raw.pieces(data, end))) > 0
    with pytest.raises(ValueError, match=rf"count must be in \[0, {end}\] for {kind}"):
        raw.pieces(data, end + 1)


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
        (("--kind", "normal", "--dtype", "float16"), "'float16' is not one of"),
        (("-p", 0.1), "Error: -p is for --kind mask and packed; got --kind words"),
        (("--p", 0.5), "Error: -p is for --kind mask and packed; got --kind words"),
        (("--dtype", "float32"), "Error: --dtype is for --kind normal; got --kind words"),
        (("--dtype", "float64", "--kind", "mask"), "Error: --dtype is for --kind normal; got --kind mask"),
        (("--out", "absent/words.bin"), "absent does not exist"),
    ],
)
def test_stream_refuses_arguments_in_one_line(tmp_path, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    done = stream("words", *options)
    assert done.exit_code == (1 if "--out" in options else 2)
    assert said in done.stderr.splitlines()[-1]
    assert not done.stdout
