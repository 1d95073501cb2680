"""The layers: their functions, the calls that they count, their states."""

import copy
import io
import pickle

import pytest

import fastdrop

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch import nn  # noqa: E402
from torch_calls import LAYERS, SEED, randn, state  # noqa: E402

import fastdrop.torch as ft  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # PyTorch warns of what `forward_ad` scripts


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
    with pytest.raises(ValueError, match=r"must be (a number )?in \[0, 1\]"):
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


@pytest.mark.parametrize("name", LAYERS)
def test_layers_do_not_count_what_is_refused(name):
    layer = getattr(ft, name)(0.5, seed=SEED)
    with pytest.raises(TypeError, match="must have dtype"):
        layer(torch.ones(LAYERS[name], dtype=torch.int64))
    assert layer.key[1] == 0


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


WRONG = {
    "option": (
        lambda: ft.Dropout(0.5, sede=42),
        TypeError,
        "there is no option sede: the options here are seed, name, generator",
    ),
    "keyword": (
        lambda: ft.GaussianDropout(0.5, inplace=True),
        TypeError,
        "there is no option inplace: the options here are seed, name, generator",
    ),
    "inplace": (lambda: ft.Dropout(0.5, "False"), TypeError, "inplace must be True or False; got 'False'"),
    "offset": (lambda: ft.Dropout(0.5, seed=42, offset=3), TypeError, "there is no option offset"),
    "training": (lambda: ft.Dropout(0.5, training=False), TypeError, "there is no option training"),
    "axes": (lambda: ft.Dropout2d(0.5, shared_axes=0), TypeError, "there is no option shared_axes"),
    "generator": (lambda: ft.DropPath(0.5, generator="x"), TypeError, "generator must be a torch.Generator; got str"),
    "logit": (lambda: ft.ConcreteDropout(0.0), ValueError, "p must be above 0 and below 1, because the layer learns its logit"),
    "temperature": (lambda: ft.ConcreteDropout(0.1, 0), ValueError, "temperature must be above 0; got 0"),
    "noise": (lambda: ft.GaussianDropout(1.0), ValueError, "p must be in [0, 1) here"),
    "block": (lambda: ft.DropBlock2d(0.1, 0), ValueError, "block_size must be at least 1; got 0"),
    "module": (lambda: ft.WeightDrop(3, "w"), TypeError, "module must be a torch.nn.Module; got int"),
    "weights": (lambda: ft.WeightDrop(nn.Linear(2, 2), 3), TypeError, "weights must be a sequence; got 3"),
}


@pytest.mark.parametrize("name", WRONG)
def test_layers_refuse_what_their_functions_would_refuse(name):
    make, error, sentence = WRONG[name]
    with pytest.raises(error) as found:
        make()
    assert sentence in str(found.value)


@pytest.mark.parametrize("name", ["AlphaDropout", "FeatureAlphaDropout"])
def test_layers_that_ignore_inplace_as_in_pytorch(name):
    for module in (nn, ft):
        x = torch.ones(3, 4, 5)
        getattr(module, name)(0.5, inplace=True)(x)
        assert (x == 1).all(), module


def test_seeded_layers_without_numbers():
    """In shapes without memory, and in an ensemble of models, whose seeds are a batch."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    x = torch.ones(3, 4)
    with FakeTensorMode():
        layer = ft.Dropout(seed=1)
        assert layer(torch.ones(3, 4)).shape == (3, 4)
        assert repr(layer) == "Dropout(p=0.5, inplace=False)"
    layer = ft.Dropout(seed=1).to("meta")
    assert layer(x.to("meta")).shape == (3, 4)
    assert repr(layer) == "Dropout(p=0.5, inplace=False)"
    layers = [ft.Dropout(seed=seed) for seed in range(3)]
    _, buffers = torch.func.stack_module_state(layers)
    for _ in range(2):
        y = torch.func.vmap(lambda buffers: torch.func.functional_call(layers[0], buffers, (x,)))(buffers)
        assert torch.equal(y, torch.stack([layer(x) for layer in layers]))
    assert buffers["key"].tolist() == [[0, 2], [1, 2], [2, 2]]


@pytest.mark.parametrize("name", LAYERS)
def test_layers_made_without_memory(name):
    """A model that is made on the device meta gets memory, and then its first state, as a model of PyTorch's layers does."""

    def make():
        return getattr(ft, name)(0.5, seed=SEED, name="a")

    with torch.device("meta"):
        layer = make()
    layer.to_empty(device="cpu")
    for each in layer.state_dict().values():
        each.fill_(7)  # there may be any numbers
    layer.reset_parameters()
    wanted, x = make(), torch.ones(LAYERS[name])
    assert torch.equal(layer(x), wanted(x))
    assert all(map(torch.equal, layer.state_dict().values(), wanted.state_dict().values()))
    getattr(ft, name)(0.5).reset_parameters()


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


@pytest.mark.parametrize("name", [*LAYERS, "WeightDrop"])
def test_symbolic_traces(name):
    """As the layers of `torch.nn`, each is one node of the graph, and its mode and its calls are those of the layer."""
    weights = (nn.Linear(4, 4), "weight") if name == "WeightDrop" else ()
    model, x = nn.Sequential(getattr(ft, name)(*weights, 0.5, seed=3)), randn(*LAYERS.get(name, (3, 4)))
    graph = torch.fx.symbolic_trace(copy.deepcopy(model))
    assert [node.op for node in graph.graph.nodes if node.op.startswith("call")] == ["call_module"]
    for _ in range(2):
        assert torch.equal(graph(x), model(x))
    assert torch.equal(graph.eval()(x), model.eval()(x))


def test_symbolic_traces_without_the_whole_layer():
    """They would record what a derived class computes twice, or a layer within itself."""

    class Doubled(ft.Dropout):
        def forward(self, input):
            return super().forward(2 * input)

    for model in (ft.Dropout(0.5), nn.Sequential(Doubled(0.5))):
        with pytest.raises(TypeError, match=r"torch\.fx cannot trace \w+: it records a layer of fastdrop.torch as a whole"):
            torch.fx.symbolic_trace(model)


@pytest.mark.parametrize("name", LAYERS)
def test_seeded_layers_under_transforms(name):
    """A layer's own key is read and counted once for each call of the layer."""
    layer, eager = (getattr(ft, name)(0.5, seed=3).double() for _ in range(2))
    x, tangent = (randn(*LAYERS[name], dtype=torch.float64) + more for more in (0, 1))
    y, found = torch.func.jvp(layer, (x,), (tangent,))
    gradient = torch.func.grad(lambda x: layer(x).pow(2).sum())(x)
    leaf = x.clone().requires_grad_()
    assert torch.equal(y, eager(x))
    (wanted,) = torch.autograd.grad(eager(leaf).pow(2).sum(), leaf)
    assert torch.allclose(gradient, wanted)
    assert layer.key.tolist() == [3, 2]
    again = getattr(ft, name)(0.5, seed=3).double()
    step = 1e-6
    with torch.no_grad():
        again.key[1] = 0
        above = again(x + step * tangent)
        again.key[1] = 0
        below = again(x - step * tangent)
    assert torch.allclose(found, (above - below) / (2 * step), atol=1e-6)


def test_gradients_of_each_sample_with_a_seeded_layer():
    model, x = nn.Sequential(nn.Linear(4, 4), ft.Dropout(0.5, seed=3)), randn(3, 4)
    parameters = {name: each.detach() for name, each in model.named_parameters()}

    def loss(parameters, x):
        return torch.func.functional_call(model, parameters, (x,)).sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
    assert torch.equal(each["0.bias"], ft.dropout(torch.ones(4), 0.5, seed=3).expand(3, 4))
    assert model[1].key.tolist() == [3, 1]
