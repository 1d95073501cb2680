"""`fastdrop.verify`: everything passes here, and whatever can break is seen to break it."""

import sys
import types

import numpy as np
import pytest

import fastdrop
from fastdrop import _native, _settings, verify
from fastdrop.backends import reference


def failures():
    return {(outcome.engine, outcome.check) for outcome in verify.checks() if outcome.passed is False}


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
        functions = ("philox", "keep_bits", "scale", "words", "uniform", "fold_in")
        vars(module).update({name: getattr(reference, name) for name in functions} | replaced)
        monkeypatch.setitem(sys.modules, "broken_backend", module)
        monkeypatch.setitem(_settings.BACKENDS, "broken", ("broken_backend", None))
        _settings.backend_module.cache_clear()

    yield install
    _settings.backend_module.cache_clear()


def multiply_by_the_mask(x, out, seed, offset, rate, first, factor):
    with np.errstate(all="ignore"):
        out[...] = x * factor * reference.keep(seed, offset, rate, first, x.size) if x.size else 0


def scale_after_the_first_tile(x, out, seed, offset, rate, first, factor):
    reference.scale(x, out, seed, offset, rate, first, factor)
    out[4096:] *= np.nextafter(out.dtype.type(1), out.dtype.type(2))


def start_in_32_bits(seed, offset, rate, first, n, out):
    reference.keep_bits(seed, offset, rate, first % 2**32, n, out)


def off_by_one(counter, key):
    return reference.philox(counter, key)[::-1]


BYTES, ANSWERS = ("broken", "bytes of reference"), ("broken", "known answers")


@pytest.mark.parametrize(
    ("replaced", "failed"),
    [
        ({}, set()),
        ({"scale": multiply_by_the_mask}, {BYTES, ("broken", "float environment")}),
        ({"scale": scale_after_the_first_tile}, {BYTES, ("broken", "float environment")}),
        ({"keep_bits": start_in_32_bits}, {BYTES, ANSWERS}),
        ({"philox": off_by_one}, {ANSWERS}),
        ({"fold_in": lambda seed, data: seed}, {ANSWERS}),
        ({"words": lambda seed, offset, first, out: out.fill(7)}, {BYTES, ANSWERS}),
        ({"uniform": lambda seed, offset, first, out: out.fill(0.5)}, {BYTES, ("broken", "float environment")}),
        ({"scale": lambda *arguments: 1 / 0}, {BYTES, ("broken", "float environment")}),
    ],
)
def test_broken_backend_fails(install, replaced, failed):
    install(**replaced)
    assert failures() == failed


def test_backend_that_does_not_load_is_skipped(monkeypatch):
    monkeypatch.setitem(_settings.BACKENDS, "absent", ("fastdrop.backends.absent", None))
    [outcome] = [outcome for outcome in verify.checks() if outcome.engine == "absent"]
    assert outcome.passed is None
    assert "fastdrop.backends.absent" in outcome.detail


def test_contraction_fails(monkeypatch):
    monkeypatch.setattr(_native, "contracts", lambda isa: isa == "portable")
    assert failures() == {("c-portable", "contraction")}


@pytest.mark.parametrize("spoil", ["values", "thread"])
def test_floating_point_environment_that_leaks_fails(monkeypatch, spoil):
    dropout = fastdrop.dropout

    def leaky(*arguments, **keywords):
        result = dropout(*arguments, **keywords)
        if spoil == "thread":
            _native.float_begin()  # and never restored
            return result
        with np.errstate(all="ignore"):
            return result * result.dtype.type(1)  # 0 for a subnormal where those are flushed

    monkeypatch.setattr(fastdrop, "dropout", leaky)
    assert {check for _, check in failures()} == {"float environment"}


@pytest.mark.parametrize("name", ["stream1_golden.json", "philox4x32_10.kat"])
def test_wrong_known_answers_fail(monkeypatch, name):
    read = verify.data_file
    wrong = {name: read(name).replace("9b00dbd8", "9b00dbd9")}
    monkeypatch.setattr(verify, "data_file", lambda wanted: wrong.get(wanted) or read(wanted))
    assert {check for _, check in failures()} == {"known answers"}
