"""Configurations of layers, and what they say of themselves: descriptions, signatures, docstrings, errors."""

import copy
import doctest
import inspect
import json
from decimal import Decimal
from fractions import Fraction
from typing import Literal

import numpy as np
import pytest
from comparisons import assert_same_bytes
from layer_cases import ALL, CASES, connect, made, model, trained

import fastdrop
from fastdrop import nn, schedules
from fastdrop._core.docstrings import sections

# Configurations -----------------------------------------------------------------------------------------------------


@ALL
def test_a_layer_is_made_again_from_its_configuration(name):
    layer, arrays, more = made(name)
    config = json.loads(json.dumps(layer.to_config(), allow_nan=False))
    again = nn.Layer.from_config(config)
    assert type(again) is type(layer)
    assert again.to_config() == config
    again.load_state_dict(layer.state_dict())
    assert_same_bytes(again(*arrays, **more), layer(*arrays, **more))


def test_a_model_is_made_again_from_its_configuration():
    net = model()
    config = json.loads(json.dumps(net.to_config(), allow_nan=False))
    again = nn.Sequential.from_config(config)
    trained(net, 3)
    assert net.to_config() == config  # what changes in training is state
    again.load_state_dict(net.state_dict())
    for one, other in zip(trained(net, 3, first=3), trained(again, 3, first=3), strict=True):
        assert_same_bytes(one, other)
    assert "GroupDropout" in repr(again)


def net_that_shares(stream=None):
    """Return layers that share a stream, and a controller deep inside their schedules."""
    stream, rates = stream or fastdrop.Stream(4), schedules.layerwise(schedules.ValidationDriven(0.4, target=0.1), 2)
    inner = nn.Sequential(nn.Dropout(rates[1], seed=stream), nn.Dropout(rates[0], seed=5))
    return nn.Sequential(nn.Dropout(0.5, seed=stream), inner, nn.Dropout(0.5, seed=4))


def test_what_layers_share_is_shared_again():
    net, x = net_that_shares(), np.ones(64)
    config = json.loads(json.dumps(net.to_config(), allow_nan=False))
    assert config["shared parts"] == [["0.stream", "1.0.stream"], ["1.0.p.schedule", "1.1.p.schedule"]]
    net(x)
    net[1][1].p.schedule.update(1.0, 2.0)
    again = nn.Layer.from_config(config)
    again.load_state_dict(net.state_dict())
    assert again[0].stream is again["1.0"].stream is not again[2].stream
    for _ in range(3):
        assert_same_bytes(again(x), net(x))
        for each in (net, again):
            each["1.0"].p.schedule.update(1.0, 1.0)
        assert again["1.1"].rate == net["1.1"].rate
    assert "shared parts" not in nn.Layer.from_config(config).seed(1)[2].to_config()


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        (3, "must be lists of names such as ['0.stream', '1.0.stream']; got 3"),
        ([[]], "must be lists of names such as"),
        ([["0.stream", "3.stream"]], "must be lists of names such as"),
        ([["0.stream", "1.0.p.schedule"]], "must name parts of one class in each list; got [['0.stream', '1.0.p.schedule']]"),
        ([["0.stream", "2.stream"]], "shared parts is [['0.stream', '2.stream'], ['1.0.p.schedule', '1.1.p.schedule']] here"),
    ],
)
def test_names_of_shared_parts_that_cannot_be_followed(groups, sentence):
    with pytest.raises(ValueError, match="shared parts") as caught:
        nn.Layer.from_config(net_that_shares().to_config() | {"shared parts": groups})
    assert sentence in str(caught.value)


class Scale(nn.Layer):
    """A layer of one's own, with an argument."""

    def __init__(self, factor, copies=1):
        super().__init__()
        self.factor = factor
        self.add_parameter("shift", np.zeros(copies))

    def own_config(self):
        return {"factor": self.factor}


@pytest.mark.parametrize(
    ("config", "error", "sentence"),
    [
        ({"class": "Dropuot", "p": 0.5}, ValueError, "no class Dropuot is a Layer; import the module that defines it first"),
        ({"p": 0.5}, TypeError, "must be a dictionary with the name of a class under 'class'"),
        ("{}", TypeError, "must be a dictionary with the name of a class under 'class'; got '{}'"),
        ({"class": "Dropout", "rate": 0.5}, TypeError, "Dropout: got an unexpected keyword argument 'rate'"),
        ({"class": "Dropout", "p": 0.5}, ValueError, "mode is 'inverted' here, None in the configuration"),
        (lambda: nn.Dropout(lambda step: 0.5).to_config(), ValueError, "which a configuration cannot hold; use a Schedule"),
        (lambda: Scale(2.0, 3).to_config(), ValueError, "parameters.shift.shape is [1] here, [3] in the configuration"),
        ({"class": "Scale", "size": 3}, TypeError, "Scale must define own_config() and build(config) for its arguments"),
        ({"class": "Sequential", "layers": ["Dropout"]}, TypeError, "layers in a configuration must be a dictionary"),
        (lambda: connect().to_config() | {"parameters": 3}, TypeError, "parameters in a configuration must be a dictionary"),
        (
            lambda: connect().to_config() | {"parameters": {"weight": {"shape": [2, 2]}}},
            ValueError,
            "parameters.weight in a configuration must have a shape and a dtype",
        ),
    ],
)
def test_a_configuration_that_cannot_be_followed(config, error, sentence):
    with pytest.raises(error) as caught:
        nn.Layer.from_config(config() if callable(config) else config)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("number", [Fraction(1, 4), Decimal("0.25"), np.longdouble(0.25)])
@pytest.mark.parametrize(
    "make",
    [
        lambda number: nn.Dropout(number),
        lambda number: nn.AlphaDropout(number, mean=number),
        lambda number: nn.UniformDropout(number),
        lambda number: nn.AdaptiveDropout(number, shift=number),
        lambda number: nn.TargetedDropout(0.5, fraction=number),
    ],
)
def test_numbers_that_json_cannot_hold_become_floats_in_a_configuration(make, number):
    layer = make(number)
    state = layer.state_dict()
    assert layer.to_config() == make(0.25).to_config()
    nn.Layer.from_config(layer.to_config()).load_state_dict(state)


def test_rates_in_long_doubles_become_floats_in_a_configuration():
    config = nn.Dropout(np.full(3, 0.25, np.longdouble)).to_config()
    assert json.loads(json.dumps(config)) == config == nn.Dropout(np.full(3, 0.25)).to_config()


def test_a_configuration_has_one_class():
    assert nn.Layer.from_config(Scale(2.0).to_config()).factor == 2.0
    with pytest.raises(ValueError, match="no class Dropout is a AlphaDropout"):
        nn.AlphaDropout.from_config(nn.Dropout(0.5).to_config())
    with pytest.raises(TypeError, match="shared_axes cannot be written into a configuration"):
        nn.Dropout(0.5, shared_axes={0}).to_config()


# Descriptions -------------------------------------------------------------------------------------------------------


def test_a_description_has_what_a_model_card_needs():
    net = nn.Sequential(
        {
            "rates": nn.Dropout(np.linspace(0, 0.5, 5)),
            "gap": nn.DropBlock(schedules.Linear(0.0, 0.2, 10).clipped(0.1), 3),
            "learned": nn.ConcreteDropout(0.3),
            "noise": nn.GaussianNoise(2.0),
            "keys": nn.DropKey(0.1),
            "inner": nn.Sequential(nn.Dropout(0.5, mode="standard")),
        },
        seed=42,
    )
    table = nn.describe(net)
    rows = json.loads(table.to_json())
    assert [row["layer"] for row in rows] == ["rates", "gap", "learned", "noise", "keys", "inner.0"]
    assert [row["technique"] for row in rows][:3] == ["Dropout", "DropBlock", "ConcreteDropout"]
    assert [row["scaling"] for row in rows][-3:] == ["additive", "none", "standard"]
    assert rows[0]["rate"]["array"] == [0.0, 0.125, 0.25, 0.375, 0.5]
    assert (rows[1]["rate"], rows[1]["schedule"]["schedule"]["class"]) == (0.1, "Linear")
    assert rows[2]["rate"] == pytest.approx(0.3)
    assert (rows[3]["rate"], rows[3]["options"], rows[3]["paper"]) == (None, {"stddev": 2.0}, "")
    assert rows[5]["seed"] == fastdrop.Stream(42).fold_in("inner.0").seed
    assert {(row["stream"], row["version"]) for row in rows} == {(1, fastdrop.__version__)}
    assert rows[5]["paper"].endswith("JMLR 15 (2014) 1929-1958.")
    lines = table.to_markdown().splitlines()
    assert len(lines) == 2 + len(rows) == 2 + len(table)
    assert {line.count(" | ") for line in lines} == {10}
    assert "Clipped(schedule=Linear(start=0.0, end=0.2, steps=10, begin=0), low=0.1, high=1.0)" in lines[3]
    assert "| 0 to 0.5 |" in lines[2]
    assert (
        len(
            {
                line.index(str(seed))
                for line, seed in zip(repr(table).splitlines()[1:], (row.seed for row in table), strict=True)
            }
        )
        == 1
    )
    with pytest.raises(TypeError, match=r"model must be a fastdrop.nn.Layer; got 0.5"):
        nn.describe(0.5)


def test_a_description_has_the_key_of_the_next_pass():
    layer = nn.Dropout(0.5, seed=fastdrop.Key(1, 2))
    layer(np.ones(3))
    (row,) = nn.describe(layer)
    assert_same_bytes(layer(np.ones(64)), fastdrop.dropout(np.ones(64), row.rate, seed=row.seed, offset=row.offset))
    assert (row.seed, row.offset) == (1, 3)


@pytest.mark.parametrize(
    ("options", "scaling"),
    [
        ({}, "inverted"),
        ({"unit": "key"}, "by row sums"),
        ({"window": 2}, "by row sums"),
        ({"renormalize": True}, "by row sums"),
        ({"unit": "key", "renormalize": False}, "inverted"),
    ],
)
def test_the_scaling_of_attention_is_described(options, scaling):
    layer, x = nn.AttentionDropout(0.1, seed=1, **options), np.full((2, 2, 50, 50), 1 / 50)
    assert nn.describe(layer)[0].scaling == scaling
    y = layer(x)
    assert np.allclose(y.sum(-1), 1) == (scaling == "by row sums")
    assert np.allclose(y[y > 0], 1 / 50 / 0.9) == (scaling == "inverted")


def test_a_rate_that_became_nan_is_described():
    table = nn.describe(nn.GaussianDropout(log_alpha=np.nan))
    assert "  nan  " in repr(table)
    assert json.loads(table.to_json())[0]["rate"] == {"float": "nan"}


def test_every_technique_with_a_paper_has_it_in_its_row():
    without = {nn.describe(make())[0].technique for make, *_ in CASES.values() if not nn.describe(make())[0].paper}
    assert without <= {"GaussianNoise", "GroupDropout", "ImportanceDropout", "WordDropout"}


# Bad input ----------------------------------------------------------------------------------------------------------

SHARED = nn.Dropout(0.1)


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: nn.Dropout(1.5), ValueError, "p must be in [0, 1], the probability of dropping; got 1.5"),
        (lambda: nn.ConcreteDropout(0.0), ValueError, "p, the initial rate, must be above 0 and below 1; got 0.0"),
        (lambda: nn.Dropout("0.5"), TypeError, "p must be"),
        (lambda: nn.Dropout(None), TypeError, "p must be"),
        (
            lambda: nn.GaussianDropout(schedules.Late(0.5, 3), log_alpha=2.0),
            ValueError,
            "p must have no schedule if log_alpha is given, which is trained instead of p; got Late(p=0.5, cutoff=3)",
        ),
        (
            lambda: nn.Dropout(0.5, axes=2),
            TypeError,
            "Dropout: got an unexpected keyword argument 'axes'; it takes (p=0.5, *, mode=",
        ),
        (lambda: nn.Dropout(0.5, parameters=3), TypeError, "got an unexpected keyword argument 'parameters'; it takes (p=0.5,"),
        (lambda: nn.ConcreteDropout(parameters={}), TypeError, "argument 'parameters'; it takes (p=0.1, temperature=0.1"),
        (lambda: nn.DropConnect(np.eye(2), parameters={}), TypeError, "argument 'parameters'; it takes (weight, p=0.5"),
        (lambda: nn.Dropout(mode="keras"), ValueError, "mode must be one of 'inverted', 'standard', 'unscaled'; got 'keras'"),
        (lambda: nn.DropBlock(0.5, mode="standard"), ValueError, "mode must be one of 'inverted', 'unscaled'; got 'standard'"),
        (lambda: nn.DropPath(0.5, per="row"), ValueError, "per must be one of 'sample', 'batch'; got 'row'"),
        (lambda: nn.AdaptiveDropout(estimator=1), ValueError, "estimator must be one of 'none', 'straight_through'"),
        (lambda: nn.DropBlock(0.5, exact_rate="no"), TypeError, "exact_rate must be True or False; got 'no' (str)"),
        (lambda: nn.GroupDropout(0.5), TypeError, "GroupDropout: missing a required"),
        (lambda: nn.Zoneout(), TypeError, "Zoneout: missing a required"),
        (lambda: nn.Dropout(0.5, seed=-1), ValueError, "seed must be an integer in [0, 2**64); got -1"),
        (lambda: nn.Dropout(lambda step: 1.5).forward(np.ones(3)), ValueError, "p must be in [0, 1]"),
        (lambda: nn.Sequential([nn.Dropout(), 0.5]), TypeError, "layers must be fastdrop.nn.Layer objects; got 0.5 as '1'"),
        (lambda: nn.Sequential({"a.b": nn.Dropout()}), ValueError, "not empty, without dots; got 'a.b'"),
        (lambda: nn.Sequential({"": nn.Dropout()}), ValueError, "not empty, without dots; got ''"),
        (lambda: nn.Sequential([SHARED, nn.Sequential([SHARED])]), ValueError, "the layers '0' and '1.0' are one and the same"),
        (lambda: nn.Variant(0.5), TypeError, "Variant has no forward and backward function"),
        (lambda: nn.Dropout().advance(-1), ValueError, "steps must be >= 0; got -1"),
        (lambda: nn.Layer().forward(1), NotImplementedError, "Layer must define record(x)"),
        (lambda: nn.Layer().gradient(1, 1), NotImplementedError, "Layer must define gradient(grad, record)"),
    ],
)
def test_bad_input_is_answered_by_a_sentence(make, error, sentence):
    with pytest.raises(error) as caught:
        make()
    assert sentence in str(caught.value)


def test_a_layer_of_ones_own_takes_what_its_annotations_allow():
    def forward(
        x,
        p=0.5,
        *,
        how: "Literal['a'] | None" = "a",
        names: list["str"] = (),
        word: Literal["u", "v"] = "u",
        seed,
        offset=0,
        training=True,
    ):
        return fastdrop.dropout(x, p, seed=seed, offset=offset, training=training)

    class Own(nn.Variant, forward=forward, backward=forward):
        pass

    assert Own(how=None, names=["b"], word="v").options == {"how": None, "names": ("b",), "word": "v"}
    with pytest.raises(ValueError, match="word must be one of 'u', 'v'; got 'w'"):
        Own(word="w")


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: nn.Dropout(1.5, seed=seed),
        lambda seed: nn.Dropout(mode="invert", seed=seed),
        lambda seed: nn.ConcreteDropout(1.5, seed=seed),
        lambda seed: nn.SpatialConcreteDropout("x", seed=seed),
        lambda seed: nn.GaussianDropout(log_alpha="bad", seed=seed),
        lambda seed: nn.VariationalDense(np.ones((2, 2)), [1.0], seed=seed),
        lambda seed: nn.VariationalDropout([1.0], np.array(1.0), seed=seed),
        lambda seed: nn.DropConnect(np.ones((2, 2)), bias=[1.0], seed=seed),
        lambda seed: nn.Sequential(nn.Dropout(), 0.5, seed=seed),
    ],
)
def test_a_layer_that_cannot_be_made_draws_no_seed(make):
    generator = np.random.default_rng(1)
    with pytest.raises((TypeError, ValueError)):
        make(generator)
    assert generator.bit_generator.state == np.random.default_rng(1).bit_generator.state


def test_a_layer_says_what_it_is():
    assert repr(nn.DropBlock(0.1, 5)).startswith("DropBlock(0.1, block_size=5, exact_rate=False")
    assert "group_size" in str(inspect.signature(nn.GroupDropout))
    assert repr(nn.GaussianDropout(0.2)) == "GaussianDropout(0.2)"
    assert repr(nn.GaussianDropout(log_alpha=1)) == "GaussianDropout(log_alpha=1.0)"
    assert repr(nn.GaussianDropout(log_alpha=np.zeros(2))) == "GaussianDropout(log_alpha=array([0., 0.]))"
    inner = nn.Sequential({"drop": nn.DropHead(0.2)})
    assert repr(nn.Sequential(nn.DropHead(0.1), inner)).splitlines() == [
        "Sequential(",
        "  (0): DropHead(0.1)",
        "  (1): Sequential(",
        "    (drop): DropHead(0.2)",
        "  )",
        ")",
    ]


@pytest.mark.parametrize("name", nn.__all__)
def test_docstrings_of_classes(name):
    """Each has an example that runs, and describes each argument that it is made with, and no other."""
    cls = getattr(nn, name)
    finder = doctest.DocTestFinder(recurse=False)
    for test in finder.find(cls, name, globs={}):
        assert doctest.DocTestRunner().run(test).failed == 0
        assert test.examples or name in ("Description", "Record")
    if hasattr(cls, "functions"):
        section = sections(cls.__doc__)[1]["Parameters"]
        headings = [line.partition(" : ")[0] for line in section.splitlines() if line[:1].strip()]
        assert headings == list(inspect.signature(cls).parameters)
        assert "As in the function." not in section


def test_arguments_have_descriptions_of_their_own():
    for cls, second in ((nn.VariationalDense, "log_sigma2"), (nn.VariationalDropout, "log_alpha")):
        section = sections(cls.__doc__)[1]["Parameters"]
        weight, other = (
            section.partition(f"{name} : ")[2].partition("\n")[2].partition(" : ")[0] for name in ("weight", second)
        )
        assert "logarithm" in other
        assert "logarithm" not in weight
    for cls, headings in (
        (nn.AdaptiveDropout, ("gain : float, default 1\n", "shift : float, default 0\n")),
        (nn.AlphaDropout, ("mean : float, default 0\n", "var : float, default 1\n")),
    ):
        assert all(heading in cls.__doc__ for heading in headings)
    assert "a callable step -> k that returns an integer" in " ".join(nn.MultinomialDropout.__doc__.split())
    assert "such as those of `fastdrop.schedules`" not in nn.MultinomialDropout.__doc__
    with pytest.raises(TypeError, match="k must be an integer"):
        nn.MultinomialDropout(schedules.Linear(0.0, 1.0, 2))(np.ones((2, 3)))


def test_docstring_of_the_module():
    result = doctest.testmod(nn)
    assert result.attempted > 0
    assert result.failed == 0


def test_a_configuration_leaves_a_layer_without_a_seed_as_it_is():
    """Its stream is made at its first pass, so that copies drop independently."""
    layer = nn.Sequential(nn.Dropout(0.5))
    layer.to_config()
    first, second = copy.deepcopy(layer), copy.deepcopy(layer)
    assert first[0].stream.seed != second[0].stream.seed


class Controlled:
    """A schedule of a user, which has a state, and something called parts."""

    parts = (1, 2)

    def __call__(self, step):
        return 0.5

    def state_dict(self):
        return {"p": 0.5}

    def load_state_dict(self, state):
        pass


def test_parts_of_a_users_schedule_are_its_own():
    assert "0.p.p" in nn.Sequential(nn.Dropout(Controlled(), seed=1)).state_dict()
