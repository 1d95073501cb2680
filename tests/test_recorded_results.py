"""Results equal the recorded ones, under any name, for every backend, instruction set and number of threads.

What differs on purpose stands in the record under "changed", with the reason.
"""

import itertools

import numpy as np
import pytest
from recorded_results import add_missing, cases, change, digest, expected, read

CASES = cases()
RECORD = read()
EXPECTED = expected(RECORD)
TECHNIQUES = {name: list(ids) for name, ids in itertools.groupby(sorted(CASES), lambda id: id.split("/")[0])}


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_results_are_as_recorded(engine, technique):
    differing = [id for id in TECHNIQUES[technique] if CASES[id].digest() != EXPECTED.get(id)]
    assert not differing


def test_every_result_has_a_call_and_every_call_a_result():
    assert CASES.keys() == EXPECTED.keys()
    assert len(CASES) >= 600


def test_changes_have_reasons():
    assert RECORD.keys() == {"recorded", "changed"}
    for id, entry in RECORD["changed"].items():
        assert entry["sha256"] != RECORD["recorded"].get(id), id
        assert entry["reason"].strip(), id


def test_layouts_and_pieces_give_the_same_results():
    for id in CASES:
        technique, dtype, layout, options = id.split("/", 3)
        if layout != "C":
            assert EXPECTED[id] == EXPECTED.get(f"{technique}/{dtype}/C/{options}", EXPECTED[id]), id


def test_the_record_is_never_overwritten():
    id = "mask/-/C/0.3"
    wrong = {"recorded": {**RECORD["recorded"], id: "0" * 64}, "changed": {}}
    with pytest.raises(SystemExit, match=id):
        add_missing(wrong)
    change(wrong, [id], "A test.")
    assert wrong["recorded"][id] == "0" * 64
    assert wrong["changed"] == {id: {"sha256": CASES[id].digest(), "reason": "A test."}}
    with pytest.raises(SystemExit, match=id):
        change(wrong, [id], "Again.")


def test_digests_tell_results_apart():
    x = np.arange(6, dtype=np.float32)
    others = [x.reshape(2, 3), x.astype(np.float64), x[::-1], (x, x), -x]
    assert len({digest(other) for other in [x, *others]}) == 6
    assert digest(np.asfortranarray(x.reshape(2, 3))) == digest(x.reshape(2, 3))
    assert digest(0.1 + 0.2, rounded=True) == digest(0.3, rounded=True) != digest(0.3001, rounded=True)
