"""What the selection costs: the paper's loop, the ONNX function, the native core.

    python scripts/bench/select.py [--runs 5] [--photo FILE] [--tokens 3328] [--no-photo]

One run, one thread, float32. `dense` is the paper's loop in torch: the full similarity matrix, then
one argmax and one masking a token. `photo` are the features of a photograph (scikit-image's coins,
13 tiles) behind InternVL2.5-8B's vision tower with random weights: projected for d = 4,096, pooled
2 x 2 for d = 1,024. `worst` is an input made against the native core: one token of each of as many
kinds as the set may hold less one, then only tokens of the kind that it compares last; the set is
exhausted, every token visited, and every comparison made.
"""

from __future__ import annotations

import sys

del sys.path[0]  # this folder, whose select.py hides the standard library's

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import onnxruntime
import torch
from onnx import TensorProto
from torch import Tensor

from d2export.export.onnx_function import prune_model
from d2export.models.images import load_image
from d2export.models.presets import preset
from d2export.models.random_weights import write_random_checkpoint
from d2export.models.tiling import normalize, tile, token_grid
from d2export.pruning import native
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.selection import Scored, debias, diagonal_of, similarity, unit

TOKENS, WIDTHS, SHARES = (256, 576, 1024, 3328), (1024, 4096), (100, 250)


def dense_loop(inputs: Scored, parameters: PruneParameters) -> list[int]:
    """The paper's loop: the whole graph first, then the most important token still available."""
    features, importance, prior, grid = inputs
    tokens = features.shape[1]
    wanted = parameters.kept(tokens)
    r = debias(importance, prior, parameters.eps)[0]
    rows = unit(features[0])
    edges = (
        similarity(rows, rows, grid, grid, diagonal_of(grid), parameters.alpha) > parameters.theta
    )
    kept: list[int] = r.topk(parameters.pivots(wanted)).indices.tolist()
    is_pivot = torch.zeros(tokens, dtype=torch.bool)
    is_pivot[kept] = True
    available = r.masked_fill(is_pivot, -torch.inf)
    while len(kept) < wanted:
        best = int(available.argmax())
        if available[best] == -torch.inf:
            break
        kept.append(best)
        available[best] = -torch.inf
        available.masked_fill_(edges[best], -torch.inf)
    rest = r.clone()
    rest[kept] = -torch.inf
    kept += rest.topk(wanted - len(kept)).indices.tolist()
    return sorted(kept)


def onnx_function(inputs: Scored, parameters: PruneParameters) -> Callable[[], list[int]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = prune_model(parameters, 17, TensorProto.FLOAT, heads=False)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    feeds = {name: value.numpy() for name, value in inputs._asdict().items()}
    return lambda: session.run(["indices"], feeds)[0][0].tolist()


def native_core(inputs: Scored, parameters: PruneParameters) -> Callable[[], list[int]]:
    arrays = [value.numpy() for value in inputs]
    return lambda: native.select(*arrays, parameters)[0].tolist()


def median_ms(call: Callable[[], list[int]], runs: int) -> tuple[float, list[int]]:
    """After one call that is not counted, as many as fit in a second, at least `runs`."""
    answer = call()
    times: list[float] = []
    while len(times) < runs or (sum(times) < 0.2 and len(times) < 200):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times), answer


def canvas(tokens: int) -> Tensor:
    """Token centres of a square of tokens, or of 4 x 3 tiles and a thumbnail."""
    grid = token_grid(4, 3, 16) if tokens == 3328 else token_grid(1, 1, round(tokens**0.5))
    return torch.from_numpy(grid)


def random_inputs(tokens: int, width: int) -> Scored:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, tokens, width, generator=generator)
    importance = torch.rand(1, tokens, generator=generator)
    return Scored(features, importance, torch.ones(tokens), canvas(tokens))


def worst_inputs(tokens: int, width: int, parameters: PruneParameters) -> Scored:
    wanted = parameters.kept(tokens)
    kinds = wanted - parameters.pivots(wanted) - 1
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(kinds, width, generator=generator)
    kind = torch.full((tokens,), kinds - 1)
    first = parameters.pivots(wanted)
    kind[first : first + kinds] = torch.arange(kinds)
    noise = 0.1 * torch.randn(tokens, width, generator=generator)
    importance = torch.linspace(1, 0.5, tokens)
    features = (centres[kind] + noise)[None]
    return Scored(features, importance[None], torch.ones(tokens), canvas(tokens))


class Photo(NamedTuple):
    """Tokens of 13 tiles, `[3328, width]` by width, and the CLS attention over them, `[3328]`."""

    features: dict[int, Tensor]
    importance: Tensor

    def inputs(self, tokens: int, width: int) -> Scored:
        """The thumbnail for 256 tokens, else the first ones."""
        span = slice(-256, None) if tokens == 256 else slice(0, tokens)
        return Scored(
            self.features[width][span].clone()[None],
            self.importance[span].clone()[None],
            torch.ones(tokens),
            canvas(tokens),
        )


def read_photo(path: Path) -> Photo:
    from d2export.export.weights import load_into
    from d2export.models import layouts
    from d2export.models.checkpoint import open_checkpoint
    from d2export.models.vision_tower import VisionModel

    spec = preset("internvl2.5-8b")
    with tempfile.TemporaryDirectory() as folder:
        write_random_checkpoint(spec, Path(folder, "checkpoint"), seed=0)
        checkpoint = open_checkpoint(Path(folder, "checkpoint"), layouts.is_needed)
        model = VisionModel(checkpoint.spec)
        load_into(model, layouts.resolve(checkpoint.tensors, checkpoint.spec))
    pixels = tile(load_image(path), spec.vision).pixels
    tiles = torch.from_numpy(normalize(pixels, spec.vision.image))
    projected, pooled, attention = [], [], []
    with torch.inference_mode():
        for one in tiles.split(1):
            patches, row = model.tower(one, spec.vision.layers - 2)
            projected.append(model.projector(model.projector.merge(patches))[0])
            attention.append(model.projector.merge_relation(row)[0].mean(dim=0))
            side = round(patches.shape[1] ** 0.5)
            squares = patches[0].T.unflatten(1, (side, side))
            pooled.append(torch.nn.functional.avg_pool2d(squares, 2).flatten(1).T)
    return Photo({4096: torch.cat(projected), 1024: torch.cat(pooled)}, torch.cat(attention))


def main() -> None:
    """Print a line per input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--no-photo", action="store_true")
    parser.add_argument("--tokens", type=int, choices=TOKENS, action="append")
    arguments = parser.parse_args()
    native.require()
    photo = None if arguments.no_photo else read_photo(arguments.photo or coins())
    torch.set_num_threads(1)

    print(
        "milliseconds, medians       tokens     d  keep      dense       onnx     native"
        "  dense/native  onnx/native"
    )
    for tokens in arguments.tokens or TOKENS:
        for width in WIDTHS:
            for share in SHARES:
                default = PruneParameters(keep_permille=share)
                rows = [("random", random_inputs(tokens, width), default)]
                if photo is not None:
                    rows.append(("photo", photo.inputs(tokens, width), default))
                general = PruneParameters(keep_permille=share, alpha=1.0, theta=0.8)
                rows.append(("worst", worst_inputs(tokens, width, general), general))
                for name, inputs, parameters in rows:
                    compare(name, inputs, parameters, arguments.runs)


def compare(name: str, inputs: Scored, parameters: PruneParameters, runs: int) -> None:
    tokens, width = inputs.features.shape[1:]
    dense, by_dense = median_ms(lambda: dense_loop(inputs, parameters), runs)
    onnx, by_onnx = median_ms(onnx_function(inputs, parameters), runs)
    core, by_core = median_ms(native_core(inputs, parameters), runs)
    same = "" if by_core == by_onnx == by_dense else "  THEY DIFFER"
    print(
        f"{name:<26}{tokens:>8}{width:>6}{parameters.keep_permille / 10:>5.0f}%{dense:>11.2f}"
        f"{onnx:>11.2f}{core:>11.3f}{dense / core:>14.0f}{onnx / core:>13.0f}{same}",
        flush=True,
    )


def coins() -> Path:
    import skimage

    return Path(skimage.__file__).parent / "data" / "coins.png"


if __name__ == "__main__":
    main()
