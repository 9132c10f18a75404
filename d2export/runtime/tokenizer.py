"""Text to token ids and back, with the tokenizer in a bundle. No code from a checkpoint runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from d2export.bundle.processor import read_conversation
from d2export.errors import BundleError, EnvironmentMismatch, UsageError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER = "tokenizer.json"
PLACEHOLDER = "<image>"  # where a prompt wants an image
Span = tuple[int, int]  # of characters
BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # a token of sentencepiece's that is one byte of a character
HALF_A_CHARACTER = "\ufffd"  # what decoders write for bytes that are no character, or not yet


@dataclass(frozen=True, eq=False)
class Encoded:
    """A prompt with images as the language model takes it.

    Attributes:
        input_ids: `[T]` int64; at visual positions any id.
        visual_positions: `[V]` int64, ascending, image after image.
        image_lengths: `[I]` int64, visual tokens of each image.
        text_positions: `[D]` int64, ascending: the user's own words, no image and no template.
    """

    input_ids: npt.NDArray[np.int64]
    visual_positions: npt.NDArray[np.int64]
    image_lengths: npt.NDArray[np.int64]
    text_positions: npt.NDArray[np.int64]


class BundleTokenizer:
    """The tokenizer and the conversation of a bundle.

    Args:
        folder: the bundle's `processor/`.
        vocab: rows of the embedding table.

    Raises:
        UsageError: the bundle has no tokenizer.
        BundleError: it is damaged, or does not fit the model or the conversation.
        EnvironmentMismatch: the tokenizers package is missing.
    """

    def __init__(self, folder: Path, vocab: int) -> None:
        self.folder = folder
        self.tokenizer = load_tokenizer(folder)
        self.conversation = read_conversation(folder)
        largest = max(self.tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        if largest >= vocab:
            raise BundleError(
                f"{folder / TOKENIZER} has ids up to {largest}, the embedding table has {vocab} "
                "rows",
                "The tokenizer does not belong to this checkpoint.",
            )
        image, bos = self.conversation.image, self.conversation.bos
        for token in (bos, image.before, image.token, image.after, *self.conversation.stop):
            if token and self.tokenizer.token_to_id(token) is None:
                raise BundleError(
                    f"{folder / TOKENIZER} has no token '{token}', which the model's conversation "
                    "needs",
                    "The tokenizer does not belong to this checkpoint.",
                )
        self.stop_ids = frozenset(map(self.tokenizer.token_to_id, self.conversation.stop))

    def encode(
        self, prompt: str, image_lengths: Sequence[int], system: str | None = None
    ) -> Encoded:
        """A prompt, in the model's conversation, with its images.

        Args:
            prompt: what the user says; `<image>` where an image goes, else images come first.
            image_lengths: visual tokens of each image.
            system: instead of the conversation's own system message.

        Raises:
            UsageError: the prompt is empty, has another number of placeholders than there are
                images, or contains a control token; or the system message has a placeholder.
        """
        text, words = self._text(prompt, len(image_lengths), system)
        pieces = _pieces(text, words)
        image = self.conversation.image
        if image.token is None:
            ids, positions, own = self._between(pieces, image_lengths)
        else:
            whole, spans = "", []
            for (piece, span), length in zip(pieces, [*image_lengths, None], strict=True):
                spans.append((len(whole) + span[0], len(whole) + span[1]))
                whole += piece
                if length is not None:
                    whole += image.before + image.token * length + image.after
            ids, own = self._tokens(whole, spans)
            ids, own = self._first + ids, [at + len(self._first) for at in own]
            image_id = self.tokenizer.token_to_id(image.token)
            positions = [at for at, found in enumerate(ids) if found == image_id]
        return Encoded(
            np.array(ids, np.int64),
            np.array(positions, np.int64),
            np.array(image_lengths, np.int64),
            np.setdiff1d(np.array(own, np.int64), positions),
        )

    def stream(self) -> TextStream:
        """Turns the ids of an answer into text, one by one."""
        return TextStream(self.tokenizer)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    @property
    def _first(self) -> list[int]:
        """The token before every text, as an id: in the text it would change the first word."""
        bos = self.conversation.bos
        return [] if bos is None else [self.tokenizer.token_to_id(bos)]

    def _text(self, prompt: str, images: int, system: str | None) -> tuple[str, Span]:
        """The whole prompt as text, with a placeholder for each image, and where the words are."""
        for what, given in (("the prompt", prompt), ("--system", system or "")):
            try:
                given.encode()
            except UnicodeEncodeError as error:
                raise UsageError(
                    f"{what} is not UTF-8 at character {error.start + 1}",
                    "Use a terminal, or a file, in UTF-8.",
                ) from None
        self._check(prompt, images)
        if PLACEHOLDER in (system or ""):
            raise UsageError(
                f"--system contains the placeholder '{PLACEHOLDER}', expected plain text",
                "Write it in --prompt, where the image is to go.",
            )
        self._check_control_tokens("--system", system or "")
        conversation = self.conversation
        message = conversation.system_message if system is None else system
        if system is not None and conversation.system is None:
            raise UsageError(
                "this model takes no system message, but --system is given", "Leave it out."
            )
        asked, first = prompt.strip(), ""
        if PLACEHOLDER not in asked:
            image = conversation.image
            each = [image.first] if images == 1 else [image.each] * images
            first = "".join(
                text.replace("{image}", PLACEHOLDER).replace("{number}", str(number))
                for number, text in enumerate(each, 1)
            )
        text = conversation.opening
        if conversation.system is not None and message is not None:
            text += conversation.system.before + message + conversation.system.after
        text += conversation.prompt.before + first
        return text + asked + conversation.prompt.after, (len(text), len(text) + len(asked))

    def _between(
        self, pieces: Sequence[tuple[str, Span]], image_lengths: Sequence[int]
    ) -> tuple[list[int], list[int], list[int]]:
        """Pieces tokenized one by one with gaps between them, as LLaVA was trained."""
        ids = list(self._first)
        positions: list[int] = []
        own: list[int] = []
        for (piece, span), length in zip(pieces, [*image_lengths, 0], strict=True):
            tokens, inside = self._tokens(piece, [span])
            own += [len(ids) + at for at in inside]
            ids += tokens
            positions += range(len(ids), len(ids) + length)
            ids += [0] * length
        return ids, positions, own

    def _tokens(self, text: str, spans: Sequence[Span]) -> tuple[list[int], list[int]]:
        """Ids, and places of those whose characters lie in one of the `spans`.

        A blank before the first word may be outside: tokenizers make it a part of that word.
        """
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        inside = []
        for at, (start, end) in enumerate(encoding.offsets):
            own = end - len(text[start:end].lstrip(" ") or text[start:end])
            if start < end and any(low <= own and end <= high for low, high in spans):
                inside.append(at)
        return encoding.ids, inside

    def _check(self, prompt: str, images: int) -> None:
        if not prompt.replace(PLACEHOLDER, "").strip():
            raise UsageError("the prompt is empty", "Pass --prompt with at least one word.")
        placeholders = prompt.count(PLACEHOLDER)
        if placeholders and placeholders != images:
            raise UsageError(
                f"placeholders '{PLACEHOLDER}' in the prompt: {placeholders}, expected {images}, "
                "one per image",
                "Write one for each --image, or none: then the images come first.",
            )
        self._check_control_tokens("the prompt", prompt.replace(PLACEHOLDER, ""))

    def _check_control_tokens(self, what: str, text: str) -> None:
        """Somebody else's text must not end the user's turn."""
        ids = set(self.tokenizer.encode(text, add_special_tokens=False).ids)
        # By id as well: a tokenizer may find a token where the text spells it otherwise.
        found = next(
            (
                token
                for token_id, token in self._control_tokens.items()
                if token in text or token_id in ids
            ),
            None,
        )
        if found is not None:
            raise UsageError(
                f"{what} contains the control token '{found}'", "Leave it out, or spell it apart."
            )

    @cached_property
    def _control_tokens(self) -> dict[int, str]:
        added = self.tokenizer.get_added_tokens_decoder().items()
        allowed = self.conversation.markup
        return {i: token.content for i, token in added if token.content not in allowed}


def _pieces(text: str, words: Span) -> list[tuple[str, Span]]:
    """What lies between the placeholders, and which part of it belongs to `words`."""
    found = []
    start = 0
    for piece in text.split(PLACEHOLDER):
        low, high = max(words[0] - start, 0), min(words[1] - start, len(piece))
        found.append((piece, (low, max(low, high))))
        start += len(piece) + len(PLACEHOLDER)
    return found


class TextStream:
    """Pieces of text that add up to the decoded answer; never half a character.

    A piece is what the text grows by, in the sight of the piece before: a decoder treats the first
    token of a text differently. Bytes that stand for a character without a token are decoded run by
    run, and one that fits no character spoils its whole run; so a piece never ends within a run.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []  # of the last piece, and all after it
        self._said = 0  # how many of them are the last piece

    def put(self, token: int) -> str:
        """What the answer grows by with the next token; may be empty."""
        self._ids.append(token)
        # Nor does a run end with a token that writes nothing: decoders skip it.
        if BYTE.fullmatch(self._tokenizer.id_to_token(token) or "") or not self._decode([token]):
            return ""
        piece = self.end()
        if not piece or piece.endswith(HALF_A_CHARACTER):
            return ""
        del self._ids[: self._said]
        self._said = len(self._ids)
        return piece

    def end(self) -> str:
        """What is left when the answer ends within a character."""
        return self._decode(self._ids)[len(self._decode(self._ids[: self._said])) :]

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in `folder`.

    Raises:
        UsageError: there is none.
        BundleError: it cannot be read.
        EnvironmentMismatch: the tokenizers package is missing.
    """
    path = folder / TOKENIZER
    if not path.is_file():
        raise UsageError(
            f"{folder.parent} has no tokenizer.json, so a prompt cannot be read here",
            "Build it from a checkpoint with its tokenizer beside the weights.",
        )
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise EnvironmentMismatch(
            "the tokenizers package is not installed", "Run: pip install 'd2export[text]'"
        ) from None
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the bindings raise nothing more specific
        raise BundleError(
            f"{path} is no tokenizer: {error}",
            "Repair the checkpoint's tokenizer.json and build again.",
        ) from None
    # Settings of training, which the file keeps and transformers ignores too.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
