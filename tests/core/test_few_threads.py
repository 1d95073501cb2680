"""A process that may not start threads computes with those that it has. OpenMP would end it; a pool must not wait for more."""

import os
import sys

import pytest

from fastdrop._core import native

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")
alone = pytest.mark.skipif(os.getuid() != 0, reason="the limit counts the user's other processes; only root may become another")

# `limit` sets a limit after a call on one thread. The program says how many threads the calls on three threads start.
PROGRAM = """
    import os, resource, sys, threading
    import numpy as np
    import fastdrop
    from fastdrop.verify.cases import THREADED_SIZE, Case, compute, equal_bytes, os_threads, threads_on_small_arrays

    small_arrays = threads_on_small_arrays()
    small_arrays.__enter__()
    case = Case("dropout-float32", THREADED_SIZE)
    with fastdrop.using(num_threads=1):
        wanted = compute(case)
    if os.getuid() == 0:
        os.setresuid(*[2**20 + os.getpid()] * 3)  # a user without other processes; the limit does not bind root
    before = os_threads()
    {limit}
    for _ in range(20):
        with fastdrop.using(num_threads=3):
            assert equal_bytes(compute(case), wanted)
    print(os_threads() - before)
"""


@alone
@pytest.mark.parametrize(("more", "started"), [(0, 0), (1, 1), (2, 2), (5, 2)])
def test_limit_of_threads(run_python, more, started):
    limit = f"resource.setrlimit(resource.RLIMIT_NPROC, (before + {more},) * 2)"
    done = run_python(PROGRAM.format(limit=limit))
    assert (done.returncode, done.stdout) == (0, f"{started}\n"), done.stderr


def test_no_memory_for_stacks(run_python):
    limit = "resource.setrlimit(resource.RLIMIT_AS, (int(open('/proc/self/statm').read().split()[0]) * 4096 + 2**22,) * 2)"
    done = run_python(PROGRAM.format(limit=limit))
    started = ["0\n"] if native.threading() == "openmp" else ["0\n", "1\n", "2\n"]  # the own pool's stacks are small
    assert done.returncode == 0, done.stderr
    assert done.stdout in started


@alone
def test_pools_that_grow_and_shrink(run_python):
    """OpenMP ends the threads that a smaller call leaves out. So a larger call starts them again. The own pool keeps them."""
    limit = """resource.setrlimit(resource.RLIMIT_NPROC, (before + 2,) * 2)
    for count in (3, 2, 3, 1, 2, 3, 2):
        with fastdrop.using(num_threads=count):
            assert equal_bytes(compute(case), wanted)
    resource.setrlimit(resource.RLIMIT_NPROC, (before + 1,) * 2)"""
    done = run_python(PROGRAM.format(limit=limit))
    assert (done.returncode, done.stdout) == (0, f"{1 if native.threading() == 'openmp' else 2}\n"), done.stderr
