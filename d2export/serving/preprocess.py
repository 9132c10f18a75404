"""The model in front of a vision graph of scope `vision`: a picture in, its tiles out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from d2export.bundle.folder import read_bundle
from d2export.errors import D2ExportError, UsageError
from d2export.models.images import load_image
from d2export.models.tiling import tile
from d2export.runtime.prompt import embed_prompt
from d2export.runtime.vision import vision_inputs
from d2export.serving.requests import pictures, text


class PreprocessModel:
    """Triton's interface of a Python model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the bundle; `args` are as in `AnswerModel.initialize`."""
        inside = Path(args["model_repository"], args["model_version"], "bundle")
        self._bundle = read_bundle(inside, verify=False)
        config = json.loads(args["model_config"])
        self._outputs = [output["name"] for output in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        """The inputs of the vision graph for each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            with pictures(request) as files:
                if len(files) != 1:
                    raise UsageError(f"{len(files)} pictures were sent, expected 1", "Send one.")
                tiles = tile(load_image(files[0]), self._bundle.manifest.model.vision)
            prompt = text(request, "prompt")
            embeds = None if prompt is None else embed_prompt(self._bundle, prompt)
        except D2ExportError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        spec = self._bundle.manifest.model.vision
        inputs = vision_inputs(tiles.pixels, tiles.grid, spec, embeds)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, inputs[name]) for name in self._outputs]
        )
