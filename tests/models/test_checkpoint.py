from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from d2export.errors import CheckpointError, UsageError
from d2export.models.checkpoint import find_checkpoint, open_checkpoint
from d2export.models.layouts import is_needed, parameter_shapes, resolve
from d2export.models.safetensors_file import load
from tests.small_checkpoints import LAYOUT_NAMES, LayoutName, write_small_checkpoint

INDEX = "model.safetensors.index.json"
SHARD_2 = "model-00002-of-00003.safetensors"


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_sharded_and_single_are_the_same(tmp_path: Path, layout: LayoutName, dtype: str) -> None:
    one = open_checkpoint(write_small_checkpoint(tmp_path / "one", layout, dtype=dtype))
    many = open_checkpoint(
        write_small_checkpoint(tmp_path / "many", layout, dtype=dtype, sharded=True)
    )
    assert one.tensors.keys() == many.tensors.keys()
    assert len({ref.path for ref in many.tensors.values()}) == 3
    assert one.spec.weight_dtype == dtype
    assert one.revision is None
    found, sharded = (resolve(c.tensors, c.spec) for c in (one, many))
    assert all((load(found[name]) == load(sharded[name])).all() for name in found)


@pytest.mark.parametrize("layout", ["internvl-hf", "llava-hf"])
def test_transformers_loads_the_same_tower_and_projector(
    tmp_path: Path, layout: LayoutName
) -> None:
    import transformers

    folder = write_small_checkpoint(tmp_path, layout)
    checkpoint = open_checkpoint(folder)
    cls = getattr(transformers, checkpoint.config["architectures"][0])
    model, report = cls.from_pretrained(folder, output_loading_info=True)
    for problem in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        assert not [key for key in map(str, report[problem]) if not is_language(key)]
    state = {
        name: value
        for name, value in model.state_dict().items()
        if name.startswith(("model.vision_tower.", "model.multi_modal_projector."))
    }
    found = resolve(checkpoint.tensors, checkpoint.spec)
    # every value of theirs is one of ours, but for LLaVA's unused last layer and final norm
    ours = sorted(float(load(ref).sum(dtype="f8")) for ref in found.values())
    theirs = sorted(
        float(value.double().sum())
        for name, value in state.items()
        if layout == "internvl-hf" or ("layers.2." not in name and "post_layernorm" not in name)
    )
    assert ours == pytest.approx(theirs, abs=1e-9)
    assert len(found) == len(parameter_shapes(checkpoint.spec))


def is_language(key: str) -> bool:
    return "language_model" in key or "lm_head" in key


@pytest.mark.parametrize("layout", ["internvl-hf", "llava-hf"])
def test_what_transformers_itself_saves_is_read(tmp_path: Path, layout: LayoutName) -> None:
    import transformers

    folder = write_small_checkpoint(tmp_path / "ours", layout)
    before = open_checkpoint(folder)
    cls = getattr(transformers, before.config["architectures"][0])
    cls.from_pretrained(folder).save_pretrained(tmp_path / "theirs")
    after = open_checkpoint(tmp_path / "theirs")
    assert after.spec.vision == before.spec.vision
    assert after.spec.text == before.spec.text
    found, saved = (resolve(c.tensors, c.spec) for c in (before, after))
    assert all((load(found[name]) == load(saved[name])).all() for name in found)


def test_any_single_safetensors_file_will_do(tmp_path: Path) -> None:
    folder = write_small_checkpoint(tmp_path, "internvl")
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    checkpoint = open_checkpoint(folder)
    assert {ref.path.name for ref in checkpoint.tensors.values()} == {"weights.safetensors"}


def test_several_files_need_an_index(tmp_path: Path) -> None:
    folder = write_small_checkpoint(tmp_path, "internvl", sharded=True)
    (folder / INDEX).unlink()
    with pytest.raises(CheckpointError, match=rf"3 safetensors files .* and no {INDEX}"):
        open_checkpoint(folder)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = write_small_checkpoint(tmp_path, "internvl", sharded=True)
    (folder / SHARD_2).unlink()
    with pytest.raises(CheckpointError, match=f"the shard '{SHARD_2}' is missing"):
        open_checkpoint(folder)


def test_a_shard_without_needed_tensors_may_be_missing(tmp_path: Path) -> None:
    folder = write_small_checkpoint(tmp_path, "internvl", sharded=True)
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["language_model.model.layers.0.mlp.up_proj.weight"] = "llm.safetensors"
    (folder / INDEX).write_text(json.dumps(index))
    assert len(open_checkpoint(folder, is_needed).tensors) == len(index["weight_map"]) - 1
    with pytest.raises(CheckpointError, match=r"the shard 'llm.safetensors' is missing"):
        open_checkpoint(folder)


def test_a_shard_that_lacks_a_tensor_is_named(tmp_path: Path) -> None:
    folder = write_small_checkpoint(tmp_path, "internvl", sharded=True)
    tensors = load_file(folder / SHARD_2)
    name = next(iter(tensors))
    del tensors[name]
    save_file(tensors, folder / SHARD_2)
    with pytest.raises(CheckpointError, match=f"{SHARD_2}' lacks the tensor '{name}'"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "file",
    ["../x.safetensors", "/etc/x.safetensors", "sub/x.safetensors", "..", "", "x.bin", 3,
     "..\\x.safetensors"],
)  # fmt: skip
def test_an_index_that_points_elsewhere_is_refused(tmp_path: Path, file: object) -> None:
    folder = write_small_checkpoint(tmp_path, "internvl", sharded=True)
    (folder / INDEX).write_text(json.dumps({"weight_map": {"mlp1.0.bias": file}}))
    with pytest.raises(CheckpointError, match=r"'mlp1.0.bias' is in .*; expected the name of a"):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "last.ckpt"])
def test_pickles_are_refused_with_the_next_step(tmp_path: Path, name: str) -> None:
    folder = write_small_checkpoint(tmp_path, "llava")
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(CheckpointError, match=rf"only as pickles \({name}\)") as e:
        open_checkpoint(folder)
    assert "never loads one" in e.value.problem
    assert e.value.hint is not None
    assert "llava-hf/llava-1.5-7b-hf" in e.value.hint


def test_an_incomplete_folder_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no folder"):
        open_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"has no config.json"):
        open_checkpoint(tmp_path)
    folder = write_small_checkpoint(tmp_path, "internvl")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has no weights"):
        open_checkpoint(folder)
    (folder / "config.json").write_text('{"architectures": [')
    with pytest.raises(CheckpointError, match=r"config.json' is not valid JSON"):
        open_checkpoint(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="holds a JSON list, expected an object"):
        open_checkpoint(folder)


@pytest.mark.parametrize("place", ["inside", "beside"])
@pytest.mark.parametrize("written_by", ["clip", "clip vision", "transformers 5"])
def test_llava_with_a_separate_tower(tmp_path: Path, place: str, written_by: str) -> None:
    folder = write_small_checkpoint(tmp_path / "models" / "llava", "llava")
    whole = open_checkpoint(folder)
    expected = {name: load(ref) for name, ref in resolve(whole.tensors, whole.spec).items()}

    tensors = load_file(folder / "model.safetensors")
    outside = "model.vision_tower.vision_tower."
    tower = {n.removeprefix(outside): t for n, t in tensors.items() if n.startswith(outside)}
    if written_by == "clip":
        tower["text_model.embeddings.position_ids"] = tensors["model.embed_tokens.weight"]
    if written_by == "transformers 5":
        tower = {n.removeprefix("vision_model."): t for n, t in tower.items()}
    save_file(
        {n: t for n, t in tensors.items() if not n.startswith(outside)},
        folder / "model.safetensors",
    )
    with pytest.raises(CheckpointError, match="has no vision tower") as e:
        open_checkpoint(folder)
    assert "openai/clip-vit-large-patch14-336" in e.value.problem

    separate = (folder if place == "inside" else folder.parent) / "vision_tower"
    separate.mkdir()
    save_file(tower, separate / "model.safetensors")
    checkpoint = open_checkpoint(folder)
    found = resolve(checkpoint.tensors, checkpoint.spec)
    assert all((load(found[name]) == values).all() for name, values in expected.items())
    assert found["tower.cls_token"].path == separate / "model.safetensors"


def test_a_folder_without_a_checkpoint_does_not_hide_a_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-o pocket` yesterday, `--model pocket` today."""
    (tmp_path / "pocket").mkdir()
    (tmp_path / "bundles").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("pocket").spec.name == "pocket"
    with pytest.raises(CheckpointError, match=r"'bundles' has no config.json"):
        find_checkpoint("bundles")


def test_a_local_folder_wins_over_a_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_small_checkpoint(tmp_path / "internvl2.5-8b", "internvl")
    monkeypatch.chdir(tmp_path)
    checkpoint = find_checkpoint("internvl2.5-8b")
    assert checkpoint.spec.vision.hidden == 64
    assert checkpoint.spec.name == "internvl2.5-8b"
    assert checkpoint.spec.hub_id is None


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'internvl2\.5-8b'"):
        find_checkpoint("internvl2.5-8")
    with pytest.raises(CheckpointError, match=r"'\./nowhere' is not a folder"):
        find_checkpoint("./nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="is not a folder"):
        find_checkpoint(str(tmp_path / "file"))


def test_reading_a_local_checkpoint_imports_nothing_heavy(tmp_path: Path) -> None:
    write_small_checkpoint(tmp_path, "internvl")
    script = (
        "import sys; from d2export.models.checkpoint import find_checkpoint;"
        "find_checkpoint(sys.argv[1]);"
        "print({'torch', 'transformers', 'huggingface_hub', 'safetensors'} & set(sys.modules))"
    )
    out = subprocess.check_output([sys.executable, "-c", script, str(tmp_path)], text=True)
    assert out.strip() == "set()"
