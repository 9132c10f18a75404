"""What a user may call a model, and what happens if it is none."""

import pytest

from d2export.errors import CheckpointError
from d2export.models.checkpoint import find_checkpoint
from d2export.models.config import spec_from_config
from d2export.models.presets import PRESETS
from d2export.models.random_weights import config_for


def test_a_home_folder_of_nobody():
    with pytest.raises(CheckpointError, match="nosuchuser"):
        find_checkpoint("~nosuchuser/model")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("architectures", [["x"]]),
        ("downsample_ratio", float("inf")),
        ("downsample_ratio", 5e-324),
        ("downsample_ratio", 10**400),
        ("max_dynamic_patch", 10**9),
        ("vision_config.num_hidden_layers", 100_000_000),
        ("vision_config.layer_norm_eps", float("inf")),
        ("llm_config.architectures", [{}]),
    ],
)
def test_a_config_with_an_impossible_number_is_named(key, value):
    config = config_for(PRESETS["pocket"])
    *sections, last = key.split(".")
    section = config
    for name in sections:
        section = section[name]
    section[last] = value
    with pytest.raises(CheckpointError, match=last):
        spec_from_config(config, "folder")
