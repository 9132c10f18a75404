"""Which files of a folder, or of a hub repository, hold a checkpoint's weights."""

from __future__ import annotations

import json
from collections.abc import Collection
from fnmatch import fnmatch
from pathlib import Path

from d2export.errors import CheckpointError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def weight_file(names: Collection[str], where: str) -> str:
    """The one file with all weights, or else the index that says which file holds which.

    Args:
        names: the names of all files there are.
        where: the folder or hub id, for messages.

    Raises:
        CheckpointError: no safetensors at all, only pickles, or several files without an index.
    """
    for name in (SINGLE, INDEX):
        if name in names:
            return name
    found = sorted(name for name in names if fnmatch(name, "*.safetensors"))
    if len(found) == 1:
        return found[0]
    if found:
        raise CheckpointError(
            f"'{where}' has {len(found)} safetensors files ({', '.join(found[:3])}, ...) and no "
            f"{INDEX} that says which tensor is in which",
            "Copy the index from where the weights came from.",
        )
    pickles = sorted(name for name in names if any(fnmatch(name, p) for p in PICKLES))
    if pickles:
        raise CheckpointError(
            f"'{where}' has its weights only as pickles ({', '.join(pickles[:3])}); expected "
            "safetensors. A pickle can run code when it is opened, so d2export never loads one",
            "Use a checkpoint in safetensors (for liuhaotian/llava-v1.5-7b: "
            "llava-hf/llava-1.5-7b-hf), or convert this one on a machine you can spare.",
        )
    raise CheckpointError(
        f"'{where}' has no weights: neither {SINGLE} nor {INDEX} is there",
        "Was the checkpoint downloaded completely?",
    )


def read_index(path: Path) -> dict[str, str]:
    """A sharded checkpoint's index: tensor name to the name of the file beside it.

    Raises:
        CheckpointError: the index is unreadable, malformed, or names a file outside its folder.
    """
    index = read_json(path)
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise CheckpointError(f"'{path}' has no 'weight_map' from tensor names to files")
    for tensor, file in shards.items():
        # Lexical on purpose: the hub's cache has links to another folder in place of the files.
        plain = isinstance(file, str) and Path(file).name == file and "\\" not in file
        if not plain or not file.endswith(".safetensors"):
            raise CheckpointError(
                f"'{path}' says that tensor '{tensor}' is in {file!r}; expected the name of a "
                "safetensors file in the same folder",
                "Do not use this checkpoint unless you know why it points elsewhere.",
            )
    return shards


def read_json(path: Path) -> dict[str, object]:
    """A JSON file with an object in it.

    Raises:
        CheckpointError: the file cannot be read or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"cannot read '{path}': {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"'{path}' is not valid JSON: {error}", "Copy or download the file again."
        ) from None
    if not isinstance(value, dict):
        raise CheckpointError(f"'{path}' holds a JSON {type(value).__name__}, expected an object")
    return value
