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
    """A file that does not start by itself is imported by a program beside it."""
    beside = [program for program in PROGRAMS if program.parent == part.parent]
    assert any(part.stem in imports(program) for program in beside)
