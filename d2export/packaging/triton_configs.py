"""The models that a bundle becomes in Triton, and the configuration of each.

Scope `vlm`: `NAME` answers. It is a Python model that looks at the pictures, then asks
`NAME_vision` and, for each token, `NAME_decoder`; keys and values are inputs and outputs. An
ensemble cannot do that, because it has no loop. With GPUs each has a decoder of its own, so that
keys and values never move from one to another.

Scope `vision`: `NAME` is an ensemble of `NAME_preprocess`, in Python, and `NAME_vision`.

Field names and constants are those of Triton's model_config.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from d2export.bundle.manifest import Manifest
from d2export.bundle.records import Graph, Value
from d2export.packaging.onnx_edits import EMBEDS, TILE_EMBEDS
from d2export.packaging.triton_choices import BACKENDS, Settled
from d2export.packaging.triton_fields import ServedModel, group, parameters, tensor
from d2export.packaging.triton_fronts import answer, ensemble, preprocess

FIRST_WITH_INT64 = 10
QUEUE_MICROSECONDS = 2000  # how long a tile waits for others: little beside the tower's time


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
        return [ensemble(manifest, chosen, vision), preprocess(manifest, chosen), vision]
    front = answer(chosen, vision.name, graphs.decoder_name, integers)
    return [front, *graphs.decoders(manifest.graphs.decoder), vision]


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
                "input": [tensor(value, skip=1) for value in graph.inputs],
                "output": [tensor(seen, skip=1)],
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
        instances = group(gpus, chosen.instances)
        if chosen.backend == "tensorrt" and self.profiles[which] > 1:
            instances["profile"] = [str(number) for number in range(self.profiles[which])]
        library = chosen.custom_op
        return {
            "name": name,
            "backend": chosen.backend,
            "platform": backend.platform,
            "default_model_filename": None if chosen.backend == "python" else backend.file,
            "max_batch_size": 0,
            "version_policy": {"latest": {"num_versions": 1}},
            "input": [tensor(value, integers=self.integers) for value in graph.inputs],
            "output": [tensor(value, integers=self.integers) for value in graph.outputs],
            "instance_group": [instances],
            "model_operations": {"op_library_filename": [str(library)]} if library else None,
            "parameters": parameters(self._settings()),
        }

    def _settings(self) -> dict[str, str]:
        """Parameters of the backend."""
        if self.chosen.backend == "onnxruntime":
            # As in our own sessions: a plan of the memory for every length is gigabytes.
            return {"enable_mem_pattern": "0"}
        if self.chosen.backend == "python":
            return {"precision": self.manifest.precision}
        return {}
