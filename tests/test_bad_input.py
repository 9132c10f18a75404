"""What a user can get wrong: each mistake has its message and exit code, and leaves nothing behind.

0 ok, 1 a check failed, 2 usage or bad input, 3 this machine does not fit, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from d2export.bundle.folder import read_bundle, write_manifest
from tests.command import Caller, finish, message_of, names, start, wait_for
from tests.sample_bundle import edit, renew
from tests.small_checkpoints import write_small_checkpoint

LIMITED_ROOT = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
SHARD = "model-00002-of-00003.safetensors"

Refused = Callable[..., str]


@pytest.fixture
def refused(d2: Caller, small_checkpoint: Path, tmp_path: Path) -> Refused:
    """`build` of the small checkpoint with these options must fail and leave nothing."""

    def build(*options: object, model: object = small_checkpoint, code: int = 2) -> str:
        out = tmp_path / "new" / "out"
        message = d2.refused("build", "-m", model, "-o", out, *options, code=code)
        assert not (tmp_path / "new").exists()
        return message

    return build


@pytest.fixture
def copy(small_bundle: Path, tmp_path: Path) -> Path:
    """A bundle to damage; its weights are a copy too."""
    return shutil.copytree(small_bundle, tmp_path / "copy")


# The model


def test_an_unknown_model(refused: Refused) -> None:
    message = refused(model="internvl2.5-8")
    assert message.startswith("unknown model 'internvl2.5-8': neither a preset, ")
    assert "Did you mean 'internvl2.5-8b'?" in message


def test_a_folder_that_is_not_there(refused: Refused, tmp_path: Path) -> None:
    message = refused(model=tmp_path / "nowhere")
    assert message.startswith(f"'{tmp_path}/nowhere' is not a folder\n")


def test_a_model_name_no_file_system_takes(refused: Refused) -> None:
    message = refused(model="x" * 300)
    assert message.endswith("': File name too long\n  Check the path and its permissions.")


def test_no_model_and_no_output(d2: Caller, tmp_path: Path) -> None:
    assert d2.refused("build", "-o", tmp_path / "out").startswith("--model is missing\n  For exa")
    assert d2.refused("build", "-m", "pocket").startswith("--output is missing\n  For example: ")
    assert names(tmp_path) == []


def test_a_revision_of_something_that_is_not_on_the_hub(refused: Refused) -> None:
    random = refused("--random-weights", "--revision", "main", model="pocket")
    assert random.startswith("--revision is 'main', but random weights is not from the hub")
    assert refused("--revision", "main").endswith(" is not from the hub\n  Leave it out.")


def test_random_weights_for_a_folder(refused: Refused, small_checkpoint: Path) -> None:
    message = refused("--random-weights")
    assert message.startswith(f"--random-weights with the folder '{small_checkpoint}': expected a")


def test_a_folder_whose_name_is_not_utf8(
    refused: Refused, small_checkpoint: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(small_checkpoint, os.fsdecode(bytes(tmp_path / "caf") + b"\xe9"))
    message = refused(model=folder)
    assert message.endswith("caf\\udce9' is not UTF-8\n  Rename it, or pass a link to it.")


# The checkpoint


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return write_small_checkpoint(tmp_path / "sharded", "internvl", sharded=True)


def test_a_missing_shard(refused: Refused, sharded: Path) -> None:
    (sharded / SHARD).unlink()
    message = refused(model=sharded)
    assert message.startswith(f"the shard '{SHARD}' is missing in '{sharded}'; it holds '")
    assert message.endswith("\n  Copy or download it into the folder.")


def test_a_truncated_shard(refused: Refused, sharded: Path) -> None:
    content = (sharded / SHARD).read_bytes()
    (sharded / SHARD).write_bytes(content[:-100])
    found, expected = len(content) - 100, len(content)
    assert refused(model=sharded) == (
        f"'{sharded / SHARD}' is truncated: {found} bytes found, {expected} expected\n"
        "  Copy or download the file again."
    )


def test_a_tensor_of_the_wrong_shape(refused: Refused, sharded: Path) -> None:
    name = _change(sharded, lambda tensor: np.concatenate([tensor, tensor]))
    message = refused(model=sharded)
    assert f"tensor '{name}' in '{sharded / SHARD}' has shape [128], expected [64]\n" in message
    assert message.endswith("\n  Does the config.json belong to these weights?")


def test_a_tensor_of_the_wrong_dtype(refused: Refused, sharded: Path) -> None:
    name = _change(sharded, lambda tensor: tensor.astype(np.int8))
    assert refused(model=sharded) == (
        f"tensor '{name}' in '{sharded / SHARD}' has dtype I8, expected F32 or F16 or BF16\n"
        "  Quantized checkpoints are not read; use the original one."
    )


def _change(sharded: Path, edit: Callable[[np.ndarray], np.ndarray]) -> str:
    """Replace the first bias of 64 in a shard; returns its name."""
    tensors = load_file(sharded / SHARD)
    name = next(name for name, tensor in tensors.items() if tensor.shape == (64,))
    save_file({**tensors, name: edit(tensors[name])}, sharded / SHARD)
    return name


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_never_opened(refused: Refused, sharded: Path, tmp_path: Path) -> None:
    for file in sharded.glob("model*"):
        file.unlink()
    (sharded / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "opened")))
    message = refused(model=sharded)
    assert message.startswith(
        f"'{sharded}' has its weights only as pickles (pytorch_model.bin); expected safetensors."
    )
    assert "\n  Use a checkpoint in safetensors " in message
    assert not (tmp_path / "opened").exists()


def test_a_folder_without_config(refused: Refused, sharded: Path) -> None:
    (sharded / "config.json").unlink()
    assert refused(model=sharded).startswith(f"'{sharded}' has no config.json, so it is not a che")


# Pictures


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (64, 64)).save(folder / "fine.png")
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    Image.new("RGB", (20_000, 10)).save(folder / "ribbon.png")
    (folder / "cut.png").write_bytes((folder / "fine.png").read_bytes()[:60])
    (folder / "text.jpg").write_text("not a picture")
    return folder


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("dot.png", "is 1x1 pixels, expected at least 2x2"),
        ("ribbon.png", "is 20000x10 pixels, expected sides of at most 200:1"),
        ("cut.png", "is damaged or incomplete: its PNG data cannot be decoded"),
        ("text.jpg", "(13 bytes) is not an image, or its header is cut, expected one of BMP, GIF"),
        ("nowhere.png", "does not exist"),
        ("", "is a folder, expected an image file"),
    ],
)
def test_pictures_that_cannot_be_used(
    refused: Refused, d2: Caller, small_bundle: Path, pictures: Path, name: str, problem: str
) -> None:
    image = pictures / name
    for message in (
        refused("--image", pictures / "fine.png", "--image", image),
        d2.refused("check", small_bundle, "--image", image),
        d2.refused("run", small_bundle, "--image", image, "-o", pictures.parent / "results"),
    ):
        assert message.startswith(f"{image} {problem}")
        assert "\n  " in message
    assert not (pictures.parent / "results").exists()


# Options


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--keep", "0"), "--keep is 0: expected a count such as 64, a share such as 25%, or"),
        (("--keep", "-3"), "--keep is -3: expected a count such as 64, a share such as 25%, or"),
        (("--keep", "abc"), "--keep is 'abc': expected a count such as 64, a share such as 25%"),
        (("--keep", "300%"), "--keep is 300%: a share lies between 0.1% and 100%"),
        (("--opset", "16"), "--opset is 16, expected 17 to 24\n  TensorRT 8.6 reads up to 17"),
        (("--opset", "99"), "--opset is 99, expected 17 to 24\n  TensorRT 8.6 reads up to 17"),
        (
            ("--precision", "int3"),
            "--precision is 'int3', expected one of fp32, fp16, bf16, int8\n",
        ),
        (("--importance", "foo"), "--importance is 'foo', expected one of cls, text, uniform for "),
        (("--seed", "-1"), "--seed is -1, expected 0 or more\n  Leave it out"),
        (("--set", "alpha=2"), "alpha is 2.0, expected a number from 0 to 1"),
        (("--set", "theta=nan"), "theta is nan, expected a finite"),
        (
            ("--set", "alpha"),
            "--set is 'alpha', expected NAME=VALUE\n  For example --set alpha=1.0",
        ),
        (
            ("--set", "alfa=1"),
            "selector 'd2' has no setting 'alfa', did you mean 'alpha'?\n  It has",
        ),
        (
            ("--set", "alpha=much"),
            "alpha of selector 'd2' is 'much', expected a number from 0 to 1",
        ),
        (
            ("--set", "pivots_block=1"),
            "pivots_block of selector 'd2' is '1', expected true or false",
        ),
        (
            ("--selector", "divprun"),
            "there is no selector 'divprun', did you mean 'divprune'?\n  T",
        ),
        (
            ("--selector", "fastv"),
            "--selector fastv reads the language model's attention, which scope 'vision' does not "
            "export\n  Pass --scope vlm, or a selector of this scope: d2, divprune, cdpruner,",
        ),
        (
            ("--selector", "divprune", "--importance", "cls"),
            "--importance is 'cls', but selector 'divprune' reads none",
        ),
        (
            ("--selector", "dart", "--prior", "prior.json"),
            "--prior is prior.json, but selector 'dart' divides by none",
        ),
        (("--selector", "dart", "--set", "pivots=0"), "pivots is 0, expected 1 to 1024"),
        (("--min-keep", "3"), "--min-keep is 3, but selector 'd2' keeps as many as --keep says"),
        (
            ("--selector", "sms", "--keep", "9"),
            "--keep is 9, but with selector 'sms' the picture says how many tokens stay",
        ),
        (
            ("--selector", "sms", "--min-keep", "9", "--max-keep", "3"),
            "min_keep is 9 and max_keep is 3: expected 1 <= min_keep <= max_keep",
        ),
        (
            ("--selector", "sms", "--set", "static=true"),
            "static is true, but --max-keep is missing",
        ),
        (
            ("--selector", "sms", "--budget", "tile"),
            "--budget is 'tile', but selector 'sms' has no",
        ),
        (("--budget", "photo"), "--budget is 'photo', expected one of image, tile, prompt"),
        (
            ("--budget", "prompt"),
            "--budget is 'prompt', but selector 'd2' with importance 'cls' se",
        ),
        (("--threads", "0"), "--threads is 0, expected at least 1\n  Leave it out to use all co"),
        (("--provider", "tpu"), "--provider is 'tpu', expected one of cpu, cuda\n  Leave it out"),
        (
            ("--importance-layer", "3"),
            "--importance-layer is 3: this tower has 3 layers and runs 3\n  Pass 0 to 2, or -3 to",
        ),
        (
            ("--importance-layer", "-4"),
            "--importance-layer is -4: this tower has 3 layers and runs 3\n  Pass 0 to 2, or -3 to",
        ),
        (
            ("--importance", "uniform", "--importance-layer", "1"),
            "--importance-layer goes with importance 'cls', not 'uniform'\n  Leave it out",
        ),
        (
            ("--prompt-embeds", "x.npy"),
            "--prompt-embeds goes with importance 'text', not 'cls'\n  Leave it out",
        ),
    ],
)
def test_options_out_of_range(refused: Refused, options: tuple[str, str], problem: str) -> None:
    assert refused(*options).startswith(problem)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("build", "-m", "pocket", "-o", "out", "--opset", "new"), "Invalid value for '--opset'"),
        (("build", "--kepe", "64"), "No such option: --kepe"),
        (("bench", "out", "--iterations", "many"), "Invalid value for '--iterations'"),
        (("chekc", "out"), "No such command 'chekc'"),
        (("check",), "Missing argument"),
        (("run", "out"), "Missing option '--image'"),
    ],
)
def test_arguments_nobody_understands(
    d2: Caller,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    problem: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = d2(*arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("Usage: d2export ")
    assert "Try 'd2export " in answer.err
    assert f"Error: {problem}" in answer.err
    assert names(tmp_path) == []


def test_options_that_would_have_no_effect(d2: Caller, small_bundle: Path) -> None:
    assert d2.refused("build", small_bundle, "--keep", "32") == (
        f"--keep has no effect with the bundle {small_bundle}\n"
        "  Leave one of the two out; a model to export goes behind --model."
    )
    message = d2.refused("build", small_bundle, "-m", "pocket")
    assert message.startswith(f"--model has no effect with the bundle {small_bundle}\n")
    message = d2.refused("check", small_bundle, "--per-layer", "--image", "x.png")
    assert message.startswith("--image has no effect with --per-layer\n")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--threads", "0"), "--threads is 0, expected at least 1\n  "),
        (("--iterations", "0"), "--iterations is 0 and --warmup is 3, expected at least 1 and 0\n"),
        (("--warmup", "-1"), "--iterations is 20 and --warmup is -1, expected at least 1 and 0\n"),
        (("--tiles", "99"), "--tiles is 99, expected 1 to 13\n  "),
        (("--tiles", "1", "--tiles", "0"), "--tiles is 0, expected 1 to 13\n  "),
    ],
)
def test_bench_options_out_of_range(
    d2: Caller, small_bundle: Path, options: tuple[str, ...], problem: str
) -> None:
    assert d2.refused("bench", small_bundle, *options).startswith(problem)


def test_a_provider_this_machine_has_not(
    refused: Refused, d2: Caller, small_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA, so asking for it is no mistake")
    cuda = ("--provider", "cuda")
    picture = ("--image", pictures / "fine.png", "-o", tmp_path / "results")
    for message in (
        refused(*cuda, code=3),
        d2.refused("build", small_bundle, *cuda, code=3),
        d2.refused("check", small_bundle, *cuda, code=3),
        d2.refused("check", small_bundle, *cuda, "--per-layer", code=3),
        d2.refused("bench", small_bundle, *cuda, code=3),
        d2.refused("run", small_bundle, *picture, *cuda, code=3),
    ):
        assert "has no CUDAExecutionProvider; it has " in message
        assert "\n  Run: pip uninstall onnxruntime && pip install " in message
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"slots": {"tile": [1.0] * 256, "thumbnail": [1.0] * 256}}, "has 256 values, this model"),
        ({"version": 2}, "has version 2, this d2export reads 1"),
        ({"slots": {"tile": [-1.0] * 4, "thumbnail": [1.0] * 4}}, "finite and not negative"),
        ({"slots": {"tile": [10**400] * 4, "thumbnail": [1.0] * 4}}, "finite and not negative"),
        ({"format": "other"}, "is not a prior"),
    ],
)
def test_a_prior_of_another_geometry_or_kind(
    refused: Refused, tmp_path: Path, content: dict[str, object], problem: str
) -> None:
    path = tmp_path / "prior.json"
    slots = {"tile": [1.0] * 4, "thumbnail": [1.0] * 4}
    path.write_text(
        json.dumps({"format": "d2export-prior", "version": 1, "slots": slots, **content})
    )
    message = refused("--prior", path)
    assert str(path) in message
    assert problem in message
    path.unlink()
    assert refused("--prior", path).startswith(f"cannot read prior {path}: no such file\n")


# Prompts


def test_a_prompt_where_none_is_needed(d2: Caller, small_bundle: Path, pictures: Path) -> None:
    message = d2.refused("run", small_bundle, "--image", pictures / "fine.png", "--prompt", "word1")
    assert message == (
        "this bundle has importance 'cls', which needs no prompt\n  Leave the prompt out."
    )


def test_no_prompt_where_one_is_needed(d2: Caller, text_bundle: Path, pictures: Path) -> None:
    message = d2.refused("run", text_bundle, "--image", pictures / "fine.png")
    assert message == (
        "this bundle has importance 'text', which needs a prompt\n"
        "  Pass --prompt or --prompt-embeds."
    )


def test_a_prompt_of_no_words(d2: Caller, text_bundle: Path, pictures: Path) -> None:
    message = d2.refused("run", text_bundle, "--image", pictures / "fine.png", "--prompt", " ")
    assert message == "the prompt is empty\n  Pass at least one word."


def test_a_prompt_without_a_tokenizer(
    d2: Caller, text_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(text_bundle, tmp_path / "bundle")
    manifest = read_bundle(bundle).manifest
    (bundle / "processor" / "tokenizer.json").unlink()
    files = {k: v for k, v in manifest.files.items() if not k.startswith("processor/")}
    write_manifest(bundle, replace(manifest, files=files))
    message = d2.refused("run", bundle, "--image", pictures / "fine.png", "--prompt", "word1")
    assert message.startswith(f"{bundle} has no tokenizer.json, so a prompt cannot be embedded")
    assert message.endswith("\n  Pass --prompt-embeds FILE.npy with float32 [P, hidden] instead.")


def _numbers(path: Path) -> None:
    np.save(path, np.zeros((3, 7), np.float32))


def _one_row(path: Path) -> None:
    np.save(path, np.zeros(48, np.float32))


def _no_row(path: Path) -> None:
    np.save(path, np.zeros((0, 48), np.float32))


def _nan(path: Path) -> None:
    np.save(path, np.full((3, 48), np.nan, np.float32))


def _words(path: Path) -> None:
    np.save(path, np.array(["word1"]))


def _pickle(path: Path) -> None:
    np.save(path, np.array([Bomb(path.parent / "opened")], dtype=object), allow_pickle=True)


def _several(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))


def _cut(path: Path) -> None:
    _numbers(path)
    path.write_bytes(path.read_bytes()[:-4])


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (_numbers, "has shape [3, 7], expected [P, 48]"),
        (_one_row, "has shape [48], expected [P, 48]"),
        (_no_row, "has shape [0, 48], expected [P, 48]"),
        (_nan, "holds NaN or infinity, expected finite float32 numbers"),
        (_words, "holds numbers of type <U5, expected one array of floats"),
        (_pickle, "is no .npy file with numbers: Array can't be memory-mapped"),
        (_several, "holds an .npz, expected one array of floats"),
        (_cut, "is no .npy file with numbers: "),
        (Path.touch, "is no .npy file with numbers: No data left in file"),
        (Path.exists, ": No such file or directory"),
    ],
)
def test_prompt_embeddings_that_cannot_be_used(
    refused: Refused,
    d2: Caller,
    text_bundle: Path,
    pictures: Path,
    tmp_path: Path,
    write: Callable[[Path], object],
    problem: str,
) -> None:
    path = tmp_path / "prompt.npy"
    write(path)
    picture = ("--image", pictures / "fine.png", "-o", tmp_path / "results")
    for message in (
        refused("--importance", "text", "--prompt-embeds", path),
        d2.refused("run", text_bundle, *picture, "--prompt-embeds", path),
    ):
        assert problem in message
        assert "\n  " in message
    assert not (tmp_path / "opened").exists()
    assert not (tmp_path / "results").exists()


def test_two_prompts(d2: Caller, text_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "prompt.npy", np.ones((2, 48), np.float32))
    both = ("--prompt", "word1", "--prompt-embeds", tmp_path / "prompt.npy")
    message = d2.refused("run", text_bundle, "--image", pictures / "fine.png", *both)
    assert message.startswith("--prompt and --prompt-embeds are both given\n  Leave one of them")


# The output path


def test_an_output_that_is_a_file(d2: Caller, small_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("mine")
    message = d2.refused("build", "-m", small_checkpoint, "-o", out, "--force")
    assert message == f"output {out} exists and is no folder\n  Choose another path."
    assert out.read_text() == "mine"
    message = d2.refused("build", "-m", small_checkpoint, "-o", out / "deeper")
    assert message == f"{out} is a file, expected a folder\n  Choose another path."
    assert names(tmp_path) == ["out"]


def test_an_output_that_holds_a_bundle(d2: Caller, small_checkpoint: Path, copy: Path) -> None:
    before = (copy / "manifest.json").read_bytes()
    message = d2.refused("build", "-m", small_checkpoint, "-o", copy)
    assert message == (
        f"output {copy} already holds a bundle\n  Choose another path, or add --force."
    )
    assert (copy / "manifest.json").read_bytes() == before


def test_an_output_that_holds_something_else(d2: Caller, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    message = d2.refused("build", "-m", "pocket", "-o", tmp_path / "thesis", "--force")
    assert "is not empty and not a bundle, so it will not be deleted\n" in message
    assert names(tmp_path) == ["thesis"]
    assert names(tmp_path / "thesis") == ["thesis.tex"]


def test_an_output_whose_name_is_not_utf8(d2: Caller, tmp_path: Path) -> None:
    out = os.fsdecode(bytes(tmp_path / "caf") + b"\xe9")
    assert "caf\\udce9 is not UTF-8\n  Choose " in d2.refused("build", "-m", "pocket", "-o", out)
    assert names(tmp_path) == []


def _without_write_permission() -> tuple[str, ...]:
    """What to start a program with so that it obeys the mode of a folder."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root may write anywhere, and setpriv is missing")
    return LIMITED_ROOT


def test_a_read_only_output(small_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o500)
    command = ("build", "-m", small_checkpoint, "-o", folder / "out")
    message = message_of(finish(start(*command, prefix=_without_write_permission())))
    assert message == (
        f"cannot write {folder}/out: Permission denied\n"
        "  Choose a path inside a folder you may write to."
    )
    assert names(folder) == []


def test_a_read_only_bundle_is_not_checked_in_vain(copy: Path) -> None:
    copy.chmod(0o500)
    message = message_of(finish(start("build", copy, prefix=_without_write_permission())))
    copy.chmod(0o700)
    assert message == (
        f"{copy} cannot be written, so its report.json cannot be either\n"
        f"  Run: d2export check {copy} && d2export bench {copy}"
    )


def test_results_where_none_can_be_written(
    d2: Caller, small_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    picture = pictures / "fine.png"
    message = d2.refused("run", small_bundle, "--image", picture, "-o", picture)
    assert message == f"{picture} is a file, expected a folder\n  Choose another path."
    message = d2.refused("run", small_bundle, "--image", picture, "-o", "/proc/results")
    assert message.startswith("cannot write /proc/results: No such file or directory\n  Choose ")


# A full disk

FULL = """
mount -t tmpfs -o size=$2 tmpfs "$1"
shift 2
"$@"
code=$?
ls -A "$disk" >&3
exit $code
"""


@pytest.mark.parametrize(
    ("size", "stage"), [("300k", "[2/5] failed after"), ("700k", "[3/5] failed after")]
)
def test_a_full_disk(small_checkpoint: Path, tmp_path: Path, size: str, stage: str) -> None:
    """It fills up while the weights are copied, and while PyTorch's answers are stored."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("a disk that fills up needs user namespaces: unshare -rm")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f'disk="{disk}"; exec 3>"{tmp_path}/left"; {FULL}'
    command = ("build", "-m", small_checkpoint, "--keep", "3", "-o", disk / "out")
    prefix = ("unshare", "-rm", "sh", "-c", script, "sh", str(disk), size)
    answer = finish(start(*command, prefix=prefix))
    message = message_of(answer)
    assert message.startswith(f"no space left for {disk}/.out.partial: No space left on device; ")
    assert message.endswith("\n  Free some space, or choose a path on another disk.")
    assert stage in answer.err
    assert (tmp_path / "left").read_text() == ""


def test_files_that_may_not_grow(small_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    command = ("build", "-m", small_checkpoint, "--weights-in-bundle", "-o", out)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        process = start(*command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    message = message_of(finish(process))
    assert message.startswith(f"no space left for {out.parent}/.out.partial: File too large; ")
    assert names(tmp_path) == []


# A build that does not end


@pytest.mark.parametrize("stage", ["[2/5] exporting", "[3/5] asking", "[4/5] checking"])
def test_an_interrupted_build_leaves_nothing(
    small_checkpoint: Path, tmp_path: Path, stage: str
) -> None:
    process = start("build", "-m", small_checkpoint, "-o", tmp_path / "new" / "out")
    wait_for(process, stage)
    process.send_signal(signal.SIGINT)
    answer = finish(process)
    # Where the interrupt came inside exec(), as when a dataclass is made, CPython itself ends by
    # the signal; a shell calls both 130.
    assert answer.code in (130, -signal.SIGINT)
    assert answer.out == ""
    assert answer.err.endswith("interrupted\n")
    assert "Traceback" not in answer.err
    assert names(tmp_path) == []


def test_a_terminated_build_leaves_nothing(small_checkpoint: Path, tmp_path: Path) -> None:
    process = start("build", "-m", small_checkpoint, "-o", tmp_path / "new" / "out")
    wait_for(process, "[2/5] exporting")
    process.terminate()
    answer = finish(process)
    assert answer.code == 143
    assert "Traceback" not in answer.err
    assert names(tmp_path) == []


def test_after_a_killed_build_the_next_one_works(
    d2: Caller, small_checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ("build", "-m", small_checkpoint, "--keep", "3", "-o", out)
    for stage in ("[2/5] exporting", "[3/5] asking", "[4/5] checking"):
        process = start(*command)
        wait_for(process, stage)
        process.kill()
        assert finish(process).code == -signal.SIGKILL
        assert names(tmp_path) == [".out.partial"]
        message = d2.refused("inspect", tmp_path / "out")
        assert message.startswith(f"{out} is not there, expected the folder of a bundle")
    assert d2(*command).last_line == "PASSED"
    assert names(tmp_path) == ["out"]
    read_bundle(out)


def test_two_builds_to_one_path(d2: Caller, small_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("build", "-m", small_checkpoint, "--keep", "3", "-o", out)
    first = start(*command)
    wait_for(first, "[2/5] exporting")
    assert d2.refused(*command) == (
        f"another build is writing to {out} (pid {first.pid})\n"
        "  Wait for it to end, or choose another path."
    )
    answer = finish(first)
    assert answer.code == 0
    assert answer.last_line == "PASSED"
    assert names(tmp_path) == ["out"]


# The bundle


def test_a_bundle_that_is_not_there(d2: Caller, tmp_path: Path) -> None:
    for command in ("build", "check", "bench", "inspect", "doctor"):
        message = d2.refused(command, tmp_path / "nowhere")
        assert message.startswith(f"{tmp_path}/nowhere is not there, expected the folder of a bun")
    message = d2.refused("inspect", tmp_path)
    assert message.startswith(f"{tmp_path} is not a bundle: it has no manifest.json")


def test_an_edited_manifest(d2: Caller, copy: Path, pictures: Path) -> None:
    """No command trusts it."""
    manifest = copy / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"theta": 0.8', '"theta": 0.5'))
    for command in (
        ("inspect", copy),
        ("inspect", copy, "--no-verify"),
        ("check", copy),
        ("check", copy, "--per-layer"),
        ("bench", copy),
        ("build", copy),
        ("doctor", copy),
        ("run", copy, "--image", pictures / "fine.png"),
    ):
        message = d2.refused(*command)
        assert message.startswith(f"{manifest}: manifest.json was edited after the build")
        assert message.endswith(
            "\n  Build the bundle again, or copy it again from where it was built."
        )


def test_a_truncated_manifest(d2: Caller, copy: Path) -> None:
    manifest = copy / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:1000])
    message = d2.refused("check", copy)
    assert message.startswith(f"{manifest} is damaged: it is not JSON")


def test_a_manifest_of_a_newer_schema(d2: Caller, copy: Path) -> None:
    edit(copy, ("schema",), 4)
    assert d2.refused("check", copy) == (
        f"{copy}/manifest.json: the bundle has schema 4, this d2export reads 3\n"
        "  Upgrade d2export: pip install --upgrade d2export"
    )


@pytest.mark.parametrize("path", ["../vision.onnx", "/etc/passwd", "onnx/../../vision.onnx"])
def test_a_manifest_that_points_outside(d2: Caller, copy: Path, path: str) -> None:
    edit(copy, ("graphs", "vision", "path"), path)
    message = d2.refused("check", copy)
    assert message.startswith(f'{copy}/manifest.json: graphs.vision.path is "{path}", expected a')
    assert "a relative path with / between its parts and no '..'" in message


def test_a_link_that_leads_outside(d2: Caller, copy: Path, tmp_path: Path) -> None:
    (copy / "onnx" / "vision.onnx").rename(tmp_path / "vision.onnx")
    (copy / "onnx" / "vision.onnx").symlink_to(tmp_path / "vision.onnx")
    message = d2.refused("check", copy)
    assert f"onnx/vision.onnx leads out of the bundle, to {tmp_path}/vision.onnx\n" in message


def test_a_missing_and_a_damaged_file(d2: Caller, copy: Path) -> None:
    graph = copy / "onnx" / "vision.onnx"
    content = graph.read_bytes()
    graph.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert d2.refused("check", copy).startswith(f"{graph} was changed after the build: its sha256")
    graph.unlink()
    assert d2.refused("check", copy).startswith(f"{graph} is missing\n  Build the bundle again")


def test_a_graph_that_is_no_graph(d2: Caller, copy: Path) -> None:
    (copy / "onnx" / "vision.onnx").write_bytes(b"not a graph")
    renew(copy, "onnx/vision.onnx")
    message = d2.refused("check", copy)
    assert message.startswith(f"ONNX Runtime cannot open {copy}/onnx/vision.onnx: ")
    assert message.endswith("\n  Build the bundle again.")


def test_a_graph_that_cannot_run(d2: Caller, copy: Path) -> None:
    """It opens, and fails on the first picture."""
    graph = onnx.load(copy / "onnx" / "vision.onnx", load_external_data=False)
    (grid,) = (value for value in graph.graph.input if value.name == "token_grid")
    grid.type.tensor_type.shape.dim[1].dim_value = 3
    del graph.graph.value_info[:]
    onnx.save(graph, copy / "onnx" / "vision.onnx")
    renew(copy, "onnx/vision.onnx")
    message = d2.refused("check", copy)
    assert message.startswith("ONNX Runtime cannot run onnx/vision.onnx of ")
    assert message.endswith("\n  Build the bundle again.")


# A check that fails


def test_another_answer_than_pytorchs(d2: Caller, copy: Path) -> None:
    path = copy / "reference" / "square.npz"
    with np.load(path) as file:
        arrays = dict(file)
    arrays["image_embeds"][0, 0] += 0.01 * np.abs(arrays["image_embeds"]).max()
    np.savez(path, **arrays)
    renew(copy, "reference/square.npz")
    answer = d2("check", copy)
    assert answer.code == 1
    assert answer.last_line == "FAILED"
    assert "Traceback" not in answer.err
    as_json = d2("check", copy, "--json")
    assert as_json.code == 1
    report = json.loads(as_json.out)
    assert report["passed"] is False
    assert [case["name"] for case in report["cases"] if not case["embeddings_match"]] == ["square"]
    assert d2("build", copy).code == 1
    assert json.loads((copy / "report.json").read_text())["passed"] is False


def test_other_tokens_than_pytorchs(d2: Caller, copy: Path) -> None:
    path = copy / "reference" / "landscape.npz"
    with np.load(path) as file:
        arrays = dict(file)
    unused = next(i for i in range(28) if i not in arrays["kept_indices"])
    arrays["kept_indices"][0] = unused
    arrays["kept_indices"].sort()
    np.savez(path, **arrays)
    renew(copy, "reference/landscape.npz")
    answer = d2("check", copy)
    assert answer.code == 1
    assert answer.last_line == "FAILED"
    assert "landscape" in answer.out
    assert " 2/3 " in answer.out


def test_other_weights_than_pytorch_had(d2: Caller, copy: Path) -> None:
    """Stored answers notice it; PyTorch asked again reads the same weights and agrees."""
    path = copy / "onnx" / "model.safetensors"
    weights = load_file(path)
    weights["mlp1.3.weight"] *= np.float32(1.01)
    save_file(weights, path, {"format": "pt"})
    assert d2.refused("check", copy).startswith(f"{path} was changed after the build")
    renew(copy, "onnx/model.safetensors")
    answer = d2("check", copy)
    assert answer.code == 1
    assert answer.last_line == "FAILED"
    assert d2("check", copy, "--pytorch").last_line == "PASSED"


def test_the_first_layer_that_drifts_is_named(d2: Caller, copy: Path) -> None:
    """Layer 1 hands on 1 % more than it computed, in the graph alone."""
    path = copy / "onnx" / "vision.onnx"
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    at, node = next((i, n) for i, n in enumerate(graph.node) if "layers.1" in n.output)
    node.output[0] = "layers.1.exact"
    graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1.01), "factor"))
    graph.node.insert(
        at + 1, onnx.helper.make_node("Mul", ["layers.1.exact", "factor"], ["layers.1"])
    )
    onnx.save(model, path)
    renew(copy, "onnx/vision.onnx")
    answer = d2("check", copy, "--per-layer")
    assert answer.code == 1
    assert answer.last_line == "FAILED"
    assert "the first layer to exceed an error of 1e-05 is layers.1\n" in answer.out
    as_json = d2("check", copy, "--per-layer", "--json")
    assert as_json.code == 1
    report = json.loads(as_json.out)
    assert report["first_drift"] == "layers.1"
    assert report["layers"][0]["error"] < 1e-5
    assert report["layers"][1]["error"] == pytest.approx(0.01, rel=1e-3)
    assert d2("check", copy).code == 1


def test_a_build_that_fails_its_check_leaves_nothing(refused: Refused, tmp_path: Path) -> None:
    """Float16 ends at 65504: embeddings a million times larger are lost."""
    folder = write_small_checkpoint(tmp_path / "large", "internvl")
    weights = load_file(folder / "model.safetensors")
    weights["mlp1.3.weight"] *= np.float32(1e6)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    message = refused("--precision", "fp16", "--keep", "3", model=folder, code=1)
    assert message.startswith("the graph does not answer what PyTorch answers\n")
    assert "\n  Nothing was written. Run `d2export export` with the same options" in message
