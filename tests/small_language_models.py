"""The language models of small checkpoints, under the names that the published ones have.

The names are written out here, apart from the tables under test.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

Backbone = Literal["qwen2", "llama", "internlm2"]

HIDDEN, LAYERS, HEADS, MLP, VOCAB = 48, 4, 4, 96, 100
HEAD_DIM = HIDDEN // HEADS

# family: key-value heads; LLaVA's Llama has as many as heads
KV_HEADS = {"internvl": 2, "llava": 4}

ARCHITECTURES: dict[Backbone, str] = {
    "qwen2": "Qwen2ForCausalLM",
    "llama": "LlamaForCausalLM",
    "internlm2": "InternLM2ForCausalLM",
}

# layout: what is in front of the names of the body, and of the head
PREFIXES = {
    "internvl": ("language_model.model.", "language_model."),
    "internvl-hf": ("language_model.model.", "language_model."),
    "llava": ("model.", ""),
    "llava-hf": ("language_model.model.", "language_model."),
}


def language_config(family: str, backbone: Backbone) -> dict[str, Any]:
    """What config.json says of the language model, but for its architecture."""
    config: dict[str, Any] = {
        "model_type": backbone,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS[family],
        "intermediate_size": MLP,
        "vocab_size": VOCAB,
        "max_position_embeddings": 512,
    }
    if backbone == "internlm2":
        config["bias"] = False
    return config


def language_weights(family: str, backbone: Backbone, seed: int) -> dict[str, np.ndarray]:
    """Canonical name to float32 values, query, key and value apart; without the embeddings.

    Whatever the backbone, parameters of one name have the same values.
    """
    weights: dict[str, np.ndarray] = {}
    rng = np.random.default_rng([seed, 1])

    def norm(name: str) -> None:
        values = 1 + 0.1 * rng.standard_normal(HIDDEN)
        weights[f"{name}.weight"] = values.astype(np.float32)

    def linear(name: str, rows: int, columns: int, gain: float) -> None:
        values = gain * columns**-0.5 * rng.standard_normal((rows, columns))
        weights[f"{name}.weight"] = values.astype(np.float32)

    kv = KV_HEADS[family] * HEAD_DIM
    for i in range(LAYERS):
        layer = f"text.layers.{i}"
        norm(f"{layer}.norm1")
        norm(f"{layer}.norm2")
        for part, rows in (("q", HIDDEN), ("k", kv), ("v", kv)):
            linear(f"{layer}.attention.{part}", rows, HIDDEN, gain=1.5)
            bias = 0.3 * rng.standard_normal(rows)
            if backbone == "qwen2":
                weights[f"{layer}.attention.{part}.bias"] = bias.astype(np.float32)
        linear(f"{layer}.attention.out", HIDDEN, HIDDEN, gain=0.75)
        linear(f"{layer}.mlp.gate", MLP, HIDDEN, gain=1)
        linear(f"{layer}.mlp.up", MLP, HIDDEN, gain=1)
        linear(f"{layer}.mlp.down", HIDDEN, MLP, gain=0.75)
    norm("text.norm")
    linear("text.head", VOCAB, HIDDEN, gain=3)
    return weights


def stored_language(
    layout: str, backbone: Backbone, w: dict[str, np.ndarray], embeddings: np.ndarray
) -> dict[str, np.ndarray]:
    """The same under the names of a layout; `w` without a head if it is tied."""
    body, outer = PREFIXES[layout]
    if backbone == "internlm2":
        stored = {f"{body}tok_embeddings.weight": embeddings}
        head = "output"
    else:
        stored = {f"{body}embed_tokens.weight": embeddings}
        head = "lm_head"
    stored[f"{body}norm.weight"] = w["text.norm.weight"]
    if "text.head.weight" in w:
        stored[f"{outer}{head}.weight"] = w["text.head.weight"]
    for i in range(LAYERS):
        layer = {
            name.removeprefix(f"text.layers.{i}."): values
            for name, values in w.items()
            if name.startswith(f"text.layers.{i}.")
        }
        named = _internlm2(layer) if backbone == "internlm2" else _llama(layer)
        stored |= {f"{body}layers.{i}.{name}": values for name, values in named.items()}
    return stored


def _llama(w: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    stored = {
        "input_layernorm.weight": w["norm1.weight"],
        "self_attn.o_proj.weight": w["attention.out.weight"],
        "post_attention_layernorm.weight": w["norm2.weight"],
        "mlp.gate_proj.weight": w["mlp.gate.weight"],
        "mlp.up_proj.weight": w["mlp.up.weight"],
        "mlp.down_proj.weight": w["mlp.down.weight"],
    }
    for part in "qkv":
        for leaf in ("weight", "bias"):
            if f"attention.{part}.{leaf}" in w:
                stored[f"self_attn.{part}_proj.{leaf}"] = w[f"attention.{part}.{leaf}"]
    return stored


def _internlm2(w: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        "attention_norm.weight": w["norm1.weight"],
        "attention.wqkv.weight": fused(*(w[f"attention.{part}.weight"] for part in "qkv")),
        "attention.wo.weight": w["attention.out.weight"],
        "ffn_norm.weight": w["norm2.weight"],
        "feed_forward.w1.weight": w["mlp.gate.weight"],
        "feed_forward.w3.weight": w["mlp.up.weight"],
        "feed_forward.w2.weight": w["mlp.down.weight"],
    }


def fused(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    """InternLM2's order: the queries of a key-value head, its key, its value, and so on."""
    heads = len(key) // HEAD_DIM
    parts = zip(*(np.split(part, heads) for part in (query, key, value)), strict=True)
    return np.concatenate([part for of_one_head in parts for part in of_one_head])
