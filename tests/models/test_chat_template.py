"""Chat templates of checkpoints become records; the published ones are written out here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from d2export.errors import CheckpointError
from d2export.models.chat_template import conversation_from_template, find_template
from d2export.models.conversation import (
    INTERNVL2_5,
    INTERNVL_HF,
    LLAVA_HF,
    VICUNA_V1,
    Around,
    published_conversation,
)

# llava-hf's chat_template.json, and that of transformers' conversion script for InternVL
LLAVA = (
    "{% for message in messages %}{% if message['role'] != 'system' %}"
    "{{ message['role'].upper() + ': '}}{% endif %}{# Render all images first #}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}{# Render all text next #}{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' '}}{% endfor %}{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
INTERNVL = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}"
    "{{ '<IMG_CONTEXT>\n' }}{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{'<|im_end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|im_start|>assistant\n' }}{% endif %}"
)
DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
)


def test_llava() -> None:
    found = conversation_from_template(LLAVA, LLAVA_HF, {})
    assert found == LLAVA_HF.__class__(**(vars(LLAVA_HF) | {"name": "chat_template"}))


@pytest.mark.parametrize("mark", ["<IMG_CONTEXT>", "<image>"])
def test_internvl(mark: str) -> None:
    found = conversation_from_template(INTERNVL.replace("<IMG_CONTEXT>", mark), INTERNVL_HF, {})
    around = found.system
    assert around is not None
    assert around.before + "S" + around.after == "<|im_start|>system\nS<|im_end|>\n"
    assert (found.prompt, found.image) == (INTERNVL_HF.prompt, INTERNVL_HF.image)
    assert found.system_message is None


def test_a_default_system_message() -> None:
    found = conversation_from_template(DEFAULT_SYSTEM + INTERNVL, INTERNVL_HF, {})
    around = found.system
    assert around is not None
    assert found.system_message == "Be kind."
    text = around.before + "Be kind." + around.after + found.prompt.before
    assert text == "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n"


def test_a_template_that_writes_bos_itself() -> None:
    template = "{{ bos_token }}" + LLAVA
    found = conversation_from_template(template, LLAVA_HF, {"bos_token": "<s>"})
    assert (found.opening, found.bos) == ("<s>", None)
    assert (found.system, found.prompt) == (LLAVA_HF.system, LLAVA_HF.prompt)


def test_a_template_without_system_messages() -> None:
    template = (
        "{% for message in messages %}{% if message['role'] == 'system' %}"
        "{{ raise_exception('no system role') }}{% endif %}{% endfor %}" + LLAVA
    )
    found = conversation_from_template(template, LLAVA_HF, {})
    assert found.system is None
    assert found.prompt == Around("USER: ", " ASSISTANT:")


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% for %}", "it is no Jinja template"),
        ("{{ 1 / 0 }}", "it fails"),
        ("{{ messages[0].nothing.more }}", "it fails"),
        ("a fixed text", "lacks the message"),
        (LLAVA.replace("content['text'] +", "'' +"), "lacks the message"),
        (LLAVA.replace("{{ '<image>\n' }}", "{{ loop.index }}<image>"), "it writes"),
        ("{{ ''.__class__.__mro__ }}" + LLAVA, "it fails"),
    ],
)
def test_templates_that_are_refused(template: str, why: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        conversation_from_template(template, LLAVA_HF, {})
    assert why in caught.value.problem


def test_where_a_template_is_found(tmp_path: Path) -> None:
    assert find_template(tmp_path) is None
    several = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "third"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": several}))
    assert find_template(tmp_path) == "third"
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "second"}))
    assert find_template(tmp_path) == "second"
    (tmp_path / "chat_template.jinja").write_text("first")
    assert find_template(tmp_path) == "first"


def test_published_records() -> None:
    internvl = {"architectures": ["InternVLChatModel"], "template": "internvl2_5"}
    assert published_conversation(internvl) is INTERNVL2_5
    assert published_conversation({"architectures": ["LlavaLlamaForCausalLM"]}) is VICUNA_V1


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({}, "'architectures' is None"),
        ({"architectures": ["InternVLChatModel"], "template": "Hermes-2"}, "'template' is 'Hermes"),
        (
            {"architectures": ["LlavaLlamaForCausalLM"], "mm_use_im_start_end": True},
            "'mm_use_im_start_end' is true",
        ),
    ],
)
def test_other_prompts_are_refused(config: dict[str, object], why: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        published_conversation(config)
    assert why in caught.value.problem
