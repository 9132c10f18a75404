"""The model that answers: pictures and a prompt in, text out, piece by piece."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from d2export.bundle.folder import read_bundle
from d2export.errors import D2ExportError, UsageError
from d2export.runtime.generate import Generation, Generator
from d2export.runtime.sampling import Sampling
from d2export.serving.remote import RemoteDecoder, RemoteVision
from d2export.serving.requests import number, pictures, text

MAX_NEW_TOKENS = 256
FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class AnswerModel:
    """Triton's interface of a Python model; it sends any number of responses to a request."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the bundle and find the two models.

        Args:
            args: of Triton: `model_config` as JSON, `model_repository`, `model_version`, and
                `model_instance_device_id` of the GPU.
        """
        parameters = json.loads(args["model_config"])["parameters"]
        settings = {name: value["string_value"] for name, value in parameters.items()}
        inside = Path(args["model_repository"], args["model_version"], "bundle")
        bundle = read_bundle(inside, verify=False)  # the rest of it lies with the other models
        decoder = settings["decoder_model"].replace("{gpu}", args["model_instance_device_id"])
        tile_axis = settings["tile_axis"] == "true"
        self._generator = Generator(bundle)
        self._generator.vision = RemoteVision(bundle, settings["vision_model"], tile_axis=tile_axis)
        self._generator.decoder = RemoteDecoder(bundle, decoder, settings["integers"])
        _ = self._generator.tokenizer  # a bundle that lacks it is refused now

    def execute(self, requests: list[Any]) -> None:
        """Answer each request; a mistake of its client is its error."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                last = pb_utils.InferenceResponse(_last(self._answer(request, sender)))
            except _CancelledError:
                sender.send(flags=FINAL)
                continue
            except D2ExportError as error:
                last = pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
            sender.send(last, flags=FINAL)

    def _answer(self, request: Any, sender: Any) -> Generation:
        def say(piece: str) -> None:
            if sender.is_cancelled():
                raise _CancelledError
            sender.send(pb_utils.InferenceResponse([_texts("text", piece)]))

        prompt = text(request, "prompt")
        assert prompt is not None, "Triton refuses a request without it"
        limit = number(request, "max_new_tokens")
        with pictures(request) as images:
            return self._generator.answer(
                images,
                prompt,
                max_new_tokens=MAX_NEW_TOKENS if limit is None else limit,
                sampling=_sampling(request),
                system=text(request, "system"),
                on_text=say,
            )


class _CancelledError(Exception):
    """The client does not want the rest."""


def _sampling(request: Any) -> Sampling | None:
    """How tokens are drawn; None for the most likely ones, without a temperature."""
    temperature, top_p, seed = (number(request, n) for n in ("temperature", "top_p", "seed"))
    if temperature is None:
        if top_p is not None or seed is not None:
            raise UsageError(
                "top_p and seed have no effect without temperature",
                "Send temperature, or leave them out.",
            )
        return None
    return Sampling(
        temperature,
        top_p=1.0 if top_p is None else top_p,
        seed=0 if seed is None else seed,
    )


def _last(generation: Generation) -> list[Any]:
    """What is known when an answer ends."""
    kept = generation.kept
    return [
        _texts("text", ""),
        _texts("finish", generation.finish),
        _integers("tokens", generation.tokens),
        _integers("kept_indices", np.concatenate(kept)),
        _integers("kept_lengths", [len(indices) for indices in kept]),
    ]


def _texts(name: str, value: str) -> Any:
    return pb_utils.Tensor(name, np.array([value.encode()], np.object_))


def _integers(name: str, values: Any) -> Any:
    return pb_utils.Tensor(name, np.asarray(values, np.int32))
