"""The C++ tokenizer against the tokenizers package: the same ids, places and texts."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as Reference

from d2export.errors import UsageError
from d2export.models import pocket
from d2export.models.slow_tokenizers import QWEN2_WORDS, find_tokenizer
from scripts.unicode_table import matched, parts_of_words
from tests.runtime.test_tokenizer import (
    INTERNVL,
    LLAVA,
    LLAVA_HF,
    PROMPTS,
    SYSTEMS,
    bundle,
    write_internlm2,
    write_llava,
    write_llava_hf,
)
from tests.runtime_cpp.pictures import Refusal
from tests.runtime_cpp.texts import Tokenization, Tokenizer, unicode_kinds
from tests.small_tokenizers import TRICKY, write_qwen2

POCKET = Path(next(iter(pocket.__path__)))
VOCAB = 1000
STRINGS = 500  # for each kind of tokenizer

Document = dict[str, Any]


def written(write: Callable[[Path], None]) -> Callable[[Path], Document]:
    def document(folder: Path) -> Document:
        write(folder)
        found = find_tokenizer(folder)
        assert found is not None
        return found.document

    return document


def of_pocket(_: Path) -> Document:
    return dict(json.loads((POCKET / "tokenizer.json").read_text("utf-8")))


def metaspace(scheme: str, *, split: bool) -> Callable[[Path], Document]:
    def document(folder: Path) -> Document:
        found = written(write_llava_hf)(folder)
        space = {
            "type": "Metaspace",
            "replacement": "\u2581",
            "prepend_scheme": scheme,
            "split": split,
        }
        return found | {"normalizer": None, "pre_tokenizer": space, "decoder": space}

    return document


def llama3(folder: Path) -> Document:
    """Byte-level, with the regular expression of Llama 3 and offsets without blanks."""
    found = written(write_qwen2)(folder)
    words = QWEN2_WORDS.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
    found["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = words
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    return found | {"post_processor": level, "normalizer": None}


def gpt2(folder: Path) -> Document:
    """The ByteLevel of the package with its own regular expression, and a space before words."""
    found = written(write_qwen2)(folder)
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    return found | {
        "normalizer": None, "pre_tokenizer": level, "post_processor": level, "decoder": level,
    }  # fmt: skip


def without_unknown(folder: Path) -> Document:
    """Bytes missing, and what has none is dropped, or fused, or not."""
    found = written(write_llava)(folder)
    model = found["model"]
    for byte in range(0x80, 0xE0):
        model["vocab"].pop(f"<0x{byte:02X}>")
    return found | {"model": model | {"fuse_unk": False, "ignore_merges": True}}


def greedy_tokens(folder: Path) -> Document:
    """Added tokens with every flag, some the beginning of others."""
    found = written(write_qwen2)(folder)
    last = max(token["id"] for token in found["added_tokens"])
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    vocabulary = found["model"]["vocab"]
    for number, content in enumerate(["the", "the fox", "\u00e9", "x", " y", "1", "_"], 1):
        kind = {flag: bool((number * 11) >> i & 1) for i, flag in enumerate(flags)}
        last += content not in vocabulary
        token = {"id": vocabulary.get(content, last), "content": content}
        found["added_tokens"].append(token | kind)
    return found


KINDS: dict[str, Callable[[Path], Document]] = {
    "pocket": of_pocket,
    "qwen2": written(write_qwen2),
    "internlm2": written(write_internlm2),
    "llava": written(write_llava),
    "llava-hf": written(write_llava_hf),
    "metaspace-first": metaspace("first", split=False),
    "metaspace-always": metaspace("always", split=True),
    "metaspace-never": metaspace("never", split=True),
    "llama3": llama3,
    "gpt2": gpt2,
    "missing bytes": without_unknown,
    "greedy tokens": greedy_tokens,
}


@pytest.fixture(scope="module", params=KINDS)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Reference, Tokenization]:
    """The package's tokenizer and ours, from one document."""
    document = KINDS[request.param](tmp_path_factory.mktemp("tokenizer"))
    text = json.dumps(document)
    reference = Reference.from_str(text)
    reference.no_padding()
    reference.no_truncation()
    return reference, Tokenization(text.encode())


WORDS = [
    *TRICKY, "don't", "I'LL", "the", " fox", "\u017ft", "'\u017f", "'S", "'RE", "\u212a", "<s>",
    "</s>", "<unk>", "<|im_end|>", "<img>", "<image>", "<ref>", "<0x0A>", "\u2581", "\u0120",
    "\r\n", "\u3000", "\u200b", "\x1c", "123", "\u0663", "\u00bd", "e\u0301\u0323", "\uac01", "_",
    "x", "\u1112\u1161\u11ab", "\u0958", "\u2126", "\u1e9b\u0323", "\U0001f469\u200d\U0001f467",
    "-", "\ufffd",
]  # fmt: skip
BLOCKS = [
    (0x20, 0x7F), (0x20, 0x7F), (0xA0, 0x250), (0x250, 0x370), (0x300, 0x370), (0x370, 0x530),
    (0x590, 0x780), (0x900, 0xE80), (0x1100, 0x1200), (0x1DC0, 0x2070), (0x2190, 0x27C0),
    (0x2E80, 0x3400), (0x4E00, 0x4F00), (0xA640, 0xA830), (0xAC00, 0xB000), (0xF900, 0xFFFE),
    (0x10000, 0x11FFF), (0x1D000, 0x1D800), (0x1F300, 0x1FA00), (0x2F800, 0x2FA20), (1, 0x20),
]  # fmt: skip


def random_text(random: np.random.Generator) -> str:
    """Characters of a few blocks, words of WORDS and runs of blanks, in any order."""
    parts = []
    for _ in range(random.integers(1, 9)):
        kind = random.integers(4)
        if kind == 0:
            parts.append(str(random.choice(np.array(WORDS, object))))
        elif kind == 1:
            parts.append(" " * random.integers(1, 4) + "\n" * random.integers(0, 3))
        else:
            low, high = BLOCKS[random.integers(len(BLOCKS))]
            parts.append("".join(map(chr, random.integers(low, high, random.integers(1, 6)))))
    return "".join(parts)


def same(pair: tuple[Reference, Tokenization], text: str) -> None:
    reference, tokens = pair
    expected = reference.encode(text, add_special_tokens=False)
    ids, places = tokens.encode(text)
    assert ids == expected.ids, repr(text)
    assert places == expected.offsets, repr(text)
    assert tokens.decode(ids) == reference.decode(ids), repr(text)


def test_texts(pair: tuple[Reference, Tokenization]) -> None:
    for word in WORDS:
        same(pair, word)
    random = np.random.default_rng(0)
    for _ in range(STRINGS):
        same(pair, random_text(random))


def test_any_ids_decode_alike(pair: tuple[Reference, Tokenization]) -> None:
    reference, tokens = pair
    random = np.random.default_rng(0)
    for _ in range(STRINGS):
        count = random.choice([259, reference.get_vocab_size() + 5])
        ids = random.integers(0, count, random.integers(0, 14)).tolist()
        assert tokens.decode(ids) == reference.decode(ids, skip_special_tokens=True), ids


def test_a_long_text(pair: tuple[Reference, Tokenization]) -> None:
    random = np.random.default_rng(1)
    same(pair, "".join(random_text(random) for _ in range(1000)))
    same(pair, "the quick brown fox " * 500 + " " * 3000 + "a" * 3000 + "\n" * 3000)


# Unicode


def test_characters_compose_alike(tmp_path: Path) -> None:
    """All that Unicode takes apart or combines, by themselves and behind marks they may pass."""
    document = json.dumps(written(write_qwen2)(tmp_path))
    pair = Reference.from_str(document), Tokenization(document.encode())
    random = np.random.default_rng(0)
    some = [*random.integers(0x20, 0xD800, 500).tolist(), 0xAC00, 0xAC01, 0xD7A3]
    some += [
        c
        for c in range(0x110000)
        if (unicodedata.decomposition(chr(c)) and "<" not in unicodedata.decomposition(chr(c)))
        or unicodedata.combining(chr(c))
    ]
    for start in range(0, len(some), 500):
        characters = map(chr, some[start : start + 500])
        same(pair, "".join(f"{c}\u0315a\u0300{c}\u0323" for c in characters))


def test_kinds_of_characters() -> None:
    """The table is of the tokenizers package that is installed: see scripts/unicode_table.py."""
    kinds = unicode_kinds()
    surrogate = np.arange(len(kinds)) // 0x800 == 0xD800 // 0x800
    edges = np.flatnonzero(np.diff(kinds))
    some = np.union1d(edges, edges + 1)
    some = np.union1d(some, np.random.default_rng(0).integers(0, len(kinds), 10_000))
    some = some[~surrogate[some]]
    characters = [chr(c) for c in some]
    for bit, expected in (
        (1, matched(r"\p{L}", characters)),
        (2, matched(r"\p{N}", characters)),
        (4, matched(r"\s", characters)),
        (8, parts_of_words(characters)),
    ):
        assert set(some[kinds[some] & bit != 0].tolist()) == expected


# Regular expressions


@pytest.mark.parametrize(
    "expression",
    [
        QWEN2_WORDS, r"\s+(?!\S)|\s+|\S+", "a{2}|a{3,}|b{,2}c|b{1,3}", "a+?b|a*?c|(?:ab)??c|x",
        r"(?i:'(?:[sdmt]|ll|ve|re)|K)", r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\P{L}\S",
        r"(a|ab)(c|bcd)(d*)|.", r"(?=ab)a|(?!x)\S|[\-\]\\^a-c]", r"\p{N}(?:\p{N}\p{N})*(?=\s)",
        r"[一-龥]+|[é-ü]", r"((a+b|a+c)x|a)+y|a",
    ],
)  # fmt: skip
def test_regular_expressions(expression: str) -> None:
    document = {
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated",
                 "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
                 "use_regex": False},
            ],
        },
        "added_tokens": [],
        # Every pair of characters is a token, and its merges come last to first: words show.
        "model": {"type": "BPE", **all_pairs()},
    }  # fmt: skip
    text = json.dumps(document)
    pair = Reference.from_str(text), Tokenization(text.encode())
    random = np.random.default_rng(0)
    for _ in range(300):
        letters = random.choice(list("aaabbccdxy  \n12'Ks\u017f\u212a-]\\^\u4e00\u00e9"), 20)
        same(pair, "".join(letters))


def all_pairs() -> Document:
    """A byte-level model that joins any two bytes."""
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    some = [letter for letter in letters if letter in "abcdxyĠ12'Ċ"]
    merges = [[a, b] for a in some for b in some]
    names = letters + [a + b for a, b in merges]
    return {"vocab": {name: i for i, name in enumerate(names)}, "merges": merges}


# A prompt in its conversation


def write_pocket(folder: Path) -> None:
    for name in ("tokenizer.json", "chat_template.jinja"):
        shutil.copy(POCKET / name, folder)


WRITERS: dict[str, tuple[Document, Callable[[Path], None]]] = {
    "pocket": (json.loads((POCKET / "config.json").read_text("utf-8")), write_pocket),
    "qwen2": (INTERNVL, write_qwen2),
    "internlm2": (INTERNVL, write_internlm2),
    "llava": (LLAVA, write_llava),
    "llava-hf": (LLAVA_HF, write_llava_hf),
}


@pytest.fixture(scope="module", params=WRITERS)
def bundles(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Tokenizer]:
    config, write = WRITERS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    write(folder)
    python = bundle(folder, config)
    return python, Tokenizer(folder / "processor", VOCAB)


def check_prompt(
    bundles: tuple[Any, Tokenizer], prompt: str, lengths: list[int], system: str | None
) -> None:
    python, tokenizer = bundles
    try:
        expected = python.encode(prompt, lengths, system)
    except UsageError as error:
        with pytest.raises(Refusal) as caught:
            tokenizer.encode(prompt, lengths, system)
        problem = error.problem.replace("--system is given", "one is given")
        assert str(caught.value).split("\n")[0] == problem.replace("--system", "the system message")
        return
    ids, visual, text = tokenizer.encode(prompt, lengths, system)
    assert ids == expected.input_ids.tolist()
    assert visual == expected.visual_positions.tolist()
    assert text == expected.text_positions.tolist()


@pytest.mark.parametrize(("prompt", "lengths"), PROMPTS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_prompts(
    bundles: tuple[Any, Tokenizer], prompt: str, lengths: list[int], system: str | None
) -> None:
    check_prompt(bundles, prompt, lengths, system)


def test_any_prompts(bundles: tuple[Any, Tokenizer]) -> None:
    """With placeholders and control tokens in them: what one side refuses the other does, too."""
    random = np.random.default_rng(0)
    for _ in range(300):
        prompt = random_text(random)
        if random.random() < 0.4:
            prompt = prompt + "<image>" + random_text(random)
        lengths = random.integers(0, 6, random.integers(0, 3)).tolist()
        system = random_text(random) if random.random() < 0.3 else None
        check_prompt(bundles, prompt.replace("\0", ""), lengths, system)


def test_what_is_not_utf8(bundles: tuple[Any, Tokenizer]) -> None:
    for data, place in ((b"caf\xe9", 4), (b"\xed\xa0\x80", 1), (b"a\xf0\x9f\x99", 2)):
        with pytest.raises(Refusal, match=f"the prompt is not UTF-8 at byte {place}"):
            bundles[1].encode(data, [4])


def test_lengths_of_images(bundles: tuple[Any, Tokenizer]) -> None:
    for lengths in ([-1], [1 << 40], [1 << 20, 1 << 20]):
        with pytest.raises(Refusal, match="visual tokens, expected 0 to 1048576 of all of them"):
            bundles[1].encode("a fox", lengths)


def test_streams(bundles: tuple[Any, Tokenizer]) -> None:
    python, tokenizer = bundles
    random = np.random.default_rng(0)
    texts = [*TRICKY, *(random_text(random) for _ in range(100))]
    answers = [python.tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    answers += [
        random.integers(0, random.choice([259, VOCAB]), random.integers(1, 14)).tolist()
        for _ in range(500)
    ]
    for ids in answers:
        stream = python.stream()
        assert tokenizer.streamed(ids) == [*map(stream.put, ids), stream.end()], ids


def test_stop_tokens(bundles: tuple[Any, Tokenizer]) -> None:
    python, tokenizer = bundles
    assert {i for i in range(VOCAB) if tokenizer.is_stop(i)} == python.stop_ids


# What is refused


def refusal(document: bytes | Document) -> str:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(Refusal) as raised:
        Tokenization(data)
    problem, hint = str(raised.value).split("\n")
    assert hint == "Repair the checkpoint's tokenizer.json and build the bundle again."
    return problem


MODEL: Document = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"", "not JSON"),
        (b'{"model": {}', "not JSON"),
        ({}, "model is missing"),
        ({"model": {"type": "Unigram"}}, 'model.type is "Unigram", expected "BPE"'),
        ({"model": MODEL | {"vocab": {"a": -1}}}, "model.vocab.a is -1"),
        ({"model": MODEL | {"vocab": {"a": 1 << 40}}}, "model.vocab.a is 1099511627776"),
        ({"model": MODEL | {"vocab": {"a": 0, "b": 0}}}, "two tokens have the id 0"),
        ({"model": MODEL | {"merges": [["a", "c"]]}}, "lacks a token of merge 0, 'a' and 'c'"),
        ({"model": MODEL | {"merges": ["a b c"]}}, 'model.merges[0] is "a b c", expected two'),
        ({"model": MODEL | {"unk_token": "?"}}, "the vocabulary lacks unk_token '?'"),
        ({"model": MODEL | {"dropout": 0.1}}, "model.dropout is given, expected none"),
        ({"model": MODEL, "normalizer": {"type": "NFKC"}},
         'normalizer.type is "NFKC", expected NFC, Prepend or Replace'),
        ({"model": MODEL, "pre_tokenizer": {"type": "Whitespace"}}, 'is "Whitespace", expected'),
        ({"model": MODEL, "decoder": {"type": "CTC"}}, 'decoder.type is "CTC", expected'),
        ({"model": MODEL, "added_tokens": [{"id": 9, "content": "x", "single_word": False,
          "lstrip": False, "rstrip": False, "normalized": False, "special": False}]},
         'added_tokens[0].id is 9, expected 3 for "x"'),
        (b'{"a":' + b"[" * 100000, "nested too deep"),
    ],
)  # fmt: skip
def test_damaged_files(document: bytes | Document, words: str) -> None:
    assert words in refusal(document)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("a*", "can match nothing"), ("(a*)+b", "repeats what can match nothing"),
        ("(a", "lacks a ')'"), ("a)", "has a ')' too many"), ("[a", "lacks a ']'"),
        ("[]", "has an empty class"), ("[b-a]", "a range that is none"), (r"\p{Lu}", "a property"),
        (r"\bword", "the escape \\b"), ("^a", "a '^' that"), ("a++", "a '+' behind a repetition"),
        ("a{1001}", "a '{' that"), ("(" * 60 + "a" + ")" * 60, "is nested too deep"),
        ("((a{1000}){1000}){1000}", "is too long"), ("(?<=a)b", "a group that is not supported"),
        ("[a[b]]", "a class within a class"), ("\\", "ends with a backslash"),
        ("(?i:é)", "a letter beyond ASCII"),
    ],
)  # fmt: skip
def test_expressions_that_are_not_supported(expression: str, words: str) -> None:
    split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated"}
    found = refusal({"model": MODEL, "pre_tokenizer": split})
    assert words in found
    assert "pre_tokenizer.pattern" in found


def test_an_expression_that_takes_too_long() -> None:
    split = {"type": "Split", "pattern": {"Regex": "(a|a|aa)+b"}, "behavior": "Isolated"}
    tokens = Tokenization(json.dumps({"model": MODEL, "pre_tokenizer": split}).encode())
    with pytest.raises(Refusal, match="the tokenizer's pattern takes too long on this text"):
        tokens.encode("a" * 60)


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"has no tokenizer\.json, so a prompt cannot be read here"):
        Tokenizer(tmp_path, VOCAB)
    write_qwen2(tmp_path)
    python = bundle(tmp_path, INTERNVL)
    folder, largest = python.folder, max(python.tokenizer.get_vocab().values())
    Tokenizer(folder, largest + 1)
    with pytest.raises(Refusal, match=f"has ids up to {largest}, the embedding table has"):
        Tokenizer(folder, largest)
    path = folder / "conversation.json"
    whole = path.read_text("utf-8")
    for old, new, words in (
        ("<|im_end|>", "<|other|>", r"has no token '<\|other\|>', which the model's conversation"),
        ('"version": 1', '"version": 2', "conversation.json is damaged: version is 2, expected"),
        ('"opening"', '"closing"', "conversation.opening is missing"),
    ):
        path.write_text(whole.replace(old, new), "utf-8")
        with pytest.raises(Refusal, match=words):
            Tokenizer(folder, VOCAB)
