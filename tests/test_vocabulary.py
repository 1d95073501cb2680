"""One keyword, one meaning: every public signature, held against the table of docs/architecture.md."""

import dataclasses
import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import fastdrop

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="the page is not beside the tests")

COMMON = ["seed", "offset", "training", "out", "start", "global_shape", "global_start", "backend", "num_threads"]
MODULES = ["elementary", "federated", "losses", "monitor", "nn", "schedules", "theory", "tuning", "uncertainty"]


# The table ----------------------------------------------------------------------------------------------------------


def shown(default):
    """Return how the page writes a default."""
    if isinstance(default, str):
        return f'"{default}"'
    if isinstance(default, type):
        return default.__name__
    return (
        {np.inf: "inf", -np.inf: "-inf", 2 / 3: "2 / 3"}.get(default, repr(default))
        if isinstance(default, float)
        else repr(default)
    )


def plain(name):
    """Return the name that a function, its backward function and its layer share."""
    return name.rpartition(".")[2].removesuffix("_backward").replace("_", "").lower()


class Word:
    """The page's entry for a keyword: its types, its default, and the defaults of certain functions."""

    def __init__(self, types, default, elsewhere):
        self.types = {text.replace("\\|", "|") for text in re.findall(r"`(.+?)`", types)}
        self.defaults = {default.strip(" `")} - {""}
        self.elsewhere = {}
        for value, names in re.findall(r"`([^`]+)`: ([^;]+)", elsewhere):
            for name in names.split(","):
                self.elsewhere.setdefault(plain(name.strip()), set()).add(value)

    def allows(self, name, default):
        return shown(default) in self.elsewhere.get(plain(name), set()) | self.defaults


def read_words(text):
    """Return the words of the page's tables. A row may have several keywords, with a default each."""
    words = {}
    section = text.partition("## One vocabulary")[2].partition("\n## ")[0]
    for line in section.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 5 and cells[0].startswith("`"):
            names = re.findall(r"`(\w+)`", cells[0])
            defaults = re.split(r",(?![^(]*\))", cells[3])  # not within the brackets of a tuple
            defaults = defaults * len(names) if len(defaults) == 1 else defaults
            for name, default in zip(names, defaults, strict=True):
                assert name not in words, f"{name} has two rows"
                words[name] = Word(cells[2], default, cells[4])
    return words


def read_left_out(text):
    """Return the keywords that backward functions do not have."""
    words = " ".join(text.split())  # the sentence may run over several lines
    return set(re.findall(r"`(\w+)`", words.partition("They leave out ")[2].partition(", on which")[0]))


def read_exceptions(text):
    """Return the backward functions that have a `bias` all the same, and those that have no `out`."""
    section = " ".join(text.split()).partition("They leave out ")[2].partition(" ## ")[0]
    with_bias, _, rest = section.partition(" But ")[2].partition(" have `bias`")
    return [set(re.findall(r"`([\w.]+_backward)`", part)) for part in (with_bias, rest)]


WORDS = read_words(PAGE.read_text()) if PAGE.is_file() else {}
LEFT_OUT = read_left_out(PAGE.read_text()) if PAGE.is_file() else set()
WITH_BIAS, WITHOUT_OUT = read_exceptions(PAGE.read_text()) if PAGE.is_file() else (set(), set())


# The signatures -----------------------------------------------------------------------------------------------------


def public_functions():
    """Return every public function and class of the package and its modules, by name; the classes of results are not called."""
    found = {name: getattr(fastdrop, name) for name in fastdrop.__all__}
    for part in MODULES:
        module = importlib.import_module(f"fastdrop.{part}")
        found |= {f"{part}.{name}": getattr(module, name) for name in module.__all__}
    return {name: value for name, value in found.items() if callable(value) and not is_result(value)}


def is_result(value):
    """Whether users only read it: a record, or the shape of a function of theirs. Schedules are records that they make."""
    if value is fastdrop.Key or str(getattr(value, "__module__", "")).startswith("fastdrop.schedules."):
        return False
    return dataclasses.is_dataclass(value) or getattr(value, "_is_protocol", False) or hasattr(value, "_fields")


def faults(name, function, words=WORDS, left_out=LEFT_OUT, forward=None):
    """Return a sentence for each thing that is wrong with a signature."""
    parameters = inspect.signature(function).parameters
    said = [f"{name} is named for a gradient, and not _backward"] if name.endswith("_gradient") else []
    said += [f"{name} has {word!r}, which the vocabulary has not" for word in parameters if word not in words]
    for word, parameter in parameters.items():
        if word not in words:
            continue
        if parameter.default is not parameter.empty and not words[word].allows(name, parameter.default):
            said.append(f"{name} has {word}={shown(parameter.default)}")
        if word in COMMON and parameter.annotation is not parameter.empty and parameter.annotation not in words[word].types:
            said.append(f"{name} has {word}: {parameter.annotation}")
    common = [word for word, parameter in parameters.items() if word in COMMON and parameter.kind is parameter.KEYWORD_ONLY]
    at_the_end = list(parameters)[len(parameters) - len(common) :]
    if not inspect.isclass(function) and not common == at_the_end == sorted(common, key=COMMON.index):
        said.append(f"{name} does not end with the common keywords in their order")
    if forward is not None:
        arrays = {
            word
            for word, parameter in inspect.signature(forward).parameters.items()
            if "ArrayLike" in str(parameter.annotation)
        }
        without = {"out"} if name in WITHOUT_OUT else set()
        missing = inspect.signature(forward).parameters.keys() - parameters.keys() - arrays - left_out - without - {"x"}
        said += [f"{name} has no {word!r}, which its forward function has" for word in sorted(missing)]
    return said


FUNCTIONS = public_functions()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signature_is_in_the_vocabulary(name):
    forward = FUNCTIONS.get(name.removesuffix("_backward")) if name.endswith("_backward") else None
    assert not faults(name, FUNCTIONS[name], forward=forward)


def test_every_backward_function_has_a_forward_one():
    assert not [name for name in FUNCTIONS if name.endswith("_backward") and name.removesuffix("_backward") not in FUNCTIONS]


def test_the_exceptions_of_backward_functions():
    words = {name: inspect.signature(function).parameters.keys() for name, function in FUNCTIONS.items()}
    backward = {name: words[name.removesuffix("_backward")] - words[name] for name in FUNCTIONS if name.endswith("_backward")}
    assert {name for name in backward if "bias" in words[name]} == WITH_BIAS
    assert {name for name, lacking in backward.items() if "out" in lacking} == WITHOUT_OUT


def test_functions_that_lack_keywords_for_a_place_are_in_the_tables_of_limits():
    tables = PAGE.read_text().partition("\n## Limits of a block")[2].partition("\n## ")[0]
    rows = {
        name for line in tables.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    place, made = {"start", "global_shape", "global_start"}, {"Key", "Stream", "fold_in"}
    words = {name: inspect.signature(FUNCTIONS[name]).parameters.keys() for name in fastdrop.__all__}
    lacking = {name.removesuffix("_backward") for name in words if "seed" in words[name] and place - words[name]}
    assert lacking - made <= rows


def test_every_word_is_used():
    """By a function; a row that nothing uses any more is to be taken out."""
    used = {word for function in FUNCTIONS.values() for word in inspect.signature(function).parameters}
    assert WORDS.keys() - used == set()


def test_words_that_were_given_up_do_not_come_back():
    for word in (
        "shared",
        "shared_channels",
        "time_axis",
        "drop_rate",
        "variational",
        "inverted",
        "alpha",
        "beta",
        "variance",
        "type",
    ):
        assert word not in WORDS


# Seeded violations --------------------------------------------------------------------------------------------------


def good(x, p=0.5, *, mode="inverted", seed: "Seed | None" = None, offset: "int" = 0, out: "NDArray[Any] | None" = None): ...  # noqa: F821


def good_backward(grad, p=0.5, *, mode="inverted", seed: "FixedSeed", offset: "int" = 0, out: "NDArray[Any] | None" = None): ...  # noqa: F821


def unknown(x, rate=0.5): ...


def other_default(x, p=0.1, *, mode="standard"): ...


def other_order(x, *, offset=0, seed=None): ...


def common_first(x, *, seed=None, mode="inverted"): ...


def other_type(x, *, seed: "Any" = None): ...  # noqa: F821


def less_backward(grad, p=0.5, *, seed): ...


def loss_gradient(x): ...


def test_a_good_signature_has_no_fault():
    assert faults("good", good) == faults("good_backward", good_backward, forward=good) == []
    assert faults("word_dropout", lambda x, p=0.05: x) == faults("nn.WordDropout", lambda p=0.05: p) == []


@pytest.mark.parametrize(
    ("function", "forward", "sentences"),
    [
        (unknown, None, ["unknown has 'rate', which the vocabulary has not"]),
        (other_default, None, ["other_default has p=0.1", 'other_default has mode="standard"']),
        (other_order, None, ["other_order does not end with the common keywords in their order"]),
        (common_first, None, ["common_first does not end with the common keywords in their order"]),
        (other_type, None, ["other_type has seed: Any"]),
        (
            less_backward,
            good,
            [f"less_backward has no {word!r}, which its forward function has" for word in ("mode", "offset", "out")],
        ),
        (loss_gradient, None, ["loss_gradient is named for a gradient, and not _backward"]),
    ],
)
def test_a_violation_is_reported(function, forward, sentences):
    assert faults(function.__name__, function, forward=forward) == sentences
