"""Warnings of policies that learn from the ends of episodes, where the episodes of a run were longer than their windows."""

from __future__ import annotations

from collections.abc import Mapping

from antiphon.base.extensions import name_of
from antiphon.envs.signal import Description
from antiphon.scenarios import Scenario
from antiphon.scenarios.scenario_warnings import Finding, about


def short_windows(
    scenario: Scenario, env: Description, steps: int, metrics: Mapping[str, float]
) -> list[Finding]:
    """Return a line for each kind of policy and length of window that missed the beginnings of episodes, or all of them.

    Where the environment declares the length of its episodes, `advice` has a line before the run.
    """
    agents: dict[tuple[str, int], list[str]] = {}
    for name in sorted(scenario.relations.learners):
        goal, window = scenario.agents[name].objective, scenario.windows[name]
        if goal is not None and goal.needs_an_end and isinstance(window, int) and window <= steps:
            agents.setdefault((name_of(goal.kind), window), []).append(name)
    length = metrics.get("episode_length")
    warnings: list[Finding] = []
    for (kind, window), names in agents.items() if env.episode_steps is None else ():
        if length is not None and length <= window:
            continue
        ended = "no episode has ended" if length is None else f"episodes have {length:,.0f} steps"
        missed = "nothing is learned" if length is None else "their first steps teach nothing"
        warnings += about(
            "agent",
            names,
            f"{ended}, and {kind} learns only from ticks whose episode ends in the same window, of {window} "
            f"steps: {missed}; use an unroll of several episodes, or kind: ppo",
        )
    return warnings
