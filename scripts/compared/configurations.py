"""Every selector and every part of it left out, at every keep value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from d2export.calibration.prior import calibrate_prior
from d2export.evaluation.configuration import Configuration, unpruned
from d2export.evaluation.oracle import oracle
from d2export.evaluation.scenes.task import pocket_scenes
from d2export.evaluation.sweep import pruned
from d2export.models.presets import ModelSpec
from d2export.options import PRUNE_LAYER, ExportOptions
from d2export.pipeline import export
from d2export.progress import Progress
from d2export.pruning.selector import Value

KEEPS = ("50%", "25%", "15%", "10%", "5%")
AT = "10%"  # where selectors are compared question by question, and `d2+` part by part
LAYERS = {PRUNE_LAYER: "", 1: ", K=1", 3: ", K=3"}  # and how a series of it is called
PRIORS = (("d2", 1), ("d2", 2), ("d2", 3), ("d2+", 2))
CALIBRATION_SCENES = 300
Settings = Mapping[str, Value]
# What is left out of d2 or changed, and the settings that do it.
D2_VARIANTS: Mapping[str, Settings] = {
    "all pivots": {"pivot_ratio": 1.0},
    "no pivots": {"pivot_ratio": 0.0},
    "semantic only": {"alpha": 1.0},
    "spatial only": {"alpha": 0.0},
    "pivots block": {"pivots_block": True},
}
AHEAD_VARIANTS: Mapping[str, Settings] = {
    "one layer ahead": {"rows": "ahead"},
    "one ahead, one below": {"rows": "both"},
    "the layer below": {"rows": "below"},
    "no neighbours": {"smoothing": 0.0},
    "all pivots": {"pivot_ratio": 1.0},
    "pivots and theta of d2": {"pivot_ratio": 0.7, "theta": 0.8},
}
# Before the language model: position ids as the authors have them, and the others.
BEFORE: Mapping[str, str] = {
    "divprune": "original",
    "cdpruner": "original",
    "vispruner": "original",
    "dart": "original",
    "sms": "original",
    "random": "contiguous",
    "uniform": "contiguous",
}
GAPS = {"original": "gaps", "contiguous": "no gaps"}


def measured(
    model: str, folder: Path, progress: Progress
) -> Iterator[tuple[tuple[str, int], Path]]:
    """A prior for each of `PRIORS`, measured once."""
    for selector, layer in PRIORS:
        prior = folder / f"{Path(model).name}-{selector}-{layer}.json"
        if not prior.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory() as scratch:
                pictures, bundle = Path(scratch) / "pictures", Path(scratch) / "bundle"
                pictures.mkdir()
                for sample in pocket_scenes("tune", CALIBRATION_SCENES).samples[::4]:
                    sample.load().save(pictures / f"{sample.picture_id}.png")
                options = ExportOptions(model, scope="vlm", selector=selector, prune_layer=layer)
                export(options, bundle)
                with progress.stage(f"measuring {prior}"):
                    calibrate_prior(bundle, pictures, prior)
        yield (selector, layer), prior


Priors = Mapping[tuple[str, int], Path]  # for each of `PRIORS`


@dataclass(frozen=True)
class Part:
    """One of the tables' evaluations, a `Sweep`: each can be asked anew by itself.

    Attributes:
        listed: its configurations, but for the unpruned one.
    """

    listed: Callable[[ModelSpec, Priors], Iterator[Configuration]]
    priors: Priors

    def configurations(self, spec: ModelSpec) -> list[Configuration]:
        """All of them, the unpruned one first."""
        return [unpruned(), *self.listed(spec, self.priors)]


def published(spec: ModelSpec, priors: Priors) -> Iterator[Configuration]:
    """The published selectors, the oracle, and the parts of `d2`."""
    of = partial(_of, spec)
    for layer, name in LAYERS.items():
        yield from (oracle(spec, keep, layer, series=f"oracle{name}") for keep in KEEPS)
        yield from of(f"d2{name}", "d2", prior=priors["d2", layer], prune_layer=layer)
        yield from of(f"d2, no prior{name}", "d2", prune_layer=layer)
        yield from of(f"fastv{name}", "fastv", prune_layer=layer)
    yield from of("d2, shallow prior", "d2", prior="shallow")
    prior = priors["d2", PRUNE_LAYER]
    for words, settings in D2_VARIANTS.items():
        yield from of(f"d2, {words}", "d2", prior=prior, settings=settings)
    for selector, ids in BEFORE.items():
        yield from of(selector, selector)
        yield from of(f"{selector}, {GAPS[ids]}", selector, settings={"position_ids": ids})


def ahead(spec: ModelSpec, priors: Priors) -> Iterator[Configuration]:
    """`d2+`, and its parts."""
    yield from _of(spec, "d2+", "d2+")
    of = partial(_of, spec, selector="d2+", keeps=(AT,))
    for layer, name in LAYERS.items():
        if layer != PRUNE_LAYER:
            last = layer + 1 == spec.text.layers  # there is no layer after it
            yield from of(
                f"d2+{name}", prune_layer=layer, settings={"rows": "both"} if last else {}
            )
    yield from of("d2+, prior", prior=priors["d2+", PRUNE_LAYER])
    for words, settings in AHEAD_VARIANTS.items():
        yield from of(f"d2+, {words}", settings=settings)


PARTS = {"published": published, "ahead": ahead}


def _of(
    spec: ModelSpec, series: str, selector: str, keeps: Sequence[str] = KEEPS, **options: Any
) -> list[Configuration]:
    """A selector at keep values; `sms` has none."""
    wanted = (
        ExportOptions(spec.name, scope="vlm", selector=selector, keep=keep, **options)
        for keep in (keeps if selector != "sms" else (None,))
    )
    return [pruned(spec, option, series) for option in wanted]
