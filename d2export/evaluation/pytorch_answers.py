"""Ask a model in PyTorch, many questions and many configurations at a time. Needs torch.

A picture is seen once, a prompt read once up to each layer before which anybody prunes. What is
left of it from there on is small, and goes in batches of all configurations that keep as many
tokens. Which tokens these are is the exporter's own selection: `tests/evaluation` compares it with
`PrunedDecoder`, with `PrunedVision` and with bundles.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from d2export.evaluation.configuration import Answered, Configuration
from d2export.evaluation.pytorch_model import PytorchModel
from d2export.evaluation.pytorch_pictures import Asked, Pictures
from d2export.evaluation.pytorch_selection import (
    Below,
    VisionSelection,
    correlated,
    kept_inside,
    positions_of,
)
from d2export.evaluation.pytorch_sequences import Fork, Limits, Trunk, write
from d2export.evaluation.task import Sample
from d2export.pruning.prior import Prior

PROMPT_TOKENS_AT_ONCE = 8192  # of the samples whose answers are written side by side


class PytorchAnswers:
    """A model, asked in given configurations.

    Args:
        model: what answers.
        configurations: each fits the model.
        threads: how many batches are answered at a time, each on one core: threads that share the
            work of a small matrix product mostly wait for each other.
    """

    def __init__(
        self, model: PytorchModel, configurations: Sequence[Configuration], threads: int = 1
    ) -> None:
        self.model, self.configurations = model, tuple(configurations)
        self._threads = threads
        self._selections = {
            item: VisionSelection(model.spec, item)
            for item in configurations
            if item.plan is not None and item.plan.in_vision
        }
        self._pictures = Pictures(model, self._selections)
        self._stop = torch.tensor(sorted(model.tokenizer.stop_ids))
        self._ones = Prior.ones(model.spec.vision.tokens_per_tile)

    def __call__(self, samples: Sequence[Sample]) -> Iterator[Answered]:
        """Answers of every configuration to every sample, sample by sample but in any order.

        Raises:
            UsageError: a prompt does not fit the model.
            ImageError: a picture cannot be read.
            CheckpointError: the model answers no numbers.
        """
        windows = self._pictures.windows(samples)
        # torch counts the threads of an operator for each thread that calls it.
        alone = partial(torch.set_num_threads, 1)
        with ThreadPoolExecutor(self._threads, initializer=alone) as pool:
            upcoming = pool.submit(next, windows, None)
            while (asked := upcoming.result()) is not None:
                upcoming = pool.submit(next, windows, None)
                running = [pool.submit(self._answers, batch) for batch in self._batches(asked)]
                try:
                    for future in as_completed(running):
                        yield from future.result()
                finally:
                    for future in running:
                        future.cancel()

    def _answers(self, batch: list[Asked]) -> list[Answered]:
        """Those of `_answer`, by the rules of a thread of its own."""
        with torch.inference_mode():
            return list(self._answer(batch))

    def _batches(self, asked: Sequence[Asked]) -> Iterator[list[Asked]]:
        """Samples of one shape, those with long answers together."""
        groups: dict[tuple[object, ...], list[Asked]] = defaultdict(list)
        for item in sorted(asked, key=lambda item: item.sample.max_new_tokens):
            groups[item.shape].append(item)
        for group in groups.values():
            size = max(1, PROMPT_TOKENS_AT_ONCE // len(group[0].encoded.input_ids))
            for start in range(0, len(group), size):
                yield group[start : start + size]

    def _answer(self, batch: list[Asked]) -> Iterator[Answered]:
        """A batch in all configurations, those that leave the trunk first at first."""
        trunk = Trunk(
            self.model.text,
            torch.stack([self._embedded(item) for item in batch]),
            torch.arange(len(batch[0].encoded.input_ids)),
        )
        below = Below(
            [item.sample for item in batch],
            [item.picture.tiles for item in batch],
            batch[0].encoded,
            trunk,
        )
        levels: dict[int, list[Configuration]] = defaultdict(list)
        for configuration in self.configurations:
            levels[self._depth(configuration)].append(configuration)
        for depth in sorted(levels):
            trunk.advance(depth)
            groups: dict[tuple[int, tuple[int, ...]], _Group] = defaultdict(list)
            for configuration in levels[depth]:
                if configuration.plan is not None and configuration.plan.by_correlation:
                    for item in batch:
                        yield self._answer_alone(item, configuration)
                    continue
                for samples, kept in self._kept(below, batch, configuration):
                    groups[kept.shape[1], tuple(samples)].append((configuration, kept))
            for (_, rows), group in groups.items():
                yield from self._write(below, batch, depth, list(rows), group)

    def _depth(self, configuration: Configuration) -> int:
        """The layer before which it leaves the trunk."""
        plan = configuration.plan
        if plan is None:
            return self.model.spec.text.layers
        return 0 if plan.in_vision or plan.prune_layer is None else plan.prune_layer

    def _kept(
        self, below: Below, batch: list[Asked], configuration: Configuration
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Which visual tokens stay: samples of the batch, and of each as many, `[B, M]` int64."""
        everybody, plan = list(range(len(batch))), configuration.plan
        if configuration.choose is not None:
            yield everybody, torch.as_tensor(configuration.choose(below)).long()
        elif plan is None:
            yield everybody, torch.arange(len(below.visual)).expand(len(batch), -1)
        elif plan.in_decoder:
            yield everybody, kept_inside(below, plan, configuration.prior or self._ones)
        else:
            counts: dict[int, list[int]] = defaultdict(list)
            kept = [self._kept_before(item, configuration) for item in batch]
            for index, found in enumerate(kept):
                counts[len(found)].append(index)
            for samples in counts.values():
                yield samples, torch.stack([kept[index] for index in samples])

    def _kept_before(self, item: Asked, configuration: Configuration) -> Tensor:
        """`[M]` int64: what stays behind the projector."""
        picture, selection = item.picture, self._selections[configuration]
        if not selection.reads_prompt:
            return picture.kept[configuration]
        words = item.encoded.input_ids[item.encoded.text_positions]
        return selection.kept(
            picture.view(selection.relation),
            torch.from_numpy(picture.tiles.grid),
            self.model.text.embedding(torch.from_numpy(words)),
        )

    def _write(
        self, below: Below, batch: list[Asked], depth: int, rows: list[int], group: _Group
    ) -> Iterator[Answered]:
        """The answers of configurations that keep as many tokens of some samples."""
        length, visual = len(below.trunk.position_ids), below.visual
        places, ids = [], []
        for configuration, kept in group:
            positions = positions_of(kept, visual, length)
            places.append(positions)
            contiguous = torch.arange(positions.shape[1]).expand_as(positions)
            ids.append(contiguous if _is_contiguous(configuration) else positions)
        samples = torch.tensor(rows)
        fork = Fork(depth, samples, torch.stack(places, dim=1), torch.stack(ids, dim=1))
        longest = torch.tensor([batch[row].sample.max_new_tokens for row in rows])
        limits = Limits(self._stop, longest)
        answers = write(self.model.text, below.trunk, fork, limits)
        for place, (row, texts) in enumerate(zip(rows, answers, strict=True)):
            for (configuration, kept), tokens in zip(group, texts, strict=True):
                yield self._answered(batch[row], configuration, tokens, kept[place])

    def _answer_alone(self, item: Asked, configuration: Configuration) -> Answered:
        """One sample, of whose prompt text may go, too."""
        plan, encoded = configuration.plan, item.encoded
        assert plan is not None
        assert plan.prune_layer is not None
        visual, length = torch.from_numpy(encoded.visual_positions), len(encoded.input_ids)
        stays = torch.arange(length)
        if plan.in_vision:
            stays = positions_of(self._kept_before(item, configuration)[None], visual, length)[0]
        ids = torch.arange(len(stays)) if _is_contiguous(configuration) else stays
        trunk = Trunk(self.model.text, self._embedded(item)[stays].unsqueeze(0), ids)
        trunk.advance(plan.prune_layer)
        words = torch.searchsorted(stays, torch.from_numpy(encoded.text_positions))
        seen = torch.isin(stays, visual).nonzero().flatten()
        left = correlated(trunk, seen, words, plan)
        fork = Fork(plan.prune_layer, torch.tensor([0]), left[None, None], ids[left][None, None])
        limits = Limits(self._stop, torch.tensor([item.sample.max_new_tokens]))
        ((tokens,),) = write(self.model.text, trunk, fork, limits)
        kept = torch.isin(visual, stays[left]).nonzero().flatten()
        return self._answered(item, configuration, tokens, kept)

    def _embedded(self, item: Asked) -> Tensor:
        """`[T, hidden]`: the prompt with its visual tokens."""
        states: Tensor = self.model.text.embedding(torch.from_numpy(item.encoded.input_ids))
        tokens = next(iter(item.picture.seen.values())).tokens.flatten(0, 1)
        return states.index_put((torch.from_numpy(item.encoded.visual_positions),), tokens)

    def _answered(
        self, item: Asked, configuration: Configuration, tokens: list[int], kept: Tensor
    ) -> Answered:
        stop = self.model.tokenizer.stop_ids
        text = self.model.tokenizer.decode([token for token in tokens if token not in stop])
        indices: npt.NDArray[np.int32] = kept.numpy().astype(np.int32)
        return Answered(item.sample, configuration, text, indices, len(item.picture.tiles.grid))


_Group = list[tuple[Configuration, Tensor]]  # each with the visual tokens it keeps, `[B, M]`


def _is_contiguous(configuration: Configuration) -> bool:
    """Whether position ids count the tokens that are left."""
    plan = configuration.plan
    return plan is not None and plan.in_vision and plan.position_ids == "contiguous"
