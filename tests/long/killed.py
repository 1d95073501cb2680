"""Kill ``fastdrop apply``, fill its disk, take its target away: the target is the old file or the whole new one.

Allocations that fail are tried too, in every function.

    python tests/long/killed.py --count 200

--count is the number of kills, by SIGKILL and SIGINT in turn, at random moments of the run. Then come a limit on the size of
files, a folder that is read-only, and one that vanishes. Last, every allocation of every public function fails in turn.
"""

import hashlib
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
from _record import ROOT, Run, parser, progress_bar

import fastdrop

ELEMENTS = 2**24 + 3  # several chunks
OLD = b"the old file"
PATIENCE = 3600  # seconds: the machine may be busy
COMMAND = [sys.executable, "-m", "fastdrop", "apply"]

# A child that lets every allocation of a function fail in turn. One fails at a time, because CPython itself does not survive if
# all fail from some point on within `numpy.errstate`. NumPy 2.4 does not survive some failures: it raises MemoryError for the
# buffers of an iterator without holding the GIL, and does not check whether there is memory for a negated scalar.
NO_MEMORY = """
    import faulthandler, sys, _testcapi
    faulthandler.enable()
    sys.path.insert(0, {core!r})
    import numpy as np
    from test_every_function import FUNCTIONS, good_arguments
    np.seterr(all="ignore")
    name = {name!r}
    arguments = good_arguments(name)
    call = lambda: FUNCTIONS[name](**arguments)
    call(), call()
    failed = quiet = 0
    for first in range({begin}, {most}):
        print(first, failed, flush=True)
        try:
            _testcapi.set_nomemory(first, first + 1)
            call()
            quiet += 1
        except MemoryError:
            failed, quiet = failed + 1, 0
        except Exception:
            quiet = 0
        finally:
            _testcapi.remove_mem_hooks()
        if quiet > 60:
            break
    call()
    print({most}, failed)
"""
ENDED = 40  # times that the process of one function may end


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def start(source, target, prepare=lambda: None):
    """Start the program; `prepare` is called in its process."""

    def begin():
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell lets the programs of its background ignore it
        prepare()

    command = [*COMMAND, str(source), str(target), "-p", "0.5", "--seed", "1"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=begin)


def state_of(target, whole):
    """Return the state of the target: "old", "whole", "absent" or "half"."""
    if not target.exists():
        return "absent"
    return "old" if target.read_bytes() == OLD else "whole" if digest(target) == whole else "half"


def kills(run, source, folder, count, whole, usual, bar):
    """End the program at random moments."""
    seen = {}
    target = folder / "target.npy"
    for k in bar.track(range(count), description="kills"):
        target.write_bytes(OLD)
        process = start(source, target)
        time.sleep(random.uniform(0, usual * 1.1))
        which = signal.SIGKILL if k % 2 else signal.SIGINT
        process.send_signal(which)
        errors = process.communicate(timeout=PATIENCE)[1]
        found = state_of(target, whole)
        early = ", before the package was loaded" if "Traceback" in errors and "KeyboardInterrupt" in errors else ""
        key = f"{which.name}: {found}{early}"
        seen[key] = seen.get(key, 0) + 1
        if found not in ("old", "whole"):
            run.found(f"kill {k} by {which.name}: the target is {found}")
        left = list(folder.glob(".fastdrop-*"))
        if left and which == signal.SIGINT:
            run.found(f"kill {k}: SIGINT left {left[0].name}: {errors[-200:]}")
        for path in left:
            path.unlink()
    run.figures["kills"] = seen


def failures(run, source, folder, whole):
    """Let writing fail in other ways; the program must say so, and leave the target as it was."""
    limit = source.stat().st_size // 2
    too_large = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # noqa: E731
    fails(run, "no room for the whole file", source, folder / "full.npy", whole, prepare=too_large)
    tmpfs = folder / "tmpfs"
    tmpfs.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={limit}", "none", str(tmpfs)], capture_output=True).returncode == 0:
        try:
            fails(run, "a full disk", source, tmpfs / "full.npy", whole)
        finally:
            subprocess.run(["umount", str(tmpfs)], check=True)
    else:
        run.figures["a full disk"] = "not tried: a tmpfs cannot be mounted here"
    gone = folder / "gone"
    gone.mkdir()
    process = start(source, gone / "target.npy")
    while process.poll() is None and not list(gone.glob(".fastdrop-*")):
        time.sleep(0.001)
    shutil.rmtree(gone)
    report(run, "a folder that vanishes", process, gone / "target.npy", whole, ("absent",))
    if os.geteuid() == 0:  # for whom no folder is read-only, so a file system is
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", str(tmpfs)], capture_output=True).returncode == 0:
            try:
                report(run, "a read-only folder", start(source, tmpfs / "x.npy"), tmpfs / "x.npy", whole, ("absent",))
            finally:
                subprocess.run(["umount", str(tmpfs)], check=True)
        else:
            run.figures["a read-only folder"] = "not tried: a tmpfs cannot be mounted here"
    else:
        tmpfs.chmod(0o555)
        report(run, "a read-only folder", start(source, tmpfs / "x.npy"), tmpfs / "x.npy", whole, ("absent",))


def fails(run, what, source, target, whole, **more):
    target.write_bytes(OLD)
    report(run, what, start(source, target, **more), target, whole, ("old",))


def report(run, what, process, target, whole, allowed):
    """Check a run that must fail: an error in one line, and the target as before."""
    errors = process.communicate(timeout=PATIENCE)[1].strip()
    found = state_of(target, whole)
    run.figures[what] = f"exit code {process.returncode}, the target is {found}, {errors!r}"
    left = target.parent.exists() and list(target.parent.glob(".fastdrop-*"))
    if process.returncode == 0 or found not in allowed or "Traceback" in errors or not errors or left:
        run.found(f"{what}: {run.figures[what]} {left or ''}")


def no_memory(run, most, bar):
    """Let every allocation of every function fail, one at a time."""
    core = str(ROOT / "tests/core")
    sys.path.insert(0, core)
    from test_every_function import FUNCTIONS

    total, of_numpy = 0, {}
    names = [name for name in FUNCTIONS if name != "show_config"]
    for name in bar.track(names, description="allocations"):
        begin = 0
        for _ in range(ENDED):
            program = textwrap.dedent(NO_MEMORY.format(core=core, name=name, begin=begin, most=most))
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
            last, failed = map(int, (done.stdout.split() or ["0", "0"])[-2:])
            total += failed
            if not done.returncode:
                break
            if place := in_numpy(done.stderr, program):
                of_numpy[place] = of_numpy.get(place, 0) + 1
            else:
                run.found(f"allocation {last} of {name}: ended with {done.returncode}: {done.stderr[-400:]}")
            begin = last + 1
    run.figures["allocations"] = f"{total} failed, in {len(names)} functions"
    run.figures["processes that ended in NumPy's own code"] = of_numpy


PLACES = {}  # innermost lines of Python, with the functions of NumPy in which a process ended there


def in_numpy(errors, program):
    """Return the function of NumPy in which a process ended, and its caller in Python, or None if it ended elsewhere."""
    caller = re.search(r'File ".*?([^/"]+)", line (\d+) in (\w+)', errors)
    if "Segmentation fault" not in errors or not caller or not shutil.which("gdb"):
        return None
    if caller[0] not in PLACES:
        command = ["gdb", "-q", "-batch", "-ex", "run", "-ex", "bt 12", "--args", sys.executable, "-c", program]
        trace = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE).stdout
        frames = re.findall(r"^#\d+ .*? in (\w+) .*?from (\S+)", trace, re.MULTILINE)  # of shared libraries
        inner = next(((function, library) for function, library in frames if "site-packages" in library), ("", ""))
        is_numpys = "/numpy/" in inner[1] and "fastdrop" not in inner[1]
        PLACES[caller[0]] = f"{inner[0]}, called by {caller[3]} ({caller[1]}:{caller[2]})" if is_numpys else None
    return PLACES[caller[0]]


def main():
    options = parser(__doc__.splitlines()[0], 200, "kills")
    options.add_argument("--allocations", type=int, default=2000, help="most allocations of a function that fail; 0: none")
    given = options.parse_args()
    run = Run(given.record)
    random.seed(given.seed)
    with tempfile.TemporaryDirectory() as name, progress_bar() as bar:
        folder = Path(name)
        source = folder / "source.npy"
        x = np.random.default_rng(given.seed).random(ELEMENTS, np.float32)
        np.save(source, x)
        np.save(folder / "whole.npy", fastdrop.dropout(x, 0.5, seed=1))
        whole = digest(folder / "whole.npy")
        began = time.monotonic()
        start(source, folder / "first.npy").communicate()
        usual = time.monotonic() - began
        if state_of(folder / "first.npy", whole) != "whole":
            run.found("a run that nobody disturbs does not write the whole file")
        kills(run, source, folder, given.count, whole, usual, bar)
        failures(run, source, folder, whole)
        if given.allocations:
            no_memory(run, given.allocations, bar)
    return run.end()


if __name__ == "__main__":
    sys.exit(main())
