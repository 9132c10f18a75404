"""PyTorch's side of engine.py: what it answers in float32, and how fast it is: part of engine.py.

Answers are those of d2export's own modules, which have the weights. Times are those of the classes
in transformers with their fused attention, in float16: faster, and independent of weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from engine_parts import TEXT_TOKENS, Arrays, grid_of
from engine_table import NotRun
from launch import microseconds

from d2export.bundle.folder import Bundle
from d2export.export import pruned_decoder, torch_op
from d2export.export.pruned_decoder import PrunedDecoder
from d2export.export.weights import load_into, stored_refs
from d2export.models.decoder import inverse_frequencies
from d2export.models.presets import ModelSpec
from d2export.models.vision_tower import Projector
from d2export.verify.accuracy import tolerances_of
from d2export.verify.pytorch import load_module

RUNS = 20


@dataclass(frozen=True)
class Comparison:
    """An engine's answer beside PyTorch's."""

    passed: bool
    text: str


# --- Answers --------------------------------------------------------------------------------------


@contextmanager
def exact() -> Iterator[None]:
    """Products in float32, not in TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def vision_answer(bundle: Bundle, inputs: Arrays, device: str) -> Arrays:
    """Kept tokens and their embeddings by PyTorch; `bundle` has weights in float."""
    module = load_module(bundle).to(device)
    pixels, grid = (
        torch.from_numpy(inputs[name].astype(np.float32)).to(device)
        for name in ("pixel_values", "token_grid")
    )
    with torch.inference_mode(), exact():
        looked = module.look(pixels, grid, tiles_at_once=4)
    # The selection where it is defined: on the CPU.
    tokens = looked.tokens.cpu()
    scored = type(looked.scored)(*(tensor.cpu() for tensor in looked.scored))
    if looked.scored.features is looked.tokens:
        scored = scored._replace(features=tokens)
    with torch.inference_mode():
        kept, indices, *_ = module.choose(type(looked)(tokens, scored))
    return {"image_embeds": kept.numpy(), "kept_indices": indices.numpy()}


def decoder_answer(bundle: Bundle, spec: ModelSpec, inputs: Arrays, device: str) -> Arrays:
    """Surviving positions and logits by PyTorch."""
    graph = bundle.manifest.graphs.decoder
    assert graph is not None
    with torch.device("meta"):
        module = PrunedDecoder(spec.text, bundle.manifest.plan, spec.vision.tokens_per_side)
    module.model.to_empty(device=device)
    load_into(module.model, stored_refs(bundle.path(graph.path)))
    module.model.text.inverse_frequencies = inverse_frequencies(spec.text).to(device)
    tensors = {name: torch.from_numpy(array).to(device) for name, array in inputs.items()}
    tensors = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
    past = [tensors.pop(name) for name in inputs if name.startswith("past_key_values.")]
    with (
        torch.inference_mode(),
        exact(),
        torch.device(device),
        patch.object(pruned_decoder, "prune_positions", on_the_cpu),
    ):
        answer = module(past=past, **tensors)
    return {"logits": answer[0].cpu().numpy(), "positions": answer[1].cpu().numpy()}


def on_the_cpu(*tensors: torch.Tensor) -> torch.Tensor:
    """`prune_positions` where it is defined, whatever device the decoder is on."""
    *inputs, parameters = tensors
    with torch.device("cpu"):
        found = torch_op.prune_positions(*(tensor.cpu() for tensor in inputs), parameters)
    return found.to(inputs[0].device)


def compare(
    bundle: Bundle, answered: Arrays, expected: Arrays, kept: str, values: str
) -> Comparison:
    """Kept tokens by their share, values by their largest deviation.

    Args:
        kept: name of the output with kept tokens.
        values: of the one with embeddings, a row for each, or with logits.
    """
    tolerances = tolerances_of(bundle.manifest.precision, bundle.manifest.plan)
    _, ours, theirs = np.intersect1d(answered[kept], expected[kept], return_indices=True)
    share = len(ours) / max(len(answered[kept]), len(expected[kept]))
    found, wanted = (one[values].astype(np.float32) for one in (answered, expected))
    if len(found) == len(answered[kept]):
        found, wanted, limit = found[ours], wanted[theirs], tolerances.embeddings
    else:
        limit = tolerances.logits
    error = float(np.abs(found - wanted).max(initial=0) / np.abs(wanted).max(initial=1e-30))
    finite = bool(np.isfinite(found).all())
    # Logits are of other tokens where others were kept.
    comparable = share == 1 or limit is tolerances.embeddings
    passed = finite and share >= tolerances.indices and (error <= limit or not comparable)
    text = f"kept {share:.2%} as PyTorch, {values} off by {error:.1e} of the largest"
    return Comparison(passed, text if finite else f"{values} are not finite; {text}")


# --- Times ----------------------------------------------------------------------------------------


def milliseconds(call: Callable[[], object], *, compiled: bool) -> float:
    """Median of one call on the GPU."""
    run = torch.compile(call) if compiled else call
    with torch.inference_mode():
        return microseconds(run, RUNS, 1) / 1e3


def vision_call(spec: ModelSpec, device: str = "cuda") -> Callable[[], object]:
    """InternViT and the projector in float16, without selection.

    Raises:
        NotRun: transformers is missing, or the model is another one.
    """
    transformers = _transformers()
    vision = spec.vision
    if spec.family != "internvl":
        raise NotRun("PyTorch's time is for InternVL alone")
    config = transformers.InternVLVisionConfig(
        hidden_size=vision.hidden,
        num_hidden_layers=vision.used_layers,
        num_attention_heads=vision.heads,
        intermediate_size=vision.mlp,
        image_size=[vision.image.size] * 2,
        patch_size=[vision.patch] * 2,
        attention_bias=True,
        use_absolute_position_embeddings=True,
    )
    with torch.device(device), _half():
        tower = transformers.InternVLVisionModel(config).eval()
        projector = Projector(vision, spec.text.hidden).eval()
        size = vision.image.size
        tiles = len(grid_of(spec)) // vision.tokens_per_tile
        pixels = torch.randn(tiles, 3, size, size)

    def call() -> torch.Tensor:
        states = tower(pixels).last_hidden_state[:, 1:]
        seen: torch.Tensor = projector(projector.merge(states))
        return seen

    return call


def prefill_call(spec: ModelSpec, device: str = "cuda") -> Callable[[], object]:
    """The language model in float16 over a prompt of the same length, unpruned.

    Raises:
        NotRun: transformers is missing.
    """
    transformers = _transformers()
    text = spec.text
    config = transformers.LlamaConfig(
        hidden_size=text.hidden,
        num_hidden_layers=text.layers,
        num_attention_heads=text.heads,
        num_key_value_heads=text.kv_heads,
        intermediate_size=text.mlp,
        vocab_size=text.vocab,
        max_position_embeddings=text.max_positions,
    )
    with torch.device(device), _half():
        model = transformers.LlamaForCausalLM(config).eval()
        ids = torch.zeros(1, len(grid_of(spec)) + TEXT_TOKENS, dtype=torch.int64)

    def call() -> torch.Tensor:
        logits: torch.Tensor = model(ids, logits_to_keep=1).logits
        return logits

    return call


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise NotRun("transformers is missing: pip install transformers") from None
    return transformers


@contextmanager
def _half() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
