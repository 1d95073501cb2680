# What runs: backend, instruction set and number of threads, of the process, the context and the call.

@cython.freelist(8)
cdef class Settings:
    """Which backend, instruction set and number of threads; a part that is None or 0 is left to the settings below."""

    def __cinit__(self, str backend=None, str isa=None, int num_threads=0, module=None):
        self.backend = backend
        self.isa = isa
        self.num_threads = num_threads
        self.module = module
        self.kernels = NULL if isa is None else native.find_isa(isa)

    def over(self, Settings below not None):
        """Return these settings, with what they leave open taken from `below`."""
        return merged(self, below)


cdef Settings merged(Settings above, Settings below):
    cdef Settings both = Settings.__new__(Settings)
    cdef Settings engine = below if above.backend is None else above
    cdef Settings kernels = below if above.isa is None else above
    both.backend, both.module = engine.backend, engine.module
    both.isa, both.kernels = kernels.isa, kernels.kernels
    both.num_threads = above.num_threads or below.num_threads
    return both


override = ContextVar("fastdrop_settings", default=None)  # what `using` set in this thread or task
cdef object override_variable = override
cdef Settings process_settings = None                     # what `set_backend` and its like set
# Every process setting that was ever in force, by value. None is freed, so that a thread without the GIL can read
# `process_settings` while another replaces it.
cdef dict kept_settings = {}
cdef object chosen = None                                 # what checks the settings that a caller names: `settings.chosen`
cdef dict remembered = {}                                 # its results, by (backend, num_threads)
cdef object refuse_open = None                            # what says why a setting is open: `settings.refuse_open`
cdef bint forked = False
cdef int64_t bypass_bytes = NEVER
cdef int64_t least_per_thread = LEAST_PER_THREAD
cdef bint has_openmp = native.has_openmp()


def set_process_settings(Settings settings not None):
    """Make `settings` what holds where no `using` says otherwise."""
    global process_settings
    process_settings = kept_settings.setdefault((settings.backend, settings.isa, settings.num_threads), settings)


def register_chosen(function, refuse):
    """Take the functions, in Python, that check a caller's settings, and that raise where a setting is open."""
    global chosen, refuse_open
    chosen, refuse_open = function, refuse


def set_forked():
    """Note that this process is a fork: OpenMP's threads did not come along, so calls stay on the calling one."""
    global forked
    forked = True


def set_bypass_bytes(int64_t size):
    """Write outputs of at least `size` bytes past the caches."""
    global bypass_bytes
    bypass_bytes = size


cdef Settings found_settings():
    """The settings that hold in the calling thread or task; those that a wrong environment variable should name are open."""
    cdef PyObject *found = NULL
    PyContextVar_Get(override_variable, NULL, &found)
    value = <object>found
    Py_DECREF(value)  # PyContextVar_Get's own reference
    return process_settings if value is None else merged(<Settings>value, process_settings)


cdef Settings whole(Settings settings):
    """The settings, none of which may be open."""
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
    """What a call names, checked; remembered where no package has to be there for it."""
    if not (backend is None or backend == "c") or not (num_threads is None or PyLong_CheckExact(num_threads)):
        return chosen(backend, None, num_threads)
    found = remembered.get((backend, num_threads))
    if found is None:
        found = chosen(backend, None, num_threads)
        if len(remembered) < MOST_REMEMBERED:
            remembered[backend, num_threads] = found
    return found


def set_least_per_thread(int64_t n):
    """Use another thread only where each has at least `n` elements."""
    global least_per_thread
    least_per_thread = n


cpdef int useful_threads(int64_t n, int allowed) noexcept:
    """Return how many of the threads allowed a call on `n` elements uses."""
    cdef int64_t useful = n // least_per_thread
    return <int>min(useful, allowed) if useful > 1 and has_openmp else 1


cdef int threads_of(Settings settings, int64_t n) noexcept:
    return 1 if forked else useful_threads(n, settings.num_threads)


cdef class RoundToNearest:
    """A block in which floating point is what the stream's values are defined with: for the backends in Python."""

    def __enter__(self):
        self.found = native.float_begin()

    def __exit__(self, *error):
        native.float_end(self.found)
