"""Call every public function with random arguments, most of them right and some of them wrong, in processes that are watched.

A call may work, or raise an exception whose message is a sentence. It is a finding if a process ends or hangs, if the message
comes from inside, if the output was written to or a stream advanced in spite of an error, if an input was changed, if backends
differ, or if a block of an array gets other decisions than the array has there.

    python tests/long/calls.py --seed 5 --count 200000
    python tests/long/calls.py --seed 5 --only 1234          # this call again, in this process, with its arguments printed
"""

import faulthandler
import json
import math
import mmap
import os
import pickle
import re
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

import numpy as np
from _arguments import MAKERS, Draw, arguments
from _functions import FUNCTIONS
from _liars import CLASSES, LieError
from _record import ROOT, Run, parser, progress_bar

import fastdrop
from fastdrop import uncertainty
from fastdrop.verify.cases import equal_bytes, threads_on_small_arrays

HANG = 20.0  # seconds of processor time of one call
STUCK = 1800.0  # seconds of one call: it may wait for ever without using the processor
LOOK = 0.2  # seconds between two looks at a call
PART = 20000  # calls of one process
LARGE = 2**24  # elements of a result that no other backend makes again: NumPy would take minutes
MEMORY = 6 * 2**30  # bytes of address space of a process, so that a call cannot take the machine's memory
ALLOWED = (TypeError, ValueError, OverflowError, MemoryError, NotImplementedError, BufferError)
SETTINGS = (ImportError, RuntimeError)  # of settings: a library or an instruction set that is not here
# Words of the interpreter, of Cython and of NumPy, which say nothing to the caller of fastdrop.
INSIDE = re.compile(
    "|".join(
        (
            "NoneType",
            "has no attribute",
            "unsupported operand",
            "not subscriptable",
            "is not iterable",
            "unpack",
            "index out of range",
            "too large to convert",
            "could not broadcast",
            "setting an array element",
            "not supported between",
            "must be real number, not",
            "truth value of",
            "ufunc",
            "cannot cast",
            "Cannot cast",
            "Cannot interpret",
            "not understood",
            "unhashable",
            "object cannot be interpreted",
            "maximum supported dimension",
            "positional arg",
            "unexpected keyword",
            "operands could not",
            "cannot reshape",
            "negative dimensions",
            "integer is required",
            "array is too big",
            "invalid literal",
            "could not convert",
            "can only",
            "must be str",
            "takes exactly",
            "only length-1",
            "only size-1",
            "argument must be",
            "does not match format",
            "0-dim",
        )
    )
)
# NumPy's own sentences on nested lists of uneven lengths and on dtypes, which name the fault.
NUMPYS = (
    "invalid __array_struct__",
    "setting an array element with a sequence. The requested array has an inhomogeneous shape",
    "Cannot interpret '",
    "data type '",
)
WHOLE_ONLY = ("drop_connect", "variational", "targeted_dropout", "token_dropout", "patch_dropout", "adl")
NOT_ELEMENTS = ("axes", "axis", "block_size", "group_size", "noise_shape", "shape", "shared_axes")  # lists of other numbers
PLACED = ("start", "global_shape", "global_start")


@dataclass
class Outcome:
    """The outcome of a call: its result or its exception."""

    result: object = None
    error: BaseException | None = None

    @property
    def kind(self):
        """The name of the exception's class, or "accepted"."""
        return type(self.error).__name__ if self.error else "accepted"


def drawn(seed, number):
    """Return the name and the arguments of a call."""
    d = Draw(seed, number)
    name = d.choice(NAMES)
    d.begin(name)
    return name, arguments(d, FUNCTIONS[name].words), d


NAMES = tuple(FUNCTIONS)


def outcome(name, given):
    try:
        return Outcome(FUNCTIONS[name].call(**given))
    except Exception as error:
        return Outcome(error=error)


# The checks of one call ---------------------------------------------------------------------------------------------


def lied(error):
    """Whether an argument raised this exception, or one from which it follows."""
    while error is not None:
        if isinstance(error, LieError):
            return True
        error = error.__cause__ or error.__context__
    return False


def complaint(error):
    """Return the fault of an exception, or None."""
    if lied(error) or isinstance(error, MemoryError):
        return None
    if not isinstance(error, (*ALLOWED, *SETTINGS)):
        return "an exception of this kind is never raised"
    message = str(error)
    if message.startswith(NUMPYS):
        return None
    if len(message.split()) < 3:
        return "the message is no sentence"
    if INSIDE.search(re.sub(r"; got .*|: .*", "", message, flags=re.DOTALL)) and not raised_here(error):
        return "the message comes from inside"
    return None


def where(error):
    """Return the innermost places from which an exception comes."""
    return " < ".join(
        f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[:-4:-1]
    )


def raised_here(error):
    """Whether a statement `raise` of fastdrop raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    path = ROOT / frame.filename if not os.path.isabs(frame.filename) else Path(frame.filename)
    if "fastdrop" not in frame.filename or not path.exists():
        return False
    lines = path.read_text(encoding="utf-8").splitlines()[max(0, frame.lineno - 6) : frame.lineno]
    return any("raise " in line for line in lines)


def state_of(value):
    """Return the state of an argument that a failed call must not change."""
    if isinstance(value, fastdrop.Stream):
        return repr(value)
    if isinstance(value, (np.random.Generator, np.random.BitGenerator)):
        return pickle.dumps(getattr(value, "bit_generator", value).state)
    return None


def memory_of(arrays):
    return [np.ndarray.tobytes(a) if type(a) is np.ndarray and not a.dtype.hasobject else b"" for a in arrays]


def false_array(given):
    """Whether an argument is an array with untrue attributes: NumPy itself may fail on it, with any exception."""
    return any(isinstance(value, CLASSES) for value in given.values())


def meddled(given):
    """Whether an argument changes other arguments itself."""
    return any(type(value).__module__ in ("_liars", "lying_arrays") for value in given.values())


def check_call(seed, number, report, counts):
    """Make a call and check everything about it."""
    name, given, d = drawn(seed, number)
    before = memory_of(d.arrays), {word: state_of(value) for word, value in given.items()}
    did = outcome(name, given)
    counts[did.kind] += 1
    counts[f"{name} accepted" if did.error is None else f"{name} refused"] += 1
    tell = lambda what: report({"seed": seed, "call": number, "function": name, "what": what})  # noqa: E731
    if (
        did.error is not None
        and not false_array(given)
        and not (meddled(given) and INSIDE.search(str(did.error)))
        and (what := complaint(did.error))
    ):
        tell(f"{what}: {did.kind}: {did.error} ({where(did.error)})"[:500])
    if not meddled(given):
        check_effects(name, given, d, before, did, tell)
    if did.error is None and repeatable(name, given):
        compare(name, given, d, did.result, lambda: drawn(seed, number)[1], tell, counts)


def check_effects(name, given, d, before, did, tell):
    """Check that a call changed nothing but its output, and after an error nothing at all."""
    output = given.get("out")
    for array, content, now in zip(d.arrays, before[0], memory_of(d.arrays), strict=True):
        written = did.error is None and isinstance(output, np.ndarray) and np.may_share_memory(array, output)
        if content != now and not written:
            tell("the output was changed although the call failed" if did.error else "an input was changed")
    if did.error is not None and FUNCTIONS[name].draws_a_mask:
        for word, value in given.items():
            if state_of(value) != before[1][word]:
                tell(f"{word} was advanced although the call failed: {did.error}"[:300])
    if did.error is None and type(output) is np.ndarray and isinstance(did.result, np.ndarray) and did.result is not output:
        tell("the result is not out")


def repeatable(name, given):
    """Whether the same arguments give the same result: no fresh entropy, no argument that changes."""
    return FUNCTIONS[name].repeatable and not meddled(given) and ("seed" not in given or given["seed"] is not None)


def compare(name, given, d, result, again, tell, counts):
    """Compare the result of a call with that of another backend, of the call without `out`, or of a block."""
    chance = d.random.random()
    words = FUNCTIONS[name].words
    if isinstance(result, np.ndarray) and result.size > LARGE:
        return
    if "backend" in words and chance < 0.5:
        backend = "numba" if chance < COMPILED else "c" if given["backend"] == "numpy" else "numpy"
        counts["compared with another backend"] += 1
        expect(name, {**again(), "backend": backend}, result, f"backend={backend!r} differs", tell)
    elif chance < 0.7 and given.get("out") is not None:
        counts["compared with the call without out"] += 1
        expect(name, {**again(), "out": None}, result, "the result without out differs", tell)
    elif "global_start" in words and type(given.get("x", given.get("grad"))) is np.ndarray and not name.startswith(WHOLE_ONLY):
        check_block(name, given, d, again, tell, counts)


def expect(name, given, result, what, tell):
    """Check that a call gives this result too."""
    other = outcome(name, given)
    if isinstance(other.error, (ImportError, MemoryError)):
        return
    if other.error is not None:
        tell(f"{what}: it raises {other.kind}: {other.error}"[:400])
    elif not same(result, other.result):
        tell(what)


def same(a, b):
    """Whether two results are equal to the bit."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return equal_bytes(np.asarray(a), np.asarray(b))
    if isinstance(a, (tuple, list)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))
    if hasattr(a, "__dict__"):
        return type(a) is type(b)
    return type(a) is type(b) and (a == b or repr(a) == repr(b))


def check_block(name, given, d, again, tell, counts):
    """Check that a random block of the main array gets the part of the whole result."""
    main = "x" if "x" in given and np.ndim(given["x"]) else "grad"
    shape = np.shape(given.get(main, ()))
    if not shape or any(given.get(word) is not None for word in ("noise_shape", "tokens", "losses", "antithetic_losses")):
        return
    place = dict.fromkeys({"out", "global_shape", "global_start"} & set(FUNCTIONS[name].words))
    whole = outcome(name, {**again(), **place})
    bounds = [sorted((d.below(n + 1), d.below(n + 1))) for n in shape]
    block = tuple(slice(a, b) for a, b in bounds)
    cut_up = {word: cut(word, value, shape, block) for word, value in {**again(), **place}.items()}
    part = outcome(name, {**cut_up, "global_shape": shape, "global_start": tuple(a for a, _ in bounds)})
    y, z = first(whole.result), first(part.result)
    if part.error is not None:
        if what := complaint(part.error):
            tell(f"block {bounds}: {what}: {part.error}"[:400])
        return
    if isinstance(y, np.ndarray) and y.shape == shape:
        counts["compared with a block"] += 1
        if not equal_bytes(np.ascontiguousarray(y[block]), np.ascontiguousarray(z)):
            tell(f"block {bounds} of shape {shape} differs")


def cut(word, value, shape, block):
    """Return the part of an argument that belongs to a block, if it broadcasts to the shape."""
    if isinstance(value, (list, tuple)) and word not in NOT_ELEMENTS:
        try:
            return cut(word, np.asarray(value), shape, block).tolist()  # a list has no dtype of its own
        except ValueError:  # of rows of different lengths
            return value
    if not isinstance(value, np.ndarray) or value.ndim > len(shape) or not value.ndim:
        return value
    axes = range(len(shape) - value.ndim, len(shape))
    if any(n not in (1, shape[axis]) for n, axis in zip(value.shape, axes, strict=True)):
        return value
    return value[tuple(block[axis] if n == shape[axis] else slice(None) for n, axis in zip(value.shape, axes, strict=True))]


def first(result):
    return result[0] if isinstance(result, tuple) and result else result


# Processes ----------------------------------------------------------------------------------------------------------


COMPILED = float(os.environ.get("CALLS_COMPILED", "0.03"))  # share of accepted calls that Numba repeats


def child(seed, begin, end, until, shared, report):
    """Make the calls begin .. end - 1, until a time. The parent reads the number of the current call from `shared`."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    if os.environ.get("CALLS_UNLIMITED") != "1":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    np.set_printoptions(threshold=16, edgeitems=1)  # messages show arguments: a fifth of the time was the text of arrays
    uncertainty.ood_auroc([0.0], [1.0])  # loads scikit-learn, if it is installed
    counts = Counter()
    with open(shared, "r+b") as file, open(report, "a", encoding="utf-8") as lines, threads_on_small_arrays():
        memory = mmap.mmap(file.fileno(), 8)
        for number in range(begin, end):
            memory[:] = struct.pack("<q", number)
            check_call(seed, number, lambda finding: print(json.dumps(finding), file=lines, flush=True), counts)
            if time.time() > until:
                break
        print(json.dumps({"counts": counts}), file=lines, flush=True)


class Watched:
    """A process that makes calls, and the files by which it reports."""

    def __init__(self, seed, begin, end, until, folder):
        self.shared, self.report, self.errors = (Path(folder, name) for name in ("shared", "report", "errors"))
        self.shared.write_bytes(struct.pack("<q", begin - 1))  # until the modules are loaded
        self.begin = begin
        self.report.write_text("")
        with open(self.errors, "wb") as errors:
            command = [sys.executable, *os.environ.get("CALLS_PYTHON", "").split(), __file__, "--child"]
            self.process = subprocess.Popen(
                [*command, *map(str, (seed, begin, end, until, self.shared, self.report))], stderr=errors
            )

    def number(self):
        return struct.unpack("<q", self.shared.read_bytes())[0]

    def seconds(self):
        """Return the processor time of the process, which does not depend on how busy the machine is."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait(self, moved):
        """Wait for the end; return why the process did not end well, or None. `moved` gets the number of the current call."""
        last, looks, used = -1, 0, 0.0
        while self.process.poll() is None:
            time.sleep(LOOK)
            looks += 1  # the clock would also count the time in which both processes were suspended
            if (number := self.number()) != last:
                last, looks, used = number, 0, self.seconds()
                moved(number)
            elif (number >= self.begin and self.seconds() - used > HANG * SLOWER) or looks * LOOK > STUCK:
                self.process.send_signal(signal.SIGUSR1)
                time.sleep(1)
                self.process.kill()
                self.process.wait()
                return f"hung for {HANG:.0f} s"
        code = self.process.returncode
        return None if code == 0 else f"the process ended with {code}"

    def findings(self):
        return [json.loads(line) for line in self.report.read_text(encoding="utf-8").splitlines()]


SLOWER = float(os.environ.get("CALLS_SLOWER", "1"))  # how much slower calls are, as under a sanitizer


def watch(run, seed, calls, until):
    """Make the calls of a range until a time, in one process after the other; return how many were made, and their outcomes."""
    counts, begin, last = Counter(), calls.start, calls.stop
    with tempfile.TemporaryDirectory() as folder, progress_bar() as bar:
        task = bar.add_task("calls", total=len(calls))
        while begin < last and time.time() < until:
            watched = Watched(seed, begin, min(begin - begin % PART + PART, last), until, folder)
            why = watched.wait(lambda number: bar.update(task, completed=number - calls.start))
            for line in watched.findings():
                counts.update(line["counts"]) if "counts" in line else run.found(json.dumps(line))
            begin = max(begin, watched.number()) + 1
            if why:
                name = drawn_name(seed, begin - 1)
                text = watched.errors.read_text(errors="replace").partition("Extension modules:")[0][-1500:]
                run.found(json.dumps({"seed": seed, "call": begin - 1, "function": name, "what": why, "errors": text}))
    return begin - calls.start, counts


def drawn_name(seed, number):
    return Draw(seed, number).choice(NAMES)


def once(seed, number):
    """Make one call in this process, and print everything about it."""
    faulthandler.enable()
    np.seterr(all="ignore")
    name, given, _ = drawn(seed, number)
    print(name)
    for word, value in given.items():
        try:
            print(
                f"  {word} = {type(value).__name__} {getattr(value, 'shape', '')} {getattr(value, 'dtype', '')} {value!r:.200}"
            )
        except Exception as error:
            print(f"  {word} = {type(value).__name__}, whose text raises {type(error).__name__}")
    did = outcome(name, given)
    if did.error is not None:
        traceback.print_exception(did.error)
    else:
        print(repr(did.result)[:500])
    with threads_on_small_arrays():
        check_call(seed, number, print, Counter())


def main():
    options = parser(__doc__.splitlines()[0], 200_000, "calls")
    options.add_argument("--only", type=int, help="the number of one call, to make it again")
    options.add_argument("--from", type=int, default=0, dest="first", help="the number of the first call")
    options.add_argument("--minutes", type=float, help="end after so many minutes, with fewer calls")
    given = options.parse_args()
    if given.only is not None:
        return once(given.seed, given.only)
    run = Run(given.record)
    until = time.time() + 60 * given.minutes if given.minutes else math.inf
    run.figures["calls"], counts = watch(run, given.seed, range(given.first, given.first + given.count), until)
    run.figures["functions"] = len(NAMES)
    run.figures["outcomes"] = {key: n for key, n in sorted(counts.items()) if not key.endswith((" accepted", " refused"))}
    run.figures["functions never accepted"] = [name for name in NAMES if not counts[f"{name} accepted"]]
    return run.end()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*map(int, sys.argv[2:5]), float(sys.argv[5]), *sys.argv[6:])
    else:
        missing = {word for function in FUNCTIONS.values() for word in function.words} - set(MAKERS)
        sys.exit(f"no argument is made for {sorted(missing)}" if missing else main())
