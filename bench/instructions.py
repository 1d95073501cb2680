"""Compare the instruction counts of the C kernels with committed budgets, a speed test without noise.

``python -m fastdrop.bench.instructions`` counts and compares; with ``--write`` it writes new budgets. Valgrind's callgrind
counts the instructions. It does not know AVX-512, so there are budgets for portable C and AVX2 only. Another compiler makes
other code, so counts are compared only if the compiler's major version is that of the budgets.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .cases import toml

__all__ = ["FILE", "Counter", "budgets", "compare", "major"]

FILE = Path(__file__).with_name("instructions.toml")
ISAS = ("portable", "avx2")
SLACK = 0.03
HEADER = """\
# Instructions per element, counted by valgrind's callgrind in src_c/instructions.c; a kernel may take 3 % more.
# Written by: python -m fastdrop.bench.instructions --write
"""

Counts = dict[str, dict[str, float]]  # instruction set -> kernel -> instructions per element


def budgets(path: Path = FILE) -> tuple[str, Counts]:
    """Return the compiler of the budgets and the budgets."""
    found = toml(path)
    return str(found.pop("compiler")), found


def major(compiler: str) -> str:
    """Return a compiler's name and major version: "gcc 12" for "gcc 12.2.0"."""
    return compiler.split(".")[0]


def written(compiler: str, counts: Counts) -> str:
    """Return the text of a budget file."""
    lines = [HEADER, f'compiler = "{compiler}"']
    for isa, kernels in counts.items():
        lines += ["", f"[{isa}]", *(f'"{name}" = {count:.4f}' for name, count in kernels.items())]
    return "\n".join(lines) + "\n"


class Counter:
    """Builds the driver program and counts instructions with it.

    Parameters
    ----------
    root : Path
        The checkout.
    folder : Path
        Where to build.

    Raises
    ------
    OSError
        Valgrind or make is not installed.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        for tool in ("valgrind", "make"):
            if shutil.which(tool) is None:
                raise OSError(f"{tool} is not installed; on Debian: apt-get install {tool}")
        run("make", "-s", "-C", str(root / "src_c"), "instructions", f"BUILD={folder}")
        self.driver = str(folder / "instructions")
        compiler, *rows = run(self.driver).splitlines()
        self.compiler = compiler.strip()
        self.rows = [(isa, kernel) for isa, kernel in map(str.split, rows) if isa in ISAS]

    def count(self, isa: str, kernel: str) -> float:
        """Return the instructions per element of a kernel."""
        options = ("--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=counted")
        done = subprocess.run(["valgrind", *options, self.driver, isa, kernel], capture_output=True, text=True, check=True)
        collected = re.search(r"Collected : (\d+)", done.stderr)
        if collected is None:
            raise OSError(f"valgrind did not report a count: {done.stderr.strip()}")
        return int(collected[1]) / int(done.stdout)

    def counts(self) -> Counts:
        """Return all counts."""
        found: Counts = {}
        for isa, kernel in self.rows:
            found.setdefault(isa, {})[kernel] = self.count(isa, kernel)
        return found


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout


def compare(counts: Counts, budget: Counts) -> tuple[list[str], list[str]]:
    """Return sentences about exceeded or missing budgets, and sentences that only inform."""
    wrong, told = [], []
    for isa, kernels in counts.items():
        for kernel, count in kernels.items():
            most = budget.get(isa, {}).get(kernel)
            what = f"{isa} {kernel}: {count:.3f} instructions per element"
            if most is None:
                wrong.append(f"{what}, but no budget; --write adds one")
            elif count > most * (1 + SLACK):
                wrong.append(f"{what}, {count / most - 1:.1%} over the budget of {most:.3f}")
            elif count < most * (1 - SLACK):
                told.append(f"{what}, {1 - count / most:.1%} below the budget of {most:.3f}; --write lowers the budget")
    gone = [f"{isa} {kernel}" for isa in counts for kernel in budget.get(isa, {}) if kernel not in counts[isa]]
    return wrong + [f"{name}: has a budget, but no longer exists; --write removes the budget" for name in gone], told


def main(arguments: list[str] | None = None) -> None:
    """Count instructions, then compare with the budgets or write new ones."""
    parser = argparse.ArgumentParser(prog="python -m fastdrop.bench.instructions", description=__doc__.splitlines()[0])
    parser.add_argument("root", nargs="?", type=Path, default=Path(), help="the checkout (default: the current folder)")
    parser.add_argument("--write", action="store_true", help="write new budgets")
    options: Any = parser.parse_args(arguments)
    path = options.root / "bench" / FILE.name
    try:
        with tempfile.TemporaryDirectory() as folder:
            counter = Counter(options.root.resolve(), Path(folder))
            if options.write:
                path.write_text(written(counter.compiler, counter.counts()), encoding="utf-8")
                print(f"wrote {path}")
                return
            check(counter, *budgets(path))
    except (OSError, ValueError) as error:
        sys.exit(f"Error: {error}")


def check(counter: Counter, compiler: str, budget: Counts) -> None:
    """Compare the counts with the budgets, print the result, and end with exit code 1 if a budget is exceeded."""
    if major(counter.compiler) != major(compiler):
        print(f"skipped: the budgets are for {major(compiler)}, and this compiler is {counter.compiler}")
        return
    if not counter.rows:
        print("skipped: there are no budgets for the instruction sets of this machine")
        return
    counts = counter.counts()
    wrong, told = compare(counts, budget)
    print(*told, *wrong, sep="\n", end="\n" if told or wrong else "")
    number = sum(map(len, counts.values()))
    within = f"{number - len(wrong)} of {number} kernels are within {SLACK:.0%} of their budgets"
    print(f"{within} ({counter.compiler}; AVX-512 is not counted, because valgrind does not know it)")
    if wrong:
        sys.exit(1)


if __name__ == "__main__":
    main()
