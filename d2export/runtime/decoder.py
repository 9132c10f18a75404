"""Run a bundle's decoder graph: a prompt in, the next token's logits out, again and again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from d2export.bundle.folder import Bundle
from d2export.engine.onnxruntime import open_session
from d2export.errors import BundleError, UsageError

if TYPE_CHECKING:
    import onnxruntime

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Prompt:
    """New tokens of a sequence: a prompt with its images, or one token of an answer.

    Attributes:
        input_ids: `[T]` int64; at visual positions any id of the vocabulary.
        image_embeds: `[V, hidden]`, the visual tokens of all images.
        visual_positions: `[V]` int64, ascending, image after image.
        image_lengths: `[I]` int64.
        token_grid: `[V, 2]` float32, token centres, each on the canvas of its own image.
        prior: `[V]` float32; used with a prior file only.
        text_positions: `[D]` int64, ascending: text that pruning may drop.
        origin: `[T]` int64, ascending: where these tokens were, before the vision graph left some
            out.
        contiguous: whether position ids count the tokens that are left; else they are `origin`.
    """

    input_ids: npt.NDArray[np.int64]
    image_embeds: npt.NDArray[Any]
    visual_positions: npt.NDArray[np.int64]
    image_lengths: npt.NDArray[np.int64]
    token_grid: Float32
    prior: Float32
    text_positions: npt.NDArray[np.int64]
    origin: npt.NDArray[np.int64]
    contiguous: bool = False

    @property
    def position_ids(self) -> npt.NDArray[np.int64]:
        """`[T]` int64, from 0."""
        return np.arange(len(self.origin)) if self.contiguous else self.origin

    def followed_by(self, tokens: list[int]) -> Prompt:
        """The prompt with tokens of text behind it, as if its answer were known."""
        after = int(self.origin[-1]) + 1 + np.arange(len(tokens))
        return replace(
            self,
            input_ids=np.concatenate([self.input_ids, np.array(tokens, np.int64)]),
            origin=np.concatenate([self.origin, after]),
        )


def whole_prompt(
    input_ids: npt.NDArray[np.int64],
    image_embeds: npt.NDArray[Any],
    visual_positions: npt.NDArray[np.int64],
    image_lengths: npt.NDArray[np.int64],
    token_grid: Float32,
    prior: Float32,
) -> Prompt:
    """A prompt with all its visual tokens, none of whose words may be dropped."""
    return Prompt(
        input_ids,
        image_embeds,
        visual_positions,
        image_lengths,
        token_grid,
        prior,
        np.zeros(0, np.int64),
        np.arange(len(input_ids)),
    )


def text_prompt(ids: npt.NDArray[np.int64], hidden: int) -> Prompt:
    """Tokens without an image."""
    nothing = np.zeros(0, np.int64)
    return whole_prompt(
        ids,
        np.zeros((0, hidden), np.float32),
        nothing,
        nothing,
        np.zeros((0, 2), np.float32),
        np.zeros(0, np.float32),
    )


@dataclass(frozen=True, eq=False)
class Step:
    """What one call of the decoder answered.

    Attributes:
        logits: `[vocab]` float32 of the token to come.
        positions: `[S]` int32, which tokens of the prompt survived, as `Prompt.origin` counts.
        seconds: wall time of the graph.
    """

    logits: Float32
    positions: npt.NDArray[np.int32]
    seconds: float


class Sequence:
    """Keys and values of one sequence, in the memory of the provider; made by `DecoderRunner`."""

    def __init__(self, past: dict[str, Any]) -> None:
        self.length = 0
        self.past = past


class DecoderRunner:
    """A session over the decoder graph of a bundle.

    Args:
        bundle: an opened bundle of scope `vlm`.
        provider: `cpu` or `cuda`.
        threads: of one operator; all cores if None.
        attributes: of the pruning op, instead of those in the bundle. Needs the onnx package.

    Raises:
        UsageError: the bundle has no decoder.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        provider: str = "cpu",
        threads: int | None = None,
        attributes: Mapping[str, int] | None = None,
    ) -> None:
        if bundle.manifest.graphs.decoder is None:
            raise UsageError(
                f"{bundle.root} has scope '{bundle.manifest.scope}', so it has no language model",
                "Build it with --scope vlm.",
            )
        self.bundle = bundle
        self.graph = bundle.manifest.graphs.decoder
        self.text = bundle.manifest.model.text
        self._provider, self._threads, self._attributes = provider, threads, attributes

    @cached_property
    def session(self) -> onnxruntime.InferenceSession:
        """The decoder graph."""
        return self.open()

    def open(
        self, only_outputs: tuple[str, ...] = (), given: tuple[str, ...] = ()
    ) -> onnxruntime.InferenceSession:
        """A new session over the graph or a part of it, on this runner's provider and threads."""
        return open_session(
            self.bundle.path(self.graph.path),
            precision=self.bundle.manifest.precision,
            provider=self._provider,
            threads=self._threads,
            only_outputs=only_outputs,
            given=given,
            attributes=self._attributes,
        )

    @cached_property
    def dtype(self) -> Any:
        """Of visual tokens, keys and values: bfloat16 is emulated in float32."""
        types = {value.name: value.dtype for value in self.graph.inputs}
        return np.float16 if types["image_embeds"] == "float16" else np.float32

    def start(self) -> Sequence:
        """A sequence without tokens."""
        return Sequence({name: _value(array) for name, array in self.nothing_before().items()})

    def prefill(self, sequence: Sequence, prompt: Prompt) -> Step:
        """Append a prompt with its images.

        Raises:
            UsageError: the sequence becomes longer than the model's context.
            BundleError: ONNX Runtime cannot run the graph on it.
        """
        logits, positions, seconds = self._append(sequence, self.feeds(prompt, sequence.length))
        survived = prompt.origin if positions is None else prompt.origin[positions]
        sequence.length += int(prompt.position_ids[-1]) + 1
        return Step(logits, survived.astype(np.int32), seconds)

    def _append(
        self, sequence: Sequence, feeds: dict[str, npt.NDArray[Any]]
    ) -> tuple[Float32, npt.NDArray[np.int32] | None, float]:
        """Run the graph behind a sequence, whose keys and values become longer.

        Returns:
            logits `[vocab]`; which of the new tokens survived, if this decoder prunes; seconds.
        """
        binding = self.session.io_binding()
        for name in self._prompt_inputs:
            binding.bind_ortvalue_input(name, _value(feeds[name]))
        for name, value in sequence.past.items():
            binding.bind_ortvalue_input(name, value)
        for output in self.graph.outputs:
            kept_there = self._provider if output.name.startswith("present.") else "cpu"
            binding.bind_output(output.name, kept_there)
        start = time.perf_counter()
        with self.explained():
            self.session.run_with_iobinding(binding)
        seconds = time.perf_counter() - start
        logits, *others = binding.get_outputs()
        prunes = len(others) > len(self._cache_inputs)
        positions = others.pop(0).numpy() if prunes else None
        sequence.past = dict(zip(self._cache_inputs, others, strict=True))
        return logits.numpy()[0], positions, seconds

    def step(self, sequence: Sequence, token: int) -> Step:
        """Append one token of text."""
        return self.prefill(sequence, text_prompt(np.array([token], np.int64), self.text.hidden))

    def feeds(self, prompt: Prompt, before: int = 0) -> dict[str, npt.NDArray[Any]]:
        """A prompt behind `before` positions, as all inputs that a decoder graph may have.

        Raises:
            UsageError: together they are longer than the model's context.
        """
        length = before + int(prompt.position_ids[-1]) + 1
        if length > self.text.max_positions:
            raise UsageError(
                f"the prompt has {length} tokens, this model's context {self.text.max_positions}",
                "Use fewer or smaller pictures, or a shorter prompt.",
            )
        return {
            "input_ids": prompt.input_ids[None],
            "image_embeds": np.ascontiguousarray(prompt.image_embeds, self.dtype),
            "visual_positions": prompt.visual_positions,
            "image_lengths": prompt.image_lengths,
            "token_grid": prompt.token_grid,
            "prior": prompt.prior,
            "text_positions": prompt.text_positions,
            "position_ids": (before + prompt.position_ids)[None],
        }

    def nothing_before(self) -> dict[str, npt.NDArray[Any]]:
        """Keys and values of no token, as inputs of the graph."""
        nothing = np.zeros((1, self.text.kv_heads, 0, self.text.head_dim), self.dtype)
        return dict.fromkeys(self._cache_inputs, nothing)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns ONNX Runtime's own exceptions into a BundleError."""
        try:
            yield
        except Exception as error:  # bare types of C++ bindings; with a binding, a RuntimeError
            if type(error) is RuntimeError or type(error).__module__.startswith("onnxruntime"):
                raise BundleError(
                    f"ONNX Runtime cannot run {self.graph.path} of {self.bundle.root}: "
                    f"{' '.join(str(error).split())[:400]}",
                    "Is there enough memory? Else build the bundle again.",
                ) from None
            raise

    @cached_property
    def _cache_inputs(self) -> list[str]:
        names = [value.name for value in self.graph.inputs]
        return [name for name in names if name.startswith("past_key_values.")]

    @cached_property
    def _prompt_inputs(self) -> list[str]:
        names = [value.name for value in self.graph.inputs]
        return [name for name in names if not name.startswith("past_key_values.")]


def _value(array: npt.NDArray[Any]) -> onnxruntime.OrtValue:
    import onnxruntime as ort

    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
