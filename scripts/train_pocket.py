"""Train the pocket model from random weights: `python scripts/train_pocket.py OUT`.

On two CPU cores a run takes hours; `--device cuda` takes minutes. A run that was stopped goes on
where it was when the same command is given again. OUT is a checkpoint that
`d2export build --model OUT` reads.
"""

from __future__ import annotations

import argparse
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from pocket.batches import IGNORED, Batch, Stage, make_batch
from pocket.checkpoint import read_state, write_checkpoint, write_state
from pocket.losses import WEIGHTS, Words, losses
from pocket.model import AFTER, BEFORE, Seen, TrainedModel, initialise
from pocket.optimiser import Optimiser
from pocket.vocabulary import train_tokenizer

from d2export.models.presets import preset

SCENES = 16  # in a batch
RATE = 1.5e-3
WARM_UP = 200  # steps
SAVED_EVERY = 300  # seconds
SAID_EVERY = 50  # steps


@dataclass(frozen=True)
class Part:
    """A stage of the training and its steps."""

    stage: Stage
    steps: int


# Small pictures first, with few objects and few words: a step costs a third, and the words are
# tied to what they mean before there is much to confuse.
PARTS = (
    Part(Stage(side=224, objects=(1, 4), brief=0.5), 1500),
    Part(Stage(side=448, objects=(1, 10), brief=0.1), 2500),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for the checkpoint and the run's state")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the scenes")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--scale", type=float, default=1.0, help="times the steps of every stage")
    arguments = parser.parse_args()
    run = Run(arguments.out, arguments.seed, torch.device(arguments.device), arguments.scale)
    run.train()
    weights = {name: tensor.cpu() for name, tensor in run.model.state_dict().items()}
    write_checkpoint(arguments.out, run.spec, weights, run.tokenizer)
    print(f"{arguments.out}: trained in {run.seconds / 60:.1f} min")


class Run:
    """One training run, from wherever it was."""

    def __init__(self, out: Path, seed: int, device: torch.device, scale: float) -> None:
        self.out, self.seed, self.device = out, seed, device
        self.spec = preset("pocket")
        self.tokenizer = train_tokenizer()
        self.parts = [Part(part.stage, max(1, round(part.steps * scale))) for part in PARTS]
        before, after = (self.tokenizer.encode(text).ids for text in (BEFORE, AFTER))
        self.model = TrainedModel(self.spec, before, after)
        initialise(self.model, self.tokenizer.get_vocab(), seed)
        self.optimiser = Optimiser(self.model.named_parameters())
        self.seconds = 0.0
        # Weights in bfloat16 halve what a step costs; the optimiser keeps them in float32.
        for weight in self.model.parameters():
            weight.data = weight.data.to(device, torch.bfloat16)
        self.model.to(device)
        self.optimiser.to(device)
        self.words = Words.of(self.tokenizer, self.spec.text.vocab, device)

    def train(self) -> None:
        settings = {"seed": self.seed, "steps": [part.steps for part in self.parts]}
        found = read_state(self.out)
        if found is not None:
            state, progress = found
            if progress["settings"] != settings:
                raise SystemExit(
                    f"{self.out} holds a run with {progress['settings']}, asked for {settings}: "
                    "name another folder"
                )
            self.optimiser.load(state, int(progress["done"]))
            self.seconds = float(progress["seconds"])
            print(f"going on after step {self.optimiser.steps}")
        total = sum(part.steps for part in self.parts)
        saved = said = started = time.perf_counter()
        before = self.seconds
        sums: dict[str, float] = {}
        with ThreadPoolExecutor(1) as ahead:
            future = ahead.submit(self.batch, self.optimiser.steps)
            while self.optimiser.steps < total:
                number = self.optimiser.steps
                batch = future.result().to(self.device)
                if number + 1 < total:
                    future = ahead.submit(self.batch, number + 1)
                for name, value in self.step(batch, self.rate(number, total)).items():
                    sums[name] = sums.get(name, 0.0) + value / SAID_EVERY
                now = time.perf_counter()
                self.seconds = before + now - started
                if (number + 1) % SAID_EVERY == 0:
                    pace = SAID_EVERY * SCENES / (now - said)
                    figures = "  ".join(f"{name} {value:.3f}" for name, value in sums.items())
                    print(f"step {number + 1}/{total}  {figures}  {pace:.1f} scenes/s", flush=True)
                    said, sums = now, {}
                if now - saved > SAVED_EVERY or number + 1 == total:
                    done = {"settings": settings, "done": number + 1, "seconds": self.seconds}
                    write_state(self.out, self.optimiser.state(), done)
                    saved = now

    def batch(self, number: int) -> Batch:
        """Batch `number`, of the stage that it belongs to."""
        before = 0
        for part in self.parts:
            before += part.steps
            if number < before:
                break
        return make_batch(self.tokenizer, part.stage, self.seed, number, SCENES)

    def rate(self, step: int, total: int) -> float:
        """Up in `WARM_UP` steps, down along a cosine."""
        return RATE * min(1.0, (step + 1) / WARM_UP) * (1 + math.cos(math.pi * step / total)) / 2

    def step(self, batch: Batch, rate: float) -> dict[str, float]:
        seen = self.model(batch)
        found = losses(self.model, batch, seen, self.words)
        torch.stack([WEIGHTS[name] * value for name, value in found.items()]).sum().backward()
        norm = self.optimiser.step(rate)
        figures = {name: float(value.detach()) for name, value in found.items()}
        return {**figures, "norm": norm, **_right(batch, seen)}


def _right(batch: Batch, seen: Seen) -> dict[str, float]:
    """Share of the answers' first and last words that are right, given those before them."""
    with torch.no_grad():
        learned = batch.targets != IGNORED
        right = (seen.logits.argmax(dim=-1) == batch.targets) & learned
        whole = (right | ~learned).all(dim=2).float()
        return {"tokens": float(right.sum() / learned.sum()), "answers": float(whole.mean())}


if __name__ == "__main__":
    main()
