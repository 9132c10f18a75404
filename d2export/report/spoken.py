"""What a stored prompt asks and how PyTorch's answer begins, as text where it can be read."""

from __future__ import annotations

from typing import NamedTuple

from d2export.bundle.folder import Bundle
from d2export.errors import EnvironmentMismatch
from d2export.runtime.tokenizer import TOKENIZER, BundleTokenizer
from d2export.verify.vlm_reference import VlmReference


class Spoken(NamedTuple):
    """Either may be missing: a bundle without a tokenizer has random tokens for text."""

    prompt: str | None = None
    answer: str | None = None


def spoken_in(bundle: Bundle, reference: VlmReference) -> Spoken:
    """The user's words and the answer's first ones.

    Without the tokenizers package there is no text; a report can do without.

    Raises:
        BundleError: the tokenizer is damaged.
    """
    folder = bundle.root / "processor"
    if not (folder / TOKENIZER).is_file():
        return Spoken()
    try:
        tokenizer = BundleTokenizer(folder, bundle.manifest.model.text.vocab)
    except EnvironmentMismatch:
        return Spoken()
    words = reference.input_ids[reference.text_positions].tolist()
    return Spoken(tokenizer.decode(words).strip(), tokenizer.decode(reference.tokens.tolist()))
