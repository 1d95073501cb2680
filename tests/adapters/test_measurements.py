"""Each row of the adapters' measurements runs, and its results are equal."""

import pytest

from fastdrop.bench import adapters

MODULES = {"torch": "torch", "jax": "jax", "dask": "dask.array", "thinc": "thinc", "numba": "numba"}


@pytest.mark.parametrize("library", MODULES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_rows(library, monkeypatch):
    pytest.importorskip(MODULES[library], reason=f"{library} is not installed")
    monkeypatch.setattr(adapters, "SIZES", (256, 4096))
    for row in adapters.rows_of(library):
        row.theirs()
        row.ours()
