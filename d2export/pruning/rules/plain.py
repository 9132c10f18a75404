"""Importance that looks at nothing: an even stride, and a seeded order.

Both are baselines that a published selector has to beat. As importance of a plain top-n they keep
exactly what is wanted. Written in integers, so that torch, ONNX Runtime, TensorRT and C++ agree to
the last bit; none has a number that depends on the shapes, so that a traced graph takes any.
"""

from __future__ import annotations

import torch
from torch import Tensor

PRIME = 46337  # the largest whose square fits int32; 2 mod 3, so that no two numbers share a cube
GOLDEN = 28638  # PRIME over the golden ratio: its multiples lie far from each other
ROUNDS = 6


def stride_scores(like: Tensor, kept: int | Tensor) -> Tensor:
    """`[N]` float32: 1 for `kept` tokens at even distances, 0 for the others.

    Token `i` is one of them iff `floor(((i + 1) n + h) / N) > floor((i n + h) / N)`, `h` being
    `floor(N / 2)`. Neighbours are `floor(N / n)` or `ceil(N / n)` apart. If `n >= N` all are 1.

    Args:
        like: `[N]` of any dtype; its length and device count.
        kept: `n`, a number, a symbolic size or an int64 scalar.
    """
    tokens = like.shape[0]
    token = torch.arange(tokens, device=like.device)
    # A remainder says whether one more step crosses a whole number. The quotients themselves would
    # not do: traced, the rounded division of integers becomes one of float32. What divides is a
    # tensor, because a symbolic size behind % does not trace; and not 0, which some runtimes refuse
    # to divide even nothing by; and not clamped, because TensorRT's Clip takes no integers.
    one = torch.ones((), dtype=torch.int64, device=like.device)
    divisor = torch.maximum(one * tokens, one)
    crossed = (token * kept + tokens // 2) % divisor + kept >= tokens
    return crossed.to(torch.float32)


def random_scores(like: Tensor, seed: int) -> Tensor:
    """`[N]` float32: whole numbers from 0 to 46336 in an order that only the seed decides.

    Token `i` starts as `x = i`; six rounds of `x -> (x + c_k)³ mod 46337`. Each is a bijection of
    the numbers below 46337, so that so many tokens have distinct scores; those of more repeat.

    Args:
        like: `[N]` of any dtype; its length and device count.
        seed: whole number; seeds that differ by less than 46337² = 2147117569 differ in their
            scores.
    """
    x = torch.arange(like.shape[0], dtype=torch.int32, device=like.device)
    for constant in round_constants(seed):
        x = (x + constant) % PRIME
        x = x * x % PRIME * x % PRIME
    return x.to(torch.float32)


def round_constants(seed: int) -> tuple[int, ...]:
    """What each round adds: `c_k = (k + 1) 28638`, to two of them the seed, all mod 46337.

    The seed is added to `c_1`, the seed and `floor(seed / 46337)` to `c_3`. Of two seeds, let `s`
    and `t` be what `c_1` gets. `G`, rounds 1 and 2 without the first sum, is a polynomial of degree
    9. Equal scores would mean that `G(y + s) - G(y + t)` is the same for all `y`; but for `s != t`
    it has degree 8. With `s = t`, what `c_3` gets would have to be equal, too.
    """
    constants = [(k + 1) * GOLDEN for k in range(ROUNDS)]
    constants[1] += seed
    constants[3] += seed + seed // PRIME
    return tuple(constant % PRIME for constant in constants)
