# Checks of numbers and arrays. Each returns the value in the core's form, or raises an error that names the argument.

cdef object as_integer(value):
    """Return an integer of any integer class; a bool is not accepted."""
    if PyLong_CheckExact(value):
        return value
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


cdef bint is_word(value, uint64_t *number) noexcept:
    """Set a number to an int of Python in [0, 2**64), or return False. It takes a third of the time of a `try`."""
    if not PyLong_CheckExact(value):
        return False
    number[0] = as_unsigned(value)
    if number[0] == <uint64_t>-1 and PyErr_Occurred():
        PyErr_Clear()
        return False
    return True


cdef uint64_t word(value, str name) except? 0xFFFFFFFFFFFFFFFF:
    """Return an integer in [0, 2**64)."""
    cdef object integer = value
    cdef uint64_t number = 0
    if is_word(value, &number):
        return number
    if not PyLong_CheckExact(value):
        try:
            integer = as_integer(value)
        except TypeError:
            raise TypeError(f"{name} must be an integer in [0, 2**64); got {value!r} ({type(value).__name__})") from None
    try:
        return PyLong_AsUnsignedLongLong(integer)
    except OverflowError:
        raise ValueError(f"{name} must be an integer in [0, 2**64); got {value!r}") from None


@cython.binding(True)
def as_word(value, str name):
    """Return `value` as an integer in [0, 2**64), or raise an error that names it."""
    return word(value, name)


@cython.binding(True)
cpdef int64_t as_count(value, str name) except -1:
    """Return `value` as an integer in [0, 2**63), or raise an error that names it."""
    try:
        number = as_integer(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer >= 0; got {value!r} ({type(value).__name__})") from None
    if number < 0:
        raise ValueError(f"{name} must be >= 0; got {number}")
    if number > 0x7FFFFFFFFFFFFFFF:
        raise OverflowError(f"{name} must be below 2**63; got {number}")
    return number


cdef uint64_t first_index(start, int64_t n, uint64_t end, str what) except? 0xFFFFFFFFFFFFFFFF:
    """Return the index of the first of n elements in the stream, or raise an error unless all n indices are below `end`."""
    if PyLong_CheckExact(start) and start == 0 and <uint64_t>n <= end:
        return 0
    try:
        first = as_integer(start)
    except TypeError:
        raise TypeError(f"start must be an integer >= 0; got {start!r} ({type(start).__name__})") from None
    if first < 0:
        raise ValueError(f"start must be >= 0; got {first}")
    if first + n > end:
        of_them = f" with {n} of them" if n else ""
        raise OverflowError(
            f"stream {STREAM} has 2**{int(end).bit_length() - 1} {what}; start {first}{of_them} goes past the end")
    return first


cdef uint64_t bits_of(double number) noexcept:
    """Return the bits of a number: 0 for +0.0 alone."""
    cdef uint64_t bits
    memcpy(&bits, &number, sizeof(bits))
    return bits


cpdef int sign(double number) noexcept:
    """Return -1, 0 or 1, also where the caller's settings make subnormals equal to 0."""
    cdef uint64_t bits = bits_of(number)
    if not bits << 1:
        return 0
    return -1 if bits >> 63 else 1


@cython.binding(True)
cpdef int check_scalar(value) except -1:
    """Raise TypeError for values that `float` may accept but that are no real number: a bool, NumPy's strings, arrays."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError
    if isinstance(value, (np.ndarray, np.generic)) and (
            value.ndim or value.dtype.kind not in "iufO" and value.dtype.name != "bfloat16"):
        raise TypeError
    return 0


cpdef bint is_one_of(value, names) except -1:
    """Return whether a value is one of these strings. An array is not: `in` would compare it element by element."""
    return isinstance(value, str) and value in names


cdef tuple integers(const int64_t *values, int n):
    """Return C integers as a tuple."""
    return PyArray_IntTupleFromIntp(n, <const np.npy_intp *>values)


cdef tuple true_shape(np.ndarray a):
    """Return the shape in memory; the attributes of a subclass may say something else."""
    return integers(<int64_t *>np.PyArray_DIMS(a), np.PyArray_NDIM(a))


cdef str type_name(np.dtype descr):
    """Return a dtype with its byte order, such as "<f4"; the name of one that NumPy has no letter for."""
    named = <object>descr  # the attributes of Python; those of C are numbers
    return named.name if named.kind == "V" else named.str


cdef int number_of_bfloat16 = -1  # NumPy's number of that type, once an array has had it: asking for the name takes long


cdef bint is_bfloat16(np.ndarray x) except -1:
    """Return whether an array has that type, and remember its number."""
    global number_of_bfloat16
    if x.descr.name != "bfloat16":
        return False
    number_of_bfloat16 = np.PyArray_TYPE(x)
    return True


cdef int kind_of(np.ndarray x, str name) except -1:
    """Return the number of an array's element type (FD_FLOAT32 etc.)."""
    cdef int number = np.PyArray_TYPE(x)
    if not np.PyArray_ISNOTSWAPPED(x):
        raise TypeError(
            f"{name} must have this machine's byte order; got dtype {type_name(x.descr)!r}; "
            f"{name}.astype({name}.dtype.newbyteorder('=')) converts it")
    if number == np.NPY_FLOAT32:
        return native.FD_FLOAT32
    if number == np.NPY_FLOAT64:
        return native.FD_FLOAT64
    if number == np.NPY_FLOAT16:
        return native.FD_FLOAT16
    if number == number_of_bfloat16 or (np.PyTypeNum_ISUSERDEF(number) and is_bfloat16(x)):
        return native.FD_BFLOAT16
    raise TypeError(f"{name} must have a floating-point dtype: {FLOATS}; got {x.descr}")


cpdef int check_out(out, np.ndarray x, str name="input") except -1:
    """Raise an error unless `out` can hold a result like `x`, which the message calls `name`."""
    return check_room(out, x.descr, np.PyArray_NDIM(x), np.PyArray_DIMS(x), name)


cdef int check_result(out, np.dtype dtype, tuple shape) except -1:
    """Raise an error unless `out` can hold a result of this dtype and shape, which are not those of an input."""
    cdef np.npy_intp dims[native.FD_MAX_DIMS]
    cdef int k
    for k in range(len(shape)):
        dims[k] = shape[k]
    return check_room(out, dtype, len(shape), dims, "result")


cdef int check_room(out, np.dtype dtype, int ndim, np.npy_intp *dims, str name) except -1:
    """Raise an error unless `out` can hold a result of a dtype and a shape, which are those of the array `name`."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a numpy.ndarray; got {type(out).__name__}")
    cdef np.ndarray y = out
    if np.PyArray_TYPE(y) != dtype.type_num or not np.PyArray_ISNOTSWAPPED(y):
        raise TypeError(f"out must have the dtype of the {name}, {type_name(dtype)!r}; got {type_name(y.descr)!r}")
    if np.PyArray_NDIM(y) != ndim or not np.PyArray_CompareLists(np.PyArray_DIMS(y), dims, ndim):
        raise ValueError(f"out must have the shape of the {name}, {integers(<int64_t *>dims, ndim)}; got {true_shape(y)}")
    if not np.PyArray_ISWRITEABLE(y):
        raise ValueError("out must be writable; it is read-only")
    return check_apart(y)


cdef int check_apart(np.ndarray out) except -1:
    """Raise an error for an output some of whose elements share memory, which cannot hold a result."""
    if np.PyArray_IS_C_CONTIGUOUS(out) or not repeats_memory(out):
        return 0
    strides = integers(<int64_t *>np.PyArray_STRIDES(out), np.PyArray_NDIM(out))
    raise ValueError(f"out must have memory of its own for each element; with the strides {strides} some share it")


cdef bint repeats_memory(np.ndarray a) except -1:
    """Return whether neighbours along an axis share memory, as after a broadcast, or two axes step alike, as in windows."""
    cdef set steps = set()
    cdef int64_t step
    cdef int k
    if not np.PyArray_SIZE(a):
        return False
    for k in range(np.PyArray_NDIM(a)):
        step = abs(np.PyArray_STRIDE(a, k))
        if np.PyArray_DIM(a, k) > 1:
            if step < np.PyArray_ITEMSIZE(a) or step in steps:
                return True
            steps.add(step)
    return False


cpdef np.ndarray to_array(value, str name):
    """Return a value as an array of any dtype; an array of a subclass stays as it is. Lists must make a rectangle."""
    if isinstance(value, np.ndarray):
        return value
    try:
        return np.asarray(value)
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        raise ValueError(f"{name} must be an array, or lists of equal lengths at each depth; got {value!r}") from None
    except (TypeError, RuntimeError) as error:
        adapter = ADAPTERS.get(type(value).__module__.partition(".")[0])
        if adapter is None:
            raise
        raise TypeError(
            f"{name} must be convertible to a NumPy array; got {type(value).__name__}, for which {adapter} has functions with "
            f"gradients. The conversion failed: {error}"
        ) from error


# Libraries whose tensors cannot always become arrays of NumPy, as when they have a gradient or are traced.
cdef dict ADAPTERS = {"torch": "fastdrop.torch", "jax": "fastdrop.jax", "jaxlib": "fastdrop.jax"}


cpdef np.ndarray as_real_array(value, str name, bint flags=True):
    """Return an array of real numbers of any dtype, in NumPy's class; bool is accepted only if `flags` is true."""
    cdef np.ndarray given
    cdef native.Environment found
    if np.PyArray_CheckExact(value):
        given = value
    else:
        native.environment_begin(&found)
        try:
            given = np.asarray(to_array(value, name))
        finally:
            native.environment_end(&found)
    if (np.PyArray_ISINTEGER(given) or np.PyArray_ISFLOAT(given) or flags and np.PyArray_ISBOOL(given)
            or np.PyArray_ISUSERDEF(given) and given.descr.name == "bfloat16"):
        return given
    what = f"an array of {given.dtype}" if np.PyArray_NDIM(given) else repr(value)
    raise TypeError(f"{name} must be real numbers; got {what}")


def as_array(x, str name, out=None):
    """Return `x` as an array of a supported dtype, or raise an error that names it; `out` must have its shape and dtype."""
    cdef np.ndarray array = to_array(x, name)
    kind_of(array, name)
    if out is not None:
        check_out(out, array)
    return array


cdef bint overlaps_itself(np.ndarray a):
    """Return whether two indices may share memory. They do not if each step is at least the reach of all shorter steps."""
    cdef int64_t reach = np.PyArray_ITEMSIZE(a)
    cdef list axes = []
    cdef int k
    for k in range(np.PyArray_NDIM(a)):
        if np.PyArray_DIM(a, k) > 1:
            axes.append((abs(np.PyArray_STRIDE(a, k)), np.PyArray_DIM(a, k)))
    axes.sort()
    for step, size in axes:
        if step < reach:
            return True
        reach += step * (size - 1)
    return False


cdef bint is_plain(np.ndarray a):
    return np.PyArray_IS_C_CONTIGUOUS(a) and np.PyArray_ISALIGNED(a)


cdef bint is_same_memory(np.ndarray a, np.ndarray b):
    """Return whether equal indices, and only they, share memory."""
    cdef int k
    if np.PyArray_DATA(a) != np.PyArray_DATA(b):
        return False
    for k in range(np.PyArray_NDIM(a)):
        if np.PyArray_DIM(a, k) > 1 and np.PyArray_STRIDE(a, k) != np.PyArray_STRIDE(b, k):
            return False
    return True


cdef void bounds(np.ndarray a, uintptr_t *first, uintptr_t *end) noexcept:
    """Set the first address of an array's elements, and the one after the last; the same address for an empty array."""
    cdef int64_t below = 0, above = np.PyArray_ITEMSIZE(a), reach
    cdef int k
    for k in range(np.PyArray_NDIM(a)):
        reach = np.PyArray_STRIDE(a, k) * (np.PyArray_DIM(a, k) - 1)
        below += min(reach, 0)
        above += max(reach, 0)
    first[0] = <uintptr_t>np.PyArray_DATA(a) + below
    end[0] = <uintptr_t>np.PyArray_DATA(a) + above if np.PyArray_SIZE(a) else first[0]


cdef bint may_overlap(np.ndarray a, np.ndarray b) noexcept:
    """Return whether the memory of two arrays may overlap: as numpy.may_share_memory, without the microsecond that it takes."""
    cdef uintptr_t first, end, other_first, other_end
    bounds(a, &first, &end)
    bounds(b, &other_first, &other_end)
    return first < other_end and other_first < end and first < end and other_first < other_end


cdef np.ndarray readable(np.ndarray a, np.ndarray y):
    """Return the operand `a`, or a copy if it is misaligned or would be overwritten before it is read."""
    if np.PyArray_ISALIGNED(a) and (not may_overlap(a, y) or is_same_memory(a, y)):
        return a
    return np.array(a, order="K", subok=False)  # which calls no method of a subclass


cdef np.ndarray writable(np.ndarray y):
    """Return the output `y`, or a temporary array if y is misaligned or two of its indices share memory."""
    if not is_plain(y) and (not np.PyArray_ISALIGNED(y) or overlaps_itself(y)):
        return np.empty(true_shape(y), y.descr)
    return y


cdef bint is_usual(np.ndarray a):
    """Return whether an array needs no conversion: of no subclass, in C order, aligned, in this machine's byte order."""
    return np.PyArray_CheckExact(a) and is_plain(a) and np.PyArray_ISNOTSWAPPED(a)


cdef np.ndarray flat(a):
    """Return an array in C order, aligned and of NumPy's class: the array itself, a view of a subclass, or a copy."""
    cdef np.ndarray given = a
    if is_plain(given):
        return given if np.PyArray_CheckExact(given) else np.asarray(given)
    return np.array(given, order="C", subok=False)


cdef np.ndarray room(int64_t n, int type):
    """Return a new flat array of n numbers of a type of NumPy, which are not set."""
    cdef np.npy_intp size = n
    return np.PyArray_EMPTY(1, &size, type, 0)


cdef np.ndarray new_array(int ndim, np.npy_intp *dims, np.dtype descr):
    """Return a new array of NumPy's class in C order, whose elements are not set."""
    Py_INCREF(descr)  # the new array takes a reference
    return PyArray_NewFromDescr(<PyTypeObject *>np.ndarray, descr, ndim, dims, NULL, NULL, 0, NULL)


cdef np.ndarray spread(np.ndarray a, int ndim, const np.npy_intp *dims):
    """Return an array broadcast to a shape, in NumPy's class; None if it does not broadcast."""
    cdef np.npy_intp steps[native.FD_MAX_DIMS]
    cdef int missing = ndim - np.PyArray_NDIM(a), k
    cdef bint is_same = missing == 0
    if missing < 0:
        return None
    for k in range(ndim):
        steps[k] = 0
        if k >= missing and np.PyArray_DIM(a, k - missing) == dims[k]:
            steps[k] = np.PyArray_STRIDE(a, k - missing)
        elif k >= missing and np.PyArray_DIM(a, k - missing) != 1:
            return None
        else:
            is_same = False
    if is_same and np.PyArray_CheckExact(a):
        return a
    Py_INCREF(a.descr)  # the new array takes a reference
    cdef np.ndarray view = PyArray_NewFromDescr(
        <PyTypeObject *>np.ndarray, a.descr, ndim, dims, steps, np.PyArray_DATA(a), 0, NULL)
    np.set_array_base(view, a)
    return view


cdef np.ndarray spread_to(np.ndarray a, tuple shape):
    """Do as `spread` does, for a shape of Python integers."""
    cdef np.npy_intp dims[native.FD_MAX_DIMS]
    cdef int k
    if len(shape) > native.FD_MAX_DIMS:
        return None
    for k in range(len(shape)):
        dims[k] = shape[k]
    return spread(a, len(shape), dims)


cpdef bint are_indices(np.ndarray a, int64_t end):
    """Return whether an array is flat, of int64, and all its numbers are in [0, end). If not, the caller looks closer."""
    if np.PyArray_TYPE(a) != np.NPY_INT64 or not is_usual(a):
        return False
    cdef const int64_t *numbers = <const int64_t *>np.PyArray_DATA(a)
    cdef int64_t i
    cdef bint all_inside = True
    for i in range(np.PyArray_SIZE(a)):
        all_inside &= 0 <= numbers[i] < end
    return all_inside


def broadcasts(np.ndarray a not None, tuple shape):
    """Return whether an array broadcasts to a shape."""
    try:
        return spread_to(a, shape) is not None
    except ValueError:  # NumPy's message does not name the shape
        raise OverflowError(f"an array of shape {shape} has 2**63 bytes or more") from None


cdef np.ndarray operand(value, np.ndarray x, tuple shape, str name):
    """Return an operand with the dtype of x, broadcast to the shape of x."""
    cdef np.ndarray array
    cdef native.Environment found
    if isinstance(value, np.ndarray):
        array = value
    else:
        quiet = begin_in_python(&found)  # a list is rounded to the dtype of x
        try:
            array = np.asarray(value, x.descr)
        except (TypeError, ValueError, OverflowError):
            raise TypeError(
                f"{name} must be an array of the dtype of the input, {type_name(x.descr)!r}; got {value!r}") from None
        finally:
            end_in_python(quiet, &found)
    if np.PyArray_TYPE(array) != np.PyArray_TYPE(x) or not np.PyArray_ISNOTSWAPPED(array):
        raise TypeError(f"{name} must have the dtype of the input, {type_name(x.descr)!r}; got {type_name(array.descr)!r}")
    cdef np.ndarray each = spread(array, np.PyArray_NDIM(x), np.PyArray_DIMS(x))
    if true_shape(array) != shape or each is None:  # the conversion may have changed x after it gave this shape
        raise ValueError(f"{name} must have the shape {shape}; got {true_shape(array)}")
    return each


def check_operand(value, np.ndarray x not None, str name):
    """Raise an error unless a value is an operand with the dtype and the shape of x."""
    operand(value, x, true_shape(x), name)
