"""A model in PyTorch, float32, whole in memory, with its tokenizer. Needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from d2export.bundle.processor import write_processor
from d2export.errors import UsageError
from d2export.models import layouts
from d2export.models.checkpoint import Checkpoint
from d2export.models.config import check_language_model
from d2export.models.decoder import LanguageModel, inverse_frequencies
from d2export.models.presets import ModelSpec
from d2export.models.safetensors_file import TensorRef, load
from d2export.models.text_layouts import resolve_text
from d2export.models.vision_tower import VisionModel
from d2export.runtime.tokenizer import BundleTokenizer


@dataclass(frozen=True, eq=False)
class PytorchModel:
    """A model that can be asked.

    Attributes:
        spec: what it is.
        vision: tower and projector.
        text: the language model.
        tokenizer: with the model's conversation.
    """

    spec: ModelSpec
    vision: VisionModel
    text: LanguageModel
    tokenizer: BundleTokenizer


def load_model(checkpoint: Checkpoint) -> PytorchModel:
    """The model of a checkpoint.

    Raises:
        UsageError: the checkpoint has no tokenizer.
        CheckpointError: it is incomplete or not supported.
        EnvironmentMismatch: the tokenizers package is missing.
    """
    spec = checkpoint.spec
    check_language_model(checkpoint.config, spec.text, str(checkpoint.folder))
    refs = layouts.resolve(checkpoint.tensors, spec) | resolve_text(checkpoint.tensors, spec)
    return model_of(spec, refs, _tokenizer(checkpoint))


def model_of(
    spec: ModelSpec, refs: Mapping[str, TensorRef], tokenizer: BundleTokenizer
) -> PytorchModel:
    """The model with these weights; `refs` by canonical name."""
    with torch.device("meta"):
        vision, text = VisionModel(spec), LanguageModel(spec.text)
    for module, prefix in ((vision, ""), (text, "text.")):
        module.to_empty(device="cpu")
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(torch.from_numpy(load(refs[prefix + name])))
        module.requires_grad_(False).eval()
    text.inverse_frequencies = inverse_frequencies(spec.text)
    return PytorchModel(spec, vision, text, tokenizer)


def _tokenizer(checkpoint: Checkpoint) -> BundleTokenizer:
    """As a bundle would have it."""
    vocab = checkpoint.spec.text.vocab
    with TemporaryDirectory() as folder:
        target = Path(folder) / "processor"
        if write_processor(checkpoint.folder, checkpoint.config, vocab, target) is None:
            raise UsageError(
                f"{checkpoint.folder} has no tokenizer, so its model cannot be asked",
                "Put the tokenizer's files beside the weights.",
            )
        return BundleTokenizer(target, vocab)
