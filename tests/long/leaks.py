"""Call every public function many times: resident memory must not grow, and no reference to an argument may be kept.

    python -X dev -W error tests/long/leaks.py --count 1000000

Each function is called --count times, or for --seconds if that is less, with small arguments. Then it is called with a wrong
argument, many times: a call that raises must not leak either.
"""

import gc
import sys
import time
from pathlib import Path

import numpy as np
from _record import ROOT, Run, parser, progress_bar

sys.path.insert(0, str(ROOT / "tests/core"))
from test_every_function import FUNCTIONS, good_arguments

PAGE = 4096
PROBED = 2000  # calls between two looks at the clock
GROWTH = 2**20  # bytes by which the memory of the process may grow in one function's calls: the allocator's own pools
KEPT = 5  # references that may come and go: caches that hold the last arguments


def resident():
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def calls_of(name):
    """Return the call that works and one that raises, and the arguments of the first."""
    arguments = good_arguments(name)
    function = FUNCTIONS[name]
    word = next((word for word in ("p", "seed", "x", "weight", "name", "number", "n", "shape") if word in arguments), None)
    return lambda: function(**arguments), (lambda: function(**{**arguments, word: object()})) if word else None, arguments


def refused(call):
    try:
        call()
    except (TypeError, ValueError, OverflowError):
        return
    raise AssertionError("a wrong argument was accepted")


def repeat(call, count, seconds):
    """Make a call count times, or as often as fits into the seconds; return how often."""
    end = time.monotonic() + seconds
    made = 0
    while made < count and time.monotonic() < end:
        n = min(PROBED, count - made) if made else 20  # the first calls show how long one takes
        for _ in range(n):
            call()
        made += n
        if made == 20 and time.monotonic() > end - seconds * 0.9:
            break
    return made


def check(run, name, call, arguments, count, seconds):
    """Check one call; return how often it was made."""
    repeat(call, 500, seconds / 4)  # fills caches and the allocator's pools
    gc.collect()
    references = {word: sys.getrefcount(value) for word, value in arguments.items()}
    before = resident()
    made = repeat(call, count, seconds)
    gc.collect()
    grown = resident() - before
    if grown > GROWTH:
        repeat(call, made, seconds)  # a leak grows as much once more; a pool does not
        gc.collect()
        if (again := resident() - before - grown) > grown / 2:
            run.found(f"{name}: memory grew by {grown} bytes in {made} calls, and by {again} in as many more")
    for word, value in arguments.items():
        if abs(sys.getrefcount(value) - references[word]) > KEPT:
            run.found(f"{name}: references to {word} went from {references[word]} to {sys.getrefcount(value)} in {made} calls")
    return made


def main():
    options = parser(__doc__.splitlines()[0], 1_000_000, "calls of each function")
    options.add_argument("--seconds", type=float, default=10, help="most seconds per function (default: %(default)s)")
    options.add_argument("--only", nargs="*", help="names of functions")
    given = options.parse_args()
    run = Run(given.record)
    names = [
        name for name in FUNCTIONS if name not in ("show_config", *(() if not given.only else set(FUNCTIONS) - set(given.only)))
    ]
    np.seterr(all="ignore")
    made = {}
    began = resident()
    with progress_bar() as bar:
        for name in bar.track(names, description="functions"):
            good, bad, arguments = calls_of(name)
            made[name] = check(run, name, good, arguments, given.count, given.seconds)
            if bad:
                check(run, f"{name}, refused", lambda bad=bad: refused(bad), arguments, given.count // 10, given.seconds / 5)
    run.figures["functions"] = len(names)
    run.figures["calls"] = sum(made.values())
    run.figures["fewest calls"] = {name: made[name] for name in sorted(made, key=made.get)[:5]}
    run.figures["functions called as often as asked"] = sum(n >= given.count for n in made.values())
    run.figures["resident memory, bytes"] = {"at the beginning": began, "at the end": resident()}
    return run.end()


if __name__ == "__main__":
    sys.exit(main())
