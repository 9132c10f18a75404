"""INT8 from pictures to answers: what is measured, how exact the graphs are, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from d2export.bundle.folder import ENGINE_LATENCY, Bundle, read_bundle
from d2export.calibration.int8 import calibrate_int8
from d2export.calibration.int8_inputs import FEWEST_PICTURES
from d2export.calibration.int8_scales import read_scales
from d2export.calibration.int8_settings import Settings
from d2export.errors import BundleError, UsageError
from d2export.evaluation.versus import Versus
from d2export.models.images import load_image
from d2export.models.presets import POCKET_VIT, ModelSpec, TextSpec
from d2export.models.random_weights import write_random_checkpoint
from d2export.models.tiling import normalize, tile
from d2export.options import ExportOptions
from d2export.pipeline import export
from d2export.report.rivals import rivals_among
from d2export.runtime.generate import Generator, kept_per_image
from d2export.runtime.vision import VisionRunner
from d2export.session import check
from d2export.verify.saved_latency import SavedLatency
from tests.command import Caller, names
from tests.small_checkpoints import write_small_checkpoint
from tests.small_tokenizers import write_qwen2

PICTURES = 12
CLIP = Settings(keep_fp16_below=37.7)
TEXT = TextSpec("qwen2", 48, 4, 4, 2, 96, 420, 1e4, 4096, 1e-6)
VISION = replace(
    POCKET_VIT,
    image=replace(POCKET_VIT.image, size=56),
    patch=14,
    hidden=48,
    layers=2,
    used_layers=2,
    heads=4,
    mlp=96,
)


def draw(folder: Path, count: int, seed: int) -> Path:
    """Squares of a few smooth colours."""
    folder.mkdir()
    random = np.random.default_rng(seed)
    for index in range(count):
        noise = Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        noise.resize((56, 56), Image.Resampling.BICUBIC).save(folder / f"{index:02}.png")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("int8") / "pictures", PICTURES, 0)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures that nothing was calibrated on."""
    return sorted(draw(tmp_path_factory.mktemp("int8") / "others", 10, 1).iterdir())


@dataclass
class Pair:
    """A bundle in FP32 and in INT8, and the scales between them."""

    exact: Bundle
    narrow: Bundle
    scales: Path


def pair(folder: Path, pictures: Path, settings: Settings | None = None, **options: Any) -> Pair:
    shown = tuple(sorted(pictures.iterdir())[:4])
    export(ExportOptions(images=shown, **options), folder / "fp32")
    scales = folder / "scales.json"
    calibrate_int8(folder / "fp32", pictures, scales, settings=settings)
    narrow = ExportOptions(images=shown, precision="int8", scales=scales, **options)
    export(narrow, folder / "int8")
    return Pair(read_bundle(folder / "fp32"), read_bundle(folder / "int8"), scales)


@pytest.fixture(scope="module")
def internvl(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """InternVL in miniature, the whole model, 16 tokens a picture, pruned inside."""
    folder = tmp_path_factory.mktemp("internvl")
    spec = ModelSpec("little", "internvl", None, VISION, TEXT, "F32")
    write_random_checkpoint(spec, folder / "little", 0, scope="vlm")
    write_qwen2(folder / "little")
    return pair(folder, pictures, model=str(folder / "little"), scope="vlm", keep="6")


@pytest.fixture(scope="module")
def llava(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """CLIP in miniature, 16 tokens a picture, pruned by its CLS token.

    Its weights are random, and nothing scales its branches down, as InternViT's do: each product
    has 36 to 41 dB, and what nine of them in a row leave is 29. Without the three least exact
    ones it is 31.
    """
    folder = tmp_path_factory.mktemp("llava")
    checkpoint = write_small_checkpoint(folder / "checkpoint", "llava")
    return pair(folder, pictures, CLIP, model=str(checkpoint), keep="6")


def decibels(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    signal = sum(float(np.square(exact, dtype=np.float64).sum()) for exact, _ in pairs)
    noise = sum(
        float(np.square(exact - narrow.astype(np.float64)).sum()) for exact, narrow in pairs
    )
    return 10 * np.log10(signal / noise)


# --- How exact ------------------------------------------------------------------------------------


def test_internvl_embeddings_and_kept_tokens(internvl: Pair, others: list[Path]) -> None:
    exact, narrow = Generator(internvl.exact), Generator(internvl.narrow)
    embeds, common, kept = [], 0, 0
    for path in others:
        answers = [look(generator, path) for generator in (exact, narrow)]
        embeds.append((answers[0][0], answers[1][0]))
        common += len(answers[0][1] & answers[1][1])
        kept += len(answers[0][1])
    assert kept == 6 * len(others)
    assert decibels(embeds) >= 30
    assert common >= 0.95 * kept


def look(generator: Generator, path: Path) -> tuple[np.ndarray, set[int]]:
    """Visual tokens, and which of them survive in the language model."""
    cut = tile(load_image(path), generator.bundle.manifest.model.vision)
    encoded = generator.tokenizer.encode("What is this?", [len(cut.grid)])
    prompt = generator.see(encoded, [cut.pixels], [cut.grid])
    step = generator.decoder.prefill(generator.decoder.start(), prompt)
    (kept,) = kept_per_image(encoded, step.positions)
    return prompt.image_embeds, set(kept.tolist())


def test_clip_embeddings_and_kept_tokens(llava: Pair, others: list[Path]) -> None:
    exact, narrow = VisionRunner(llava.exact), VisionRunner(llava.narrow)
    embeds, common, kept = [], 0, 0
    for path in others:
        cut = tile(load_image(path), llava.exact.manifest.model.vision)
        (ours, here), (theirs, there) = (
            runner.infer(runner.inputs(cut)) for runner in (exact, narrow)
        )
        both, left, right = np.intersect1d(here, there, return_indices=True)
        embeds.append((ours[left], theirs[right]))
        common, kept = common + len(both), kept + len(here)
    assert decibels(embeds) >= 30
    assert common >= 0.95 * kept


def test_every_layer_of_a_decoder(internvl: Pair, others: list[Path]) -> None:
    """States behind each layer, given the same tokens; below K, where none is missing."""
    generators = Generator(internvl.exact), Generator(internvl.narrow)
    cut = tile(load_image(others[0]), internvl.exact.manifest.model.vision)
    states = []
    for generator in generators:
        encoded = generator.tokenizer.encode("What is this?", [len(cut.grid)])
        prompt = generators[0].see(encoded, [cut.pixels], [cut.grid])
        session = generator.decoder.open(("layers.0", "layers.1"))
        wanted = {value.name for value in session.get_inputs()}
        feeds = generator.decoder.feeds(prompt) | generator.decoder.nothing_before()
        states.append(session.run(None, {name: feeds[name] for name in wanted}))
    for exact, narrow in zip(*states, strict=True):
        assert 30 <= decibels([(exact, narrow)]) < 80  # and INT8 it is


def test_the_bundle_passes_its_check(internvl: Pair, llava: Pair) -> None:
    for both in (internvl, llava):
        report = check(both.narrow.root)
        assert report.passed
        manifest = both.narrow.manifest
        assert (manifest.precision, manifest.weights.mode) == ("int8", "copied")
        assert manifest.quantization is not None
        assert manifest.quantization.int8 == len(read_scales(both.scales).narrow)
        assert both.narrow.path(manifest.quantization.path).read_bytes() == both.scales.read_bytes()


def test_a_bundle_in_int8_is_smaller(internvl: Pair) -> None:
    sizes = [
        sum(file.stat().st_size for file in (both.root / "onnx").glob("*.safetensors"))
        for both in (internvl.exact, internvl.narrow)
    ]
    assert sizes[1] < 0.6 * sizes[0]


# --- What is measured -----------------------------------------------------------------------------


def test_an_evaluation_sets_both_beside_each_other(internvl: Pair, llava: Pair) -> None:
    bundles = [internvl.exact, llava.exact, internvl.narrow]
    ((narrow, wide),) = rivals_among(bundles)
    assert (narrow.precision, wide.precision) == ("int8", "fp32")
    assert narrow.group != wide.group
    assert narrow.bytes < wide.bytes
    assert rivals_among(bundles[:2]) == []


def test_times_of_engines_count_where_both_have_them(internvl: Pair, tmp_path: Path) -> None:
    bundles = (internvl.exact, internvl.narrow)
    paths = [Path(shutil.copytree(one.root, tmp_path / one.root.name)) for one in bundles]
    for folder, time in zip(paths, (2.0, 3.0), strict=True):
        ((before, _),) = rivals_among([read_bundle(path) for path in paths])
        assert before.where.keys() != {"gpu", "backend"}
        saved = SavedLatency("TensorRT 10.3.0", "Orin", {"vision engine, 1 tile,": time})
        (folder / ENGINE_LATENCY).write_text(json.dumps(asdict(saved)))
    ((narrow, wide),) = rivals_among([read_bundle(path) for path in paths])
    assert narrow.where == wide.where == {"gpu": "Orin", "backend": "TensorRT 10.3.0"}
    assert (
        "INT8 is slower, it loses: vision engine, 1 tile, takes 3 ms against 2 ms."
        in Versus(narrow, wide, ()).verdict()
    )
    (paths[0] / ENGINE_LATENCY).write_text("{}")
    with pytest.raises(BundleError, match=r"engine-latency\.json cannot be read"):
        rivals_among([read_bundle(path) for path in paths])


def test_every_product_has_an_error_and_a_range(internvl: Pair) -> None:
    scales = read_scales(internvl.scales)
    assert len(scales.products) == 1 + 2 * 6 + 2 + 4 * 7
    for name, product in scales.products.items():
        assert product.range > 0
        assert product.sqnr_db is not None
        assert 25 < product.sqnr_db < 60, name
    assert (scales.pictures.count, scales.tiles) == (PICTURES, PICTURES)
    assert scales.prompts is not None
    assert scales.prompts.count == 1


def test_a_range_is_what_the_graph_was_seen_to_compute(llava: Pair, pictures: Path, tmp_path: Path):
    found = calibrate_int8(
        llava.exact.root, pictures, tmp_path / "max.json", settings=Settings("max", alpha=None)
    ).scales
    seen = [
        normalize(
            tile(load_image(path), llava.exact.manifest.model.vision).pixels,
            llava.exact.manifest.model.vision.image,
        )
        for path in sorted(pictures.iterdir())
    ]
    assert found.products["tower.patch_embedding"].range == max(np.abs(x).max() for x in seen)
    assert not found.smoothing


def test_the_same_pictures_give_the_same_file(llava: Pair, pictures: Path, tmp_path: Path) -> None:
    again = calibrate_int8(llava.exact.root, pictures, tmp_path / "again.json", settings=CLIP)
    assert again.path.read_bytes() == llava.scales.read_bytes()


def test_products_with_large_errors_stay(
    d2: Caller, llava: Pair, pictures: Path, tmp_path: Path
) -> None:
    errors = {n: p.sqnr_db for n, p in read_scales(llava.scales).products.items()}
    limit = float(np.median(list(errors.values())))
    out = tmp_path / "scales.json"
    answer = d2(
        *("calibrate", "int8", llava.exact.root, "--images", pictures, "-o", out, "--json"),
        *("--keep-fp16-below", limit),
    )
    assert answer.code == 0, answer.err
    stay = {name for name, error in errors.items() if error < limit}
    assert json.loads(answer.out)["int8"] == len(errors) - len(stay)
    assert set(read_scales(out).quantization.ranges) == errors.keys() - stay


def test_a_prompt_with_its_answer_is_what_was_read_step_by_step(
    internvl: Pair, others: list[Path]
) -> None:
    generator = Generator(internvl.exact, attributes={"keep": 0, "keep_permille": 1000})
    decoder, cut = generator.decoder, tile(load_image(others[0]), VISION)
    encoded = generator.tokenizer.encode("What is it?", [len(cut.grid)])
    prompt, answer = generator.see(encoded, [cut.pixels], [cut.grid]), [7, 300, 12]
    sequence = decoder.start()
    decoder.prefill(sequence, prompt)
    for token in answer:
        stepwise = decoder.step(sequence, token)
    at_once = decoder.prefill(decoder.start(), prompt.followed_by(answer))
    np.testing.assert_allclose(at_once.logits, stepwise.logits, rtol=0, atol=1e-5)
    assert at_once.positions.tolist() == list(range(len(encoded.input_ids) + len(answer)))


def test_answers_are_measured_too(internvl: Pair, pictures: Path, tmp_path: Path) -> None:
    """Numbers and brackets of an answer may be larger than anything in a prompt."""
    ranges = {}
    for count in (0, 16):
        settings = Settings("max", alpha=None, answer_tokens=count)
        path = tmp_path / f"{count}.json"
        found = calibrate_int8(internvl.exact.root, pictures, path, settings=settings)
        assert read_scales(path).answer_tokens == count
        ranges[count] = {name: product.range for name, product in found.scales.products.items()}
    wider = {name for name, most in ranges[16].items() if most > ranges[0][name]}
    assert wider
    assert all(name.startswith("text.") for name in wider)


# --- What is refused ------------------------------------------------------------------------------


def test_pictures_that_will_not_do(d2: Caller, llava: Pair, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "scales.json"

    def refused(images: Path, *options: object, of: Path = llava.exact.root) -> str:
        message = d2.refused("calibrate", "int8", of, "--images", images, "-o", out, *options)
        assert not out.exists()
        return message

    empty = tmp_path / "empty"
    empty.mkdir()
    assert refused(empty).startswith(f"{empty} holds no pictures")
    assert refused(pictures, "--limit", 3).startswith(
        f"{pictures} has 3 pictures to calibrate on, equal ones counted once, expected at least "
        f"{FEWEST_PICTURES}"
    )
    same = tmp_path / "same"
    same.mkdir()
    for index in range(PICTURES):
        shutil.copy(pictures / "00.png", same / f"{index}.png")
    assert refused(same).startswith(
        f"{same} has 1 picture to calibrate on, equal ones counted once, expected at least 8"
    )
    broken = shutil.copytree(pictures, tmp_path / "broken")
    (broken / "03.png").write_bytes(b"no picture")
    assert refused(broken).startswith(
        f"1 of {PICTURES} pictures in {broken} cannot be read: 03.png\n"
    )
    assert refused(pictures, of=llava.narrow.root).startswith(
        f"{llava.narrow.root} has precision int8, expected fp32"
    )
    assert refused(pictures, "--prompts", out).startswith(f"--prompts is {out}, but ")
    assert refused(pictures, "--method", "mean").startswith("--method is 'mean', expected one of")
    assert refused(pictures, "--alpha", 2).startswith("--alpha is 2, expected 0 to 1")
    assert refused(pictures, "--percentile", 0).startswith("--percentile is 0, expected above 0")
    assert refused(pictures, "--answer-tokens", -1).startswith("--answer-tokens is -1, expected")
    assert refused(pictures, "--keep-fp16-below", -1).startswith("--keep-fp16-below is -1, ")


def test_an_output_that_is_there(d2: Caller, llava: Pair, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "scales.json"
    out.write_text("precious")
    command = ("calibrate", "int8", llava.exact.root, "--images", pictures, "-o")
    assert d2.refused(*command, out).startswith(f"output {out} exists\n")
    assert d2.refused(*command, tmp_path).startswith(f"output {tmp_path} is a folder\n")
    assert out.read_text() == "precious"


def test_prompts_that_will_not_do(
    d2: Caller, internvl: Pair, pictures: Path, tmp_path: Path
) -> None:
    command = ("calibrate", "int8", internvl.exact.root, "--images", pictures, "-o", tmp_path / "s")
    missing, empty = tmp_path / "missing.txt", tmp_path / "empty.txt"
    empty.write_text("\n  \n")
    assert d2.refused(*command, "--prompts", missing).startswith(f"cannot read prompts {missing}: ")
    assert d2.refused(*command, "--prompts", empty).startswith(f"{empty} has no prompts\n")


def test_scales_of_another_model(llava: Pair, internvl: Pair, tmp_path: Path) -> None:
    other = write_small_checkpoint(tmp_path / "checkpoint", "llava", seed=1)

    def refused(scales: Path) -> str:
        options = ExportOptions(str(other), precision="int8", scales=scales, keep="6")
        with pytest.raises(UsageError) as caught:
            export(options, tmp_path / "out")
        assert names(tmp_path) == ["checkpoint"]
        return caught.value.problem

    assert refused(llava.scales) == (
        f"scales {llava.scales} were measured on other weights ('checkpoint'): that of "
        "'tower.patch_embedding' is not this model's"
    )
    assert "were measured on" in refused(internvl.scales)


EDITS: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda d: d.update(format="other"), "is no file of scales: 'format' is not"),
    (lambda d: d.update(version=2), "have version 2, this d2export reads 1"),
    (lambda d: d.pop("method"), "are damaged: method is missing"),
    (lambda d: d.update(extra=1), "are damaged: extra is an unknown key"),
    (lambda d: d["products"]["projector.linear1"].update(range=-1), "range is -1, expected a"),
    (lambda d: d["smoothing"].update(x=[99]), "smoothing.x[0] is 99, expected a number from -24"),
]


@pytest.mark.parametrize(("edit", "problem"), EDITS, ids=[problem for _, problem in EDITS])
def test_damaged_scales(
    llava: Pair, tmp_path: Path, edit: Callable[[dict[str, Any]], object], problem: str
) -> None:
    document = json.loads(llava.scales.read_text())
    edit(document)
    path = tmp_path / "scales.json"
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError) as caught:
        read_scales(path)
    assert problem in caught.value.problem


def test_options_that_do_not_go_together(tmp_path: Path) -> None:
    def refused(**options: Any) -> str:
        with pytest.raises(UsageError) as caught:
            ExportOptions("pocket", **options)
        return caught.value.problem

    path = tmp_path / "x"
    assert refused(precision="int8").startswith("--precision int8 needs scales, and neither")
    assert refused(precision="int8", scales=path, calib=path).endswith("are both given")
    assert refused(precision="fp16", calib=path) == "--calib goes with --precision int8, not fp16"
    assert refused(precision="int8", calib=path, prompts=path).startswith("--prompts goes with")


def test_pytorch_is_not_asked_with_int8_weights(d2: Caller, llava: Pair) -> None:
    message = d2.refused("check", llava.narrow.root, "--pytorch")
    assert "has INT8 weights, which PyTorch cannot be asked with\n  Check against" in message


def test_pictures_are_looked_at_before_the_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    options = ExportOptions("no-such-model", precision="int8", calib=tmp_path / "empty")
    with pytest.raises(UsageError, match="holds no pictures"):
        export(options, tmp_path / "out")


# --- In one go ------------------------------------------------------------------------------------


def test_calib_measures_before_it_builds(
    d2: Caller, llava: Pair, pictures: Path, tmp_path: Path
) -> None:
    checkpoint = llava.exact.root.parent / "checkpoint"
    out = tmp_path / "out"
    answer = d2(
        *("build", "-m", checkpoint, "-o", out, "--keep", 6, "--precision", "int8"),
        *("--calib", pictures, "--image", pictures / "00.png"),
    )
    assert answer.code == 0, answer.err
    assert answer.last_line == "PASSED"
    stored = read_scales(out / "calibration" / "int8.json")
    assert stored.errors == read_scales(llava.scales).errors
    assert stored.narrow == list(stored.products)
    assert json.loads((out / "report.json").read_text())["sqnr_db"] == stored.errors
    assert "What INT8 costs" in (out / "report.html").read_text()
    assert not list(out.glob(".*"))
