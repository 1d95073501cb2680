"""The checks of ``fastdrop verify`` on a machine, and the table of cases that the tests also use."""

from fastdrop.verify.runner import Mismatch, Outcome, checks, every_engine

__all__ = ["Mismatch", "Outcome", "checks", "every_engine"]
