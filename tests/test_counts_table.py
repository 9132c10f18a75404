"""`models --flops`, and what a build says of its stages."""

from __future__ import annotations

import json

from d2export.counts_table import KEEPS, counts_text
from d2export.models.presets import PRESETS
from d2export.pruning.flops import Prompt, decode, prefill, selection
from d2export.pruning.parameters import PruneParameters
from d2export.pruning.plan import d2_plan
from d2export.pruning.vision_flops import vision
from tests.command import Caller


def test_models_with_flops(d2: Caller) -> None:
    answer = d2("models", "--flops")
    assert answer.code == 0
    header, *lines = answer.out.splitlines()
    assert header.split()[:5] == ["model", "visual", "keep", "kept", "prefill"]
    rows = [line.split() for line in lines[: len(PRESETS) * len(KEEPS)]]
    assert [row[0] for row in rows] == [name for name in PRESETS for _ in KEEPS]
    assert [row[2] for row in rows] == list(KEEPS) * len(PRESETS)
    chosen = {(row[0], row[2]): row[3:] for row in rows}
    assert chosen["llava-1.5-7b", "64"] == [
        "64",
        "857.0",
        "78.9%",
        "78.7%",
        "78.9%",
        "68.7",
        "78.6%",
    ]
    assert chosen["internvl2.5-8b", "10%"][:5] == ["332", "4,087.1", "84.5%", "84.1%", "84.4%"]
    assert chosen["internvl2.5-8b", "all"][2:5] == ["0.0%"] * 3
    assert len({len(line) for line in [header, *lines[: len(rows)]]}) == 1  # aligned
    assert max(map(len, answer.out.splitlines())) <= 100


def test_the_papers_figure_beside_the_formula(d2: Caller) -> None:
    paper = "\n".join(d2("models", "--flops").out.splitlines()[-2:])
    assert "The paper says 74.2%" in paper
    assert "(98 from layer 2 on)" in paper
    assert "73.7% with 35 text tokens" in paper
    assert "74.2% with 31 text tokens" in paper


def test_models_with_flops_as_json(d2: Caller) -> None:
    listed = json.loads(d2("models", "--flops", "--json").out)
    assert list(listed) == list(PRESETS)
    found = listed["internvl2.5-8b"]["25%"]
    text, prompt = PRESETS["internvl2.5-8b"].text, Prompt(35, 3328, 832, 2)
    assert found["prefill_macs"] == prefill(text, prompt).macs
    assert found["kv_bytes"] == prefill(text, prompt).kv_bytes
    assert found["prefill_macs_causal"] == prefill(text, prompt, attention="causal").macs
    assert found["visual_tokens"] == 3328
    assert found["kept"] == 832
    assert listed["llava-1.5-7b"]["all"]["importance_rows"] == 0


def test_stages_of_a_model() -> None:
    spec, parameters = PRESETS["internvl2.5-8b"], PruneParameters(keep=64)
    plan = d2_plan(parameters, layer=3)
    shown = counts_text(spec.text, spec.vision, plan, 1280, 40)
    first, header, *lines, last = shown.splitlines()
    assert first == (
        "1,280 visual tokens of one picture and 40 text tokens; "
        "64 visual tokens kept from layer 3 on; 2 bytes a value"
    )
    assert " ".join(header.split()) == "stage GMAC weights MB KV cache MB activations MB"
    prompt = Prompt(40, 1280, 64, 3)
    before = prefill(spec.text, prompt.unpruned())
    stages = {
        "vision tower, projector": vision(spec.vision, spec.text.hidden, tiles=5),
        "prefill, all tokens": before,
        "prefill, pruned": prefill(spec.text, prompt),
        "decode step, all tokens": decode(spec.text, prompt.unpruned()),
        "decode step, pruned": decode(spec.text, prompt),
    }
    for line, (name, cost) in zip(lines, stages.items(), strict=False):
        sizes = [f"{size / 1e6:,.1f}" for size in cost[1:]]
        assert line.startswith(name)
        assert line.removeprefix(name).split() == [f"{cost.macs / 1e9:,.3f}", *sizes]
    most = selection(parameters, 1280, spec.text.hidden).most
    assert lines[len(stages) :] == [lines[-1]]
    assert lines[-1].split() == ["selection,", "at", "most", f"{most / 1e9:,.3f}"]
    assert last.startswith("Prefill saves ")
    wide = counts_text(spec.text, spec.vision, plan, 1280, 40, width=4).splitlines()
    assert wide[0].endswith("4 bytes a value")
    assert wide[3].split()[4:] == [f"{2 * size / 1e6:,.1f}" for size in before[1:]]
