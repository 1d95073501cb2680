"""Schedules: the papers' formulas, composition, state, and the errors for bad input."""

import json
import math
import pickle
import platform
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from fastdrop import schedules
from fastdrop.schedules import (
    Clipped,
    Constant,
    Cosine,
    Curriculum,
    Early,
    Exponential,
    Late,
    Linear,
    Phases,
    Polynomial,
    Scaled,
    Schedule,
    Stepwise,
    ValidationDriven,
    layerwise,
    scheduled_drop_path,
)
from fastdrop.schedules.plots import MOST_POINTS
from fastdrop.verify.cases import spoiled

STEPS = (0, 1, 7, 49, 50, 99, 100, 101, 100_000)
EARLY_LINEAR = [*np.linspace(0.4, 0.0, 50), *np.zeros(50)]  # as the authors' code makes it


def clip(t):
    return min(max(t, 0.0), 1.0)


@pytest.mark.parametrize(
    ("schedule", "formula"),
    [
        (Constant(0.3), lambda t: 0.3),
        (Linear(0.1, 0.7, 100), lambda t: 0.1 + 0.6 * clip(t / 100)),
        (Linear(0.7, 0.1, 40, begin=30), lambda t: 0.7 - 0.6 * clip((t - 30) / 40)),
        (Cosine(0.5, 0.1, 100), lambda t: 0.1 + 0.4 * 0.5 * (1 + math.cos(math.pi * clip(t / 100)))),
        (Polynomial(0.5, 0.1, 100, 3), lambda t: 0.1 + 0.4 * (1 - clip(t / 100)) ** 3),
        (Exponential(0.5, 0.1, 0.02), lambda t: 0.1 + 0.4 * math.exp(-0.02 * t)),
        (Stepwise(0.8, 0.5, 50), lambda t: 0.8 * 0.5 ** math.floor(t / 50)),
        (Early(0.4, 50), lambda t: 0.4 if t < 50 else 0.0),
        (Early(0.4, 50, "linear"), lambda t: EARLY_LINEAR[t] if t < 100 else 0.0),
        (Late(0.4, 50), lambda t: 0.0 if t < 50 else 0.4),
        (Curriculum(0.5, 0.1), lambda t: 1 - ((1 - 0.5) * math.exp(-0.1 * t) + 0.5)),
        (Scaled(Linear(0.0, 0.4, 100), 0.25), lambda t: 0.1 * clip(t / 100)),
        (Clipped(Linear(0.0, 1.0, 100), 0.2, 0.6), lambda t: min(max(clip(t / 100), 0.2), 0.6)),
        (
            Phases((0.1, Linear(0.2, 0.4, 50), 0.5), (7, 93)),
            lambda t: 0.1 if t < 7 else 0.2 + 0.2 * clip((t - 7) / 50) if t < 100 else 0.5,
        ),
    ],
    ids=lambda value: repr(value) if isinstance(value, Schedule) else "",
)
def test_formulas(schedule, formula):
    assert [schedule(t) for t in STEPS] == pytest.approx([formula(t) for t in STEPS], abs=1e-15)
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert hash(schedule) == hash(pickle.loads(pickle.dumps(schedule)))


def test_ramps_end_exactly():
    for ramp in (Linear(0.1, 0.3, 7), Cosine(0.1, 0.3, 7), Polynomial(0.1, 0.3, 7, 1.7)):
        assert (ramp(0), ramp(7), ramp(10**9)) == (0.1, 0.3, 0.3)


def test_rates_stay_in_range():
    assert Stepwise(0.4, 2.0, 1)(3) == 1.0
    assert Stepwise(0.4, 2.0, 1)(10**6) == 1.0
    assert Stepwise(0.0, 2.0, 1)(10**6) == 0.0
    assert Constant(0.4).scaled(3.0)(0) == 1.0
    assert [Early(0.3, 1, "linear")(t) for t in (0, 1)] == [0.3, 0.0]


NUMBERS = [np.float32(0.3), np.array(0.3), Fraction(3, 10), Decimal("0.3")]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: type(number).__name__)
@pytest.mark.parametrize(
    "make",
    [
        Constant,
        lambda p: Linear(p, 0.0, 7),
        lambda p: Cosine(0.0, p, 7),
        lambda p: Polynomial(p, 0.1, 7, power=p),
        lambda p: Exponential(0.9, p, p),
        lambda p: Stepwise(0.7, p, 2),
        lambda p: Early(p, 7, "linear"),
        lambda p: Late(p, 1),
        lambda p: Curriculum(p, p),
        lambda p: Scaled(p, p),
        lambda p: Clipped(0.9, 0.0, p),
        lambda p: Phases((p, 0.2), (9,)),
        lambda p: ValidationDriven(p, target=p),
    ],
)
def test_a_rate_is_computed_in_float64_whatever_the_type_of_its_numbers(make, number):
    """So a rate in float32 is not rounded again, and `Decimal`, which does not multiply floats, works."""
    made, wanted = make(number), make(float(number))
    assert type(made(3)) is float
    assert made(3) == wanted(3)
    assert Schedule.from_config(made.to_config())(3) == wanted(3)


@pytest.mark.parametrize("short", [np.uint8, np.int8])
def test_numbers_of_steps_of_a_short_type_do_not_wrap_around(short):
    assert Linear(0.0, 0.5, 100, begin=short(10))(5) == 0.0
    assert Linear(0.0, 0.5, short(100))(300) == 0.5
    assert Stepwise(0.8, 0.5, short(100))(300) == 0.1
    assert Phases((0.1, 0.2), (short(100),))(300) == 0.2


def test_an_integer_factor_does_not_make_an_integer_of_many_digits():
    assert Stepwise(0.5, 2, 1)(2**62) == 1.0


def test_an_array_that_changes_later_does_not_change_a_schedule():
    p = np.array(0.3)
    schedule = Constant(p)
    p[()] = 0.6
    assert schedule(0) == 0.3


def test_a_schedule_of_ones_own_is_clipped():
    class Wild(Schedule):
        def rate(self, step):
            return step - 1.5

    assert [Wild()(t) for t in (0, 2, 9)] == [0.0, 0.5, 1.0]
    assert Wild().clipped(0.1, 0.3)(2) == 0.3


@pytest.mark.parametrize("made", [Clipped(type), Scaled(type, 0.5), Phases([type, 0.3], [5]), Phases([0.3, type], [1])])
def test_a_callable_that_gives_no_number_is_named(made):
    with pytest.raises(TypeError, match=r"the rate of the schedule must be a (finite )?number; got <class 'int'> \(type\)"):
        made(1)


def test_layerwise_gives_the_rates_of_the_paper_and_of_timm():
    for rule in ("paper", "timm"):
        rates = [schedule(5) for schedule in layerwise(0.3, 7, rule)]
        assert rates == schedules.drop_path_rates(0.3, 7, rule).tolist()
    assert [schedule(50) for schedule in layerwise(Linear(0.0, 0.4, 100), 2)] == pytest.approx([0.1, 0.2])
    assert layerwise(0.3, 0) == []


def test_scheduled_drop_path_is_that_of_nasnet():
    """Transcribed from the code's description: keep shrinks with the cell, then with the step."""
    p, num_cells, total = 0.3, 5, 200
    for cell, schedule in enumerate(scheduled_drop_path(p, num_cells, total)):
        for step in (0, 1, 150, 200, 900):
            keep = 1 - p
            keep = 1 - (cell + 1) / num_cells * (1 - keep)
            keep = 1 - min(1.0, step / total) * (1 - keep)
            assert schedule(step) == pytest.approx(1 - keep, abs=1e-15)


def test_composition_reads_from_left_to_right():
    schedule = Linear(0.0, 0.5, 10).then(10, Constant(0.8).scaled(0.5)).clipped(0.1, 0.45)
    assert [schedule(t) for t in (0, 4, 9, 10, 99)] == [0.1, 0.2, 0.45, 0.4, 0.4]


# The gap ------------------------------------------------------------------------------------------------------------


def test_the_rate_moves_in_proportion_to_how_far_the_gap_is_from_its_target():
    p = ValidationDriven(0.2, target=0.1, gain=0.5, max_change=0.1, tolerance=0.01, low=0.15, high=0.35)
    gaps = [0.10, 0.109, 0.2, 0.0, 0.9, 0.9, 0.9, -5.0, -5.0, -5.0]
    rates = [p.update(1.0, 1.0 + gap) for gap in gaps]
    # on target; within the tolerance; 0.1 above; 0.1 below; far above, by max_change; at the bound; far below; at the bound
    assert rates == pytest.approx([0.2, 0.2, 0.25, 0.2, 0.3, 0.35, 0.35, 0.25, 0.15, 0.15])
    assert p(0) == p(1000) == p.p
    assert repr(ValidationDriven(0.2, target=0.1)) == (
        "ValidationDriven(p=0.2, target=0.1, gain=0.1, max_change=0.05, tolerance=0.0, low=0.0, high=0.8)"
    )


def test_a_large_constant_gap_raises_the_rate():
    p = ValidationDriven(0.2, target=0.1)
    rates = [p.update(0.1, 1.1) for _ in range(50)]
    assert (np.diff(rates[:10]) > 0).all()
    assert rates[-1] == 0.8


def test_a_gap_that_shrinks_towards_its_target_does_not_lower_the_rate():
    """The gap shrinks because dropout works: the rate rises on, as long as the gap is above the target."""
    p = ValidationDriven(0.2, target=0.1)
    rates = [p.update(0.5, 0.5 + gap) for gap in (0.8, 0.6, 0.4, 0.3, 0.2)]
    assert rates == sorted(rates)
    assert rates[0] > 0.2


@pytest.mark.parametrize("begin", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("target", [0.05, 0.2, 0.4])
def test_the_gap_settles_at_its_target(begin, target):
    """Training answers with delay: the gap goes a fifth of the way to (1 - p)**2 times what it is without dropout."""
    p, gap, noise = ValidationDriven(begin, target=target), 0.0, np.random.default_rng(1).normal(0, 0.01, 600)
    gaps, rates = [], []
    for epoch in range(600):
        free = 0.8 if epoch < 300 else 1.2  # a network that begins to fit its labels' noise
        gap += 0.2 * (free * (1 - p(epoch)) ** 2 - gap)
        rates.append(p.update(0.3, 0.3 + gap + noise[epoch]))
        gaps.append(gap)
    for settled, free in ((slice(200, 300), 0.8), (slice(500, 600), 1.2)):
        assert np.abs(np.array(gaps[settled]) - target).max() < 0.02
        np.testing.assert_allclose(rates[settled], 1 - math.sqrt(target / free), atol=0.03)


def test_noise_within_the_tolerance_does_nothing():
    p = ValidationDriven(0.2, target=0.3, tolerance=0.02)
    assert len({p.update(1.0, 1.3 + 0.04 * (-1) ** k) for k in range(40)}) > 1
    steady = ValidationDriven(0.2, target=0.3, tolerance=0.05)
    assert {steady.update(1.0, 1.3 + 0.04 * (-1) ** k) for k in range(40)} == {0.2}


def test_the_state_of_the_gap_is_kept_through_composition():
    def new():
        return Phases((0.1, Scaled(ValidationDriven(0.2, target=0.0, gain=1.0, max_change=0.1), 0.5)), (10,))

    first, second = new(), new()
    first.schedules[1].schedule.update(1.0, 1.3)
    second.load_state_dict({key: np.asarray(value) for key, value in first.state_dict().items()})
    assert second(20) == first(20) == pytest.approx(0.15)
    copies = (first, second, pickle.loads(pickle.dumps(first)))
    assert len({one.schedules[1].schedule.update(1.0, 1.2) for one in copies}) == 1
    assert Linear(0.0, 0.5, 10).state_dict() == {}


def test_a_state_that_does_not_fit_changes_no_part():
    both = Phases((driven(), driven()), (10,))
    before = both.state_dict()
    with pytest.raises(TypeError, match="p must be"):
        both.load_state_dict({"0.p": 0.5, "1.p": None})
    assert both.state_dict() == before == {"0.p": 0.1, "1.p": 0.1}


# Bad input ----------------------------------------------------------------------------------------------------------


def driven():
    return ValidationDriven(0.1, target=0.1)


class Broken(Schedule):
    """A rate that training has made NaN."""

    def rate(self, step):
        return math.nan


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: Constant(1.5), ValueError, "p must be a number in [0, 1]; got 1.5"),
        (lambda: Constant("0.5"), TypeError, "p must be a number in [0, 1]; got '0.5'"),
        (lambda: scheduled_drop_path(2.0, 2, 10), ValueError, "p must be a number in [0, 1]; got 2.0"),
        (lambda: Linear(0.1, -0.1, 10), ValueError, "end must be a number in [0, 1]; got -0.1"),
        (lambda: Cosine(math.nan, 0.1, 10), ValueError, "start must be a number in [0, 1]; got nan"),
        (lambda: Linear(0.1, 0.2, 0), ValueError, "steps must be at least 1; got 0"),
        (lambda: Linear(0.1, 0.2, 1.5), TypeError, "steps must be an integer >= 0; got 1.5 (float)"),
        (lambda: Linear(0.1, 0.2, 10, begin=-1), ValueError, "begin must be >= 0; got -1"),
        (lambda: Polynomial(0.1, 0.2, 10, 0), ValueError, "power must be above 0; got 0"),
        (lambda: Exponential(0.1, 0.2, -1.0), ValueError, "gamma must be above 0; got -1.0"),
        (lambda: Stepwise(0.1, 0.0, 10), ValueError, "factor must be above 0; got 0.0"),
        (lambda: Early(0.1, 10, "cosine"), ValueError, "shape must be 'constant' or 'linear'; got 'cosine'"),
        (lambda: Scaled(0.1, -2), ValueError, "factor must be >= 0; got -2"),
        (lambda: Clipped(0.1, 0.5, 0.2), ValueError, "low must not be above high; got low 0.5 and high 0.2"),
        (lambda: Phases((0.1, 0.2), ()), ValueError, "lengths must have one entry fewer than schedules"),
        (lambda: Phases((0.1, None), (3,)), TypeError, "each of schedules must be a schedule or a rate in [0, 1]; got None"),
        (
            lambda: ValidationDriven(0.9, target=0.1, high=0.5),
            ValueError,
            "p must be between low and high, 0.0 and 0.5; got 0.9",
        ),
        (lambda: ValidationDriven(0.1, target=0.1, max_change=0), ValueError, "max_change must be above 0; got 0"),
        (lambda: ValidationDriven(0.1, target=0.1, tolerance=-1), ValueError, "tolerance must be >= 0; got -1"),
        (lambda: ValidationDriven(0.1, target=math.nan), ValueError, "target must be a finite number; got nan"),
        (lambda: ValidationDriven(0.1, target=0.1, gain=0), ValueError, "gain must be above 0; got 0"),
        (lambda: driven().update(1.0, math.nan), ValueError, "validation_loss must be a finite number; got nan"),
        (lambda: driven().load_state_dict({"gap": 0.1}), ValueError, "missing: p"),
        (lambda: driven().load_state_dict({"p": 0.9}), ValueError, "p must be between low and high, 0.0 and 0.8; got 0.9"),
        (lambda: Linear(0.1, 0.2, 3).load_state_dict({"p": 0.1}), ValueError, "does not fit the schedule Linear; unknown: p"),
        (lambda: Scaled(driven(), 2.0).load_state_dict({5: 1, "a": 1}), ValueError, "missing: schedule.p; unknown: 5, a"),
        (lambda: Linear(0.1, 0.2, 3)(-1), ValueError, "step must be >= 0; got -1"),
        (lambda: Linear(0.1, 0.2, 3)(0.5), TypeError, "step must be an integer >= 0; got 0.5 (float)"),
        (lambda: Schedule()(0), NotImplementedError, "Schedule must define rate(step)"),
        (lambda: Broken()(7), ValueError, "the rate of Broken must be a number; got nan at step 7"),
        (lambda: Phases((lambda step: math.nan, 0.1), (3,))(0), ValueError, "the rate of Phases must be a number; got nan"),
        (lambda: Clipped(lambda step: math.nan, 0.1, 0.5)(0), ValueError, "the rate of the schedule must be a finite number"),
    ],
)
def test_bad_input_is_answered_by_a_sentence(make, error, sentence):
    with pytest.raises(error) as caught:
        make()
    assert sentence in str(caught.value)


# Configurations and pickles -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "error", "sentence"),
    [
        ({"class": "Late", "p": 0.3}, TypeError, "Late: missing a required argument: 'cutoff'; it takes (p, cutoff)"),
        ({"class": "Late", "p": 0.3, "steps": 4}, TypeError, "; it takes (p, cutoff)"),
        ({"class": "Late", 7: 0.3}, TypeError, "; it takes (p, cutoff)"),
        ({"class": "Constant", "p": {"array": [0.3]}}, ValueError, "p in a configuration must be {'array': numbers"),
        (
            {"class": "Constant", "p": {"array": ["a"], "dtype": "f8"}},
            ValueError,
            "p in a configuration must be {'array': numbers",
        ),
        ({"class": "Constant", "p": {"float": None}}, ValueError, "or {'float': a number}; got {'float': None}"),
        (
            {"class": "Scaled", "schedule": {"p": 0.3}, "factor": 1},
            TypeError,
            "the name of a class under 'class'; got {'p': 0.3}",
        ),
    ],
)
def test_a_damaged_configuration_is_answered_by_a_sentence(config, error, sentence):
    with pytest.raises(error) as caught:
        Schedule.from_config(config)
    assert sentence in str(caught.value)


def test_a_controller_in_several_places_is_one_again():
    controller = driven()
    schedule = Phases((controller, Scaled(controller, 0.5), controller, driven()), (5, 5, 5))
    config = json.loads(json.dumps(schedule.to_config(), allow_nan=False))
    assert config["shared parts"] == [["0", "1.schedule", "2"]]
    again = Schedule.from_config(config)
    assert again.schedules[0] is again.schedules[1].schedule is again.schedules[2] is not again.schedules[3]
    assert again.to_config() == config
    with pytest.raises(ValueError, match="shared parts in a configuration must be lists of names such as"):
        Schedule.from_config(config | {"shared parts": [["0", "4"]]})


def test_a_controller_in_a_schedule_that_is_in_several_places_is_one_again():
    controller = driven()
    scaled = Scaled(controller, 0.5)
    config = Phases((controller, scaled, scaled), (5, 5)).to_config()
    again = Schedule.from_config(config)
    assert again.schedules[0] is again.schedules[1].schedule is again.schedules[2].schedule
    assert again.schedules[1] is again.schedules[2]
    assert again.to_config() == config


def test_a_schedule_that_does_not_keep_its_arguments_says_so():
    class Forgetful(Schedule):
        def __init__(self, first, second):
            self.second = second

    with pytest.raises(TypeError, match=r"Forgetful must define own_config\(\), because it has no attribute first"):
        Forgetful(1, 2).to_config()


@pytest.mark.parametrize(
    "schedule", [Constant(0.3), Late(0.3, 5), ValidationDriven(0.3, target=0.1)], ids=["one rate", "two numbers", "a state"]
)
def test_a_pickle_that_has_the_public_name_of_the_module_is_read(schedule):
    """As written when all schedules were in one module."""
    text = pickle.dumps(schedule, protocol=0)
    inner = type(schedule).__module__.encode()
    assert inner in text
    assert pickle.loads(text.replace(inner, b"fastdrop.schedules")).to_config() == schedule.to_config()


# Surroundings -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64", "aarch64", "arm64"), reason="nothing to spoil with")
def test_a_hostile_environment_does_not_leak_in():
    def raw():
        return [(0.1 * (1.0 - t / 97) + 0.7 * (t / 97)).hex() for t in range(97)]

    def rates():
        gap = ValidationDriven(0.1, target=0.0)
        followed = [gap.update(1.0, 1.1 + k / 7).hex() for k in range(5)]
        ramps = Linear(0.1, 0.7, 97), Cosine(0.1, 0.7, 97), Curriculum(0.7, 0.013), *layerwise(0.7, 3)
        return followed + [schedule(t).hex() for schedule in ramps for t in range(97)]

    before, raw_before = rates(), raw()
    with spoiled():
        inside, raw_inside = rates(), raw()
    assert inside == before
    assert raw_inside != raw_before


def test_plot():
    pytest.importorskip("matplotlib").use("agg")
    from matplotlib import pyplot

    ax = schedules.plot({"late": Late(0.3, 5), "early": Early(0.3, 5)}, 10)
    assert [line.get_label() for line in ax.get_lines()] == ["late", "early"]
    assert ax.get_lines()[0].get_xydata().tolist() == [[t, 0.3 if t >= 5 else 0.0] for t in range(10)]
    assert len(schedules.plot([Constant(0.1)], 10**6, ax).get_lines()[2].get_xdata()) == MOST_POINTS
    single = Linear(0.0, 0.5, 10).plot(1)
    assert single.get_legend().get_texts()[0].get_text() == "Linear"
    pyplot.close("all")
    with pytest.raises(ValueError, match="steps must be at least 1"):
        schedules.plot([Constant(0.1)], 0, ax)
    for bad, exception, message in (
        (0.1, TypeError, "schedules must be a sequence; got 0.1"),
        ([0.1, lambda step: None], TypeError, "the rate of the schedule must be a finite number; got None"),
    ):
        with pytest.raises(exception, match=message):
            schedules.plot(bad, 5)
    with pytest.raises(TypeError, match=r"ax must be a matplotlib\.axes\.Axes, or None for a new figure; got 'wrong'"):
        schedules.plot([0.1], 5, "wrong")
    assert not pyplot.get_fignums()  # nothing was drawn


def test_without_matplotlib_the_error_says_what_to_install(run_python):
    program = """
    import sys
    sys.modules["matplotlib"] = None
    from fastdrop.schedules import Constant
    try:
        Constant(0.1).plot(10)
    except ImportError as error:
        print(error)
    """
    assert 'a plot needs matplotlib: pip install "fastdrop-kernels[plot]"' in run_python(program).stdout


def test_rates_of_paths():
    for depth in (1, 2, 7, 12):
        paper = [layer / depth * 0.3 for layer in range(1, depth + 1)]
        assert schedules.drop_path_rates(0.3, depth).tolist() == paper
        assert paper[-1] == 0.3
        assert np.allclose(schedules.drop_path_rates(0.3, depth, "timm"), np.linspace(0, 0.3, depth), rtol=1e-15)
    assert schedules.drop_path_rates(0.3, 0).shape == schedules.drop_path_rates(0.3, 0, "timm").shape == (0,)
    for bad in ((1.5, 3), (0.5, -1), (0.5, 3, "linear"), (0.5, 2**32), (0.5, 2**62)):
        with pytest.raises(ValueError, match=r"must be"):
            schedules.drop_path_rates(*bad)


@pytest.mark.parametrize("schedule", [schedules.Linear(0.1, 0.5, 10), schedules.ValidationDriven(0.3, target=0.1)])
def test_a_state_that_is_no_dictionary(schedule):
    with pytest.raises(TypeError, match="the state must be a dictionary"):
        schedule.load_state_dict(None)
