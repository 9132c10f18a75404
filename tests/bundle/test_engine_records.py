"""`plan.json` and `engines.json` are read as they were written, or refused with the place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from d2export.bundle.engine_records import (
    BUILT,
    PLAN,
    SCHEMA,
    BuiltEngine,
    BuiltEngines,
    Gpu,
    PlannedEngine,
    PlannedEngines,
    read_built,
    read_planned,
    write_record,
)
from d2export.bundle.folder import Bundle, read_bundle
from d2export.bundle.records import Tool
from d2export.engine.build_options import BuildOptions
from d2export.engine.targets import target, targets
from d2export.errors import BundleError
from tests.engine.plans import decoder_graph, plan, vision_graph

TOOL = Tool("d2export", "1.0")


@pytest.fixture
def bundle(small_bundle: Path, tmp_path: Path) -> Bundle:
    return read_bundle(shutil.copytree(small_bundle, tmp_path / "bundle"), verify=False)


def planned(name: str, version: tuple[int, ...], options: BuildOptions) -> PlannedEngines:
    plans = [plan(version, graph, options, name) for graph in (vision_graph(), decoder_graph())]
    engines = tuple(PlannedEngine(one, "trtexec ...", ("one profile",)) for one in plans)
    return PlannedEngines(SCHEMA, TOOL, target(name), options, engines)


@pytest.mark.parametrize("name", targets())
def test_a_plan_is_read_as_it_was_written(name: str, bundle: Bundle) -> None:
    assert read_planned(bundle) is None
    options = BuildOptions(2**30, "timings", version_compatible=True, optimization_level=5)
    record = planned(name, target(name).tensorrt.expected, options)
    write_record(bundle.path(PLAN), record)
    assert read_planned(bundle) == record


def test_engines_are_read_as_they_were_written(bundle: Bundle) -> None:
    assert read_built(bundle) is None
    engine = BuiltEngine("vision", "engines/vision.plan", 5, "a" * 64, "b" * 64, 1.5)
    gpu = Gpu("Orin", (8, 7), 2**36)
    record = BuiltEngines(SCHEMA, TOOL, "generic", "10.3.0.30", gpu, None, (engine,))
    write_record(bundle.path(BUILT), record)
    assert read_built(bundle) == record


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("schema",), 2, "schema is 2, expected 1"),
        (("options", "optimization_level"), "3", 'options.optimization_level is "3", expected'),
        (("engines", 0, "plan", "memory_pools"), [], "engines[0].plan.memory_pools is "),
        (("target", "clock"), 1, "target.clock is "),
    ],
)
def test_what_is_wrong_is_named(
    place: tuple[str | int, ...], value: object, message: str, bundle: Bundle
) -> None:
    path = bundle.path(PLAN)
    write_record(path, planned("h100", (10, 16), BuildOptions()))
    content = json.loads(path.read_text())
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text(json.dumps(content))
    with pytest.raises(BundleError) as raised:
        read_planned(bundle)
    assert f"plan.json: {message}" in raised.value.problem


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_what_is_no_json(content: bytes, bundle: Bundle) -> None:
    bundle.path(BUILT).parent.mkdir()
    bundle.path(BUILT).write_bytes(content)
    with pytest.raises(BundleError, match=r"engines\.json"):
        read_built(bundle)


def test_a_path_that_leads_out_of_the_bundle(bundle: Bundle) -> None:
    engine = BuiltEngine("vision", "engines/vision.plan", 5, "a" * 64, "b" * 64, 1.5)
    gpu = Gpu("Orin", (8, 7), 2**36)
    record = BuiltEngines(SCHEMA, TOOL, "generic", "10.3", gpu, None, (engine,))
    write_record(bundle.path(BUILT), record)
    text = bundle.path(BUILT).read_text().replace("engines/vision.plan", "../vision.plan")
    bundle.path(BUILT).write_text(text)
    with pytest.raises(BundleError, match=r"engines\[0\]\.path is "):
        read_built(bundle)
