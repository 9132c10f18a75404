"""What a selector is: where its importance comes from, by which rule it keeps, what can be set."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from d2export.errors import UsageError
from d2export.pruning.rule_parameters import ELBOW_RULES

Scope = Literal["vision", "vlm"]
PositionIds = Literal["original", "contiguous"]
POSITION_IDS: tuple[PositionIds, ...] = ("original", "contiguous")
Value = bool | int | float | str

# What importance can come from, and what has to be there for it.
SOURCES = {
    "llm": "the language model's attention to the visual tokens",
    "cls": "the attention of the vision tower's CLS token",
    "text": "the prompt's embeddings",
    "uniform": "nothing: all tokens count alike",
    "random": "nothing: a seeded order",
    "stride": "nothing: an even stride",
}


@dataclass(frozen=True)
class Setting:
    """What `--set name=value` can be: of the default's type, one of `choices`, `within` bounds."""

    name: str
    default: Value
    expected: str
    about: str
    choices: tuple[str, ...] = ()
    within: tuple[float, float] | None = None


@dataclass(frozen=True)
class Selector:
    """One published way to choose tokens.

    Attributes:
        name: on the command line.
        title: as its authors call it.
        paper: where it was published.
        about: in one sentence.
        rule: the op that keeps the tokens.
        parameters: dataclass of that op's attributes.
        importance: sources it can use, the default first; `llm` prunes inside the language model,
            all others before it. Empty: it reads none.
        settings: what is open to the user.
        fixed: attributes of the rule that the selector itself decides.
        compares: whether the rule compares the tokens as the language model gets them, or the
            features before the projector's linear layers.
        has_prior: whether importance may be divided by a positional prior.
        counted: whether `--keep` says how many tokens stay; otherwise the picture does.
    """

    name: str
    title: str
    paper: str
    about: str
    rule: str
    parameters: type
    importance: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = ()
    fixed: Mapping[str, Value] = field(default_factory=dict)
    compares: Literal["tokens", "features"] = "tokens"
    has_prior: bool = False
    counted: bool = True

    def sources(self, scope: str) -> tuple[str, ...]:
        """The sources of importance it can use in a scope, the default first."""
        if scope == "vision":
            return tuple(source for source in self.importance if source != "llm")
        return tuple(sorted(self.importance, key=lambda source: source != "llm"))

    def fits(self, scope: str) -> bool:
        """Whether a scope has what it reads."""
        return not self.importance or bool(self.sources(scope))

    def needs(self) -> str:
        """What it reads, for a table."""
        return " or ".join(SOURCES[s] for s in self.importance) or "the visual tokens only"

    def resolve(self, given: Mapping[str, Value | str]) -> dict[str, Value]:
        """All its settings, those in `given` read and checked, the others by default.

        Raises:
            UsageError: an unknown name, or a value of another type.
        """
        known = {setting.name: setting for setting in self.settings}
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                raise UsageError(
                    f"selector '{self.name}' has no setting '{name}'"
                    + (f", did you mean '{close[0]}'?" if close else ""),
                    f"It has {', '.join(known)}." if known else "It has none.",
                )
        return {
            name: self._read(setting, given[name]) if name in given else setting.default
            for name, setting in known.items()
        }

    def attributes(self, settings: Mapping[str, Value]) -> dict[str, Any]:
        """Those settings that are attributes of the rule, and the fixed ones."""
        names = {item.name for item in fields(self.parameters)}
        open_ones: dict[str, Any] = {
            name: value for name, value in settings.items() if name in names
        }
        if "elbow" in open_ones:
            open_ones["elbow"] = ELBOW_RULES.index(str(settings["elbow"]))
        return {**open_ones, **self.fixed}

    def _read(self, setting: Setting, value: Value) -> Value:
        kind = type(setting.default)
        read: Value | None = None
        if setting.choices:
            read = value if value in setting.choices else None
        elif isinstance(value, str):
            read = _from_text(value, kind)
        elif kind is float and type(value) is int:
            read = float(value)
        elif type(value) is kind:
            read = value
        if setting.within is not None and isinstance(read, int | float):
            low, high = setting.within
            read = read if low <= read <= high else None
        if read is None:
            raise UsageError(
                f"{setting.name} of selector '{self.name}' is {value!r}, expected "
                f"{setting.expected}",
                f"Leave it out for {setting.default}.",
            )
        return read


def _from_text(text: str, kind: type) -> Value | None:
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower())
    try:
        return int(text) if kind is int else float(text)
    except ValueError:
        return None
