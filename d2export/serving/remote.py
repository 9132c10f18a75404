"""A bundle's two graphs as models of the same Triton server, asked from its Python backend.

They stand in for `VisionRunner` and `DecoderRunner`, so that an answer is made by the code that
makes it outside of a server.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

from d2export.bundle.folder import Bundle
from d2export.errors import BundleError
from d2export.packaging.onnx_edits import EMBEDS, TILE_EMBEDS
from d2export.runtime.decoder import DecoderRunner, Prompt, Sequence, Step
from d2export.runtime.vision import Inputs, VisionRunner

PAST, PRESENT = "past_key_values.", "present."


def ask(model: str, inputs: list[Any], outputs: list[str]) -> dict[str, Any]:
    """One call of a model; its outputs, in the CPU's memory, by name.

    Raises:
        BundleError: the model refuses.
    """
    request = pb_utils.InferenceRequest(
        model_name=model,
        requested_output_names=outputs,
        inputs=inputs,
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
    )
    response = request.exec()
    if response.has_error():
        raise BundleError(
            f"the model {model} cannot be asked: {response.error().message()}",
            "The log of the server says more.",
        )
    return {tensor.name(): tensor for tensor in response.output_tensors()}


class RemoteVision(VisionRunner):
    """The vision graph as a model.

    Args:
        bundle: whose graph it is.
        model: its name.
        tile_axis: whether its output has an axis of tiles in front.
    """

    def __init__(self, bundle: Bundle, model: str, *, tile_axis: bool) -> None:
        super().__init__(bundle)
        self._model, self._tile_axis = model, tile_axis

    def _answer(self, names: list[str], inputs: Inputs) -> list[npt.NDArray[Any]]:
        wanted = [TILE_EMBEDS if self._tile_axis and name == EMBEDS else name for name in names]
        sent = [
            pb_utils.Tensor(value.name, np.ascontiguousarray(inputs[value.name]))
            for value in self.bundle.manifest.graphs.vision.inputs
        ]
        found = ask(self._model, sent, wanted)
        arrays = [np.array(found[name].as_numpy()) for name in wanted]
        if self._tile_axis:
            return [array.reshape(-1, array.shape[-1]) for array in arrays]
        return arrays


class RemoteDecoder(DecoderRunner):
    """The decoder as a model; keys and values come back with each answer and go with the next.

    Args:
        bundle: whose graph it is.
        model: its name.
        integers: the type its integers have: `int64`, or `int32` in an engine of TensorRT 8.
    """

    def __init__(self, bundle: Bundle, model: str, integers: str) -> None:
        super().__init__(bundle)
        self._model, self._integers = model, np.dtype(integers)

    def start(self) -> Sequence:
        """A sequence without tokens."""
        nothing = {name: pb_utils.Tensor(name, a) for name, a in self.nothing_before().items()}
        return Sequence(nothing)

    def prefill(self, sequence: Sequence, prompt: Prompt) -> Step:
        """Append a prompt with its images; as `DecoderRunner.prefill`."""
        feeds = self.feeds(prompt, sequence.length)
        named: Mapping[str, Any] = sequence.past
        sent = [
            named[value.name] if value.name in named else self._sent(value.name, feeds[value.name])
            for value in self.graph.inputs
        ]
        start = time.perf_counter()
        found = ask(self._model, sent, [value.name for value in self.graph.outputs])
        seconds = time.perf_counter() - start
        survived = prompt.origin
        if "positions" in found:  # this decoder prunes
            survived = survived[found["positions"].as_numpy()]
        past = {}
        for name, tensor in found.items():
            if name.startswith(PRESENT):
                before = PAST + name.removeprefix(PRESENT)
                past[before] = pb_utils.Tensor.from_dlpack(before, tensor.to_dlpack())
        sequence.past = past
        sequence.length += int(prompt.position_ids[-1]) + 1
        logits = np.array(found["logits"].as_numpy()[0])
        return Step(logits, survived.astype(np.int32), seconds)

    def _sent(self, name: str, array: npt.NDArray[Any]) -> Any:
        if array.dtype == np.int64:
            array = array.astype(self._integers)
        return pb_utils.Tensor(name, np.ascontiguousarray(array))
