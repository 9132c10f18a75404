"""A key changes with everything an engine depends on; what is damaged is not handed out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from d2export.engine.build_options import BuildOptions
from d2export.engine.cuda_driver import Device
from d2export.engine.engine_cache import EngineCache, cache_folder, engine_key, file_sha256
from d2export.errors import OutputError
from tests.engine.plans import decoder_graph, plan, vision_graph

ORIN = Device("Orin", (8, 7), 64 * 2**30, True)
KEY = "0" * 64


def key(**changes: Any) -> str:
    given: dict[str, Any] = {
        "plan": plan((10, 3)),
        "graph": b"graph",
        "weights": ["aa", "bb"],
        "tensorrt": "10.3.0.30",
        "device": ORIN,
        "plugin": None,
        **changes,
    }
    return engine_key(given.pop("plan"), **given)


def test_a_key_is_always_the_same() -> None:
    assert key() == key()
    assert key(weights=["bb", "aa"]) == key()
    timed = plan((10, 3), options=BuildOptions(timing_cache="timings"))
    assert key(plan=timed) == key()
    assert len(key()) == 64


def test_a_key_changes_with_everything(tmp_path: Path) -> None:
    for name in ("one.so", "two.so"):
        (tmp_path / name).write_text(name)
    others = [
        key(graph=b"another"),
        key(weights=["aa", "cc"]),
        key(weights=["aa"]),
        key(tensorrt="10.3.0.31"),
        key(device=replace(ORIN, name="NVIDIA H200")),
        key(device=replace(ORIN, compute_capability=(9, 0))),
        key(device=replace(ORIN, memory=32 * 2**30)),
        key(plugin=tmp_path / "one.so"),
        key(plugin=tmp_path / "two.so"),
        key(plan=plan((10, 4))),
        key(plan=plan((10, 3), decoder_graph())),
        key(plan=plan((10, 3), vision_graph("fp32"))),
        key(plan=plan((10, 3), options=BuildOptions(workspace=2**30))),
        key(plan=plan((10, 3), options=BuildOptions(optimization_level=4))),
        key(plan=plan((10, 3), options=BuildOptions(version_compatible=True))),
    ]
    assert len({key(), *others}) == len(others) + 1


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache")


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "vision.plan"
    path.write_bytes(b"engine")
    return path


def test_what_was_kept_is_fetched(cache: EngineCache, engine: Path, tmp_path: Path) -> None:
    assert cache.fetch(KEY, tmp_path / "new" / "vision.plan") is None
    cache.keep(KEY, engine, file_sha256(engine))
    assert cache.fetch(KEY, tmp_path / "new" / "vision.plan") == file_sha256(engine)
    assert (tmp_path / "new" / "vision.plan").read_bytes() == b"engine"
    assert cache.fetch("1" * 64, tmp_path / "other.plan") is None
    assert not (tmp_path / "other.plan").exists()


def test_an_engine_is_replaced(cache: EngineCache, engine: Path, tmp_path: Path) -> None:
    cache.keep(KEY, engine, file_sha256(engine))
    (tmp_path / "old.plan").write_bytes(b"older")
    cache.fetch(KEY, tmp_path / "old.plan")
    assert (tmp_path / "old.plan").read_bytes() == b"engine"


@pytest.mark.parametrize("damage", [b"", b"engin", b"Engine", None])
def test_what_is_damaged_is_none(
    damage: bytes | None, cache: EngineCache, engine: Path, tmp_path: Path
) -> None:
    cache.keep(KEY, engine, file_sha256(engine))
    kept = tmp_path / "cache" / f"{KEY}.plan"
    kept.unlink()
    if damage is not None:
        kept.write_bytes(damage)
    assert cache.fetch(KEY, tmp_path / "new.plan") is None
    cache.keep(KEY, engine, file_sha256(engine))
    assert cache.fetch(KEY, tmp_path / "new.plan") is not None


def test_half_a_cache_entry_is_none(cache: EngineCache, engine: Path, tmp_path: Path) -> None:
    """As a process leaves it that was killed before the digest was written."""
    cache.keep(KEY, engine, file_sha256(engine))
    (tmp_path / "cache" / f"{KEY}.sha256").unlink()
    assert cache.fetch(KEY, tmp_path / "new.plan") is None


def test_a_cache_that_cannot_be_written_is_no_error(engine: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    cache = EngineCache(tmp_path / "cache")
    cache.keep(KEY, engine, file_sha256(engine))
    assert cache.fetch(KEY, tmp_path / "new.plan") is None


def test_an_engine_that_cannot_be_placed(cache: EngineCache, engine: Path, tmp_path: Path) -> None:
    cache.keep(KEY, engine, file_sha256(engine))
    (tmp_path / "taken").write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot write .*vision\.plan"):
        cache.fetch(KEY, tmp_path / "taken" / "vision.plan")


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "d2export" / "engines"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder() == Path("/home/somebody/.cache/d2export/engines")
