"""A small model with random weights, and a bundle of it, that several files ask."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2export.models.checkpoint import Checkpoint
from tests.evaluation.small_model import write_bundle, write_small_model


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A checkpoint."""
    return write_small_model(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="session")
def d2_bundle(small_model: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pruned to 8 tokens inside the language model."""
    return write_bundle(small_model, tmp_path_factory.mktemp("d2") / "bundle", keep="8")
