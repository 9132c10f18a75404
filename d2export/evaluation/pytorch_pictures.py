"""Pictures seen once and prompts encoded, as many as are held at a time. Needs torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from d2export.errors import UsageError
from d2export.evaluation.configuration import Configuration
from d2export.evaluation.pytorch_model import PytorchModel
from d2export.evaluation.pytorch_selection import Relation, VisionSelection, relations
from d2export.evaluation.task import Sample
from d2export.models.tiling import Tiles, normalize, tile
from d2export.models.vision_tower import Seen
from d2export.runtime.tokenizer import Encoded

PATCHES_AT_ONCE = 4096  # through the tower
WINDOW_BYTES = 256 * 2**20  # of the pictures, in pixels and in tokens, held at a time


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture, seen.

    Attributes:
        tiles: as it was cut.
        seen: for each relation that was asked of the tower, its tiles.
        kept: by configuration, what selection behind the projector keeps, if no prompt matters.
    """

    tiles: Tiles
    seen: dict[Relation, Seen]
    kept: dict[Configuration, Tensor]

    def view(self, relation: Relation) -> Seen:
        """Its tiles with that relation; with any, where none is asked for."""
        return self.seen.get(relation) or next(iter(self.seen.values()))


@dataclass(frozen=True, eq=False)
class Asked:
    """A sample with its picture and its prompt."""

    sample: Sample
    picture: Picture
    encoded: Encoded

    @property
    def shape(self) -> tuple[object, ...]:
        """Equal for samples that can go side by side."""
        tiles = self.picture.tiles
        places = self.encoded.visual_positions.tobytes()
        return len(self.encoded.input_ids), places, tiles.columns, tiles.rows


class Pictures:
    """Sees pictures for all configurations that select behind the projector.

    Args:
        model: whose tower and tokenizer it is.
        selections: what they keep is decided here, where no prompt matters.
    """

    def __init__(
        self, model: PytorchModel, selections: Mapping[Configuration, VisionSelection]
    ) -> None:
        self.model, self._selections = model, selections
        self._relations = relations(selections)

    def windows(self, samples: Sequence[Sample]) -> Iterator[list[Asked]]:
        """Neighbours that are held together; never apart if they share a picture."""
        cut: dict[str, Tiles] = {}
        window: list[Sample] = []
        for sample in samples:
            if sample.picture_id not in cut:
                tiles = tile(sample.load(), self.model.spec.vision)
                if window and sum(map(self._bytes, [*cut.values(), tiles])) > WINDOW_BYTES:
                    yield self._ask(window, cut)
                    cut, window = {}, []
                cut[sample.picture_id] = tiles
            window.append(sample)
        if window:
            yield self._ask(window, cut)

    def _bytes(self, tiles: Tiles) -> int:
        """What a picture takes while it is asked about."""
        spec = self.model.spec
        floats = spec.text.hidden + spec.vision.hidden * spec.vision.downsample**2
        return tiles.pixels.nbytes + len(tiles.grid) * floats * 4

    @torch.inference_mode()
    def _ask(self, samples: Sequence[Sample], cut: Mapping[str, Tiles]) -> list[Asked]:
        pictures = self._see(cut)
        asked = []
        for sample in samples:
            picture = pictures[sample.picture_id]
            encoded = self.model.tokenizer.encode(sample.prompt, [len(picture.tiles.grid)])
            self._check_length(sample, encoded)
            asked.append(Asked(sample, picture, encoded))
        return asked

    def _see(self, cut: Mapping[str, Tiles]) -> dict[str, Picture]:
        """Pictures by id, through tower and projector."""
        spec = self.model.spec.vision
        counts = [len(tiles.pixels) for tiles in cut.values()]
        at_once = max(1, PATCHES_AT_ONCE // spec.patches_per_side**2)
        parts: dict[Relation, list[Seen]] = {relation: [] for relation in self._relations}
        whole = np.concatenate([tiles.pixels for tiles in cut.values()])
        for start in range(0, len(whole), at_once):
            pixels = torch.from_numpy(normalize(whole[start : start + at_once], spec.image))
            for relation, found in parts.items():
                found.append(self.model.vision(pixels, *relation))
        seen = {
            relation: _split(Seen(*(torch.cat(part) for part in zip(*found, strict=True))), counts)
            for relation, found in parts.items()
        }
        pictures = {}
        for index, (name, tiles) in enumerate(cut.items()):
            picture = Picture(tiles, {relation: seen[relation][index] for relation in seen}, {})
            for configuration, selection in self._selections.items():
                if not selection.reads_prompt:
                    picture.kept[configuration] = selection.kept(
                        picture.view(selection.relation), torch.from_numpy(tiles.grid), None
                    )
            pictures[name] = picture
        return pictures

    def _check_length(self, sample: Sample, encoded: Encoded) -> None:
        limit, length = self.model.spec.text.max_positions, len(encoded.input_ids)
        if length + sample.max_new_tokens > limit:
            raise UsageError(
                f"sample {sample.id} has a prompt of {length} tokens and an answer of up to "
                f"{sample.max_new_tokens}, this model's context is {limit}",
                "Leave it out of the task, or evaluate a model with a longer context.",
            )


def _split(seen: Seen, counts: Sequence[int]) -> list[Seen]:
    """Tiles of all pictures, picture by picture."""
    sizes = list(counts)
    parts = [torch.split(part, sizes) if part.dim() > 1 else [part] * len(sizes) for part in seen]
    return [Seen(*picture) for picture in zip(*parts, strict=True)]
