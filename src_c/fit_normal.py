"""Fit the polynomials of the float32 normal numbers, print their error, and write their tables.

    python src_c/fit_normal.py            # prints the table and its error; needs SciPy
    python src_c/fit_normal.py --write    # also writes src_c/kernels/normal_table.h and _core/backends/normal_table.py

A word w represents u = (w + 1/2) / 2**32. The distance t of u from the nearer of 0 and 1, in units of 2**-32, is
2**(octave - 1) * m with 1 <= m < 2 and 0 <= octave < 32. In each octave, a polynomial in m - 3/2 of degree 6 approximates the
negative inverse of the normal distribution function. The fit minimizes the greatest error (Lawson's weights). The coefficients
are rounded to float32 one after the other, from the constant up. After each rounding, the other coefficients are fitted again.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.special import ndtri

DEGREE, OCTAVES, NODES = 6, 32, 400
ROOT = Path(__file__).parent.parent


def least_squares(x, y, weights, lowest):
    """Return the least-squares coefficients of x**lowest .. x**DEGREE, and these powers."""
    powers = np.stack([x**k for k in range(lowest, DEGREE + 1)], 1)
    root = np.sqrt(weights)
    return np.linalg.lstsq(powers * root[:, None], y * root, rcond=None)[0], powers


def minimax_weights(x, y):
    """Return weights under which least squares nearly minimize the greatest error; a point's weight grows with its error."""
    weights = np.ones(x.size)
    for _ in range(100):
        found, powers = least_squares(x, y, weights, 0)
        weights *= np.abs(powers @ found - y)
        weights /= weights.mean()
    return weights


def fit(octave):
    """Return the coefficients of one octave, lowest power first, as float32."""
    x = 0.5 * np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)
    rest = -ndtri((x + 1.5) * 2.0 ** (octave - 1 - 32))
    weights = minimax_weights(x, rest)
    coefficients = np.empty(DEGREE + 1, np.float32)
    for k in range(DEGREE + 1):
        coefficients[k] = least_squares(x, rest, weights, k)[0][0]
        rest = rest - float(coefficients[k]) * x**k
    return coefficients


def evaluate(table, away):
    """Return the kernels' results for distances `away` + 1/2 from 0, in units of 2**-32."""
    t = np.minimum(away, 0x7FFFFF80).astype(np.float32) + np.float32(0.5)
    octave = (t.view(np.int32) >> 23) - 126
    x = (t.view(np.int32) & 0x7FFFFF | 0x3F800000).view(np.float32) - np.float32(1.5)
    z = table[DEGREE][octave]
    for k in range(DEGREE - 1, -1, -1):
        z = z * x + table[k][octave]
    return z


def errors(table):
    """Return the greatest error in each octave, at its ends and at up to a million points."""
    found = []
    for octave in range(OCTAVES):
        first = 2**octave >> 1
        away = np.arange(first, max(1, 2 * first), max(1, first >> 20))
        away = np.append(away, max(0, 2 * first - 1)).astype(np.int32)
        found.append(np.abs(evaluate(table, away) + ndtri((away + 0.5) / 2**32)).max())
    return found


def short(number):
    """Return a float32 as a hexadecimal constant without trailing zeros."""
    mantissa, exponent = float(number).hex().split("p")
    return f"{mantissa.rstrip('0')}p{exponent}"


def wrap(words):
    """Return words in lines of eight."""
    return "\n     ".join(" ".join(words[k : k + 8]) for k in range(0, len(words), 8))


def main():
    table = np.stack([fit(octave) for octave in range(OCTAVES)], 1)
    found = errors(table)
    for octave, error in enumerate(found):
        print(f"{octave:2} {error:.2e}  " + " ".join(f"{c:+.9e}" for c in table[:, octave]))
    print(f"greatest error {max(found):.3e}")
    if "--write" in sys.argv:
        rows = [[short(c) for c in row] for row in table]
        head = "Written by src_c/fit_normal.py: one row per power, the lowest first; one column per octave."
        c_rows = ",\n".join("    {" + wrap([c + "f," for c in row])[:-1] + "}" for row in rows)
        (ROOT / "src_c/kernels/normal_table.h").write_text(
            f"/* {head} */\nenum {{ NORMAL_DEGREE = {DEGREE} }};\n"
            f"static const float normal_table[NORMAL_DEGREE + 1][{OCTAVES}] = {{\n{c_rows}}};\n"
        )
        python_rows = "\n".join(f'    """{wrap(row)}""",' for row in rows)
        (ROOT / "fastdrop/_core/backends/normal_table.py").write_text(
            f'"""{head}"""\n\nimport numpy as np\n\nDEGREE = {DEGREE}\nROWS = (\n{python_rows}\n)\n'
            "TABLE = np.array([[float.fromhex(number) for number in row.split()] for row in ROWS], np.float32)\n"
        )


if __name__ == "__main__":
    main()
