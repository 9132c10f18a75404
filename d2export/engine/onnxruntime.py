"""ONNX Runtime sessions: the backend that runs everywhere, on the CPU unless asked otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from d2export.engine import custom_op
from d2export.errors import BundleError, EnvironmentMismatch, UsageError

if TYPE_CHECKING:
    import onnxruntime

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def open_session(
    model: Path,
    *,
    precision: str = "fp32",
    provider: str = "cpu",
    threads: int | None = None,
    extra_outputs: tuple[str, ...] = (),
    only_outputs: tuple[str, ...] = (),
    given: tuple[str, ...] = (),
    attributes: Mapping[str, int] | None = None,
) -> onnxruntime.InferenceSession:
    """A session for the graph in the file `model`, whose weights lie beside it.

    `D2Prune` runs as `custom_op.selection_implementation(provider)` says.

    Args:
        precision: what the graph was cast to; `bf16` is emulated on the CPU.
        provider: `cpu` or `cuda`; never silently another one.
        threads: of one operator; all cores if None.
        extra_outputs: values inside the graph to return behind its own outputs.
        only_outputs: values inside the graph to return instead; only what they need runs.
        given: values inside the graph that are inputs then, instead of being computed.
        attributes: of the pruning ops, instead of those in the file.

    Raises:
        EnvironmentMismatch: ONNX Runtime, the provider, or a kernel for the graph is missing, or
            the native op cannot be loaded.
        UsageError: there is no such provider, or less than one thread is asked for.
        BundleError: the file is not a graph ONNX Runtime can read.
    """
    name = provider_name(provider, threads)
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    # A plan of the memory for each shape that comes would be held for good, beside the arena: with
    # prompts and answers of every length that is gigabytes, touched anew when a plan is first used.
    options.enable_mem_pattern = False
    if threads is not None:
        options.intra_op_num_threads = threads
    custom_op.register(options, provider)
    try:
        emulate = precision == "bf16" and provider == "cpu"
        source = _source(
            model, emulate, extra_outputs, only_outputs, given, attributes or {}, options
        )
        session = ort.InferenceSession(source, options, providers=[name])
    except Exception as error:  # onnxruntime raises bare types of its own C++ bindings
        if type(error).__module__.startswith("onnxruntime"):
            raise _explained(model, error) from None
        raise
    if name not in session.get_providers():  # it falls back by itself when a library is missing
        raise EnvironmentMismatch(
            f"{name} could not be loaded: its CUDA, cuBLAS or cuDNN libraries do not fit",
            "Install the versions this onnxruntime-gpu was built for, or use --provider cpu.",
        )
    return session


def provider_name(provider: str, threads: int | None = None) -> str:
    """ONNX Runtime's name of `provider`, after making sure that this machine has it.

    Raises:
        EnvironmentMismatch: ONNX Runtime or the provider is missing.
        UsageError: there is no such provider, or less than one thread is asked for.
    """
    if provider not in PROVIDERS:
        raise UsageError(
            f"--provider is '{provider}', expected one of {', '.join(PROVIDERS)}",
            "Leave it out to run on the CPU.",
        )
    if threads is not None and threads < 1:
        raise UsageError(
            f"--threads is {threads}, expected at least 1", "Leave it out to use all cores."
        )
    try:
        import onnxruntime as ort
    except ImportError:
        raise EnvironmentMismatch(
            "onnxruntime is not installed", "Run: pip install 'd2export[ort]'"
        ) from None
    name = PROVIDERS[provider]
    if name not in ort.get_available_providers():
        raise EnvironmentMismatch(
            f"this onnxruntime {ort.__version__} has no {name}; it has "
            f"{', '.join(ort.get_available_providers())}",
            "Run: pip uninstall onnxruntime && pip install 'd2export[ort-gpu]'",
        )
    return name


def _source(
    model: Path,
    emulate: bool,
    extra_outputs: tuple[str, ...],
    only_outputs: tuple[str, ...],
    given: tuple[str, ...],
    attributes: Mapping[str, int],
    options: onnxruntime.SessionOptions,
) -> str | bytes:
    """The file itself, or its bytes where something in it is to be different."""
    if not (emulate or extra_outputs or only_outputs or attributes):
        return os.fspath(model)
    try:
        import onnx

        from d2export.engine.bfloat16 import compute_in_float32
        from d2export.engine.pruning_attributes import set_attributes
        from d2export.engine.subgraph import keep_only
    except ImportError:
        raise EnvironmentMismatch(
            "ONNX Runtime has no bfloat16 kernels on the CPU"
            if emulate
            else "looking inside the graph, or changing it, needs the onnx package",
            "Run: pip install onnx",
        ) from None
    graph = onnx.load(os.fspath(model), load_external_data=False)
    if only_outputs:
        keep_only(graph.graph, only_outputs, given)
    known = {output.name for output in graph.graph.output}
    graph.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in extra_outputs if name not in known
    )
    if attributes:
        set_attributes(graph.graph, attributes)
    if emulate:
        compute_in_float32(graph)
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", os.fspath(model.parent)
    )
    return bytes(graph.SerializeToString())


def _explained(model: Path, error: Exception) -> EnvironmentMismatch | BundleError:
    text = " ".join(str(error).split())[:400]
    if "NOT_IMPLEMENTED" in text:
        return EnvironmentMismatch(
            f"ONNX Runtime has no kernel for an operator of {model}: {text}",
            "Upgrade onnxruntime, or build with another --precision or --opset.",
        )
    return BundleError(f"ONNX Runtime cannot open {model}: {text}", "Build the bundle again.")
