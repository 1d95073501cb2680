"""Which instruction sets a processor and its system can run, by answers of a processor that is not there."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "src_c"
COMPILER = shutil.which("gcc") or shutil.which("cc")
pytestmark = pytest.mark.skipif(
    COMPILER is None or platform.machine() not in ("x86_64", "AMD64") or not SOURCES.is_dir(),
    reason="compiles cpu.c for x86-64",
)

# cpu.c with its questions answered by the command line: leaf 1 ECX, leaf 7 EBX, XCR0.
PROGRAM = """
#include <cpuid.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
static unsigned leaf1, leaf7, xcr0;
static int mock_cpuid(unsigned leaf, unsigned *a, unsigned *b, unsigned *c, unsigned *d) {
  *a = *b = *d = 0, *c = leaf1;
  return leaf == 1;
}
static int mock_cpuid_count(unsigned leaf, unsigned sub, unsigned *a, unsigned *b, unsigned *c, unsigned *d) {
  *a = *c = *d = 0, *b = leaf7;
  return leaf == 7 && sub == 0;
}
#define __get_cpuid mock_cpuid
#define __get_cpuid_count mock_cpuid_count
#define __asm__(...) (low = xcr0, high = 0, (void)high)
#include "drivers/cpu.c"
const fd_isa fd_isa_portable = {.name = "portable"}, fd_isa_avx2 = {.name = "avx2"}, fd_isa_avx512 = {.name = "avx512"};
int main(int count, char **words) {
  if (count != 4) return 1;
  leaf1 = strtoul(words[1], 0, 0), leaf7 = strtoul(words[2], 0, 0), xcr0 = strtoul(words[3], 0, 0);
  for (int i = 0; i < fd_isa_count(); i++)
    if (fd_isa_runs(fd_isa_at(i))) printf("%s ", fd_isa_name(fd_isa_at(i)));
  return 0;
}
"""
OSXSAVE, F16C = 1 << 27, 1 << 29
AVX2, F, DQ, BW, VL = 1 << 5, 1 << 16, 1 << 17, 1 << 30, 1 << 31
ALL, SSE, YMM, ZMM = AVX2 | F | DQ | BW | VL, 0x02, 0x06, 0xE6
EVERY, TWO, ONE = "portable avx2 avx512 ", "portable avx2 ", "portable "


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cpu")
    (folder / "mock.c").write_text(PROGRAM)
    flags = ["-std=gnu11", "-DFD_HAVE_portable=1", "-DFD_HAVE_avx2=1", "-DFD_HAVE_avx512=1"]
    flags += [f"-I{SOURCES}", f"-I{SOURCES.parent}/fastdrop/include"]
    subprocess.run([COMPILER, *flags, "-o", folder / "mock", folder / "mock.c"], check=True, capture_output=True)

    def run(*answers):
        return subprocess.run([folder / "mock", *map(str, answers)], check=True, capture_output=True, text=True).stdout

    return run


@pytest.mark.parametrize(
    ("leaf1", "leaf7", "xcr0", "names"),
    [
        (OSXSAVE | F16C, ALL, ZMM, EVERY),
        (OSXSAVE | F16C, ALL, YMM, TWO),  # the system does not save the 512-bit registers
        *((OSXSAVE | F16C, ALL, ZMM & ~bit, TWO) for bit in (0x20, 0x40, 0x80)),
        (OSXSAVE | F16C, ALL, SSE, ONE),
        (OSXSAVE | F16C, ALL, 0, ONE),
        (F16C, ALL, ZMM, ONE),  # the system does not say what it saves
        (OSXSAVE, ALL & ~(F | DQ | BW | VL), YMM, ONE),  # no conversions of float16
        *((OSXSAVE | F16C, ALL & ~bit, ZMM, TWO) for bit in (F, DQ, BW, VL)),
        (OSXSAVE | F16C, AVX2 | F, ZMM, TWO),  # AVX-512 needs more than its foundation
        (OSXSAVE | F16C, 0, ZMM, ONE),
    ],
)
def test_instruction_sets(runs, leaf1, leaf7, xcr0, names):
    assert runs(leaf1, leaf7, xcr0) == names
