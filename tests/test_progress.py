from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from d2export.progress import Level, Progress

ROOT = Path(__file__).parent.parent


def lines(level: Level) -> list[str]:
    """What a short build prints to a stream that is no terminal."""
    stream = io.StringIO()
    progress = Progress(2, level=level, stream=stream)
    with progress.stage("reading the checkpoint"):
        progress.detail("3 shards")
    with suppress(ValueError), progress.stage("exporting the vision graph"):
        progress.warning("no prior for this model")
        raise ValueError
    progress.note("see build.log")
    return re.sub(r"\d+\.\d s", "T s", stream.getvalue()).splitlines()


NORMAL = [
    "[1/2] reading the checkpoint",
    "[1/2] done in T s",
    "[2/2] exporting the vision graph",
    "warning: no prior for this model",
    "[2/2] failed after T s",
    "see build.log",
]


def test_plain_lines_where_there_is_no_terminal() -> None:
    assert lines("normal") == NORMAL


def test_verbose_adds_details() -> None:
    assert lines("verbose") == [NORMAL[0], "3 shards", *NORMAL[1:]]


def test_quiet_shows_warnings_only() -> None:
    assert lines("quiet") == ["warning: no prior for this model"]


def test_the_log_has_every_line_with_its_time_whatever_was_shown(tmp_path: Path) -> None:
    stream = io.StringIO()
    progress = Progress(level="quiet", stream=stream)
    with progress.stage("exporting"):
        progress.detail("first\nsecond")
    progress.write_log(tmp_path / "build.log")
    log = (tmp_path / "build.log").read_text().splitlines()
    stamp = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z  ")
    assert all(stamp.match(line) for line in log)
    assert [stamp.sub("", line) for line in log] == [
        "[1] exporting",
        "first",
        "second",
        "[1] done in 0.0 s",
    ]
    assert stream.getvalue() == ""


def test_threads_do_not_cut_lines() -> None:
    stream = io.StringIO()
    progress = Progress(stream=stream)

    def talk() -> None:
        for _ in range(200):
            progress.note("x" * 50)

    threads = [threading.Thread(target=talk) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stream.getvalue().splitlines() == ["x" * 50] * 800


def test_a_terminal_shows_the_elapsed_time_of_the_running_stage() -> None:
    program = (
        "import time; from d2export.progress import Progress; progress = Progress(1)\n"
        "with progress.stage('exporting [bold]'):\n"
        "    time.sleep(1.3); progress.note('half-way [red]')"
    )
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"},
        stderr=terminal,
    ) as process:
        os.close(terminal)
        shown = b""
        while True:
            try:
                shown += os.read(controller, 4096)
            except OSError:  # EIO: the other end was closed
                break
        assert process.wait() == 0
    os.close(controller)
    text = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", shown.decode())
    assert text.startswith("[1/1] exporting [bold]")
    assert "0:00:01" in text
    assert "half-way [red]" in text
    assert re.search(r"\[1/1\] done in 1\.\d s", text)


def test_rich_is_not_imported_without_a_terminal() -> None:
    program = (
        "import sys; from d2export.progress import Progress\n"
        "with Progress(1).stage('x'): pass\n"
        "sys.exit('rich' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0
    assert result.stderr == "[1/1] x\n[1/1] done in 0.0 s\n"
