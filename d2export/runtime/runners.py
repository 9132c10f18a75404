"""What runs a bundle's graphs: ONNX Runtime, or the engines that TensorRT built from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from d2export.bundle.folder import Bundle
from d2export.engine.onnxruntime import PROVIDERS
from d2export.errors import UsageError
from d2export.runtime.built_engines import BuiltBundle
from d2export.runtime.decoder import DecoderRunner
from d2export.runtime.engine_decoder import EngineDecoderRunner
from d2export.runtime.engine_vision import EngineVisionRunner
from d2export.runtime.vision import VisionRunner

TENSORRT = "tensorrt"  # beside the providers of ONNX Runtime


def open_vision(
    bundle: Bundle,
    provider: str = "cpu",
    threads: int | None = None,
    plugin: Path | None = None,
) -> VisionRunner:
    """What runs the vision graph.

    Args:
        provider: `cpu` or `cuda` of ONNX Runtime, or `tensorrt`.
        threads: of one operator of ONNX Runtime; all cores if None.
        plugin: library of TensorRT's plugin; None: that of this installation.

    Raises:
        UsageError: an option has no effect with that provider, or the bundle has no engines.
        EnvironmentMismatch: the engines do not fit this machine.
    """
    if provider == TENSORRT:
        return EngineVisionRunner(_engines(bundle, threads, None, plugin))
    _refuse_others(plugin, provider)
    return VisionRunner(bundle, provider=provider, threads=threads)


def open_model(
    bundle: Bundle,
    provider: str = "cpu",
    threads: int | None = None,
    attributes: Mapping[str, int] | None = None,
    plugin: Path | None = None,
) -> tuple[VisionRunner, DecoderRunner]:
    """What runs the vision graph and the decoder graph of a bundle of scope `vlm`.

    Args:
        attributes: of the pruning ops, instead of those in the bundle; an engine has its own.

    Raises:
        UsageError, EnvironmentMismatch: as `open_vision`; or the bundle has no decoder.
    """
    if provider == TENSORRT:
        engines = _engines(bundle, threads, attributes, plugin)
        return EngineVisionRunner(engines), EngineDecoderRunner(engines)
    _refuse_others(plugin, provider)
    vision = VisionRunner(bundle, provider=provider, threads=threads, attributes=attributes)
    decoder = DecoderRunner(bundle, provider=provider, threads=threads, attributes=attributes)
    return vision, decoder


def _engines(
    bundle: Bundle,
    threads: int | None,
    attributes: Mapping[str, int] | None,
    plugin: Path | None,
) -> BuiltBundle:
    refuse_threads(threads)
    if attributes:
        raise UsageError(
            "an engine keeps as many tokens as it was built for, so it cannot be compared with "
            "other keep values, or unpruned",
            "Leave --provider tensorrt out: the ONNX graphs can.",
        )
    return BuiltBundle(bundle, plugin)


def refuse_threads(threads: int | None) -> None:
    """Raise a UsageError if engines are to have a number of threads."""
    if threads is not None:
        raise UsageError("--threads has no effect with --provider tensorrt", "Leave it out.")


def _refuse_others(plugin: Path | None, provider: str) -> None:
    """Raise a UsageError if there is no such provider, or a plugin it has no use for."""
    if provider not in PROVIDERS:
        raise UsageError(
            f"--provider is '{provider}', expected one of {', '.join((*PROVIDERS, TENSORRT))}",
            "Leave it out to run on the CPU.",
        )
    if plugin is not None:
        raise UsageError(
            f"--plugin has no effect with --provider {provider}", "Add --provider tensorrt."
        )
