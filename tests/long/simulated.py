"""Run AVX-512's kernels on a processor without AVX-512: the C self-test, `fastdrop verify` and the Python tests.

    python tests/long/simulated.py --tests tests/core tests/variants

SIMDe (on Debian: apt-get install libsimde-dev) computes each operation of AVX-512 with AVX2. The package is built with it in
--folder, a copy of the checkout, so that a second run begins at once.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from _copies import UNOPTIMIZED, build, copy, run_tests
from _record import ROOT, Run

HEADER = ROOT / "tests/long/simulated_avx512.h"
ROW = re.compile(rb"^FD_ISA\(avx512, .*$", re.MULTILINE)
SIMULATED = (
    b'FD_ISA(avx512, x86_64, has_leaf7_ebx(bit_AVX2) && saves(YMM), "-mavx2 -mf16c -Wno-psabi -include simulated_avx512.h")'
)
CHECKS = re.compile(r"avx512: \d+ checks, (\d+) failed")


def self_test(run, folder):
    """Build and run the C self-test."""
    options = [f"BUILD={folder}/build/self-test", "CFLAGS=-O1", "FRAME=1048576"]
    done = subprocess.run(["make", "-s", "-C", folder / "src_c", "selftest", *options], capture_output=True, text=True)
    found = CHECKS.search(done.stdout)
    run.figures["self-test"] = found[0] if found else f"ended with {done.returncode}: {done.stderr[-300:]}"
    if done.returncode or not found or found[1] != "0":
        run.found(run.figures["self-test"])


def verify(run, folder, variables):
    """Run the checks that a user runs."""
    done = subprocess.run(
        [sys.executable, "-m", "fastdrop", "verify"], cwd=folder, env=variables, capture_output=True, text=True
    )
    lines = done.stdout.strip().splitlines()
    run.figures["verify"] = lines[-1] if lines else f"ended with {done.returncode}: {done.stderr[-300:]}"
    if done.returncode or "c-avx512" not in done.stdout:
        run.found(run.figures["verify"])


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--record", type=Path, help="file to which the record of this run is appended")
    options.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "fastdrop-simulated"))
    options.add_argument("--tests", nargs="*", default=[], help="test files or folders to run too")
    given = options.parse_args()
    run = Run(given.record)
    folder = given.folder.resolve()
    row = ROW.search((ROOT / "src_c/isa/list.h").read_bytes())[0]
    copy(folder, {"setup.py": UNOPTIMIZED, "src_c/isa/list.h": [(row, SIMULATED)]})
    (folder / "src_c" / HEADER.name).write_bytes(HEADER.read_bytes())
    self_test(run, folder)
    build(folder, dict(os.environ))
    variables = {**os.environ, "PYTHONPATH": str(folder)}
    verify(run, folder, variables)
    if given.tests:
        run_tests(run, folder, given.tests, "avx512", variables)
    return run.end()


if __name__ == "__main__":
    sys.exit(main())
