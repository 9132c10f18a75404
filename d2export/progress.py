"""What is going on, on standard error and, line by line, for `build.log`."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

if TYPE_CHECKING:
    from rich.console import Console

Level = Literal["quiet", "normal", "verbose"]


class Progress:
    """Says which stage runs and how long it took.

    On a terminal the running stage is one live line with its elapsed time; elsewhere each event
    is a plain line. Every line is kept for the log, whatever the level shows.

    Args:
        stages: how many there will be, for `[2/6]`; None leaves the total out.
        level: "quiet" shows warnings only, "verbose" adds details.
        stream: where to write; standard error by default.
    """

    def __init__(
        self, stages: int | None = None, *, level: Level = "normal", stream: TextIO | None = None
    ) -> None:
        self._stages = stages
        self._level = level
        self._stream = stream if stream is not None else sys.stderr
        self._count = 0
        self._console: Console | None = None  # while a live line is on the terminal
        self._lock = threading.RLock()
        self._log: list[tuple[datetime, str]] = []

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """Announce `title`, then how long the block took, or that it failed."""
        with self._lock:
            self._count += 1
            number = f"{self._count}/{self._stages}" if self._stages else str(self._count)
        start = time.monotonic()
        try:
            with self._running(f"[{number}] {title}"):
                yield
        except BaseException:
            self._write(f"[{number}] failed after {time.monotonic() - start:.1f} s", "normal")
            raise
        self._write(f"[{number}] done in {time.monotonic() - start:.1f} s", "normal")

    def note(self, text: str) -> None:
        """Something every user wants to see."""
        self._write(text, "normal")

    def detail(self, text: str) -> None:
        """Something for `--verbose` and the log."""
        self._write(text, "verbose")

    def warning(self, text: str) -> None:
        """Something that is shown even when quiet."""
        self._write(f"warning: {text}", "quiet")

    def write_log(self, path: Path) -> None:
        """Write all lines so far, each with its time (UTC), to `path`."""
        with self._lock:
            lines = [
                f"{when:%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03}Z  {line}\n"
                for when, text in self._log
                for line in text.splitlines() or [""]
            ]
        path.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")

    def _write(self, text: str, level: Level) -> None:
        with self._lock:
            self._log.append((datetime.now(timezone.utc), text))
            if not self._shows(level):
                return
            if self._console is not None:  # it moves the live line out of the way
                self._console.print(text, markup=False, highlight=False, soft_wrap=True)
            else:
                print(text, file=self._stream, flush=True)

    def _shows(self, level: Level) -> bool:
        order = ("quiet", "normal", "verbose")
        return order.index(level) <= order.index(self._level)

    @contextmanager
    def _running(self, title: str) -> Iterator[None]:
        self._write(title, "normal")
        live = self._console is None and self._shows("normal") and self._stream.isatty()
        if not live:
            yield
            return
        # Imported here: a pipe needs no rich, and `--help` starts sooner without it.
        from rich.console import Console
        from rich.progress import Progress as LiveLine
        from rich.progress import SpinnerColumn, TimeElapsedColumn

        console = Console(file=self._stream)
        line = LiveLine(SpinnerColumn(), TimeElapsedColumn(), console=console, transient=True)
        with line:
            line.add_task("")
            self._console = console
            try:
                yield
            finally:
                self._console = None
