"""What a build measured: report.json, and the same as text."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d2export.verify.accuracy import AccuracyReport
from d2export.verify.latency import StageLatency
from d2export.verify.tables import accuracy_table, latency_table


@dataclass(frozen=True)
class BuildReport:
    """Accuracy against PyTorch, latency, and PyTorch's own seconds per picture, if it ran."""

    accuracy: AccuracyReport
    latency: tuple[StageLatency, ...]
    pytorch_seconds: dict[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the graph answers what PyTorch answers."""
        return self.accuracy.passed

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "passed": self.passed,
            "accuracy": self.accuracy.to_json(),
            "latency_ms": [stage.to_json() for stage in self.latency],
            "pytorch_seconds": self.pytorch_seconds,
        }

    def text(self) -> str:
        """As tables."""
        return f"{accuracy_table(self.accuracy)}\n\n{latency_table(self.latency)}"

    def write(self, path: Path) -> None:
        """Write report.json."""
        path.write_text(
            json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n", encoding="utf-8"
        )
