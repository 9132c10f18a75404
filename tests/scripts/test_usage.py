"""Every script starts and says how it is used; what has no start is part of one that has."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "scripts").rglob("*.py"))
PROGRAMS = [path for path in SCRIPTS if 'if __name__ == "__main__":' in path.read_text("utf-8")]
PARTS = [path for path in SCRIPTS if path not in PROGRAMS]


def imports(path: Path) -> set[str]:
    """The modules that a script imports, by their names in full."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("script", PROGRAMS, ids=lambda path: path.name)
def test_help(script: Path) -> None:
    answer = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith(f"usage: {script.name}")


@pytest.mark.parametrize("part", PARTS, ids=lambda path: path.name)
def test_part_of_a_program(part: Path) -> None:
    """A file that does not start by itself is imported beside it, or by name of its package."""
    package = part.parent.name
    wanted = {package if part.stem == "__init__" else f"{package}.{part.stem}"}
    if not (part.parent / "__init__.py").exists():
        wanted = {part.stem}
    users = [path for path in SCRIPTS if path is not part and path.parent == part.parent]
    users += [path for path in PROGRAMS if path.parent == part.parent.parent]
    assert any(
        name == found or name.startswith(f"{found}.")
        for path in users
        for name in imports(path)
        for found in wanted
    )
