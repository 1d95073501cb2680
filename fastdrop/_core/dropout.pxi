# Dropout, its masks, and the caller's own masks: the public functions, which fastdrop/variants/dropout.py publishes.

@cython.binding(True)
def dropout(
    x: ArrayLike,
    p: Rate = 0.5,
    *,
    mode: Mode = "inverted",
    noise_shape: Sequence[int | None] | None = None,
    shared_axes: int | Sequence[int] | None = None,
    bias: NDArray[Any] | None = None,
    residual: NDArray[Any] | None = None,
    seed: Seed | None = None,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Drop elements at random and scale the others.

    Element i is dropped if its uniform number U(i) is below `p`. U(i) depends only on (seed, offset, i). So the mask is the
    same on every machine, with any number of threads, memory layout and chunking. With one seed, a larger `p` drops all
    elements that a smaller one drops. `dropout_backward` regenerates the mask: the forward pass stores nothing.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape, strides and order. The mask follows the C-order (row-major) index, whatever the layout.
    p : float or numpy.ndarray, default 0.5
        Probability of **dropping** an element, in [0, 1], rounded to a multiple of 2**-64. (In many papers p is the probability
        of keeping.) An array that broadcasts to `x` gives each element, channel or sample its own rate. The decision about an
        element is the same as with its rate as a single number.
    mode : {"inverted", "standard", "unscaled"}
        The scaling of kept elements. ``"inverted"``: by 1 / (1 - p) in training; outside training **`x` itself is returned**,
        not a copy (with `out`, its values are copied there). ``"standard"``: none in training; outside training all elements
        are scaled by 1 - p. ``"unscaled"``: none in training; outside training `x` itself is returned.
    noise_shape : sequence of int or None, optional
        The shape of the mask, as in Keras. For each axis it is the size of `x` (or None), or 1 if the elements
        along it share one decision.
    shared_axes : int or sequence of int, optional
        The axes along which elements share one decision; an alternative to `noise_shape`. (2, 3) drops whole maps of an array
        (samples, channels, height, width).
    bias : numpy.ndarray, optional
        Added to `x` before elements are dropped, along the last axis: ``dropout(x + bias)``. Of shape
        ``x.shape[-1:]`` and the dtype of `x`.
    residual : numpy.ndarray, optional
        Added to the result, in the same pass: ``residual + dropout(x)``. Of the shape and dtype of `x`. The addition is
        rounded once more.
    seed : int, Key, Stream, numpy.random.SeedSequence, Generator or BitGenerator, or None
        The source of the mask. An integer in [0, 2**64), or a `Key`, which also holds an offset. A `Stream` gives its next key.
        A ``SeedSequence`` gives its first 64 bits. A ``Generator`` or ``BitGenerator`` gives its next 64 bits. None takes fresh
        entropy, and the mask cannot be regenerated. No key is drawn outside training.
    offset : int, default 0
        The number of the call under the seed (a step, a layer), in [0, 2**64). Masks of different offsets are independent.
    training : bool, default True
        False turns dropping off: see `mode`.
    out : numpy.ndarray, optional
        Where to put the result: of the shape and dtype of `x`; may be `x` itself.
    start : int, default 0
        The index of the first element in a larger array, of which `x` is a chunk: the chunk gets its part of the mask. The last
        index must be below 2**55. If decisions are shared, `start` counts decisions.
    global_shape, global_start : sequence of int, optional
        `x` is the block of a larger array of `global_shape` that begins at index `global_start` (zeros by default). The block
        gets its part of the mask. `noise_shape` and `shared_axes` then describe the larger array.
    backend : {"c", "numba", "numpy"}, optional
        The backend of this call; see `set_backend`.
    num_threads : int, optional
        The largest number of threads of this call; see `set_num_threads`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array of the shape, dtype and memory order of `x`. Dropped elements are +0.0, even if they were NaN,
        infinite or negative; kept ones are rounded once. float16 and bfloat16 (of ml_dtypes) are computed in float32 and
        rounded once at the end.

    Raises
    ------
    TypeError
        For an `x`, `out`, `bias` or `residual` of another dtype (or byte order), and for a `p`, `seed`, `offset`, `start` or
        `training` of another type.
    ValueError
        For a `p` outside [0, 1] (of an array, the message has the index) or of a shape that does not broadcast, a `seed` or
        `offset` outside [0, 2**64), a negative `start`, an unknown `mode` or `backend`, an `out` of another shape, that is
        read-only or whose elements share memory, or a `noise_shape`, `shared_axes`, `bias`, `residual` or `global_shape` that
        does not fit `x`. After an error `out` is as it was.
    OverflowError
        For an index past the end of the stream.

    See Also
    --------
    dropout_backward : the gradient.
    dropout_mask : the mask itself.

    Notes
    -----
    In inverted mode E[y] = x and Var[y] = x**2 p / (1 - p) for p < 1. An `out` that overlaps `x` in memory without being `x`
    gets the same result as one that does not. The payloads of NaNs may differ between machines.

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


@cython.binding(True)
def dropout_backward(
    grad: ArrayLike,
    p: Rate = 0.5,
    *,
    mode: Mode = "inverted",
    noise_shape: Sequence[int | None] | None = None,
    shared_axes: int | Sequence[int] | None = None,
    seed: FixedSeed,
    offset: int = 0,
    training: bool = True,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the gradient of `dropout` with respect to `x`.

    The mask is regenerated from the (seed, offset) of the forward pass, which stored nothing. The gradient with respect to a
    `residual` is `grad` itself. The gradient with respect to a `bias` is this result, summed over all axes but the last.

    Parameters
    ----------
    grad : array_like of float32, float64, float16 or bfloat16
        The gradient with respect to the result of `dropout`, of the same shape.
    p, mode, noise_shape, shared_axes, offset, training, start, global_shape, global_start
        As in the forward pass.
    seed : int, Key or numpy.random.SeedSequence
        The key that the forward pass used: write ``key = stream.next()`` before it, and pass ``seed=key`` to both. A
        stream or a generator is refused, because it would draw another mask.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `grad`; outside training, `grad` itself unless `mode` is ``"standard"``.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and for a seed that is missing or has a state.

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


dropout, dropout_backward = quickened(dropout, FORWARD), quickened(dropout_backward, BACKWARD)


@cython.binding(True)
def dropout_mask(
    shape: int | Sequence[int],
    p: Rate = 0.5,
    *,
    noise_shape: Sequence[int | None] | None = None,
    shared_axes: int | Sequence[int] | None = None,
    packed: bool = False,
    seed: Seed,
    offset: int = 0,
    out: NDArray[Any] | None = None,
    start: int = 0,
    global_shape: Sequence[int] | None = None,
    global_start: Sequence[int] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Return the mask that `dropout` applies: True where an element is kept.

    Parameters
    ----------
    shape : int or sequence of int
        The shape of the array that the mask is for.
    p, noise_shape, shared_axes
        As in `dropout`. The result has `shape` whatever is shared.
    packed : bool, default False
        True packs eight elements per byte, in C order, the first in the lowest bit:
        ``numpy.packbits(mask, bitorder="little")``.
    seed, offset, start, global_shape, global_start, backend, num_threads
        As in `dropout`, except that a seed must be given.
    out : numpy.ndarray, optional
        Where to put the mask: of the shape and dtype described below.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array. Of bool and of `shape`; or, packed, of uint8 and one dimension, with zeros in the bits past
        the last element.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As in `dropout`; and where `seed` is None or `out` does not fit.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.dropout_mask((2, 4), 0.5, seed=42)
    array([[ True, False, False, False],
           [False,  True,  True, False]])
    >>> fastdrop.dropout_mask((2, 4), 0.5, seed=42, packed=True)
    array([97], dtype=uint8)
    """
    call = Call(seed, offset, True, out, start, global_shape, global_start, backend, num_threads)
    return draw_mask(shape, p, call, noise_shape, shared_axes, packed)


@cython.binding(True)
def apply_mask(
    x: ArrayLike,
    mask: NDArray[Any],
    scale: float = 1.0,
    *,
    out: NDArray[Any] | None = None,
    backend: Backend | None = None,
    num_threads: int | None = None,
) -> NDArray[Any]:
    """Apply the caller's own mask: multiply kept elements by `scale`, and set the others to +0.0.

    The gradient with respect to `x` is the same function, applied to the gradient with respect to the result.

    Parameters
    ----------
    x : array_like of float32, float64, float16 or bfloat16
        Any shape, strides and order.
    mask : numpy.ndarray
        True where an element is kept: of bool and a shape that broadcasts to that of `x`; or of uint8, packed as by
        `dropout_mask`.
    scale : float, default 1
        The factor of kept elements; rounded once to the compute type.
    out, backend, num_threads
        As in `dropout`.

    Returns
    -------
    numpy.ndarray
        `out`, or a new array like `x`.

    Raises
    ------
    TypeError
        For an `x` of another dtype, or a mask that is neither of bool nor of uint8.
    ValueError
        For a mask that does not fit `x`, or a bad `out`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.arange(1, 5, dtype=np.float32)
    >>> fastdrop.apply_mask(x, np.array([True, False, False, True]), 2.0)
    array([2., 0., 0., 8.], dtype=float32)
    """
    return use_mask(x, mask, scale, out, backend, num_threads)
