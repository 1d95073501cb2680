"""A contender from a file: the documented one takes part, and a file that is none is refused."""

from pathlib import Path

import pytest

from fastdrop.bench import contenders, run
from fastdrop.bench.measure import Effort

pytest.importorskip("sklearn")
ROOT = Path(__file__).parents[2]
EXAMPLE, PAGE = ROOT / "examples" / "contender.py", ROOT / "docs" / "benchmarks.md"


@pytest.fixture(autouse=True)
def _forget():
    yield
    contenders.ADDED.clear()
    contenders.adapters.cache_clear()
    contenders.by_name.cache_clear()


@pytest.mark.skipif(not EXAMPLE.is_file(), reason="no examples beside the tests")
def test_contender_of_the_example_is_checked_and_timed():
    assert contenders.add_file(EXAMPLE) == ["mine"]
    chosen = run.select(False, ["64K-p0.1", "c", "mine"], ["mine"])
    found = run.run(chosen, run.Mode(Effort(seconds=0, least_rounds=1), processes=1))
    assert found.has("64K-p0.1", "copy", "c", "mine")
    assert not found.of_kind("refused")


@pytest.mark.skipif(not EXAMPLE.is_file(), reason="no examples beside the tests")
def test_contender_takes_part_where_it_can():
    contenders.add_file(EXAMPLE)
    cases = {case.name for case in run.select(False, [], ["mine"]).cases if "mine" in case.contenders}
    assert {"64K-p0.1", "64M-p0.5", "256-p0.1"} <= cases
    assert not cases & {"64M-float64-p0.1", "mask-4M-p0.1", "spatial-p0.2", "threads-64K-p0.1", "values-64K"}


@pytest.mark.skipif(not (EXAMPLE.is_file() and PAGE.is_file()), reason="no examples and pages beside the tests")
def test_page_shows_the_example():
    assert f"```python\n{EXAMPLE.read_text(encoding='utf-8')}```" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "must define ADAPTER"),
        ("1 / 0", "cannot be run: ZeroDivisionError"),
        (
            "from fastdrop.bench.contender import *\nfrom fastdrop.bench.contender import Adapter, Contender\n"
            "ADAPTER = Adapter((Contender('c', 'C', {}),))",
            "has the name 'c'",
        ),
    ],
)
def test_file_that_is_no_contender_is_refused(tmp_path, text, words):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        contenders.add_file(path)
    assert not contenders.ADDED
