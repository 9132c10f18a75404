"""What every selector costs, alone and as a share of the prefill that it saves.

    python scripts/bench/selectors.py [--runs 3] [--tokens 576] [--tokens 3328] [--quick]

One run, one thread, float32, width 4,096: medians of each selector's rule as the torch reference,
as the ONNX function in ONNX Runtime and as native code, where there is such. Time is the process's
CPU time, which with one thread is the clock's unless something else runs on the core. Features
resemble each other as those of a picture do (cosine 0.8). Importance is given, for d2 and fastv the
attention row of 32 heads, whose mean is taken in the measured time; random and uniform make theirs
in it.

The share is computed, not measured: selection / (MACs saved / rate). The MACs are those of
InternVL2.5-8B's 32 layers by d2export/pruning/flops.py, with 64 tokens of text, pruned before layer
2 where importance comes from the language model and before layer 0 otherwise; an attention row to
prune by counts against the saving. The rate is measured here: one such layer in torch, float32, on
as many threads. sms keeps as many as the elbow says, here before layer 0 only.
"""

from __future__ import annotations

import sys

del sys.path[0]  # this folder, whose select.py hides the standard library's

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import onnxruntime
import torch
from onnx import TensorProto
from torch import Tensor, nn

from d2export.export.onnx_function import prune_model
from d2export.models.decoder import (
    DecoderLayer,
    KeyValue,
    Rotation,
    causal_mask,
    inverse_frequencies,
)
from d2export.models.presets import TextSpec, preset
from d2export.models.tiling import token_grid
from d2export.pruning import flops, native
from d2export.pruning.rules import RULES
from d2export.pruning.rules.plain import random_scores, stride_scores
from d2export.pruning.selector import Selector
from d2export.pruning.selectors import SELECTORS

MODEL = "internvl2.5-8b"
TOKENS, WIDTH, TEXT_TOKENS, PRUNE_LAYER = (576, 3328), 4096, 64, 2
BUDGETS = ({"keep_permille": 100}, {"keep": 64})
LAYER_TOKENS = 256  # that the rate is measured with

Call = Callable[[], Tensor]


class Scores(nn.Module):
    """Importance `[1, N]` of the selectors whose scores look at nothing."""

    def __init__(self, selector: Selector, kept: int) -> None:
        super().__init__()
        self.is_random, self.kept = "random" in selector.importance, kept

    def forward(self, like: Tensor) -> Tensor:
        """Of the tokens `like`, `[N]`."""
        scores = random_scores(like, 0) if self.is_random else stride_scores(like, self.kept)
        return scores.unsqueeze(0)


def inputs_of(selector: Selector, tokens: int) -> dict[str, Tensor]:
    """What the selector's rule reads, by name."""
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(WIDTH, generator=generator)
    own = torch.randn(1, tokens, WIDTH, generator=generator)
    heads = (32,) if "llm" in selector.importance else ()
    attention = torch.randn(1, *heads, tokens, generator=generator).mul(1.5).softmax(-1)
    tiles = (1, 1, 24) if tokens == 576 else (4, 3, 16)
    known = {
        "importance": attention,
        "prior": torch.ones(tokens),
        "grid": torch.from_numpy(token_grid(*tiles)),
    }
    beside = {name: known[name] for name in RULES[selector.rule].inputs}
    return {"features": common + 0.5 * own, **beside}


def session_of(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options)


def forms(selector: Selector, inputs: dict[str, Tensor], parameters: Any) -> dict[str, Call]:
    """Calls that give the kept indices, by what runs them."""
    rule = RULES[selector.rule]
    scores = None
    if {"random", "stride"} & set(selector.importance):
        scores = Scores(selector, parameters.kept(inputs["features"].shape[1]))
    line = inputs["features"][0, :, 0].clone()

    def in_torch(**using: str) -> Tensor:
        given = {**inputs, **({"importance": scores(line)} if scores else {})}
        return rule.select(*given.values(), parameters, **using)

    feeds = {name: value.numpy() for name, value in inputs.items()}
    heads = inputs.get("importance", line).dim() == 3
    model = prune_model(parameters, 17, TensorProto.FLOAT, heads=heads, op_type=selector.rule)
    session = session_of(model.SerializeToString())
    scored = session_of(as_onnx(scores, line)) if scores else None

    def in_onnx() -> Tensor:
        given = dict(feeds)
        if scored:
            given["importance"] = scored.run(None, {"like": line.numpy()})[0]
        return torch.from_numpy(session.run(["indices"], given)[0])

    if not rule.native:
        return {"reference": in_torch, "onnx": in_onnx}
    return {
        "reference": lambda: in_torch(using="torch"),
        "onnx": in_onnx,
        "native": lambda: in_torch(using="native"),
    }


def as_onnx(scores: Scores, line: Tensor) -> bytes:
    program = torch.onnx.export(scores.eval(), (line,), dynamo=True, verbose=False)
    assert program is not None
    serialized: bytes = program.model_proto.SerializeToString()
    return serialized


def median_ms(call: Call, runs: int) -> tuple[float, Tensor]:
    """CPU time, after one call that is not counted, of at least `runs` calls and 0.2 seconds."""
    answer = call()
    times: list[float] = []
    while len(times) < runs or (sum(times) < 0.2 and len(times) < 200):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return 1e3 * statistics.median(times), answer


def macs_per_second(text: TextSpec, runs: int) -> float:
    """Of the arithmetic of a prefill: one decoder layer with random weights, the median run."""
    layer = DecoderLayer(text).eval()
    angles = torch.arange(LAYER_TOKENS)[:, None] * inverse_frequencies(text)
    angles = torch.cat([angles, angles], dim=1)[None, None]
    states = torch.randn(1, LAYER_TOKENS, text.hidden)
    nothing = torch.empty(1, text.kv_heads, 0, text.head_dim)
    mask = causal_mask(LAYER_TOKENS, 0, states)
    rotation, past = Rotation(angles.cos(), angles.sin()), KeyValue(nothing, nothing)
    milliseconds, _ = median_ms(lambda: layer(states, rotation, mask, past)[0], runs)
    prompt = flops.Prompt(LAYER_TOKENS, 0, 0, 0, importance_rows=0)
    head = text.hidden * text.vocab
    return 1e3 * (flops.prefill(replace(text, layers=1), prompt).macs - head) / milliseconds


def macs_saved(text: TextSpec, selector: Selector, tokens: int, kept: int) -> int:
    """By the whole language model's prefill."""
    inside = "llm" in selector.importance
    prompt = flops.Prompt(TEXT_TOKENS, tokens, kept, PRUNE_LAYER if inside else 0, int(inside))
    return flops.prefill(text, prompt.unpruned()).macs - flops.prefill(text, prompt).macs


def measure(selector: Selector, tokens: int, parameters: Any, rate: float, runs: int) -> str:
    """A row of the table."""
    calls = forms(selector, inputs_of(selector, tokens), parameters)
    results = {name: median_ms(call, runs) for name, call in calls.items()}
    times = {name: milliseconds for name, (milliseconds, _) in results.items()}
    indices = [answer for _, answer in results.values()]
    same = all(torch.equal(indices[0], other) for other in indices)
    kept = indices[0].shape[1]
    saved = macs_saved(text_spec(), selector, tokens, kept) / rate
    core = times.get("native")
    cells = (
        selector.name,
        f"{tokens:,}",
        f"{kept}",
        f"{times['reference']:.2f}",
        f"{times['onnx']:.2f}",
        f"{core:.3f}" if core else "none",
        f"{times['reference'] / core:.0f}" if core else "",
        f"{saved:.1f} s",
        f"{times['onnx'] / 1e3 / saved:.5%}",
        f"{core / 1e3 / saved:.5%}" if core else "",
        *(() if same else ("THEY DIFFER",)),
    )
    return f"| {' | '.join(cells)} |"


def text_spec() -> TextSpec:
    return preset(MODEL).text


def budgets(selector: Selector) -> Sequence[dict[str, int]]:
    """How many to keep; the elbow decides by itself."""
    return BUDGETS if selector.counted else ({},)


def main() -> None:
    """Print a row per selector, number of tokens and budget."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--tokens", type=int, choices=TOKENS, action="append")
    parser.add_argument("--quick", action="store_true", help="576 tokens, one run, keep 10 %% only")
    arguments = parser.parse_args()
    native.require()
    torch.set_num_threads(1)
    runs = 1 if arguments.quick else arguments.runs
    sizes = TOKENS[:1] if arguments.quick else arguments.tokens or TOKENS
    with torch.inference_mode():
        rate = macs_per_second(text_spec(), runs)
        print(f"A decoder layer of {MODEL} runs at {rate / 1e9:.1f} GMAC/s.\n")
        print(
            "| selector | tokens | kept | reference, ms | ONNX function, ms | native, ms "
            "| reference / native | prefill saved, computed | ONNX function, share of it, computed "
            "| native, share of it, computed |\n"
            "|---|---|---|---|---|---|---|---|---|---|"
        )
        for tokens in sizes:
            for selector in SELECTORS.values():
                attributes = selector.attributes(selector.resolve({}))
                for budget in budgets(selector)[: 1 if arguments.quick else None]:
                    parameters = selector.parameters(**budget, **attributes)
                    print(measure(selector, tokens, parameters, rate, runs), flush=True)


if __name__ == "__main__":
    main()
