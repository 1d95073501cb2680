"""The names that `import fastdrop` offers, the modules that it loads, and those that it loads later."""

import importlib.metadata
import inspect

import pytest

import fastdrop

LOADED_LATER = [name for name in (*fastdrop.SUBMODULES, *fastdrop.ADAPTERS) if name != "elementary"]  # which variants import


def test_dir_shows_the_public_names_and_nothing_else():
    assert dir(fastdrop) == sorted([*fastdrop.__all__, *fastdrop.SUBMODULES, "__version__"])
    assert all(getattr(fastdrop, name) is not None for name in dir(fastdrop))


WITHOUT_EXTRAS = """
import sys

for name in ("click", "matplotlib", "numba", "optuna", "rich", "scipy", "sklearn"):
    sys.modules[name] = None
import fastdrop, inspect, pydoc

assert {name for name, _ in inspect.getmembers(fastdrop)} >= set(dir(fastdrop))
for name in ("", *fastdrop.SUBMODULES):
    pydoc.render_doc(f"fastdrop.{name}".strip("."))
for function in (fastdrop.tuning.search, lambda *given: fastdrop.tuning.nearest("studies.db", {})):
    try:
        function(lambda fold, p: p, {"p": [0.1]})
    except ImportError as error:
        print(error)
"""


def test_help_needs_no_optional_package(run_python):
    done, wanted = run_python(WITHOUT_EXTRAS), 'a search for rates needs optuna: pip install "fastdrop-kernels[tuning]"'
    assert done.stdout.splitlines() == [wanted, wanted], done.stderr


def test_all_names_what_the_package_binds():
    """Apart from modules, every name without an underscore is public: the package keeps no import for its own use."""
    bound = {name for name, value in vars(fastdrop).items() if name[0] != "_" and not inspect.ismodule(value)}
    assert bound - {"ADAPTERS", "SUBMODULES"} == set(fastdrop.__all__)
    assert fastdrop.__all__ == sorted(set(fastdrop.__all__))


def test_closed_forms_and_losses_have_modules_of_their_own():
    elsewhere = {*fastdrop.theory.__all__, *fastdrop.losses.__all__}
    assert not elsewhere & set(fastdrop.__all__)


def test_the_version_is_that_of_the_distribution():
    assert fastdrop.__version__ == importlib.metadata.version("fastdrop-kernels")


def test_no_other_attribute():
    with pytest.raises(AttributeError, match="module 'fastdrop' has no attribute 'tensorflow'"):
        fastdrop.tensorflow  # noqa: B018
    assert not hasattr(fastdrop, "Path")


def test_a_wrong_name_gets_a_suggestion(run_python):
    assert "Did you mean: 'dropout'?" in run_python("import fastdrop; fastdrop.drop_out").stderr


LOAD = """
import sys, fastdrop
slow = {"importlib.metadata", "json", "subprocess", "click", "rich", "numba", "matplotlib", "sklearn", "optuna", "asyncio"}
loaded = {name for name in sys.modules if name in slow}
loaded |= {name for name in sys.modules if name.startswith("fastdrop.") and name.split(".")[1] in fastdrop.SUBMODULES}
print(*sorted(loaded))
"""


def test_importing_the_package_loads_no_submodule_and_nothing_slow(run_python):
    done = run_python(LOAD)
    assert set(done.stdout.split()) <= {"fastdrop.elementary"}, done.stderr


@pytest.mark.parametrize("name", LOADED_LATER)
def test_a_submodule_loads_when_it_is_named(run_python, name):
    if name in ("dask", "jax", "keras", "thinc", "torch") and importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    program = f"import fastdrop, sys; assert 'fastdrop.{name}' not in sys.modules; print(fastdrop.{name}.__name__)"
    done = run_python(program, KERAS_BACKEND="numpy")  # Keras loads its backend, and TensorFlow may not be installed
    assert done.stdout.strip() == f"fastdrop.{name}", done.stderr


EVERYTHING = """
import pickle
import numpy as np, fastdrop
for name in dir(fastdrop):
    getattr(fastdrop, name)
x, layer = np.ones(5000, np.float32), fastdrop.nn.Dropout(0.3, seed=fastdrop.Stream(3))
copy = pickle.loads(pickle.dumps(layer))
wanted = fastdrop.dropout(x, 0.3, seed=3).tobytes()
print(copy(x).tobytes() == wanted, layer(x).tobytes() == wanted)
try:
    fastdrop.dropout(x, 2, seed=3)
except ValueError as error:
    print(error)
"""
OPTIONS = {
    "development mode": {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error"},
    "no docstrings and assertions": {"PYTHONOPTIMIZE": "2"},
    "safe path": {"PYTHONSAFEPATH": "1", "PYTHONNOUSERSITE": "1"},
}


@pytest.mark.parametrize("options", OPTIONS)
def test_pythons_options(run_python, options):
    done = run_python(EVERYTHING, **OPTIONS[options])
    assert (done.stdout, done.stderr) == ("True True\np must be in [0, 1], the probability of dropping; got 2\n", "")
