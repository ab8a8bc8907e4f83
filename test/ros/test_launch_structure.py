"""What of the launch files can be checked where launch is not installed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"


def empty_handlers(source: str) -> list[int]:
    """Lines where `on_exit` can be an empty list, at which launch fails when the process ends."""
    found = []
    for node in ast.walk(ast.parse(source)):
        value: ast.AST | None = None
        if isinstance(node, ast.keyword) and node.arg == "on_exit":
            value = node.value
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "on_exit" for target in node.targets
        ):
            value = node.value
        if value is not None:
            found += [
                part.lineno
                for part in ast.walk(value)
                if isinstance(part, ast.List) and not part.elts
            ]
    return found


def test_an_empty_list_is_found() -> None:
    assert empty_handlers("on_exit = [Shutdown()] if ends else []") == [1]
    assert empty_handlers("Node(on_exit=[])") == [1]


@pytest.mark.parametrize("file", sorted(LAUNCH.glob("*.py")), ids=lambda file: file.name)
def test_no_process_ends_with_an_empty_list_of_actions(file: Path) -> None:
    assert empty_handlers(file.read_text()) == []
