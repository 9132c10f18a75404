"""The CUDA kernel of D2PrunePositions: part of kernels.py."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import torch
from launch import DTYPES, attributes_of, graphed, microseconds
from margin import theta_between
from torch import Tensor

from d2export.models.tiling import token_grid
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.sequence import surviving_positions

TEXT = 35  # tokens around the images of a prompt that is timed


class Prompt(NamedTuple):
    """The inputs of the op, in its order."""

    hidden_states: Tensor
    importance: Tensor
    prior: Tensor
    grid: Tensor
    visual_positions: Tensor
    image_lengths: Tensor


class Shape(ctypes.Structure):
    """`d2export::PromptShape`."""

    _fields_ = [
        (name, ctypes.c_int32) for name in ("heads", "length", "channels", "tokens", "images")
    ]


class Integers(ctypes.Structure):
    """`d2export::Integers`."""

    _fields_ = [("data", ctypes.c_void_p), ("narrow", ctypes.c_bool)]


class Inputs(ctypes.Structure):
    """`d2export::PromptInputs`."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("hidden_states", "importance", "prior", "grid")),
        ("visual_positions", Integers),
        ("image_lengths", Integers),
        ("type", ctypes.c_int32),
    ]


class PromptLaunch:
    """The op with its memory: call it to enqueue it on the current stream."""

    def __init__(self, library: ctypes.CDLL, prompt: Prompt, parameters: PruneParameters) -> None:
        self.inputs = Prompt(*(tensor.cuda() for tensor in prompt))
        states, importance, prior, grid, positions, lengths = self.inputs
        tokens, images = len(positions), len(lengths)
        survivors = states.shape[1] - tokens + parameters.kept_of(images, tokens)
        self.positions = torch.full((survivors,), -1, dtype=torch.int32, device="cuda")
        self._select = library.d2export_positions_select
        self._select.restype = ctypes.c_char_p
        self._shape = Shape(importance.shape[1], *states.shape[1:], tokens, images)
        self._pointers = Inputs(
            *(tensor.data_ptr() for tensor in (states, importance, prior, grid)),
            Integers(positions.data_ptr(), False),
            Integers(lengths.data_ptr(), False),
            DTYPES[states.dtype],
        )
        self._attributes = attributes_of(parameters)
        workspace_bytes = library.d2export_positions_workspace_bytes
        workspace_bytes.restype = ctypes.c_size_t
        size = workspace_bytes(ctypes.byref(self._shape), ctypes.byref(self._attributes))
        self.workspace = torch.empty(size, dtype=torch.uint8, device="cuda")

    def __call__(self) -> None:
        fault = self._select(
            ctypes.byref(self._shape),
            ctypes.byref(self._pointers),
            ctypes.byref(self._attributes),
            ctypes.c_void_p(self.positions.data_ptr()),
            ctypes.c_void_p(self.workspace.data_ptr()),
            ctypes.c_void_p(torch.cuda.current_stream().cuda_stream),
        )
        if fault is not None:
            raise RuntimeError(f"the launch failed: {fault.decode()}")


def prompt_of(
    generator: torch.Generator,
    lengths: list[int],
    channels: int,
    heads: int,
    dtype: torch.dtype,
    kinds: int = 1000,
    noise: float = 0.3,
) -> Prompt:
    """Text, an image, text, and so on; tokens of a few kinds, so that there are edges."""
    texts = torch.randint(1, TEXT, (len(lengths) + 1,), generator=generator).tolist()
    length, tokens = sum(texts) + sum(lengths), sum(lengths)
    chosen = torch.randint(kinds, (length,), generator=generator)
    states = torch.randn(kinds, channels, generator=generator)[chosen]
    states += noise * torch.randn(length, channels, generator=generator)
    positions, at = [], 0
    for text, image in zip(texts, lengths, strict=False):
        at += text
        positions.append(at + torch.arange(image))
        at += image
    canvas = torch.from_numpy(token_grid(4, 3, 16))
    return Prompt(
        states[None].to(dtype),
        torch.randint(4096, (1, heads, length), generator=generator) / 4096,
        torch.ones(tokens),
        torch.cat([canvas[:image] for image in lengths]) if lengths else torch.zeros(0, 2),
        torch.cat(positions) if positions else torch.zeros(0, dtype=torch.int64),
        torch.tensor(lengths, dtype=torch.int64),
    )


def random_case(generator: torch.Generator, dtype: torch.dtype) -> tuple[Prompt, PruneParameters]:
    """No image to four; a count or a share; theta where no similarity is near."""

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    lengths = [number(1, 700) for _ in range(number(0, 5))]
    channels = (8, 33, 64, 896, 4096)[number(0, 5)]
    noise = (0.0, 0.3)[number(0, 2)]
    prompt = prompt_of(generator, lengths, channels, number(1, 9), dtype, number(1, 60), noise)
    alpha = (0.25, 0.5, 1.0)[number(0, 3)]
    features = prompt.hidden_states[0, prompt.visual_positions]
    images = zip(features.split(lengths), prompt.grid.split(lengths), strict=True)
    theta = theta_between(images, alpha, generator) if lengths else 0.8
    by_share = number(0, 2) == 0
    return prompt, PruneParameters(
        keep=0 if by_share else number(1, 400),
        keep_permille=number(1, 1001) if by_share else 0,
        pivot_ratio=(0.0, 0.3, 0.7)[number(0, 3)],
        alpha=alpha,
        theta=theta,
        pivots_block=number(0, 3) == 0,
    )


def check_equality(library: ctypes.CDLL, cases: int, seed: int) -> dict[str, Any]:
    """The positions that the CPU gives."""
    generator = torch.Generator().manual_seed(seed)
    wrong = 0
    for number in range(cases):
        dtype = list(DTYPES)[number % 3]
        prompt, parameters = random_case(generator, dtype)
        launch = PromptLaunch(library, prompt, parameters)
        launch()
        if not launch.positions.cpu().equal(surviving_positions(*prompt, parameters)):
            wrong += 1
            print(f"  differs: {dtype}, {prompt.image_lengths.tolist()}, {parameters}")
    return {"cases": cases, "seed": seed, "wrong": wrong, "passed": wrong == 0}


def check_graph(library: ctypes.CDLL, seed: int) -> dict[str, Any]:
    """Captured once; replayed on images of other lengths in the same memory."""
    generator = torch.Generator().manual_seed(seed)
    parameters = PruneParameters(keep=40, theta=2.0)  # no neighbours: nothing is near
    prompt = prompt_of(generator, [300, 500], 896, 2, torch.float16)
    launch = PromptLaunch(library, prompt, parameters)
    replay = graphed(launch)
    wrong, splits = 0, (10, 30, 400, 799)
    for first in splits:
        lengths = torch.tensor([first, 800 - first])
        launch.inputs.image_lengths.copy_(lengths)
        replay()
        torch.cuda.synchronize()
        expected = surviving_positions(*prompt._replace(image_lengths=lengths), parameters)
        wrong += not launch.positions.cpu().equal(expected)
    return {"replays": len(splits), "wrong": wrong, "passed": wrong == 0}


def measure(library: ctypes.CDLL) -> list[dict[str, Any]]:
    """Prefill of one image and of four, and a decode step, which has none."""
    rows = []
    print("microseconds, medians   images  tokens     d  keep  d2export   graph")
    for lengths, keep in (([3328], 333), ([832] * 4, 83), ([], 333)):
        generator = torch.Generator().manual_seed(0)
        prompt = prompt_of(generator, lengths, 4096, 1, torch.float16)
        launch = PromptLaunch(library, prompt, PruneParameters(keep=keep))
        op = microseconds(launch, runs=20, at_once=50)
        replay = microseconds(graphed(launch), runs=20, at_once=50)
        tokens = sum(lengths)
        print(f"{'':<22}{len(lengths):>8}{tokens:>8}{4096:>6}{keep:>6}{op:>10.1f}{replay:>8.1f}")
        rows.append(
            {"images": len(lengths), "tokens": tokens, "keep": keep, "op_us": op}
            | {"graph_us": replay}
        )
    return rows
