"""The signatures of the layers, for editors and type checkers: `fastdrop/nn/__init__.pyi`, made from those of the functions.

python tests/layer_stubs.py        # writes the file anew, after a keyword of a function has changed
"""

import ast
import collections.abc
import importlib
import inspect
import re
import subprocess
import sys
import typing
from pathlib import Path

import numpy.typing

import fastdrop
from fastdrop import nn
from fastdrop._core import types

PATH = Path(fastdrop.__file__).parent / "nn" / "__init__.pyi"
SOURCES = (collections.abc, numpy.typing, typing, types)  # of the names in annotations, in this order
SCHEDULE, SEED = "Callable[[int], {}]", "Seed | None"


def classes():
    """Return the layers that name functions, by name."""
    return {name: getattr(nn, name) for name in sorted(nn.__all__) if hasattr(getattr(nn, name), "functions")}


def stub_annotations(function):
    """Return the annotations of a compiled function, from the stub of its module."""
    module = importlib.import_module(function.__module__)
    path = Path(module.__file__).parent / f"{module.__name__.rpartition('.')[2]}.pyi"
    for node in ast.parse(path.read_text()).body if path.is_file() else ():
        if isinstance(node, ast.FunctionDef) and node.name == function.__name__:
            return {arg.arg: ast.unparse(arg.annotation) for arg in [*node.args.args, *node.args.kwonlyargs]}
    return {}


def qualified(annotation, function):
    """Return an annotation in which a name that only the function's module has is preceded by that module."""
    module = sys.modules[function.__module__]

    def name(match):
        word = match[0]
        known = any(getattr(source, word, source) is getattr(module, word, None) for source in SOURCES)
        return f"{module.__name__.rpartition('.')[2]}.{word}" if hasattr(module, word) and not known else word

    parts = re.split(r"""("[^"]*"|'[^']*')""", annotation)  # the words of a Literal are not names
    return "".join(part if k % 2 else re.sub(r"(?<![.\w])[A-Z]\w+", name, part) for k, part in enumerate(parts))


def annotations(cls):
    """Return the annotation of each argument that a class is made with."""
    found = {}
    for function in (*reversed(cls.functions), cls.__init__):
        given = inspect.signature(function).parameters.values()
        own = {one.name: one.annotation for one in given if isinstance(one.annotation, str) and one.annotation != "Any"}
        own |= stub_annotations(function) if not inspect.isfunction(function) else {}
        found |= {key: qualified(value, function) for key, value in own.items()}
    if cls.scheduled != "type":  # a choice, which no schedule makes
        value = found.get(cls.scheduled, "float")
        found[cls.scheduled] = f"{value} | {SCHEDULE.format('float' if value == 'Rate' else value)}"
    return found | {"seed": SEED}


def initializer(cls):
    """Return the line that declares how a layer is made."""
    known, parts, keyword_only = annotations(cls), [], False
    for one in inspect.signature(cls).parameters.values():
        if one.kind is one.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            parts.append("*")
        default = "" if one.default is one.empty else f" = {one.default!r}"
        parts.append(f"{one.name}: {known.get(one.name, 'Any')}{default if default != ' = -inf' else ' = ...'}")
    return f"    def __init__(self, {', '.join(parts)}) -> None: ..."


def bases(cls):
    """Return the class that the stub's class derives from, and a layer that it derives from at run time."""
    return ", ".join([f"_variants.{cls.__name__}", *(base.__name__ for base in cls.__bases__ if hasattr(base, "functions"))])


def imports(body):
    """Return the lines that import what annotations name."""
    words, lines = set(re.findall(r"\w+", body)), []
    for source in SOURCES:
        here = {word for word in words if word[0].isupper() and hasattr(source, word)}
        words -= here
        if here:
            lines.append(f"from {source.__name__} import {', '.join(sorted(here))}")
    modules = {function.__module__ for cls in classes().values() for function in cls.functions}
    local = sorted(module for module in modules if f"{module.rpartition('.')[2]}." in body)
    return lines + [f"from {module.rpartition('.')[0]} import {module.rpartition('.')[2]}" for module in local]


def ordered(layers):
    """Return layers after those that they derive from."""
    return sorted(layers.items(), key=lambda item: (len(item[1].__mro__), item[0]))


def text():
    """Return the stub, not yet formatted."""
    declared = [f"class {name}({bases(cls)}):\n{initializer(cls)}\n" for name, cls in ordered(classes())]
    others = [f"from {getattr(nn, name).__module__} import {name}" for name in nn.__all__ if name not in classes()]
    header = f'"""Made by tests/{Path(__file__).name}."""'
    listed = f"__all__ = {sorted(nn.__all__)!r}"
    needed = imports("\n".join(re.findall(r"\((self.*)", "\n".join(declared))))
    return "\n".join([header, *needed, "from fastdrop.nn import _variants", *others, "", listed, "", *declared])


def format_code(source):
    """Return code as Ruff formats it."""
    for command in (["check", "--select=I", "--fix", "-q"], ["format", "-q"]):
        run = [sys.executable, "-m", "ruff", *command, f"--stdin-filename={PATH}", "-"]
        source = subprocess.run(run, input=source, stdout=subprocess.PIPE, text=True, check=True).stdout
    return source


if __name__ == "__main__":
    PATH.write_text(format_code(text()))
