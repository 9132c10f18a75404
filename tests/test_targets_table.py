"""`d2export targets`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from d2export.engine import cuda_driver
from d2export.engine.cuda_driver import Device
from d2export.engine.memory_fit import Question, memory_need
from d2export.engine.target import MIB
from d2export.engine.targets import target, targets
from d2export.models.presets import PRESETS, preset
from tests.command import ROOT, Caller


def test_all_targets(d2: Caller) -> None:
    answer = d2("targets")
    assert answer.code == 0, answer.err
    header, *lines = answer.out.splitlines()
    assert header.split() == [
        *("target", "CUDA", "GB", "usable", "precisions", "TensorRT", "expected", "opset")
    ]
    rows = {line.split()[0]: line.split()[1:] for line in lines[: len(targets())]}
    assert list(rows) == list(targets())
    precisions = ["fp32", "fp16", "bf16", "int8"]
    nano = ["8.7", "8.0", "6.4", *precisions, "8.6", "to", "11", "10.3", "20"]
    assert rows["jetson-orin-nano-8gb"] == nano
    assert rows["generic"][:3] == ["?"] * 3
    assert max(map(len, answer.out.splitlines())) <= 100


def test_the_widest_precision_that_fits(d2: Caller) -> None:
    lines = d2("targets").out.splitlines()
    start = lines.index(
        "The widest precision in which a model fits (a picture at most tiles, --keep 64):"
    )
    families, sizes, *rows = (line.split() for line in lines[start + 2 :])
    assert families == ["target", "internvl2.5", "llava-1.5"]
    assert sizes == ["1b", "2b", "4b", "8b", "7b", "13b", "pocket"]
    fits = {row[0]: row[1:] for row in rows[: len(targets())]}
    assert fits["jetson-orin-nano-8gb"] == ["fp32", "fp16", "int8", "none", "none", "none", "fp32"]
    assert fits["h200"] == ["fp32"] * 7
    assert fits["generic"] == ["?"] * 7


def test_one_target(d2: Caller) -> None:
    answer = d2("targets", "jetson-orin-nano-8gb")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[:6] == [
        "target              jetson-orin-nano-8gb: Jetson Orin Nano 8 GB",
        "compute capability  8.7",
        "memory              8.0 GB, shared with the CPU; 6.4 GB usable",
        "precisions          fp32, fp16, bf16, int8",
        "builder workspace   1.1 GB",
        "TensorRT            8.6 to 11, expected 10.3: opset 20 at most",
    ]
    rows = [line.split() for line in lines[10 : 10 + 4 * len(PRESETS)]]
    assert [(row[0], row[1]) for row in rows] == [
        (name, precision) for name in PRESETS for precision in ("fp32", "fp16", "bf16", "int8")
    ]
    question = Question(13, "64", 35, 256, 2)
    need = memory_need(preset("internvl2.5-4b"), "int8", question)
    left = 7618 * MIB - 1536 * MIB - need.total
    sizes = (need.weights, need.kv_cache, need.activations, need.total, left)
    shown = [f"{size / 1e9:,.2f}" for size in sizes]
    assert ["internvl2.5-4b", "int8", *shown, "yes"] in rows
    assert [row[-1] for row in rows if row[0] == "internvl2.5-8b"] == ["no"] * 4
    assert max(map(len, lines)) <= 100


def test_one_target_as_json(d2: Caller) -> None:
    found = json.loads(d2("targets", "h200", "--tiles", "5", "--keep", "all", "--json").out)
    assert found["compute_capability"] == "9.0"
    assert found["memory"] == found["usable"] == 143156 * MIB
    assert found["tensorrt"] == {"oldest": "8.6", "expected": "10.16", "newest": "11"}
    assert found["shared"] is False
    assert found["workspace"] == 8192 * MIB
    assert list(found["presets"]) == list(PRESETS)
    need = memory_need(preset("llava-1.5-13b"), "fp16", Question(5, "all", 35, 256, 2))
    assert found["presets"]["llava-1.5-13b"]["fp16"] == {
        "weights": need.weights,
        "kv_cache": need.kv_cache,
        "activations": need.activations,
        "total": need.total,
        "left_over": 143156 * MIB - need.total,
        "fits": True,
    }


def test_all_targets_as_json(d2: Caller) -> None:
    found = {one["name"]: one for one in json.loads(d2("targets", "--json").out)}
    assert list(found) == list(targets())
    assert found["l4"]["fits"]["internvl2.5-8b"] == ["fp16", "bf16", "int8"]
    assert found["jetson-orin-nano-8gb"]["fits"]["llava-1.5-7b"] == []
    assert found["generic"]["fits"]["pocket"] is None
    assert found["generic"]["memory"] is None
    assert found["generic"]["compute_capability"] is None


def test_generic_alone_cannot_say_what_fits(d2: Caller) -> None:
    rows = [line.split() for line in d2("targets", "generic").out.splitlines()]
    assert ["memory", "?", "GB"] in rows
    assert [row[-2:] for row in rows if row[:2] == ["pocket", "fp16"]] == [["?", "?"]]


def test_only_the_precisions_of_the_target(d2: Caller, tmp_path: Path) -> None:
    profile = (ROOT / "engines" / "targets" / "l4.toml").read_text()
    mine = tmp_path / "mine.toml"
    mine.write_text(profile.replace('"bf16", "int8"', '"bf16"'))
    found = json.loads(d2("targets", mine, "--json").out)
    assert found["name"] == "mine"
    assert list(found["presets"]["pocket"]) == ["fp32", "fp16", "bf16"]


def test_this_machine(d2: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Device("NVIDIA A100-SXM4-80GB", (8, 0), 81920 * MIB, False)
    monkeypatch.setattr(cuda_driver, "devices", lambda: (gpu,))
    assert "memory              85.9 GB\n" in d2("targets", "auto").out
    monkeypatch.setattr(cuda_driver, "devices", lambda: ())
    assert d2.refused("targets", "auto", code=3) == (
        "--target auto: this machine has no NVIDIA GPU that CUDA sees\n"
        "  Pass --target NAME; `d2export targets` lists the names."
    )


def test_a_name_that_is_none(d2: Caller) -> None:
    message = d2.refused("targets", "jetson-nano")
    assert "Did you mean 'jetson-orin-nano-8gb'?" in message


@pytest.mark.parametrize("arguments", [(), ("h200",)])
def test_tiles_below_one(d2: Caller, arguments: tuple[str, ...]) -> None:
    message = d2.refused("targets", *arguments, "--tiles", 0)
    assert message.startswith("--tiles is 0, expected at least 1")


def test_the_table_in_the_document(d2: Caller) -> None:
    """It is what the command prints; print it again where this fails."""
    document = (ROOT / "docs" / "targets.md").read_text()
    assert d2("targets").out in document


def test_a_profile_in_the_document_is_one(tmp_path: Path) -> None:
    document = (ROOT / "docs" / "targets.md").read_text()
    profile = document.split("```toml\n")[1].split("```")[0]
    path = tmp_path / "documented.toml"
    path.write_text(profile)
    assert target(str(path)).compute_capability == (8, 6)
