"""Things that do not fit each other, each with its remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from d2export.errors import EnvironmentMismatch


@dataclass(frozen=True)
class Misfit:
    """Something that does not fit, and what to do about it."""

    problem: str
    remedy: str


def mismatch(misfits: Sequence[Misfit], what: str, hint: str) -> EnvironmentMismatch:
    """One error for all of them.

    Args:
        what: could not be done because of them.
        hint: the next step after the remedies.
    """
    lines = [what]
    for one in misfits:
        lines += [f"    {one.problem}", *(f"      {line}" for line in one.remedy.splitlines())]
    return EnvironmentMismatch("\n".join(lines), hint)
