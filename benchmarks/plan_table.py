"""Time to a target on every cluster profile that antiphon brings along, by rival: `antiphon plan` on each, in one table.

Steps are measured, step times are formulas or simulated (`docs/plan.md`); the result has the source of every figure. With
`--save` the table is in `results/plan_table.md` too.
Run: `python benchmarks/plan_table.py --save`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import RESULTS, finish, parsed

import antiphon
from antiphon.commands.arguments import values_of
from antiphon.commands.cluster.plan import in_time
from antiphon.engine.planning.rivals.cluster_plan import RIVALS, ClusterPlan, plan_on_cluster
from antiphon.engine.virtual.profile import find_profile, profile_names


def main() -> None:
    """Parse arguments, plan, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", default="digits-mlp")
    parser.add_argument("--set", action="append", default=[], help="a parameter of the scenario: NAME=VALUE")
    parser.add_argument("--target", type=float, default=95.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of a run at most (default: the scenario's)")
    parser.add_argument("--profiles", default=",".join(profile_names()), help="separated by commas")
    arguments = parsed(parser)
    scenario = antiphon.load(arguments.scenario).resolve(None, values_of(arguments.set))
    settings: dict[str, Any] = {key: getattr(arguments, key) for key in ("target", "seeds", "steps")}
    plans = [
        plan_on_cluster(scenario, find_profile(name), **settings) for name in arguments.profiles.split(",")
    ]
    lines = markdown(plans)
    if arguments.save:
        (RESULTS / "plan_table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    result = {
        "benchmark": "plan_table",
        "scenario": arguments.scenario,
        "set": arguments.set,
        **settings,
        "plans": [plan.as_dict() for plan in plans],
    }
    finish(result, arguments, lines)


def markdown(plans: Sequence[ClusterPlan]) -> list[str]:
    """Return the table of several plans of one scenario, and the sentence of each."""
    first = plans[0]
    lines = [
        f"Time to {first.target} on the test split of `{first.scenario}`, mean of {first.seeds} seeds; in brackets the time of a step.",
        "",
        f"| rival | {' | '.join(plan.cluster for plan in plans)} |",
        f"|---|{'---|' * len(plans)}",
    ]
    for index, rival in enumerate(RIVALS):
        cells = [_cell(plan, index) for plan in plans]
        lines.append(f"| {rival} | {' | '.join(cells)} |")
    lines.append("")
    lines += [f"- {plan.verdict}" for plan in plans]
    return lines


def _cell(plan: ClusterPlan, index: int) -> str:
    estimate = plan.estimates[index]
    if estimate.seconds is None:
        return f"– ({estimate.failure})"
    setting = f"; {estimate.setting}" if estimate.setting else ""
    return f"{in_time(estimate.seconds)} ({in_time(estimate.step_seconds)}{setting})"


if __name__ == "__main__":
    main()
