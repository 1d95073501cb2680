"""Plant the faults of `faults.toml`, one at a time, and see whether the tests notice.

Run it as ``python tests/mutations/run.py`` (Python 3.11 or newer). It copies the checkout to a temporary folder, builds it
there, and plants each fault in the copy. Then it builds again, if the fault is in C or Cython, and runs the tests that should
see it. Faults in Python come first. `results.jsonl` gets a line per fault as soon as it is known, and `docs/mutations.md` the
table. Faults that have a result are not planted again, except with ``--again``. ``--only TEXT`` plants the faults whose file or
text has it, so that several runs can share the table; ``--folder`` keeps the copy for the next run. ``--check`` plants nothing,
and lists the rows that do not fit the code.
"""

from __future__ import annotations

import argparse
import contextlib
import filecmp
import fnmatch
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import tomllib

ROOT = Path(__file__).parents[2]
FAULTS, RESULTS, PAGE = ROOT / "tests/mutations/faults.toml", ROOT / "tests/mutations/results.jsonl", ROOT / "docs/mutations.md"
POSIX = "src_c/drivers/workers_posix.c"  # a build has it only without OpenMP
COMPILED = {".c", ".h", ".pyx", ".pxi", ".pxd"}
MOST_SECONDS = 200  # of a processor for the tests of one fault; a test that does not end has seen the fault
ADDED = ["-o", "addopts=--strict-markers --import-mode=importlib"]  # without plugins, which only cost time
# The tests of faults in C, which the other backends do not run. A row that names a test with its parameters has all tests: the
# backend that it names is compared with the C code.
PLAIN = ["-k", "not numba and not numpy"]
HANGING = (-1, -signal.SIGXCPU, -signal.SIGKILL)
LONGEST = 1800  # seconds on the clock, which a busy machine stretches
SEEN, SURVIVED, EQUIVALENT, REFUSED = "seen", "survived", "equivalent", "not compiled"


@dataclass(frozen=True)
class Fault:
    """One row of the table: a text of a file, what replaces it, the tests that should see it, and why no test could."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    equivalent: str = ""

    @property
    def key(self) -> str:
        """The name of this fault in the results."""
        return f"{self.file}: {self.old} -> {self.new}"


def read_faults() -> list[Fault]:
    """Return the table, ordered by file. A row without tests takes those of the first pattern that its file matches."""
    table = tomllib.loads(FAULTS.read_text(encoding="utf-8"))
    found = []
    for file, rows in table["faults"].items():
        usual = next((tests for pattern, tests in table["tests"].items() if fnmatch.fnmatch(file, pattern)), [])
        for row in rows:
            found.append(Fault(file, row["old"], row["new"], tuple(row.get("tests", usual)), row.get("equivalent", "")))
    return found


def read_results() -> dict[str, dict[str, object]]:
    """Return the last result of each fault."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    return {entry["fault"]: entry for entry in map(json.loads, lines)}


def copy_checkout(folder: Path) -> None:
    """Copy the files that the checkout has, and the modules that were built in it, which are enough for faults in Python.

    A file that the folder has already is not touched, so that it is not compiled again.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    built = [str(path.relative_to(ROOT)) for path in (ROOT / "fastdrop").rglob("*.so")]
    for name in (*listed.stdout.splitlines(), *built):
        source, copy = ROOT / name, folder / name
        if not source.is_file() or (copy.exists() and (name in built or filecmp.cmp(source, copy, shallow=False))):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copy if copy.exists() else shutil.copy2)(source, copy)  # a changed file is newer than the files built from it
    if not (folder / "fastdrop/bench").exists():
        (folder / "fastdrop/bench").symlink_to(folder / "bench")


def run(folder: Path, *command: str, seconds: int) -> tuple[int, str]:
    """Run a command in the copy; return its exit code and its output. The exit code of a command that hangs is -1."""
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "CFLAGS": os.environ.get("CFLAGS", "-O0"),  # of the module `native`; `BUILD` has those of the rest
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "",  # dates tell a fault from its repair, which comes more than a second later
    }
    if shutil.which("ccache"):
        environment.setdefault("CC", "ccache gcc")
        environment["CCACHE_BASEDIR"] = str(folder)
    try:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LONGEST,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds)),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1, "it hangs"
    return done.returncode, done.stdout + done.stderr


# setup.py with fewer modules than it has, and with less optimization, which takes less time to compile
BUILD = """
import re, sys
modules = tuple(sys.argv.pop(1).split())
text = open("setup.py").read().replace('"-O2"', '"-O0"').replace('"-O3"', '"-O1"')
if modules:
    text = re.sub("^MODULES = .*$", f"MODULES = {modules}", text, flags=re.MULTILINE)
exec(compile(text, "setup.py", "exec"))
"""


def build(folder: Path, modules: set[str] | None = None, file: str = "") -> tuple[int, str]:
    """Build some compiled modules, or all, beside their sources, with the threads that a file with a fault is for."""
    os.environ["FASTDROP_OPENMP"] = "0" if file == POSIX else "1"
    return run(folder, "-c", BUILD, " ".join(modules or ()), "-q", "build_ext", "--inplace", seconds=3600)


def modules_with(file: str) -> set[str]:
    """Return the compiled modules that have a file in them: each includes its .pxi files, and one has the C library."""
    if file.startswith("src_c/"):
        return {"_core.native"}
    found = {
        path
        for path in (ROOT / "fastdrop").rglob("*.pyx")
        if path == ROOT / file or f'include "{Path(file).name}"' in path.read_text(encoding="utf-8")
    }
    return {".".join(path.relative_to(ROOT / "fastdrop").with_suffix("").parts) for path in found}


def stale(faults: Sequence[Fault]) -> list[str]:
    """Return the faults whose text does not occur exactly once in its file."""
    texts = {
        name: path.read_text(encoding="utf-8") for name in {fault.file for fault in faults} if (path := ROOT / name).exists()
    }
    return [fault.key for fault in faults if texts.get(fault.file, "").count(fault.old) != 1]


def is_compiled(fault: Fault) -> bool:
    """Return whether the fault is in a file that is compiled."""
    return Path(fault.file).suffix in COMPILED


def judge(fault: Fault, folder: Path, faulty: set[str]) -> tuple[str, str]:
    """Return what became of a fault in the copy, and the first test that saw it. `faulty` are the modules that have a fault."""
    path = folder / fault.file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    try:
        if is_compiled(fault):
            own, before = modules_with(fault.file), set(faulty)
            faulty |= own
            if (failed := build(folder, own | before, fault.file))[0]:
                return REFUSED, failed[1].strip().splitlines()[-1]
            faulty -= before - own
        plain = PLAIN if fault.file.startswith("src_c/") and not any("[" in test for test in fault.tests) else []
        options = ["-x", "-q", "-p", "no:cacheprovider", *ADDED, *plain]
        code, said = run(folder, "-m", "pytest", *options, *fault.tests, seconds=MOST_SECONDS)
    finally:
        path.write_text(text, encoding="utf-8")
    if code == 5 or "ERROR: not found:" in said:
        raise SystemExit(f"no such tests: {fault.tests}")
    if code == 0:
        return EQUIVALENT if fault.equivalent else SURVIVED, ""
    seen = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return SEEN, seen[0].split(" - ")[0] if seen else "it does not end" if code in HANGING else f"exit code {code}"


def write_page(faults: list[Fault], results: dict[str, dict[str, object]]) -> None:
    """Write the table of the results."""
    known = [(fault, results[fault.key]) for fault in faults if fault.key in results]
    count = {word: sum(entry["outcome"] == word for _, entry in known) for word in (SEEN, SURVIVED, EQUIVALENT, REFUSED)}
    days = sorted(entry["date"] for _, entry in known) or ["-"]
    lines = [
        "# Seeded faults (mutation testing)",
        "",
        "`tests/mutations/faults.toml` lists mistakes that somebody could make in the code. `python tests/mutations/run.py`",
        "plants each of them in a copy, builds the copy, runs the tests that should fail, and writes this page.",
        "",
        f"`faults.toml` has {len(faults)} faults. So far {len(known)} have been planted, from {days[0]} to {days[-1]},",
        "with these results:",
        "",
        "| result | faults |",
        "|---|---|",
        f"| a test failed, as it should | {count[SEEN]} |",
        f"| no test failed: the fault survived | {count[SURVIVED]} |",
        f"| no test can fail, because the fault changes no result | {count[EQUIVALENT]} |",
        f"| the code with the fault does not compile | {count[REFUSED]} |",
    ]
    for word, title in ((SURVIVED, "Survivors"), (EQUIVALENT, "Faults that change no result")):
        rows = [(fault, entry) for fault, entry in known if entry["outcome"] == word]
        if rows:
            lines += ["", f"## {title}", "", "| file | text | replaced by | remark |", "|---|---|---|---|"]
            lines += [f"| `{f.file}` | {code(f.old)} | {code(f.new)} | {f.equivalent or e['seen_by']} |" for f, e in rows]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def code(text: str) -> str:
    """Return a text as code in a cell of a table."""
    return "`" + " ".join(text.split()).replace("|", "\\|") + "`" if text.strip() else "(nothing)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--again", action="store_true", help="plant also the faults that have a result")
    parser.add_argument("--only", default="", help="plant only the faults whose file or text has this")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no fault after so many minutes")
    parser.add_argument("--folder", help="keep the copy in this folder, and reuse its build")
    parser.add_argument("--check", action="store_true", help="list the faults that do not fit the code, and plant none")
    options = parser.parse_args()
    faults, results, end = read_faults(), read_results(), time.monotonic() + 60 * options.minutes
    unfit = stale(faults)
    if options.check:
        raise SystemExit("\n".join(unfit) or 0)
    wanted = [fault for fault in faults if options.only in fault.key and (options.again or fault.key not in results)]
    wanted = [fault for fault in wanted if fault.key not in unfit]
    wanted.sort(key=is_compiled)  # a stable sort: faults of a file stay together
    kept = contextlib.nullcontext(options.folder) if options.folder else tempfile.TemporaryDirectory(prefix="faults-")
    with kept as name:
        folder = Path(name)
        copy_checkout(folder)
        if any(map(is_compiled, wanted)) and (failed := build(folder))[0]:
            raise SystemExit(failed[1])
        faulty: set[str] = set()
        for fault in wanted:
            if time.monotonic() > end:
                break
            began = time.monotonic()
            outcome, seen_by = judge(fault, folder, faulty)
            seconds = round(time.monotonic() - began, 1)
            entry = {"fault": fault.key, "outcome": outcome, "seen_by": seen_by, "seconds": seconds, "date": str(date.today())}
            with open(RESULTS, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
            print(f"{outcome:<12} {fault.key[:100]!r} {seen_by}", flush=True)
            write_page(faults, read_results())


if __name__ == "__main__":
    main()
