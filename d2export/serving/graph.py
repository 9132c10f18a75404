"""A graph in ONNX Runtime's own Python package: for a server that has no other backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from d2export.engine.onnxruntime import open_session

MODEL = "model.onnx"


class GraphModel:
    """Triton's interface of a Python model, over one graph with the same inputs and outputs.

    Where the model takes batches, the requests of a call are put together along the first axis,
    and their answers taken apart again.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graph; `args` are as in `AnswerModel.initialize`."""
        config = json.loads(args["model_config"])
        self._inputs = [value["name"] for value in config["input"]]
        self._outputs = [value["name"] for value in config["output"]]
        self._batches = config["max_batch_size"] > 0
        self._session = open_session(
            Path(args["model_repository"], args["model_version"], MODEL),
            precision=config["parameters"]["precision"]["string_value"],
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run the graph for the requests, together or one after the other."""
        asked = [self._feeds(request) for request in requests]
        if not self._batches:
            return [self._response(self._session.run(self._outputs, feeds)) for feeds in asked]
        together = {name: np.concatenate([one[name] for one in asked]) for name in self._inputs}
        answers = self._session.run(self._outputs, together)
        ends = np.cumsum([len(one[self._inputs[0]]) for one in asked])[:-1]
        apart = zip(*(np.split(answer, ends) for answer in answers), strict=True)
        return [self._response(parts) for parts in apart]

    def _feeds(self, request: Any) -> dict[str, Any]:
        return {
            name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in self._inputs
        }

    def _response(self, arrays: Any) -> Any:
        named = zip(self._outputs, arrays, strict=True)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, np.ascontiguousarray(array)) for name, array in named]
        )
