"""Every allocation of a call fails in turn, and then all from some on: a call raises MemoryError, and the process lives."""

import re
from pathlib import Path

import pytest

import fastdrop

testcapi = pytest.importorskip("_testcapi", reason="CPython's hook for failing allocations is not in every build")

PROGRAM = """
    import sys, _testcapi
    import numpy as np
    import fastdrop
    from fastdrop import elementary, theory

    x = np.ones((6, 8, 8, 16), np.float32)
    flat = np.ones(3000, np.float32)
    rates, flags = np.full(3000, 0.3), np.ones(3000, bool)
    stream = fastdrop.Stream(3)
    out = np.empty(3000, np.float32)
    KEY = dict(seed=1)
    CALLS = {{
        "dropout": lambda: fastdrop.dropout(flat, 0.5, **KEY),
        "dropout of a list": lambda: fastdrop.dropout([1.0, 2.0], 0.5, **KEY),
        "stream": lambda: fastdrop.dropout(flat, 0.5, seed=stream),
        "generator": lambda: fastdrop.dropout(flat, 0.5, seed=np.random.default_rng(1)),
        "rates": lambda: fastdrop.dropout(flat, rates, **KEY),
        "integer rate": lambda: fastdrop.dropout(flat, 1, **KEY),
        "bad rate": lambda: fastdrop.dropout(flat, 2.0, **KEY),
        "bias": lambda: fastdrop.dropout(x, 0.5, bias=x[0, 0, 0], residual=x, **KEY),
        "shared": lambda: fastdrop.dropout(x, 0.5, shared_axes=(0, 1), **KEY),
        "noise_shape": lambda: fastdrop.dropout(x, 0.5, noise_shape=(None, 1, 8, None), **KEY),
        "block": lambda: fastdrop.dropout(flat, 0.5, global_shape=(9000,), global_start=(6,), **KEY),
        "evaluation": lambda: fastdrop.dropout(flat, rates, mode="standard", training=False, **KEY),
        "numpy": lambda: fastdrop.dropout(flat, 0.5, backend="numpy", **KEY),
        "threads": lambda: fastdrop.dropout(flat, 0.5, num_threads=2, **KEY),
        "strided": lambda: fastdrop.dropout(x[:, ::2].T, 0.5, **KEY),
        "mask": lambda: fastdrop.dropout_mask((30, 100), 0.5, **KEY),
        "mask, numpy": lambda: fastdrop.dropout_mask((30, 100), 0.5, backend="numpy", **KEY),
        "apply_mask": lambda: fastdrop.apply_mask(flat, flags, 2),
        "words": lambda: fastdrop.words(3000, **KEY),
        "uniform": lambda: fastdrop.uniform((30, 100), **KEY),
        "normal": lambda: fastdrop.normal((30, 100), dtype=np.float64, backend="numpy", **KEY),
        "gaussian": lambda: fastdrop.gaussian_dropout(flat, 0.5, **KEY),
        "gaussian, numpy": lambda: fastdrop.gaussian_dropout(flat, 0.5, backend="numpy", **KEY),
        "concrete": lambda: fastdrop.concrete_dropout(flat, 0.0, **KEY),
        "concrete, backward": lambda: fastdrop.concrete_dropout_backward(flat, flat, 0.0, **KEY),
        "alpha": lambda: fastdrop.alpha_dropout(flat, 0.5, **KEY),
        "group": lambda: fastdrop.group_dropout(flat, 0.5, group_size=5, **KEY),
        "zoneout": lambda: fastdrop.zoneout(flat, flat, 0.5, **KEY),
        "block2d": lambda: fastdrop.drop_block(x, 0.3, 3, **KEY),
        "attention": lambda: fastdrop.attention_dropout(x, 0.3, **KEY),
        "tokens": lambda: fastdrop.token_dropout(x, 0.3, **KEY),
        "importance": lambda: fastdrop.importance_dropout(flat, rates, 0.3, **KEY),
        "targeted": lambda: fastdrop.targeted_dropout(x[0, 0], 0.3, **KEY),
        "connect": lambda: fastdrop.drop_connect_backward(x[0, 0, :3, :4], x[0, 0, :3, :4], x[0, 0, :4, :4], **KEY),
        "elementary": lambda: elementary.exp(flat),
        "elementary of a slice": lambda: elementary.exp(flat[::2]),
        "moments of a number": lambda: theory.relu_moments(0.5, 1.0),
        "probabilities of columns": lambda: theory.multinomial_probabilities(x[0, 0]),
        "fold_in": lambda: fastdrop.fold_in(1, "a"),
        "next": lambda: stream.next(),
        "spawn": lambda: stream.spawn(2),
        "using": lambda: use(),
    }}

    def use():
        with fastdrop.using(backend="numpy", num_threads=1):
            fastdrop.dropout_mask(3, 0.5, **KEY)

    def fails(call, first, last):
        "Whether the call raises MemoryError if allocations first .. last - 1 fail; 0 is all from `first` on."
        try:
            _testcapi.set_nomemory(first, last)
            call()
        except MemoryError:
            return True
        except Exception:
            return None  # a check, or NumPy, said something else
        finally:
            _testcapi.remove_mem_hooks()
        return False

    def outcome(call):
        try:
            return np.asarray(call()) if name not in NOT_REPEATED else None
        except ValueError:
            return None

    # CPython 3.11 itself crashes in PyContextVar_Set if no allocation succeeds; the others call it, most by numpy.errstate.
    WITHOUT_CONTEXT = (
        "dropout", "dropout of a list", "stream", "rates", "integer rate", "bad rate", "bias", "shared", "noise_shape", "block",
        "threads", "strided", "mask", "apply_mask", "words", "uniform", "gaussian", "elementary", "fold_in", "next", "spawn",
    )
    NOT_REPEATED = ("stream", "next", "spawn", "generator", "concrete, backward")
    in_force = fastdrop.get_backend(), fastdrop.get_num_threads()
    for name in {names}:
        print(name, file=sys.stderr, flush=True)
        call = CALLS[name]
        wanted, failed = outcome(call), 0
        for one in (True, False) if name in WITHOUT_CONTEXT else (True,):
            for first in range({most}):
                result = fails(call, first, first + 1 if one else 0)
                failed += result is not False
                assert in_force == (fastdrop.get_backend(), fastdrop.get_num_threads()), first
                if result is False and first > 80:
                    break
        assert failed
        assert np.array_equal(wanted, outcome(call))
    print("alive")
"""
NAMES = [line.split('"')[1] for line in PROGRAM.split("CALLS = {{")[1].split("}}")[0].splitlines() if '": lambda' in line]


@pytest.mark.parametrize("part", range(4))
def test_allocations_fail(run_python, part):
    done = run_python(PROGRAM.format(names=NAMES[part::4], most=150))
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr[-3000:]


def test_no_comprehension_is_compiled():
    """Cython 3.3 releases an element twice if there is no memory for the list."""
    core = Path(fastdrop.__file__).parent
    for path in (*core.rglob("*.pyx"), *core.rglob("*.pxi")):
        code = re.sub(r'""".*?"""|#[^\n]*', "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not re.findall(r"[\[(][^\[\]()]*(?:\([^()]*\)[^\[\]()]*)*\bfor \w+(?:, \w+)* in ", code), path
