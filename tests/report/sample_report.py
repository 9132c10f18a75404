"""A report with every part, whose numbers are easy to find again and whose names are hostile."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from d2export.report.data import (
    Case,
    Check,
    Evaluation,
    Keep,
    Picture,
    ReportData,
    Saving,
    Stage,
)
from d2export.verify.latency import Latency

HOSTILE = "</style><script>alert(1)</script>\"'&<img src=x onerror=alert(2)>"
SIDE = 4
COLUMNS, ROWS = 3, 2
TOKENS = (COLUMNS * ROWS + 1) * SIDE**2


def latency(median: float) -> Latency:
    return Latency(20, median / 2, median, median, 2 * median, 3 * median, 4 * median)


def photo(width: int = 120, height: int = 80) -> bytes:
    values = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "JPEG")
    return file.getvalue()


def kept_of(count: int, tokens: int) -> np.ndarray:
    return np.linspace(0, tokens - 1, count).round().astype(np.int32)


def picture(name: str, *, tiled: bool = True) -> Picture:
    """With a thumbnail, or of one tile that was padded."""
    random = np.random.default_rng(1)
    tokens = TOKENS if tiled else SIDE**2
    raw, prior = (random.random(tokens).astype(np.float32) for _ in range(2))
    columns, rows = (COLUMNS, ROWS) if tiled else (1, 1)
    window = (0.0, 0.0, 12.0, 8.0) if tiled else (0.0, 0.5, 4.0, 3.0)
    kept = (kept_of(tokens // 8, tokens), kept_of(tokens // 4, tokens), None)
    return Picture(
        name, photo(), 120, 80, columns, rows, SIDE, window, kept, raw, prior, raw / prior,
        "where is it?", "word7 word8",
    )  # fmt: skip


def keeps() -> tuple[Keep, ...]:
    tokens = TOKENS + SIDE**2
    saving = Saving(1_234_000_000, 5_600_000, 0.4321, 0.3456)
    nothing = Saving(2_172_000_000, 8_560_000, 0.0, 0.0)
    return (
        Keep("12.5 %", 16, tokens, saving),
        Keep("32", 32, tokens, saving, built=True),
        Keep("all", tokens, tokens, nothing),
    )


def full_report(name: str = HOSTILE) -> ReportData:
    """Every part is there; `name` is used wherever a user has a word."""
    case = Case(name, 32, 31, 1.5e-6, 0.25, 2.5e-5, 8, 7)
    plot = (
        '<svg viewBox="0 0 10 10" role="img" aria-label="accuracy"><path d="M0 0h9"></path></svg>'
    )
    return ReportData(
        model=name,
        headline=f"{name} chooses.",
        trained=False,
        plan=(("selector", name),),
        keeps=keeps(),
        pictures=(picture(name), picture("padded", tiled=False)),
        left_out=(name,),
        unit="of attention",
        prior=name,
        stages=(
            Stage("Vision tower and projector", latency(21.5), 691_000_000),
            Stage("Prefill", latency(12.5), 372_000_000),
            Stage("of which selection", latency(0.5), 365_000, part=True, note=name),
            Stage("Prefill, nothing pruned", None, 637_000_000),
        ),
        timed="One picture.",
        counted="A mean.",
        check=Check(
            True, "onnxruntime", "fp16", "native", 0.96875, 0.99, 5e-3, 2e-2, (case,), {name: 4.75}
        ),
        evaluations=(Evaluation(name, plot, name, ("keep", "score"), (("10 %", "0.746"),)),),
        environment=(("processor", name), ("command", f"d2export build --prompt '{name}'")),
        versions=(("torch", "2.13.0"),),
    )  # fmt: skip


def empty_report() -> ReportData:
    """Nothing was stored and nothing was measured."""
    return ReportData("pocket", "It keeps.", why_no_importance="There is nothing to draw.")
