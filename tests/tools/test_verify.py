"""`fastdrop.verify`: everything passes here, and whatever can break is seen to break it."""

import sys
import types

import numpy as np
import pytest

import fastdrop
from fastdrop import verify
from fastdrop._core import native, settings
from fastdrop._core.backends import reference
from fastdrop.verify import cases, runner


def test_the_sample_has_every_operation_and_every_way_to_lay_a_mask():
    found = list(runner.sample())
    assert {case.op for case in found} == set(cases.OPS)
    assert {case.geometry for case in found} == set(cases.GEOMETRIES)
    assert {case.rates for case in found} == set(cases.RATES_OF)
    assert {case.past_caches for case in found} == {False, True}
    on_threads = {
        case.op.removesuffix(f"-{dtype}") for case in found for dtype in cases.DTYPES if case.n == cases.THREADED_SIZE
    }
    assert on_threads >= {*cases.NOISES, *cases.VALUE_OPS, "dropout", "mask", "packed-mask", "words", "uniform", "normal"}


def failures():
    return {(outcome.engine, outcome.check): outcome.detail for outcome in verify.checks() if outcome.passed is False}


def test_all_passes_on_everything_installed():
    outcomes = list(verify.checks())
    assert not [outcome for outcome in outcomes if outcome.passed is False]
    passed = {outcome.engine for outcome in outcomes if outcome.passed}
    assert passed >= {"numpy"} | {f"c-{isa}" for isa in fastdrop.config()["isas"]}
    assert {"known answers", "bytes of reference", "float environment", "contraction"} <= {o.check for o in outcomes}


@pytest.fixture
def install(monkeypatch):
    """Install a backend: the reference with some functions replaced."""

    def install(**replaced):
        module = types.ModuleType("broken_backend")
        vars(module).update({name: value for name, value in vars(reference).items() if callable(value)} | replaced)
        monkeypatch.setitem(sys.modules, "broken_backend", module)
        monkeypatch.setitem(settings.BACKENDS, "broken", ("broken_backend", None))
        settings.backend_module.cache_clear()
        few = [engine for engine in runner.every_engine() if engine.backend in ("numpy", "broken")]
        monkeypatch.setattr(runner, "every_engine", lambda: few)  # other tests run the other engines and the adapters
        monkeypatch.setattr(runner, "ADAPTERS", {})

    yield install
    settings.backend_module.cache_clear()


def multiply_by_the_mask(x, out, bits, factor, bias, other):
    with np.errstate(all="ignore"):
        out[...] = x * factor * reference.unpacked(bits, x.size)


def scale_after_the_first_tile(x, out, bits, factor, bias, other):
    reference.scale(x, out, bits, factor, bias, other)
    with np.errstate(all="ignore"):
        out[4096:] *= np.nextafter(out.dtype.type(1), out.dtype.type(2))


def start_in_32_bits(seed, offset, rate, first, n, out):
    reference.keep_bits(seed, offset, rate, first % 2**32, n, out)


def off_by_one(counter, key):
    return reference.philox(counter, key)[::-1]


def crash(*arguments):
    raise ArithmeticError("crashed")


ANSWERS, BYTES, ENVIRONMENT = "known answers", "bytes of reference", "float environment"


@pytest.mark.parametrize(
    ("replaced", "failed"),
    [
        ({}, set()),
        ({"scale": multiply_by_the_mask}, {BYTES, ENVIRONMENT}),
        ({"scale": scale_after_the_first_tile}, {BYTES, ENVIRONMENT}),
        ({"keep_bits": start_in_32_bits}, {ANSWERS, BYTES, ENVIRONMENT}),
        ({"philox": off_by_one}, {ANSWERS}),
        ({"fold_in": lambda seed, data: seed}, {ANSWERS}),
        ({"words": lambda seed, offset, first, out: out.fill(7)}, {ANSWERS, BYTES}),
        ({"uniform": lambda seed, offset, first, out: out.fill(0.5)}, {BYTES, ENVIRONMENT}),
        ({"scale": crash}, {BYTES, ENVIRONMENT}),
        ({"affine": crash}, {BYTES, ENVIRONMENT}),
    ],
)
def test_broken_backend_fails(install, replaced, failed):
    install(**replaced)
    found = failures()
    assert found.keys() == {("broken", check) for check in failed}
    assert all(("ArithmeticError: crashed" in detail) == (crash in replaced.values()) for detail in found.values())
    assert all("TypeError" not in detail for detail in found.values())


def test_backend_that_does_not_load_is_skipped(monkeypatch):
    monkeypatch.setitem(settings.BACKENDS, "absent", ("fastdrop._core.backends.absent", None))
    [outcome] = [outcome for outcome in verify.checks() if outcome.engine == "absent"]
    assert outcome.passed is None
    assert "fastdrop._core.backends.absent" in outcome.detail


@pytest.mark.parametrize("said", ["ValueError: unknown backend: foo", "ImportError: libfoo.so: undefined symbol"])
def test_a_library_that_is_broken_fails_alone(monkeypatch, tmp_path, said):
    error, _, message = said.partition(": ")
    (tmp_path / "broken_library.py").write_text(f"raise {error}({message!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(runner, "ADAPTERS", {"broken_library": None, "json": lambda cases: "fine"})
    *_, broken, after = verify.checks()
    assert (broken.engine, broken.passed, broken.detail) == ("broken_library", False, said)
    assert (after.engine, after.passed, after.detail) == ("json", True, "fine")


def test_contraction_fails(monkeypatch):
    monkeypatch.setattr(native, "contracts", lambda isa: isa == "portable")
    assert failures().keys() == {("c-portable", "contraction")}


@pytest.mark.parametrize("spoil", ["values", "values of bfloat16", "thread"])
def test_floating_point_environment_that_leaks_fails(monkeypatch, spoil):
    dropout = fastdrop.dropout

    def leaky(*arguments, **keywords):
        result = dropout(*arguments, **keywords)
        if spoil == "thread":
            native.float_begin()  # and never restored
            return result
        if spoil == "values of bfloat16" and result.dtype.name != "bfloat16":
            return result
        with np.errstate(all="ignore"):
            return result * result.dtype.type(1)  # 0 for a subnormal where those are flushed

    monkeypatch.setattr(fastdrop, "dropout", leaky)
    assert {check for _, check in failures()} == {"float environment"}


@pytest.mark.parametrize("name", ["stream1_golden.json", "philox4x32_10.kat"])
def test_wrong_known_answers_fail(monkeypatch, name):
    read = runner.data_file
    wrong = {name: read(name).replace("9b00dbd8", "9b00dbd9")}
    monkeypatch.setattr(runner, "data_file", lambda wanted: wrong.get(wanted) or read(wanted))
    assert {check for _, check in failures()} == {"known answers"}


def test_the_size_from_which_results_are_written_past_the_caches_is_restored(monkeypatch):
    """Also on a machine that shows a larger last-level cache than the kernels count with."""
    sizes = []
    monkeypatch.setattr(settings, "last_level_cache", lambda: 2**30)
    monkeypatch.setattr(cases.plan, "set_bypass_bytes", sizes.append)
    with cases.past_caches():
        pass
    assert sizes == [0, settings.MOST_CACHED]
