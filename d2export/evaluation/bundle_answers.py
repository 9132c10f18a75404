"""Ask bundles with ONNX Runtime: as built, with other keep values, and unpruned.

How many tokens stay is an attribute of the pruning op. Another value is set in the graph when its
session is opened; the weights are those of the bundle, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from d2export.bundle.folder import Bundle
from d2export.calibration.partial import key_of
from d2export.errors import UsageError
from d2export.evaluation.configuration import Answered, Configuration, unpruned
from d2export.evaluation.run import Candidate
from d2export.evaluation.task import Sample
from d2export.models.tiling import Tiles, normalize, tile
from d2export.pruning.parameters import parse_keep
from d2export.pruning.plan import Plan
from d2export.pruning.rule_parameters import NO_LIMIT
from d2export.runtime.decoder import Prompt
from d2export.runtime.generate import Generator, kept_per_image
from d2export.runtime.request import prompt_of
from d2export.runtime.sampling import pick
from d2export.runtime.tokenizer import Encoded

Attributes = Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Variant:
    """A configuration of a bundle.

    Attributes:
        bundle: whose graphs run.
        attributes: of the pruning ops, instead of its own; None for those it was built with.
        all_words: whether words stay that the plan would drop.
    """

    bundle: Bundle
    attributes: Attributes | None
    all_words: bool = False


def bundle_candidate(
    bundles: Sequence[Bundle],
    keeps: Sequence[str],
    provider: str = "cpu",
    threads: int | None = None,
) -> Candidate:
    """Bundles of scope `vlm`, each unpruned and at some keep values.

    Bundles of the same weights in the same precision have one unpruned configuration together.

    Args:
        keeps: as `--keep`; empty for that of each bundle.
        provider: `cpu` or `cuda`.
        threads: of one operator; all cores if None.

    Raises:
        UsageError: a bundle has another scope, or a keep value cannot be had from it.
    """
    for bundle in bundles:
        if bundle.manifest.scope != "vlm":
            raise UsageError(
                f"{bundle.root} has scope '{bundle.manifest.scope}', so it answers nothing",
                "Build it with --scope vlm.",
            )
    labels = labels_of(bundles)
    variants: dict[Configuration, Variant] = {}
    facts: dict[str, Any] = {}
    for bundle, label in zip(bundles, labels, strict=True):
        if label not in facts:
            facts[label] = _facts(bundle)
            variants[unpruned(label)] = unpruned_variant(bundle)
        for keep in keeps or (None,):
            configuration = configuration_of(bundle, keep, label)
            if any(other.name == configuration.name for other in variants):
                named = f"{configuration.series} {bundle.root.name}"
                configuration = replace(
                    configuration, name=f"{configuration.name} {bundle.root.name}", series=named
                )
            variants[configuration] = kept_variant(bundle, keep)
    source = _source(variants, provider, threads)
    return Candidate(tuple(variants), source, facts)


def configuration_of(bundle: Bundle, keep: str | None, group: str = "") -> Configuration:
    """A bundle's way to prune, with another keep value unless that is None."""
    plan = bundle.manifest.plan
    words = [plan.selector.name]
    defaults = {setting.name: setting.default for setting in plan.selector.settings}
    words += [f"{name}={v}" for name, v in plan.settings.items() if v != defaults[name]]
    words += ["prior"] if plan.prior == "file" else ["shallow"] if plan.prior == "shallow" else []
    words += [f"K={plan.prune_layer}"] if plan.in_decoder else []
    words += [group] if group else []
    series = " ".join(words)
    if not plan.selector.counted:
        return Configuration(series, series, plan, group=group)
    if keep is not None:
        count, permille = parse_keep(keep)
        parameters = replace(plan.parameters, keep=count, keep_permille=permille)
        plan = replace(plan, parameters=parameters)
    return Configuration(f"{series} {_keep_text(plan)}", series, plan, group=group)


def kept_variant(bundle: Bundle, keep: str | None) -> Variant:
    """A bundle that keeps another number of tokens.

    Raises:
        UsageError: that cannot be had from it.
    """
    if keep is None:
        return Variant(bundle, None)
    plan, built = bundle.manifest.plan, bundle.manifest.selector
    name = plan.selector.name
    if not plan.selector.counted:
        raise UsageError(
            f"--keep is {keep}, but with selector '{name}' of {bundle.root} the picture says how "
            "many tokens stay",
            "Leave --keep out.",
        )
    count, permille = parse_keep(keep)
    if (count or None, permille or None) == (built.keep, built.keep_permille):
        return Variant(bundle, None)
    if plan.importance == "stride" and permille != 1000:
        raise UsageError(
            f"--keep is {keep}, but {bundle.root} was built for --keep {_keep_text(plan)}, and the "
            f"graph of selector '{name}' has that in its stride",
            f"Build a bundle with --selector {name} --keep {keep}, or evaluate it with --model.",
        )
    return Variant(bundle, {"keep": count, "keep_permille": permille})


def unpruned_variant(bundle: Bundle) -> Variant:
    """A bundle that keeps all its tokens.

    Raises:
        UsageError: that cannot be had from it.
    """
    plan = bundle.manifest.plan
    if plan.padded:
        raise UsageError(
            f"{bundle.root} has outputs padded to {plan.parameters.max_keep} rows (static=true), "
            "so it cannot keep all tokens to be compared with",
            "Name a bundle of the same model and precision without that before it.",
        )
    if plan.selector.counted:
        return Variant(bundle, {"keep": 0, "keep_permille": 1000})
    return Variant(bundle, {"min_keep": NO_LIMIT, "max_keep": NO_LIMIT}, all_words=True)


class BundleAnswers:
    """A bundle, asked in one of its variants.

    Args:
        configuration: what the answers are filed under.
        variant: which graphs, pruned how.
        provider: `cpu` or `cuda`.
        threads: of one operator; all cores if None.
    """

    def __init__(
        self, configuration: Configuration, variant: Variant, provider: str, threads: int | None
    ) -> None:
        self._configuration, self._variant = configuration, variant
        self._generator = Generator(variant.bundle, provider, threads, variant.attributes)
        self._picture: tuple[str, Tiles] | None = None
        self._embeds: npt.NDArray[Any] | None = None

    def __call__(self, samples: Sequence[Sample]) -> Iterator[Answered]:
        """The answers to the samples, one after the other."""
        vocabulary, generator = self._generator.tokenizer, self._generator
        for sample in samples:
            tiles = self._cut(sample)
            encoded = vocabulary.encode(sample.prompt, [len(tiles.grid)])
            prompt = self._see(encoded, tiles)
            if self._variant.all_words:
                prompt = replace(prompt, text_positions=np.zeros(0, np.int64))
            sequence = generator.decoder.start()
            step = generator.decoder.prefill(sequence, prompt)
            (kept,) = kept_per_image(encoded, step.positions)
            tokens: list[int] = []
            random = np.random.default_rng(0)  # of a pick that draws nothing
            while True:
                token = pick(step.logits, None, random)
                if token in vocabulary.stop_ids:
                    break
                tokens.append(token)
                if len(tokens) == sample.max_new_tokens:
                    break
                step = generator.decoder.step(sequence, token)
            text = vocabulary.decode(tokens)
            yield Answered(sample, self._configuration, text, kept, len(tiles.grid))

    def _cut(self, sample: Sample) -> Tiles:
        """The tiles of a sample's picture, which its neighbours have, too."""
        if self._picture is None or self._picture[0] != sample.picture_id:
            vision = self._generator.bundle.manifest.model.vision
            self._picture = sample.picture_id, tile(sample.load(), vision)
            self._embeds = None
        return self._picture[1]

    def _see(self, encoded: Encoded, tiles: Tiles) -> Prompt:
        generator, manifest = self._generator, self._generator.bundle.manifest
        if manifest.plan.in_vision:
            return generator.see(encoded, [tiles.pixels], [tiles.grid])
        if self._embeds is None:
            pixels = normalize(tiles.pixels, manifest.model.vision.image)
            self._embeds = generator.vision.embed(pixels)
        return prompt_of(
            encoded, [tiles.grid], [self._embeds], None, generator.prior, manifest.plan
        )


def _source(
    variants: Mapping[Configuration, Variant], provider: str, threads: int | None
) -> Callable[[Sequence[Configuration]], Callable[[Sequence[Sample]], Iterator[Answered]]]:
    """What asks bundles, one configuration after the other: one model in memory at a time."""

    def source(
        configurations: Sequence[Configuration],
    ) -> Callable[[Sequence[Sample]], Iterator[Answered]]:
        def ask(samples: Sequence[Sample]) -> Iterator[Answered]:
            for one in configurations:
                yield from BundleAnswers(one, variants[one], provider, threads)(samples)

        return ask

    return source


def labels_of(bundles: Sequence[Bundle]) -> list[str]:
    """What tells bundles of other weights or precision apart; empty where nothing has to."""
    keys = [(key_of(one, "")["weights"], one.manifest.precision) for one in bundles]
    if len(set(keys)) == 1:
        return [""] * len(bundles)
    precisions: list[str] = [precision for _, precision in keys]
    if len({weights for weights, _ in keys}) == 1:
        return precisions
    first = {key: bundle.root.name for key, bundle in reversed([*zip(keys, bundles, strict=True)])}
    names = [first[key] for key in keys]
    if len(set(names)) < len(set(keys)):
        names = [str(bundle.root) for bundle in bundles]
    return names


def _keep_text(plan: Plan) -> str:
    """As it is typed."""
    count, permille = plan.parameters.keep, plan.parameters.keep_permille
    if permille == 1000:
        return "all"
    return str(count) if count else f"{permille / 10:g}%"


def _facts(bundle: Bundle) -> dict[str, Any]:
    """What tells a model from another."""
    manifest = bundle.manifest
    return {
        "model": manifest.model.name,
        "source": manifest.model.source,
        "revision": manifest.model.revision,
        "random_seed": manifest.model.random_seed,
        "weights": key_of(bundle, "")["weights"],
        "backend": f"ONNX Runtime {manifest.precision}",
    }
