"""What commands print: progress, results, a verdict."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import typer

from d2export.errors import CheckFailed, OutputError
from d2export.progress import Level, Progress


def progress_of(stages: int | None, quiet: bool, verbose: bool) -> Progress:
    """On standard error; `stages` is None where their number is not known."""
    level: Level = "quiet" if quiet else "verbose" if verbose else "normal"
    return Progress(stages, level=level)


def finish(value: Any, text: str, as_json: bool, *, passed: bool | None = None) -> None:
    """Print the result; where something was checked, the last line is PASSED or FAILED."""
    print_text(json.dumps(value, indent=2) if as_json else text)
    if passed is not None and not as_json:
        print_text("PASSED" if passed else "FAILED")
    if passed is False:
        raise typer.Exit(CheckFailed.exit_code)


def print_text(text: str) -> None:
    """Print to standard output; a reader that stopped early is no error.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:  # `d2export models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputError(
            f"cannot write to standard output: {error.strerror}", "Send it somewhere else."
        ) from None
