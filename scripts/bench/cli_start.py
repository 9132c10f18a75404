"""How long `d2export --help` takes, beside a Python that does nothing.

    python scripts/bench/cli_start.py [--runs 10]

Prints the median of fresh processes, after one that fills the disk cache, and the ratio of the two.
"""

from __future__ import annotations

import sys

del sys.path[0]  # this folder, whose select.py hides the standard library's

import argparse
import statistics
import subprocess
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "d2export --help": [sys.executable, "-m", "d2export", "--help"],
}


def main() -> None:
    """Print a line per command, then the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    medians = {}
    for name, command in COMMANDS.items():
        seconds(command)
        medians[name] = statistics.median(seconds(command) for _ in range(runs))
        print(f"{name:<16} {1e3 * medians[name]:7.1f} ms, median of {runs}")
    nothing, help_text = medians.values()
    print(f"{'ratio':<16} {help_text / nothing:7.1f}")


def seconds(command: list[str]) -> float:
    """Wall time of one process."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
