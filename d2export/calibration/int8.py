"""INT8 scales, measured: what each product reads, on real pictures and prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from d2export import __version__
from d2export.bundle.folder import Bundle, read_bundle
from d2export.calibration.int8_inputs import calibration_pictures, calibration_prompts
from d2export.calibration.int8_scales import Inputs, Int8Scales
from d2export.calibration.int8_segment_scales import measure_segment
from d2export.calibration.int8_segments import (
    Arrays,
    Samples,
    Segment,
    SegmentRunner,
    evenly,
    segments_of,
)
from d2export.calibration.int8_settings import Settings
from d2export.errors import OutputError, UsageError
from d2export.models.images import load_image
from d2export.models.tiling import Tiles, normalize, tile
from d2export.progress import Progress
from d2export.runtime.decoder import Prompt, text_prompt
from d2export.runtime.generate import Generator
from d2export.runtime.sampling import pick
from d2export.verify.tables import plural

COMPARED = 8  # samples that errors of products are measured on


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A finished calibration: its file, and what is in it."""

    path: Path
    scales: Int8Scales

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        scales = self.scales
        return {
            "scales": str(self.path),
            "products": len(scales.products),
            "int8": len(scales.narrow),
            "worst": [
                {"product": name, "sqnr_db": scales.products[name].sqnr_db}
                for name in _worst(scales)
            ],
        }

    def text(self) -> str:
        """A few lines."""
        scales, all_of = self.scales, len(self.scales.products)
        lines = [
            f"{self.path}: {plural(scales.pictures.count, 'picture')}, "
            f"{plural(scales.tiles, 'tile')}, {len(scales.narrow)} of {all_of} products in INT8",
            "The least exact, each by itself:",
        ]
        for name in _worst(scales):
            product = scales.products[name]
            where = "" if product.int8 else "  stays FP16"
            lines.append(f"  {product.sqnr_db:5.1f} dB  {name}{where}")
        return "\n".join(lines)


def calibrate_int8(
    bundle: Path | str,
    images: Path | str,
    output: Path | str,
    *,
    prompts: Path | str | None = None,
    limit: int | None = None,
    settings: Settings | None = None,
    force: bool = False,
    provider: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Calibrated:
    """Measure INT8 scales on the pictures of a folder, and write them.

    Args:
        bundle: of precision `fp32`, of either scope; in scope `vlm` with a tokenizer.
        images: a folder; its picture files are taken in the order of their names, at least
            `int8_inputs.FEWEST_PICTURES`.
        output: the file to write.
        prompts: a text file with a prompt on each line, asked about the pictures in turn; in scope
            `vlm` only. None asks `prior.PROMPT`.
        limit: take the first so many pictures only.
        settings: how ranges are chosen, and what stays in FP16.
        force: replace a file at `output`.
        provider: `cpu` or `cuda`.
        threads: of one operator; all cores if None.

    Raises:
        UsageError: too few pictures, no prompts, or a bundle that cannot be calibrated on.
        ImageError: a picture cannot be read.
        OutputError: `output` is taken or cannot be written.
        BundleError: the bundle is damaged, or gives values that are not finite.
        EnvironmentMismatch: a package is missing.
    """
    progress, path = progress or Progress(level="quiet"), Path(output)
    settings = settings or Settings()
    if path.is_dir():
        raise OutputError(f"output {path} is a folder", "Name a file: scales.json.")
    if path.exists() and not force:
        raise OutputError(f"output {path} exists", "Choose another path, or add --force.")
    files = calibration_pictures(Path(images), limit)
    opened = read_bundle(Path(bundle))
    if opened.manifest.precision != "fp32":
        raise UsageError(
            f"{bundle} has precision {opened.manifest.precision}, expected fp32",
            "Scales are measured where nothing is rounded yet: export one with --precision fp32.",
        )
    asked = calibration_prompts(opened.manifest.scope, prompts)
    measuring = _Measuring(opened, files, asked, settings, provider, threads, progress)
    scales = measuring.scales()
    scales.write(path)
    return Calibrated(path, scales)


class _Measuring:
    """One calibration."""

    def __init__(
        self,
        bundle: Bundle,
        files: Sequence[Path],
        prompts: Sequence[str] | None,
        settings: Settings,
        provider: str,
        threads: int | None,
        progress: Progress,
    ) -> None:
        self.bundle, self.files, self.prompts, self.settings = bundle, files, prompts, settings
        self.progress = progress
        self._options: dict[str, Any] = {"provider": provider, "threads": threads}
        self.products: dict[str, Any] = {}
        self.smoothing: dict[str, tuple[int, ...]] = {}
        self.tiles = 0

    def scales(self) -> Int8Scales:
        manifest = self.bundle.manifest
        vision = manifest.model.vision
        with TemporaryDirectory(prefix="d2export-int8-") as scratch:
            samples = Samples(_folder(scratch, "vision"))
            with self.progress.stage(f"cutting {plural(len(self.files), 'picture')} into tiles"):
                for cut in self._cut():
                    self.tiles += len(cut.pixels)
                    for pixels in normalize(cut.pixels, vision.image):
                        samples.append({"pixel_values": pixels[None]})
            self._measure("vision", vision.used_layers, None, samples)
            if self.prompts is not None:
                samples = Samples(_folder(scratch, "decoder"))
                self._see(samples)
                plan = manifest.plan
                depth = plan.prune_layer if plan.in_decoder else None
                behind = None if depth is None else depth - 1
                self._measure("decoder", manifest.model.text.layers, behind, samples)
        model, settings = manifest.model, self.settings
        return Int8Scales(
            model=model.name,
            model_id=model.id,
            revision=model.revision,
            random_seed=model.random_seed,
            pictures=Inputs(len(self.files), _digest(file.read_bytes() for file in self.files)),
            tiles=self.tiles,
            prompts=None
            if self.prompts is None
            else Inputs(len(self.prompts), _digest(text.encode() for text in self.prompts)),
            method=settings.method,  # type: ignore[arg-type]
            percentile=settings.percentile,
            alpha=settings.alpha,
            keep_fp16_below=settings.keep_fp16_below,
            answer_tokens=None if self.prompts is None else settings.answer_tokens,
            products=self.products,
            smoothing=self.smoothing,
            d2export=__version__,
        )

    def _measure(
        self, which: str, layers: int, positions_behind: int | None, samples: Samples
    ) -> None:
        """All products of a graph."""
        from d2export.export.weights import stored_refs

        graph = self.bundle.path(f"onnx/{which}.onnx")
        refs = stored_refs(graph)
        segments = segments_of(graph, layers, positions_behind)
        some = set(evenly(len(samples), COMPARED))
        with self.progress.stage(
            f"measuring {plural(sum(len(s.products) for s in segments), 'product')} of {which}.onnx"
        ):
            for segment in segments:
                self._measure_segment(graph, segment, refs, samples, some)

    def _measure_segment(
        self, graph: Path, segment: Segment, refs: Any, samples: Samples, some: set[int]
    ) -> None:
        run = SegmentRunner(graph, segment, **self._options)

        def everything() -> Iterator[Arrays]:
            for values in samples:
                yield run(values)[0]

        def compared() -> Iterator[Arrays]:
            """The last pass: what is handed on replaces what was given."""
            for index, values in enumerate(samples):
                read, handed_on = run(values)
                samples.replace(index, {**_without(values, segment), **handed_on})
                if index in some:
                    yield read

        found = measure_segment(segment, refs, self.settings, everything, compared)
        self.products |= found.products
        self.smoothing |= found.smoothing
        for name, product in found.products.items():
            decibels = "exact" if product.sqnr_db is None else f"{product.sqnr_db:.1f} dB"
            self.progress.detail(f"  {name}: up to {product.range:.4g}, {decibels}")

    def _cut(self) -> Iterator[Tiles]:
        for file in self.files:
            yield tile(load_image(file), self.bundle.manifest.model.vision)

    def _see(self, samples: Samples) -> None:
        """The decoder's inputs: each picture seen, with its prompt and the model's answer."""
        assert self.prompts is not None
        generator = Generator(self.bundle, **self._options)
        decoder = generator.decoder
        with self.progress.stage(f"seeing {plural(len(self.files), 'picture')}"):
            for index, cut in enumerate(self._cut()):
                prompt = self.prompts[index % len(self.prompts)]
                encoded = generator.tokenizer.encode(prompt, [len(cut.grid)])
                seen = generator.see(encoded, [cut.pixels], [cut.grid])
                whole = seen.followed_by(self._answer(generator, seen))
                samples.append(decoder.feeds(whole) | decoder.nothing_before())

    def _answer(self, generator: Generator, prompt: Prompt) -> list[int]:
        """The tokens of the model's own answer that it reads again itself."""
        decoder, random = generator.decoder, np.random.default_rng(0)  # nothing is drawn
        room = decoder.text.max_positions - int(prompt.position_ids[-1]) - 1
        most = min(self.settings.answer_tokens, room)
        sequence, new, tokens = decoder.start(), prompt, list[int]()
        while len(tokens) < most:
            token = pick(decoder.prefill(sequence, new).logits, None, random)
            if token in generator.tokenizer.stop_ids:
                break
            tokens.append(token)
            new = text_prompt(np.array([token], np.int64), decoder.text.hidden)
        return tokens


def _worst(scales: Int8Scales, count: int = 5) -> list[str]:
    """Names of the products with the largest errors."""
    errors = {
        name: product.sqnr_db
        for name, product in scales.products.items()
        if product.sqnr_db is not None
    }
    return sorted(errors, key=lambda name: errors[name])[:count]


def _without(values: Arrays, segment: Segment) -> Arrays:
    """What a later segment may need: all but the state that was given to this one."""
    return {
        name: value
        for name, value in values.items()
        if name not in segment.given or name == "positions"
    }


def _folder(scratch: str, name: str) -> Path:
    path = Path(scratch, name)
    path.mkdir()
    return path


def _digest(parts: Iterator[bytes]) -> str:
    """SHA-256 of byte strings, one after the other, each by its own."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()
