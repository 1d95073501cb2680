"""The table of the variants' costs: missed bounds, faster formulas, and the page that shows them."""

import json
from dataclasses import replace

import pytest

from fastdrop.bench import cases, convergence, costs, records, tables, variants
from fastdrop.bench.publish import cost_lines

pytest.importorskip("sklearn")


def made(dtypes=(), **ratios):
    """Return a record of the cases of `uniform_dropout` in which contenders take these multiples of the copy's time.

    `dtypes` has the multiples of the C kernels in other dtypes.
    """
    found = records.Record()
    known = {"date": "2000-01-01", "cpu": "A", "build": "gcc", "isa": "portable", "system": "s", "python": "3", "threads": 1}
    more = {"processors": 1, "caches": {}, "memory_bytes": None, "load": [], "isas": [], "huge_pages": None, "versions": {}}
    found.add({"kind": "environment", **known, **more})
    for case in (case for entry in cases.read().entries if entry.name == "uniform_dropout" for case in entry.cases):
        first = case.contenders[0]
        its = ratios if case.dtype == "float32" else {"c": dict(dtypes).get(case.dtype, 1.0)}
        found.add({"kind": "case", **replace(case, contenders=(first, *its)).fields()})
        for name, ratio in {first: 1.0, **its}.items():
            times = [1e-3 * ratio, 1e-3 * ratio]
            line = {"case": case.name, "contender": name, "process": 0, "rounds": [0, 1], "seconds": times, "processors": 1.0}
            found.add({"kind": "samples", **line})
    return found


USUAL = {"dropout": 2.0, "c-both": 5.0, "formula-numpy": 8.0, "formula-torch": 4.5}


def test_row_has_its_ratios():
    (cost,) = costs.costs(made(c=2.5, **USUAL))
    assert cost.variant is variants.variant_named("uniform_dropout")
    assert cost.forward.cell.ratio.value == pytest.approx(2.5)
    assert (cost.forward.plain.value, cost.forward.numpy.value) == pytest.approx((1.25, 0.3125))
    assert cost.backward.torch.value == pytest.approx(5 / 4.5)  # both passes
    assert cost.call.ratio.value == pytest.approx(2.5)
    assert cost.missed_passes + cost.missed_call == []


def test_missed_bounds_and_faster_formulas_are_named():
    record = made(c=7.0, **USUAL)
    (cost,) = costs.costs(record)
    assert cost.missed_passes == ["forward 7.00 > 3", "backward 7.00 > 3"]
    assert cost.missed_call == ["256 elements 7.00 > 6"]
    assert [(name, formula) for name, formula, _ in costs.slower_than_formulas(record)] == [
        ("uniform_dropout", "formula-torch"),
        ("uniform_dropout, both passes", "formula-torch"),
    ]
    assert not tables.losses(record)  # which are of the other cases
    assert "| `uniform_dropout` | 3 | 7.00 | 7.00 | 7.00 | 0.88 | 0.62 | 1.56 | 1.11 |" in cost_lines(record)


def test_page_shows_the_row_and_why_a_bound_is_missed():
    pytest.importorskip("matplotlib")
    from fastdrop.bench.report import page

    text = page(made(c=7.0, **USUAL))
    assert "What each variant costs" in text
    assert "Missed: forward 7.00 &gt; 3, backward 7.00 &gt; 3." in text
    assert "Missed: 256 elements 7.00 &gt; 6." in text
    assert "0 of 1 rows meet all their bounds." in text
    assert "uniform_dropout: the formula in PyTorch is faster by a factor of 1.56" in text
    assert "is surely faster than fastdrop&#x27;s function" not in text


def test_each_missed_bound_has_its_own_reason_and_parts():
    record = made(c=7.0, **USUAL)
    (cost,) = costs.costs(record)
    known = {"limit": "Memory.", "call_limit": "Checks.", "parts": ("uniform_dropout-backward", "uniform_dropout-call")}
    assert costs.reasons(record, replace(cost, variant=replace(cost.variant, **known))) == [
        "Missed: forward 7.00 > 3, backward 7.00 > 3. Memory. Parts, ns per element: uniform_dropout-backward 1.07.",
        "Missed: 256 elements 7.00 > 6. Checks. Parts: uniform_dropout 7.00 ms.",
    ]


def test_dtypes_that_cost_more_than_float32_are_named():
    pytest.importorskip("matplotlib")
    from fastdrop.bench.report import page

    record = made({"float64": 3.5, "bfloat16": 4.0}, c=2.5, **USUAL)
    (cost,) = costs.costs(record)
    assert cost.dear_dtypes == ["bfloat16 forward 1.60 times float32", "bfloat16 backward 1.60 times float32"]
    assert "Above 1.5: bfloat16 forward 1.60 times float32" in page(record)


def test_convergence_is_the_median_of_the_folds_that_reached_the_loss(tmp_path):
    reached = [{"epochs": n, "seconds": n / 10} for n in (4, 9, 5)]
    missing = {"epochs": None, "seconds": None}
    results = [
        {"network": "dense", "technique": "a", "folds": [*reached, missing]},
        {"network": "dense", "technique": "b", "folds": [missing]},
    ]
    (tmp_path / "c.json").write_text(json.dumps({"results": results}))
    one, other = convergence.techniques(convergence.read(tmp_path / "c.json"))
    assert (one.reached, one.folds, one.epochs, one.seconds) == (3, 4, 5, 0.5)
    assert (other.reached, other.epochs, other.seconds) == (0, None, None)
    assert convergence.read(tmp_path / "none.json") is None
