"""Writes a C++ header with classes that stand-ins derive from.

    python defaults.py INCLUDE_FOLDER OUTPUT

TensorRT's interfaces are hundreds of pure virtual functions, other ones in every version. For each
class below the header gets a class `Default...` that implements all of them: whoever calls one that
a stand-in did not override ends the program, with the function's name.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

# Header, its namespace, classes.
WANTED = (
    (
        "NvInferImpl.h",
        "nvinfer1::apiv",
        (
            "VHostMemory",
            "VRuntime",
            "VOptimizationProfile",
            "VCudaEngine",
            "VExecutionContext",
            "VTensor",
            "VLayer",
            "VNetworkDefinition",
            "VTimingCache",
            "VBuilderConfig",
            "VBuilder",
        ),
    ),
    ("NvInferRuntimeCommon.h", "nvinfer1", ("IPluginRegistry",)),
    ("NvOnnxParser.h", "nvonnxparser", ("IParser", "IParserError")),
)
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
PURE = re.compile(r"virtual\s+([^;{}~]*?)=\s*0\s*;")


def functions(text: str, name: str) -> list[str]:
    """The declarations of a class's pure virtual functions."""
    body = re.search(rf"^class {name}\b[^;{{]*\{{(.*?)^\}};", text, re.DOTALL | re.MULTILINE)
    if body is None:
        raise SystemExit(f"there is no class {name}")
    return [" ".join(found.split()) for found in PURE.findall(body[1])]


def default_class(text: str, name: str) -> str:
    """A class that implements them all."""
    lines = [f"class Default{name} : public {name} {{", "   public:"]
    for function in functions(text, name):
        called = re.search(r"(\w+)\s*\(", function)
        assert called is not None
        lines.append(f'    {function} override {{ missing("{name}::{called[1]}"); }}')
    return "\n".join([*lines, "};", ""])


def main() -> None:
    """Write the header."""
    include, output = map(Path, sys.argv[1:])
    parts = [
        "#pragma once",
        "#include <NvInfer.h>",
        "#include <NvOnnxParser.h>",
        "[[noreturn]] void missing(const char* function) noexcept;",
    ]
    for header, namespace, classes in WANTED:
        text = COMMENT.sub("", (include / header).read_text("utf-8"))
        parts.append(f"namespace {namespace} {{")
        parts += [default_class(text, name) for name in classes]
        parts.append("}")
    output.write_text("\n".join(parts) + "\n", "utf-8")


if __name__ == "__main__":
    main()
