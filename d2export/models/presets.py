"""The models d2export knows, as records.

Numbers are those of the published `config.json` files. A folder with a checkpoint brings its own
numbers: `config.py` reads them into the same records.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

from d2export.errors import UsageError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ImageSpec:
    """How a picture becomes tiles.

    `max_tiles > 1` cuts a picture into a grid of up to that many square tiles and appends a
    thumbnail of the whole (InternVL); `pad_to_square` pads it with the mean colour (LLaVA).
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    max_tiles: int = 1
    pad_to_square: bool = False


@dataclass(frozen=True)
class VisionSpec:
    """A vision transformer, followed by a projector.

    `layers` counts those in the checkpoint, `used_layers` those that run; `downsample` is the
    side of the square of patches that pixel shuffle merges into one visual token; `class_token`
    says that a CLS token precedes the patches.
    """

    image: ImageSpec
    patch: int
    hidden: int
    layers: int
    used_layers: int
    heads: int
    mlp: int
    norm_eps: float
    activation: str  # "gelu" | "quick_gelu"
    patch_bias: bool
    pre_norm: bool
    layer_scale: bool
    downsample: int
    projector_norm: bool
    class_token: bool = True

    @property
    def patches_per_side(self) -> int:
        """Patches along one side of a tile."""
        return self.image.size // self.patch

    @property
    def tokens_per_side(self) -> int:
        """Visual tokens along one side of a tile."""
        return self.patches_per_side // self.downsample

    @property
    def tokens_per_tile(self) -> int:
        """Visual tokens of one tile."""
        return self.tokens_per_side**2


@dataclass(frozen=True)
class TextSpec:
    """The language model behind the projector: RMSNorm, rotary positions, gated SiLU MLP.

    `tied` says that the output head is the embedding table.
    """

    backbone: str  # "qwen2" | "internlm2" | "llama"
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    mlp: int
    vocab: int
    rope_theta: float
    max_positions: int
    norm_eps: float
    tied: bool = False

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.hidden // self.heads

    @property
    def qkv_bias(self) -> bool:
        """Whether the query, key and value projections have biases; no other one has."""
        return self.backbone == "qwen2"

    @property
    def fused_qkv(self) -> bool:
        """Whether one weight holds all three projections, interleaved by key-value head."""
        return self.backbone == "internlm2"


@dataclass(frozen=True)
class ModelSpec:
    """One multimodal model. `hub_id` is None for a model that is not on the hub."""

    name: str
    family: str  # "internvl" | "llava"
    hub_id: str | None
    vision: VisionSpec
    text: TextSpec
    weight_dtype: str = "BF16"  # as published, in safetensors' spelling


INTERNVIT_300M = VisionSpec(
    image=ImageSpec(size=448, mean=IMAGENET_MEAN, std=IMAGENET_STD, max_tiles=12),
    patch=14,
    hidden=1024,
    layers=24,
    used_layers=24,
    heads=16,
    mlp=4096,
    norm_eps=1e-6,
    activation="gelu",
    patch_bias=True,
    pre_norm=False,
    layer_scale=True,
    downsample=2,
    projector_norm=True,
)

CLIP_VIT_L_336 = VisionSpec(
    image=ImageSpec(size=336, mean=CLIP_MEAN, std=CLIP_STD, pad_to_square=True),
    patch=14,
    hidden=1024,
    layers=24,
    used_layers=23,  # LLaVA takes the states before the last layer
    heads=16,
    mlp=4096,
    norm_eps=1e-5,
    activation="quick_gelu",
    patch_bias=False,
    pre_norm=True,
    layer_scale=False,
    downsample=1,
    projector_norm=False,
)

POCKET_VIT = replace(
    INTERNVIT_300M, patch=28, hidden=192, layers=4, used_layers=4, heads=6, mlp=768, downsample=1
)

PRESETS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec(
            "internvl2.5-1b",
            "internvl",
            "OpenGVLab/InternVL2_5-1B",
            INTERNVIT_300M,
            TextSpec("qwen2", 896, 24, 14, 2, 4864, 151674, 1e6, 32768, 1e-6),
        ),
        ModelSpec(
            "internvl2.5-2b",
            "internvl",
            "OpenGVLab/InternVL2_5-2B",
            INTERNVIT_300M,
            TextSpec("internlm2", 2048, 24, 16, 8, 8192, 92553, 1e6, 32768, 1e-5),
        ),
        ModelSpec(
            "internvl2.5-4b",
            "internvl",
            "OpenGVLab/InternVL2_5-4B",
            INTERNVIT_300M,
            TextSpec("qwen2", 2048, 36, 16, 2, 11008, 151674, 1e6, 32768, 1e-6),
        ),
        ModelSpec(
            "internvl2.5-8b",
            "internvl",
            "OpenGVLab/InternVL2_5-8B",
            INTERNVIT_300M,
            TextSpec("internlm2", 4096, 32, 32, 8, 14336, 92553, 1e6, 32768, 1e-5),
        ),
        ModelSpec(
            "llava-1.5-7b",
            "llava",
            "llava-hf/llava-1.5-7b-hf",
            CLIP_VIT_L_336,
            TextSpec("llama", 4096, 32, 32, 32, 11008, 32064, 1e4, 4096, 1e-5),
            weight_dtype="F16",
        ),
        ModelSpec(
            "llava-1.5-13b",
            "llava",
            "llava-hf/llava-1.5-13b-hf",
            CLIP_VIT_L_336,
            TextSpec("llama", 5120, 40, 40, 40, 13824, 32064, 1e4, 4096, 1e-5),
            weight_dtype="F16",
        ),
        ModelSpec(
            "pocket",
            "internvl",
            None,
            POCKET_VIT,
            TextSpec("qwen2", 192, 4, 6, 6, 512, 512, 1e4, 4096, 1e-6),
        ),
    )
}


def preset(name: str) -> ModelSpec:
    """The preset called `name`.

    Raises:
        UsageError: no preset has that name; the nearest one is suggested.
    """
    found = PRESETS.get(name.lower())
    if found is not None:
        return found
    near = difflib.get_close_matches(name.lower(), PRESETS, n=1, cutoff=0.5)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    raise UsageError(
        f"unknown model '{name}': neither a preset, a folder with a checkpoint, nor a hub id",
        f"{hint}Presets: {', '.join(PRESETS)}.",
    )
