"""Scope `vlm` of a build: what its two graphs are made of, asked and checked with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from d2export.bundle.folder import Bundle
from d2export.bundle.processor import write_processor
from d2export.bundle.records import Reference
from d2export.description import PRIOR
from d2export.errors import UsageError
from d2export.models import layouts
from d2export.models.config import check_language_model
from d2export.models.source import Source
from d2export.models.text_layouts import resolve_text
from d2export.models.tiling import tile, token_count
from d2export.options import ExportOptions
from d2export.progress import Progress
from d2export.pruning.prior import Prior
from d2export.report import selections
from d2export.runtime.generate import Generator, kept_per_image
from d2export.runtime.picture import draw_kept
from d2export.runtime.tokenizer import BundleTokenizer, Encoded
from d2export.verify.tables import plural
from d2export.verify.vlm_check import VlmReport, check_vlm
from d2export.verify.vlm_latency import VlmLatency, bench_vlm
from d2export.verify.vlm_prompt import ANSWER_TOKENS, reference_prompt

if TYPE_CHECKING:
    from PIL import Image

    from d2export.calibration.int8_scales import Int8Scales
    from d2export.export.weights import PlacedWeights
    from d2export.verify.vlm_pytorch import VlmAnswer

BENCH_TILES, BENCH_SECONDS = 1, 10.0


class VlmScope:
    """One build of scope `vlm`, in a staging folder."""

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
        self.plan = options.plan(self.spec)
        check_language_model(checkpoint.config, self.spec.text, str(checkpoint.folder))
        self.refs = layouts.resolve(checkpoint.tensors, self.spec)
        self.refs |= resolve_text(checkpoint.tensors, self.spec)
        self.prompts: dict[str, Encoded] = {}
        self.answers: dict[str, VlmAnswer] = {}

    def write_graphs(self) -> PlacedWeights:
        """Write the graphs and their weights."""
        from d2export.export.vlm_graphs import write_vlm_graphs

        return write_vlm_graphs(
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
        """Write the tokenizer, the conversation, and the prior; refuse what cannot be asked."""
        checkpoint, target = self.source.checkpoint, self.folder / "processor"
        conversation = write_processor(
            checkpoint.folder, checkpoint.config, self.spec.text.vocab, target
        )
        tokenizer: BundleTokenizer | None = None
        if conversation is not None:
            tokenizer = BundleTokenizer(target, self.spec.text.vocab)
        else:
            if self.options.prompt is not None:
                raise UsageError(
                    "--prompt is given, but the checkpoint has no tokenizer to read it with",
                    "Leave it out: the references then have random tokens for text.",
                )
            progress.warning(
                "the checkpoint has no tokenizer: `run` cannot read a prompt, and the references "
                "have random tokens for text"
            )
        for name, image in self.images.items():
            length = token_count(image.size, self.spec.vision)
            self.prompts[name] = reference_prompt(
                tokenizer, self.spec.text, [length], self.options.prompt
            )
        if self.options.prior_file is not None and self.plan.in_decoder:
            target.mkdir(exist_ok=True)
            shutil.copyfile(self.options.prior_file, self.folder / PRIOR)

    def ask(self, weights: PlacedWeights, progress: Progress) -> list[Reference]:
        """Have PyTorch answer, and store and draw what it says."""
        from d2export.report.pytorch_selections import recorded
        from d2export.verify.vlm_pytorch import answer, modules_of

        modules = modules_of(self.spec, self.plan, self.prior, weights.floats)
        records = []
        for name, image in self.images.items():
            tiles = tile(image, self.spec.vision)
            found = answer(modules, [tiles], self.prompts[name], ANSWER_TOKENS)
            record = Reference(
                name,
                f"reference/{name}.npz",
                len(tiles.pixels),
                len(tiles.grid),
                f"pictures/{name}.png",
            )
            found.reference.save(self.folder / record.path)
            (kept,) = kept_per_image(self.prompts[name], found.reference.positions)
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
    ) -> tuple[VlmReport, str]:
        """Compare the graphs with PyTorch; the report, and it as a table."""
        self._generator = Generator(bundle, provider, threads)
        references = {name: answer.reference for name, answer in self.answers.items()}
        exact = {name: (found.scored, found.attention) for name, found in self.answers.items()}
        report = check_vlm(self._generator, references, exact=exact, progress=progress)
        return report, report.text()

    def bench(self, report: VlmReport) -> tuple[VlmLatency, ...]:
        """Time what was checked."""
        fastest = min(case.seconds / case.prompt_tokens for case in report.cases)
        tokens = BENCH_TILES * self.spec.vision.tokens_per_tile
        calls = int(min(max(BENCH_SECONDS / (fastest * tokens), 3), 20))
        return (bench_vlm(self._generator, BENCH_TILES, warmup=1, iterations=calls),)

    def seconds(self) -> dict[str, float]:
        """PyTorch's own time for each picture."""
        return {name: answer.seconds for name, answer in self.answers.items()}
