"""Arguments that lie: objects whose methods raise, change their mind, or change other arguments while they are converted."""

import contextlib
import sys

import numpy as np
from _record import ROOT

sys.path.insert(0, str(ROOT / "tests"))
from lying_arrays import Copying, Larger, OtherDtype, OtherStrides, Smaller, Wrapping


class LieError(Exception):
    """An exception that an argument raises itself: a call may let it through."""


def raises(self, *arguments, **options):
    """Stand for any special method."""
    raise LieError("this object refuses to answer")


def raising(name):
    """Return an object whose special method of this name raises."""
    return type(f"Raises{name.strip('_').title()}", (), {name: raises})()


METHODS = [
    "__array__",
    "__index__",
    "__float__",
    "__int__",
    "__bool__",
    "__len__",
    "__iter__",
    "__getitem__",
    "__eq__",
    "__hash__",
    "__repr__",
    "__str__",
]
METHODS += ["__array_interface__", "__array_struct__", "__buffer__", "__dlpack__", "dtype", "shape"]


def lying_objects():
    """Return makers of objects whose attributes raise, as functions and as properties."""
    for name in METHODS:
        yield lambda name=name: raising(name)
        yield lambda name=name: type("RaisesWhenRead", (), {name: property(raises)})()


class Changing:
    """An object that is another number, array or sequence each time."""

    def __init__(self, *answers):
        self.answers = answers
        self.asked = 0

    def answer(self):
        """Return the next answer."""
        self.asked += 1
        return self.answers[(self.asked - 1) % len(self.answers)]


class ChangingNumber(Changing):
    """A number."""

    def __index__(self):
        return int(self.answer())

    def __float__(self):
        return float(self.answer())


class ChangingArray(Changing):
    """An array."""

    def __array__(self, dtype=None, copy=None):
        return self.answer()


class ChangingDtype(Changing):
    """A dtype."""

    @property
    def dtype(self):
        """Another dtype each time."""
        return np.dtype(self.answer())


class ChangingSequence(Changing):
    """A sequence that says another length each time."""

    def __len__(self):
        return self.answer()

    def __getitem__(self, index):
        if not isinstance(index, int) or index >= 5:
            raise IndexError
        return 1


class Meddler:
    """A number that changes an array's shape, dtype or strides in place when it is converted.

    It does not resize arrays without NumPy's check of references: NumPy itself does not survive that.
    """

    def __init__(self, array, value, change):
        self.array, self.value, self.change = array, value, change

    def meddle(self):
        """Change the array, if NumPy allows it."""
        with contextlib.suppress(ValueError, AttributeError, TypeError):
            setattr(self.array, *self.change)
        return self.value

    def __index__(self):
        return int(self.meddle())

    def __float__(self):
        return float(self.meddle())


class Refusing(np.ndarray):
    """Refuses to take part in NumPy's functions."""

    __array_ufunc__ = None

    def __array_function__(self, *more):
        raise LieError("this array refuses to answer")


CHANGES = (
    ("shape", (-1,)),
    ("shape", (1, -1)),
    ("dtype", "f4"),
    ("dtype", "u1"),
    ("dtype", "f8"),
    ("strides", (0,)),
    ("strides", (0, 0)),
)
CLASSES = (Larger, Smaller, OtherDtype, OtherStrides, Copying, Wrapping, Refusing)
