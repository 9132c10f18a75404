"""What is learned: the answers, and four things that make a small model see what it talks about."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from d2export.evaluation.scenes.questions import BINS, bin_text
from d2export.evaluation.scenes.shapes import COLOURS
from pocket.batches import IGNORED, NOUNS, Batch
from pocket.model import DENSE, Seen, TrainedModel

SOFTNESS = 1.0  # bins: an answer near the right one is nearly right
WEIGHTS = {"answer": 1.0, "likeness": 0.2, "heat": 0.3, "dense": 0.3, "box": 0.5}
MARKUP_WEIGHT = 0.1  # of tokens that say nothing, such as brackets
MARKUP = ("<box>", "</box>", "[[", "]]", ", ", "<|im_end|>")


@dataclass(frozen=True)
class Words:
    """Token ids of the words for what patches show, and the targets of each token.

    Attributes:
        nouns, colours, sizes: `[k]` int64.
        soft: `[vocab, vocab]` float32: a row sums to 1; a coordinate's is spread.
        near: `[BINS, BINS]` float32, the same for coordinates alone.
        weights: `[vocab]` float32, of tokens as targets.
    """

    nouns: Tensor
    colours: Tensor
    sizes: Tensor
    soft: Tensor
    near: Tensor
    weights: Tensor

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
        near /= near.sum(dim=1, keepdim=True)
        soft[bins[:, None], bins[None]] = near
        weights = torch.ones(vocab)
        for text in MARKUP:
            weights[tokenizer.encode(text).ids] = MARKUP_WEIGHT
        tables = (table.to(device) for table in (soft, near, weights))
        return cls(ids(NOUNS), ids(tuple(COLOURS)), ids(("small", "large")), *tables)


def losses(model: TrainedModel, batch: Batch, seen: Seen, words: Words) -> dict[str, Tensor]:
    """Each loss, unweighted, a scalar."""
    learned = batch.targets != IGNORED
    targets = batch.targets[learned]
    weights = words.weights[targets]
    log = seen.logits[learned].float().log_softmax(dim=-1)
    answer = -(words.soft[targets] * log).sum(dim=-1)
    aim = (batch.seen / batch.seen.sum(dim=2, keepdim=True)).unsqueeze(2)
    aim = aim.expand(-1, -1, learned.shape[2], -1)[learned]
    heat = -(aim * seen.heat[learned].float().log_softmax(dim=-1)).sum(dim=-1)
    return {
        "answer": (answer * weights).sum() / weights.sum(),
        "likeness": _likeness(model, batch, seen, words),
        "heat": (heat * weights).sum() / weights.sum(),
        **_dense(model, batch, seen, words),
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


def _dense(model: TrainedModel, batch: Batch, seen: Seen, words: Words) -> dict[str, Tensor]:
    """What covers each patch, and the box of it."""
    noun, colour, size, letter, box = model.dense(seen.patches).float().split(DENSE, dim=-1)
    nothing = torch.where(batch.noun == IGNORED, len(NOUNS), batch.noun)
    covered = batch.noun != IGNORED
    total = functional.cross_entropy(noun.flatten(0, 1), nothing.flatten())
    for logits, labels in ((colour, batch.colour), (size, batch.size), (letter, batch.letter)):
        known = labels != IGNORED
        if known.any():
            total = total + functional.cross_entropy(logits[known], labels[known])
    log = box[covered].unflatten(1, (4, BINS)).log_softmax(dim=-1)
    return {"dense": total, "box": -(words.near[batch.box[covered]] * log).sum(dim=-1).mean()}
