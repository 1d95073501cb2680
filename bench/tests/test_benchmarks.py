"""Run the benchmark's cases under pytest-benchmark, for its statistics and comparisons: ``pytest bench --benchmark-only``.

Each result is checked before it is timed, as in ``fastdrop bench``. In the test suite only fastdrop, NumPy and Numba take part,
on small arrays. Timed arrays have up to 4 M elements.
"""

import pytest

from fastdrop.bench.cases import read
from fastdrop.bench.checks import check, equal_results
from fastdrop.bench.contender import Absent
from fastdrop.bench.contenders import by_name, own
from fastdrop.bench.data import job_of

pytest.importorskip("sklearn")
pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of the other libraries

TIMED, IN_THE_SUITE = 2**22, 2**16  # maximum number of elements
QUICK_MODULES = {None, "numba"}


def pytest_generate_tests(metafunc):
    """Pair each case with each contender that can do it."""
    timed = metafunc.config.option.benchmark_only
    cases = [case for entry in read().entries for case in entry.cases]
    metafunc.parametrize(
        ("case", "name"),
        [
            pytest.param(case, name, id=f"{case.name}-{name}")
            for case in cases
            for name in case.contenders
            if case.size <= (TIMED if timed else IN_THE_SUITE) and case.group != "training"
            if timed or by_name()[name][1].module in QUICK_MODULES
            if by_name()[name][0].takes_part(case)
        ],
    )


def test_case(benchmark, case, name):
    contender, adapter = by_name()[name]
    if reason := adapter.missing():
        pytest.skip(reason)
    try:
        job = job_of(case, threads=1)
        call = contender.does[case.what](job)
        wanted = own.reference(job) if contender.exact else None  # now: it writes to the same memory as the call
    except Absent as reason:
        pytest.skip(str(reason))
    with contender.using():
        found = call()
        if contender.exact:
            assert equal_results(found, wanted)
        check(contender, job, found)
        benchmark(call)
