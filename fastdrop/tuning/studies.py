"""Search for rates with cross-validation, in studies that are stored and resumed (Optuna)."""

from __future__ import annotations

import itertools
import math
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from fastdrop._core import plan
from fastdrop._core.checks import at_least_one
from fastdrop._core.optional import missing, row_of_axes, track
from fastdrop.random import fold_in
from fastdrop.tuning.bilevel import Learned, learned_rates

try:
    import optuna
    from optuna.trial import TrialState
except ImportError as error:
    raise missing("fastdrop.tuning", error, "tuning") from error

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Learned", "Trial", "Tuned", "describe", "distance", "learned_rates", "nearest", "search"]

Choices = dict[str, Any]
Space = Mapping[str, Any]  # for each name a tuple (low, high) or a list
Description = Mapping[str, float]

NEIGHBOURS_OF = 1000  # samples, at most, whose nearest neighbours are looked for
SIZES = ("samples", "features", "classes")  # compared by their ratio


@dataclass(frozen=True)
class Trial:
    """One choice that was tried.

    Attributes
    ----------
    choice : dict
        What was tried, by name.
    scores : tuple of float
        For each fold.
    score : float
        Their mean.
    origin : str
        ``"search"``, ``"grid"``, or the name of the earlier study whose best choice it was.
    """

    choice: Choices
    scores: tuple[float, ...]
    score: float
    origin: str


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes
    ----------
    trials : list of Trial
        In the order in which they were tried.
    maximize : bool
        Whether larger scores are better.
    """

    trials: list[Trial]
    maximize: bool

    @property
    def best_trial(self) -> Trial:
        """The best, and of equal ones the first."""
        return best_of(self.trials, self.maximize)

    @property
    def best(self) -> Choices:
        """What was tried in it."""
        return self.best_trial.choice

    def plot(self) -> list[Axes]:
        """Draw the scores in the order of the trials, and over each thing that was searched for.

        Returns
        -------
        list of matplotlib.axes.Axes
            Side by side in one figure.
        """
        names = sorted(self.best)
        order, *others = found = row_of_axes(1 + len(names))
        scores = [trial.score for trial in self.trials]
        so_far = np.maximum.accumulate(scores) if self.maximize else np.minimum.accumulate(scores)
        order.plot(scores, "o", markersize=3, label="trials")
        order.step(range(len(scores)), so_far, where="post", label="best so far")
        warm = [k for k, trial in enumerate(self.trials) if trial.origin not in ("search", "grid")]
        if warm:
            order.plot(warm, [scores[k] for k in warm], "s", fillstyle="none", label="from earlier studies")
        order.set(xlabel="trial", ylabel="score")
        order.legend()
        for name, ax in zip(names, others, strict=True):
            values = [trial.choice[name] for trial in self.trials]
            if not all(isinstance(value, (int, float)) for value in values):
                values = [str(value) for value in values]
                ax.margins(x=0.3)
            ax.scatter(values, scores, s=9, c=range(len(scores)), cmap="viridis")
            ax.set(xlabel=name)
        return list(found)


def best_of(trials: Sequence[Trial], maximize: bool) -> Trial:
    return (max if maximize else min)(trials, key=lambda trial: trial.score)


# Search -------------------------------------------------------------------------------------------------------------


def search(
    train: Callable[..., float],
    space: Space,
    *,
    trials: int | None = None,
    folds: int = 5,
    method: Literal["tpe", "grid"] = "tpe",
    points: int = 5,
    maximize: bool = True,
    seed: int = 0,
    store: Any = None,
    name: str = "search",
    description: Description | None = None,
    warm: int = 3,
    progress: bool = False,
) -> Tuned:
    """Search for what makes training score best in cross-validation.

    Parameters
    ----------
    train : callable
        ``train(fold=k, **choice)`` trains on all folds but k and returns the score on fold k. It should take its own
        randomness from seeds that depend on nothing but its arguments.
    space : mapping of str to tuple or list
        What to search for, by the names that `train` knows. A tuple (low, high) is a range of numbers, a list the things to
        choose from: ``{"input": (0.0, 0.5), "hidden": (0.0, 0.8), "variant": ["dropout", "gaussian_dropout"]}``.
    trials : int, optional
        How many choices to try: 50 by default; with ``"grid"`` all of them.
    folds : int, default 5
        How often `train` is called for each choice.
    method : {"tpe", "grid"}
        The tree-structured Parzen estimator; or all combinations, in order, the last name varying fastest.
    points : int, default 5
        With ``"grid"``, how many evenly spaced numbers stand for a range.
    maximize : bool, default True
        Whether larger scores are better.
    seed : int, default 0
        Of the search, in [0, 2**64). With the same seed, scores and versions of Optuna and NumPy, the same choices are tried,
        in one run or in several.
    store : str or path-like, optional
        A file that keeps all trials. A study of this `name` that is in it already goes on until it has `trials`; one that
        was interrupted repeats the trial it was in.
    name : str, default "search"
        Of the study.
    description : mapping of str to float, optional
        Of the data: what `describe` returns. Kept in `store` for later studies.
    warm : int, default 3
        Of how many of the nearest earlier studies in `store` the best choice is tried first (equal ones once). They need
        a description, as this one does, and the same names to search for.
    progress : bool, default False
        Show a progress bar (by rich).

    Returns
    -------
    Tuned

    Raises
    ------
    ValueError
        A space that is empty or has a bad entry, a score that is not a finite number, a study of this name that
        searched for something else.

    References
    ----------
    .. [1] J. Bergstra, R. Bardenet, Y. Bengio, B. Kegl, "Algorithms for hyper-parameter optimization", NIPS 2011.
    .. [2] T. Akiba, S. Sano, T. Yanase, T. Ohta, M. Koyama, "Optuna: a next-generation hyperparameter optimization framework",
       KDD 2019.

    Examples
    --------
    >>> from fastdrop.tuning import search
    >>> found = search(lambda fold, p: abs(p - 0.25), {"p": (0.0, 0.5)}, method="grid", maximize=False)
    >>> [trial.choice["p"] for trial in found.trials], found.best
    ([0.0, 0.125, 0.25, 0.375, 0.5], {'p': 0.25})
    """
    checked_space(space)
    folds = at_least_one(folds, "folds")
    seed = plan.as_word(seed, "seed")
    if method not in ("tpe", "grid"):
        raise ValueError(f"method must be 'tpe' or 'grid'; got {method!r}")
    grid = list(combinations(space, at_least_one(points, "points"))) if method == "grid" else []
    total = at_least_one(trials, "trials") if trials is not None else len(grid) or 50
    searched = {key: [type(values).__name__, *values] for key, values in space.items()}
    identity = {"space": searched, "method": method, "points": points, "folds": folds, "seed": seed}
    with quiet(), opened(store) as storage:
        study = study_of(storage, name, maximize, identity, description)
        planned = planned_of(storage, study, space, grid, description, warm)
        done = len(completed(study))
        for number in track(range(done, min(total, len(grid)) if grid else total), "trials", progress):
            given = planned[number] if number < len(planned) else None
            run_trial(study, train, space, folds, given, fold_in(seed, number))
        return Tuned([trial_of(trial) for trial in completed(study)], maximize)


def run_trial(
    study: Any, train: Callable[..., float], space: Space, folds: int, given: dict[str, Any] | None, seed: int
) -> None:
    """Try one more choice: a given one, or what the sampler suggests."""
    if given is not None:
        study.enqueue_trial(given["choice"])
    # A sampler of its own for each trial, seeded by the trial's number: a study that goes on does as one that never stopped.
    study.sampler = optuna.samplers.TPESampler(seed=seed % 2**32)
    trial = study.ask()
    trial.set_user_attr("origin", "search" if given is None else given["origin"])
    choice = {key: suggested(trial, key, values) for key, values in space.items()}
    try:
        scores = [score_of(train(fold=fold, **choice), choice) for fold in range(folds)]
    except BaseException:
        study.tell(trial, state=TrialState.FAIL)
        raise
    trial.set_user_attr("scores", scores)
    study.tell(trial, math.fsum(scores) / folds)


def suggested(trial: Any, key: str, values: Any) -> Any:
    """Return what a trial tries for one name."""
    if isinstance(values, tuple):
        return trial.suggest_float(key, *map(float, values))
    return trial.suggest_categorical(key, list(values))


def score_of(value: Any, choice: Choices) -> float:
    """Return a score as a float, or raise."""
    score = float(value)
    if not math.isfinite(score):
        raise ValueError(f"train must return a finite number; it returned {value!r} for {choice}")
    return score


def checked_space(space: Space) -> None:
    """Raise where a space cannot be searched."""
    if not space:
        raise ValueError("space must name at least one thing to search for")
    for key, values in space.items():
        if key == "fold":
            raise ValueError("space must not use the name 'fold': train gets the fold's number under it")
        if isinstance(values, tuple):
            if len(values) != 2 or not -math.inf < values[0] <= values[1] < math.inf:
                raise ValueError(f"a range must be (low, high), finite and low <= high; space[{key!r}] is {values!r}")
        elif not isinstance(values, list) or not values:
            raise ValueError(f"space[{key!r}] must be a tuple (low, high) or a list of choices; got {values!r}")


def combinations(space: Space, points: int) -> Iterator[dict[str, Any]]:
    """Yield all combinations of a space, as planned trials."""
    axes = [
        np.linspace(values[0], values[1], points).tolist() if isinstance(values, tuple) else values for values in space.values()
    ]
    for values in itertools.product(*axes):
        yield {"origin": "grid", "choice": dict(zip(space, values, strict=True))}


# Studies ------------------------------------------------------------------------------------------------------------


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna's log lines and its notes on what it calls experimental to itself."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


def connected(path: Path) -> sqlite3.Connection:
    """Connect to a file so that what was written outlives the process, without waiting for the disk each time."""
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


@contextmanager
def opened(store: Any) -> Iterator[Any]:
    """Open a store: a file, or one in memory where there is none."""
    if store is None:
        yield optuna.storages.InMemoryStorage()
        return
    path = Path(store)
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"the folder of the store {str(path)!r} does not exist")
    storage = optuna.storages.RDBStorage(f"sqlite:///{path.absolute()}", engine_kwargs={"creator": partial(connected, path)})
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def study_of(storage: Any, name: str, maximize: bool, identity: dict[str, Any], description: Description | None) -> Any:
    """Return a study, new or going on; what an interrupted run was at counts as failed."""
    direction: Literal["maximize", "minimize"] = "maximize" if maximize else "minimize"
    study = optuna.create_study(storage=storage, study_name=name, direction=direction, load_if_exists=True)
    if "identity" not in study.user_attrs:
        study.set_user_attr("identity", identity)
        study.set_user_attr("description", None if description is None else dict(description))
    elif (study.user_attrs["identity"], study.direction.name.lower()) != (identity, direction):
        raise ValueError(
            f"the store has a study {name!r} that is to {study.direction.name.lower()} over {study.user_attrs['identity']}; "
            "give this one another name"
        )
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    while study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.tell(study.ask(), state=TrialState.FAIL)
    return study


def planned_of(
    storage: Any, study: Any, space: Space, grid: list[dict[str, Any]], description: Description | None, warm: int
) -> list[dict[str, Any]]:
    """Return the trials that are not left to the sampler: the grid, or the best choices of the nearest studies.

    The latter are settled when the study begins, and stay so if it goes on after others have been added.
    """
    if grid:
        return grid
    if "planned" not in study.user_attrs:
        found = [] if description is None else nearest_in(storage, description, {study.study_name})
        fitting: list[dict[str, Any]] = []
        for entry in found:
            if fits(entry["choice"], space) and all(entry["choice"] != other["choice"] for other in fitting):
                fitting.append(entry)
        study.set_user_attr("planned", fitting[: plan.as_count(warm, "warm")])
    planned: list[dict[str, Any]] = study.user_attrs["planned"]
    return planned


def fits(choice: Choices, space: Space) -> bool:
    """Return whether a choice lies in a space."""
    return choice.keys() == space.keys() and all(
        isinstance(value, (int, float)) and space[key][0] <= value <= space[key][1]
        if isinstance(space[key], tuple)
        else value in space[key]
        for key, value in choice.items()
    )


def completed(study: Any) -> list[Any]:
    """Return the trials that have a score, in their order."""
    found: list[Any] = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return found


def trial_of(trial: Any) -> Trial:
    """Return what is known of a finished trial."""
    return Trial(dict(trial.params), tuple(trial.user_attrs["scores"]), trial.value, trial.user_attrs["origin"])


# What data are like -------------------------------------------------------------------------------------------------


def describe(x: ArrayLike, y: ArrayLike) -> dict[str, float]:
    """Return what a set of labelled data is like, in the numbers by which studies are compared.

    Parameters
    ----------
    x : array_like
        Samples, along the first axis.
    y : array_like of int
        Their classes.

    Returns
    -------
    dict of str to float
        ``samples``, ``features``, ``classes``: how many. ``balance``: 1 where all classes are as frequent, towards 0 where one
        has everything (the inverse Simpson index over the number of classes). ``noise``: the share of samples whose
        nearest neighbour has another label, of up to 1,000 evenly spaced ones: of labels, noise; of classes, overlap.

    Raises
    ------
    ValueError
        Shapes that do not fit, fewer than two samples, or what is not finite.

    Examples
    --------
    >>> from fastdrop.tuning import describe
    >>> describe([[0.0], [0.1], [5.0], [5.1]], [0, 0, 1, 1])
    {'samples': 4.0, 'features': 1.0, 'classes': 2.0, 'balance': 1.0, 'noise': 0.0}
    """
    labels = np.asarray(y)
    values = np.asarray(x, np.float64)
    if values.ndim < 1 or labels.shape != values.shape[:1] or len(labels) < 2:
        raise ValueError(f"x must have shape (N, ...) and y (N,), N > 1; got {values.shape} and {labels.shape}")
    if not np.isfinite(values).all():
        raise ValueError("x must be finite; it has NaN or infinities")
    values = values.reshape(len(labels), -1)
    _, counts = np.unique(labels, return_counts=True)
    share = counts / len(labels)
    return {
        "samples": float(len(labels)),
        "features": float(values.shape[1]),
        "classes": float(len(counts)),
        "balance": float(1.0 / (share * share).sum() / len(counts)),
        "noise": disagreement(values, labels),
    }


def disagreement(x: Any, y: Any) -> float:
    """Return the share of samples whose nearest neighbour has another label."""
    some = np.linspace(0, len(y) - 1, min(len(y), NEIGHBOURS_OF)).astype(np.int64)
    x, y = x[some], y[some]
    squares = (x * x).sum(axis=1)
    apart = squares[:, np.newaxis] - 2.0 * (x @ x.T) + squares
    np.fill_diagonal(apart, np.inf)
    return float((y[apart.argmin(axis=1)] != y).mean())


def distance(a: Description, b: Description) -> float:
    """Return how unlike two descriptions are: sizes by the logarithm of their ratio, shares by their difference.

    Parameters
    ----------
    a, b : mapping of str to float
        What `describe` returned, or other numbers by the same names.

    Returns
    -------
    float
        The Euclidean distance; infinite where the names differ.

    Examples
    --------
    >>> from fastdrop.tuning import distance
    >>> round(distance({"samples": 100, "noise": 0.1}, {"samples": 200, "noise": 0.1}), 3)
    0.693
    """
    if a.keys() != b.keys():
        return math.inf
    return math.hypot(*(math.log(a[key] / b[key]) if key in SIZES else a[key] - b[key] for key in sorted(a)))


def nearest(store: Any, description: Description) -> list[dict[str, Any]]:
    """Return the best choices of the studies in a store, those on the data most alike first.

    Parameters
    ----------
    store : str or path-like
        The file.
    description : mapping of str to float
        What `describe` returned for the data at hand.

    Returns
    -------
    list of dict
        ``origin``, the study's name; ``distance``, of its data; ``choice`` and ``score``, its best. Of equal distances the
        first by name comes first.

    Examples
    --------
    >>> import os, tempfile
    >>> from fastdrop.tuning import nearest, search
    >>> store = os.path.join(tempfile.mkdtemp(), "studies.db")
    >>> for name, samples in (("small", 100), ("large", 10_000)):
    ...     found = search(lambda fold, p: -p, {"p": [0.1, 0.2]}, method="grid", store=store, name=name,
    ...                    description={"samples": samples})
    >>> [study["origin"] for study in nearest(store, {"samples": 5000})]
    ['large', 'small']
    """
    with quiet(), opened(store) as storage:
        return nearest_in(storage, description, set())


def nearest_in(storage: Any, description: Description, without: set[str]) -> list[dict[str, Any]]:
    """Return what `nearest` does, of an open store, but for some studies."""
    found = []
    for name in sorted(optuna.get_all_study_names(storage)):
        study = optuna.load_study(study_name=name, storage=storage)
        theirs, done = study.user_attrs.get("description"), completed(study)
        if name in without or theirs is None or not done:
            continue
        apart = distance(description, theirs)
        best = best_of([trial_of(trial) for trial in done], study.direction.name == "MAXIMIZE")
        if math.isfinite(apart):
            found.append({"origin": name, "distance": apart, "choice": best.choice, "score": best.score})
    return sorted(found, key=lambda entry: entry["distance"])
