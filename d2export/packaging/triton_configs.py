"""The models that a bundle becomes in Triton, and the configuration of each.

Scope `vlm`: `NAME` answers. It is a Python model that looks at the pictures, then asks
`NAME_vision` and, for each token, `NAME_decoder`; keys and values are inputs and outputs. An
ensemble cannot do that, because it has no loop. With GPUs each has a decoder of its own, so that
keys and values never move from one to another.

Scope `vision`: `NAME` is an ensemble of `NAME_preprocess`, in Python, and `NAME_vision`.

Field names and constants are those of Triton's model_config.proto.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from d2export.bundle.manifest import Manifest
from d2export.bundle.records import Graph, Value
from d2export.packaging.onnx_edits import EMBEDS, TILE_EMBEDS
from d2export.packaging.text_format import Word
from d2export.packaging.triton_choices import BACKENDS, Settled

TYPES = {
    "float32": "FP32",
    "float16": "FP16",
    "bfloat16": "BF16",
    "int64": "INT64",
    "int32": "INT32",
    "uint8": "UINT8",
    "bool": "BOOL",
    "string": "STRING",
}
# Before 10, TensorRT has no int64: its parser reads such inputs as int32.
NARROW = {"int64": "int32"}
FIRST_WITH_INT64 = 10
QUEUE_MICROSECONDS = 2000  # how long a tile waits for others: little beside the tower's time
ANSWERS_PER_DECODER = 2  # while one answer's token is picked, the decoder works on another

Role = Literal["vision", "decoder", "answer", "preprocess", "ensemble"]


@dataclass(frozen=True)
class ServedModel:
    """A folder of the repository; `graph` of the bundle is what it runs, if it runs one."""

    name: str
    role: Role
    config: Mapping[str, Any]
    graph: Graph | None = None


def served_models(
    manifest: Manifest, chosen: Settled, profiles: Mapping[str, int], tensorrt: str | None
) -> list[ServedModel]:
    """The models of a bundle.

    Args:
        profiles: how many optimization profiles the engine of each graph has.
        tensorrt: version that built them; None without engines.
    """
    integers = "int64"
    if chosen.backend == "tensorrt" and tensorrt is not None:
        integers = "int64" if int(tensorrt.split(".")[0]) >= FIRST_WITH_INT64 else "int32"
    graphs = _Graphs(manifest, chosen, profiles, integers)
    vision = graphs.vision()
    if manifest.graphs.decoder is None:
        return [_ensemble(manifest, chosen, vision), _preprocess(manifest, chosen), vision]
    answer = _answer(chosen, vision.name, graphs.decoder_name, integers)
    return [answer, *graphs.decoders(manifest.graphs.decoder), vision]


@dataclass(frozen=True)
class _Graphs:
    """The models that run a graph."""

    manifest: Manifest
    chosen: Settled
    profiles: Mapping[str, int]
    integers: str

    @property
    def decoder_name(self) -> str:
        """Of the decoder; `{gpu}` stands for the number."""
        return f"{self.chosen.name}_decoder" + ("_gpu{gpu}" if self.chosen.gpus else "")

    def vision(self) -> ServedModel:
        graph, batch = self.manifest.graphs.vision, self.chosen.batch_tiles
        name = f"{self.chosen.name}_vision"
        config = self._config(name, graph, "vision", self.chosen.gpus)
        if batch:
            text, tokens = self.manifest.model.text, self.manifest.model.vision.tokens_per_tile
            (embeds,) = (value for value in graph.outputs if value.name == EMBEDS)
            seen = Value(TILE_EMBEDS, embeds.dtype, ("tiles", tokens, text.hidden))
            config |= {
                "max_batch_size": batch,
                "input": [_tensor(value, skip=1) for value in graph.inputs],
                "output": [_tensor(seen, skip=1)],
                "dynamic_batching": {"max_queue_delay_microseconds": QUEUE_MICROSECONDS},
            }
        return ServedModel(name, "vision", config, graph)

    def decoders(self, graph: Graph) -> list[ServedModel]:
        """One, or one on each GPU."""
        found = []
        each: list[tuple[int, ...]] = [(gpu,) for gpu in self.chosen.gpus]
        for gpus in each or [()]:
            name = self.decoder_name.replace("{gpu}", "".join(map(str, gpus)))
            config = self._config(name, graph, "decoder", gpus)
            found.append(ServedModel(name, "decoder", config, graph))
        return found

    def _config(self, name: str, graph: Graph, which: str, gpus: tuple[int, ...]) -> dict[str, Any]:
        chosen = self.chosen
        backend = BACKENDS[chosen.backend]
        group = _group(gpus, chosen.instances)
        if chosen.backend == "tensorrt" and self.profiles[which] > 1:
            group["profile"] = [str(number) for number in range(self.profiles[which])]
        library = chosen.custom_op
        return {
            "name": name,
            "backend": chosen.backend,
            "platform": backend.platform,
            "default_model_filename": None if chosen.backend == "python" else backend.file,
            "max_batch_size": 0,
            "version_policy": {"latest": {"num_versions": 1}},
            "input": [_tensor(value, integers=self.integers) for value in graph.inputs],
            "output": [_tensor(value, integers=self.integers) for value in graph.outputs],
            "instance_group": [group],
            "model_operations": {"op_library_filename": [str(library)]} if library else None,
            "parameters": _parameters(self._settings()),
        }

    def _settings(self) -> dict[str, str]:
        """Parameters of the backend."""
        if self.chosen.backend == "onnxruntime":
            # As in our own sessions: a plan of the memory for every length is gigabytes.
            return {"enable_mem_pattern": "0"}
        if self.chosen.backend == "python":
            return {"precision": self.manifest.precision}
        return {}


def _answer(chosen: Settled, vision: str, decoder: str, integers: str) -> ServedModel:
    settings = {
        "vision_model": vision,
        "decoder_model": decoder,
        "integers": integers,
        "tile_axis": "true" if chosen.batch_tiles else "false",
    }
    config = _python(chosen) | {
        "model_transaction_policy": {"decoupled": True},
        "input": [
            _named("prompt", "string", [1]),
            _named("image", "string", [-1]),
            _named("system", "string", [1], optional=True),
            _named("max_new_tokens", "int32", [1], optional=True),
            _named("temperature", "float32", [1], optional=True),
            _named("top_p", "float32", [1], optional=True),
            _named("seed", "int64", [1], optional=True),
        ],
        "output": [
            _named("text", "string", [1]),
            _named("finish", "string", [1]),
            _named("tokens", "int32", [-1]),
            _named("kept_indices", "int32", [-1]),
            _named("kept_lengths", "int32", [-1]),
        ],
        "instance_group": [_group(chosen.gpus, ANSWERS_PER_DECODER * chosen.instances)],
        "parameters": _parameters(settings),
    }
    return ServedModel(chosen.name, "answer", config)


def _preprocess(manifest: Manifest, chosen: Settled) -> ServedModel:
    config = _python(chosen) | {
        "name": f"{chosen.name}_preprocess",
        "input": [_named(name, "string", [1]) for name in _asked(manifest)],
        "output": [_tensor(value) for value in manifest.graphs.vision.inputs],
        "instance_group": [_group((), ANSWERS_PER_DECODER * chosen.instances)],
    }
    return ServedModel(f"{chosen.name}_preprocess", "preprocess", config)


def _ensemble(manifest: Manifest, chosen: Settled, vision: ServedModel) -> ServedModel:
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
        "input": [_named(name, "string", [1]) for name in asked],
        "output": [_tensor(value) for value in graph.outputs],
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


def _group(gpus: tuple[int, ...], count: int) -> dict[str, Any]:
    if gpus:
        return {"kind": Word("KIND_GPU"), "count": count, "gpus": list(gpus)}
    return {"kind": Word("KIND_CPU"), "count": count}


def _tensor(value: Value, *, skip: int = 0, integers: str = "int64") -> dict[str, Any]:
    """An input or output of a graph; without its first `skip` dimensions, which are the batch."""
    dtype = NARROW[value.dtype] if integers == "int32" and value.dtype in NARROW else value.dtype
    dims = [-1 if isinstance(size, str) else size for size in value.shape[skip:]]
    return _named(value.name, dtype, dims)


def _named(name: str, dtype: str, dims: list[int], *, optional: bool = False) -> dict[str, Any]:
    found = {"name": name, "data_type": Word(f"TYPE_{TYPES[dtype]}"), "dims": dims}
    return found | {"optional": True} if optional else found


def _same(names: Iterable[str]) -> list[dict[str, str]]:
    return [{"key": name, "value": name} for name in names]


def _parameters(settings: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"string_value": value}} for key, value in settings.items()]
