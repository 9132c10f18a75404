from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from d2export.errors import OutputError
from d2export.models import random_weights
from d2export.models.decoder import KeyValue, LanguageModel, causal_mask
from d2export.models.layouts import prompt_embedding, resolve
from d2export.models.presets import INTERNVIT_300M, ModelSpec, TextSpec, preset
from d2export.models.random_weights import write_random_checkpoint
from d2export.models.safetensors_file import load
from d2export.models.text_layouts import resolve_text
from d2export.models.vision_tower import VisionModel

POCKET = preset("pocket")
LLAVA = preset("llava-1.5-7b")
SMALL_LLAVA = replace(
    LLAVA,
    name="small-llava",
    vision=replace(
        LLAVA.vision,
        image=replace(LLAVA.vision.image, size=112),
        hidden=128, layers=25, used_layers=24, heads=4, mlp=512,
    ),
    text=replace(LLAVA.text, hidden=96, vocab=64),
)  # fmt: skip
DEEP_INTERNVL = replace(
    POCKET,
    name="deep-internvl",
    vision=replace(INTERNVIT_300M, hidden=128, heads=4, mlp=512),
    weight_dtype="F32",
)


def values(spec: ModelSpec, folder: Path, seed: int = 0) -> dict[str, np.ndarray]:
    checkpoint = write_random_checkpoint(spec, folder, seed)
    return {name: load(ref) for name, ref in resolve(checkpoint.tensors, checkpoint.spec).items()}


@pytest.mark.parametrize("spec", [POCKET, SMALL_LLAVA], ids=lambda spec: spec.name)
def test_the_checkpoint_is_complete_and_reads_back_as_the_same_model(
    tmp_path: Path, spec: ModelSpec
) -> None:
    lines: list[str] = []
    written = write_random_checkpoint(spec, tmp_path / spec.name, 0, lines.append)
    assert written.spec == replace(spec, hub_id=None)
    found = resolve(written.tensors, written.spec)
    assert {ref.dtype for ref in found.values()} == {spec.weight_dtype}
    assert prompt_embedding(written.tensors, written.spec) is None
    assert len(lines) == 1
    assert lines[0].endswith(f"random weights ({spec.weight_dtype})")


@pytest.mark.parametrize("spec", [POCKET, SMALL_LLAVA], ids=lambda spec: spec.name)
def test_embeddings_are_optional(tmp_path: Path, spec: ModelSpec) -> None:
    written = write_random_checkpoint(spec, tmp_path, 0, embeddings=True)
    ref = prompt_embedding(written.tensors, written.spec)
    assert ref is not None
    assert ref.shape == (spec.text.vocab, spec.text.hidden)
    assert load(ref).std() == pytest.approx(1, abs=0.02)


def test_values_depend_on_seed_and_name_alone(tmp_path: Path) -> None:
    first = values(POCKET, tmp_path / "a")
    again = values(POCKET, tmp_path / "b")
    other = values(POCKET, tmp_path / "c", seed=1)
    fewer = replace(POCKET, vision=replace(POCKET.vision, layers=2, used_layers=2))
    shallow = values(fewer, tmp_path / "d")
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
        assert not np.array_equal(array, other[name])
    for name, array in shallow.items():
        np.testing.assert_array_equal(array, first[name])
    q, k = (first[f"tower.layers.0.attention.{part}.weight"] for part in "qk")
    assert not np.array_equal(q, k)


def test_values_do_not_depend_on_the_chunk_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = values(POCKET, tmp_path / "a")
    monkeypatch.setattr(random_weights, "CHUNK", 1000)
    for name, array in values(POCKET, tmp_path / "b").items():
        np.testing.assert_array_equal(array, whole[name])


def test_no_parameter_hides_a_mistake(tmp_path: Path) -> None:
    for name, array in values(DEEP_INTERNVL, tmp_path).items():
        assert array.std() > 0.02, name
        if ".scale" in name:
            assert 0.05 < array.min() < array.max() < 0.35
        if "norm" in name and name.endswith(".weight"):
            assert array.mean() == pytest.approx(1, abs=0.05)
            assert array.std() == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("spec", [POCKET, SMALL_LLAVA, DEEP_INTERNVL], ids=lambda spec: spec.name)
def test_activations_and_attention_are_those_of_a_trained_model(
    tmp_path: Path, spec: ModelSpec
) -> None:
    model = VisionModel(spec).eval()
    arrays = values(spec, tmp_path)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    size = spec.vision.image.size
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    for layer in (0, spec.vision.used_layers // 2, spec.vision.used_layers - 2):
        with torch.no_grad():
            features, _, attention = model(pixels, layer)
        assert 0.5 < features.std() < 3
        assert features.std(1).mean() > 0.4  # tokens differ
        row = attention.double().mean(1)
        row = row / row.sum(-1, keepdim=True)
        entropy = -(row * row.log()).sum(-1) / np.log(row.shape[-1])
        assert entropy.max() < 0.96
        assert row.max() < 0.3
        assert 0.6 < row.log().std() < 1.8


def test_transformers_loads_a_whole_random_llava(tmp_path: Path) -> None:
    import transformers

    text = TextSpec("llama", 64, 3, 4, 4, 96, 101, 1e4, 4096, 1e-5)
    checkpoint = write_random_checkpoint(replace(SMALL_LLAVA, text=text), tmp_path, 0, scope="vlm")
    model, report = transformers.LlavaForConditionalGeneration.from_pretrained(
        tmp_path, dtype=torch.float32, output_loading_info=True
    )
    # The last layer and the final norm of the vision tower are not used, so not written.
    unused = ("vision_tower.encoder.layers.24.", "vision_tower.post_layernorm.")
    assert not [name for name in report["missing_keys"] if not any(part in name for part in unused)]
    assert not report["unexpected_keys"]
    head = resolve_text(checkpoint.tensors, checkpoint.spec)["text.head.weight"]
    np.testing.assert_array_equal(model.lm_head.weight.detach().numpy(), load(head))
    assert model.config.text_config.rms_norm_eps == 1e-5


DEEP = {
    "internlm2": TextSpec("internlm2", 256, 32, 8, 2, 896, 2000, 1e6, 32768, 1e-5),
    "qwen2": TextSpec("qwen2", 256, 24, 4, 1, 1024, 2000, 1e6, 32768, 1e-6),
    "llama": TextSpec("llama", 256, 32, 4, 4, 688, 2000, 1e4, 4096, 1e-5),
    "tied": TextSpec("qwen2", 256, 24, 4, 1, 1024, 2000, 1e6, 32768, 1e-6, tied=True),
    "pocket": POCKET.text,
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_a_random_language_model_behaves_like_a_trained_one(tmp_path: Path, text: TextSpec) -> None:
    length = 200
    checkpoint = write_random_checkpoint(replace(POCKET, text=text), tmp_path, 0, scope="vlm")
    refs = resolve_text(checkpoint.tensors, checkpoint.spec)
    model = LanguageModel(text).eval()
    model.load_state_dict(
        {name.removeprefix("text."): torch.from_numpy(load(ref)) for name, ref in refs.items()}
    )

    def step(states: torch.Tensor, start: int) -> torch.Tensor:
        """The last token's logits; what the layers saw of it goes to `rows` and `sizes`."""
        rotation = model.rotation(torch.arange(start, start + states.shape[1]).unsqueeze(0))
        mask = causal_mask(states.shape[1], start, states)
        for i, layer in enumerate(model.all_layers()):
            given = states
            states, past[i] = layer(given, rotation, mask, past[i])
            rows.append(layer.last_row(given, rotation, past[i])[0])
            sizes.append(float(states.square().mean().sqrt()))
        return model.logits(states[:, -1:])[0, 0]

    rows: list[torch.Tensor] = []
    sizes: list[float] = []
    past = [KeyValue(*[torch.empty(1, text.kv_heads, 0, text.head_dim)] * 2)] * text.layers
    with torch.inference_mode():
        prompt = torch.randint(text.vocab, (1, length), generator=torch.Generator().manual_seed(0))
        logits = step(model.embedding(prompt), 0)
        assert 0.9 < min(sizes) <= max(sizes) < 2.5
        for row in rows:  # of each layer: how many tokens its heads look at
            looked_at = (-row.xlogy(row).sum(dim=1)).exp().median()
            assert 4 < looked_at < 0.5 * length
        assert 2 < logits.std() < 4
        answer = [int(logits.argmax())]
        for i in range(31):
            states = model.embedding(torch.tensor([[answer[-1]]]))
            answer.append(int(step(states, length + i).argmax()))
    assert len(set(answer)) > 15


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write to"):
        write_random_checkpoint(POCKET, tmp_path / "file" / "x", 0)


@pytest.mark.real_size
@pytest.mark.parametrize(
    ("name", "scope", "limit"), [("internvl2.5-8b", "vision", 6), ("internvl2.5-1b", "vlm", 12)]
)
def test_the_real_size_takes_seconds_and_little_memory(
    tmp_path: Path, name: str, scope: str, limit: int
) -> None:
    script = """
import re, sys, time
from pathlib import Path
from d2export.models.presets import preset
from d2export.models.random_weights import write_random_checkpoint
start = time.process_time()  # not the wall: other tests may be running
write_random_checkpoint(preset(sys.argv[2]), Path(sys.argv[1]), 0, scope=sys.argv[3])
# getrusage would report the peak of the process that started this one
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
print(time.process_time() - start, peak)
"""
    out = subprocess.check_output(
        [sys.executable, "-c", script, str(tmp_path), name, scope], text=True
    )
    seconds, megabytes = map(float, out.split())
    assert seconds < limit
    assert megabytes < 100
