"""What a bundle, a result or a preset is, in words and tables."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from d2export.bundle.folder import Bundle
from d2export.bundle.manifest import Manifest
from d2export.bundle.records import Graph, Selector
from d2export.counts_table import TEXT_TOKENS, counts_text, most_tokens
from d2export.models.presets import PRESETS
from d2export.pruning.plan import Plan
from d2export.pruning.selectors import ROWS, SELECTORS
from d2export.runtime.generate import Generation
from d2export.runtime.vision import VisionResult
from d2export.verify.tables import table

BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 2}  # of a value, by precision
CACHE = (".key", ".value")  # how the names of a decoder's keys and values end


def summary(bundle: Bundle) -> str:
    """A bundle on one screen."""
    manifest = bundle.manifest
    size = sum(entry.bytes for entry in manifest.files.values()) / 1e6
    facts = [
        ("bundle", str(bundle.root)),
        *plan_facts(manifest),
        ("weights", _weights(bundle)),
        ("size", f"{size:,.1f} MB in {len(manifest.files)} files"),
        ("references", ", ".join(entry.name for entry in manifest.references)),
        *_graph_facts("vision", manifest.graphs.vision),
        *(_graph_facts("decoder", manifest.graphs.decoder) if manifest.graphs.decoder else ()),
        *_graph_facts("prune", manifest.graphs.prune),
        ("made with", ", ".join(f"{key} {value}" for key, value in manifest.versions.items())),
    ]
    width = max(len(key) for key, _ in facts)
    screen = "\n".join(f"{key:<{width}}  {value}" for key, value in facts)
    counts = counts_of(bundle)
    return f"{screen}\n\n{counts}" if counts else screen


def plan_facts(manifest: Manifest) -> list[tuple[str, str]]:
    """Which model prunes how, in words."""
    model, selector = manifest.model, manifest.selector
    origin = {
        "hub": f"{model.id} at {model.revision}",
        "folder": f"{model.id}",
        "package": "weights of this package",
        "random": f"random weights, seed {model.random_seed}",
    }[model.source]
    return [
        ("model", f"{model.name} ({origin})"),
        ("keeps", f"{_kept(selector)}, {model.vision.tokens_per_tile} tokens per tile"),
        ("selector", _selector(selector)),
        ("importance", _importance(selector)),
        ("prunes", _place(manifest.plan)),
        ("prior", selector.prior.source),
        ("precision", f"{manifest.precision}, opset {manifest.opset}"),
    ]


def _kept(selector: Selector) -> str:
    if selector.keep is not None:
        return f"{selector.keep} tokens per {selector.budget}"
    if selector.keep_permille is not None:
        return f"{selector.keep_permille / 10:g}% per {selector.budget}"
    most = f"at most {selector.max_keep}" if selector.max_keep else "no upper bound"
    return f"what the picture needs, at least {selector.min_keep} tokens, {most}"


def _selector(selector: Selector) -> str:
    settings = [f"{name} {_plain(value)}" for name, value in selector.settings.items()]
    return ", ".join([selector.name, *settings])


def _plain(value: bool | int | float | str) -> str:
    return str(value).lower() if isinstance(value, (bool, str)) else f"{value:g}"


def _importance(selector: Selector) -> str:
    if selector.importance is None:
        return "none"
    if selector.importance_layer is not None:
        return f"{selector.importance} (attention of vision layer {selector.importance_layer})"
    if selector.importance == "llm" and selector.prune_layer is not None:
        rows = str(SELECTORS[selector.name].resolve(selector.settings).get("rows", "below"))
        return f"llm (attention of {ROWS[rows].said(selector.prune_layer)})"
    return selector.importance


def _place(plan: Plan) -> str:
    places = ["behind the projector"] * plan.in_vision
    places += [f"before layer {plan.prune_layer} of the language model"] * plan.in_decoder
    return " and ".join(places)


def counts_of(bundle: Bundle) -> str:
    """What each stage costs for a picture of most tiles; empty without a language model inside."""
    manifest = bundle.manifest
    model, plan = manifest.model, manifest.plan
    if manifest.graphs.decoder is None or not plan.selector.counted:
        return ""  # without a language model inside, or known only with a picture
    return counts_text(
        model.text,
        model.vision,
        plan,
        most_tokens(model.vision),
        TEXT_TOKENS,
        BYTES[manifest.precision],
    )


def selector_facts() -> dict[str, Any]:
    """The selectors, as plain values."""
    return {
        name: {
            "title": item.title,
            "paper": item.paper,
            "about": item.about,
            "op": item.rule,
            "importance": list(item.importance),
            "scopes": [scope for scope in ("vision", "vlm") if item.fits(scope)],
            "keep": item.counted,
            "settings": {
                setting.name: {
                    "default": setting.default,
                    "expected": setting.expected,
                    "about": setting.about,
                }
                for setting in item.settings
            },
        }
        for name, item in SELECTORS.items()
    }


def selector_table() -> str:
    """A line per selector, and behind it one per setting."""
    rows = [
        [
            name,
            f"{item.title}, {item.paper}",
            ", ".join(scope for scope in ("vision", "vlm") if item.fits(scope)),
            ", ".join(item.importance) or "none",
            "--keep" if item.counted else "the picture",
        ]
        for name, item in SELECTORS.items()
    ]
    settings = [
        [name, setting.name, _plain(setting.default), setting.expected, setting.about]
        for name, item in SELECTORS.items()
        for setting in item.settings
    ]
    abouts = [f"{name}: {item.about}" for name, item in SELECTORS.items()]
    return "\n".join(
        [
            table(["selector", "from", "scopes", "importance", "how many"], rows),
            "",
            *abouts,
            "",
            table(["selector", "--set", "default", "expected", "what it does"], settings),
        ]
    )


def run_summary(result: VisionResult, arrays: Path, picture: Path) -> dict[str, Any]:
    """What `run` says of a result."""
    tiles, tokens = len(result.tiles.pixels), len(result.tiles.grid)
    return {
        "tiles": tiles,
        "tokens": tokens,
        "kept": len(result.kept_indices),
        "seconds": round(result.seconds, 4),
        "arrays": str(arrays),
        "picture": str(picture),
    }


def answer_summary(result: Generation, pictures: list[Path]) -> dict[str, Any]:
    """What `run` says of an answer."""
    timings = result.timings
    speed = timings.tokens_per_second
    return {
        "text": result.text,
        "tokens": len(result.tokens),
        "finish": result.finish,
        "prompt tokens": result.prompt_tokens,
        "visual tokens": [len(tiles.grid) for tiles in result.images],
        "kept": [len(kept) for kept in result.kept],
        "seconds": {
            "preprocessing": round(timings.preprocessing, 4),
            "vision": round(timings.vision, 4),
            "prefill": round(timings.prefill, 4),
            "decode": round(sum(timings.decode), 4),
        },
        "tokens per second": None if speed is None else round(speed, 2),
        "pictures": [str(picture) for picture in pictures],
    }


def preset_facts() -> dict[str, Any]:
    """Every preset as plain values."""
    return {
        name: {**asdict(spec), "tokens_per_tile": spec.vision.tokens_per_tile}
        for name, spec in PRESETS.items()
    }


def preset_table() -> str:
    """A line per preset."""
    rows = []
    for name, spec in PRESETS.items():
        image = spec.vision.image
        most = image.max_tiles + 1 if image.max_tiles > 1 else 1
        rows.append(
            [
                name,
                spec.family,
                f"{image.size}",
                f"{spec.vision.tokens_per_tile}",
                f"{most}",
                f"{most * spec.vision.tokens_per_tile:,}",
                f"{spec.text.backbone} {spec.text.hidden}x{spec.text.layers}",
                spec.hub_id or "in this package",
            ]
        )
    sizes = ["tile px", "tokens/tile", "max tiles", "max tokens"]
    return table(["model", "family", *sizes, "LLM", "weights"], rows)


def _graph_facts(name: str, graph: Graph) -> list[tuple[str, str]]:
    """Path, inputs and outputs; keys and values of all layers in a line."""
    lines = [(f"{name} graph", graph.path)]
    for kind, values in (("in", graph.inputs), ("out", graph.outputs)):
        plain = [v for v in values if not v.name.endswith(CACHE)]
        lines += [("", f"{kind:>3}  {v.name} {v.dtype} {list(v.shape)}") for v in plain]
        cache = [v.name for v in values if v.name.endswith(CACHE)]
        if cache:
            lines.append(("", f"{kind:>3}  {cache[0]} ... {cache[-1]}"))
    return lines


def _weights(bundle: Bundle) -> str:
    weights = bundle.manifest.weights
    if weights.mode == "copied":
        return "in the bundle"
    source = weights.source or "those of this package"
    return f"linked to {source} when it was built"
