"""An adapter without its library names the library and the extra."""

import importlib.util

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


@pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="Keras is not installed")
def test_keras_without_its_backend(run_python):
    """Keras's default is TensorFlow, which no extra installs."""
    program = """
import sys
sys.modules["tensorflow"] = None
try:
    import fastdrop.keras
except ImportError as error:
    assert str(error) == (
        "fastdrop.keras has layers for Keras's backends torch, jax and numpy, and Keras did not find tensorflow: "
        "install it, or set KERAS_BACKEND to one of them that is installed, before Keras is imported"
    ), error
else:
    raise AssertionError("no error")
"""
    done = run_python(program, KERAS_BACKEND="tensorflow")
    assert not done.returncode, done.stderr


def test_an_error_without_a_name(run_python):
    """JAX raises one if jaxlib is missing."""
    program = """
import builtins
find = builtins.__import__
def refuse(name, *more):
    if name == "jax":
        raise ModuleNotFoundError("jax requires jaxlib to be installed")
    return find(name, *more)
builtins.__import__ = refuse
try:
    import fastdrop.jax
except ImportError as error:
    assert str(error) == 'fastdrop.jax needs jax: pip install "fastdrop-kernels[jax]"', error
else:
    raise AssertionError("no error")
"""
    done = run_python(program)
    assert not done.returncode, done.stderr
