"""No argument, however large, makes a call that a user cannot interrupt."""

import pytest

import fastdrop
from fastdrop import theory

PROGRAM = """
    import resource, signal
    import numpy as np
    from fastdrop import uncertainty
    resource.setrlimit(resource.RLIMIT_DATA, (2**31, 2**31))
    def interrupt(*arguments):
        raise KeyboardInterrupt
    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        uncertainty.mc_dropout(np.ones(9, np.float32), 0.5, samples=2**32, seed=1)
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_interrupted(run_python):
    """The passes are listed neither in time nor in memory, of which the process may have two gigabytes."""
    done = run_python(PROGRAM)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_refused():
    with pytest.raises(MemoryError, match=r"cannot allocate 4294967295 bytes .* depth must be at most 16777216"):
        fastdrop.layer_drop(2**32 - 1, 0.5, seed=1)
    with pytest.raises(ValueError, match="exact_rate has an equation of at most"):
        theory.drop_block_gamma(0.1, (2**31, 2**31), (2**20, 2**20), exact_rate=True)
    with pytest.raises(ValueError, match="spatial sizes must have a product below"):
        theory.drop_block_gamma(0.1, (2**62, 2**62), 7)
