"""The table of the variants' costs: no function is left out, and each peer's formula does the same as fastdrop."""

from dataclasses import replace

import numpy as np
import pytest

import fastdrop
from fastdrop import elementary, losses
from fastdrop.bench import cases, checks, contenders, data, variants
from fastdrop.bench.cases import Case
from fastdrop.bench.contenders import numpy_formulas, torch_formulas
from fastdrop.bench.worker import Answers
from fastdrop.verify.runner import Mismatch

pytest.importorskip("sklearn")
pytestmark = pytest.mark.filterwarnings("ignore:overflow")  # of formulas as users write them

SETTINGS = {
    *("config", "get_backend", "get_include", "get_isa", "get_num_threads"),
    *("addresses", "set_backend", "set_isa", "set_num_threads", "show_config", "using", "Key", "Stream", "fold_in"),
}
PEERS = {
    "formula-numpy": set(numpy_formulas.FACTORS) | set(numpy_formulas.PAIRS),
    "formula-torch": set(torch_formulas.FORMULAS),
}


def public(module, names):
    return {name for name in names if callable(getattr(module, name)) and not name.endswith("_backward")}


def test_every_public_function_that_makes_an_array_has_a_row():
    measured = {variant.function.rpartition(".")[2] for variant in variants.VARIANTS}
    functions = public(fastdrop, fastdrop.__all__) - SETTINGS
    assert measured == functions | public(losses, losses.__all__) | public(elementary, elementary.__all__)


def test_every_backward_function_is_measured():
    backward = {name for module in (fastdrop, losses) for name in module.__all__ if name.endswith("_backward")}
    assert {variant.backward.__name__ for variant in variants.VARIANTS if variant.backward} == backward
    names = {case.name for entry in cases.read().entries for case in entry.cases}
    assert {f"{variant.name}-backward" for variant in variants.VARIANTS if variant.backward} <= names
    assert {f"{variant.name}-call" for variant in variants.VARIANTS} <= names


def test_every_row_has_a_peer():
    names = {variant.name for variant in variants.VARIANTS}
    assert len(names) == len(variants.VARIANTS)
    assert PEERS["formula-numpy"] | PEERS["formula-torch"] == names


def case_of(variant, what, times=64):
    """Return a case of 256 elements times a number."""
    first, *rest = variant.sizes[1]
    fields = {"name": variant.name, "entry": variant.name, "what": what, "shape": (times * first, *rest), "dtype": "float32"}
    return Case(**fields, rate=0.0, group="variant", why="a test", contenders=())


@pytest.mark.parametrize("variant", variants.VARIANTS, ids=lambda variant: variant.name)
def test_formulas_do_the_same_as_fastdrop(variant):
    for what in (variants.FORWARD, *((variants.BACKWARD,) if variant.backward else ())):
        case = case_of(variant, what)
        job = data.job_of(case, threads=1)
        answers = Answers(job, lambda *args, **keywords: None, 0)
        answers.checked_reference()  # now: later, it would overwrite the result that is compared with it
        c = contenders.by_name()["c"][0]
        answers.check(c, c.does[what](job)())
        names = ["c-both"] * (what == variants.BACKWARD) + [name for name, known in PEERS.items() if variant.name in known]
        for name in names:
            contender, adapter = contenders.by_name()[name]
            if adapter.missing():
                continue
            checks.check(contender, job, contender.does[what](job)())


@pytest.mark.parametrize("variant", variants.VARIANTS, ids=lambda variant: variant.name)
@pytest.mark.parametrize("dtype", variants.OTHER_DTYPES)
def test_rows_run_in_other_dtypes(variant, dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    if dtype not in variant.other_dtypes:
        assert variant.function in NO_ARRAYS
        return
    for what in (variants.FORWARD, *((variants.BACKWARD,) if variant.backward else ())):
        job = data.job_of(replace(case_of(variant, what, 1), dtype=dtype), threads=1)
        assert dtype in {value.dtype.name for value in job.work.keywords.values() if isinstance(value, np.ndarray)}
        contenders.by_name()["c"][0].does[what](job)()


NO_ARRAYS = {"dropout_mask", "layer_drop", "random.words", "random.uniform", "random.normal"}


WRONG = {
    "another rate": ("dropout", lambda rng, a: numpy_formulas.keep(rng, a.x.shape, a.p + 0.02)),
    "no scale": ("dropout", lambda rng, a: numpy_formulas.uniform(rng, *a.x.shape) >= a.p),
    "elements instead of maps": ("dropout2d", numpy_formulas.like_input),
    "maps instead of elements": ("dropout-p-per-channel", lambda rng, a: numpy_formulas.keep(rng, (*a.x.shape[:2], 1, 1), a.p)),
    "elements instead of words": ("word_dropout", numpy_formulas.like_input),
    "another shape": ("dropout", lambda rng, a: numpy_formulas.keep(rng, (1, *a.x.shape), a.p)),
    "noise of another size": ("gaussian_dropout", lambda rng, a: 1 + a.p * numpy_formulas.normal(rng, *a.x.shape)),
}


@pytest.mark.parametrize("how", WRONG)
def test_another_distribution_is_refused(how, monkeypatch):
    name, factor = WRONG[how]
    monkeypatch.setitem(numpy_formulas.FACTORS, name, factor)
    for what in (variants.FORWARD, variants.BACKWARD):
        job = data.job_of(case_of(variants.variant_named(name), what, 1024), threads=1)
        contender = contenders.by_name()["formula-numpy"][0]
        with pytest.raises(Mismatch, match=r"of the result differ|the result has shape"):
            checks.check(contender, job, contender.does[what](job)())


def test_wrong_gradient_is_refused():
    job = data.job_of(case_of(variants.variant_named("dropout"), variants.BACKWARD, 1024), threads=1)
    contender = contenders.by_name()["formula-numpy"][0]
    y, dx = contender.does[variants.BACKWARD](job)()
    with pytest.raises(Mismatch, match=r"of the gradient differ"):
        checks.check(contender, job, (y, dx * np.float32(0.9)))


def test_reasons_name_times_that_a_record_has():
    measured = {case.name for entry in cases.read().entries for case in entry.cases}
    for variant in variants.VARIANTS:
        assert set(variant.parts) <= measured, variant.name
        assert all(not limit or limit.endswith(".") for limit in (variant.limit, variant.call_limit)), variant.name
