"""Open a checkpoint: a local folder, a preset's repository, or any other on the hub.

Only `config.json` and the headers of safetensors files are read here. Code and pickles that lie
beside them are never touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from d2export.errors import CheckpointError
from d2export.models import layouts
from d2export.models.config import spec_from_config
from d2export.models.presets import PRESETS, ModelSpec, preset
from d2export.models.safetensors_file import TensorRef, read_header
from d2export.models.shards import INDEX, read_index, read_json, weight_file
from d2export.models.text_layouts import HEADS

Progress = Callable[[str], None]

# Models that come with this package.
SHIPPED = {"pocket": Path(__file__).parent / "pocket"}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Checkpoint:
    """What is known of a checkpoint before any weight is read.

    `tensors` maps stored names to where they lie; `revision` is the hub's commit, None for a
    local folder.
    """

    folder: Path
    config: dict[str, Any]
    spec: ModelSpec
    tensors: dict[str, TensorRef]
    revision: str | None = None


def find_checkpoint(
    model: str,
    progress: Progress | None = None,
    *,
    revision: str | None = None,
    scope: str = "vision",
) -> Checkpoint:
    """The checkpoint that `model` names.

    Args:
        model: a local folder, which wins if it exists, and over a preset of its name if it holds a
            checkpoint; a preset; or a hub id `org/name`.
        progress: called with one line per step that takes seconds.
        revision: a branch, tag or commit on the hub; its default branch if None.
        scope: `vision` or `vlm`: what has to be there.

    Raises:
        UsageError: `model` is none of these.
        CheckpointError: the checkpoint cannot be found, is incomplete or not supported.
        EnvironmentMismatch: the hub cannot be reached, or `huggingface_hub` is not installed.
    """
    try:
        folder = Path(model).expanduser()
    except RuntimeError as error:  # ~somebody, who has no account here
        raise CheckpointError(f"cannot read '{model}': {error}", "Pass the full path.") from None
    needed = partial(layouts.is_needed, scope=scope)
    is_preset = model.lower() in PRESETS
    if folder.is_dir() and ((folder / "config.json").is_file() or not is_preset):
        return open_checkpoint(folder, needed)
    if is_preset:
        known = preset(model)
        if known.hub_id is None:
            return replace(open_checkpoint(SHIPPED[known.name], needed), spec=known)
        name, hub_id = known.name, known.hub_id
    elif HUB_ID.fullmatch(model):
        name, hub_id = model, model
    elif "/" in model or folder.exists():
        raise CheckpointError(f"'{model}' is not a folder", "Pass a checkpoint's folder.")
    else:
        preset(model)  # raises, and suggests the nearest name
        raise AssertionError("unreachable")

    from d2export.models import hub

    found = open_checkpoint(hub.download(hub_id, revision, progress, scope), needed)
    # The library names a snapshot's folder after the commit.
    return replace(
        found, spec=replace(found.spec, name=name, hub_id=hub_id), revision=found.folder.name
    )


def open_checkpoint(folder: Path, needed: Callable[[str], bool] | None = None) -> Checkpoint:
    """The checkpoint in a folder.

    Args:
        folder: holds `config.json` and the weights as one safetensors file or as shards.
        needed: which stored names are needed. Shards without any need not be there, and their
            tensors are left out. None: all of them.

    Raises:
        CheckpointError: something is missing, damaged, not supported, or only a pickle.
    """
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder '{folder}'", "Check the path.")
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"'{folder}' has no config.json, so it is not a checkpoint folder",
            "Pass the folder that holds config.json and *.safetensors.",
        )
    config = read_json(folder / "config.json")
    spec = spec_from_config(config, str(folder.resolve()))
    tensors = _read_weights(folder, needed)
    if not tensors.keys().isdisjoint(HEADS):  # stored, whatever config.json says of tying
        spec = replace(spec, text=replace(spec.text, tied=False))
    if config.get("architectures") == ["LlavaLlamaForCausalLM"]:
        tensors |= _separate_tower(folder, config, tensors)
    return Checkpoint(folder, config, spec, tensors)


def _read_weights(folder: Path, needed: Callable[[str], bool] | None) -> dict[str, TensorRef]:
    first = weight_file([path.name for path in folder.iterdir()], str(folder))
    if first != INDEX:
        return read_header(folder / first)
    index = read_index(folder / INDEX)
    wanted = {name: file for name, file in index.items() if needed is None or needed(name)}
    headers: dict[str, dict[str, TensorRef]] = {}
    for name, file in wanted.items():
        if file not in headers:
            if not (folder / file).is_file():
                raise CheckpointError(
                    f"the shard '{file}' is missing in '{folder}'; it holds '{name}'",
                    "Copy or download it into the folder.",
                )
            headers[file] = read_header(folder / file)
        if name not in headers[file]:
            raise CheckpointError(
                f"'{folder / file}' lacks the tensor '{name}' that {INDEX} says it holds",
                "The index and the shards are from different checkpoints: download both again.",
            )
    return {name: headers[file][name] for name, file in wanted.items()}


def _separate_tower(
    folder: Path, config: dict[str, Any], tensors: dict[str, TensorRef]
) -> dict[str, TensorRef]:
    """The vision tower of a LLaVA checkpoint that has only the projector, from `vision_tower/`.

    As published, LLaVA refers to CLIP by name (`mm_vision_tower`) instead of including it.
    """
    prefix = layouts.LLAVA.tower[0]
    if any(name.startswith(prefix) for name in tensors):
        return {}
    for beside in (folder / "vision_tower", folder.resolve().parent / "vision_tower"):
        if beside.is_dir():
            stored = _read_weights(beside, None)
            # A whole CLIP checkpoint has its text half too; transformers 5 writes the vision
            # half alone without the prefix.
            clip = {n: ref for n, ref in stored.items() if n.startswith("vision_model.")} or stored
            return {prefix + n.removeprefix("vision_model."): ref for n, ref in clip.items()}
    raise CheckpointError(
        f"'{folder}' has no vision tower: its config.json refers to "
        f"'{config.get('mm_vision_tower')}', and there is no folder 'vision_tower' in it or next "
        "to it",
        "Save that model as safetensors in such a folder, or use llava-hf/llava-1.5-7b-hf, which "
        "includes the tower.",
    )
