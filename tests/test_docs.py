"""What the documents say can be typed, and what they link to is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from d2export.cli import app

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[str]:
    """Lines of code blocks that start with d2export, without their comments."""
    code = re.compile(r"^```\n(.*?)^```", re.DOTALL | re.MULTILINE)
    blocks = [block for path in DOCUMENTS for block in code.findall(path.read_text())]
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("d2export ")]


def links() -> list[tuple[str, str]]:
    found = []
    for path in DOCUMENTS:
        text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if "://" not in target:
                found.append((path.relative_to(ROOT).as_posix(), target))
    return found


def test_there_are_commands_and_links_to_try():
    assert len(commands()) >= 8
    assert len(links()) >= 5


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_says_something(path):
    assert path.read_text().startswith("# ")
    assert len(path.read_text().split()) > 50


@pytest.mark.parametrize("command", commands())
def test_a_command_is_one_the_program_understands(command):
    """Parsed as the program would, options and all, without running it."""
    _, name, *arguments = shlex.split(command)
    group = typer.main.get_command(app)
    assert name in group.commands, command
    group.commands[name].make_context(name, arguments)


@pytest.mark.parametrize(("document", "target"), links())
def test_a_link_leads_somewhere(document, target):
    assert (ROOT / document).parent.joinpath(target).exists()
