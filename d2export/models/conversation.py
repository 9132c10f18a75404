"""How a prompt is put to each model: the published templates, as records.

InternVL2.5 as published: `internvl2_5` of InternVL's conversation.py, images as its `chat` places
them, several of them numbered as in its documentation. LLaVA-1.5 as published: `vicuna_v1` of
LLaVA's conversation.py, which it was trained and evaluated with. Checkpoints in transformers' own
form bring a chat template, which `chat_template.py` turns into such a record; the two here stand in
where one is missing, and are those of transformers' conversion script and of llava-hf.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from d2export.errors import CheckpointError


@dataclass(frozen=True)
class Around:
    """What stands before and after a text."""

    before: str
    after: str


@dataclass(frozen=True)
class ImageText:
    """An image in a text: `before`, `token` once per visual token, `after`.

    `token` is None where the tokenizer has none and only the positions count. `first` is put before
    a prompt that does not say where its only image goes, `each` before one with several, once per
    image; in both `{image}` stands for the image, in `each` `{number}` for its number.
    """

    before: str
    token: str | None
    after: str
    first: str
    each: str


@dataclass(frozen=True)
class Conversation:
    """One question: `opening`, system message, prompt with its images; an answer follows.

    `system` is None where a model takes no system message; `system_message` is the one used when
    a user gives none, or None to leave it out altogether. `stop` are the tokens that end an answer.
    `markup` are special tokens that a prompt may contain: grounding prompts do. `bos` is the token
    that the tokenizer puts before every text.
    """

    name: str
    opening: str
    system: Around | None
    system_message: str | None
    prompt: Around
    image: ImageText
    stop: tuple[str, ...]
    markup: tuple[str, ...] = ()
    bos: str | None = None


INTERNVL_MARKUP = ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>")

INTERNVL2_5 = Conversation(
    name="internvl2_5",
    opening="",
    system=Around("<|im_start|>system\n", "<|im_end|>\n"),
    system_message=(
        "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的"  # noqa: RUF001
        "多模态大语言模型。"
    ),
    prompt=Around("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"),
    image=ImageText("<img>", "<IMG_CONTEXT>", "</img>", "{image}\n", "Image-{number}: {image}\n"),
    stop=("<|im_end|>",),
    markup=INTERNVL_MARKUP,
)

INTERNVL_HF = Conversation(
    name="internvl-hf",
    opening="",
    system=INTERNVL2_5.system,
    system_message=None,
    prompt=INTERNVL2_5.prompt,
    image=ImageText("<img>", "<IMG_CONTEXT>", "</img>", "{image}\n", "{image}\n"),
    stop=("<|im_end|>",),
    markup=INTERNVL_MARKUP,
)

VICUNA_V1 = Conversation(
    name="vicuna_v1",
    opening="",
    system=Around("", " "),
    system_message=(
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    ),
    prompt=Around("USER: ", " ASSISTANT:"),
    image=ImageText("", None, "", "{image}\n", "{image}\n"),
    stop=("</s>",),
)

LLAVA_HF = Conversation(
    name="llava-hf",
    opening="",
    system=Around("", " "),
    system_message=None,
    prompt=Around("USER: ", " ASSISTANT:"),
    image=ImageText("", "<image>", "", "{image}\n", "{image}\n"),
    stop=("</s>",),
)

# The architecture in config.json: the record that holds if the checkpoint says nothing else.
CONVERSATIONS = {
    "InternVLChatModel": INTERNVL2_5,
    "InternVLForConditionalGeneration": INTERNVL_HF,
    "LlavaLlamaForCausalLM": VICUNA_V1,
    "LlavaForConditionalGeneration": LLAVA_HF,
}
BRINGS_TEMPLATE = frozenset({"InternVLForConditionalGeneration", "LlavaForConditionalGeneration"})


def published_conversation(config: Mapping[str, Any]) -> Conversation:
    """The record for the checkpoint with this `config.json`.

    Raises:
        CheckpointError: an unknown architecture, another template than the published one, or
            LLaVA with start and end tokens around images.
    """
    architectures = config.get("architectures")
    name = architectures[0] if isinstance(architectures, list) and architectures else None
    if name not in CONVERSATIONS:
        raise CheckpointError(
            f"config.json: 'architectures' is {architectures!r}; "
            f"supported: {', '.join(CONVERSATIONS)}"
        )
    if name == "InternVLChatModel" and config.get("template") not in (None, INTERNVL2_5.name):
        raise CheckpointError(
            f"config.json: 'template' is {config['template']!r}; supported: '{INTERNVL2_5.name}'",
            "The model was trained on other prompts than InternVL2.5 was.",
        )
    if name == "LlavaLlamaForCausalLM" and config.get("mm_use_im_start_end"):
        raise CheckpointError(
            "config.json: 'mm_use_im_start_end' is true; supported: false, as in LLaVA-1.5"
        )
    return CONVERSATIONS[name]
