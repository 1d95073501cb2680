"""One rule for each kind of argument, in every public function: a new function is covered by its signature.

A bool, a list and an array of one element are not numbers; objects with a truth value are not flags; a float is not a seed. A
wrong argument is refused before anything is drawn or written.
"""

import inspect
import re
from decimal import Decimal

import numpy as np
import pytest

import fastdrop
from fastdrop import elementary, losses, theory
from fastdrop.verify.cases import GUARD

# Arguments that a call needs, by keyword; and those of certain functions, where the usual ones do not fit.
ONES = np.ones((2, 4, 6), np.float32)
MAPS = np.ones((2, 4, 8, 8), np.float32)
SQUARE = np.ones((4, 4), np.float32)
USUAL = {
    "cov": None,
    "data": 1,
    "depth": 3,
    "grad": ONES,
    "grad_mean": [1.0],
    "grad_var": [1.0],
    "group_size": 2,
    "input_dim": 4,
    "k": 3,
    "log_alpha": np.zeros_like(ONES),
    "log_sigma2": SQUARE,
    "logits": ONES,
    "mask": np.ones(ONES.shape, bool),
    "mean": 0.0,
    "n": 3,
    "name": "c",
    "new": ONES,
    "num_tokens": 4,
    "number": 1,
    "p": 0.3,
    "p_logit": -1.0,
    "previous": ONES,
    "scores": ONES,
    "seed": 1,
    "shape": (2, 4, 6),
    "spatial": (8, 8),
    "temperature": 0.1,
    "u": np.ones((4, 2)),
    "v": np.ones((4, 2)),
    "var": 1.0,
    "weight": SQUARE,
    "weights": SQUARE,
    "widths": 2,
    "x": ONES,
}
LOGITS = {"first": np.zeros((2, 3)), "second": np.zeros((2, 3)), "targets": [0, 1]}
MOMENTS = {"x": [1.0, 2.0], "weight": [[1.0], [2.0]]}
DENSE = {"x": np.ones((3, 4), np.float32), "grad": np.ones((3, 4), np.float32)}
OWN = {
    "adl": {"x": MAPS, "grad": MAPS},
    "attention_dropout": {"x": MAPS, "grad": MAPS},
    "drop_block": {"x": MAPS, "grad": MAPS, "mode": "unscaled"},
    "drop_connect": DENSE,
    "drop_connect_moments": DENSE,
    "drop_head": {"x": MAPS, "grad": MAPS},
    "drop_key": {"x": MAPS, "grad": MAPS},
    "dropout3d": {"x": MAPS[:, :, None], "grad": MAPS[:, :, None]},
    "gaussian_dropout": {"log_alpha": None},
    "log_alpha": {"grad": SQUARE},
    "multinomial_dropout": {"probabilities": np.full(6, 1 / 6)},
    "embedding_dropout": {"x": SQUARE, "grad": SQUARE},
    "patch_dropout": {"grad": np.ones((2, 2, 6), np.float32), "p": 0.5},
    "shakeout": {"weight": SQUARE, "grad": SQUARE},
    "targeted_dropout": {"grad": SQUARE},
    "token_dropout": {"grad": np.ones((2, 2, 6), np.float32), "num_tokens": 4, "p": 0.5},
    "variational_dense": DENSE,
    "variance_inflation": {"p": 0.3},
    "variance_shift": {"p": 0.3},
    "variational_dropout": {**DENSE, "log_alpha": np.zeros(4, np.float32)},
    "weight_drop": {"grad": SQUARE},
    "set_isa": {"name": "portable"},
    "dropout_regularizer": {"weights": [np.ones((4, 3)), np.ones((3, 2))]},
    "fast_dropout_moments": MOMENTS,
    "r_drop_loss": LOGITS,
}


def public_functions():
    found = {name: getattr(fastdrop, name) for name in fastdrop.__all__ if name != "using"}  # which checks when it is entered
    for module in (elementary, losses, theory):
        found |= {name: getattr(module, name) for name in module.__all__}
    return found


FUNCTIONS = public_functions()


def good_arguments(name):
    """Return the arguments of a call that works: those that the signature requires."""
    own = OWN.get(name.removesuffix("_backward"), {})
    return {
        word: own.get(word, USUAL.get(word))
        for word, parameter in inspect.signature(FUNCTIONS[name]).parameters.items()
        if parameter.default is parameter.empty or word in own or word == "seed"
    }


def functions_with(word):
    return [name for name, function in FUNCTIONS.items() if word in inspect.signature(function).parameters]


def refused(name, word, value, exceptions, pattern):
    """Check that a function refuses a value of a keyword, with a sentence that names it, and writes and draws nothing."""
    arguments = good_arguments(name)
    with pytest.raises(exceptions, match=pattern):
        FUNCTIONS[name](**{**arguments, word: value})
    if word != "seed" and "out" in inspect.signature(FUNCTIONS[name]).parameters and not name.endswith("_backward"):
        made = FUNCTIONS[name](**arguments)
        if isinstance(made, np.ndarray):
            out = np.full_like(made, GUARD)
            with pytest.raises(exceptions, match=pattern):
                FUNCTIONS[name](**{**arguments, word: value, "out": out})
            assert (out == np.full_like(made, GUARD)).all()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_good_arguments_are_good(name):
    """Else the other tests here would see nothing. A function with a new required keyword needs it in the table above."""
    if name in ("Key", "Stream"):
        return
    FUNCTIONS[name](**good_arguments(name))


# Arrays -------------------------------------------------------------------------------------------------------------


class Counted:
    """An object that counts how often it is converted to an array."""

    def __init__(self, array):
        self.array, self.times = array, 0

    def __array__(self, dtype=None, copy=None):
        self.times += 1
        return self.array


VARIED = {"training": False, "gather": False, "renormalize": True, "exact_mean": True, "return_indices": True, "unit": "output"}
VARIED |= {"among": "layer", "window": 2, "shared_axes": (0,), "per": "batch", "backend": "numpy"}
CONVERTED = [
    (name, word)
    for name in FUNCTIONS
    for word, value in (good_arguments(name) if name not in ("Key", "Stream") else {}).items()
    if isinstance(value, np.ndarray)
]


@pytest.mark.parametrize(("name", "word"), CONVERTED)
def test_an_array_is_converted_once(name, word):
    """An object may give another array the second time: then the shape that was checked is not that of the elements."""
    given = good_arguments(name)
    for more in ({}, *({key: value} for key, value in VARIED.items() if key in inspect.signature(FUNCTIONS[name]).parameters)):
        counted = Counted(given[word])
        try:
            FUNCTIONS[name](**{**given, **more, word: counted})
        except ValueError:  # not every function takes every value
            assert more
        assert counted.times <= 1, more


def test_the_tokens_of_an_embedding_are_converted_once():
    given = {"x": np.ones((2, 3, 4), np.float32), "tokens": np.zeros((2, 3), np.int64)}
    for word, value in given.items():
        counted = Counted(value)
        fastdrop.embedding_dropout(**{**given, word: counted}, num_embeddings=5, seed=1)
        assert counted.times == 1


# Rates --------------------------------------------------------------------------------------------------------------

NO_RATES = [True, np.True_, "0.5", None, [0.1, 0.2], (0.5,), 0.5j, np.array([True, False]), np.array("0.5"), np.array(True)]
WITHOUT_A_RATE = {"variance_shift", "variance_inflation"}  # p=None there: the noise is named by another keyword
MANY_RATES = {"dropout_regularizer", "nuclear_norm_envelope", "variance_shift", "variance_inflation"}  # p may be a sequence


@pytest.mark.parametrize("value", NO_RATES, ids=repr)
@pytest.mark.parametrize("name", functions_with("p"))
def test_what_is_no_rate(name, value):
    base = name.removesuffix("_backward")
    if (value is None and base in WITHOUT_A_RATE) or (isinstance(value, (list, tuple)) and base in MANY_RATES):
        pytest.skip("is one here")
    refused(name, "p", value, TypeError, r"\bp\b.* must be ")


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan, np.inf, np.float32(2), 10**400, Decimal("sNaN")], ids=repr)
@pytest.mark.parametrize("name", functions_with("p"))
def test_what_is_a_rate_outside_its_range(name, value):
    refused(name, "p", value, ValueError, r"\bp\b.* must be ")


def takes_rates(name):
    """Whether a function says that p may be an array of one per element."""
    return inspect.signature(FUNCTIONS[name]).parameters["p"].annotation in ("Rate", inspect.Parameter.empty)


@pytest.mark.parametrize("name", [name for name in functions_with("p") if name.removesuffix("_backward") not in MANY_RATES])
def test_an_array_of_one_rate_is_taken_where_each_element_may_have_its_own_and_nowhere_else(name):
    arguments = good_arguments(name) | {"p": np.array([0.3])}
    if takes_rates(name):
        FUNCTIONS[name](**arguments)
    else:
        with pytest.raises(TypeError, match=r"\bp must be a number in \[0, 1\]"):
            FUNCTIONS[name](**arguments)


# Flags, seeds, places, engines --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["no", "True", 1, 0, None, [], np.array([True])], ids=repr)
@pytest.mark.parametrize("name", functions_with("training"))
def test_what_is_no_flag(name, value):
    refused(name, "training", value, TypeError, "training must be True or False; got ")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", [name for name in functions_with("out") if name in functions_with("training")])
def test_what_is_no_output(name, training):
    if name in ("patch_dropout_backward", "token_dropout_backward") and not training:
        pytest.skip("needs a gradient of another shape")
    arguments = {**good_arguments(name), "training": training}
    made = FUNCTIONS[name](**arguments)
    y = np.array(made[0] if isinstance(made, tuple) else made)
    read_only = y.copy()
    read_only.flags.writeable = False
    for out, exception in (
        (y.tolist(), TypeError),
        (np.ones(y.shape, np.int32), TypeError),
        (y[..., None].copy(), ValueError),
        (read_only, ValueError),
    ):
        with pytest.raises(exception, match=r"^out must "):
            FUNCTIONS[name](**{**arguments, "out": out})


@pytest.mark.parametrize("value", [True, np.True_, 1.0, "1", 1j, [1], np.float64(1)], ids=repr)
@pytest.mark.parametrize("name", functions_with("seed"))
def test_what_is_no_seed(name, value):
    refused(name, "seed", value, TypeError, r"seed must be ")


@pytest.mark.parametrize("value", [-1, 2**64], ids=repr)
@pytest.mark.parametrize("name", functions_with("seed"))
def test_what_is_a_seed_outside_its_range(name, value):
    refused(name, "seed", value, ValueError, r"seed must be .*\[0, 2\*\*64\)")


@pytest.mark.parametrize(("value", "exception"), [(True, TypeError), (1.0, TypeError), (None, TypeError), (-1, ValueError)])
@pytest.mark.parametrize("name", functions_with("offset"))
def test_what_is_no_offset(name, value, exception):
    refused(name, "offset", value, exception, r"offset must be an integer in \[0, 2\*\*64\)")


@pytest.mark.parametrize(("value", "exception"), [(True, TypeError), (1.0, TypeError), (None, TypeError), (-1, ValueError)])
@pytest.mark.parametrize("name", functions_with("start"))
def test_what_is_no_start(name, value, exception):
    refused(name, "start", value, exception, "start must be .*>= 0")


@pytest.mark.parametrize("name", ["feature_alpha_dropout", "shakeout", "dropout2d_backward"])
def test_a_start_past_the_end_of_a_shared_mask_is_named_alone(name):
    refused(name, "start", 2**60, OverflowError, f"has 2\\*\\*55 elements; start {2**60} goes past the end$")


NO_PLACES = {
    "a start before the first element": ({"start": -1}, "start must be >= 0; got -1"),
    "a start past the end": ({"start": 2**64}, "goes past the end"),
    "a shape without the block": ({"global_shape": (1,) * 9}, "global_shape .* must have one number per axis of the block"),
    "no shape": ({"global_start": (0, 0)}, "global_start needs global_shape"),
}


@pytest.mark.parametrize("place", NO_PLACES)
@pytest.mark.parametrize("name", [name for name in functions_with("global_shape") if name in functions_with("training")])
def test_what_is_no_place_is_refused_outside_training_too(name, place):
    more, pattern = NO_PLACES[place]
    with pytest.raises((ValueError, OverflowError), match=pattern):
        FUNCTIONS[name](**good_arguments(name), training=False, **more)


@pytest.mark.parametrize("start", [2**49 - 1, 2**49, 2**50 - 1, 2**50, 2**55 - 1, 2**55])
@pytest.mark.parametrize("name", [name for name in functions_with("start") if name in functions_with("training")])
def test_the_end_of_the_stream_is_the_same_outside_training(name, start):
    """Noise and draws need words, of which the stream has fewer than bits of masks."""
    refusals = []
    for training in (True, False):
        try:
            FUNCTIONS[name](**{**good_arguments(name), "start": start, "training": training})
            refusals.append(None)
        except (OverflowError, ValueError) as error:
            refusals.append(str(error))
    assert refusals[0] == refusals[1]


PER_SAMPLE = {"x": ONES, "grad": ONES, "tokens": np.zeros((2, 4), np.int64), "num_embeddings": 5, "per": "sample"}
PLACED = {"attention_dropout": {"unit": "key"}, "embedding_dropout": PER_SAMPLE}


@pytest.mark.parametrize("name", functions_with("global_shape"))
def test_a_place_is_read_once(name):
    """An iterator has nothing the second time."""
    taken = inspect.signature(FUNCTIONS[name]).parameters
    for more in ({}, PLACED.get(name.removesuffix("_backward"), {})):
        given = good_arguments(name) | {word: value for word, value in more.items() if word in taken}
        first = given[next(iter(taken))]
        whole = getattr(first, "shape", first)
        begin = (0,) * len(whole)
        wanted = FUNCTIONS[name](**given, global_shape=whole, global_start=begin)
        np.testing.assert_equal(FUNCTIONS[name](**given, global_shape=iter(whole), global_start=iter(begin)), wanted)


@pytest.mark.parametrize(("value", "exception"), [(True, TypeError), (1.5, TypeError), ("2", TypeError), (0, ValueError)])
@pytest.mark.parametrize("name", functions_with("num_threads"))
def test_what_is_no_number_of_threads(name, value, exception):
    refused(name, "num_threads", value, exception, "num_threads must be an integer >= 1")


@pytest.mark.parametrize("value", ["cuda", "", True, ["c"]], ids=repr)
@pytest.mark.parametrize("name", functions_with("backend"))
def test_what_is_no_backend(name, value):
    refused(name, "backend", value, ValueError, "unknown backend .*'c', 'numba', 'numpy'")


ITSELF = re.compile(r'outside\s+training,?\s+`grad`\s+itself(\s+unless\s+`mode`\s+is\s+``"standard"``)?')


@pytest.mark.parametrize("mode", ["inverted", "standard", "unscaled"])
@pytest.mark.parametrize("name", [name for name in functions_with("mode") if ITSELF.search(FUNCTIONS[name].__doc__)])
def test_the_gradient_outside_training_is_grad_itself_where_the_docstring_says_so(name, mode):
    given, kind = good_arguments(name), inspect.signature(FUNCTIONS[name]).parameters["mode"].annotation
    if kind != "Mode" and mode == "standard":
        with pytest.raises(ValueError, match="mode must be"):
            FUNCTIONS[name](**{**given, "mode": mode}, training=False)
        return
    found = FUNCTIONS[name](**{**given, "mode": mode}, training=False)
    assert (found is given["grad"]) == (mode != "standard" or not ITSELF.search(FUNCTIONS[name].__doc__)[1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", [name for name in functions_with("grad") if name in fastdrop.__all__])
def test_the_arrays_that_a_backward_function_returns_have_the_dtypes_that_its_annotation_has(name, dtype):
    """For type checkers, ``NDArray[Any]`` has the dtype of the first array (tests/package_stubs.py)."""
    given = {key: np.asarray(value, dtype) if is_float(value) else value for key, value in good_arguments(name).items()}
    if name == "adaptive_dropout_backward":
        given |= {"estimator": "straight_through", "x": given["logits"]}
    wanted = re.findall(r"NDArray\[(\S+)\]", str(inspect.signature(FUNCTIONS[name]).return_annotation))
    for training in (True, False) if "num_tokens" not in given else (True,):  # outside training grad has all tokens
        made = FUNCTIONS[name](**given, training=training)
        for result, kind in zip(made if isinstance(made, tuple) else [made], wanted, strict=False):
            assert result is None or result.dtype == (np.float64 if kind == "np.float64" else dtype)


def is_float(value):
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


# Names --------------------------------------------------------------------------------------------------------------

NO_NAMES = [np.array(["inverted", "inverted"]), np.array([]), np.ones(2), ["sample"], 1]
WORDS = (
    "mode",
    "per",
    "unit",
    "among",
    "data_format",
    "empty_rows",
    "noise",
    "estimator",
    "approximation",
    "form",
    "rule",
    "backend",
)


@pytest.mark.parametrize("value", NO_NAMES, ids=repr)
@pytest.mark.parametrize(("name", "word"), [(name, word) for word in WORDS for name in functions_with(word)])
def test_what_is_no_name(name, word, value):
    """An array is compared element by element, so that a comparison with a name has no truth value."""
    arguments = good_arguments(name) | {word: value}
    with pytest.raises(ValueError, match=rf"{word} (must be |.*the backends are )"):
        FUNCTIONS[name](**arguments)
