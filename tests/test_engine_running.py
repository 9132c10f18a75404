"""`check`, `bench` and `run` of engines, through polygraphy, with a TensorRT that is a stand-in."""

from __future__ import annotations

import ctypes
import gc
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from d2export.bundle.folder import ENGINE_LATENCY
from d2export.engine import cuda_driver
from d2export.engine.cuda_driver import Device
from d2export.engine.plugin import LIBRARY
from d2export.models.presets import INTERNVIT_300M, ModelSpec, TextSpec
from d2export.models.random_weights import write_random_checkpoint
from d2export.pipeline import ExportOptions, export
from d2export.verify.saved_latency import saved_latency
from tests.command import Answer, Caller, message_of
from tests.engine.stand_in_engines import ACTIVATIONS, build_cudart, compute_module, loaded
from tests.small_tokenizers import write_qwen2
from tests.test_engine_building import H100, ORIN, installed

VISION = replace(
    INTERNVIT_300M,
    image=replace(INTERNVIT_300M.image, size=56),
    hidden=64, layers=2, used_layers=2, heads=4, mlp=128,
)  # fmt: skip
TEXT = TextSpec("qwen2", 64, 3, 4, 2, 128, 512, 1e4, 512, 1e-6)
SPEC = ModelSpec("small", "internvl", None, VISION, TEXT, weight_dtype="F32")
VERSIONS = ("8.6.1", "10.3", "10.16", "11.1")
ENTRIES = b"getPluginCreators\0getCreators"  # no library is for both; this file is no library
KINDS: dict[str, dict[str, Any]] = {
    "vision": {"precision": "fp16"},
    "vlm": {"scope": "vlm"},
    "bf16": {"scope": "vlm", "precision": "bf16"},
}
ON_ENGINES = ("--provider", "tensorrt")
BENCH = (*ON_ENGINES, "--iterations", 2, "--warmup", 1)
Machine = Callable[..., Any]


@pytest.fixture(scope="module")
def cudart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_cudart(tmp_path_factory.mktemp("cuda"))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles of one small model, by what they are."""
    folder = tmp_path_factory.mktemp("bundles")
    checkpoint = folder / "checkpoint"
    write_random_checkpoint(SPEC, checkpoint, 0, scope="vlm")
    write_qwen2(checkpoint)

    Image.effect_noise((168, 56), 90).convert("RGB").save(folder / "noise.png")
    given = {"keep": "3", "images": (folder / "noise.png",)}
    for kind, options in KINDS.items():
        export(ExportOptions(str(checkpoint), **given, **options), folder / kind)
    return {kind: folder / kind for kind in KINDS}


@pytest.fixture
def gpu(cudart: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(cudart))
    for name in ("stand_in_used", "stand_in_most_used"):
        getattr(library, name).restype = ctypes.c_size_t
    library.stand_in_begin(0)
    return library


@pytest.fixture
def machine(
    gpu: ctypes.CDLL,
    cudart: Path,
    bundles: dict[str, Path],  # exported before there is a TensorRT
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Machine]:
    """`machine("10.3", device)`: this one has that TensorRT, that GPU and a plugin."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with ExitStack() as stack:

        def become(version: str = "10.3", device: Device = ORIN) -> Any:
            trt = compute_module(version, gpu)
            monkeypatch.setattr(cuda_driver, "devices", lambda *_: (device,))
            installed(monkeypatch, tmp_path / "installed", ENTRIES)
            stack.enter_context(loaded(trt, cudart, monkeypatch))
            return trt

        yield become


@pytest.fixture
def built(d2: Caller, bundles: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A bundle with engines of the machine."""

    def build(kind: str) -> Path:
        bundle = shutil.copytree(bundles[kind], tmp_path / "bundle")
        answer = d2("build", bundle, "--target", "auto", "--quiet")
        assert answer.code == 0, answer.err
        return bundle

    return build


def failed(answer: Answer) -> None:
    assert (answer.code, answer.last_line) == (1, "FAILED")


# Answers


@pytest.mark.parametrize("version", VERSIONS)
def test_engines_answer_what_pytorch_answers(
    d2: Caller, machine: Machine, built: Callable[[str], Path], version: str, gpu: ctypes.CDLL
) -> None:
    trt = machine(version)
    answer = d2("check", built("vlm"), *ON_ENGINES)
    assert (answer.code, answer.last_line) == (0, "PASSED"), answer
    assert f"TensorRT {version} fp32 (selection: TensorRT plugin) against PyTorch" in answer.out
    # A picture, a prompt in profile 0, seven more tokens in profile 1.
    assert trt.did.runs[:9] == [("vision", 0), ("decoder", 0), *[("decoder", 1)] * 7]
    assert trt.did.host_code == [False, False]
    gc.collect()
    assert gpu.stand_in_used() == 0


@pytest.mark.parametrize("kind", ["vision", "bf16"])
def test_other_bundles(
    d2: Caller, machine: Machine, built: Callable[[str], Path], kind: str
) -> None:
    machine("10.3")
    answer = d2("check", built(kind), *ON_ENGINES)
    assert (answer.code, answer.last_line) == (0, "PASSED"), answer


@pytest.mark.parametrize("output", ["image_embeds", "logits", "positions", "present.0.key"])
def test_an_engine_that_computes_something_else_fails(
    d2: Caller, machine: Machine, built: Callable[[str], Path], output: str
) -> None:
    trt = machine()
    bundle = built("vlm")
    trt.did.wrong = {output: -1}
    failed(d2("check", bundle, *ON_ENGINES))


def test_pytorch_is_asked_and_why_cannot_be_said(
    d2: Caller, machine: Machine, built: Callable[[str], Path]
) -> None:
    trt = machine()
    bundle = built("vision")
    answer = d2("check", bundle, "--pytorch", *ON_ENGINES)
    assert (answer.code, answer.last_line) == (0, "PASSED"), answer
    trt.did.wrong = {"kept_indices": 1}
    answer = d2("check", bundle, "--pytorch", *ON_ENGINES)
    failed(answer)
    assert "TensorRT 10.3 shows no values inside an engine" in answer.err


def test_an_answer_is_the_same(
    d2: Caller, machine: Machine, built: Callable[[str], Path], tmp_path: Path
) -> None:
    machine()
    bundle, picture = built("vlm"), tmp_path / "green.png"
    Image.new("RGB", (100, 60), "green").save(picture)
    asked = ("run", bundle, "--image", picture, "--prompt", "what is this?", "--json")
    asked = (*asked, "-o", tmp_path, "--max-new-tokens", 5)
    by_graphs, by_engines = json.loads(d2(*asked).out), json.loads(d2(*asked, *ON_ENGINES).out)
    assert by_engines["text"] == by_graphs["text"]


# Times


@pytest.mark.parametrize("version", ["8.6.1", "11.1"])
def test_bench(
    d2: Caller, machine: Machine, built: Callable[[str], Path], version: str, gpu: ctypes.CDLL
) -> None:
    machine(version)
    bundle = built("vlm")
    answer = d2("bench", bundle, "--tiles", 1, "--tiles", 2, "--json", *BENCH)
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert (found["backend"], found["gpu"]) == (f"TensorRT {version}", "Orin")
    one, two = found["sizes"]
    assert [(size["tiles"], size["visual_tokens"], size["kept"]) for size in (one, two)] == [
        (1, 4, 3),
        (2, 8, 3),
    ]
    assert set(one["stages"]) == {"vision", "prefill", "decode"}
    for times in one["stages"].values():
        assert all(times[way]["iterations"] == 2 for way in ("gpu", "graph", "host"))
        # A call copies besides what the engine does.
        assert times["host"]["min"] > times["gpu"]["min"] > 0
    # The stand-in says that the plugin's layer takes 2 ms, and the one before it 1 ms.
    assert two["stages"]["prefill"]["selection"]["median"] == 2
    assert two["stages"]["vision"]["why_no_selection"] == "no node of the plugin is in this engine"
    speed = two["tokens_per_second"]
    assert speed["host"] == pytest.approx(1e3 / two["stages"]["decode"]["host"]["mean"])
    assert set(speed) == {"host", "gpu", "graph"}
    assert gpu.stand_in_replays() == 2 * 3 * (1 + 2)
    assert found["memory"]["activations"] == 2 * ACTIVATIONS
    assert found["memory"]["taken"] > 0
    saved = saved_latency(bundle)
    assert saved is not None
    assert saved.gpu == "Orin"
    assert saved.milliseconds["decode engine, 2 tiles,"] == two["stages"]["decode"]["gpu"]["median"]


def test_bench_of_the_vision_graph_as_a_table(
    d2: Caller, machine: Machine, built: Callable[[str], Path]
) -> None:
    machine()
    bundle = built("vision")
    answer = d2("bench", bundle, *BENCH)
    assert answer.code == 0, answer.err
    rows = [line.split("  ")[0] for line in answer.out.splitlines()]
    assert rows[:2] == ["TensorRT 10.3 fp16 on Orin", "milliseconds"]
    assert rows[2:6] == [f"vision, {way}" for way in ("GPU", "CUDA graph", "host", "selection")]
    assert rows[6].startswith("GPU memory: ")
    assert rows[7].startswith("power mode: ")
    assert answer.last_line == f"Written to {bundle / ENGINE_LATENCY}."


def test_why_a_figure_is_missing(
    d2: Caller, machine: Machine, built: Callable[[str], Path], gpu: ctypes.CDLL
) -> None:
    trt = machine()
    bundle = built("vision")
    gpu.stand_in_begin(1)
    trt.did.says_layers = False
    answer = d2("bench", bundle, *BENCH)
    assert answer.code == 0, answer.err
    refused = "cudaStreamBeginCapture failed with 900: operation not permitted when capturing"
    assert f"vision, 1 tile: no CUDA graph: the CUDA runtime's {refused}\n" in answer.out
    assert "vision, 1 tile: no selection: TensorRT calls no layer node_d2prune" in answer.out
    assert "vision, CUDA graph" not in answer.out
    assert "vision, selection" not in answer.out

    gpu.stand_in_begin(0)
    trt.did.unknown_before = {"kept_indices"}
    answer = d2("bench", bundle, *BENCH)
    assert "no CUDA graph: the shape of kept_indices is not known before it runs\n" in answer.out


# What does not fit


def test_another_tensorrt_or_gpu_is_named_before_anything_is_read(
    d2: Caller, machine: Machine, built: Callable[[str], Path]
) -> None:
    machine("10.3")
    bundle = built("vlm")
    trt = machine("10.16", H100)
    message = message_of(d2("check", bundle, *ON_ENGINES), code=3)
    assert message.startswith(f"the engines of {bundle} do not run here\n")
    assert "were built by TensorRT 10.3, this machine has TensorRT 10.16\n" in message
    assert "built for a GPU Orin of compute capability 8.7 and 65.9 GB, this machine has" in message
    assert message.endswith(f"d2export build {bundle} --target auto")
    assert trt.did.host_code == []
    assert message_of(d2("bench", bundle, *BENCH), code=3) == message


def test_another_plugin_is_named_and_can_be_passed(
    d2: Caller, machine: Machine, built: Callable[[str], Path], tmp_path: Path
) -> None:
    machine()
    bundle = built("vlm")
    (tmp_path / "installed" / LIBRARY).open("ab").write(b"\0")
    message = message_of(d2("check", bundle, *ON_ENGINES), code=3)
    kept = bundle / "plugins" / LIBRARY
    assert f"the engines were built with the plugin {kept} (SHA-256 " in message
    assert f"If you trust this bundle, pass --plugin {kept}; " in message
    assert d2("check", bundle, *ON_ENGINES, "--plugin", kept).last_line == "PASSED"


def test_a_damaged_engine_is_not_read(
    d2: Caller, machine: Machine, built: Callable[[str], Path]
) -> None:
    trt = machine()
    bundle = built("vlm")
    engine = bundle / "engines" / "decoder.plan"
    content = bytearray(engine.read_bytes())
    content[-1] ^= 1
    engine.unlink()  # the cache has the same file
    engine.write_bytes(content)
    message = message_of(d2("check", bundle, *ON_ENGINES))
    assert message.startswith(f"{engine} was changed after the build: its SHA-256 is ")
    assert len(trt.did.host_code) == 1  # the vision engine
    engine.unlink()
    assert f"{engine} is missing" in message_of(d2("check", bundle, *ON_ENGINES))


def test_what_tensorrt_refuses_is_said(
    d2: Caller, machine: Machine, built: Callable[[str], Path]
) -> None:
    trt = machine()
    bundle = built("vision")
    trt.did.works = False
    message = message_of(d2("check", bundle, *ON_ENGINES), code=3)
    assert message.startswith(f"TensorRT 10.3 cannot run {bundle / 'engines' / 'vision.plan'}\n")
    assert "an illegal memory access was encountered" in message
    trt.did.reads = False
    message = message_of(d2("check", bundle, *ON_ENGINES), code=3)
    assert message.startswith("TensorRT 10.3 cannot read the engine ")
    assert "the engine plan file is not compatible" in message


def test_without_engines_and_without_a_runtime(
    d2: Caller,
    machine: Machine,
    built: Callable[[str], Path],
    bundles: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine()
    assert message_of(d2("check", bundles["vlm"], *ON_ENGINES)) == (
        f"{bundles['vlm']} has no engines\n"
        f"  On the device, run: d2export build {bundles['vlm']} --target auto"
    )
    bundle = built("vision")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "libcudart.so").write_bytes(b"none")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path / "empty"))
    monkeypatch.setattr("polygraphy.cuda.cuda.G_CUDA", None)
    message = message_of(d2("check", bundle, *ON_ENGINES), code=3)
    assert message.startswith("the CUDA runtime is missing: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check", *ON_ENGINES, "--per-layer"), "--per-layer looks inside a graph"),
        (
            ("check", *ON_ENGINES, "--max-drop", "2%"),
            "--max-drop compares with the same",
        ),
        (("check", *ON_ENGINES, "--threads", 2), "--threads has no effect with --provider ten"),
        (("bench", *ON_ENGINES, "--threads", 2), "--threads has no effect with --provider ten"),
        (("bench", *ON_ENGINES, "--tiles", 14), "--tiles is 14, expected 1 to 13\n"),
        (("bench", "--plugin", "x"), "--plugin has no effect with --provider cpu\n"),
        (("check", "--provider", "trt"), "--provider is 'trt', expected one of cpu, cuda"),
    ],
)
def test_what_was_typed_wrongly(
    d2: Caller, bundles: dict[str, Path], arguments: tuple[str, ...], message: str
) -> None:
    command, *options = arguments
    assert message_of(d2(command, bundles["vlm"], *options)).startswith(message)


def test_a_prompt_that_engines_do_not_take(
    d2: Caller, machine: Machine, built: Callable[[str], Path], tmp_path: Path
) -> None:
    """More pictures than a profile has visual tokens for."""
    machine()
    bundle, picture = built("vlm"), tmp_path / "green.png"
    Image.new("RGB", (336, 112), "green").save(picture)
    pictures = [word for _ in range(5) for word in ("--image", picture)]
    asked = ("run", bundle, *pictures, "--prompt", "what is this?", "-o", tmp_path)
    message = message_of(d2(*asked, *ON_ENGINES, "--max-new-tokens", 2))
    assert message.startswith("image_embeds has shape [")
    assert "the engine decoder.plan takes [0, 64] to [52, 64]" in message
