"""Run the tests of `fastdrop.verify.randomness` at their full sizes, on masks and on words.

The table is written to docs/records/statistics.txt. The exit code is 1 if a test fails. `--light` runs the sizes of
`fastdrop verify --long`, and `--seed` adds a number to all seeds.
"""

import argparse
import platform
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

import fastdrop
from fastdrop.verify.randomness import LEAST, TESTS, judge

RECORD = Path(__file__).parents[2] / "docs" / "records" / "statistics.txt"
OF_WORDS = ["binary rank", "linear complexity", "autocorrelation, p = 0.5", "one-hot keys", "neighbouring seeds", "folded keys"]


def bits_of_words(n, p, *, seed, offset=0):
    """Return the bits of the words in place of a mask: p must be 0.5."""
    assert p == 0.5, "words are no mask"
    words = fastdrop.words(-(-n // 32), seed=seed, offset=offset)
    return np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little")[:n].astype(bool)


def shifted(mask, by):
    """Return the mask function with another numbering of the seeds."""
    return lambda n, p, *, seed, offset=0: mask(n, p, seed=(seed + by) % 2**64, offset=offset)


def rows(options):
    """Yield a line for each test, and whether it passed."""
    runs = [("mask", fastdrop.dropout_mask, name) for name in TESTS] + [("words", bits_of_words, name) for name in OF_WORDS]
    for of, mask, name in runs:
        test, began = TESTS[name], time.perf_counter()
        size = test.light if options.light else test.full
        found = judge(test.function(shifted(mask, options.seed), size))
        verdict, seconds = "passed" if found.passed else "FAILED", time.perf_counter() - began
        results = f"{found.number:10} {found.extreme:10.3g} {found.uniform:10.3g}  {verdict} {seconds:6.0f}"
        yield f"{of:6} {name:25} {size:10} {results}", found.passed


def heading():
    """Yield the first lines of the record."""
    yield f"Own statistical tests, {datetime.now(timezone.utc):%Y-%m-%d}, fastdrop {fastdrop.__version__}"
    yield f"command: python tests/long/randomness.py {' '.join(sys.argv[1:])}".rstrip()
    yield f"machine: {platform.machine()}, {fastdrop.config()['isa']}"
    yield ""
    yield "extreme: the probability of a p-value as near to 0 or 1 as the nearest one, times their number (Bonferroni)."
    yield "uniform: the probability that the p-values are uniform in (0, 1) (Kolmogorov and Smirnov)."
    yield f"A test fails if one of the two is below {LEAST}."
    yield ""
    yield f"{'of':6} {'test':25} {'size':>10} {'p-values':>10} {'extreme':>10} {'uniform':>10}  result seconds"


def main():
    """Print the table as it grows, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--light", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path, default=RECORD)
    options = parser.parse_args()
    lines, failed = list(heading()), 0
    print("\n".join(lines), flush=True)
    for line, passed in rows(options):
        print(line, flush=True)
        lines.append(line)
        failed += not passed
    lines.append(f"{failed} failed")
    options.record.parent.mkdir(parents=True, exist_ok=True)
    options.record.write_text("\n".join(lines) + "\n")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
