# cython: language_level=3, freethreading_compatible=True, embedsignature=False
"""The functions: stateless, each one call of the plan that checks its arguments and runs it."""

from fastdrop._core.plan cimport BACKWARD, Call, begin, finish_dropping

from fastdrop._core import plan

__all__ = ["apply_mask", "dropout", "dropout_backward", "dropout_mask"]


def dropout(
    x, p=0.5, *, seed=None, offset=0, training=True, mode="inverted", out=None, start=0, backend=None, num_threads=None,
    noise_shape=None, shared_axes=None, global_shape=None, global_start=None, residual=None, bias=None,
):
    """Drop elements at random and scale the others.

    Element i is dropped where its uniform number U(i), a function of (seed, offset, i) alone, is below `p`. So the
    mask is the same on every machine, for any number of threads, any memory layout and any way of cutting the array
    up; with one seed, what a smaller `p` drops a larger one drops too; and `dropout_backward` needs nothing stored.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape, strides and order. The mask follows the C-order (row-major) index, whatever the layout.
    p : float or numpy.ndarray, default 0.5
        Probability of **dropping** an element, in [0, 1]; exact to 2**-64. (The papers' p is often that of keeping.) An
        array that broadcasts to `x` gives each element, channel or sample its own; where rates agree, so do the bits.
    seed : int, Stream, numpy.random.SeedSequence, numpy.random.Generator or None
        An integer in [0, 2**64); a `Stream`, whose (seed, offset) is used and whose offset is advanced by one; a
        ``SeedSequence``, whose first 64 bits are used; a ``Generator``, from which 64 bits are drawn; None for fresh
        entropy, after which the mask cannot be made again. Nothing is drawn unless `training`.
    offset : int, default 0
        Which call under the seed this is (a step, a layer): in [0, 2**64). Masks of different offsets are independent.
    training : bool, default True
        False turns dropping off: see `mode`.
    mode : {"inverted", "standard"}
        ``"inverted"``: kept elements times 1 / (1 - p) in training; outside training **`x` itself is returned**, not a
        copy (with `out`, its values are copied there). ``"standard"``: kept elements as they are in training; all
        of them times 1 - p outside it.
    out : numpy.ndarray, optional
        Where to put the result: of the shape and dtype of `x`; may be `x` itself.
    start : int, default 0
        The global index of the first element: a chunk of a larger array gets the mask of its place in it. The last
        index must be below 2**55.
    backend : {"c", "numba", "numpy"}, optional
        For this call alone; see `set_backend`.
    num_threads : int, optional
        For this call alone; see `set_num_threads`.
    noise_shape : sequence of int or None, optional
        The shape of the mask, as Keras has it: for each axis the size of `x` (or None), or 1 where the elements
        along it share one decision.
    shared_axes : int or sequence of int, optional
        The same in other words: the axes along which one decision is shared. (2, 3) drops whole maps of an array
        (samples, channels, height, width).
    global_shape, global_start : sequence of int, optional
        `x` is the block of a larger array of `global_shape` that begins at index `global_start` (zeros by default):
        it gets the mask of its place in it. `noise_shape` and `shared_axes` then speak of the larger array.
    residual : numpy.ndarray, optional
        Added to the result, in the same pass: ``residual + dropout(x)``. Of the shape and dtype of `x`. The addition is
        rounded once more.
    bias : numpy.ndarray, optional
        Added to `x` before elements are dropped, along the last axis: ``dropout(x + bias)``. Of shape
        ``x.shape[-1:]`` and the dtype of `x`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array of the shape, dtype and memory order of `x`. Dropped elements are +0.0, also where `x` is
        NaN, infinite or negative; kept ones are rounded once. float16 and bfloat16 (of ml_dtypes) are computed with in
        float32 and rounded once at the end.

    Raises
    ------
    TypeError
        `x` or `out` of another dtype (or byte order); `p`, `seed`, `offset` or `start` not numbers of their kind.
    ValueError
        `p` outside [0, 1] (the first index where it is, if an array) or of a shape that does not broadcast, `seed` or
        `offset` outside [0, 2**64), `start` negative, an unknown `mode` or `backend`, an `out` of another shape or
        read-only, a mask that does not fit. After an error `out` is as it was.
    OverflowError
        An index past the end of the stream.

    See Also
    --------
    dropout_backward : the gradient.
    dropout_mask : the mask itself.

    Notes
    -----
    For expected values E[y] = x and Var[y] = x**2 p / (1 - p) in inverted mode. An `out` that overlaps `x` in
    memory without being `x` gets the result as if it did not. NaN payloads are not promised to be the same
    everywhere.

    References
    ----------
    .. [1] N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov, "Dropout: a simple way to
       prevent neural networks from overfitting", JMLR 15 (2014) 1929-1958.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.arange(1, 9, dtype=np.float32)
    >>> fastdrop.dropout(x, 0.5, seed=42)
    array([ 2.,  0.,  0.,  0.,  0., 12., 14.,  0.], dtype=float32)

    The second half, as a chunk:

    >>> fastdrop.dropout(x[4:], 0.5, seed=42, start=4)
    array([ 0., 12., 14.,  0.], dtype=float32)

    One decision for each row:

    >>> fastdrop.dropout(x.reshape(4, 2), 0.5, seed=42, shared_axes=1)
    array([[2., 4.],
           [0., 0.],
           [0., 0.],
           [0., 0.]], dtype=float32)
    """
    cdef Call call = Call.__new__(Call)
    call.seed, call.offset, call.training, call.out, call.start = seed, offset, training, out, start
    call.global_shape, call.global_start, call.backend, call.num_threads = global_shape, global_start, backend, num_threads
    return finish_dropping(call, begin(call, x, "x"), x, p, noise_shape, shared_axes, mode, bias, residual)


def dropout_backward(
    grad, p=0.5, *, seed, offset=0, training=True, mode="inverted", out=None, start=0, backend=None, num_threads=None,
    noise_shape=None, shared_axes=None, global_shape=None, global_start=None,
):
    """Return the gradient of `dropout` with respect to its input.

    The mask is a constant of the forward pass, made again here from the same (seed, offset): nothing was stored.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to `dropout`'s result, of the same shape.
    p, offset, training, mode, start, noise_shape, shared_axes, global_shape, global_start
        What the forward pass was given. (A residual's gradient is `grad` itself; a bias's is the sum of this function's
        result over all axes but the last.)
    seed : int, Stream, numpy.random.SeedSequence or numpy.random.Generator
        What the forward pass used. Keep the integers: ``seed, offset = stream.next()`` before the forward pass. A
        `Stream` or ``Generator`` passed here draws anew, as everywhere, and so gives the next mask, not the last
        one.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `grad`; outside training in inverted mode, `grad` itself.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and where `seed` is None.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> grad = np.ones(8, np.float32)
    >>> fastdrop.dropout_backward(grad, 0.5, seed=42)
    array([2., 0., 0., 0., 0., 2., 2., 0.], dtype=float32)
    """
    cdef Call call = Call.__new__(Call)
    call.seed, call.offset, call.training, call.out, call.start = seed, offset, training, out, start
    call.global_shape, call.global_start, call.backend, call.num_threads = global_shape, global_start, backend, num_threads
    call.use = BACKWARD
    return finish_dropping(call, begin(call, grad, "grad"), grad, p, noise_shape, shared_axes, mode, None, None)


def dropout_mask(
    shape, p=0.5, *, seed, offset=0, packed=False, start=0, backend=None, num_threads=None, noise_shape=None,
    shared_axes=None, global_shape=None, global_start=None,
):
    """Return the mask that `dropout` applies: True where an element is kept.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the array that the mask is for.
    p, offset, start, backend, num_threads, noise_shape, shared_axes, global_shape, global_start
        As in `dropout`. The result has `shape` whatever is shared.
    seed : int, Stream, numpy.random.SeedSequence or numpy.random.Generator
        As in `dropout`.
    packed : bool, default False
        Eight elements to a byte, in C order, the first in the lowest bit:
        ``numpy.packbits(mask, bitorder="little")``.

    Returns
    -------
    numpy.ndarray
        Of bool and of `shape`; or, packed, of uint8 and one dimension, with the bits past the last element 0.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and where `seed` is None.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.dropout_mask((2, 4), 0.5, seed=42)
    array([[ True, False, False, False],
           [False,  True,  True, False]])
    >>> fastdrop.dropout_mask((2, 4), 0.5, seed=42, packed=True)
    array([97], dtype=uint8)
    """
    call = Call(seed, offset, True, None, start, global_shape, global_start, backend, num_threads)
    return plan.dropout_mask(shape, p, call, noise_shape, shared_axes, packed)


def apply_mask(x, mask, scale=1.0, *, out=None, backend=None, num_threads=None):
    """Apply a mask of the caller's own: keep elements, times `scale`, or set them to +0.0.

    Its gradient with respect to `x` is the same function of the gradient with respect to its result.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape, strides and order.
    mask : numpy.ndarray
        True where an element is kept: of bool and a shape that broadcasts to that of `x`; or of uint8, packed as
        `dropout_mask` packs it.
    scale : float, default 1
        What kept elements are multiplied by; rounded once to the type that is computed with.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`.

    Raises
    ------
    TypeError
        `x` of another dtype, or a mask that is neither of bool nor of uint8.
    ValueError
        A mask that does not fit `x`, or a bad `out`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.arange(1, 5, dtype=np.float32)
    >>> fastdrop.apply_mask(x, np.array([True, False, False, True]), 2.0)
    array([2., 0., 0., 8.], dtype=float32)
    """
    return plan.apply_mask(x, mask, scale, out, backend, num_threads)
