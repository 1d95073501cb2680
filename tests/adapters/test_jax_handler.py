"""The handler in C: its structures against jaxlib's header, its warnings, and the version that it reports."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

jax = pytest.importorskip("jax", reason="JAX is not installed")

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src_c" / "xla.c"
COMPILER = shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
pytestmark = [
    pytest.mark.skipif(not SOURCE.is_file(), reason="the sources are not beside the tests"),
    pytest.mark.skipif(COMPILER is None, reason="there is no C compiler"),
]

# Our structures, theirs, and the fields of both.
STRUCTURES = {
    "xla_extension XLA_FFI_Extension_Base": "size:struct_size type next",
    "xla_version XLA_FFI_Api_Version": "size:struct_size extension:extension_start major:major_version minor:minor_version",
    "xla_metadata XLA_FFI_Metadata": "size:struct_size version:api_version traits",
    "xla_metadata_extension XLA_FFI_Metadata_Extension": "base:extension_base metadata",
    "xla_error XLA_FFI_Error_Create_Args": "size:struct_size extension:extension_start message code:errc",
    "xla_api XLA_FFI_Api": (
        "size:struct_size extension:extension_start version:api_version internal:internal_api create_error:XLA_FFI_Error_Create"
    ),
    "xla_buffer XLA_FFI_Buffer": "size:struct_size extension:extension_start dtype data rank dims",
    "xla_name XLA_FFI_ByteSpan": "text:ptr length:len",
    "xla_scalar XLA_FFI_Scalar": "dtype value",
    "xla_array XLA_FFI_Array": "dtype length:size data",
    "xla_buffers XLA_FFI_Args": "size:struct_size extension:extension_start count:size types buffers:args",
    "xla_buffers XLA_FFI_Rets": "size:struct_size extension:extension_start count:size types buffers:rets",
    "xla_attributes XLA_FFI_Attrs": "size:struct_size extension:extension_start count:size types names values:attrs",
    "xla_frame XLA_FFI_CallFrame": (
        "size:struct_size extension:extension_start api context:ctx stage operands:args results:rets attributes:attrs"
    ),
}
MAY_GROW = {"xla_metadata", "xla_api", "xla_frame"}  # we read the first fields, and newer versions have more
CONSTANTS = {
    "XLA_METADATA": "XLA_FFI_Extension_Metadata",
    "XLA_INVALID_ARGUMENT": "XLA_FFI_Error_Code_INVALID_ARGUMENT",
    "XLA_FAILED_PRECONDITION": "XLA_FFI_Error_Code_FAILED_PRECONDITION",
    "XLA_F16": "XLA_FFI_DataType_F16",
    "XLA_F32": "XLA_FFI_DataType_F32",
    "XLA_F64": "XLA_FFI_DataType_F64",
    "XLA_BF16": "XLA_FFI_DataType_BF16",
}


def compile_program(program, folder, *flags):
    """Return what the compiler says about a program that includes the handler."""
    path = folder / "program.c"
    path.write_text(program)
    folders = [f"-I{ROOT / 'fastdrop' / 'include'}", f"-I{SOURCE.parent}", f"-I{jax.ffi.include_dir()}"]
    command = [COMPILER, *flags, *folders, "-c", str(path), "-o", str(folder / "program.o")]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def comparison():
    """Yield a static assertion for each size, offset and constant."""
    for names, fields in STRUCTURES.items():
        ours, theirs = names.split()
        relation = "<=" if ours in MAY_GROW else "=="
        yield f'_Static_assert(sizeof({ours}) {relation} sizeof({theirs}), "size of {theirs}");'
        for field in fields.split():
            own, _, other = field.partition(":")
            other = other or own
            for what in ("offsetof({0}, {1})", "sizeof((({0} *)0)->{1})"):
                if what.startswith("sizeof") and f"{ours}.{own}" == "xla_metadata.version":
                    continue
                left, right = what.format(ours, own), what.format(theirs, other)
                yield f'_Static_assert({left} == {right}, "{what.format(theirs, other)}");'
    for ours, theirs in CONSTANTS.items():
        yield f'_Static_assert((int){ours} == (int){theirs}, "{theirs}");'


def test_every_structure_of_the_handler_is_compared():
    declared = set(re.findall(r"^} (xla_\w+);", SOURCE.read_text(), re.MULTILINE))
    assert declared - {names.split()[0] for names in STRUCTURES} == {"xla_call"}  # the handler's own


def test_structures_are_those_of_jaxlib(tmp_path):
    program = '#include "xla.c"\n#include "xla/ffi/api/c_api.h"\n' + "\n".join(comparison())
    assert compile_program(program, tmp_path, "-std=c11") == ""


def test_the_comparison_sees_a_difference(tmp_path):
    text = SOURCE.read_text().replace(
        "  int64_t rank;\n  int64_t *dims;\n} xla_buffer;", "  int rank;\n  int64_t *dims;\n} xla_buffer;"
    )
    program = text + '\n#include "xla/ffi/api/c_api.h"\n' + "\n".join(comparison())
    assert "XLA_FFI_Buffer" in compile_program(program, tmp_path, "-std=c11")


def test_the_handler_is_plain_c_without_warnings(tmp_path):
    assert compile_program('#include "xla.c"\n', tmp_path, "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror") == ""


def test_it_reports_a_version_that_is_not_newer_than_jaxlibs():
    header = Path(jax.ffi.include_dir(), "xla/ffi/api/c_api.h").read_text()
    major, minor = (int(re.search(rf"#define XLA_FFI_API_{part} (\d+)", header)[1]) for part in ("MAJOR", "MINOR"))
    reported = re.findall(r"metadata->version\.(?:major|minor) = (\d+)", SOURCE.read_text())
    assert (int(reported[0]), int(reported[1])) <= (major, minor)


def test_jaxlib_accepts_it():
    from fastdrop.jax import _lowering

    assert _lowering.reject() == ""
