"""PyTorch and bundles in ONNX Runtime, FP32 and FP16, asked the same: scores, and equal tokens.

    python scripts/accuracy_onnx.py OUT [--model pocket] [--selector d2] [--scenes 2000]

Builds the bundles, asks scene by scene, and goes on where it stopped when the same command is given
again. Prints a table in Markdown for each kind of question.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from compared.configurations import KEEPS

from d2export.bundle.folder import read_bundle
from d2export.errors import D2ExportError
from d2export.evaluation.agreement import agreements
from d2export.evaluation.bundle_answers import bundle_candidate
from d2export.evaluation.configuration import Answered, Configuration
from d2export.evaluation.pytorch_answers import PytorchAnswers
from d2export.evaluation.pytorch_model import load_model
from d2export.evaluation.run import Ask
from d2export.evaluation.scenes.task import METRICS, pocket_scenes
from d2export.evaluation.statistics import mean_interval, paired
from d2export.evaluation.task import Task
from d2export.models.source import open_source
from d2export.options import ExportOptions
from d2export.pipeline import export
from d2export.progress import Progress

PRECISIONS = ("fp32", "fp16")
AT_ONCE = 20  # scenes in a file of answers


def main() -> None:
    """Ask, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of bundles and answers; it goes on there")
    parser.add_argument("--model", default="pocket", help="preset or folder")
    parser.add_argument("--selector", default="d2")
    parser.add_argument("--scenes", type=int, default=2000)
    arguments = parser.parse_args()
    arguments.out /= f"{Path(arguments.model).name}-{arguments.selector}"
    arguments.out.mkdir(parents=True, exist_ok=True)
    progress, task = Progress(), pocket_scenes("test", arguments.scenes)
    with TemporaryDirectory() as scratch:
        asks, configurations = askers(arguments, Path(scratch), progress)
        parts, questions = arguments.out / "answers", AT_ONCE * len(METRICS)
        parts.mkdir(exist_ok=True)
        lines = []
        for first in range(0, len(task.samples), questions):
            part = parts / f"{first:06d}.json"
            if not part.exists():
                samples = task.samples[first : min(first + questions, len(task.samples))]
                found = {name: list(ask(samples)) for name, ask in asks.items()}
                unfinished = part.with_suffix(".partial")
                unfinished.write_text(json.dumps(line_of(task, found)))
                unfinished.rename(part)
                progress.note(f"{first // len(METRICS) + AT_ONCE} scenes")
            lines.append(json.loads(part.read_text()))
    print(tables(lines, configurations))


def askers(
    arguments: argparse.Namespace, scratch: Path, progress: Progress
) -> tuple[dict[str, Ask], list[str]]:
    """PyTorch and the bundles, each in the same configurations, whose names come second."""
    asks: dict[str, Ask] = {}
    configurations: Sequence[Configuration] = ()
    for precision in PRECISIONS:
        bundle = arguments.out / precision
        if not bundle.exists():
            options = ExportOptions(
                arguments.model, scope="vlm", selector=arguments.selector, precision=precision
            )
            export(options, bundle)
        candidate = bundle_candidate([read_bundle(bundle)], KEEPS)
        configurations = candidate.configurations
        asks[precision] = candidate.source(configurations)
    source = open_source(
        arguments.model, scratch, random_weights=False, seed=0, revision=None, embeddings=False,
        scope="vlm", progress=progress,
    )  # fmt: skip
    threads = len(os.sched_getaffinity(0))
    asks["pytorch"] = PytorchAnswers(load_model(source.checkpoint), configurations, threads)
    return asks, [one.name for one in configurations]


def line_of(task: Task, found: dict[str, list[Answered]]) -> dict[str, Any]:
    """Scores by who was asked, configuration and sample, and tokens kept alike."""
    scores: dict[str, Any] = defaultdict(lambda: defaultdict(dict))
    for name, answers in found.items():
        for one in answers:
            score = task.score(one.sample, one.text)
            scores[name][one.configuration.name][one.sample.id] = score
    alike = {
        precision: {
            name: [agreement.kept, agreement.common, agreement.answers, agreement.same_texts]
            for name, agreement in agreements(found[precision], found["pytorch"]).items()
        }
        for precision in PRECISIONS
    }
    return {"scores": scores, "alike": alike}


def tables(lines: Sequence[dict[str, Any]], configurations: Sequence[str]) -> str:
    """Scores in %, differences in points with their 95 % intervals."""
    answers: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    alike: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for line in lines:
        for who, by_configuration in line["scores"].items():
            for name, scores in by_configuration.items():
                answers[who, name] |= scores
        for who, by_configuration in line["alike"].items():
            for name, counts in by_configuration.items():
                alike[who, name] = [a + b for a, b in zip(alike[who, name], counts, strict=True)]
    parts = [
        "| | tokens equal, FP32 | FP16 | answers equal, FP32 | FP16 |",
        "|---|---|---|---|---|",
    ]
    for name in configurations:
        rows = [alike[precision, name] for precision in PRECISIONS]
        shares = [f"{common / kept:.3%}" for kept, common, _, _ in rows]
        shares += [f"{same / asked:.2%}" for _, _, asked, same in rows]
        parts.append(f"| {name} | {' | '.join(shares)} |")
    for kind in METRICS:
        parts += ["", f"### {kind}", "", "| | PyTorch | FP32 | FP16 |", "|---|---|---|---|"]
        parts += [
            f"| {name} | {' | '.join(_cells(answers, name, kind))} |" for name in configurations
        ]
    return "\n".join(parts)


def _cells(answers: dict[tuple[str, str], dict[str, float]], name: str, kind: str) -> Iterator[str]:
    base = {sample: score for sample, score in answers["pytorch", name].items() if kind in sample}
    interval = mean_interval(list(base.values()))
    mean = sum(base.values()) / len(base)
    yield f"{100 * mean:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
    for precision in PRECISIONS:
        theirs = answers[precision, name]
        ours = [theirs[sample] for sample in base]
        gain = paired(ours, list(base.values()))
        yield f"{100 * sum(ours) / len(ours):.1f} ({100 * gain.difference:+.2f})"


if __name__ == "__main__":
    try:
        main()
    except D2ExportError as error:
        sys.exit(f"error: {error}")
