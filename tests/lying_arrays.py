"""Arrays whose attributes and methods are not true."""

import numpy as np


class Larger(np.ndarray):
    """Says that it is larger."""

    shape = property(lambda self: (10**7,))
    size = property(lambda self: 10**7)
    nbytes = property(lambda self: 10**9)


class Smaller(np.ndarray):
    """Says that it is smaller."""

    shape = property(lambda self: (3,))


class OtherDtype(np.ndarray):
    """Says that it has another dtype."""

    dtype = property(lambda self: np.dtype(np.float64 if np.ndarray.dtype.__get__(self) == np.float32 else np.float32))


class OtherStrides(np.ndarray):
    """Says that it has other strides."""

    strides = property(lambda self: (10**6,))
    ndim = property(lambda self: 7)


class Copying(np.ndarray):
    """Returns other arrays when it is copied, converted, indexed."""

    def copy(self, *more):
        """Return another array."""
        return np.empty(1).view(Copying)

    def astype(self, *more, **options):
        """Return another array."""
        return np.empty(1)

    def reshape(self, *more, **options):
        """Return another array."""
        return np.empty(1)

    def __getitem__(self, index):
        if isinstance(index, int) and index >= 7:  # without an end, `tuple` would not return
            raise IndexError
        return np.empty(1)


class Wrapping(np.ndarray):
    """Returns None when NumPy wraps a result."""

    def __array_wrap__(self, made, *more):
        return None


class Changing(np.ndarray):
    """Gives its true shape only after it was asked for it `lies` times."""

    lies = 0

    @property
    def shape(self):
        """Return (4, 9, 5) at first."""
        self.lies -= 1
        return (4, 9, 5) if self.lies >= 0 else np.ndarray.shape.__get__(self)
