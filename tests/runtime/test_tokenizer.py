"""Prompts to ids against the published code and transformers, and answers back to text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
)

from d2export.bundle.processor import write_processor
from d2export.errors import BundleError, UsageError
from d2export.models.conversation import INTERNVL2_5, VICUNA_V1
from d2export.models.slow_tokenizers import find_tokenizer
from d2export.runtime.tokenizer import BundleTokenizer, load_tokenizer
from tests.models.test_chat_template import INTERNVL as INTERNVL_TEMPLATE
from tests.models.test_chat_template import LLAVA as LLAVA_TEMPLATE
from tests.small_tokenizers import (
    INTERNVL_TOKENS,
    TRICKY,
    write_added_tokens,
    write_qwen2,
    write_sentencepiece,
)

INTERNVL = {"architectures": ["InternVLChatModel"], "template": "internvl2_5"}
INTERNVL_HF = {"architectures": ["InternVLForConditionalGeneration"]}
LLAVA = {"architectures": ["LlavaLlamaForCausalLM"]}
LLAVA_HF = {"architectures": ["LlavaForConditionalGeneration"]}
VOCAB = 1000

PROMPTS = [
    ("what is on the table?", [4]),
    ("what is on the table?", [4, 12]),
    ("look at <image> and tell me: 图片里有什么?", [4]),
    ("<image>\nthe table, then <image>\nthe fox", [12, 4]),
    ("the fox<image>", [4]),
]
SYSTEMS = [None, "be kind.", ""]


def bundle(checkpoint: Path, config: dict[str, Any]) -> BundleTokenizer:
    target = checkpoint / "processor"
    assert write_processor(checkpoint, config, VOCAB, target) is not None
    return BundleTokenizer(target, VOCAB)


def write_internlm2(folder: Path) -> None:
    """InternVL2.5-8B's form: sentencepiece without a dummy prefix, reserved pieces renamed."""
    reserved = len(INTERNVL_TOKENS)
    path = write_sentencepiece(folder, dummy_prefix=False, reserved=reserved)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(path))
    places = [pieces.piece_to_id(f"[UNUSED_TOKEN_{i}]") for i in range(reserved)]
    write_added_tokens(folder, dict(zip(places, INTERNVL_TOKENS, strict=True)))


def write_llava(folder: Path) -> None:
    write_sentencepiece(folder, dummy_prefix=True)


def write_llava_hf(folder: Path, *, metaspace: bool = False) -> None:
    """llava-hf's form: tokenizer.json with `<image>`; with `metaspace` as of Llama's newer ones."""
    write_sentencepiece(folder, dummy_prefix=True)
    found = find_tokenizer(folder)
    assert found is not None
    document, last = found.document, max(found.ids.values())
    (folder / "tokenizer.model").unlink()
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    image = {"id": last + 1, "content": "<image>", **flags, "special": True}
    document["added_tokens"].append(image)
    if metaspace:
        document["normalizer"] = None
        document["pre_tokenizer"] = {
            "type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False,
        }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(document), "utf-8")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": LLAVA_TEMPLATE}))


def published_chat(prompt: str, lengths: list[int], system: str | None) -> str:
    """The query of InternVL's `chat`, several images numbered as its documentation asks."""
    if "<image>" not in prompt:
        one = len(lengths) == 1
        names = [f"Image-{i}: <image>\n" for i in range(1, len(lengths) + 1)]
        prompt = ("<image>\n" if one else "".join(names)) + prompt
    message = INTERNVL2_5.system_message if system is None else system
    query = f"<|im_start|>system\n{message}<|im_end|>\n"
    query += f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    for length in lengths:
        tokens = "<img>" + "<IMG_CONTEXT>" * length + "</img>"
        query = query.replace("<image>", tokens, 1)
    return query


def check_images(tokenizer: BundleTokenizer, ids: list[int], positions: list[int]) -> None:
    """Where the image token is, and only there, is a visual position."""
    token = tokenizer.tokenizer.token_to_id(tokenizer.conversation.image.token)
    assert positions == [at for at, found in enumerate(ids) if found == token]


# InternVL


@pytest.mark.parametrize(("prompt", "lengths"), PROMPTS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_internvl_with_qwen2(
    tmp_path: Path, prompt: str, lengths: list[int], system: str | None
) -> None:
    write_qwen2(tmp_path)
    tokenizer = bundle(tmp_path, INTERNVL)
    found = tokenizer.encode(prompt, lengths, system)
    query = published_chat(prompt, lengths, system)
    assert found.input_ids.tolist() == Qwen2Tokenizer.from_pretrained(tmp_path)(query)["input_ids"]
    check_images(tokenizer, found.input_ids.tolist(), found.visual_positions.tolist())
    assert len(found.visual_positions) == sum(lengths)
    assert found.image_lengths.tolist() == lengths
    types = {found.input_ids.dtype, found.visual_positions.dtype, found.image_lengths.dtype}
    assert types == {np.dtype(np.int64)}


@pytest.mark.parametrize(("prompt", "lengths"), PROMPTS)
def test_internvl_with_internlm2(tmp_path: Path, prompt: str, lengths: list[int]) -> None:
    """InternLM2's tokenizer puts BOS first, and encodes what is between its tokens alone."""
    write_internlm2(tmp_path)
    tokenizer = bundle(tmp_path, INTERNVL)
    found = tokenizer.encode(prompt, lengths)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    added = {
        name: pieces.piece_to_id(f"[UNUSED_TOKEN_{i}]") for i, name in enumerate(INTERNVL_TOKENS)
    }
    marked = published_chat(prompt, lengths, None)
    for name in added:
        marked = marked.replace(name, f"\0{name}\0")
    expected = [pieces.bos_id()]
    for part in marked.split("\0"):
        expected += [added[part]] if part in added else pieces.encode(part)
    assert found.input_ids.tolist() == expected
    check_images(tokenizer, expected, found.visual_positions.tolist())


@pytest.mark.parametrize(("prompt", "lengths"), PROMPTS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_internvl_in_transformers_form(
    tmp_path: Path, prompt: str, lengths: list[int], system: str | None
) -> None:
    write_qwen2(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(INTERNVL_TEMPLATE)
    tokenizer = bundle(tmp_path, INTERNVL_HF)
    reference = Qwen2Tokenizer.from_pretrained(tmp_path)
    content: list[dict[str, str]] = [{"type": "text", "text": prompt}]
    if "<image>" not in prompt:
        content = [{"type": "image"}] * len(lengths) + content
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    query = reference.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    before, *rest = query.replace("<IMG_CONTEXT>", "<image>").split("<image>")
    for length, part in zip(lengths, rest, strict=True):
        before += "<img>" + "<IMG_CONTEXT>" * length + "</img>" + part
    found = tokenizer.encode(prompt, lengths, system)
    assert found.input_ids.tolist() == reference(before)["input_ids"]
    check_images(tokenizer, found.input_ids.tolist(), found.visual_positions.tolist())


# LLaVA


@pytest.mark.parametrize(("prompt", "lengths"), PROMPTS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_llava(tmp_path: Path, prompt: str, lengths: list[int], system: str | None) -> None:
    """`tokenizer_image_token`: pieces on their own, BOS before the first alone."""
    write_llava(tmp_path)
    found = bundle(tmp_path, LLAVA).encode(prompt, lengths, system)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    if "<image>" not in prompt:
        prompt = "<image>\n" * len(lengths) + prompt
    message = VICUNA_V1.system_message if system is None else system
    first, *rest = f"{message} USER: {prompt} ASSISTANT:".split("<image>")
    expected: list[int | None] = [pieces.bos_id(), *pieces.encode(first)]
    for length, part in zip(lengths, rest, strict=True):
        expected += [None] * length + pieces.encode(part)
    at = [i for i, token in enumerate(expected) if token is None]
    assert found.visual_positions.tolist() == at
    assert len(found.input_ids) == len(expected)
    text = [i for i in range(len(expected)) if i not in at]
    assert [int(found.input_ids[i]) for i in text] == [expected[i] for i in text]


def transformers_llava(folder: Path) -> LlavaProcessor:
    """Images of 28 pixels: four patches, four tokens."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>",
    )  # fmt: skip
    size = {"height": 28, "width": 28}
    return LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 28}, crop_size=size),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )


@pytest.mark.parametrize("metaspace", [False, True], ids=["prepend", "first"])
@pytest.mark.parametrize(("prompt", "lengths"), PROMPTS)
def test_llava_in_transformers_form(
    tmp_path: Path, prompt: str, lengths: list[int], metaspace: bool
) -> None:
    """The prefix of the first word is there with a BOS before it too: `▁USER`, not `USER`."""
    write_llava_hf(tmp_path, metaspace=metaspace)
    tokenizer = bundle(tmp_path, LLAVA_HF)
    processor = transformers_llava(tmp_path)
    content: list[dict[str, str]] = [{"type": "text", "text": prompt}]
    if "<image>" not in prompt:
        content = [{"type": "image"}] * len(lengths) + content
    query = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    pictures = [Image.new("RGB", (28, 28))] * len(lengths)
    expected = processor(images=pictures, text=query)["input_ids"][0]
    expected = torch.as_tensor(expected).tolist()
    found = tokenizer.encode(prompt, [4] * len(lengths))
    assert found.input_ids.tolist() == expected
    check_images(tokenizer, expected, found.visual_positions.tolist())
    assert expected[0] == tokenizer.tokenizer.token_to_id("<s>")
    assert expected.count(expected[0]) == 1


@pytest.mark.parametrize("metaspace", [False, True], ids=["prepend", "first"])
def test_a_template_that_writes_bos_itself(tmp_path: Path, metaspace: bool) -> None:
    """It is text then, and the first word has no prefix where only the first part gets one."""
    write_llava_hf(tmp_path, metaspace=metaspace)
    template = "{{ bos_token }}" + LLAVA_TEMPLATE
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>"}))
    tokenizer = bundle(tmp_path, LLAVA_HF)
    assert tokenizer.conversation.opening == "<s>"
    reference = transformers_llava(tmp_path).tokenizer
    query = "<s>USER: " + "<image>" * 4 + "\nthe fox ASSISTANT:"
    expected = reference(query, add_special_tokens=False)["input_ids"]
    found = tokenizer.encode("the fox", [4]).input_ids.tolist()
    assert found == expected
    assert found.count(found[0]) == 1


def test_braces_in_a_template_are_text(tmp_path: Path) -> None:
    write_llava_hf(tmp_path)
    template = LLAVA_TEMPLATE.replace("'<image>\n'", "'{picture}<image>\n'")
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    tokenizer = bundle(tmp_path, LLAVA_HF)
    expected = tokenizer.encode("{picture}<image>\nthe fox", [4]).input_ids.tolist()
    assert tokenizer.encode("the fox", [4]).input_ids.tolist() == expected


@pytest.mark.parametrize(
    "settings",
    [
        {"truncation": {"max_length": 5, "strategy": "LongestFirst", "stride": 0,
                        "direction": "Right"}},
        {"padding": {"strategy": {"Fixed": 99}, "direction": "Right", "pad_to_multiple_of": None,
                     "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"}},
    ],
    ids=["truncation", "padding"],
)  # fmt: skip
def test_settings_of_training_change_nothing(tmp_path: Path, settings: dict[str, Any]) -> None:
    write_llava_hf(tmp_path)
    query = "USER: " + "<image>" * 4 + "\nthe quick brown fox ASSISTANT:"
    expected = transformers_llava(tmp_path).tokenizer(query)["input_ids"]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | settings))
    found = bundle(tmp_path, LLAVA_HF).encode("the quick brown fox", [4])
    assert found.input_ids.tolist() == expected


# What a prompt may not be


@pytest.fixture
def internvl(tmp_path: Path) -> BundleTokenizer:
    write_qwen2(tmp_path)
    return bundle(tmp_path, INTERNVL)


@pytest.mark.parametrize("prompt", ["", " ", "\n", "<image>", "<image>\n<image> "])
def test_an_empty_prompt(internvl: BundleTokenizer, prompt: str) -> None:
    with pytest.raises(UsageError, match="the prompt is empty\n  Pass --prompt with at least one"):
        internvl.encode(prompt, [4])


@pytest.mark.parametrize(("images", "placeholders"), [(1, 2), (2, 1), (3, 2), (0, 1)])
def test_another_number_of_placeholders(
    internvl: BundleTokenizer, images: int, placeholders: int
) -> None:
    with pytest.raises(UsageError) as caught:
        internvl.encode("<image>" * placeholders + "a fox", [4] * images)
    assert caught.value.problem == (
        f"placeholders '<image>' in the prompt: {placeholders}, expected {images}, one per image"
    )


@pytest.mark.parametrize("token", ["<|im_end|>", "<|im_start|>", "<IMG_CONTEXT>", "<img>"])
def test_control_tokens_are_refused(internvl: BundleTokenizer, token: str) -> None:
    with pytest.raises(UsageError, match=r"^the prompt contains the control token '") as caught:
        internvl.encode(f"say {token}now", [4])
    assert f"'{token}'" in caught.value.problem
    with pytest.raises(UsageError, match=r"^--system contains the control token '"):
        internvl.encode("a fox", [4], f"be {token}kind")


def test_what_is_not_utf8(internvl: BundleTokenizer) -> None:
    with pytest.raises(UsageError, match=r"^the prompt is not UTF-8 at character 4"):
        internvl.encode("caf\udce9", [4])
    with pytest.raises(UsageError, match=r"^--system is not UTF-8 at character 1"):
        internvl.encode("word", [4], "\udce9")


def test_markup_is_allowed(internvl: BundleTokenizer) -> None:
    found = internvl.encode("where is <ref>the fox?", [4]).input_ids.tolist()
    assert found.count(internvl.tokenizer.token_to_id("<ref>")) == 1


def test_control_tokens_that_are_spelt_otherwise(tmp_path: Path) -> None:
    """NFKC makes ASCII of full-width letters before a normalized token is looked for."""
    write_qwen2(tmp_path)
    found = find_tokenizer(tmp_path)
    assert found is not None
    found.document["normalizer"] = {"type": "NFKC"}
    for token in found.added:
        token["normalized"] = token["content"] == "<|im_end|>"
    (tmp_path / "tokenizer.json").write_text(json.dumps(found.document), "utf-8")
    tokenizer = bundle(tmp_path, INTERNVL)
    with pytest.raises(UsageError, match=r"the prompt contains the control token '<\|im_end\|>'"):
        tokenizer.encode("say \uff1c|im_end|\uff1enow", [4])


def test_control_tokens_behind_an_image(tmp_path: Path) -> None:
    """One that is found as a word of its own alone: it is none behind a letter."""
    write_qwen2(tmp_path)
    found = find_tokenizer(tmp_path)
    assert found is not None
    for token in found.added:
        token["single_word"] = token["content"] == "<|im_end|>"
    (tmp_path / "tokenizer.json").write_text(json.dumps(found.document), "utf-8")
    with pytest.raises(UsageError, match=r"the prompt contains the control token '<\|im_end\|>'"):
        bundle(tmp_path, INTERNVL).encode("a<image><|im_end|> now", [4])


@pytest.mark.parametrize(("config", "write"), [(INTERNVL, write_qwen2), (LLAVA, write_llava)])
def test_a_placeholder_in_the_system_message(
    tmp_path: Path, config: dict[str, Any], write: Callable[[Path], None]
) -> None:
    write(tmp_path)
    with pytest.raises(UsageError) as caught:
        bundle(tmp_path, config).encode("a fox", [4], "look at <image>")
    assert caught.value.problem == (
        "--system contains the placeholder '<image>', expected plain text"
    )


def test_a_system_message_where_none_is_taken(tmp_path: Path) -> None:
    write_llava_hf(tmp_path)
    template = (
        "{% for message in messages %}{% if message['role'] == 'system' %}"
        "{{ raise_exception('no system role') }}{% endif %}{% endfor %}" + LLAVA_TEMPLATE
    )
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    with pytest.raises(UsageError, match="this model takes no system message, but --system is"):
        bundle(tmp_path, LLAVA_HF).encode("a fox", [4], "be kind.")


# Ids to text


WRITERS = {
    "qwen2": (INTERNVL, write_qwen2),
    "internlm2": (INTERNVL, write_internlm2),
    "llava": (LLAVA, write_llava),
    "llava-hf": (LLAVA_HF, write_llava_hf),
}


@pytest.fixture(scope="module", params=WRITERS)
def tokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> BundleTokenizer:
    config, write = WRITERS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    write(folder)
    return bundle(folder, config)


def streamed(tokenizer: BundleTokenizer, ids: list[int]) -> list[str]:
    stream = tokenizer.stream()
    return [*[stream.put(token) for token in ids], stream.end()]


@pytest.mark.parametrize("text", TRICKY, ids=repr)
def test_pieces_add_up_wherever_an_answer_ends(tokenizer: BundleTokenizer, text: str) -> None:
    ids = tokenizer.tokenizer.encode(text, add_special_tokens=False).ids
    for length in range(len(ids) + 1):
        *pieces, rest = streamed(tokenizer, ids[:length])
        assert "".join(pieces) + rest == tokenizer.decode(ids[:length])
        assert "\ufffd" not in "".join(pieces)
    assert "\ufffd" not in "".join(streamed(tokenizer, ids))


def test_pieces_of_any_ids_add_up(tokenizer: BundleTokenizer) -> None:
    """Bytes in any order, tokens that write nothing between them: what sampling may draw."""
    random = np.random.default_rng(0)
    for _ in range(1500):
        count = random.choice([259, tokenizer.tokenizer.get_vocab_size()])
        ids = random.integers(0, count, random.integers(1, 14)).tolist()
        assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids)


def test_pieces_come_as_soon_as_they_are_whole(tokenizer: BundleTokenizer) -> None:
    """A word at once, an emoji made of bytes with the token behind it at the latest."""
    text = "the table 🙂 is"
    ids = tokenizer.tokenizer.encode(text, add_special_tokens=False).ids
    *pieces, rest = streamed(tokenizer, ids)
    assert rest == ""
    at = max(i for i, token in enumerate(ids) if tokenizer.decode(ids[: i + 1]) == "the table 🙂")
    assert "".join(pieces[: at + 1]) in ("the table", "the table ", "the table 🙂")
    assert "".join(pieces[: at + 2]).startswith("the table 🙂")
    assert "".join(pieces[:2]).startswith("the")


def test_a_cut_character_comes_with_the_end(tokenizer: BundleTokenizer) -> None:
    ids = tokenizer.tokenizer.encode("a🙂", add_special_tokens=False).ids[:-1]
    *pieces, rest = streamed(tokenizer, ids)
    assert "".join(pieces).strip() == "a"
    assert set(rest) == {"\ufffd"}


def test_tokens_that_end_an_answer_write_nothing(tokenizer: BundleTokenizer) -> None:
    ids = tokenizer.tokenizer.encode("the table", add_special_tokens=False).ids
    stop = sorted(tokenizer.stop_ids)
    assert stop
    assert "".join(streamed(tokenizer, ids + stop)) == tokenizer.decode(ids) == "the table"


# Tokenizers that do not fit


def test_ids_beyond_the_table(internvl: BundleTokenizer) -> None:
    largest = max(internvl.tokenizer.get_vocab().values())
    BundleTokenizer(internvl.folder, largest + 1)
    with pytest.raises(BundleError) as caught:
        BundleTokenizer(internvl.folder, largest)
    assert caught.value.problem == (
        f"{internvl.folder}/tokenizer.json has ids up to {largest}, the embedding table has "
        f"{largest} rows"
    )


@pytest.mark.parametrize("token", ["<IMG_CONTEXT>", "<img>", "<|im_end|>"])
def test_a_token_that_is_missing(internvl: BundleTokenizer, token: str) -> None:
    path = internvl.folder / "tokenizer.json"
    path.write_text(path.read_text("utf-8").replace(token, f"{token[0]}other{token[1:]}"), "utf-8")
    with pytest.raises(BundleError) as caught:
        BundleTokenizer(internvl.folder, VOCAB)
    assert caught.value.problem.startswith(f"{path} has no token '{token}', which the model's conv")


def test_a_first_token_that_is_missing(internvl: BundleTokenizer) -> None:
    path = internvl.folder / "conversation.json"
    document = json.loads(path.read_text("utf-8"))
    document["conversation"]["bos"] = "<s>"
    path.write_text(json.dumps(document), "utf-8")
    with pytest.raises(BundleError, match="has no token '<s>', which the model's conversation"):
        BundleTokenizer(internvl.folder, VOCAB)


@pytest.mark.parametrize("content", ["", "{}", '{"model": {"type": "BPE"}}', "\0\1\2"])
def test_a_damaged_tokenizer(internvl: BundleTokenizer, content: str) -> None:
    path = internvl.folder / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(BundleError) as caught:
        BundleTokenizer(internvl.folder, VOCAB)
    assert caught.value.problem.startswith(f"{path} is no tokenizer: ")
    assert caught.value.hint == "Repair the checkpoint's tokenizer.json and build again."


def test_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_tokenizer(tmp_path / "bundle" / "processor")
    assert caught.value.problem.startswith(f"{tmp_path}/bundle has no tokenizer.json, so a prompt")
