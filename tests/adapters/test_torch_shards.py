"""Two processes: shards and replicas have the bytes of one process."""

import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed"),
]

BEGIN = """
import sys, warnings
import torch, torch.distributed as dist
import fastdrop.torch as ft
warnings.simplefilter("ignore")
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
x = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
grad = torch.randn(5, 6, generator=torch.Generator().manual_seed(2))
"""
# gloo's threads may still run when the interpreter ends, which ends the process by a signal: so it ends without that.
END = """
dist.barrier()
dist.destroy_process_group()
import os
os._exit(0)
"""


def run(tmp_path, program):
    """Run a program in two processes that know of each other."""
    path = tmp_path / "program.py"
    path.write_text(BEGIN + program + END)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    both = [
        subprocess.Popen(
            [sys.executable, str(path), str(rank), str(tmp_path / "store")], env=environment, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    try:
        for each in both:
            _, errors = each.communicate(timeout=120)
            assert each.returncode == 0, errors
    finally:
        for each in both:
            each.kill()


TENSORS = """
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
mesh = init_device_mesh("cpu", (2,))
place = lambda t, placement: distribute_tensor(t, mesh, [placement])
"""


@pytest.mark.parametrize("placement", ["Shard(0)", "Shard(1)", "Replicate()"])
def test_shards_have_the_mask_of_the_whole(tmp_path, placement):
    """5 by 6: the first axis is cut unevenly. With a seed, and with a draw on which the processes agree."""
    program = f"""
    for options in ({{"seed": 3}}, {{"seed": 3, "shared_axes": 0}}, {{"seed": 3, "shared_axes": 1}}, {{}}):
        torch.manual_seed(5 if rank == 0 else 6)
        leaf = x.clone().requires_grad_()
        shards = place(leaf, {placement})
        y = ft.dropout(shards, 0.4, **options)
        assert isinstance(y, DTensor) and y.placements == shards.placements and y.shape == x.shape
        torch.manual_seed(5)
        whole = x.clone().requires_grad_()
        wanted = ft.dropout(whole, 0.4, **options)
        assert torch.equal(y.full_tensor(), wanted)
        inner, = torch.autograd.grad(y, shards, place(grad, {placement}))
        outer, = torch.autograd.grad(wanted, whole, grad)
        assert torch.equal(inner.full_tensor(), outer)
    """
    run(tmp_path, TENSORS + "".join(line[4:] + "\n" for line in program.splitlines()))


def test_shards_of_more(tmp_path):
    program = """
residual = place(grad, Shard(0))
y = ft.dropout_add(place(x, Shard(0)), residual, 0.4, seed=3)
assert torch.equal(y.full_tensor(), ft.dropout_add(x, grad, 0.4, seed=3))
for nothing in ({"training": False}, {"p": 0.0}):
    assert torch.equal(ft.dropout_add(place(x, Shard(0)), residual, **nothing).full_tensor(), x + grad)
compiled = torch.compile(lambda x: ft.dropout(x, 0.4, seed=3), backend="aot_eager")
assert torch.equal(compiled(place(x, Shard(0))).full_tensor(), ft.dropout(x, 0.4, seed=3))
few = place(x[:1], Shard(0))  # the second process has none
assert torch.equal(ft.dropout(few, 0.4, seed=3).full_tensor(), ft.dropout(x[:1], 0.4, seed=3))
other = init_device_mesh("cpu", (2,), mesh_dim_names=("other",))
state = torch.get_rng_state()
for wrong, sentence in (
    (lambda: ft.gaussian_dropout(place(x, Shard(0)), 0.4), "gaussian_dropout takes no DTensor"),
    (lambda: ft.drop_block2d(place(x[None, None], Shard(2)), 0.4, 2), "drop_block2d takes no DTensor"),
    (lambda: ft.attention_dropout(place(x[None, None], Shard(2)), 0.4, unit="key"), "attention_dropout takes no DTensor"),
    (lambda: ft.concrete_dropout(place(x, Shard(0)), torch.tensor(0.0)), "concrete_dropout takes no DTensor"),
    (lambda: ft.dropout(DTensor.from_local(x, mesh, [Partial()]), 0.4), "Partial placement"),
    (lambda: ft.dropout(place(x, Shard(0)), 0.4, global_shape=(5, 6)), "knows its place"),
    (lambda: ft.dropout_add(x, residual, 0.4), "residual must be no DTensor, because x is none"),
    (lambda: ft.dropout_add(x, grad, 0.4, place(x[0], Replicate())), "bias must be no DTensor, because x is none"),
    (lambda: ft.dropout_add(place(x, Shard(0)), place(grad, Shard(1)), 0.4), "the mesh and the placements of input"),
    (lambda: ft.dropout_add(place(x, Shard(0)), distribute_tensor(grad, other, [Shard(0)]), 0.4), "the mesh and"),
):
    try:
        wrong()
    except (ValueError, NotImplementedError) as error:
        assert sentence in str(error), error
    else:
        raise AssertionError(sentence)
assert torch.equal(state, torch.get_rng_state())
"""
    run(tmp_path, TENSORS + program)


FAKE = """
import torch, torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard
from torch.testing._internal.distributed.fake_pg import FakeStore
import fastdrop.torch as ft
def local(x, mesh, *placements):
    return DTensor.from_local(x, mesh, placements, run_check=False)
def begin(rank, size):
    dist.init_process_group("fake", rank=rank, world_size=size, store=FakeStore())
"""


def test_parts_that_are_no_blocks(run_python):
    """Of a flattened axis; weights of tensor and data parallelism are blocks. Each process is played in turn."""
    program = """
whole = ft.dropout(torch.ones(8, 3), 0.5, seed=7)
for rank in range(4):
    begin(rank, 4)
    mesh = init_device_mesh("cpu", (2, 2))
    weight = local(torch.ones(2, 3), mesh, _StridedShard(0, split_factor=2), Shard(0))
    data, tensor = mesh.get_coordinate()
    start = 4 * tensor + 2 * data
    assert torch.equal(ft.dropout(weight, 0.5, seed=7).to_local(), whole[start : start + 2])
    line = init_device_mesh("cpu", (4,))
    state = torch.get_rng_state()
    for wrong in (
        local(torch.ones(2, 1, 3), line, Shard(1)).flatten(0, 1),
        local(torch.ones(2, 3), line, _StridedShard(0, split_factor=2)),
        local(torch.ones(2, 3), mesh, Shard(0), _StridedShard(0, split_factor=2)),
    ):
        for options in ({"seed": 7}, {}):
            try:
                ft.dropout(wrong, 0.5, **options)
            except ValueError as error:
                assert "parts are not blocks of the whole" in str(error), error
            else:
                raise AssertionError(wrong.placements)
    assert torch.equal(state, torch.get_rng_state())
    dist.destroy_process_group()
"""
    done = run_python(FAKE + program)
    assert done.returncode == 0, done.stderr


def test_a_process_outside_of_the_mesh(run_python):
    program = """
begin(1, 2)
x = local(torch.ones(4, 3), DeviceMesh("cpu", [0]), Shard(0))
assert x.to_local().shape == torch.nn.functional.dropout(x, 0.5).to_local().shape
for options in ({"seed": 1}, {}, {"inplace": True}):
    y = ft.dropout(x, 0.5, **options)
    assert isinstance(y, DTensor) and y.shape == x.shape and y.placements == x.placements
    assert y.to_local().shape == x.to_local().shape
assert ft.dropout_add(x, x, 0.5).shape == x.shape
"""
    done = run_python(FAKE + program)
    assert done.returncode == 0, done.stderr


def test_layers_that_count_in_a_distributed_module(run_python):
    program = """
from torch.distributed.tensor import distribute_module
begin(1, 2)
mesh = init_device_mesh("cpu", (2,))
layer = distribute_module(torch.nn.Sequential(ft.Dropout(0.5, seed=3)), mesh)
x = local(torch.ones(2, 3), mesh, Shard(0))
assert isinstance(layer[0].key, DTensor)
for calls in range(2):
    wanted = ft.dropout(torch.ones(4, 3), 0.5, seed=3, offset=calls)[2:]
    assert torch.equal(layer(x).to_local(), wanted)
assert layer[0].key.to_local().tolist() == [3, 2]
for function in (ft.dropout, torch.compile(ft.dropout, backend="aot_eager")):
    try:
        function(torch.ones(2, 3), 0.5, seed=layer[0].key)
    except TypeError as error:
        assert "a tensor as seed must be no DTensor" in str(error), error
    else:
        raise AssertionError
"""
    done = run_python(FAKE + program)
    assert done.returncode == 0, done.stderr


def test_data_parallel(tmp_path):
    """Whole numbers, so that sums are exact in any order: the gradient of the weights has the bytes of one process."""
    program = """
from torch import nn
from torch.nn.parallel import DistributedDataParallel
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.arange(1.0, 7.0))
    def forward(self, x, begin):
        return ft.dropout(x * self.weight, 0.5, seed=3, global_shape=(4, 6), global_start=(begin, 0))
x = torch.arange(24.0).reshape(4, 6)
model, alone = DistributedDataParallel(Model()), Model()
y = model(x[2 * rank : 2 * rank + 2], 2 * rank)
wanted = alone(x, 0)
assert torch.equal(y, wanted[2 * rank : 2 * rank + 2])
y.sum().backward()
(wanted.sum() / 2).backward()
assert torch.equal(model.module.weight.grad, alone.weight.grad)
"""
    run(tmp_path, program)
