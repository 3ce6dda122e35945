"""What the commands say of a scenario before it runs, for scenarios that tests have at hand: the internals they need stand here."""

from __future__ import annotations

from functools import partial
from typing import Any

from antiphon import Scenario, Template
from antiphon.base.spec import plain
from antiphon.checks import Findings, findings_of
from antiphon.commands.arguments import division_of, values_of
from antiphon.engine.plan import ScenarioPlan, plan
from antiphon.terminal.explain import built, explain

__all__ = [
    "as_data",
    "checked",
    "explained",
    "planned",
    "values_of",
]


def as_data(scenario: Scenario) -> dict[str, Any]:
    """A scenario as nested dicts and lists, in which Python objects stay as they are: `to_yaml` writes none."""
    return plain(scenario)


def explained(scenario: Scenario) -> dict[str, Any]:
    """What `antiphon show` explains."""
    return explain(scenario, built(scenario))


def planned(scenario: Scenario, **settings: Any) -> ScenarioPlan:
    """What `antiphon show` says of stacks."""
    return plan(scenario, **settings)


def checked(template: Template | str, *parts: str) -> Findings:
    """What `antiphon check` finds of a scenario that has no problems; `MODULE:FUNCTION` names one in Python."""
    found = findings_of(template, None, {}, partial(division_of, parts) if parts else None)
    assert not found.problems
    return found
