"""Build the extension modules; pyproject.toml has all declarative settings.

Each instruction set is one C file with its own compiler flags, listed in ``src_c/isa/list.h``. The rest of the library is built
for the baseline machine; the instruction set is chosen at run time. An instruction set that the compiler rejects is left out,
with a message. OpenMP is used if a test program with it compiles, links and runs. Otherwise the library has its own threads.

These variables of the environment change the build: ``FASTDROP_OPENMP=0`` turns OpenMP off; ``FASTDROP_DEBUG=1`` keeps debug
information, function names and the signatures of compiled functions; ``FASTDROP_ABI3=1`` builds for the stable ABI, so that
one wheel serves CPython 3.11 and all later versions.
"""

import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

MODULES = ("_core.native", "_core.plan", "_core.numbers", "_core.pointers")
KERNELS = "fastdrop._core.native"  # the module that contains the C library

SOURCES = Path("src_c")
INCLUDE = Path("fastdrop/include")
OWN_SOURCES = {"_core.pointers": ["src_c/xla.c"]}  # C files that belong to a module
DRIVERS = sorted(set(SOURCES.glob("drivers/*.c")) - set(SOURCES.glob("drivers/workers_*.c")))
DECLARATIONS = sorted(Path("fastdrop").rglob("*.px[di]"))
HEADERS = [str(path) for path in (*SOURCES.rglob("*.h"), *INCLUDE.glob("*.h"))]
# name, machine, compiler flags
INSTRUCTION_SETS = re.findall(r'^FD_ISA\((\w+), (\w+), .*"(.*)"\)$', (SOURCES / "isa/list.h").read_text(), re.MULTILINE)
MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}

DEBUG = os.environ.get("FASTDROP_DEBUG", "0") == "1"
STRIPPED = sys.platform == "linux" and not DEBUG
STRIP = ["-Wl,-s", "-Wl,-z,noseparate-code"] if STRIPPED else []  # the second flag lets segments share a page
# No exception passes through this code, so nothing needs the tables that say how to unwind it: 80 KB to install.
TABLES = ["-fno-asynchronous-unwind-tables", "-fno-unwind-tables"] if STRIPPED else []
# The compiler's command line ends with these flags, so that CFLAGS cannot undo them. Contraction is off because a fused
# multiply-add rounds once, but the stream's values are defined with two roundings. errno and traps change no value; without
# them the compiler vectorizes loops with roots and comparisons.
EXACT = ["-fno-fast-math", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-g" if DEBUG else "-g0", *TABLES]
FLAGS = ["-std=gnu11", "-O3", "-fvisibility=hidden", "-fno-lto", *EXACT]
# The most bytes of stack per C function: a thread may have only 64 KiB. The first spelling is for gcc; the second is for clang,
# which does not know some gcc flags in the list.
FRAME = 26624
FRAMES = (
    [f"-Werror=frame-larger-than={FRAME}"],
    [
        f"-Wframe-larger-than={FRAME}",
        "-Werror=frame-larger-than",
        "-Wno-ignored-optimization-argument",
        "-Wno-pass-failed",  # an INDEPENDENT loop that clang does not vectorize
    ],
)
# Cython's modules are long and have few hot loops, so that small code is also the faster code. clang does not know these flags.
SMALL = ["-fno-tree-vectorize", "-freorder-blocks-algorithm=simple"]
SMALL += [f"-fno-align-{places}" for places in ("functions", "loops", "jumps", "labels")]
# One module has loops over arrays of weights. For 4 KB of code, these flags cut their time to a half or a quarter.
LOOPS = {"fastdrop._core.numbers": ["-ftree-vectorize", "-fvect-cost-model=dynamic", "-funswitch-loops"]}
# -Os vectorizes no loop. So in the wheel of the stable ABI, this module is made smaller by 19 KB in another way.
LEAN = [f"-fno-inline-{functions}" for functions in ("functions", "functions-called-once", "small-functions")]
LEAN += ["-fno-early-inlining", "-fno-tree-pre", "-fno-gcse", "-fno-code-hoisting", "-fno-tree-dominator-opts"]
LEAN += ["-fno-reorder-blocks-and-partition"]
# Private functions are of Python's class for compiled functions, which has no signatures: 35 KB less in the wheel. Those that
# PyTorch's compiler meets in traced code have Cython's class, because it warns of others.
PRIVATE = {"binding": DEBUG}
ABI3 = os.environ.get("FASTDROP_ABI3", "0") == "1"

PROGRAM = "int main(void) { return 0; }\n"
OPENMP_PROGRAM = """
#include <omp.h>
int main(void) {
  int n = 0;
#pragma omp parallel num_threads(2) reduction(+ : n)
  n += 1;
  return n < 1;
}
"""


def is_outdated(ext):
    """Return whether a declaration is newer than a module's C file.

    Cython itself looks only at files of the module's name: a module could keep the old layout of another module's structures.
    """
    made = Path(ext.sources[0]).with_suffix(".c")
    return made.exists() and max(path.stat().st_mtime for path in DECLARATIONS) > made.stat().st_mtime


class BuildExt(build_ext):
    """Compiles each file of the C library with its own flags."""

    def build_extensions(self):
        if self.compiler.compiler_type != "unix":
            raise SystemExit("fastdrop needs a POSIX system and gcc or clang: other compilers cannot build it.")
        if error := self.fails(PROGRAM, []):
            raise SystemExit(
                f"fastdrop needs a C compiler, and {self.compiler.compiler[0]!r} does not work ({error}): install gcc or clang "
                "(Debian: apt-get install gcc libc6-dev; Fedora: dnf install gcc; macOS: xcode-select --install)."
            )
        for ext in self.extensions:  # one after another: Cython does not promise to be safe in threads
            cache = os.environ.get("CYTHON_CACHE_DIR")  # Cython's own variable, without which it keeps nothing
            force = DEBUG or is_outdated(ext)
            ext.sources = cythonize(ext, quiet=True, force=force, cache=cache, compiler_directives=PRIVATE)[0].sources
            if ext.name != KERNELS and not self.fails(PROGRAM, ["-Werror", *SMALL, *LEAN]):
                ext.extra_compile_args += SMALL + LOOPS.get(ext.name, [])
                if ABI3 and ext.name in LOOPS:
                    ext.extra_compile_args += LEAN
        self.parallel = self.parallel or os.cpu_count()
        super().build_extensions()

    def build_extension(self, ext):
        if ext.name == KERNELS:
            threading, threaded = self.threading()
            flags = FLAGS + next((option for option in FRAMES if not self.fails(PROGRAM, ["-Werror", *option])), [])
            macros, objects = self.instruction_sets(flags)
            macros.append(("FD_FLAGS", f'"{" ".join(flags + threaded)}"'))
            for path in DRIVERS:
                objects += self.objects(path, flags, macros)
            objects += self.objects(SOURCES / f"drivers/workers_{threading}.c", flags + threaded)
            ext.extra_objects += objects
            ext.extra_link_args += threaded
        super().build_extension(ext)

    def objects(self, path, flags, macros=()):
        return self.compiler.compile(
            [str(path)],
            output_dir=self.build_temp,
            include_dirs=[str(SOURCES), str(INCLUDE)],
            macros=list(macros),
            extra_postargs=flags,
            depends=HEADERS,
        )

    def instruction_sets(self, flags):
        macros, objects = [], []
        for name, machine, own in INSTRUCTION_SETS:
            if machine not in ("any", self.machine()):
                continue
            try:
                objects += self.objects(SOURCES / f"isa/{name}.c", flags + own.split())
            except Exception as error:
                print(
                    f"fastdrop: the instruction set {name} is left out, because the compiler rejects it: {error}",
                    file=sys.stderr,
                )
            else:
                macros.append((f"FD_HAVE_{name}", "1"))
        return macros, objects

    def machine(self):
        """Return the target machine; the platform name of a cross build has it."""
        target = (self.plat_name or "").rpartition("-")[2].lower()
        here = platform.machine().lower()
        return MACHINES.get(target) or MACHINES.get(here, here)

    def fails(self, program, flags, run=False):
        """Return why a program does not compile, link and (if requested) run with these flags, or "" if it does."""
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(program)
            try:
                made = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=flags)
                self.compiler.link_executable(made, "probe", output_dir=folder, extra_postargs=flags)
                if run:
                    subprocess.run([str(Path(folder, self.compiler.executable_filename("probe")))], check=True, timeout=60)
            except Exception as error:
                return str(error) or type(error).__name__
        return ""

    def threading(self):
        """Return the name of the threads, and the flags that they need."""
        if os.environ.get("FASTDROP_OPENMP", "1") == "0":
            print("fastdrop: built without OpenMP, as FASTDROP_OPENMP=0 asks", file=sys.stderr)
        elif error := self.fails(OPENMP_PROGRAM, ["-fopenmp"], run=True):
            print(f"fastdrop: built without OpenMP, because it does not work: {error}", file=sys.stderr)
        else:
            return "openmp", ["-fopenmp"]
        return "posix", ["-pthread"]


def level(name):
    """Return the flag of optimization of one of Cython's modules. -O2 makes them a tenth smaller than -O3.

    In the wheel of the stable ABI -Os makes them smaller still, except the module with loops.
    """
    if name == KERNELS:
        return []
    return ["-Os" if ABI3 and name not in LOOPS else "-O2"]


def extension(name):
    return Extension(
        f"fastdrop.{name}",
        [f"fastdrop/{name.replace('.', '/')}.pyx", *OWN_SOURCES.get(name, [])],
        # Without these, a changed C file or declaration would not cause a rebuild.
        depends=[*HEADERS, *map(str, sorted([*SOURCES.rglob("*.c"), *DECLARATIONS]))],
        include_dirs=[str(SOURCES), str(INCLUDE), numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"), *([("Py_LIMITED_API", "0x030B0000")] if ABI3 else [])],
        py_limited_api=ABI3,
        extra_compile_args=[*level(f"fastdrop.{name}"), *EXACT],
        extra_link_args=list(STRIP),
    )


def index_page():
    """Return README.md for a package index, where relative links lead nowhere: they become names of the project's files."""

    def name(link):
        label, target = link.groups()
        return f"`{target}`" if label == target else f"{label} (`{target}`)"

    return re.sub(r"\[([^]]+)\]\((?!https?://|#)([^)#]+)[^)]*\)", name, Path("README.md").read_text(encoding="utf-8"))


setup(
    long_description=index_page(),
    long_description_content_type="text/markdown",
    ext_modules=[extension(name) for name in MODULES],
    cmdclass={"build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if ABI3 else {},
)
