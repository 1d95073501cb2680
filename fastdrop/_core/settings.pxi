# The settings (backend, instruction set, number of threads) of the process, the context and the call.

@cython.freelist(8)
cdef class Settings:
    """A backend, an instruction set and a number of threads. A part that is None or 0 is open: the settings below decide."""

    def __cinit__(self, str backend=None, str isa=None, int num_threads=0, module=None):
        self.backend = backend
        self.isa = isa
        self.num_threads = num_threads
        self.module = module
        self.kernels = NULL if isa is None else native.find_isa(isa)

    def over(self, Settings below not None):
        """Return these settings, with open parts from `below`."""
        return merged(self, below)

    def become(self, Settings other):
        """Take the parts of other settings, or no part for None. This needs no memory."""
        self.backend, self.module, self.isa, self.kernels, self.num_threads = None, None, None, NULL, 0
        if other is not None:
            self.backend, self.module, self.isa, self.kernels = other.backend, other.module, other.isa, other.kernels
            self.num_threads = other.num_threads


cdef Settings merged(Settings above, Settings below):
    cdef Settings both = Settings.__new__(Settings)
    cdef Settings engine = below if above.backend is None else above
    cdef Settings kernels = below if above.isa is None else above
    both.backend, both.module = engine.backend, engine.module
    both.isa, both.kernels = kernels.isa, kernels.kernels
    both.num_threads = above.num_threads or below.num_threads
    return both


override = ContextVar("fastdrop_settings", default=None)  # the settings of `using` in this thread or task
cdef object override_variable = override
cdef Settings process_settings = None                     # the settings of `set_backend`, `set_isa` and `set_num_threads`
# Every process setting that was ever in force, by value. None of them is freed, so that a thread without the GIL can read
# `process_settings` while another thread replaces it.
cdef dict kept_settings = {}
cdef object chosen = None                                 # checks the settings that a caller names: `settings.chosen`
cdef dict remembered = {}                                 # its results, by (backend, num_threads)
cdef object refuse_open = None                            # raises the reason why a setting is open: `settings.refuse_open`
cdef int64_t bypass_bytes = NEVER
cdef int64_t least_per_thread = LEAST_PER_THREAD


def set_process_settings(Settings settings not None):
    """Set the settings that are in force outside all `using` blocks."""
    global process_settings
    process_settings = kept_settings.setdefault((settings.backend, settings.isa, settings.num_threads), settings)


def register_chosen(function, refuse):
    """Register the Python functions that check a caller's settings and that raise an error for an open setting."""
    global chosen, refuse_open
    chosen, refuse_open = function, refuse


def set_bypass_bytes(int64_t size):
    """Set the size in bytes from which outputs are written past the caches."""
    global bypass_bytes
    bypass_bytes = size


cdef Settings found_settings():
    """Return the settings of the calling thread or task. A setting with a wrong environment variable is open."""
    cdef PyObject *found = NULL
    PyContextVar_Get(override_variable, NULL, &found)
    value = <object>found
    Py_DECREF(value)  # PyContextVar_Get's own reference
    return process_settings if value is None else merged(<Settings>value, process_settings)


cdef Settings whole(Settings settings):
    """Return the settings, or raise an error if one is open."""
    if settings.backend is None or settings.kernels == NULL or not settings.num_threads:
        refuse_open(settings)
    return settings


cpdef Settings effective():
    """Return the settings in force in the calling thread or task."""
    return whole(found_settings())


cdef Settings settings_of(backend, num_threads):
    settings = found_settings()
    if backend is not None or num_threads is not None:
        settings = merged(named_settings(backend, num_threads), settings)
    return whole(settings)


cdef Settings named_settings(backend, num_threads):
    """Return the checked settings that a call names. Those that need no package are cached."""
    usual = backend is None or isinstance(backend, str) and backend == "c"
    if not usual or not (num_threads is None or PyLong_CheckExact(num_threads)):
        return chosen(backend, None, num_threads)
    found = remembered.get((backend, num_threads))
    if found is None:
        found = chosen(backend, None, num_threads)
        if len(remembered) < MOST_REMEMBERED:
            remembered[backend, num_threads] = found
    return found


def set_least_per_thread(int64_t n):
    """Set the least number of elements per thread."""
    global least_per_thread
    least_per_thread = n


cpdef int useful_threads(int64_t n, int allowed) noexcept nogil:
    """Return the number of threads, at most `allowed`, that a call on `n` elements uses."""
    cdef int64_t useful = n // least_per_thread
    return <int>min(useful, allowed) if useful > 1 else 1


cdef int threads_of(Settings settings, int64_t n) noexcept:
    return useful_threads(n, settings.num_threads)


cdef int process_threads(int64_t n) noexcept nogil:
    """Return the number of threads of a call from a thread without the GIL, to which only the process settings apply."""
    return useful_threads(n, process_settings.num_threads)


cdef const native.fd_isa *process_kernels() noexcept nogil:
    """Return the kernels of such a call."""
    return process_settings.kernels


cdef class RoundToNearest:
    """A block in which floating point rounds to nearest with subnormals on, as the stream requires: for the Python backends."""

    def __enter__(self):
        native.environment_begin(&self.found)

    def __exit__(self, *error):
        native.environment_end(&self.found)


def remembering(int most):
    """Decorate a function with a memory of at most this many results, for arguments of the usual types.

    The function takes its arguments by position, and never returns None. Where the caller's settings make subnormals equal to
    0, `functools.lru_cache` would take one for another.
    """

    def decorate(function):
        cdef dict results = {}

        @functools.wraps(function)
        @cython.binding(True)
        def found(*args):
            cdef native.Environment before
            cdef int64_t kinds = 0
            cdef int kind
            native.environment_begin(&before)
            try:
                for value in args:
                    kind = usual_kind(value)
                    if not kind:
                        return function(*args)
                    kinds = 8 * kinds + kind
                key = (kinds, args)
                made = results.get(key)
                if made is None:
                    made = function(*args)
                    if len(results) >= most:
                        results.clear()
                    results[key] = made
                return made
            finally:
                native.environment_end(&before)

        found.cache_clear = results.clear
        return found

    return decorate


cdef tuple NUMBERS = (np.float32, np.float64)


cdef int usual_kind(value):
    """Return a number for the type of an argument whose equals of that type are the same to a function; else 0, as for -0.0."""
    if PyFloat_CheckExact(value):
        return bits_of(value) != bits_of(-0.0)
    if has_plain_axes(value):
        return 2
    if value is True or value is False:
        return 3
    if value is None or PyUnicode_CheckExact(value):
        return 4
    if type(value) in NUMBERS and bits_of(value) != bits_of(-0.0):
        return 5 + NUMBERS.index(type(value))
    return 0


def rounding_to_nearest(function):
    """Decorate a function that computes with NumPy, so that its caller's rounding mode and error handling do not matter."""

    @functools.wraps(function)
    @cython.binding(True)
    def computed(*args, **kwargs):
        cdef native.Environment found
        quiet = begin_in_python(&found)
        try:
            return function(*args, **kwargs)
        finally:
            end_in_python(quiet, &found)

    return computed


cdef tuple find_error_handling():
    """Return the context variable of NumPy's error handling and its value that ignores all errors; Nones if it has none.

    Setting the variable takes a tenth of the time of `numpy.errstate`.
    """
    with np.errstate(all="ignore"):
        for variable, value in copy_context().items():
            if variable.name == "numpy.ufunc.extobj":
                return variable, value
    return None, None  # before NumPy 2


cdef object error_handling, ignoring
error_handling, ignoring = find_error_handling()


cdef object begin_in_python(native.Environment *found):
    """Begin a computation by NumPy as `RoundToNearest` does, without NumPy's warnings. Return what `end_in_python` takes.

    This is no `with` statement, because the code that Cython generates for one fails when memory runs out (plan.pyx).
    """
    cdef object quiet
    if error_handling is not None:
        quiet = PyContextVar_Set(error_handling, ignoring)
    else:
        quiet = np.errstate(all="ignore")
        quiet.__enter__()
    native.environment_begin(found)
    return quiet


cdef int end_in_python(quiet, const native.Environment *found) except -1:
    native.environment_end(found)
    if error_handling is not None:
        PyContextVar_Reset(error_handling, quiet)
    else:
        quiet.__exit__(None, None, None)
    return 0


cdef object in_python(function, tuple arguments):
    """Return the result of a function that computes with NumPy."""
    cdef native.Environment found
    quiet = begin_in_python(&found)
    try:
        return function(*arguments)
    finally:
        end_in_python(quiet, &found)
