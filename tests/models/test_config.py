from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from d2export.errors import CheckpointError
from d2export.models.config import check_language_model, spec_from_config
from d2export.models.presets import CLIP_VIT_L_336, INTERNVIT_300M, ModelSpec, preset
from d2export.models.random_weights import config_for
from d2export.models.shards import read_json
from tests.small_checkpoints import LAYOUT_NAMES, LayoutName, write_small_checkpoint

# What InternVL2_5-8B's config.json says of what is read here.
INTERNVL25_8B: dict[str, Any] = {
    "architectures": ["InternVLChatModel"],
    "downsample_ratio": 0.5,
    "dynamic_image_size": True,
    "force_image_size": 448,
    "llm_config": {
        "architectures": ["InternLM2ForCausalLM"],
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "max_position_embeddings": 32768,
        "model_type": "internlm2",
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "bias": False,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 2.0, "type": "dynamic"},
        "rope_theta": 1000000,
        "vocab_size": 92553,
    },
    "max_dynamic_patch": 12,
    "min_dynamic_patch": 1,
    "pad2square": False,
    "ps_version": "v2",
    "select_layer": -1,
    "torch_dtype": "bfloat16",
    "use_thumbnail": True,
    "vision_config": {
        "hidden_act": "gelu",
        "hidden_size": 1024,
        "image_size": 448,
        "intermediate_size": 4096,
        "layer_norm_eps": 1e-06,
        "norm_type": "layer_norm",
        "num_attention_heads": 16,
        "num_channels": 3,
        "num_hidden_layers": 24,
        "patch_size": 14,
        "qk_normalization": False,
        "qkv_bias": True,
    },
}

# llava-hf/llava-1.5-7b-hf: what equals a class's default is left out.
LLAVA_HF_7B: dict[str, Any] = {
    "architectures": ["LlavaForConditionalGeneration"],
    "model_type": "llava",
    "projector_hidden_act": "gelu",
    "text_config": {
        "_name_or_path": "lmsys/vicuna-7b-v1.5",
        "max_position_embeddings": 4096,
        "model_type": "llama",
        "rms_norm_eps": 1e-05,
        "vocab_size": 32064,
    },
    "torch_dtype": "float16",
    "vision_config": {
        "hidden_size": 1024,
        "image_size": 336,
        "intermediate_size": 4096,
        "model_type": "clip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "patch_size": 14,
    },
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
}

# liuhaotian/llava-v1.5-7b: the tower only by name.
LLAVA_7B: dict[str, Any] = {
    "architectures": ["LlavaLlamaForCausalLM"],
    "hidden_size": 4096,
    "image_aspect_ratio": "pad",
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "mm_hidden_size": 1024,
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "model_type": "llava",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "torch_dtype": "float16",
    "vocab_size": 32000,
}

INTERNVL3_1B_HF: dict[str, Any] = {
    "architectures": ["InternVLForConditionalGeneration"],
    "model_type": "internvl",
    "text_config": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "model_type": "qwen2",
        "num_attention_heads": 14,
        "num_hidden_layers": 24,
        "num_key_value_heads": 2,
        "rope_theta": 1000000.0,
        "vocab_size": 151674,
    },
    "torch_dtype": "bfloat16",
    "vision_config": {"attention_bias": True, "model_type": "internvl_vision"},
}


def numbers(spec: ModelSpec) -> ModelSpec:
    """A spec without its name and where it comes from."""
    return replace(spec, name="", hub_id=None)


def changed(config: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    config = deepcopy(config)
    *sections, key = path.split(".")
    target = config
    for section in sections:
        target = target[section]
    target[key] = value
    return config


def test_published_configs_are_the_presets() -> None:
    assert numbers(spec_from_config(INTERNVL25_8B, "x")) == numbers(preset("internvl2.5-8b"))
    assert numbers(spec_from_config(LLAVA_HF_7B, "x")) == numbers(preset("llava-1.5-7b"))


def test_llava_as_published_has_clip_by_name_and_the_unpadded_vocabulary() -> None:
    spec = spec_from_config(LLAVA_7B, "liuhaotian/llava-v1.5-7b")
    assert spec.name == "llava-v1.5-7b"
    assert spec.vision == CLIP_VIT_L_336
    assert spec.text == replace(preset("llava-1.5-7b").text, vocab=32000)


def test_a_nearly_empty_hf_config_has_the_defaults_of_the_classes() -> None:
    spec = spec_from_config(INTERNVL3_1B_HF, "x")
    assert spec.vision == INTERNVIT_300M
    assert spec.text == replace(preset("internvl2.5-1b").text, tied=True)
    llava = spec_from_config({"architectures": ["LlavaForConditionalGeneration"]}, "x")
    assert llava.vision == CLIP_VIT_L_336
    assert llava.weight_dtype == "F32"
    assert (llava.text.vocab, llava.text.max_positions) == (32000, 2048)


@pytest.mark.parametrize("config", [INTERNVL25_8B, LLAVA_HF_7B, LLAVA_7B, INTERNVL3_1B_HF])
def test_published_language_models_are_supported(config: dict[str, Any]) -> None:
    check_language_model(config, spec_from_config(config, "x").text, "x")


@pytest.mark.parametrize(
    ("config", "path", "value", "supported"),
    [
        (INTERNVL25_8B, "llm_config.hidden_act", "gelu", "'silu'"),
        (INTERNVL25_8B, "llm_config.bias", True, "False"),
        (INTERNVL25_8B, "llm_config.rope_scaling.type", "linear", "'default' or 'dynamic'"),
        (INTERNVL25_8B, "llm_config.num_key_value_heads", 5, "a divisor of 32"),
        (INTERNVL25_8B, "llm_config.num_attention_heads", 24, "heads of even width in 4096"),
        (LLAVA_HF_7B, "text_config.head_dim", 64, "128"),
        (LLAVA_HF_7B, "text_config.attention_bias", True, "False"),
        (LLAVA_HF_7B, "text_config.rope_parameters", {"rope_type": "yarn"}, "'dynamic'"),
        (LLAVA_7B, "mlp_bias", True, "False"),
        (INTERNVL3_1B_HF, "text_config.rope_parameters", {"rope_type": "llama3"}, "'dynamic'"),
        (LLAVA_7B, "rope_scaling", {"type": "linear", "factor": 2}, "'default'"),
        (LLAVA_HF_7B, "text_config.rope_parameters", {"partial_rotary_factor": 0.5}, "1"),
        (INTERNVL3_1B_HF, "text_config.use_sliding_window", "yes", "False or True"),
        (LLAVA_7B, "quantization_config", {"quant_method": "awq"}, "F32, F16 or BF16"),
        (INTERNVL25_8B, "llm_config.quantization_config", {"bits": 4}, "F32, F16 or BF16"),
    ],
)
def test_language_models_that_compute_something_else(
    config: dict[str, Any], path: str, value: object, supported: str
) -> None:
    wrong = changed(config, path, value)
    with pytest.raises(CheckpointError) as caught:
        check_language_model(wrong, spec_from_config(wrong, "x").text, "x")
    key = path.removesuffix(".type")
    assert str(caught.value).startswith(f"x: config.json: '{key}")
    assert supported in str(caught.value)


def test_a_sliding_window_has_to_hold_the_whole_context() -> None:
    def check(**settings: object) -> None:
        config = changed(INTERNVL3_1B_HF, "text_config.use_sliding_window", True)
        config["text_config"] |= settings
        check_language_model(config, spec_from_config(config, "x").text, "x")

    check(sliding_window=None)
    check(sliding_window=32768)
    check(max_position_embeddings=2048)  # below the default of 4096
    for settings in ({"sliding_window": 32767}, {}):
        with pytest.raises(CheckpointError, match=r"text_config.sliding_window' is (32767|4096); "):
            check(**settings)


@pytest.mark.parametrize(
    ("keys", "eps", "tied"),
    [
        ({}, 1e-6, True),
        ({"tie_word_embeddings": False}, 1e-6, False),
        ({"rms_norm_eps": 1e-5}, 1e-5, True),
    ],
)
def test_norm_and_tying(keys: dict[str, Any], eps: float, tied: bool) -> None:
    """What transformers' own classes read from the same file."""
    from transformers import InternVLConfig

    config = deepcopy(INTERNVL3_1B_HF)
    for key, value in keys.items():
        (config if key.startswith("tie") else config["text_config"])[key] = value
    text = spec_from_config(config, "x").text
    theirs = InternVLConfig(**{key: config[key] for key in ("text_config", *keys) if key in config})
    assert (text.norm_eps, text.tied) == (eps, tied)
    assert (theirs.text_config.rms_norm_eps, theirs.tie_word_embeddings) == (eps, tied)


@pytest.mark.parametrize("name", ["internvl2.5-1b", "internvl2.5-2b", "internvl2.5-4b", "pocket",
                                  "internvl2.5-8b", "llava-1.5-7b", "llava-1.5-13b"])  # fmt: skip
def test_config_for_is_the_inverse(name: str) -> None:
    assert numbers(spec_from_config(config_for(preset(name)), name)) == numbers(preset(name))


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
def test_all_layouts_of_a_family_give_one_spec(tmp_path: Path, layout: LayoutName) -> None:
    def small(name: LayoutName) -> ModelSpec:
        folder = write_small_checkpoint(tmp_path / name, name)
        return spec_from_config(read_json(folder / "config.json"), "small")

    spec = small(layout)
    assert spec == small("internvl" if "internvl" in layout else "llava")
    assert (spec.vision.hidden, spec.vision.layers, spec.vision.mlp) == (64, 3, 128)
    assert spec.vision.tokens_per_tile == (4 if spec.family == "internvl" else 16)
    assert spec.vision.used_layers == (3 if spec.family == "internvl" else 2)


@pytest.mark.parametrize("layout", ["internvl-hf", "llava-hf"])
def test_what_transformers_reads_from_the_same_file(tmp_path: Path, layout: LayoutName) -> None:
    from transformers import AutoConfig

    folder = write_small_checkpoint(tmp_path, layout)
    theirs = AutoConfig.from_pretrained(folder)
    theirs.architectures = [read_json(folder / "config.json")["architectures"][0]]  # type: ignore[index]
    theirs.save_pretrained(tmp_path / "again")
    again = read_json(tmp_path / "again" / "config.json")
    assert numbers(spec_from_config(again, "x")) == numbers(
        spec_from_config(read_json(folder / "config.json"), "x")
    )


def test_used_layers_follow_the_selected_one() -> None:
    def used(value: object) -> int:
        config = changed(LLAVA_HF_7B, "vision_feature_layer", value)
        return spec_from_config(config, "x").vision.used_layers

    assert [used(-1), used(-2), used(-24), used(1), used(24)] == [24, 23, 1, 1, 24]


def test_without_dynamic_tiling_there_is_one_tile() -> None:
    config = changed(INTERNVL25_8B, "dynamic_image_size", False)
    assert spec_from_config(config, "x").vision.image.max_tiles == 1


@pytest.mark.parametrize(
    ("config", "path", "value", "supported"),
    [
        (INTERNVL25_8B, "architectures", ["Qwen2VLForConditionalGeneration"], "InternVLChatModel"),
        (INTERNVL25_8B, "architectures", None, "LlavaForConditionalGeneration"),
        (INTERNVL25_8B, "architectures", "InternVLChatModel", "InternVLChatModel"),
        (INTERNVL25_8B, "vision_config.norm_type", "rms_norm", "'layer_norm'"),
        (INTERNVL25_8B, "vision_config.qk_normalization", True, "False"),
        (INTERNVL25_8B, "vision_config.qkv_bias", False, "True"),
        (INTERNVL25_8B, "vision_config.hidden_act", "silu", "'gelu' or 'quick_gelu'"),
        (INTERNVL25_8B, "vision_config.hidden_size", "big", "a positive integer up to 10000000"),
        (
            INTERNVL25_8B,
            "vision_config.layer_norm_eps",
            -1,
            "a positive number from 1e-30 to 1e+30",
        ),
        (INTERNVL25_8B, "vision_config.num_channels", 4, "3"),
        (INTERNVL25_8B, "vision_config", 5, "a JSON object"),
        (INTERNVL25_8B, "ps_version", "v1", "'v2'"),
        (INTERNVL25_8B, "downsample_ratio", 0.3, "1 divided by an integer"),
        (INTERNVL25_8B, "force_image_size", 672, "448"),
        (INTERNVL25_8B, "use_thumbnail", False, "True"),
        (INTERNVL25_8B, "pad2square", True, "False"),
        (INTERNVL25_8B, "select_layer", -25, "one layer"),
        (INTERNVL25_8B, "torch_dtype", "int8", "float32, float16, bfloat16"),
        (INTERNVL25_8B, "llm_config.architectures", ["Phi3ForCausalLM"], "Qwen2ForCausalLM"),
        (INTERNVL3_1B_HF, "vision_config.use_qk_norm", True, "False"),
        (INTERNVL3_1B_HF, "vision_config.norm_type", "rms_norm", "'layer_norm'"),
        (INTERNVL3_1B_HF, "vision_config.attention_bias", None, "True"),
        (INTERNVL3_1B_HF, "vision_config.use_mean_pooling", False, "True"),
        (INTERNVL3_1B_HF, "vision_config.image_size", [448, 336], "a square"),
        (INTERNVL3_1B_HF, "text_config.model_type", "qwen3", "'qwen2' or 'llama'"),
        (LLAVA_7B, "mm_projector_type", "linear", "'mlp2x_gelu'"),
        (LLAVA_7B, "mm_vision_tower", "google/siglip-so400m", "openai/clip-vit-large-patch14-336"),
        (LLAVA_7B, "mm_hidden_size", 768, "1024"),
        (LLAVA_7B, "mm_vision_select_feature", "cls_patch", "'patch'"),
        (LLAVA_7B, "image_aspect_ratio", "anyres", "'pad'"),
        (LLAVA_HF_7B, "vision_feature_layer", [-2, -5], "one layer"),
        (LLAVA_HF_7B, "vision_feature_select_strategy", "full", "'default'"),
        (LLAVA_HF_7B, "vision_config.model_type", "siglip_vision_model", "'clip_vision_model'"),
        (LLAVA_HF_7B, "multimodal_projector_bias", False, "True"),
        (LLAVA_HF_7B, "text_config.model_type", "mistral", "'llama'"),
    ],
)
def test_an_unsupported_setting_is_named(
    config: dict[str, Any], path: str, value: object, supported: str
) -> None:
    with pytest.raises(CheckpointError) as e:
        spec_from_config(changed(config, path, value), "folder")
    assert f"folder: config.json: '{path}' is " in e.value.problem
    assert (str(value) if value is not None else "") in e.value.problem or value is None
    assert supported in e.value.problem.split("supported: ")[1]


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (
            "vision_config.patch_size",
            15,
            "image size and patch size .* 448 is not a multiple of 15",
        ),
        ("vision_config.num_attention_heads", 15, "hidden size and heads .* 1024 .* of 15"),
        ("downsample_ratio", 1 / 3, "patches per side and downsampling .* 32 .* of 3"),
    ],
)
def test_a_geometry_that_does_not_fit(path: str, value: object, problem: str) -> None:
    with pytest.raises(CheckpointError, match=problem):
        spec_from_config(changed(INTERNVL25_8B, path, value), "x")
