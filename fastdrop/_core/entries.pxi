# The quick way into `dropout` and its backward function: most small calls need neither objects nor a tuple and a dict of
# arguments, which the stable ABI of Python 3.11 makes for each call of a Cython function. Every other call, right or wrong,
# goes on to the Cython function with the arguments as they were given. So each check and each message is written once.

from types import MethodType

cdef extern from "structmember.h":
    """
    /* The limited API before 3.12 declares no vectorcall: types may have it, but the functions that call them are left out. */
    #if defined(Py_LIMITED_API) && Py_LIMITED_API < 0x030C0000
    #define Py_TPFLAGS_HAVE_VECTORCALL (1UL << 11)
    #define PY_VECTORCALL_ARGUMENTS_OFFSET ((size_t)1 << (8 * sizeof(size_t) - 1))
    static PyObject *fd_pass_on(PyObject *called, PyObject *const *args, size_t n, PyObject *keywords) {
      const Py_ssize_t given = (Py_ssize_t)(n & ~PY_VECTORCALL_ARGUMENTS_OFFSET), named = keywords ? PyTuple_Size(keywords) : 0;
      PyObject *const list = PyTuple_New(given), *const names = PyDict_New();
      PyObject *result = NULL;
      int failed = !list || !names;
      for (Py_ssize_t k = 0; !failed && k < given; k++) {
        Py_INCREF(args[k]);
        failed = PyTuple_SetItem(list, k, args[k]) < 0;
      }
      for (Py_ssize_t k = 0; !failed && k < named; k++)
        failed = PyDict_SetItem(names, PyTuple_GetItem(keywords, k), args[given + k]) < 0;
      if (!failed) result = PyObject_Call(called, list, names);
      Py_XDECREF(list);
      Py_XDECREF(names);
      return result;
    }
    #else
    #define fd_pass_on PyObject_Vectorcall
    #endif

    typedef struct {
      PyObject_HEAD
      PyObject *(*call)(PyObject *self, PyObject *const *args, size_t n, PyObject *keywords);
      PyObject *quick, *weak_references;
    } fd_entry;

    static PyMemberDef fd_entry_members[] = {
      {"__vectorcalloffset__", T_PYSSIZET, offsetof(fd_entry, call), READONLY, NULL},
      {"__weaklistoffset__", T_PYSSIZET, offsetof(fd_entry, weak_references), READONLY, NULL},
      {NULL, 0, 0, 0, NULL},
    };
    """
    enum:
        Py_tp_call
        Py_tp_descr_get
        Py_tp_getattro
        Py_tp_getset
        Py_tp_members
        Py_tp_repr
        Py_tp_setattro
    unsigned long Py_TPFLAGS_DEFAULT, Py_TPFLAGS_HAVE_VECTORCALL, Py_TPFLAGS_DISALLOW_INSTANTIATION
    size_t PY_VECTORCALL_ARGUMENTS_OFFSET

    ctypedef struct PyType_Slot:
        int slot
        void *pfunc

    ctypedef struct PyType_Spec:
        const char *name
        int basicsize
        int itemsize
        unsigned int flags
        PyType_Slot *slots

    ctypedef struct PyGetSetDef:
        const char *name
        object (*get)(PyObject *, void *)

    ctypedef struct fd_entry:
        object (*call)(PyObject *, PyObject *const *, size_t, PyObject *)
        PyObject *quick

    void *fd_entry_members
    object PyType_FromSpec(PyType_Spec *)
    PyObject *PyType_GenericAlloc(PyTypeObject *, Py_ssize_t) except NULL
    object fd_pass_on(object, PyObject *const *, size_t, PyObject *)
    object PyObject_Call(object, PyObject *, PyObject *)
    object PyObject_GetAttr(object, PyObject *)
    int PyObject_SetAttr(object, PyObject *, PyObject *) except -1  # deletes it if the value is NULL
    Py_ssize_t PyTuple_Size(PyObject *)
    PyObject *PyTuple_GetItem(PyObject *, Py_ssize_t)

cdef enum:
    MOST_ARGUMENTS = 16
    ROLES = 5

# The arguments that the quick way takes, besides the array. All others must have their defaults.
cdef tuple ROLE_NAMES = ("p", "seed", "offset", "out")


cdef class Quick:
    """A Cython function, and what the quick way needs to know of its signature."""

    cdef object function
    cdef tuple names, defaults                  # in the order of the signature; their elements:
    cdef PyObject *name[MOST_ARGUMENTS]
    cdef PyObject *default[MOST_ARGUMENTS]      # NULL for an argument without one
    cdef int role[MOST_ARGUMENTS]               # 0 for the array, then as in ROLE_NAMES; -1 for none
    cdef int arguments, positional, use

    def __cinit__(self, function, int use):
        cdef dict defaults = dict(function.__kwdefaults__, p=function.__defaults__[0])
        cdef int k
        code = function.__code__
        self.function, self.use, self.positional = function, use, code.co_argcount
        self.arguments = code.co_argcount + code.co_kwonlyargcount
        self.names = tuple(map(sys.intern, code.co_varnames[: self.arguments]))
        self.defaults = tuple(map(defaults.get, self.names))
        for k in range(self.arguments):
            name = self.names[k]
            self.name[k] = <PyObject *>name
            self.default[k] = <PyObject *>self.defaults[k] if name in defaults else NULL
            self.role[k] = ROLE_NAMES.index(name) + 1 if name in ROLE_NAMES else 0 if k == 0 else -1

    cdef bint sort(self, PyObject *const *args, Py_ssize_t n, PyObject *keywords, PyObject **given) noexcept:
        """Set the arguments that have roles. Return whether they are complete, and all others have their defaults.

        Names are compared by their addresses, because the names in compiled code are interned.
        """
        cdef int k, i
        cdef PyObject *name
        if n > self.positional:
            return False
        for k in range(self.arguments):
            if self.role[k] >= 0:
                given[self.role[k]] = args[k] if k < n else self.default[k]
        for i in range(<int>PyTuple_Size(keywords) if keywords != NULL else 0):
            name, k = PyTuple_GetItem(keywords, i), <int>n
            while k < self.arguments and self.name[k] != name:
                k += 1
            if k == self.arguments:
                return False
            if self.role[k] >= 0:
                given[self.role[k]] = args[n + i]
            elif args[n + i] != self.default[k]:
                return False
        for k in range(ROLES):
            if given[k] == NULL:
                return False
        return True


cdef object call_entry(PyObject *self, PyObject *const *args, size_t n, PyObject *keywords):
    """Call `dropout` or its backward function, the quick way if possible."""
    cdef Quick quick = <Quick>(<fd_entry *>self).quick
    cdef PyObject *given[ROLES]
    if quick.sort(args, n & ~PY_VECTORCALL_ARGUMENTS_OFFSET, keywords, given):
        result = drop_usual(
            <object>given[0], <object>given[1], <object>given[2], <object>given[3], <object>given[4], quick.use)
        if result is not None:
            return result
    return fd_pass_on(quick.function, args, n, keywords)


cdef object drop_usual(x, p, seed, offset, out, int use):
    """Return `dropout` of an array in C order with one rate, or None for a call that the quick way does not take.

    The checks are those of a `Call` in the same order. None of the arguments runs code of the caller.
    """
    cdef np.ndarray array, y
    cdef Settings settings
    cdef Addresses at
    cdef native.fd_key key
    cdef double probability
    cdef int64_t n
    cdef int dtype
    if not (np.PyArray_CheckExact(x) and PyFloat_CheckExact(p) and PyLong_CheckExact(offset) and is_quiet_seed(seed)
            and (out is None or np.PyArray_CheckExact(out))):
        return None
    array = x
    y = array if out is None else out
    n = np.PyArray_SIZE(array)
    if np.PyArray_NBYTES(array) > ALWAYS_MAPPED or not is_plain(array) or not is_plain(y):
        return None
    dtype = kind_of(array, "grad" if use == BACKWARD else "x")
    settings = effective()
    at.x, at.y, at.bias, at.residual = <uintptr_t>np.PyArray_DATA(array), <uintptr_t>np.PyArray_DATA(y), 0, 0
    if not is_flat(settings, &at, n, dtype):
        return None
    probability = rate(p)
    if out is not None:
        check_out(out, array)
    check_seed(seed, offset, use)
    if out is None:
        y = new_like(array)
    draw_key(seed, offset, &key)
    if np.PyArray_SIZE(array) != n or np.PyArray_SIZE(y) != n:  # another thread can change them while the system gives entropy
        raise ValueError(CHANGED)
    at.x, at.y = <uintptr_t>np.PyArray_DATA(array), <uintptr_t>np.PyArray_DATA(y)
    drop_flat(settings, &at, n, 1, dtype, probability, &key, 0, False)
    return y


# The function as an object of Python. It has the attributes of the Cython function, so that `inspect`, `help` and pickle see
# the same as without the quick way.

cdef object function_of(PyObject *self):
    return (<Quick>(<fd_entry *>self).quick).function


cdef object call_with_tuple(PyObject *self, PyObject *args, PyObject *keywords):
    """Call the Cython function; for callers that do not know vectorcall."""
    return PyObject_Call(function_of(self), args, keywords)


cdef object attribute_of_entry(PyObject *self, PyObject *name):
    return PyObject_GetAttr(function_of(self), name)


cdef int set_attribute_of_entry(PyObject *self, PyObject *name, PyObject *value) except -1:
    return PyObject_SetAttr(function_of(self), name, value)


cdef object describe_entry(PyObject *self):
    return repr(function_of(self))


cdef object bind_entry(PyObject *self, PyObject *instance, PyObject *owner):
    """Return a method, if the function is an attribute of a class."""
    return <object>self if instance == NULL else MethodType(<object>self, <object>instance)


cdef object docstring_of_entry(PyObject *self, void *unused):
    return function_of(self).__doc__


# `help` looks into the type for the docstring.
cdef PyGetSetDef[2] entry_attributes
entry_attributes[0].name, entry_attributes[0].get = b"__doc__", docstring_of_entry


cdef object make_entry_type():
    cdef PyType_Slot[8] slots
    cdef PyType_Spec spec
    slots[0].slot, slots[0].pfunc = Py_tp_call, <void *>call_with_tuple
    slots[1].slot, slots[1].pfunc = Py_tp_getattro, <void *>attribute_of_entry
    slots[2].slot, slots[2].pfunc = Py_tp_setattro, <void *>set_attribute_of_entry
    slots[3].slot, slots[3].pfunc = Py_tp_repr, <void *>describe_entry
    slots[4].slot, slots[4].pfunc = Py_tp_descr_get, <void *>bind_entry
    slots[5].slot, slots[5].pfunc = Py_tp_members, fd_entry_members
    slots[6].slot, slots[6].pfunc = Py_tp_getset, entry_attributes
    slots[7].slot, slots[7].pfunc = 0, NULL
    spec.name, spec.basicsize, spec.itemsize = b"fastdrop._core.plan.function", sizeof(fd_entry), 0
    spec.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION
    spec.slots = slots
    return PyType_FromSpec(&spec)


cdef object entry_type = make_entry_type()


cdef object quickened(function, int use):
    """Return a function that takes the quick way to a Cython function where it can. Neither is ever freed."""
    cdef Quick quick = Quick(function, use)
    cdef fd_entry *entry = <fd_entry *>PyType_GenericAlloc(<PyTypeObject *>entry_type, 0)
    Py_INCREF(quick)
    entry.call, entry.quick = call_entry, <PyObject *>quick
    return <object><PyObject *>entry  # with a reference more than it needs
