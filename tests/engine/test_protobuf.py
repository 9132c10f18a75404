"""The wire format, against the protobuf package; what is no message is refused."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from d2export.engine.protobuf import BYTES, FIXED32, FIXED64, VARINT, Field, Message

ATTRIBUTE_FLOAT, ATTRIBUTE_INT, ATTRIBUTE_TYPE = 2, 3, 20


def test_a_message_of_another_encoder() -> None:
    data = helper.make_attribute("alpha", 0.5).SerializeToString()
    found = Message(data)
    assert found.text(1) == "alpha"
    fields = {field.number: field for field in found.fields}
    assert fields[ATTRIBUTE_FLOAT].wire == FIXED32
    assert fields[ATTRIBUTE_TYPE] == Field(ATTRIBUTE_TYPE, VARINT, onnx.AttributeProto.FLOAT)
    assert found.encoded() == data


@pytest.mark.parametrize("number", [0, 1, 127, 128, 2**31, 2**62, -1, -(2**63)])
def test_numbers(number: int) -> None:
    data = helper.make_attribute("keep", number).SerializeToString()
    (value,) = (one.value for one in Message(data).fields if one.number == ATTRIBUTE_INT)
    assert value == number % 2**64
    assert Message(data).encoded() == data


def test_a_whole_model_passes_unchanged() -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["n", 2]) for name in "xy"]
    weight = helper.make_tensor("w", TensorProto.DOUBLE, [2], [1.5, -2.5])
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", values[:1], values[1:], [weight], doc_string="ä")
    data = helper.make_model(graph).SerializeToString()
    assert Message(data).encoded() == data


def test_fields_are_added_replaced_and_removed() -> None:
    node = Message(helper.make_node("Mul", ["x", "w"], ["y"]).SerializeToString())
    assert node.texts(1) == ["x", "w"]
    node.change(1, lambda name: b"new." + name)
    node.replace(2, [b"y", b"z"])
    node.add(7, b"d2export")
    found = onnx.NodeProto.FromString(node.encoded())
    assert list(found.input) == ["new.x", "new.w"]
    assert list(found.output) == ["y", "z"]
    assert found.domain == "d2export"
    node.remove(1)
    assert list(onnx.NodeProto.FromString(node.encoded()).input) == []


def test_a_missing_string_is_empty() -> None:
    assert Message().text(1) == ""
    assert Message().encoded() == b""


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x0a\x05abc", "5 bytes wanted at byte 2, 3 are left"),
        (b"\x80", "a number without an end at byte 0"),
        (b"\x08" + b"\xff" * 11, "a number without an end at byte 1"),
        (b"\x0b", "wire type 3 at byte 1"),
        (b"\x0d\x00", "4 bytes wanted at byte 1, 1 are left"),
        (b"\x09\x00", "8 bytes wanted at byte 1, 1 are left"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Message(data)


@given(st.binary(max_size=64))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        found = Message(data)
    except ValueError:
        return
    assert Message(found.encoded()).fields == found.fields


FIELDS = st.lists(
    st.one_of(
        st.builds(Field, st.integers(1, 2**20), st.just(VARINT), st.integers(0, 2**64 - 1)),
        st.builds(Field, st.integers(1, 2**20), st.just(BYTES), st.binary(max_size=300)),
        st.builds(
            Field, st.integers(1, 2**20), st.just(FIXED32), st.binary(min_size=4, max_size=4)
        ),
        st.builds(
            Field, st.integers(1, 2**20), st.just(FIXED64), st.binary(min_size=8, max_size=8)
        ),
    ),
    max_size=8,
)


@given(FIELDS)
def test_any_fields_are_read_as_written(fields: list[Field]) -> None:
    message = Message()
    message.fields = fields
    assert Message(message.encoded()).fields == fields
