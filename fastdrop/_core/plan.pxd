# The declarations of `plan.pyx` that `numbers.pyx` and `pointers.pyx` use. They are private and may change with
# any version. Only `native.pxd` is for Cython code outside this package.
cimport numpy as np
from libc.stdint cimport int64_t, uint64_t, uintptr_t

from fastdrop._core cimport native

cdef extern from "Python.h":
    ctypedef struct PyThreadState:
        pass

# Settings
cdef int64_t bypass_bytes
cdef int64_t NEVER
cdef int64_t ALWAYS_MAPPED
cdef int64_t WORTH_RELEASING


cdef class Settings:
    cdef readonly str backend
    cdef readonly str isa
    cdef readonly int num_threads
    cdef object module                       # the Python backend; None for C
    cdef const native.fd_isa *kernels


cdef class RoundToNearest:
    cdef native.Environment found


cdef object begin_in_python(native.Environment *found)
cdef int end_in_python(quiet, const native.Environment *found) except -1
cdef object in_python(function, tuple arguments)


cpdef Settings effective()
cdef Settings settings_of(backend, num_threads)
cpdef int useful_threads(int64_t n, int allowed) noexcept nogil
cdef int threads_of(Settings settings, int64_t n) noexcept
cdef int process_threads(int64_t n) noexcept nogil
cdef const native.fd_isa *process_kernels() noexcept nogil

# Checks of numbers
cdef uint64_t ELEMENTS_END, WORDS_END
cdef uint64_t word(value, str name) except? 0xFFFFFFFFFFFFFFFF
cpdef int64_t as_count(value, str name) except -1
cdef tuple true_shape(np.ndarray a)
cdef uint64_t first_index(start, int64_t n, uint64_t end, str what) except? 0xFFFFFFFFFFFFFFFF
cdef double round_to_compute(value, int dtype) except? -1.0
cpdef tuple as_shape(shape)
cdef int64_t size_of(tuple shape) except -1

# Seeds. The use of the mask determines the allowed seeds.
cdef enum:
    FORWARD   # a mask that may not be needed again: any seed, or None
    REPEATED  # a mask or random numbers as the result: any seed, but not None
    BACKWARD  # the regenerated mask of a forward pass: no seed with a state, which would give the next mask


cdef class Counter:
    cdef uint64_t number                     # the seed
    cdef uint64_t following                  # the offset of the next draw
    cdef bint is_used_up                     # all 2**64 offsets have been drawn
    cdef int draw(self, native.fd_key *out) except -1
    cdef int check_left(self) except -1


cdef int check_seed(seed, offset, int use) except -1
cdef int draw_key(seed, offset, native.fd_key *out) except -1

# Checks of arrays
cdef int kind_of(np.ndarray x, str name) except -1
cpdef np.ndarray to_array(value, str name)
cpdef np.ndarray as_real_array(value, str name, bint flags=*)
cpdef bint is_one_of(value, names) except -1
cpdef int check_out(out, np.ndarray x, str name=*) except -1
cdef int check_result(out, np.dtype dtype, tuple shape) except -1
cpdef bint are_indices(np.ndarray a, int64_t end)
cdef bint is_plain(np.ndarray a)
cdef bint is_usual(np.ndarray a)
cdef np.ndarray readable(np.ndarray a, np.ndarray y)
cdef np.ndarray writable(np.ndarray y)
cdef bint may_overlap(np.ndarray a, np.ndarray b) noexcept
cdef np.ndarray flat(a)
cdef np.ndarray room(int64_t n, int type)
cdef np.ndarray new_array(int ndim, np.npy_intp *dims, np.dtype descr)
cdef np.ndarray spread(np.ndarray a, int ndim, const np.npy_intp *dims)
cdef np.ndarray spread_to(np.ndarray a, tuple shape)
cdef np.ndarray operand(value, np.ndarray x, tuple shape, str name)

# Operands and results
cdef PyThreadState *released(int64_t n) noexcept
cdef void regain(PyThreadState *state) noexcept
cdef void bind(np.ndarray a, native.fd_array *to, native.fd_layout *space) noexcept
cdef object compute_type(int dtype)
cdef object source_of(Work work)
cdef np.ndarray new_like(np.ndarray x)
cdef object wrapped(np.ndarray x, np.ndarray y, object out)


cdef class Laid:
    cdef native.fd_layout layout             # of the mask indices: steps in elements of the mask
    cdef bint is_cut_off                     # a group is cut off: the layout covers whole groups, the block a part of them
    cdef native.fd_layout places             # then: the places of the block's elements in those groups; its first place
    cdef int64_t first_place


cdef class Decisions:
    cdef tuple shape, axes                   # the array's shape; the axes of the array that the mask has
    cdef int ndim, lead                      # the number of the mask's axes, and of those before the axes of blocks
    cdef bint has_blocks
    cdef bint shared[native.FD_MAX_DIMS]
    cdef int64_t sizes[native.FD_MAX_DIMS]   # of the mask, and of its decisions
    cdef int64_t seeds[native.FD_MAX_DIMS]
    cdef int64_t dims[native.FD_MAX_DIMS]    # of the array
    cdef int64_t size, places, samples       # the mask's elements, its decisions, and its size along its first axis
    cdef int64_t rows, columns               # of each sample's matrix, if it is transposed; else rows is 1
    cdef native.fd_maps maps
    cdef Laid laid                           # the mask over the array
    cdef uint64_t first


cdef class Work:
    cdef int op, dtype
    cdef double scale, shift, fill
    cdef np.ndarray x, y, bias, other
    cdef bint y_is_new                       # allocated for this call
    cdef double rate                         # p, if all elements have the same
    cdef np.ndarray rates                    # or one p per element: float32 or float64, of the shape of x; the logits of a gate
    cdef bint is_gated                       # a gate: `rates` are logits, and keep probabilities follow them
    cdef native.fd_gate gate
    cdef tuple groups                        # the sizes of groups of neighbours, and the axes that they cut; or None
    cdef object factor                       # the factor of kept elements, for functions without a mode; or None
    cdef np.ndarray packed, flags            # or a mask that was made before; packed bits with a layout are whole groups of 128
    cdef np.ndarray scales                   # one scale per scale_run elements instead of `scale`, float64; or None
    cdef int64_t scale_run
    cdef native.fd_key key
    cdef uint64_t first                      # the mask's first index
    cdef Laid laid                           # the layout of the mask indices; None in C order
    cdef Settings settings


cdef class Call:
    cdef readonly object seed, offset, training, out, start, global_shape, global_start, backend, num_threads
    cdef int use
    cpdef str array_name(self)
    cdef Call step(self)


cdef class Pass:
    cdef readonly Call call
    cdef readonly np.ndarray x, y
    cdef readonly tuple others, key
    cdef readonly object compute
    cdef Settings settings
    cdef Settings before
    cdef object token, errors
    cdef native.Environment float_state


cdef object finish_dropping(Call call, Work work, x, p, noise_shape, shared_axes, mode, bias, residual)
cdef Work begin(Call call, x, str name)
cdef int place_elements(Work work, Call call, int ndim, np.npy_intp *dims, uint64_t end, str what) except -1
cdef int place_numbers(Work work, Call call, int ndim, np.npy_intp *dims, tuple shared_axes=*) except -1
cdef int place_mask(Work work, Call call, int ndim, np.npy_intp *dims, noise_shape, shared_axes) except -1
cdef int set_rate(Work work, p, int ndim, np.npy_intp *dims) except -1
cdef int check_kept(Work work) except -1
cdef int perform(Work work) except -1
cdef int take_mask(Work work, mask, out) except -1
cdef int perform_kept(Work work) except -1
cdef int set_factors(Work work, factors) except -1

# Flat memory
cdef struct Addresses:
    uintptr_t x, y, bias, residual           # 0 for a missing operand


cdef struct Layouts:
    native.fd_layout elements, mask, rows


cdef int operation_of(const Addresses *at) noexcept
cdef int item_size(int dtype) noexcept
cdef bint are_apart(const Addresses *at, int64_t size, int64_t alignment) noexcept
cdef void lay_flat(native.fd_call *call, Layouts *space, const Addresses *at, int64_t n, int64_t row, int dtype) noexcept
cdef bint is_flat(Settings settings, const Addresses *at, int64_t n, int dtype) noexcept
cdef int drop_flat(
    Settings settings, const Addresses *at, int64_t n, int64_t row, int dtype, double p, const native.fd_key *key,
    int num_threads, bint is_new
) except -1
cdef int run_with(Settings settings, native.fd_call *call, int num_threads, bint is_new) except -1
