"""`d2export run`: ask a bundle about pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from d2export.cli_options import (
    BundleArg,
    EngineProvider,
    Json,
    PromptEmbeds,
    RunImages,
    RunPlugin,
    Threads,
    refuse_others,
)
from d2export.cli_output import finish
from d2export.errors import UsageError

if TYPE_CHECKING:
    from d2export.runtime.sampling import Sampling

# What goes with a bundle of either scope.
RUN_BOTH = ("bundle", "image", "prompt", "output", "provider", "plugin", "threads", "as_json")
RUN_VISION = (*RUN_BOTH, "prompt_embeds")
RUN_VLM = (*RUN_BOTH, "max_new_tokens", "temperature", "top_k", "top_p", "seed", "system")


def run(
    ctx: typer.Context,
    bundle: BundleArg,
    image: RunImages,
    prompt: Annotated[
        str | None, typer.Option(help="Question; in scope vision with importance text.")
    ] = None,
    prompt_embeds: PromptEmbeds = None,
    max_new_tokens: Annotated[int, typer.Option(help="Scope vlm: longest answer.")] = 256,
    temperature: Annotated[
        float | None, typer.Option(help="Scope vlm: draw tokens; default: the most likely.")
    ] = None,
    top_k: Annotated[int, typer.Option(help="Draw from the k most likely tokens.")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw from tokens of this probability.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of drawn tokens.")] = 0,
    system: Annotated[str | None, typer.Option(help="Scope vlm: system message.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for results.")] = Path(),
    provider: EngineProvider = "cpu",
    plugin: RunPlugin = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Ask about pictures. Scope vision: one picture's kept tokens. Both: drawn on the picture."""
    from d2export import session
    from d2export.bundle.disk import writable
    from d2export.inspection import answer_summary, run_summary
    from d2export.runtime.prompt import read_embeds

    if session.scope_of(bundle) == "vlm":
        refuse_others(ctx, "a bundle of scope vlm", RUN_VLM, "Leave it out.")
        with writable(output):
            generation = session.answer(
                bundle,
                image,
                prompt or "",
                max_new_tokens=max_new_tokens,
                sampling=_sampling(ctx, temperature, top_k, top_p, seed),
                system=system,
                on_text=None if as_json else _stream,
                provider=provider,
                threads=threads,
                plugin=plugin,
            )
            pictures = session.save_pictures(generation, image, output)
        facts = answer_summary(generation, pictures)
        lines = [f"{key}: {value}" for key, value in facts.items() if key != "text"]
        finish(facts, "\n\n" + "\n".join(lines), as_json)
        return
    refuse_others(ctx, "a bundle of scope vision", RUN_VISION, "Leave it out.")
    if len(image) != 1:
        raise UsageError(f"--image is given {len(image)} times, expected once", "Run it for each.")
    with writable(output):
        result = session.run(
            bundle,
            image[0],
            prompt=prompt,
            prompt_embeds=read_embeds(prompt_embeds) if prompt_embeds else None,
            provider=provider,
            threads=threads,
            plugin=plugin,
        )
        arrays, picture = session.save_result(result, image[0], output)
    facts = run_summary(result, arrays, picture)
    finish(facts, "\n".join(f"{key}: {value}" for key, value in facts.items()), as_json)


def _sampling(
    ctx: typer.Context, temperature: float | None, top_k: int, top_p: float, seed: int
) -> Sampling | None:
    """None takes the most likely token; the other options draw at temperature 1."""
    from d2export.runtime.sampling import Sampling

    sources = [ctx.get_parameter_source(name) for name in ("top_k", "top_p", "seed")]
    drawn = any(source is not None and source.name == "COMMANDLINE" for source in sources)
    if temperature is None and not drawn:
        return None
    return Sampling(1.0 if temperature is None else temperature, top_k, top_p, seed)


def _stream(piece: str) -> None:
    print(piece, end="", flush=True)
