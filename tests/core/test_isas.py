"""Each instruction set can be forced, is then what runs, and was compiled as the stream's values need it."""

import functools
import platform
import re
import shutil
import subprocess

import pytest

import fastdrop
from fastdrop._core import native, numbers, plan
from fastdrop.verify.cases import Case, compute

CONFIG = fastdrop.config()
VECTOR_BITS = {"portable": 64, "neon": 128, "avx2": 256, "avx512": 512}
# Multiplications fused with an addition, of x86-64 (vfmadd231ps, vfnmsub...) and AArch64 (fmadd, fmla...).
FUSED = re.compile(r"\s(vf(n?m(add|sub)|maddsub|msubadd)\w*|fn?m(add|sub)|fml[as]l?2?)\s")


def disassembled(*modules):
    if shutil.which("objdump") is None:
        pytest.skip("objdump is not installed")
    return "".join(
        subprocess.run(
            ["objdump", "--disassemble", "--no-show-raw-insn", module.__file__],
            capture_output=True, text=True, check=True, timeout=120,
        ).stdout
        for module in modules
    )  # fmt: skip


@functools.cache
def functions():
    """Return the code of each function of the kernels' library, as (name, instructions)."""
    parts = re.split(r"^[0-9a-f]+ <([^>]+)>:$", disassembled(native), flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def widest_register(code):
    return 512 if "%zmm" in code else 256 if "%ymm" in code else 128


@pytest.mark.parametrize("isa", CONFIG["isas"])
def test_forced_for_a_block(isa):
    with fastdrop.using(isa=isa):
        assert fastdrop.get_isa() == fastdrop.config()["isa"] == isa
        assert plan.effective().isa == isa
        assert len(compute(Case("packed-mask", 100))) == 13
    fastdrop.set_isa(isa)
    assert fastdrop.get_isa() == isa


@pytest.mark.parametrize("isa", CONFIG["isas"])
def test_forced_by_the_environment(run_python, isa):
    done = run_python(
        """
        import sys
        import fastdrop
        from fastdrop.verify.cases import Case, compute
        sys.stdout.write(fastdrop.get_isa() + " " + compute(Case("packed-mask", 5000, p=0.3)).tobytes().hex())
        """,
        FASTDROP_ISA=isa,
    )
    assert done.stdout == f"{isa} {compute(Case('packed-mask', 5000, p=0.3)).tobytes().hex()}"


def test_there_is_always_plain_c():
    assert CONFIG["isas"][0] == CONFIG["isas_built"][0] == "portable"


def test_registers_differ():
    for isa in CONFIG["isas_built"]:
        assert native.vector_bits(isa) == VECTOR_BITS[isa]


def test_unknown_registers():
    with pytest.raises(ValueError, match="no instruction set 'sse9' in this build"):
        native.vector_bits("sse9")


@pytest.mark.parametrize("isa", CONFIG["isas"])
def test_multiplication_and_addition_round_apart(isa):
    assert not native.contracts(isa)


def test_no_fused_multiplications_anywhere():
    assert FUSED.findall("\tvfmadd231ps %zmm0\n\tvfnmsub132sd %xmm1\n\tfmla v0.4s\n\tfmadd d0\n")
    assert not FUSED.findall("\tvmulps %zmm0,%zmm1\n\tvaddps %zmm0\n")
    code = disassembled(native, numbers, plan)
    assert "mul" in code
    assert not FUSED.findall(code)


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="register names of x86-64")
@pytest.mark.parametrize("kernel", ["keep_bits", "keep_few", "blocks", "f32_apply", "f64_apply"])
def test_each_kernel_has_the_registers_of_its_instruction_set(kernel):
    """There is one of each name an instruction set: each file was compiled with flags of its own."""
    found = [widest_register(code) for name, code in functions() if name.split(".")[0] == kernel]
    if not found:
        pytest.skip("the library was stripped of names, or the compiler has merged this function into another")
    assert sorted(found) == [max(128, VECTOR_BITS[isa]) for isa in CONFIG["isas_built"]]  # plain C on x86-64 has SSE2
