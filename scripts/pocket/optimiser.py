"""AdamW whose state is float32 while the model's weights are bfloat16."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.98)
EPS = 1e-8
DECAY = 0.02
CLIP = 1.0


class Optimiser:
    """Steps of AdamW, clipped by the norm of all gradients; only matrices decay.

    Args:
        parameters: by name; they may be of any type.
    """

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
        self.named = dict(parameters)
        self.weights = list(self.named.values())
        self.masters = [weight.detach().float().clone() for weight in self.weights]
        self.first = [torch.zeros_like(weight) for weight in self.masters]
        self.second = [torch.zeros_like(weight) for weight in self.masters]
        self.decays = [float(weight.dim() >= 2) for weight in self.weights]
        self.steps = 0

    @torch.no_grad()
    def step(self, rate: float) -> float:
        """One step; returns the norm of the gradients before clipping."""
        self.steps += 1
        gradients = [weight.grad.float() for weight in self.weights if weight.grad is not None]
        if len(gradients) != len(self.weights):
            missing = [name for name, weight in self.named.items() if weight.grad is None]
            raise RuntimeError(f"no gradient for {missing}")
        norm = math.sqrt(sum(float(norm) ** 2 for norm in torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, min(1.0, CLIP / (norm + 1e-6)))
        torch._foreach_lerp_(self.first, gradients, 1 - BETAS[0])
        torch._foreach_mul_(self.second, BETAS[1])
        torch._foreach_addcmul_(self.second, gradients, gradients, 1 - BETAS[1])
        size = torch._foreach_div(self.second, 1 - BETAS[1] ** self.steps)
        torch._foreach_sqrt_(size)
        torch._foreach_add_(size, EPS)
        torch._foreach_mul_(self.masters, [1 - rate * DECAY * decay for decay in self.decays])
        torch._foreach_addcdiv_(
            self.masters, self.first, size, -rate / (1 - BETAS[0] ** self.steps)
        )
        torch._foreach_copy_(self.weights, self.masters)
        for weight in self.weights:
            weight.grad = None
        return norm

    def to(self, device: torch.device) -> None:
        """Keep the state on another device."""
        for tensors in (self.masters, self.first, self.second):
            tensors[:] = [tensor.to(device) for tensor in tensors]

    def state(self) -> dict[str, Tensor]:
        """All there is to go on from, float32."""
        return {
            f"{kind}.{name}": tensor
            for kind, tensors in (
                ("weight", self.masters),
                ("first", self.first),
                ("second", self.second),
            )
            for name, tensor in zip(self.named, tensors, strict=True)
        }

    @torch.no_grad()
    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """Go on from `state()` after `steps` steps."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
        torch._foreach_copy_(self.weights, self.masters)
        self.steps = steps
