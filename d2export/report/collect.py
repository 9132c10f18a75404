"""From a bundle to what its report says: manifest, report.json, stored selections and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from d2export.bundle.folder import Bundle
from d2export.bundle.manifest import Manifest
from d2export.bundle.records import Reference
from d2export.calibration.int8_scales import stored_scales
from d2export.counts_table import TEXT_TOKENS
from d2export.errors import BundleError
from d2export.inspection import plan_facts
from d2export.pruning.selector import SOURCES
from d2export.report.costs import saving_of, stages_of, timed_text
from d2export.report.data import Keep, Picture, ProductError, ReportData
from d2export.report.images import jpeg, seen_picture
from d2export.report.measured import read_measured
from d2export.report.selections import BUILT, FOLDER, Selections, read_selections
from d2export.report.spoken import Spoken, spoken_in
from d2export.verify.reference import read_reference
from d2export.verify.vlm_reference import read_vlm_reference

MOST_PICTURES = 6
PICTURE_BYTES = 800_000  # all of them together, so that the file stays under 2 MB
UNITS = {
    "llm": "of the attention of the prompt's last token, mean over heads",
    "cls": "of the attention of the vision tower's CLS token, mean over heads",
    "text": "resemblance to the prompt, (1 + cosine) / 2",
}
AHEAD_UNIT = "of the prompt's last token's attention to the picture, plus a part of its neighbours'"
NOT_STORED = (
    "This bundle does not hold what PyTorch decided on: an older d2export built it. "
    "Build it again to see it here."
)


def collect(bundle: Bundle) -> ReportData:
    """Everything a bundle says about itself. Needs no torch.

    Raises:
        BundleError: a file it is made of is damaged.
    """
    manifest = bundle.manifest
    found = _selections(bundle)
    shown = list(found.items())[:MOST_PICTURES]
    keeps, labels = _keeps(manifest, [selections for _, selections in shown])
    measured = read_measured(bundle.root)
    prior = manifest.selector.prior
    return ReportData(
        manifest.model.name,
        _headline(manifest),
        manifest.model.trained,
        tuple(plan_facts(manifest)),
        keeps,
        tuple(
            _picture(bundle, entry, selections, labels, PICTURE_BYTES // len(shown))
            for entry, selections in shown
        ),
        tuple(entry.name for entry in list(found)[MOST_PICTURES:]),
        _why_no_importance(manifest, [selections for _, selections in shown]),
        AHEAD_UNIT if manifest.plan.reads_ahead else UNITS.get(manifest.plan.importance or "", ""),
        _prior_text(prior.source, prior.provenance),
        stages_of(manifest, measured.timed),
        timed_text(manifest, measured.timed),
        f"A mean over these pictures, each with {TEXT_TOKENS} tokens of text.",
        measured.check,
        (),
        tuple(measured.environment.items()),
        tuple(manifest.versions.items()),
        products=_product_errors(bundle),
    )


def _product_errors(bundle: Bundle) -> tuple[ProductError, ...]:
    """What the calibration of an INT8 bundle measured."""
    scales = stored_scales(bundle)
    if scales is None:
        return ()
    return tuple(
        ProductError(name, product.sqnr_db, product.int8)
        for name, product in scales.products.items()
    )


def _selections(bundle: Bundle) -> dict[Reference, Selections]:
    """Of every reference that has them."""
    found = {}
    for entry in bundle.manifest.references:
        path = f"{FOLDER}/{Path(entry.path).name}"
        if path in bundle.manifest.files:
            found[entry] = read_selections(bundle.path(path))
    return found


def _keeps(
    manifest: Manifest, found: list[Selections]
) -> tuple[tuple[Keep, ...], tuple[str | None, ...]]:
    """The budgets to show, and the label each has in the stored selections; None keeps all."""
    if not found:
        return (), ()
    tokens = sum(one.tokens for one in found)
    common = set.intersection(*(set(one.kept) for one in found))
    counts = {label: [len(one.kept[label]) for one in found] for label in common}
    built = counts.pop(BUILT)
    rows: list[tuple[int, Keep, str | None]] = [
        (
            int(label),
            Keep(_share(int(label)), sum(kept), tokens, saving_of(manifest, found, kept)),
            label,
        )
        for label, kept in counts.items()
        if kept != built
    ]
    own = Keep(_own_label(manifest), sum(built), tokens, saving_of(manifest, found, built), True)
    rows.append((manifest.selector.keep_permille or 0, own, BUILT))
    if own.kept < tokens:
        every = [one.tokens for one in found]
        whole = Keep("all", tokens, tokens, saving_of(manifest, found, every))
        rows.append((1000, whole, None))
    rows.sort(key=lambda row: (row[1].kept, row[0]))
    return tuple(keep for _, keep, _ in rows), tuple(label for _, _, label in rows)


def _own_label(manifest: Manifest) -> str:
    selector = manifest.selector
    if selector.keep_permille is not None:
        return _share(selector.keep_permille)
    return "built" if selector.keep is None else f"{selector.keep}"


def _share(permille: int) -> str:
    return f"{permille / 10:g} %"


def _picture(
    bundle: Bundle,
    entry: Reference,
    found: Selections,
    labels: tuple[str | None, ...],
    most_bytes: int,
) -> Picture:
    path = bundle.path(entry.path)
    said = Spoken()
    if bundle.manifest.scope == "vlm":
        reference = read_vlm_reference(path)
        pixels = reference.pixels
        said = spoken_in(bundle, reference)
    else:
        pixels = read_reference(path).pixels
    try:
        image = seen_picture(pixels, found)
    except ValueError:
        raise BundleError(
            f"{path} has other tiles than {FOLDER}/{path.name}", "Build the bundle again."
        ) from None
    x0, y0, x1, y1 = found.extent
    columns, rows, side = found.columns, found.rows, found.tokens_per_side
    wide, high = columns * side / (x1 - x0), rows * side / (y1 - y0)
    width, height = found.image_size
    return Picture(
        entry.name,
        jpeg(image, most_bytes),
        *image.size,
        columns,
        rows,
        side,
        (-x0 * wide, -y0 * high, width * wide, height * high),
        tuple(None if label is None else found.kept[label] for label in labels),
        found.importance,
        found.prior,
        found.debiased,
        said.prompt,
        said.answer,
    )


def _headline(manifest: Manifest) -> str:
    plan = manifest.plan
    places = ["behind the projector"] * plan.in_vision
    places += [f"inside the language model, before layer {plan.prune_layer}"] * plan.in_decoder
    return f"{plan.selector.title} chooses visual tokens {' and '.join(places)}."


def _why_no_importance(manifest: Manifest, found: list[Selections]) -> str:
    plan = manifest.plan
    if not found:
        return NOT_STORED
    if any(one.importance is not None for one in found):
        return ""
    if plan.importance is None:
        return (
            f"{plan.selector.title} reads no importance: it compares the tokens with each other. "
            "There is nothing to draw."
        )
    if plan.importance in ("uniform", "random", "stride"):
        return (
            f"{plan.selector.title} was built with importance '{plan.importance}', which is "
            f"{SOURCES[plan.importance]}. There is nothing to draw."
        )
    return (
        "Importance was not stored: with this budget or these two stages no single importance "
        "decides which tokens of a picture stay."
    )


def _prior_text(source: str, provenance: Mapping[str, object]) -> str:
    if source == "none":
        return "No prior was given, so importance is used as it is: nothing was debiased."
    if source == "shallow":
        return (
            "The prior is the attention of layer 0 in the same call, so each picture has its own."
        )
    images, prompt = provenance.get("images"), provenance.get("prompt")
    text = "The prior was measured on other pictures and is the same for all of these"
    if isinstance(images, int):
        text += f": the mean over {images:,} pictures"
    if isinstance(prompt, str):
        text += f", asked '{prompt}'"
    return f"{text}."
