"""Functions with operators of their own: noise, blocks, keys, looked-up words, a learned rate."""

import numpy as np
import pytest

import fastdrop

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch_calls import DTYPES, KEY, equal, randn, to_numpy  # noqa: E402

import fastdrop.torch as ft  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # PyTorch warns of what `forward_ad` scripts


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


ROWS = [
    {"unit": "key"},
    {"unit": "key", "window": 3, "shared_axes": (0, 1)},
    {"unit": "key", "renormalize": False, "shared_axes": 1},
    {"window": 2, "exact_rate": False},
    {"renormalize": True},
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", ROWS, ids=str)
@pytest.mark.parametrize("p", [0.4, 1.0])
def test_attention_by_rows(dtype, options, p):
    x, grad = (randn(2, 3, 4, 7, dtype=dtype) for _ in range(2))
    x = x.softmax(-1).requires_grad_()
    y = ft.attention_dropout(x, p, **options, **KEY)
    assert equal(y, fastdrop.attention_dropout(to_numpy(x), p, **options, **KEY))
    y.backward(grad)
    assert equal(x.grad, fastdrop.attention_dropout_backward(to_numpy(grad), p, x=to_numpy(x), **options, **KEY))
    assert ft.attention_dropout(x, p, False, **options) is x
    assert ft.attention_dropout(x, 0.0, **options) is x


@pytest.mark.parametrize("options", ROWS, ids=str)
def test_gradients_of_attention_by_rows(options):
    function = lambda x: ft.attention_dropout(x, 0.4, seed=3, **options)  # noqa: E731
    x = randn(1, 2, 2, 5, dtype=torch.float64).softmax(-1).requires_grad_()
    assert torch.autograd.gradcheck(function, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, x, check_fwd_over_rev=True)
    cubes = lambda x: (function(x) ** 3).sum()  # noqa: E731
    batch = torch.stack([x, x / 2]).detach()
    for hessian, one in zip(torch.vmap(torch.func.hessian(cubes))(batch), batch, strict=True):
        assert torch.allclose(hessian, torch.autograd.functional.hessian(cubes, one))


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


@pytest.mark.parametrize("size", [np.int64(2), 2**62])
def test_any_integer_is_a_block_size(size):
    x = randn(2, 3, 4, 5)
    assert equal(ft.drop_block2d(x, 0.4, size, seed=3), fastdrop.drop_block(x.numpy(), 0.4, size, seed=3))


def test_words_of_a_batch():
    """Each example has its own tokens, under one key."""
    x, tokens = randn(3, 2, 4, 5), torch.randint(6, (3, 2, 4), generator=torch.Generator().manual_seed(1))
    function = lambda x, tokens: ft.embedding_dropout(x, 0.4, tokens=tokens, num_embeddings=6, seed=3)  # noqa: E731
    wanted = torch.stack([function(*each) for each in zip(x, tokens, strict=True)])
    assert torch.equal(torch.vmap(function, randomness="same")(x, tokens), wanted)


def test_bfloat16_without_a_type_in_numpy():
    x = randn(2, 3, 9, 9, dtype=torch.bfloat16)
    for ours in (lambda x: ft.gaussian_dropout(x, 0.3, seed=1), lambda x: ft.drop_block2d(x, 0.3, 3, seed=1)):
        assert torch.equal(ours(x), ours(x.float()).bfloat16())


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
