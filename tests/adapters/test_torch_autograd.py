"""Gradients of any order, transforms, checkpoints, results in place."""

import contextlib
import threading

import numpy as np
import pytest

import fastdrop

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch_calls import equal, randn, state  # noqa: E402

import fastdrop.torch as ft  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # PyTorch warns of what `forward_ad` scripts

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
    assert torch.autograd.gradcheck(CALLS[name], x, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(CALLS[name], x, check_fwd_over_rev=True, check_batched_grad=True)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("strategy", ["reverse-mode", "forward-mode"])
def test_vectorized_jacobian(name, strategy):
    x = randn(3, 4, dtype=torch.float64)
    vectorized = torch.autograd.functional.jacobian(CALLS[name], x, vectorize=True, strategy=strategy)
    assert torch.equal(vectorized, torch.autograd.functional.jacobian(CALLS[name], x))


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


@pytest.mark.parametrize("name", [*CALLS, "concrete", "rows"])
def test_functionalize(name):
    calls = {
        "concrete": lambda x: ft.concrete_dropout(x, torch.zeros((), dtype=x.dtype), seed=3),
        "rows": lambda x: ft.attention_dropout(x[None, None], 0.4, unit="key", seed=3),
    }
    function = {**CALLS, **calls}[name]
    x, leaf = (randn(3, 4, dtype=torch.float64).requires_grad_() for _ in range(2))
    y, wanted = torch.func.functionalize(function)(x), function(leaf)
    y.sum().backward()
    wanted.sum().backward()
    assert torch.equal(y, wanted)
    assert torch.equal(x.grad, leaf.grad)


def test_functionalize_draws_as_eager_code():
    torch.manual_seed(0)
    y = torch.func.functionalize(ft.dropout)(torch.ones(64))
    torch.manual_seed(0)
    assert torch.equal(y, ft.dropout(torch.ones(64)))
    x = torch.ones(64)
    torch.func.functionalize(lambda x: ft.dropout(x, 0.5, inplace=True, seed=42))(x)
    assert torch.equal(x, ft.dropout(torch.ones(64), 0.5, seed=42))


@pytest.mark.parametrize("wanted", ["x", "residual", "bias"])
@pytest.mark.parametrize("options", [{"seed": 3}, {}], ids=["a seed", "a draw"])
def test_one_operand_of_an_addition_requires_a_gradient(wanted, options):
    operands = {"x": randn(6, 8), "residual": randn(6, 8), "bias": randn(8)}
    operand = operands[wanted].requires_grad_()
    y = ft.dropout_add(**operands, p=0.4, **options)
    factor = (y.detach() != operands["residual"]) / 0.6
    (found,) = torch.autograd.grad(y.sum(), operand)
    torch.testing.assert_close(found, {"x": factor, "residual": torch.ones(6, 8), "bias": factor.sum(0)}[wanted])


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
    default = torch.default_generator  # which a checkpoint restores
    checkpoint(lambda x: ft.dropout(x, 0.5, generator=default).exp(), x, **mode).sum().backward()


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (ft.dropout, {"offset": 0}),
        (ft.dropout, {"seed": 3, "offset": 0}),
        (ft.dropout, {"seed": 3, "shared_axes": [1]}),
        (ft.dropout, {"seed": 3, "global_shape": [16, 8], "global_start": [4, 0]}),
        (ft.gaussian_dropout, {"offset": 0}),
        (ft.gaussian_dropout, {"seed": 3, "offset": 0}),
    ],
)
@pytest.mark.parametrize("make", [torch.tensor, np.array])
def test_numbers_that_change_before_the_backward_pass(function, options, make):
    """A counter of steps as offset, for example."""
    given = {name: value if name == "seed" else make(value) for name, value in options.items()}
    x = torch.ones(4, 8, requires_grad=True)
    y = function(x, 0.5, **given)
    for name in given.keys() - {"seed"}:
        given[name][...] = 0 if name == "shared_axes" else 9
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


@pytest.mark.parametrize("mode", [{"use_reentrant": True}, {"use_reentrant": False}], ids=str)
@pytest.mark.parametrize("name", ["dropout", "gaussian_dropout"])
@pytest.mark.parametrize(
    "options",
    [
        lambda: {"seed": fastdrop.Stream(0)},
        lambda: {"seed": np.random.default_rng(0)},
        lambda: {"seed": np.random.PCG64(0)},
        lambda: {"generator": torch.Generator().manual_seed(1)},
    ],
)
def test_checkpoints_of_what_has_a_state(options, name, mode):
    """A checkpoint restores only the state of PyTorch's generator. Where nothing is drawn, nothing is refused."""
    from torch.utils.checkpoint import checkpoint

    given, function, x = options(), getattr(ft, name), torch.ones(8, requires_grad=True)
    checkpoint(lambda x: torch.sin(function(x, 0.5, False, **given)), x, **mode).sum().backward()
    y = checkpoint(lambda x: torch.sin(function(x, 0.5, **given)), x, **mode)
    with pytest.raises(RuntimeError, match=r"(seed|generator) has a state, which each call changes, and a checkpoint"):
        y.sum().backward()


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


def test_vmap_of_examples_without_axes():
    """Each has the bias, which is one number."""
    x, residual, bias = randn(1000), randn(1000) + 1, torch.tensor(3.0)
    y = torch.vmap(lambda x, residual: ft.dropout_add(x, residual, 0.5, bias, seed=1))(x, residual)
    wanted = [ft.dropout_add(x[i], residual[i], 0.5, bias, seed=1) for i in range(1000)]
    assert torch.equal(y, torch.stack(wanted))
    assert not torch.equal(y, residual)


def test_vmap_of_nothing():
    """A batch without elements has the shapes of the results."""
    x, y = torch.zeros(0, 3), torch.zeros(2, 0, 3)
    assert torch.vmap(lambda x: ft.gaussian_dropout(x, 0.5, seed=1))(x).shape == (0, 3)
    assert torch.vmap(lambda x: ft.concrete_dropout(x, torch.zeros(()), seed=1), 1)(y).shape == (0, 2, 3)
    assert torch.vmap(lambda seed: ft.dropout(torch.ones(3), 0.5, seed=seed))(torch.arange(0)).shape == (0, 3)


@pytest.mark.parametrize("function", [ft.dropout, ft.gaussian_dropout])
@pytest.mark.parametrize("way", [lambda function: function, lambda function: torch.compile(function, backend="aot_eager")])
def test_a_seed_may_change_before_the_backward_pass(function, way):
    call = way(lambda x, key: function(x, 0.5, seed=key))
    key, leaf = torch.tensor([3, 0]), torch.ones(64, requires_grad=True)
    y = call(leaf, key)
    key[1] += 1
    y.sum().backward()
    assert torch.equal(leaf.grad, y.detach())
    y, pull = torch.func.vjp(lambda x: function(x, 0.5, seed=key), torch.ones(64))
    key[1] += 1
    assert torch.equal(pull(torch.ones(64))[0], y)


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


def test_in_place_in_forward_mode():
    x, tangent = randn(4, 5), randn(4, 5) + 1
    wanted = ft.dropout(tangent, 0.4, seed=3)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, tangent)
        y = torch.autograd.forward_ad.unpack_dual(ft.dropout(dual * 1, 0.4, inplace=True, seed=3))
    assert torch.equal(y.primal, ft.dropout(x, 0.4, seed=3))
    assert torch.equal(y.tangent, wanted)


class Subclass(torch.Tensor):
    pass


TANGENTS = {
    "dropout": lambda x: ft.dropout(x, 0.4, seed=3),
    "dropout in place": lambda x: ft.dropout(x * 1, 0.4, inplace=True, seed=3),
    "add": lambda x: ft.dropout_add(x, 2 * x, 0.4, x[0], seed=3),
    "gaussian": lambda x: ft.gaussian_dropout(x, 0.4, seed=3),
    "concrete": lambda x: ft.concrete_dropout(x, x.new_zeros(()), seed=3),
    "rows": lambda x: ft.attention_dropout(x.exp()[None, None], 0.4, unit="key", seed=3),
}
WAYS = {
    "mode": lambda function: function,
    "negated": lambda function: function,
    "subclass": lambda function: function,
    "aot_eager": lambda function: torch.compile(function, backend="aot_eager"),
    "eager backend": lambda function: torch.compile(function, backend="eager"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", TANGENTS)
def test_forward_mode_of_tensors_of_all_kinds(name, way):
    """The tangent is that of a plain tensor."""
    from torch.utils.flop_counter import FlopCounterMode

    forward_ad, function = torch.autograd.forward_ad, TANGENTS[name]
    x, tangent = randn(3, 4), randn(3, 4) + 1
    _, wanted = torch.func.jvp(function, (x,), (tangent,))
    mode = FlopCounterMode(display=False) if way == "mode" else contextlib.nullcontext()
    if way == "negated":
        x = torch.complex(x, -x).conj().imag
    if way == "subclass":
        x = x.as_subclass(Subclass)
    with forward_ad.dual_level(), mode:
        found = forward_ad.unpack_dual(WAYS[way](function)(forward_ad.make_dual(x, tangent))).tangent
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("way", ["eager", "func", "mode"])
@pytest.mark.parametrize("which", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)], ids=str)
def test_tangents_of_some_operands(which, way):
    """The result is linear in its operands; a change of it in place changes no other tangent."""
    from torch.utils.flop_counter import FlopCounterMode

    forward_ad = torch.autograd.forward_ad
    operands, tangents = [randn(3, 4), randn(3, 4) + 1, randn(4)], [randn(3, 4), randn(3, 4) + 1, randn(4)]
    zeroed = [each if k in which else torch.zeros_like(each) for k, each in enumerate(tangents)]
    wanted = 2 * ft.dropout_add(zeroed[0], zeroed[1], 0.4, zeroed[2], seed=3)
    given = [each.clone() for each in tangents]

    def function(*some):
        x, residual, bias = [some[which.index(k)] if k in which else operands[k] for k in range(3)]
        return ft.dropout_add(x, residual, 0.4, bias, seed=3).mul_(2)

    if way == "func":
        _, found = torch.func.jvp(function, tuple(operands[k] for k in which), tuple(given[k] for k in which))
    else:
        with forward_ad.dual_level(), FlopCounterMode(display=False) if way == "mode" else contextlib.nullcontext():
            y = function(*(forward_ad.make_dual(operands[k], given[k]) for k in which))
            found = forward_ad.unpack_dual(y).tangent
    torch.testing.assert_close(found, wanted)
    assert all(torch.equal(*pair) for pair in zip(given, tangents, strict=True))


def test_in_place_under_vmap():
    x = randn(3, 5)
    wanted = torch.func.vmap(lambda x: ft.dropout(x, 0.4, seed=3))(x)
    assert torch.equal(torch.func.vmap(lambda x: ft.dropout(x * 1, 0.4, inplace=True, seed=3))(x), wanted)


def test_inference_mode():
    with torch.inference_mode():
        x = randn(4, 5)
        wanted = ft.dropout(x, 0.4, seed=3)
        assert torch.equal(ft.dropout(x, 0.4, inplace=True, seed=3), wanted)
    before = state()
    with pytest.raises(RuntimeError, match="outside InferenceMode"):  # as PyTorch's functions refuse it
        ft.dropout(x, 0.4, inplace=True)
    assert torch.equal(x, wanted)
    assert torch.equal(before, state())


def test_a_thread_that_begins_in_inference_mode():
    made = []

    def run():
        with torch.inference_mode():
            ft.dropout(torch.ones(3))
        made.append(ft.dropout(torch.ones(3)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(made) == 1


def test_tensors_that_outlived_their_transform():
    kept = []
    torch.func.grad(lambda x: kept.append(x) or x.sum())(randn(8))
    assert torch.equal(ft.dropout(kept[0], 0.4, seed=3), ft.dropout(randn(8), 0.4, seed=3))


def test_zero_tensors():
    """PyTorch gives them memory once it is needed, also those that are gradients."""
    zero, x, before = torch._efficientzerotensor(8), randn(8).requires_grad_(), state()
    for function in (ft.dropout, ft.gaussian_dropout):
        assert torch.equal(function(zero, 0.4, seed=3), torch.zeros(8))
        assert torch.equal(function(zero[2:], 0.4, seed=3), torch.zeros(6))  # its address is 8
        (grad,) = torch.autograd.grad(function(x, 0.4, seed=3), x, zero)
        assert torch.equal(grad, torch.zeros(8))
    with pytest.raises(RuntimeError, match="a zero tensor has no memory"):
        ft.dropout(zero, 0.4, inplace=True)
    assert torch.equal(before, state())


def test_in_place_and_used_twice():
    leaf = randn(4, 5).requires_grad_()
    between = leaf.exp()  # which saves its result
    ft.dropout(between, 0.4, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        between.sum().backward()
