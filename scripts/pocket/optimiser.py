"""Muon and AdamW, whose state is float32 while the model's weights are bfloat16.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; scaled as in arXiv 2502.16982)
takes the matrices inside the layers: its step is the momentum with all singular values made equal.
AdamW takes the rest. Both step at one rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.98)
EPS = 1e-8
DECAY = 0.02
CLIP = 1.0
MOMENTUM = 0.95
RMS = 0.2  # of a step of Muon's, about that of AdamW's
# Newton-Schulz iterations towards the orthogonal factor of a matrix, and their polynomial.
ITERATIONS = 5
POLYNOMIAL = (3.4445, -4.7750, 2.0315)


class Optimiser:
    """Steps clipped by the norm of all gradients; only matrices decay.

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
        inner = [is_inner(name, weight) for name, weight in self.named.items()]
        self.muon = [index for index, found in enumerate(inner) if found]
        self.adamw = [index for index, found in enumerate(inner) if not found]
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
        torch._foreach_mul_(self.masters, [1 - rate * DECAY * decay for decay in self.decays])
        self._adamw(gradients, rate)
        self._muon(gradients, rate)
        torch._foreach_copy_(self.weights, self.masters)
        for weight in self.weights:
            weight.grad = None
        return norm

    def _adamw(self, gradients: list[Tensor], rate: float) -> None:
        if not self.adamw:
            return
        weights, first, second, gradients = (
            [tensors[index] for index in self.adamw]
            for tensors in (self.masters, self.first, self.second, gradients)
        )
        torch._foreach_lerp_(first, gradients, 1 - BETAS[0])
        torch._foreach_mul_(second, BETAS[1])
        torch._foreach_addcmul_(second, gradients, gradients, 1 - BETAS[1])
        size = torch._foreach_div(second, 1 - BETAS[1] ** self.steps)
        torch._foreach_sqrt_(size)
        torch._foreach_add_(size, EPS)
        torch._foreach_addcdiv_(weights, first, size, -rate / (1 - BETAS[0] ** self.steps))

    def _muon(self, gradients: list[Tensor], rate: float) -> None:
        for index in self.muon:
            weight, momentum, gradient = (
                tensors[index] for tensors in (self.masters, self.first, gradients)
            )
            momentum.lerp_(gradient, 1 - MOMENTUM)
            step = orthogonal(gradient.lerp(momentum, MOMENTUM))
            weight.add_(step, alpha=-rate * RMS * math.sqrt(max(weight.shape)))

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


def is_inner(name: str, weight: Tensor) -> bool:
    """Whether a parameter is a matrix inside a layer, neither input nor output of the model."""
    return weight.dim() == 2 and (".layers." in name or "projector" in name)


def orthogonal(matrix: Tensor) -> Tensor:
    """Near the nearest matrix with orthonormal rows or columns: singular values of 0.7 to 1.2."""
    a, b, c = POLYNOMIAL
    x = matrix / (matrix.norm() + 1e-7)
    if wide := x.shape[0] > x.shape[1]:
        x = x.T
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if wide else x
