"""Small bundles of both scopes, and Triton's own protocol buffers."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from d2export.models.presets import INTERNVIT_300M, ModelSpec, TextSpec
from d2export.models.random_weights import write_random_checkpoint
from tests.small_tokenizers import write_qwen2

VISION = replace(
    INTERNVIT_300M,
    image=replace(INTERNVIT_300M.image, size=56),
    hidden=64, layers=1, used_layers=1, heads=4, mlp=128,
)  # fmt: skip
TEXT = TextSpec("qwen2", 64, 3, 4, 2, 128, 512, 1e4, 512, 1e-6)


@pytest.fixture(scope="session")
def vlm_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scope `vlm`, pruned before layer 2 of 3, with a tokenizer; 4 visual tokens a tile."""
    import d2export
    from d2export.pipeline import export

    folder = tmp_path_factory.mktemp("packed-vlm")
    spec = ModelSpec("small", "internvl", None, VISION, TEXT, weight_dtype="F32")
    write_random_checkpoint(spec, folder / "checkpoint", 0, scope="vlm")
    write_qwen2(folder / "checkpoint")
    options = d2export.ExportOptions(str(folder / "checkpoint"), scope="vlm", keep="3")
    export(options, folder / "small-vlm")
    return folder / "small-vlm"


@pytest.fixture(scope="session")
def triton_messages() -> ModuleType:
    """`model_config_pb2` of Triton's client, without the rest of it, which wants gRPC."""
    client = importlib.util.find_spec("tritonclient")
    if client is None or not client.submodule_search_locations:
        pytest.skip("tritonclient is not installed: pip install 'd2export[dev]'")
    path = Path(client.submodule_search_locations[0], "grpc", "model_config_pb2.py")
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
