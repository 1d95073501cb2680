"""Build the extension modules with AddressSanitizer and UndefinedBehaviorSanitizer, and run the tests and calls.py under them.

    python tests/long/sanitized.py --count 200000 --tests tests/core tests/variants

The copy of the checkout in which the modules are built is kept in --folder, so that a second run begins at once. Memory that
CPython does not free at its end is not looked for.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from _copies import UNOPTIMIZED, build, copy, run_tests
from _record import Run, parser, text_of

SANITIZE = "-fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined"
# These start processes that limit their memory, or look for threads and symbols: they do not work under a sanitizer.
LEFT_OUT = "limit or few_threads or small_stacks or no_memory or stack or symbols or interrupt"


def environment(folder, log):
    """Return the variables under which Python loads the sanitizers first, and imports the copy."""
    allocator = "abort_on_error=1:allocator_may_return_null=1:max_allocation_size_mb=4096"
    libraries = [text_of("gcc", f"-print-file-name=lib{name}.so") for name in ("asan", "ubsan")]
    return {
        **os.environ,
        "PYTHONPATH": str(folder),
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": f"detect_leaks=0:malloc_context_size=5:{allocator}:log_path={log}",
        "UBSAN_OPTIONS": f"print_stacktrace=1:halt_on_error=1:log_path={log}",
        "PYTHONMALLOC": "malloc",  # so that each object is one allocation, which the sanitizer watches
        "CALLS_UNLIMITED": "1",
        "CALLS_COMPILED": "0",  # Numba's code is not sanitized, and its compiler took half of the time
        "CALLS_SLOWER": "10",
    }


def reports(log):
    """Return the first lines of the sanitizers' reports."""
    for path in sorted(log.parent.glob(f"{log.name}.*")):
        text = path.read_text(errors="replace")
        is_error = "ERROR: " in text or "runtime error: " in text  # and no warning of a refused allocation
        if is_error and "allocation-size-too-big" not in text and "exceeds maximum supported size" not in text:
            yield " | ".join(text.splitlines()[:12])


def main():
    options = parser(__doc__.splitlines()[0], 200_000, "calls")
    options.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "fastdrop-sanitized"))
    options.add_argument("--tests", nargs="*", default=[], help="test files or folders to run too")
    options.add_argument("--from", type=int, default=0, dest="first", help="the number of the first call")
    options.add_argument("--minutes", type=float, default=10**6, help="end after so many minutes, with fewer calls")
    given = options.parse_args()
    run = Run(given.record)
    folder = given.folder.resolve()
    copy(folder, {"setup.py": UNOPTIMIZED})
    build(folder, {**os.environ, "CC": f"gcc {SANITIZE}"})
    with tempfile.TemporaryDirectory() as logs:
        variables = environment(folder, Path(logs, "sanitizer"))
        if given.tests:
            run_tests(run, folder, given.tests, f"not ({LEFT_OUT})", variables)
        if given.count:
            words = {"--seed": given.seed, "--count": given.count, "--from": given.first, "--minutes": given.minutes}
            command = [
                sys.executable,
                str(folder / "tests/long/calls.py"),
                *(f"{word}={value}" for word, value in words.items()),
            ]
            done = subprocess.run(command, cwd=folder, env=variables, stdout=subprocess.PIPE, text=True)
            run.figures["calls"] = " ".join(
                line for line in done.stdout.splitlines() if line.startswith(("calls:", "outcomes:"))
            )
            for line in done.stdout.splitlines():
                if line.startswith("  {"):
                    run.found(line.strip()[:600])
        for report in reports(Path(logs, "sanitizer")):
            run.found(report)
    return run.end()


if __name__ == "__main__":
    sys.exit(main())
