"""The imports of our packages, read from their source files wherever they stand."""

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from places import REPOSITORY

SOURCES = REPOSITORY / "src"
INIT = "__init__"

Graph = dict[str, set[str]]
"""For each node the nodes that it imports."""


def module_name(file: Path, root: Path) -> str:
    """The dotted name of `file` below `root`; an `__init__.py` has the name of its package."""
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == INIT else parts)


OUR_FILES = {module_name(file, SOURCES): file for file in sorted(SOURCES.rglob("*.py"))}
"""The source file of each of our modules."""

OUR_PACKAGES = tuple(name for name, file in OUR_FILES.items() if file.stem == INIT)


def imported_names(
    source: str,
    module: str,
    *,
    is_package: bool,
    ours: Collection[str],
    at_import_time: bool = False,
) -> set[str]:
    """The dotted names of the modules that the text `source` of `module` imports.

    `from package import name` means the module `package.name` if that is one of `ours`, else the
    package itself, so its `__init__`.

    Args:
        source: Python source text.
        module: dotted name of the module, for its relative imports.
        is_package: whether it is the `__init__` of a package.
        ours: names of the modules that exist.
        at_import_time: leave out what is imported in functions and under `if TYPE_CHECKING:`.
    """
    found: set[str] = set()
    package = module.split(".") if is_package else module.split(".")[:-1]
    tree = ast.parse(source)
    for node in _run_when_imported(tree) if at_import_time else ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                found.add(whole if whole in ours else base)
    return found


def _run_when_imported(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        return
    children: Iterable[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        children = node.orelse
    for child in children:
        yield from _run_when_imported(child)


@cache
def imports_of(name: str, *, at_import_time: bool = False) -> frozenset[str]:
    """What our module `name` imports, and what its stub file does, if it has one."""
    file = OUR_FILES[name]
    found: set[str] = set()
    for text in (file, file.with_suffix(".pyi")):
        if text.is_file():
            found |= imported_names(
                text.read_text(encoding="utf-8"),
                name,
                is_package=file.stem == INIT,
                ours=OUR_FILES,
                at_import_time=at_import_time or text.suffix == ".pyi",
            )
    return frozenset(found)


def our_graph() -> Graph:
    """For each of our modules those of our modules that it imports anywhere."""
    return {name: {*imports_of(name)} & {*OUR_FILES} - {name} for name in OUR_FILES}


def reached_from(name: str, *, at_import_time: bool = False) -> set[str]:
    """Every module, ours or foreign, that importing our module `name` leads to.

    Python imports the packages above a module before the module itself.
    """
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        parts = current.split(".")
        waiting += [".".join(parts[:count]) for count in range(1, len(parts))]
        if current in OUR_FILES:
            waiting += imports_of(current, at_import_time=at_import_time)
    return seen


def find_circle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """One circle of `graph`, each node importing the next, first and last the same; [] if none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        # graphlib sorts a node after its imports, so it gives the circle in reverse order.
        return list(reversed(error.args[1]))
    return []


def graph_of_level(files: Mapping[str, Iterable[str]], package: str) -> Graph:
    """For each direct child of `package`, file or folder, the other children that it imports.

    A folder imports what any file in it imports. The `__init__` of `package` is a child, too.

    Args:
        files: for each module the modules that it imports.
        package: dotted name; empty for the level of the packages themselves.
    """
    prefix = f"{package}." if package else ""

    def child(module: str) -> str:
        if module == package:
            return INIT
        return module.removeprefix(prefix).split(".")[0] if module.startswith(prefix) else ""

    graph: Graph = {}
    for module, targets in files.items():
        if node := child(module):
            others = {child(target) for target in targets} - {"", node}
            graph.setdefault(node, set()).update(others)
    return graph
