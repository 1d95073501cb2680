"""An adapter without its library names the library and the extra."""

import pytest

MISSING = [
    ("fastdrop.jax", "jax", "jax"),
    ("fastdrop.jax.nnx", "flax", "jax"),
    ("fastdrop.jax.linen", "flax", "jax"),
    ("fastdrop.keras", "keras", "keras"),
]


@pytest.mark.parametrize(("module", "library", "extra"), MISSING)
def test_the_error_names_the_extra(run_python, module, library, extra):
    if library == "flax":
        pytest.importorskip("jax", reason="JAX is not installed")
    program = f"""
import sys
sys.modules[{library!r}] = None
try:
    import {module}
except ImportError as error:
    assert str(error) == '{module} needs {library}: pip install "fastdrop-kernels[{extra}]"', error
else:
    raise AssertionError("no error")
"""
    done = run_python(program)
    assert not done.returncode, done.stderr
