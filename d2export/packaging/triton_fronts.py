"""The models in front of the graphs: what clients ask.

Field names and constants are those of Triton's model_config.proto.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from d2export.bundle.manifest import Manifest
from d2export.packaging.triton_choices import Settled
from d2export.packaging.triton_fields import ServedModel, group, named, parameters, tensor

ANSWERS_PER_DECODER = 2  # while one answer's token is picked, the decoder works on another


def answer(chosen: Settled, vision: str, decoder: str, integers: str) -> ServedModel:
    """The model that answers in scope `vlm`; an instance asks the decoder of its own GPU.

    Args:
        vision: name of the vision model.
        decoder: name of the decoder; `{gpu}` in it stands for the GPU's number.
        integers: type of the decoder's integers, `int64` or `int32`.
    """
    settings = {
        "vision_model": vision,
        "decoder_model": decoder,
        "integers": integers,
        "tile_axis": "true" if chosen.batch_tiles else "false",
    }
    config = _python(chosen) | {
        "model_transaction_policy": {"decoupled": True},
        "input": [
            named("prompt", "string", [1]),
            named("image", "string", [-1]),
            named("system", "string", [1], optional=True),
            named("max_new_tokens", "int32", [1], optional=True),
            named("temperature", "float32", [1], optional=True),
            named("top_p", "float32", [1], optional=True),
            named("seed", "int64", [1], optional=True),
        ],
        "output": [
            named("text", "string", [1]),
            named("finish", "string", [1]),
            named("tokens", "int32", [-1]),
            named("kept_indices", "int32", [-1]),
            named("kept_lengths", "int32", [-1]),
        ],
        "instance_group": [group(chosen.gpus, ANSWERS_PER_DECODER * chosen.instances)],
        "parameters": parameters(settings),
    }
    return ServedModel(chosen.name, "answer", config)


def preprocess(manifest: Manifest, chosen: Settled) -> ServedModel:
    """The model that cuts a picture into tiles, in scope `vision`."""
    config = _python(chosen) | {
        "name": f"{chosen.name}_preprocess",
        "input": [named(name, "string", [1]) for name in _asked(manifest)],
        "output": [tensor(value) for value in manifest.graphs.vision.inputs],
        "instance_group": [group((), ANSWERS_PER_DECODER * chosen.instances)],
    }
    return ServedModel(f"{chosen.name}_preprocess", "preprocess", config)


def ensemble(manifest: Manifest, chosen: Settled, vision: ServedModel) -> ServedModel:
    """The model that is asked in scope `vision`: `preprocess`, then `vision`."""
    graph, asked = manifest.graphs.vision, _asked(manifest)
    given, found = [value.name for value in graph.inputs], [value.name for value in graph.outputs]
    steps = [
        {
            "model_name": f"{chosen.name}_preprocess",
            "model_version": -1,
            "input_map": _same(asked),
            "output_map": _same(given),
        },
        {
            "model_name": vision.name,
            "model_version": -1,
            "input_map": _same(given),
            "output_map": _same(found),
        },
    ]
    config = {
        "name": chosen.name,
        "platform": "ensemble",
        "max_batch_size": 0,
        "version_policy": {"latest": {"num_versions": 1}},
        "input": [named(name, "string", [1]) for name in asked],
        "output": [tensor(value) for value in graph.outputs],
        "ensemble_scheduling": {"step": steps},
    }
    return ServedModel(chosen.name, "ensemble", config)


def _python(chosen: Settled) -> dict[str, Any]:
    return {
        "name": chosen.name,
        "backend": "python",
        "max_batch_size": 0,
        "version_policy": {"latest": {"num_versions": 1}},
    }


def _asked(manifest: Manifest) -> list[str]:
    """Inputs of the model that clients ask, in scope `vision`."""
    return ["image", *(["prompt"] if manifest.plan.importance == "text" else [])]


def _same(names: Iterable[str]) -> list[dict[str, str]]:
    return [{"key": name, "value": name} for name in names]
