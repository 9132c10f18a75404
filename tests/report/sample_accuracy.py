"""An evaluation of three selectors on two kinds of questions, with made-up scores."""

from __future__ import annotations

from d2export.evaluation.tables import Accuracy, Row

KEEPS = (0.5, 0.25, 0.1, 0.05)
FALL = {"d2": 0.6, "fastv": 0.9, "random <b>": 1.2}
UNPRUNED = {"locate": 0.9461, "count": 0.812}


def row(configuration: str, series: str, kind: str, score: float, kept: float) -> Row:
    pruned = kept < 256
    return Row(
        configuration, series, "", kind, "IoU ≥ 0.5", 2000, score, score - 0.02, score + 0.02,
        kept, 256.0, 0.125 if kind == "locate" else None,
        "unpruned" if pruned else None,
        score - UNPRUNED[kind] if pruned else None,
        score - UNPRUNED[kind] - 0.015 if pruned else None,
        score - UNPRUNED[kind] + 0.015 if pruned else None,
    )  # fmt: skip


def sample_accuracy(*, answers: int = 52_000) -> Accuracy:
    rows = []
    for kind, whole in UNPRUNED.items():
        rows.append(row("unpruned", "unpruned", kind, whole, 256.0))
        for name, fall in FALL.items():
            rows += [
                row(f"{name} {keep:.0%}", name, kind, whole - fall * (0.55 - keep) ** 2, 256 * keep)
                for keep in KEEPS
            ]
    return Accuracy(
        "pocket-scenes",
        "Questions about drawn scenes.",
        tuple(rows),
        answers,
        52_000,
        2,
        () if answers == 52_000 else (2,),
        {"models": {"": {"model": "pocket"}}},
        {"processor": "one", "command": "d2export eval"},
    )
