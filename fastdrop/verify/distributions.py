"""Another distribution that claims the package `fastdrop`: the package index has a file server of that name."""

from __future__ import annotations

from importlib.metadata import packages_distributions

__all__ = ["describe_others", "find_others"]

OWN = "fastdrop-kernels"


def find_others() -> list[str]:
    """Return the names of the other installed distributions that have a package `fastdrop`."""
    claiming = set(packages_distributions().get("fastdrop", ()))
    return sorted(name for name in claiming if name.lower().replace("_", "-") != OWN)


def describe_others(names: list[str]) -> str:
    """Return a sentence that names the other distributions, and how to mend the installation."""
    return (
        f"{', '.join(names)} also installs the package fastdrop, and each overwrites files of the other: "
        f"pip uninstall {' '.join(names)} {OWN}, then install {OWN} again"
    )
