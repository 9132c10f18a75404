"""Residual states a hundred times the largest of real checkpoints stay finite in float16."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from safetensors.torch import load_file, save_file

from d2export.export import headroom
from d2export.export.decoder import cache_names
from d2export.export.pruned_vision import PrunedVision
from d2export.export.vision_graph import write_graphs
from d2export.export.weights import load_into
from d2export.models import layouts
from d2export.models.checkpoint import Checkpoint, open_checkpoint
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.plan import d2_plan
from tests.export.test_decoder_graph import KEEP, deeper, export, generate, prompt_of
from tests.models.test_decoder import SPECS, theirs
from tests.small_checkpoints import write_small_checkpoint

# In the residual stream of Llama 2 7B, which LLaVA-1.5-7B comes from (arXiv 2402.17762).
LARGEST = 2622
AMPLIFIED = 100 * LARGEST  # float16 ends at 65,504
MLP = "model.layers.0.mlp"


def run_in_half(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Every value rounded to its type: ONNX Runtime on the CPU leaves out some of the rounding."""
    with np.errstate(over="ignore", invalid="ignore"):
        return list(ReferenceEvaluator(onnx.load(path)).run(None, feeds))


def amplify(
    run: Callable[[], None], first: torch.nn.Linear, second: torch.nn.Linear, most: float
) -> None:
    """Make `second` give `most`, by both weights: one alone would exceed float16."""
    seen: list[float] = []
    hook = second.register_forward_hook(lambda *call: seen.append(float(call[2].abs().max())))
    for _ in range(20):
        run()
        factor = (most / seen[-1]) ** 0.5
        first.weight.data *= factor
        second.weight.data *= factor
    hook.remove()
    assert seen[-1] == pytest.approx(most, rel=0.1)
    assert all(one.weight.abs().max() < 10_000 for one in (first, second))


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headroom, "ROOM", 1)


Answer = tuple[list[int], np.ndarray]


def decoders(folder: Path) -> tuple[Answer, Answer]:
    """Positions and logits in float32 and float16, of a model with such states behind layer 0."""
    spec = deeper(SPECS["qwen2"])
    model = theirs(spec)
    question = prompt_of(model, spec, 9, 4)
    mlp = model.get_submodule(MLP)

    def run() -> None:
        with torch.inference_mode():
            model(inputs_embeds=question[0].embeds)

    amplify(run, mlp.up_proj, mlp.down_proj, AMPLIFIED)
    weights = model.state_dict()
    folders = [folder / precision for precision in ("fp32", "fp16")]
    for one in folders:
        one.mkdir()
    full, half = (export(one, spec, weights, KEEP, precision=one.name) for one in folders)
    expected = generate(full, spec, *question, steps=1)
    prompt, ids, visual = question
    feeds = {
        "input_ids": ids,
        "image_embeds": visual.astype(np.float16),
        "visual_positions": prompt.visual_positions,
        "image_lengths": prompt.image_lengths,
        "token_grid": prompt.grid,
        "position_ids": np.arange(ids.shape[1])[None],
    }
    nothing = np.zeros((1, spec.kv_heads, 0, spec.head_dim), np.float16)
    past = dict.fromkeys(cache_names(spec.layers, "past_key_values"), nothing)
    logits, positions, *_ = run_in_half(half, feeds | past)
    return (expected.positions, expected.logits[0].numpy()), (positions.tolist(), logits)


def test_of_the_language_model(tmp_path: Path) -> None:
    (expected, full), (positions, half) = decoders(tmp_path)
    assert np.isfinite(half).all()
    assert positions == expected
    assert np.abs(half - full).max() < 1e-2 * np.abs(full).max()


@pytest.mark.usefixtures("no_room")
def test_without_room_the_language_model_overflows(tmp_path: Path) -> None:
    assert not np.isfinite(decoders(tmp_path)[1][1]).all()


STORED_MLP = {
    "internvl": "vision_model.encoder.layers.0.mlp",
    "llava-hf": "vision_tower.vision_model.encoder.layers.0.mlp",
}
# LLaVA's projector reads the states themselves, in float16.
MOST = {"internvl": AMPLIFIED, "llava-hf": 60_000}
PLAN = d2_plan(PruneParameters(keep=3, theta=0.5), "cls", 1)


def module_of(checkpoint: Checkpoint) -> PrunedVision:
    module = PrunedVision(checkpoint.spec, PLAN, None).eval()
    load_into(module.model, layouts.resolve(checkpoint.tensors, checkpoint.spec))
    return module


def towers(folder: Path, layout: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Embeddings and indices in PyTorch's float32 and in float16 ONNX, of such a tower."""
    stored = write_small_checkpoint(folder / "checkpoint", layout)
    checkpoint = open_checkpoint(stored)
    size, tokens = checkpoint.spec.vision.image.size, 2 * checkpoint.spec.vision.tokens_per_tile
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    grid = torch.rand(tokens, 2, generator=torch.Generator().manual_seed(0))

    module = module_of(checkpoint)
    mlp = module.model.get_submodule("tower.layers.0.mlp")

    def run() -> None:
        with torch.inference_mode():
            module(pixels, grid)

    amplify(run, mlp.up, mlp.down, MOST[layout])
    path = next(stored.glob("*.safetensors"))
    tensors = load_file(path)
    for name, linear in {"fc1": mlp.up, "fc2": mlp.down}.items():
        tensors[f"{STORED_MLP[layout]}.{name}.weight"] = linear.weight.data
    save_file(tensors, path)

    checkpoint = open_checkpoint(stored)
    with torch.inference_mode():
        expected = [value.numpy() for value in module_of(checkpoint)(pixels, grid)]
    refs, target = layouts.resolve(checkpoint.tensors, checkpoint.spec), folder / "onnx"
    target.mkdir()
    write_graphs(
        target, checkpoint.spec, refs, PLAN,
        prior=None, precision="fp16", opset=17, copy_weights=True,
    )  # fmt: skip
    feeds = {"pixel_values": pixels.numpy(), "token_grid": grid.numpy()}
    return expected, run_in_half(target / "vision.onnx", feeds)


@pytest.mark.parametrize("layout", STORED_MLP)
def test_of_the_vision_tower(tmp_path: Path, layout: str) -> None:
    (embeds, indices), (half, kept) = towers(tmp_path, layout)
    assert np.isfinite(half).all()
    np.testing.assert_array_equal(kept, indices)
    assert np.abs(half - embeds).max() < 1e-2 * np.abs(embeds).max()


@pytest.mark.usefixtures("no_room")
def test_without_room_the_vision_tower_overflows(tmp_path: Path) -> None:
    assert not np.isfinite(towers(tmp_path, "internvl")[1][0]).all()
