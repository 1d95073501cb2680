"""Search for rates with cross-validation, which may begin with the best rates of earlier studies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fastdrop._core import plan
from fastdrop._core.checks import as_finite_number, as_positive_count, check_string
from fastdrop._core.optional import check_progress, row_of_axes, track
from fastdrop.random import fold_in
from fastdrop.tuning.descriptions import Description, checked_description, distance
from fastdrop.tuning.store import completed, open_store, open_study, quiet_optuna

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Trial", "Tuned", "nearest", "search"]

Choices = dict[str, Any]
Space = Mapping[str, Any]  # for each name a tuple (low, high) or a list


@dataclass(frozen=True)
class Trial:
    """One choice that a search tried.

    Attributes
    ----------
    choice : dict
        The values that were tried, by name.
    scores : tuple of float
        The score of each fold.
    score : float
        The mean of the scores.
    origin : str
        ``"search"``, ``"grid"``, or the name of the earlier study whose best choice this is.

    Examples
    --------
    >>> from fastdrop.tuning import search
    >>> search(lambda fold, p: p + fold, {"p": [0.5]}, method="grid", folds=2).best_trial
    Trial(choice={'p': 0.5}, scores=(0.5, 1.5), score=1.0, origin='grid')
    """

    choice: Choices
    scores: tuple[float, ...]
    score: float
    origin: str


@dataclass(frozen=True)
class Tuned:
    """The result of `search`.

    Attributes
    ----------
    trials : list of Trial
        All trials, in the order in which they were run.
    maximize : bool
        Whether larger scores are better.
    best_trial : Trial
        The trial with the best score; the first of equal ones.
    best : dict
        The choice of the best trial, by name.

    Examples
    --------
    >>> from fastdrop.tuning import search
    >>> found = search(lambda fold, p: -p, {"p": [0.1, 0.2]}, method="grid")
    >>> found.best, len(found.trials)
    ({'p': 0.1}, 2)
    """

    trials: list[Trial]
    maximize: bool

    @property
    def best_trial(self) -> Trial:
        """The trial with the best score; the first of equal ones."""
        return find_best(self.trials, self.maximize)

    @property
    def best(self) -> Choices:
        """The choice of the best trial, by name."""
        return self.best_trial.choice

    def plot(self) -> list[Axes]:
        """Draw the scores in the order of the trials, and over each value that was searched for.

        Returns
        -------
        list of matplotlib.axes.Axes
            The axes, side by side in one figure.

        Raises
        ------
        ImportError
            Matplotlib is not installed.
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


def find_best(trials: Sequence[Trial], maximize: bool) -> Trial:
    """Return the trial with the best score; the first of equal ones."""
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
    store: Any = None,
    name: str = "search",
    description: Description | None = None,
    warm: int = 3,
    progress: bool = False,
    seed: int = 0,
) -> Tuned:
    """Search for the choices with the best score in cross-validation.

    Parameters
    ----------
    train : callable
        ``train(fold=k, **choice)`` trains on all folds but k and returns the score on fold k. Its random numbers should come
        from seeds that depend on its arguments alone.
    space : mapping of str to tuple or list
        The values to choose from, by the names of the arguments of `train`. A tuple (low, high) is a range of numbers. A list
        has single values: strings, finite numbers, bools or None.
        ``{"input": (0.0, 0.5), "hidden": (0.0, 0.8), "variant": ["dropout", "gaussian_dropout"]}`` is an example.
    trials : int, optional
        The number of choices to try. The default is 50, or all choices with ``"grid"``.
    folds : int, default 5
        The number of folds: `train` is called once per fold and choice.
    method : {"tpe", "grid"}
        ``"tpe"``: the tree-structured Parzen estimator. ``"grid"``: all combinations in order; the last name varies fastest.
    points : int, default 5
        The number of evenly spaced values that stand for a range with ``"grid"``.
    maximize : bool, default True
        Whether larger scores are better.
    seed : int, default 0
        The seed of the search, in [0, 2**64). The same seed, scores and versions of Optuna and NumPy give the same choices, in
        one run or in several.
    store : str or path-like, optional
        A file that keeps all trials. If it has a study of this `name`, the study is continued until it has `trials` trials. An
        interrupted trial is repeated.
    name : str, default "search"
        The name of the study.
    description : mapping of str to float, optional
        A description of the data, as `describe` returns it. It is kept in `store` for later studies.
    warm : int, default 3
        The number of earlier studies in `store`, those with the most similar data, whose best choices are tried first. Equal
        choices are tried once. This needs a description of both studies and the same names in both spaces.
    progress : bool, default False
        Show a progress bar (with rich).

    Returns
    -------
    Tuned
        All trials, and the best one.

    Raises
    ------
    FileNotFoundError
        The folder of `store` does not exist.
    TypeError, ValueError
        The space is empty or has a bad entry, another argument is out of range, a score is not a finite number, the store is
        another file, or it has a study of this name that searches for something else or that `search` did not make.
    ImportError
        Optuna is not installed; or `progress` is True and rich is not installed.

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
    if not callable(train):
        raise TypeError(f"train must be a function, called as train(fold=k, **choice); got {train!r}")
    space = checked_space(space)
    folds, points = as_positive_count(folds, "folds"), as_positive_count(points, "points")
    seed, warm = plan.as_word(seed, "seed"), plan.as_count(warm, "warm")
    check_string(name, "name")
    check_progress(progress)
    if not plan.is_one_of(method, ("tpe", "grid")):
        raise ValueError(f"method must be 'tpe' or 'grid'; got {method!r}")
    grid = list(combinations(space, points)) if method == "grid" else []
    total = as_positive_count(trials, "trials") if trials is not None else len(grid) or 50
    searched = {key: [type(values).__name__, *values] for key, values in space.items()}
    described = None if description is None else checked_description(description)
    maximize = plan.check_flag(maximize, "maximize")
    identity = {"space": searched, "method": method, "points": points, "folds": folds, "seed": seed}
    with quiet_optuna(), open_store(store) as storage:
        study = open_study(storage, name, maximize, identity, described)
        planned = plan_trials(storage, study, space, grid, described, warm)
        done = len(completed(study))
        for number in track(range(done, min(total, len(grid)) if grid else total), "trials", progress):
            given = planned[number] if number < len(planned) else None
            run_trial(study, train, space, folds, given, fold_in(seed, number))
        return Tuned([to_trial(trial) for trial in completed(study)], maximize)


def run_trial(
    study: Any, train: Callable[..., float], space: Space, folds: int, given: dict[str, Any] | None, seed: int
) -> None:
    """Run one more trial, with the given choice or with one that the sampler suggests."""
    import optuna

    if given is not None:
        study.enqueue_trial(given["choice"])
    # Each trial has its own sampler, seeded by its number: so a continued study is equal to an uninterrupted one.
    study.sampler = optuna.samplers.TPESampler(seed=seed % 2**32)
    trial = study.ask()
    trial.set_user_attr("origin", "search" if given is None else given["origin"])
    choice = {key: suggest(trial, key, values) for key, values in space.items()}
    try:
        scores = [finite_score(train(fold=fold, **choice), choice) for fold in range(folds)]
    except BaseException:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        raise
    trial.set_user_attr("scores", scores)
    study.tell(trial, math.fsum(scores) / folds)


def suggest(trial: Any, key: str, values: Any) -> Any:
    """Return the value that a trial tries for one name."""
    if isinstance(values, tuple):
        return trial.suggest_float(key, *values)
    return trial.suggest_categorical(key, list(values))


def finite_score(value: Any, choice: Choices) -> float:
    """Return a score as a float, or raise an error if it is not finite."""
    try:
        score = float(value)
    except (TypeError, ValueError, OverflowError):
        score = math.nan
    if not math.isfinite(score):
        raise ValueError(f"train must return a finite number; it returned {value!r} for {choice}")
    return score


def checked_space(space: Any) -> dict[str, Any]:
    """Return a space in Python's numbers, which the store can hold, or raise an error unless it can be searched."""
    if not isinstance(space, Mapping):
        raise TypeError(f"space must be a mapping of names to ranges or choices; got {space!r} ({type(space).__name__})")
    if not space:
        raise ValueError("space must have at least one name to search for")
    for key in space:
        if not isinstance(key, str):
            raise TypeError(f"space must have strings as names, the keywords of train; got {key!r}")
        if key == "fold":
            raise ValueError("space must not use the name 'fold', which is the keyword for the number of the fold")
    return {
        key: checked_range(key, values) if isinstance(values, tuple) else checked_choices(key, values)
        for key, values in space.items()
    }


def checked_range(key: str, values: tuple[Any, ...]) -> tuple[float, float]:
    """Return the bounds of a range, or raise an error that names it."""
    if len(values) == 2:
        low, high = (as_finite_number(value, f"each bound of space[{key!r}]") for value in values)
        if low <= high:
            return low, high
    raise ValueError(f"space[{key!r}] must be (low, high) with finite low <= high; got {values!r}")


def checked_choices(key: str, values: Any) -> list[Any]:
    """Return single values, or raise an error that names them."""
    if not isinstance(values, list) or not values:
        raise ValueError(f"space[{key!r}] must be a tuple (low, high) or a list of choices; got {values!r}")
    choices: list[Any] = [value.item() if isinstance(value, np.generic) else value for value in values]
    for number, value in enumerate(choices):
        # A store keeps these types only, and finds a choice again by ==: 1, 1.0 and True are one.
        if not isinstance(value, (str, bool, int, float, NoneType)) or (isinstance(value, float) and not math.isfinite(value)):
            raise TypeError(
                f"space[{key!r}] must have strings, finite numbers, bools or None as choices; got {value!r}. Give names, and "
                "look them up in train"
            )
        if value in choices[:number]:
            equal = choices[choices.index(value)]
            raise ValueError(f"space[{key!r}] must have choices that differ; {equal!r} and {value!r} are equal")
    return choices


def combinations(space: Space, points: int) -> Iterator[dict[str, Any]]:
    """Yield all combinations of a space, as planned trials."""
    axes = [
        np.linspace(values[0], values[1], points).tolist() if isinstance(values, tuple) else values for values in space.values()
    ]
    for values in itertools.product(*axes):
        yield {"origin": "grid", "choice": dict(zip(space, values, strict=True))}


# Earlier studies ----------------------------------------------------------------------------------------------------


def plan_trials(
    storage: Any, study: Any, space: Space, grid: list[dict[str, Any]], description: Description | None, warm: int
) -> list[dict[str, Any]]:
    """Return the trials that the sampler does not choose: the grid, or the best choices of the nearest studies.

    The best choices are fixed when the study begins. They stay the same when other studies are added before it continues.
    """
    if grid:
        return grid
    if "planned" not in study.user_attrs:
        found = [] if description is None else nearest_in(storage, description, {study.study_name})
        fitting: list[dict[str, Any]] = []
        for entry in found:
            if fits(entry["choice"], space) and all(entry["choice"] != other["choice"] for other in fitting):
                fitting.append(entry)
        study.set_user_attr("planned", fitting[:warm])
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


def to_trial(trial: Any) -> Trial:
    """Return the `Trial` of a finished trial of Optuna."""
    return Trial(dict(trial.params), tuple(trial.user_attrs["scores"]), trial.value, trial.user_attrs["origin"])


def nearest(store: Any, description: Description) -> list[dict[str, Any]]:
    """Return the best choices of the studies in a store; studies with the most similar data come first.

    The store stays as it is.

    Parameters
    ----------
    store : str or path-like
        The file that `search` wrote.
    description : mapping of str to float
        The description of the data, as `describe` returns it.

    Returns
    -------
    list of dict
        One entry per study: ``origin``, its name; ``distance``, the distance of its data; ``choice`` and ``score`` of its best
        trial. Studies with equal distances are sorted by name.

    Raises
    ------
    FileNotFoundError
        The store does not exist.
    TypeError, ValueError
        The description has other values than numbers, or the store is another file.
    ImportError
        Optuna is not installed.

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
    described = checked_description(description)
    with quiet_optuna(), open_store(store, write=False) as storage:
        return nearest_in(storage, described, set())


def nearest_in(storage: Any, description: Description, without: set[str]) -> list[dict[str, Any]]:
    """Return the result of `nearest` for an open store, without some studies."""
    import optuna

    found = []
    for name in sorted(optuna.get_all_study_names(storage)):
        study = optuna.load_study(study_name=name, storage=storage)
        theirs, done = study.user_attrs.get("description"), completed(study)
        if name in without or "identity" not in study.user_attrs or theirs is None or not done:
            continue
        apart = distance(description, theirs)
        best = find_best([to_trial(trial) for trial in done], study.direction.name == "MAXIMIZE")
        if math.isfinite(apart):
            found.append({"origin": name, "distance": apart, "choice": best.choice, "score": best.score})
    return sorted(found, key=lambda entry: entry["distance"])
