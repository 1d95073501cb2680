"""Instruction counts of the C kernels, against a committed budget: a gate for speed that noise cannot move.

``python -m fastdrop.bench.instructions`` counts and compares; with ``--write`` it writes the budgets anew. Valgrind's callgrind
counts; it does not know AVX-512, so there are budgets for portable C and AVX2. Another compiler makes other code, so counts
are compared where its major version is the one that the budgets were written with.
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
# Instructions an element, counted by valgrind's callgrind in src_c/instructions.c; a kernel may take 3 % more.
# Written by: python -m fastdrop.bench.instructions --write
"""

Counts = dict[str, dict[str, float]]  # instruction set -> kernel -> instructions an element


def budgets(path: Path = FILE) -> tuple[str, Counts]:
    """Return the compiler that the budgets are for, and the budgets."""
    found = toml(path)
    return str(found.pop("compiler")), found


def major(compiler: str) -> str:
    """Return a compiler's name and major version: "gcc 12" of "gcc 12.2.0"."""
    return compiler.split(".")[0]


def written(compiler: str, counts: Counts) -> str:
    """Return the text of a file of budgets."""
    lines = [HEADER, f'compiler = "{compiler}"']
    for isa, kernels in counts.items():
        lines += ["", f"[{isa}]", *(f'"{name}" = {count:.4f}' for name, count in kernels.items())]
    return "\n".join(lines) + "\n"


class Counter:
    """Builds the driver, and counts with it.

    Parameters
    ----------
    root : Path
        The checkout.
    folder : Path
        Where to build.

    Raises
    ------
    OSError
        Without valgrind or make.
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
        """Return the instructions an element of a kernel."""
        options = ("--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=counted")
        done = subprocess.run(["valgrind", *options, self.driver, isa, kernel], capture_output=True, text=True, check=True)
        collected = re.search(r"Collected : (\d+)", done.stderr)
        if collected is None:
            raise OSError(f"valgrind counts nothing: {done.stderr.strip()}")
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
        raise OSError(f"{' '.join(command)} fails: {done.stderr.strip()}")
    return done.stdout


def compare(counts: Counts, budget: Counts) -> tuple[list[str], list[str]]:
    """Return what is wrong, and what is only to be told, in sentences."""
    wrong, told = [], []
    for isa, kernels in counts.items():
        for kernel, count in kernels.items():
            most = budget.get(isa, {}).get(kernel)
            what = f"{isa} {kernel}: {count:.3f} instructions an element"
            if most is None:
                wrong.append(f"{what}, and no budget; --write makes one")
            elif count > most * (1 + SLACK):
                wrong.append(f"{what}, {count / most - 1:.1%} over the budget of {most:.3f}")
            elif count < most * (1 - SLACK):
                told.append(f"{what}, {1 - count / most:.1%} below the budget of {most:.3f}: --write keeps that")
    gone = [f"{isa} {kernel}" for isa in counts for kernel in budget.get(isa, {}) if kernel not in counts[isa]]
    return wrong + [f"{name}: has a budget, but is not there; --write removes it" for name in gone], told


def main(arguments: list[str] | None = None) -> None:
    """Count, then compare or write."""
    parser = argparse.ArgumentParser(prog="python -m fastdrop.bench.instructions", description=__doc__.splitlines()[0])
    parser.add_argument("root", nargs="?", type=Path, default=Path(), help="the checkout; the current folder if not given")
    parser.add_argument("--write", action="store_true", help="write the budgets anew")
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
    """Compare, say what was found, and end with exit code 1 where a budget is exceeded."""
    if major(counter.compiler) != major(compiler):
        print(f"skipped: the budgets are for {major(compiler)}, and this compiler is {counter.compiler}")
        return
    if not counter.rows:
        print("skipped: no instruction set of this machine has budgets")
        return
    counts = counter.counts()
    wrong, told = compare(counts, budget)
    print(*told, *wrong, sep="\n", end="\n" if told or wrong else "")
    number = sum(map(len, counts.values()))
    within = f"{number - len(wrong)} of {number} kernels are within {SLACK:.0%} of their budgets"
    print(f"{within} ({counter.compiler}; not counted: AVX-512, which valgrind lacks)")
    if wrong:
        sys.exit(1)


if __name__ == "__main__":
    main()
