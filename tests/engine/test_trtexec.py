"""The command line has the options that trtexec of the version has, and says what they cannot."""

from __future__ import annotations

import shlex

import pytest

from d2export.engine.build_options import BuildOptions
from d2export.engine.trtexec import differences, trtexec
from tests.engine import tensorrt_headers as headers
from tests.engine.plans import decoder_graph, plan, vision_graph

# Which major versions of trtexec know an option: samples/common/sampleOptions.cpp of the public
# repository at v8.6.1, v10.3.0, v10.13.0, v10.16 and v11.1.
KNOWN = {
    "onnx": (8, 10, 11),
    "saveEngine": (8, 10, 11),
    "minShapes": (8, 10, 11),
    "optShapes": (8, 10, 11),
    "maxShapes": (8, 10, 11),
    "profile": (10, 11),
    "fp16": (8, 10),
    "int8": (8, 10),
    "precisionConstraints": (8, 10),
    "stronglyTyped": (10, 11),
    "noTF32": (8, 10, 11),
    "memPoolSize": (8, 10, 11),
    "builderOptimizationLevel": (8, 10, 11),
    "tacticSources": (8, 10, 11),
    "hardwareCompatibilityLevel": (8, 10, 11),
    "versionCompatible": (8, 10, 11),
    "dynamicPlugins": (8, 10, 11),
    "setPluginsToSerialize": (8, 10, 11),
    "timingCacheFile": (8, 10, 11),
    "skipInference": (8, 10, 11),
}
EVERYTHING = BuildOptions(2**30, "timings", True, True, 5)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("options", [BuildOptions(), EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("version", headers.VERSIONS)
def test_its_options_are_known(version: str, options: BuildOptions, precision: str) -> None:
    numbers = headers.numbers(version)
    for graph in (vision_graph(precision), decoder_graph(precision)):
        name, *arguments = shlex.split(trtexec(plan(numbers, graph, options, "h100")))
        assert name == "trtexec"
        given = [argument.removeprefix("--").split("=")[0] for argument in arguments]
        assert [option for option in given if numbers[0] not in KNOWN.get(option, ())] == []


def test_a_whole_line() -> None:
    assert trtexec(plan((10, 3))) == (
        "trtexec --onnx=onnx/vision.tensorrt.onnx --saveEngine=engines/vision.plan --stronglyTyped "
        "--noTF32 --memPoolSize=workspace:8192 --builderOptimizationLevel=3 "
        "--dynamicPlugins=libd2export_plugin.so "
        "--minShapes=pixel_values:1x3x448x448,token_grid:256x2 "
        "--optShapes=pixel_values:13x3x448x448,token_grid:3328x2 "
        "--maxShapes=pixel_values:13x3x448x448,token_grid:3328x2 --skipInference"
    )


def test_the_options_that_were_asked_for() -> None:
    line = trtexec(plan((10, 13), options=EVERYTHING, name="h100"), plugin="plugins/x y.so")
    for option in (
        "--memPoolSize=workspace:1024",
        "--builderOptimizationLevel=5",
        "--hardwareCompatibilityLevel=ampere+",
        "--versionCompatible",
        "'--dynamicPlugins=plugins/x y.so'",
        "'--setPluginsToSerialize=plugins/x y.so'",
        "--timingCacheFile=timings",
    ):
        assert option in line


@pytest.mark.parametrize(
    ("version", "typing"),
    [
        ((8, 6), "--fp16 --precisionConstraints=obey --noTF32"),
        ((10, 16), "--stronglyTyped --noTF32"),
        ((11, 1), "--saveEngine=engines/vision.plan --noTF32"),
    ],
)
def test_types(version: tuple[int, ...], typing: str) -> None:
    assert typing in trtexec(plan(version))


def test_two_profiles_in_one_engine() -> None:
    line = trtexec(plan((10, 3), decoder_graph()))
    prefill, decode = line.split("--profile=0 ")[1].split("--profile=1 ")
    assert "--optShapes=input_ids:1x3392," in prefill
    assert "past_key_values.0.key:1x2x0x64" in prefill
    assert "--maxShapes=input_ids:1x1,image_embeds:0x896,visual_positions:0," in decode
    assert differences(plan((10, 3), decoder_graph())) == ()


def test_what_trtexec_8_cannot() -> None:
    found = plan((8, 6), decoder_graph())
    assert "--profile" not in trtexec(found)
    assert "--tacticSources=-CUBLAS,-CUBLAS_LT,-CUDNN" in trtexec(found)
    assert differences(found) == (
        "one optimization profile for prefill and decode, since it builds no more than one",
        "layers are not told to keep the types of the graph",
    )
