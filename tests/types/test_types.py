"""mypy and pyright accept right calls of functions and layers, and refuse wrong ones."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import layer_stubs
import package_stubs
import pytest

import fastdrop

USER_CODE = Path(__file__).with_name("user_code.py")


def run(*command, path):
    """Return what a type checker says about the user's code, which is copied to a folder of its own."""
    user = path / "user_code.py"
    user.write_text(USER_CODE.read_text())
    environment = os.environ | {"MYPYPATH": str(Path(fastdrop.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-m", *command, str(user)], capture_output=True, text=True, cwd=path, env=environment, check=False
    )
    return done.stdout, done.stderr


def marked(code=r"[\w-]+"):
    """Return the lines that are marked as errors, with mypy's name of the error."""
    lines = enumerate(USER_CODE.read_text().splitlines(), 1)
    return {(number, found[1]) for number, line in lines if (found := re.search(rf"  # error: ({code})$", line))}


@pytest.mark.slow
def test_mypy(tmp_path):
    pytest.importorskip("mypy")
    output, errors = run("mypy", "--strict", "--no-error-summary", path=tmp_path)
    found = re.findall(r"^user_code\.py:(\d+): error: .*\[([\w-]+)\]$", output, re.MULTILINE)
    assert {(int(number), code) for number, code in found} == marked(), output + errors


@pytest.mark.slow
def test_pyright(tmp_path):
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed")
    (tmp_path / "pyrightconfig.json").write_text(
        json.dumps(
            {
                "extraPaths": [str(Path(fastdrop.__file__).parents[1])],
                "pythonVersion": "3.10",
                "reportMissingModuleSource": False,
            }
        )
    )
    output, errors = run("pyright", "--pythonpath", sys.executable, "--outputjson", path=tmp_path)
    try:
        found = json.loads(output)["generalDiagnostics"]
    except ValueError:
        pytest.skip(f"pyright does not run here (it needs Node.js): {(output + errors).strip()[-200:]}")
    lines = {one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"}
    assert lines == {number for number, _ in marked()}, output


def declarations(source):
    """Return the declarations of a stub, whatever its format and its imports."""
    tree = ast.parse(source)
    return sorted(ast.unparse(node) for node in tree.body if isinstance(node, (ast.ClassDef, ast.Assign, ast.FunctionDef)))


def test_the_stub_of_the_layers_is_what_the_functions_offer():
    """After a change of a function's keywords: python tests/layer_stubs.py."""
    assert declarations(layer_stubs.PATH.read_text()) == declarations(layer_stubs.text())


def test_the_stub_of_the_face_is_what_the_functions_offer():
    """After a change of a signature: python tests/package_stubs.py."""
    assert declarations(package_stubs.PATH.read_text()) == declarations(package_stubs.text())


def test_the_stub_of_the_face_has_every_name():
    tree = ast.parse(package_stubs.PATH.read_text())
    names = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    names |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert set(fastdrop.__all__) <= names
