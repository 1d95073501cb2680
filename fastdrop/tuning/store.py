"""The store of studies: an SQLite file that Optuna writes, or memory."""

from __future__ import annotations

import os
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

from fastdrop._core.optional import missing
from fastdrop.tuning.descriptions import Description

__all__ = ["completed", "open_store", "open_study", "quiet_optuna"]


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Turn off Optuna's log lines, and its warnings about experimental features; raise an error if it is not installed."""
    try:
        import optuna  # here and below, because the rest of fastdrop.tuning does not need it
    except ImportError as error:
        raise missing("a search for rates", error, "tuning") from error
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


def connected(path: Path, write: bool) -> sqlite3.Connection:
    """Connect to a file, which is made only for writing.

    A killed process loses nothing that it wrote, without waiting for the disk at each write.
    """
    address = f"{path.as_uri()}?mode={'rwc' if write else 'rw'}"  # with "ro", SQLite would leave two files beside a store
    connection = sqlite3.connect(address, uri=True, check_same_thread=False)
    try:
        for setting in ("journal_mode=WAL", "synchronous=NORMAL") if write else ("query_only=ON",):
            connection.execute(f"PRAGMA {setting}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def is_complete(path: Path) -> bool:
    """Return whether a file has all of Optuna's tables, or raise an error if it has other tables only.

    A process that is killed while it makes a new store leaves some of them; ``studies`` is the first.
    """
    if not path.exists():
        return False
    with closing(connected(path, write=False)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables:
            connection.execute("SELECT study_id, study_name FROM studies LIMIT 0")
    return "alembic_version" in tables


@contextmanager
def open_store(store: Any, write: bool = True) -> Iterator[Any]:
    """Open a store: a file, or memory if there is no file. Reading changes no study."""
    import optuna

    if store is None and write:
        yield optuna.storages.InMemoryStorage()
        return
    if not isinstance(store, (str, os.PathLike)):
        raise TypeError(f"store must be a string or a path; got {store!r} ({type(store).__name__})")
    path = Path(store).absolute()
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder of the store {str(store)!r} does not exist")
    if not write and not path.exists():
        raise FileNotFoundError(f"the store {str(store)!r} does not exist")
    try:
        has_studies = is_complete(path)
        connected(path, write).close()
    except sqlite3.Error as error:
        raise ValueError(
            f"the store {str(store)!r} cannot be opened; it must be a file that `search` wrote, or a new one: {error}"
        ) from None
    if not write and not has_studies:
        yield optuna.storages.InMemoryStorage()
        return
    # The address has no path: Optuna would fill in what stands in braces, and SQLAlchemy would read options after a "?".
    options = {"creator": partial(connected, path, write)}
    storage = optuna.storages.RDBStorage("sqlite:///store", engine_kwargs=options, skip_table_creation=not write)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def open_study(storage: Any, name: str, maximize: bool, identity: dict[str, Any], description: Description | None) -> Any:
    """Return a new or an existing study; the trial of an interrupted run counts as failed."""
    import optuna
    from optuna.trial import TrialState

    direction: Literal["maximize", "minimize"] = "maximize" if maximize else "minimize"
    study = optuna.create_study(storage=storage, study_name=name, direction=direction, load_if_exists=True)
    if "identity" not in study.user_attrs:
        if study.user_attrs or study.get_trials(deepcopy=False):
            raise ValueError(f"the store has a study {name!r} that `search` did not make; give the new study another name")
        study.set_user_attr("identity", identity)
        study.set_user_attr("description", description)
    elif (study.user_attrs["identity"], study.direction.name.lower()) != (identity, direction):
        raise ValueError(
            f"the store has a study {name!r} that must {study.direction.name.lower()} over {study.user_attrs['identity']}; "
            "give the new study another name"
        )
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    while study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.tell(study.ask(), state=TrialState.FAIL)
    return study


def completed(study: Any) -> list[Any]:
    """Return the trials that have a score, in order."""
    from optuna.trial import TrialState

    found: list[Any] = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return found
