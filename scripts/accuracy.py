"""The tables of docs/accuracy.md: every selector, every part of d2 left out, at every keep value.

    python scripts/accuracy.py OUT --model pocket [--model FOLDER ...] [--scenes 2000] [--shard 1/4]

Asks each model the built-in task in PyTorch, measures a prior for each first, and goes on where it
stopped when the same command is given again. Prints the tables in Markdown; OUT has all figures as
JSON and CSV, and the plots. Priors come from scenes of the split `tune`, answers from `test`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from d2export.calibration.prior import calibrate_prior
from d2export.evaluating import ModelOptions, RunOptions, eval_model
from d2export.evaluation.configuration import Configuration, unpruned
from d2export.evaluation.oracle import oracle
from d2export.evaluation.results import Shard
from d2export.evaluation.scenes.task import pocket_scenes
from d2export.evaluation.sweep import pruned
from d2export.evaluation.tables import Accuracy, Row
from d2export.models.presets import ModelSpec
from d2export.options import PRUNE_LAYER, ExportOptions
from d2export.pipeline import export
from d2export.progress import Progress
from d2export.pruning.selector import Value

KEEPS = ("50%", "25%", "15%", "10%", "5%")
LAYERS = (1, 2, 3)
OTHERS = ("divprune", "cdpruner", "vispruner", "dart", "sms", "random", "uniform")
CALIBRATION_SCENES = 300
# What is left out of d2 or changed, and the settings that do it.
VARIANTS: Mapping[str, Mapping[str, Value]] = {
    "all pivots": {"pivot_ratio": 1.0},
    "no pivots": {"pivot_ratio": 0.0},
    "semantic only": {"alpha": 1.0},
    "spatial only": {"alpha": 0.0},
    "pivots block": {"pivots_block": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the results; it goes on there")
    parser.add_argument("--model", action="append", help="preset or folder; default: pocket")
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--shard", default="1/1")
    arguments = parser.parse_args()
    progress = Progress()
    task = pocket_scenes("test", arguments.scenes)
    found: dict[str, Accuracy] = {}
    for model in arguments.model or ["pocket"]:
        everything = Everything(tuple(measured(model, arguments.out / "priors", progress)))
        run = RunOptions(arguments.out / Path(model).name, Shard.parse(arguments.shard))
        options = ModelOptions(model)
        found[Path(model).name] = eval_model(options, everything, task, run, progress=progress)
    print(markdown(found))


def measured(model: str, folder: Path, progress: Progress) -> Iterator[Path]:
    """A prior for each layer, measured once."""
    for layer in LAYERS:
        prior = folder / f"{Path(model).name}-{layer}.json"
        if not prior.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory() as scratch:
                pictures = Path(scratch) / "pictures"
                pictures.mkdir()
                for sample in pocket_scenes("tune", CALIBRATION_SCENES).samples[::4]:
                    sample.load().save(pictures / f"{sample.picture_id}.png")
                bundle = Path(scratch) / "bundle"
                export(ExportOptions(model, scope="vlm", prune_layer=layer), bundle)
                with progress.stage(f"measuring {prior}"):
                    calibrate_prior(bundle, pictures, prior)
        yield prior


@dataclass(frozen=True)
class Everything:
    """What one model is asked in; a `Sweep` of its own.

    Attributes:
        priors: for each of `LAYERS`.
    """

    priors: tuple[Path, ...]

    def configurations(self, spec: ModelSpec) -> list[Configuration]:
        """All of them, the unpruned one first."""

        def of(series: str, selector: str, **options: Any) -> list[Configuration]:
            keeps = KEEPS if selector != "sms" else (None,)
            wanted = (
                ExportOptions(spec.name, scope="vlm", selector=selector, keep=keep, **options)
                for keep in keeps
            )
            return [pruned(spec, option, series) for option in wanted]

        found = [unpruned()]
        for layer, prior in zip(LAYERS, self.priors, strict=True):
            name = "" if layer == PRUNE_LAYER else f", K={layer}"
            found += of(f"d2{name}", "d2", prior=prior, prune_layer=layer)
            found += of(f"d2, no prior{name}", "d2", prune_layer=layer)
            found += of(f"fastv{name}", "fastv", prune_layer=layer)
            found += [oracle(spec, keep, layer, series=f"oracle{name}") for keep in KEEPS]
        found += of("d2, shallow prior", "d2", prior="shallow")
        prior = self.priors[LAYERS.index(PRUNE_LAYER)]
        for words, settings in VARIANTS.items():
            found += of(f"d2, {words}", "d2", prior=prior, settings=settings)
        for selector in OTHERS:
            found += of(selector, selector)
        return found


def markdown(found: Mapping[str, Accuracy]) -> str:
    """A table per kind of question: scores in %, the mean of the models and their range."""
    kinds = next(iter(found.values())).kinds
    return "\n\n".join(
        _kind(kind, [accuracy.of(kind) for accuracy in found.values()]) for kind in kinds
    )


def _kind(kind: str, models: Sequence[Sequence[Row]]) -> str:
    first = models[0][0]
    scores = [{row.configuration: row for row in rows} for rows in models]
    lines = [
        f"### {kind}: {first.metric}, n = {first.n:,} per model, chance {_percent(first.chance)}",
        "",
        f"| {len(models)} models | {' | '.join(KEEPS)} |",
        f"|---{'|---' * len(KEEPS)}|",
    ]
    for series in dict.fromkeys(row.series for row in models[0]):
        counted = [f"{series} {keep}" for keep in KEEPS if f"{series} {keep}" in scores[0]]
        cells = [_cell([rows[name] for rows in scores]) for name in counted]
        if not counted:  # one figure for all
            kept = sum(rows[series].kept for rows in scores) / len(scores)
            cells = [f"{_cell([rows[series] for rows in scores])} at {kept:.0f} tokens"]
            cells += [""] * (len(KEEPS) - 1)
        lines.append(f"| {series} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(rows: Sequence[Row]) -> str:
    values = [row.score for row in rows]
    mean = sum(values) / len(values)
    half = max(row.high - row.low for row in rows) / 2
    spread = f" ({_percent(min(values))} to {_percent(max(values))})" if len(values) > 1 else ""
    return f"{_percent(mean)}{spread or f' ± {100 * half:.1f}'}"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f}"


if __name__ == "__main__":
    main()
