"""Run the C self-test, with the same golden files, under sanitizers, under valgrind, and on emulated processors.

    python tests/long/processors.py                       # all rows of RUNS
    python tests/long/processors.py --only riscv64 tsan

A row whose compiler or emulator is not installed is named in the record. On Debian: apt-get install clang libomp-14-dev
valgrind qemu-user-static, and for each processor gcc-NAME-linux-gnu with libc6-dev-NAME-cross.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _record import ROOT, Run, parser, progress_bar

LINES = {"CFLAGS": "-O3 -g"}  # reports then name the lines of the source
ARCHER = "/usr/lib/llvm-14/lib/libarcher.so"  # tells ThreadSanitizer how OpenMP's threads wait for one another


def emulated(machine, package=None):
    """Return the settings for another processor under qemu."""
    triple = f"{package or machine}-linux-gnu"
    return {"CC": f"{triple}-gcc", "RUN": f"qemu-{machine}-static -L /usr/{triple}"}


# Variables of src_c/Makefile.
RUNS = {
    "gcc": {"CC": "gcc"},
    "clang": {"CC": "clang"},
    "gcc, address and undefined": {"CC": "gcc", "SANITIZE": "address,undefined", **LINES},
    "clang, address and undefined": {"CC": "clang", "SANITIZE": "address,undefined", **LINES},
    "clang, tsan with archer": {
        "CC": "clang",
        "SANITIZE": "thread",
        **LINES,
        "RUN": f"env OMP_TOOL_LIBRARIES={ARCHER} TSAN_OPTIONS=ignore_noninstrumented_modules=1",
    },
    "clang, tsan, own threads": {"CC": "clang", "SANITIZE": "thread", "THREADS": "posix", **LINES},
    "valgrind": {"CC": "gcc", **LINES, "RUN": "valgrind --leak-check=full --errors-for-leak-kinds=definite"},
    "x86-64 without AVX": {"CC": "gcc", "RUN": "qemu-x86_64-static -cpu qemu64"},
    "aarch64": emulated("aarch64"),
    "s390x": emulated("s390x"),
    "ppc64le": emulated("ppc64le", "powerpc64le"),
    "riscv64": emulated("riscv64"),
}
CHECKS = re.compile(r"(\w+): (\d+) checks, (\d+) failed")
MEMCHECK = re.compile(r"ERROR SUMMARY: (\d+) errors")


def missing(variables):
    """Return the first program of a row that is not installed, or None."""
    programs = [text.split()[1 if text.startswith("env") else 0] for text in (variables["CC"], variables.get("RUN", "sh"))]
    programs = [ARCHER if "=" in program else program for program in programs]
    return next((program for program in programs if not shutil.which(program) and not Path(program).exists()), None)


def run_row(variables, folder, limit):
    """Build and run the self-test; return the outcome of make and its seconds."""
    words = [f"{name}={value}" for name, value in variables.items()]
    began = time.monotonic()
    command = ["make", "-s", "-C", str(ROOT / "src_c"), "selftest", f"BUILD={folder}", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "3"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            errors += f"error: not finished after {limit:.0f} s"
    return subprocess.CompletedProcess(command, process.returncode, output, errors), time.monotonic() - began


def summary(done, seconds):
    """Return one line on a run: checks per instruction set, or the first error.

    valgrind is asked about memory only. Version 3.19 does not compute every value as a processor does: AVX's comparison NEQ_OQ
    is true for NaN there, which `FD_SIGNED` sees.
    """
    counts = CHECKS.findall(done.stdout)
    checks = ", ".join(f"{isa} {n} checks, {failed} failed" for isa, n, failed in counts)
    if counts and (memory := MEMCHECK.search(done.stderr)):
        return f"{'passed' if memory[1] == '0' else 'FAILED'} in {seconds:.0f} s: {memory[1]} errors of memory; {checks}"
    if done.returncode == 0 and counts:
        return f"passed in {seconds:.0f} s: {checks}"
    lines = [line for line in (done.stderr + done.stdout).splitlines() if re.search("error|warning|failed|ERROR", line, re.I)]
    return f"FAILED: {(lines or ['no output'])[0][:300]} {checks}"


def main():
    options = parser(__doc__.splitlines()[0], 1, "runs of each row")
    options.add_argument("--only", nargs="*", default=[], help="names of rows, or parts of them")
    options.add_argument("--limit", type=float, default=7200, help="seconds after which a row is ended (default: %(default)s)")
    given = options.parse_args()
    run = Run(given.record)
    names = [name for name in RUNS if not given.only or any(part in name for part in given.only)]
    with progress_bar() as bar:
        for name in bar.track(names, description="processors"):
            if program := missing(RUNS[name]):
                run.figures[name] = f"not run: {program} is not installed"
                continue
            with tempfile.TemporaryDirectory() as folder:
                for _ in range(given.count):
                    run.figures[name] = summary(*run_row(RUNS[name], folder, given.limit))
                    print(name, run.figures[name], flush=True)
                    if run.figures[name].startswith("FAILED"):
                        run.found(f"{name}: {run.figures[name]}")
    return run.end()


if __name__ == "__main__":
    sys.exit(main())
