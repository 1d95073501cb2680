# What `numbers.pyx` and `functional.pyx` share with `plan.pyx`. It is this package's own and may change with any version;
# only `native.pxd` is for other people's Cython. What `drop` calls stays in `plan.pyx` beside it, where the compiler can see
# through it.
cimport numpy as np
from libc.stdint cimport int64_t, uint64_t

from fastdrop._core cimport native

cdef enum:
    PYTHON_CHUNK = 1 << 20  # elements that a backend in Python is handed at a time; a multiple of 8

# Settings
cdef int64_t bypass_bytes


cdef class Settings:
    cdef readonly str backend
    cdef readonly str isa
    cdef readonly int num_threads
    cdef object module                       # the Python backend; None for C
    cdef const native.fd_isa *kernels


cdef class RoundToNearest:
    cdef uint64_t found


cpdef Settings effective()
cdef Settings settings_of(backend, num_threads)
cpdef int useful_threads(int64_t n, int allowed) noexcept
cdef int threads_of(Settings settings, int64_t n) noexcept

# Checks of numbers
cpdef int64_t count_of(value, str name) except -1
cdef uint64_t first_index(start, int64_t n, uint64_t end, str what) except? 0xFFFFFFFFFFFFFFFF
cdef int key(seed, offset, bint required, native.fd_key *out) except -1
cdef double round_to_compute(value, int dtype) except? -1.0
cdef tuple shape_of(shape)
cdef int64_t size_of(tuple shape) except -1

# Checks of arrays
cdef int kind_of(np.ndarray x, str name) except -1
cpdef int check_out(out, np.ndarray x) except -1
cdef bint is_plain(np.ndarray a)
cdef np.ndarray readable(np.ndarray a, np.ndarray y)
cdef np.ndarray writable(np.ndarray y)
cdef np.ndarray operand(value, object x, tuple shape, str name)

# Operands and results
cdef void bind(np.ndarray a, native.fd_array *to, native.fd_layout *space) noexcept
cdef object chunk(np.ndarray a, int64_t begin, int64_t end, object type)
cdef np.ndarray new_like(np.ndarray x)
cdef object wrapped(np.ndarray x, np.ndarray y, object out)

# Dropout
cpdef tuple geometry_of(noise_shape, shared_axes, global_shape, global_start)
cdef object drop(
    x, p, seed, offset, training, mode, out, start, backend, num_threads, bint backward, geometry, bias, residual, factor,
)
