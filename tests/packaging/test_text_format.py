"""Text that Google's own reader of protocol buffers takes for the same message."""

from __future__ import annotations

from types import ModuleType

from google.protobuf import text_format as google

from d2export.packaging.text_format import Word, text_format


def test_every_kind_of_field_is_read_back(triton_messages: ModuleType) -> None:
    message = {
        "name": 'a "quoted" name\\',
        "platform": None,
        "max_batch_size": 4,
        "input": [
            {"name": "x", "data_type": Word("TYPE_FP16"), "dims": [-1, 3], "optional": True},
            {"name": "y", "data_type": Word("TYPE_INT64"), "dims": [2]},
        ],
        "output": [],
        "parameters": [{"key": "k", "value": {"string_value": "v"}}],
        "model_transaction_policy": {"decoupled": False},
    }
    read = google.Parse(text_format(message), triton_messages.ModelConfig())
    built = triton_messages.ModelConfig(name='a "quoted" name\\', max_batch_size=4)
    built.input.add(name="x", data_type=triton_messages.TYPE_FP16, dims=[-1, 3], optional=True)
    built.input.add(name="y", data_type=triton_messages.TYPE_INT64, dims=[2])
    built.parameters["k"].string_value = "v"
    built.model_transaction_policy.decoupled = False
    assert read == built
