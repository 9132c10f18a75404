"""Write engines/runtime/text/unicode_table.inc: what the tokenizers package knows of Unicode.

    .venv/bin/python scripts/unicode_table.py > engines/runtime/text/unicode_table.inc

The C++ runtime has to split and compose texts as the package does, whose parts are of different
versions of Unicode: its regular expressions know letters of Unicode 16 that Python 3.11 does not,
its NFC leaves marks of Unicode 11 and later where they stand. So every character is put to the
package itself; Python's unicodedata only says which ones are worth asking about.
"""

from __future__ import annotations

import argparse
import unicodedata
from collections.abc import Iterable, Sequence

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

CHARACTERS = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
HANGUL = range(0xAC00, 0xAC00 + 11172)  # composed by arithmetic
# Of class 232 and 230: a mark of a lower class goes before the one, of a higher behind the other.
ABOVE_RIGHT, ABOVE = "\u0315", "\u0300"

Range = tuple[int, int]
Row = Sequence[int | Sequence[int]]


def matched(expression: str, characters: Sequence[str] = CHARACTERS) -> set[int]:
    """Those of `characters` that a regular expression of one character matches."""
    split = pre_tokenizers.Split(Regex(expression), "removed")
    left = {c for piece, _ in split.pre_tokenize_str("".join(characters)) for c in piece}
    return {ord(c) for c in characters if c not in left}


def parts_of_words(characters: Sequence[str] = CHARACTERS) -> set[int]:
    """Those of `characters` beside which a token that is a word of its own is not found."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.add_tokens([AddedToken("<x>", single_word=True, normalized=False)])
    text = "".join(f"{c}<x>\n" for c in characters)
    starts = {start for start, _ in tokenizer.encode(text).offsets}
    return {ord(c) for i, c in enumerate(characters) if i * 5 + 1 not in starts}


def combining_classes() -> dict[int, int]:
    """The class of each mark that changes places; to the package the others are no marks."""
    nfd = normalizers.NFD()

    def moves(mark: str) -> bool:
        return any(
            nfd.normalize_str(text) != text for text in (f"a{ABOVE_RIGHT}{mark}", f"a{mark}{ABOVE}")
        )

    marks = {c: unicodedata.combining(c) for c in CHARACTERS if unicodedata.combining(c)}
    return {ord(mark): number for mark, number in marks.items() if moves(mark)}


def decompositions() -> dict[int, str]:
    """Characters and what NFD makes of them, those of Hangul left out."""
    nfd = normalizers.NFD()
    whole = {ord(c): nfd.normalize_str(c) for c in CHARACTERS if ord(c) not in HANGUL}
    return {c: text for c, text in whole.items() if text != chr(c)}


def compositions() -> dict[tuple[int, int], int]:
    """Pairs and what NFC makes of them, those of Hangul left out."""
    nfc = normalizers.NFC()
    pairs = {}
    for c in CHARACTERS:
        parts = unicodedata.decomposition(c).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            first, second = (int(part, 16) for part in parts)
            if nfc.normalize_str(chr(first) + chr(second)) == c:
                pairs[first, second] = ord(c)
    return pairs


def ranges(characters: Iterable[int]) -> list[Range]:
    """First and last of each run, ascending."""
    found: list[Range] = []
    for c in sorted(characters):
        if found and found[-1][1] == c - 1:
            found[-1] = (found[-1][0], c)
        else:
            found.append((c, c))
    return found


def braced(row: Row) -> str:
    """A row as C++ writes it."""
    parts = (f"{part:#x}" if isinstance(part, int) else braced(part) for part in row)
    return "{" + ", ".join(parts) + "}"


def written(kind: str, name: str, rows: Iterable[Row]) -> str:
    """A C++ array, as many rows to a line as fit."""
    line, lines = "   ", []
    for row in rows:
        entry = f" {braced(row)},"
        if len(line + entry) > 100:
            lines.append(line)
            line = "   "
        line += entry
    return f"constexpr {kind} {name}[] = {{\n" + "\n".join([*lines, line]) + "\n};\n"


def print_table() -> None:
    classes = combining_classes()
    marks = [
        (first, last, number)
        for number in sorted(set(classes.values()))
        for first, last in ranges(c for c, found in classes.items() if found == number)
    ]
    decomposed = decompositions()
    width = max(map(len, decomposed.values()))
    print(
        f"// Made by scripts/unicode_table.py of tokenizers {tokenizers.__version__} and"
        f" Python's Unicode {unicodedata.unidata_version}.\n"
    )
    for name, characters in (
        ("kLetters", matched(r"\p{L}")),
        ("kNumbers", matched(r"\p{N}")),
        ("kSpaces", matched(r"\s")),
        ("kWordParts", parts_of_words()),
    ):
        print(written("Range", name, ranges(characters)))
    print(written("Mark", "kMarks", sorted(marks)))
    assert width == 4, "a row of Decomposition has room for 4"
    print(
        written(
            "Decomposition",
            "kDecompositions",
            ([c, [*map(ord, text)]] for c, text in sorted(decomposed.items())),
        )
    )
    print(
        written("Pair", "kPairs", ([*pair, c] for pair, c in sorted(compositions().items()))),
        end="",
    )


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    ).parse_args()
    print_table()
