"""`fastdrop bench`: its tables, its files, and the options that it refuses."""

import os
import re
import sys
from pathlib import Path

import pytest
from command_line import process, python, run

import fastdrop
from fastdrop._core import native

ASCII = {"PYTHONIOENCODING": "ascii"}


def bench(*arguments):
    pytest.importorskip("sklearn")
    return run("bench", "--quick", *arguments)


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


RECORDS = Path(__file__).parents[3] / "bench" / "records"


@pytest.mark.skipif(not RECORDS.is_dir(), reason="no records beside the tests")
@pytest.mark.parametrize(("columns", "together"), [(100, 3), (80, 3), (60, 1), (40, 1)])
def test_bench_shows_as_many_cases_side_by_side_as_the_terminal_has_room_for(monkeypatch, capsys, columns, together):
    pytest.importorskip("sklearn")
    from fastdrop.bench import cases, command
    from fastdrop.bench.records import Record, newest

    monkeypatch.setenv("COLUMNS", str(columns))
    (entry,) = [entry for entry in cases.read().entries if entry.name == "rates"]
    command.show_entry(Record.read(newest(RECORDS)), entry)
    lines = capsys.readouterr().out.splitlines()
    copies = [line for line in lines if line.startswith("numpy.copyto")]
    assert len(copies) == -(-len(entry.cases) // together)
    assert max(map(len, lines)) <= columns


def test_bench_shows_microseconds_in_ascii():
    from fastdrop._cli import screens  # noqa: F401  knows the characters

    assert "4.35 µs".encode("ascii", "fastdrop.plain") == b"4.35 us"


ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="a folder in which nobody may write, not even root")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--only", "abacus"), "--only 'abacus' matches no case, group or contender; groups are size, call"),
        (("--threads", 0), "num_threads must be an integer >= 1"),
        (("--threads", "many"), "'many' is not a valid integer"),
        (("--isa", "mmx"), "unknown instruction set 'mmx': this build has 'portable'"),
        (("--against", "absent.jsonl"), "does not exist"),
        (("--against", __file__), "is not a record of fastdrop's benchmark"),
        (("--record", "/dev/null"), "/dev/null must be a regular file"),
        (("--html", "/dev/null"), "/dev/null must be a regular file"),
        (("--html", "one.file", "--record", "./one.file"), "--html and --record must be two files; both are one.file"),
        (("--html", "/no/such/folder/report.html"), "the folder /no/such/folder does not exist"),
        (("--record", "/no/such/folder/record.jsonl"), "the folder /no/such/folder does not exist"),
        pytest.param(("--html", "/proc/report.html"), "/proc/report.html: No such file or directory", marks=ON_LINUX),
        pytest.param(("--record", "/proc/record.jsonl"), "/proc/record.jsonl: No such file or directory", marks=ON_LINUX),
    ],
)
def test_bench_refuses_options_in_one_line_before_measuring(monkeypatch, tmp_path, options, said):
    from fastdrop.bench import run as bench_run

    monkeypatch.setattr(bench_run, "ask_all", None)  # would be called to measure
    monkeypatch.chdir(tmp_path)
    done = run("bench", "--quick", *options)
    assert done.exit_code == (1 if "folder" in said or "No such" in said else 2)
    assert not list(tmp_path.iterdir())
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
    done = python(tmp_path, "-c", NO_SKLEARN, str(tmp_path), "bench", "--quick", "--only", "64K")
    assert done.returncode == 1
    assert done.stderr == 'Error: the benchmark needs scikit-learn: pip install "fastdrop-kernels[bench]"\n'
