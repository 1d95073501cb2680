"""Dropout, its masks, and the caller's own masks. The functions are compiled with the plan (_core/dropout.pxi)."""

from fastdrop._core.plan import apply_mask, dropout, dropout_backward, dropout_mask

__all__ = ["apply_mask", "dropout", "dropout_backward", "dropout_mask"]

for _function in (apply_mask, dropout, dropout_backward, dropout_mask):
    _function.__module__ = __name__  # where pickle and `help` find it
