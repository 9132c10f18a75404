"""Scenes are the same every time, nothing overlaps, and every question has the one answer given."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2export.errors import UsageError
from d2export.evaluation.scenes.questions import (
    BINS,
    KINDS,
    PLURALS,
    ask,
    bin_of,
    bin_text,
    box_text,
)
from d2export.evaluation.scenes.references import CLEARLY, by_look, by_place, describe
from d2export.evaluation.scenes.scene import GAP, SIZES, Item, Scene, make_scene
from d2export.evaluation.scenes.shapes import COLOURS, LETTERS, SHAPES, shape_mask, text_mask
from d2export.evaluation.scenes.task import pocket_scenes, score
from d2export.evaluation.scenes.textures import SIDE, texture

seeds = st.integers(0, 2**20)
RED_RING = Item("ring", "red", "small", 50, 200, 40, 40)
FAR_RED_RING = Item("ring", "red", "small", 300, 200, 40, 40)
LARGE_RED_SQUARE = Item("square", "red", "large", 150, 180, 100, 100)
BLUE_RING = Item("ring", "blue", "large", 300, 20, 90, 90)
SIGN = Item("sign", "blue", "", 20, 20, 100, 50, "KLO")
GOLDEN = (RED_RING, FAR_RED_RING, LARGE_RED_SQUARE, BLUE_RING, SIGN)


def drawn(seed: int, objects: int = 9, signs: int = 2) -> tuple[np.random.Generator, Scene]:
    random = np.random.default_rng(seed)
    return random, make_scene(random, objects, signs=signs)


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_nothing_overlaps_or_leaves_the_picture(seed: int) -> None:
    _, scene = drawn(seed)
    covered = np.zeros((SIDE, SIDE), int)
    for item in scene.items:
        x1, y1, x2, y2 = item.box
        assert 0 <= x1 < x2 <= SIDE
        assert 0 <= y1 < y2 <= SIDE
        covered[max(y1 - GAP + 1, 0) : y2, max(x1 - GAP + 1, 0) : x2] += 1
    assert covered.max() <= 1


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_a_seed_is_a_picture(seed: int) -> None:
    first, second = drawn(seed)[1], drawn(seed)[1]
    assert first == second
    np.testing.assert_array_equal(first.draw(), second.draw())
    assert (first.draw() != drawn(seed + 1)[1].draw()).mean() > 0.5


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_an_object_is_where_its_box_says(seed: int) -> None:
    """Outside of all boxes there is the texture; inside, each side of the box is touched."""
    _, scene = drawn(seed)
    bare = Scene((), scene.background).draw()
    changed = (scene.draw() != bare).any(axis=2)
    for item in scene.items:
        x1, y1, x2, y2 = item.box
        inside = changed[y1:y2, x1:x2]
        edges = (inside[:3], inside[-3:], inside[:, :3], inside[:, -3:])
        assert all(edge.any() for edge in edges)
        changed[y1:y2, x1:x2] = False
    assert not changed.any()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", [SIZES["small"][0], SIZES["large"][1] - 1])
def test_shapes_differ(shape: str, side: int) -> None:
    mask = shape_mask(shape, side)
    assert mask.shape == (side, side)
    assert (mask.min(), mask.max()) == (0, 1) or shape == "square"
    others = [shape_mask(other, side) for other in SHAPES if other != shape]
    assert min(np.abs(mask - other).mean() for other in others) > 0.1


def test_letters_differ_by_two_cells_at_least() -> None:
    cells = {letter: np.array([list(row) for row in rows]) for letter, rows in LETTERS.items()}
    assert {drawn.shape for drawn in cells.values()} == {(7, 5)}
    least = min((cells[a] != cells[b]).sum() for a in cells for b in cells if a < b)
    assert least >= 2
    assert text_mask("AL", 3).shape == (30, 42)


def test_textures_have_no_seam() -> None:
    for index in (0, 47):
        found = texture(index).astype(int)
        step = np.abs(np.diff(found, axis=0)).mean()
        assert np.abs(found[0] - found[-1]).mean() < 3 * step + 1
    assert (texture(0) != texture(1)).mean() > 0.5


def test_by_look() -> None:
    """Worked out by hand: of two like rings none is found; three words for the large square."""
    assert list(by_look(GOLDEN, RED_RING)) == []
    assert [found.phrase for found in by_look(GOLDEN, LARGE_RED_SQUARE)] == [
        "the square",
        "the large red object",
        "the large square",
        "the red square",
        "the large red square",
    ]
    assert [found.phrase for found in by_look(GOLDEN, SIGN)] == ["the sign", "the blue sign"]
    assert next(by_look(GOLDEN, BLUE_RING)).phrase == "the large blue object"


def test_by_place() -> None:
    """The left one of two like rings lies left of the square; above and below tell nothing."""
    phrases = {
        found.phrase
        for seed in range(60)
        if (found := by_place(np.random.default_rng(seed), GOLDEN, RED_RING, LARGE_RED_SQUARE))
    }
    relations = {re.sub(r"^the .* (left of|right of|above|below) .*", r"\1", p) for p in phrases}
    assert relations == {"left of"}
    assert "the red ring left of the large red square" in phrases
    assert "the small object left of the square" in phrases
    assert by_place(np.random.default_rng(0), GOLDEN, LARGE_RED_SQUARE, RED_RING) is None


def test_boxes_are_thousandths() -> None:
    assert box_text((0, 7, 224, 448), SIDE) == "<box>[[8, 23, 508, 992]]</box>"
    assert [bin_of(edge, SIDE) for edge in (0, 6.9, 7, 447, 448)] == [0, 0, 1, 63, 63]
    assert len({bin_text(index) for index in range(BINS)}) == BINS


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_a_question_fits_its_answer_only(seed: int) -> None:
    """Read from the words alone, by a second reading of what they mean."""
    random, scene = drawn(seed)
    for kind in KINDS:
        question = ask(random, scene, kind)
        if question is None:
            continue
        if kind == "count":
            words = question.prompt.removeprefix("How many ").removesuffix(" are there?").split()
            named = [item for item in scene.items if item.size and said_by(words, item)]
            assert question.answer == str(len(named))
        elif kind == "read":
            words = question.prompt.split()[3:-1]
            assert [item.text for item in scene.items if said_by(words, item)] == [question.answer]
        else:
            phrase = re.search(r"<ref>the (.*)</ref>", question.prompt)
            assert phrase is not None
            [item] = referred_to(phrase[1], scene)
            assert (item,) == question.items
            expected = item.name if kind == "name" else box_text(item.box, scene.side)
            assert question.answer == expected


def said_by(words: list[str], item: Item) -> bool:
    known = {"object": lambda item: True, "objects": lambda item: True}
    known |= {word: lambda item, word=word: item.size == word for word in SIZES}
    known |= {word: lambda item, word=word: item.colour == word for word in COLOURS}
    for shape in (*SHAPES, "sign"):
        names = (shape, PLURALS.get(shape, "signs"))
        known |= {name: lambda item, shape=shape: item.shape == shape for name in names}
    return all(known[word](item) for word in words)


def referred_to(phrase: str, scene: Scene) -> list[Item]:
    parts = re.split(r" (left of|right of|above|below) the ", phrase)
    found = [item for item in scene.items if said_by(parts[0].split(), item)]
    if len(parts) == 1:
        return found
    [anchor] = [item for item in scene.items if said_by(parts[2].split(), item)]
    axis, sign = {
        "left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)
    }[parts[1]]  # fmt: skip
    far = [
        item
        for item in found
        if item != anchor and sign * (item.centre[axis] - anchor.centre[axis]) > 0
    ]
    assert all(abs(item.centre[axis] - anchor.centre[axis]) >= CLEARLY for item in far)
    return far


def test_describe() -> None:
    assert describe(RED_RING, ("size", "colour")) == "the small red object"
    assert RED_RING.name == "small red ring"


def test_the_task_is_fixed() -> None:
    few, more = pocket_scenes(scenes=2), pocket_scenes(scenes=5)
    assert len(more.samples) == 20
    assert [s.id for s in few.samples] == [s.id for s in more.samples[:8]]
    assert [s.prompt for s in few.samples] == [s.prompt for s in more.samples[:8]]
    first = more.samples[0]
    np.testing.assert_array_equal(np.asarray(first.load()), np.asarray(more.samples[3].load()))
    assert {s.kind for s in more.samples} == set(KINDS) == set(more.metric)
    other = pocket_scenes("tune", scenes=5)
    assert [s.prompt for s in other.samples] != [s.prompt for s in more.samples]


def test_scores() -> None:
    samples = {sample.kind: sample for sample in pocket_scenes(scenes=1).samples}
    locate = samples["locate"]
    x1, y1, x2, y2 = (round(1000 * edge) for edge in locate.truth)
    width = x2 - x1
    assert score(locate, f"<box>[[{x1}, {y1}, {x2}, {y2}]]</box>") == 1
    assert score(locate, f"[[{x1}, {y1}, {x1 + width // 2 - 9}, {y2}]]") == 0
    assert score(locate, "there") == 0
    for kind in ("read", "name", "count"):
        truth = str(samples[kind].truth)
        assert score(samples[kind], f" {truth.upper()} ") == 1
        assert score(samples[kind], f"{truth}{truth}") == 0


def test_bad_settings() -> None:
    with pytest.raises(UsageError, match="no split 'train'"):
        pocket_scenes("train")
    with pytest.raises(UsageError, match="0 scenes"):
        pocket_scenes(scenes=0)
