"""What a bundle costs, stage by stage and budget by budget: MACs counted, times as measured."""

from __future__ import annotations

from collections.abc import Sequence

from d2export.bundle.manifest import Manifest
from d2export.counts_table import TEXT_TOKENS
from d2export.inspection import BYTES
from d2export.pruning.flops import Prompt, decode, prefill, saving, selection
from d2export.pruning.vision_flops import vision
from d2export.report.data import Saving, Stage
from d2export.report.measured import Timed
from d2export.report.selections import Selections
from d2export.verify import vlm_latency
from d2export.verify.latency import Latency
from d2export.verify.tables import plural


def saving_of(manifest: Manifest, found: list[Selections], kept: Sequence[int]) -> Saving | None:
    """The prefill with so many tokens kept of each picture; None if the picture decides that."""
    plan = manifest.plan
    if not plan.selector.counted:
        return None
    text, width = manifest.model.text, BYTES[manifest.precision]
    macs = memory = whole_macs = whole_memory = 0
    for one, stay in zip(found, kept, strict=True):
        pruned = Prompt.under(plan, TEXT_TOKENS, one.tokens, stay)
        whole = pruned.unpruned()
        after = prefill(text, whole if stay == one.tokens else pruned, width=width)
        before = prefill(text, whole, width=width)
        macs, memory = macs + after.macs, memory + after.kv_bytes
        whole_macs, whole_memory = whole_macs + before.macs, whole_memory + before.kv_bytes
    return Saving(
        macs // len(found),
        memory // len(found),
        saving(macs, whole_macs),
        saving(memory, whole_memory),
    )


def stages_of(manifest: Manifest, timed: Sequence[Timed]) -> tuple[Stage, ...]:
    """Every stage of the first size that was timed; without one, of a picture of one tile."""
    model, plan = manifest.model, manifest.plan
    times = timed[0] if timed else None
    tiles = times.tiles if times else 1
    tokens = tiles * model.vision.tokens_per_tile
    width, text = BYTES[manifest.precision], model.text
    seen = vision(model.vision, text.hidden, tiles, width=width)
    stages = [Stage("Vision tower and projector", _latency(times, "vision"), seen.macs)]
    select = Stage(
        "of which selection",
        _latency(times, "selection"),
        _selection_macs(manifest, tokens, tiles),
        part=True,
        note=f"runs as {times.selection_implementation}" if times else "",
    )
    if plan.in_vision:
        stages.append(select)
    if not plan.selector.counted and times is None:
        return tuple(stages)
    kept = times.kept if times else plan.kept(tokens, tiles)
    prompt = Prompt.under(plan, vlm_latency.TEXT_TOKENS, tokens, kept)
    pruned, whole = (prefill(text, p, width=width) for p in (prompt, prompt.unpruned()))
    if manifest.graphs.decoder is None:
        outside = "not in this bundle; counted"
        stages.append(Stage("Prefill behind it, kept tokens", None, pruned.macs, note=outside))
        stages.append(Stage("Prefill behind it, all tokens", None, whole.macs, note=outside))
        return tuple(stages)
    stages.append(Stage("Prefill", _latency(times, "prefill"), pruned.macs))
    if not plan.in_vision:
        stages.append(select)
    unpruned = Stage("Prefill, nothing pruned", None, whole.macs, note="counted, not measured")
    step = Stage("Decode, one token", _latency(times, "decode"), decode(text, prompt).macs)
    return (*stages, unpruned, step)


def timed_text(manifest: Manifest, timed: Sequence[Timed]) -> str:
    """What the stages were measured with, in a sentence."""
    tiles = timed[0].tiles if timed else 1
    tokens = tiles * manifest.model.vision.tokens_per_tile
    text = f"One picture of {plural(tiles, 'tile')}, {tokens:,} visual tokens"
    if timed:
        text += f", of which {timed[0].kept:,} stay"
    text += f", and {vlm_latency.TEXT_TOKENS} tokens of text. "
    if not timed:
        return text + "Nothing was timed."
    return text + f"Times are medians of {plural(timed[0].vision.iterations, 'call')}."


def _latency(times: Timed | None, stage: str) -> Latency | None:
    found: Latency | None = getattr(times, stage, None)
    return found


def _selection_macs(manifest: Manifest, tokens: int, tiles: int) -> int | None:
    """What selecting takes at most; None of a rule whose count is not fixed."""
    plan = manifest.plan
    if not plan.selector.counted:
        return None
    groups = tiles if plan.by_tile else 1
    width = manifest.model.text.hidden
    return groups * selection(plan.parameters, tokens // groups, width).most
