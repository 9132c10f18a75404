"""What a build measured: report.json, and the same as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d2export.verify.accuracy import AccuracyReport
from d2export.verify.latency import StageLatency
from d2export.verify.tables import accuracy_table, latency_table
from d2export.verify.vlm_check import VlmReport
from d2export.verify.vlm_latency import VlmLatency, vlm_latency_table


@dataclass(frozen=True)
class BuildReport:
    """Accuracy against PyTorch, latency, and PyTorch's own seconds per picture, if it ran.

    `counts` is a table of what each stage costs; empty in scope `vision`. `environment` says where
    all of it was measured. `products` is signal to noise in decibels of each product of a bundle
    in INT8, None if it is exact.
    """

    accuracy: AccuracyReport | VlmReport
    latency: Sequence[StageLatency] | Sequence[VlmLatency]
    pytorch_seconds: dict[str, float] = field(default_factory=dict)
    counts: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    products: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the graph answers what PyTorch answers."""
        return self.accuracy.passed

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        report: dict[str, Any] = {
            "passed": self.passed,
            "accuracy": self.accuracy.to_json(),
            "latency_ms": [stage.to_json() for stage in self.latency],
            "pytorch_seconds": self.pytorch_seconds,
            "environment": self.environment,
        }
        return report | ({"sqnr_db": dict(self.products)} if self.products else {})

    def text(self) -> str:
        """As tables."""
        parts = (accuracy_text(self.accuracy), latency_text(self.latency), self.counts)
        return "\n\n".join(part for part in parts if part)

    def write(self, path: Path) -> None:
        """Write report.json."""
        path.write_text(
            json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n", encoding="utf-8"
        )


def accuracy_text(report: AccuracyReport | VlmReport) -> str:
    """The report of either scope as a table."""
    return report.text() if isinstance(report, VlmReport) else accuracy_table(report)


def latency_text(stages: Sequence[StageLatency] | Sequence[VlmLatency]) -> str:
    """Latencies of either scope as a table."""
    whole = [stage for stage in stages if isinstance(stage, VlmLatency)]
    vision = [stage for stage in stages if isinstance(stage, StageLatency)]
    return vlm_latency_table(whole) if whole else latency_table(vision)
