"""Small checkpoints in every layout, the same weights in each layout of a family.

The names are written out here, apart from the tables under test, as the published checkpoints and
transformers spell them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save_file

from tests.small_language_models import (
    ARCHITECTURES,
    Backbone,
    language_config,
    language_weights,
    stored_language,
)

LayoutName = Literal["internvl", "internvl-hf", "llava", "llava-hf"]
LAYOUT_NAMES: tuple[LayoutName, ...] = ("internvl", "internvl-hf", "llava", "llava-hf")

IMAGE, PATCH, HIDDEN, LAYERS, HEADS, MLP = 56, 14, 64, 3, 4, 128
TEXT, VOCAB = 48, 100
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
CONFIG_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def write_small_checkpoint(
    folder: Path,
    layout: LayoutName,
    *,
    backbone: Backbone | None = None,
    tied: bool = False,
    sharded: bool = False,
    seed: int = 0,
    dtype: str = "F32",
) -> Path:
    """A complete vision tower (16 patches), projector and token embeddings; returns `folder`.

    InternVL merges 2 x 2 patches: 4 visual tokens; LLaVA leaves out the last layer: 16 tokens.
    With `backbone` the whole language model too; with `tied` its head is the embedding table.
    """
    family = layout.removesuffix("-hf")
    weights = canonical_weights(family, seed)
    arrays = _STORED[layout](weights)
    config = {**_CONFIGS[layout], "torch_dtype": CONFIG_DTYPES[dtype]}
    if backbone is not None:
        arrays = {name: a for name, a in arrays.items() if not name.endswith("embed_tokens.weight")}
        language = language_weights(family, backbone, seed)
        if tied:
            del language["text.head.weight"]
        arrays |= stored_language(layout, backbone, language, weights["embeddings"])
        config |= _config_of_language(layout, backbone, tied)
    stored = {
        name: torch.from_numpy(np.ascontiguousarray(array)).to(DTYPES[dtype])
        for name, array in arrays.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    if not sharded:
        save_file(stored, folder / "model.safetensors", {"format": "pt"})
        return folder
    count = 3
    shards: list[dict[str, torch.Tensor]] = [{} for _ in range(count)]
    weight_map = {}
    for i, (name, tensor) in enumerate(stored.items()):
        shards[i % count][name] = tensor
        weight_map[name] = f"model-{i % count + 1:05}-of-{count:05}.safetensors"
    for i, shard in enumerate(shards, 1):
        save_file(shard, folder / f"model-{i:05}-of-{count:05}.safetensors", {"format": "pt"})
    size = sum(tensor.nbytes for tensor in stored.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def _config_of_language(layout: LayoutName, backbone: Backbone, tied: bool) -> dict[str, Any]:
    language = language_config(layout.removesuffix("-hf"), backbone)
    if layout == "internvl":
        architectures = [ARCHITECTURES[backbone]]
        language |= {"architectures": architectures, "tie_word_embeddings": tied}
        return {"llm_config": {**language, "rope_theta": 1e6}}
    if layout == "llava":
        return {**language, "model_type": "llava", "tie_word_embeddings": tied}
    if layout == "internvl-hf":
        language["rope_parameters"] = {"rope_theta": 1e6, "rope_type": "default"}
    return {"text_config": language, "tie_word_embeddings": tied}


def write_tokenizer(folder: Path) -> None:
    """A `tokenizer.json` that knows the words `word0` to `word98`, and `<unknown>` for others."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"<unknown>": 0} | {f"word{i}": i + 1 for i in range(VOCAB - 1)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))


def canonical_weights(family: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Canonical name to float32 values, with all layers, and `embeddings` `[VOCAB, TEXT]`."""
    rng = np.random.default_rng(seed)
    d = HIDDEN
    merged = d * (4 if family == "internvl" else 1)

    def normal(*shape: int, std: float = 1.0, mean: float = 0.0) -> np.ndarray:
        return (mean + std * rng.standard_normal(shape)).astype(np.float32)

    weights = {
        "tower.cls_token": normal(d),
        "tower.position_embedding": normal((IMAGE // PATCH) ** 2 + 1, d, std=0.5),
        "tower.patch_embedding.weight": normal(d, 3, PATCH, PATCH, std=(3 * PATCH**2) ** -0.5),
    }

    def norm(name: str, width: int = d) -> None:
        weights[f"{name}.weight"] = normal(width, std=0.1, mean=1.0)
        weights[f"{name}.bias"] = normal(width, std=0.1)

    def linear(name: str, rows: int, columns: int, gain: float = 1.0) -> None:
        weights[f"{name}.weight"] = normal(rows, columns, std=gain * columns**-0.5)
        weights[f"{name}.bias"] = normal(rows, std=0.1)

    if family == "internvl":
        weights["tower.patch_embedding.bias"] = normal(d, std=0.1)
        norm("projector.norm", merged)
    else:
        norm("tower.pre_norm")
    for i in range(LAYERS):
        layer = f"tower.layers.{i}"
        norm(f"{layer}.norm1")
        norm(f"{layer}.norm2")
        linear(f"{layer}.attention.q", d, d, gain=1.5)
        linear(f"{layer}.attention.k", d, d, gain=1.5)
        linear(f"{layer}.attention.v", d, d)
        linear(f"{layer}.attention.out", d, d)
        linear(f"{layer}.mlp.up", MLP, d)
        linear(f"{layer}.mlp.down", d, MLP)
        if family == "internvl":
            weights[f"{layer}.scale1"] = normal(d, std=0.05, mean=0.4)
            weights[f"{layer}.scale2"] = normal(d, std=0.05, mean=0.4)
    linear("projector.linear1", TEXT, merged)
    linear("projector.linear2", TEXT, TEXT)
    weights["embeddings"] = normal(VOCAB, TEXT)
    return weights


def _internvl(w: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    stored = {
        "vision_model.embeddings.class_embedding": w["tower.cls_token"][None, None],
        "vision_model.embeddings.position_embedding": w["tower.position_embedding"][None],
        "vision_model.embeddings.patch_embedding.weight": w["tower.patch_embedding.weight"],
        "vision_model.embeddings.patch_embedding.bias": w["tower.patch_embedding.bias"],
        "language_model.model.embed_tokens.weight": w["embeddings"],
    }
    for i in range(LAYERS):
        ours, theirs = f"tower.layers.{i}", f"vision_model.encoder.layers.{i}"
        stored[f"{theirs}.ls1"] = w[f"{ours}.scale1"]
        stored[f"{theirs}.ls2"] = w[f"{ours}.scale2"]
        for leaf in ("weight", "bias"):
            qkv = [w[f"{ours}.attention.{part}.{leaf}"] for part in "qkv"]
            stored[f"{theirs}.attn.qkv.{leaf}"] = np.concatenate(qkv)
            stored[f"{theirs}.attn.proj.{leaf}"] = w[f"{ours}.attention.out.{leaf}"]
            stored[f"{theirs}.norm1.{leaf}"] = w[f"{ours}.norm1.{leaf}"]
            stored[f"{theirs}.norm2.{leaf}"] = w[f"{ours}.norm2.{leaf}"]
            stored[f"{theirs}.mlp.fc1.{leaf}"] = w[f"{ours}.mlp.up.{leaf}"]
            stored[f"{theirs}.mlp.fc2.{leaf}"] = w[f"{ours}.mlp.down.{leaf}"]
    for leaf in ("weight", "bias"):
        stored[f"mlp1.0.{leaf}"] = w[f"projector.norm.{leaf}"]
        stored[f"mlp1.1.{leaf}"] = w[f"projector.linear1.{leaf}"]
        stored[f"mlp1.3.{leaf}"] = w[f"projector.linear2.{leaf}"]
    return stored


def _internvl_hf(w: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    embeddings = "vision_tower.embeddings"
    patches = f"{embeddings}.patch_embeddings.projection"
    stored = {
        f"{embeddings}.cls_token": w["tower.cls_token"][None, None],
        f"{embeddings}.position_embeddings": w["tower.position_embedding"][None],
        f"{patches}.weight": w["tower.patch_embedding.weight"],
        f"{patches}.bias": w["tower.patch_embedding.bias"],
        "language_model.model.embed_tokens.weight": w["embeddings"],
    }
    for i in range(LAYERS):
        ours, theirs = f"tower.layers.{i}", f"vision_tower.encoder.layer.{i}"
        stored[f"{theirs}.lambda_1"] = w[f"{ours}.scale1"]
        stored[f"{theirs}.lambda_2"] = w[f"{ours}.scale2"]
        for leaf in ("weight", "bias"):
            for part in "qkv":
                query = f"{theirs}.attention.{part}_proj.{leaf}"
                stored[query] = w[f"{ours}.attention.{part}.{leaf}"]
            out = f"{theirs}.attention.projection_layer.{leaf}"
            stored[out] = w[f"{ours}.attention.out.{leaf}"]
            stored[f"{theirs}.layernorm_before.{leaf}"] = w[f"{ours}.norm1.{leaf}"]
            stored[f"{theirs}.layernorm_after.{leaf}"] = w[f"{ours}.norm2.{leaf}"]
            stored[f"{theirs}.mlp.fc1.{leaf}"] = w[f"{ours}.mlp.up.{leaf}"]
            stored[f"{theirs}.mlp.fc2.{leaf}"] = w[f"{ours}.mlp.down.{leaf}"]
    for leaf in ("weight", "bias"):
        stored[f"multi_modal_projector.layer_norm.{leaf}"] = w[f"projector.norm.{leaf}"]
        stored[f"multi_modal_projector.linear_1.{leaf}"] = w[f"projector.linear1.{leaf}"]
        stored[f"multi_modal_projector.linear_2.{leaf}"] = w[f"projector.linear2.{leaf}"]
    return stored


def _clip(w: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    stored = {
        f"{prefix}embeddings.class_embedding": w["tower.cls_token"],
        f"{prefix}embeddings.position_embedding.weight": w["tower.position_embedding"],
        f"{prefix}embeddings.patch_embedding.weight": w["tower.patch_embedding.weight"],
        f"{prefix}post_layernorm.weight": np.ones(HIDDEN, np.float32),  # never used
        f"{prefix}post_layernorm.bias": np.zeros(HIDDEN, np.float32),
    }
    for leaf in ("weight", "bias"):
        stored[f"{prefix}pre_layrnorm.{leaf}"] = w[f"tower.pre_norm.{leaf}"]
        for i in range(LAYERS):
            ours, theirs = f"tower.layers.{i}", f"{prefix}encoder.layers.{i}"
            for part in ("q", "k", "v", "out"):
                proj = f"{theirs}.self_attn.{part}_proj.{leaf}"
                stored[proj] = w[f"{ours}.attention.{part}.{leaf}"]
            stored[f"{theirs}.layer_norm1.{leaf}"] = w[f"{ours}.norm1.{leaf}"]
            stored[f"{theirs}.layer_norm2.{leaf}"] = w[f"{ours}.norm2.{leaf}"]
            stored[f"{theirs}.mlp.fc1.{leaf}"] = w[f"{ours}.mlp.up.{leaf}"]
            stored[f"{theirs}.mlp.fc2.{leaf}"] = w[f"{ours}.mlp.down.{leaf}"]
    return stored


def _llava(w: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    stored = _clip(w, "model.vision_tower.vision_tower.vision_model.")
    stored["model.embed_tokens.weight"] = w["embeddings"]
    for leaf in ("weight", "bias"):
        stored[f"model.mm_projector.0.{leaf}"] = w[f"projector.linear1.{leaf}"]
        stored[f"model.mm_projector.2.{leaf}"] = w[f"projector.linear2.{leaf}"]
    return stored


def _llava_hf(w: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    stored = _clip(w, "vision_tower.vision_model.")
    stored["language_model.model.embed_tokens.weight"] = w["embeddings"]
    for leaf in ("weight", "bias"):
        stored[f"multi_modal_projector.linear_1.{leaf}"] = w[f"projector.linear1.{leaf}"]
        stored[f"multi_modal_projector.linear_2.{leaf}"] = w[f"projector.linear2.{leaf}"]
    return stored


_STORED = {
    "internvl": _internvl,
    "internvl-hf": _internvl_hf,
    "llava": _llava,
    "llava-hf": _llava_hf,
}

_TOWER: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": MLP,
}
_LANGUAGE: dict[str, Any] = {
    "hidden_size": TEXT,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "vocab_size": VOCAB,
    "max_position_embeddings": 512,
}
_QWEN = {**_LANGUAGE, "model_type": "qwen2", "num_key_value_heads": 2}

_CONFIGS: dict[str, dict[str, Any]] = {
    "internvl": {
        "architectures": ["InternVLChatModel"],
        "model_type": "internvl_chat",
        "vision_config": {
            **_TOWER,
            "image_size": IMAGE,
            "patch_size": PATCH,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
            "norm_type": "layer_norm",
            "qk_normalization": False,
            "qkv_bias": True,
        },
        "llm_config": {**_QWEN, "architectures": ["Qwen2ForCausalLM"], "rope_theta": 1e6},
        "downsample_ratio": 0.5,
        "dynamic_image_size": True,
        "force_image_size": IMAGE,
        "max_dynamic_patch": 12,
        "ps_version": "v2",
        "select_layer": -1,
        "use_thumbnail": True,
    },
    "internvl-hf": {
        "architectures": ["InternVLForConditionalGeneration"],
        "model_type": "internvl",
        "vision_config": {
            **_TOWER,
            "model_type": "internvl_vision",
            "attention_bias": True,
            "image_size": [IMAGE, IMAGE],
            "patch_size": [PATCH, PATCH],
        },
        "text_config": {
            **_QWEN,
            "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"},
        },
        "image_token_id": VOCAB - 1,
        "tie_word_embeddings": False,
    },
    "llava": {
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava",
        **_LANGUAGE,
        "image_aspect_ratio": "pad",
        "mm_hidden_size": HIDDEN,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "openai/clip-vit-large-patch14-336",
        "vision_config": {**_TOWER, "image_size": IMAGE, "patch_size": PATCH},
    },
    "llava-hf": {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "vision_config": {
            **_TOWER,
            "model_type": "clip_vision_model",
            "image_size": IMAGE,
            "patch_size": PATCH,
        },
        "text_config": {**_LANGUAGE, "model_type": "llama"},
        "image_token_index": VOCAB - 1,
    },
}
