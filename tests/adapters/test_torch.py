"""PyTorch: the bits of fastdrop.dropout, PyTorch's signatures, seeds, layouts, refusals."""

import copy
import inspect
import io
import os
import pickle
import threading

import numpy as np
import pytest

import fastdrop

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import fastdrop.torch as ft  # noqa: E402
from fastdrop._core import pointers  # noqa: E402

# PyTorch warns of itself: of what `forward_ad` scripts, of nested tensors.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning"),
]

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
SEED = 2**63 + 5  # above what an int64 holds
KEY = {"seed": SEED, "offset": 2**64 - 1}
SHAPES = {"dropout1d": (3, 4, 5), "dropout2d": (3, 4, 5, 2), "dropout3d": (3, 4, 5, 2, 2), "feature_alpha_dropout": (3, 4, 5)}
FUNCTIONS = ["dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"]


def randn(*shape, dtype=torch.float32, **more):
    return (
        torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_(**more)
        if more
        else (torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(dtype))
    )


def to_numpy(x):
    """Return an array of the same bytes."""
    x = x.detach().contiguous()
    if x.dtype == torch.bfloat16:
        return x.view(torch.int16).numpy().view(pytest.importorskip("ml_dtypes").bfloat16)
    return x.numpy()


def equal(tensor, array):
    return to_numpy(tensor).tobytes() == np.ascontiguousarray(array).tobytes()


def state():
    return torch.get_rng_state().clone()


# The bits -----------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_noise_and_blocks(dtype):
    x = randn(2, 3, 9, 9, dtype=dtype).requires_grad_()
    grad = randn(2, 3, 9, 9, dtype=dtype)
    for ours, name, numbers in ((ft.gaussian_dropout, "gaussian_dropout", (0.3,)), (ft.drop_block2d, "drop_block", (0.3, 3))):
        y = ours(x, *numbers, **KEY)
        assert equal(y, getattr(fastdrop, name)(to_numpy(x), *numbers, **KEY))
        (dx,) = torch.autograd.grad(y, x, grad)
        wanted = getattr(fastdrop, f"{name}_backward")(to_numpy(grad), *numbers, **KEY)
        assert equal(dx, wanted[0] if isinstance(wanted, tuple) else wanted)
    logit = torch.tensor([-1.0], requires_grad=True)
    y = ft.concrete_dropout(x, logit, 0.1, **KEY)
    assert equal(y, fastdrop.concrete_dropout(to_numpy(x), -1.0, 0.1, **KEY))
    dx, dlogit = torch.autograd.grad(y, (x, logit), grad)
    wanted = fastdrop.concrete_dropout_backward(to_numpy(grad), to_numpy(x), -1.0, 0.1, **KEY)
    assert equal(dx, wanted[0])
    assert dlogit.shape == (1,)
    assert dlogit.item() == np.float32(wanted[1])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "options", [{}, {"shared_axes": (0, 1), "fill": -1e12}, {"empty_rows": "fill"}, {"allowed": True}], ids=str
)
def test_keys(dtype, options):
    x, grad = randn(2, 3, 4, 5, dtype=dtype).requires_grad_(), randn(2, 3, 4, 5, dtype=dtype)
    ours = dict(options, allowed=torch.ones(4, 5, dtype=torch.bool).tril()) if "allowed" in options else options
    theirs = dict(options, allowed=ours["allowed"].numpy()) if "allowed" in options else options
    y = ft.drop_key(x, 0.6, **ours, **KEY)
    assert equal(y, fastdrop.drop_key(to_numpy(x), 0.6, **theirs, **KEY))
    y.backward(grad)
    theirs.pop("fill", None)
    assert equal(x.grad, fastdrop.drop_key_backward(to_numpy(grad), 0.6, **theirs, **KEY))
    assert ft.drop_key(x, 0.6, False) is x


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("per", ["batch", "sample"])
def test_looked_up_words(dtype, per):
    x, grad = randn(2, 6, 3, dtype=dtype).requires_grad_(), randn(2, 6, 3, dtype=dtype)
    tokens = torch.tensor([[0, 1, 4, 1, 4, 0], [4, 4, 4, 2, 1, 1]], dtype=torch.int32)
    options = {"num_embeddings": 5, "per": per, **KEY}
    y = ft.embedding_dropout(x, 0.4, tokens=tokens, **options)
    assert equal(y, fastdrop.embedding_dropout(to_numpy(x), 0.4, tokens=tokens.numpy(), **options))
    y.backward(grad)
    assert equal(x.grad, fastdrop.embedding_dropout_backward(to_numpy(grad), 0.4, tokens=tokens.numpy(), **options))
    assert ft.embedding_dropout(x, 0.4, False, tokens=tokens, **options) is x


def test_words_of_a_batch():
    """Each example has its own tokens, under one key."""
    x, tokens = randn(3, 2, 4, 5), torch.randint(6, (3, 2, 4), generator=torch.Generator().manual_seed(1))
    function = lambda x, tokens: ft.embedding_dropout(x, 0.4, tokens=tokens, num_embeddings=6, seed=3)  # noqa: E731
    wanted = torch.stack([function(*each) for each in zip(x, tokens, strict=True)])
    assert torch.equal(torch.vmap(function, randomness="same")(x, tokens), wanted)


WRONG = {
    "keys of 3 axes": (lambda x: ft.drop_key(x[0]), ValueError, "input must have four dimensions"),
    "axis": (lambda x: ft.drop_key(x, shared_axes=2), ValueError, "shared_axes must be 0, the samples, 1, the heads, or both"),
    "fill": (lambda x: ft.drop_key(x, fill="0"), TypeError, "fill must be a number"),
    "empty rows": (lambda x: ft.drop_key(x, empty_rows="drop"), ValueError, "empty_rows must be 'keep' or 'fill'; got 'drop'"),
    "allowed": (lambda x: ft.drop_key(x, allowed=torch.ones(3) > 0), ValueError, "which does not broadcast to the shape"),
    "no flags": (lambda x: ft.drop_key(x, allowed=x), TypeError, "allowed must have the dtype bool"),
    "a list of flags": (lambda x: ft.drop_key(x, allowed=[True]), TypeError, "allowed must be a torch.Tensor; got list"),
    "an option": (lambda x: ft.drop_key(x, global_shape=(1,)), TypeError, "there is no option global_shape"),
    "a word": (lambda x: words(x, torch.tensor([[0, 5]])), ValueError, "tokens must be"),
    "no words": (lambda x: words(x, torch.tensor([[0.0, 1.0]])), TypeError, "tokens must be an array of integers"),
    "shape of words": (lambda x: words(x, torch.tensor([0, 1])), ValueError, "tokens must have shape (B, T)"),
    "per": (lambda x: words(x, torch.tensor([[0, 1]]), per="word"), ValueError, "per must be 'batch' or 'sample'; got 'word'"),
    "in place": (lambda x: words(x, torch.tensor([[0, 1]]), inplace=True), ValueError, "inplace must be False with tokens"),
    "no size": (
        lambda x: words(x, torch.tensor([[0, 1]]), num_embeddings=None),
        ValueError,
        "num_embeddings must be given with tokens",
    ),
    "no tokens": (lambda x: ft.embedding_dropout(x[0, 0], per="sample"), ValueError, "without tokens, per must be 'batch'"),
}


def words(x, tokens, **options):
    return ft.embedding_dropout(x[0], 0.4, tokens=tokens, **{"num_embeddings": 5, **options})


@pytest.mark.parametrize("name", WRONG)
def test_wrong_keys_and_words(name):
    call, error, sentence = WRONG[name]
    before = state()
    with pytest.raises(error) as found:
        call(torch.ones(1, 1, 2, 4))
    assert sentence in str(found.value)
    assert torch.equal(before, state())


def test_bfloat16_without_a_type_in_numpy():
    x = randn(2, 3, 9, 9, dtype=torch.bfloat16)
    for ours in (lambda x: ft.gaussian_dropout(x, 0.3, seed=1), lambda x: ft.drop_block2d(x, 0.3, 3, seed=1)):
        assert torch.equal(ours(x), ours(x.float()).bfloat16())


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


# Autograd -----------------------------------------------------------------------------------------------------------

CALLS = {
    "dropout": lambda x: ft.dropout(x, 0.4, seed=3),
    "shared": lambda x: ft.dropout(x, 0.4, seed=3, shared_axes=0),
    "alpha": lambda x: ft.alpha_dropout(x, 0.4, True, seed=3),
    "add": lambda x: ft.dropout_add(x, 2 * x, 0.4, x[0], seed=3),
    "gaussian": lambda x: ft.gaussian_dropout(x, 0.4, seed=3),
    "blocks": lambda x: ft.drop_block2d(x[None, None], 0.4, 2, seed=3),
    "keys": lambda x: ft.drop_key(x[None, None], 0.4, fill=-2.0, seed=3),
    "words": lambda x: ft.embedding_dropout(x[None], 0.4, tokens=torch.tensor([[4, 0, 4]]), num_embeddings=5, seed=3),
}


@pytest.mark.parametrize("name", CALLS)
def test_gradcheck(name):
    x = randn(3, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(CALLS[name], x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(CALLS[name], x, check_fwd_over_rev=True)


def concrete(x, logit):
    return ft.concrete_dropout(x, logit, 0.5, seed=3)


def test_gradcheck_of_concrete():
    x, logit = randn(3, 4, dtype=torch.float64).requires_grad_(), torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(concrete, (x, logit), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(concrete, (x, logit), check_fwd_over_rev=True)
    only_logit = lambda logit: (concrete(x.detach(), logit) ** 2).sum()  # noqa: E731
    assert torch.allclose(torch.func.hessian(only_logit)(logit.detach()), torch.autograd.functional.hessian(only_logit, logit))


@pytest.mark.parametrize("logit", [-30.0, 30.0])
def test_tangent_of_concrete_beyond_its_bounds(logit):
    """The gradient is that at the bound, whichever way it is taken."""
    x, logit = randn(3, 4, dtype=torch.float64), torch.tensor(logit, dtype=torch.float64)
    _, tangent = torch.func.jvp(lambda logit: concrete(x, logit).sum(), (logit,), (torch.ones_like(logit),))
    assert torch.allclose(tangent, torch.func.grad(lambda logit: concrete(x, logit).sum())(logit))


def test_transforms_of_concrete():
    """The values and the first gradient are the kernels', under transforms too; one number of a batch at a time."""
    x, logits = randn(3, 4), torch.tensor([-1.0, 0.5])
    gradient = torch.func.grad(lambda x, logit: concrete(x, logit).sum(), (0, 1))
    dx, dlogit = torch.vmap(gradient, (None, 0))(x, logits)
    for i in range(2):
        wanted = fastdrop.concrete_dropout_backward(np.ones((3, 4), np.float32), x.numpy(), float(logits[i]), 0.5, seed=3)
        assert equal(dx[i], wanted[0])
        assert dlogit[i] == np.float32(wanted[1])


@pytest.mark.parametrize("name", CALLS)
def test_transforms(name):
    function, x = CALLS[name], randn(3, 4, dtype=torch.float64)
    y, pull = torch.func.vjp(function, x)
    assert torch.equal(y, function(x))
    leaf = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(function(leaf), leaf, y)
    assert torch.equal(pull(y)[0], wanted)
    _, tangent = torch.func.jvp(function, (x,), (x,))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, x)
        assert torch.equal(torch.autograd.forward_ad.unpack_dual(function(dual)).tangent, tangent)
    hessian = torch.func.hessian(lambda x: (function(x) ** 3).sum())(x).reshape(12, 12)
    assert torch.allclose(hessian, torch.autograd.functional.hessian(lambda x: (function(x) ** 3).sum(), x).reshape(12, 12))


def test_nothing_is_saved():
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        ft.dropout(randn(8).requires_grad_(), 0.4)
        ft.dropout_add(randn(8).requires_grad_(), randn(8), 0.4, randn(8).requires_grad_())
    assert not saved


@pytest.mark.parametrize("mode", [{"use_reentrant": True}, {"use_reentrant": False}], ids=str)
def test_checkpoints(mode):
    from torch.utils.checkpoint import checkpoint

    x, weight = randn(4, 8).requires_grad_(), randn(8, 8)

    def loss(x):
        return ft.dropout(torch.relu(ft.dropout(x, 0.5) @ weight), 0.5).pow(2).sum()

    torch.manual_seed(1)
    (wanted,) = torch.autograd.grad(loss(x), x)
    torch.manual_seed(1)
    checkpoint(loss, x, **mode).backward()
    assert torch.equal(x.grad, wanted)
    layer = ft.Dropout(0.5, seed=1)
    with pytest.raises(RuntimeError, match="counts its calls, and a checkpoint"):
        checkpoint(lambda x: layer(x).pow(2).sum(), x, **mode).backward()


@pytest.mark.parametrize("same", [True, False])
def test_vmap(same):
    x = randn(5, 3, 4)
    y = torch.vmap(lambda x: ft.dropout(x, 0.5), randomness="same" if same else "different")(torch.ones_like(x))
    assert len({row.tobytes() for row in y.numpy()}) == (1 if same else 5)
    for in_dim in (0, 1, 2):
        y = torch.vmap(lambda x: ft.dropout(x, 0.5, seed=3), in_dim)(x)
        for i in range(x.shape[in_dim]):
            assert torch.equal(y[i], ft.dropout(x.select(in_dim, i), 0.5, seed=3))
    with pytest.raises(RuntimeError, match="vmap: called random operation while in randomness error mode"):
        torch.vmap(lambda x: ft.dropout(x, 0.5))(x)


def test_vmap_over_seeds_and_places():
    x, seeds = randn(3, 4), torch.arange(5)
    y = torch.vmap(lambda seed: ft.dropout(x, 0.5, seed=seed))(seeds)
    assert all(torch.equal(y[i], ft.dropout(x, 0.5, seed=i)) for i in range(5))
    place = {"shared_axes": 0, "global_shape": (6, 4), "global_start": (3, 0)}
    y = torch.vmap(lambda x: ft.dropout(x, 0.5, seed=3, **place))(torch.stack([x, 2 * x]))
    assert torch.equal(y[1], ft.dropout(2 * x, 0.5, seed=3, **place))
    y = torch.vmap(lambda x, r: ft.dropout_add(x, r, 0.5, x[0], seed=3))(torch.stack([x, 2 * x]), torch.stack([x, x]))
    assert torch.equal(y[1], ft.dropout_add(2 * x, x, 0.5, 2 * x[0], seed=3))


def test_gradients_of_each_sample():
    x, weight = randn(5, 4), randn(4, 3)
    each = torch.vmap(torch.func.grad(lambda weight, x: ft.dropout(x @ weight, 0.5, seed=3).pow(2).sum()), (None, 0))(weight, x)
    for i in range(5):
        leaf = weight.clone().requires_grad_()
        ft.dropout(x[i] @ leaf, 0.5, seed=3).pow(2).sum().backward()
        assert torch.allclose(each[i], leaf.grad)


# In place -----------------------------------------------------------------------------------------------------------


def test_in_place():
    x = randn(4, 5)
    wanted = ft.dropout(x, 0.4, seed=3)
    version = x._version
    assert ft.dropout(x, 0.4, inplace=True, seed=3) is x
    assert torch.equal(x, wanted)
    assert x._version > version
    leaf = randn(4, 5).requires_grad_()
    ft.dropout(leaf * 1, 0.4, inplace=True, seed=3).sum().backward()
    assert equal(leaf.grad, fastdrop.dropout(np.ones((4, 5), np.float32), 0.4, seed=3))


def test_inference_mode():
    with torch.inference_mode():
        x = randn(4, 5)
        wanted = ft.dropout(x, 0.4, seed=3)
        assert torch.equal(ft.dropout(x, 0.4, inplace=True, seed=3), wanted)


def test_tensors_that_outlived_their_transform():
    kept = []
    torch.func.grad(lambda x: kept.append(x) or x.sum())(randn(8))
    assert torch.equal(ft.dropout(kept[0], 0.4, seed=3), ft.dropout(randn(8), 0.4, seed=3))


def test_tensors_without_storage():
    """They raise; reading at address 0 would end the process."""
    x = randn(8)
    x.untyped_storage().resize_(0)
    for nothing in (x, torch._efficientzerotensor(8)):
        with pytest.raises((ValueError, RuntimeError), match=r"storage|address"):
            ft.dropout(nothing, 0.4, seed=3)


def test_in_place_and_used_twice():
    leaf = randn(4, 5).requires_grad_()
    between = leaf.exp()  # which saves its result
    ft.dropout(between, 0.4, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        between.sum().backward()


# Bad input ----------------------------------------------------------------------------------------------------------

FLOATS = "torch.float32, torch.float64, torch.float16, torch.bfloat16"
BAD = {
    "int": (lambda: (torch.ones(3, dtype=torch.int64),), {}, TypeError, f"must have dtype {FLOATS}; got torch.int64"),
    "bool": (lambda: (torch.ones(3, dtype=torch.bool),), {}, TypeError, f"must have dtype {FLOATS}; got torch.bool"),
    "complex": (lambda: (torch.ones(3, dtype=torch.complex64),), {}, TypeError, f"must have dtype {FLOATS}"),
    "float8": (lambda: (torch.ones(3).to(torch.float8_e5m2),), {}, TypeError, f"must have dtype {FLOATS}"),
    "no tensor": (lambda: (np.ones(3, np.float32),), {}, TypeError, "input must be a torch.Tensor; got ndarray"),
    "p above": (lambda: (torch.ones(3), 1.5), {}, ValueError, "p must be in [0, 1], the probability of dropping; got 1.5"),
    "p below": (lambda: (torch.ones(3), -0.1), {}, ValueError, "p must be in [0, 1], the probability of dropping; got -0.1"),
    "p nan": (
        lambda: (torch.ones(3), float("nan")),
        {},
        ValueError,
        "p must be in [0, 1], the probability of dropping; got nan",
    ),
    "p bool": (lambda: (torch.ones(3), True), {}, TypeError, "p must be a number in [0, 1]"),
    "p text": (lambda: (torch.ones(3), "0.5"), {}, TypeError, "p must be a number in [0, 1]"),
    "training": (lambda: (torch.ones(3), 0.5, "no"), {}, TypeError, "training must be True or False"),
    "sparse": (
        lambda: (torch.ones(3).to_sparse(),),
        {},
        TypeError,
        "dense tensor, of layout torch.strided; got a tensor of layout torch.sparse_coo",
    ),
    "nested": (lambda: (torch.nested.nested_tensor([torch.ones(3), torch.ones(2)]),), {}, TypeError, "layout nested"),
    "jagged": (
        lambda: (torch.nested.nested_tensor([torch.ones(3), torch.ones(2)], layout=torch.jagged),),
        {},
        TypeError,
        "layout nested",
    ),
    "two seeds": (
        lambda: (torch.ones(3),),
        {"seed": 1, "generator": torch.Generator()},
        ValueError,
        "seed and generator both define the key; give only one of them",
    ),
    "no generator": (lambda: (torch.ones(3),), {"generator": 3}, TypeError, "generator must be a torch.Generator; got int"),
    "seed text": (lambda: (torch.ones(3),), {"seed": "x"}, TypeError, "seed must be an integer in [0, 2**64)"),
    "seed negative": (lambda: (torch.ones(3),), {"seed": -1}, ValueError, "seed must be an integer in [0, 2**64)"),
    "seed float tensor": (
        lambda: (torch.ones(3),),
        {"seed": torch.tensor(1.0)},
        TypeError,
        "a tensor as seed must be of int64",
    ),
    "seed shape": (lambda: (torch.ones(3),), {"seed": torch.tensor([1, 2, 3])}, TypeError, "a tensor as seed must be of int64"),
    "two offsets": (
        lambda: (torch.ones(3),),
        {"seed": torch.tensor([1, 2]), "offset": 3},
        ValueError,
        "a key as seed has its own offset",
    ),
    "offset": (lambda: (torch.ones(3),), {"offset": -1}, ValueError, "offset must be an integer in [0, 2**64)"),
    "axes": (lambda: (torch.ones(3),), {"shared_axes": 1}, ValueError, "shared_axes (1,) are out of range"),
    "noise": (lambda: (torch.ones(3),), {"noise_shape": (2,)}, ValueError, "noise_shape (2,) does not broadcast"),
    "block": (lambda: (torch.ones(3),), {"global_shape": (2,)}, ValueError, "is not inside global_shape"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    """The kind of error and its sentence; and nothing is drawn."""
    make, options, error, sentence = BAD[name]
    arguments, before = make(), state()
    with pytest.raises(error) as found:
        ft.dropout(*arguments, **options)
    assert sentence in str(found.value)
    assert torch.equal(before, state())


@pytest.mark.filterwarnings("ignore")
def test_quantized():
    x, before = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8), state()
    with pytest.raises(TypeError, match="layout quantized"):
        ft.dropout(x)
    assert torch.equal(before, state())


def test_device():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True):
        x, before = torch.empty(3, device="cuda"), torch.tensor(0)
        with pytest.raises(NotImplementedError, match=r"input is on cuda:0: call torch.nn.functional.dropout there"):
            ft.dropout(x)
        with pytest.raises(NotImplementedError, match=r"input is on cuda:0: call input.cpu\(\) first"):
            ft.drop_path(x, 0.5, True)
    assert before == 0


def test_generator_of_another_device():
    class Elsewhere(torch.Generator):
        device = torch.device("cuda")

    before = state()
    with pytest.raises(ValueError, match="generator must be one of the CPU"):
        ft.dropout(torch.ones(3), generator=Elsewhere())
    assert torch.equal(before, state())


def test_shapes_without_memory():
    from torch._subclasses.fake_tensor import FakeTensorMode

    before = state()
    for name in FUNCTIONS:
        x = torch.empty(SHAPES.get(name, (3, 5)), device="meta")
        y = getattr(ft, name)(x, 0.5, True)
        assert (y.shape, y.device.type) == (x.shape, "meta")
        with FakeTensorMode():
            x = torch.empty(SHAPES.get(name, (3, 5)))
            assert getattr(ft, name)(x, 0.5, True).shape == x.shape
    assert torch.equal(before, state())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_in_place_refusals(name):
    shape = SHAPES.get(name, (3, 5))
    leaf, before = torch.ones(shape, requires_grad=True), state()
    single = torch.ones(1).expand(shape)
    for x, sentence in (
        (leaf, "a leaf Variable that requires grad is being used in an in-place operation"),
        (leaf[:], "a view of a leaf Variable that requires grad is being used in an in-place operation"),
        (single, "more than one element of the written-to tensor refers to a single memory location"),
    ):
        with pytest.raises(RuntimeError, match=sentence):
            getattr(ft, name)(x, 0.5, True, True)
        assert (x == 1).all()
    assert torch.equal(before, state())


def test_operands_that_do_not_fit():
    x, before = torch.ones(3, 4), state()
    for residual, bias, error, sentence in (
        (torch.ones(4, 3), None, ValueError, r"residual must have the shape \(3, 4\)"),
        (torch.ones(3, 4).double(), None, TypeError, "residual must have the dtype of input"),
        (x, torch.ones(3), ValueError, r"bias must have the shape \(4,\)"),
        (x, torch.ones(4).half(), TypeError, "bias must have the dtype of input"),
        (3, None, TypeError, "residual must be a torch.Tensor; got int"),
    ):
        with pytest.raises(error, match=sentence):
            ft.dropout_add(x, residual, 0.5, bias)
    with pytest.raises(TypeError, match="there is no option sede"):
        ft.dropout_add(x, x, 0.5, sede=3)
    assert torch.equal(before, state())


@pytest.mark.parametrize("name", ["dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout"])
def test_dimensions(name):
    before = state()
    with pytest.raises(ValueError, match="input must have"):
        getattr(ft, name)(torch.ones(3), 0.5, True)
    with pytest.raises(ValueError, match="shares decisions along axes of its own"):
        getattr(ft, name)(torch.ones(SHAPES[name]), 0.5, True, shared_axes=0)
    assert torch.equal(before, state())


@pytest.mark.parametrize(
    ("name", "shape"),
    [("dropout2d", (64, 3)), ("dropout2d", (8, 9, 4)), ("dropout2d", (8, 9, 2, 3, 2)), ("dropout3d", (8, 9, 4)),
     ("dropout3d", (8, 9, 2, 3, 2, 2))],
)  # fmt: skip
def test_other_dimensions_warn_as_in_pytorch(name, shape):
    x = torch.ones(shape)
    with pytest.warns(UserWarning, match=f"got {len(shape)} dimensions, which are taken as"):
        y = getattr(ft, name)(x, 0.5, True, seed=3)
    assert torch.equal(y, ft.dropout(x, 0.5, True, seed=3, shared_axes=tuple(range(2, len(shape)))))
    torch._dynamo.reset()
    with pytest.warns(UserWarning, match="which are taken as"):
        compiled = torch.compile(lambda x: getattr(ft, name)(x, 0.5, True, seed=3), fullgraph=True, backend="aot_eager")(x)
    assert torch.equal(y, compiled)


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


# Layers -------------------------------------------------------------------------------------------------------------

LAYERS = {
    "Dropout": (3, 4), "Dropout1d": (2, 3, 4), "Dropout2d": (2, 3, 4, 4), "Dropout3d": (2, 3, 4, 4, 4), "AlphaDropout": (3, 4),
    "FeatureAlphaDropout": (2, 3, 4), "LockedDropout": (4, 2, 3), "DropPath": (8, 3), "GaussianDropout": (3, 4),
    "DropBlock2d": (2, 3, 9, 9), "ConcreteDropout": (3, 4),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    kind, x = getattr(ft, name), randn(*LAYERS[name])
    layer = kind(0.5)
    torch.manual_seed(0)
    first, second = layer(x), layer(x)
    torch.manual_seed(0)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)
    assert layer.eval()(x) is x
    assert "key" not in layer.state_dict()
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\]"):
        kind(2.0)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_count_their_calls(name):
    kind, x, before = getattr(ft, name), randn(*LAYERS[name]), state()
    layer = kind(0.5, seed=SEED)
    first, second = layer(x), layer(x)
    other = kind(0.5, seed=1)
    kept = io.BytesIO()
    torch.save(layer.state_dict(), kept)
    kept.seek(0)
    third = layer(x)
    other.load_state_dict(torch.load(kept))
    for resumed in (other, copy.deepcopy(other), pickle.loads(pickle.dumps(other))):
        assert torch.equal(resumed(x), third)
    again = kind(0.5, seed=SEED)
    assert torch.equal(again(x), first)
    assert torch.equal(again(x), second)
    again.eval()
    again(x)
    assert f"seed={SEED}, calls=2" in repr(again)
    assert torch.equal(before, state())


def test_layers_with_names_and_options():
    x = randn(3, 4)
    assert torch.equal(ft.Dropout(seed=7, name="a")(x), ft.dropout(x, seed=fastdrop.fold_in(7, "a")))
    assert torch.equal(ft.Dropout(seed=7, shared_axes=1)(x), ft.dropout(x, seed=7, shared_axes=1))
    assert torch.equal(
        ft.Dropout(generator=torch.Generator().manual_seed(2))(x), ft.dropout(x, generator=torch.Generator().manual_seed(2))
    )
    with pytest.raises(ValueError, match="name needs a seed"):
        ft.Dropout(name="a")
    with pytest.raises(ValueError, match="seed and generator both define the key; give only one of them"):
        ft.Dropout(seed=1, generator=torch.Generator())


def test_weight_drop():
    lstm = nn.LSTM(4, 5)
    layer, x = ft.WeightDrop(lstm, "weight_hh_l0", 0.5, seed=3), randn(3, 2, 4)
    y, _ = layer(x)
    y.sum().backward()
    kept = torch.from_numpy(fastdrop.dropout_mask((20, 5), 0.5, seed=3))
    assert (lstm.weight_hh_l0.grad[~kept] == 0).all()
    assert (lstm.weight_hh_l0.grad[kept] != 0).any()
    same = nn.LSTM(4, 5)
    same.load_state_dict(lstm.state_dict())
    with torch.no_grad():
        same.weight_hh_l0.copy_(ft.weight_drop(lstm.weight_hh_l0, 0.5, seed=3))
    assert torch.allclose(same(x)[0], y)
    assert torch.allclose(layer.eval()(x)[0], lstm(x)[0])
    with pytest.raises(ValueError, match="LSTM has no parameter weight"):
        ft.WeightDrop(lstm, "weight")


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
