"""Where weights come from: the hub, a folder, this package, or a random generator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from d2export.errors import CheckpointError, UsageError
from d2export.models.checkpoint import SHIPPED, Checkpoint, find_checkpoint
from d2export.models.presets import PRESETS, preset
from d2export.models.random_weights import write_random_checkpoint
from d2export.progress import Progress


@dataclass(frozen=True)
class Source:
    """A checkpoint and its origin.

    `kind` is "hub", "folder", "package" or "random"; `seed` is that of random weights.
    """

    checkpoint: Checkpoint
    kind: str
    id: str | None
    seed: int | None = None


def open_source(
    model: str,
    scratch: Path,
    *,
    random_weights: bool,
    seed: int,
    revision: str | None,
    embeddings: bool,
    scope: str = "vision",
    progress: Progress,
) -> Source:
    """The checkpoint that `model` names, or a random one written to `scratch`.

    Args:
        embeddings: random weights include the token embedding table.
        scope: `vision`, or `vlm` for the language model too.

    Raises:
        UsageError: random weights for something that is no preset, or an unknown model.
        CheckpointError: the checkpoint is missing, incomplete or not supported.
        EnvironmentMismatch: the hub cannot be reached.
    """
    if not random_weights:
        try:
            checkpoint = find_checkpoint(model, progress.note, revision=revision, scope=scope)
        except OSError as error:
            raise CheckpointError(
                f"cannot read '{model}': {error.strerror or error}",
                "Check the path and its permissions.",
            ) from None
        if checkpoint.revision is not None:
            return Source(checkpoint, "hub", checkpoint.spec.hub_id)
        _refuse_revision(revision, model)
        if checkpoint.folder == SHIPPED.get(checkpoint.spec.name):
            return Source(checkpoint, "package", None)
        return Source(checkpoint, "folder", _plain(checkpoint.folder.resolve()))
    _refuse_revision(revision, "random weights")
    if Path(model).is_dir():
        raise UsageError(
            f"--random-weights with the folder '{model}': expected a preset",
            f"Pass one of {', '.join(PRESETS)}, or leave --random-weights out.",
        )
    checkpoint = write_random_checkpoint(
        preset(model), scratch, seed, progress.detail, embeddings=embeddings, scope=scope
    )
    return Source(replace(checkpoint, spec=preset(model)), "random", None, seed)


def _refuse_revision(revision: str | None, what: str) -> None:
    if revision is not None:
        raise UsageError(
            f"--revision is '{revision}', but {what} is not from the hub", "Leave it out."
        )


def _plain(folder: Path) -> str:
    """The folder as a manifest can hold it."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise CheckpointError(
            f"the name of '{folder}' is not UTF-8", "Rename it, or pass a link to it."
        ) from None
    return str(folder)
