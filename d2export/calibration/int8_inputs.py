"""What INT8 is calibrated on: pictures and prompts, checked before anything is measured."""

from __future__ import annotations

import hashlib
from pathlib import Path

from d2export.calibration.pictures import named, picture_files, text_name
from d2export.calibration.prior import PROMPT
from d2export.errors import ImageError, UsageError
from d2export.models.images import load_image
from d2export.verify.tables import plural

FEWEST_PICTURES = 8


def calibration_pictures(folder: Path, limit: int | None = None) -> list[Path]:
    """The picture files of a folder, or the first `limit` of them; each can be read.

    Raises:
        UsageError: there are too few different ones.
        ImageError: one cannot be read.
    """
    files = picture_files(folder, limit)
    different = len({hashlib.sha256(file.read_bytes()).digest() for file in files})
    if different < FEWEST_PICTURES:
        raise UsageError(
            f"{folder} has {plural(different, 'picture')} to calibrate on, equal ones counted "
            f"once, expected at least {FEWEST_PICTURES}",
            "A range from a few pictures fits no others. Pass a folder with more, such as the "
            "model will see.",
        )
    broken = []
    for file in files:
        try:
            load_image(file)
        except ImageError:
            broken.append(text_name(file))
    if broken:
        raise ImageError(
            f"{len(broken)} of {len(files)} pictures in {folder} cannot be read: {named(broken)}",
            "Repair or remove them.",
        )
    return files


def calibration_prompts(scope: str, path: Path | str | None) -> list[str] | None:
    """What is asked about the pictures; None where there is no language model.

    Args:
        path: a text file, a prompt on each line; None asks `prior.PROMPT`.

    Raises:
        UsageError: the file cannot be read, has none, or nothing would read them.
    """
    if scope == "vision":
        if path is not None:
            raise UsageError(
                f"--prompts is {path}, but in scope 'vision' nothing reads them",
                "Leave it out.",
            )
        return None
    if path is None:
        return [PROMPT]
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"cannot read prompts {path}: {why}", "Check the path.") from None
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise UsageError(f"{path} has no prompts", "Write one on each line.")
    return prompts
