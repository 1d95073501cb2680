"""How busy the machine was: the ticks of other processes, stolen time, the copies' distance from their median."""

import itertools
import os

import pytest

from fastdrop.bench import busy, records


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Return a function that writes the machine's ticks: user, idle and stolen ones."""
    monkeypatch.setattr(busy, "STAT", tmp_path / "stat")
    monkeypatch.setattr(busy.os, "cpu_count", lambda: 2)

    def write(user, idle, stolen):
        (tmp_path / "stat").write_text(f"cpu {user} 0 0 {idle} 0 0 0 {stolen} 0 0\n")

    return write


def test_watch_tells_what_others_took(machine, monkeypatch):
    ticks = itertools.count(0, 100)  # of the benchmark itself
    monkeypatch.setattr(busy, "process_ticks", lambda pid: next(ticks))
    machine(0, 0, 0)
    watch = busy.Watch(lambda: [1])
    machine(150, 40, 10)  # of 200 ticks, others had 50
    line = watch.line()
    assert (line["others"], line["steal"]) == (0.5, 0.05)
    assert line["seconds"] == pytest.approx(100 / os.sysconf("SC_CLK_TCK"))
    machine(250, 140, 10)
    assert watch.line()["others"] == 0


def test_system_that_does_not_say_gives_no_line(monkeypatch, tmp_path):
    monkeypatch.setattr(busy, "STAT", tmp_path / "none")
    assert busy.Watch(lambda: [1]).line() is None


@pytest.mark.skipif(not busy.STAT.exists(), reason="needs /proc")
def test_own_ticks_are_counted_and_a_process_that_ended_has_none():
    assert busy.process_ticks(os.getpid()) >= 0
    assert busy.process_ticks(2**22 + 1) == 0


def recorded(seconds, **line):
    """Return a record of copies that took these seconds, and of a machine with these means."""
    found = records.Record()
    case = {"name": "a", "entry": "a", "what": "dropout", "shape": [2**20], "dtype": "float32", "rate": 0.1, "group": "size"}
    found.add({"kind": "case", **case, "why": "a test", "contenders": ["copy"]})
    rounds = list(range(len(seconds)))
    found.add({"kind": "samples", "case": "a", "contender": "copy", "process": 0, "rounds": rounds, "seconds": seconds})
    if line:
        found.add({"kind": "busy", "seconds": 2.0, "others": 0.0, "steal": 0.0, "load": 1.0, **line})
    return found


QUIET, UNSTEADY = [1.0, 1.01, 0.99, 1.0], [1.0, 2.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (recorded(QUIET, load=1.0), []),
        (recorded(QUIET, others=0.9), ["other processes kept 0.90"]),
        (recorded(QUIET, steal=0.1), ["the host took 10.0%"]),
        (recorded(UNSTEADY, load=1.0), ["of the copies"]),
    ],
)
def test_reasons_name_what_was_too_much(record, words):
    found = busy.reasons(record)
    assert len(found) == len(words)
    assert all(word in text for word, text in zip(words, found, strict=True))
    assert ("quiet" if not words else "busy") in busy.describe(record)


def test_record_without_lines_does_not_say():
    assert busy.reasons(recorded(QUIET)) is None
    assert "does not say" in busy.describe(recorded(QUIET))
