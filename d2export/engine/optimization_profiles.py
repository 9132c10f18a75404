"""Which sizes an engine takes: the smallest, the largest, and those its kernels are chosen for.

The graphs name their dynamic dimensions, so that a profile is a range for each of these names.
Lengths of zero are allowed: `IOptimizationProfile::setDimensions` asks for 0 <= min <= opt <= max
(NvInferRuntime.h, 8.6 to 11).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from d2export.models.presets import TextSpec, VisionSpec
from d2export.pruning.plan import Plan

TEXT_TOKENS = 512  # of a prompt at most, besides its pictures; also of `prompt_embeds`
USUAL_TEXT_TOKENS = 64
ANSWER_TOKENS = 512  # of an answer at most
IMAGES = 8  # of a prompt at most; together no more tokens than one picture at most tiles
PREFILL, DECODE = "prefill", "decode"


class Extent(NamedTuple):
    """A dimension: smallest, the one to be fast at, largest."""

    min: int
    opt: int
    max: int


class Input(Protocol):
    """An input of a graph; a string in `shape` names a dynamic dimension."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def shape(self) -> tuple[int | str, ...]:
        """Its dimensions."""


@dataclass(frozen=True)
class Shapes:
    """The shapes of one input."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """An optimization profile: the shapes of every input that has a dynamic dimension."""

    name: str
    shapes: dict[str, Shapes]


def vision_profiles(
    inputs: Iterable[Input], vision: VisionSpec, text: TextSpec
) -> tuple[Profile, ...]:
    """One profile, for one picture of any number of tiles; fast at most tiles, where it counts."""
    most = most_tiles(vision)
    tokens = vision.tokens_per_tile
    longest = min(TEXT_TOKENS, text.max_positions)
    extents = {
        "tiles": Extent(1, most, most),
        "tokens": Extent(tokens, most * tokens, most * tokens),
        "prompt_length": Extent(1, min(USUAL_TEXT_TOKENS, longest), longest),
    }
    return (_profile("vision", inputs, extents),)


def decoder_profiles(
    inputs: Iterable[Input], vision: VisionSpec, text: TextSpec, plan: Plan
) -> tuple[Profile, ...]:
    """Prefill, a whole prompt without a past, and decode, one token behind a past."""
    inputs = tuple(inputs)
    most = most_tiles(vision)
    all_tokens = most * vision.tokens_per_tile
    kept = min(_kept(plan, all_tokens, most), all_tokens)
    seen = kept if plan.in_vision else all_tokens  # visual tokens that enter the decoder
    stay = kept if plan.in_decoder else seen  # and that layers from K on see
    limit = text.max_positions
    nothing = Extent(0, 0, 0)
    prefill = {
        "sequence": Extent(1, min(seen + USUAL_TEXT_TOKENS, limit), min(seen + TEXT_TOKENS, limit)),
        "visual_tokens": Extent(0, min(seen, limit), min(seen, limit)),
        "images": Extent(0, most, most) if plan.by_tile else Extent(0, 1, IMAGES),
        "words": Extent(0, min(USUAL_TEXT_TOKENS, limit), min(TEXT_TOKENS, limit)),
        "past": nothing,
        "past_kept": nothing,
    }
    longest = min(seen + TEXT_TOKENS + ANSWER_TOKENS, limit) - 1  # one token is the new one
    usual = USUAL_TEXT_TOKENS + ANSWER_TOKENS // 2
    decode = {
        "sequence": Extent(1, 1, 1),
        "visual_tokens": nothing,
        "images": nothing,
        "words": nothing,
        "past": Extent(1, min(seen + usual, longest), longest),
        "past_kept": Extent(1, min(stay + usual, longest), longest),
    }
    return (_profile(PREFILL, inputs, prefill), _profile(DECODE, inputs, decode))


def most_tiles(vision: VisionSpec) -> int:
    """Tiles of one picture at most, the thumbnail among them."""
    most = vision.image.max_tiles
    return most + 1 if most > 1 else 1


def spanning(profiles: Iterable[Profile]) -> Profile:
    """One profile that takes what any of them takes, and is fast where the first is."""
    first, *others = profiles
    shapes = dict(first.shapes)
    for name in shapes:
        same = [shapes[name], *(other.shapes[name] for other in others)]
        shapes[name] = Shapes(
            tuple(map(min, zip(*(one.min for one in same), strict=True))),
            shapes[name].opt,
            tuple(map(max, zip(*(one.max for one in same), strict=True))),
        )
    return Profile("+".join([first.name, *(other.name for other in others)]), shapes)


def _kept(plan: Plan, tokens: int, tiles: int) -> int:
    """Visual tokens of the largest picture that stay; at most, where the picture decides."""
    if plan.selector.counted:
        return plan.kept(tokens, tiles)
    limit: int = plan.parameters.max_keep
    return limit


def _profile(name: str, inputs: Iterable[Input], extents: Mapping[str, Extent]) -> Profile:
    shapes = {}
    for value in inputs:
        if any(isinstance(size, str) for size in value.shape):
            ranges = [
                extents[size] if isinstance(size, str) else Extent(size, size, size)
                for size in value.shape
            ]
            low, usual, high = zip(*ranges, strict=True)
            shapes[value.name] = Shapes(low, usual, high)
    return Profile(name, shapes)
