"""Two engines agree as far as they kept the same tokens."""

from __future__ import annotations

import numpy as np

from d2export.evaluation.agreement import Agreement, agreements
from d2export.evaluation.configuration import Answered, Configuration
from tests.evaluation.small_model import small_samples

SAMPLES = small_samples(2)


def answered(name: str, sample: int, kept: list[int], text: str = "a") -> Answered:
    configuration = Configuration(name, name)
    return Answered(SAMPLES[sample], configuration, text, np.array(kept, np.int32), 16)


def test_kept_tokens_are_counted_by_configuration() -> None:
    ours = [
        answered("d2", 0, [1, 2, 3]),
        answered("d2", 1, [1, 2]),
        answered("sms", 0, [4, 5, 6, 7]),
        answered("ours alone", 0, [1]),
    ]
    theirs = [
        answered("d2", 1, [1, 2]),
        answered("d2", 0, [2, 3, 9], "b"),
        answered("sms", 0, [5]),
        answered("theirs alone", 0, [1]),
    ]
    found = agreements(ours, theirs)
    assert found == {"d2": Agreement(2, 5, 4, 1), "sms": Agreement(1, 4, 1, 1)}
    assert found["d2"].share == 0.8
    assert found["sms"].share == agreements(theirs, ours)["sms"].share == 0.25
    assert Agreement(0, 0, 0, 0).share == 1
