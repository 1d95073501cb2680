"""PyTorch's compiler and exporter: no graph breaks, eager's masks, right gradients."""

import numpy as np
import pytest

import fastdrop

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch import library  # noqa: E402
from torch_calls import LAYERS  # noqa: E402

import fastdrop.torch as ft  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]

SHAPE = (2, 3, 4, 4)
SOME_KEY = fastdrop.Key(3, 7)


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()


def randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def seeded(function, *inputs):
    torch.manual_seed(5)
    return function(*inputs)


ALLOWED = torch.ones(4, 4, dtype=torch.bool).tril()
TOKENS = torch.tensor([[0, 1, 8, 1], [2, 2, 3, 8], [0, 0, 0, 0]])

CALLS = {
    "dropout": lambda x: ft.dropout(x, 0.4),
    "dropout1d": lambda x: ft.dropout1d(x[0], 0.4),
    "dropout2d": lambda x: ft.dropout2d(x, 0.4),
    "dropout3d": lambda x: ft.dropout3d(x, 0.4),
    "alpha_dropout": lambda x: ft.alpha_dropout(x, 0.4, True),
    "feature_alpha_dropout": lambda x: ft.feature_alpha_dropout(x, 0.4, True),
    "locked_dropout": lambda x: ft.locked_dropout(x, 0.4),
    "drop_path": lambda x: ft.drop_path(x, 0.4, True, False),
    "noise_shape": lambda x: ft.dropout(x, 0.4, noise_shape=(None, 1, 4, 1)),
    "negative axis": lambda x: ft.dropout(x, 0.4, shared_axes=-1),
    "place": lambda x: ft.dropout(x, 0.4, global_shape=(5, 3, 4, 4), global_start=(2, 0, 0, 0)),
    "seed": lambda x: ft.dropout(x, 0.4, seed=2**63 + 1, offset=7),
    "key": lambda x: ft.dropout(x, 0.4, seed=SOME_KEY),
    "two draws": lambda x: ft.dropout(ft.dropout(x, 0.4), 0.4) + ft.dropout(x, 0.4),
    "in place": lambda x: ft.dropout(x * 1, 0.4, inplace=True),
    "dropout_add": lambda x: ft.dropout_add(x, x + 1, 0.4, x[0, 0, 0]),
    "gaussian_dropout": lambda x: ft.gaussian_dropout(x, 0.4),
    "drop_block2d": lambda x: ft.drop_block2d(x, 0.4, 2),
    "drop_key": lambda x: ft.drop_key(x, 0.4, shared_axes=1, fill=-2.0, allowed=ALLOWED),
    "embedding_dropout": lambda x: ft.embedding_dropout(x[0], 0.4, tokens=TOKENS, num_embeddings=9),
    "attention by keys": lambda x: ft.attention_dropout(x, 0.4, unit="key", shared_axes=1),
    "attention by windows": lambda x: ft.attention_dropout(x.exp(), 0.4, window=2),
    "concrete_dropout": lambda x: ft.concrete_dropout(x, x.mean(), 0.5),
    "attention": lambda x: ft.scaled_dot_product_attention(x, x, x, dropout_p=0.4, is_causal=True),
}


@pytest.mark.parametrize("name", CALLS)
def test_compiled_is_eager(name):
    """One graph, with the masks and the gradients of eager mode under the same seed."""
    function = CALLS[name]
    x = randn(*SHAPE).requires_grad_()
    compiled = torch.compile(function, fullgraph=True)
    y, wanted = seeded(compiled, x), seeded(function, x)
    assert torch.equal(y == 0, wanted == 0)
    assert torch.allclose(y, wanted, rtol=1e-6, atol=1e-7)
    dy = randn(*y.shape)
    found, wanted = (torch.autograd.grad(each, x, dy)[0] for each in (y, wanted))
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert torch.equal(seeded(compiled, x) == 0, y == 0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_dtypes(dtype):
    x = randn(4, 5).to(dtype)
    compiled = torch.compile(lambda x: ft.dropout(x, 0.4), fullgraph=True)
    assert torch.equal(seeded(compiled, x), seeded(lambda x: ft.dropout(x, 0.4), x))


def test_changing_shapes_and_seeds():
    compiled = torch.compile(lambda x, seed: ft.dropout(x, 0.4, seed=seed), fullgraph=True)
    for n in (3, 5, 8):
        for seed in (torch.tensor(n), torch.tensor([n, 2])):
            assert torch.equal(compiled(randn(n, 4), seed), ft.dropout(randn(n, 4), 0.4, seed=seed))
    compiled = torch.compile(lambda x, seed, step: ft.dropout(x, 0.4, seed=seed, offset=step), fullgraph=True)
    for step in range(5):
        assert torch.equal(compiled(randn(4), 3 + step, step), ft.dropout(randn(4), 0.4, seed=3 + step, offset=step))


@pytest.mark.parametrize("name", ["Dropout", "AlphaDropout", "FeatureAlphaDropout"])
def test_rates_that_change(name):
    """After some changes the compiler makes a rate symbolic."""
    layer = getattr(ft, name)(0.5)
    compiled, x = torch.compile(layer, backend="aot_eager", fullgraph=True), randn(2, 3, 4)
    for layer.p in (0.1, 0.2, 0.3, 0.4):
        assert torch.equal(seeded(compiled, x), seeded(layer, x))


@pytest.mark.parametrize("name", ["alpha_dropout", "dropout_add", "gaussian_dropout", "concrete_dropout", "attention by keys"])
def test_compiled_backward_pass(name):
    """Of an eager forward pass, as a graph without breaks."""
    gradients = []
    for compiles in (False, True):
        x = randn(*SHAPE).requires_grad_()
        with torch._dynamo.utils.maybe_enable_compiled_autograd(compiles, fullgraph=True, dynamic=False):
            seeded(CALLS[name], x).sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients)  # sums may be in another order


def test_layouts():
    x = randn(*SHAPE).to(memory_format=torch.channels_last)
    compiled = torch.compile(lambda x: ft.dropout2d(x, 0.4, seed=3), fullgraph=True)
    assert torch.equal(compiled(x), ft.dropout2d(x, 0.4, seed=3))
    x = randn(*SHAPE).transpose(1, 3)[:, ::2]
    assert torch.equal(compiled(x), ft.dropout2d(x, 0.4, seed=3))


def test_layers_count_in_a_graph():
    eager, compiled = (ft.Dropout(0.4, seed=3) for _ in range(2))
    run = torch.compile(compiled, fullgraph=True)
    for _ in range(4):
        assert torch.equal(run(randn(4, 5)), eager(randn(4, 5)))
    assert compiled.state_dict()["key"].tolist() == [3, 4]


SHIFTED = ("AlphaDropout", "FeatureAlphaDropout")  # a x + b: the gradient is not the result for ones


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_layers_that_count(name):
    """Each call has the gradient of its own mask with the default compiler, which counts the call in the same graph."""
    layer, eager = (getattr(ft, name)(0.5, seed=3) for _ in range(2))
    run, x = torch.compile(layer, fullgraph=True), torch.ones(LAYERS[name], requires_grad=True)
    results, wanted = ([function(x) for _ in range(2)] for function in (run, eager))
    for y, correct in zip(results, wanted, strict=True):
        (dx,), (correct_dx,) = (torch.autograd.grad(each.sum(), x) for each in (y, correct))
        assert torch.allclose(y, correct)
        assert torch.allclose(dx, correct_dx)
        assert name in SHIFTED or torch.allclose(dx, y.detach())
    assert not torch.equal(*results)
    assert layer.key.tolist() == [3, 2]


def test_gradients_of_dropped_weights():
    inner = torch.nn.Linear(8, 8, bias=False)
    run = torch.compile(ft.WeightDrop(inner, "weight", 0.5, seed=3), fullgraph=True)
    y = run(torch.eye(8))  # the dropped weight, transposed
    y.sum().backward()
    assert torch.equal(inner.weight.grad, 2 * (y.detach().T != 0).float())


def test_a_seed_that_changes_in_the_graph():
    def function(x, step):
        for layer in range(3):
            x = torch.tanh(ft.dropout(x, 0.5, seed=step, offset=layer)) @ weight
        step.add_(1)
        return x

    weight, x = randn(8, 8), randn(4, 8).requires_grad_()
    found, wanted = (
        torch.autograd.grad(each(x, torch.tensor(3)).pow(2).sum(), x)[0]
        for each in (torch.compile(function, fullgraph=True), function)
    )
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("p", [1.5, -0.1, float("nan"), True, "0.5"])
def test_wrong_rates(p):
    """The error of eager mode, and nothing drawn."""
    before = torch.get_rng_state()
    with pytest.raises((ValueError, TypeError)) as wanted:
        ft.dropout(randn(4), p)
    with pytest.raises(wanted.type) as found:
        torch.compile(lambda x: ft.dropout(x, p))(randn(4))
    assert str(found.value) == str(wanted.value)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "call",
    [
        lambda x: ft.dropout(x.long()),
        lambda x: ft.dropout(x, seed=1, generator=torch.Generator()),
        lambda x: ft.dropout(x, training="no"),
        lambda x: ft.dropout(x, noise_shape=(3,)),
        lambda x: ft.dropout(x, seed=-1),
        lambda x: ft.dropout(x, seed=True),
        lambda x: ft.dropout(x, offset=-1),
        lambda x: ft.dropout(x, seed=3, offset=2**64),
        lambda x: ft.dropout_add(x, x[1:]),
    ],
)
def test_wrong_calls(call):
    before = torch.get_rng_state()
    with pytest.raises((ValueError, TypeError)) as wanted:
        call(randn(4))
    with pytest.raises(wanted.type) as found:
        torch.compile(call)(randn(4))
    assert str(found.value) == str(wanted.value)
    assert torch.equal(before, torch.get_rng_state())


def test_what_is_not_for_a_graph_runs_all_the_same():
    stream = fastdrop.Stream(3)
    compiled = torch.compile(lambda x: ft.dropout(x, 0.4, seed=stream) + 1)
    assert torch.equal(compiled(randn(8)), ft.dropout(randn(8), 0.4, seed=3) + 1)
    assert stream.offset == 1
    compiled = torch.compile(lambda x: torch.func.grad(lambda x: ft.dropout(x, 0.4, seed=3).pow(2).sum())(x))
    assert torch.allclose(compiled(randn(8)), 2 * ft.dropout(ft.dropout(randn(8), 0.4, seed=3), 0.4, seed=3))


# The operators ------------------------------------------------------------------------------------------------------


def test_opcheck():
    x, seed = randn(*SHAPE).requires_grad_(), torch.tensor(3)
    bias, residual = randn(4).requires_grad_(), randn(*SHAPE).requires_grad_()
    ops = torch.ops.fastdrop
    for function, arguments in (
        (ops.dropout, (x, None, None, seed, 0, 0.4, [], [], None, None)),
        (ops.dropout, (x, bias, residual, torch.tensor([3, 4]), 0, 0.4, [], [1], [4, 3, 4, 4], [2, 0, 0, 0])),
        (ops.dropout, (x, None, None, seed, 5, 0.4, [2.0, 1.0, 3.0], [], None, None)),
        (ops.variant, (x, seed, 0, "gaussian_dropout", [0.4])),
        (ops.variant, (x, seed, 0, "drop_block", [0.4, 2.0])),
        (ops.variant, (x, seed, 0, "drop_key", [0.4, -2.0, 1.0, 3.0], ALLOWED)),
        (ops.variant, (x[0], seed, 0, "embedding_dropout", [0.4, 9.0, 1.0], TOKENS)),
        (ops.concrete, (x, torch.tensor(-1.0, requires_grad=True), seed, 0, [0.5])),
        (ops.concrete_backward, (x.detach(), x.detach(), torch.tensor(-1.0), seed, 0, [0.5])),
        (ops.attention, (x, seed, 0, [0.4, 1.0, 2.0, 1.0, 0.0])),
        (ops.attention_backward, (x.detach(), x.detach(), seed, 0, [0.4, 0.0, 1.0, 1.0, 3.0])),
        (ops.uniform, (x.detach(), seed, 0)),
        (ops.snapshot, (seed, False)),
    ):
        found = library.opcheck(function.default, arguments)
        assert set(found.values()) == {"SUCCESS"}, (function, found)
    utils = ("test_schema", "test_faketensor")  # the others run it twice and compare
    found = library.opcheck(ops.draw.default, (0,), {"device": torch.device("cpu")}, test_utils=utils)
    assert set(found.values()) == {"SUCCESS"}
    assert torch.Tag.nondeterministic_seeded in ops.draw.default.tags


def test_lists_without_elements():
    """AOTInductor gives the operator None for them."""
    x = torch.ones(3, 4, requires_grad=True)
    y = torch.ops.fastdrop.dropout(x, None, None, torch.tensor(42), 0, 0.5, None, None, None, None)
    y.sum().backward()
    assert torch.equal(y, ft.dropout(torch.ones(3, 4), 0.5, seed=42))
    assert torch.equal(x.grad, y.detach())


@pytest.mark.parametrize("strict", [True, False])
def test_export(strict):
    class Model(torch.nn.Module):
        def forward(self, x):
            return ft.dropout(x, 0.4) + ft.dropout2d(x, 0.4) + ft.dropout(x, 0.4, seed=3)

    exported = torch.export.export(Model(), (randn(*SHAPE),), strict=strict)
    assert torch.equal(seeded(exported.module(), randn(*SHAPE)), seeded(Model(), randn(*SHAPE)))
    targets = [str(node.target) for node in exported.graph.nodes]
    assert targets.count("fastdrop.draw.default") == 2
    assert targets.count("fastdrop.dropout.default") == 3


class Called(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: ft.dropout(x, np.float32(0.5), np.bool_(True), seed=np.int64(4)),
        lambda x: ft.dropout(x, 0.5, shared_axes=np.int64(1), seed=4),
        lambda x: ft.gaussian_dropout(x, np.float32(0.5), seed=np.int64(4)),
    ],
)
def test_export_of_numbers_of_numpy(call):
    exported = torch.export.export(Called(call), (randn(3, 4),), strict=False)
    assert torch.equal(exported.module()(randn(3, 4)), call(randn(3, 4)))


@pytest.mark.parametrize(
    ("sentence", "call"),
    [
        (r"p must be in \[0, 1\]", lambda x: ft.dropout(x, 2.0)),
        ("must have dtype", lambda x: ft.dropout(x.int())),
        (r"p must be in \[0, 1\]", lambda x: ft.gaussian_dropout(x, 2.0)),
        ("generator has a state, which an exported program", lambda x: ft.dropout(x, generator=torch.Generator())),
        ("seed has a state, which an exported program", lambda x: ft.dropout(x, seed=fastdrop.Stream(0))),
        ("seed has a state, which an exported program", lambda x: ft.gaussian_dropout(x, seed=fastdrop.Stream(0))),
    ],
)
def test_export_of_what_is_refused(sentence, call):
    before = torch.get_rng_state()
    with pytest.raises((ValueError, TypeError, RuntimeError), match=sentence):
        torch.export.export(Called(call), (randn(3, 4),), strict=False)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.compiler.is_compiling()


def test_make_fx():
    from torch.fx.experimental.proxy_tensor import make_fx

    function = CALLS["two draws"]
    graph = make_fx(function)(randn(3, 4))
    assert torch.equal(seeded(graph, randn(3, 4)), seeded(function, randn(3, 4)))
    assert [str(node.target) for node in graph.graph.nodes].count("fastdrop.draw.default") == 3


@pytest.mark.parametrize("name", sorted(CALLS.keys() - {"place", "concrete_dropout"}))
@pytest.mark.parametrize("requires_grad", [False, True])
def test_jit_trace(name, requires_grad):
    """What is recorded draws at each call, and takes other numbers of samples."""
    x, more = (randn(n, *SHAPE[1:]).requires_grad_(requires_grad) for n in (2, 5))
    traced = torch.jit.trace(CALLS[name], x, check_trace=False)
    assert torch.equal(seeded(traced, more), seeded(CALLS[name], more))
    assert torch.equal(traced(more), traced(more)) == (name in ("seed", "key"))


def test_jit_trace_of_a_layer_that_counts():
    layer = ft.Dropout(0.5, seed=3)
    traced = torch.jit.trace(layer, torch.ones(64), check_trace=False)
    calls = int(layer.key[1])
    assert torch.equal(traced(torch.ones(64)), ft.dropout(torch.ones(64), 0.5, seed=3, offset=calls))
    assert torch.equal(traced(torch.ones(64)), ft.dropout(torch.ones(64), 0.5, seed=3, offset=calls + 1))


# What the compiler recomputes -----------------------------------------------------------------------------------------


def deep(x, weight, **seeds):
    for _ in range(3):
        x = torch.tanh(ft.dropout(x, 0.5, **seeds) @ weight)
    return x.pow(2).sum()


def gradient(function, x):
    leaf = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(seeded(function, leaf), leaf)
    return found


@pytest.mark.parametrize("budget", [1, 0.5, 0])
def test_memory_budgets(budget):
    from torch._functorch import config

    x, weight = randn(8, 8), randn(8, 8)
    with config.patch(activation_memory_budget=budget):
        compiled = torch.compile(lambda x: deep(x, weight, seed=3), fullgraph=True)
        assert torch.allclose(gradient(compiled, x), gradient(lambda x: deep(x, weight, seed=3), x), atol=1e-5)
        compiled = torch.compile(lambda x: deep(x, weight), fullgraph=True)
        if budget == 1:
            assert torch.allclose(gradient(compiled, x), gradient(lambda x: deep(x, weight), x), atol=1e-5)
        else:
            with pytest.raises(RuntimeError, match=r"may draw again .* an integer or a Key"):
                gradient(compiled, x)


@pytest.mark.parametrize("setting", [{"activation_memory_budget": 0.5}, {"aggressive_recomputation": True}], ids=str)
@pytest.mark.parametrize(
    ("what", "call"),
    [
        ("draw again", lambda x, seed: ft.dropout(x, 0.5)),
        ("read a seed in a tensor again", lambda x, seed: ft.dropout(x, 0.5, seed=seed)),
        ("read a seed in a tensor again", ft.Dropout(0.5, seed=3)),
    ],
)
def test_what_recomputation_would_change(setting, what, call):
    from torch._functorch import config

    before, inputs = torch.get_rng_state(), (torch.ones(8, requires_grad=True), torch.tensor(3))
    with config.patch(**setting), pytest.raises(RuntimeError, match=f"may {what} in the backward pass"):
        torch.compile(call, fullgraph=True)(*inputs[: 1 if isinstance(call, torch.nn.Module) else 2])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("seeds", [{}, {"seed": 3}], ids=str)
def test_checkpoints(seeds):
    from torch.utils.checkpoint import checkpoint

    x, weight = randn(8, 8), randn(8, 8)
    function = lambda x: checkpoint(lambda x: deep(x, weight, **seeds), x, use_reentrant=False)  # noqa: E731
    wanted = gradient(lambda x: deep(x, weight, **seeds), x)
    assert torch.allclose(gradient(torch.compile(function, fullgraph=True), x), wanted, atol=1e-5)


@pytest.mark.parametrize("backend", ["inductor", "aot_eager"])
@pytest.mark.parametrize("outside", [True, False])
def test_checkpoints_of_layers_that_count(outside, backend):
    """A compiled layer in a checkpoint, or a checkpoint in compiled code."""
    from torch.utils.checkpoint import checkpoint

    layer, x = ft.Dropout(0.5, seed=3), torch.ones(16, requires_grad=True)
    run = torch.compile(layer, backend=backend) if outside else layer
    function = lambda x: checkpoint(lambda x: torch.sin(run(x)), x, use_reentrant=False)  # noqa: E731
    y = (function if outside else torch.compile(function, backend=backend))(x)
    with pytest.raises(RuntimeError, match="counts its calls, and a checkpoint"):
        y.sum().backward()


def test_only_the_seed_is_saved():
    from functorch.compile import aot_function, make_boxed_func

    saved = []

    def backward(graph, inputs):
        saved.extend(each for each in inputs if isinstance(each, torch.Tensor))
        return make_boxed_func(graph)

    x = randn(8, 8).requires_grad_()
    aot_function(lambda x: ft.dropout(x, 0.4), make_boxed_func_of(make_boxed_func), backward)(x).sum().backward()
    assert sum(each.numel() * each.element_size() for each in saved if each.dtype == torch.int64) <= 8
    assert len([each for each in saved if each.dtype != torch.int64]) == 1  # the gradient that comes in


def make_boxed_func_of(make):
    return lambda graph, inputs: make(graph)


# Statistics of the draws --------------------------------------------------------------------------------------------


def test_draws_of_a_graph_are_independent():
    n = 20_000
    y = torch.compile(lambda x: torch.stack([ft.dropout(x, 0.5) for _ in range(3)]), fullgraph=True)(torch.ones(n))
    kept = (y > 0).numpy().astype(float)
    correlation = np.corrcoef(kept)
    assert np.abs(correlation[~np.eye(3, dtype=bool)]).max() < 5 / n**0.5
