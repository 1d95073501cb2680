"""Build the extension modules; everything declarative is in pyproject.toml.

Each instruction set is one C file with flags of its own: the rest of the library is built for the plain machine,
and the choice is made at run time. A set that the compiler rejects is left out with a message. OpenMP is used where
a program that needs it compiles, links and runs; ``FASTDROP_OPENMP=0`` in the environment leaves it out.
"""

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

MSVC_FLAGS = ["/O2", "/fp:precise", "/std:c11"]
# No frame of more bytes: threads have as little as 64 KiB of stack.
FRAME = 26624
# No contraction: a fused multiply-add rounds once where the stream's values are defined with two roundings.
UNIX_FLAGS = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-fno-lto"]
UNIX_FLAGS += [f"-Werror=frame-larger-than={FRAME}"]

X86_64 = {"x86_64", "amd64"}
ARM_64 = {"aarch64", "arm64"}
# file: (machines, flags, flags of MSVC)
INSTRUCTION_SETS = {
    "avx2": (X86_64, ["-mavx2", "-mf16c"], ["/arch:AVX2"]),
    "avx512": (X86_64, ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"], ["/arch:AVX512"]),
    "neon": (ARM_64, [], []),
}
SOURCES = Path("src_c")
SEPARATE = {"instructions", "selftest", *(f"isa_{name}" for name in INSTRUCTION_SETS)}
COMMON = sorted({path.stem for path in SOURCES.glob("*.c")} - SEPARATE)

OPENMP_PROGRAM = """
#include <omp.h>
int main(void) {
  int n = 0;
#pragma omp parallel num_threads(2) reduction(+ : n)
  n += 1;
  return n < 1;
}
"""


class BuildExt(build_ext):
    """Compiles the C sources of ``native`` file by file, each with its own flags."""

    def build_extension(self, ext):
        if ext.name.endswith(".native"):
            msvc = self.compiler.compiler_type == "msvc"
            flags = MSVC_FLAGS if msvc else UNIX_FLAGS
            macros, objects = self.instruction_sets(flags, msvc)
            openmp = self.openmp_flags(msvc)
            macros.append(("FD_FLAGS", f'"{" ".join(flags + openmp)}"'))
            for name in COMMON:
                objects += self.objects(name, flags + (openmp if name == "drive" else []), macros)
            ext.extra_objects += objects
            ext.extra_link_args += [] if msvc else openmp
        super().build_extension(ext)

    def objects(self, name, flags, macros=()):
        return self.compiler.compile(
            [str(SOURCES / f"{name}.c")],
            output_dir=self.build_temp,
            macros=list(macros),
            extra_postargs=flags,
            depends=[str(path) for pattern in ("*.h", "*.inc") for path in SOURCES.glob(pattern)],
        )

    def instruction_sets(self, flags, msvc):
        macros, objects = [], []
        for name, (machines, unix, windows) in INSTRUCTION_SETS.items():
            if self.machine() not in machines:
                continue
            try:
                objects += self.objects(f"isa_{name}", flags + (windows if msvc else unix))
            except Exception as error:
                print(f"fastdrop: the compiler rejects {name}, which is left out: {error}", file=sys.stderr)
            else:
                macros.append((f"FD_HAVE_{name.upper()}", "1"))
        return macros, objects

    def machine(self):
        """Return what is built for: a cross build says so in the platform's name."""
        target = (self.plat_name or "").rpartition("-")[2].lower()
        known = X86_64 | ARM_64
        return target if target in known else platform.machine().lower()

    def openmp_flags(self, msvc):
        if os.environ.get("FASTDROP_OPENMP", "1") == "0":
            print("fastdrop: built without OpenMP, as FASTDROP_OPENMP=0 asks", file=sys.stderr)
            return []
        flags = ["/openmp"] if msvc else ["-fopenmp"]
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(OPENMP_PROGRAM)
            try:
                made = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=flags)
                self.compiler.link_executable(made, "probe", output_dir=folder, extra_postargs=[] if msvc else flags)
                program = Path(folder, self.compiler.executable_filename("probe"))
                subprocess.run([str(program)], check=True, timeout=60)
            except Exception as error:
                print(f"fastdrop: no working OpenMP, so one thread a call: {error}", file=sys.stderr)
                return []
        return flags


def extension(name):
    return Extension(
        f"fastdrop.{name}",
        [f"fastdrop/{name.replace('.', '/')}.pyx"],
        # Else a changed C file is not linked again, and a changed declaration not seen.
        depends=[str(path) for path in sorted([*SOURCES.iterdir(), *Path("fastdrop").rglob("*.px[di]")])],
        include_dirs=[str(SOURCES), numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
    )


MODULES = ("_core.native", "_core.plan", "_core.numbers", "variants.dropout")

setup(ext_modules=[extension(name) for name in MODULES], cmdclass={"build_ext": BuildExt})
