"""Search for rates: the choices that are tried, resumed studies, and choices from earlier studies."""

import doctest
import math
import sqlite3
from contextlib import closing
from fractions import Fraction

import numpy as np
import pytest
from comparisons import normal
from example_runs import run_example

pytest.importorskip("optuna")

import optuna

import fastdrop
from fastdrop import tuning
from fastdrop.tuning import bilevel, describe, distance, learned_rates, nearest, search
from fastdrop.tuning import store as stores

SPACE = {"input": (0.0, 0.5), "hidden": (0.0, 0.9), "variant": ["dropout", "gaussian"]}


def train(fold, input, hidden, variant):
    """Return a score whose optimum is 0.1, 0.6 and "gaussian", with an irregular term for each fold."""
    return -((input - 0.1) ** 2) - (hidden - 0.6) ** 2 - 0.05 * (variant == "dropout") + 0.001 * math.sin(1e6 * hidden + fold)


class Interrupted(Exception):
    pass


def stopping(train, calls):
    """Return a training function that is interrupted at a call."""
    left = iter(range(calls))

    def limited(fold, **choice):
        if next(left, None) is None:
            raise Interrupted
        return train(fold, **choice)

    return limited


# Tried choices -----------------------------------------------------------------------------------------------------


def test_the_search_finds_the_optimum():
    found = search(train, SPACE, trials=60, folds=2, seed=1)
    assert found.best["variant"] == "gaussian"
    assert abs(found.best["input"] - 0.1) < 0.1
    assert abs(found.best["hidden"] - 0.6) < 0.1
    assert found.best_trial.score == max(trial.score for trial in found.trials)
    assert {trial.origin for trial in found.trials} == {"search"}
    late = np.mean([trial.score for trial in found.trials[30:]])
    assert late > np.mean([trial.score for trial in found.trials[:10]])  # it looks where it is good


def test_scores_are_those_of_the_folds():
    found = search(train, SPACE, trials=3, folds=4, seed=1)
    for trial in found.trials:
        assert trial.scores == tuple(train(fold, **trial.choice) for fold in range(4))
        assert trial.score == pytest.approx(np.mean(trial.scores), rel=1e-15)


def test_a_grid_has_all_combinations_in_order():
    space = {"a": (0.0, 1.0), "b": ["x", "y"]}
    found = search(lambda fold, a, b: a, space, method="grid", points=3, folds=1)
    want = [{"a": a, "b": b} for a in (0.0, 0.5, 1.0) for b in ("x", "y")]
    assert [trial.choice for trial in found.trials] == want
    assert found.best == {"a": 1.0, "b": "x"}  # the first of equal ones
    assert len(search(lambda fold, a, b: a, space, method="grid", points=3, folds=1, trials=4).trials) == 4


def test_minimizing():
    found = search(lambda fold, p: abs(p - 0.3), {"p": (0.0, 1.0)}, trials=40, folds=1, seed=2, maximize=False)
    assert abs(found.best["p"] - 0.3) < 0.05


def test_the_same_seed_tries_the_same():
    first, again, other = (search(train, SPACE, trials=15, folds=1, seed=seed).trials for seed in (3, 3, 4))
    assert first == again
    assert first != other


# Stopping and going on ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["tpe", "grid"])
@pytest.mark.parametrize("calls", [0, 7, 24])
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(tmp_path, method, calls):
    space = SPACE if method == "tpe" else {**SPACE, "input": [0.1, 0.2, 0.3], "hidden": [0.4, 0.5, 0.6]}
    options = {"trials": 14, "folds": 2, "seed": 5, "method": method}
    want = search(train, space, **options).trials
    store = tmp_path / "studies.db"
    with pytest.raises(Interrupted):
        search(stopping(train, calls), space, store=store, **options)
    assert search(train, space, store=store, **options).trials == want
    again = search(stopping(train, 0), space, store=store, **options)  # nothing is left to do
    assert again.trials == want


def test_a_run_that_was_killed(tmp_path, run_python):
    """By os._exit, which closes and flushes nothing."""
    done = run_python("""
        import os
        from fastdrop.tuning import search

        calls = iter(range(7))
        search(lambda fold, p: p if next(calls, None) is not None else os._exit(9),
               {"p": (0.0, 1.0)}, trials=6, folds=2, store="studies.db")
    """)
    assert done.returncode == 9, done.stderr
    options = {"trials": 6, "folds": 2}
    folds = []
    found = search(lambda fold, p: folds.append(fold) or p, {"p": (0.0, 1.0)}, store=tmp_path / "studies.db", **options)
    assert folds == [0, 1] * 3  # three of six were finished, and the one that was not is repeated
    assert found.trials == search(lambda fold, p: p, {"p": (0.0, 1.0)}, **options).trials


def test_what_a_kill_may_leave(tmp_path):
    """What a kill leaves in the store: a trial that is running, and one that is waiting."""
    store, options = tmp_path / "studies.db", {"trials": 14, "folds": 1, "seed": 5}
    search(train, SPACE, store=store, **{**options, "trials": 12})
    with stores.open_store(store) as storage:
        study = optuna.load_study(study_name="search", storage=storage)
        study.ask()
        study.enqueue_trial({"input": 0.0, "hidden": 0.0, "variant": "dropout"})
    assert search(train, SPACE, store=store, **options).trials == search(train, SPACE, **options).trials


def test_more_trials_later(tmp_path):
    store = tmp_path / "studies.db"
    few = search(train, SPACE, trials=4, folds=1, store=store)
    more = search(train, SPACE, trials=20, folds=1, store=store)
    assert more.trials[:4] == few.trials
    assert more.trials == search(train, SPACE, trials=20, folds=1).trials


def test_another_search_needs_another_name(tmp_path):
    store = tmp_path / "studies.db"
    search(train, SPACE, trials=1, folds=1, store=store)
    for changed in ({"folds": 2}, {"seed": 9}, {"method": "grid"}, {"maximize": False}):
        with pytest.raises(ValueError, match="another name"):
            search(train, SPACE, **{"trials": 1, "folds": 1, "store": store, **changed})
    with pytest.raises(ValueError, match="another name"):
        search(train, {**SPACE, "input": [0.0, 0.5]}, trials=1, folds=1, store=store)


# Earlier studies ----------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    """A store of three studies, on data of three sizes, whose best rates differ."""
    path = tmp_path / "studies.db"
    for name, samples, best in (("small", 100, 0.8), ("medium", 1000, 0.5), ("large", 100_000, 0.1)):
        search(
            lambda fold, p, best=best: -abs(p - best),
            {"p": [0.1, 0.5, 0.8]},
            method="grid",
            folds=1,
            store=path,
            name=name,
            description={"samples": samples, "noise": 0.0},
        )
    search(lambda fold, p: p, {"p": (0.0, 1.0)}, trials=1, folds=1, store=path, name="not described")
    return path


def test_the_nearest_studies_come_first(store):
    found = nearest(store, {"samples": 700.0, "noise": 0.0})
    assert [entry["origin"] for entry in found] == ["medium", "small", "large"]
    assert [entry["choice"] for entry in found] == [{"p": 0.5}, {"p": 0.8}, {"p": 0.1}]
    assert found[0]["distance"] == pytest.approx(math.log(1000 / 700))
    assert nearest(store, {"features": 3.0}) == []


def test_what_was_best_there_is_tried_first(store):
    options = {"trials": 5, "folds": 1, "store": store, "description": {"samples": 700, "noise": 0.0}}
    found = search(lambda fold, p: -abs(p - 0.5), {"p": (0.0, 1.0)}, name="new", warm=2, **options)
    assert [(trial.choice["p"], trial.origin) for trial in found.trials[:2]] == [(0.5, "medium"), (0.8, "small")]
    assert {trial.origin for trial in found.trials[2:]} == {"search"}
    narrow = search(lambda fold, p: p, {"p": (0.0, 0.6)}, name="narrow", warm=2, **options)
    assert [trial.origin for trial in narrow.trials[:3]] == ["new", "large", "search"]  # 0.8 is outside, 0.5 was new's
    other = search(lambda fold, q: q, {"q": (0.0, 0.6)}, name="other", warm=2, **options)
    assert {trial.origin for trial in other.trials} == {"search"}
    cold = search(lambda fold, p: p, {"p": (0.0, 0.6)}, name="cold", warm=0, **options)
    assert {trial.origin for trial in cold.trials} == {"search"}


def test_a_warm_study_goes_on_with_what_it_began_with(store):
    options = {"folds": 1, "store": store, "description": {"samples": 700, "noise": 0.0}, "name": "new"}
    with pytest.raises(Interrupted):
        search(stopping(lambda fold, p: p, 1), {"p": (0.0, 1.0)}, trials=4, **options)
    search(  # a nearer one, meanwhile
        lambda fold, p: p, {"p": [0.3]}, folds=1, trials=1, store=store, name="nearer", description=options["description"]
    )
    found = search(lambda fold, p: p, {"p": (0.0, 1.0)}, trials=4, **options)
    assert [trial.origin for trial in found.trials] == ["medium", "small", "large", "search"]


def test_descriptions():
    x, y = normal((300, 4)), np.repeat([0, 1, 2], 100)
    x += 100 * y[:, np.newaxis]
    apart = describe(x, y)
    assert apart == {"samples": 300, "features": 4, "classes": 3, "balance": pytest.approx(1), "noise": 0}
    wrong = y.copy()
    wrong[::10] = (wrong[::10] + 1) % 3
    noisy = describe(x.reshape(300, 2, 2), wrong)
    assert noisy["features"] == 4
    nearest_label = [wrong[np.argsort(((x - row) ** 2).sum(axis=1))[1]] for row in x]
    assert noisy["noise"] == pytest.approx((nearest_label != wrong).mean())
    assert 0.1 < noisy["noise"] < 0.3
    lopsided = describe(x, np.repeat([0, 1], [297, 3]))
    assert lopsided["balance"] == pytest.approx(1 / (0.99**2 + 0.01**2) / 2)
    assert describe(normal((3000, 2)), np.arange(3000) % 2)["noise"] == pytest.approx(0.5, abs=0.1)
    assert distance(apart, apart) == 0
    assert distance(apart, {"samples": 3.0}) == math.inf


@pytest.mark.parametrize(("scale", "more"), [(1e-320, 0), (1e-200, 0), (1.0, 0), (1.0, 1.6e9), (2.0**990, 0), (2.0**1020, 0)])
def test_the_noise_of_numbers_far_from_0_and_of_any_size(scale, more):
    x = (more + np.array([[0.0], [1.0], [5.0], [6.0]])) * scale
    assert describe(x, [0, 0, 1, 1])["noise"] == 0
    assert describe(x, [0, 1, 1, 1])["noise"] == 0.5


def test_the_noise_beside_a_sample_far_away():
    assert describe([[0.0], [1.0], [5.0], [6.0], [1e12]], [0, 0, 1, 1, 1])["noise"] == 0


def test_a_distance_between_sizes_of_any_magnitude():
    assert distance({"samples": 1e-308}, {"samples": 1e308}) == pytest.approx(616 * math.log(10))
    assert distance({"samples": 1e308}, {"samples": 1e-308}) == pytest.approx(616 * math.log(10))


def test_labels_of_several_types_are_refused():
    with pytest.raises(TypeError, match="y must have labels of one type, which can be sorted"):
        describe([[0.0], [1.0]], np.array(["a", 1], object))


def test_the_noise_of_equal_samples():
    assert describe(np.full((4, 2), 1e300), [0, 0, 0, 0])["noise"] == 0


@pytest.mark.parametrize(
    "choices", [[(1, 2), (3, 4)], [math.sin], [np.ones(2), np.ones(2)], [math.nan], [-math.inf], [b"a"], [1j], [{}]], ids=repr
)
def test_choices_that_no_store_can_keep_are_refused(tmp_path, choices):
    with pytest.raises(TypeError, match=r"space\['p'\] must have strings, finite numbers, bools or None as choices; got"):
        search(lambda fold, p: 1.0, {"p": choices}, trials=1, store=tmp_path / "studies.db")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "choices", [[1, True], [0.5, 1, 1.0], ["a", "b", "a"], [None, None], [0.0, np.float32(-0.0)]], ids=repr
)
def test_choices_that_are_equal_are_refused(choices):
    with pytest.raises(ValueError, match=r"space\['p'\] must have choices that differ; .* and .* are equal"):
        search(lambda fold, p: 1.0, {"p": choices}, trials=1)


def test_choices_of_every_type_are_found_again(tmp_path):
    options = {"method": "grid", "folds": 1, "store": tmp_path / "studies.db"}
    space = {"p": [None, True, 0, 2**40, 0.1, "a"]}
    found = search(lambda fold, p: 1.0, space, trials=3, **options)
    found = search(lambda fold, p: 1.0, space, **options)
    assert [(type(trial.choice["p"]), trial.choice["p"]) for trial in found.trials] == [(type(p), p) for p in space["p"]]


def test_a_study_that_optuna_made_is_left_alone(tmp_path):
    path, description = tmp_path / "studies.db", {"samples": 5}
    search(train, SPACE, trials=1, folds=1, store=path, description=description)
    with stores.quiet_optuna(), stores.open_store(path) as storage:
        study = optuna.create_study(storage=storage, study_name="optuna's")
        study.set_user_attr("description", "a sentence")
        study.optimize(lambda trial: trial.suggest_float("input", 0, 1), n_trials=1)
    with pytest.raises(ValueError, match='has a study "optuna\'s" that `search` did not make; give the new study another name'):
        search(train, SPACE, trials=2, folds=1, store=path, name="optuna's")
    assert [entry["origin"] for entry in nearest(path, description)] == ["search"]


@pytest.mark.parametrize("store", [3, b"studies.db", ["a"]], ids=repr)
def test_a_store_that_is_no_path(store):
    for call in (lambda: search(train, SPACE, trials=1, store=store), lambda: nearest(store, {"samples": 1})):
        with pytest.raises(TypeError, match="store must be a string or a path; got"):
            call()


# The file of a store --------------------------------------------------------------------------------------------------


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "table", ["users (name TEXT)", "studies (name TEXT)", "trials (study_id INTEGER)", "alembic_version (version_num TEXT)"]
)
def test_a_database_of_something_else_is_refused_and_stays(tmp_path, table):
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE {table}")
    before = contents(tmp_path)
    for call in (lambda: nearest(path, {"samples": 5}), lambda: search(train, SPACE, trials=1, store=path)):
        with pytest.raises(ValueError, match="must be a file that `search` wrote, or a new one: no such"):
            call()
    assert contents(tmp_path) == before


def test_reading_a_store_changes_nothing(tmp_path):
    path = tmp_path / "studies.db"
    with pytest.raises(FileNotFoundError, match=r"the store '.*studies\.db' does not exist"):
        nearest(path, {"samples": 5})
    assert not list(tmp_path.iterdir())
    path.touch()  # as a search that was killed at once leaves it
    assert nearest(path, {"samples": 5}) == []
    assert contents(tmp_path) == {"studies.db": b""}
    search(train, SPACE, trials=1, folds=1, store=path, description={"samples": 5})
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")  # as Optuna alone makes a store
    before = contents(tmp_path)
    assert len(nearest(path, {"samples": 5})) == 1
    assert contents(tmp_path) == before


def test_a_store_that_was_not_made_to_the_end(tmp_path):
    path, options = tmp_path / "studies.db", {"trials": 2, "folds": 1}
    search(train, SPACE, store=path, **options)
    with closing(sqlite3.connect(path)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            connection.execute(f"DELETE FROM {name}" if name == "studies" else f"DROP TABLE {name}")
        connection.commit()
    assert nearest(path, {"samples": 5}) == []
    assert search(train, SPACE, store=path, **options) == search(train, SPACE, **options)


# Rates that are trained ---------------------------------------------------------------------------------------------

WANTED = {"first": 0.2, "second": 0.6}  # what validation wants


class Ridge:
    """A weight vector for each rate, drawn to 1 by training and held back by what dropout adds: p / (1 - p) |w|**2 / 2."""

    def __init__(self):
        self.weights = {name: np.full(3, 0.9) for name in WANTED}

    def train(self, rates, step):
        penalty = {name: p / (1 - p) for name, p in rates.items()}
        of_weights = {name: w - 1 + penalty[name] * w for name, w in self.weights.items()}
        return of_weights, {name: penalty[name] * (w * w).sum() / 2 for name, w in self.weights.items()}

    def update(self, gradients, size=0.2):
        for name, w in self.weights.items():
            w -= size * gradients[name]

    def validate(self, step):
        apart = {name: w - (1 - WANTED[name]) for name, w in self.weights.items()}
        return sum((each * each).sum() / 2 for each in apart.values()), apart

    def learn(self, **options):
        start = {"first": 0.5, "second": 0.5}
        return learned_rates(self.weights, self.train, self.update, self.validate, start, **{"steps": 1500, **options})


@pytest.mark.parametrize("every", [1, 3])
def test_learned_rates_are_those_that_validation_wants(every):
    task = Ridge()
    found = task.learn(every=every, learning_rate=0.02 * every)
    assert found.rates == pytest.approx(WANTED, abs=0.02)
    for name, w in task.weights.items():
        np.testing.assert_allclose(w, 1 - WANTED[name], atol=0.02)
    assert len(found.history) == len(found.losses) == 1500 // every
    assert found.history[-1] == found.rates
    assert found.losses[-1] < 1e-3 * max(found.losses)
    assert Ridge().learn(every=every, learning_rate=0.02 * every) == found


@pytest.mark.skipif(not hasattr(fastdrop, "concrete_dropout"), reason="needs concrete dropout")
@pytest.mark.parametrize("start", [0.05, 0.6])
def test_learned_rates_by_the_concrete_relaxation(start):
    """Dropout of the inputs of a linear regression is a ridge penalty, so the best rate is known from solving for each."""
    rng = np.random.default_rng(0)
    truth, x, many = 0.3 * rng.standard_normal(20), rng.standard_normal((60, 20)), rng.standard_normal((4000, 20))
    y, targets = x @ truth + rng.standard_normal(60), many @ truth + rng.standard_normal(4000)

    def solved(p):
        return np.linalg.solve(x.T @ x + p / (1 - p) * np.diag((x * x).sum(axis=0)), x.T @ y)

    def loss_of(w):
        return float(((many @ w - targets) ** 2).mean() / 2)

    def train(rates, step):
        logit, noise = math.log(rates["x"] / (1 - rates["x"])), {"seed": 7, "offset": step}
        dropped = fastdrop.concrete_dropout(x, logit, **noise)
        residual = (dropped @ w - y) / len(y)
        _, of_logit = fastdrop.concrete_dropout_backward(np.outer(residual, w), x, logit, **noise)
        return {"w": dropped.T @ residual}, {"x": float(of_logit)}

    def update(gradients):
        w[...] -= 0.05 * gradients["w"]

    def validate(step):
        return loss_of(w), {"w": many.T @ (many @ w - targets) / len(targets)}

    w = solved(start)
    found = learned_rates({"w": w}, train, update, validate, {"x": start}, steps=1500, learning_rate=0.02)
    rates = np.linspace(0.01, 0.9, 90)
    losses = [loss_of(solved(p)) for p in rates]
    average = np.mean([each["x"] for each in found.history[-500:]])
    assert average == pytest.approx(rates[np.argmin(losses)], abs=0.08)
    assert loss_of(solved(average)) < min(losses) + 0.05 * (loss_of(solved(start)) - min(losses))


def test_slopes_are_those_of_the_validation_loss_a_step_ahead():
    task, size = Ridge(), 0.2
    before = {name: w.copy() for name, w in task.weights.items()}

    def loss_a_step_ahead(logits):
        for name, w in task.weights.items():
            w[...] = before[name]
        task.update(task.train({name: 1 / (1 + math.exp(-value)) for name, value in logits.items()}, 0)[0], size)
        return task.validate(0)[0]

    logits, h = {"first": 0.3, "second": -0.4}, 1e-6
    ahead = {name: loss_a_step_ahead({**logits, name: value + h}) for name, value in logits.items()}
    behind = {name: loss_a_step_ahead({**logits, name: value - h}) for name, value in logits.items()}
    loss_a_step_ahead(logits)
    direction = task.validate(0)[1]  # where the weights then are
    for name, w in task.weights.items():
        w[...] = before[name]
    rates = {name: 1 / (1 + math.exp(-value)) for name, value in logits.items()}
    found = bilevel.slopes_along(task.weights, direction, lambda: task.train(rates, 0)[1], logits)
    for name, slope in found.items():
        assert size * slope == pytest.approx((ahead[name] - behind[name]) / (2 * h), rel=1e-6)
        np.testing.assert_array_equal(task.weights[name], before[name])


def test_learned_rates_stay_within_bounds():
    found = Ridge().learn(bounds=(0.3, 0.55))
    assert found.rates == pytest.approx({"first": 0.3, "second": 0.55})


def test_bad_learned_rates():
    task = Ridge()
    given = {"parameters": task.weights, "train": task.train, "update": task.update, "validate": task.validate, "steps": 5}
    for changed, match in (
        ({"initial_rates": {}}, "it is empty"),
        ({"initial_rates": {"first": 0.0}}, r"initial_rates\['first'\] is 0.0"),
        ({"initial_rates": {"first": 0.5}, "bounds": (0.6, 0.5)}, "bounds"),
        ({"initial_rates": {"first": 0.5}, "bounds": 0.5}, r"bounds must be \(low, high\)"),
        ({"initial_rates": {"first": 0.5}, "bounds": ("a", 0.5)}, "each of bounds must be a finite number"),
        ({"initial_rates": {"first": "a"}}, r"initial_rates\['first'\] must be a finite number"),
        ({"initial_rates": [0.5]}, "initial_rates must be a mapping"),
        ({"initial_rates": {"first": 0.5}, "learning_rate": 0.0}, "learning_rate"),
        ({"initial_rates": {"first": 0.5, "second": 0.5}, "every": 0}, "every"),
        ({"initial_rates": {"first": 0.5, "second": 0.5}, "steps": 0}, "steps"),
        ({"initial_rates": {"first": 0.5, "second": 0.5}, "progress": "no"}, "progress must be True or False; got 'no'"),
        ({"initial_rates": {"first": 0.5, "second": 0.5}, "validate": lambda step: (0.0, {})}, "validate must return"),
        ({"initial_rates": {"first": 0.5, "second": 0.5}, "validate": lambda step: (0.0, [1.0])}, "validate must return"),
        (
            {"initial_rates": {"first": 0.5, "second": 0.5}, "train": lambda rates, step: (task.train(rates, step)[0], {})},
            "train must",
        ),
    ):
        with pytest.raises((TypeError, ValueError), match=match):
            learned_rates(**{**given, **changed})


@pytest.mark.parametrize("parameters", [[np.ones(3)], {"w": 1.0}, {"w": np.ones(3, int)}, {"w": [1.0]}], ids=repr)
def test_what_are_no_parameters(parameters):
    def never(*given):
        raise AssertionError("the training has begun")

    with pytest.raises(TypeError, match=r"parameters(\['w'\])? must be a (mapping|numpy.ndarray of floats)"):
        learned_rates(parameters, never, never, never, {"x": 0.5}, steps=1)


@pytest.mark.parametrize("gradient", [np.ones(1), 1.0, np.ones((3, 1)), np.ones(2), np.array([1.0, 2.0, np.nan])], ids=repr)
def test_what_is_no_gradient_of_the_validation_loss(gradient):
    w = np.ones(3)
    with pytest.raises(ValueError, match=r"validate must return (a gradient .* the same shape|finite gradients)"):
        learned_rates(
            {"w": w},
            lambda rates, step: ({"w": w}, {"x": 1.0}),
            lambda gradients: None,
            lambda step: (0.0, {"w": gradient}),
            {"x": 0.5},
            steps=1,
        )
    assert (w == 1).all()


@pytest.mark.parametrize("name", ["{lr}.db", "{.db", "a?timeout=b.db", "100%.db", "é #1.db"])
def test_a_store_of_any_name(tmp_path, name):
    path = tmp_path / name
    search(train, SPACE, trials=1, folds=1, store=path, description={"samples": 5})
    assert path.is_file()
    assert len(nearest(path, {"samples": 5})) == 1


def test_a_bad_argument_leaves_no_study(tmp_path):
    for changed, match in (
        ({"warm": "x"}, "warm must be an integer"),
        ({"warm": -1}, "warm must be >= 0"),
        ({"name": 3}, "name must be a string; got 3"),
        ({"progress": "no"}, "progress must be True or False"),
        ({"points": 0}, "points must be at least 1"),
    ):
        with pytest.raises((TypeError, ValueError), match=match):
            search(train, SPACE, trials=1, store=tmp_path / "studies.db", description={"samples": 5}, **changed)
    assert not list(tmp_path.iterdir())


def test_a_store_keeps_numpys_numbers(tmp_path):
    space = {"p": (np.float32(0.0), Fraction(1, 2)), "units": list(np.arange(16, 18)), "share": [np.float32(0.5)]}
    given = {"trials": 3, "folds": 1, "store": tmp_path / "store.db", "description": {"samples": np.int64(5)}}
    given["points"] = np.int64(5)
    found = search(lambda fold, p, units, share: p + units, space, **given)
    assert found == search(lambda fold, p, units, share: p + units, space, **given)
    assert {(type(trial.choice["units"]), trial.choice["share"]) for trial in found.trials} == {(int, 0.5)}


# Bad input, progress, plots -----------------------------------------------------------------------------------------


def test_bad_input(tmp_path):
    junk = tmp_path / "junk.db"
    junk.write_text("no database " * 100)
    for call, error, match in (
        (lambda: search(train, {}), ValueError, "at least one name"),
        (lambda: search(train, {"fold": (0.0, 1.0)}), ValueError, "'fold'"),
        (lambda: search(train, {"p": (1.0, 0.0)}), ValueError, r"space\['p'\] must be \(low, high\)"),
        (lambda: search(train, {"p": 0.5}), ValueError, r"space\['p'\] must be"),
        (lambda: search(train, {"p": []}), ValueError, r"space\['p'\] must be"),
        (lambda: search(train, SPACE, folds=0), ValueError, "folds"),
        (lambda: search(train, SPACE, trials=0), ValueError, "trials"),
        (lambda: search(train, SPACE, seed=-1), ValueError, "seed"),
        (lambda: search(train, SPACE, points=-1), ValueError, "points must be >= 0; got -1"),
        (lambda: search(train, SPACE, points="x"), TypeError, "points must be an integer"),
        (lambda: search(train, SPACE, maximize="no"), TypeError, "maximize must be True or False; got 'no'"),
        (lambda: search(train, SPACE, method="random"), ValueError, "'tpe' or 'grid'; got 'random'"),
        (lambda: search(lambda fold, p: math.nan, {"p": [1]}), ValueError, "returned nan for {'p': 1}"),
        (lambda: search(lambda fold, p: "a", {"p": [1]}), ValueError, "a finite number; it returned 'a' for {'p': 1}"),
        (lambda: search(lambda fold, p: None, {"p": [1]}), ValueError, "must return a finite number; it returned None"),
        (lambda: search(3, SPACE), TypeError, r"train must be a function, called as train\(fold=k, \*\*choice\); got 3"),
        (lambda: search(train, SPACE, store=tmp_path / "no" / "such.db"), FileNotFoundError, "folder of the store"),
        (lambda: search(train, [("p", 1)]), TypeError, "space must be a mapping"),
        (lambda: search(train, {1: [2]}), TypeError, "strings as names, .* got 1"),
        (lambda: search(train, {"p": ("a", "b")}), ValueError, r"each bound of space\['p'\] must be a finite number"),
        (lambda: search(train, SPACE, method=np.array(["grid"])), ValueError, "'tpe' or 'grid'"),
        (lambda: search(train, SPACE, description=3), TypeError, "description must be a mapping"),
        (lambda: search(train, SPACE, description={"noise": "x"}), ValueError, r"description\['noise'\] must be a finite"),
        (lambda: search(train, SPACE, store=tmp_path), ValueError, "must be a file that `search` wrote, or a new one"),
        (lambda: nearest(junk, {"samples": 1}), ValueError, "must be a file that `search` wrote, .* not a database"),
        (lambda: nearest(tmp_path / "new.db", {"samples": 0}), ValueError, r"description\['samples'\] must be above 0"),
        (lambda: distance({"classes": 0}, {"classes": 2}), ValueError, r"description\['classes'\] must be above 0"),
        (lambda: describe(np.zeros((3, 0)), [0, 1, 1]), ValueError, "with features"),
        (lambda: describe(np.ones((3, 2), complex), [0, 1, 1]), TypeError, "x must be real numbers"),
        (lambda: describe(np.zeros((3, 2)), [0, 1]), ValueError, "N > 1"),
        (lambda: describe(np.full((3, 2), np.nan), [0, 1, 1]), ValueError, "finite"),
    ):
        with pytest.raises(error, match=match):
            call()


def test_progress(capsys):
    pytest.importorskip("rich")
    search(train, SPACE, trials=2, folds=1, progress=True)
    assert "trials" in capsys.readouterr().out
    search(train, SPACE, trials=2, folds=1)
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""


def test_plot(store):
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    found = search(
        lambda fold, p: -abs(p - 0.4), {"p": (0.0, 1.0)}, trials=8, folds=1, store=store, name="new",
        description={"samples": 700, "noise": 0.0}, warm=1,
    )  # fmt: skip
    order, of_p = found.plot()
    points, best, warm = order.lines
    scores = [trial.score for trial in found.trials]
    np.testing.assert_array_equal(points.get_ydata(), scores)
    np.testing.assert_array_equal(best.get_ydata(), np.maximum.accumulate(scores))
    np.testing.assert_array_equal(warm.get_xdata(), [0])
    assert of_p.get_xlabel() == "p"
    drawn = of_p.collections[0].get_offsets()
    np.testing.assert_array_equal(drawn, [(trial.choice["p"], trial.score) for trial in found.trials])
    pyplot.close(order.figure)
    learned = Ridge().learn(steps=5)
    rates, losses = learned.plot()
    np.testing.assert_array_equal(rates.lines[0].get_ydata(), [each["first"] for each in learned.history])
    np.testing.assert_array_equal(losses.lines[0].get_ydata(), learned.losses)
    pyplot.close(rates.figure)


def test_the_example_in_short(tmp_path):
    shown = run_example("tuning.py", "--short", "--store", "studies.db", "--figure", "tuning.png", folder=tmp_path)
    assert (tmp_path / "tuning.png").stat().st_size > 10_000
    assert "warm' is from '300" in shown
    assert (tmp_path / "studies.db").is_file()
    assert "too short to draw conclusions" in shown
    assert "the loss on the test digits is" not in shown


def test_examples():
    for module in (tuning, bilevel):
        result = doctest.testmod(module)
        assert result.attempted
        assert not result.failed
