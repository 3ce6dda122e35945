"""Warnings of agents that learn together by optimisers that mix their parameters, such as those that estimate one rate from all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from antiphon.base.extensions import key_of, name_of
from antiphon.nets.torch_optimisers import mixes_parameters
from antiphon.scenarios import Scenario
from antiphon.scenarios.scenario_warnings import Finding, about


def of_optimisers(scenario: Scenario) -> Iterator[Finding]:
    """Yield a line for each optimiser of locked agents that mixes their parameters: each agent has an estimate of its own."""
    kinds = {}
    names_by_kind = defaultdict[object, list[str]](list)
    for group in scenario.locked_groups():
        learning = [name for name in group if scenario.agents[name].learn]
        for name in learning if len(learning) > 1 else ():
            spec = scenario.agents[name].optimiser or scenario.training.optimiser
            if not spec.built_in:
                key = key_of(spec.kind, spec.options)
                kinds[key] = spec
                names_by_kind[key].append(name)
    for key, spec in kinds.items():
        if mixes_parameters(spec.settings(spec.lr)):
            yield from about(
                "agent",
                names_by_kind[key],
                f"optimiser {name_of(spec.kind)} computes a step from all parameters that it has, "
                "and locked agents have one each, so they do not learn as one network would; use one whose step is of each "
                "parameter alone",
            )
