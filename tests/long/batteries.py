"""Run other programs' test batteries on fastdrop's bits, and write one record of each.

    python tests/long/batteries.py --battery dieharder --source words

The batteries are dieharder, PractRand (its program RNG_test) and TestU01 (the program that testu01.c makes); without
`--battery`, those that are installed run. `--source` names what is tested. The bytes come from `fastdrop stream`.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from datetime import datetime, timezone
from itertools import chain, product
from pathlib import Path

import fastdrop

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "docs" / "records"
STREAM = "fastdrop stream --kind {} --seed {{seed}} --offset {{offset}} --count unlimited --threads 1"
FAIR = " | python tests/long/_fair_bits.py"
SOURCES = {  # the command that writes the bytes
    "words": STREAM.format("words"),
    "mask-0.5": STREAM.format("packed -p 0.5"),
    "mask-0.1": STREAM.format("packed -p 0.1") + FAIR,
    "mask-0.25": STREAM.format("packed -p 0.25") + FAIR,
}

# dieharder's tests, by their numbers and sizes: those of `dieharder -a`, in groups; the lagged sums take the most words.
DIEHARDER = {
    "diehard": [f"-d {number}" for number in range(18)],
    "sts": [f"-d {number}" for number in (100, 101, 102)],
    "rgb": [
        *(f"-d 200 -n {bits}" for bits in range(1, 13)),
        *(f"-d {number} -n {size}" for number in (201, 202) for size in range(2, 6)),
        "-d 204",
    ],
    "dab": [f"-d {number}" for number in range(205, 210)],
    "lagged": [f"-d 203 -n {lag}" for lag in range(33)],
}


class Failed(Exception):
    """A program is not installed, or ended with an error."""


def program(name):
    """Return the path of a program, or raise `Failed`."""
    if found := shutil.which(name):
        return found
    raise Failed(f"{name} is not installed")


def run(source, consumer, seed=1, offset=0):
    """Run a consumer on a source, and return the lines that it prints."""
    command = f"{command_of(source, seed, offset)} | {consumer}"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # this environment's fastdrop and python
    done = subprocess.run(command, shell=True, cwd=ROOT, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{command}: exit code {done.returncode}: {done.stderr[-500:]}")
    return done.stdout.splitlines()


def command_of(source, seed, offset):
    return SOURCES[source].format(seed=seed, offset=offset)


# The batteries ------------------------------------------------------------------------------------------------------


def dieharder(source, options):
    """Yield the result lines of dieharder; a weak result is followed by those of another seed."""
    command, began, results = program(PROGRAMS["dieharder"]), time.monotonic(), []
    everything = list(chain(*DIEHARDER.values()))
    for offset, test in enumerate(everything):
        if options.size and test not in DIEHARDER[options.size]:
            continue
        if time.monotonic() - began > 60 * options.minutes:
            yield f"{options.minutes} minutes have passed; {test} and later tests were not run"
            break
        found = result_lines(run(source, f"{command} -g 200 {test}", options.seed, offset))
        if not found:
            raise Failed(f"dieharder {test} printed no result")
        yield from found
        results += found
        if any("PASSED" not in line for line in found):
            yield f"again, with seed {options.seed + 1}, and with more samples as long as the result is weak (-k 2 -Y 1):"
            yield from result_lines(run(source, f"{command} -g 200 {test} -k 2 -Y 1", options.seed + 1, offset))
    counts = {verdict: sum(verdict in line for line in results) for verdict in ("PASSED", "WEAK", "FAILED")}
    yield ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    yield f"dieharder calls p-values below 0.005 or above 0.995 weak: {len(results) / 100:.1f} of these are to be expected."


def result_lines(lines):
    return [line for line in lines if re.search(r"PASSED|WEAK|FAILED", line)]


def practrand(source, options):
    """Yield the lines of PractRand, up to a number of bytes."""
    yield from run(source, f"{program(PROGRAMS['practrand'])} stdin32 -tlmax {options.size}", options.seed)


def testu01(source, options):
    """Yield TestU01's summary, for the words and for their bits in reverse order."""
    for order in ("", "reversed"):
        lines = run(source, f"{program(PROGRAMS['testu01'])} {options.size} {order}", options.seed)
        begin = next((number for number, line in enumerate(lines) if line.startswith("========= Summary")), 0)
        yield from (line for line in lines[begin:] if line.strip())


BATTERIES = {"dieharder": dieharder, "practrand": practrand, "testu01": testu01}
SIZES = {"dieharder": "", "practrand": "16GB", "testu01": "small"}
PROGRAMS = {"dieharder": "dieharder", "practrand": "RNG_test", "testu01": "testu01"}


# The record ---------------------------------------------------------------------------------------------------------


def heading(options):
    """Yield the lines of the record about the run."""
    yield f"{options.battery} on {options.source}, {datetime.now(timezone.utc):%Y-%m-%d}, fastdrop {fastdrop.__version__}"
    yield f"command: python tests/long/batteries.py {' '.join(sys.argv[1:])}"
    yield f"bytes:   {command_of(options.source, options.seed, '0, 1, ...' if options.battery == 'dieharder' else 0)}"
    yield f"machine: {platform.machine()}, {fastdrop.config()['isa']}, nice {os.nice(0)}"
    yield ""


# How the batteries print a test that failed. A result that is only weak or suspicious needs another run, and is no failure.
BAD = re.compile(r"\|\s*FAILED\s*$|FAIL\b|p-values outside")


def record(options):
    """Run a battery, print its lines as they come, and write them to its record. Return the lines of failed tests."""
    began, failed = time.monotonic(), []
    parts = filter(None, (options.battery, options.size, options.source))
    with open(options.into / f"{'-'.join(parts)}.txt", "w") as file:
        for line in chain(heading(options), BATTERIES[options.battery](options.source, options)):
            print(line, file=file, flush=True)
            print(line, flush=True)
            failed += [line] if BAD.search(line) else []
        print(f"{(time.monotonic() - began) / 60:.0f} minutes", file=file)
    return failed


def main():
    """Run the batteries that are wanted and installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--battery", choices=BATTERIES, help="default: all that are installed")
    parser.add_argument("--source", choices=SOURCES, help="default: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", help="PractRand: bytes, as 16GB; TestU01: small, crush, big; dieharder: a group of tests")
    parser.add_argument("--minutes", type=float, default=600, help="of dieharder, after which no further test begins")
    parser.add_argument("--into", type=Path, default=RECORDS, help="the folder of the records")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    failed = []
    batteries = [options.battery] if options.battery else BATTERIES
    for battery, source in product(batteries, [options.source] if options.source else SOURCES):
        if options.battery is None and not shutil.which(PROGRAMS[battery]):
            print(f"{battery} is left out: {PROGRAMS[battery]} is not installed")
            continue
        chosen = {"battery": battery, "source": source, "size": options.size or SIZES[battery]}
        try:
            failed += record(argparse.Namespace(**(vars(options) | chosen)))
        except Failed as error:
            sys.exit(f"batteries.py: {error}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
