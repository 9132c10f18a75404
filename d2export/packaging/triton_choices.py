"""How a bundle is to be served by Triton: what a user chose, and whether the bundle allows it."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from d2export.bundle.folder import Bundle
from d2export.bundle.manifest import Manifest
from d2export.bundle.processor import TOKENIZER
from d2export.engine.optimization_profiles import most_tiles
from d2export.errors import UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
LEAST_BATCH = 8  # tiles; a model that cuts nothing still gains from seeing several pictures


class Backend(NamedTuple):
    """One of Triton's backends: the file it opens, and `platform` where it has one."""

    file: str
    platform: str | None


BACKENDS = {
    "onnxruntime": Backend("model.onnx", "onnxruntime_onnx"),
    "tensorrt": Backend("model.plan", "tensorrt_plan"),
    "python": Backend("model.onnx", None),
}


@dataclass(frozen=True)
class Choices:
    """What a user chose; None where the bundle decides.

    Attributes:
        name: of the model that clients ask.
        backend: of the graphs, a key of `BACKENDS`.
        gpus: numbers of the GPUs; empty for the CPU.
        instances: of each graph on each device.
        batch_tiles: tiles of several requests in one call of the vision graph, at most.
        custom_op: where the server has the op's library for ONNX Runtime.
    """

    name: str | None = None
    backend: str | None = None
    gpus: tuple[int, ...] = ()
    instances: int = 1
    batch_tiles: int | None = None
    custom_op: Path | None = None

    @classmethod
    def parsed(
        cls,
        name: str | None,
        backend: str | None,
        gpus: str | None,
        instances: int,
        batch_tiles: int | None,
        custom_op: Path | None,
    ) -> Choices:
        """The choices as they are typed.

        Raises:
            UsageError: one makes no sense.
        """
        if name is not None and not NAME.fullmatch(name):
            raise UsageError(
                f"--name is '{name}', expected letters, digits, '_', '-' and '.'",
                "It names folders, and a part of the URL.",
            )
        if backend is not None and backend not in BACKENDS:
            raise UsageError(
                f"--backend is '{backend}', expected one of {', '.join(BACKENDS)}",
                "Leave it out for tensorrt where the bundle has engines, else onnxruntime.",
            )
        if instances < 1:
            raise UsageError(f"--instances is {instances}, expected at least 1", "Leave it out.")
        if custom_op is not None and not custom_op.is_absolute():
            raise UsageError(
                f"--custom-op is '{custom_op}', expected an absolute path",
                "Name the file where the server will have it: Triton opens it as it is written.",
            )
        return cls(name, backend, _numbers(gpus), instances, batch_tiles, custom_op)

    def settled(self, bundle: Bundle, engines: Collection[str]) -> Settled:
        """The choices for a bundle, with nothing left open.

        Args:
            engines: graphs that the bundle has engines of.

        Raises:
            UsageError: the bundle does not allow them.
        """
        manifest = bundle.manifest
        graphs = ["vision", *(["decoder"] if manifest.graphs.decoder is not None else [])]
        have_all = set(graphs) <= set(engines)
        backend = self.backend or ("tensorrt" if have_all else "onnxruntime")
        if backend == "tensorrt" and not have_all:
            missing = next(name for name in graphs if name not in engines)
            raise UsageError(
                f"--backend is 'tensorrt', and {bundle.root} has no engine of {missing}",
                f"On the machine that will serve it: d2export build {bundle.root} --target auto",
            )
        if backend == "python" and self.gpus:
            raise UsageError(
                f"--gpus is '{','.join(map(str, self.gpus))}' with --backend python, which runs "
                "graphs on the CPU",
                "Leave one of them out.",
            )
        if self.custom_op is not None and backend != "onnxruntime":
            raise UsageError(
                f"--custom-op is for --backend onnxruntime, not {backend}", "Leave it out."
            )
        _refuse_bfloat16(manifest, backend)
        _refuse_without_words(bundle)
        gpus = self.gpus or ((0,) if backend == "tensorrt" else ())
        name = self.name or re.sub(r"[^A-Za-z0-9_.-]", "_", manifest.model.name)
        return Settled(
            name if NAME.fullmatch(name) else "model",
            backend,
            gpus,
            self.instances,
            self._batch(manifest, backend),
            self.custom_op,
        )

    def _batch(self, manifest: Manifest, backend: str) -> int:
        """Tiles in one call of a graph that sees each by itself; 0 for one request at a time."""
        why = None
        if manifest.scope == "vision" or manifest.plan.in_vision:
            why = "its vision graph prunes, which is about one picture at a time"
        elif backend == "tensorrt":
            why = "an engine gives the tokens of all tiles in one row, as it was built"
        if why is not None:
            if self.batch_tiles is not None:
                raise UsageError(
                    f"--batch-tiles is {self.batch_tiles}, and this bundle sees one request at a "
                    f"time: {why}",
                    "Leave it out; --instances runs several at once.",
                )
            return 0
        most = most_tiles(manifest.model.vision)
        if self.batch_tiles is not None and self.batch_tiles < most:
            raise UsageError(
                f"--batch-tiles is {self.batch_tiles}, expected at least {most}: the largest "
                "picture has that many tiles",
                f"Leave it out for {max(most, LEAST_BATCH)}.",
            )
        return self.batch_tiles or max(most, LEAST_BATCH)


class Settled(NamedTuple):
    """`Choices` with nothing left open; `batch_tiles` is 0 where requests are not put together."""

    name: str
    backend: str
    gpus: tuple[int, ...]
    instances: int
    batch_tiles: int
    custom_op: Path | None


def _numbers(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    if not re.fullmatch(r"\d{1,3}(,\d{1,3})*", text):
        raise UsageError(
            f"--gpus is '{text}', expected numbers with commas between them",
            "For example --gpus 0,1; leave it out for the CPU.",
        )
    numbers = tuple(map(int, text.split(",")))
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"--gpus is '{text}', which names a GPU twice", "Name each once.")
    return numbers


def _refuse_bfloat16(manifest: Manifest, backend: str) -> None:
    """BF16 has no numpy type, so Triton's Python backend cannot hold its keys and values."""
    if manifest.precision == "bf16" and (manifest.scope == "vlm" or backend == "python"):
        raise UsageError(
            "the bundle has precision bf16, which Triton's Python backend cannot pass on",
            "Export again with --precision fp16.",
        )


def _refuse_without_words(bundle: Bundle) -> None:
    """Whoever is asked in words needs a tokenizer, and in scope `vision` the table of words."""
    manifest = bundle.manifest
    asked = manifest.scope == "vlm" or manifest.plan.importance == "text"
    missing = None
    if asked and f"processor/{TOKENIZER}" not in manifest.files:
        missing = "tokenizer"
    elif asked and manifest.scope == "vision" and manifest.prompt_embedding is None:
        missing = "embedding table"
    if missing is not None:
        raise UsageError(
            f"{bundle.root} has no {missing}, so a server cannot be asked in words",
            "Export it again from a checkpoint that has one.",
        )
