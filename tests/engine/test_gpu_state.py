"""Clocks and power mode as the programs and files of real machines show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2export.engine.gpu_state import gpu_state


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that alone is on the PATH, besides the shell's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder: Path, name: str, body: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)


def test_a_card(programs: Path, tmp_path: Path) -> None:
    answer = "1980 MHz, 1980 MHz, 3201 MHz, P0, 700.00 W, 121.35 W, 38"
    program(programs, "nvidia-smi", f'echo "$@" > {tmp_path}/asked\necho "{answer}"')
    assert gpu_state("0000:17:00.0", tmp_path) == {
        "graphics clock": "1980 MHz",
        "largest graphics clock": "1980 MHz",
        "memory clock": "3201 MHz",
        "performance state": "P0",
        "power limit": "700.00 W",
        "power": "121.35 W",
        "temperature": "38",
    }
    asked = (tmp_path / "asked").read_text().split()
    assert asked[0] == "--id=0000:17:00.0"
    assert asked[1].startswith("--query-gpu=clocks.current.sm,clocks.max.sm,")
    assert asked[2] == "--format=csv,noheader"


def test_what_a_card_does_not_tell_is_unknown(programs: Path, tmp_path: Path) -> None:
    answer = "1980 MHz, [N/A], 3201 MHz, P0, [Unknown Error], 121.35 W, 38"
    program(programs, "nvidia-smi", f'echo "{answer}"')
    state = gpu_state("0000:17:00.0", tmp_path)
    assert (state["largest graphics clock"], state["power limit"]) == ("unknown", "unknown")
    assert state["power"] == "121.35 W"


@pytest.mark.parametrize("body", ["exit 9", "echo 'No devices were found'", None])
def test_a_program_that_fails_is_no_error(programs: Path, tmp_path: Path, body: str | None) -> None:
    if body is not None:
        program(programs, "nvidia-smi", body)
    assert set(gpu_state("0000:17:00.0", tmp_path).values()) == {"unknown"}


@pytest.mark.parametrize("name", ["17000000.gpu", "17000000.ga10b", "gpu-gpc-0"])
def test_a_module(programs: Path, tmp_path: Path, name: str) -> None:
    program(programs, "nvpmodel", "echo 'NVPM VERB: x'; echo 'NV Power Mode: MAXN'; echo 0")
    device = tmp_path / "class" / "devfreq" / name
    device.mkdir(parents=True)
    (tmp_path / "class" / "devfreq" / "15340000.vic").mkdir()
    for kind, hertz in {"cur": 930750000, "min": 306000000, "max": 1300500000}.items():
        (device / f"{kind}_freq").write_text(f"{hertz}\n")
    assert gpu_state(None, tmp_path) == {
        "power mode": "MAXN",
        "graphics clock": "931 MHz",
        "largest graphics clock": "1300 MHz",
        "clock held by jetson_clocks": "no",
    }
    (device / "min_freq").write_text("1300500000\n")
    assert gpu_state(None, tmp_path)["clock held by jetson_clocks"] == "yes"


def test_a_module_that_tells_nothing(programs: Path, tmp_path: Path) -> None:
    assert set(gpu_state(None, tmp_path).values()) == {"unknown"}
