"""Prefill with pruned visual tokens, beside the saving that the FLOPs predict.

    python scripts/bench/prefill.py [--model internvl2.5-8b] [--layers 4] [--tokens 3328] [--runs 3]

A slice of a real-width language model (random weights) as one decoder graph in ONNX Runtime on the
CPU, pruned before layer 2: all visual tokens, 25 % and 10 % of them, in one run. Per number kept,
the median of the prefill; `predicted` is the ratio of multiply-accumulates of the same graph, the
selection and attention's own products included, and `reached` the share of the predicted saving.
The bundle is checked against PyTorch before; the decoders differ in what they keep.
"""

from __future__ import annotations

import sys

del sys.path[0]  # this folder, whose select.py hides the standard library's

import argparse
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import skimage

import d2export
from d2export.bundle.folder import Bundle, read_bundle
from d2export.export.decoder import trace_decoder
from d2export.export.graph_file import write_graph
from d2export.export.weights import PlacedWeights, stored_refs
from d2export.models import presets
from d2export.models.decoder import inverse_frequencies
from d2export.models.presets import ModelSpec, TextSpec, preset
from d2export.models.tiling import token_grid
from d2export.pipeline import export
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.plan import d2_plan
from d2export.runtime.decoder import DecoderRunner, Prompt, whole_prompt
from d2export.runtime.generate import Generator
from d2export.verify.vlm_check import VlmReport, check_vlm

TEXT_TOKENS = 64
PRUNE_LAYER = 2


def macs(text: TextSpec, visual: int, kept: int) -> int:
    """Multiply-accumulates of the prefill: layers, importance row, head of the last token."""
    total = text.vocab * text.hidden
    for layer in range(text.layers):
        tokens = TEXT_TOKENS + (visual if layer < PRUNE_LAYER else kept)
        kv = text.kv_heads * text.head_dim
        weights = text.hidden * (2 * text.hidden + 2 * kv) + 3 * text.hidden * text.mlp
        # The graph computes whole rows and masks them.
        total += tokens * weights + 2 * tokens * tokens * text.hidden
    return total


def prompt_of(spec: ModelSpec, tokens: int) -> Prompt:
    """Visual tokens that resemble each other as those of a picture do, then text."""
    random = np.random.default_rng(0)
    width = spec.text.hidden
    side = spec.vision.tokens_per_side
    tiles = tokens // spec.vision.tokens_per_tile
    grid = token_grid(max(tiles - 1, 1), 1, side)
    features = random.standard_normal(width, np.float32) + 0.5 * random.standard_normal(
        (len(grid), width), np.float32
    )
    ids = random.integers(0, spec.text.vocab, len(grid) + TEXT_TOKENS)
    lengths = np.array([len(grid)])
    ones = np.ones(len(grid), np.float32)
    return whole_prompt(ids, features, np.arange(4, 4 + len(grid)), lengths, grid, ones)


def keeping(bundle: Bundle, spec: ModelSpec, permille: int) -> Bundle:
    """The bundle with a decoder that keeps another share of the visual tokens."""
    graph = bundle.manifest.graphs.decoder
    assert graph is not None
    path = f"onnx/decoder-{permille}.onnx"
    plan = d2_plan(PruneParameters(keep_permille=permille), layer=PRUNE_LAYER)
    model = trace_decoder(spec.text, plan, bundle.manifest.opset)
    weights = PlacedWeights(stored_refs(bundle.path(graph.path)), "copied")
    frequencies = {"model.text.inverse_frequencies": inverse_frequencies(spec.text).numpy()}
    write_graph(model, bundle.root / path, weights, frequencies, "fp32")
    graphs = replace(bundle.manifest.graphs, decoder=replace(graph, path=path))
    return Bundle(bundle.root, replace(bundle.manifest, graphs=graphs))


def main() -> None:
    """Print a line per number of visual tokens kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="internvl2.5-8b")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=3328)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    whole = preset(arguments.model)
    spec = replace(
        whole, name="slice", hub_id=None, text=replace(whole.text, layers=arguments.layers)
    )
    presets.PRESETS["slice"] = spec
    visual = len(prompt_of(spec, arguments.tokens).token_grid)
    print(f"{arguments.model}, {arguments.layers} layers, {visual} visual + {TEXT_TOKENS} tokens")
    times: list[float] = []
    predictions: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        options = d2export.ExportOptions(
            "slice",
            scope="vlm",
            keep="all",
            images=(Path(skimage.__file__).parent / "data" / "astronaut.png",),
            random_weights=True,
            prune_layer=PRUNE_LAYER,
        )
        export(options, Path(folder, "bundle"))
        bundle = Path(folder, "bundle")
        report = in_a_process(check, bundle)
        print(report.text(), flush=True)
        assert report.passed
        print("kept       prefill s    ratio  predicted   saving reached", flush=True)
        for permille in (1000, 250, 100):
            kept, seconds = in_a_process(
                measure, bundle, spec, arguments.tokens, permille, arguments.runs
            )
            times.append(seconds)
            predictions.append(macs(spec.text, visual, kept) / macs(spec.text, visual, visual))
            ratio = times[-1] / times[0]
            reached = (
                f"{(1 - ratio) / (1 - predictions[-1]):13.0%}" if kept < visual else f"{'-':>13}"
            )
            print(
                f"{kept:<10}{times[-1]:10.2f}{ratio:9.3f}{predictions[-1]:11.3f}{reached}",
                flush=True,
            )


def in_a_process(function: Callable[..., Any], *arguments: object) -> Any:
    """Call it in a fresh process: a session of this size leaves little memory to a second one."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def check(bundle: Path) -> VlmReport:
    """The bundle against PyTorch's stored answers."""
    return check_vlm(Generator(read_bundle(bundle, verify=False)))


def measure(
    bundle: Path, spec: ModelSpec, tokens: int, permille: int, runs: int
) -> tuple[int, float]:
    """How many visual tokens stay, and the median seconds of the prefill."""
    prompt = prompt_of(spec, tokens)
    decoder = DecoderRunner(keeping(read_bundle(bundle, verify=False), spec, permille))
    decoder.prefill(decoder.start(), prompt)
    steps = [decoder.prefill(decoder.start(), prompt) for _ in range(runs)]
    kept = len(steps[0].positions) - TEXT_TOKENS
    return kept, statistics.median(step.seconds for step in steps)


if __name__ == "__main__":
    main()
