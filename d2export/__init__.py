"""Export multimodal LLMs to ONNX with visual-token pruning inside the graph.

Three functions do what the commands of the same names do:

    d2export.build(d2export.ExportOptions("internvl2.5-8b", keep="64"), "out/internvl")
    d2export.check("out/internvl").passed
    d2export.run("out/internvl", "photo.jpg").image_embeds
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"
__all__ = ["D2ExportError", "ExportOptions", "answer", "build", "check", "run"]

if TYPE_CHECKING:
    from d2export.errors import D2ExportError
    from d2export.options import ExportOptions
    from d2export.pipeline import build
    from d2export.session import answer, check, run

_HOMES = {
    "D2ExportError": "d2export.errors",
    "ExportOptions": "d2export.options",
    "answer": "d2export.session",
    "build": "d2export.pipeline",
    "check": "d2export.session",
    "run": "d2export.session",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: importing d2export costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'd2export' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
