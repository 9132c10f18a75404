"""VQA accuracy: the normal forms are those of mmf's own program, run on these answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2export.evaluation.formats.vqa_accuracy import plain, vqa_accuracy

FORMS = [
    ("Dakota", "dakota"),
    ("The Two Dogs.", "2 dogs"),
    ("dont", "don't"),
    ("Im sure", "im sure"),
    ("it's", "it 's"),
    ("whats up", "what's up"),
    ("she'dve", "she'd've"),
    ("shouldntve", "shouldntve"),
    ("shouldn'tve", "shouldn't've"),
    ("'twas", "'twas"),
    ("twas", "'twas"),
    ("somebody'd", "somebodyd"),
    ("somebodyd've", "somebody'd've"),
    ("shed", "shed"),
    ("ill", "ill"),
    ("None", "0"),
    ("zero", "0"),
    ("ten", "10"),
    ("eleven", "eleven"),
    ("3.5", "3.5"),
    ("3.", "3"),
    (".5", ".5"),
    ("St. Paul", "st paul"),
    ("U.S.A.", "usa"),
    ("1,000", "1000"),
    ("1, 000", "1 000"),
    ("red,blue", "redblue"),
    ("red-hot", "red hot"),
    ("red - hot", "red hot"),
    ("red-hot - cold", "redhot cold"),
    ("red -hot-x", "red hotx"),
    ("red- hot-x", "red hotx"),
    ("x;-y-z", "x y z"),
    ("x-;y-z", "x y z"),
    ("a/b", "b"),
    ("and / or", "and or"),
    ("Yes!", "yes"),
    ("what?", "what"),
    ("(c) 2004", "c 2004"),
    ("x_y", "x y"),
    ("www.a.com", "wwwacom"),
    ("a\nb", "b"),
    ("one\ttwo", "1 2"),
    ("  the  ", ""),
    ("", ""),
    ("an", ""),
    ("10:30", "10:30"),
    ("50%", "50%"),
    ("$5.00", "$5.00"),
    ("rock'n'roll", "rock'n'roll"),
    ("l'eau", "l'eau"),
    ("Ärger", "ärger"),
    ("........................................", "........"),
    ('he said "no"', "he said no"),
    ("o clock", "o clock"),
    ("5 oclock", "5 o'clock"),
    ("yall'll", "y'all'll"),
    ("ow'sat", "ow 'sat"),
]


@pytest.mark.parametrize(("answer", "form"), FORMS)
def test_the_normal_form_of_an_answer(answer, form):
    assert plain(answer) == form


@given(st.lists(st.sampled_from(["one", "The 1", "2", "b"]), min_size=10, max_size=10))
def test_accuracy_leaves_each_person_out_once(truths):
    same = [truth in ("one", "The 1") for truth in truths]
    leaving_out = [min(1, sum(same[:i] + same[i + 1 :]) / 3) for i in range(10)]
    assert vqa_accuracy("One.", truths) == pytest.approx(sum(leaving_out) / 10)


@pytest.mark.parametrize(
    ("people", "score"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (5, 1), (9, 1), (10, 1)]
)
def test_accuracy_by_the_number_of_people(people, score):
    assert vqa_accuracy("dakota", ["Dakota!"] * people + ["digital"] * (10 - people)) == score
