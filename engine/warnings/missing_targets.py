"""Warnings of targets that are missing everywhere, from which nothing is learned: in data in memory, and in the examples of a run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import torch
from torch import Tensor

from antiphon.base.errors import AntiphonError
from antiphon.envs.data import Source
from antiphon.envs.registry import make
from antiphon.envs.signal import Description
from antiphon.envs.stream import ExampleStream
from antiphon.scenarios import Scenario
from antiphon.scenarios.env_spec import EnvSpec
from antiphon.scenarios.scenario_warnings import Finding, about

_AT_ONCE = 4096
"""Examples that are searched for a target at once."""
_FEW = 100
"""Examples of a run, below which some of its targets may be missing by chance."""

Target = tuple[str, int | None]
"""A target signal, and the class of it that does not count."""


def missing_in_data(scenario: Scenario, env: Description) -> list[Finding]:
    """Return a line about each target that no training example of the user's own data in memory has."""
    agents: dict[Target, list[str]] = {}
    for name, agent in scenario.agents.items():
        for goal in agent.objectives.values():
            if goal.target is not None and goal.target in env.signals:
                names = agents.setdefault((goal.target, goal.get("ignore_index")), [])
                if name not in names:
                    names.append(name)
    fact = f"is missing in all {env.example_counts.get('train', 0):,} training examples"
    missing = _never_present(scenario.env, agents)
    return [finding for target in missing for finding in _missing(agents[target], target[0], fact)]


def missing_in_run(
    scenario: Scenario, env: Description, steps: int, had_target: Callable[[str], bool]
) -> list[Finding]:
    """Return a line about each target that no example of a run had; data in memory are searched before it.

    Args:
        had_target: Whether an agent, by its name, has had any target.
    """
    relations, examples = scenario.relations, steps // env.hold * scenario.training.batch
    if is_own_data(scenario.env) or not env.is_stream or examples < _FEW:
        return []
    waiting = {channel.sender for channel in scenario.channels if channel.coupling.waits}
    begins = env.hold + sum(channel.link.delay for channel in scenario.channels)
    agents: dict[str, list[str]] = {}
    for name in sorted(relations.learners):
        agent, window = scenario.agents[name], scenario.windows[name]
        targets = {goal.target for goal in agent.objectives.values()}
        learns = isinstance(window, int) and window + begins <= steps and agent.p_update == 1
        is_certain = learns and len(targets) == 1 and waiting.isdisjoint(relations.learning[name])
        if is_certain and (target := targets.pop()) is not None and not had_target(name):
            agents.setdefault(target, []).append(name)
    fact = f"was missing in all {examples:,} examples of this run"
    return [finding for target, names in agents.items() for finding in _missing(names, target, fact)]


def _missing(names: list[str], target: str, fact: str) -> Iterator[Finding]:
    return about(
        "agent",
        names,
        f"the target '{target}' {fact}, so that nothing is learned from it; check what marks it as "
        f"missing (-100, the mask _{target}, ignore_index)",
    )


def is_own_data(spec: object) -> bool:
    """Whether an environment shows data of the user's own that are read in advance."""
    return isinstance(spec, Source) or (isinstance(spec, EnvSpec) and "file" in spec.kwargs)


def _never_present(spec: Any, targets: Collection[Target]) -> Sequence[Target]:
    if not targets or not is_own_data(spec):
        return []
    try:
        with closing(make(spec, batch=1)) as env:
            if not isinstance(env, ExampleStream):
                return []
            env.request({name for name, _ in targets})
            missing = [*targets]
            for examples in env.batches("train", _AT_ONCE):
                missing = [target for target in missing if not _any_present(examples, *target)]
                if not missing:
                    break
            return missing
    except AntiphonError:  # the run tells what is wrong with it
        return []


def _any_present(examples: Mapping[str, Tensor], name: str, ignored: int | None) -> bool:
    """Whether any of some examples has a target, at any site."""
    target, mask = examples[name], examples.get(f"_{name}")
    present = torch.ones_like(target, dtype=torch.bool) if ignored is None else target != ignored
    if mask is not None:
        present &= mask.view(-1, *[1] * (target.dim() - 1)) if mask.dim() == 1 else mask.view_as(target)
    return bool(present.any())
