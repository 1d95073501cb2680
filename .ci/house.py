"""Print figures of the code's structure at one or several revisions: `python .ci/house.py [REVISION ...]`.

For each revision: lines of code in the variants, the longest argument list of a private function, public names, and modules in
import cycles. Lines of code are counted without docstrings, comments and blank lines. The size of the installed package is that
in the running environment.
"""

import ast
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

# Where the variants were before they had a folder.
FLAT = {
    *(
        "_geometry",
        "_masks",
        "adaptive",
        "adl",
        "alpha",
        "attention",
        "blocks",
        "concrete",
        "functional",
        "importance",
        "noise",
    ),
    *("noise", "paths", "recurrent", "sequence", "shared", "uout", "variational", "weights"),
}


def git(*arguments):
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


def sources(revision):
    """Return the package's Python and Cython sources by path."""
    names = git("ls-tree", "-r", "--name-only", revision, "fastdrop").split()
    return {name: git("show", f"{revision}:{name}") for name in names if name.endswith((".py", ".pyx", ".pxi", ".pxd"))}


def is_variant(path):
    return path.startswith("fastdrop/variants/") or (Path(path).stem in FLAT and path.count("/") == 1)


def lines_of_code(text):
    """Return how many lines are neither blank, comment, nor in a docstring."""
    text = re.sub(r'^[ \t]*[rf]?"""(?:.|\n)*?"""', "", text, flags=re.MULTILINE)
    return sum(1 for line in text.splitlines() if line.strip() and not line.strip().startswith("#"))


def lines_of_signatures(path, text):
    """Return how many lines the headers of functions take, which are spelt out for readers and type checkers."""
    if not path.endswith(".py"):
        return 0
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    return sum(node.body[0].lineno - node.lineno for node in functions)


def public_names(tree):
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return {element.value for element in getattr(node.value, "elts", []) if isinstance(element, ast.Constant)}
    return set()


def private_functions(path, text):
    """Yield the functions of a module that are not public, with their numbers of arguments."""
    if not path.endswith(".py"):
        return
    tree = ast.parse(text)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name not in public_names(tree):
            arguments = node.args
            yield len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs), f"{path}:{node.name}"


def imports(path, text):
    """Return the modules that a module imports, in functions too."""
    found = set()
    for line in text.splitlines():
        if match := re.match(r"\s*from\s+(fastdrop[\w.]*)\s+c?import\s+\(?(.*)", line):
            found |= {match[1], *(f"{match[1]}.{name.strip()}" for name in match[2].rstrip(")").split(",") if name.strip())}
        elif match := re.match(r"\s*c?import\s+(fastdrop[\w.]*)", line):
            found.add(match[1])
    return found


def module(path):
    return path.rsplit(".", 1)[0].replace("/", ".").removesuffix(".__init__")


def modules_in_cycles(texts):
    """Return the modules that import each other, directly or through others."""
    names = {module(path) for path in texts if not path.endswith(".pxi")}
    graph = {name: set() for name in names}
    for path, text in texts.items():
        if not path.endswith(".pxi"):
            graph[module(path)] |= {found for found in imports(path, text) if found in names and found != module(path)}
    reach = {name: reachable(name, graph) for name in names}
    return sorted(name for name in names if name in reach[name])


def reachable(name, graph):
    found, left = set(), list(graph[name])
    while left:
        if (next_ := left.pop()) not in found:
            found.add(next_)
            left.extend(graph[next_])
    return found


def measures(revision):
    texts = sources(revision)
    longest = sorted((found for path, text in texts.items() for found in private_functions(path, text)), reverse=True)
    cycles = modules_in_cycles(texts)
    variants = {path: text for path, text in texts.items() if is_variant(path)}
    code = sum(map(lines_of_code, variants.values()))
    return {
        "lines of code in the variants": code,
        "  without the headers of functions": code - sum(lines_of_signatures(*pair) for pair in variants.items()),
        "longest argument list of a private function": f"{longest[0][0]} ({longest[0][1]})",
        "private functions with more than six arguments": sum(1 for count, _ in longest if count > 6),
        "public names of the package": len(public_names(ast.parse(texts["fastdrop/__init__.py"]))),
        "modules in import cycles": f"{len(cycles)} {' '.join(cycles) if len(cycles) < 4 else ''}".strip(),
    }


def installed_bytes():
    try:
        distribution = metadata.distribution("fastdrop-kernels")
    except metadata.PackageNotFoundError:
        return 0
    return sum(Path(file.locate()).stat().st_size for file in distribution.files or () if Path(file.locate()).is_file())


def main():
    for revision in sys.argv[1:] or ["HEAD"]:
        print(f"fastdrop at {git('log', '-1', '--format=%h %s', revision).strip()}")
        for what, value in measures(revision).items():
            print(f"  {what:<48} {value}")
    print(f"installed in this environment: {installed_bytes() / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
