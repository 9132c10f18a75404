"""A prompt as the language model sees it: token ids, then rows of its embedding table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2export.bundle.folder import Bundle
from d2export.errors import UsageError
from d2export.models.safetensors_file import TensorRef, load
from d2export.runtime.tokenizer import TOKENIZER, load_tokenizer

STORED = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def embed_prompt(bundle: Bundle, text: str) -> npt.NDArray[np.float32]:
    """`[P, hidden]` input embeddings of `text`, without a chat template.

    Raises:
        UsageError: the text is empty, or the bundle has no tokenizer or no embedding table.
        BundleError: the tokenizer is damaged.
        EnvironmentMismatch: the tokenizers package is missing.
    """
    table, processor = bundle.manifest.prompt_embedding, bundle.root / "processor"
    if table is None or not (processor / TOKENIZER).is_file():
        missing = "embedding table" if table is None else "tokenizer.json"
        raise UsageError(
            f"{bundle.root} has no {missing}, so a prompt cannot be embedded here",
            "Pass --prompt-embeds FILE.npy with float32 [P, hidden] instead.",
        )
    ids = load_tokenizer(processor).encode(text, add_special_tokens=False).ids
    if not ids:
        raise UsageError("the prompt is empty", "Pass at least one word.")
    if max(ids) >= table.shape[0]:
        raise UsageError(
            f"the tokenizer gives id {max(ids)}, the embedding table has {table.shape[0]} rows",
            "The tokenizer does not belong to this checkpoint.",
        )
    return embed_ids(bundle, np.array(ids))


def embed_ids(bundle: Bundle, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """`[P, hidden]` input embeddings of token ids, in a bundle that has the table."""
    table = bundle.manifest.prompt_embedding
    assert table is not None
    rows, width = table.shape
    item = 4 if table.dtype == "float32" else 2
    whole = TensorRef(
        bundle.path(table.path),
        table.offset,
        rows * width * item,
        STORED[table.dtype],
        (rows, width),
    )
    return np.concatenate([load(whole.rows(index, index + 1)) for index in ids.tolist()])


def read_embeds(path: Path) -> npt.NDArray[np.float32]:
    """`[P, hidden]` float32 from a .npy file; object arrays, that is pickles, are refused.

    Raises:
        UsageError: the file cannot be read, or holds anything but finite floats.
    """
    hint = "Write it with numpy.save(FILE, embeddings): float32 [P, hidden], a row per token."
    try:
        # Mapped, because a header may claim more than there is memory.
        values = np.load(path, allow_pickle=False, mmap_mode="r")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}", hint) from None
    except (ValueError, EOFError) as error:
        raise UsageError(f"{path} is no .npy file with numbers: {error}", hint) from None
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        found = f"numbers of type {values.dtype}" if isinstance(values, np.ndarray) else "an .npz"
        raise UsageError(f"{path} holds {found}, expected one array of floats", hint)
    with np.errstate(over="ignore"):
        embeds = np.array(values, np.float32)
    if not np.isfinite(embeds).all():
        raise UsageError(f"{path} holds NaN or infinity, expected finite float32 numbers", hint)
    return embeds
