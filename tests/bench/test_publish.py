"""Publishing: a record of a busy machine is refused unless told; records of several machines make one page."""

import shutil
import sys
from pathlib import Path

import pytest

from fastdrop.bench import costs, machines, publish, tables
from fastdrop.bench.records import Record, newest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / publish.RECORDS
pytestmark = pytest.mark.skipif(not RECORDS.is_dir(), reason="no records beside the tests")


@pytest.fixture
def checkout(tmp_path):
    """Return a checkout with one record, of a machine that others kept busy."""
    for path in (publish.README, publish.PAGE, publish.QUESTIONS):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    record = Record.read(newest(RECORDS))
    record.lines = [line for line in record.lines if line["kind"] != "busy"]
    record.add({"kind": "busy", "seconds": 60.0, "others": 1.5, "steal": 0.0, "load": 2.5})
    record.write(tmp_path / publish.RECORDS / "today.jsonl")
    return tmp_path


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["publish", *map(str, arguments)])
    publish.main()


def test_busy_machine_is_refused_and_nothing_is_written(checkout, monkeypatch):
    before = (checkout / publish.README).read_text()
    with pytest.raises(SystemExit, match=r"the machine was busy: other processes kept 1\.50 processors busy.*--busy"):
        run(monkeypatch, checkout)
    assert not (checkout / publish.REPORT).exists()
    assert (checkout / publish.README).read_text() == before


def test_busy_machine_is_published_if_told_and_the_page_says_so(checkout, monkeypatch):
    run(monkeypatch, checkout, "--busy")
    assert "The machine was busy: other processes kept 1.50 processors busy" in (checkout / publish.REPORT).read_text()
    assert "one machine only" in (checkout / publish.MACHINES).read_text()


@pytest.mark.parametrize("day", ["today", "yesterday"])
def test_wrong_results_of_fastdrop_are_refused_and_nothing_is_written(checkout, monkeypatch, day):
    """Each page shows the newest record of each machine."""
    path = checkout / publish.RECORDS / "today.jsonl"
    record = Record.read(path)
    if day == "yesterday":
        record.environment.update(cpu="another", date="2001-01-01")
    for name, own in (("c", True), ("torch", False)):  # a peer may be wrong: it is left out
        record.add({"kind": "refused", "case": "64M-p0.1", "process": 0, "contender": name, "why": "bad bytes", "own": own})
    record.write(path.with_name(f"{day}.jsonl"))
    with pytest.raises(SystemExit, match=r"fastdrop's results were wrong: fastdrop, C, 64M-p0\.1: bad bytes\. Mend"):
        run(monkeypatch, checkout, "--busy")
    assert not (checkout / publish.REPORT).exists()
    assert (checkout / publish.README).read_text() == (ROOT / publish.README).read_text()


@pytest.mark.parametrize("path", [publish.README, publish.PAGE, publish.QUESTIONS])
def test_pages_without_their_marks_or_sentences_are_refused_before_measuring(checkout, monkeypatch, path):
    (checkout / path).write_text("a page")
    monkeypatch.setattr(publish.subprocess, "run", None)  # would be called to measure
    with pytest.raises(SystemExit, match="must have"):
        run(monkeypatch, checkout, "--measure", "now", "--busy")


def of_machine(cpu, date):
    record = Record.read(newest(RECORDS))
    record.environment.update(cpu=cpu, date=date, isa="avx512")
    return record


def test_page_has_a_column_for_the_newest_record_of_each_machine():
    records = [of_machine("B", "2026-01-01"), of_machine("A", "2026-01-02"), of_machine("B", "2026-01-03")]
    found = machines.newest_of_each(records)
    assert [(one.environment["cpu"], one.environment["date"]) for one in found] == [("A", "2026-01-02"), ("B", "2026-01-03")]
    text = machines.page(records)
    assert "The newest records of 2 machines" in text
    assert "one machine only" not in text
    assert text.count("<th>A, avx512</th><th>B, avx512</th>") == sum(
        f'id="{n}-{p}"' in text for n in machines.ENTRIES for p in (0.1, 0.5)
    )


def test_page_of_one_machine_says_so():
    assert "one machine only, A, avx512" in machines.page([of_machine("A", "2026-01-02")])


def test_readme_has_a_row_for_each_machine():
    older, newer = of_machine("A", "2026-01-01"), of_machine("B", "2026-01-02")
    lines = publish.headline([newer, older]).splitlines()
    rows = [[text.strip() for text in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    assert [row[0] for row in rows] == ["machine", "A, avx512", "B, avx512"]
    assert [row[-2] for row in rows] == ["date", "2026-01-01", "2026-01-02"]
    assert [row[-1] for row in rows] == ["machine was", machines.state(older)[1], machines.state(newer)[1]]
    cells = {case: tables.cell(newer, case, "c").ratio.value for case in ("64M-p0.1", "64M-p0.5", "64K-p0.1", "64K-p0.5")}
    assert rows[2][1:5] == [tables.factor(value) for value in cells.values()]
    assert rows[2][5] == tables.factor(newer.ratio("4M-p0.1", "torch", "c").value)
    assert float(rows[2][5]) > 1  # PyTorch's time divided by fastdrop's


def test_the_page_of_questions_gets_the_ranges_of_the_records():
    page = "\n".join(
        text.replace("{}", "1.23 to\n4.56").replace("up to 1.23 to\n4.56", "up to 7") for text, *_ in publish.RANGES
    )
    records = [of_machine("A", "2026-01-01")]
    found = publish.with_ranges(page, records).splitlines()
    for entry, line in (("64M", found[0]), ("64K", found[1])):
        low, high = sorted(records[0].ratio(f"{entry}-p{p}", "c", "copy").value for p in (0.1, 0.5))
        assert f" {tables.factor(low)} to {tables.factor(high)} times" in line
    forced = max(records[0].ratio(f"{entry}-p{p}", "c-avx2", "copy").value for entry in ("64K", "64M") for p in (0.1, 0.5))
    assert found[2] == f"forced AVX2 takes up to {tables.factor(forced)} times as long as the copy"
    assert publish.with_ranges("\n".join(found), records).splitlines() == found


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*.jsonl")), ids=lambda path: path.stem)
def test_each_bound_that_a_record_misses_has_a_reason(path):
    rows = costs.costs(Record.read(path))
    assert [one.variant.name for one in rows if one.missed_passes and not one.variant.limit] == []
    assert [one.variant.name for one in rows if one.missed_call and not one.variant.call_limit] == []
