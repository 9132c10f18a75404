"""A prior, measured: the mean importance of each place over many pictures and one prompt."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from d2export import __version__
from d2export.bundle.disk import explained, made, replace_file
from d2export.bundle.folder import Bundle, read_bundle
from d2export.bundle.lock import locked
from d2export.calibration.importance import ImportanceRunner
from d2export.calibration.partial import Partial, Picture, continued, key_of
from d2export.calibration.pictures import named, picture_files, text_name
from d2export.errors import BundleError, ImageError, OutputError, UsageError
from d2export.models.images import load_image
from d2export.models.tiling import Tiles, normalize, tile
from d2export.progress import Progress
from d2export.pruning.prior import Prior, prior_document, tile_span
from d2export.runtime.tokenizer import BundleTokenizer
from d2export.runtime.vision import VisionRunner
from d2export.verify.tables import plural

PROMPT = "Describe this image in detail."


@dataclass(frozen=True, eq=False)
class Calibration:
    """A finished one: the file, the prior in it, and the pictures that could not be read."""

    path: Path
    prior: Prior
    unreadable: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "prior": str(self.path),
            "provenance": self.prior.provenance,
            "unreadable": list(self.unreadable),
        }

    def text(self) -> str:
        """On one line."""
        facts = self.prior.provenance
        tiles, span = facts["tiles"], tile_span(*facts["tiles_per_image"])
        return (
            f"{self.path}: {plural(facts['images'], 'picture')} of {span}, "
            f"{tiles['tile']} in slot 'tile' and {tiles['thumbnail']} in 'thumbnail'"
        )


def calibrate_prior(
    bundle: Path | str,
    images: Path | str,
    output: Path | str,
    *,
    prompt: str = PROMPT,
    limit: int | None = None,
    force: bool = False,
    provider: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Measure a prior on the pictures of a folder, and write it.

    Importance is measured before anything is pruned, so the bundle's keep and prior do not matter.
    What has been seen is kept in `OUTPUT.partial` until the end; after an interruption the same
    call goes on from there, to the same file bit for bit.

    Args:
        bundle: of scope `vlm`, with a tokenizer.
        images: a folder; its picture files are taken in the order of their names.
        output: the file to write.
        prompt: asked about each of them.
        limit: take the first so many pictures only.
        force: replace a file at `output`, and an unfinished calibration that cannot go on.
        provider: `cpu` or `cuda`.
        threads: of one operator; all cores if None.

    Raises:
        UsageError: there are no pictures, the bundle cannot read a prompt, or an unfinished
            calibration was made with other options.
        ImageError: no picture could be read.
        OutputError: `output` is taken, being written by another process, or cannot be written.
        BundleError: the bundle is damaged, or gives importance that is no number.
        EnvironmentMismatch: a package is missing.
    """
    progress = progress or Progress(level="quiet")
    path = Path(output)
    _check_free(path, force)
    files = picture_files(Path(images), limit)
    opened = read_bundle(Path(bundle))
    if opened.manifest.graphs.decoder is not None and opened.manifest.selector.importance != "llm":
        selector = opened.manifest.selector
        raise UsageError(
            f"{bundle} has selector '{selector.name}' with importance "
            f"'{selector.importance or 'none'}', so its language model measures none",
            "Build it with --scope vlm --selector d2.",
        )
    measuring = _Measuring(opened, prompt, provider, threads)
    vision, key = measuring.bundle.manifest.model.vision, key_of(measuring.bundle, prompt)
    with _alone(path):
        _check_free(path, force)  # another process may have ended just now
        unfinished = path.with_name(f"{path.name}.partial")
        partial = continued(unfinished, key, files, vision.tokens_per_tile, force, progress)
        with progress.stage(f"measuring importance on {plural(len(files), 'picture')}"):
            for file in files[len(partial.pictures) :]:
                start = time.perf_counter()
                partial = measuring.add(partial, file, progress)
                partial.write(unfinished)
                seen, seconds = partial.pictures[-1], time.perf_counter() - start
                progress.note(
                    f"  {len(partial.pictures)}/{len(files)} {seen.name}: "
                    f"{plural(seen.tiles, 'tile') if seen.tiles else 'unreadable'}, {seconds:.1f} s"
                )
        if partial.unreadable:
            progress.warning(
                f"{len(partial.unreadable)} of {len(files)} pictures could not be read and do not "
                f"count: {named(partial.unreadable)}"
            )
        if not partial.tiles:
            with suppress(OSError):
                unfinished.unlink()  # or the repaired pictures would count as seen
            raise ImageError(
                f"none of the {len(files)} pictures in {images} can be read: "
                f"{named(partial.unreadable)}",
                "Pass a folder of PNG or JPEG files.",
            )
        prior = prior_of(partial, measuring.bundle, prompt)
        replace_file(path, json.dumps(prior_document(prior), indent=1, ensure_ascii=False) + "\n")
        unfinished.unlink()
        return Calibration(path, prior, tuple(partial.unreadable))


def prior_of(partial: Partial, bundle: Bundle, prompt: str) -> Prior:
    """The means, and where they come from. No picture was cut up: `tile` is as `thumbnail`."""
    model = bundle.manifest.model
    images, tiles = len(partial.tiles), sum(partial.tiles) - len(partial.tiles)
    thumbnail = np.array(partial.thumbnail) / images
    tile = np.array(partial.tile) / tiles if tiles else thumbnail
    provenance: dict[str, Any] = {
        "model": model.name,
        "model_id": model.id,
        "revision": model.revision,
        "random_seed": model.random_seed,
        "family": model.family,
        "backbone": model.text.backbone,
        "layers": model.text.layers,
        "image_size": model.vision.image.size,
        "tokens_per_tile": model.vision.tokens_per_tile,
        **bundle.manifest.plan.measured(),
        "precision": bundle.manifest.precision,
        "prompt": prompt,
        "images": images,
        "tiles": {"tile": tiles, "thumbnail": images},
        "tiles_per_image": [min(partial.tiles), max(partial.tiles)],
        "unseen": [] if tiles else ["tile"],
        "d2export": __version__,
    }
    return Prior(tile.astype(np.float32), thumbnail.astype(np.float32), provenance)


class _Measuring:
    """An opened bundle and a prompt."""

    def __init__(self, bundle: Bundle, prompt: str, provider: str, threads: int | None) -> None:
        self.bundle, self._prompt = bundle, prompt
        self._importance = ImportanceRunner(bundle, provider=provider, threads=threads)
        self._vision = VisionRunner(bundle, provider=provider, threads=threads)
        model = bundle.manifest.model
        self._tokenizer = BundleTokenizer(bundle.root / "processor", model.text.vocab)
        self._tokenizer.encode(prompt, [model.vision.tokens_per_tile])  # refused before it starts

    def add(self, partial: Partial, file: Path, progress: Progress) -> Partial:
        """With one more picture, readable or not."""
        spec, size = self.bundle.manifest.model.vision, file.stat().st_size
        try:
            tiles = tile(load_image(file), spec)
        except ImageError as error:
            progress.detail(f"  {error.problem}")
            nothing = np.zeros((0, spec.tokens_per_tile))
            return partial.with_picture(Picture(text_name(file), size, 0), nothing)
        importance = self._measure(tiles)
        if not np.isfinite(importance).all():
            raise BundleError(
                f"the importance of {file} is not finite in {self.bundle.manifest.precision}",
                "Calibrate with a bundle of --precision fp32; its prior fits every precision.",
            )
        return partial.with_picture(Picture(text_name(file), size, len(importance)), importance)

    def _measure(self, tiles: Tiles) -> npt.NDArray[np.float64]:
        """`[tiles, tokens_per_tile]`."""
        spec = self.bundle.manifest.model.vision
        encoded = self._tokenizer.encode(self._prompt, [len(tiles.grid)])
        embeds = self._vision.embed(normalize(tiles.pixels, spec.image))
        return self._importance(encoded, embeds).reshape(-1, spec.tokens_per_tile)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No other process measures the prior at `path` while the block runs."""
    with ExitStack() as undo:
        with explained(path):
            undo.enter_context(made(path.parent))
            staging = path.with_name(f".{path.name}.calibrating")
            undo.enter_context(locked(staging, path, "calibration"))
        yield


def _check_free(path: Path, force: bool) -> None:
    if path.is_dir():
        raise OutputError(f"output {path} is a folder", "Name a file: prior.json.")
    if path.exists() and not force:
        raise OutputError(f"output {path} exists", "Choose another path, or add --force.")
