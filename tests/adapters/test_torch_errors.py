"""What is refused: the kind of error, its sentence, and that nothing is drawn or written."""

import math
import re

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402
from torch_calls import FUNCTIONS, SHAPES, state  # noqa: E402

import fastdrop  # noqa: E402
import fastdrop.torch as ft  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")

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
    "inplace text": (lambda: (torch.ones(3), 0.5, True, "False"), {}, TypeError, "inplace must be True or False; got 'False'"),
    "inplace flags": (
        lambda: (torch.ones(3), 0.5, True, np.array([True, False])),
        {},
        TypeError,
        "inplace must be True or False",
    ),
    "offset float": (lambda: (torch.ones(3),), {"offset": 0.0}, TypeError, "offset must be an integer in [0, 2**64); got 0.0"),
    "offset bool": (
        lambda: (torch.ones(3),),
        {"offset": False},
        TypeError,
        "offset must be an integer in [0, 2**64); got F",
    ),
    "offsets": (lambda: (torch.ones(3),), {"offset": np.array([1, 2])}, TypeError, "offset must be an integer in [0, 2**64)"),
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


@pytest.mark.parametrize("way", ["eager", "compiled"])
def test_errors_name_the_arguments_of_the_function(way):
    x, before = torch.ones(3, 4), state()
    for call, error, sentence in (
        (lambda: ft.locked_dropout(x[0], batch_first=True), ValueError, r"input must have an axis of time, axis 1; got 1"),
        (lambda: ft.locked_dropout(x, shared_axes=0), TypeError, "there is no option shared_axes: the options here are seed"),
        (lambda: ft.locked_dropout(x, sede=0), TypeError, "there is no option sede"),
        (lambda: ft.drop_path(x, 1.5, True), ValueError, r"drop_prob must be a number in \[0, 1\]; got 1.5"),
        (lambda: ft.DropPath("0.5"), TypeError, r"drop_prob must be a number in \[0, 1\]; got '0.5'"),
        (lambda: ft.dropout(x, inplace="False"), TypeError, "inplace must be True or False; got 'False'"),
        (lambda: ft.dropout(x, offset=False), TypeError, "offset must be an integer"),
    ):
        torch._dynamo.reset()
        with pytest.raises(error, match=sentence):
            (call if way == "eager" else torch.compile(call, backend="aot_eager"))()
    assert (x == 1).all()
    assert torch.equal(before, state())


@pytest.mark.filterwarnings("ignore")
def test_quantized():
    x, before = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8), state()
    with pytest.raises(TypeError, match="layout quantized"):
        ft.dropout(x)
    assert torch.equal(before, state())


TENSORS = {
    "dropout": ft.dropout,
    "alpha_dropout": lambda x: ft.alpha_dropout(x, 0.5, True),
    "dropout_add": lambda x: ft.dropout_add(x, x),
    "residual": lambda x: ft.dropout_add(torch.ones(x.shape), x),
    "gaussian_dropout": ft.gaussian_dropout,
    "concrete_dropout": lambda x: ft.concrete_dropout(x, torch.zeros(())),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_without_storage(name):
    """Reading at address 0 would end the process."""
    x, before = torch.ones(8), state()
    x.untyped_storage().resize_(0)
    for each in (x, torch.ones(10)[2:]):  # the address of the second one is that of its offset
        each.untyped_storage().resize_(0)
        with pytest.raises(ValueError, match="must have memory; its storage was resized to 0"):
            TENSORS[name](each)
    assert torch.equal(before, state())
    assert ft.dropout(torch.ones(0)).shape == (0,)


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("way", ["eager", "compiled", "strided"])
def test_too_many_dimensions(name, way):
    x, call, before = torch.ones([2, 2, *[1] * 63]), TENSORS[name], state()
    if way == "strided":
        x = x.transpose(0, 1)
    if way == "compiled":
        torch._dynamo.reset()
        call = torch.compile(call, backend="aot_eager")
    with pytest.raises(ValueError, match="must have at most 64 dimensions; got 65"):
        call(x)
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
    generator = torch.Generator()
    before = generator.get_state()
    for function in (ft.dropout, ft.gaussian_dropout):
        function(torch.empty(3, device="meta"), generator=generator)
        with FakeTensorMode():
            assert function(torch.empty(3), generator=generator).shape == (3,)
    assert torch.equal(before, generator.get_state())


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
        (torch.ones(3, 4).double(), None, TypeError, "residual must have the dtype of x"),
        (x, torch.ones(3), ValueError, r"bias must have the shape \(4,\)"),
        (x, torch.ones(4).half(), TypeError, "bias must have the dtype of x"),
        (3, None, TypeError, "residual must be a torch.Tensor; got int"),
        (x, 3, TypeError, "bias must be a torch.Tensor; got int"),
    ):
        with pytest.raises(error, match=sentence):
            ft.dropout_add(x, residual, 0.5, bias)
    with pytest.raises(TypeError, match=r"^x must have dtype"):
        ft.dropout_add(x.long(), x)
    with pytest.raises(TypeError, match="there is no option sede"):
        ft.dropout_add(x, x, 0.5, sede=3)
    assert torch.equal(before, state())


def test_operands_of_another_dtype_in_compiled_code():
    """The kernel would read them past their end."""
    x, before = torch.ones(4), state()
    for more in ({"residual": x.half()}, {"residual": x, "bias": x.half()}):
        torch._dynamo.reset()
        with pytest.raises(TypeError, match=r"must have the dtype of x, torch.float32; got torch.float16"):
            torch.compile(lambda x, more: ft.dropout_add(x, p=0.5, **more), backend="aot_eager")(x, more)
    for bias, residual in ((x.half(), None), (x[:2], None), (None, x.half()), (None, x[:2])):
        with pytest.raises(ValueError, match="each operand must have the dtype and the shape of x"):
            torch.ops.fastdrop.dropout(x, bias, residual, torch.tensor(1), 0, 0.5, None, None, None, None)
    assert torch.equal(before, state())


META = {"device": "meta"}
WITHOUT_MEMORY = {
    "residual": lambda x: ft.dropout_add(x, x.to("meta"), 0.5),
    "bias": lambda x: ft.dropout_add(x, x, 0.5, torch.ones(4, **META)),
    "allowed": lambda x: ft.drop_key(x, allowed=torch.ones(4, dtype=torch.bool, **META)),
    "tokens": lambda x: ft.embedding_dropout(x[0], tokens=torch.zeros(1, 2, dtype=torch.int64, **META), num_embeddings=3),
    "p_logit": lambda x: ft.concrete_dropout(x, torch.ones((), **META)),
    "key": lambda x: ft.scaled_dot_product_attention(x, x.to("meta"), x, dropout_p=0.5),
    "value": lambda x: ft.scaled_dot_product_attention(x, x, x.to("meta"), dropout_p=0.5),
    "attn_mask": lambda x: ft.scaled_dot_product_attention(x, x, x, torch.ones(2, 2, **META), dropout_p=0.5),
    "a tensor as seed": lambda x: ft.dropout(x, seed=torch.zeros((), dtype=torch.int64, **META)),
}
SEEDS_WITHOUT_MEMORY = {
    "noise": lambda x, seed: ft.gaussian_dropout(x, seed=seed),
    "rows": lambda x, seed: ft.attention_dropout(x, unit="key", seed=seed),
    "concrete": lambda x, seed: ft.concrete_dropout(x, torch.ones(()), seed=seed),
}


@pytest.mark.parametrize("compiles", [False, True])
@pytest.mark.parametrize("name", [*WITHOUT_MEMORY, *SEEDS_WITHOUT_MEMORY])
def test_operands_without_memory(name, compiles):
    """PyTorch would return a result that nothing has been written to."""
    seed = torch.zeros((), dtype=torch.int64, device="meta")
    call = WITHOUT_MEMORY.get(name) or (lambda x: SEEDS_WITHOUT_MEMORY[name](x, seed))
    operand = name if name in WITHOUT_MEMORY else "a tensor as seed"
    sentence = f"{operand} must be on cpu like the other tensors; got one on meta"
    if compiles:
        torch._dynamo.reset()
        call = torch.compile(call, backend="aot_eager")
    before = state()
    with pytest.raises(ValueError, match=sentence):
        call(torch.ones(1, 1, 2, 4))
    assert torch.equal(before, state())


def test_operators_of_operands_without_memory():
    x, seed = torch.ones(4), torch.zeros((), dtype=torch.int64, device="meta")
    with pytest.raises(ValueError, match="must be on cpu like the other tensors; got one on meta"):
        torch.ops.fastdrop.dropout(x, None, None, seed, 0, 0.5, None, None, None, None)
    with pytest.raises(ValueError, match="must be on cpu like the other tensors; got one on meta"):
        ft.Dropout(0.5, seed=1).to("meta")(x)


WRONG_PLACES = [
    {"shared_axes": 5}, {"shared_axes": (0, -2)}, {"shared_axes": 0, "noise_shape": (1, 4)}, {"noise_shape": (3, 2)},
    {"noise_shape": (3,)}, {"noise_shape": (3, 1), "global_shape": (6, 4)}, {"global_shape": (2, 4)}, {"global_shape": (3,)},
    {"global_shape": (6, 4), "global_start": (4, 0)}, {"global_shape": (6, 4), "global_start": (-1, 0)},
    {"global_shape": (6, 4), "global_start": (0,)}, {"global_start": (0, 0)},
    {"global_shape": (2**60, 4), "global_start": (2**59, 0)},
]  # fmt: skip


@pytest.mark.parametrize("place", WRONG_PLACES, ids=str)
def test_wrong_places_in_compiled_code(place):
    """The errors of eager code, before a draw."""
    x, before = torch.ones(3, 4), state()
    with pytest.raises((ValueError, OverflowError), match=r"shared_axes|noise_shape|global_s|stream 1 has") as eager:
        ft.dropout(x, **place)
    torch._dynamo.reset()
    with pytest.raises(eager.type, match=re.escape(str(eager.value))):
        torch.compile(lambda x: ft.dropout(x, **place), backend="aot_eager")(x)
    assert torch.equal(before, state())


def test_in_place_on_views_of_a_function_with_several_results():
    for halves in (lambda x: x.split(2), lambda x: x.unbind(0)):
        x, before = halves(torch.ones(4, requires_grad=True) * 1)[0], state()
        with pytest.raises(RuntimeError, match="a view and is being modified inplace"):
            ft.dropout(x, 0.5, inplace=True)
        assert (x == 1).all()
        assert torch.equal(before, state())
        with torch.no_grad():
            assert ft.dropout(x, 0.5, inplace=True) is x


@pytest.mark.parametrize("name", ["dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout"])
def test_dimensions(name):
    before = state()
    with pytest.raises(ValueError, match="input must have"):
        getattr(ft, name)(torch.ones(()) if name == "dropout3d" else torch.ones(3), 0.5, True)
    with pytest.raises(ValueError, match="shares decisions along axes of its own"):
        getattr(ft, name)(torch.ones(SHAPES[name]), 0.5, True, shared_axes=0)
    assert torch.equal(before, state())


@pytest.mark.parametrize(("name", "shape"), [("dropout1d", (2, 3, 4, 5)), ("dropout1d", (3,)), ("feature_alpha_dropout", (3,))])
def test_wrong_dimensions_are_the_error_of_pytorch_too(name, shape):
    with pytest.raises(RuntimeError) as theirs:
        getattr(F, name)(torch.ones(shape), 0.5, True)
    with pytest.raises(RuntimeError) as ours:
        getattr(ft, name)(torch.ones(shape), 0.5, True)
    assert isinstance(ours.value, ValueError)
    if name == "dropout1d":
        begin = str(theirs.value).split(".")[0]
        assert str(ours.value).startswith(begin)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_no_channels_are_needed_where_nothing_is_dropped(shape):
    x, layer = torch.ones(shape), nn.Sequential(nn.FeatureAlphaDropout(0.5)).eval()
    ft.convert(layer)
    assert ft.feature_alpha_dropout(x, 0.5) is x
    assert ft.feature_alpha_dropout(x, 0.0, True) is x
    assert layer(x) is x


@pytest.mark.parametrize(
    ("name", "shape"),
    [("dropout2d", (64, 3)), ("dropout2d", (8, 9, 4)), ("dropout2d", (8, 9, 2, 3, 2)), ("dropout3d", (64,)),
     ("dropout3d", (64, 3)), ("dropout3d", (64, 9, 4)), ("dropout3d", (64, 2, 2, 3, 2, 2))],
)  # fmt: skip
def test_other_dimensions_warn_as_in_pytorch(name, shape):
    def shared(y):
        """Return the axes along which all decisions are the same."""
        return tuple(axis for axis in range(y.ndim) if ((y == 0) == (y == 0).select(axis, 0).unsqueeze(axis)).all())

    x = torch.ones(shape)
    with pytest.warns(UserWarning, match=f"got {len(shape)} dimensions, which are taken as"):
        y = getattr(ft, name)(x, 0.5, True, seed=3)
    with pytest.warns(UserWarning, match=f"{name}: Received") as theirs:
        axes = shared(getattr(F, name)(x, 0.5, True))
    begin = str(theirs[0].message)[: len(f"{name}: Received a 3D input to {name}")]
    with pytest.warns(UserWarning, match=f"^{begin}"):  # so that a filter for PyTorch's warning is one for this
        getattr(ft, name)(x, 0.5, True, seed=3)
    assert shared(y) == axes
    assert torch.equal(y, ft.dropout(x, 0.5, True, seed=3, shared_axes=axes))
    torch._dynamo.reset()
    with pytest.warns(UserWarning, match="which are taken as"):
        compiled = torch.compile(lambda x: getattr(ft, name)(x, 0.5, True, seed=3), fullgraph=True, backend="aot_eager")(x)
    assert torch.equal(y, compiled)


@pytest.mark.parametrize("options", [{"shared_axes": True}, {"shared_axes": (0, True)}, {"noise_shape": (True, 4)}], ids=str)
def test_flags_are_no_axes_and_no_sizes_for_the_compiler_either(options):
    x = torch.ones(3, 4)
    with pytest.raises((TypeError, ValueError)) as eager:
        ft.dropout(x, 0.5, seed=3, **options)
    torch._dynamo.reset()
    with pytest.raises((TypeError, ValueError)) as compiled:
        torch.compile(lambda x: ft.dropout(x, 0.5, seed=3, **options), backend="aot_eager")(x)
    assert str(eager.value) in str(compiled.value)


WRONG = {
    "keys of 3 axes": (lambda x: ft.drop_key(x[0]), ValueError, "input must have four dimensions"),
    "axis": (lambda x: ft.drop_key(x, shared_axes=2), ValueError, "shared_axes must be 0 (the samples), 1 (the heads)"),
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
    "unit": (lambda x: ft.attention_dropout(x, unit="row"), ValueError, "unit must be 'element' or 'key'; got 'row'"),
    "window": (lambda x: ft.attention_dropout(x, window=0), ValueError, "window must be at least 1; got 0"),
    "rows of 3 axes": (lambda x: ft.attention_dropout(x[0], unit="key"), ValueError, "input must have the dimensions (batch,"),
    "axis of rows": (lambda x: ft.attention_dropout(x, unit="key", shared_axes=3), ValueError, "shared_axes must be 0"),
    "rows in place": (lambda x: ft.attention_dropout(x, inplace=True, unit="key"), ValueError, "inplace must be False if rows"),
    "place of rows": (lambda x: ft.attention_dropout(x, unit="key", noise_shape=(1,)), TypeError, "no option noise_shape"),
    "size of blocks": (lambda x: ft.drop_block2d(x, 0.1, 0), ValueError, "block_size must be at least 1; got 0"),
    "a huge block": (lambda x: ft.drop_block2d(x, 0.1, 10**400), OverflowError, "block_size must be below 2**63"),
    "too many words": (
        lambda x: words(x, torch.tensor([[0, 1]]), num_embeddings=2**60, per="sample"),
        OverflowError,
        "stream 1 has 2**55 elements",
    ),
    "rates": (lambda x: ft.gaussian_dropout(x, np.array([0.5, 0.5])), TypeError, "p must be a number in [0, 1]"),
    "a tensor of rates": (lambda x: ft.gaussian_dropout(x, torch.ones(2)), ValueError, "p must be in [0, 1]"),
    "rate of 1": (lambda x: ft.gaussian_dropout(x, np.float32(1)), ValueError, "p must be in [0, 1) here"),
    "units": (lambda x: words(x, torch.tensor([[0, 1]]), per=np.array(["batch", "a"])), ValueError, "per must be 'batch' or"),
    "units of a matrix": (lambda x: ft.embedding_dropout(x[0, 0], per=np.array(["a", "b"])), ValueError, "per must be 'batch'"),
    "sparse words": (lambda x: words(x, torch.tensor([[0, 1]]).to_sparse()), TypeError, "tokens must be a dense tensor"),
    "sparse flags": (lambda x: ft.drop_key(x, allowed=(x > 0).to_sparse()), TypeError, "allowed must be a dense tensor"),
    "noise of keys": (
        lambda x: ft.attention_dropout(x, unit="key", renormalize=False, noise_shape=(1, 1, 2, 4)),
        ValueError,
        "noise_shape must be None if unit is 'key'",
    ),
    "flags of rows": (
        lambda x: ft.attention_dropout(x, inplace=np.array([1, 0]), unit="key"),
        TypeError,
        "inplace must be True or",
    ),
    "a mask of lists": (
        lambda x: ft.scaled_dot_product_attention(x, x, x, [[True]], 0.5),
        TypeError,
        "attn_mask must be a torch.Tensor; got list",
    ),
    "integers": (
        lambda x: ft.scaled_dot_product_attention(x.long(), x.long(), x.long(), dropout_p=0.5),
        TypeError,
        "query must have dtype torch.float32, torch.float64, torch.float16, torch.bfloat16; got torch.int64",
    ),
    "values of other keys": (
        lambda x: ft.scaled_dot_product_attention(x, x, x[:, :, :1], dropout_p=0.5),
        ValueError,
        "value must fit the probabilities",
    ),
    "values of other samples": (
        lambda x: ft.scaled_dot_product_attention(x.repeat(2, 1, 1, 1), x, x.repeat(3, 1, 1, 1), dropout_p=0.5),
        ValueError,
        "value must fit the probabilities",
    ),
    "rate": (lambda x: ft.gaussian_dropout(x, 1.5), ValueError, "p must be in [0, 1], the probability of dropping; got 1.5"),
    "rate of text": (lambda x: ft.drop_block2d(x, "0.1", 2), TypeError, "p must be a number in [0, 1]"),
    "training": (lambda x: ft.gaussian_dropout(x, 0.5, "no"), TypeError, "training must be True or False"),
    "dtype": (lambda x: ft.drop_key(x.long()), TypeError, "input must have dtype torch.float32"),
    "two seeds": (
        lambda x: ft.gaussian_dropout(x, 0.5, seed=1, generator=torch.default_generator),
        ValueError,
        "seed and generator both define the key",
    ),
    "seed": (lambda x: ft.gaussian_dropout(x, seed=-1), ValueError, "seed must be an integer in [0, 2**64)"),
    "offset": (lambda x: ft.gaussian_dropout(x, offset=-1), ValueError, "offset must be an integer in [0, 2**64); got -1"),
    "temperature": (lambda x: ft.concrete_dropout(x, x.mean(), math.inf), ValueError, "temperature must be"),
    "logit that is NaN": (
        lambda x: ft.concrete_dropout(x, torch.tensor(math.nan)),
        ValueError,
        "p_logit must be a finite number",
    ),
    "logit": (lambda x: ft.concrete_dropout(x, torch.tensor(1)), TypeError, "p_logit must have dtype torch.float32"),
    "no tokens": (lambda x: ft.embedding_dropout(x[0, 0], per="sample"), ValueError, "without tokens, per must be 'batch'"),
}


def words(x, tokens, **options):
    return ft.embedding_dropout(x[0], 0.4, tokens=tokens, **{"num_embeddings": 5, **options})


BY_VALUE = {"a word", "logit that is NaN"}  # a graph has no values, so there the operator raises the error when it runs


@pytest.mark.parametrize(
    ("name", "way"), [(name, way) for name in WRONG for way in ("eager", "compiled") if way == "eager" or name not in BY_VALUE]
)
def test_wrong_variants(name, way):
    call, error, sentence = WRONG[name]
    before = state()
    if way == "compiled":
        torch._dynamo.reset()
        call = torch.compile(call, backend="aot_eager")
    with pytest.raises(error) as found:
        call(torch.ones(1, 1, 2, 4))
    assert sentence in str(found.value)
    assert torch.equal(before, state())


def test_words_that_are_shards():
    class DTensor(torch.Tensor):
        """Known by its name, because PyTorch's class needs a group of processes."""

    x, before = torch.ones(1, 1, 2, 4), state()
    with pytest.raises(NotImplementedError, match=r"tokens must be no DTensor: give tokens.full_tensor\(\)"):
        words(x, torch.tensor([[0, 1]]).as_subclass(DTensor))
    assert torch.equal(before, state())


def test_values_are_checked_within_transforms_too():
    x, before = torch.ones(1, 2, 4), state()
    with pytest.raises(ValueError, match="tokens must be in"):
        torch.func.grad(lambda x: words(x[None], torch.tensor([[0, 5]])).sum())(x)
    for transform in (torch.func.grad, lambda function: torch.func.grad(torch.func.grad(function))):
        with pytest.raises(ValueError, match="p_logit must be a finite number"):
            transform(lambda logit: ft.concrete_dropout(x, logit).sum())(torch.tensor(math.nan))
    assert torch.equal(before, state())


@pytest.mark.parametrize(
    "call",
    [ft.dropout2d, ft.drop_block2d, ft.drop_path, ft.embedding_dropout, ft.attention_dropout, ft.drop_key, ft.gaussian_dropout],
)
def test_what_is_no_tensor(call):
    with pytest.raises(TypeError, match=r"input must be a torch.Tensor; got list"):
        call([1.0])
    with pytest.raises(TypeError, match=r"key must be a torch.Tensor; got NoneType"):
        ft.scaled_dot_product_attention(torch.ones(2, 2), None, torch.ones(2, 2), dropout_p=0.5)


def test_flags_and_rates_that_are_arrays_get_our_sentence():
    x = torch.ones(3)
    with pytest.raises(TypeError, match="training"):
        ft.feature_alpha_dropout(torch.ones(3, 4), 0.5, np.array([True, False]))
    with pytest.raises((TypeError, ValueError), match="dimensions"):
        ft.feature_alpha_dropout(x, torch.tensor([0.1, 0.2]), True)


def test_functions_of_numpy_name_the_adapter_for_tensors_that_numpy_cannot_convert():
    with pytest.raises(TypeError, match=r"x must be convertible to a NumPy array; got Tensor, for which fastdrop\.torch has"):
        fastdrop.dropout(torch.ones(3, requires_grad=True), 0.5, seed=1)
