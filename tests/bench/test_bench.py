"""The benchmark: its cases, the results that it refuses, its records and its reports."""

import importlib.util
import itertools
import re
import resource
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fastdrop
from fastdrop.bench import cases, checks, contenders, data, memory, publish, records, run, tables, worker
from fastdrop.bench.cases import Case
from fastdrop.bench.contender import Adapter, Contender
from fastdrop.bench.measure import Effort
from fastdrop.verify.runner import Mismatch

pytest.importorskip("sklearn")

ROOT = Path(__file__).parents[2]
ONCE = run.Mode(Effort(seconds=0, least_rounds=1), processes=1)
SMALL = Case("small", "small", "dropout", (64, 512), "float32", 0.1, "size", "a test", ("copy", "c", "idiom-pcg64"))
KINDS = {
    "dropout": SMALL,
    "many rates": replace(SMALL, rate="each"),
    "operands": replace(SMALL, operands=("bias", "residual")),
    "locked": replace(SMALL, noise_shape=(64, 1, 32), shape=(64, 16, 32)),
    "float16": replace(SMALL, dtype="float16"),
    "float64": replace(SMALL, dtype="float64"),
    "backward": replace(SMALL, what="backward"),
    "mask": replace(SMALL, what="mask"),
    "packed mask": replace(SMALL, what="packed mask"),
    "gaussian": replace(SMALL, what="gaussian"),
    "concrete": replace(SMALL, what="concrete"),
    "words": replace(SMALL, what="words"),
}


def measured(case, names=None):
    """Return the answers of a worker about a case."""
    told = []
    request = worker.Request(case, tuple(names or case.contenders), ONCE.effort)
    worker.measure(request, lambda kind, **fields: told.append({"kind": kind, **fields}))
    return told


def of_kind(told, kind):
    return {line["contender"]: line for line in told if line["kind"] == kind}


# Cases and selection --------------------------------------------------------------------------------------------------


def test_every_case_has_a_reason_a_yardstick_and_contenders_that_exist():
    found = [case for entry in cases.read().entries for case in entry.cases]
    assert len({case.name for case in found}) == len(found)
    for case in found:
        assert len(case.why) > 15
        assert set(case.contenders) <= set(contenders.by_name())
        assert contenders.by_name()[case.contenders[0]][0].kind == "yardstick"
        able = [name for name in case.contenders if contenders.by_name()[name][0].takes_part(case)]
        assert able[0] == case.contenders[0]
        assert any(tables.role(name) == "fastdrop" for name in able)


def test_every_contender_is_in_a_case():
    used = {name for entry in cases.read().entries for case in entry.cases for name in case.contenders}
    assert used == set(contenders.by_name())


def test_targets_name_cases_and_contenders_that_are_measured():
    known = {case.name: case for entry in cases.read().entries for case in entry.cases}
    for target in cases.read().targets:
        assert {target.of, target.against} <= set(known[target.case].contenders)
        assert (target.most is None) != (target.least is None)
    at_most, at_least = cases.read().targets[0], next(t for t in cases.read().targets if t.least)
    assert at_most.met(at_most.most)
    assert not at_most.met(at_most.most * 1.01)
    assert at_least.met(at_least.least)
    assert not at_least.met(at_least.least * 0.99)


def test_selection_by_case_group_and_contender():
    assert {case.name for case in run.select(True, []).cases} == {f"{n}-p{p}" for n in ("64K", "4M", "64M") for p in (0.1, 0.5)}
    assert [case.name for case in run.select(False, ["64K"]).cases] == ["64K-p0.1", "64K-p0.5"]
    assert [case.name for case in run.select(False, ["4M-p0.5", "words"]).cases] == ["4M-p0.5", "words"]
    assert {case.group for case in run.select(False, ["call"]).cases} == {"call"}
    (case,) = run.select(False, ["64K-p0.1", "idiom-*-out"]).cases
    assert case.contenders == ("copy", "multiply", "idiom-pcg64-out", "idiom-philox-out", "idiom-sfc64-out")
    assert {case.group for case in run.select(False, ["step-fastdrop"]).cases} == {"training"}
    assert run.select(False, []).memory
    assert not run.select(True, []).memory


# Checks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_numpy_and_fastdrop_pass_the_checks_and_are_timed(kind):
    case = KINDS[kind]
    names = ["copy", "c", "idiom-pcg64", "idiom-sfc64-out", "numpy"]
    told = measured(case, names)
    able = [name for name in names if contenders.by_name()[name][0].takes_part(case)]
    assert not of_kind(told, "skipped")
    assert not of_kind(told, "refused")
    assert set(of_kind(told, "samples")) == set(able)
    checked = {name for name, line in of_kind(told, "checked").items() if line["exact"]}
    assert {f"c-{isa}" for isa in fastdrop.config()["isas"]} <= checked


def multiply(job, factor):
    return lambda: np.multiply(job.x, factor, out=job.out)


def test_natural_calls_are_checked_and_timed(monkeypatch):
    case = replace(SMALL, what="call", shape=(256,))
    names = ["multiply", *(f"call-{name}" for name in contenders.own.NATURAL)]
    assert set(of_kind(measured(case, names), "samples")) == set(names)
    wrong = {"plain": 1, "stream": 0, "threads": 2, "evaluation": 0}  # by this factor: nothing is dropped, or everything
    for name, factor in wrong.items():
        found, adapter = contenders.by_name()[f"call-{name}"]
        does = {"call": partial(multiply, factor=np.float32(factor))}
        monkeypatch.setitem(contenders.by_name(), f"call-{name}", (replace(found, does=does), adapter))
    refused = of_kind(measured(case, names), "refused")
    bytes_differ = "the bytes differ from those of the reference"
    assert {name: line["why"] for name, line in refused.items()} == {
        **dict.fromkeys(("call-plain", "call-stream", "call-threads"), bytes_differ),
        "call-evaluation": "a call outside training changes an element",
    }


def test_results_of_several_arrays_are_equal_only_if_all_are():
    a, b = np.arange(3.0), np.arange(4.0)
    assert checks.equal_results((a, b), (a.copy(), b.copy()))
    assert checks.equal_results((a, None), (a.copy(), None))
    for other in ((a,), (), (a, b, b), (a, a), (a, None), a):
        assert not checks.equal_results((a, b), other)
        assert not checks.equal_results(other, (a, b))


def spoil(kind, result, job):
    """Return a result that is wrong in one of several ways."""
    if isinstance(result, tuple):
        rolled = result[0], np.roll(result[1], 1, axis=-1)
        return rolled if kind == "other" else tuple(spoil(kind, part, job) for part in result)
    made = result.copy()
    flat = made.reshape(-1)
    if kind == "one":  # a single element
        flat[np.flatnonzero(flat)[3]] = 77
    elif kind == "none":  # nothing dropped
        made[...] = job.x * (1 / 0.9)
    elif kind == "other":
        made = made * made.dtype.type(1.01)
    elif kind == "nan":
        flat[:] = np.nan
    elif kind == "shape":
        made = flat[:-1]
    return made


@pytest.mark.parametrize("how", ["one", "none", "other", "nan", "shape"])
@pytest.mark.parametrize("kind", ["dropout", "many rates", "operands", "locked", "float16", "float64", "backward"])
def test_wrong_results_are_refused(kind, how):
    job = data.job_of(KINDS[kind], threads=1)
    contender = contenders.by_name()["idiom-pcg64"][0]
    right = contender.does[job.case.what](job)()
    checks.check(contender, job, right)
    with pytest.raises(Mismatch):
        checks.check(contender, job, spoil(how, right, job))


@pytest.mark.parametrize("change", [-0.02, 0.02])
@pytest.mark.parametrize("kind", ["dropout", "mask", "packed mask", "operands"])
def test_wrong_rates_are_refused(kind, change):
    job = data.job_of(KINDS[kind], threads=1)
    contender = contenders.by_name()["idiom-pcg64"][0]
    scale = (1 - job.p) / (1 - job.p - change)  # the values are right, their number is not
    other = replace(job, p=job.p + change, x=job.x / scale, bias=None if job.bias is None else job.bias / scale)
    found = contender.does[job.case.what](other)()
    with pytest.raises(Mismatch, match="dropped instead of"):
        checks.check(contender, job, found)


def test_decisions_that_should_be_shared_are_refused_where_they_are_not():
    job = data.job_of(KINDS["locked"], threads=1)
    contender = contenders.by_name()["idiom-pcg64"][0]
    found = contender.does["dropout"](replace(job, case=replace(job.case, noise_shape=None)))()
    with pytest.raises(Mismatch):
        checks.check(contender, job, found)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_noise_of_another_variance_is_refused(factor):
    job = data.job_of(replace(KINDS["gaussian"], shape=(512, 512)), threads=1)
    contender = contenders.by_name()["idiom-pcg64"][0]
    noise = contender.does["gaussian"](job)()
    checks.check(contender, job, noise)
    with pytest.raises(Mismatch, match="variance"):
        checks.check(contender, job, job.x + np.float32(factor) * (noise - job.x))


def test_concrete_masks_of_another_rate_are_refused():
    job = data.job_of(KINDS["concrete"], threads=1)
    contender = contenders.by_name()["c"][0]
    checks.check(contender, job, contender.does["concrete"](job)())
    half = contender.does["concrete"](replace(job, p=0.5))() * np.float32(0.5 / 0.9)
    with pytest.raises(Mismatch, match="dropped instead of"):
        checks.check(contender, job, half)


def test_fastdrop_that_gives_other_bytes_is_refused(monkeypatch):
    """A backend that does dropout with other bytes is named and not timed."""
    found, adapter = contenders.by_name()["c"]
    later = {"dropout": lambda job: lambda: fastdrop.dropout(job.x, job.p, seed=1, offset=999)}
    monkeypatch.setitem(contenders.by_name(), "c", (replace(found, does=later), adapter))
    told = measured(SMALL)
    assert of_kind(told, "refused")["c"] == {
        "kind": "refused", "contender": "c", "why": "the bytes differ from those of the reference", "own": True,
    }  # fmt: skip
    assert set(of_kind(told, "samples")) == {"copy", "idiom-pcg64"}


def test_other_bytes_in_shared_memory_are_refused_in_every_process(monkeypatch):
    """All contenders write to one array; the reference must not overwrite the result that is compared with it."""
    found, adapter = contenders.by_name()["c"]
    later = {"dropout": lambda job: lambda: fastdrop.dropout(job.x, job.p, seed=1, offset=999, out=job.out)}
    monkeypatch.setitem(contenders.by_name(), "c", (replace(found, does=later), adapter))
    told = []
    request = worker.Request(SMALL, SMALL.contenders, ONCE.effort, process=1)
    worker.measure(request, lambda kind, **fields: told.append({"kind": kind, **fields}))
    assert of_kind(told, "refused")["c"]["why"] == "the bytes differ from those of the reference"


def test_all_of_fastdrop_is_refused_where_the_reference_is_wrong(monkeypatch):
    """A mistake that all backends share has the bytes of the reference, which must pass the check of the others."""
    right = fastdrop.dropout
    monkeypatch.setattr(fastdrop, "dropout", lambda x, p, **options: right(x, p + 0.05, **options))
    told = measured(SMALL, ["copy", "c", "numpy", "idiom-pcg64"])
    refused = of_kind(told, "refused")
    assert {"c", "numpy", *(f"c-{isa}" for isa in fastdrop.config()["isas"])} <= set(refused)
    assert all(line["own"] and "neither dropped nor scaled" in line["why"] for line in refused.values())
    assert set(of_kind(told, "samples")) == {"copy", "idiom-pcg64"}


def test_contender_that_fails_or_is_not_installed_is_left_out(monkeypatch):
    def fails(job):
        raise RuntimeError("no such device\nand more")

    made = {
        "broken": (Contender("broken", "Broken", {"dropout": fails}), Adapter(())),
        "absent": (Contender("absent", "Absent", {"dropout": fails}), Adapter((), "no_such_module", ("nosuch",))),
    }
    for name, entry in made.items():
        monkeypatch.setitem(contenders.by_name(), name, entry)
    told = measured(SMALL, ["copy", "c", *made])
    why = {name: line["why"] for name, line in of_kind(told, "skipped").items()}
    assert why == {
        "broken": "fails: RuntimeError: no such device",
        "absent": 'nosuch is not installed: pip install "fastdrop-kernels[peers]"',
    }
    assert set(of_kind(told, "samples")) == {"copy", "c"}


@pytest.mark.parametrize(("backend", "waits"), [("jax", 1), ("tensorflow", 0)])
def test_a_call_of_keras_on_jax_ends_when_its_result_is_there(monkeypatch, backend, waits):
    waited = []

    class Result:
        def block_until_ready(self):
            waited.append(self)
            return self

    keras = SimpleNamespace(
        backend=SimpleNamespace(backend=lambda: backend),
        layers=SimpleNamespace(Dropout=lambda p, **options: lambda x, training: Result()),
        ops=SimpleNamespace(convert_to_tensor=lambda x: x),
    )
    monkeypatch.setitem(sys.modules, "keras", keras)
    contender = contenders.by_name()["keras"][0]
    assert isinstance(contender.does["dropout"](data.job_of(SMALL, threads=1))(), Result)
    assert len(waited) == waits


@pytest.mark.parametrize("last", ["torch-compile", "fastdrop.torch-compile"])
def test_pytorch_compiles_each_case_and_forgets_no_contender_of_a_case(monkeypatch, last):
    torch = pytest.importorskip("torch")
    compiled = []
    monkeypatch.setattr("shutil.which", lambda name: name)  # this backend needs no compiler

    def backend(graph, arguments):
        compiled.append(len(arguments))
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    names = ["torch-rand-compile", last]
    for number in range(10):  # PyTorch would run the ninth one eagerly
        case = replace(SMALL, name=f"{number}", shape=(64, 64 + number))
        job = data.job_of(case, threads=1)
        calls = [contenders.by_name()[name][0].does["dropout"](job) for name in names]
        before = len(compiled)
        for call in calls:
            call()
        assert before == len(compiled) == 2 * (number + 1)


def test_case_that_does_not_fit_in_memory_is_skipped(monkeypatch):
    monkeypatch.setattr(data, "free_memory", lambda: 10_000)
    (line,) = measured(SMALL)
    assert line["kind"] == "skipped"
    assert "GB of free memory" in line["why"]


def test_data_are_activations_of_a_layer():
    layer = data.activations()
    assert layer.shape == (1797, 1024)
    assert 0.3 < np.count_nonzero(layer) / layer.size < 0.7
    assert layer.min() == 0
    long = data.filled((2, 10**6), "float32", shift=5)
    np.testing.assert_array_equal(long.reshape(-1), np.resize(np.roll(layer.reshape(-1), -5), 2 * 10**6))
    assert long.ctypes.data % 4096 == 16


# A run, its record --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def record():
    """Return the record of a short run: two processes, small cases, all engines, no other libraries."""
    chosen = run.select(False, ["64K-p0.1", "64K-p0.5", "words", "copy", "c", "c-*", "idiom-pcg64"])
    return run.run(chosen, replace(ONCE, processes=2))


def test_run_measures_in_each_process(record):
    assert list(record.cases) == ["64K-p0.1", "64K-p0.5", "words"]
    assert set(record.rounds["64K-p0.1", "c"]) == {0, 1}
    assert record.baseline("64K-p0.1") == "copy"
    assert record.seconds("64K-p0.1", "c") > 0
    assert record.ratio("64K-p0.1", "c", "copy").n == 2
    assert not tables.own_mistakes(record)
    assert {f"c-{isa}" for isa in fastdrop.config()["isas"]} <= set(tables.equality(record)["64K-p0.1"])


def test_environment_names_what_was_measured_on_what(record):
    found = record.environment
    assert found["versions"]["numpy"] == np.__version__
    assert found["versions"]["fastdrop-kernels"] == fastdrop.__version__
    assert found["build"].split()[0] in {"gcc", "clang", "MSVC"}
    assert "-ffp-contract=off" in found["build"] or "/fp:precise" in found["build"]
    assert (found["threads"], found["isa"]) == (1, fastdrop.get_isa())


def test_record_is_the_same_after_writing_and_reading(record, tmp_path):
    record.write(tmp_path / "new" / "record.jsonl")
    again = records.Record.read(tmp_path / "new" / "record.jsonl")
    assert again.cases == record.cases
    assert again.rounds == record.rounds
    assert again.ratio("64K-p0.1", "c", "copy") == record.ratio("64K-p0.1", "c", "copy")
    assert records.newest(tmp_path / "new").name == "record.jsonl"


def test_a_record_that_cannot_be_written_leaves_the_one_before(record, tmp_path):
    path = tmp_path / "record.jsonl"
    path.write_text("before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # like a disk that is full after so many bytes
    try:
        with pytest.raises(OSError, match="too large"):
            record.write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "before"


def test_short_record_does_not_replace_a_full_one(record, tmp_path):
    record.write(tmp_path / "full.jsonl")
    short = records.Record.read(tmp_path / "full.jsonl")
    first = next(iter(short.cases.values())).entry
    others = {name for name, case in short.cases.items() if case.entry != first}
    short.lines = [line for line in short.lines if line["kind"] != "case" or line["name"] not in others]
    assert others
    short.environment["date"] = "9999-01-01T00:00:00+00:00"
    short.write(tmp_path / "short.jsonl")
    assert records.newest(tmp_path).name == "full.jsonl"
    (tmp_path / "full.jsonl").unlink()
    assert records.newest(tmp_path).name == "short.jsonl"


@pytest.mark.parametrize("text", ["", "hello\n", "[1]\n", '{"kind": "samples"}\n', '{"kind": "case", "name": "x"}\n'])
def test_file_that_is_no_record_is_refused(tmp_path, text):
    (tmp_path / "no.jsonl").write_text(text)
    with pytest.raises(ValueError, match="is not a record"):
        records.Record.read(tmp_path / "no.jsonl")


def test_folder_without_records_says_how_to_make_one(tmp_path):
    with pytest.raises(ValueError, match="fastdrop bench --record"):
        records.newest(tmp_path)


def test_process_that_dies_is_named_and_the_run_goes_on(monkeypatch, tmp_path):
    """The worker of this test kills itself when it reaches the idiom."""
    program = (
        "import os, sys\n"
        "from fastdrop.bench import contenders, worker\n"
        "from dataclasses import replace\n"
        "found, adapter = contenders.by_name()['idiom-pcg64']\n"
        "made = replace(found, does={'dropout': lambda job: os.kill(os.getpid(), 9)})\n"
        "contenders.by_name()['idiom-pcg64'] = made, adapter\n"
        "worker.work()\n"
    )
    (tmp_path / "killer.py").write_text(program)
    start = run.subprocess.Popen

    def popen(command, **options):
        return start([sys.executable, str(tmp_path / "killer.py"), *command[3:]], **options)

    monkeypatch.setattr(run.subprocess, "Popen", popen)
    chosen = run.select(False, ["256-p0.1", "4K-p0.1", "c", "idiom-pcg64"])
    found = run.run(chosen, replace(ONCE, processes=2))
    died = found.of_kind("died")
    assert {(line["contender"], line["why"]) for line in died} == {("idiom-pcg64", "ended by SIGKILL")}
    assert set(found.rounds["4K-p0.1", "c"]) == {1}  # the second process was not asked to run the idiom
    assert any("SIGKILL" in note for note in tables.notes(found))


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch")
def test_steps_of_training_run_with_each_kind_of_dropout():
    found = run.run(run.select(False, ["training"]), ONCE)
    assert not found.of_kind("skipped")
    assert not found.of_kind("refused")
    shares = tables.shares(found)
    assert {(share.case.entry, share.contender) for share in shares} == set(
        itertools.product(["perceptron", "encoder"], ["step-none", "step-torch", "step-fastdrop"])
    )
    assert all(share.share == 0 for share in shares if share.contender == "step-none")


def test_memory_of_two_passes_is_measured():
    found = memory.held(1)
    if found["bytes"] is None:
        pytest.skip("this system does not say")
    assert 0 <= found["bytes"] < 2 * 4 * memory.N  # less than another pair of arrays


@pytest.mark.parametrize("environment", ["c", "numpy"])
def test_the_memory_is_that_of_the_c_kernels_on_the_given_threads(monkeypatch, environment):
    seen, right = [], fastdrop.dropout_backward

    def watched(*arguments, **options):
        seen.append((options.get("backend", fastdrop.config()["backend"]), fastdrop.config()["num_threads"]))
        return right(*arguments, **options)

    monkeypatch.setattr(fastdrop, "dropout_backward", watched)
    monkeypatch.setattr(memory, "N", 1000)
    with fastdrop.using(backend=environment):
        memory.held(1)
    assert seen == [("c", 1)] * len(seen)
    assert len(seen) >= 1


# Tables and reports ---------------------------------------------------------------------------------------------------


def made_record(ratios, own="c", cases=(SMALL,)):
    """Return a record of two rounds in two processes, in which contenders take these multiples of the copy's time."""
    found = records.Record()
    known = {"date": "2000-01-01", "cpu": "<cpu>", "build": "gcc 1.2.3 -O3", "isa": "portable", "system": "s", "python": "3"}
    numbers = {"threads": 1, "processors": 1, "caches": {"L1": 2**15}, "memory_bytes": None, "load": [0.5]}
    more = {"isas": ["portable"], "huge_pages": None, "threading": "openmp", "versions": {"numpy": "2.0"}}
    found.add({"kind": "environment", **known, **numbers, **more})
    for case in cases:
        names = ("copy", *ratios)
        found.add({"kind": "case", **replace(case, contenders=names).fields()})
        for (name, value), process in itertools.product({"copy": (1.0, 1.0), **ratios}.items(), (0, 1)):
            low, high = value if isinstance(value, tuple) else (value, value)
            line = {"kind": "samples", "case": case.name, "contender": name, "process": process, "rounds": [0, 1]}
            found.add({**line, "seconds": [1e-3 * low, 1e-3 * high], "processors": 1.0})
    return found


def test_losses_are_where_somebody_is_surely_ahead():
    found = tables.losses(made_record({"c": 2.0, "torch": 1.5, "idiom-pcg64": (1.0, 4.0), "numba": 0.5}))
    assert [(loss.contender, round(loss.ratio.value, 3)) for loss in found] == [("copy", 2), ("torch", 1.333)]
    assert not tables.losses(made_record({"c": 0.5, "torch": 1.5}))


def test_targets_are_met_or_not_or_not_measured():
    case = next(case for entry in cases.read().entries for case in entry.cases if case.name == "64M-p0.1")
    for ratio, met in ((0.9, True), (0.91, False)):
        verdicts = tables.targets(made_record({"c": ratio}, cases=[case]))
        assert verdicts[0].met is met
        assert verdicts[1].met is None


def test_beside_a_target_that_is_not_met_stands_what_limits_it():
    known = {case.name: case for entry in cases.read().entries for case in entry.cases}
    for target in cases.read().targets:
        for _, case, contender in target.parts:
            assert contender in known[case].contenders, (target.name, case, contender)
    part = known["bits-64K-p0.1"]
    late, early = (made_record({"c": ratio}, cases=[known["64K-p0.1"], part]) for ratio in (3.0, 2.0))
    from fastdrop.bench.report import targets_section

    assert re.search(r"ports.*the bits alone 45\.8;? ", targets_section(late).replace("ns", " "))
    assert "the bits alone" not in targets_section(early)


def test_changes_show_where_the_intervals_are_apart():
    before = made_record({"c": (1.0, 1.1), "numba": (2.0, 2.2), "numpy": (5.0, 6.0)})
    now = made_record({"c": (1.2, 1.3), "numba": (1.0, 1.1), "numpy": (5.5, 7.0)})
    found = {change.contender: change.verdict for change in tables.changes(now, before)}
    assert found == {"c": "slower", "numba": "faster", "numpy": "no clear difference"}


def test_ratio_beside_its_limit_has_the_digits_that_settle_it():
    assert tables.settled(0.9021, 0.9) == "0.902"
    assert tables.settled(0.8999, 0.9) == "0.8999"
    assert tables.settled(0.9, 0.9) == "0.90"
    assert tables.settled(0.52, 0.9) == "0.52"
    assert tables.settled(29.96, 30) == "29.96"


def test_contender_is_told_apart_from_threads_that_another_one_left():
    found = made_record({"c": 1.0, "torch": 1.0})
    for line in found.of_kind("samples"):
        line["processors"] = {("torch", 0): 1.9, ("torch", 1): 2.0, ("c", 0): 1.9}.get(
            (line["contender"], line["process"]), 1.0
        )
    assert tables.overthreaded(found) == ["fastdrop, C: 1.4 processors", "PyTorch F.dropout: 1.9 processors"]
    extra = {
        "kind": "samples",
        "case": "small",
        "contender": "c",
        "process": 2,
        "rounds": [0],
        "seconds": [1.0],
        "processors": 1.0,
    }
    found.add(extra)
    assert tables.overthreaded(found) == ["PyTorch F.dropout: 1.9 processors"]


def test_processors_of_the_machine_and_of_the_benchmark():
    assert tables.processors({"processors": 1, "machine_processors": 1}) == "1 processor"
    assert tables.processors({"processors": 1, "machine_processors": 2}) == "2 processors, 1 of which the benchmark may use"
    assert tables.processors({"processors": 2}) == "2 processors"  # an older record


def test_answer_is_a_geometric_mean_of_sizes_and_the_fastest_peer():
    sizes = [replace(SMALL, name=f"{entry}-p0.1", entry=entry, shape=(1000,)) for entry in ("64K", "4M", "64M")]
    found = made_record({"c": 2.0, "idiom-pcg64": 8.0, "torch": 4.0, "multiply": 0.5}, cases=sizes)
    assert tables.answer(found) == pytest.approx({"copy": 1000, "c": 2000, "peer": 4000, "torch": 4000})
    assert tables.answer(made_record({"c": 2.0})) == {}


def test_page_stands_alone(record, tmp_path):
    pytest.importorskip("matplotlib")
    from fastdrop.bench.report import page, write_report

    write_report(record, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|img|iframe)\b|@import|url\(\s*['\"]?http", text)
    assert not re.search(r"\b(src|href)=\"(?!#)", text.replace("xlink:", ""))
    assert text.count('<svg class="wide"') == 2  # only the figures for which there are cases, for screens of both widths
    assert text.count('<svg class="narrow"') == 2
    assert text.count("<svg") == text.count('role="img" aria-label="') == 4
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(set(ids)) == len(ids)
    assert "prefers-color-scheme: dark" in text
    assert "#010203" not in text  # the stand-in for the page's colour
    for section in ("Targets", "Where fastdrop loses", "Method", "Bias of this benchmark", "Environment and versions"):
        assert f"<h2>{section}</h2>" in text  # "Side by side" needs the case of 4 M elements
    assert "&lt;cpu&gt;" in page(made_record({"c": 2.0}))
    assert "<cpu>" not in page(made_record({"c": 2.0}))


def test_roofline_counts_planes():
    pytest.importorskip("matplotlib")
    from fastdrop.bench.figures import planes

    assert planes(0.5) == 1
    assert planes(0.25) == 2
    assert planes(0.3, together=1) == pytest.approx(2)  # each plane decides half of what is left
    assert planes(0.1) == pytest.approx(13.3, abs=0.1)


def test_readme_block_is_replaced_between_its_marks():
    text = f"before\n{publish.BEGIN}\nold\n{publish.END}\nafter\n"
    made = publish.with_block(text, publish.table(made_record({"c": 0.5, "numba": 3.0}, cases=[replace(SMALL, entry="4M")])))
    assert made.startswith(f"before\n{publish.BEGIN}\n")
    assert made.endswith(f"\n{publish.END}\nafter\n")
    assert "| fastdrop, `out=` given | 15.3 (0.50) |" in made
    assert "old" not in made
    assert publish.with_block(made, "x\n") == publish.with_block(text, "x\n")
    for wrong in ("nothing", text * 2, f"{publish.END}\n{publish.BEGIN}\n"):
        with pytest.raises(ValueError, match="once each"):
            publish.with_block(wrong, "new")


@pytest.mark.skipif(not (ROOT / publish.README).is_file(), reason="no README beside the tests")
def test_readme_is_what_the_newest_record_says():
    _, pages = publish.published(ROOT)
    for path, text in pages.items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"python -m fastdrop.bench.publish writes {path} anew"


# Instruction counts ---------------------------------------------------------------------------------------------------


def test_counts_over_their_budget_are_told():
    from fastdrop.bench.instructions import compare

    budget = {"portable": {"a": 100.0, "b": 100.0, "c": 100.0, "gone": 1.0}, "avx2": {"other": 1.0}}
    wrong, told = compare({"portable": {"a": 102.9, "b": 103.1, "c": 90.0, "new": 5.0}}, budget)
    assert [line.split(":")[0] for line in wrong] == ["portable b", "portable new", "portable gone"]
    assert "3.1% over" in wrong[0]
    assert [line.split(":")[0] for line in told] == ["portable c"]


def test_budgets_are_for_a_major_version_of_a_compiler():
    from fastdrop.bench.instructions import FILE, budgets, major, written

    compiler, found = budgets(FILE)
    assert major(compiler) in {"gcc 12", "gcc 13", "gcc 14", "clang 16"}
    assert set(found) == {"portable", "avx2"}
    assert found["portable"].keys() == found["avx2"].keys()
    assert major("gcc 12.2.0") == major("gcc 12.4.1") != major("gcc 13.1.0")
    assert written("gcc 1.2.3", {"avx2": {"a": 1 / 3}}).endswith('compiler = "gcc 1.2.3"\n\n[avx2]\n"a" = 0.3333\n')


def test_another_compiler_is_skipped_and_says_so(capsys):
    from fastdrop.bench.instructions import check

    class Other:
        compiler, rows = "clang 19.1.0", [("portable", "a")]

    check(Other(), "gcc 12.2.0", {})
    assert capsys.readouterr().out == "skipped: the budgets are for gcc 12, and this compiler is clang 19.1.0\n"


@pytest.mark.skipif(not shutil.which("valgrind") or not (ROOT / "src_c").is_dir(), reason="needs valgrind and the sources")
def test_a_kernel_is_counted_the_same_twice(tmp_path):
    from fastdrop.bench.instructions import Counter

    counter = Counter(ROOT, tmp_path)
    counts = {counter.count("portable", "packed-p0.5") for _ in range(2)}
    assert len(counts) == 1
    assert 0.1 < counts.pop() < 100
    assert {isa for isa, _ in counter.rows} <= {"portable", "avx2"}
