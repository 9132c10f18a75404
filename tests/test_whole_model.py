"""Whole bundles against transformers: both families, both text backbones, one and two images.

Keeping all tokens, the answer is what transformers' own `generate` says; pruning, it is what whole
attention without a cache says (`full_attention.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import d2export
from d2export.bundle.folder import read_bundle
from d2export.models.tiling import token_grid
from d2export.pipeline import export
from d2export.runtime.decoder import Prompt, Step, whole_prompt
from d2export.runtime.generate import Generator
from tests import full_attention

transformers = pytest.importorskip("transformers", reason="transformers, to compare with")
pytest.importorskip("onnxruntime", reason="onnxruntime, to run the graphs")

TOKENS = 64
SEEDS = range(3)
KEEP = 5
IMAGE_TOKEN, VOCAB = 100, 101
TEXT = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": VOCAB,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
TOWER = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
}


def internvl(backbone: str) -> Any:
    text = {"qwen2": transformers.Qwen2Config, "llama": transformers.LlamaConfig}[backbone]
    config = transformers.InternVLConfig(
        text_config=text(**TEXT).to_dict(),
        vision_config={
            **TOWER,
            "image_size": [84, 84],
            "patch_size": [14, 14],
            "attention_bias": True,
        },
        image_token_id=IMAGE_TOKEN,
        tie_word_embeddings=False,
    )
    return transformers.InternVLForConditionalGeneration(config)


def llava() -> Any:
    config = transformers.LlavaConfig(
        text_config=transformers.LlamaConfig(**{**TEXT, "num_key_value_heads": 8}).to_dict(),
        vision_config=transformers.CLIPVisionConfig(
            **TOWER, image_size=56, patch_size=14
        ).to_dict(),
        image_token_index=IMAGE_TOKEN,
    )
    return transformers.LlavaForConditionalGeneration(config)


MODELS = {
    "internvl with qwen2": lambda: internvl("qwen2"),
    "internvl with llama": lambda: internvl("llama"),
    "llava with llama": llava,
}


def randomise(model: Any, seed: int) -> None:
    """Weights that make every token count; transformers' own are nearly zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.normal_(1, 0.1, generator=generator)
            elif "embed_tokens" in name or parameter.dim() < 2:
                parameter.normal_(0, 1 if "embed" in name else 0.1, generator=generator)
            else:
                inputs = parameter[0].numel()
                parameter.normal_(0, 1.5 * inputs**-0.5, generator=generator)


@dataclass(frozen=True)
class Whole:
    """A model of transformers and the bundles made of it: keeping all, keeping five."""

    model: Any
    everything: Path
    pruned: Path

    def reseed(self, seed: int) -> None:
        """Other weights, in the model and in the file that the graphs of both bundles link to."""
        randomise(self.model, seed)
        self.model.save_pretrained(self.everything.parent / "checkpoint")
        for bundle in (self.everything, self.pruned):
            weights = (self.everything.parent / "checkpoint" / "model.safetensors").read_bytes()
            (bundle / "onnx" / "model.safetensors").write_bytes(weights)


@pytest.fixture(scope="module", params=MODELS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    model = MODELS[request.param]().eval()
    model.set_attn_implementation("eager")
    randomise(model, 0)
    model.save_pretrained(folder / "checkpoint")
    for name, keep in (("everything", "all"), ("pruned", str(KEEP))):
        options = d2export.ExportOptions(
            str(folder / "checkpoint"),
            scope="vlm",
            keep=keep,
            settings={"alpha": 0.7, "theta": 0.5},
        )
        export(options, folder / name)
    return Whole(model, folder / "everything", folder / "pruned")


@dataclass(frozen=True)
class Question:
    """One prompt: its ids, its tiles as transformers takes them, and as the decoder does."""

    ids: torch.Tensor
    pixels: list[np.ndarray]
    prompt: Prompt


def question(generator: Generator, images: int, seed: int) -> Question:
    """Text and images, which InternVL cuts into one tile and into three."""
    rng = np.random.default_rng([seed, images])
    vision = generator.bundle.manifest.model.vision
    columns = [1, 2][:images] if vision.image.max_tiles > 1 else [1] * images
    grids = [token_grid(count, 1, vision.tokens_per_side) for count in columns]
    tiles = [count + (count > 1) for count in columns]
    size = vision.image.size
    pixels = [rng.standard_normal((count, 3, size, size)).astype(np.float32) for count in tiles]
    ids = rng.integers(0, IMAGE_TOKEN, 3).tolist()
    for grid in grids:
        ids += [IMAGE_TOKEN] * len(grid) + rng.integers(0, IMAGE_TOKEN, 4).tolist()
    lengths = np.array([len(grid) for grid in grids], np.int64)
    prompt = whole_prompt(
        np.array(ids, np.int64),
        np.concatenate([generator.vision.embed(image) for image in pixels]),
        np.flatnonzero(np.array(ids) == IMAGE_TOKEN),
        lengths,
        np.concatenate(grids),
        np.ones(int(lengths.sum()), np.float32),
    )
    return Question(torch.tensor([ids]), pixels, prompt)


def greedy(generator: Generator, prompt: Prompt) -> tuple[list[int], list[Step]]:
    sequence = generator.decoder.start()
    steps = [generator.decoder.prefill(sequence, prompt)]
    tokens = [int(steps[0].logits.argmax())]
    while len(tokens) < TOKENS:
        steps.append(generator.decoder.step(sequence, tokens[-1]))
        tokens.append(int(steps[-1].logits.argmax()))
    return tokens, steps


def cases(whole: Whole, bundle: Path) -> Iterator[tuple[Generator, Question]]:
    for seed in SEEDS:
        whole.reseed(seed)
        generator = Generator(read_bundle(bundle, verify=False))
        for images in (1, 2):
            yield generator, question(generator, images, seed)


def error(answered: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(answered - expected).max() / np.abs(expected).max())


def test_keeping_all_is_what_transformers_generates(whole: Whole) -> None:
    for generator, asked in cases(whole, whole.everything):
        tokens, steps = greedy(generator, asked.prompt)
        expected = whole.model.generate(
            input_ids=asked.ids,
            pixel_values=torch.from_numpy(np.concatenate(asked.pixels)),
            attention_mask=torch.ones_like(asked.ids),
            max_new_tokens=TOKENS,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        assert tokens == expected.sequences[0, asked.ids.shape[1] :].tolist()
        assert len(set(tokens)) > 5  # not one token for ever
        assert len(steps[0].positions) == asked.ids.shape[1]
        pairs = zip(steps, expected.logits, strict=True)
        assert max(error(step.logits, logits[0].numpy()) for step, logits in pairs) < 1e-4


def test_pruning_is_what_whole_attention_answers(whole: Whole) -> None:
    language = transformers.Qwen2ForCausalLM, transformers.LlamaForCausalLM
    for generator, asked in cases(whole, whole.pruned):
        tokens, steps = greedy(generator, asked.prompt)
        with torch.inference_mode():
            pixels = torch.from_numpy(np.concatenate(asked.pixels))
            visual = whole.model.get_image_features(pixels)
            visual = getattr(visual, "pooler_output", visual)
            visual = torch.cat([part.flatten(0, -2) for part in visual])
            embeds = whole.model.get_input_embeddings()(asked.ids).clone()
            embeds[0, asked.prompt.visual_positions] = visual
        expected = full_attention.follow(
            _causal(whole.model, language),
            full_attention.Prompt(
                embeds,
                asked.prompt.visual_positions,
                asked.prompt.image_lengths,
                asked.prompt.token_grid,
                asked.prompt.prior,
            ),
            tokens,
            generator.bundle.manifest.plan.parameters,
            2,
        )
        assert steps[0].positions.tolist() == expected.positions
        images = len(asked.prompt.image_lengths)
        dropped = asked.ids.shape[1] - len(expected.positions)
        assert dropped == len(asked.prompt.visual_positions) - KEEP * images
        assert tokens == expected.tokens
        pairs = zip(steps, expected.logits, strict=True)
        assert max(error(step.logits, logits[0].numpy()) for step, logits in pairs) < 1e-4


def _causal(model: Any, kinds: tuple[Any, ...]) -> Any:
    """The language model inside, as the causal model that it is."""
    text = model.model.language_model
    kind = kinds[0] if "Qwen2" in type(text).__name__ else kinds[1]
    causal = kind(text.config).eval()
    causal.model, causal.lm_head = text, model.lm_head
    return causal
