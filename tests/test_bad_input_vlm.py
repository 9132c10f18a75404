"""What a user can get wrong with the whole model; the counterpart of test_bad_input.py."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from d2export.bundle.folder import read_bundle, write_manifest
from d2export.models.presets import INTERNVIT_300M, ModelSpec, TextSpec
from d2export.models.random_weights import write_random_checkpoint
from d2export.runtime.tokenizer import BundleTokenizer
from d2export.verify.vlm_prompt import ANSWER_TOKENS
from tests.command import Caller, message_of, names
from tests.sample_bundle import renew
from tests.small_tokenizers import write_qwen2

VISION = replace(
    INTERNVIT_300M,
    image=replace(INTERNVIT_300M.image, size=56),
    hidden=64, layers=1, used_layers=1, heads=4, mlp=128,
)  # fmt: skip
TEXT = TextSpec("qwen2", 64, 3, 4, 2, 128, 512, 1e4, 512, 1e-6)
SPEC = ModelSpec("small", "internvl", None, VISION, TEXT, weight_dtype="F32")
WEIGHTS = "onnx/model.safetensors"
QUERY = "language_model.model.layers.1.self_attn.q_proj.weight"

Refused = Callable[..., str]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `checkpoint` and `bundle`, whose weights are one file with two names."""
    import d2export
    from d2export.pipeline import export

    folder = tmp_path_factory.mktemp("built")
    write_random_checkpoint(SPEC, folder / "checkpoint", 0, scope="vlm")
    write_qwen2(folder / "checkpoint")
    options = d2export.ExportOptions(str(folder / "checkpoint"), scope="vlm", keep="3")
    export(options, folder / "bundle")
    assert (folder / "bundle" / WEIGHTS).samefile(folder / "checkpoint" / "model.safetensors")
    return folder


@pytest.fixture
def copies(built: Path, tmp_path: Path) -> Path:
    """Both, to damage; still one file with two names."""
    subprocess.run(["cp", "-a", built, tmp_path / "copies"], check=True)
    return tmp_path / "copies"


@pytest.fixture
def bundle(built: Path) -> Path:
    return built / "bundle"


@pytest.fixture
def checkpoint(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built / "checkpoint", tmp_path / "checkpoint")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 64), (200, 30, 4)).save(tmp_path / "fine.png")
    return tmp_path / "fine.png"


@pytest.fixture
def refused(d2: Caller, built: Path, tmp_path: Path) -> Refused:
    """`build` of the whole model with these options must fail and leave nothing."""

    def build(*options: object, model: Path = built / "checkpoint", scope: str = "vlm") -> str:
        out = tmp_path / "new" / "out"
        message = d2.refused("build", "-m", model, "-o", out, "--scope", scope, *options)
        assert not (tmp_path / "new").exists()
        return message

    return build


@pytest.fixture
def unanswered(d2: Caller, picture: Path, tmp_path: Path) -> Refused:
    """`run` of a bundle with these options must fail, and write no results."""

    def run(bundle: Path, *options: object) -> str:
        results = tmp_path / "results"
        message = d2.refused("run", bundle, "--image", picture, "-o", results, *options)
        assert not results.exists()
        return message

    return run


# Prompts


def test_a_question_that_fits(d2: Caller, bundle: Path, picture: Path, tmp_path: Path) -> None:
    """What the refused ones below differ from."""
    images = ("--image", picture, "--image", picture)
    prompt = ("--prompt", "is <image> what <ref>is on <image>?", "--max-new-tokens", 3)
    answer = d2("run", bundle, *images, *prompt, "-o", tmp_path / "results", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["tokens"] <= 3
    assert names(tmp_path / "results") == ["fine-2.kept.png", "fine.kept.png"]


@pytest.mark.parametrize(
    "prompt", [(), ("--prompt", ""), ("--prompt", " \n"), ("--prompt", "<image>")]
)
def test_no_prompt(unanswered: Refused, bundle: Path, prompt: tuple[str, ...]) -> None:
    message = unanswered(bundle, *prompt)
    assert message == "the prompt is empty\n  Pass --prompt with at least one word."


def test_results_where_none_can_be_written(d2: Caller, bundle: Path, picture: Path) -> None:
    """Said before the answer, which would be streamed."""
    question = ("--image", picture, "--prompt", "what is this?", "--max-new-tokens", 3)
    message = d2.refused("run", bundle, *question, "-o", picture)
    assert message == f"{picture} is a file, expected a folder\n  Choose another path."
    message = d2.refused("run", bundle, *question, "-o", "/proc/results")
    assert message.startswith("cannot write /proc/results: No such file or directory\n  Choose ")


def test_no_image(d2: Caller, bundle: Path) -> None:
    answer = d2("run", bundle, "--prompt", "what is this?")
    assert answer.code == 2
    assert "Error: Missing option '--image'" in answer.err


def test_another_number_of_images(unanswered: Refused, bundle: Path, picture: Path) -> None:
    hint = "\n  Write one for each --image, or none: then the images come first."
    start = "placeholders '<image>' in the prompt: "
    prompt = ("--prompt", "is <image> in <image>?")
    assert unanswered(bundle, *prompt) == f"{start}2, expected 1, one per image{hint}"
    more = ("--image", picture, "--image", picture)
    assert unanswered(bundle, *prompt, *more) == f"{start}2, expected 3, one per image{hint}"


@pytest.mark.parametrize("token", ["<|im_end|>", "<|im_start|>", "<IMG_CONTEXT>"])
def test_control_tokens(unanswered: Refused, bundle: Path, token: str) -> None:
    hint = "\n  Leave it out, or spell it apart."
    message = unanswered(bundle, "--prompt", f"what {token}is this?")
    assert message == f"the prompt contains the control token '{token}'{hint}"
    message = unanswered(bundle, "--prompt", "what is this?", "--system", f"be {token}kind")
    assert message == f"--system contains the control token '{token}'{hint}"


def test_a_placeholder_in_the_system_message(unanswered: Refused, bundle: Path) -> None:
    message = unanswered(bundle, "--prompt", "what is this?", "--system", "look at <image>")
    assert message == (
        "--system contains the placeholder '<image>', expected plain text\n"
        "  Write it in --prompt, where the image is to go."
    )


def test_more_than_the_context_holds(unanswered: Refused, bundle: Path) -> None:
    message = unanswered(bundle, "--prompt", "what is this?", "--max-new-tokens", 400)
    assert message.startswith("the prompt has ")
    assert " tokens and the answer may have 400, this model's context is 512\n" in message
    assert message.endswith(
        "\n  Pass a lower --max-new-tokens, fewer or smaller pictures, or a shorter prompt."
    )
    message = unanswered(bundle, "--prompt", "what " * 600, "--max-new-tokens", 1)
    assert " and the answer may have 1, this model's context is 512\n" in message


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--max-new-tokens", "0"), "--max-new-tokens is 0, expected at least 1\n"),
        (("--temperature", "0"), "--temperature is 0.0, expected above 0\n"),
        (("--temperature", "nan"), "--temperature is nan, expected above 0\n"),
        (("--top-p", "1.5"), "--top-p is 1.5, expected above 0, at most 1\n"),
        (("--top-k", "-1"), "--top-k is -1, expected at least 0\n"),
        (("--seed", "-1"), "--seed is -1, expected at least 0\n"),
        (("--threads", "0"), "--threads is 0, expected at least 1\n"),
        (("--provider", "tpu"), "--provider is 'tpu', expected one of cpu, cuda, tensorrt\n"),
        (("--prompt-embeds", "x.npy"), "--prompt-embeds has no effect with a bundle of scope vlm"),
        (("--image", "nowhere.png"), "nowhere.png does not exist\n"),
    ],
)
def test_run_options(
    unanswered: Refused, bundle: Path, options: tuple[str, str], problem: str
) -> None:
    message = unanswered(bundle, "--prompt", "what is this?", "--max-new-tokens", 3, *options)
    assert message.startswith(problem)
    assert "\n  " in message


@pytest.mark.parametrize(
    "option",
    [("--max-new-tokens", "4"), ("--temperature", "0.5"), ("--top-k", "4"), ("--top-p", "0.5"),
     ("--seed", "4"), ("--system", "be kind.")],
)  # fmt: skip
def test_options_of_the_other_scope(
    unanswered: Refused, small_bundle: Path, option: tuple[str, str]
) -> None:
    message = unanswered(small_bundle, *option)
    assert message == (f"{option[0]} has no effect with a bundle of scope vision\n  Leave it out.")


def test_several_pictures_in_scope_vision(
    unanswered: Refused, small_bundle: Path, picture: Path
) -> None:
    message = unanswered(small_bundle, "--image", picture)
    assert message == "--image is given 2 times, expected once\n  Run it for each."


# Options of a build


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--prune-layer", "0"),
            "--prune-layer is 0, expected at least 1\n"
            "  Importance is the attention of the layer before it. Leave it out for 2.",
        ),
        (
            ("--prune-layer", "3"),
            "--prune-layer is 3: this language model has 3 layers\n  Pass 1 to 2.",
        ),
        (
            ("--prune-layer", "99"),
            "--prune-layer is 99: this language model has 3 layers\n  Pass 1 to 2.",
        ),
        (
            ("--prior", "shallow", "--prune-layer", "1"),
            "--prior shallow with --prune-layer 1: expected at least 2\n"
            "  The shallow layer must lie below the one whose attention is the importance.",
        ),
        (
            ("--importance", "random"),
            "--importance is 'random', expected one of llm, cls, text, uniform for selector 'd2' "
            "in scope vlm\n  Pass one of them, or leave --importance out for llm.",
        ),
        (
            ("--importance-layer", "1"),
            "--importance-layer goes with importance 'cls', not 'llm'\n"
            "  Leave it out, or pass --importance cls.",
        ),
        (
            ("--prompt-embeds", "x.npy"),
            "--prompt-embeds goes with scope 'vision'; scope 'vlm' reads the prompt itself\n"
            "  Leave it out, or pass --prompt.",
        ),
        (("--prompt", " "), "the prompt is empty\n  Pass --prompt with at least one word."),
        (
            ("--prompt", "<image> and <image>"),
            "placeholders '<image>' in the prompt: 2, expected 1, one per image\n"
            "  Write one for each --image, or none: then the images come first.",
        ),
        (
            ("--prompt", "the <|im_end|>"),
            "the prompt contains the control token '<|im_end|>'\n"
            "  Leave it out, or spell it apart.",
        ),
    ],
)
def test_build_options(refused: Refused, options: tuple[str, ...], message: str) -> None:
    assert refused(*options) == message


def test_a_reference_longer_than_the_context_is_not_exported(
    d2: Caller, built: Path, picture: Path, tmp_path: Path
) -> None:
    """The longest prompt about a picture of one tile is too long about one of thirteen."""
    tokenizer = BundleTokenizer(built / "bundle" / "processor", TEXT.vocab)

    def tokens(words: int) -> int:
        length = len(tokenizer.encode("what " * words, [VISION.tokens_per_tile]).input_ids)
        return length + ANSWER_TOKENS

    words = max(words for words in range(1, 600) if tokens(words) <= TEXT.max_positions)
    Image.new("RGB", (400, 300)).save(tmp_path / "wide.png")
    too_long = tokens(words) + 12 * VISION.tokens_per_tile
    for count, picture_there, expected in (
        (words + 1, picture, tokens(words + 1)),
        (words, tmp_path / "wide.png", too_long),
    ):
        out = tmp_path / "new" / "out"
        images = ("--image", picture, "--image", picture_there, "--prompt", "what " * count)
        answer = d2("build", "-m", built / "checkpoint", "-o", out, "--scope", "vlm", *images)
        assert message_of(answer) == (
            f"a reference has {expected} tokens, prompt, picture and answer, this model's context "
            "512\n  Pass a shorter --prompt, or a picture of fewer tiles."
        )
        assert "reading" in answer.err
        assert "exporting" not in answer.err
        assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--prune-layer", "3"), "--prune-layer"),
        (("--prior", "shallow"), "--prior shallow"),
        (("--prompt", "what is this?"), "--prompt"),
    ],
)
def test_build_options_of_the_other_scope(
    refused: Refused, options: tuple[str, str], what: str
) -> None:
    assert refused(*options, scope="vision") == (
        f"{what} goes with scope 'vlm', not 'vision'\n  Leave it out, or pass --scope vlm."
    )


def test_a_scope_that_is_none(refused: Refused) -> None:
    assert refused(scope="vml") == (
        "--scope is 'vml', expected one of vision, vlm\n"
        "  Pass one of them, or leave --scope out for vision."
    )
    assert refused("--importance", "llm", scope="vision").startswith(
        "--importance is 'llm', expected one of cls, text, uniform for selector 'd2' in scope "
        "vision\n"
    )


def test_a_prior_of_another_geometry(refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "prior.json"
    slots = {"tile": [1.0] * 256, "thumbnail": [1.0] * 256}
    path.write_text(json.dumps({"format": "d2export-prior", "version": 1, "slots": slots}))
    assert refused("--prior", path) == (
        f"prior {path}: 'slots.tile' has 256 values, this model has 4 tokens per tile\n"
        "  Use a prior calibrated for this model."
    )
    assert refused("--prior", tmp_path / "no.json").startswith(f"cannot read prior {tmp_path}/no.")


# The checkpoint


def _change(checkpoint: Path, edit: Callable[[dict[str, np.ndarray]], object]) -> Path:
    path = checkpoint / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, {"format": "pt"})
    return path


def test_language_model_tensors_that_are_missing(refused: Refused, checkpoint: Path) -> None:
    _change(checkpoint, lambda tensors: tensors.pop(QUERY))
    message = refused(model=checkpoint)
    assert f"1 of 39 tensors of the language model are missing: {QUERY}\n" in message
    assert message.endswith(
        "\n  Is the checkpoint complete, and is its config.json the one that belongs to it?"
    )


def test_no_language_model(refused: Refused, checkpoint: Path) -> None:
    def without(tensors: dict[str, np.ndarray]) -> None:
        for name in [name for name in tensors if name.startswith("language_model.")]:
            del tensors[name]

    _change(checkpoint, without)
    message = refused(model=checkpoint)
    assert " tensors belongs to a qwen2 language model (first names: mlp1.0.bias, " in message
    assert "--scope vision needs no language model." in message


def test_language_model_tensors_nobody_reads(refused: Refused, checkpoint: Path) -> None:
    extra = "language_model.model.layers.1.self_attn.q_norm.weight"
    _change(checkpoint, lambda tensors: tensors.update({extra: np.ones(16, np.float32)}))
    message = refused(model=checkpoint)
    assert "1 tensors of the language model are unknown; leaving them out would change" in message
    assert f": {extra}\n  The config.json does not belong to these weights, or " in message


def test_language_model_tensors_of_another_shape(refused: Refused, checkpoint: Path) -> None:
    wider = np.zeros((96, 64), np.float32)
    path = _change(checkpoint, lambda tensors: tensors.update({QUERY: wider}))
    assert refused(model=checkpoint) == (
        f"tensor '{QUERY}' in '{path}' has shape [96, 64], expected [64, 64]\n"
        "  Does the config.json belong to these weights?"
    )


def test_language_model_tensors_of_another_dtype(refused: Refused, checkpoint: Path) -> None:
    whole = np.zeros((64, 64), np.int8)
    path = _change(checkpoint, lambda tensors: tensors.update({QUERY: whole}))
    message = refused(model=checkpoint)
    assert message.startswith(f"tensor '{QUERY}' in '{path}' has dtype I8, expected F32 or F16 or")


def test_a_tokenizer_of_another_model(refused: Refused, checkpoint: Path) -> None:
    settings = checkpoint / "tokenizer_config.json"
    document = json.loads(settings.read_text("utf-8"))
    added = document["added_tokens_decoder"]
    large = {**added, "99999": {**next(iter(added.values())), "content": "<|large|>"}}
    settings.write_text(json.dumps({"added_tokens_decoder": large}))
    message = refused(model=checkpoint)
    assert message.startswith(f"{checkpoint}/vocab.json: token '<|large|>' has id 99999, the model")
    assert "\n  The tokenizer does not belong to this model." in message
    other = {key: token for key, token in added.items() if token["content"] != "<IMG_CONTEXT>"}
    settings.write_text(json.dumps({"added_tokens_decoder": other}))
    message = refused(model=checkpoint)
    assert message.startswith(f"{checkpoint}/vocab.json has no token '<IMG_CONTEXT>', which the co")


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("tokenizer.json", "{", "is not valid JSON"),
        ("tokenizer.json", '{"model": {"type": "WordLevel"}}', "holds a model of type 'WordLevel'"),
        ("merges.txt", "a b c\n", "has the line 'a b c', expected two tokens"),
        ("generation_config.json", '{"eos_token_id": 4711}', "has the eos_token_id 4711, which is"),
    ],
)
def test_damaged_tokenizer_files(
    refused: Refused, checkpoint: Path, file: str, content: str, problem: str
) -> None:
    (checkpoint / file).write_text(content)
    message = refused(model=checkpoint)
    assert f"{checkpoint}/{file}" in message
    assert problem in message
    assert "\n  " in message


def test_a_prompt_without_a_tokenizer(refused: Refused, checkpoint: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        (checkpoint / name).unlink()
    assert refused("--prompt", "what is this?", model=checkpoint) == (
        "--prompt is given, but the checkpoint has no tokenizer to read it with\n"
        "  Leave it out: the references then have random tokens for text."
    )


# The bundle


def test_a_bundle_without_a_tokenizer(unanswered: Refused, d2: Caller, copies: Path) -> None:
    bundle = copies / "bundle"
    manifest = read_bundle(bundle).manifest
    shutil.rmtree(bundle / "processor")
    files = {k: v for k, v in manifest.files.items() if not k.startswith("processor/")}
    write_manifest(bundle, replace(manifest, files=files))
    assert unanswered(bundle, "--prompt", "what is this?") == (
        f"{bundle} has no tokenizer.json, so a prompt cannot be read here\n"
        "  Build it from a checkpoint with its tokenizer beside the weights."
    )
    assert d2("check", bundle).last_line == "PASSED"


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("tokenizer.json", "<IMG_CONTEXT>", "<other>", "has no token '<IMG_CONTEXT>', which the"),
        ("tokenizer.json", '"version"', '"model": 1, "version"', "is no tokenizer: "),
        ("conversation.json", '"version": 1', '"version": 2', "is damaged: "),
        ("conversation.json", '"before": "<img>"', '"before": "<none>"', "has no token '<none>'"),
    ],
)
def test_an_edited_processor(
    unanswered: Refused, copies: Path, file: str, old: str, new: str, problem: str
) -> None:
    bundle = copies / "bundle"
    path = bundle / "processor" / file
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")
    question = ("--prompt", "what is this?", "--max-new-tokens", 3)
    assert unanswered(bundle, *question).startswith(f"{path} ")
    renew(bundle, f"processor/{file}")
    message = unanswered(bundle, *question)
    assert message.startswith(f"{bundle}/processor/")
    assert problem in message
    assert "\n  " in message


# The weights, which are the checkpoint's


def test_a_checkpoint_that_is_deleted(d2: Caller, copies: Path) -> None:
    shutil.rmtree(copies / "checkpoint")
    assert d2("check", copies / "bundle").last_line == "PASSED"


def test_a_checkpoint_that_is_moved(d2: Caller, copies: Path) -> None:
    (copies / "checkpoint").rename(copies / "elsewhere")
    assert d2("check", copies / "bundle").last_line == "PASSED"


def test_a_checkpoint_that_is_replaced(d2: Caller, copies: Path) -> None:
    """A new file under the old name leaves the bundle's alone."""
    path = copies / "checkpoint" / "model.safetensors"
    path.unlink()
    path.write_bytes(b"another")
    assert d2("check", copies / "bundle").last_line == "PASSED"


def test_a_checkpoint_that_is_changed(
    unanswered: Refused, d2: Caller, copies: Path, tmp_path: Path
) -> None:
    """In place, by one bit of a weight: no command uses it any more."""
    bundle, weights = copies / "bundle", copies / "bundle" / WEIGHTS
    ranges = read_bundle(bundle).manifest.files[WEIGHTS].ranges
    assert ranges
    with (copies / "checkpoint" / "model.safetensors").open("r+b") as file:
        file.seek(ranges[-1][1] - 1)
        (last,) = file.read(1)
        file.seek(ranges[-1][1] - 1)
        file.write(bytes([last ^ 1]))
    for message in (
        d2.refused("inspect", bundle),
        d2.refused("check", bundle),
        d2.refused("bench", bundle),
        d2.refused("build", bundle),
        unanswered(bundle, "--prompt", "what is this?", "--max-new-tokens", 3),
    ):
        assert message.startswith(f"{weights} was changed after the build: its sha256 is ")
        assert message.endswith(
            "\n  Build the bundle again, or copy it again from where it was built."
        )
    assert d2("inspect", bundle, "--no-verify").code == 0


def test_a_checkpoint_that_is_cut(d2: Caller, copies: Path) -> None:
    path = copies / "checkpoint" / "model.safetensors"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size - 4)
    message = d2.refused("check", copies / "bundle")
    assert message.startswith(
        f"{copies}/bundle/{WEIGHTS} has {size - 4} bytes, expected {size} as manifest.json says\n"
    )
