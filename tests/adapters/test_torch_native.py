"""The native operator: built into a temporary cache, it takes eager calls and changes nothing else."""

import fcntl
import os
import shutil
import warnings
from pathlib import Path

import pytest

import fastdrop

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch_calls import randn  # noqa: E402

import fastdrop.torch as ft  # noqa: E402
from fastdrop.torch import _native  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Return a cache with the operator in it: one for all processes of this run of the tests."""
    base = tmp_path_factory.getbasetemp()
    cache = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "torch-cache"
    cache.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch, open(cache / "lock", "w") as lock:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = _native.drop, _native.run
        library = ft.build()
        _native.drop, _native.run = before
    assert library.is_relative_to(cache)
    return cache


@pytest.fixture
def native(cache, monkeypatch):
    """Use the operator within a test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(_native, "drop", None)
    monkeypatch.setattr(_native, "run", None)
    ft.build()
    assert _native.drop is not None


def is_native(y):
    return type(y.grad_fn).__name__ == "CppFunction"


def in_python(function):
    """Run a function without the operator."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_native, "drop", None)
        patch.setattr(_native, "run", None)
        return function()


# The bits -----------------------------------------------------------------------------------------------------------

CALLS = {
    "dropout": lambda x: ft.dropout(x, 0.4),
    "all": lambda x: ft.dropout(x, 1.0),
    "seed": lambda x: ft.dropout(x, 0.4, seed=2**63 + 4, offset=2**64 - 1),
    "generator": lambda x: ft.dropout(x, 0.4, generator=torch.Generator().manual_seed(3)),
    "shared_axes": lambda x: ft.dropout(x, 0.4, shared_axes=(0, -1)),
    "dropout2d": lambda x: ft.dropout2d(x, 0.4),
    "alpha_dropout": lambda x: ft.alpha_dropout(x, 0.4, True),
    "feature_alpha_dropout": lambda x: ft.feature_alpha_dropout(x, 0.4, True),
    "drop_path": lambda x: ft.drop_path(x, 0.4, True, False),
    "dropout_add": lambda x: ft.dropout_add(x, 2 * x, 0.4, x[0, 0, 0].clone()),
    "layer": ft.Dropout(0.4),
}
LAYOUTS = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(1, 3),
    "sliced": lambda x: x[:, ::2, 1:, ::3],
    "expanded": lambda x: x[:1].expand(5, -1, -1, -1),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CALLS)
def test_bits_and_draws_are_those_of_python(native, name, layout, dtype):
    x = LAYOUTS[layout](randn(3, 4, 6, 8, dtype=dtype))

    def results():
        torch.manual_seed(5)
        leaf = x.detach().requires_grad_()
        y = CALLS[name](leaf)
        (dx,) = torch.autograd.grad(y, leaf, torch.ones_like(y).cumsum(0), retain_graph=True)
        (dense,) = torch.autograd.grad(y.sum(), leaf)  # whose gradient has strides 0
        return y, dx, dense, torch.get_rng_state()

    found, wanted = results(), in_python(results)
    assert is_native(found[0])
    assert not is_native(wanted[0])
    for one, other in zip(found, wanted, strict=True):
        assert one.detach().contiguous().view(torch.uint8).equal(other.detach().contiguous().view(torch.uint8))
        assert one.stride() == other.stride()


@pytest.mark.parametrize("name", ["dropout", "shared_axes", "alpha_dropout", "dropout_add"])
def test_gradients_of_gradients(native, name):
    x = randn(2, 3, 2, 2, dtype=torch.float64).requires_grad_()

    def function(x):
        torch.manual_seed(5)
        return CALLS[name](x)

    assert is_native(function(x))
    assert torch.autograd.gradcheck(function, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, x)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_backends_in_python_are_heard(native, backend):
    """A backend that is chosen between the passes too."""
    if backend not in fastdrop.config()["backends"]:
        pytest.skip(f"there is no backend {backend}")
    x = randn(4, 5).requires_grad_()
    y = ft.dropout(x, 0.4, seed=3)
    with fastdrop.using(backend=backend):
        assert not is_native(ft.dropout(x, 0.4, seed=3))
        assert torch.equal(ft.dropout(x, 0.4, seed=3), y)
        y.sum().backward()
    assert torch.equal(x.grad, ft.dropout(torch.ones(4, 5), 0.4, seed=3))


def test_nothing_is_saved(native):
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        assert is_native(ft.dropout(randn(8).requires_grad_(), 0.4))
        assert is_native(ft.dropout_add(randn(8).requires_grad_(), randn(8), 0.4, randn(8).requires_grad_()))
    assert not saved


def test_compiled_code_does_not_see_it(native):
    compiled = torch.compile(lambda x: ft.dropout(x, 0.4), fullgraph=True, backend="aot_eager")
    torch.manual_seed(5)
    y = compiled(randn(8))
    torch.manual_seed(5)
    assert torch.equal(y, ft.dropout(randn(8), 0.4))


def test_jit_trace_does_not_see_it(native):
    x = torch.ones(64)
    traced = torch.jit.trace(lambda x: ft.dropout(x, 0.4) + ft.dropout(x, 0.4, seed=3), x, check_trace=False)
    torch.manual_seed(5)
    y = traced(x)
    torch.manual_seed(5)
    assert torch.equal(y, ft.dropout(x, 0.4) + ft.dropout(x, 0.4, seed=3))


@pytest.mark.parametrize("name", ["dropout", "dropout2d", "dropout_add"])
def test_compiled_backward_passes(native, name):
    """Twice, because the second pass has the graph of the first."""
    x, bias = randn(2, 3, 4, 5).requires_grad_(), randn(5).requires_grad_()
    more = (x, 0.4, bias) if name == "dropout_add" else (0.4,)
    gradients = []
    for compiles in (False, True, True):
        x.grad = bias.grad = None
        y = getattr(ft, name)(x, *more, seed=3)
        assert is_native(y)
        with torch._dynamo.utils.maybe_enable_compiled_autograd(compiles, fullgraph=True, dynamic=False):
            (2 * y).sum().backward()
        gradients.append((x.grad, bias.grad))
    torch.testing.assert_close(gradients[1:], gradients[:1] * 2)  # sums may be in another order


# As its user has it ---------------------------------------------------------------------------------------------------

LOOK = "import fastdrop.torch, warnings; print(fastdrop.torch._native.drop is not None)"


def test_all_other_tests_of_the_adapter_hold(cache, run_python):
    root = Path(__file__).parents[2]
    arguments = ["-n", "0", "-q", "-k", "not compiled", "-p", "no:cacheprovider"]
    arguments += ["--rootdir", str(root), "-c", str(root / "pyproject.toml")]
    files = [str(root / "tests" / "adapters" / f"test_torch{part}.py") for part in ("", "_autograd", "_errors", "_layers")]
    done = run_python(
        f"""
        import sys, fastdrop.torch, pytest
        assert fastdrop.torch._native.drop is not None
        sys.exit(pytest.main({[*arguments, *files]!r}))
        """,
        XDG_CACHE_HOME=str(cache),
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


def test_later_imports_find_it(cache, run_python, tmp_path):
    assert run_python(LOOK, XDG_CACHE_HOME=str(cache)).stdout == "True\n"
    done = run_python(LOOK, XDG_CACHE_HOME=str(tmp_path))
    assert (done.stdout, done.stderr) == ("False\n", "")


def broken_copy(cache, tmp_path):
    """Return a copy of the cache, and of the library in it."""
    shutil.copytree(cache, tmp_path / "cache")
    (library,) = (tmp_path / "cache").rglob("*.so")
    return tmp_path / "cache", library


def test_a_broken_library_is_reported_once_and_not_used(cache, run_python, tmp_path):
    copy, library = broken_copy(cache, tmp_path)
    library.write_bytes(library.read_bytes()[:5000])
    program = LOOK + "; print(fastdrop.torch.dropout(fastdrop.torch._native.torch.ones(4), 0.5, seed=42).tolist())"
    done = run_python(program, XDG_CACHE_HOME=str(copy))
    assert done.stdout == "False\n[2.0, 0.0, 0.0, 0.0]\n"
    assert done.stderr.count("RuntimeWarning: the native operator of fastdrop.torch is not used") == 1
    assert "torch-build --force" in done.stderr


@pytest.mark.parametrize("broken", ["library", "checksum"])
def test_a_broken_library_is_built_again(cache, tmp_path, monkeypatch, broken):
    copy, library = broken_copy(cache, tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(copy))
    monkeypatch.setattr(_native, "drop", None)
    monkeypatch.setattr(_native, "run", None)
    whole = library.read_bytes()
    if broken == "library":
        library.write_bytes(b"garbage")
    else:
        library.with_suffix(".sha256").unlink()
    monkeypatch.setattr(_native, "compile_to", lambda path: path.write_bytes(whole))
    assert ft.build() == library
    assert library.read_bytes() == whole
    assert _native.is_intact(library)
    assert _native.drop is not None


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(RuntimeError, match=r"needs a cache that can be written, and .* cannot \(.*\): set XDG_CACHE_HOME"):
        ft.build()


def test_a_library_of_other_versions_is_not_used(cache, tmp_path, monkeypatch):
    """It would not be found; but someone may have moved it there."""
    copy, library = broken_copy(cache, tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(copy))
    monkeypatch.setattr(_native, "drop", None)
    monkeypatch.setattr(_native, "run", None)
    monkeypatch.setattr(torch, "__version__", "9.0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _native.load()  # nothing there
    library.parent.rename(_native.place().parent)
    with pytest.warns(RuntimeWarning, match="the file was built for 0"):
        _native.load()
    assert _native.drop is None


# The command ----------------------------------------------------------------------------------------------------------


def test_command(cache, monkeypatch, tmp_path):
    pytest.importorskip("rich")
    from click.testing import CliRunner

    from fastdrop._cli.commands import cli

    monkeypatch.setattr(_native, "drop", None)
    monkeypatch.setattr(_native, "run", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    done = CliRunner().invoke(cli, ["torch-build"])
    assert done.exit_code == 0
    assert Path(done.output.strip()).is_file()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    done = CliRunner().invoke(cli, ["torch-build"])
    assert done.exit_code == 1
    assert "needs a C++ compiler, and 'no-such-compiler' does not run" in done.output
    monkeypatch.setenv("CXX", "false")
    done = CliRunner().invoke(cli, ["torch-build"])
    assert done.exit_code == 1
    assert "'false' cannot compile the native operator" in done.output
    assert not list(tmp_path.rglob("*.so"))
