"""The decoder computes what transformers' Llama and Qwen2 compute."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from d2export.models.decoder import KeyValue, LanguageModel, causal_mask
from d2export.models.presets import TextSpec

transformers = pytest.importorskip("transformers", reason="transformers, to compare with")

LLAMA = TextSpec("llama", 64, 3, 4, 4, 96, 101, 1e4, 256, 1e-5)
SPECS = {
    "llama": LLAMA,
    "llama, grouped": replace(LLAMA, heads=8, kv_heads=2),
    "llama, tied": replace(LLAMA, tied=True),
    "qwen2": replace(LLAMA, backbone="qwen2", heads=8, kv_heads=2, rope_theta=1e6, norm_eps=1e-6),
    "internlm2": replace(LLAMA, backbone="internlm2", heads=8, kv_heads=2),
}


def theirs(spec: TextSpec) -> torch.nn.Module:
    torch.manual_seed(0)
    qwen = spec.backbone == "qwen2"
    config = (transformers.Qwen2Config if qwen else transformers.LlamaConfig)(
        hidden_size=spec.hidden,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.kv_heads,
        intermediate_size=spec.mlp,
        vocab_size=spec.vocab,
        max_position_embeddings=spec.max_positions,
        rms_norm_eps=spec.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": spec.rope_theta},
        tie_word_embeddings=spec.tied,
    )
    model = (transformers.Qwen2ForCausalLM if qwen else transformers.LlamaForCausalLM)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model.eval()


def ours(spec: TextSpec, weights: dict[str, torch.Tensor]) -> LanguageModel:
    """A model with the weights of transformers' model."""
    names = {
        "norm1": "input_layernorm",
        "norm2": "post_attention_layernorm",
        "attention.q": "self_attn.q_proj",
        "attention.k": "self_attn.k_proj",
        "attention.v": "self_attn.v_proj",
        "attention.out": "self_attn.o_proj",
        "mlp.gate": "mlp.gate_proj",
        "mlp.up": "mlp.up_proj",
        "mlp.down": "mlp.down_proj",
    }
    model = LanguageModel(spec).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("attention.qkv.weight"):
                layer = f"model.layers.{name.split('.')[1]}.self_attn"
                q, k, v = (weights[f"{layer}.{part}_proj.weight"] for part in "qkv")
                parameter.copy_(fused(spec, q, k, v))
                continue
            their = name.replace("embedding.", "embed_tokens.")
            for mine, other in names.items():
                their = their.replace(mine, other)
            parameter.copy_(weights["lm_head.weight" if "head" in name else f"model.{their}"])
    return model


def fused(spec: TextSpec, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """InternLM2's order: the queries of a key-value head, its key, its value, and so on."""
    groups = (spec.kv_heads, -1, spec.head_dim)
    parts = [part.unflatten(0, groups) for part in (q, k, v)]
    return torch.cat(parts, dim=1).flatten(0, 2)


def empty(spec: TextSpec) -> list[KeyValue]:
    nothing = torch.empty(1, spec.kv_heads, 0, spec.head_dim)
    return [KeyValue(nothing, nothing)] * spec.layers


def run(
    model: LanguageModel, ids: torch.Tensor, position_ids: torch.Tensor, past: list[KeyValue]
) -> tuple[torch.Tensor, list[KeyValue], torch.Tensor]:
    """Logits, keys and values, and the last token's attention row in the last layer."""
    states, rotation = model.embedding(ids), model.rotation(position_ids)
    mask = causal_mask(ids.shape[1], past[0].key.shape[2], states)
    present = []
    for layer, before in zip(model.all_layers(), past, strict=True):
        given = states
        states, after = layer(given, rotation, mask, before)
        present.append(after)
    row = model.all_layers()[-1].last_row(given, rotation, present[-1])
    return model.logits(states), present, row


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_equals_transformers(spec: TextSpec) -> None:
    reference = theirs(spec)
    model = ours(spec, reference.state_dict())
    ids = torch.randint(0, spec.vocab, (1, 23))
    positions = torch.arange(23).unsqueeze(0)
    with torch.inference_mode():
        logits, past, _ = run(model, ids, positions, empty(spec))
        expected = reference(ids)
        torch.testing.assert_close(logits, expected.logits, rtol=1e-5, atol=1e-4)
        # Further tokens, with what is remembered of the first; position ids may leave gaps.
        more, gaps = torch.randint(0, spec.vocab, (1, 5)), torch.tensor([[23, 24, 30, 31, 40]])
        expected = reference(more, position_ids=gaps, past_key_values=expected.past_key_values)
        logits, _, _ = run(model, more, gaps, past)
    torch.testing.assert_close(logits, expected.logits, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_last_row_is_the_last_row_of_the_whole_attention(spec: TextSpec) -> None:
    reference = theirs(spec)
    reference.set_attn_implementation("eager")
    model = ours(spec, reference.state_dict())
    ids = torch.randint(0, spec.vocab, (1, 23))
    with torch.inference_mode():
        _, _, row = run(model, ids, torch.arange(23).unsqueeze(0), empty(spec))
        expected = reference(ids, output_attentions=True).attentions[-1]
    torch.testing.assert_close(row, expected[:, :, -1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(row.sum(dim=2), torch.ones(1, spec.heads))
