"""The state of the process must not change the bits: floating-point settings, threads, forks."""

import importlib.util
import os
import platform
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest

import fastdrop
from fastdrop import theory
from fastdrop._core import native
from fastdrop.variants._blocks import exact_seed_rate
from fastdrop.verify.cases import (
    OPS,
    REFERENCE,
    THREADED_SIZE,
    Case,
    awkward,
    compute,
    engines,
    equal_bytes,
    laid_cases,
    spoiled,
)

CASES = [Case(op, n, 77, 0.3) for op in OPS for n in (1000, THREADED_SIZE)]
SUBNORMAL, ONE, TEN = np.array([5e-324]), np.array([1.0]), np.array([10.0])


def environment():
    """Return whether this thread keeps subnormals, and whether it rounds to nearest."""
    return (SUBNORMAL * ONE).item() > 0, (ONE / TEN).item() == 0.1  # 0.1 is rounded up


def expected():
    with REFERENCE.using():
        return [compute(case) for case in CASES]


# Floating point -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64", "aarch64", "arm64"), reason="nothing to flush with")
def test_the_environment_is_hostile_in_the_block_and_only_there():
    assert environment() == (True, True)
    with spoiled():
        assert environment() == (False, False)
    assert environment() == (True, True)


@pytest.mark.slow
def test_bits_in_a_hostile_environment(engine):
    wanted = expected()
    with spoiled():
        before = environment()
        found = [compute(case) for case in CASES]
        after = environment()
    assert all(map(equal_bytes, found, wanted))
    assert before == after  # the caller's environment is unchanged


def test_laid_masks_in_a_hostile_environment(engine):
    for case in [case for op in OPS for case in laid_cases(op) if case.n < THREADED_SIZE][::7]:
        with REFERENCE.using():
            wanted = compute(case)
        with spoiled():
            found = compute(case)
        assert equal_bytes(found, wanted), case


@pytest.mark.parametrize("p", [0.1, 1 / 3, 0.9, 2**-60, 3 * 2**-65])
def test_rates_and_scales_in_a_hostile_environment(engine, p):
    x = np.linspace(1, 2, 500)
    for mode, training in (("inverted", True), ("standard", True), ("standard", False)):
        y = fastdrop.dropout(x, p, seed=1, mode=mode, training=training)
        with spoiled():
            z = fastdrop.dropout(x, p, seed=1, mode=mode, training=training)
        assert equal_bytes(y, z)


def variants(x):
    """Return results of the variants that compute something in Python."""
    options = {"seed": 2, "offset": 3}
    return [
        *(fastdrop.alpha_dropout(np.ones(30), p, mean=0.1, var=0.7, **options) for p in (0.05, 0.3, 0.6)),
        fastdrop.feature_alpha_dropout_backward(x, 1 / 3, **options),
        fastdrop.group_dropout(x, 1 / 3, group_size=7, **options),
        fastdrop.zoneout(x, x[::-1], 0.1, **options),
        fastdrop.zoneout(x, x[::-1], 0.1, training=False),
        *fastdrop.zoneout_backward(x, 0.1, training=False, **options),
    ]


def test_variants_in_a_hostile_environment(engine):
    x = np.geomspace(1e-44, 1, 600).astype(np.float32).reshape(4, 5, 30)
    wanted = variants(x)
    with spoiled():
        found = variants(x)
    assert all(map(equal_bytes, found, wanted))


BLOCKS_AND_ATTENTION = {
    "drop_block": lambda x: fastdrop.drop_block(x, 0.3, 2, exact_rate=True, seed=1),
    "drop_block by sample": lambda x: fastdrop.drop_block(x, 0.3, 2, per="sample", seed=1),
    "drop_head": lambda x: fastdrop.drop_head(x, 0.4, seed=1),
    "columns": lambda x: fastdrop.attention_dropout(x, 0.3, unit="key", window=3, seed=1),
    "columns, backward": lambda x: fastdrop.attention_dropout_backward(x, 0.3, unit="key", x=x[::-1], seed=1),
    "drop_key": lambda x: fastdrop.drop_key(x, 0.3, fill=-1 / 3, seed=1),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", ml_dtypes.bfloat16], ids=str)
@pytest.mark.parametrize("variant", BLOCKS_AND_ATTENTION)
def test_blocks_and_attention_in_a_hostile_environment(engine, variant, dtype):
    """Counts, sums and the solved rate are computed by NumPy, outside the kernels."""
    x = (np.linspace(1, 2, 4 * 5 * 6 * 7) / 3).reshape(4, 5, 6, 7).astype(dtype)
    x[0, 0] *= x.dtype.type(ml_dtypes.finfo(dtype).tiny)  # subnormal numbers
    y = BLOCKS_AND_ATTENTION[variant](x)
    exact_seed_rate.cache_clear()
    with spoiled():
        before = environment(), np.geterr()
        z = BLOCKS_AND_ATTENTION[variant](x)
        after = environment(), np.geterr()
    assert y.tobytes() == z.tobytes()
    assert before == after  # the caller's environment is unchanged


@pytest.mark.parametrize("p", [0.1, 1 / 3, 0.9])
def test_rates_of_blocks_in_a_hostile_environment(p):
    for exact_rate in (False, True):
        gamma = theory.drop_block_gamma(p, (14, 9), (5, 3), exact_rate=exact_rate)
        exact_seed_rate.cache_clear()
        with spoiled():
            assert theory.drop_block_gamma(p, (14, 9), (5, 3), exact_rate=exact_rate) == gamma


AROUND_THE_POOL = """
    import sys
    import fastdrop
    from fastdrop._core import native
    from fastdrop.verify.cases import REFERENCE, THREADED_SIZE, Case, compute, equal_bytes, os_threads, threads_on_small_arrays

    small_arrays = threads_on_small_arrays()
    small_arrays.__enter__()
    cases = [Case("dropout-float32", THREADED_SIZE), Case("dropout-float64", THREADED_SIZE)]
    with REFERENCE.using():
        wanted = [compute(case) for case in cases]
    found, started = [], []
    def run():
        before = os_threads()
        with fastdrop.using(num_threads=3):
            found.append([compute(case) for case in cases])
        started.append(os_threads() - before)
    def run_spoiled():
        before = native.float_spoil()
        run()
        native.float_end(before)
    def run_with_torch():
        import torch
        assert torch.set_flush_denormal(True)
        run()
        torch.set_flush_denormal(False)
    {calls}
    assert started[0] == (2 if sys.platform == "linux" else 0), started  # the first call makes the pool
    for results in found:
        assert all(map(equal_bytes, results, wanted))
    print("equal", len(found))
"""


@pytest.mark.parametrize("calls", ["run_spoiled(); run(); run_spoiled()", "run(); run_spoiled(); run()"])
def test_hostile_before_and_after_the_threads_exist(run_python, calls):
    """The threads of a pool begin with the settings of the thread that creates them, and keep them."""
    done = run_python(AROUND_THE_POOL.format(calls=calls))
    assert done.stdout == "equal 3\n", done.stderr


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
@pytest.mark.parametrize("calls", ["run(); run_with_torch(); run()", "run_with_torch(); run(); run_with_torch()"])
def test_pytorch_flushes_subnormals(run_python, calls):
    done = run_python(AROUND_THE_POOL.format(calls=calls))
    assert done.stdout == "equal 3\n", done.stderr


def test_numpys_error_settings_are_not_asked(engine):
    x = awkward(500, "float32")
    y = fastdrop.dropout(x, 0.3, seed=1)
    with np.errstate(all="raise"):
        assert equal_bytes(fastdrop.dropout(x, 0.3, seed=1), y)


# Python's threads ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_many_threads_at_once():
    wanted = expected()
    usable = [engine for engine in (REFERENCE, *engines()) if engine.missing() is None]

    def work(k):
        engine = usable[k % len(usable)]
        with engine.using():
            return all(equal_bytes(compute(case), result) for case, result in zip(CASES, wanted, strict=True))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(40)))


@pytest.mark.slow
def test_64_threads_on_one_array_while_the_settings_change(run_python):
    done = run_python(
        """
        import itertools, threading
        from concurrent.futures import ThreadPoolExecutor
        import numpy as np, fastdrop
        x = np.ones(2**18, np.float32)
        wanted = fastdrop.dropout(x, 0.3, seed=7, num_threads=1).tobytes()
        isas = fastdrop.config()["isas"]
        end, ready = threading.Event(), threading.Barrier(64)
        def change():
            for k in itertools.count():
                fastdrop.set_isa(isas[k % len(isas)])
                fastdrop.set_num_threads(1 + k % 5)
                fastdrop.set_backend("numpy" if k % 7 == 0 else "c")
                if end.is_set():
                    break
        def use(_):
            ready.wait(60)
            return [fastdrop.dropout(x, 0.3, seed=7).tobytes() == wanted for _ in range(4)]
        thread = threading.Thread(target=change)
        thread.start()
        with ThreadPoolExecutor(64) as pool:
            found = sum(pool.map(use, range(64)), [])
        end.set()
        thread.join()
        print(len(found), all(found))
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "256 True\n", "")


def test_other_threads_run_during_a_call():
    """Timed switching is off, so this thread can run during the other's call only if that call released the GIL."""
    x = np.ones(2**24, np.float32)
    interval = sys.getswitchinterval()

    def seen_in_the_middle():
        begun, ended = threading.Event(), threading.Event()

        def call():
            begun.set()
            fastdrop.dropout(x, 0.1, seed=1, out=x, num_threads=1)
            ended.set()

        thread = threading.Thread(target=call)
        thread.start()
        begun.wait(60)
        middle = not ended.is_set()
        thread.join()
        return middle

    sys.setswitchinterval(1000)
    try:
        assert any(seen_in_the_middle() for _ in range(20))
    finally:
        sys.setswitchinterval(interval)


# Forks --------------------------------------------------------------------------------------------------------------

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


# `compute_all` computes on three threads; `started_threads` says how many threads that started.
FORKING = """
    import multiprocessing, os, signal, sys
    import fastdrop
    from fastdrop.verify.cases import THREADED_SIZE, Case, compute, equal_bytes, os_threads, threads_on_small_arrays

    small_arrays = threads_on_small_arrays()
    small_arrays.__enter__()
    CASES = [Case(op, THREADED_SIZE) for op in ("dropout-float32", "packed-mask", "words", "uniform-float64")]

    def compute_all(num_threads=3):
        with fastdrop.using(num_threads=num_threads):
            return [compute(case) for case in CASES]

    def started_threads(work):
        before = os_threads()
        work()
        return os_threads() - before

    def child_of(fork):
        child = fork()
        if not child:
            signal.alarm(30)  # a child that waits for OpenMP's threads, which do not survive a fork, is ended
            os._exit(0 if all(map(equal_bytes, compute_all(), wanted)) else 1)
        return os.waitpid(child, 0)[1]

    wanted = compute_all(1)
"""
LINUX = sys.platform == "linux"


@pytest.mark.slow
@needs_fork
@pytest.mark.parametrize("before", ["parallel region", "nothing"])
@pytest.mark.parametrize("fork", ["os.fork", "ctypes.PyDLL(None).fork"])
def test_fork(run_python, before, fork):
    """The second fork is one in C, of which Python knows nothing."""
    done = run_python(
        textwrap.dedent(FORKING)
        + textwrap.dedent(
            f"""
            import ctypes
            if {before == "parallel region"}:
                print("started:", started_threads(compute_all))
            print("child:", child_of({fork}))
            print("parent:", all(map(equal_bytes, compute_all(), wanted)), started_threads(compute_all))
            """
        )
    )
    started = f"started: {2 if LINUX else 0}\n" if before == "parallel region" else ""
    assert done.stdout == f"{started}child: 0\nparent: True 0\n", done.stderr


@needs_fork
def test_multiprocessing_by_fork(run_python):
    done = run_python(
        textwrap.dedent(FORKING)
        + textwrap.dedent(
            """
            def work(k):
                return compute_all()
            print("started:", started_threads(compute_all))
            with multiprocessing.get_context("fork").Pool(2) as pool:
                results = pool.map_async(work, range(4)).get(timeout=60)
            print([all(map(equal_bytes, result, wanted)) for result in results])
            """
        )
    )
    assert done.stdout == f"started: {2 if LINUX else 0}\n[True, True, True, True]\n", done.stderr


@pytest.mark.slow
@needs_fork
def test_fork_while_other_threads_compute(run_python):
    done = run_python(
        textwrap.dedent(FORKING)
        + textwrap.dedent(
            """
            import threading
            end = threading.Event()
            def work():
                while not end.is_set():
                    compute_all()
            threads = [threading.Thread(target=work) for _ in range(2)]
            for thread in threads:
                thread.start()
            print([child_of(os.fork) for _ in range(5)])
            end.set()
            for thread in threads:
                thread.join()
            print(all(map(equal_bytes, compute_all(), wanted)))
            """
        )
    )
    assert done.stdout == "[0, 0, 0, 0, 0]\nTrue\n", done.stderr


@needs_fork
@pytest.mark.skipif(not LINUX, reason="only Linux lists a process's threads")
def test_threads_of_a_child(run_python):
    """OpenMP's threads do not survive a fork, so a child uses one. The own pool starts again, also in the child of a child."""
    done = run_python(
        textwrap.dedent(FORKING)
        + textwrap.dedent(
            """
            def child_threads(generation):
                child = os.fork()
                if not child:
                    signal.alarm(30)
                    started = started_threads(compute_all)
                    print(generation, started, all(map(equal_bytes, compute_all(), wanted)), flush=True)
                    if generation == 1:
                        child_threads(2)
                    os._exit(0)
                os.waitpid(child, 0)
            compute_all()
            child_threads(1)
            """
        )
    )
    started = 0 if native.threading() == "openmp" else 2
    assert done.stdout == f"1 {started} True\n2 {started} True\n", done.stderr


@pytest.mark.skipif(not LINUX, reason="only Linux lists a process's threads")
def test_python_threads_at_once(run_python):
    """Each thread that calls has a pool with OpenMP. The callers share the own pool, which is as large as one call needs."""
    done = run_python(
        textwrap.dedent(FORKING)
        + textwrap.dedent(
            """
            import threading
            computed, counted, right = threading.Barrier(4), threading.Barrier(4), []
            def work():
                for _ in range(20):
                    right.append(all(map(equal_bytes, compute_all(), wanted)))
                computed.wait(60)
                counted.wait(60)
            before = os_threads()
            threads = [threading.Thread(target=work) for _ in range(3)]
            for thread in threads:
                thread.start()
            computed.wait(60)
            print(os_threads() - before - len(threads))
            counted.wait(60)
            for thread in threads:
                thread.join()
            print(len(right), all(right))
            """
        )
    )
    assert done.stdout == f"{6 if native.threading() == 'openmp' else 2}\n60 True\n", done.stderr


@pytest.mark.skipif(not LINUX or native.threading() == "openmp", reason="OpenMP's threads take signals")
def test_signals_go_to_pythons_threads(run_python):
    done = run_python(
        textwrap.dedent(FORKING)
        + textwrap.dedent(
            """
            from pathlib import Path
            def blocks(thread):
                lines = Path(f"/proc/self/task/{thread}/status").read_text().splitlines()
                mask = int(next(line.split()[1] for line in lines if line.startswith("SigBlk")), 16)
                return [bool(mask >> number - 1 & 1) for number in (signal.SIGINT, signal.SIGTERM)]
            before = set(os.listdir("/proc/self/task"))
            compute_all()
            print([blocks(thread) for thread in set(os.listdir("/proc/self/task")) - before], blocks(os.getpid()))
            """
        )
    )
    assert done.stdout == f"{[[True] * 2] * 2} {[False] * 2}\n", done.stderr


DATA_LOADER = """
class Rows:
    def __len__(self):
        return 4
    def __getitem__(self, k):
        return compute_all()[0]
from torch.utils.data import DataLoader
results = list(DataLoader(Rows(), batch_size=None, collate_fn=lambda row: row, num_workers=2, multiprocessing_context="fork"))
"""
JOBLIB = """
import joblib
results = joblib.Parallel(n_jobs=2)(joblib.delayed(compute)(CASES[0]) for _ in range(4))
"""


@pytest.mark.slow
@needs_fork
@pytest.mark.parametrize(("package", "program"), [("torch", DATA_LOADER), ("joblib", JOBLIB)])
def test_the_processes_of_other_libraries(run_python, package, program):
    """PyTorch forks them after a parallel region; joblib starts new ones."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    check = "print([equal_bytes(result, wanted[0]) for result in results])"
    done = run_python(f"{textwrap.dedent(FORKING)}\ncompute_all()\n{program}\n{check}")
    assert done.stdout == "[True, True, True, True]\n", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_seeds_and_layers_go_to_new_processes(run_python, method):
    """A copy draws what the original would have drawn next, and the original does not advance."""
    done = run_python(
        f"""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        import numpy as np, fastdrop
        x, key = np.ones(5000, np.float32), fastdrop.Key(3, 7)
        stream, layer = fastdrop.Stream(*key), fastdrop.nn.Dropout(0.3, seed=fastdrop.Stream(*key))
        with ProcessPoolExecutor(1, multiprocessing.get_context("{method}")) as pool:
            calls = [pool.submit(fastdrop.dropout, x, 0.3, seed=seed) for seed in (key, stream)] + [pool.submit(layer, x)]
            found = [call.result(60).tobytes() for call in calls]
        wanted = fastdrop.dropout(x, 0.3, seed=key).tobytes()
        print([each == wanted for each in found], stream, layer(x).tobytes() == wanted)
        """
    )
    assert done.stdout == "[True, True, True] Stream(seed=3, offset=7) True\n", done.stderr


# Other interpreters in the process ------------------------------------------------------------------------------------

USE = """
import warnings
warnings.simplefilter("ignore")  # NumPy warns of other interpreters than the main one
try:
    import numpy as np, fastdrop
except ImportError as error:
    print("refused:", len(str(error)) > 20, flush=True)
else:
    print(fastdrop.dropout(np.arange(1, 5, dtype=np.float32), 0.5, seed=42), flush=True)
"""


@pytest.mark.parametrize("first", ["main", "other"])
def test_two_interpreters(run_python, first):
    """fastdrop works in the interpreter that imports it first; in the other, the import is refused by a sentence."""
    done = run_python(
        f"""
        import sys
        if sys.version_info < (3, 13):
            import _xxsubinterpreters as interpreters
            other = interpreters.create(**({{}} if sys.version_info < (3, 12) else {{"isolated": False}}))
        else:
            import _interpreters as interpreters
            other = interpreters.create("legacy")
        for who in ("main", "other", "main") if "{first}" == "main" else ("other", "main"):
            if who == "main":
                exec({USE!r}, {{}})
            else:
                interpreters.run_string(other, {USE!r})
        interpreters.destroy(other)
        """
    )
    mask = "[2. 0. 0. 0.]\n"
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{mask}refused: True\n" + (mask if first == "main" else ""), done.stderr


# The end of the process -----------------------------------------------------------------------------------------------


def test_calls_at_the_end_of_the_process(run_python):
    """A function that was registered before fastdrop was loaded runs after all of fastdrop's own."""
    done = run_python(
        """
        import atexit, os
        atexit.register(lambda: print("exit", call().tobytes() == wanted, flush=True))
        import numpy as np, fastdrop
        def call(drop=fastdrop.dropout, x=np.ones(2**19, np.float32), num_threads=2):
            return drop(x, 0.3, seed=7, num_threads=num_threads)
        class Last:
            def __del__(self, call=call, wanted=call(num_threads=1).tobytes(), write=os.write):
                write(1, b"del True" if call().tobytes() == wanted else b"del False")
        wanted = call(num_threads=1).tobytes()
        last = Last()
        last.itself = last
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "exit True\ndel True", "")


def test_exit_while_other_threads_compute(run_python):
    done = run_python(
        """
        import threading
        import numpy as np, fastdrop
        begun = threading.Semaphore(0)
        def work():
            x = np.ones(2**20, np.float32)
            while True:
                fastdrop.dropout(x, 0.1, seed=1, out=x, num_threads=2)
                begun.release()
        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        for _ in range(10):
            begun.acquire()
        print("end")
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
