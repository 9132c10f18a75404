"""The trained model as a checkpoint of InternVL in transformers' layout, and a run's own state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from d2export.models.layouts import INTERNVL_HF, parameter_shapes, stored_name
from d2export.models.presets import ModelSpec
from d2export.models.safetensors_file import TensorToWrite, encode, load, read_header, write
from d2export.models.text_layouts import text_shapes, written_layout
from pocket.vocabulary import write_tokenizer

STATE = "state.safetensors"
PROGRESS = "progress.json"


def write_checkpoint(
    folder: Path, spec: ModelSpec, weights: Mapping[str, Tensor], tokenizer: Tokenizer
) -> None:
    """`config.json`, `model.safetensors` in bfloat16, tokenizer and chat template.

    Args:
        weights: by canonical name, as `state` of the modules `vision` and `text` has them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shapes = parameter_shapes(spec) | text_shapes(spec.text)
    language = written_layout(spec.text)
    tensors = []
    for name, shape in shapes.items():
        text = name.startswith("text.")
        stored = language.stored_name(name) if text else stored_name(INTERNVL_HF, name)[0]
        ones = () if text else (1,) * INTERNVL_HF.leading_ones.get(name, 0)
        values = weights[name if text else f"vision.{name}"]
        if values.shape != shape:
            raise ValueError(f"{name} has shape {tuple(values.shape)}, expected {shape}")
        array = encode(values.float().numpy(), spec.weight_dtype)
        tensors.append(TensorToWrite(stored, spec.weight_dtype, ones + shape, partial(_one, array)))
    write(folder / "model.safetensors", tensors)
    config = json.dumps(config_of(spec, tokenizer), indent=2)
    (folder / "config.json").write_text(config + "\n", "utf-8")
    write_tokenizer(tokenizer, folder)


def config_of(spec: ModelSpec, tokenizer: Tokenizer) -> dict[str, object]:
    """As transformers' InternVLConfig writes it."""
    vision, text = spec.vision, spec.text
    return {
        "architectures": ["InternVLForConditionalGeneration"],
        "model_type": "internvl",
        "dtype": "bfloat16",
        "image_token_id": tokenizer.token_to_id("<IMG_CONTEXT>"),
        "image_seq_length": vision.tokens_per_tile,
        "downsample_ratio": 1 / vision.downsample,
        "projector_hidden_act": "gelu",
        "tie_word_embeddings": text.tied,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default",
        "vision_config": {
            "model_type": "internvl_vision",
            "hidden_size": vision.hidden,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "intermediate_size": vision.mlp,
            "image_size": [vision.image.size] * 2,
            "patch_size": [vision.patch] * 2,
            "num_channels": 3,
            "hidden_act": vision.activation,
            "layer_norm_eps": vision.norm_eps,
            "norm_type": "layer_norm",
            "attention_bias": True,
            "use_qk_norm": False,
            "use_absolute_position_embeddings": True,
            "use_mask_token": False,
            "use_mean_pooling": True,
            "layer_scale_init_value": 1.0,
        },
        "text_config": {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": text.backbone,
            "hidden_size": text.hidden,
            "intermediate_size": text.mlp,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "num_key_value_heads": text.kv_heads,
            "vocab_size": text.vocab,
            "max_position_embeddings": text.max_positions,
            "rms_norm_eps": text.norm_eps,
            "rope_theta": text.rope_theta,
            "hidden_act": "silu",
            "tie_word_embeddings": text.tied,
        },
    }


def write_state(folder: Path, state: Mapping[str, Tensor], progress: Mapping[str, object]) -> None:
    """What a run needs to go on; the older state stays until the new one is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"{STATE}.new"
    write(
        beside,
        (
            TensorToWrite(name, "F32", tuple(tensor.shape), partial(_one, tensor.cpu().numpy()))
            for name, tensor in state.items()
        ),
    )
    beside.replace(folder / STATE)
    (folder / f"{PROGRESS}.new").write_text(json.dumps(progress) + "\n", "utf-8")
    (folder / f"{PROGRESS}.new").replace(folder / PROGRESS)


def read_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, object]] | None:
    """What `write_state` wrote, or None if there is nothing."""
    if not (folder / PROGRESS).is_file():
        return None
    refs = read_header(folder / STATE)
    state = {name: torch.from_numpy(load(ref)) for name, ref in refs.items()}
    return state, json.loads((folder / PROGRESS).read_text("utf-8"))


def _one(array: np.ndarray) -> list[np.ndarray]:
    return [array.reshape(-1)]
