"""The decoder graph answers what whole attention answers, and what transformers generates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from d2export.export.decoder import cache_names, trace_decoder
from d2export.export.graph_file import write_graph
from d2export.export.weights import PlacedWeights
from d2export.models.decoder import inverse_frequencies
from d2export.models.presets import TextSpec
from d2export.models.safetensors_file import TensorToWrite, read_header, write
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.plan import d2_plan
from tests import full_attention
from tests.full_attention import Prompt
from tests.models.test_decoder import SPECS, ours, theirs

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime, to run the graphs")

KEEP = PruneParameters(keep=4, alpha=0.7, theta=0.5)
ALL = PruneParameters(keep_permille=1000)
STEPS = 12
LAYER = 2


def deeper(spec: TextSpec) -> TextSpec:
    return replace(spec, layers=4)


def placed(folder: Path, spec: TextSpec, weights: dict[str, torch.Tensor]) -> PlacedWeights:
    """The weights in one file, under their canonical names."""
    arrays = {
        f"text.{name}": value.detach().numpy()
        for name, value in ours(spec, weights).named_parameters()
    }
    path = folder / "weights.safetensors"
    write(
        path,
        [
            TensorToWrite(name, "F32", array.shape, lambda array=array: iter([array]))  # type: ignore[misc]
            for name, array in arrays.items()
        ],
    )
    return PlacedWeights(read_header(path), "copied")


def export(
    folder: Path,
    spec: TextSpec,
    weights: dict[str, torch.Tensor],
    parameters: PruneParameters,
    *,
    prior: str = "none",
    opset: int = 17,
    precision: str = "fp32",
) -> Path:
    model = trace_decoder(spec, d2_plan(parameters, layer=LAYER, prior=prior), opset)
    constants = {"model.text.inverse_frequencies": inverse_frequencies(spec).numpy()}
    path = folder / "decoder.onnx"
    write_graph(model, path, placed(folder, spec, weights), constants, precision)
    return path


def prompt_of(model: Any, spec: TextSpec, *lengths: int, seed: int = 0) -> tuple[Prompt, Any, Any]:
    """Text, an image, text, an image, ..., text; the prompt, its ids and its visual tokens."""
    generator = torch.Generator().manual_seed(seed)
    positions: list[int] = []
    at = 2
    for length in lengths:
        positions += range(at, at + length)
        at += length + 2
    ids = torch.randint(0, spec.vocab, (1, at), generator=generator)
    visual = torch.randn(len(positions), spec.hidden, generator=generator)
    embeds = model.get_input_embeddings()(ids).detach().clone()
    embeds[0, positions] = visual
    grid = torch.randint(0, 9, (len(positions), 2), generator=generator).numpy()
    prior = torch.rand(len(positions), generator=generator).numpy() + np.float32(0.1)
    longs = np.int64
    prompt = Prompt(
        embeds,
        np.array(positions, longs),
        np.array(lengths, longs),
        grid.astype(np.float32),
        prior.astype(np.float32),
    )
    return prompt, ids.numpy(), visual.numpy()


def generate(
    path: Path,
    spec: TextSpec,
    prompt: Prompt,
    ids: Any,
    visual: Any,
    prior: str = "none",
    *,
    steps: int = STEPS,
    prune_layer: int = LAYER,
) -> full_attention.Answer:
    """Greedy tokens by prefill and decode steps of the graph."""
    session = onnxruntime.InferenceSession(path)
    half = session.get_inputs()[1].type == "tensor(float16)"
    dtype = np.float16 if half else np.float32
    names = cache_names(spec.layers, "past_key_values")
    nothing = np.zeros((1, spec.kv_heads, 0, spec.head_dim), dtype)
    feeds = {
        "input_ids": ids,
        "image_embeds": visual.astype(dtype),
        "visual_positions": prompt.visual_positions,
        "image_lengths": prompt.image_lengths,
        "token_grid": prompt.grid,
        "position_ids": np.arange(ids.shape[1])[None],
        **dict.fromkeys(names, nothing),
    }
    if prior == "file":
        feeds["prior"] = prompt.prior
    tokens, logits, survivors = [], [], None
    for step in range(steps):
        answer, positions, *present = session.run(None, feeds)
        assert answer.dtype == np.float32
        if survivors is None:
            survivors = [int(position) for position in positions]
        else:
            assert positions.tolist() == [0]
        logits.append(torch.from_numpy(answer))
        tokens.append(int(answer.argmax()))
        feeds |= {
            "input_ids": np.array([[tokens[-1]]]),
            "image_embeds": visual[:0].astype(dtype),
            "visual_positions": prompt.visual_positions[:0],
            "image_lengths": prompt.image_lengths[:0],
            "token_grid": prompt.grid[:0],
            "position_ids": np.array([[ids.shape[1] + step]]),
            **dict(zip(names, present, strict=True)),
        }
        if prior == "file":
            feeds["prior"] = prompt.prior[:0]
    assert survivors is not None
    full = feeds["past_key_values.0.key"].shape[2]
    assert full == ids.shape[1] + steps - 1
    assert feeds[f"past_key_values.{prune_layer}.key"].shape[2] == len(survivors) + steps - 1
    return full_attention.Answer(tokens, logits, survivors)


def error(answered: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest deviation relative to the largest magnitude."""
    return float((answered - expected).abs().max() / expected.abs().max())


def assert_equal(
    answered: full_attention.Answer, model: Any, prompt: Prompt, prior: str = "none"
) -> None:
    expected = full_attention.follow(model, prompt, answered.tokens, KEEP, LAYER, prior)
    assert answered.positions == expected.positions
    assert answered.tokens == expected.tokens
    assert max(map(error, answered.logits, expected.logits)) < 1e-4


@pytest.fixture(scope="module")
def pruning(tmp_path_factory: pytest.TempPathFactory) -> Callable[[TextSpec], Path]:
    """The graph of a language model that keeps four tokens, exported once."""

    @cache
    def graph(spec: TextSpec) -> Path:
        folder = tmp_path_factory.mktemp("pruning")
        return export(folder, spec, theirs(spec).state_dict(), KEEP)

    return graph


@pytest.mark.parametrize("spec", [deeper(spec) for spec in SPECS.values()], ids=SPECS)
def test_equals_whole_attention(pruning: Callable[[TextSpec], Path], spec: TextSpec) -> None:
    model = theirs(spec)
    model.set_attn_implementation("eager")
    path = pruning(spec)
    for seed, lengths in product(range(3), [(9,), (9, 4)]):
        prompt, ids, visual = prompt_of(model, spec, *lengths, seed=seed)
        answered = generate(path, spec, prompt, ids, visual)
        assert len(answered.positions) == ids.shape[1] - sum(lengths) + 4 * len(lengths)
        assert_equal(answered, model, prompt)


@pytest.mark.parametrize("opset", [18, 20, 23, 24])
def test_opsets(tmp_path: Path, opset: int) -> None:
    spec = deeper(SPECS["internlm2"])
    model = theirs(spec)
    model.set_attn_implementation("eager")
    path = export(tmp_path, spec, model.state_dict(), KEEP, opset=opset)
    imports = {entry.domain: entry.version for entry in onnx.load(path).opset_import}
    assert imports[""] == opset
    prompt, ids, visual = prompt_of(model, spec, 9, 4)
    assert_equal(generate(path, spec, prompt, ids, visual), model, prompt)


@pytest.mark.parametrize("prior", ["file", "shallow"])
def test_priors(tmp_path: Path, prior: str) -> None:
    spec = deeper(SPECS["qwen2"])
    model = theirs(spec)
    model.set_attn_implementation("eager")
    path = export(tmp_path, spec, model.state_dict(), KEEP, prior=prior)
    differ = 0
    for seed in range(4):
        prompt, ids, visual = prompt_of(model, spec, 9, 12, seed=seed)
        answered = generate(path, spec, prompt, ids, visual, prior)
        assert_equal(answered, model, prompt, prior)
        without = full_attention.follow(model, prompt, answered.tokens[:1], KEEP, LAYER)
        differ += without.positions != answered.positions
    assert differ  # else the prior would not matter here


def test_keeping_all_is_what_transformers_generates(tmp_path: Path) -> None:
    spec = deeper(SPECS["llama, grouped"])
    model = theirs(spec)
    path = export(tmp_path, spec, model.state_dict(), ALL)
    prompt, ids, visual = prompt_of(model, spec, 9, 4)
    answer = generate(path, spec, prompt, ids, visual)
    assert answer.positions == list(range(ids.shape[1]))
    expected = model.generate(
        inputs_embeds=prompt.embeds, max_new_tokens=STEPS, min_new_tokens=STEPS, do_sample=False
    )
    assert answer.tokens == expected[0].tolist()


def test_float16(tmp_path: Path) -> None:
    spec = deeper(SPECS["qwen2"])
    model = theirs(spec)
    model.set_attn_implementation("eager")
    path = export(tmp_path, spec, model.state_dict(), KEEP, precision="fp16")
    prompt, ids, visual = prompt_of(model, spec, 9, 4)
    answered = generate(path, spec, prompt, ids, visual)
    expected = full_attention.follow(model, prompt, answered.tokens, KEEP, LAYER)
    assert answered.positions == expected.positions
    assert error(answered.logits[0], expected.logits[0]) < 1e-2


def test_the_graph_is_plain(pruning: Callable[[TextSpec], Path]) -> None:
    """No weight is copied, and neither shape arithmetic nor casts are left over."""
    spec = deeper(SPECS["qwen2"])
    path = pruning(spec)
    graph = onnx.load(path, load_external_data=False).graph
    assert path.stat().st_size < 120_000
    counts = {op: sum(node.op_type == op for node in graph.node) for op in ("Cast", "MatMul")}
    assert counts["Cast"] == 2  # position ids, and where the new columns of a row begin
    # Per layer seven projections and two attention products; the importance row has two, and the
    # head one.
    assert counts["MatMul"] == 9 * spec.layers + 3
    names = {value for node in graph.node for value in node.output}
    assert {"layers.0", "layers.3", "importance"} <= names
