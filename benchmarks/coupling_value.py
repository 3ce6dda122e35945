"""What the learning signals of all channels of a chain on MNIST are worth after some steps, by coupling.

Each variant of `mnist-mlp` is run for `--at` steps; its value there is measured in forks (`antiphon.Simulation.value`).
Run: `python benchmarks/coupling_value.py --json` (needs MNIST in ANTIPHON_DATA, or the cache).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import finish, parsed, table

import antiphon

SCENARIO = "mnist-mlp"
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "locked": ("locked", {}),
    "local": ("local", {}),
    "decoupled": ("decoupled", {}),
    "decoupled, no context": ("decoupled", {"context": [], "sg_lr": 0.01}),
    "detached": ("detached", {}),
}
"""Variant and parameters, by the name in the table."""


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--at", type=int, default=200, help="steps before the measurement")
    parser.add_argument("--horizon", type=int, default=100, help="steps of learning in each fork")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parsed(parser)
    rows = []
    for name, (variant, values) in CASES.items():
        scenario = antiphon.load(SCENARIO).resolve(variant, values)
        with antiphon.Simulation(scenario, seed=arguments.seed) as simulation:
            simulation.run(steps=arguments.at)
            found = simulation.value(channels=[], horizon=arguments.horizon, repeats=arguments.repeats)
        (row,) = found.rows
        rows.append({"coupling": name, "value": row.value, "low": row.low, "high": row.high, "why": row.why})
    settings = {key: getattr(arguments, key) for key in ("at", "horizon", "repeats", "seed")}
    result = {"benchmark": "coupling_value", "scenario": SCENARIO, **settings, "rows": rows}
    finish(result, arguments, table(rows, ["coupling", "value", "low", "high", "why"]))


if __name__ == "__main__":
    main()
