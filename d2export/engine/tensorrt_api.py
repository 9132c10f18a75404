"""What the builders of TensorRT 8.6, 10 and 11 call things, and what each of them has.

Names are those of the enums in `NvInfer.h` without their `k`, which are also Python's. Numbers of
enums moved between versions, so nothing here is a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from d2export.engine.target import Version, version_text
from d2export.errors import EnvironmentMismatch

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
EXTERNAL_LIBRARIES = "-CUBLAS,-CUBLAS_LT,-CUDNN"  # tactics of other libraries, as trtexec takes it


@dataclass(frozen=True)
class TensorRTApi:
    """How one generation of TensorRT is asked for an engine.

    Attributes:
        since: the first version that is like this.
        opset: the largest ONNX opset that its parser reads.
        network_flags: of `NetworkDefinitionCreationFlag`.
        precision_flags: of `BuilderFlag`, by precision; a precision that is missing is not there.
        pins_layer_types: whether layers must be told to keep the types that the ONNX graph has.
        progress: whether there is an `IProgressMonitor`.
        plugin_entry: what the plugin library must export.
        plugin_getter: the registry's method that finds a plugin's creator, in Python.
        trtexec_typing: trtexec's options for the same, by precision.
        trtexec_tactics: its `--tacticSources`, where its default has more than `TACTIC_SOURCES`.
        trtexec_profiles: whether it builds more than one optimization profile.
    """

    since: Version
    opset: int
    network_flags: tuple[str, ...]
    precision_flags: Mapping[str, tuple[str, ...]]
    pins_layer_types: bool
    progress: bool
    plugin_entry: str
    plugin_getter: str
    trtexec_typing: Mapping[str, tuple[str, ...]]
    trtexec_tactics: str | None
    trtexec_profiles: bool


# Types come from the ONNX graph alone, whatever the precision.
STRONGLY_TYPED: Mapping[str, tuple[str, ...]] = dict.fromkeys(PRECISIONS, ())
OBEY = "OBEY_PRECISION_CONSTRAINTS"

TEN = TensorRTApi(
    since=(10, 0),
    opset=20,  # onnx-tensorrt, docs/operators.md of release/10.0-GA
    network_flags=("STRONGLY_TYPED",),
    precision_flags=STRONGLY_TYPED,
    pins_layer_types=False,
    progress=True,
    plugin_entry="getCreators",
    plugin_getter="get_creator",
    trtexec_typing=dict.fromkeys(PRECISIONS, ("--stronglyTyped",)),
    trtexec_tactics=None,
    trtexec_profiles=True,
)

APIS = (
    TensorRTApi(
        since=(8, 6),
        opset=17,  # onnx-tensorrt, docs/operators.md of release/8.6-GA
        network_flags=("EXPLICIT_BATCH",),
        precision_flags={
            "fp32": (),
            "fp16": ("FP16", OBEY),
            "int8": ("FP16", "INT8", OBEY),
        },
        pins_layer_types=True,
        progress=False,
        plugin_entry="getPluginCreators",
        plugin_getter="get_plugin_creator",
        trtexec_typing={
            "fp32": (),
            "fp16": ("--fp16", "--precisionConstraints=obey"),
            "int8": ("--fp16", "--int8", "--precisionConstraints=obey"),
        },
        trtexec_tactics=EXTERNAL_LIBRARIES,
        trtexec_profiles=False,
    ),
    TEN,
    replace(TEN, since=(10, 15), opset=24),  # the parser's list of operators
    # Every network is strongly typed.
    replace(TEN, since=(11, 0), opset=24, network_flags=(), trtexec_typing=STRONGLY_TYPED),
)
MAJORS = (8, 10, 11)

# The same in every version.

# Convolutions of TensorRT itself; without cuBLAS and cuDNN, which an engine would need to run, too.
TACTIC_SOURCES = ("EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")
# On by default: it would round the float32 parts, importance among them, to 10 bits.
CLEARED_FLAGS = ("TF32",)
VERSION_COMPATIBLE = "VERSION_COMPATIBLE"
WORKSPACE = "WORKSPACE"
HARDWARE_LEVELS = {False: "NONE", True: "AMPERE_PLUS"}
TRTEXEC_HARDWARE = {"NONE": None, "AMPERE_PLUS": "ampere+"}
# Features are on that help (8.6: faster dynamic shapes); what could be turned on beside them
# changes how an engine is run, not how it is built.
PREVIEW_FEATURES: tuple[str, ...] = ()
OPTIMIZATION_LEVELS = range(6)
OPTIMIZATION_LEVEL = 3  # TensorRT's default


def api_of(version: Version) -> TensorRTApi:
    """How that version is asked.

    Raises:
        EnvironmentMismatch: it is older than 8.6, or a version nobody wrote this for.
    """
    if version[0] not in MAJORS or version < APIS[0].since:
        raise EnvironmentMismatch(
            f"TensorRT {version_text(version)} is not supported, expected 8.6, 10 or 11",
            "Install one of them; a Jetson gets it with JetPack 6 or newer.",
        )
    return [api for api in APIS if api.since <= version][-1]


def parse_version(text: str) -> Version:
    """`10.3.0.post1` as numbers: what follows the numbers is left out."""
    numbers: list[int] = []
    for part in text.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
