"""A module like TensorRT's, with the enums of a version's headers, that notes what it is told.

What the version has not is not there: its enums have only the headers' names, and its objects only
the attributes of that version's Python bindings (python/src of the public repository).
"""

from __future__ import annotations

import enum
from pathlib import Path
from types import ModuleType
from typing import Any

from d2export.engine.plugin import OPS
from tests.engine import tensorrt_headers as headers

ENUMS = (
    "NetworkDefinitionCreationFlag",
    "BuilderFlag",
    "PreviewFeature",
    "TacticSource",
    "MemoryPoolType",
    "HardwareCompatibilityLevel",
    "LayerType",
)
CONFIG_ATTRIBUTES = {
    "builder_optimization_level",
    "hardware_compatibility_level",
    "plugins_to_serialize",
    "progress_monitor",  # not in 8
}
TIMINGS = b"timings of "


class Severity(enum.IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class Told:
    """What the module was told; a test says beforehand what it shall answer."""

    def __init__(self) -> None:
        self.network_flags: set[str] = set()
        self.flags: set[str] = {"TF32"}
        self.tactics: set[str] = set()
        self.pools: dict[str, int] = {}
        self.settings: dict[str, Any] = {}
        self.profiles: list[dict[str, Any]] = []
        self.plugins: set[str] = set()
        self.parsed: Path | None = None
        self.timing_cache: bytes | None = None
        self.layers: list[Layer] = []
        # What it answers.
        self.plugins_in_library = set(OPS)
        self.parser_errors: list[dict[str, Any]] = []
        self.builder_errors: list[str] = []
        self.builds = True
        self.takes_profiles = True
        self.takes_timing_cache = True


class HostMemory(bytearray):
    """Bytes, as `memoryview` takes them."""


class Layer:
    def __init__(self, kind: Any, *outputs: str) -> None:
        self.type, self._outputs = kind, outputs
        self.num_outputs = len(outputs)
        self.types: dict[int, Any] = {}

    def get_output(self, index: int) -> Any:
        tensor = type("ITensor", (), {})()
        tensor.name = self._outputs[index]
        return tensor

    def set_output_type(self, index: int, dtype: Any) -> None:
        self.types[index] = dtype


def module(version: str) -> Any:
    """The module of a version whose headers there are; `module.told` is what it was told."""
    trt: Any = ModuleType("tensorrt")
    major = headers.numbers(version)[0]
    declared = headers.enums(version)
    trt.__version__ = version
    trt.told = told = Told()
    trt.float32, trt.float16 = "float32", "float16"
    for name in ENUMS:
        members = {member: number for number, member in enumerate(declared[name])}
        setattr(trt, name, enum.IntEnum(name, members))

    class ILogger:
        def __init__(self) -> None:
            pass

    ILogger.Severity = Severity  # type: ignore[attr-defined]
    trt.ILogger = ILogger

    def bits(kind: str, mask: int) -> set[str]:
        return {member.name for member in getattr(trt, kind) if mask >> member & 1}

    class Network:
        @property
        def num_layers(self) -> int:
            return len(told.layers)

        def get_layer(self, index: int) -> Layer:
            return told.layers[index]

    class TimingCache:
        def __init__(self, content: bytes) -> None:
            self.content = content

        def serialize(self) -> HostMemory:
            return HostMemory(TIMINGS + version.encode())

    class Profile:
        def __init__(self) -> None:
            self.shapes: dict[str, Any] = {}

        def set_shape(self, name: str, low: Any, usual: Any, high: Any) -> None:
            assert len(low) == len(usual) == len(high)
            assert all(0 <= a <= b <= c for a, b, c in zip(low, usual, high, strict=True))
            self.shapes[name] = (low, usual, high)

    class Config:
        def __setattr__(self, name: str, value: Any) -> None:
            if name not in CONFIG_ATTRIBUTES - ({"progress_monitor"} if major == 8 else set()):
                raise AttributeError(name)
            told.settings[name] = value

        def set_flag(self, flag: Any) -> None:
            told.flags.add(trt.BuilderFlag(flag).name)

        def clear_flag(self, flag: Any) -> None:
            told.flags.discard(trt.BuilderFlag(flag).name)

        def set_preview_feature(self, feature: Any, on: bool) -> None:
            told.settings[trt.PreviewFeature(feature).name] = on

        def set_tactic_sources(self, mask: int) -> bool:
            told.tactics = bits("TacticSource", mask)
            return True

        def set_memory_pool_limit(self, pool: Any, size: int) -> None:
            told.pools[trt.MemoryPoolType(pool).name] = size

        def add_optimization_profile(self, profile: Profile) -> int:
            if not told.takes_profiles:
                return -1
            told.profiles.append(profile.shapes)
            return len(told.profiles) - 1

        def create_timing_cache(self, content: bytes) -> TimingCache:
            return TimingCache(content)

        def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch
            told.timing_cache = cache.content
            return told.takes_timing_cache

        def get_timing_cache(self) -> TimingCache:
            return TimingCache(told.timing_cache or b"")

    class Builder:
        def __init__(self, logger: ILogger) -> None:
            self.logger: Any = logger

        def create_network(self, flags: int) -> Network:
            told.network_flags = bits("NetworkDefinitionCreationFlag", flags)
            assert flags >> len(trt.NetworkDefinitionCreationFlag) == 0
            return Network()

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> Any:
            for text in told.builder_errors:
                self.logger.log(Severity.ERROR, text)
            self.logger.log(Severity.WARNING, "a warning of the builder")
            self.logger.log(Severity.INFO, "an information of the builder")
            watch = told.settings.get("progress_monitor")
            if watch is not None:
                watch.phase_start("Building Engine", None, 8)
                watch.phase_start("Tactics", "Building Engine", 100)
                for step in range(8):
                    watch.step_complete("Tactics", step)
                    if not watch.step_complete("Building Engine", step):
                        return None
                watch.phase_finish("Tactics")
                watch.phase_finish("Building Engine")
            return HostMemory(b"engine of " + version.encode()) if told.builds else None

    class ParserError:
        def __init__(self, values: dict[str, Any]) -> None:
            self.values = values
            if major == 8:
                values.pop("node_name", None)
                values.pop("node_operator", None)

        def __getattr__(self, name: str) -> Any:
            try:
                value = self.values[name]
            except KeyError:
                raise AttributeError(name) from None
            return lambda: value

    class OnnxParser:
        def __init__(self, network: Network, logger: ILogger) -> None:
            self.num_errors = len(told.parser_errors)

        def parse_from_file(self, path: str) -> bool:
            told.parsed = Path(path)
            return not told.parser_errors

        def get_error(self, index: int) -> ParserError:
            return ParserError(dict(told.parser_errors[index]))

    class Registry:
        def load_library(self, path: str) -> object:
            assert Path(path).is_file()
            told.plugins |= told.plugins_in_library
            return object()

        def _creator(self, name: str, version: str, namespace: str) -> object | None:
            known = name in told.plugins and (version, namespace) == ("1", "d2export")
            return object() if known else None

    setattr(Registry, "get_plugin_creator" if major == 8 else "get_creator", Registry._creator)
    registry = Registry()
    trt.get_plugin_registry = lambda: registry
    trt.Builder, trt.OnnxParser = Builder, OnnxParser
    if major >= 10:
        trt.IProgressMonitor = type("IProgressMonitor", (), {"__init__": lambda self: None})
    return trt
