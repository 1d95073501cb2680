"""Run other programs' test batteries on fastdrop's bits, and write one record of each.

    python tests/long/batteries.py --battery dieharder --source words

The batteries are dieharder, PractRand (its program RNG_test) and TestU01 (the program that testu01.c makes); it is an error if
the program is not installed. `--source` names what is tested. The bytes come from `fastdrop stream`.
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
from itertools import chain
from pathlib import Path

import fastdrop

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "docs" / "records"
STREAM = "fastdrop stream --kind {} --seed {{seed}} --offset {{offset}} --count unlimited --threads 1"
FAIR = " | python tests/long/fair_bits.py"
SOURCES = {  # the command that writes the bytes
    "words": STREAM.format("words"),
    "mask-0.5": STREAM.format("packed -p 0.5"),
    "mask-0.1": STREAM.format("packed -p 0.1") + FAIR,
    "mask-0.25": STREAM.format("packed -p 0.25") + FAIR,
}

# dieharder's tests, by their numbers and sizes: those of `dieharder -a`, the lagged sums last, which take the most words.
DIEHARDER = [
    *(f"-d {number}" for number in (*range(18), 100, 101, 102)),
    *(f"-d 200 -n {bits}" for bits in range(1, 13)),
    *(f"-d {number} -n {size}" for number in (201, 202) for size in range(2, 6)),
    *(f"-d {number}" for number in range(204, 210)),
    *(f"-d 203 -n {lag}" for lag in range(33)),
]


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
    command = program("dieharder")
    began = time.monotonic()
    results = []
    for offset, test in enumerate(DIEHARDER):
        if time.monotonic() - began > 60 * options.minutes:
            yield f"not run, because {options.minutes} minutes had passed: {', '.join(DIEHARDER[offset:])}"
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
    yield from run(source, f"{program('RNG_test')} stdin32 -tlmax {options.size}", options.seed)


def testu01(source, options):
    """Yield TestU01's summary, for the words and for their bits in reverse order."""
    for order in ("", "reversed"):
        lines = run(source, f"{program('testu01')} {options.size} {order}", options.seed)
        begin = next((number for number, line in enumerate(lines) if line.startswith("========= Summary")), 0)
        yield from (line for line in lines[begin:] if line.strip())


BATTERIES = {"dieharder": dieharder, "practrand": practrand, "testu01": testu01}
SIZES = {"dieharder": "", "practrand": "16GB", "testu01": "small"}


# The record ---------------------------------------------------------------------------------------------------------


def heading(options):
    """Yield what the record says of the run."""
    yield f"{options.battery} on {options.source}, {datetime.now(timezone.utc):%Y-%m-%d}, fastdrop {fastdrop.__version__}"
    yield f"command: python tests/long/batteries.py {' '.join(sys.argv[1:])}"
    yield f"bytes:   {command_of(options.source, options.seed, '0, 1, ...' if options.battery == 'dieharder' else 0)}"
    yield f"machine: {platform.machine()}, {fastdrop.config()['isa']}, nice {os.nice(0)}"
    yield ""


def main():
    """Run a battery, print its lines as they come, and write them to the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--battery", choices=BATTERIES, required=True)
    parser.add_argument("--source", choices=SOURCES, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", help="PractRand: bytes, such as 16GB; TestU01: small, crush or big")
    parser.add_argument("--minutes", type=float, default=600, help="of dieharder, after which no further test begins")
    parser.add_argument("--into", type=Path, default=RECORDS, help="the folder of the record")
    options = parser.parse_args()
    options.size = options.size or SIZES[options.battery]
    began = time.monotonic()
    path = options.into / f"{'-'.join(filter(None, (options.battery, options.size, options.source)))}.txt"
    try:
        with open(path, "w") as record:
            for line in chain(heading(options), BATTERIES[options.battery](options.source, options)):
                print(line, file=record, flush=True)
                print(line, flush=True)
            print(f"{(time.monotonic() - began) / 60:.0f} minutes", file=record)
    except Failed as error:
        sys.exit(f"batteries.py: {error}")


if __name__ == "__main__":
    main()
