"""Whole models: convert, revert, patched; a BERT of transformers, a ViT, PyTorch's own encoder."""

import collections
import io
import math
import pickle

import pytest

import fastdrop

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils import checkpoint as checkpoints  # noqa: E402

import fastdrop.torch as ft  # noqa: E402
from fastdrop.torch import _models  # noqa: E402

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    torch.manual_seed(0)
    yield
    assert F.dropout is _models.NATIVE["dropout"]


# Layers -------------------------------------------------------------------------------------------------------------


class Calling(nn.Module):
    """Calls functions itself."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Dropout(0.2, inplace=True)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x):
        return F.dropout(self.inner(self.norm(x)), 0.1, self.training)


class Functional(nn.Module):
    """Calls PyTorch's function, with no argument but the input."""

    def forward(self, x):
        return F.dropout(x)


class Own(nn.Dropout):
    def forward(self, x):
        return x


class DropEverything(nn.Module):
    def forward(self, x):
        return 0 * x


def test_convert_and_revert():
    model = nn.Sequential(nn.Dropout(0.1), nn.Dropout2d(0.2), nn.AlphaDropout(0.3), Own(0.4), DropEverything(), Calling())
    model[1].eval()
    calls = []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    before = {name: (type(each), each.training, getattr(each, "p", None)) for name, each in model.named_modules()}
    report = ft.convert(model)
    assert report.swapped == ["0", "1", "2", "5.inner"]
    assert report.left["3"] == "Own is derived from a layer of PyTorch, and may do something else"
    assert report.left["4"] == "DropEverything is not a layer of PyTorch"
    assert report.functions is None
    assert type(model[0]) is ft.Dropout
    assert model[5].inner.inplace
    torch.manual_seed(3)
    y = model[0](torch.ones(8))
    torch.manual_seed(3)
    assert torch.equal(y, ft.dropout(torch.ones(8), 0.1))
    assert calls == [1]
    assert ft.convert(model).swapped == []
    assert ft.convert(nn.Sequential(ft.LockedDropout(0.5), ft.DropPath(0.5))).left == {}
    ft.revert(model)
    assert before == {name: (type(each), each.training, getattr(each, "p", None)) for name, each in model.named_modules()}


def test_example_inputs():
    model = nn.Sequential(Calling(), nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)).train()
    model[1].self_attn.dropout = 0.1
    x, state, mean = torch.ones(3, 4), torch.get_rng_state(), model[0].norm.running_mean.clone()
    report = ft.convert(model, example_inputs=(x,))
    assert report.functions["dropout"] == 1
    assert report.functions["scaled_dot_product_attention"] == 1
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(mean, model[0].norm.running_mean)
    assert "patched()" in report.left["1.self_attn"]


def test_example_inputs_are_checked_before_anything_is_swapped():
    model = nn.Sequential(nn.Dropout(0.1))
    with pytest.raises(TypeError, match=r"must be a tuple of positional arguments or a dictionary of keywords; got Tensor"):
        ft.convert(model, example_inputs=torch.ones(3, 4))
    assert type(model[0]) is nn.Dropout
    x = collections.UserDict(input=torch.ones(3, 4))  # as tokenizers return it
    assert ft.convert(model, example_inputs=x).functions == {}


@pytest.mark.parametrize("function", [ft.convert, ft.revert])
def test_only_modules_are_models(function):
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module; got int"):
        function(5)


def test_recurrent_layers_are_not_said_to_call_functions():
    assert ft.convert(nn.LSTM(2, 2, 2)).left == {}
    assert ft.convert(nn.LSTM(2, 2, 2, dropout=0.5)).left == {
        "": "LSTM drops in C++ between its layers, which patched() cannot replace"
    }


def test_layers_with_a_seed_stay():
    model = nn.Sequential(ft.Dropout(0.1, seed=1), ft.Dropout(0.1))
    ft.revert(model)
    assert [type(each) for each in model] == [ft.Dropout, nn.Dropout]


# Functions ----------------------------------------------------------------------------------------------------------


def test_patched():
    x = torch.ones(64)
    torch.manual_seed(3)
    wanted = ft.dropout(x, 0.5)
    with ft.patched(), ft.patched():
        torch.manual_seed(3)
        assert torch.equal(F.dropout(x, 0.5), wanted)
        with ft.patched():
            pass
        torch.manual_seed(3)
        assert torch.equal(nn.Dropout(0.5)(x), wanted)
        torch.manual_seed(3)
        assert torch.equal(F.dropout(input=x, p=0.5), wanted)
        q = torch.ones(1, 2, 3)
        assert F.scaled_dot_product_attention(query=q, key=q, value=q, dropout_p=0.5).shape == q.shape
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'input'"):
            F.dropout(p=0.5)
        assert F.dropout(torch.ones(3, device="meta"), 0.5).device.type == "meta"

        nested = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(3, 3)], layout=torch.jagged)
        assert F.dropout(nested, 0.5).is_nested
        assert F.dropout(torch.ones(3, dtype=torch.int64), 0.5, False).dtype == torch.int64

    @ft.patched()
    def decorated():
        torch.manual_seed(3)
        return F.dropout(x, 0.5)

    assert torch.equal(decorated(), wanted)
    with pytest.raises(ZeroDivisionError), ft.patched():
        1 / 0  # noqa: B018
    assert F.dropout is _models.NATIVE["dropout"]


def test_patched_and_compiled():
    """The compiler notices whether the functions are replaced."""

    def draws_as_fastdrop(function):
        torch.manual_seed(3)
        return torch.equal(function(x), wanted)

    torch.manual_seed(3)
    x = torch.ones(64)
    wanted = ft.dropout(x, 0.5)
    function = torch.compile(lambda x: F.dropout(x, 0.5), backend="eager", fullgraph=True)
    assert not draws_as_fastdrop(function)
    with ft.patched():
        assert draws_as_fastdrop(function)
    assert not draws_as_fastdrop(function)
    assert draws_as_fastdrop(torch.compile(ft.patched()(lambda x: F.dropout(x, 0.5)), backend="eager"))
    with ft.patched():
        assert not draws_as_fastdrop(lambda x: torch.dropout(x, 0.5, True))


def test_patched_puts_back_what_it_has_found(monkeypatch):
    """A library may have replaced a function before."""

    def other(*args, **kwargs):
        return "other"

    with monkeypatch.context() as patch:
        patch.setattr(F, "dropout", other)
        with ft.patched(), ft.patched():
            assert torch.is_tensor(F.dropout(torch.ones(3), 0.5))
        assert F.dropout is other


@pytest.mark.parametrize("compiles", [False, True])
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_that_end_after_the_context(reentrant, compiles):
    """A checkpoint repeats the functions of its forward pass, wherever the backward pass runs."""
    layers = nn.Sequential(nn.Linear(8, 8), Functional(), nn.ReLU(), nn.Linear(8, 8))
    x = torch.randn(4, 8, requires_grad=True)

    def gradients(function):
        layers.zero_grad()
        x.grad = None
        torch.manual_seed(3)
        with ft.patched():
            y = function(x)
        y.square().sum().backward()
        return [x.grad, *(each.grad for each in layers.parameters())]

    def repeated(x):
        return checkpoints.checkpoint(layers, x, use_reentrant=reentrant)

    repeats = torch.compile(repeated, backend="aot_eager") if compiles else repeated
    assert all(map(torch.equal, gradients(repeats), gradients(layers)))
    assert checkpoints.CheckpointFunction is _models.Reentrant.native
    assert checkpoints._checkpoint_without_reentrant_generator is _models.NOT_REENTRANT


def test_nested_tensors_go_to_pytorch():
    nested = torch.nested.nested_tensor([torch.ones(2, 8), torch.ones(3, 8)], layout=torch.jagged)
    q = nested.unflatten(-1, [2, 4]).transpose(1, 2)
    wanted = F.scaled_dot_product_attention(q, q, q)
    with ft.patched():
        for found in (F.scaled_dot_product_attention(q, q, q), F.scaled_dot_product_attention(query=q, key=q, value=q)):
            assert torch.equal(found.values(), wanted.values())
        assert F.dropout(input=nested, p=0.5).is_nested


class Attending(nn.Module):
    """Calls functions that `patched` replaces, of Python and of C++."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(F.scaled_dot_product_attention(x, x, x, dropout_p=0.5 if self.training else 0.0), 0.5, self.training)


def test_scripts_have_pytorchs_functions():
    """Also those that are made within `patched`, because TorchScript cannot compile fastdrop's."""
    x = torch.randn(1, 2, 3)
    for model in (Attending(), nn.Sequential(nn.Dropout(0.5), nn.AlphaDropout(0.5)), nn.MultiheadAttention(3, 1)):
        with ft.patched():
            made = torch.jit.script(model)
        torch.jit.script(model)
        file = io.BytesIO()
        torch.jit.save(made, file)
        file.seek(0)
        loaded, inputs = torch.jit.load(file), [x] * (3 if isinstance(model, nn.MultiheadAttention) else 1)
        loaded(*inputs)
        torch.testing.assert_close(loaded.eval()(*inputs), model.eval()(*inputs))


@pytest.mark.parametrize("layer", [ft.Dropout(0.5), ft.GaussianDropout(0.5), ft.DropPath(0.5), ft.AlphaDropout(0.5, seed=1)])
def test_layers_say_that_they_cannot_be_scripts(layer):
    model = nn.Sequential(nn.Linear(2, 2), layer)
    with pytest.raises(
        RuntimeError, match=r"torch.jit.script cannot compile \w+ of fastdrop.torch: use torch.jit.trace or torch.compile"
    ):
        torch.jit.script(model)
    assert model[1] is layer


def test_replaced_functions_are_found_by_their_names():
    """By pickle and in the code of a graph: there they mean what `torch.nn.functional` has when they are called."""
    with ft.patched():
        graph = torch.fx.symbolic_trace(Attending().eval())
        copied = pickle.loads(pickle.dumps(F.dropout))
        assert copied is F.dropout
        text = pickle.dumps((F.dropout, graph))
    function, graph = pickle.loads(text)
    assert function is F.dropout is _models.NATIVE["dropout"]
    x = torch.randn(1, 2, 3)
    assert torch.equal(graph(x), Attending().eval()(x))


def test_classes_and_modes_see_replaced_functions():
    """As all functions of PyTorch, by `__torch_function__`."""

    class Named:
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            return function

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            seen.append(function)
            return function(*args, **(kwargs or {}))

    seen, x = [], torch.ones(1, 2, 3)
    with ft.patched():
        assert F.dropout(Named()) is F.dropout
        assert F.scaled_dot_product_attention(x, x, value=Named(), dropout_p=0.5) is F.scaled_dot_product_attention
        torch.manual_seed(3)
        wanted = F.dropout(x, 0.5)
        torch.manual_seed(3)
        with Mode():
            y = F.dropout(x, 0.5)
        assert seen == [F.dropout]
        assert torch.equal(y, wanted)


@pytest.mark.parametrize("masked", ["", "causal", "bool", "float", "gqa"])
def test_attention_is_what_pytorch_documents(masked):
    q, k, v = (torch.randn(2, 4, 5, 8, dtype=torch.float64) for _ in range(3))
    options = {"is_causal": True} if masked == "causal" else {}
    if masked in ("bool", "float"):
        keep = torch.rand(2, 1, 5, 5) > 0.3
        keep[0, 0, 2] = False  # a query without a key
        options["attn_mask"] = keep if masked == "bool" else torch.zeros(2, 1, 5, 5).double().masked_fill(~keep, -math.inf)
    if masked == "gqa":
        k, v, options["enable_gqa"] = k[:, :2], v[:, :2], True
    with pytest.raises(ValueError, match="is_causal and attn_mask both define the allowed keys"):
        ft.scaled_dot_product_attention(q, k, v, torch.ones(5, 5).bool(), 0.5, True)
    without = F.scaled_dot_product_attention(q, k, v, **options)
    assert torch.equal(ft.scaled_dot_product_attention(q, k, v, **options), without)
    tiny = ft.scaled_dot_product_attention(q, k, v, dropout_p=1e-18, seed=3, **options)
    assert torch.allclose(tiny, without)
    assert not torch.allclose(ft.scaled_dot_product_attention(q, k, v, dropout_p=0.5, seed=3, **options), without)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("autocast", [False, True])
def test_attention_rounds_as_pytorchs(dtype, autocast):
    q, k, v = (torch.randn(2, 4, 16, 32).to(dtype) for _ in range(3))
    q, k = 20 * q, 20 * k  # a product of these is far beyond the largest number of float16
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        wanted = F.scaled_dot_product_attention(q, k, v, torch.zeros(16, 16), dropout_p=1e-18)
        found = ft.scaled_dot_product_attention(q, k, v, torch.zeros(16, 16), dropout_p=1e-18)
    assert found.dtype == wanted.dtype
    assert torch.allclose(found, wanted, rtol=2 * torch.finfo(wanted.dtype).eps, atol=1e-4)


def test_attention_in_16_bits_on_request():
    q, k, v = (torch.randn(1, 2, 8, 16).half() for _ in range(3))
    exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    errors = []
    for allowed in (False, True):
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(allowed)
        try:
            errors.append((ft.scaled_dot_product_attention(q, k, v, dropout_p=1e-18) - exact).abs().mean())
        finally:
            torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(False)
    assert errors[1] > 1.5 * errors[0]


@pytest.mark.parametrize("bias", ["causal_upper_left", "causal_lower_right"])
@pytest.mark.parametrize("p", [0.0, 1e-18])
def test_biases_of_pytorch(bias, p):
    q, k = torch.randn(2, 4, 3, 8), torch.randn(2, 4, 5, 8)
    mask = getattr(torch.nn.attention.bias, bias)(3, 5)
    plain = torch.ones(3, 5).bool().tril(2 if bias == "causal_lower_right" else 0)
    wanted = F.scaled_dot_product_attention(q, k, k, plain)
    assert torch.allclose(ft.scaled_dot_product_attention(q, k, k, mask, p), wanted, atol=1e-6)
    with ft.patched():
        assert torch.allclose(F.scaled_dot_product_attention(q, k, k, mask, p), wanted, atol=1e-6)


def test_attention_without_features():
    q, v = torch.ones(2, 3, 0), torch.arange(24.0).reshape(2, 3, 4)
    wanted = F.scaled_dot_product_attention(q, q, v, dropout_p=1e-18)
    assert torch.allclose(ft.scaled_dot_product_attention(q, q, v, dropout_p=1e-18), wanted)


def test_attention_refuses_before_it_draws():
    q, state = torch.randn(2, 4, 5, 8), torch.get_rng_state()
    refused = [
        (TypeError, "must have one dtype", (q.half(), q, q)),
        (TypeError, "attn_mask must be of bool, of float32", (q, q, q, torch.ones(5, 5).long())),
        (TypeError, "attn_mask must be of bool, of float32", (q, q, q, torch.ones(5, 5).double())),
        (ValueError, "2 dimensions or more", (q[0, 0, 0], q, q)),
        (ValueError, "multiple of those of key and value", (q, q[:, :3], q[:, :3], None, 0.5, False, None, True)),
        (ValueError, "multiple of those of key and value", (q[:, :1], q, q, None, 0.5, False, None, True)),
    ]
    for error, message, operands in refused:
        with pytest.raises(error, match=message):
            ft.scaled_dot_product_attention(*operands, **({"dropout_p": 0.5} if len(operands) < 5 else {}))
    assert torch.equal(state, torch.get_rng_state())


# Models -------------------------------------------------------------------------------------------------------------


def by_hand(x, p=0.5, training=True, inplace=False):
    """Dropout with the mask written out: the same seed, drawn in the same way."""
    if not training or p == 0:
        return x
    seed = torch.empty((), dtype=torch.int64).random_(-(2**63), 2**63 - 1).item() % 2**64
    keep = torch.from_numpy(fastdrop.dropout_mask(tuple(x.shape), p, seed=seed))
    return x * keep * (1 / (1 - p))


def attention_by_hand(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    scores = q @ k.transpose(-2, -1) * (scale or q.size(-1) ** -0.5)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return by_hand(scores.softmax(-1), dropout_p) @ v


def bert(kind):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.BertConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        attn_implementation=kind,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config).train()
    tokens = torch.randint(0, 64, (4, 16))
    return model, lambda model: model(input_ids=tokens, labels=torch.tensor([0, 1, 0, 1])).loss


class Block(nn.Module):
    def __init__(self, size, heads, p):
        super().__init__()
        self.heads, self.p = heads, p
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(2))
        self.qkv, self.out = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.mlp = nn.Sequential(nn.Linear(size, 2 * size), nn.GELU(), nn.Dropout(p), nn.Linear(2 * size, size))
        self.drop = nn.Dropout(p)

    def forward(self, x):
        n, t, size = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=self.p if self.training else 0.0)
        x = x + self.drop(self.out(mixed.transpose(1, 2).reshape(n, t, size)))
        return x + self.drop(self.mlp(self.norms[1](x)))


class ViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, 4)
        self.place = nn.Parameter(torch.zeros(1, 16, 32))
        self.drop = nn.Dropout(0.1)
        self.blocks = nn.Sequential(*(Block(32, 2, 0.1) for _ in range(2)))

    def forward(self, x):
        return self.blocks(self.drop(self.patches(x).flatten(2).transpose(1, 2) + self.place)).mean()


def vit():
    x = torch.randn(2, 3, 16, 16)
    return ViT().train(), lambda model: model(x)


def encoder():
    x = torch.randn(3, 6, 32)
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 2, 64, 0.1, batch_first=True), 2).train(), lambda model: model(
        x
    ).mean()


MODELS = {"bert eager": lambda: bert("eager"), "bert sdpa": lambda: bert("sdpa"), "vit": vit, "encoder": encoder}


def gradients(model, loss):
    model.zero_grad()
    torch.manual_seed(3)
    value = loss(model)
    value.backward()
    return [value.detach(), *(each.grad.clone() for each in model.parameters() if each.grad is not None)]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_step(name, monkeypatch):
    """Eager and compiled: gradients of the masks written out by hand, no graph break, no dropout of PyTorch left."""
    model, loss = MODELS[name]()
    with ft.patched():
        found = gradients(model, loss)
    with monkeypatch.context() as patch:
        patch.setattr(F, "dropout", by_hand)
        patch.setattr(F, "scaled_dot_product_attention", attention_by_hand)
        wanted = gradients(model, loss)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5)
    targets = []

    def backend(graph, inputs):
        from torch._dynamo.backends.common import aot_autograd

        def keep(graph, inputs):
            targets.extend(str(node.target) for node in graph.graph.nodes)
            return graph.forward

        return aot_autograd(fw_compiler=keep, bw_compiler=keep)(graph, inputs)

    with ft.patched():
        compiled = gradients(model, lambda model: loss(torch.compile(model, fullgraph=True, backend=backend)))
    for one, other in zip(compiled, wanted, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5)
    assert not [each for each in targets if "bernoulli" in each or "native_dropout" in each]
    assert "fastdrop.dropout.default" in targets
