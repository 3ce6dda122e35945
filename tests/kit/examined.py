"""What the library says of a scenario before it runs, for scenarios that tests have at hand: the internals they need stand here."""

from __future__ import annotations

from typing import Any

from antiphon import Scenario
from antiphon.base.spec import plain
from antiphon.engine.build.builder import build_to_look
from antiphon.engine.build.shapes import port_norm
from antiphon.engine.build.stack_members import StackPlan, plan
from antiphon.envs import describe


def as_data(scenario: Scenario) -> dict[str, Any]:
    """A scenario as nested dicts and lists, in which Python objects stay as they are: `to_yaml` writes none."""
    return plain(scenario)


def norm_of(scenario: Scenario) -> str | None:
    """The norm of the only channel's messages; None: they have the size of the sender's state."""
    (channel,) = scenario.channels
    if channel.port_components is None:
        return None
    return port_norm(channel, scenario.agents[channel.sender], describe(scenario.env))


def planned(scenario: Scenario) -> StackPlan:
    """What `antiphon show` says of stacks."""
    return plan(build_to_look(scenario, describe(scenario.env)))
