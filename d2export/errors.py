"""Every error a user can cause, and the exit code the command line ends with.

A message names the thing, the value found, what was expected and the next step. Nothing else is
caught at the top: any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations


class D2ExportError(Exception):
    """Base of all errors a user can cause.

    Args:
        problem: what is wrong: the thing, the value found and the value expected.
        hint: the next step, as an imperative sentence; shown on a line of its own.
    """

    exit_code = 2

    def __init__(self, problem: str, hint: str | None = None) -> None:
        super().__init__(problem if hint is None else f"{problem}\n  {hint}")
        self.problem = problem
        self.hint = hint


class CheckFailed(D2ExportError):
    """A check ran and did not pass."""

    exit_code = 1


class UsageError(D2ExportError):
    """An argument does not make sense."""


class CheckpointError(D2ExportError):
    """A checkpoint cannot be read, is incomplete, or does not fit the model."""


class ImageError(D2ExportError):
    """An image cannot be read or has a shape no model can take."""


class BundleError(D2ExportError):
    """A bundle is missing, damaged, from a newer version, or reaches outside itself."""


class OutputError(D2ExportError):
    """The output path cannot be written."""


class EnvironmentMismatch(D2ExportError):
    """This machine, or a version installed on it, does not fit what was asked."""

    exit_code = 3
