"""Training computes what the project's own modules compute, and goes on where it stopped."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from d2export.evaluation.scenes.questions import BINS, KINDS, ask, bin_text
from d2export.evaluation.scenes.scene import make_scene
from d2export.evaluation.scenes.shapes import LETTERS
from d2export.models.checkpoint import find_checkpoint
from d2export.models.decoder import KeyValue, LanguageModel, causal_mask
from d2export.models.presets import preset

SCRIPTS = str(Path(__file__).parents[2] / "scripts")


@pytest.fixture(scope="module")
def training() -> Any:
    """The modules of `scripts/`, found as they are when the script runs."""
    sys.path.insert(0, SCRIPTS)
    yield importlib.import_module("train_pocket")
    sys.path.remove(SCRIPTS)


@pytest.fixture(scope="module")
def tokenizer(training: Any) -> Any:
    return training.train_tokenizer()


@pytest.fixture
def run(training: Any, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes runs of four steps on two scenes each."""
    stages = [part.stage for part in training.PARTS]
    monkeypatch.setattr(training, "PARTS", tuple(training.Part(stage, 2) for stage in stages))
    monkeypatch.setattr(training, "SCENES", 2)
    monkeypatch.setattr(training, "train_tokenizer", lambda: tokenizer)
    monkeypatch.setattr(training, "SAVED_EVERY", 0)

    def make(name: str, seed: int = 0) -> Any:
        return training.Run(tmp_path / name, seed, torch.device("cpu"), 1.0)

    return make


def test_every_word_is_one_token(tokenizer: Any) -> None:
    random = np.random.default_rng(5)
    for _ in range(100):
        scene = make_scene(random, 8, signs=2)
        for kind in KINDS:
            question = ask(random, scene, kind)
            if question is not None:
                text = question.prompt.replace("?", "").replace("<ref>", "").replace("</ref>", "")
                assert len(tokenizer.encode(text).ids) == len(text.split())
    assert all(len(tokenizer.encode(bin_text(index)).ids) == 1 for index in range(BINS))
    assert tokenizer.encode("".join(LETTERS)).tokens == list(LETTERS)
    assert tokenizer.get_vocab_size() <= preset("pocket").text.vocab
    assert tokenizer.decode(tokenizer.encode("Größe 12, 345 ?").ids) == "Größe 12, 345 ?"


@pytest.mark.parametrize("part", [0, 1])
def test_packed_questions_are_what_each_would_be_alone(run: Any, part: int) -> None:
    """Six questions about a picture in one pass, against one prompt after the other."""
    packed = run("a")
    model = packed.model.float()
    batch = packed.batch(2 * part)
    with torch.inference_mode():
        seen = model(batch)
        for b, q in ((0, 0), (1, 5)):
            tokens = seen.tokens[b : b + 1]
            if part == 1:
                shown = (batch.pixels[b].permute(2, 0, 1)[None] - model.mean.view(1, 3, 1, 1)) / (
                    model.std.view(1, 3, 1, 1)
                )
                torch.testing.assert_close(tokens, model.vision(shown).tokens)
            before, after = (model.text.embedding(ids)[None] for ids in (model.before, model.after))
            words = model.text.embedding(batch.tokens[b, q])[None]
            states = torch.cat([before, tokens, after, words], dim=1)
            start = len(model.before) + 256
            positions = torch.cat(
                [
                    torch.arange(len(model.before)),
                    len(model.before) + batch.places[b],
                    torch.arange(start, start + len(model.after) + words.shape[1]),
                ]
            )
            alone = logits_of(model.text, states, positions)[:, -words.shape[1] :]
            torch.testing.assert_close(seen.logits[b, q], alone[0], rtol=1e-4, atol=1e-4)


def logits_of(text: LanguageModel, states: Tensor, positions: Tensor) -> Tensor:
    """All logits of one sequence, by the layers that the project exports."""
    rotation = text.rotation(positions[None])
    mask = causal_mask(states.shape[1], 0, states)
    for layer in text.all_layers():
        heads = (1, layer.attention.kv_heads, 0, layer.attention.head_dim)
        empty = KeyValue(torch.empty(heads), torch.empty(heads))
        states, _ = layer(states, rotation, mask, empty)
    return text.logits(states)


def test_answers_are_learned_and_nothing_else(run: Any) -> None:
    """The targets of a question, read back as text, are its answer."""
    packed = run("a")
    batch = packed.batch(2)
    text = packed.tokenizer.decode(batch.tokens[0, 0].tolist(), skip_special_tokens=False)
    learned = batch.targets[0, 0]
    answer = packed.tokenizer.decode(learned[learned >= 0].tolist(), skip_special_tokens=False)
    assert text.startswith("Where is<ref>") or text.startswith("Where is <ref>")
    assert text.split("assistant\n")[1].startswith(answer)
    assert answer.startswith("<box>[[")
    assert answer.endswith("]]</box><|im_end|>")


def test_a_run_goes_on_where_it_stopped(
    training: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run("whole")
    whole.train()
    stopped = run("stopped")
    step = stopped.step

    def stop_at_three(batch: Any, rate: float) -> dict[str, float]:
        if stopped.optimiser.steps == 2:
            raise KeyboardInterrupt
        figures: dict[str, float] = step(batch, rate)
        return figures

    monkeypatch.setattr(stopped, "step", stop_at_three)
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    again = run("stopped")
    again.train()
    assert again.optimiser.steps == 4
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name]), name
    with pytest.raises(SystemExit, match="holds a run with"):
        run("stopped", seed=1).train()


def test_the_checkpoint_is_read_back(training: Any, run: Any, tmp_path: Path) -> None:
    packed = run("a")
    weights = packed.model.state_dict()
    training.write_checkpoint(tmp_path / "pocket", packed.spec, weights, packed.tokenizer)
    found = find_checkpoint(str(tmp_path / "pocket"), scope="vlm")
    assert (found.spec.vision, found.spec.text) == (packed.spec.vision, packed.spec.text)


def test_the_optimiser_is_adamw_outside_the_layers(training: Any) -> None:
    """Against torch's, float32."""
    optimiser = importlib.import_module("pocket.optimiser")
    torch.manual_seed(0)
    ours, theirs = nn.Linear(3, 3), nn.Linear(3, 3)
    theirs.load_state_dict(ours.state_dict())
    mine = optimiser.Optimiser(ours.named_parameters())
    groups = [
        {"params": [theirs.weight], "weight_decay": optimiser.DECAY},
        {"params": [theirs.bias], "weight_decay": 0.0},
    ]
    other = torch.optim.AdamW(groups, lr=0.01, betas=optimiser.BETAS, eps=optimiser.EPS)
    steps_of_both(optimiser, (ours, mine), (theirs, other), 0.01)
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


@pytest.mark.parametrize("shape", [(8, 8), (4, 12), (12, 4)])
def test_the_optimiser_is_muon_inside_the_layers(training: Any, shape: tuple[int, int]) -> None:
    """Against torch's, which iterates in bfloat16."""
    optimiser = importlib.import_module("pocket.optimiser")
    torch.manual_seed(0)
    ours, theirs = nn.Linear(*shape, bias=False), nn.Linear(*shape, bias=False)
    theirs.load_state_dict(ours.state_dict())
    mine = optimiser.Optimiser([("text.layers.0.weight", ours.weight)])
    assert mine.muon == [0]
    other = torch.optim.Muon(
        [theirs.weight],
        lr=0.01,
        weight_decay=optimiser.DECAY,
        momentum=optimiser.MOMENTUM,
        adjust_lr_fn="match_rms_adamw",
    )
    start = ours.weight.detach().clone()
    steps_of_both(optimiser, (ours, mine), (theirs, other), 0.01)
    moved = (ours.weight - start).norm()
    assert (ours.weight - theirs.weight).norm() < 0.1 * moved


def steps_of_both(optimiser: Any, ours: Any, theirs: Any, rate: float) -> None:
    """Five steps on the same inputs, with gradients that have to be clipped."""
    for _ in range(5):
        x = torch.randn(4, ours[0].in_features) * 10
        for module, _ in (ours, theirs):
            module(x).pow(2).sum().backward()
        norm = nn.utils.clip_grad_norm_(theirs[0].parameters(), optimiser.CLIP)
        assert ours[1].step(rate) == pytest.approx(float(norm), rel=1e-3)
        theirs[1].step()
        theirs[1].zero_grad()


def test_orthogonal(training: Any) -> None:
    optimiser = importlib.import_module("pocket.optimiser")
    torch.manual_seed(0)
    for shape in ((16, 16), (6, 40), (40, 6)):
        u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
        matrix = u @ torch.diag(torch.linspace(0.2, 3, min(shape))) @ v
        values = torch.linalg.svdvals(optimiser.orthogonal(matrix))
        assert values.min() > 0.65
        assert values.max() < 1.25
        assert (
            torch.nn.functional.cosine_similarity(
                optimiser.orthogonal(matrix).flatten(), (u @ v).flatten(), dim=0
            )
            > 0.97
        )
