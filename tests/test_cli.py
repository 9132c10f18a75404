"""Every command on its good path, as text and as JSON. What goes wrong is in test_bad_input.py."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import d2export
from d2export.bundle.folder import read_bundle
from d2export.models.presets import PRESETS
from tests.command import ENVIRONMENT, PROGRAM, Caller, finish, names, start

COMMANDS = (
    *("build", "export", "check", "bench", "run", "eval", "package", "inspect", "report", "models"),
    *("selectors", "targets", "doctor"),
    "calibrate prior",
)
PICTURES = ["four-by-three", "landscape", "square"]
HEAVY = ("numpy", "torch", "onnxruntime", "onnx", "onnxscript", "PIL", "polygraphy", "rich")


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tiles and a thumbnail to `pocket`, twelve and one to the small models."""
    path = tmp_path_factory.mktemp("photo") / "three by one.jpg"
    values = np.random.default_rng(0).integers(0, 255, (20, 60, 3), np.uint8)
    Image.fromarray(values).resize((900, 300)).save(path)
    return path


def test_build_says_what_it_does_and_ends_with_passed(
    small_checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "out"
    answer = finish(start("build", "-m", small_checkpoint, "--keep", "3", "-o", out))
    assert answer.code == 0, answer.err
    assert answer.last_line == "PASSED"
    assert f"The kept tokens, drawn: {out}/pictures" in answer.out
    assert f"All of this to look at: {out}/report.html" in answer.out
    assert "d2export build -m " in (out / "report.html").read_text()  # as it was typed
    stages = ["reading", "exporting", "asking PyTorch", "checking", "measuring latency"]
    for number, stage in enumerate(stages, 1):
        assert f"[{number}/5] {stage}" in answer.err
        assert f"[{number}/5] done in " in answer.err
    assert "[1/5] reading" in (out / "build.log").read_text()
    assert names(out / "pictures") == [f"{name}.png" for name in PICTURES]
    assert json.loads((out / "report.json").read_text())["passed"] is True
    read_bundle(out)
    assert names(tmp_path / "new") == ["out"]


def test_build_as_json(d2: Caller, small_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = d2("build", "-m", small_checkpoint, "--keep", "3", "-o", out, "--json", "--quiet")
    assert answer.code == 0
    assert answer.err == ""
    report = json.loads(answer.out)
    assert report == json.loads((out / "report.json").read_text())
    assert report["passed"] is True
    assert report["accuracy"]["agreement"] == 1
    assert sorted(case["name"] for case in report["accuracy"]["cases"]) == PICTURES
    assert sorted(report["pytorch_seconds"]) == PICTURES
    assert [stage["kept"] for stage in report["latency_ms"]] == [3]


def test_build_of_a_bundle_made_elsewhere(d2: Caller, pocket_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(pocket_bundle, tmp_path / "bundle")
    (bundle / "report.json").unlink()
    answer = d2("build", bundle)
    assert answer.code == 0
    assert answer.last_line == "PASSED"
    assert "[2/2] measuring latency" in answer.err
    again = d2("build", bundle, "--json", "--threads", "1")
    assert again.code == 0
    report = json.loads(again.out)
    assert report == json.loads((bundle / "report.json").read_text())
    assert report["pytorch_seconds"] == {}, "PyTorch was not asked"
    assert names(bundle) == names(pocket_bundle)


def test_export(d2: Caller, small_checkpoint: Path, tmp_path: Path, photo: Path) -> None:
    model = ("-m", small_checkpoint, "--image", photo)
    answer = d2("export", *model, "-o", tmp_path / "a", "--keep", "25%")
    assert answer.code == 0
    assert "25% per image, 4 tokens per tile" in answer.out
    assert "PASSED" not in answer.out, "nothing was checked"
    options = ("--keep", "all", "--precision", "fp16", "--opset", "20", "--importance", "uniform")
    as_json = d2("export", *model, "-o", tmp_path / "b", *options, "--json", "-q")
    assert as_json.code == 0
    assert as_json.err == ""
    manifest = json.loads(as_json.out)
    assert manifest == json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["precision"] == "fp16"
    assert manifest["opset"] == 20
    assert manifest["selector"]["importance"] == "uniform"
    assert manifest["selector"]["importance_layer"] is None
    assert [entry["name"] for entry in manifest["references"]] == ["three_by_one"]
    assert [entry["tiles"] for entry in manifest["references"]] == [13]
    assert names(tmp_path) == ["a", "b"]
    for bundle in ("a", "b"):
        assert d2("check", tmp_path / bundle).last_line == "PASSED"


def test_check(d2: Caller, pocket_bundle: Path) -> None:
    answer = d2("check", pocket_bundle)
    assert answer.code == 0
    assert answer.last_line == "PASSED"
    assert "100.00% of the indices equal (asked: 100%)" in answer.out
    report = json.loads(d2("check", pocket_bundle, "--json").out)
    assert report["passed"] is True
    assert sorted(case["name"] for case in report["cases"]) == PICTURES
    assert all(case["indices_equal"] for case in report["cases"])


def test_check_asks_pytorch_again(d2: Caller, pocket_bundle: Path) -> None:
    answer = d2("check", pocket_bundle, "--pytorch", "-q")
    assert answer.code == 0
    assert answer.err == ""
    assert answer.last_line == "PASSED"


def test_check_with_another_picture(d2: Caller, text_bundle: Path, photo: Path) -> None:
    answer = d2("check", text_bundle, "--image", photo, "--json")
    assert answer.code == 0
    (case,) = json.loads(answer.out)["cases"]
    assert case["name"] == str(photo)
    assert case["tiles"] == 13
    assert case["common"] == 3


def test_check_layer_by_layer(d2: Caller, pocket_bundle: Path) -> None:
    layers = [f"layers.{i}" for i in range(4)] + ["features", "importance"]
    answer = d2("check", pocket_bundle, "--per-layer")
    assert answer.code == 0
    assert answer.last_line == "PASSED"
    assert [line.split()[0] for line in answer.out.splitlines()[1:7]] == layers
    assert "no layer exceeds an error of 1e-05" in answer.out
    report = json.loads(d2("check", pocket_bundle, "--per-layer", "--json").out)
    assert report["first_drift"] is None
    assert [layer["name"] for layer in report["layers"]] == layers


def test_bench(d2: Caller, pocket_bundle: Path) -> None:
    quick = ("--warmup", "0", "--iterations", "2", "--tiles", "1", "--tiles", "3")
    answer = d2("bench", pocket_bundle, *quick)
    assert answer.code == 0
    rows = [line.split()[:4] for line in answer.out.splitlines()]
    assert rows == [
        ["milliseconds", "tiles", "tokens", "kept"],
        ["vision", "1", "256", "64"],
        ["selection", "1", "256", "64"],
        ["vision", "3", "768", "64"],
        ["selection", "3", "768", "64"],
    ]
    stages = json.loads(d2("bench", pocket_bundle, *quick, "--json", "--threads", "1").out)
    assert [stage["tiles"] for stage in stages] == [1, 3]
    assert stages[0]["vision"]["iterations"] == 2
    assert 0 < stages[0]["vision"]["min"] <= stages[0]["vision"]["median"]


def test_run(d2: Caller, pocket_bundle: Path, photo: Path, tmp_path: Path) -> None:
    answer = d2("run", pocket_bundle, "--image", photo, "-o", tmp_path / "new" / "results")
    assert answer.code == 0
    facts = dict(line.split(": ", 1) for line in answer.out.splitlines())
    assert facts["tiles"] == "4"
    assert facts["tokens"] == "1024"
    assert facts["kept"] == "64"
    with np.load(facts["arrays"], allow_pickle=False) as arrays:
        assert arrays["image_embeds"].shape == (64, 192)
        assert arrays["kept_indices"].shape == (64,)
        assert arrays["token_grid"].shape == (1024, 2)
    with Image.open(facts["picture"]) as picture:
        assert picture.width == 900
    assert names(tmp_path / "new" / "results") == ["three by one.kept.npz", "three by one.kept.png"]
    as_json = d2("run", pocket_bundle, "--image", photo, "-o", tmp_path, "--json")
    assert json.loads(as_json.out)["kept"] == 64


def test_run_with_a_prompt(d2: Caller, text_bundle: Path, photo: Path, tmp_path: Path) -> None:
    """Words, or the rows of the embedding table that stand for them: the answer is one."""
    words = ("--prompt", "word4 word9")
    answer = d2("run", text_bundle, "--image", photo, "-o", tmp_path / "a", *words)
    assert answer.code == 0
    weights = load_file(text_bundle / "onnx" / "model.safetensors")
    embeddings = weights["language_model.model.embed_tokens.weight"]
    np.save(tmp_path / "prompt.npy", embeddings[[5, 10]])
    rows = ("--prompt-embeds", tmp_path / "prompt.npy")
    assert d2("run", text_bundle, "--image", photo, "-o", tmp_path / "b", *rows).code == 0
    with (
        np.load(tmp_path / "a" / "three by one.kept.npz") as a,
        np.load(tmp_path / "b" / "three by one.kept.npz") as b,
    ):
        assert a["kept_indices"].tolist() == b["kept_indices"].tolist()
        np.testing.assert_array_equal(a["image_embeds"], b["image_embeds"])


def test_inspect(d2: Caller, pocket_bundle: Path, small_bundle: Path) -> None:
    answer = d2("inspect", pocket_bundle)
    assert answer.code == 0
    facts = dict(line.split("  ", 1) for line in answer.out.splitlines() if line[0] != " ")
    facts = {key: value.strip() for key, value in facts.items()}
    assert facts["model"] == "pocket (random weights, seed 0)"
    assert facts["keeps"] == "64 tokens per image, 256 tokens per tile"
    assert facts["importance"] == "cls (attention of vision layer 2)"
    assert facts["precision"] == "fp32, opset 17"
    assert facts["weights"] == "in the bundle"
    assert "linked to " in d2("inspect", small_bundle).out
    as_json = d2("inspect", pocket_bundle, "--json")
    assert json.loads(as_json.out) == json.loads((pocket_bundle / "manifest.json").read_text())


def test_models(d2: Caller) -> None:
    answer = d2("models")
    assert answer.code == 0
    assert [line.split()[0] for line in answer.out.splitlines()] == ["model", *PRESETS]
    listed = json.loads(d2("models", "--json").out)
    assert list(listed) == list(PRESETS)
    assert listed["internvl2.5-8b"]["tokens_per_tile"] == 256
    assert listed["llava-1.5-7b"]["tokens_per_tile"] == 576


def test_doctor(d2: Caller, pocket_bundle: Path) -> None:
    answer = d2("doctor", pocket_bundle)
    assert answer.code == 0
    assert answer.out.split()[:2] == ["d2export", d2export.__version__]
    findings = json.loads(d2("doctor", "--json").out)
    assert findings["fits"] is True
    found = {package["name"]: package["found"] for package in findings["packages"]}
    assert found["torch"]
    assert found["onnxruntime"]
    assert answer.last_line == f"{pocket_bundle} fits"


def test_version(d2: Caller) -> None:
    assert d2("--version").out == f"d2export {d2export.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(d2: Caller, command: str) -> None:
    answer = d2(*command.split(), "-h")
    assert answer.code == 0
    assert answer.out.startswith(f"Usage: d2export {command} ")
    assert "--json" in answer.out


def test_help_names_every_command(d2: Caller) -> None:
    answer = d2("--help")
    assert answer.code == 0
    listed = answer.out.split("Commands:")[1].splitlines()[1:]
    assert [line.split()[0] for line in listed] == [name.split()[0] for name in COMMANDS]
    assert not any(line.endswith("...") for line in listed), "a line is cut off"


def test_help_waits_for_no_library() -> None:
    """How long it takes is measured by scripts/bench/cli_start.py."""
    program = (
        "import sys\n"
        "from d2export.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit as ended:\n"
        "    print('loaded:', ended.code, *sorted({name.split('.')[0] for name in sys.modules}))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True
    )
    code, *loaded = result.stdout.splitlines()[-1].removeprefix("loaded: ").split()
    assert code == "0"
    assert "d2export" in loaded
    assert set(loaded).isdisjoint(HEAVY), set(loaded) & set(HEAVY)


def test_a_reader_that_stops_early_is_no_error() -> None:
    models = subprocess.Popen(
        [*PROGRAM, "models", "--json"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert models.stdout is not None
    models.stdout.close()
    assert models.stderr is not None
    assert models.stderr.read() == ""
    assert models.wait() == 0


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_is_built_checked_timed_and_run(
    d2: Caller, small_checkpoint: Path, photo: Path, tmp_path: Path, precision: str
) -> None:
    out = tmp_path / precision
    answer = d2("build", "-m", small_checkpoint, "-o", out, "--keep", "3", "--precision", precision)
    assert answer.out.endswith("PASSED\n")
    assert d2("bench", out, "--iterations", "2").code == 0
    assert d2("check", out, "--per-layer").out.endswith("PASSED\n")
    assert d2("run", out, "--image", photo, "-o", tmp_path / "results").code == 0
