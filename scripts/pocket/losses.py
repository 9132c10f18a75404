"""What is learned: the answers, and four things that make a small model see what it talks about."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from d2export.evaluation.scenes.questions import BINS, bin_text
from d2export.evaluation.scenes.shapes import COLOURS, LETTERS
from pocket.batches import IGNORED, NOUNS, Batch
from pocket.model import Seen, TrainedModel

SOFTNESS = 1.0  # bins: an answer near the right one is nearly right
WEIGHTS = {"answer": 1.0, "likeness": 0.3, "heat": 0.3, "dense": 0.5, "box": 2.0}


@dataclass(frozen=True)
class Words:
    """Token ids of the words for what patches show, and the targets of each token.

    Attributes:
        nouns, colours, sizes: `[k]` int64.
        soft: `[vocab, vocab]` float32: a row sums to 1; a coordinate's is spread.
    """

    nouns: Tensor
    colours: Tensor
    sizes: Tensor
    soft: Tensor

    @classmethod
    def of(cls, tokenizer: Tokenizer, vocab: int, device: torch.device) -> Words:
        def ids(words: tuple[str, ...]) -> Tensor:
            found = [tokenizer.encode(f" {word}").ids for word in words]
            if any(len(tokens) != 1 for tokens in found):
                raise ValueError(f"one of {words} is not one token")
            return torch.tensor([tokens[0] for tokens in found], device=device)

        soft = torch.eye(vocab)
        bins = torch.tensor([tokenizer.token_to_id(bin_text(index)) for index in range(BINS)])
        distance = torch.arange(BINS)[:, None] - torch.arange(BINS)[None]
        near = torch.exp(-0.5 * (distance / SOFTNESS) ** 2)
        soft[bins] = 0
        soft[bins[:, None], bins[None]] = near / near.sum(dim=1, keepdim=True)
        return cls(ids(NOUNS), ids(tuple(COLOURS)), ids(("small", "large")), soft.to(device))


def losses(model: TrainedModel, batch: Batch, seen: Seen, words: Words) -> dict[str, Tensor]:
    """Each loss, unweighted, a scalar."""
    learned = batch.targets != IGNORED
    log = seen.logits[learned].float().log_softmax(dim=-1)
    answer = -(words.soft[batch.targets[learned]] * log).sum(dim=-1)
    aim = batch.seen / batch.seen.sum(dim=2, keepdim=True)
    heat = -(aim * seen.heat.float().log_softmax(dim=2)).sum(dim=2)
    return {
        "answer": answer.mean(),
        "likeness": _likeness(model, batch, seen, words),
        "heat": heat.mean(),
        **_dense(model, batch, seen),
    }


def _likeness(model: TrainedModel, batch: Batch, seen: Seen, words: Words) -> Tensor:
    """Visual tokens of an object are to be like the words for it."""
    groups = ((batch.noun, words.nouns), (batch.colour, words.colours), (batch.size, words.sizes))
    shown = functional.normalize(seen.tokens.float(), dim=-1)
    total = torch.zeros((), device=shown.device)
    for labels, ids in groups:
        known = labels != IGNORED
        spoken = functional.normalize(model.text.embedding(ids).float(), dim=-1)
        logits = shown[known] @ spoken.T * model.likeness.float()
        total = total + functional.cross_entropy(logits, labels[known])
    return total


def _dense(model: TrainedModel, batch: Batch, seen: Seen) -> dict[str, Tensor]:
    """What covers each patch, and the box of it."""
    sizes = [len(NOUNS) + 1, len(COLOURS), 2, len(LETTERS), 4]
    noun, colour, size, letter, box = model.dense(seen.patches).float().split(sizes, dim=-1)
    nothing = torch.where(batch.noun == IGNORED, len(NOUNS), batch.noun)
    covered = batch.noun != IGNORED
    total = functional.cross_entropy(noun.flatten(0, 1), nothing.flatten())
    for logits, labels in ((colour, batch.colour), (size, batch.size), (letter, batch.letter)):
        known = labels != IGNORED
        if known.any():
            total = total + functional.cross_entropy(logits[known], labels[known])
    off = (box[covered].sigmoid() - batch.box[covered]).abs().mean()
    return {"dense": total, "box": off}
