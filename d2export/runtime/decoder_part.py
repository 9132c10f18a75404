"""Look inside a decoder graph: some of its values, from a session over what they need."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from d2export.runtime.decoder import DecoderRunner, Prompt

if TYPE_CHECKING:
    import onnxruntime


class DecoderPart:
    """Values inside a decoder graph for a prompt that begins a sequence. Needs the onnx package.

    Nothing else runs or is loaded: for the importance of InternVL2.5-8B with K = 2, two layers of
    32; for the states behind a layer, given those before it, that layer.

    Args:
        decoder: whose graph it is, and how it runs.
        outputs: names of values inside, as in `export.decoder.trace_decoder`.
        given: names of values inside that are passed in, instead of being computed.
    """

    def __init__(
        self, decoder: DecoderRunner, outputs: tuple[str, ...], given: tuple[str, ...] = ()
    ) -> None:
        self._decoder, self._outputs, self._given = decoder, outputs, given

    @cached_property
    def session(self) -> onnxruntime.InferenceSession:
        """The part of the graph."""
        return self._decoder.open(self._outputs, self._given)

    def __call__(
        self, prompt: Prompt, values: Mapping[str, npt.NDArray[Any]] | None = None
    ) -> list[npt.NDArray[Any]]:
        """The outputs, in their order.

        Args:
            values: the given ones by name; others are ignored.

        Raises:
            UsageError: the prompt is longer than the model's context.
            BundleError: ONNX Runtime cannot run the graph on it.
        """
        feeds = self._decoder.feeds(prompt) | self._decoder.nothing_before() | dict(values or {})
        wanted = {value.name for value in self.session.get_inputs()}
        with self._decoder.explained():
            return list(self.session.run(self._outputs, {name: feeds[name] for name in wanted}))
