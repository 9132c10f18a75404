"""When does a check pass, and what does it say?"""

import json

import numpy as np
import pytest

from d2export.errors import BundleError
from d2export.verify.accuracy import TOLERANCES, AccuracyReport, compare
from d2export.verify.near_ties import NearTies
from d2export.verify.reference import Reference, read_reference

FP32, FP16 = TOLERANCES["fp32"], TOLERANCES["fp16"]


def reference(indices=range(8), tokens=100, hidden=16):
    random = np.random.default_rng(0)
    everything = random.standard_normal((tokens, hidden)).astype(np.float32)
    kept = np.array(indices, np.int32)
    return Reference(
        pixels=np.zeros((1, 3, 4, 4), np.uint8),
        token_grid=np.zeros((tokens, 2), np.float32),
        image_embeds=everything[kept],
        kept_indices=kept,
    )


def case(expected, embeds, indices, tolerances=FP32, near_ties=None):
    indices = np.array(indices, np.int32)
    return compare("photo", expected, embeds, indices, tolerances, 0.1, near_ties)


def report(precision, *cases):
    return AccuracyReport("onnxruntime", "native", precision, TOLERANCES[precision], cases)


def test_the_same_answer_passes():
    expected = reference()
    same = case(expected, expected.image_embeds, range(8))
    assert (same.common, same.kept, same.indices_equal) == (8, 8, True)
    assert same.embeddings_error == 0
    assert same.cosine == pytest.approx(1)
    assert report("fp32", same).passed


def test_the_error_is_relative_to_the_largest_magnitude():
    expected = reference()
    magnitude = np.abs(expected.image_embeds).max()
    for factor, match in ((0.9, True), (1.1, False)):
        moved = expected.image_embeds.copy()
        moved[3, 5] += factor * 1e-5 * magnitude
        result = case(expected, moved, range(8))
        assert result.embeddings_error == pytest.approx(factor * 1e-5, rel=0.05)
        assert result.embeddings_match is match
        assert report("fp32", result).passed is match


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_inf_fail(value):
    expected = reference()
    broken = expected.image_embeds.copy()
    broken[0, 0] = value
    assert not report("fp32", case(expected, broken, range(8))).passed


def test_fp32_asks_for_equal_indices():
    expected = reference(range(8))
    other = reference([0, 1, 2, 3, 4, 5, 6, 9])
    result = case(expected, other.image_embeds, other.kept_indices)
    assert (result.common, result.indices_equal) == (7, False)
    assert result.embeddings_match  # on the tokens that both kept
    assert not report("fp32", result).passed


def test_fp16_lets_one_percent_differ_over_all_cases():
    expected = reference(range(100), tokens=200)
    other = reference([*range(99), 150], tokens=200)
    same = case(expected, expected.image_embeds, range(100), FP16)
    one_off = case(expected, other.image_embeds, other.kept_indices, FP16)
    assert report("fp16", same, one_off).agreement == 0.995
    assert report("fp16", same, one_off).passed
    two_off = reference([*range(98), 150, 151], tokens=200)
    worse = case(expected, two_off.image_embeds, two_off.kept_indices, FP16)
    assert not report("fp16", worse, worse).passed


def test_a_difference_that_is_no_near_tie_fails():
    expected = reference(range(100), tokens=200)
    other = reference([*range(99), 150], tokens=200)
    for ties, passed in (
        (NearTies(2, True, 1e-3, 0, 1e-2), True),
        (NearTies(2, True, 2e-2, 0, 1e-2), False),  # the scores were not close
        (NearTies(2, True, 0, 2e-2, 1e-2), False),  # the similarity was not close to theta
        (NearTies(2, False, 0, 0, 1e-2), False),  # PyTorch's selection does not explain it
    ):
        one_off = case(expected, other.image_embeds, other.kept_indices, FP16, ties)
        assert report("fp16", one_off).passed is passed


def test_nothing_in_common_fails():
    expected, other = reference(range(8)), reference(range(50, 58))
    result = case(expected, other.image_embeds, other.kept_indices, FP16)
    assert result.common == 0
    assert not report("fp16", result).passed


def test_another_number_of_tokens_fails():
    expected = reference()
    for count in (5, 7):
        fewer = case(expected, expected.image_embeds[:count], range(count))
        assert (fewer.kept, fewer.common, fewer.indices_equal) == (8, count, False)
        assert not report("fp32", fewer).passed


@pytest.mark.parametrize(
    "spoil",
    [
        lambda embeds, indices: (embeds[::-1], indices[::-1]),  # not ascending
        lambda embeds, indices: (embeds, np.maximum(indices, 1)),  # one of them twice
        lambda embeds, indices: (np.vstack([embeds, embeds[:1]]), np.append(indices, 150)),
        lambda embeds, indices: (embeds, np.append(indices[:-1], 999_999)),
        lambda embeds, indices: (np.where(embeds == embeds[5, 5], np.nan, embeds), indices),
    ],
)
def test_a_malformed_answer_fails_in_half_precision_too(spoil):
    expected = reference(range(100), tokens=200)
    embeds, indices = spoil(expected.image_embeds, expected.kept_indices)
    result = case(expected, embeds, indices, FP16)
    assert not result.well_formed
    assert not report("fp16", result).passed


def test_another_width_fails():
    expected = reference()
    narrow = case(expected, expected.image_embeds[:, :5], range(8))
    assert not report("fp32", narrow).passed


def test_the_report_is_json_even_if_nothing_is_in_common():
    expected, other = reference(range(8)), reference(range(50, 58))
    result = report("fp32", case(expected, other.image_embeds, other.kept_indices))
    content = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert content["cases"][0]["embeddings_error"] is None
    assert content["passed"] is False


def test_a_reference_survives_its_file(tmp_path):
    expected = reference()
    expected.save(tmp_path / "a.npz")
    again = read_reference(tmp_path / "a.npz")
    assert again.prompt_embeds is None
    for name, value in vars(expected).items():
        if value is not None:
            np.testing.assert_array_equal(getattr(again, name), value)


@pytest.mark.parametrize("damage", ["truncated", "not a zip", "pickle", "missing array"])
def test_a_damaged_reference_is_named(damage, tmp_path):
    path = tmp_path / "a.npz"
    reference().save(path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "not a zip":
        path.write_bytes(b"hello")
    elif damage == "pickle":
        np.savez(path, pixels=np.array([object()], dtype=object))
    else:
        np.savez(path, pixels=np.zeros(3))
    with pytest.raises(BundleError, match=r"a\.npz"):
        read_reference(path)
