"""Read a checkpoint's `config.json` into the records of `presets.py`.

Four layouts are read: InternVL as published (`InternVLChatModel`), LLaVA as published
(`LlavaLlamaForCausalLM`), and both in transformers' own form (`...ForConditionalGeneration`).
transformers leaves out what equals a class's default, so each default here is that of the class
that reads the key: InternVLChatConfig and InternVisionConfig as published beside the weights,
InternVLConfig, InternVLVisionConfig, LlavaConfig, CLIPVisionConfig, Qwen2Config and LlamaConfig
of transformers. A setting that changes the computation and is not supported is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from d2export.errors import CheckpointError
from d2export.models.presets import (
    CLIP_MEAN,
    CLIP_STD,
    CLIP_VIT_L_336,
    IMAGENET_MEAN,
    IMAGENET_STD,
    ImageSpec,
    ModelSpec,
    TextSpec,
    VisionSpec,
)

CLIP_L_336 = "clip-vit-large-patch14-336"
DEFAULT_TILES = 12  # a -hf checkpoint keeps the number with its image processor, not here

WEIGHT_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}

TEXT_KEYS = {
    "hidden": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp": "intermediate_size",
    "vocab": "vocab_size",
    "max_positions": "max_position_embeddings",
}

# backbone: the defaults of its configuration class, in the order of TEXT_KEYS
TEXT_DEFAULTS = {
    "qwen2": (4096, 32, 32, 22016, 151936, 32768),
    "llama": (4096, 32, 32, 11008, 32000, 2048),
    "internlm2": (4096, 32, 32, 11008, 103168, 2048),
}

# backbone: settings that have to be false, and what they are where config.json is silent
FALSE_SETTINGS: dict[str, dict[str, bool]] = {
    "qwen2": {},
    "llama": {"attention_bias": False, "mlp_bias": False},
    "internlm2": {"bias": True},
}

QWEN2_WINDOW = 4096  # where config.json is silent, and use_sliding_window is true

LANGUAGE_MODELS = {
    "InternLM2ForCausalLM": "internlm2",
    "Qwen2ForCausalLM": "qwen2",
    "LlamaForCausalLM": "llama",
}


MAX_COUNT = 10_000_000  # a vocabulary is the largest count there is
MAX_LAYERS = 1000
SMALLEST, LARGEST = 1e-30, 1e30


@dataclass(frozen=True)
class Section:
    """One JSON object of a config.json; its errors name the key, the value and what is supported.

    A key that is absent, or null, has the `default`; without one it is required.
    """

    values: Mapping[str, Any]
    where: str
    prefix: str = ""

    def error(self, key: str, found: object, supported: str) -> CheckpointError:
        """An error about one key."""
        return CheckpointError(
            f"{self.where}: '{self.prefix}{key}' is {found!r}; supported: {supported}"
        )

    def value(self, key: str, default: object = None) -> Any:
        """The value as it is."""
        found = self.values.get(key)
        return default if found is None else found

    def section(self, key: str, default: Mapping[str, Any] | None = None) -> Section:
        """The JSON object under `key`."""
        found = self.value(key, default)
        if not isinstance(found, Mapping):
            raise self.error(key, found, "a JSON object")
        return Section(found, self.where, f"{self.prefix}{key}.")

    def count(self, key: str, default: int | None = None) -> int:
        """A positive integer."""
        found = self.value(key, default)
        if type(found) is not int or not 1 <= found <= MAX_COUNT:
            raise self.error(key, found, f"a positive integer up to {MAX_COUNT}")
        return found

    def layer_count(self, key: str, default: int) -> int:
        """A count of layers."""
        found = self.count(key, default)
        if found > MAX_LAYERS:
            raise self.error(key, found, f"up to {MAX_LAYERS} layers")
        return found

    def number(self, key: str, default: float | None = None) -> float:
        """A positive number."""
        found = self.value(key, default)
        if type(found) not in (int, float) or not SMALLEST <= found <= LARGEST:
            raise self.error(key, found, f"a positive number from {SMALLEST:g} to {LARGEST:g}")
        return float(found)

    def side(self, key: str, default: int | None = None) -> int:
        """The side of a square, given as `n` or `[n, n]`."""
        found = self.value(key, default)
        side = found[0] if isinstance(found, list) and found else found
        square = not isinstance(found, list) or found == [side] * 2
        if type(side) is not int or not 1 <= side <= MAX_COUNT or not square:
            raise self.error(key, found, "a square: n or [n, n]")
        return side

    def only(self, key: str, *supported: object, default: object = None) -> Any:
        """The value, which has to be one of `supported`."""
        found = self.value(key, default)
        if found not in supported:
            raise self.error(key, found, " or ".join(map(repr, supported)))
        return found


def spec_from_config(config: dict[str, Any], where: str) -> ModelSpec:
    """The model a config.json describes.

    Args:
        config: the parsed config.json.
        where: the folder or id it comes from; its last part becomes the model's name.

    Raises:
        CheckpointError: an architecture or a setting that is not supported, or a missing key;
            the message names the key, the value found and what is supported.
    """
    top = Section(config, f"{where}: config.json")
    found = top.value("architectures", [])
    architecture = found[0] if isinstance(found, list) and found else None
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise top.error("architectures", found, ", ".join(ARCHITECTURES))
    family, read = ARCHITECTURES[architecture]
    vision, text = read(top)
    _check_geometry(top, vision)
    dtype = str(top.value("dtype", top.value("torch_dtype", "float32"))).removeprefix("torch.")
    if dtype not in WEIGHT_DTYPES:
        raise top.error("torch_dtype", dtype, ", ".join(WEIGHT_DTYPES))
    return ModelSpec(Path(where).name, family, None, vision, text, WEIGHT_DTYPES[dtype])


def _internvl(top: Section) -> tuple[VisionSpec, TextSpec]:
    """As published by OpenGVLab. The defaults are those of InternViT-6B, which is not supported."""
    vision = top.section("vision_config")
    vision.only("norm_type", "layer_norm", default="rms_norm")
    vision.only("qk_normalization", False, default=True)
    vision.only("qkv_bias", True, default=False)
    top.only("ps_version", "v2", default="v1")
    top.only("pad2square", False, default=False)
    tiles = 1
    if top.only("dynamic_image_size", True, False, default=False):
        top.only("use_thumbnail", True, default=False)
        top.only("min_dynamic_patch", 1, default=1)
        tiles = top.count("max_dynamic_patch", 6)
    size = vision.side("image_size", 224)
    top.only("force_image_size", size, default=size)  # anything else interpolates the positions
    language = top.section("llm_config")
    architectures = language.value("architectures", ["LlamaForCausalLM"])
    first = architectures[0] if isinstance(architectures, list) and architectures else None
    name = first if isinstance(first, str) else ""
    if name not in LANGUAGE_MODELS:
        raise language.error("architectures", architectures, ", ".join(LANGUAGE_MODELS))
    spec = _intern_vit(
        top, vision, ImageSpec(size, IMAGENET_MEAN, IMAGENET_STD, tiles), "select_layer"
    )
    return spec, _text(language, LANGUAGE_MODELS[name])


def _internvl_hf(top: Section) -> tuple[VisionSpec, TextSpec]:
    vision = top.section("vision_config", {})
    vision.only("norm_type", "layer_norm", default="layer_norm")
    vision.only("use_qk_norm", False, default=False)
    vision.only("attention_bias", True, default=False)
    vision.only("use_absolute_position_embeddings", True, default=True)
    vision.only("use_mean_pooling", True, default=True)  # False adds a norm after the last layer
    top.only("vision_feature_select_strategy", "default", default="default")
    top.only("projector_hidden_act", "gelu", default="gelu")
    image = ImageSpec(vision.side("image_size", 448), IMAGENET_MEAN, IMAGENET_STD, DEFAULT_TILES)
    language = top.section("text_config", {})
    backbone = language.only("model_type", "qwen2", "llama", default="qwen2")
    spec = _intern_vit(top, vision, image, "vision_feature_layer")
    tied = top.only("tie_word_embeddings", True, False, default=True)
    text = _text(language, backbone)
    return spec, replace(text, tied=tied or text.tied)


def _intern_vit(top: Section, vision: Section, image: ImageSpec, layer_key: str) -> VisionSpec:
    vision.only("num_channels", 3, default=3)
    ratio = top.number("downsample_ratio", 0.5)
    if abs(ratio * round(1 / ratio) - 1) > 1e-6:
        raise top.error("downsample_ratio", ratio, "1 divided by an integer, like 0.5")
    layers = vision.layer_count("num_hidden_layers", 24)
    return VisionSpec(
        image=image,
        patch=vision.side("patch_size", 14),
        hidden=vision.count("hidden_size", 1024),
        layers=layers,
        used_layers=_used_layers(top, layer_key, layers, default=-1),
        heads=vision.count("num_attention_heads", 16),
        mlp=vision.count("intermediate_size", 4096),
        norm_eps=vision.number("layer_norm_eps", 1e-6),
        activation=vision.only("hidden_act", "gelu", "quick_gelu", default="gelu"),
        patch_bias=True,
        pre_norm=False,
        layer_scale=True,
        downsample=round(1 / ratio),
        projector_norm=True,
    )


def _llava(top: Section) -> tuple[VisionSpec, TextSpec]:
    """As published by its authors; the tower's numbers are then those of CLIP ViT-L/14-336."""
    top.only("mm_projector_type", "mlp2x_gelu", default="linear")
    top.only("mm_vision_select_feature", "patch", default="patch")
    top.only("image_aspect_ratio", "pad", default="square")
    if top.value("vision_config") is not None:
        vision = _clip(top, top.section("vision_config"), "mm_vision_select_layer")
    else:
        tower = top.value("mm_vision_tower")
        if Path(str(tower)).name != CLIP_L_336:
            raise top.error("mm_vision_tower", tower, f"openai/{CLIP_L_336}")
        geometry = Section(CLIP_L_336_CONFIG, top.where, f"{CLIP_L_336}.")
        vision = _clip(top, geometry, "mm_vision_select_layer")
    top.only("mm_hidden_size", vision.hidden, default=vision.hidden)
    return vision, _text(top, "llama")


def _llava_hf(top: Section) -> tuple[VisionSpec, TextSpec]:
    vision = top.section("vision_config", CLIP_L_336_CONFIG)
    vision.only("model_type", "clip_vision_model", default="clip_vision_model")
    top.only("vision_feature_select_strategy", "default", default="default")
    top.only("projector_hidden_act", "gelu", default="gelu")
    top.only("multimodal_projector_bias", True, default=True)
    language = top.section("text_config", {})
    language.only("model_type", "llama", default="llama")
    tied = top.only("tie_word_embeddings", True, False, default=False)
    text = _text(language, "llama")
    return _clip(top, vision, "vision_feature_layer"), replace(text, tied=tied or text.tied)


CLIP_L_336_CONFIG: dict[str, Any] = {
    "hidden_size": CLIP_VIT_L_336.hidden,
    "image_size": CLIP_VIT_L_336.image.size,
    "intermediate_size": CLIP_VIT_L_336.mlp,
    "num_attention_heads": CLIP_VIT_L_336.heads,
    "num_hidden_layers": CLIP_VIT_L_336.layers,
    "patch_size": CLIP_VIT_L_336.patch,
}


def _clip(top: Section, vision: Section, layer_key: str) -> VisionSpec:
    vision.only("num_channels", 3, default=3)
    layers = vision.layer_count("num_hidden_layers", 12)
    image = ImageSpec(vision.side("image_size", 224), CLIP_MEAN, CLIP_STD, pad_to_square=True)
    return VisionSpec(
        image=image,
        patch=vision.side("patch_size", 32),
        hidden=vision.count("hidden_size", 768),
        layers=layers,
        used_layers=_used_layers(top, layer_key, layers, default=-2),
        heads=vision.count("num_attention_heads", 12),
        mlp=vision.count("intermediate_size", 3072),
        norm_eps=vision.number("layer_norm_eps", 1e-5),
        activation=vision.only("hidden_act", "gelu", "quick_gelu", default="quick_gelu"),
        patch_bias=False,
        pre_norm=True,
        layer_scale=False,
        downsample=1,
        projector_norm=False,
    )


def _used_layers(top: Section, key: str, layers: int, default: int) -> int:
    """An index into the `layers + 1` hidden states, the first of which is the embeddings."""
    found = top.value(key, default)
    used = None if type(found) is not int else found if found >= 0 else layers + 1 + found
    if used is None or not 1 <= used <= layers:
        raise top.error(key, found, f"one layer, {-layers} to -1 or 1 to {layers}")
    return used


def _text(section: Section, backbone: str) -> TextSpec:
    defaults = zip(TEXT_KEYS.items(), TEXT_DEFAULTS[backbone], strict=True)
    counts = {field: section.count(key, default) for (field, key), default in defaults}
    kv_heads = section.count("num_key_value_heads", counts["heads"])
    rope = section.section("rope_parameters", {})  # transformers 5; a plain key before
    theta = section.number("rope_theta", rope.number("rope_theta", 1e4))
    return TextSpec(
        backbone=backbone,
        kv_heads=kv_heads,
        rope_theta=theta,
        norm_eps=section.number("rms_norm_eps", 1e-6),
        tied=bool(section.only("tie_word_embeddings", True, False, default=False)),
        **counts,
    )


def check_language_model(config: dict[str, Any], text: TextSpec, where: str) -> None:
    """Refuse settings of the language model that change its computation and are not supported.

    Apart from `spec_from_config`, because scope `vision` does not run the language model.

    Raises:
        CheckpointError: the message names the key, the value found and what is supported.
    """
    top = Section(config, f"{where}: config.json")
    section = next(
        (top.section(key) for key in ("llm_config", "text_config") if key in config), top
    )
    if text.hidden % text.heads or text.head_dim % 2:
        found = f"heads of even width in {text.hidden}"
        raise section.error("num_attention_heads", text.heads, found)
    if text.heads % text.kv_heads:
        raise section.error("num_key_value_heads", text.kv_heads, f"a divisor of {text.heads}")
    section.only("hidden_act", "silu", default="silu")
    section.only("head_dim", text.head_dim, default=text.head_dim)
    for key, default in FALSE_SETTINGS[text.backbone].items():
        section.only(key, False, default=default)
    if text.backbone == "qwen2" and section.only("use_sliding_window", False, True, default=False):
        window = section.values.get("sliding_window", QWEN2_WINDOW)  # null: none, after all
        if window is not None and section.count("sliding_window", window) < text.max_positions:
            whole = f"null, or the whole context of {text.max_positions}"
            raise section.error("sliding_window", window, whole)
    for key in ("rope_scaling", "rope_parameters"):
        scaling = section.section(key, {})
        kind = "rope_type" if scaling.value("rope_type") is not None else "type"
        # "dynamic" begins where a prompt is longer than max_position_embeddings, which is refused.
        scaling.only(kind, "default", "dynamic", default="default")
        scaling.only("partial_rotary_factor", 1, default=1)
    for place in (top, section):
        quantization = place.value("quantization_config")
        if quantization is not None:
            method = place.section("quantization_config").value("quant_method", quantization)
            raise place.error("quantization_config", method, "weights in F32, F16 or BF16")


def _check_geometry(top: Section, vision: VisionSpec) -> None:
    for what, whole, part in (
        ("image size and patch size", vision.image.size, vision.patch),
        ("patches per side and downsampling", vision.patches_per_side, vision.downsample),
        ("vision hidden size and heads", vision.hidden, vision.heads),
    ):
        if whole < part or whole % part:
            raise CheckpointError(
                f"{top.where}: {what} do not fit: {whole} is not a multiple of {part}"
            )


ARCHITECTURES: dict[str, tuple[str, Callable[[Section], tuple[VisionSpec, TextSpec]]]] = {
    "InternVLChatModel": ("internvl", _internvl),
    "InternVLForConditionalGeneration": ("internvl", _internvl_hf),
    "LlavaLlamaForCausalLM": ("llava", _llava),
    "LlavaForConditionalGeneration": ("llava", _llava_hf),
}
