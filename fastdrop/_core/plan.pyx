# cython: language_level=3, freethreading_compatible=True, embedsignature=False, auto_pickle=False, annotation_typing=False
"""The plan of a call: it checks a caller's arguments, converts them to integers and rounded factors, and runs a backend.

A variant makes a `Call` from its keywords and calls a method of it. All checks come before the result is allocated, the result
is allocated before a key is drawn, and the key is drawn before anything is written. Then either the C kernels run, with the
GIL released unless the call is small, or a Python backend gets flat arrays and numbers that it need not check. Each subject has
its own file. All are included here, so that the compiler can inline across them.

The compiled files have no comprehensions and, around what allocates memory, no `with`: when memory runs out, the code that
Cython 3.3 generates for them releases an object twice, or uses one that is gone.
"""

import functools
import hashlib
import operator
import os
import sys
from contextvars import ContextVar, copy_context

cimport cython
cimport numpy as np
from cpython.float cimport PyFloat_AsDouble, PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.tuple cimport PyTuple_CheckExact
from cpython.unicode cimport PyUnicode_CheckExact
from libc.math cimport NAN, fabs
from libc.stdint cimport int64_t, uint8_t, uint64_t, uintptr_t
from libc.string cimport memcpy, memset

import numpy as np

from fastdrop._core cimport native
from fastdrop._core import native
from fastdrop._core.backends import chunks, drive, gates

np.import_array()

cdef extern from *:
    """
    /* Every CPython exports these, but Python.h does not declare them for the limited API. Without a declaration C would
     * take the returned pointer for an int. */
    PyAPI_FUNC(PyObject *) PyContextVar_Set(PyObject *var, PyObject *value);
    PyAPI_FUNC(int) PyContextVar_Reset(PyObject *var, PyObject *token);
    PyAPI_FUNC(int) PyContextVar_Get(PyObject *var, PyObject *otherwise, PyObject **value);
    """
    object PyContextVar_Set(object var, object value)
    int PyContextVar_Reset(object var, object token) except -1
    int PyContextVar_Get(object var, PyObject *default, PyObject **value) except -1

cdef extern from "Python.h":
    unsigned long long PyLong_AsUnsignedLongLong(object) except? 0xFFFFFFFFFFFFFFFF
    unsigned long long as_unsigned "PyLong_AsUnsignedLongLong"(object) noexcept
    PyObject *PyErr_Occurred()
    void PyErr_Clear()
    PyThreadState *PyEval_SaveThread()
    void PyEval_RestoreThread(PyThreadState *)

cdef extern from "numpy/arrayobject.h":
    object PyArray_IntTupleFromIntp(int, const np.npy_intp *)
    object PyArray_NewLikeArray(np.ndarray, np.NPY_ORDER, void *, int)
    object PyArray_NewFromDescr(
        PyTypeObject *, np.dtype, int, const np.npy_intp *, const np.npy_intp *, void *, int, PyObject *)

STREAM = native.FD_STREAM
# The least number of elements per thread, between two measurements: a second thread pays off from 32768 on in a quick sequence
# of calls, and from 500000 on after a pause (docs/performance.md, "When a second thread pays").
LEAST_PER_THREAD = 2**17

cdef int64_t NEVER = 1 << 62
cdef int MOST_REMEMBERED = 64                    # cached settings of calls
cdef int64_t ALWAYS_MAPPED = 1 << 25             # bytes; above, glibc maps new pages and does not reuse freed memory
cdef int64_t WORTH_RELEASING = 2048              # elements; fewer take half a microsecond (AVX-512), and the call keeps the GIL
cdef uint64_t ELEMENTS_END = <uint64_t>1 << 55   # indices of elements of a mask
cdef uint64_t WORDS_END = <uint64_t>1 << 50      # indices of words
cdef uint64_t PAIRS_END = <uint64_t>1 << 49      # indices of values that take two words

cdef double EPSILON = 1e-8                       # added to the sum of a row

FLOATS = "float32, float64, float16 or bfloat16 (of ml_dtypes)"

include "settings.pxi"
include "checks.pxi"
include "seeds.pxi"
include "geometry.pxi"
include "rates.pxi"
include "run.pxi"
include "decisions.pxi"
include "calls.pxi"
include "steps.pxi"
include "masks.pxi"
include "flat.pxi"
include "entries.pxi"
include "dropout.pxi"
