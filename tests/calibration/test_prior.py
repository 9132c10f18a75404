"""A measured prior is the mean attention that transformers computes, and survives interruptions."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from d2export.bundle.folder import Bundle, read_bundle, write_manifest
from d2export.calibration.importance import ImportanceRunner
from d2export.calibration.prior import PROMPT, calibrate_prior
from d2export.errors import OutputError, UsageError
from d2export.models.images import load_image
from d2export.models.presets import POCKET_VIT, ModelSpec, TextSpec
from d2export.models.random_weights import write_random_checkpoint
from d2export.models.tiling import normalize, tile
from d2export.options import PRUNE_LAYER, ExportOptions
from d2export.pipeline import export
from d2export.pruning.prior import read_prior
from d2export.runtime.tokenizer import BundleTokenizer
from d2export.runtime.vision import VisionRunner
from tests.command import Caller, names
from tests.small_tokenizers import write_qwen2

transformers = pytest.importorskip("transformers", reason="transformers, to compare with")

TEXT = TextSpec("qwen2", 48, 4, 4, 2, 96, 420, 1e4, 4096, 1e-6)
VISION = replace(
    POCKET_VIT,
    image=replace(POCKET_VIT.image, size=56),
    patch=14,
    hidden=48,
    layers=2,
    used_layers=2,
    heads=4,
    mlp=96,
)
SIDE, LAYER = 4, 3
TOKENS = SIDE**2
SIZES = {"a-wide": (200, 100), "b-square": (56, 56), "c-tall": (60, 180)}
TILES = {"a-wide": 9, "b-square": 1, "c-tall": 4}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """InternVL in miniature, the whole model, with a tokenizer."""
    folder = tmp_path_factory.mktemp("calibration") / "little"
    spec = ModelSpec("little", "internvl", None, VISION, TEXT, "F32")
    write_random_checkpoint(spec, folder, 0, scope="vlm")
    write_qwen2(folder)
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wide, a square and a tall one."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for name, size in SIZES.items():
        noise = Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        noise.resize(size, Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="session")
def bundle(checkpoint: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the little checkpoint, keep 4, without a prior."""
    out = tmp_path_factory.mktemp("plain") / "bundle"
    image = (pictures / "b-square.png",)
    options = ExportOptions(str(checkpoint), scope="vlm", keep="4", prune_layer=LAYER, images=image)
    export(options, out)
    return out


@pytest.fixture(scope="session")
def prior(bundle: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Measured on all three pictures, in one go."""
    return calibrate_prior(bundle, pictures, tmp_path_factory.mktemp("prior") / "p.json").path


@pytest.fixture(scope="session")
def square_prior(bundle: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Measured on the square picture, which is not cut up."""
    folder = tmp_path_factory.mktemp("square")
    shutil.copy(pictures / "b-square.png", folder)
    return calibrate_prior(bundle, folder, folder / "prior.json").path


@pytest.fixture(scope="session")
def bundle_with_prior(
    checkpoint: Path,
    pictures: Path,
    square_prior: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """With the square picture's prior, a picture of four tiles as reference, and another keep."""
    out = tmp_path_factory.mktemp("with-prior") / "bundle"
    options = ExportOptions(
        str(checkpoint),
        scope="vlm",
        keep="50%",
        prune_layer=LAYER,
        images=(pictures / "c-tall.png",),
        prior=square_prior,
    )
    export(options, out)
    return out


def theirs(checkpoint: Path) -> Any:
    """The language model in transformers, with whole attention matrices."""
    config = transformers.Qwen2Config(
        hidden_size=TEXT.hidden,
        num_hidden_layers=TEXT.layers,
        num_attention_heads=TEXT.heads,
        num_key_value_heads=TEXT.kv_heads,
        intermediate_size=TEXT.mlp,
        vocab_size=TEXT.vocab,
        max_position_embeddings=TEXT.max_positions,
        rms_norm_eps=TEXT.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": TEXT.rope_theta},
        tie_word_embeddings=False,
    )
    model = transformers.Qwen2ForCausalLM(config)
    stored = load_file(checkpoint / "model.safetensors")
    prefix = "language_model."
    model.load_state_dict(
        {name[len(prefix) :]: value for name, value in stored.items() if name.startswith(prefix)}
    )
    model.set_attn_implementation("eager")
    return model.eval()


def attention(
    model: Any, bundle: Bundle, picture: Path, layer: int = LAYER - 1
) -> npt.NDArray[np.float32]:
    """Of the last prompt token on a picture, in a layer: `[tiles, TOKENS]`."""
    embeds, places = prompt_of(model, bundle, picture)
    with torch.inference_mode():
        layers = model(inputs_embeds=embeds, output_attentions=True).attentions
    row = layers[layer][0, :, -1].numpy().mean(axis=0)
    return row[places].reshape(-1, TOKENS)


def attention_ahead(model: Any, bundle: Bundle, picture: Path) -> npt.NDArray[np.float32]:
    """The same in layer `PRUNE_LAYER + 1`; only the last token went through the one before."""
    embeds, places = prompt_of(model, bundle, picture)
    layer = model.model.layers[PRUNE_LAYER + 1]
    with torch.inference_mode():
        states = model(inputs_embeds=embeds, output_hidden_states=True).hidden_states
        given = layer.input_layernorm(states[PRUNE_LAYER])
        asking = layer.input_layernorm(states[PRUNE_LAYER + 1][:, -1:])
        query = layer.self_attn.q_proj(asking).unflatten(2, (TEXT.heads, -1)).transpose(1, 2)
        key = layer.self_attn.k_proj(given).unflatten(2, (TEXT.kv_heads, -1)).transpose(1, 2)
        cos, sin = model.model.rotary_emb(given, torch.arange(given.shape[1])[None])
        qwen2 = importlib.import_module("transformers.models.qwen2.modeling_qwen2")
        query, _ = qwen2.apply_rotary_pos_emb(query, query, cos[:, -1:], sin[:, -1:])
        _, key = qwen2.apply_rotary_pos_emb(key, key, cos, sin)
        key = qwen2.repeat_kv(key, TEXT.heads // TEXT.kv_heads)
        row = (query @ key.transpose(2, 3) * layer.self_attn.scaling).softmax(dim=3)
    return row[0, :, 0].numpy().mean(axis=0)[places]


def prompt_of(model: Any, bundle: Bundle, picture: Path) -> tuple[torch.Tensor, Any]:
    """A question about a picture, embedded, and where its visual tokens are."""
    tiles = tile(load_image(picture), bundle.manifest.model.vision)
    seen = VisionRunner(bundle).embed(normalize(tiles.pixels, VISION.image))
    encoded = BundleTokenizer(bundle.root / "processor", TEXT.vocab).encode(
        PROMPT, [len(tiles.grid)]
    )
    with torch.inference_mode():
        embeds = model.get_input_embeddings()(torch.from_numpy(encoded.input_ids)[None])
        embeds[0, encoded.visual_positions] = torch.from_numpy(seen)
    return embeds, encoded.visual_positions


# --- What is measured ---------------------------------------------------------------------------


def test_equals_the_mean_of_whole_attention(
    checkpoint: Path, bundle: Path, pictures: Path, prior: Path
) -> None:
    opened, model = read_bundle(bundle), theirs(checkpoint)
    rows = {name: attention(model, opened, pictures / f"{name}.png") for name in SIZES}
    assert {name: len(row) for name, row in rows.items()} == TILES
    tile_rows = np.concatenate([row[:-1] for row in rows.values()])
    thumbnail_rows = np.stack([row[-1] for row in rows.values()])
    found = read_prior(prior, TOKENS)
    np.testing.assert_allclose(found.tile, tile_rows.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(found.thumbnail, thumbnail_rows.mean(axis=0), rtol=1e-4)
    assert found.tile.std() > 0.1 * found.tile.mean()  # else any order of places would do


def test_of_attention_that_is_read_ahead(
    checkpoint: Path, pictures: Path, prior: Path, tmp_path: Path
) -> None:
    image = pictures / "b-square.png"
    options = ExportOptions(str(checkpoint), scope="vlm", selector="d2+", keep="4", images=(image,))
    export(options, tmp_path / "bundle")
    (tmp_path / "pictures").mkdir()
    shutil.copy(image, tmp_path / "pictures")
    path = calibrate_prior(tmp_path / "bundle", tmp_path / "pictures", tmp_path / "prior.json").path
    found = read_prior(path, TOKENS)

    model, opened = theirs(checkpoint), read_bundle(tmp_path / "bundle")
    rows = [attention(model, opened, image, PRUNE_LAYER)[0], attention_ahead(model, opened, image)]
    expected = np.mean([row / row.sum() for row in rows], axis=0).reshape(SIDE, SIDE)
    for _ in "xy":
        padded = np.pad(expected, ((0, 0), (1, 1)))
        expected = (expected + 0.6 * (padded[:, :-2] + padded[:, 2:])).T
    np.testing.assert_allclose(found.thumbnail, expected.ravel(), rtol=1e-4)
    assert (found.provenance["rows"], found.provenance["smoothing"]) == ("two", 0.6)
    with pytest.raises(UsageError, match="calibrated for another rows: None, this build has"):
        export(replace(options, prior=prior), tmp_path / "other")


def test_neither_keep_nor_prior_of_the_bundle_matters(
    bundle_with_prior: Path, pictures: Path, prior: Path, tmp_path: Path
) -> None:
    again = calibrate_prior(bundle_with_prior, pictures, tmp_path / "prior.json")
    assert again.path.read_bytes() == prior.read_bytes()


def test_provenance(checkpoint: Path, prior: Path) -> None:
    provenance = read_prior(prior, TOKENS).provenance
    version = provenance.pop("d2export")
    assert version.startswith("0.")
    assert provenance == {
        "model": "little",
        "model_id": str(checkpoint.resolve()),
        "revision": None,
        "random_seed": None,
        "family": "internvl",
        "backbone": "qwen2",
        "layers": 4,
        "image_size": 56,
        "tokens_per_tile": TOKENS,
        "importance": "llm",
        "prune_layer": LAYER,
        "precision": "fp32",
        "prompt": PROMPT,
        "images": 3,
        "tiles": {"tile": 11, "thumbnail": 3},
        "tiles_per_image": [1, 9],
        "unseen": [],
    }


def test_pictures_that_are_not_cut_up(square_prior: Path, bundle: Path) -> None:
    found = read_prior(square_prior, TOKENS)
    assert found.tile.tolist() == found.thumbnail.tolist()
    assert found.provenance["unseen"] == ["tile"]
    assert found.provenance["tiles"] == {"tile": 0, "thumbnail": 1}


def test_layers_above_are_not_run(bundle: Path) -> None:
    inputs = {
        value.name for value in ImportanceRunner(read_bundle(bundle)).part.session.get_inputs()
    }
    text = {"input_ids", "image_embeds", "visual_positions", "position_ids"}
    past = {f"past_key_values.{i}.{part}" for i in range(LAYER) for part in ("key", "value")}
    assert text <= inputs <= text | past


# --- Going on after an interruption -------------------------------------------------------------


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], AbstractContextManager[None]]:
    """Ctrl-C in that picture, counted from 1."""

    @contextmanager
    def at(number: int) -> Iterator[None]:
        real, calls = ImportanceRunner.__call__, itertools.count(1)

        def measured(*arguments: Any) -> npt.NDArray[np.float64]:
            if next(calls) == number:
                raise KeyboardInterrupt
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(ImportanceRunner, "__call__", measured)
            yield

    return at


def test_two_at_once_to_one_file(
    bundle: Path,
    pictures: Path,
    prior: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second is refused while the first looks at a picture, and does it no harm."""
    real, out, refused = ImportanceRunner.__call__, tmp_path / "new" / "prior.json", []

    def measured(*arguments: Any) -> npt.NDArray[np.float64]:
        with pytest.raises(OutputError) as caught:
            calibrate_prior(bundle, pictures, out, force=True)
        refused.append(caught.value.problem)
        return real(*arguments)

    monkeypatch.setattr(ImportanceRunner, "__call__", measured)
    calibrate_prior(bundle, pictures, out)
    assert refused == [f"another calibration is writing to {out} (pid {os.getpid()})"] * 3
    assert out.read_bytes() == prior.read_bytes()
    assert names(out.parent) == ["prior.json"]


def test_one_that_was_killed_locks_nothing(
    bundle: Path, pictures: Path, prior: Path, tmp_path: Path
) -> None:
    """It leaves the folder that was locked, with its mark."""
    (tmp_path / ".prior.json.calibrating").mkdir()
    (tmp_path / ".prior.json.calibrating" / ".building").write_text("1")
    calibrate_prior(bundle, pictures, tmp_path / "prior.json")
    assert (tmp_path / "prior.json").read_bytes() == prior.read_bytes()
    assert names(tmp_path) == ["prior.json"]


@pytest.fixture
def interrupted(
    d2: Caller,
    bundle: Path,
    pictures: Path,
    tmp_path: Path,
    interrupt: Callable[[int], AbstractContextManager[None]],
) -> Path:
    """What Ctrl-C in the third picture leaves at `tmp_path / "prior.json"`."""
    out = tmp_path / "prior.json"
    with interrupt(3):
        answer = d2("calibrate", "prior", bundle, "--images", pictures, "-o", out)
    assert answer.code == 130
    assert answer.err.splitlines()[-1] == "interrupted"
    assert names(tmp_path) == ["prior.json.partial"]
    return out


def test_goes_on_bit_for_bit(
    d2: Caller, interrupted: Path, bundle: Path, pictures: Path, prior: Path
) -> None:
    answer = d2("calibrate", "prior", bundle, "--images", pictures, "-o", interrupted)
    assert answer.code == 0, answer.err
    assert "going on after 2 of 3 pictures" in answer.err
    assert "a-wide.png" not in answer.err  # it was measured before
    assert "3/3 c-tall.png: 4 tiles" in answer.err
    assert interrupted.read_bytes() == prior.read_bytes()
    assert names(interrupted.parent) == ["prior.json"]


def test_goes_on_after_a_name_that_is_not_utf8(
    bundle: Path,
    pictures: Path,
    prior: Path,
    tmp_path: Path,
    interrupt: Callable[[int], AbstractContextManager[None]],
) -> None:
    folder = shutil.copytree(pictures, tmp_path / "pictures")
    (folder / "a-wide.png").rename(folder / os.fsdecode(b"a-\xe9.png"))
    out = tmp_path / "prior.json"
    with interrupt(2), pytest.raises(KeyboardInterrupt):
        calibrate_prior(bundle, folder, out)
    partial = json.loads((tmp_path / "prior.json.partial").read_text())
    assert [picture["name"] for picture in partial["pictures"]] == ["a-\\udce9.png"]
    calibrate_prior(bundle, folder, out)
    assert out.read_bytes() == prior.read_bytes()


def test_another_prompt_does_not_go_on(
    d2: Caller, interrupted: Path, bundle: Path, pictures: Path
) -> None:
    command = ("calibrate", "prior", bundle, "--images", pictures, "-o", interrupted)
    before = interrupted.with_name("prior.json.partial").read_bytes()
    message = d2.refused(*command, "--prompt", "What is it?")
    assert message == (
        f"{interrupted}.partial is an unfinished calibration with another prompt: "
        f"'{PROMPT}', not 'What is it?'\n"
        "  Finish that one with its own options, or pass --force to start over."
    )
    assert interrupted.with_name("prior.json.partial").read_bytes() == before
    answer = d2(*command, "--prompt", "What is it?", "--force")
    assert answer.code == 0
    assert "1/3 a-wide.png" in answer.err
    assert json.loads(interrupted.read_text())["provenance"]["prompt"] == "What is it?"


def test_other_pictures_do_not_go_on(
    d2: Caller, interrupted: Path, bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    others = shutil.copytree(pictures, tmp_path / "others")
    (others / "b-square.png").unlink()
    message = d2.refused("calibrate", "prior", bundle, "--images", others, "-o", interrupted)
    assert "is an unfinished calibration on other pictures: 'b-square.png' is" in message


@pytest.mark.parametrize(
    "content", ["", "[]", '{"key": {}}', '{"tile": [NaN]}'], ids=["empty", "list", "part", "nan"]
)
def test_a_damaged_unfinished_file(
    d2: Caller, bundle: Path, pictures: Path, tmp_path: Path, content: str
) -> None:
    (tmp_path / "prior.json.partial").write_text(content)
    out = tmp_path / "prior.json"
    message = d2.refused("calibrate", "prior", bundle, "--images", pictures, "-o", out)
    assert message.startswith(f"{out}.partial is damaged: ")


# --- The command --------------------------------------------------------------------------------


def test_unreadable_pictures_are_counted_and_named(
    d2: Caller, bundle: Path, pictures: Path, prior: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(pictures, tmp_path / "pictures")
    (folder / "b-broken.jpg").write_bytes(b"no picture")
    out = tmp_path / "prior.json"
    answer = d2("calibrate", "prior", bundle, "--images", folder, "-o", out, "-q", "--json")
    assert answer.code == 0
    assert answer.err == (
        "warning: 1 of 4 pictures could not be read and do not count: b-broken.jpg\n"
    )
    assert json.loads(answer.out)["unreadable"] == ["b-broken.jpg"]
    assert out.read_bytes() == prior.read_bytes()


def test_importance_that_is_no_number(
    d2: Caller, bundle: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = np.full(9 * TOKENS, np.nan)
    monkeypatch.setattr(ImportanceRunner, "__call__", lambda *_: nothing)
    out = tmp_path / "prior.json"
    message = d2("calibrate", "prior", bundle, "--images", pictures, "-o", out)
    assert message.code == 2
    assert f"error: the importance of {pictures}/a-wide.png is not finite in fp32" in message.err
    assert names(tmp_path) == []


def test_limit(d2: Caller, bundle: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "prior.json"
    answer = d2("calibrate", "prior", bundle, "--images", pictures, "--limit", 2, "-o", out)
    assert answer.out == (
        f"{out}: 2 pictures of 1 to 9 tiles, 8 in slot 'tile' and 2 in 'thumbnail'\n"
    )


def test_mistakes(d2: Caller, bundle: Path, pictures: Path, tmp_path: Path) -> None:
    out, empty = tmp_path / "out" / "prior.json", tmp_path / "empty"
    empty.mkdir()

    def refused(*options: object, images: Path = pictures, of: Path = bundle) -> str:
        message = d2.refused("calibrate", "prior", of, "--images", images, "-o", out, *options)
        assert not out.parent.exists()
        return message

    missing = refused(images=tmp_path / "none")
    assert missing.startswith(f"cannot read the folder {tmp_path}/none: No such file or directory")
    assert refused(images=empty).startswith(f"{empty} holds no pictures: no file ends with .bmp, ")
    assert refused("--limit", 0).startswith("--limit is 0, expected at least 1")
    assert refused("--prompt", "  ").startswith("the prompt is empty")
    assert refused("--provider", "tpu").startswith("--provider is 'tpu', expected one of cpu")
    assert refused(of=tmp_path / "nowhere").startswith(f"{tmp_path}/nowhere is not there, expected")


def test_no_picture_can_be_read(d2: Caller, bundle: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no picture")
    out = tmp_path / "prior.json"
    message = d2("calibrate", "prior", bundle, "--images", tmp_path, "-o", out)
    assert message.code == 2
    assert f"error: none of the 2 pictures in {tmp_path} can be read: a.png, b.png\n" in message.err
    assert names(tmp_path) == ["a.png", "b.png"]


def test_an_output_that_is_there(
    d2: Caller, bundle: Path, pictures: Path, prior: Path, tmp_path: Path
) -> None:
    out = tmp_path / "prior.json"
    out.write_text("precious")
    command = ("calibrate", "prior", bundle, "--images", pictures, "-o")
    assert d2.refused(*command, out).startswith(f"output {out} exists\n")
    assert d2.refused(*command, tmp_path).startswith(f"output {tmp_path} is a folder\n")
    assert out.read_text() == "precious"
    assert d2(*command, out, "--force").code == 0
    assert out.read_bytes() == prior.read_bytes()


def test_a_bundle_of_the_vision_scope(
    d2: Caller, small_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "prior.json"
    message = d2.refused("calibrate", "prior", small_bundle, "--images", pictures, "-o", out)
    assert message.endswith(
        "has scope 'vision', so it has no language model\n  Build it with --scope vlm."
    )


def test_a_bundle_without_a_tokenizer(
    d2: Caller, bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    bare = shutil.copytree(bundle, tmp_path / "bare")
    shutil.rmtree(bare / "processor")
    manifest = read_bundle(bare, verify=False).manifest
    files = {path: entry for path, entry in manifest.files.items() if "processor" not in path}
    write_manifest(bare, replace(manifest, files=files))
    out = tmp_path / "prior.json"
    message = d2.refused("calibrate", "prior", bare, "--images", pictures, "-o", out)
    assert "has no tokenizer.json, so a prompt cannot be read here" in message


# --- What becomes of it -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--scope", "vlm", "--prune-layer", 1), "another prune layer: 3, this build has 1\n"),
        (("--scope", "vision"), "another importance: 'llm', this build has 'cls'\n"),
    ],
    ids=["layer", "scope"],
)
def test_a_build_of_something_else_refuses_it(
    d2: Caller,
    checkpoint: Path,
    prior: Path,
    tmp_path: Path,
    options: tuple[object, ...],
    problem: str,
) -> None:
    out = tmp_path / "out"
    message = d2.refused("export", "-m", checkpoint, "-o", out, "--prior", prior, *options)
    assert message.startswith(f"prior {prior} was calibrated for {problem}")
    assert names(tmp_path) == []


def test_check_and_run_say_what_the_prior_has_not_seen(
    d2: Caller, bundle_with_prior: Path, pictures: Path, tmp_path: Path
) -> None:
    warning = "warning: the prior was calibrated on pictures of 1 tile; here is one of"
    checked = d2("check", bundle_with_prior, "-q")
    assert checked.last_line == "PASSED"
    assert checked.err == f"{warning} 4\n"
    command = ("run", bundle_with_prior, "--prompt", "what", "--max-new-tokens", 1, "-o", tmp_path)
    wide = d2(*command, "--image", pictures / "a-wide.png")
    assert wide.code == 0, wide.err
    assert wide.err == f"{warning} 9\n"
    assert d2(*command, "--image", pictures / "b-square.png").err == ""
