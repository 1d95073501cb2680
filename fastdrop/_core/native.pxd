# The only file that restates C. `native.pyx` holds the compiled kernels. Other Cython modules reach them through the functions
# declared here, and so does Cython code outside this package (`cimport fastdrop._core.native`).
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "fastdrop.h" nogil:
    enum:
        FD_MAX_DIMS  # an array's size, so a constant to Cython too
    int FD_STREAM
    int FD_FLOAT32
    int FD_FLOAT64
    int FD_FLOAT16
    int FD_BFLOAT16
    int FD_DTYPES
    int FD_SCALE
    int FD_WITH_BIAS
    int FD_WITH_RATES
    int FD_WITH_RESIDUAL
    int FD_AFFINE
    int FD_SELECT
    int FD_SIGNED
    int FD_NOISE_TILE

    ctypedef struct fd_isa:
        pass

    ctypedef struct fd_key:
        uint64_t seed
        uint64_t offset

    ctypedef struct fd_rate:
        uint64_t fixed
        int all

    ctypedef struct fd_layout:
        int ndim
        int64_t shape[FD_MAX_DIMS]
        int64_t strides[FD_MAX_DIMS]

    ctypedef struct fd_array:
        void *data
        const fd_layout *layout

    ctypedef struct fd_gate:
        double gain
        double shift
        int antithetic

    ctypedef struct fd_bits:
        fd_key key
        fd_rate rate
        fd_array rates
        int rates_dtype
        const fd_gate *gate
        uint64_t first
        const fd_layout *mask_layout
        const fd_layout *places
        int64_t first_place
        const uint8_t *packed
        fd_array flags

    ctypedef struct fd_call:
        fd_bits bits
        int op
        int dtype
        double scale
        double shift
        double fill
        const double *scales
        int64_t scale_run
        int64_t n
        fd_array x
        fd_array y
        fd_array other
        fd_array bias
        int64_t bypass_bytes

    ctypedef struct fd_rows:
        fd_bits bits
        int dtype
        int is_constant
        int64_t rows
        int64_t n
        double epsilon
        const void *x
        const void *grad
        void *y
        int64_t bypass_bytes

    ctypedef struct fd_sum_call:
        int x_dtype
        int dtype
        int64_t outer
        int64_t n
        int64_t inner
        const void *x
        const void *other
        void *y
        const void *factors
        void *product
        int64_t bypass_bytes
        void *room

    ctypedef struct fd_maps:
        int ndim
        int64_t maps
        int64_t sizes[3]
        int64_t block[3]

    ctypedef struct fd_gate_call:
        fd_bits bits
        int estimator
        int divided
        int dtype
        int64_t n
        fd_array grad
        fd_array x
        fd_array losses
        void *y

    ctypedef struct fd_numbers:
        fd_key key
        uint64_t first
        const fd_layout *layout

    ctypedef struct fd_noise_call:
        fd_numbers numbers
        int noise
        int dtype
        double params[5]
        int64_t n
        fd_array x
        fd_array y
        fd_array other
        fd_array shifts
        double *sums
        fd_array values
        int64_t length
        int64_t inner
        int64_t bypass_bytes
        void *room

    ctypedef struct fd_function_call:
        int function
        int dtype
        int x_dtype
        const void *x
        void *y
        double *sums
        int64_t n

    ctypedef struct fd_scale_call:
        int dtype
        const void *x
        void *y
        double factor
        int64_t n

    ctypedef struct fd_product:
        int is_double
        int64_t rows
        int64_t n
        int64_t m
        const void *x
        const void *weight
        void *y

    ctypedef struct fd_draw_call:
        fd_numbers words
        int64_t k
        int64_t rows
        int64_t features
        int shared
        int dtype
        int shift
        uint32_t *last
        uint32_t *bucket
        double *expected
        uint32_t *counts
        fd_array x
        fd_array y

    ctypedef struct fd_level_call:
        const void *scores
        int is_double
        int drop
        int64_t rows
        int64_t n
        double mean
        double floor
        double *out

    ctypedef struct fd_target_call:
        const void *x
        int dtype
        int64_t rows
        int64_t columns
        int64_t targets
        void *copies
        uint8_t *spared


cdef extern from "<fenv.h>" nogil:
    ctypedef struct fenv_t:
        pass


cdef struct Environment:
    # The floating-point environment at the beginning of a block: usually the default one, which is not copied.
    bint is_default
    fenv_t found


cdef const fd_isa *find_isa(str name) except NULL
cdef void environment_begin(Environment *before) noexcept nogil
cdef void environment_end(const Environment *before) noexcept nogil
cpdef uint64_t float_begin() noexcept nogil
cpdef void float_end(uint64_t found) noexcept nogil
cdef bint is_rate(double p) noexcept nogil
cdef fd_rate rate_of(double p) noexcept nogil
cdef double inverted_scale(double p, int dtype) noexcept nogil
cdef double standard_scale(double p, int dtype) noexcept nogil
cdef double rounded_factor(double value, int dtype) noexcept nogil
cdef void layout_of(
    fd_layout *layout, int ndim, const int64_t *shape, const int64_t *strides, int64_t itemsize
) noexcept nogil
cdef int64_t first_bad_rate(const fd_isa *isa, const void *rates, int dtype, int64_t n) noexcept nogil
cdef void apply(const fd_isa *isa, const fd_call *call, int threads) noexcept nogil
cdef void gate_backward(const fd_isa *isa, const fd_gate_call *call, int threads) noexcept nogil
cdef void mask(const fd_isa *isa, const fd_bits *bits, int64_t n, void *out, bint packed, int threads) noexcept nogil
cdef void drop_blocks(const fd_maps *maps, uint64_t *seeds, uint64_t *kept) noexcept nogil
cdef void transpose_bits(
    uint64_t *bits, int64_t matrices, int64_t rows, int64_t columns, uint64_t *to
) noexcept nogil
cdef void keep_empty_rows(uint64_t *bits, int64_t rows, int64_t n) noexcept nogil
cdef void divide_rows(const fd_isa *isa, const fd_rows *rows, int threads) noexcept nogil
cdef void sum_axis(const fd_isa *isa, const fd_sum_call *call, int threads) noexcept nogil
cdef int64_t count_ones(const uint64_t *bits, int64_t first, int64_t n) noexcept nogil
cdef void words(const fd_isa *isa, fd_key key, uint64_t first, int64_t n, void *out, int threads) noexcept nogil
cdef void uniform(
    const fd_isa *isa, const fd_numbers *numbers, int64_t n, int dtype, void *out, int threads
) noexcept nogil
cdef void normal(
    const fd_isa *isa, const fd_numbers *numbers, int64_t n, int dtype, void *out, int threads
) noexcept nogil
cdef int64_t sum_room(int64_t length, int64_t inner) noexcept nogil
cdef void noise_apply(const fd_isa *isa, const fd_noise_call *call, int threads) noexcept nogil
cdef void function(const fd_isa *isa, const fd_function_call *call, int threads) noexcept nogil
cdef void scale(const fd_isa *isa, const fd_scale_call *call, int threads) noexcept nogil
cdef void multiply_rows(const fd_product *call) noexcept nogil
cdef void share_words(const double *weights, int64_t features, uint64_t *shares) noexcept nogil
cdef int64_t draw_rows(int64_t features) noexcept nogil
cdef int draw_shift(int64_t features) noexcept nogil
cdef void multiply_draws(const fd_isa *isa, const fd_draw_call *call, const uint64_t *shares, int threads) noexcept nogil
cdef bint are_scores(const fd_isa *isa, const void *scores, bint is_double, int64_t n) noexcept nogil
cdef void fill_levels(const fd_isa *isa, const fd_level_call *call, int threads) noexcept nogil
cdef int64_t target_copies(int64_t rows, int64_t columns) noexcept nogil
cdef void find_others(const fd_isa *isa, const fd_target_call *call, int threads) noexcept nogil
cdef void use_large_pages(void *data, int64_t bytes) noexcept nogil
cdef uint64_t fold_in(const fd_isa *isa, uint64_t seed, uint64_t data) noexcept nogil

# The functions of fastdrop_simple.h, which check their arguments. The integers that they return are its error numbers.
cdef int drop(
    const void *x, void *y, int64_t n, int dtype, double p, uint64_t seed, uint64_t offset, uint64_t start, int threads
) noexcept nogil
cdef int keep_bits(
    uint8_t *out, int64_t n, double p, uint64_t seed, uint64_t offset, uint64_t start, int threads
) noexcept nogil
cdef uint64_t derive(uint64_t seed, uint64_t data) noexcept nogil
cdef const char *error_text(int error) noexcept nogil
