"""The pocket model's tokenizer: byte-level BPE as Qwen2's, trained on the questions it is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from d2export.evaluation.scenes.questions import BINS, KINDS, ask, bin_text
from d2export.evaluation.scenes.scene import make_scene

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>")
MARKUP = ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>")
# Qwen2's, but numbers of up to three digits stay whole, and ", " is one token.
WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+ ?|\s+"
SCENES = 3000
# As transformers writes it for InternVL, without a system message.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}"
    "{{ '<IMG_CONTEXT>\n' }}{% elif content['type'] == 'text' %}{{ content['text'] }}"
    "{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def train_tokenizer() -> Tokenizer:
    """The same tokenizer every time: every word of the questions and every coordinate is one token,
    anything else is spelled in bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        min_frequency=8,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    tokenizer.add_special_tokens(list(SPECIAL + MARKUP))
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """`tokenizer.json` and `chat_template.jinja`."""
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, "utf-8")


def _texts() -> Iterator[str]:
    random = np.random.default_rng(0)
    for _ in range(SCENES):
        scene = make_scene(random, 8, signs=int(random.integers(3)))
        for kind in KINDS:
            question = ask(random, scene, kind)
            if question is not None:
                yield from _between_markup(question.prompt)
                if kind != "read":  # letters of signs stay apart
                    yield from _between_markup(question.answer)
    yield from (bin_text(index) for index in range(BINS) for _ in range(100))
    yield from ["user", "assistant"] * 10


def _between_markup(text: str) -> list[str]:
    return re.split("|".join(map(re.escape, MARKUP)), text)
