"""What a graph can be exported as. No torch here: the command line reads these names."""

from __future__ import annotations

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
OPSETS = range(17, 25)
