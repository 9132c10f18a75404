"""Run a bundle's decoder engine, as `DecoderRunner` runs its decoder graph.

Keys and values never leave the GPU. An engine reads those of the past and writes those of past and
present, so a sequence has two places for them, which take turns.
"""

from __future__ import annotations

import time
import weakref
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from d2export.engine.optimization_profiles import DECODE, PREFILL
from d2export.engine.tensorrt_engine import free
from d2export.errors import UsageError
from d2export.runtime.built_engines import BuiltBundle, OpenedEngine
from d2export.runtime.decoder import DecoderRunner, Float32, Sequence

if TYPE_CHECKING:
    import onnxruntime

PROFILES = (PREFILL, DECODE)  # in the order of `decoder_profiles`
ROOM = 256  # positions that memory grows by, so that most tokens need no allocation

Memory = dict[str, Any]  # on the GPU, by output


class EngineSequence(Sequence):
    """Keys and values of one sequence on the GPU: `held` has the past, `spare` takes the next.

    Args:
        past: of no token.
        pool: where the memory goes when nobody has the sequence any more.
    """

    def __init__(self, past: dict[str, Any], pool: dict[str, list[Any]]) -> None:
        super().__init__(past)
        self.held: Memory = {}
        self.spare: Memory = {}
        self._places = [self.held, self.spare]
        weakref.finalize(self, _give_back, pool, self._places)

    def turn(self, written: Memory, past: dict[str, Any]) -> None:
        """What was written is the past now, and where that was is free."""
        self.held, self.spare = written, self.held
        self._places[:] = [self.held, self.spare]
        self.past = past


class EngineDecoderRunner(DecoderRunner):
    """The decoder engine of a bundle, opened when it is first needed.

    Raises:
        UsageError: the bundle has no decoder.
    """

    def __init__(self, engines: BuiltBundle) -> None:
        super().__init__(engines.bundle)
        self._engines = engines
        self._pool: dict[str, list[Any]] = {}
        weakref.finalize(self, _free, self._pool)

    @cached_property
    def opened(self) -> OpenedEngine:
        """The engine."""
        return self._engines.open("decoder")

    def open(
        self, only_outputs: tuple[str, ...] = (), given: tuple[str, ...] = ()
    ) -> onnxruntime.InferenceSession:
        """Refused: an engine has its outputs, and shows nothing inside."""
        raise UsageError(
            f"an engine cannot show {', '.join(only_outputs) or self.graph.path}",
            "Leave --provider tensorrt out: the ONNX graph shows it.",
        )

    def start(self) -> Sequence:
        """A sequence without tokens."""
        return EngineSequence(dict(self.nothing_before()), self._pool)

    def _append(
        self, sequence: Sequence, feeds: dict[str, npt.NDArray[Any]]
    ) -> tuple[Float32, npt.NDArray[np.int32] | None, float]:
        assert isinstance(sequence, EngineSequence), "made by another runner"
        engine = self.opened.engine
        one_behind_others = sequence.length > 0 and feeds["input_ids"].size == 1
        # An engine that trtexec 8.6 built has one profile for both.
        profile = min(PROFILES.index(DECODE if one_behind_others else PREFILL), engine.profiles - 1)
        memory = self._memory(sequence)
        start = time.perf_counter()
        engine.output_memory.update(memory)
        found = engine.run({**feeds, **sequence.past}, profile)
        logits = engine.read("logits", found["logits"])[0]
        positions = engine.read("positions", found["positions"]) if "positions" in found else None
        seconds = time.perf_counter() - start
        pairs = zip(self._cache_inputs, self._cache_outputs, strict=True)
        sequence.turn(memory, {given: found[returned] for given, returned in pairs})
        return logits, positions, seconds

    def _memory(self, sequence: EngineSequence) -> Memory:
        """Where the next keys and values go: other places than those they are read from."""
        engine, memory = self.opened.engine, {}
        for given, returned in zip(self._cache_inputs, self._cache_outputs, strict=True):
            room = sequence.spare.get(returned)
            if room is None:
                unused = self._pool.get(returned)
                room = unused.pop() if unused else engine.new_memory(1)
            past = sequence.past[given]
            length = past.shape[-2]
            if length and room.allocated_nbytes < past.nbytes // length * (length + 1):
                engine.grow(room, past.nbytes // length * (length + ROOM))
            memory[returned] = room
        return memory

    @cached_property
    def _cache_outputs(self) -> list[str]:
        names = [value.name for value in self.graph.outputs]
        return [name for name in names if name.startswith("present.")]


def _give_back(pool: dict[str, list[Any]], places: list[Memory]) -> None:
    for memory in places:
        for name, room in memory.items():
            pool.setdefault(name, []).append(room)


def _free(pool: dict[str, list[Any]]) -> None:
    free([room for rooms in pool.values() for room in rooms])
