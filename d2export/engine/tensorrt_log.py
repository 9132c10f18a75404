"""What TensorRT says while it builds: its messages, and how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from d2export.errors import EnvironmentMismatch
from d2export.progress import Progress

SHOWN = 20  # errors in a message; the log has all of them
STEPS_SAID = 4  # how often a phase says how far it is


class Log:
    """TensorRT's messages: errors are kept, warnings are details, the rest is left out.

    Args:
        trt: TensorRT's module.
    """

    def __init__(self, trt: Any, progress: Progress) -> None:
        self.errors: list[str] = []
        kept = {trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR}
        warning = trt.ILogger.Severity.WARNING
        errors = self.errors

        class Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in kept:
                    errors.append(message)
                if severity in kept or severity == warning:
                    progress.detail(f"  TensorRT: {message}")

        self.logger = Logger()

    def failure(
        self, problem: str, details: Sequence[str] = (), hint: str | None = None
    ) -> EnvironmentMismatch:
        """The error for something that failed, with all that TensorRT said about it."""
        lines = [*details, *(error for error in self.errors if error not in details)]
        if len(lines) > SHOWN:
            lines = [*lines[:SHOWN], f"and {len(lines) - SHOWN} more; -v shows all"]
        text = "\n".join([problem, *(f"    {line}" for line in lines)])
        return EnvironmentMismatch(
            text, hint or "Read docs/engines.md, or try another version of TensorRT."
        )


def monitor(trt: Any, progress: Progress) -> Any:
    """An `IProgressMonitor` that notes the builder's main phases and how far they are.

    Ctrl-C ends the build at the next step: TensorRT drops exceptions, so it is noted in
    `interrupted`.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.interrupted = False

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.steps[phase_name] = num_steps
                progress.note(f"  TensorRT: {phase_name}")
            else:
                progress.detail(f"  TensorRT: {parent_phase}: {phase_name}")

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                self._say(phase_name, step)
            except KeyboardInterrupt:
                self.interrupted = True
            return not self.interrupted

        def _say(self, phase_name: str, step: int) -> None:
            steps = self.steps.get(phase_name, 0)
            done = step + 1
            if steps >= STEPS_SAID and done * STEPS_SAID // steps > step * STEPS_SAID // steps:
                progress.note(f"  TensorRT: {phase_name}: {done} of {steps}")

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()
