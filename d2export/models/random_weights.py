"""Checkpoints with random weights, for latency work and tests without a download.

The vision tower and projector are complete; so is the language model in scope `vlm`, else there is
at most its embedding table. Values are drawn so that the graph behaves like a trained one:
activations stay of order 1 through all layers, the CLS token attends clearly more to some patches
than to others, a prompt's last token to some tens of tokens, the answer does not repeat one token,
and no parameter is left at a value (0, 1) that would hide a mistake.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from math import log, prod, sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from d2export.errors import OutputError
from d2export.models.checkpoint import Checkpoint, open_checkpoint
from d2export.models.config import LANGUAGE_MODELS, TEXT_KEYS, WEIGHT_DTYPES
from d2export.models.layouts import INTERNVL, LLAVA_HF, parameter_shapes, stored_name
from d2export.models.presets import ModelSpec, TextSpec
from d2export.models.safetensors_file import ITEM_BYTES, TensorToWrite, encode, write
from d2export.models.text_layouts import text_shapes, written_layout

CHUNK = 1 << 18  # values drawn at a time, a multiple of 4; they stay in a processor's cache


@dataclass(frozen=True)
class Draw:
    """A normal distribution; its deviation may be divided by sqrt(inputs), and by sqrt(layers)."""

    mean: float
    std: float
    per_input: bool = False
    per_layer: bool = False

    def deviation(self, shape: tuple[int, ...], layers: int) -> float:
        """The deviation for a parameter of this shape in a stack of `layers`."""
        inputs = prod(shape[1:] or shape) if self.per_input else 1
        return self.std / sqrt(inputs * (layers if self.per_layer else 1))


Draws = tuple[tuple[str, Draw], ...]

# The first pattern found in a canonical name decides; query and key weights are `_attention`.
DRAWS: Draws = (
    (r"norm\d?\.weight$", Draw(1.0, 0.1)),
    (r"\.bias$", Draw(0.0, 0.1)),
    (r"\.scale[12]$", Draw(0.2, 0.03)),
    (r"\.cls_token$", Draw(0.0, 1.0)),
    (r"\.position_embedding$", Draw(0.0, 0.5)),
    (r"\.attention\.v\.weight$", Draw(0.0, 2.0, per_input=True)),
    (r"^projector\.linear2\.weight$", Draw(0.0, 1.5, per_input=True)),
    (r"\.weight$", Draw(0.0, 1.0, per_input=True)),
)

# Of the language model, before DRAWS: attention neither flat nor on one token, logits with a
# deviation of a few. A layer adds little, so that states stay of order 1, and each keeps enough of
# its own token for the next one to differ: else the greedy answer is one token for ever.
TEXT_DRAWS: Draws = (
    (r"^text\.embedding\.weight$", Draw(0.0, 1.0)),
    (r"\.attention\.(q|k|qkv)\.weight$", Draw(0.0, 1.5, per_input=True)),
    (r"\.attention\.v\.weight$", Draw(0.0, 1.0, per_input=True)),
    (r"\.(attention\.out|mlp\.down)\.weight$", Draw(0.0, 1.5, per_input=True, per_layer=True)),
    (r"^text\.head\.weight$", Draw(0.0, 3.0, per_input=True)),
)
# A head that is the embedding table would repeat the last token: a final norm of either sign undoes
# the likeness.
TIED_DRAWS: Draws = ((r"^text\.norm\.weight$", Draw(0.0, 3.0, per_input=True)), *TEXT_DRAWS)

# What a layer adds, where no layer scale holds it down.
UNSCALED_BRANCH = (r"\.(attention\.out|mlp\.down)\.weight$", Draw(0.0, 0.2, per_input=True))


def write_random_checkpoint(
    spec: ModelSpec,
    folder: Path,
    seed: int,
    progress: Callable[[str], None] | None = None,
    *,
    embeddings: bool = False,
    scope: str = "vision",
) -> Checkpoint:
    """Write `config.json` and `model.safetensors` for a model, and open them.

    InternVL is written in the published layout, LLaVA in transformers', both in
    `spec.weight_dtype`. A value depends on `seed` and the parameter's canonical name only.

    Args:
        spec: the model.
        folder: created if it does not exist.
        seed: any integer.
        progress: called with one line at the start.
        embeddings: also write the language model's token embeddings.
        scope: `vlm` writes the whole language model.

    Raises:
        OutputError: the folder cannot be written.
    """
    layout = INTERNVL if spec.family == "internvl" else LLAVA_HF
    shapes = parameter_shapes(spec)
    parts: dict[str, list[str]] = {}  # stored name -> the parameters stacked in it
    for canonical in shapes:
        parts.setdefault(stored_name(layout, canonical)[0], []).append(canonical)
    tensors = []
    for stored, names in parts.items():
        rows, *rest = shapes[names[0]]
        ones = (1,) * layout.leading_ones.get(names[0], 0)
        tensors.append((stored, names, (*ones, rows * len(names), *rest)))
    if scope == "vlm":
        language = text_shapes(spec.text)
        written = written_layout(spec.text)
        tensors += [(written.stored_name(name), [name], shape) for name, shape in language.items()]
        shapes |= language
    elif embeddings:
        table = (spec.text.vocab, spec.text.hidden)
        shapes["embeddings"] = table
        tensors.append((embedding_name(spec.text), ["embeddings"], table))

    if progress is not None:
        count = sum(prod(shape) for *_, shape in tensors)
        progress(f"drawing {count / 1e6:.0f} M random weights ({spec.weight_dtype})")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config_for(spec), indent=2) + "\n")
    except OSError as error:
        raise OutputError(f"cannot write to '{folder}': {error.strerror or error}") from None
    write(
        folder / "model.safetensors",
        (
            TensorToWrite(
                stored, spec.weight_dtype, shape, partial(_stacked, spec, seed, names, shapes)
            )
            for stored, names, shape in tensors
        ),
    )
    return open_checkpoint(folder)


def random_bytes(spec: ModelSpec, scope: str = "vision") -> int:
    """What the weights of `write_random_checkpoint` take on disk, without embeddings alone."""
    shapes = [*parameter_shapes(spec).values()]
    if scope == "vlm":
        shapes += text_shapes(spec.text).values()
    count = sum(map(prod, shapes))
    return count * ITEM_BYTES[spec.weight_dtype]


def config_for(spec: ModelSpec) -> dict[str, Any]:
    """The config.json of a model: `spec_from_config` reads the same numbers from it."""
    vision, text = spec.vision, spec.text
    tower: dict[str, Any] = {
        "hidden_size": vision.hidden,
        "num_hidden_layers": vision.layers,
        "num_attention_heads": vision.heads,
        "intermediate_size": vision.mlp,
        "image_size": vision.image.size,
        "patch_size": vision.patch,
        "num_channels": 3,
        "hidden_act": vision.activation,
        "layer_norm_eps": vision.norm_eps,
    }
    language: dict[str, Any] = {key: getattr(text, field) for field, key in TEXT_KEYS.items()}
    language |= {
        "num_key_value_heads": text.kv_heads,
        "rope_theta": text.rope_theta,
        "rms_norm_eps": text.norm_eps,
        "tie_word_embeddings": text.tied,
        "hidden_act": "silu",
    }
    if text.backbone == "internlm2":
        language["bias"] = False
    dtype = {stored: name for name, stored in WEIGHT_DTYPES.items()}[spec.weight_dtype]
    layer = vision.used_layers - vision.layers - 1
    if spec.family == "llava":
        return {
            "architectures": ["LlavaForConditionalGeneration"],
            "model_type": "llava",
            "torch_dtype": dtype,
            "vision_config": {**tower, "model_type": "clip_vision_model"},
            "text_config": {**language, "model_type": text.backbone},
            "projector_hidden_act": "gelu",
            "vision_feature_layer": layer,
            "vision_feature_select_strategy": "default",
        }
    causal = {backbone: name for name, backbone in LANGUAGE_MODELS.items()}[text.backbone]
    return {
        "architectures": ["InternVLChatModel"],
        "model_type": "internvl_chat",
        "torch_dtype": dtype,
        "vision_config": {
            **tower,
            "model_type": "intern_vit_6b",  # as published, also for the 300 M tower
            "norm_type": "layer_norm",
            "qk_normalization": False,
            "qkv_bias": True,
        },
        "llm_config": {**language, "architectures": [causal], "model_type": text.backbone},
        "downsample_ratio": 1 / vision.downsample,
        "dynamic_image_size": vision.image.max_tiles > 1,
        "force_image_size": vision.image.size,
        "max_dynamic_patch": vision.image.max_tiles,
        "min_dynamic_patch": 1,
        "ps_version": "v2",
        "select_layer": layer,
        "use_thumbnail": vision.image.max_tiles > 1,
    }


def embedding_name(text: TextSpec) -> str:
    """The stored name of the token embeddings."""
    table = "tok_embeddings" if text.backbone == "internlm2" else "embed_tokens"
    return f"language_model.model.{table}.weight"


def _stacked(
    spec: ModelSpec, seed: int, names: list[str], shapes: dict[str, tuple[int, ...]]
) -> Iterator[npt.NDArray[Any]]:
    """The values of the parameters that share a stored tensor, in chunks."""
    for name in names:
        draw = _draw(spec, name)
        std = draw.deviation(shapes[name], spec.text.layers)
        table = encode(np.float32(draw.mean) + np.float32(std) * _quantiles(), spec.weight_dtype)
        yield from _values(name, prod(shapes[name]), seed, table)


def _values(
    name: str, count: int, seed: int, table: npt.NDArray[Any]
) -> Iterator[npt.NDArray[Any]]:
    """Entries of `table`, all equally likely: five times as fast as drawing from the normal."""
    key = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:16], "little")
    generator = np.random.Philox(key=key)
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        raw = generator.random_raw(-(-size // 4))  # 64 bits are four entries
        yield table.take(raw.astype("<u8", copy=False).view("<u2")[:size])


@cache
def _quantiles() -> npt.NDArray[np.float32]:
    """The standard normal distribution in 65,536 equally likely values."""
    inverse = NormalDist().inv_cdf
    upper = np.array([inverse((k + 0.5) / 65536) for k in range(32768, 65536)], np.float32)
    return np.concatenate([-upper[::-1], upper])


def _draw(spec: ModelSpec, name: str) -> Draw:
    if name == "embeddings":
        return Draw(0.0, 1.0)
    if name.startswith("text."):
        draws = (*(TIED_DRAWS if spec.text.tied else TEXT_DRAWS), *DRAWS)
        return next(draw for pattern, draw in draws if re.search(pattern, name))
    if name.endswith((".attention.q.weight", ".attention.k.weight")):
        return _attention(spec)
    draws = DRAWS if spec.vision.layer_scale else (UNSCALED_BRANCH, *DRAWS)
    return next(draw for pattern, draw in draws if re.search(pattern, name))


def _attention(spec: ModelSpec) -> Draw:
    """Query and key weights for which a token's mean CLS attention has a log-spread of about 1.

    Logits with standard deviation s make weights with relative variance exp(s²) - 1. The mean
    over heads, and over the patches merged into one token, divides it by their number n: it is
    e - 1, that of a log-spread of 1, for s² = log(1 + (e - 1) n). With gain g on both sides,
    s = g²; tokens have much in common, which cancels, so g is raised by a measured quarter.
    """
    merged = spec.vision.heads * spec.vision.downsample**2
    return Draw(0.0, 1.25 * log(1 + 1.72 * merged) ** 0.25, per_input=True)
