"""Who imports whom: each import of the package, of compiled files and within functions too, held against a rule."""

import ast
import re
import shutil
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "fastdrop").is_dir(), reason="the sources are not beside the tests")

# The rule: a part may import the parts of the lines above its own, and itself. Comments give further rules.
LEVELS = [
    ["_core"],
    ["random", "elementary"],
    ["variants' parts"],  # fastdrop/variants/_*.py: for variants, theory and losses only
    ["variants"],  # ... but no variant imports another
    ["theory", "losses"],  # ... but no variant
    ["typing", "the package itself"],
    ["schedules"],
    ["nn"],
    ["uncertainty", "tuning", "monitor", "federated", "npyfile", "torch", "jax", "dask", "thinc", "numba_functions"],
    ["keras"],  # over the adapters of its backends
    ["_cli", "verify", "bench", "__main__"],  # ... and one another
]
LEVEL = {part: level for level, parts in enumerate(LEVELS) for part in parts}
TOP = len(LEVELS) - 1
PARTS_ARE_FOR = {"variants' parts", "variants", "theory", "losses"}


# Reading ------------------------------------------------------------------------------------------------------------


def sources(root):
    """Return the files of each module, by its name: a compiled module has .pyx, .pxd and included files."""
    found = {}
    for top, package in ((root / "fastdrop", "fastdrop"), (root / "bench", "fastdrop.bench")):
        for path in sorted(top.rglob("*")):
            relative = path.relative_to(top)
            if path.suffix in (".py", ".pyx", ".pxd") and "tests" not in relative.parts:
                parts = [package, *relative.with_suffix("").parts]
                found.setdefault(".".join(part for part in parts if part != "__init__"), []).append(path)
    for paths in found.values():
        included = [path.parent / name for path in paths for name in re.findall(r'^include "(.+)"', path.read_text(), re.M)]
        paths += [path for path in included if path.suffix == ".pxi"]
    return found


def names_in_python(path, package):
    """Yield the dotted names that a file imports, wherever they stand; those for type checkers alone are not run."""
    waiting = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "fastdrop":
            yield f"fastdrop.{node.attr}"  # the package loads a submodule at its first use


FROM = re.compile(r"^\s*from\s+([\w.]+)\s+c?import\s+(.+)", re.M)
IMPORT = re.compile(r"^\s*c?import\s+([\w., ]+)", re.M)


def names_in_cython(path):
    """Yield the same of a Cython file, which Python's parser does not read."""
    text = re.sub(r'""".*?"""|#[^\n]*', "", path.read_text(), flags=re.S)
    text = re.sub(r"\(([^()]*)\)", lambda found: found[0].replace("\n", " "), text)  # a list of names in brackets: one line
    for module, names in FROM.findall(text):
        yield from (f"{module}.{name.split()[0]}" for name in names.strip("() ").split(",") if name.split())
    for names in IMPORT.findall(text):
        yield from (name.split()[0] for name in names.split(",") if name.split())


def imports(root):
    """Return the modules of the package that each of them imports. A name that is no module is one of the module before it."""
    files = sources(root)
    found = {}
    for module, paths in files.items():
        names = set()
        for path in paths:
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            names |= set(names_in_python(path, package) if path.suffix == ".py" else names_in_cython(path))
        targets = {name if name in files else name.rpartition(".")[0] for name in names if name.split(".")[0] == "fastdrop"}
        found[module] = {target if target in files else "fastdrop" for target in targets} - {module}
    return found


# The rule -----------------------------------------------------------------------------------------------------------


def part_of(module):
    """Return the part of the house that a module belongs to."""
    _, _, inside = module.partition(".")
    if not inside:
        return "the package itself"
    top, _, rest = inside.partition(".")
    return "variants' parts" if top == "variants" and (not rest or rest.startswith("_")) else top


def is_allowed(importer, imported):
    above, below = part_of(importer), part_of(imported)
    if above == below:
        return above != "variants"
    if below == "variants' parts" and above not in PARTS_ARE_FOR:
        return False
    if above in ("theory", "losses") and below == "variants":
        return False
    return LEVEL[below] < LEVEL[above] or LEVEL[below] == LEVEL[above] == TOP


def violations(root):
    """Return a sentence for each import that the rule forbids, for each part it does not know, and for a cycle."""
    graph = imports(root)
    said = [f"{module}: the rule has no part {part_of(module)!r}" for module in graph if part_of(module) not in LEVEL]
    if said:
        return said
    pairs = [(module, target) for module, targets in graph.items() for target in sorted(targets)]
    said += [f"{module} imports {target}" for module, target in pairs if not is_allowed(module, target)]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        said.append(f"cycle: {' imports '.join(reversed(error.args[1]))}")
    return said


# The tests ----------------------------------------------------------------------------------------------------------


def test_every_import_is_allowed_and_none_makes_a_cycle():
    assert violations(ROOT) == []


def test_imports_are_found_in_every_kind_of_file():
    graph = imports(ROOT)
    assert "fastdrop._core.native" in graph["fastdrop._core.plan"]  # a cimport
    assert "fastdrop._core.plan" in graph["fastdrop._core.numbers"]  # of .pyx
    assert "fastdrop._cli.commands" in graph["fastdrop.__main__"]  # within a function
    assert "fastdrop.bench.tables" in graph["fastdrop.bench.command"]  # relative
    assert "fastdrop.bench.contenders" in graph["fastdrop.bench.run"] | graph["fastdrop.bench.command"]


@pytest.mark.parametrize(
    ("file", "line", "sentence"),
    [
        ("_core/settings.py", "import fastdrop", "fastdrop._core.settings imports fastdrop"),
        ("_core/calls.pxi", "    from fastdrop.random import Stream", "fastdrop._core.plan imports fastdrop.random"),
        ("_core/plan.pxd", "from fastdrop.elementary cimport exp", "fastdrop._core.plan imports fastdrop.elementary"),
        ("elementary.py", "def f():\n    from fastdrop import random", "fastdrop.elementary imports fastdrop.random"),
        ("variants/_axes.py", "from fastdrop.variants import alpha", "fastdrop.variants._axes imports fastdrop.variants.alpha"),
        (
            "variants/channels.py",
            "def f():\n    from fastdrop.variants.alpha import alpha_dropout",
            "fastdrop.variants.channels imports fastdrop.variants.alpha",
        ),
        (
            "variants/dropout.py",
            "from fastdrop.variants import (\n    alpha,\n    channels)",
            "fastdrop.variants.dropout imports fastdrop.variants.channels",
        ),
        ("variants/depth.py", "import fastdrop\nfastdrop.theory", "fastdrop.variants.depth imports fastdrop.theory"),
        ("losses.py", "from fastdrop.variants.dropout import dropout", "fastdrop.losses imports fastdrop.variants.dropout"),
        ("__init__.py", "from fastdrop import nn", "fastdrop imports fastdrop.nn"),
        ("schedules/curves.py", "from fastdrop.nn import Dropout", "fastdrop.schedules.curves imports fastdrop.nn"),
        ("monitor/plots.py", "from fastdrop.variants import _masks", "fastdrop.monitor.plots imports fastdrop.variants._masks"),
        (
            "tuning/bilevel.py",
            "from fastdrop._cli.screens import show",
            "fastdrop.tuning.bilevel imports fastdrop._cli.screens",
        ),
        ("helpers.py", "", "fastdrop.helpers: the rule has no part 'helpers'"),
    ],
)
def test_a_forbidden_import_is_reported(tmp_path, file, line, sentence):
    shutil.copytree(ROOT / "fastdrop", tmp_path / "fastdrop", ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__"))
    with open(tmp_path / "fastdrop" / file, "a") as copy:
        copy.write(f"\n{line}\n")
    assert sentence in violations(tmp_path)


@pytest.mark.parametrize("where", ["from fastdrop._core import settings", "def f():\n    from fastdrop._core import settings"])
def test_a_cycle_is_reported(tmp_path, where):
    shutil.copytree(ROOT / "fastdrop", tmp_path / "fastdrop", ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__"))
    with open(tmp_path / "fastdrop" / "_core" / "machine.py", "a") as copy:
        copy.write(f"\n{where}\n")
    (sentence,) = [sentence for sentence in violations(tmp_path) if sentence.startswith("cycle")]
    assert "fastdrop._core.machine imports fastdrop._core.settings" in sentence


def test_an_import_for_type_checkers_alone_is_none(tmp_path):
    (tmp_path / "fastdrop").mkdir()
    (tmp_path / "fastdrop" / "losses.py").write_text(
        "if TYPE_CHECKING:\n    import fastdrop.nn\nelse:\n    import fastdrop.theory\n"
    )
    assert imports(tmp_path) == {"fastdrop.losses": {"fastdrop"}}
