"""The house's rule of who may know whom, read from the import statements themselves."""

import ast
from functools import cache
from pathlib import Path

import pytest
from places import REPOSITORY

SOURCES = REPOSITORY / "src"
HEAVY = ("torch", "transformers", "safetensors", "tokenizers")
ROS = (
    "rclpy",
    "stream_vlm_ros",
    "launch",
    "launch_ros",
    "cv_bridge",
    "tf2_ros",
    "sensor_msgs",
    "std_msgs",
    "geometry_msgs",
    "nav_msgs",
)


def module_name(file: Path) -> str:
    parts = file.relative_to(SOURCES).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for file in sorted(SOURCES.rglob("*.py"))}


def runtime_statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """Statements of a module or function that run, hence without `if TYPE_CHECKING:` blocks."""
    return [
        statement
        for statement in body
        if not (isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test))
    ]


@cache
def imported(name: str, *, at_import_time: bool) -> frozenset[str]:
    """Dotted names that module `name` imports; with `at_import_time` only what importing it pulls
    in, not imports inside functions.
    """
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    package = name if FILES[name].name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    waiting: list[ast.AST] = list(runtime_statements(tree.body)) if at_import_time else [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            # `from package import module` imports the module as well as the package.
            found.update(
                [
                    base,
                    *(
                        f"{base}.{alias.name}"
                        for alias in node.names
                        if f"{base}.{alias.name}" in FILES
                    ),
                ]
            )
        elif not (
            at_import_time and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        ):
            waiting.extend(ast.iter_child_nodes(node))
    return frozenset(found)


def is_within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def modules_of(*packages: str) -> list[str]:
    return [name for name in FILES if is_within(name, packages)]


def reached(name: str) -> set[str]:
    """Every module, ours or foreign, that importing `name` pulls in through modules of ours."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        if current in FILES:
            waiting.extend(imported(current, at_import_time=True))
            waiting.extend(parent for parent in parents(current) if parent in FILES)
    return seen


def parents(name: str) -> list[str]:
    """The packages that Python imports before `name`."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def test_the_ground_floor_imports_nothing_of_ours() -> None:
    assert not {
        name
        for name in imported("stream_vlm.types", at_import_time=False)
        if is_within(name, ("stream_vlm", "stream_vlm_ros"))
    }


ABOVE_THE_HARNESS = (
    "stream_vlm_ros",
    "stream_vlm.cli",
    "stream_vlm_lab.training",
    "stream_vlm_lab.evaluation",
)
FORBIDDEN = [
    (
        "stream_vlm.memory",
        (
            "stream_vlm.backbone",
            "stream_vlm.vision",
            "stream_vlm.context",
            "stream_vlm.loop.harness",
            *HEAVY,
        ),
    ),
    ("stream_vlm.backbone", ("stream_vlm.memory", "stream_vlm.loop.harness")),
    ("stream_vlm.vision", ("stream_vlm.memory", "stream_vlm.loop.harness")),
    (
        "stream_vlm.context",
        ("stream_vlm.memory", "stream_vlm.backbone", "stream_vlm.loop.harness", *HEAVY),
    ),
    ("stream_vlm.loop.harness", (*ABOVE_THE_HARNESS, *HEAVY)),
    ("stream_vlm", ROS),
]


@pytest.mark.parametrize(
    ("package", "forbidden"), FORBIDDEN, ids=[package for package, _ in FORBIDDEN]
)
def test_a_room_does_not_know_what_it_must_not_know(
    package: str, forbidden: tuple[str, ...]
) -> None:
    trespasses = {
        f"{name} imports {target}"
        for name in modules_of(package)
        for target in imported(name, at_import_time=False)
        if is_within(target, forbidden)
    }
    assert not trespasses


BELOW_THE_HARNESS = (
    "types",
    "model_protocol",
    "config",
    "text_models",
    "loop.sampler",
    "loop.history",
    "loop.speech_gate",
    "loop.event_tracker",
    "loop.load_governor",
    "context",
    "backbone",
    "vision",
    "memory",
)


def test_no_import_runs_up_to_what_stands_above_the_harness() -> None:
    lower = [f"stream_vlm.{room}" for room in BELOW_THE_HARNESS]
    trespasses = {
        f"{name} imports {target}"
        for name in modules_of(*lower)
        for target in imported(name, at_import_time=False)
        if is_within(target, ("stream_vlm.loop.harness", *ABOVE_THE_HARNESS))
    }
    assert not trespasses


def test_a_recall_tool_starts_without_torch() -> None:
    memory = modules_of("stream_vlm.memory")
    pulled_in = {
        f"{name} reaches {target}"
        for name in memory
        for target in reached(name)
        if is_within(target, HEAVY)
    }
    assert not pulled_in


def test_there_is_no_circle() -> None:
    graph = {
        name: {
            target
            for target in imported(name, at_import_time=True)
            if target in FILES and target != name
        }
        for name in FILES
    }
    finished: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, "circle: " + " -> ".join([*trail[trail.index(name) :], name])
        if name not in finished:
            for target in sorted(graph[name]):
                walk(target, (*trail, name))
            finished.add(name)

    for name in graph:
        walk(name, ())
