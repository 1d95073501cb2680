# What compiled code outside the package reaches through `pointers.__pyx_capi__`: fastdrop/torch/native.cpp is an example.
from fastdrop._core cimport native


cdef int runs_in_c() except -1
cdef int run(native.fd_call *call, int num_threads, bint is_new) except -1
