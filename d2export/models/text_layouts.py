"""Where each parameter of the language model lies in each checkpoint layout.

The canonical names are those of `decoder.py`, below `text.`; the counterpart of `layouts.py`.
Names as published in InternVL's and LLaVA's checkpoints, and as transformers writes and reads them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from d2export.errors import CheckpointError
from d2export.models.layouts import Shape, is_needed, part_of
from d2export.models.presets import ModelSpec, TextSpec
from d2export.models.safetensors_file import TensorRef


@dataclass(frozen=True)
class TextLayout:
    """One way to store a language model: the prefix of its body, the name of its head.

    In `names`, below the prefix, `{i}` stands for the layer; `.weight`, `.bias` are left as is.
    """

    prefix: str
    head: str
    names: Mapping[str, str]

    def stored_name(self, canonical: str) -> str:
        """The tensor that holds a parameter."""
        layer = re.search(r"\.layers\.(\d+)\.", canonical)
        key, _, leaf = re.sub(r"\.layers\.\d+\.", ".layers.{i}.", canonical).rpartition(".")
        if key == "text.head":
            return f"{self.head}.{leaf}"
        name = self.names[key].replace("{i}", layer[1] if layer else "")
        return f"{self.prefix}{name}.{leaf}"


LLAMA_NAMES = {
    "text.embedding": "embed_tokens",
    "text.layers.{i}.norm1": "layers.{i}.input_layernorm",
    "text.layers.{i}.attention.q": "layers.{i}.self_attn.q_proj",
    "text.layers.{i}.attention.k": "layers.{i}.self_attn.k_proj",
    "text.layers.{i}.attention.v": "layers.{i}.self_attn.v_proj",
    "text.layers.{i}.attention.out": "layers.{i}.self_attn.o_proj",
    "text.layers.{i}.norm2": "layers.{i}.post_attention_layernorm",
    "text.layers.{i}.mlp.gate": "layers.{i}.mlp.gate_proj",
    "text.layers.{i}.mlp.up": "layers.{i}.mlp.up_proj",
    "text.layers.{i}.mlp.down": "layers.{i}.mlp.down_proj",
    "text.norm": "norm",
}

INTERNLM2_NAMES = {
    "text.embedding": "tok_embeddings",
    "text.layers.{i}.norm1": "layers.{i}.attention_norm",
    "text.layers.{i}.attention.qkv": "layers.{i}.attention.wqkv",
    "text.layers.{i}.attention.out": "layers.{i}.attention.wo",
    "text.layers.{i}.norm2": "layers.{i}.ffn_norm",
    "text.layers.{i}.mlp.gate": "layers.{i}.feed_forward.w1",
    "text.layers.{i}.mlp.up": "layers.{i}.feed_forward.w3",
    "text.layers.{i}.mlp.down": "layers.{i}.feed_forward.w2",
    "text.norm": "norm",
}

# As published by InternVL, and as transformers writes; as it holds them; as published by LLaVA.
LLAMA_LAYOUTS = tuple(
    TextLayout(prefix, head, LLAMA_NAMES)
    for prefix, head in (
        ("language_model.model.", "language_model.lm_head"),
        ("language_model.model.", "lm_head"),
        ("model.language_model.", "lm_head"),
        ("language_model.", "lm_head"),
        ("model.", "lm_head"),
    )
)
INTERNLM2 = TextLayout("language_model.model.", "language_model.output", INTERNLM2_NAMES)

HEADS = tuple({f"{layout.head}.weight" for layout in (*LLAMA_LAYOUTS, INTERNLM2)})
# What is of the language model too, under whatever prefix its body is.
ELSEWHERE = ("language_model.", "model.language_model.", "lm_head.")
COMPUTED = ("rotary_emb.inv_freq",)  # buffers that old checkpoints hold, and nothing reads

# Surplus tensors that say by themselves why others may be missing: names, what they are, next step.
FOREIGN = (
    (
        r"\.(qweight|qzeros|scales|g_idx|weight_scale\w*|weight_packed|SCB|absmax|quant_map)$"
        r"|\.weight\.(absmax|quant_map|nested_\w+|quant_state\b.*)$",
        "belong to a quantized checkpoint, which is not read",
        "Use the original checkpoint; --precision decides what is built from it.",
    ),
    (
        r"\.(lora_\w+|base_layer|modules_to_save)\.",
        "belong to an adapter; leaving them out would change what the model answers",
        "Merge it into the weights first, for example with merge_and_unload() of peft.",
    ),
)
UNKNOWN = (
    "are unknown; leaving them out would change what the model answers",
    "The config.json does not belong to these weights, or they are of a model that computes "
    "something else.",
)


def written_layout(text: TextSpec) -> TextLayout:
    """The layout in which random weights are written."""
    return INTERNLM2 if text.fused_qkv else LLAMA_LAYOUTS[0]


def text_shapes(text: TextSpec) -> dict[str, Shape]:
    """Every parameter of the language model: canonical name and shape."""
    d, kv = text.hidden, text.kv_heads * text.head_dim
    projections = {"q": d, "k": kv, "v": kv}
    if text.fused_qkv:
        projections = {"qkv": d + 2 * kv}
    shapes: dict[str, Shape] = {"text.embedding.weight": (text.vocab, d)}
    for i in range(text.layers):
        layer = f"text.layers.{i}"
        shapes[f"{layer}.norm1.weight"] = (d,)
        for name, rows in projections.items():
            shapes[f"{layer}.attention.{name}.weight"] = (rows, d)
            if text.qkv_bias:
                shapes[f"{layer}.attention.{name}.bias"] = (rows,)
        shapes[f"{layer}.attention.out.weight"] = (d, d)
        shapes[f"{layer}.norm2.weight"] = (d,)
        shapes[f"{layer}.mlp.gate.weight"] = shapes[f"{layer}.mlp.up.weight"] = (text.mlp, d)
        shapes[f"{layer}.mlp.down.weight"] = (d, text.mlp)
    shapes["text.norm.weight"] = (d,)
    if not text.tied:
        shapes["text.head.weight"] = (text.vocab, d)
    return shapes


def resolve_text(tensors: Mapping[str, TensorRef], spec: ModelSpec) -> dict[str, TensorRef]:
    """Where each parameter of the language model lies: canonical name to bytes.

    Raises:
        CheckpointError: a tensor is missing, surplus, has a wrong shape, or a dtype other than
            F32, F16 and BF16.
    """
    shapes = text_shapes(spec.text)
    layout, names = _identify(tensors, spec, shapes)
    surplus = sorted(name for name in tensors if _is_surplus(name, layout, names.values()))
    for pattern, meaning, hint in FOREIGN:
        foreign = [name for name in surplus if re.search(pattern, name)]
        if foreign:
            raise _refusal(spec, foreign, meaning, hint)
    missing = sorted(set(names.values()) - tensors.keys())
    if missing:
        raise CheckpointError(
            f"{spec.name}: {len(missing)} of {len(names)} tensors of the language model are "
            f"missing: {_some(missing)}",
            "Is the checkpoint complete, and is its config.json the one that belongs to it?",
        )
    if surplus:
        raise _refusal(spec, surplus, *UNKNOWN)
    return {
        canonical: part_of(name, tensors[name], None, shapes[canonical])
        for canonical, name in names.items()
    }


def _identify(
    tensors: Collection[str], spec: ModelSpec, shapes: Collection[str]
) -> tuple[TextLayout, dict[str, str]]:
    """Each parameter's stored name, in the layout that explains most of the tensors there are."""
    layouts = (INTERNLM2,) if spec.text.fused_qkv else LLAMA_LAYOUTS
    candidates = [
        (layout, {canonical: layout.stored_name(canonical) for canonical in shapes})
        for layout in layouts
    ]
    best = max(candidates, key=lambda found: sum(name in tensors for name in found[1].values()))
    if not any(name in tensors for name in best[1].values()):
        known = ", ".join(dict.fromkeys(f"'{layout.prefix}*'" for layout in layouts))
        raise CheckpointError(
            f"{spec.name}: none of the {len(tensors)} tensors belongs to a {spec.text.backbone} "
            f"language model (first names: {_some(sorted(tensors))}); supported: {known}",
            "Is this the full multimodal checkpoint, and its config.json the one that belongs to "
            "it? --scope vision needs no language model.",
        )
    return best


def _is_surplus(name: str, layout: TextLayout, used: Collection[str]) -> bool:
    ours = name.startswith((layout.prefix, *ELSEWHERE))
    return (
        ours and not is_needed(name, "tower") and name not in used and not name.endswith(COMPUTED)
    )


def _refusal(spec: ModelSpec, names: list[str], meaning: str, hint: str) -> CheckpointError:
    return CheckpointError(
        f"{spec.name}: {len(names)} tensors of the language model {meaning}: {_some(names)}", hint
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
