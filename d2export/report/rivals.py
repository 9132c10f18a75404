"""Which bundles of an evaluation are the same model in INT8 and in another precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from d2export.bundle.folder import Bundle
from d2export.evaluation.bundle_answers import labels_of
from d2export.evaluation.versus import Footprint
from d2export.report.measured import Measured, read_measured
from d2export.verify.saved_latency import SavedLatency, saved_latency

NARROW = "int8"
WIDE = ("fp16", "bf16", "fp32")  # the first of them that is there is compared with
ANY_RUN = {"measured", "command"}  # of an environment: when, and how it was typed


def rivals_among(bundles: Sequence[Bundle]) -> list[tuple[Footprint, Footprint]]:
    """Each INT8 bundle beside one of the same model in another precision, FP16 if there is one.

    Raises:
        BundleError: what was measured of one cannot be read.
    """
    labelled = [*zip(bundles, labels_of(bundles), strict=True)]
    found = []
    for narrow, label in labelled:
        if narrow.manifest.precision != NARROW:
            continue
        same = [(one, group) for one, group in labelled if _identity(one) == _identity(narrow)]
        ranked = [pair for pair in same if pair[0].manifest.precision in WIDE]
        if ranked:
            wide = min(ranked, key=lambda pair: WIDE.index(pair[0].manifest.precision))
            pair = _footprint(narrow, label), _footprint(*wide)
            timed = [saved_latency(bundle.root) for bundle in (narrow, wide[0])]
            found.append(_of_engines(pair, timed))
    return found


def _of_engines(
    pair: tuple[Footprint, Footprint], timed: Sequence[SavedLatency | None]
) -> tuple[Footprint, Footprint]:
    """With the times of the engines, where both were measured."""
    narrow, wide = timed
    if narrow is None or wide is None:
        return pair
    own, other = (
        replace(one, milliseconds=saved.milliseconds, where=_place(saved))
        for one, saved in zip(pair, (narrow, wide), strict=True)
    )
    return own, other


def _place(saved: SavedLatency) -> dict[str, str]:
    return {"gpu": saved.gpu, "backend": saved.backend}


def _identity(bundle: Bundle) -> tuple[object, ...]:
    model = bundle.manifest.model
    return model.name, model.id, model.revision, model.random_seed


def _footprint(bundle: Bundle, label: str) -> Footprint:
    manifest, measured = bundle.manifest, read_measured(bundle.root)
    return Footprint(
        label,
        manifest.precision,
        sum(
            sum(stop - start for start, stop in entry.ranges) if entry.ranges else entry.bytes
            for path, entry in manifest.files.items()
            if path.startswith("onnx/")
        ),
        _medians(measured),
        {name: said for name, said in measured.environment.items() if name not in ANY_RUN},
    )


def _medians(measured: Measured) -> dict[str, float]:
    """By stage and number of tiles, in milliseconds."""
    return {
        f"{stage}, {timed.tiles} tile{'s' * (timed.tiles > 1)},": latency.median
        for timed in measured.timed
        for stage, latency in (
            ("vision", timed.vision),
            ("prefill", timed.prefill),
            ("decode", timed.decode),
        )
        if latency is not None
    }
