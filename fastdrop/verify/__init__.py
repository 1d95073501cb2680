"""What ``fastdrop verify`` checks on the machine at hand, and the table of cases that the tests share with it."""

from fastdrop.verify.runner import Mismatch, Outcome, checks, every_engine

__all__ = ["Mismatch", "Outcome", "checks", "every_engine"]
