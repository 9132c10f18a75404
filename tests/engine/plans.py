"""Plans of engines for presets, as bundles would have them."""

from __future__ import annotations

from typing import NamedTuple

from d2export.engine.build_options import BuildOptions
from d2export.engine.builder_plan import EnginePlan, GraphToBuild, plan_engine
from d2export.engine.optimization_profiles import decoder_profiles, vision_profiles
from d2export.engine.targets import target
from d2export.models.presets import PRESETS, ModelSpec
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.plan import Plan, d2_plan


class Value(NamedTuple):
    name: str
    shape: tuple[int | str, ...]


MODEL = PRESETS["internvl2.5-1b"]
INSIDE = d2_plan(PruneParameters(keep=64), "llm", 2)


def vision_inputs(spec: ModelSpec = MODEL) -> tuple[Value, ...]:
    size = spec.vision.image.size
    return Value("pixel_values", ("tiles", 3, size, size)), Value("token_grid", ("tokens", 2))


def decoder_inputs(spec: ModelSpec = MODEL, plan: Plan = INSIDE) -> tuple[Value, ...]:
    text = spec.text
    inputs = [
        Value("input_ids", (1, "sequence")),
        Value("image_embeds", ("visual_tokens", text.hidden)),
        Value("visual_positions", ("visual_tokens",)),
        Value("position_ids", (1, "sequence")),
    ]
    if plan.in_decoder:
        inputs += [
            Value("image_lengths", ("images",)),
            Value("token_grid", ("visual_tokens", 2)),
        ]
    depth = text.layers if plan.prune_layer is None else plan.prune_layer
    for index in range(text.layers):
        past = "past" if index < depth else "past_kept"
        for part in ("key", "value"):
            shape = (1, text.kv_heads, past, text.head_dim)
            inputs.append(Value(f"past_key_values.{index}.{part}", shape))
    return tuple(inputs)


def vision_graph(precision: str = "fp16", opset: int = 17) -> GraphToBuild:
    profiles = vision_profiles(vision_inputs(), MODEL.vision, MODEL.text)
    onnx = "onnx/vision.tensorrt.onnx"
    return GraphToBuild("vision", onnx, precision, opset, ("D2Prune",), profiles)


def decoder_graph(precision: str = "fp16") -> GraphToBuild:
    profiles = decoder_profiles(decoder_inputs(), MODEL.vision, MODEL.text, INSIDE)
    onnx = "onnx/decoder.tensorrt.onnx"
    return GraphToBuild("decoder", onnx, precision, 17, ("D2Prune",), profiles)


def plan(
    version: tuple[int, ...],
    graph: GraphToBuild | None = None,
    options: BuildOptions | None = None,
    name: str = "jetson-orin-agx-64gb",
) -> EnginePlan:
    return plan_engine(graph or vision_graph(), target(name), version, options or BuildOptions())
