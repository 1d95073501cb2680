// Eager dropout of plain tensors in PyTorch's C++ interface, compiled on the user's machine by `fastdrop torch-build`.
//
// It takes the calls that the Python way takes most often, with the same bits, and returns None for all others, before anything
// is drawn: the Python way then takes them, or says what is wrong with them. The kernels are reached through the addresses that
// fastdrop's compiled modules publish in `__pyx_capi__`; nothing is linked with them.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/dynamo/compiled_autograd.h>
#include <torch/csrc/utils/object_ptr.h>

#include <mutex>

#include "fastdrop.h"

namespace {

using at::Tensor;
using torch::autograd::variable_list;

// What fastdrop's modules publish, and the Python way: eager(grad, p, seed, offset, has_factor, factor, shared);
// has_factor is 0 or 1, because a backward pass has no shift and no fill.
struct {
  fd_rate (*rate_of)(double);
  double (*inverted_scale)(double, int);
  double (*rounded_factor)(double, int);
  void (*layout_of)(fd_layout *, int, const int64_t *, const int64_t *, int64_t);
  int (*runs_in_c)(void);             // whether the settings in force choose the kernels; -1 after a Python error
  int (*run)(fd_call *, int, int);    // a call whose operands are bound, threads, whether y is new; -1 after a Python error
  PyObject *eager;
} core;

struct Rule {
  double p;
  uint64_t seed, offset;
  int factors;         // 0: 1 / (1 - p); 1: a scale; 3: scale, shift and fill
  double factor[3];
  uint64_t shared;     // bit k: elements along axis k share a decision
};

int dtype_of(const Tensor &x) {
  switch (x.scalar_type()) {
    case at::kFloat: return FD_FLOAT32;
    case at::kDouble: return FD_FLOAT64;
    case at::kHalf: return FD_FLOAT16;
    case at::kBFloat16: return FD_BFLOAT16;
    default: return -1;
  }
}

[[noreturn]] void raise() {
  python_error error;
  error.persist();
  throw error;
}

// Tensors -------------------------------------------------------------------------------------------------------------

// Whether anything stands between a tensor and its memory: a transform, a mode, another device or layout, a pending negation.
bool is_plain(const Tensor &x) {
  static const c10::DispatchKeySet usual(
      {c10::DispatchKey::CPU, c10::DispatchKey::ADInplaceOrView, c10::DispatchKey::AutogradCPU, c10::DispatchKey::AutocastCPU});
  return (x.key_set() | usual) == usual && dtype_of(x) >= 0 && x.numel() > 0 && x.dim() <= FD_MAX_DIMS &&
         x.storage().data() && reinterpret_cast<uintptr_t>(x.data_ptr()) % x.itemsize() == 0 && !x._fw_grad(0).defined();
}

bool is_transformed() {
  const auto &included = c10::impl::tls_local_dispatch_key_set().included_;
  return included.has(c10::DispatchKey::FuncTorchDynamicLayerFrontMode) ||
         included.has(c10::DispatchKey::FuncTorchDynamicLayerBackMode) || included.has(c10::DispatchKey::Tracer) ||
         c10::impl::TorchDispatchModeTLS::any_modes_set();
}

Tensor new_like(const Tensor &x) {
  if (x.is_contiguous()) return Tensor(at::detail::empty_cpu(x.sizes(), x.scalar_type()));
  at::AutoDispatchBelowADInplaceOrView below;
  return at::empty_like(x);
}

// Kernels -------------------------------------------------------------------------------------------------------------

void bind(const Tensor &x, fd_array *to, fd_layout *space) {
  if (!x.defined()) return;
  int64_t strides[FD_MAX_DIMS], n = x.numel(), size = static_cast<int64_t>(x.itemsize());
  if (x.is_contiguous()) {
    core.layout_of(space, 1, &n, &size, size);
  } else {
    for (int64_t k = 0; k < x.dim(); k++) strides[k] = x.stride(k) * size;
    core.layout_of(space, static_cast<int>(x.dim()), x.sizes().data(), strides, size);
  }
  to->data = x.data_ptr();
  to->layout = space;
}

void bind_mask(const Tensor &x, uint64_t shared, fd_layout *mask) {
  int64_t strides[FD_MAX_DIMS], n = x.numel(), step = 1;
  if (!shared) return core.layout_of(mask, 1, &n, &step, 1);
  for (int64_t k = x.dim() - 1; k >= 0; k--) {
    const bool is_shared = shared >> k & 1;
    strides[k] = is_shared ? 0 : step;
    if (!is_shared) step *= x.size(k);
  }
  core.layout_of(mask, static_cast<int>(x.dim()), x.sizes().data(), strides, 1);
}

void bind_bias(const Tensor &bias, int64_t n, fd_array *to, fd_layout *space) {
  if (!bias.defined()) return;
  const int64_t row = bias.numel(), size = static_cast<int64_t>(bias.itemsize());
  const int64_t shape[2] = {n / row, row}, strides[2] = {0, size};
  core.layout_of(space, 2, shape, strides, size);
  to->data = bias.data_ptr();
  to->layout = space;
}

// Writes residual + dropout(x + bias) to y. Needs the GIL; throws the errors of fastdrop's settings.
void compute(const Tensor &x, const Tensor &y, const Tensor &bias, const Tensor &residual, const Rule &rule) {
  fd_layout layouts[4], mask;
  fd_call call{};
  bind(x, &call.x, &layouts[0]);
  bind(y, &call.y, &layouts[1]);
  bind(residual, &call.other, &layouts[2]);
  bind_bias(bias, x.numel(), &call.bias, &layouts[3]);
  bind_mask(x, rule.shared, &mask);
  call.bits.key = {rule.seed, rule.offset};
  call.bits.rate = core.rate_of(rule.p);
  call.bits.mask_layout = &mask;
  call.n = x.numel();
  call.dtype = dtype_of(x);
  call.scale = rule.factors ? core.rounded_factor(rule.factor[0], call.dtype) : core.inverted_scale(rule.p, call.dtype);
  if (rule.factors == 3) {
    call.op = FD_AFFINE;
    call.shift = core.rounded_factor(rule.factor[1], call.dtype);
    call.fill = core.rounded_factor(rule.factor[2], call.dtype);
  } else {
    call.op = FD_SCALE | (bias.defined() ? FD_WITH_BIAS : 0) | (residual.defined() ? FD_WITH_RESIDUAL : 0);
  }
  if (core.run(&call, at::get_num_threads(), 1)) raise();
}

// Autograd ------------------------------------------------------------------------------------------------------------

// The gradient with respect to x + bias: the same operation, in Python if the gradient is not plain or is differentiated.
Tensor dropped(const Tensor &grad, const Rule &rule) {
  pybind11::gil_scoped_acquire gil;
  const bool differentiated = at::GradMode::is_enabled() && grad.requires_grad();
  if (is_plain(grad) && !is_transformed() && !differentiated) {
    const int in_c = core.runs_in_c();
    if (in_c < 0) raise();
    if (in_c) {
      Tensor y = new_like(grad);
      compute(grad, y, Tensor(), Tensor(), rule);
      return y;
    }
  }
  THPObjectPtr found(PyObject_CallFunction(
      core.eager, "NdKKidK", THPVariable_Wrap(grad), rule.p, static_cast<unsigned long long>(rule.seed),
      static_cast<unsigned long long>(rule.offset), rule.factors, rule.factor[0],
      static_cast<unsigned long long>(rule.shared)));
  if (!found) raise();
  return THPVariable_Unpack(found.get());
}

struct Wanted { bool x, bias, residual; };

// The gradients with respect to x, bias and residual.
variable_list gradients(const Tensor &grad, const Rule &rule, const std::vector<int64_t> &bias_shape, Wanted wanted) {
  variable_list found(3);
  if (!grad.defined()) return found;
  if (wanted.x || wanted.bias) found[0] = dropped(grad, rule);
  if (wanted.bias) found[1] = found[0].sum_to_size(bias_shape);
  if (wanted.residual) found[2] = grad;
  return found;
}

struct EagerBackward : torch::autograd::Node {
  EagerBackward(const Rule &given, const Tensor &bias) : rule(given) {
    if (rule.factors > 1) rule.factors = 1;
    if (bias.defined()) bias_shape = bias.sizes().vec();
  }
  std::string name() const override { return "EagerBackward"; }
  Wanted wanted() {
    return {task_should_compute_output(0), task_should_compute_output(1), task_should_compute_output(2)};
  }
  variable_list apply(variable_list &&grads) override { return gradients(grads[0], rule, bias_shape, wanted()); }
  // For a compiler of backward passes: the numbers are constants of its graph.
  void compiled_args(torch::dynamo::autograd::CompiledNodeArgs &args) const override {
    args.collect(std::string(reinterpret_cast<const char *>(&rule), sizeof(rule)));
    args.collect(bias_shape);
  }
  // Puts a call of `gradients` into the graph. It runs when the graph is traced, because these `grads` have no shapes yet.
  variable_list apply_with_saved(const variable_list &grads, torch::dynamo::autograd::SwapSavedVariables &saved) override {
    using namespace torch::dynamo::autograd;
    const auto &interface = getPyCompilerInterface();
    const auto call = [rule = rule, bias_shape = bias_shape, wanted = wanted()](
                          const variable_list &given, const std::vector<c10::IValue> &) {
      return gradients(given[0], rule, bias_shape, wanted);
    };
    const auto known = IValuePacker<std::vector<std::optional<torch::autograd::InputMetadata>>>::pack(
        get_input_metadata(next_edges()));
    const auto bound = interface->bind_function(saved.get_py_compiler(), name(), call, {}, true, true);
    return interface->call_function(saved.get_py_compiler(), "apply_functional", bound, grads, {}, known);
  }
  Rule rule;
  std::vector<int64_t> bias_shape;
};

bool needs_grad(const Tensor &x) { return x.defined() && x.requires_grad(); }

// Returns y, which gets the result, for operands that are plain.
PyObject *eager(const Tensor &x, Tensor y, const Tensor &bias, const Tensor &residual, const Rule &rule) {
  compute(x, y, bias, residual, rule);
  if (at::GradMode::is_enabled() && (needs_grad(x) || needs_grad(bias) || needs_grad(residual))) {
    auto node = c10::make_intrusive<EagerBackward>(rule, bias);
    node->set_next_edges(torch::autograd::collect_next_edges(x, bias, residual));
    torch::autograd::create_gradient_edge(y, std::move(node));
  }
  return THPVariable_Wrap(std::move(y));
}

// Functions -----------------------------------------------------------------------------------------------------------

// 64 bits, as `draw_word` in _keys.py draws them.
uint64_t draw_word() {
  auto *generator =
      at::get_generator_or_default<at::CPUGeneratorImpl>(std::nullopt, at::detail::getDefaultCPUGenerator());
  std::lock_guard<std::mutex> lock(generator->mutex_);
  return generator->random64() % UINT64_MAX + (uint64_t{1} << 63);
}

// drop(input, p, training, inplace): the whole call, with a key that is drawn.
PyObject *drop(PyObject *, PyObject *const *args, Py_ssize_t n) {
  HANDLE_TH_ERRORS
  if (n != 4 || args[2] != Py_True || args[3] != Py_False || !PyFloat_CheckExact(args[1])) Py_RETURN_NONE;
  const double p = PyFloat_AS_DOUBLE(args[1]);
  if (!(p > 0 && p <= 1) || !THPVariable_CheckExact(args[0])) Py_RETURN_NONE;
  const Tensor &x = THPVariable_Unpack(args[0]);
  if (!is_plain(x) || is_transformed()) Py_RETURN_NONE;
  const int in_c = core.runs_in_c();
  if (in_c < 0) return nullptr;
  if (!in_c) Py_RETURN_NONE;
  Tensor y = new_like(x); // before a word is drawn, in case there is no memory
  return eager(x, std::move(y), Tensor(), Tensor(), Rule{p, draw_word(), 0, 0, {0, 0, 0}, 0});
  END_HANDLE_TH_ERRORS
}

// Reads a rule of numbers; returns false for what it has no place for, and for integers of another kind than Python's.
bool read_rule(PyObject *given, Rule *rule) {
  PyObject *factors = PyTuple_GET_ITEM(given, 3), *place = PyTuple_GET_ITEM(given, 4);
  if (!PyTuple_CheckExact(factors) || PyTuple_GET_SIZE(factors) > 3) return false;
  rule->p = PyFloat_AsDouble(PyTuple_GET_ITEM(given, 0));
  rule->seed = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(given, 1));
  rule->offset = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(given, 2));
  rule->factors = static_cast<int>(PyTuple_GET_SIZE(factors));
  for (int k = 0; k < rule->factors; k++) rule->factor[k] = PyFloat_AsDouble(PyTuple_GET_ITEM(factors, k));
  if (place != Py_None) {
    if (PyTuple_GET_ITEM(place, 1) != Py_None || PyTuple_GET_ITEM(place, 2) != Py_None) return false;
    PyObject *axes = PyTuple_GET_ITEM(place, 0);
    for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(axes); k++) {
      const long axis = PyLong_AsLong(PyTuple_GET_ITEM(axes, k));
      if (axis >= 0) rule->shared |= uint64_t{1} << axis;
    }
  }
  const bool failed = PyErr_Occurred();
  PyErr_Clear();
  return !failed;
}

// run(input, rule, (bias, residual)): a call that has been checked, with its key.
PyObject *run(PyObject *, PyObject *const *args, Py_ssize_t n) {
  HANDLE_TH_ERRORS
  Rule rule{};
  Tensor operands[2];
  if (n != 3 || !THPVariable_CheckExact(args[0]) || !read_rule(args[1], &rule)) Py_RETURN_NONE;
  const Tensor &x = THPVariable_Unpack(args[0]);
  for (int k = 0; k < 2; k++) {
    PyObject *each = PyTuple_GET_ITEM(args[2], k);
    if (each == Py_None) continue;
    operands[k] = THPVariable_Unpack(each);
    if (!is_plain(operands[k]) || (k == 0 && !operands[k].is_contiguous())) Py_RETURN_NONE;
  }
  if (!is_plain(x) || is_transformed()) Py_RETURN_NONE;
  const int in_c = core.runs_in_c();
  if (in_c < 0) return nullptr;
  if (!in_c) Py_RETURN_NONE;
  return eager(x, new_like(x), operands[0], operands[1], rule);
  END_HANDLE_TH_ERRORS
}

template <class Function>
bool take(PyObject *published, const char *name, const char *signature, Function *to) {
  PyObject *capsule = PyDict_GetItemString(published, name);
  if (!capsule) PyErr_Format(PyExc_ImportError, "fastdrop publishes no function %s", name);
  *to = capsule ? reinterpret_cast<Function>(PyCapsule_GetPointer(capsule, signature)) : nullptr;
  return *to;
}

// connect(native.__pyx_capi__, pointers.__pyx_capi__, eager)
PyObject *connect(PyObject *, PyObject *args) {
  PyObject *native, *pointers, *eager;
  if (!PyArg_ParseTuple(args, "O!O!O", &PyDict_Type, &native, &PyDict_Type, &pointers, &eager)) return nullptr;
  if (!take(native, "rate_of", "fd_rate (double)", &core.rate_of) ||
      !take(native, "inverted_scale", "double (double, int)", &core.inverted_scale) ||
      !take(native, "rounded_factor", "double (double, int)", &core.rounded_factor) ||
      !take(native, "layout_of", "void (fd_layout *, int, int64_t const *, int64_t const *, int64_t)", &core.layout_of) ||
      !take(pointers, "runs_in_c", "int (void)", &core.runs_in_c) ||
      !take(pointers, "run", "int (fd_call *, int, int)", &core.run))
    return nullptr;
  core.eager = Py_NewRef(eager);
  Py_RETURN_NONE;
}

PyMethodDef methods[] = {
    {"connect", connect, METH_VARARGS, nullptr},
    {"drop", reinterpret_cast<PyCFunction>(reinterpret_cast<void *>(drop)), METH_FASTCALL, nullptr},
    {"run", reinterpret_cast<PyCFunction>(reinterpret_cast<void *>(run)), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef module = {PyModuleDef_HEAD_INIT, "fastdrop_torch", nullptr, -1, methods};

}  // namespace

PyMODINIT_FUNC PyInit_fastdrop_torch() {
  PyObject *made = PyModule_Create(&module);
  if (made && PyModule_AddStringConstant(made, "build", FASTDROP_BUILD)) return nullptr;
  return made;
}
