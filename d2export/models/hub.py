"""Download what scope `vision` needs of a checkpoint from the Hugging Face hub.

Files go to the library's own cache, which resumes what was interrupted. Code (`*.py`) and pickles
(`*.bin`) are never requested.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from d2export.errors import CheckpointError, EnvironmentMismatch
from d2export.models.layouts import is_needed
from d2export.models.shards import INDEX, read_index, weight_file

# Configuration, tokenizer, chat template; not the index of pickles.
SMALL_FILES = ("*.json", "*.model", "merges.txt", "chat_template.jinja")
NOT_THESE = ("*.bin.index.json",)


def download(
    hub_id: str,
    revision: str | None = None,
    progress: Callable[[str], None] | None = None,
    scope: str = "vision",
) -> Path:
    """Download a checkpoint, of its shards those that the scope needs.

    Args:
        hub_id: `org/name`.
        revision: a branch, tag or commit; the default branch if None.
        progress: called with one line per file when standard error is no terminal; on a terminal
            the library shows its own bars.
        scope: `vision` or `vlm`.

    Returns:
        The folder with the files, named after the commit that `revision` stood for. Without a
        connection this is what an earlier call left, if there was one.

    Raises:
        CheckpointError: no such repository or revision, no access, or no safetensors in it.
        EnvironmentMismatch: the hub cannot be reached and nothing is in the cache, or
            `huggingface_hub` is not installed.
    """
    try:
        from huggingface_hub import HfApi, errors, hf_hub_download
    except ImportError:
        raise EnvironmentMismatch(
            f"downloading '{hub_id}' needs the package huggingface_hub, which is not installed",
            "Run: pip install 'd2export[hub]'",
        ) from None

    def say(line: str) -> None:
        if progress is not None:
            progress(line)

    with _errors_explained(hub_id, revision), _bars_only_on_a_terminal():
        say(f"looking for {hub_id} on the hub")
        try:
            info = HfApi().model_info(hub_id, revision=revision, files_metadata=True, timeout=15)
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
            raise  # these are OSErrors too
        except _connection_errors() as error:
            folder = _from_cache(hub_id, revision, error)
            say(f"no connection to the hub ({_in_short(error)}): using {folder}")
            return folder
        commit = info.sha
        # By its branch or tag, so that the library remembers the commit for the next time.
        hf_hub_download(hub_id, "config.json", revision=revision)
        folder = Path(hf_hub_download(hub_id, "config.json", revision=commit)).parent
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        weights = weight_file(sizes, hub_id)
        wanted = [name for name in sizes if _is_small(name) or name == weights]
        if weights == INDEX:
            index = read_index(Path(hf_hub_download(hub_id, INDEX, revision=commit)))
            wanted += sorted({file for name, file in index.items() if is_needed(name, scope)})
        for i, name in enumerate(wanted, 1):
            size = f"{sizes.get(name, 0) / 1e6:.1f} MB"
            if not sys.stderr.isatty():
                say(f"file {i} of {len(wanted)}: {name}, {size}")
            hf_hub_download(hub_id, name, revision=commit)
    return folder


def _from_cache(hub_id: str, revision: str | None, reason: Exception) -> Path:
    from huggingface_hub import errors, hf_hub_download

    try:
        config = hf_hub_download(hub_id, "config.json", revision=revision, local_files_only=True)
    except errors.LocalEntryNotFoundError:
        raise _unreachable(hub_id, reason) from None
    return Path(config).parent


def _is_small(name: str) -> bool:
    """Files in subfolders belong to other frameworks, or are examples."""
    return (
        "/" not in name
        and any(fnmatch(name, pattern) for pattern in SMALL_FILES)
        and not any(fnmatch(name, pattern) for pattern in NOT_THESE)
    )


@contextmanager
def _bars_only_on_a_terminal() -> Iterator[None]:
    from huggingface_hub.utils import (  # type: ignore[attr-defined]  # its __init__ has no __all__
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextmanager
def _errors_explained(hub_id: str, revision: str | None) -> Iterator[None]:
    from huggingface_hub import errors

    named = hub_id if revision is None else f"{hub_id} at revision {revision}"
    try:
        yield
    except errors.HFValidationError as error:
        raise CheckpointError(f"'{hub_id}' is not a hub id: {error}", "Write org/name.") from None
    except errors.GatedRepoError:
        raise CheckpointError(
            f"access to {named} has to be granted by its owner",
            "Ask for it on the model's page, then run: hf auth login",
        ) from None
    except errors.RepositoryNotFoundError:
        raise CheckpointError(
            f"there is no repository '{hub_id}' on the hub, or it is private",
            "Check the spelling; for a private one run: hf auth login",
        ) from None
    except errors.RevisionNotFoundError:
        raise CheckpointError(
            f"{named} does not exist", "Pass a branch, a tag or a full commit hash."
        ) from None
    except errors.LocalEntryNotFoundError as error:  # no connection, nothing in the cache
        raise _unreachable(named, error) from None
    except errors.EntryNotFoundError as error:
        raise CheckpointError(f"{named} lacks a file: {_in_short(error)}") from None
    except _connection_errors() as error:
        raise _unreachable(named, error) from None


def _unreachable(named: str, error: Exception) -> EnvironmentMismatch:
    from huggingface_hub import constants

    return EnvironmentMismatch(
        f"cannot download {named} from {constants.ENDPOINT}: {_in_short(error)}",
        "Run it again to resume, or download the model on another machine (hf download ID "
        "--local-dir FOLDER) and pass the folder as --model.",
    )


def _connection_errors() -> tuple[type[Exception], ...]:
    """What a broken connection, a full disk or an answer like 503 raises.

    The library has used requests (whose errors are OSErrors), httpx and httpx2.
    """
    http = (sys.modules.get(name) for name in ("httpx", "httpx2"))
    return (OSError, *(module.HTTPError for module in http if module is not None))


def _in_short(error: Exception) -> str:
    """The first cause of an error, on one line: the library's own text is a paragraph."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
