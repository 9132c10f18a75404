"""A model larger than the memory, run in PyTorch: a weight is read when its layer needs it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from d2export.models.safetensors_file import TensorRef, load


def stream_weights(
    module: nn.Module, refs: Mapping[str, TensorRef], *, keep: Collection[str] = ()
) -> None:
    """Have each submodule of a module on the meta device read its weights when it is called.

    Args:
        refs: where each parameter lies, by its name in `module`.
        keep: parameters that are also read outside the call of their own submodules: these are
            loaded now.
    """
    for path, leaf in module.named_modules():
        names = {
            name: f"{path}.{name}" if path else name
            for name in dict(leaf.named_parameters("", False))
        }
        if not names:
            continue
        if any(full in keep for full in names.values()):
            _fill(leaf, {name: refs[full] for name, full in names.items()})
        elif isinstance(leaf, nn.Embedding):
            leaf.forward = partial(_rows, refs[names["weight"]])  # type: ignore[method-assign]
        else:
            here = {name: refs[full] for name, full in names.items()}
            leaf.register_forward_pre_hook(lambda leaf, _, here=here: _fill(leaf, here))
            leaf.register_forward_hook(lambda leaf, *_: _empty(leaf))


def _rows(table: TensorRef, ids: Tensor) -> Tensor:
    """Rows of a table, without reading the others."""
    found = [load(table.rows(index, index + 1)) for index in ids.flatten().tolist()]
    return torch.from_numpy(np.concatenate(found)).view(*ids.shape, -1)


def _fill(leaf: nn.Module, refs: Mapping[str, TensorRef]) -> None:
    for name, ref in refs.items():
        leaf._parameters[name] = nn.Parameter(torch.from_numpy(load(ref)), requires_grad=False)


def _empty(leaf: nn.Module, *_: Any) -> None:
    for name, parameter in leaf._parameters.items():
        if parameter is not None:
            leaf._parameters[name] = nn.Parameter(parameter.to("meta"), requires_grad=False)
