"""The CUDA ops on a GPU: are they right, and how fast are they?

    python scripts/gpu/kernels.py [--library FILE] [--cases 200] [--seed N] [--json FILE]

Needs a CUDA GPU and torch with CUDA. Builds plugins/ for this GPU with CMake and nvcc, unless
--library names a libd2export_device_driver.so that was built elsewhere.

1. equality: fresh random inputs, every dtype, and rows at the ends of the number range, against the
   CPU: indices and rows. A quarter as many cases of each of the other ops (rules.py, prompts.py).
2. the same under compute-sanitizer's memcheck, racecheck and synccheck, where it is installed.
3. a captured CUDA graph of each, replayed on new inputs in the same memory.
4. time: CUDA events around many launches, medians; D2Prune beside the paper's dense loop in torch
   on the same GPU, and beside a plain copy of the features.

Exit code 0: all passed; 1: a check failed; 3: this machine cannot run it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import prompts
import rules
from launch import DTYPES, Launch, build, graphed, microseconds
from margin import theta_between

from d2export.models.tiling import token_grid
from d2export.pruning.parameters import OP_TYPE, PruneParameters
from d2export.pruning.selection import (
    Scored,
    debias,
    diagonal_of,
    select,
    unit,
)

# Microseconds, float16, on an H200: estimated, not run. For inputs whose walk ends in its first
# round ("random"). The "worst" ones take all rounds: about 480 us for 3328 tokens, estimated, too.
GOALS = {(3328, 4096, 333): 150.0, (576, 4096, 57): 40.0}
# Rows of -size, 0 and size, whose products float32 has exactly unless they overflow.
EXTREMES = (
    (torch.bfloat16, 139 * 2.0**56),  # 1e19: three squares stay below the largest float32
    (torch.float32, 139 * 2.0**56),
    (torch.bfloat16, 2.0**-70),  # squares are denormal
    (torch.float32, 2.0**-70),
    (torch.float16, 2.0**-24),  # elements are denormal
)
# No cosine of theirs is near. Below 0, the cosine 0 of a row whose squares overflow makes edges.
EXTREME_THETAS = (0.76, -0.1)


# --- 1. Equality ----------------------------------------------------------------------------------


def random_case(generator: torch.Generator, dtype: torch.dtype) -> tuple[Scored, PruneParameters]:
    """Tokens of a few kinds, so that there are edges; theta where no similarity is near."""

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    tokens = number(1, 1200) if number(0, 8) else 3328
    channels = (8, 33, 64, 896, 1024, 4096)[number(0, 6)]
    batch, heads = number(1, 4), number(1, 9)
    kinds = torch.randn(number(1, 400), channels, generator=generator)
    chosen = torch.randint(len(kinds), (batch, tokens), generator=generator)
    noise = torch.randn(batch, tokens, channels, generator=generator)
    features = (kinds[chosen] + (0.0, 0.3, 1.0)[number(0, 3)] * noise).to(dtype)
    importance = torch.randint(4096, (batch, heads, tokens), generator=generator) / 4096
    grid = torch.from_numpy(token_grid(4, 3, 16))[:tokens]
    alpha = (0.25, 0.5, 1.0)[number(0, 3)]
    parameters = PruneParameters(
        keep=number(1, tokens + 2),
        pivot_ratio=(0.0, 0.3, 0.7)[number(0, 3)],
        alpha=alpha,
        theta=theta_between([(rows, grid) for rows in features], alpha, generator),
        pivots_block=number(0, 3) == 0,
    )
    return Scored(features, importance, torch.ones(tokens), grid), parameters


def extreme_case(
    generator: torch.Generator, dtype: torch.dtype, size: float, theta: float
) -> tuple[Scored, PruneParameters]:
    """Six of 64 channels are -size, 0 or size."""
    tokens = 576
    features = torch.zeros(1, tokens, 64)
    signs = torch.randint(4, (1, tokens, 6), generator=generator)
    features[:, :, :6] = torch.tensor([-size, 0, 0, size])[signs]
    inputs = Scored(
        features.to(dtype),
        torch.randint(4096, (1, tokens), generator=generator) / 4096,
        torch.ones(tokens),
        torch.from_numpy(token_grid(1, 1, 24)),
    )
    return inputs, PruneParameters(keep=200, alpha=1.0, theta=theta)


def is_equal(library: ctypes.CDLL, inputs: Scored, parameters: PruneParameters) -> bool:
    """Whether the op keeps the tokens, and returns the rows, that it does on the CPU."""
    launch = Launch(library, OP_TYPE, tuple(tensor.cuda() for tensor in inputs), parameters)
    launch()
    return launch.answers(select(*inputs, parameters))


def check_equality(library: ctypes.CDLL, cases: int, seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    wrong = 0
    for number in range(cases):
        dtype = list(DTYPES)[number % 3]
        inputs, parameters = random_case(generator, dtype)
        if not is_equal(library, inputs, parameters):
            wrong += 1
            print(f"  differs: case {number}, {dtype}, {list(inputs.features.shape)}, {parameters}")
    extremes = [(*extreme, theta) for extreme in EXTREMES for theta in EXTREME_THETAS]
    for dtype, size, theta in extremes:
        if not is_equal(library, *extreme_case(generator, dtype, size, theta)):
            wrong += 1
            print(f"  differs: {dtype}, rows of {size:g}, theta {theta}")
    return {"cases": cases + len(extremes), "seed": seed, "wrong": wrong, "passed": wrong == 0}


# --- 2. compute-sanitizer -------------------------------------------------------------------------


def check_sanitizers(path: Path, seed: int) -> dict[str, Any]:
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return {"passed": None, "why": "compute-sanitizer is not on the PATH: not run"}
    results: dict[str, Any] = {}
    for check in ("memcheck", "racecheck", "synccheck"):
        command = [tool, f"--tool={check}", "--error-exitcode=9", sys.executable, __file__]
        only = ["--library", str(path), "--only-equality", "--cases", "6", "--seed", str(seed)]
        done = subprocess.run([*command, *only], capture_output=True, text=True, check=False)
        results[check] = done.returncode == 0
        if done.returncode:
            print(done.stdout[-2000:], done.stderr[-2000:])
    return {**results, "passed": all(results.values())}


# --- 3. CUDA graph --------------------------------------------------------------------------------


def check_graph(library: ctypes.CDLL, seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    first, parameters = random_case(generator, torch.float16)
    launch = Launch(library, OP_TYPE, tuple(tensor.cuda() for tensor in first), parameters)
    replay = graphed(launch)
    wrong = 0
    replays = 20
    for _ in range(replays):
        importance = torch.randint(4096, first.importance.shape, generator=generator) / 4096
        launch.inputs[1].copy_(importance)
        replay()
        torch.cuda.synchronize()
        expected = select(*first._replace(importance=importance), parameters)
        wrong += not torch.equal(launch.indices.cpu(), expected)
    return {"replays": replays, "wrong": wrong, "passed": wrong == 0}


# --- 4. Time --------------------------------------------------------------------------------------


def dense_loop(inputs: Scored, parameters: PruneParameters) -> Tensor:
    """The paper's loop on the GPU: the full graph, then one argmax and one masking a token."""
    features, importance, prior, grid = inputs
    wanted = parameters.kept(features.shape[1])
    r = debias(importance, prior, parameters.eps)[0]
    rows = unit(features[0]).to(features.dtype)
    offset = torch.cdist(grid, grid)
    spatial = 1 - offset / diagonal_of(grid)
    edges = (
        parameters.alpha * (rows @ rows.T).float() + (1 - parameters.alpha) * spatial
        > parameters.theta
    )
    kept = r.topk(parameters.pivots(wanted)).indices
    available = r.index_fill(0, kept, -torch.inf)
    members = []
    for _ in range(wanted - len(kept)):
        best = available.argmax().view(1)
        members.append(best)
        available = available.masked_fill(edges[best[0]], -torch.inf)
        available.index_fill_(0, best, -torch.inf)
    return torch.cat([kept, *members]).sort().values


def timed_case(tokens: int, channels: int, keep: int, dtype: torch.dtype, kind: str) -> Any:
    generator = torch.Generator().manual_seed(0)
    grid = token_grid(4, 3, 16) if tokens == 3328 else token_grid(1, 1, round(tokens**0.5))
    features = torch.randn(1, tokens, channels, generator=generator)
    parameters = PruneParameters(keep=keep)
    if kind == "worst":  # one kind less than the set may hold: it is exhausted, all are visited
        missing = keep - parameters.pivots(keep)
        kinds = torch.randn(missing - 1, channels, generator=generator)
        chosen = torch.randint(missing - 1, (1, tokens), generator=generator)
        features = kinds[chosen] + 0.1 * features
        parameters = PruneParameters(keep=keep, alpha=1.0, theta=0.8)
    inputs = Scored(
        features.to(dtype),
        torch.rand(1, tokens, generator=generator),
        torch.ones(tokens),
        torch.from_numpy(grid),
    )
    return Scored(*(tensor.cuda() for tensor in inputs)), parameters


def measure(library: ctypes.CDLL) -> list[dict[str, Any]]:
    rows = []
    print(
        "microseconds, medians  tokens     d  keep  dtype     d2export   graph   dense loop"
        "    ratio  copy of input  goal"
    )
    for tokens, channels, keep in [(576, 4096, 57), (3328, 4096, 333), (3328, 1024, 333)]:
        for kind in ("random", "worst"):
            for dtype in (torch.float16, torch.float32):
                inputs, parameters = timed_case(tokens, channels, keep, dtype, kind)
                launch = Launch(library, OP_TYPE, inputs, parameters)
                op = microseconds(launch, runs=20, at_once=50)
                replay = microseconds(graphed(launch), runs=20, at_once=50)
                loop = microseconds(lambda i=inputs, p=parameters: dense_loop(i, p), 5, 1)
                target = torch.empty_like(inputs.features)
                copy = microseconds(
                    lambda i=inputs, t=target: t.copy_(i.features), runs=20, at_once=50
                )
                goal = GOALS.get((tokens, channels, keep)) if dtype == torch.float16 else None
                name = str(dtype).removeprefix("torch.")
                print(
                    f"{kind:<22}{tokens:>7}{channels:>6}{keep:>6}  {name:<8}{op:>10.1f}"
                    f"{replay:>8.1f}{loop:>13.1f}{loop / op:>9.0f}{copy:>15.1f}  {goal or ''}",
                    flush=True,
                )
                rows.append(
                    {
                        "input": kind,
                        "tokens": tokens,
                        "channels": channels,
                        "keep": keep,
                        "dtype": name,
                        "op_us": op,
                        "graph_us": replay,
                        "dense_loop_us": loop,
                        "copy_us": copy,
                        "goal_us": goal,
                    }
                )
    return rows


def main() -> int:
    """Run everything, print as it goes, and write the figures if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=torch.seed() % 2**32)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only-equality", action="store_true")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("No CUDA GPU, or a torch without CUDA: not run.", file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.library or build(Path(folder))
        library = ctypes.CDLL(str(path))
        gpu = torch.cuda.get_device_name()
        print(f"{gpu}, CUDA {torch.version.cuda}, torch {torch.__version__}, seed {arguments.seed}")
        report: dict[str, Any] = {"gpu": gpu, "cuda": torch.version.cuda}
        report["equality"] = check_equality(library, arguments.cases, arguments.seed)
        print(f"equality: {report['equality']}")
        quarter = -(-arguments.cases // 4)
        report["equality of rules"] = rules.check_equality(library, quarter, arguments.seed)
        print(f"equality of rules: {report['equality of rules']}")
        report["equality of prompts"] = prompts.check_equality(library, quarter, arguments.seed)
        print(f"equality of prompts: {report['equality of prompts']}")
        if not arguments.only_equality:
            report["sanitizers"] = check_sanitizers(path, arguments.seed)
            print(f"compute-sanitizer: {report['sanitizers']}")
            report["graph"] = check_graph(library, arguments.seed)
            print(f"CUDA graph: {report['graph']}")
            report["graphs of rules"] = rules.check_graphs(library, arguments.seed)
            print(f"CUDA graphs of rules: {report['graphs of rules']}")
            report["graph of prompts"] = prompts.check_graph(library, arguments.seed)
            print(f"CUDA graph of prompts: {report['graph of prompts']}")
            report["time"] = measure(library)
            report["time of rules"] = rules.measure(library)
            report["time of prompts"] = prompts.measure(library)
    failed = [
        name
        for name in report
        if isinstance(report[name], dict) and report[name].get("passed") is False
    ]
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    print(f"FAILED: {', '.join(failed)}" if failed else "PASSED")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
