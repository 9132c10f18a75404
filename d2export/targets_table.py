"""What devices can do, and which presets fit in their memory, in tables."""

from __future__ import annotations

from typing import Any

from d2export.counts_table import PRUNE_LAYER, TEXT_TOKENS, most_tokens
from d2export.engine.memory_fit import WIDTHS, MemoryNeed, Question, memory_need
from d2export.engine.target import Target, version_text
from d2export.engine.targets import target, targets
from d2export.errors import UsageError
from d2export.models.presets import PRESETS, ModelSpec
from d2export.options import KEEP
from d2export.verify.tables import table

ANSWER_TOKENS = 256  # as many as `run` writes at most, unless told otherwise
WIDEST_FIRST = ("fp32", "fp16", "int8")  # bf16 takes what fp16 does
UNKNOWN = "?"

ESTIMATE = f"""\
Scope vlm: {TEXT_TOKENS} text tokens asked, {ANSWER_TOKENS} answered; K = {PRUNE_LAYER}.
KV: keys and values twice, because a step reads one cache and writes the next.
An estimate from counts; building an engine takes more than running it."""


def target_facts(one: Target) -> dict[str, Any]:
    """A target as plain values; memory in bytes."""
    capability = one.compute_capability
    return {
        "name": one.name,
        "description": one.description,
        "compute_capability": capability and version_text(capability),
        "memory": one.memory,
        "shared": one.shared,
        "usable": one.usable,
        "precisions": list(one.precisions),
        "workspace": one.workspace,
        "tensorrt": {
            "oldest": version_text(one.tensorrt.oldest),
            "expected": version_text(one.tensorrt.expected),
            "newest": version_text(one.tensorrt.newest),
        },
        "opset": one.opset,
    }


def all_facts(tiles: int | None = None, keep: str = KEEP) -> list[dict[str, Any]]:
    """Every target, with the precisions that each preset fits in."""
    needs = _needs(tiles, keep)
    return [
        {**target_facts(one), "fits": {name: _fitting(one, needs[name]) for name in needs}}
        for one in targets().values()
    ]


def all_text(tiles: int | None = None, keep: str = KEEP) -> str:
    """A line per target; then, for each preset, the widest precision that fits."""
    listed, needs = list(targets().values()), _needs(tiles, keep)
    devices = [
        [
            one.name,
            version_text(one.compute_capability) if one.compute_capability else UNKNOWN,
            _gigabytes(one.memory),
            _gigabytes(one.usable),
            " ".join(one.precisions),
            f"{version_text(one.tensorrt.oldest)} to {version_text(one.tensorrt.newest)}",
            version_text(one.tensorrt.expected),
            str(one.opset),
        ]
        for one in listed
    ]
    header = ["target", "CUDA", "GB", "usable", "precisions", "TensorRT", "expected", "opset"]
    fits = [[one.name, *(_widest(one, needs[name]) for name in needs)] for one in listed]
    families, sizes = _two_lines(list(needs))
    return "\n".join(
        [
            table(header, devices),
            "",
            f"The widest precision in which a model fits ({_question_text(tiles, keep)}):",
            "",
            table(["target", *families], [["", *sizes], *fits]),
            "",
            ESTIMATE,
        ]
    )


def one_facts(name: str, tiles: int | None = None, keep: str = KEEP) -> dict[str, Any]:
    """One target, and what each preset takes of it in each precision; in bytes."""
    one = target(name)
    return {
        **target_facts(one),
        "presets": {
            preset: {
                precision: {
                    "weights": need.weights,
                    "kv_cache": need.kv_cache,
                    "activations": need.activations,
                    "total": need.total,
                    "left_over": need.left_over(one.usable),
                    "fits": _fits(one, need),
                }
                for precision, need in by_precision.items()
                if precision in one.precisions
            }
            for preset, by_precision in _needs(tiles, keep).items()
        },
    }


def one_text(name: str, tiles: int | None = None, keep: str = KEEP) -> str:
    """One target, then a line per preset and precision."""
    one = target(name)
    rows = [
        [
            preset,
            precision,
            _gigabytes(need.weights, 2),
            _gigabytes(need.kv_cache, 2),
            _gigabytes(need.activations, 2),
            _gigabytes(need.total, 2),
            _gigabytes(need.left_over(one.usable), 2),
            {True: "yes", False: "no", None: UNKNOWN}[_fits(one, need)],
        ]
        for preset, by_precision in _needs(tiles, keep).items()
        for precision, need in by_precision.items()
        if precision in one.precisions
    ]
    header = ["model", "precision", "weights", "KV", "activations", "GB", "left over", "fits"]
    return "\n".join(
        [
            _screen(one),
            "",
            f"What a model takes, in GB ({_question_text(tiles, keep)}):",
            "",
            table(header, rows),
            "",
            ESTIMATE,
        ]
    )


def _screen(one: Target) -> str:
    capability, tensorrt = one.compute_capability, one.tensorrt
    memory = f"{_gigabytes(one.memory)} GB"
    if one.shared:
        memory += f", shared with the CPU; {_gigabytes(one.usable)} GB usable"
    facts = {
        "target": f"{one.name}: {one.description}",
        "compute capability": version_text(capability) if capability else UNKNOWN,
        "memory": memory,
        "precisions": ", ".join(one.precisions),
        "builder workspace": f"{_gigabytes(one.workspace)} GB",
        "TensorRT": f"{version_text(tensorrt.oldest)} to {version_text(tensorrt.newest)}, "
        f"expected {version_text(tensorrt.expected)}: opset {one.opset} at most",
    }
    width = max(map(len, facts))
    return "\n".join(f"{key:<{width}}  {value}" for key, value in facts.items())


def _needs(tiles: int | None, keep: str) -> dict[str, dict[str, MemoryNeed]]:
    """What each preset takes in each precision; `tiles` None is as many as a picture has."""
    if tiles is not None and tiles < 1:
        raise UsageError(f"--tiles is {tiles}, expected at least 1", "Leave it out for the most.")
    return {
        name: {
            precision: memory_need(spec, precision, _question(spec, tiles, keep))
            for precision in WIDTHS
        }
        for name, spec in PRESETS.items()
    }


def _question(spec: ModelSpec, tiles: int | None, keep: str) -> Question:
    most = most_tokens(spec.vision) // spec.vision.tokens_per_tile
    return Question(tiles or most, keep, TEXT_TOKENS, ANSWER_TOKENS, PRUNE_LAYER)


def _question_text(tiles: int | None, keep: str) -> str:
    tiled = "a picture at most tiles" if tiles is None else f"tiles: {tiles}"
    return f"{tiled}, --keep {keep}"


def _fits(one: Target, need: MemoryNeed) -> bool | None:
    left = need.left_over(one.usable)
    return None if left is None else left >= 0


def _fitting(one: Target, by_precision: dict[str, MemoryNeed]) -> list[str] | None:
    """Precisions of the target in which a model fits; None where the memory is not known."""
    if one.usable is None:
        return None
    return [precision for precision in one.precisions if _fits(one, by_precision[precision])]


def _widest(one: Target, by_precision: dict[str, MemoryNeed]) -> str:
    found = _fitting(one, by_precision)
    if found is None:
        return UNKNOWN
    return next((precision for precision in WIDEST_FIRST if precision in found), "none")


def _two_lines(names: list[str]) -> tuple[list[str], list[str]]:
    """`family-size` names as a header of two lines, each family once."""
    families, _, sizes = zip(*(name.rpartition("-") for name in names), strict=True)
    shown = [
        family if family not in families[:index] else "" for index, family in enumerate(families)
    ]
    return shown, list(sizes)


def _gigabytes(size: int | None, digits: int = 1) -> str:
    """In 10^9 bytes."""
    return UNKNOWN if size is None else f"{size / 1e9:,.{digits}f}"
