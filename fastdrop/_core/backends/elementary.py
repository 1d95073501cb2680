"""Elementary functions that have the same bits everywhere: only + - * /, square roots, integers, selections and tables.

Both Python backends share this text: NumPy evaluates the functions on arrays, and Numba compiles them for single numbers. So
every constant has a NumPy type (Numba widens a float32 that meets a Python number), bits are cast through a type of their
size, and a choice is `select`. `elementary_tpl.h` and `normal_tpl.h` in `src_c/kernels/` do the same operations in the same
order. No operation may be fused with another: C is compiled with -ffp-contract=off, Numba without fastmath.

Coefficients: `log32` and `exp32` are Cephes' (S. L. Moshier, "Methods and programs for mathematical functions", 1989), `log64`
and `exp64` fdlibm's (Sun Microsystems, 1993), `normal64` those of algorithm AS 241 (M. J. Wichura, Applied Statistics 37,
1988); `normal32` has its own fit (src_c/fit_normal.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastdrop._core.backends.normal_table import DEGREE, TABLE

Real = Any  # an array or a number, of float32 or float64
Integer = Any
Function = Callable[[Real], Real]

f32, f64, i32, i64, u32, u64 = np.float32, np.float64, np.int32, np.int64, np.uint32, np.uint64


def select(condition: Any, a: Real, b: Real) -> Real:
    """Return a where the condition holds, else b; Numba compiles ``a if condition else b`` instead."""
    return np.where(condition, a, b)


def horner(x: Real, coefficients: tuple[Any, ...]) -> Real:
    """Evaluate a polynomial; the coefficient of the highest power comes first."""
    y = coefficients[0]
    for c in coefficients[1:]:
        y = y * x + c
    return y


def singles(*values: float) -> tuple[Any, ...]:
    """Return constants as float32."""
    return tuple(f32(value) for value in values)


def doubles(*values: float) -> tuple[Any, ...]:
    """Return constants as float64."""
    return tuple(f64(value) for value in values)


# Exponential and logarithm of float32 -------------------------------------------------------------------------------

EXP32 = singles(1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
EXP32_MOST, EXP32_LEAST = f32(89), f32(-104)  # beyond them: infinity, 0
LOG2_E32, LN2_HIGH32, LN2_LOW32 = singles(1.44269504088896341, 0.693359375, -2.12194440e-4)
TO_INTEGER32 = f32(1.5 * 2**23)  # x + it - it: x rounded to an integer
LOG32 = singles(
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
    2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
ZERO32, HALF32, ONE32, INFINITY32, NAN32 = singles(0, 0.5, 1, np.inf, np.nan)
NORMAL32, RAISE32, RAISED32 = singles(2.0**-126, 2.0**23, 23)  # the least normal number; a factor for subnormal ones; its log2
SQRT_HALF32 = i32(0x3F3504F3)  # the bits of sqrt(1/2)


def power_of_two32(n: Integer) -> Real:
    """Return 2**n as float32, for -126 <= n <= 127."""
    return i32(i32(n + i32(127)) << i32(23)).view(f32)


def exp32(x: Real) -> Real:
    """Return e**x: 2**n * e**r, n an integer, |r| <= log(2) / 2; 2**n in two parts, so that neither overflows."""
    is_number = x == x
    most = select(is_number, select(x > EXP32_MOST, EXP32_MOST, x), ZERO32)
    given = select(most < EXP32_LEAST, EXP32_LEAST, most)
    k = (given * LOG2_E32 + TO_INTEGER32) - TO_INTEGER32
    r = (given - k * LN2_HIGH32) - k * LN2_LOW32
    y = ((horner(r, EXP32) * (r * r)) + r) + ONE32
    n = i32(k)
    half = i32(n >> i32(1))
    y = (y * power_of_two32(half)) * power_of_two32(i32(n - half))
    return select(is_number, y, x)


def log32(x: Real) -> Real:
    """Return log x: x = 2**e * m, sqrt(1/2) <= m < sqrt(2), and a polynomial in m - 1."""
    is_inside = (x > ZERO32) & (x < INFINITY32)
    inside = select(is_inside, x, ONE32)
    is_small = inside < NORMAL32
    bits = f32(select(is_small, inside * RAISE32, inside)).view(i32)
    e = i32(i32(bits - SQRT_HALF32) >> i32(23))
    m = i32(bits - i32(e << i32(23))).view(f32)
    exponent = f32(e) - select(is_small, RAISED32, ZERO32)
    t = m - ONE32
    z = t * t
    y = (horner(t, LOG32) * t) * z
    y = y + exponent * LN2_LOW32
    y = y - z * HALF32
    y = (t + y) + exponent * LN2_HIGH32
    outside = select(x == ZERO32, -INFINITY32, select(x > ZERO32, x, NAN32))
    return select(is_inside, y, outside)


# Exponential and logarithm of float64 -------------------------------------------------------------------------------

EXP64 = doubles(
    4.13813679705723846039e-08, -1.65339022054652515390e-06, 6.61375632143793436117e-05, -2.77777777770155933842e-03,
    1.66666666666666019037e-01,
)  # fmt: skip
EXP64_MOST, EXP64_LEAST = f64(710), f64(-746)
LOG2_E64, LN2_HIGH64, LN2_LOW64 = doubles(1.44269504088896338700, 6.93147180369123816490e-01, 1.90821492927058770002e-10)
TO_INTEGER64 = f64(1.5 * 2**52)
LOG64 = doubles(
    1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01, 2.222219843214978396e-01,
    2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01,
)  # fmt: skip
ZERO64, HALF64, ONE64, TWO64, INFINITY64, NAN64 = doubles(0, 0.5, 1, 2, np.inf, np.nan)
NORMAL64, RAISE64, RAISED64 = doubles(2.0**-1022, 2.0**52, 52)
SQRT_HALF64 = i64(0x3FE6A09E667F3BCD)


def power_of_two64(n: Integer) -> Real:
    """Return 2**n as float64, for -1022 <= n <= 1023."""
    return i64(i64(n + i64(1023)) << i64(52)).view(f64)


def exp64(x: Real) -> Real:
    """Return e**x, as `exp32`; e**r by a rational function."""
    is_number = x == x
    most = select(is_number, select(x > EXP64_MOST, EXP64_MOST, x), ZERO64)
    given = select(most < EXP64_LEAST, EXP64_LEAST, most)
    k = (given * LOG2_E64 + TO_INTEGER64) - TO_INTEGER64
    high = given - k * LN2_HIGH64
    low = k * LN2_LOW64
    r = high - low
    z = r * r
    c = r - z * horner(z, EXP64)
    y = ONE64 - ((low - (r * c) / (TWO64 - c)) - high)
    n = i64(k)
    half = i64(n >> i64(1))
    y = (y * power_of_two64(half)) * power_of_two64(i64(n - half))
    return select(is_number, y, x)


def log64(x: Real) -> Real:
    """Return log x, as `log32`; the polynomial is in s = t / (2 + t), t = m - 1."""
    is_inside = (x > ZERO64) & (x < INFINITY64)
    inside = select(is_inside, x, ONE64)
    is_small = inside < NORMAL64
    bits = f64(select(is_small, inside * RAISE64, inside)).view(i64)
    e = i64(i64(bits - SQRT_HALF64) >> i64(52))
    m = i64(bits - i64(e << i64(52))).view(f64)
    exponent = f64(e) - select(is_small, RAISED64, ZERO64)
    t = m - ONE64
    s = t / (TWO64 + t)
    z = s * s
    rest = z * horner(z, LOG64)
    half_square = (t * t) * HALF64
    y = exponent * LN2_HIGH64 - ((half_square - (s * (half_square + rest) + exponent * LN2_LOW64)) - t)
    outside = select(x == ZERO64, -INFINITY64, select(x > ZERO64, x, NAN64))
    return select(is_inside, y, outside)


# Functions of exp and log -------------------------------------------------------------------------------------------


def family(real: Any, exp: Function, log: Function, least: float) -> tuple[Function, Function, Function, Function]:
    """Return log(1 + x), the logistic function, its inverse and its integral in one type; 1 + `least` rounds to 1."""
    zero, half, one, small = real(0), real(0.5), real(1), real(least)

    def log1p(x: Real) -> Real:
        """Return log(1 + x), corrected for the rounding of 1 + x."""
        sum_ = one + x
        added = sum_ - one
        is_lost = added == zero
        return select(is_lost, x, log(sum_) * (x / select(is_lost, one, added)))

    def sigmoid(x: Real) -> Real:
        """Return 1 / (1 + e**-x), from e**-|x|: small values keep their relative accuracy."""
        e = exp(-np.abs(x))
        return select(x < zero, e, one) / (one + e)

    def logit(x: Real) -> Real:
        """Return log(x / (1 - x)), computed from the lesser of x and 1 - x and its distance to the greater."""
        lesser = select(x < half, x, one - x)
        y = select(lesser < small, -log(lesser), log1p((one - (lesser + lesser)) / lesser))
        return select(x < half, -y, y)

    def softplus(x: Real) -> Real:
        """Return log(1 + e**x), which is max(x, 0) + log(1 + e**-|x|)."""
        return select(x < zero, zero, x) + log1p(exp(-np.abs(x)))

    return log1p, sigmoid, logit, softplus


log1p32, sigmoid32, logit32, softplus32 = family(f32, exp32, log32, 2.0**-26)
log1p64, sigmoid64, logit64, softplus64 = family(f64, exp64, log64, 2.0**-55)


# Divergences of a weight from the log-uniform prior, given its log alpha: minus the approximations of -KL ------------

# Molchanov et al., -KL = K1 sigmoid(K2 + K3 log alpha) - log(1 + 1 / alpha) / 2 - K1.
K1, K2, K3 = doubles(0.63576, 1.87320, 1.48695)
# Kingma et al., -KL = C0 + log(alpha) / 2 + C1 alpha + C2 alpha**2 + C3 alpha**3. The paper does not give C0. Minus half the
# sum of Euler's constant and log 2 makes the divergence 0 at infinite alpha, as in Molchanov's formula.
C0, C1, C2, C3 = doubles(-0.6351814227307391, 1.16145124, -1.50204118, 0.58629921)
THREE64, SQRT_TWO_LESS_ONE = doubles(3, 0.41421356237309505)


def log1p_of_unit64(x: Real) -> Real:
    """Return log(1 + x) for x in [0, 1]: the series of `log64`, without its search for the exponent, which is 0 or 1."""
    is_upper = x > SQRT_TWO_LESS_ONE
    exponent = select(is_upper, ONE64, ZERO64)
    t = select(is_upper, (x - ONE64) * HALF64, x)
    s = t / (TWO64 + t)
    z = s * s
    rest = z * horner(z, LOG64)
    half_square = (t * t) * HALF64
    return exponent * LN2_HIGH64 - ((half_square - (s * (half_square + rest) + exponent * LN2_LOW64)) - t)


def molchanov64(x: Real) -> Real:
    """Return the divergence by the approximation of Molchanov et al.; log(1 + 1 / alpha) is the softplus of -x."""
    softplus = select(x > ZERO64, ZERO64, -x) + log1p_of_unit64(exp64(-np.abs(x)))
    return K1 * sigmoid64(-(K2 + K3 * x)) + HALF64 * softplus


def molchanov_slope64(x: Real) -> Real:
    """Return its derivative; the two logistic functions of K2 + K3 x and of its negative share an exponential."""
    place = K2 + K3 * x
    e = exp64(-np.abs(place))
    total = ONE64 + e
    return ZERO64 - ((K1 * K3) * ((ONE64 / total) * (e / total)) + HALF64 * sigmoid64(-x))


def kingma64(x: Real) -> Real:
    """Return the divergence by the approximation of Kingma et al., in which alpha is at most 1."""
    least = select(x > ZERO64, ZERO64, x)
    alpha = exp64(least)
    return -(C0 + (HALF64 * least + alpha * (C1 + alpha * (C2 + alpha * C3))))


def kingma_slope64(x: Real) -> Real:
    """Return its derivative, 0 where alpha is above 1."""
    alpha = exp64(select(x > ZERO64, ZERO64, x))
    slope = HALF64 + alpha * (C1 + alpha * (TWO64 * C2 + alpha * (THREE64 * C3)))
    return select(x > ZERO64, ZERO64, ZERO64 - slope)


# Normal numbers: the inverse of their distribution function at the middle of each of 2**32 (or 2**52) equal parts ----

SIGN32, OCTAVES = u32(31), i32(126)
MOST32 = i32(0x7FFFFF80)  # above it, conversion to float32 would round to the next power of two
MANTISSA32, EXPONENT_OF_ONE32, MIDDLE32 = i32(0x7FFFFF), i32(0x3F800000), f32(1.5)


def normal32(word: Integer) -> Real:
    """Return the normal number at u = (word + 1/2) / 2**32: one polynomial per power of two of u or 1 - u."""
    is_upper = u32(word >> SIGN32) == u32(1)
    away = i32(u32(select(is_upper, ~word, word)))  # from the nearer end
    t = f32(select(away < MOST32, away, MOST32)) + HALF32
    bits = f32(t).view(i32)
    octave = i32(bits >> i32(23)) - OCTAVES
    x = i32(i32(bits & MANTISSA32) | EXPONENT_OF_ONE32).view(f32) - MIDDLE32
    z = TABLE[DEGREE][octave]
    for k in range(DEGREE - 1, -1, -1):
        z = z * x + TABLE[k][octave]
    return select(is_upper, z, -z)


CENTRE, CENTRE_SQUARE, FAR, NEAR_SHIFT, FAR_SHIFT = doubles(0.425, 0.180625, 5, 1.6, 5)
CENTRAL_OVER = doubles(
    2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
    1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0,
)  # fmt: skip
CENTRAL_UNDER = doubles(
    5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
    5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0,
)  # fmt: skip
NEAR_OVER = doubles(
    7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
    3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0,
)  # fmt: skip
NEAR_UNDER = doubles(
    1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
    6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0,
)  # fmt: skip
FAR_OVER = doubles(
    2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
    2.96560571828504891230e-1, 1.78482653991729133580e0, 5.46378491116411436990e0, 6.65790464350110377720e0,
)  # fmt: skip
FAR_UNDER = doubles(
    2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
    1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0,
)  # fmt: skip


def normal64(u: Real) -> Real:
    """Return the normal number at u, 0 < u < 1: rational functions of u, and in the tails of sqrt(-log(u or 1 - u))."""
    q = u - HALF64
    square = CENTRE_SQUARE - q * q
    central = q * horner(square, CENTRAL_OVER) / horner(square, CENTRAL_UNDER)
    r = np.sqrt(-log64(select(q < ZERO64, u, ONE64 - u)))
    near = r - NEAR_SHIFT
    far = r - FAR_SHIFT
    nearer = horner(near, NEAR_OVER) / horner(near, NEAR_UNDER)
    farther = horner(far, FAR_OVER) / horner(far, FAR_UNDER)
    tail = select(r <= FAR, nearer, farther)
    return select(np.abs(q) <= CENTRE, central, select(q < ZERO64, -tail, tail))


# The functions that those in `FUNCTIONS` call.
PARTS = (
    horner, power_of_two32, power_of_two64, exp32, log32, log1p32, exp64, log64, log1p64, sigmoid64, log1p_of_unit64,
)  # fmt: skip
FUNCTIONS: dict[str, tuple[Any, Function]] = {  # in float32, or None, and in float64
    "exp": (exp32, exp64),
    "log": (log32, log64),
    "sigmoid": (sigmoid32, sigmoid64),
    "logit": (logit32, logit64),
    "softplus": (softplus32, softplus64),
    "molchanov": (None, molchanov64),
    "molchanov_slope": (None, molchanov_slope64),
    "kingma": (None, kingma64),
    "kingma_slope": (None, kingma_slope64),
}
