"""Call d2export as a user does: in this process, which is quick, or in one of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from d2export.cli import main

ROOT = Path(__file__).parent.parent
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries", "1"]
PROGRAM = [sys.executable, "-m", "d2export"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        return self.out.splitlines()[-1]


class Caller:
    """Runs the command line in this process; whatever is no SystemExit is a bug and shows."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Answer:
        handler = signal.getsignal(signal.SIGTERM)
        self._capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as ended:
                main([str(argument) for argument in arguments])
        finally:
            signal.signal(signal.SIGTERM, handler)
        out, err = self._capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Answer(code, out, err)

    def refused(self, *arguments: object, code: int = 2) -> str:
        """The message of a command that must fail."""
        return message_of(self(*arguments), code)


def message_of(answer: Answer, code: int = 2) -> str:
    """The message of a command that failed: a problem, and where it is not plain a next step."""
    assert answer.code == code, answer
    assert "Traceback" not in answer.err
    verdict = "FAILED\n" if code == 1 else ""  # of a check; results belong to what worked
    assert answer.out == verdict
    found = re.search(r"^error: ((.|\n)+)\Z", answer.err, re.MULTILINE)
    assert found, answer.err
    return found[1].rstrip()


def start(*arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    return subprocess.Popen(
        [*prefix, *PROGRAM, *map(str, arguments)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> Answer:
    """Wait for `start`."""
    out, err = process.communicate(timeout=300)
    return Answer(process.returncode, out, err)


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Until the process says `text` on standard error."""
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"the process ended before it said {text!r}")


def names(folder: Path) -> list[str]:
    """What a folder holds; nothing if it is not there."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def build_wheel(folder: Path, environment: dict[str, str]) -> Path:
    """The package as it would be published, built from this working tree."""
    command = [*PIP, "wheel", "-q", "--no-deps", "-w", folder, ROOT]
    subprocess.run(command, env=environment, check=True)
    (built,) = folder.glob("*.whl")
    return built
