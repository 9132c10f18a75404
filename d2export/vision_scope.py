"""Scope `vision` of a build: what `vision.onnx` is made of, asked and checked with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from d2export.bundle.folder import Bundle
from d2export.bundle.records import Reference
from d2export.description import PROMPT_TABLE
from d2export.errors import UsageError
from d2export.models import layouts
from d2export.models.source import Source
from d2export.models.tiling import tile
from d2export.options import ExportOptions
from d2export.progress import Progress
from d2export.pruning.prior import Prior
from d2export.report import selections
from d2export.runtime.picture import draw_kept
from d2export.runtime.prompt import read_embeds
from d2export.runtime.vision import VisionRunner, vision_inputs
from d2export.verify.accuracy import AccuracyReport
from d2export.verify.check import check_bundle
from d2export.verify.latency import StageLatency, bench_vision
from d2export.verify.tables import accuracy_table, plural

if TYPE_CHECKING:
    from PIL import Image

    from d2export.calibration.int8_scales import Int8Scales
    from d2export.export.weights import PlacedWeights
    from d2export.verify.pytorch import Answer

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
BENCH_TILES, BENCH_SECONDS = 1, 10.0


class VisionScope:
    """One build of scope `vision`, in a staging folder."""

    def __init__(
        self,
        folder: Path,
        options: ExportOptions,
        source: Source,
        prior: Prior | None,
        images: dict[str, Image.Image],
    ) -> None:
        self.folder, self.options, self.source, self.prior = folder, options, source, prior
        self.images = images
        self.scales: Int8Scales | None = None  # in precision int8, before graphs are written
        checkpoint = source.checkpoint
        self.spec = checkpoint.spec
        self.refs = layouts.resolve(checkpoint.tensors, self.spec)
        self.plan = options.plan(self.spec)
        self.needs_table = options.importance_source == "text"
        if self.needs_table:
            table = layouts.prompt_embedding(checkpoint.tensors, self.spec)
            self.refs |= {PROMPT_TABLE: table} if table else {}
        self.prompt_embeds = self._prompt_embeds()
        self.answers: dict[str, Answer] = {}

    def write_graphs(self) -> PlacedWeights:
        """Write the graphs and their weights."""
        from d2export.export.vision_graph import write_graphs

        return write_graphs(
            self.folder / "onnx",
            self.spec,
            self.refs,
            self.plan,
            prior=self.prior,
            precision=self.options.precision,
            opset=self.options.opset,
            copy_weights=self.options.weights_in_bundle and self.source.kind != "random",
            quantization=self.scales.quantization if self.scales else None,
        )

    def write_processor(self, progress: Progress) -> None:
        """Copy the tokenizer."""
        target = self.folder / "processor"
        for name in TOKENIZER_FILES:
            file = self.source.checkpoint.folder / name
            if file.is_file():
                target.mkdir(exist_ok=True)
                shutil.copyfile(file, target / name)
        if self.needs_table and not (target / "tokenizer.json").is_file():
            progress.warning(
                "the checkpoint has no tokenizer.json: `run` needs --prompt-embeds, not --prompt"
            )

    def ask(self, weights: PlacedWeights, progress: Progress) -> list[Reference]:
        """Have PyTorch answer, and store and draw what it says."""
        from d2export.report.pytorch_selections import recorded
        from d2export.verify.pytorch import answer, module_of

        module = module_of(self.spec, self.plan, self.prior, weights.floats)
        records = []
        for name, image in self.images.items():
            tiles = tile(image, self.spec.vision)
            inputs = vision_inputs(tiles.pixels, tiles.grid, self.spec.vision, self.prompt_embeds)
            found = answer(module, tiles.pixels, inputs)
            record = Reference(
                name,
                f"reference/{name}.npz",
                len(tiles.pixels),
                len(tiles.grid),
                f"pictures/{name}.png",
            )
            found.reference.save(self.folder / record.path)
            kept = found.reference.kept_indices
            draw_kept(image, tiles, kept).save(self.folder / "pictures" / f"{name}.png")
            recorded(self.plan, tiles, kept, found.scored, self.prior).save(
                self.folder / selections.FOLDER / f"{name}.npz"
            )
            progress.note(
                f"  {name}: {plural(len(tiles.pixels), 'tile')}, {len(tiles.grid)} tokens, "
                f"{len(kept)} kept, {found.seconds:.1f} s"
            )
            self.answers[name] = found
            records.append(record)
        return records

    def check(
        self, bundle: Bundle, provider: str, threads: int | None, progress: Progress
    ) -> tuple[AccuracyReport, str]:
        """Compare the graph with PyTorch; the report, and it as a table."""
        self._runner = VisionRunner(bundle, provider=provider, threads=threads)
        report = check_bundle(
            self._runner,
            {name: answer.reference for name, answer in self.answers.items()},
            exact={name: answer.scored for name, answer in self.answers.items()},
            progress=progress,
        )
        return report, accuracy_table(report)

    def bench(self, report: AccuracyReport) -> tuple[StageLatency, ...]:
        """Time what was checked."""
        fastest = min(case.seconds / case.tiles for case in report.cases)
        calls = int(min(max(BENCH_SECONDS / fastest, 3), 20))
        return (bench_vision(self._runner, BENCH_TILES, warmup=1, iterations=calls),)

    def seconds(self) -> dict[str, float]:
        """PyTorch's own time for each picture."""
        return {name: answer.seconds for name, answer in self.answers.items()}

    def _prompt_embeds(self) -> Any:
        """Prompt of the references; without one, a seeded stand-in of 16 random embeddings."""
        width, file = self.spec.text.hidden, self.options.prompt_embeds
        if not self.needs_table:
            return None
        if file is None:
            return np.random.default_rng(0).standard_normal((16, width), np.float32)
        values = read_embeds(file)
        if values.ndim != 2 or values.shape[1] != width or not len(values):
            raise UsageError(
                f"{file} has shape {list(values.shape)}, expected [P, {width}]",
                "Pass input embeddings of this model, a row per token.",
            )
        return values
