"""PyTorch and bundles in ONNX Runtime, FP32, FP16 and INT8, asked the same: scores, equal tokens.

    python scripts/accuracy_onnx.py OUT [--model pocket] [--selector d2] [--scenes 2000]

Builds the bundles, INT8 with scales measured on scenes of another split, asks scene by scene, and
goes on where it stopped when the same command is given again. Prints a table in Markdown for each
kind of question. A small model is asked fastest with one thread a process: `--threads 1 --shard
1/2`, beside it, once the bundles are there, `--shard 2/2`, then the command without them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from compared.configurations import KEEPS

from d2export.bundle.folder import read_bundle
from d2export.calibration.int8_settings import ANSWER_TOKENS, Settings
from d2export.errors import D2ExportError
from d2export.evaluation.agreement import agreements
from d2export.evaluation.bundle_answers import bundle_candidate
from d2export.evaluation.configuration import Answered, Configuration
from d2export.evaluation.pytorch_answers import PytorchAnswers
from d2export.evaluation.pytorch_model import load_model
from d2export.evaluation.results import Shard
from d2export.evaluation.run import Ask
from d2export.evaluation.scenes.task import METRICS, pocket_scenes
from d2export.evaluation.statistics import mean_interval, paired
from d2export.evaluation.task import Task
from d2export.models.source import open_source
from d2export.options import ExportOptions
from d2export.pipeline import export
from d2export.progress import Progress
from d2export.quantizing import calibrate
from d2export.runtime.generate import stored_prior

PRECISIONS = ("fp32", "fp16", "int8")
AT_ONCE = 20  # scenes in a file of answers
CALIBRATION_SCENES = 64


def main() -> None:
    """Ask, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of bundles and answers; it goes on there")
    parser.add_argument("--model", default="pocket", help="preset or folder")
    parser.add_argument("--selector", default="d2")
    parser.add_argument("--prior", type=Path, help="file of a positional prior")
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--threads", type=int, help="of one operator; default: all cores")
    parser.add_argument(
        "--shard", type=Shard.parse, default=Shard(), help="I/N: this process asks every Nth part"
    )
    parser.add_argument("--keep-fp16-below", type=float, help="dB: less exact INT8 stays FP16")
    parser.add_argument("--answer-tokens", type=int, default=ANSWER_TOKENS, help="of INT8")
    arguments = parser.parse_args()
    arguments.out /= f"{Path(arguments.model).name}-{arguments.selector}"
    if arguments.prior is not None:
        arguments.out = arguments.out.with_name(f"{arguments.out.name}-prior")
    arguments.out.mkdir(parents=True, exist_ok=True)
    progress, task = Progress(), pocket_scenes("test", arguments.scenes)
    with TemporaryDirectory() as scratch:
        asks, configurations = askers(arguments, Path(scratch), progress)
        parts, questions = arguments.out / "answers", AT_ONCE * len(METRICS)
        parts.mkdir(exist_ok=True)
        lines = []
        step, start = questions * arguments.shard.count, questions * (arguments.shard.index - 1)
        for first in range(start, len(task.samples), step):
            part = parts / f"{first:06d}.json"
            if not part.exists():
                samples = task.samples[first : min(first + questions, len(task.samples))]
                found = {name: list(ask(samples)) for name, ask in asks.items()}
                unfinished = part.with_suffix(".partial")
                unfinished.write_text(json.dumps(line_of(task, found)))
                unfinished.rename(part)
                progress.note(f"{first // len(METRICS) + AT_ONCE} scenes")
            lines.append(json.loads(part.read_text()))
    if arguments.shard.count == 1:
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
            scales = measured_scales(arguments, progress) if precision == "int8" else None
            options = ExportOptions(
                arguments.model, scope="vlm", selector=arguments.selector, precision=precision,
                scales=scales, prior=arguments.prior,
            )  # fmt: skip
            export(options, bundle)
        candidate = bundle_candidate([read_bundle(bundle)], KEEPS, threads=arguments.threads)
        configurations = candidate.configurations
        asks[precision] = candidate.source(configurations)
    source = open_source(
        arguments.model, scratch, random_weights=False, seed=0, revision=None, embeddings=False,
        scope="vlm", progress=progress,
    )  # fmt: skip
    threads = arguments.threads or len(os.sched_getaffinity(0))
    prior = stored_prior(read_bundle(arguments.out / PRECISIONS[0])) if arguments.prior else None
    known = [one if one.plan is None else replace(one, prior=prior) for one in configurations]
    asks["pytorch"] = PytorchAnswers(load_model(source.checkpoint), known, threads)
    return asks, [one.name for one in configurations]


def measured_scales(arguments: argparse.Namespace, progress: Progress) -> Path:
    """INT8 scales of the FP32 bundle, measured on scenes and prompts that nobody is asked."""
    scales: Path = arguments.out / "scales.json"
    if not scales.exists():
        with TemporaryDirectory() as folder:
            pictures, prompts = Path(folder) / "pictures", Path(folder) / "prompts.txt"
            pictures.mkdir()
            samples = pocket_scenes("tune", CALIBRATION_SCENES).samples
            for sample in samples[:: len(METRICS)]:
                sample.load().save(pictures / f"{sample.picture_id}.png")
            # In turn one of each kind.
            asked = [samples[4 * n + n % len(METRICS)].prompt for n in range(CALIBRATION_SCENES)]
            prompts.write_text("\n".join(asked) + "\n")
            settings = Settings(
                keep_fp16_below=arguments.keep_fp16_below, answer_tokens=arguments.answer_tokens
            )
            found = calibrate(
                arguments.out / "fp32", pictures, scales, prompts=prompts,
                settings=settings, progress=progress,
            )  # fmt: skip
            print(found.text())
    return scales


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
    names = [precision.upper() for precision in PRECISIONS]
    columns = [f"{what} equal, {name}" for what in ("tokens", "answers") for name in names]
    parts = [*_heading(columns)]
    for name in configurations:
        rows = [alike[precision, name] for precision in PRECISIONS]
        shares = [f"{common / kept:.3%}" for kept, common, _, _ in rows]
        shares += [f"{same / asked:.2%}" for _, _, asked, same in rows]
        parts.append(f"| {name} | {' | '.join(shares)} |")
    for kind in METRICS:
        parts += ["", f"### {kind}", "", *_heading(["PyTorch", *names])]
        parts += [
            f"| {name} | {' | '.join(_cells(answers, name, kind))} |" for name in configurations
        ]
    return "\n".join(parts)


def _heading(columns: Sequence[str]) -> Iterator[str]:
    yield f"| | {' | '.join(columns)} |"
    yield "|---" * (len(columns) + 1) + "|"


def _cells(answers: dict[tuple[str, str], dict[str, float]], name: str, kind: str) -> Iterator[str]:
    base = {sample: score for sample, score in answers["pytorch", name].items() if kind in sample}
    interval = mean_interval(list(base.values()))
    mean = sum(base.values()) / len(base)
    yield f"{100 * mean:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
    for precision in PRECISIONS:
        theirs = answers[precision, name]
        ours = [theirs[sample] for sample in base]
        gain = paired(ours, list(base.values()))
        cell = f"{100 * (sum(ours) / len(ours)):.1f} ({100 * gain.difference:+.2f}"
        if gain.difference:
            cell += f", {100 * gain.interval.low:+.2f} to {100 * gain.interval.high:+.2f}"
        yield f"{cell})"


if __name__ == "__main__":
    try:
        main()
    except D2ExportError as error:
        sys.exit(f"error: {error}")
