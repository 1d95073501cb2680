"""Each instruction set can be forced, then runs, and was compiled with the flags that the stream's values need."""

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import fastdrop
from fastdrop._core import native, numbers, plan
from fastdrop.verify.cases import Case, compute

SOURCES = Path(__file__).parents[2] / "src_c"
CONFIG = fastdrop.config()
VECTOR_BITS = {"portable": 128 if platform.machine() in ("x86_64", "AMD64") else 64, "neon": 128, "avx2": 256, "avx512": 512}
# Fused multiply-add instructions of x86-64 (vfmadd231ps, vfnmsub...) and AArch64 (fmadd, fmla...).
FUSED = re.compile(r"\s(vf(n?m(add|sub)|maddsub|msubadd)\w*|fn?m(add|sub)|fml[as]l?2?)\s")


def make(folder, *arguments):
    """Run make and return its output; skip if make or the sources are missing."""
    if not (SOURCES / "Makefile").is_file() or shutil.which("make") is None or shutil.which("cc") is None:
        pytest.skip("needs the C sources, make and a C compiler")
    done = subprocess.run(["make", "-s", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=600)
    return done.stdout + done.stderr


def disassembled(*files):
    if shutil.which("objdump") is None:
        pytest.skip("objdump is not installed")
    return "".join(
        subprocess.run(
            ["objdump", "--disassemble", "--no-show-raw-insn", file], capture_output=True, text=True, check=True, timeout=120
        ).stdout
        for file in files
    )


@pytest.fixture(scope="module")
def functions(tmp_path_factory):
    """Return the code of each function as {instruction set: [(name, instructions)]}; the installed library has no names."""
    folder = tmp_path_factory.mktemp("isas")
    make(SOURCES, "isas", f"BUILD={folder}")  # with the usual flags: ccache may have these objects
    found = {}
    for isa in CONFIG["isas_built"]:
        parts = re.split(r"^[0-9a-f]+ <([^>]+)>:$", disassembled(folder / f"isa/{isa}.o"), flags=re.MULTILINE)
        found[isa] = list(zip(parts[1::2], parts[2::2], strict=True))
    return found


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


@pytest.mark.slow
def test_no_fused_multiplications_anywhere():
    assert FUSED.findall("\tvfmadd231ps %zmm0\n\tvfnmsub132sd %xmm1\n\tfmla v0.4s\n\tfmadd d0\n")
    assert not FUSED.findall("\tvmulps %zmm0,%zmm1\n\tvaddps %zmm0\n")
    code = disassembled(*(module.__file__ for module in (native, numbers, plan)))
    assert "mul" in code
    assert not FUSED.findall(code)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="register names of x86-64")
@pytest.mark.parametrize("kernel", ["keep_bits", "keep_few", "blocks", "f32_op_scale", "f64_op_scale"])
def test_each_kernel_has_the_registers_of_its_instruction_set(functions, kernel):
    """Each file was compiled with its own flags."""
    for isa, code in functions.items():
        found = [widest_register(instructions) for name, instructions in code if name.split(".")[0] == kernel]
        assert set(found) == {max(128, VECTOR_BITS[isa])}, isa  # plain C on x86-64 has SSE2


# The list of instruction sets ---------------------------------------------------------------------------------------


def rows():
    """Return the rows of the list, as (name, machine)."""
    if not (SOURCES / "isa/list.h").is_file():
        pytest.skip("needs the C sources")
    return re.findall(r"^FD_ISA\((\w+), (\w+), ", (SOURCES / "isa/list.h").read_text(), re.MULTILINE)


def test_the_build_has_what_the_list_has_for_this_machine():
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    assert [name for name, of in rows() if of in ("any", machine)] == CONFIG["isas_built"]


def test_each_row_has_a_file_and_each_file_a_row():
    assert sorted(name for name, _ in rows()) == sorted(path.stem for path in (SOURCES / "isa").glob("*.c"))


@pytest.fixture
def sources(tmp_path):
    """Return a copy of the C sources with a new instruction set `dummy`, added as one file (plain C again) and one row."""
    rows()
    copy = shutil.copytree(SOURCES, tmp_path / "src_c", ignore=shutil.ignore_patterns("build"))
    shutil.copytree(fastdrop.get_include(), tmp_path / "fastdrop/include")
    plain = (copy / "isa/portable.c").read_text()
    (copy / "isa/dummy.c").write_text(plain.replace("FD_ISA_NAME portable", "FD_ISA_NAME dummy"))
    with (copy / "isa/list.h").open("a") as file:
        file.write('FD_ISA(dummy, any, 1, "-O1")\n')
    return copy


@pytest.mark.slow
def test_a_new_instruction_set_is_a_file_and_a_row(sources):
    make(sources, "instructions", "CFLAGS=-O1", "THREADS=posix", "ISAS=portable dummy")
    done = subprocess.run([str(sources / "build/instructions")], capture_output=True, text=True, check=True)
    assert {line.split()[0] for line in done.stdout.splitlines()[1:]} == {"portable", "dummy"}


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("CHAINS = 4", "CHAINS = 64", "callers' buffers have room"),
        ("CHAINS = 4", "CHAINS = 1", "at least two blocks"),
        ("F32_LANES = 8", "F32_LANES = 16", "F32_LANES must be the number"),
        ("u64v v_add(u64v a, u64v b)", "u64v v_add(u64v a, int b)", "conflicting types for"),
        ("u64v v_add(", "u64v v_other(", "v_add"),
    ],
)
def test_an_instruction_set_that_breaks_the_contract_does_not_compile(sources, was, becomes, said):
    file = sources / "isa/dummy.c"
    assert was in file.read_text()
    file.write_text(file.read_text().replace(was, becomes))
    assert said in make(sources, "isas", "CFLAGS=-O0", "ISAS=dummy")
    assert not (sources / "build/isa/dummy.o").exists()


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["-ffast-math", "-Ofast", "-ffinite-math-only"])
def test_flags_that_change_bits_are_taken_back(sources, flag):
    make(sources, "isas", f"CFLAGS=-O1 {flag}", "ISAS=dummy")
    assert (sources / "build/isa/dummy.o").exists()


def test_flags_that_change_bits_are_refused(sources):
    said = make(sources, "isas", "CFLAGS=-O1 -ffast-math", "ISAS=dummy", "REQUIRED=-I. -I../fastdrop/include")
    assert "fastdrop promises bits" in said
    assert not (sources / "build/isa/dummy.o").exists()


@pytest.mark.parametrize("isa", CONFIG["isas"])
def test_all_words_of_the_key_count_in_large_arrays(isa):
    """Many neighbouring blocks share parts of their first rounds; the shared parts depend on all four words of the key."""
    n = 2**15 + 77
    for seed, offset in ((3, 0), (3, 5), (3, 5 << 32), (3 << 32, 5)):
        wanted = fastdrop.dropout_mask(n, 0.3, seed=seed, offset=offset, backend="numpy")
        with fastdrop.using(isa=isa, backend="c"):
            assert (fastdrop.dropout_mask(n, 0.3, seed=seed, offset=offset) == wanted).all()
