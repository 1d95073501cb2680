"""PyTorch: the bits of fastdrop.dropout, layouts, seeds, PyTorch's signatures."""

import inspect
import os
import threading

import numpy as np
import pytest

import fastdrop

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402
from torch_calls import DTYPES, FUNCTIONS, KEY, SEED, SHAPES, equal, randn, state, to_numpy  # noqa: E402

import fastdrop.torch as ft  # noqa: E402
from fastdrop._core import pointers  # noqa: E402


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("p", [0.1, 0.5, 1.0])
def test_functions_have_the_bits_of_numpy(name, dtype, p):
    x = randn(*SHAPES.get(name, (3, 5)), dtype=dtype).requires_grad_()
    y = getattr(ft, name)(x, p, True, **KEY)
    assert equal(y, getattr(fastdrop, name)(to_numpy(x), p, **KEY))
    grad = randn(*x.shape, dtype=dtype)
    y.backward(grad)
    assert equal(x.grad, getattr(fastdrop, f"{name}_backward")(to_numpy(grad), p, **KEY))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "place",
    [
        {"shared_axes": -1},
        {"shared_axes": (0, 2)},
        {"noise_shape": (None, 1, 4)},
        {"global_shape": (9, 5, 4), "global_start": (2, 0, 0)},
        {"global_shape": (9, 5, 4), "shared_axes": 0},
    ],
    ids=str,
)
def test_places(dtype, place):
    x = randn(3, 5, 4, dtype=dtype).requires_grad_()
    y = ft.dropout(x, 0.4, seed=3, **place)
    assert equal(y, fastdrop.dropout(to_numpy(x), 0.4, seed=3, **place))
    y.backward(torch.ones_like(y))
    assert equal(x.grad, fastdrop.dropout(to_numpy(torch.ones_like(x)), 0.4, seed=3, **place))


@pytest.mark.parametrize("axes", [np.int64(1), (np.int64(1),), np.array([1])], ids=repr)
def test_axes_of_numpy(axes):
    x = randn(3, 5, 4)
    wanted = ft.dropout(x, 0.4, seed=3, shared_axes=1)
    assert torch.equal(ft.dropout(x, 0.4, seed=3, shared_axes=axes), wanted)
    assert torch.equal(torch.func.vmap(lambda x: ft.dropout(x, 0.4, seed=3, shared_axes=axes))(x[None])[0], wanted)


@pytest.mark.parametrize(
    "place", [{"shared_axes": (1,)}, {"noise_shape": (None, 1)}, {"global_shape": (9, 8), "global_start": (2, 0)}], ids=str
)
def test_sequences_that_are_read_once(place):
    """An iterator is read for the checks, and again for the call."""
    x, given = randn(4, 8), {name: iter(values) for name, values in place.items()}
    assert torch.equal(ft.dropout(x, 0.4, seed=3, **given), ft.dropout(x, 0.4, seed=3, **place))


@pytest.mark.parametrize("n", [4, 50, 1000])
def test_a_bias_that_is_not_contiguous(n):
    """The kernels read a copy of it, which must live until they are done."""
    bias, x, residual = randn(2 * n)[::2], randn(3, n), randn(3, n)
    for p in (0.0, 0.4):
        wanted = ft.dropout_add(x, residual, p, bias.contiguous(), seed=3)
        assert torch.equal(ft.dropout_add(x, residual, p, bias, seed=3), wanted)
        transposed = residual.t().contiguous().t()  # x is contiguous, and the residual is not
        assert torch.equal(ft.dropout_add(x, transposed, p, bias, seed=3), wanted)


USUAL = {
    "requires no gradient": lambda: randn(3, 5),
    "requires a gradient": lambda: randn(3, 5).requires_grad_(),
    "bfloat16": lambda: randn(3, 5, dtype=torch.bfloat16).requires_grad_(),
    "parameter": lambda: nn.Parameter(randn(3, 5)),
    "transposed": lambda: randn(3, 5).t().requires_grad_(),
    "misaligned": lambda: torch.frombuffer(bytearray(64), dtype=torch.float32, count=15, offset=1).requires_grad_(),
    "no elements": lambda: randn(0, 5).requires_grad_(),
    "no axes": lambda: torch.tensor(2.0, requires_grad=True),
}


@pytest.mark.parametrize("make", USUAL.values(), ids=USUAL)
@pytest.mark.parametrize("backend", ["c", "numpy"])
def test_the_usual_call_is_like_any_other(make, backend):
    found = []
    with fastdrop.using(backend=backend):
        for call in (ft.dropout, lambda x, p: ft.dropout(x, p, generator=torch.default_generator)):
            torch.manual_seed(0)
            x = make()
            y = call(x, 0.3)
            assert y is not x
            if y.requires_grad:
                y.sum().backward()
            found.append((to_numpy(y).tobytes(), y.stride(), y.requires_grad, x.grad, state()))
    (one, strides, needs, grad, drawn), (other, others, needs_too, other_grad, drawn_too) = found
    assert (one, strides, needs) == (other, others, needs_too)
    assert grad is other_grad is None or torch.equal(grad, other_grad)
    assert torch.equal(drawn, drawn_too)


def test_other_calls_than_the_usual_one_draw_nothing():
    before, x = state(), randn(3)
    for p in (0.0, -0.1, 1.5, float("nan"), 1, True, np.float64(0.5), "0.5"):
        assert pointers.drop_usual(x, p, True, False) is None
    for training, in_place in ((False, False), (1, False), (True, True), (True, 0)):
        assert pointers.drop_usual(x, 0.5, training, in_place) is None
    for other in (x.int(), x.to_sparse(), x.to("meta"), x.numpy(), torch.view_as_complex(randn(3, 2)).conj().imag):
        assert pointers.drop_usual(other, 0.5, True, False) is None
    within = []
    torch.func.vmap(lambda x: (within.append(pointers.drop_usual(x, 0.5, True, False)), x)[1])(x)
    assert within == [None]
    assert torch.equal(before, state())
    assert pointers.drop_usual(x, 0.5, True, False).shape == x.shape
    assert not torch.equal(before, state())


def test_other_functions():
    x = randn(6, 4, 3)
    rows = fastdrop.dropout(x.numpy(), 0.4, seed=3, shared_axes=(1, 2))
    assert equal(ft.embedding_dropout(x, 0.4, seed=3), rows)
    assert equal(ft.drop_path(x, 0.4, True, seed=3), rows)
    assert equal(
        ft.drop_path(x, 0.4, True, False, seed=3), fastdrop.dropout(x.numpy(), 0.4, seed=3, shared_axes=(1, 2), mode="standard")
    )
    assert equal(ft.locked_dropout(x, 0.4, seed=3), fastdrop.dropout(x.numpy(), 0.4, seed=3, shared_axes=0))
    assert equal(ft.locked_dropout(x, 0.4, batch_first=True, seed=3), fastdrop.dropout(x.numpy(), 0.4, seed=3, shared_axes=1))
    assert equal(ft.weight_drop(x, 0.4, seed=3), fastdrop.weight_drop(x.numpy(), 0.4, seed=3))
    assert equal(ft.attention_dropout(x, 0.4, seed=3), fastdrop.dropout(x.numpy(), 0.4, seed=3))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
def test_dropout_add(dtype, training, with_bias):
    x, residual = (randn(3, 5, dtype=dtype).requires_grad_() for _ in range(2))
    bias = randn(5, dtype=dtype).requires_grad_() if with_bias else None
    y = ft.dropout_add(x, residual, 0.4, bias, training, seed=3)
    more = {} if bias is None else {"bias": to_numpy(bias)}
    assert equal(y, fastdrop.dropout(to_numpy(x), 0.4, seed=3, training=training, residual=to_numpy(residual), **more))
    grad = randn(3, 5, dtype=dtype)
    y.backward(grad)
    dx = fastdrop.dropout_backward(to_numpy(grad), 0.4, seed=3, training=training)
    assert equal(x.grad, dx)
    assert equal(residual.grad, to_numpy(grad))
    if bias is not None:
        assert torch.equal(bias.grad, x.grad.sum(0))


def test_threads_of_pytorch_hold():
    before = torch.get_num_threads()
    x, found = randn(300_000), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(ft.dropout(x, 0.3, seed=1))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


# Layouts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["dropout", "dropout2d"])
def test_layouts(dtype, name):
    """The mask follows the logical index; strides stay where PyTorch would keep them."""
    base = randn(3, 4, 6, 8, dtype=dtype)
    layouts = {
        "channels_last": base.to(memory_format=torch.channels_last),
        "transposed": base.transpose(1, 3),
        "sliced": base[:, ::2, 1:, ::3],
        "expanded": base[:1].expand(5, -1, -1, -1),
        "empty": base[:0],
    }
    for x in layouts.values():
        y = getattr(ft, name)(x, 0.4, seed=3)
        assert equal(y, getattr(fastdrop, name)(to_numpy(x), 0.4, seed=3))
        assert y.stride() == torch.empty_like(x).stride()


def test_gradients_of_any_strides():
    x = randn(4, 5).requires_grad_()
    ft.dropout(x, 0.4, seed=3).sum().backward()  # the gradient of sum has strides 0
    assert equal(x.grad, fastdrop.dropout(np.ones((4, 5), np.float32), 0.4, seed=3))
    assert x.grad.is_contiguous()


def test_scalars_and_nothing():
    assert equal(ft.dropout(torch.tensor(2.0), 0.5, seed=2), fastdrop.dropout(np.float32(2), 0.5, seed=2))
    assert ft.dropout(torch.empty(0, 3), 0.5, seed=2).shape == (0, 3)


def test_pending_negation():
    x = torch.randn(8, dtype=torch.complex64).conj().imag
    assert x.is_neg()
    assert equal(ft.dropout(x, 0.4, seed=3), fastdrop.dropout(x.resolve_neg().numpy(), 0.4, seed=3))
    wanted = fastdrop.dropout(x.resolve_neg().numpy(), 0.4, seed=3)
    assert ft.dropout(x, 0.4, inplace=True, seed=3) is x
    assert equal(x.resolve_neg(), wanted)


# Seeds --------------------------------------------------------------------------------------------------------------


def test_default_generator():
    x = randn(64)
    torch.manual_seed(3)
    first, second = ft.dropout(x), ft.dropout(x)
    assert not torch.equal(first, second)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        assert torch.equal(ft.dropout(x), first)
        kept = state()
        assert torch.equal(ft.dropout(x), second)
    torch.set_rng_state(kept)
    assert torch.equal(ft.dropout(x), second)


def test_one_draw_of_64_bits():
    torch.manual_seed(3)
    ft.dropout(randn(64))
    after = state()
    torch.manual_seed(3)
    torch.empty((), dtype=torch.int64).random_(-(2**63), None)
    assert torch.equal(after, state())


def test_generator():
    x, before = randn(64), state()
    y = ft.dropout(x, generator=torch.Generator().manual_seed(7))
    assert torch.equal(y, ft.dropout(x, generator=torch.Generator().manual_seed(7)))
    assert torch.equal(before, state())


def test_kinds_of_seeds():
    x, before = randn(64), state()
    wanted = ft.dropout(x, seed=SEED, offset=4)
    signed = SEED - 2**64
    stream = fastdrop.Stream(SEED, 4)
    assert torch.equal(wanted, ft.dropout(x, seed=stream))
    assert stream.offset == 5
    assert torch.equal(wanted, ft.dropout(x, seed=fastdrop.Key(SEED, 4)))
    assert torch.equal(wanted, ft.dropout(x, seed=torch.tensor(signed), offset=4))
    assert torch.equal(wanted, ft.dropout(x, seed=torch.tensor(SEED, dtype=torch.uint64), offset=4))
    assert torch.equal(wanted, ft.dropout(x, seed=torch.tensor([signed, 4])))
    assert torch.equal(wanted, ft.dropout(x, seed=torch.tensor([SEED, 4], dtype=torch.uint64)))
    sequence = np.random.SeedSequence(1)
    assert equal(ft.dropout(x, seed=sequence), fastdrop.dropout(x.numpy(), seed=sequence))
    assert torch.equal(before, state())


@pytest.mark.parametrize("name", [*FUNCTIONS, "locked_dropout", "drop_path"])
def test_identity(name):
    """Without dropping, the input itself comes back and nothing is drawn."""
    x, before, function = randn(*SHAPES.get(name, (3, 5))), state(), getattr(ft, name)
    assert function(x, 0.0, True) is x
    assert function(x, 0.5, False) is x
    assert torch.equal(before, state())


def test_signatures_begin_as_those_of_pytorch():
    for name in FUNCTIONS:
        theirs = list(inspect.signature(getattr(F, name)).parameters.values())
        ours = list(inspect.signature(getattr(ft, name)).parameters.values())[: len(theirs)]
        assert [(each.name, each.default) for each in ours] == [(each.name, each.default) for each in theirs]
    for name in ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"):
        theirs = list(inspect.signature(getattr(nn, name)).parameters.values())
        ours = list(inspect.signature(getattr(ft, name)).parameters.values())[: len(theirs)]
        assert [(each.name, each.default) for each in ours] == [(each.name, each.default) for each in theirs]


# Processes and threads ----------------------------------------------------------------------------------------------


def test_threads():
    """Calls from four threads do not mix; each draws from the one generator of the process."""
    x, wanted, wrong = randn(5000), [ft.dropout(randn(5000), 0.5, seed=k) for k in range(4)], []

    def work(k):
        for _ in range(50):
            ft.dropout(x, 0.5)
            if not torch.equal(ft.dropout(x, 0.5, seed=k), wanted[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork(run_python):
    done = run_python(
        """
        import os, torch, fastdrop.torch as ft
        x = torch.ones(1 << 20)
        y = ft.dropout(x, 0.5, seed=1)
        child = os.fork()
        if not child:
            os._exit(ft.dropout(x, 0.5, seed=1).numpy().tobytes() != y.numpy().tobytes())  # OpenMP of PyTorch hangs in a fork
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    )
    assert done.stdout.strip() == "0", done.stderr


def test_without_pytorch(run_python):
    done = run_python(
        """
        import sys
        sys.modules["torch"] = None
        import fastdrop
        try:
            import fastdrop.torch
        except ImportError as error:
            print(error)
        """
    )
    assert 'pip install "fastdrop-kernels[torch]"' in done.stdout
