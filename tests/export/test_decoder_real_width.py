"""Two decoder layers of InternVL2.5-8B and of LLaVA-1.5-7B at their real width."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from d2export.export.decoder import trace_decoder
from d2export.export.graph_file import write_graph
from d2export.export.weights import PlacedWeights
from d2export.models.decoder import inverse_frequencies
from d2export.models.presets import TextSpec, preset
from d2export.models.safetensors_file import TensorToWrite, encode, read_header, write
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.plan import d2_plan
from tests import full_attention
from tests.export.test_decoder_graph import error, generate, prompt_of
from tests.models.test_decoder import ours, theirs

pytestmark = pytest.mark.real_size

KEEP = PruneParameters(keep=64)
VISUAL = (576, 256)  # tokens of two images


def scaled(model: torch.nn.Module) -> torch.nn.Module:
    """Weights for this width, as bfloat16 can hold them."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.normal_(1, 0.1, generator=generator)
            elif "embed" in name:
                parameter.normal_(0, 1, generator=generator)
            else:
                parameter.normal_(0, 1.5 * parameter.shape[1] ** -0.5, generator=generator)
            parameter.copy_(parameter.bfloat16().float())
    return model


def stored(folder: Path, spec: TextSpec, model: torch.nn.Module) -> PlacedWeights:
    """The weights in bfloat16, as published."""
    path = folder / "weights.safetensors"
    parameters = dict(ours(spec, model.state_dict()).named_parameters())
    write(
        path,
        [
            TensorToWrite(
                f"text.{name}",
                "BF16",
                tuple(value.shape),
                lambda value=value: iter([encode(value.detach().numpy(), "BF16")]),  # type: ignore[misc]
            )
            for name, value in parameters.items()
        ],
    )
    return PlacedWeights(read_header(path), "copied")


@pytest.mark.parametrize("name", ["internvl2.5-8b", "llava-1.5-7b"])
def test_equals_whole_attention(tmp_path: Path, name: str) -> None:
    spec = replace(preset(name).text, layers=2, vocab=2048)
    model = scaled(theirs(spec))
    model.set_attn_implementation("eager")
    weights = stored(tmp_path, spec, model)
    graph = trace_decoder(spec, d2_plan(KEEP, layer=1), 17)
    constants = {"model.text.inverse_frequencies": inverse_frequencies(spec).numpy()}
    write_graph(graph, tmp_path / "decoder.onnx", weights, constants, "fp32")
    prompt, ids, visual = prompt_of(model, spec, *VISUAL)
    answered = generate(
        tmp_path / "decoder.onnx", spec, prompt, ids, visual, steps=3, prune_layer=1
    )
    expected = full_attention.follow(model, prompt, answered.tokens, KEEP, 1)
    assert answered.positions == expected.positions
    assert len(expected.positions) == ids.shape[1] - sum(VISUAL) + 2 * 64
    assert answered.tokens == expected.tokens
    assert max(map(error, answered.logits, expected.logits)) < 1e-4
    assert np.isfinite(answered.logits[0].numpy()).all()
