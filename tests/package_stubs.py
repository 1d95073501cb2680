"""The package's signatures for type checkers: `fastdrop/__init__.pyi`, in which a result has the dtype of the input array.

python tests/package_stubs.py        # writes the file again, after a signature has changed
"""

import ast
import inspect
import re
import types
from pathlib import Path

from layer_stubs import SOURCES, format_code, qualified, stub_annotations

import fastdrop

PATH = Path(fastdrop.__file__).parent / "__init__.pyi"
ARRAY = "NDArray[Any]"


def submodules():
    """Return the names of the modules that load when they are first named."""
    return sorted(set(dir(fastdrop)) - set(fastdrop.__all__) - {"__version__"})


def written(annotation):
    """Return an annotation as it is written."""
    return annotation if isinstance(annotation, str) else annotation.__name__


def signature(function):
    """Return the parameters as (name, kind, annotation, default), and the annotation of the result."""
    known = {} if inspect.isfunction(function) else stub_annotations(function)
    found = inspect.signature(function)
    parameters = [
        (one.name, one.kind, qualified(known.get(one.name, written(one.annotation)), function), one.default)
        for one in found.parameters.values()
    ]
    return parameters, qualified(written(found.return_annotation), function)


def widened(annotation):
    """Return the annotation of a number, which may be NumPy's too, or another one as it is."""
    return "Number" if annotation == "float" else annotation


def keeps_dtype(function):
    """Return whether a function's first argument is an array and its result, or the first of its results, is one like it."""
    if not callable(function) or isinstance(function, type):
        return False
    parameters, result = signature(function)
    return bool(parameters) and parameters[0][2] == "ArrayLike" and result.startswith((ARRAY, f"tuple[{ARRAY}"))


def takes_number(name):
    """Return whether a function has a number among its arguments."""
    function = getattr(fastdrop, name)
    return isinstance(function, types.FunctionType) and any(one[2] == "float" for one in signature(function)[0])


def declaration(name, parameters, result):
    """Return the line that declares a function."""
    parts, keyword_only = [], False
    for parameter, kind, annotation, default in parameters:
        if kind is inspect.Parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            parts.append("*")
        value = "" if default is inspect.Parameter.empty else " = ..." if default == float("-inf") else f" = {default!r}"
        parts.append(f"{parameter}: {widened(annotation)}{value}")
    return f"def {name}({', '.join(parts)}) -> {result}: ..."


def overloads(name):
    """Return the two declarations of a function that keeps the dtype: for an array of some dtype, and for anything like one."""
    ((first, kind, _, default), *others), result = signature(getattr(fastdrop, name))
    typed = [(first, kind, "NDArray[T]", default), *others]
    plain = [(first, kind, "ArrayLike", default), *others]
    like = result.replace(ARRAY, "NDArray[T]")
    return "\n".join(["@overload", declaration(name, typed, like), "@overload", declaration(name, plain, result)])


def imports(body, functions):
    """Return the lines that import what annotations name."""
    words, lines = set(re.findall(r"\w+", body)), []
    for source in SOURCES:
        here = {word for word in words if word[0].isupper() and word != "T" and hasattr(source, word)}
        words -= here
        if here:
            lines.append(f"from {source.__name__} import {', '.join(sorted(here))}")
    modules = {function.__module__ for function in functions}
    local = sorted(module for module in modules if re.search(rf"\b{module.rpartition('.')[2]}\.[A-Z]", body))
    return lines + [f"from {module.rpartition('.')[0]} import {module.rpartition('.')[2]}" for module in local]


def re_exports(names):
    """Return the imports of `fastdrop/__init__.py` by name, for objects that are declared in their own modules."""
    tree = ast.parse(Path(fastdrop.__file__).read_text())
    found = {alias.name: node.module for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    return [f"from {found[name]} import {name} as {name}" for name in names if name in found]


def text():
    """Return the stub, not yet formatted."""
    declared = [name for name in fastdrop.__all__ if keeps_dtype(getattr(fastdrop, name))]
    others = [name for name in fastdrop.__all__ if name not in declared]
    own = [name for name in others if takes_number(name) or getattr(fastdrop, name).__module__ == "fastdrop"]
    single = [declaration(name, *signature(getattr(fastdrop, name))) for name in own]
    body = "\n".join([*single, *map(overloads, declared)])
    functions = [getattr(fastdrop, name) for name in (*own, *declared)]
    lines = [
        f'"""Made by tests/{Path(__file__).name}."""',
        "from typing import TypeVar, overload",
        "import numpy as np",
        *imports(body, functions),
        *(f"from fastdrop import {name} as {name}" for name in submodules()),
        *re_exports([name for name in others if name not in own]),
        "",
        f"__all__ = {list(fastdrop.__all__)!r}",
        "__version__: str",
        'T = TypeVar("T", bound=np.generic)',
        body,
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    PATH.write_text(format_code(text(), PATH))
