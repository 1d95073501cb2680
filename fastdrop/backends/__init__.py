"""The backends in Python: the same functions by the same names, over flat arrays.

A backend receives integers and already rounded factors; it validates nothing and decides nothing. Each has

``keep_bits(seed, offset, rate, first, n, out)``
    Packed keep bits of ``n`` indices from ``first`` on; ``rate`` is p in units of 2**-64, an integer in [0, 2**64].
``scale(x, out, seed, offset, rate, first, factor)``
    ``out = keep ? x * factor : +0``; ``factor`` is a NumPy scalar of the compute type.
``words(seed, offset, first, out)`` and ``uniform(seed, offset, first, out)``
    The words of domain 0, and the uniforms made of them.
``fold_in(seed, data)``
    The derived key.
``philox(counter, key)``
    One block of the generator, for known answers.

``reference`` (NumPy) is the definition; ``numba`` and the C kernels must give its bytes.
"""
