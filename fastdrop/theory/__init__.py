"""Closed forms of the effect of dropout: variance shift, fast dropout, and the regularizers that dropout amounts to.

Most functions compute in float64 with NumPy and its BLAS, so their last bits may differ between machines. The docstrings of the
others say that they give the same bits everywhere.
"""

from fastdrop.theory.masks import concrete_mean, drop_block_gamma
from fastdrop.theory.moments import (
    drop_connect_moments,
    fast_dropout_moments,
    fast_dropout_moments_backward,
    relu_moments,
    sigmoid_moments,
)
from fastdrop.theory.pruning import log_alpha, log_alpha_backward, prune
from fastdrop.theory.regularizers import (
    dropout_regularizer,
    dropout_regularizer_backward,
    matrix_completion_regularizer,
    nuclear_norm_envelope,
)
from fastdrop.theory.shift import variance_inflation, variance_shift
from fastdrop.variants._probabilities import keep_probabilities, multinomial_probabilities

__all__ = [
    "concrete_mean",
    "drop_block_gamma",
    "drop_connect_moments",
    "dropout_regularizer",
    "dropout_regularizer_backward",
    "fast_dropout_moments",
    "fast_dropout_moments_backward",
    "keep_probabilities",
    "log_alpha",
    "log_alpha_backward",
    "matrix_completion_regularizer",
    "multinomial_probabilities",
    "nuclear_norm_envelope",
    "prune",
    "relu_moments",
    "sigmoid_moments",
    "variance_inflation",
    "variance_shift",
]
