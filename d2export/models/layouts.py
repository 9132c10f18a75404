"""Where each parameter of the vision graph lies in each checkpoint layout.

The canonical names are those of `vision_tower.py`. A layout is a table from canonical to stored
names. Names as published in InternVL's and LLaVA's repositories and checkpoints, and as
transformers writes and reads them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import product

from d2export.errors import CheckpointError
from d2export.models.presets import ModelSpec
from d2export.models.safetensors_file import TensorRef

Shape = tuple[int, ...]

FLOAT_DTYPES = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class Layout:
    """One way to store a model. `{i}` stands for the layer; `.weight`, `.bias` are left as is.

    `tower` and `projector` are the prefixes in use, the one to write first. A name ending in
    `[k]` is the k-th third of the rows of a fused tensor. `leading_ones` counts the axes of
    size 1 in front of a stored tensor.
    """

    name: str
    family: str
    tower: tuple[str, ...]
    projector: tuple[str, ...]
    names: Mapping[str, str]
    leading_ones: Mapping[str, int] = field(default_factory=dict)


INTERN_VIT_ONES = {"tower.cls_token": 2, "tower.position_embedding": 1}

INTERNVL = Layout(
    name="internvl",
    family="internvl",
    tower=("vision_model.",),
    projector=("mlp1.",),
    names={
        "tower.cls_token": "embeddings.class_embedding",
        "tower.position_embedding": "embeddings.position_embedding",
        "tower.patch_embedding": "embeddings.patch_embedding",
        "tower.layers.{i}.norm1": "encoder.layers.{i}.norm1",
        "tower.layers.{i}.attention.q": "encoder.layers.{i}.attn.qkv[0]",
        "tower.layers.{i}.attention.k": "encoder.layers.{i}.attn.qkv[1]",
        "tower.layers.{i}.attention.v": "encoder.layers.{i}.attn.qkv[2]",
        "tower.layers.{i}.attention.out": "encoder.layers.{i}.attn.proj",
        "tower.layers.{i}.scale1": "encoder.layers.{i}.ls1",
        "tower.layers.{i}.norm2": "encoder.layers.{i}.norm2",
        "tower.layers.{i}.mlp.up": "encoder.layers.{i}.mlp.fc1",
        "tower.layers.{i}.mlp.down": "encoder.layers.{i}.mlp.fc2",
        "tower.layers.{i}.scale2": "encoder.layers.{i}.ls2",
        "projector.norm": "0",
        "projector.linear1": "1",
        "projector.linear2": "3",
    },
    leading_ones=INTERN_VIT_ONES,
)

INTERNVL_HF = Layout(
    name="internvl-hf",
    family="internvl",
    tower=("vision_tower.", "model.vision_tower."),
    projector=("multi_modal_projector.", "model.multi_modal_projector."),
    names={
        "tower.cls_token": "embeddings.cls_token",
        "tower.position_embedding": "embeddings.position_embeddings",
        "tower.patch_embedding": "embeddings.patch_embeddings.projection",
        "tower.layers.{i}.norm1": "encoder.layer.{i}.layernorm_before",
        "tower.layers.{i}.attention.q": "encoder.layer.{i}.attention.q_proj",
        "tower.layers.{i}.attention.k": "encoder.layer.{i}.attention.k_proj",
        "tower.layers.{i}.attention.v": "encoder.layer.{i}.attention.v_proj",
        "tower.layers.{i}.attention.out": "encoder.layer.{i}.attention.projection_layer",
        "tower.layers.{i}.scale1": "encoder.layer.{i}.lambda_1",
        "tower.layers.{i}.norm2": "encoder.layer.{i}.layernorm_after",
        "tower.layers.{i}.mlp.up": "encoder.layer.{i}.mlp.fc1",
        "tower.layers.{i}.mlp.down": "encoder.layer.{i}.mlp.fc2",
        "tower.layers.{i}.scale2": "encoder.layer.{i}.lambda_2",
        "projector.norm": "layer_norm",
        "projector.linear1": "linear_1",
        "projector.linear2": "linear_2",
    },
    leading_ones=INTERN_VIT_ONES,
)

CLIP_NAMES = {
    "tower.cls_token": "embeddings.class_embedding",
    "tower.position_embedding": "embeddings.position_embedding.weight",
    "tower.patch_embedding": "embeddings.patch_embedding",
    "tower.pre_norm": "pre_layrnorm",  # CLIP's own spelling
    "tower.layers.{i}.norm1": "encoder.layers.{i}.layer_norm1",
    "tower.layers.{i}.attention.q": "encoder.layers.{i}.self_attn.q_proj",
    "tower.layers.{i}.attention.k": "encoder.layers.{i}.self_attn.k_proj",
    "tower.layers.{i}.attention.v": "encoder.layers.{i}.self_attn.v_proj",
    "tower.layers.{i}.attention.out": "encoder.layers.{i}.self_attn.out_proj",
    "tower.layers.{i}.norm2": "encoder.layers.{i}.layer_norm2",
    "tower.layers.{i}.mlp.up": "encoder.layers.{i}.mlp.fc1",
    "tower.layers.{i}.mlp.down": "encoder.layers.{i}.mlp.fc2",
}

LLAVA = Layout(
    name="llava",
    family="llava",
    tower=("model.vision_tower.vision_tower.vision_model.",),
    projector=("model.mm_projector.",),
    names={**CLIP_NAMES, "projector.linear1": "0", "projector.linear2": "2"},
)

LLAVA_HF = Layout(
    name="llava-hf",
    family="llava",
    tower=(
        "vision_tower.vision_model.",
        "vision_tower.",  # written by transformers 5
        "model.vision_tower.vision_model.",
        "model.vision_tower.",
    ),
    projector=("multi_modal_projector.", "model.multi_modal_projector."),
    names={**CLIP_NAMES, "projector.linear1": "linear_1", "projector.linear2": "linear_2"},
)

LAYOUTS = (INTERNVL, INTERNVL_HF, LLAVA, LLAVA_HF)

PROMPT_EMBEDDINGS = (
    "language_model.model.embed_tokens.weight",
    "language_model.model.tok_embeddings.weight",  # InternLM2
    "model.language_model.embed_tokens.weight",
    "language_model.embed_tokens.weight",
    "model.embed_tokens.weight",  # LLaVA as published
)

_PREFIXES = tuple({p for layout in LAYOUTS for p in (*layout.tower, *layout.projector)})


def is_needed(name: str, scope: str = "vision") -> bool:
    """Whether a scope may need the stored tensor `name`, in any layout.

    `vlm` needs all of them, `vision` the tower, the projector and the token embeddings, `tower`
    the tower and the projector alone.
    """
    if scope == "vlm" or name.startswith(_PREFIXES):
        return True
    return scope == "vision" and name in PROMPT_EMBEDDINGS


def parameter_shapes(spec: ModelSpec) -> dict[str, Shape]:
    """Every parameter of the vision graph: canonical name and shape."""
    vision, text = spec.vision, spec.text.hidden
    d, m, merged = vision.hidden, vision.mlp, vision.hidden * vision.downsample**2
    shapes: dict[str, Shape] = {
        "tower.position_embedding": (vision.patches_per_side**2 + vision.class_token, d),
        "tower.patch_embedding.weight": (d, 3, vision.patch, vision.patch),
    }
    if vision.class_token:
        shapes["tower.cls_token"] = (d,)
    if vision.patch_bias:
        shapes["tower.patch_embedding.bias"] = (d,)

    def affine(name: str, weight: Shape) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = weight, weight[:1]

    if vision.pre_norm:
        affine("tower.pre_norm", (d,))
    for i in range(vision.used_layers):
        layer = f"tower.layers.{i}"
        affine(f"{layer}.norm1", (d,))
        for part in ("q", "k", "v", "out"):
            affine(f"{layer}.attention.{part}", (d, d))
        affine(f"{layer}.norm2", (d,))
        affine(f"{layer}.mlp.up", (m, d))
        affine(f"{layer}.mlp.down", (d, m))
        if vision.layer_scale:
            shapes[f"{layer}.scale1"] = shapes[f"{layer}.scale2"] = (d,)
    if vision.projector_norm:
        affine("projector.norm", (merged,))
    affine("projector.linear1", (text, merged))
    affine("projector.linear2", (text, text))
    return shapes


def stored_name(
    layout: Layout, canonical: str, tower: str | None = None, projector: str | None = None
) -> tuple[str, int | None]:
    """The tensor that holds a parameter, and which third of its rows (None: all of it).

    `tower` and `projector` are the prefixes to use; by default those to write.
    """
    layer = re.search(r"\.layers\.(\d+)\.", canonical)
    key = re.sub(r"\.layers\.\d+\.", ".layers.{i}.", canonical)
    leaf = ""
    if key not in layout.names:
        key, _, leaf = key.rpartition(".")
    name, _, third = layout.names[key].rstrip("]").partition("[")
    if canonical.startswith("tower."):
        prefix = layout.tower[0] if tower is None else tower
    else:
        prefix = layout.projector[0] if projector is None else projector
    stored = prefix + name.replace("{i}", layer[1] if layer else "") + (leaf and f".{leaf}")
    return stored, int(third) if third else None


def resolve(tensors: Mapping[str, TensorRef], spec: ModelSpec) -> dict[str, TensorRef]:
    """Where each parameter lies: canonical name to bytes, under the canonical shape.

    Raises:
        CheckpointError: no layout of the family fits, or a tensor is missing, has a wrong shape,
            or a dtype other than F32, F16 and BF16.
    """
    shapes = parameter_shapes(spec)
    sources = _identify(tensors, spec, shapes)
    missing = sorted({name for name, _ in sources.values() if name not in tensors})
    if missing:
        raise CheckpointError(
            f"{spec.name}: {len(missing)} of {len(sources)} tensors are missing: "
            + ", ".join(missing[:3])
            + (", ..." if len(missing) > 3 else ""),
            "Is the checkpoint complete, and is its config.json the one that belongs to it?",
        )
    return {
        canonical: part_of(name, tensors[name], third, shapes[canonical])
        for canonical, (name, third) in sources.items()
    }


def prompt_embedding(tensors: Mapping[str, TensorRef], spec: ModelSpec) -> TensorRef | None:
    """Where the token embeddings `[vocab, hidden]` lie; None if the checkpoint has none.

    Raises:
        CheckpointError: the table has another shape or an unsupported dtype.
    """
    for name in PROMPT_EMBEDDINGS:
        if name in tensors:
            return part_of(name, tensors[name], None, (spec.text.vocab, spec.text.hidden))
    return None


def _identify(
    tensors: Collection[str], spec: ModelSpec, shapes: Collection[str]
) -> dict[str, tuple[str, int | None]]:
    """Each parameter's stored name, in the layout that explains most of the tensors there are."""
    candidates = [
        {canonical: stored_name(layout, canonical, *prefixes) for canonical in shapes}
        for layout in LAYOUTS
        if layout.family == spec.family
        for prefixes in product(layout.tower, layout.projector)
    ]
    best = max(candidates, key=lambda names: sum(name in tensors for name, _ in names.values()))
    if not any(name in tensors for name, _ in best.values()):
        known = ", ".join(
            f"'{layout.tower[0]}*' ({layout.name})"
            for layout in LAYOUTS
            if layout.family == spec.family
        )
        some = ", ".join(sorted(tensors)[:3]) or "none"
        raise CheckpointError(
            f"{spec.name}: unknown checkpoint layout: none of the {len(tensors)} tensors belongs "
            f"to a vision tower or projector (first names: {some}); supported: {known}",
            "Is this the full multimodal checkpoint, not the language model or an adapter alone?",
        )
    return best


def part_of(name: str, ref: TensorRef, third: int | None, shape: Shape) -> TensorRef:
    """A stored tensor, or a third of its rows, under the canonical shape.

    Raises:
        CheckpointError: it has another shape, or a dtype other than F32, F16 and BF16.
    """
    expected = shape if third is None else (3 * shape[0], *shape[1:])
    if tuple(n for n in ref.shape if n != 1) != tuple(n for n in expected if n != 1):
        raise CheckpointError(
            f"tensor '{name}' in '{ref.path}' has shape {list(ref.shape)}, expected "
            f"{list(expected)}",
            "Does the config.json belong to these weights?",
        )
    if ref.dtype not in FLOAT_DTYPES:
        raise CheckpointError(
            f"tensor '{name}' in '{ref.path}' has dtype {ref.dtype}, expected "
            + " or ".join(FLOAT_DTYPES),
            "Quantized checkpoints are not read; use the original one.",
        )
    if third is not None:
        ref = ref.view(expected).rows(third * shape[0], (third + 1) * shape[0])
    return ref.view(shape)
