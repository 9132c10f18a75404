"""A checkpoint's own chat template, rendered once at export time and kept as a record.

Chat templates are Jinja programs. They are run in Jinja's sandbox as transformers does, with
sample messages, and the record is read off what they write; more samples then have to come out
the same from the record. So a device that runs a bundle needs no Jinja, a program in C++ can read
the template too, and what a user types never passes through a template.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d2export.errors import CheckpointError, EnvironmentMismatch
from d2export.models.conversation import Around, Conversation
from d2export.models.shards import read_json

if TYPE_CHECKING:
    from jinja2 import Environment

PROMPT, SYSTEM = "d2export-prompt", "d2export-system"
MARKS = ("<image>", "<IMG_CONTEXT>")  # what templates write for an image
MARK = "{image}"
MAX_IMAGES = 3
# What an expression in a template may raise besides Jinja's own errors.
PYTHON_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


def find_template(folder: Path) -> str | None:
    """The chat template of a checkpoint, as transformers' processors look for it."""
    plain = folder / "chat_template.jinja"
    if plain.is_file():
        try:
            return plain.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise CheckpointError(f"cannot read '{plain}': {error}") from None
    for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        path = folder / name
        found = read_json(path).get("chat_template") if path.is_file() else None
        if isinstance(found, list):  # several, by name
            named = {item.get("name"): item.get("template") for item in found if _is_object(item)}
            found = named.get("default")
        if isinstance(found, str):
            return found
    return None


def conversation_from_template(
    template: str, base: Conversation, tokens: dict[str, str]
) -> Conversation:
    """`base` with the texts that `template` writes.

    Args:
        template: the Jinja program.
        base: what the template does not say: how an image is written out, stop tokens, markup.
        tokens: `bos_token`, `eos_token` and others that a template may use.

    Raises:
        CheckpointError: the template fails, or does more than put texts around messages.
        EnvironmentMismatch: jinja2 is missing.
    """
    render = _renderer(template, tokens)
    opening = tokens.get("bos_token", "")
    opening = opening if opening and render(1, None).startswith(opening) else ""
    one, two = (render(images, None).removeprefix(opening) for images in (1, 2))
    left, after = _split(one, PROMPT)
    each = _split(two, PROMPT)[0].removeprefix(left)
    before = left.removesuffix(each)
    system, message, before = _system(_render_system(render, opening), one, before)
    found = replace(
        base,
        name="chat_template",
        opening=opening,
        system=system,
        system_message=message,
        prompt=Around(before, after),
        image=replace(base.image, first=each, each=each),
        bos=None if opening else base.bos,
    )
    _compare(found, render)
    return found


def _system(
    rendered: str | None, without: str, before: str
) -> tuple[Around | None, str | None, str]:
    """What stands around a system message, the default one, and what stands before the prompt."""
    if rendered is None:
        return None, None, before
    start, rest = _split(rendered, SYSTEM)
    if rest.endswith(without):  # nothing is written unless there is a system message
        return Around(start, rest.removesuffix(without)), None, before
    head, _ = _split(without, rest)
    if not head.startswith(start):
        raise _unsupported("what it writes before a system message changes with the message")
    own = len(start) + len(head.removeprefix(start))
    return Around(start, ""), head.removeprefix(start), before[own:]


def _compare(conversation: Conversation, render: _Renderer) -> None:
    """The record has to write what the template writes."""
    for images in range(1, MAX_IMAGES + 1):
        for system in (None, SYSTEM) if conversation.system else (None,):
            around, prompt = conversation.system, conversation.prompt
            message = system or conversation.system_message
            own = around.before + message + around.after if around and message is not None else ""
            pictures = conversation.image.each * images
            text = conversation.opening + own + prompt.before + pictures + PROMPT + prompt.after
            if MARK not in conversation.image.each or text != render(images, system):
                raise _unsupported(
                    f"with {images} images and {'a' if system else 'no'} system message it writes "
                    f"{render(images, system)!r}"
                )


class _Renderer:
    """Renders a question with `images` images, which it writes as `{image}`."""

    def __init__(self, template: str, tokens: dict[str, str]) -> None:
        from jinja2 import TemplateError

        self.tokens = tokens
        self.failures: tuple[type[Exception], ...] = (TemplateError, *PYTHON_ERRORS)
        try:
            self.template = _sandbox().from_string(template)
        except self.failures as error:
            raise _unsupported(f"it is no Jinja template: {error}") from None

    def __call__(self, images: int, system: str | None) -> str:
        content: list[dict[str, str]] = [{"type": "image"}] * images
        messages = [{"role": "user", "content": [*content, {"type": "text", "text": PROMPT}]}]
        if system is not None:
            own = {"role": "system", "content": [{"type": "text", "text": system}]}
            messages.insert(0, own)
        try:
            text = self.template.render(
                messages=messages, add_generation_prompt=True, **self.tokens
            )
        except self.failures as error:
            raise _unsupported(f"it fails: {error}") from None
        for mark in MARKS:
            text = text.replace(mark, MARK)
        return text


def _renderer(template: str, tokens: dict[str, str]) -> _Renderer:
    try:
        import jinja2  # noqa: F401
    except ImportError:
        raise EnvironmentMismatch(
            "the checkpoint has a chat template, and jinja2 is not installed",
            "Run: pip install 'd2export[export]'",
        ) from None
    return _Renderer(template, tokens)


def _sandbox() -> Environment:
    """The environment in which transformers renders chat templates."""
    from jinja2 import TemplateError, ext
    from jinja2.nodes import Node
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(ext.Extension):
        """`{% generation %}` marks what an assistant said; it writes nothing itself."""

        tags = {"generation"}  # noqa: RUF012 - jinja2's interface

        def parse(self, parser: Parser) -> list[Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols]
    )
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.globals["raise_exception"] = refuse
    return environment


def _render_system(render: _Renderer, opening: str) -> str | None:
    """With a system message, or None where the template refuses or leaves it out."""
    try:
        text = render(1, SYSTEM)
    except CheckpointError:
        return None
    return text.removeprefix(opening) if SYSTEM in text else None


def _split(text: str, at: str) -> tuple[str, str]:
    left, found, right = text.rpartition(at)
    if not found:
        raise _unsupported(f"it writes {text!r}, which lacks the message")
    return left, right


def _unsupported(why: str) -> CheckpointError:
    return CheckpointError(
        f"the chat template of the checkpoint cannot be used: {why}",
        "Supported are templates that put fixed texts around the system message, each image and "
        "the prompt. Remove chat_template from the checkpoint to use the model's published one.",
    )


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)
