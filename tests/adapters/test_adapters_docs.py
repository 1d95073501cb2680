"""The sections of docs/adapters.md, run as a reader does; a section without its library is skipped."""

import doctest
import re
from pathlib import Path

import numpy as np
import pytest

import fastdrop

PAGE = Path(__file__).parents[2] / "docs" / "adapters.md"
NEEDS = {"Dask": ["dask.array", "xarray"], "thinc and spaCy": ["thinc.api"], "Compiled code": ["numba"]}


@pytest.mark.parametrize("section", NEEDS)
@pytest.mark.skipif(not PAGE.is_file(), reason="no such page beside the tests")
def test_section(section):
    for library in NEEDS[section]:
        pytest.importorskip(library, reason=f"{library} is not installed")
    text = PAGE.read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert all(block.count("\n") <= 12 for block in blocks)
    names = {"np": np, "fastdrop": fastdrop}
    test, report = doctest.DocTestParser().get_doctest("\n".join(blocks), names, section, str(PAGE), 0), []
    result = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert not result.failed, "".join(report)
    assert result.attempted > 5
