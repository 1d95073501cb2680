"""The backends in Python: the same functions by the same names, over flat arrays.

A backend receives integers and factors that are already rounded. It does not validate arguments or choose settings. Functions
of bits come first, then functions of values:

``keep_bits(seed, offset, rate, first, n, out)``
    Packed keep bits of the indices first .. first + n - 1. ``rate`` is p in units of 2**-64, an integer in [0, 2**64].
``keep_bits_at(seed, offset, rate, index, out)``
    The same for any indices, an int64 array; ``rate`` may be a float64 array with one p per index.
``scale(x, out, bits, factor, bias, other)``
    ``other + (keep ? (x + bias) * factor : 0)``; ``bias`` and ``other`` may be None, ``factor`` an array.
``affine(x, out, bits, factor, shift, fill)``
    ``keep ? x * factor + shift : fill``.
``signed(x, out, bits, factor, shift, fill)``
    ``keep ? x * factor + sgn(x) shift : -sgn(x) fill``, without the signed terms for 0 and NaN.
``select(x, out, bits, other)``
    ``keep ? x : other``.
``drop_blocks(seeds, maps, sizes, block, out)``
    Packed keep bits of maps in which each seed drops a block.
``words(seed, offset, index, out)``, ``uniform(seed, offset, index, out)``, ``normal(seed, offset, index, out)``
    The words of domain 0, and the uniform and the normal numbers computed from them. ``index`` is that of the first of
    neighbours, an integer, or that of each element, an int64 array.
``elementary(name, x)``
    An elementary function of each element, by its name in `elementary.FUNCTIONS`.
``fold_in(seed, data)``
    The derived key.
``philox(counter, key)``
    One block of the generator, for tests with known answers.

Arrays are flat and of float32 or float64; factors are NumPy scalars of that type. ``reference`` (NumPy) is the
definition; ``numba`` and the C kernels must give its bytes. ``elementary`` and ``noise`` define the functions of numbers for
both backends.
"""
