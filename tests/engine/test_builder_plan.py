"""Every name in a plan is one that its TensorRT has; every misfit is named with its remedy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from d2export.engine.build_options import BuildOptions, parse_bytes
from d2export.engine.builder_plan import EnginePlan, plan_engine
from d2export.engine.target import MIB
from d2export.engine.targets import target, targets
from d2export.engine.tensorrt_api import APIS, api_of, parse_version
from d2export.errors import D2ExportError, EnvironmentMismatch, UsageError
from tests.engine import tensorrt_headers as headers
from tests.engine.plans import decoder_graph, plan, vision_graph
from tests.plugins.drivers import ROOT
from tests.plugins.test_tensorrt import REGISTRIES

EVERYTHING = BuildOptions(
    workspace=2**30,
    timing_cache="timings",
    hardware_compatible=True,
    version_compatible=True,
    optimization_level=5,
)

MEMBERS = """
import json, sys
sys.path.insert(0, sys.argv[1])
import tensorrt_lean_bindings as trt
print(json.dumps({name: list(getattr(trt, name).__members__) for name in sys.argv[2:]}))
"""


def names_of(found: EnginePlan) -> dict[str, set[str]]:
    """The names in a plan, by the enum that they belong to."""
    return {
        "NetworkDefinitionCreationFlag": set(found.network_flags),
        "BuilderFlag": {*found.builder_flags, *found.cleared_flags},
        "PreviewFeature": set(found.preview_features),
        "TacticSource": set(found.tactic_sources),
        "MemoryPoolType": set(found.memory_pools),
        "HardwareCompatibilityLevel": {found.hardware_compatibility},
    }


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
@pytest.mark.parametrize("options", [BuildOptions(), EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("version", headers.VERSIONS)
def test_names_are_those_of_the_headers(
    version: str, options: BuildOptions, precision: str
) -> None:
    declared = headers.enums(version)
    numbers = headers.numbers(version)
    if precision not in api_of(numbers).precision_flags:
        with pytest.raises(EnvironmentMismatch, match=f"TensorRT {version} has no {precision}"):
            plan(numbers, vision_graph(precision), options, "h100")
        return
    found = plan(numbers, vision_graph(precision), options, "h100")
    for enum, names in names_of(found).items():
        assert names <= set(declared[enum]), enum


@pytest.mark.parametrize("version", REGISTRIES)
def test_names_are_those_of_python(version: str) -> None:
    """TensorRT's lean runtime has the builder's enums, too, but for those of networks."""
    folder = ROOT / "build" / f"tensorrt-lean-{version}"
    if not folder.is_dir():
        pytest.skip(f"tensorrt-lean {version}: tests/plugins/test_tensorrt.py installs it")
    found = names_of(plan(parse_version(version), options=EVERYTHING, name="h100"))
    del found["NetworkDefinitionCreationFlag"]
    done = subprocess.run(
        [sys.executable, "-c", MEMBERS, folder, *found], capture_output=True, text=True, check=True
    )
    members = json.loads(done.stdout)
    for enum, names in found.items():
        assert names <= set(members[enum]), enum


@pytest.mark.parametrize("version", headers.VERSIONS)
def test_a_name_that_is_gone_would_be_found(version: str) -> None:
    """The header parser sees what moved between 8.6, 10 and 11, so that the test above can fail."""
    found, major = headers.enums(version), headers.numbers(version)[0]
    network = set(found["NetworkDefinitionCreationFlag"])
    assert ("EXPLICIT_BATCH" in network) == (major < 11)
    assert ("STRONGLY_TYPED" in network) == (major >= 10)
    assert ("FP16" in found["BuilderFlag"]) == (major < 11)
    assert ("CUBLAS" in found["TacticSource"]) == (major < 11)
    assert found["MemoryPoolType"][0] == "WORKSPACE"
    assert found["HardwareCompatibilityLevel"][:2] == ("NONE", "AMPERE_PLUS")


@pytest.mark.parametrize("version", headers.VERSIONS)
def test_what_the_plan_relies_on_is_said_in_the_headers(version: str) -> None:
    text = headers.text(version)
    assert "0 <= minDims.d[i] <= optDims.d[i] <= maxDims.d[i]" in text
    assert "default optimization level is 3" in text
    assert "the plugin libraries to be serialized with version-compatible engines" in text
    api = api_of(headers.numbers(version))
    assert api.progress == ("class IProgressMonitor" in text)


@pytest.mark.parametrize(
    ("version", "network", "flags"),
    [
        ((8, 6, 2), ("EXPLICIT_BATCH",), ("FP16", "OBEY_PRECISION_CONSTRAINTS")),
        ((10, 3, 0), ("STRONGLY_TYPED",), ()),
        ((10, 16, 1), ("STRONGLY_TYPED",), ()),
        ((11, 4, 1), (), ()),
    ],
)
def test_half_precision_is_asked_for_as_the_version_wants(
    version: tuple[int, ...], network: tuple[str, ...], flags: tuple[str, ...]
) -> None:
    found = plan(version)
    assert found.network_flags == network
    assert found.builder_flags == flags
    assert found.cleared_flags == ("TF32",)
    assert found.pins_layer_types == (version[0] == 8)
    assert found.progress_monitor == (version[0] >= 10)


def test_what_is_not_asked_for_is_as_the_target_says() -> None:
    found = plan((10, 3))
    assert found.memory_pools == {"WORKSPACE": 8192 * MIB}
    assert found.optimization_level == 3
    assert found.hardware_compatibility == "NONE"
    assert found.timing_cache is None
    assert found.engine == "engines/vision.plan"
    assert found.plugin is not None
    assert found.plugin.ops == ("D2Prune",)
    assert not found.plugin.serialized


def test_what_is_asked_for() -> None:
    found = plan((10, 13), options=EVERYTHING, name="h100")
    assert found.memory_pools == {"WORKSPACE": 2**30}
    assert found.optimization_level == 5
    assert found.hardware_compatibility == "AMPERE_PLUS"
    assert found.builder_flags == ("VERSION_COMPATIBLE",)
    assert found.timing_cache == "timings"
    assert found.plugin is not None
    assert found.plugin.serialized


def test_single_precision_needs_no_pinned_types() -> None:
    assert not plan((8, 6), vision_graph("fp32")).pins_layer_types


def test_both_profiles_are_in_one_engine() -> None:
    assert [profile.name for profile in plan((10, 3), decoder_graph()).profiles] == [
        "prefill",
        "decode",
    ]


@pytest.mark.parametrize(
    ("version", "opset"), [((8, 6), 17), ((10, 3), 20), ((10, 13), 20), ((10, 16), 24), ((11,), 24)]
)
def test_a_graph_that_the_parser_does_not_read_is_refused(
    version: tuple[int, ...], opset: int
) -> None:
    assert plan(version, vision_graph(opset=opset)).graph == "vision"
    with pytest.raises(EnvironmentMismatch) as raised:
        plan(version, vision_graph(opset=opset + 1))
    assert f"has opset {opset + 1}, TensorRT " in raised.value.problem
    assert raised.value.hint == f"Export again with --opset {opset}."


@pytest.mark.parametrize("name", targets())
def test_targets_have_the_opset_of_the_tensorrt_to_expect(name: str) -> None:
    found = target(name)
    assert found.opset == api_of(found.tensorrt.expected).opset


MISFITS = [
    ((9, 2), "h100", BuildOptions(), "TensorRT 9.2 is not supported, expected 8.6, 10 or 11"),
    ((8, 5), "h100", BuildOptions(), "TensorRT 8.5 is not one that h100 can have: 8.6 to 11"),
    ((10, 3), "jetson-thor", BuildOptions(), "TensorRT 10.3 is not one that jetson-thor can have"),
    (
        (10, 3),
        "jetson-orin-nano-8gb",
        BuildOptions(workspace=2**40),
        "--workspace is 1099511627776 bytes, jetson-orin-nano-8gb has ",
    ),
    (
        (10, 3),
        "jetson-orin-nano-8gb",
        BuildOptions(hardware_compatible=True),
        "--hw-compat is for graphics cards; jetson-orin-nano-8gb shares its memory",
    ),
]


@pytest.mark.parametrize(("version", "name", "options", "problem"), MISFITS)
def test_what_does_not_fit_is_named(
    version: tuple[int, ...], name: str, options: BuildOptions, problem: str
) -> None:
    with pytest.raises(D2ExportError) as raised:
        plan_engine(vision_graph(), target(name), version, options)
    assert raised.value.exit_code == 3
    assert raised.value.problem.startswith(problem)
    assert raised.value.hint


def test_an_old_card_has_no_compatible_engines(tmp_path: Path) -> None:
    profile = (ROOT / "engines/targets/l4.toml").read_text().replace('"8.9"', '"7.5"')
    (tmp_path / "t4.toml").write_text(profile.replace(', "bf16"', ""))
    with pytest.raises(EnvironmentMismatch, match=r"--hw-compat needs compute capability 8\.0, t4"):
        plan((10, 3), options=BuildOptions(hardware_compatible=True), name=f"{tmp_path}/t4.toml")
    with pytest.raises(EnvironmentMismatch, match="t4 has no bf16, only fp32, fp16, int8"):
        plan((10, 3), vision_graph("bf16"), name=f"{tmp_path}/t4.toml")


def test_rows_ascend() -> None:
    assert [api.since for api in APIS] == sorted(api.since for api in APIS)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("10.3.0", (10, 3, 0)), ("8.6.1.post1", (8, 6, 1)), ("11.4.0.106", (11, 4, 0, 106))],
)
def test_versions(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_version(text) == numbers


@pytest.mark.parametrize(
    ("text", "size"),
    [("4G", 4 << 30), ("512M", 512 << 20), ("1.5g", 3 << 29), ("65536", 65536), ("2GiB", 2 << 30)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes("--workspace", text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "4T", "0", "4 G 4", "1e9"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(
        UsageError, match=r"--workspace is '.*', expected a size such as 512M or 4G"
    ):
        parse_bytes("--workspace", text)


@pytest.mark.parametrize("level", [-1, 6])
def test_what_is_no_optimization_level(level: int) -> None:
    with pytest.raises(UsageError, match=f"--opt-level is {level}, expected 0 to 5"):
        BuildOptions(optimization_level=level)
