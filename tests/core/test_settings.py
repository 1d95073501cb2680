"""Settings of backend, instruction set and number of threads, by call, context, process and environment."""

import asyncio
import contextvars
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

import fastdrop
from fastdrop._core import machine, native, settings
from fastdrop._core.backends import reference
from fastdrop.verify.cases import THREADED_SIZE, awkward, equal_bytes

ISAS = fastdrop.config()["isas"]


def in_force():
    return fastdrop.get_backend(), fastdrop.get_isa(), fastdrop.get_num_threads()


@pytest.fixture
def calls_of_the_reference(monkeypatch):
    """Count the calls of the NumPy backend."""
    calls = []
    keep_bits = reference.keep_bits

    def counted(*arguments):
        calls.append(arguments)
        keep_bits(*arguments)

    monkeypatch.setattr(reference, "keep_bits", counted)
    return calls


# Precedence ---------------------------------------------------------------------------------------------------------


def test_settings_are_what_runs(calls_of_the_reference):
    def runs():
        before = len(calls_of_the_reference)
        fastdrop.dropout_mask(8, seed=1)
        return len(calls_of_the_reference) > before

    assert not runs()
    fastdrop.set_backend("numpy")
    assert runs()
    with fastdrop.using(backend="c"):
        assert not runs()
        fastdrop.dropout_mask(8, seed=1, backend="numpy")
        assert len(calls_of_the_reference) == 2
        with fastdrop.using(isa="portable"):
            assert not runs()
            with fastdrop.using(backend="numpy"):
                assert runs()
    assert runs()


def test_a_block_leaves_open_what_it_does_not_name():
    fastdrop.set_num_threads(1)
    fastdrop.set_isa("portable")
    with fastdrop.using(backend="numpy"):
        assert in_force() == ("numpy", "portable", 1)
        fastdrop.set_num_threads(2)
        assert in_force() == ("numpy", "portable", 2)
        with fastdrop.using(num_threads=3):
            assert in_force() == ("numpy", "portable", 3)
            with fastdrop.using(backend="c", isa=ISAS[-1]):
                assert in_force() == ("c", ISAS[-1], 3)
        assert in_force() == ("numpy", "portable", 2)
    assert in_force() == ("c", "portable", 2)


def test_a_block_ends_when_it_raises():
    before = in_force()
    with pytest.raises(KeyError), fastdrop.using(backend="numpy"):
        raise KeyError
    assert in_force() == before


def block_of(backend):
    """Return a generator that has a block open while it is suspended."""
    with fastdrop.using(backend=backend):
        yield fastdrop.get_backend()


def test_blocks_may_end_in_any_order():
    """As those of two generators do, of which the one that began first ends first."""
    before = in_force()
    first, second = block_of("numpy"), block_of("c")
    assert (next(first), next(second)) == ("numpy", "c")
    first.close()
    assert fastdrop.get_backend() == "c"
    second.close()
    assert in_force() == before
    first, second = block_of("numpy"), block_of("c")
    next(first), next(second)
    second.close()
    assert fastdrop.get_backend() == "numpy"
    first.close()
    assert in_force() == before


def test_a_block_may_end_in_another_context():
    """As that of a generator does, which another task or thread closes."""
    suspended = block_of("numpy")
    contextvars.copy_context().run(next, suspended)
    suspended.close()
    assert fastdrop.get_backend() == "c"


def test_nothing_is_no_setting():
    before = in_force()
    with pytest.raises(ValueError, match=r"unknown backend None: the backends are"):
        fastdrop.set_backend(None)
    with pytest.raises(ValueError, match=r"unknown instruction set None"):
        fastdrop.set_isa(None)
    with pytest.raises(TypeError, match=r"num_threads must be an integer >= 1; got None"):
        fastdrop.set_num_threads(None)
    with pytest.raises(TypeError, match=r"num_threads must be an integer >= 1; got True \(bool\)"):
        fastdrop.set_num_threads(True)
    assert in_force() == before


def test_config_shows_what_is_in_force():
    with fastdrop.using(backend="numpy", isa="portable", num_threads=1):
        shown = fastdrop.config()
    assert {"backend": "numpy", "isa": "portable", "num_threads": 1, "stream": 1}.items() <= shown.items()
    assert shown["version"] == fastdrop.__version__
    assert shown["numpy"] == np.__version__
    assert {"c", "numpy"} <= set(shown["backends"])
    assert set(shown["isas"]) <= set(shown["isas_built"])
    assert shown["threading"] == native.threading()
    assert shown["cache_bytes"] > 0


def test_show_config_prints_all_of_it(capsys):
    fastdrop.show_config()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(fastdrop.config())


# Threads and tasks have their own -----------------------------------------------------------------------------------


def test_a_block_is_its_threads_own():
    seen = []
    inside, looked = threading.Event(), threading.Event()

    def other():
        with fastdrop.using(backend="numpy"):
            inside.set()
            assert looked.wait(60)
            seen.append(fastdrop.get_backend())

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(60)
    seen.append(fastdrop.get_backend())
    looked.set()
    thread.join()
    assert seen == ["c", "numpy"]


def test_a_block_is_its_tasks_own():
    async def task(backend):
        seen = []
        with fastdrop.using(backend=backend):
            for _ in range(3):
                await asyncio.sleep(0)  # the other task runs
                seen.append(fastdrop.get_backend())
        return seen

    async def both():
        return await asyncio.gather(task("numpy"), task("c"))

    assert asyncio.run(both()) == [["numpy"] * 3, ["c"] * 3]
    assert fastdrop.get_backend() == "c"


def test_the_process_setting_is_everybodys():
    fastdrop.set_backend("numpy")
    seen = []
    thread = threading.Thread(target=lambda: seen.append(fastdrop.get_backend()))
    thread.start()
    thread.join()
    assert seen == ["numpy"]


# Threads of a call --------------------------------------------------------------------------------------------------


def test_any_number_of_threads_is_harmless():
    x = awkward(THREADED_SIZE, "float32")
    alone = fastdrop.dropout(x, 0.3, seed=1, num_threads=1)
    for number in (2, 3, 7, 10**6, 10**30):
        assert equal_bytes(fastdrop.dropout(x, 0.3, seed=1, num_threads=number), alone)
    fastdrop.set_num_threads(10**6)
    assert equal_bytes(fastdrop.dropout(x, 0.3, seed=1), alone)


@pytest.mark.parametrize(
    ("line", "processors"),
    [("max 100000", float("inf")), ("150000 100000", 1.5), ("400000 100000", 4.0), ("30000 20000", 1.5), ("50000", 0.5)],
)
def test_quota_of_a_control_group(line, processors):
    assert machine.quota(line) == processors


@pytest.mark.parametrize(("quota", "threads"), [(0.5, 1), (1.9, 1), (2.0, 2), (float("inf"), 8)])
def test_automatic_threads_stay_within_the_quota(monkeypatch, quota, threads):
    monkeypatch.setattr(machine, "cgroup_quota", lambda: quota)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert machine.automatic_num_threads() == threads


@pytest.fixture
def control_groups(monkeypatch, tmp_path):
    """Make this process a member of /a/b, in control groups with these lines of cpu.max."""

    def make(own_line="0::/a/b", **limits):
        for name, folder in {"root": "groups", "a": "groups/a", "b": "groups/a/b", "beside": "groups/c"}.items():
            (tmp_path / folder).mkdir(exist_ok=True)
            if name in limits:
                (tmp_path / folder / "cpu.max").write_text(f"{limits[name]}\n")
        (tmp_path / "cpu.max").write_text("10000 100000\n")  # above the root of the groups, so none of them
        (tmp_path / "own").write_text(f"1:name=systemd:/x\n{own_line}\n")
        monkeypatch.setattr(machine, "CONTROL_GROUPS", tmp_path / "groups")
        monkeypatch.setattr(machine, "OWN_CONTROL_GROUP", tmp_path / "own")

    return make


@pytest.mark.parametrize(
    ("limits", "processors"),
    [
        ({"a": "150000 100000", "b": "400000 100000"}, 1.5),  # the least of them, wherever it is
        ({"a": "400000 100000", "b": "150000 100000"}, 1.5),
        ({"root": "100000 100000", "a": "max 100000", "b": "300000 100000"}, 1.0),
        ({"a": "max 100000", "b": "max 100000"}, float("inf")),
        ({"a": "200000 100000", "beside": "50000 100000"}, 2.0),
        ({"b": "many"}, float("inf")),
        ({}, float("inf")),
    ],
)
def test_the_least_quota_of_all_control_groups_counts(control_groups, limits, processors):
    control_groups(**limits)
    assert machine.cgroup_quota() == processors


def test_no_control_group_of_version_2_is_no_quota(control_groups, tmp_path):
    control_groups(own_line="2:cpu:/a/b", b="100000 100000")
    assert machine.cgroup_quota() == float("inf")
    (tmp_path / "own").write_bytes(b"0::/a\xff\n")  # a name that is no text
    assert machine.cgroup_quota() == float("inf")
    (tmp_path / "own").unlink()
    assert machine.cgroup_quota() == float("inf")


@pytest.mark.parametrize(
    ("limits", "free"),
    [
        ({}, 8192),
        ({"groups/a/b": ("5000", "1000")}, 4000),
        ({"groups/a": ("3000", "1000"), "groups/a/b": ("5000", "1000")}, 2000),  # the least of them, wherever it is
        ({"groups/a": ("max", "1000"), "groups/a/b": ("100000", "1000")}, 8192),
        ({"groups/a/b": ("1000", "1001")}, 0),
        ({"groups/c": ("3000", "1000")}, 8192),  # another process's group
        ({"groups/a/b": ("5000", "4900", "active_file 7\ninactive_file 4000\n")}, 4100),  # files in memory can be dropped
    ],
)
def test_free_memory_is_that_of_the_system_and_of_all_control_groups(control_groups, monkeypatch, tmp_path, limits, free):
    control_groups()
    (tmp_path / "meminfo").write_text("MemTotal:    100 kB\nMemAvailable:    8 kB\n")
    monkeypatch.setattr(machine, "MEMORY", tmp_path / "meminfo")
    for group, texts in limits.items():
        for name, text in zip(("memory.max", "memory.current", "memory.stat"), texts, strict=False):
            (tmp_path / group / name).write_text(f"{text}\n")
    assert machine.free_memory() == free


def test_free_memory_that_nothing_says_is_infinite(control_groups, monkeypatch, tmp_path):
    control_groups()
    monkeypatch.setattr(machine, "MEMORY", tmp_path / "absent")
    assert machine.free_memory() == float("inf")


def test_the_largest_cache_counts(monkeypatch, tmp_path):
    for name, size in {"index0": "32K", "index2": "1024K", "index1": "nonsense"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "size").write_text(f"{size}\n")
    monkeypatch.setattr(machine, "CPU_CACHES", tmp_path)
    assert machine.last_level_cache() == 2**20
    monkeypatch.setattr(machine, "CPU_CACHES", tmp_path / "absent")
    assert machine.last_level_cache() == machine.DEFAULT_CACHE


# Environment --------------------------------------------------------------------------------------------------------

SHOW = "import json, fastdrop; print(json.dumps(fastdrop.config()))"


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({}, {"backend": "c", "isa": ISAS[-1]}),
        ({"FASTDROP_BACKEND": "numpy", "FASTDROP_NUM_THREADS": "3"}, {"backend": "numpy", "num_threads": 3}),
        ({"FASTDROP_BACKEND": "", "FASTDROP_ISA": "", "FASTDROP_NUM_THREADS": ""}, {"backend": "c", "isa": ISAS[-1]}),
        *(({"FASTDROP_ISA": isa}, {"isa": isa}) for isa in ISAS),
    ],
)
def test_environment(run_python, environment, shown):
    done = run_python(SHOW, **environment)
    assert done.returncode == 0, done.stderr
    assert shown.items() <= json.loads(done.stdout).items()


WRONG = [
    ("FASTDROP_BACKEND", "cuda", "unknown backend 'cuda': the backends are 'c', 'numba', 'numpy'"),
    ("FASTDROP_ISA", "sse9", f"unknown instruction set 'sse9': this build has {', '.join(map(repr, ISAS))}"),
    ("FASTDROP_NUM_THREADS", "0", "num_threads must be an integer >= 1; got 0"),
    ("FASTDROP_NUM_THREADS", "-2", "num_threads must be an integer >= 1; got -2"),
    ("FASTDROP_NUM_THREADS", "many", "num_threads must be an integer >= 1; got 'many'"),
    ("FASTDROP_NUM_THREADS", "1.5", "num_threads must be an integer >= 1; got '1.5'"),
]
OF_VARIABLE = {"FASTDROP_BACKEND": "backend", "FASTDROP_ISA": "isa", "FASTDROP_NUM_THREADS": "num_threads"}


@pytest.mark.parametrize(("variable", "value", "message"), WRONG)
def test_a_wrong_environment_leaves_its_setting_open(monkeypatch, variable, value, message):
    monkeypatch.setenv(variable, value)
    found, errors = settings.from_environment()
    name = OF_VARIABLE[variable]
    assert not getattr(found, name)
    assert all(getattr(found, other) for other in OF_VARIABLE.values() if other != name)
    assert isinstance(errors.pop(name), ValueError)
    assert not errors


USE = """
import fastdrop
def said(act):
    try:
        act()
    except ValueError as error:
        print(error)
    else:
        print("done")
use = lambda: fastdrop.dropout_mask(3, seed=1)
said(use); said(use); said(fastdrop.get_backend); said(fastdrop.show_config); said(lambda: fastdrop.Stream(1).fold_in("a"))
"""


@pytest.mark.parametrize(("variable", "value", "message"), WRONG)
def test_a_wrong_environment_is_a_warning_and_then_an_error_in_each_use(run_python, variable, value, message):
    done = run_python(USE, **{variable: value})
    assert done.returncode == 0, done.stderr
    sentence = f"environment variable {variable}: {message}"
    assert [line.startswith(sentence) for line in done.stdout.splitlines()] == [True] * 5, done.stdout
    assert f"RuntimeWarning: {sentence}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_program_that_chooses_for_itself_needs_no_environment(run_python):
    done = run_python(
        """
        import fastdrop
        print(fastdrop.dropout_mask(3, seed=1, backend="numpy").size)  # this call, then a block, then the process
        with fastdrop.using(backend="numpy"):
            print(fastdrop.get_backend())
        try:
            fastdrop.get_backend()
        except ValueError:
            print("still wrong")
        fastdrop.set_backend("c")
        print(fastdrop.get_backend())
        """,
        FASTDROP_BACKEND="cuda",
    )
    assert done.stdout.split("\n") == ["3", "numpy", "still wrong", "c", ""], done.stderr


BROKEN_NUMBA = """
import fastdrop
def said(act):
    try:
        act()
    except ImportError as error:
        print(error)
said(lambda: fastdrop.dropout_mask(3, seed=1)); said(fastdrop.get_backend); said(lambda: fastdrop.set_backend("numba"))
with fastdrop.using(backend="c"):
    print(fastdrop.get_backend())
"""


@pytest.mark.parametrize("kind", ["ImportError", "AttributeError"])
def test_a_backend_that_cannot_be_loaded_is_no_error_at_import(run_python, tmp_path, kind):
    """As an installed Numba that does not fit the installed NumPy."""
    (tmp_path / "numba.py").write_text(f"raise {kind}('it needs another NumPy')\n")
    done = run_python(BROKEN_NUMBA, FASTDROP_BACKEND="numba")
    why = f"backend 'numba' cannot be loaded: {kind}: it needs another NumPy"
    sentence = f"environment variable FASTDROP_BACKEND: {why}"
    assert done.stdout.splitlines() == [sentence, sentence, why, "c"], done.stderr
    assert f"RuntimeWarning: {sentence}" in done.stderr
    assert "Traceback" not in done.stderr


# Unavailable settings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sse9", "", "C", ["c"], 512])
def test_unknown_names(name):
    before = in_force()
    with pytest.raises(ValueError, match=r"unknown backend .*'c', 'numba', 'numpy'"):
        fastdrop.set_backend(name)
    with pytest.raises(ValueError, match=r"unknown instruction set .*this build has 'portable'"):
        fastdrop.set_isa(name)
    assert in_force() == before


@pytest.fixture
def lesser_machine(monkeypatch):
    """A machine that runs only the weakest of the two instruction sets in the build."""
    monkeypatch.setattr(native, "isas", lambda: {"portable": True, "avx1024": False})


@pytest.mark.usefixtures("lesser_machine")
def test_an_instruction_set_that_the_machine_lacks(monkeypatch):
    message = "this machine cannot run 'avx1024'; of this build's instruction sets it runs 'portable'"
    before = in_force()
    with pytest.raises(RuntimeError, match=message):
        fastdrop.set_isa("avx1024")
    with pytest.raises(RuntimeError, match=message), fastdrop.using(isa="avx1024"):
        pass
    monkeypatch.setenv("FASTDROP_ISA", "avx1024")
    error = settings.from_environment()[1]["isa"]
    assert isinstance(error, RuntimeError)
    assert str(error) == f"environment variable FASTDROP_ISA: {message}"
    assert in_force() == before


@pytest.mark.usefixtures("lesser_machine")
def test_the_best_that_the_machine_runs_is_the_default(monkeypatch):
    monkeypatch.delenv("FASTDROP_ISA", raising=False)
    assert settings.from_environment()[0].isa == "portable"


def test_a_backend_whose_package_is_missing(monkeypatch):
    monkeypatch.setitem(settings.BACKENDS, "numba", ("fastdrop._core.backends.numba", "no_such_package"))
    message = r'backend \'numba\' needs no_such_package: pip install "fastdrop-kernels\[no_such_package\]"'
    for refused in (lambda: fastdrop.set_backend("numba"), lambda: fastdrop.dropout(np.ones(3), backend="numba")):
        with pytest.raises(ImportError, match=message):
            refused()
    assert fastdrop.config()["backends"] == ["c", "numpy"]


def test_the_source_in_the_way_of_what_is_installed(run_python, tmp_path):
    """Python searches the current folder first, and in a checkout it finds the package without its compiled modules."""
    folder, package = tmp_path / "fastdrop", Path(fastdrop.__file__).parent
    for source in package.rglob("*.py"):
        copy = folder / source.relative_to(package)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)
    done = run_python("import fastdrop")
    assert done.returncode == 1
    assert f"ImportError: {folder} is fastdrop's source, without the modules that the installation compiles" in done.stderr
