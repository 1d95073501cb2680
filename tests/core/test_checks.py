"""The shared checks: their results, the arguments that they refuse, and their messages."""

import math
from fractions import Fraction

import numpy as np
import pytest

from fastdrop._core import checks, plan

NUMBERS = [checks.as_finite_number, checks.as_positive_number, checks.as_non_negative_number]
SCALARS = [checks.as_finite_scalar, checks.as_positive_scalar, checks.as_non_negative_scalar]


@pytest.mark.parametrize("check", NUMBERS + SCALARS)
def test_what_all_of_them_answer(check):
    for given in (2, 2.0, np.float32(2), np.array(2.0), np.int64(2), True + 1):
        assert check(given, "c") == 2.0
        assert type(check(given, "c")) is float
    for bad in (math.nan, math.inf, -math.inf, 10**400):
        with pytest.raises(ValueError, match=r"^c must be .*finite.*; got "):
            check(bad, "c")
    for bad in (None, True, np.True_, np.array(True), 1j, np.complex64(2), np.array(2j), [1.0, 2.0], {}):
        with pytest.raises(TypeError, match=r"^c must be a .*number; got .* \(\w+\)$"):
            check(bad, "c")


@pytest.mark.parametrize("check", NUMBERS)
def test_a_string_is_a_bad_value_of_a_number(check):
    with pytest.raises(ValueError, match="c must be a finite number; got '2'"):
        check("2", "c")
    with pytest.raises(TypeError, match=r"c must be a finite number; got array\('2'"):
        check(np.array("2"), "c")


@pytest.mark.parametrize("check", SCALARS)
def test_a_scalar_may_be_an_array_of_one_element_and_is_no_string(check):
    assert check(np.array([[2.0]]), "c") == check([2.0], "c") == 2.0
    for bad in ("2", b"2", np.complex64(2), np.timedelta64(2), np.array([]), np.array("2"), np.array(["2"])[:0]):
        with pytest.raises(TypeError, match="c must be a number; got "):
            check(bad, "c")


def test_a_scalar_that_is_too_large_keeps_its_sign():
    for large in (10**400, Fraction(10**400), np.array([10**400], object)):
        assert checks.scalar(large, "c") == math.inf
        assert checks.scalar(-large, "c") == -math.inf


@pytest.mark.parametrize(
    ("check", "bad", "message"),
    [
        (checks.as_positive_number, 0, "c must be above 0; got 0"),
        (checks.as_non_negative_number, -1, "c must be >= 0; got -1"),
        (checks.as_positive_scalar, 0, "c must be finite and above 0; got 0"),
        (checks.as_non_negative_scalar, -1, "c must be finite and >= 0; got -1"),
        (checks.as_positive_count, 0, "c must be at least 1; got 0"),
        (checks.as_share, 1.5, r"c must be a number in \[0, 1\]; got 1\.5"),
    ],
)
def test_ranges(check, bad, message):
    with pytest.raises(ValueError, match=message):
        check(bad, "c")
    assert check(1, "c") == 1
    assert (
        checks.as_non_negative_number(0, "c") == checks.as_non_negative_scalar(0, "c") == checks.as_finite_number(0, "c") == 0
    )


def test_real_arrays():
    assert checks.as_real_array([True, False], "x").dtype == np.bool_
    assert checks.as_floats([1, 2], "x", 1).dtype == np.float64
    with pytest.raises(TypeError, match="x must be real numbers; got an array of bool"):
        checks.as_real_array([True, False], "x", flags=False)
    with pytest.raises(TypeError, match="x must be real numbers; got None"):
        checks.as_real_array(None, "x")
    with pytest.raises(ValueError, match=r"x must have 2 dimensions; got shape \(2,\)"):
        checks.as_floats([1, 2], "x", 2)


def test_indices():
    checks.check_indices(np.array([0, 2]), 3, "labels", "the classes")
    checks.check_indices(np.array([], np.int64), 0, "labels", "the classes")
    for bad in ([-1, 0], [0, 3]):
        with pytest.raises(ValueError, match=rf"labels must be in \[0, 3\), the classes; got {bad[0]} to {bad[1]}"):
            checks.check_indices(np.array(bad), 3, "labels", "the classes")


def test_remembered_results():
    """Results are remembered for arguments of the usual types, and equal arguments of two types are two."""
    calls = []

    @plan.remembering(11)
    def described(value):
        calls.append(value)
        return type(value), repr(value)

    usual = [0, 0.0, False, 1, 1.0, True, np.float32(1), np.float64(1), "1", (1,), None]
    unusual = [-0.0, np.float32(-0.0), (True,), (1.0,), np.int64(1), [1]]
    for value in (usual + unusual) * 2:
        assert described(value) == (type(value), repr(value))
    assert len(calls) == len(usual) + 2 * len(unusual)
    described(2)  # one more than fit: all are forgotten
    described(0)
    assert calls[-2:] == [2, 0]
