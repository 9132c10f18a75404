"""The CUDA kernels of MaxMinPrune, DppPrune and DeduplicatePrune: part of kernels.py."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from launch import DTYPES, Launch, graphed, microseconds
from torch import Tensor

from d2export.pruning.rule_parameters import (
    DeduplicateParameters,
    DppParameters,
    MaxMinParameters,
)
from d2export.pruning.rules import deduplicate, dpp, max_min
from d2export.pruning.selection import mean_over_heads

PARAMETERS: dict[str, Any] = {
    "MaxMinPrune": MaxMinParameters,
    "DppPrune": DppParameters,
    "DeduplicatePrune": DeduplicateParameters,
}
SIZES = ((576, 4096, 57), (3328, 4096, 333))  # tokens, channels, keep
# Microseconds, any dtype, on an H200: estimated in docs/gpu.md, not run.
GOALS = {
    ("MaxMinPrune", 576): 150.0,
    ("MaxMinPrune", 3328): 1000.0,
    ("DppPrune", 576): 300.0,
    ("DppPrune", 3328): 2500.0,
    ("DeduplicatePrune", 576): 500.0,
    ("DeduplicatePrune", 3328): 3500.0,
}


def expected(op_type: str, inputs: tuple[Tensor, ...], parameters: Any) -> Tensor:
    """Indices `[B, M]` by the reference in torch, on the CPU."""
    if op_type == "MaxMinPrune":
        return torch.stack([max_min.reference(image, parameters) for image in inputs[0]])
    reference: Any = {"DppPrune": dpp.reference, "DeduplicatePrune": deduplicate.reference}[op_type]
    images = zip(inputs[0], mean_over_heads(inputs[1]), strict=True)
    return torch.stack([reference(image, scores, parameters) for image, scores in images])


def random_inputs(
    generator: torch.Generator,
    op_type: str,
    shape: tuple[int, int, int],
    heads: int,
    dtype: torch.dtype,
) -> tuple[Tensor, ...]:
    """Tokens of a few kinds; scores of which no two are equal, whose means are exact."""
    batch, tokens, channels = shape
    kinds = torch.randn(max(1, tokens // 3), channels, generator=generator)
    chosen = torch.randint(len(kinds), (batch, tokens), generator=generator)
    features = kinds[chosen] + 0.5 * torch.randn(shape, generator=generator)
    if op_type == "MaxMinPrune":
        return (features.to(dtype),)
    others = tokens * torch.randint(16, (batch, heads, tokens), generator=generator)
    for image in others:
        image[0] = torch.randperm(tokens, generator=generator)
    return features.to(dtype), others.float() / 4096


def random_case(
    generator: torch.Generator, op_type: str, dtype: torch.dtype, largest: int
) -> tuple[tuple[Tensor, ...], Any]:
    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    channels = (8, 33, 64, 896, 1024, 4096)[number(0, 6)]
    shape = (number(1, 4), number(1, largest), channels)
    inputs = random_inputs(generator, op_type, shape, number(1, 9), dtype)
    more = {"important_ratio": (0.0, 0.3, 0.5)[number(0, 3)]}
    keep = number(1, shape[1] + 2)
    return inputs, PARAMETERS[op_type](keep=keep, **(more if op_type == "DeduplicatePrune" else {}))


def is_equal(
    library: ctypes.CDLL, op_type: str, inputs: tuple[Tensor, ...], parameters: Any
) -> bool:
    launch = Launch(library, op_type, tuple(tensor.cuda() for tensor in inputs), parameters)
    launch()
    return launch.answers(expected(op_type, inputs, parameters))


def check_equality(library: ctypes.CDLL, cases: int, seed: int) -> dict[str, Any]:
    """Random cases of each op, and one of each size that is timed."""
    generator = torch.Generator().manual_seed(seed)
    wrong = []
    for op_type, attributes in PARAMETERS.items():
        for number in range(cases):
            dtype = list(DTYPES)[number % 3]
            inputs, parameters = random_case(generator, op_type, dtype, largest=700)
            if not is_equal(library, op_type, inputs, parameters):
                wrong.append(f"{op_type}, {dtype}, {list(inputs[0].shape)}, {parameters}")
        for tokens, channels, keep in SIZES if cases > len(DTYPES) else ():
            shape = (1, tokens, channels)
            inputs = random_inputs(generator, op_type, shape, 16, torch.float16)
            if not is_equal(library, op_type, inputs, attributes(keep=keep)):
                wrong.append(f"{op_type}, {tokens} tokens")
    for what in wrong:
        print(f"  differs: {what}")
    return {"cases": cases, "seed": seed, "wrong": len(wrong), "passed": not wrong}


def check_graphs(library: ctypes.CDLL, seed: int) -> dict[str, Any]:
    """Each op captured once and replayed on new features in the same memory."""
    generator = torch.Generator().manual_seed(seed)
    wrong, replays = 0, 5
    for op_type, attributes in PARAMETERS.items():
        shape, parameters = (2, 300, 896), attributes(keep=40)
        inputs = random_inputs(generator, op_type, shape, 2, torch.float16)
        launch = Launch(library, op_type, tuple(tensor.cuda() for tensor in inputs), parameters)
        replay = graphed(launch)
        for _ in range(replays):
            inputs = random_inputs(generator, op_type, shape, 2, torch.float16)
            for memory, tensor in zip(launch.inputs, inputs, strict=True):
                memory.copy_(tensor)
            replay()
            torch.cuda.synchronize()
            wrong += not launch.answers(expected(op_type, inputs, parameters))
    return {"replays": replays * len(PARAMETERS), "wrong": wrong, "passed": wrong == 0}


def measure(library: ctypes.CDLL) -> list[dict[str, Any]]:
    rows = []
    print("microseconds, medians  tokens     d  keep  dtype     d2export   graph   goal")
    for op_type, attributes in PARAMETERS.items():
        for tokens, channels, keep in SIZES:
            for dtype in (torch.float16, torch.float32):
                generator = torch.Generator().manual_seed(0)
                inputs = random_inputs(generator, op_type, (1, tokens, channels), 1, dtype)
                on_gpu = tuple(tensor.cuda() for tensor in inputs)
                launch = Launch(library, op_type, on_gpu, attributes(keep=keep))
                op = microseconds(launch, runs=10, at_once=10)
                replay = microseconds(graphed(launch), runs=10, at_once=10)
                goal = GOALS[op_type, tokens]
                name = str(dtype).removeprefix("torch.")
                print(
                    f"{op_type:<22}{tokens:>7}{channels:>6}{keep:>6}  {name:<8}{op:>10.1f}"
                    f"{replay:>8.1f}{goal:>7.0f}",
                    flush=True,
                )
                rows.append(
                    {
                        "op": op_type,
                        "tokens": tokens,
                        "channels": channels,
                        "keep": keep,
                        "dtype": name,
                        "op_us": op,
                        "graph_us": replay,
                        "goal_us": goal,
                    }
                )
    return rows
