"""The tables of docs/accuracy.md: every selector, every part of d2 left out, at every keep value.

    python scripts/accuracy.py OUT --model pocket [--model FOLDER ...] [--scenes 2000] [--shard 1/4]

Asks each model the built-in task in PyTorch, measures priors for each first, and goes on where it
stopped when the same command is given again. Prints the tables in Markdown; OUT has all figures as
JSON and CSV, and the plots. Priors come from scenes of the split `tune`, answers from `test`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from compared.configurations import PARTS, Part, measured
from compared.tables import Scores, gains_table, scores_of, scores_table

from d2export.errors import D2ExportError, UsageError
from d2export.evaluating import ModelOptions, RunOptions, eval_model
from d2export.evaluation.results import ResultsFolder, Shard, read_settings
from d2export.evaluation.scenes.task import METRICS, pocket_scenes
from d2export.evaluation.tables import Row
from d2export.progress import Progress


def main() -> None:
    """Ask all models, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the results; it goes on there")
    parser.add_argument("--model", action="append", help="preset or folder; default: pocket")
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--shard", default="1/1")
    parser.add_argument("--force", action="store_true", help="start over")
    arguments = parser.parse_args()
    progress = Progress()
    task = pocket_scenes("test", arguments.scenes)
    found: dict[str, tuple[Row, ...]] = {}
    scores: dict[str, Scores] = {}
    for model in arguments.model or ["pocket"]:
        name = Path(model).name
        if name in found:
            raise UsageError(f"two models are called {name}", "Rename one of the folders.")
        priors = arguments.out / "priors"
        if arguments.force:
            for prior in priors.glob(f"{name}-*.json"):
                prior.unlink()
        measurements = dict(measured(model, priors, progress))
        rows: tuple[Row, ...] = ()
        gained: dict[str, dict[str, float]] = {}
        for part, listed in PARTS.items():
            run = RunOptions(
                arguments.out / name / part, Shard.parse(arguments.shard), arguments.force
            )
            asked = eval_model(
                ModelOptions(model), Part(listed, measurements), task, run, progress=progress
            )
            rows += tuple(row for row in asked.rows if row.baseline or not rows)
            results = ResultsFolder(run.output, read_settings(run.output))
            gained |= scores_of(results.records())
        found[name], scores[name] = rows, gained
    for kind in METRICS:
        print(f"{scores_table(found, kind)}\n\n{gains_table(scores, task, kind)}\n")


if __name__ == "__main__":
    try:
        main()
    except D2ExportError as error:
        sys.exit(f"error: {error}")
