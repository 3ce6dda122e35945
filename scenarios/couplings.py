"""Checks of each coupling: keys that a channel must have, and those it cannot have.

Keys that a coupling does not use are not refused: a template sets them once for all its variants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from antiphon.errors import suggest
from antiphon.scenarios.parts import ChannelSpec, NetworkSpec
from antiphon.scenarios.problems import DocumentError, Path
from antiphon.scenarios.relations import episode_agents, learning_steps, levels, units
from antiphon.scenarios.states import STATES

if TYPE_CHECKING:
    from antiphon.scenarios.document import Scenario

__all__ = ["COUPLING_CHECKS"]

_PREDICTED = ("decoupled", "unlocked")
_FOR_INPUTS = ("held", "age")
_FOR_GRADIENTS = ("returned", *STATES)


def _requirements(scenario: Scenario) -> None:
    for index, channel in enumerate(scenario.channels):
        path = ("channels", index)
        if channel.coupling == "locked" and channel.link.drop > 0:
            message = f"a locked channel loses nothing, not {channel.link.drop}; leave it out"
            raise DocumentError((*path, "link", "drop"), f"{message}, or use another coupling")
        if channel.coupling == "unlocked" and channel.input is None:
            message = (
                "an unlocked channel always runs on a synthetic input; give it one, such as {kind: linear}"
            )
            raise DocumentError((*path, "input"), message)
        if channel.coupling in _PREDICTED:
            _gradient(scenario, channel, (*path, "gradient"))


def _gradient(scenario: Scenario, channel: ChannelSpec, path: Path) -> None:
    gradient = channel.gradient
    if gradient.kind in ("local", "sobolev_label") and gradient.target is None:
        raise DocumentError((*path, "target"), f"a {gradient.kind} gradient needs the name of its target")
    if gradient.kind == "conv":
        network = scenario.agents[channel.sender].network
        flat = isinstance(channel.size, int)
        if flat or (channel.size is None and isinstance(network, NetworkSpec) and network.kind != "conv"):
            message = "a conv gradient needs messages of [channels, height, width]; use kind mlp"
            raise DocumentError((*path, "kind"), message)


def _contexts(scenario: Scenario) -> None:
    for index, channel in enumerate(scenario.channels):
        heard = () if channel.input is None else channel.input.context
        refused = [
            ("gradient", p, n, "inputs") for p, n in enumerate(channel.gradient.context) if n in _FOR_INPUTS
        ]
        refused += [("input", p, n, "gradients") for p, n in enumerate(heard) if n in _FOR_GRADIENTS]
        for key, place, name, others in refused:
            message = f"{name!r} is for synthetic {others} only; leave it out"
            raise DocumentError(("channels", index, key, "context", place), message)


def _feedback(scenario: Scenario) -> None:
    groups = {name: group for group in scenario.locked_groups() for name in group}
    for index, channel in enumerate(scenario.channels):
        feedback = channel.feedback
        if feedback is None or channel.coupling != "locked":
            continue
        path = ("channels", index, "feedback")
        if feedback.kind == "fa":
            if not isinstance(scenario.agents[channel.receiver].network, NetworkSpec):
                message = f"agent {channel.receiver!r} has a network of its own, of which no first layer is known; use dfa"
                raise DocumentError((*path, "kind"), message)
            continue
        group = groups[channel.sender]
        choices = [name for name in group if scenario.agents[name].objective is not None]
        of = feedback.of
        if of is None and len(scenario.readouts) != 1:
            known = ", ".join(choices) if choices else "none in its locked group"
            message = f"the scenario has {len(scenario.readouts)} readouts; name the agent whose error it is: {known}"
            raise DocumentError((*path, "of"), message)
        name = scenario.readouts[0] if of is None else of
        if name not in scenario.agents:
            raise DocumentError((*path, "of"), f"no agent {name!r}{suggest(name, scenario.agents)}")
        if name not in choices:
            why = "has no objective" if name in group else f"learns apart from {channel.name}"
            known = suggest(name, choices) if choices else "; give an agent of its locked group an objective"
            raise DocumentError((*path, "of"), f"agent {name!r} {why}{known}")


def _at_once(scenario: Scenario) -> None:
    """Check `trace` and `propagate`, which use the gradient returned at the step at which the sender learns."""
    asked = [
        (index, channel, key)
        for index, channel in enumerate(scenario.channels)
        if channel.coupling in _PREDICTED and channel.gradient.apply and not channel.state
        for key in ("trace", "propagate")
        if getattr(channel.gradient, key) > 0
    ]
    if not asked:
        return
    unit_of = {name: unit for unit in units(scenario.agents, scenario.channels) for name in unit}
    for index, channel, key in asked:
        reason = _not_at_once(scenario, channel, unit_of)
        if reason is None and key == "trace" and channel.gradient.kind == "local":
            reason = "a local gradient takes nothing from it; use another kind"
        if reason is not None:
            path = ("channels", index, "gradient", key)
            raise DocumentError(
                path, f"needs what the receiver returns at the same step, but {reason}, or leave it out"
            )
    first = {name: unit[0] for name, unit in unit_of.items()}
    arcs = {(first[channel.sender], first[channel.receiver]) for _, channel, _ in asked}
    if levels(set(first.values()), arcs)[1]:
        index, channel, key = asked[0]
        message = "what learns together lies on a cycle of such channels; leave it out of one of them"
        raise DocumentError(("channels", index, "gradient", key), message)


def _not_at_once(scenario: Scenario, channel: ChannelSpec, unit_of: dict[str, tuple[str, ...]]) -> str | None:
    """Describe why a channel's gradient is not back at the step at which its sender learns, and the fix."""
    link = channel.link
    if channel.coupling == "unlocked":
        return "the channel is unlocked; make it decoupled"
    if link.delay:
        return f"the link has a delay of {link.delay}; make it 0"
    if link.back:
        return f"the link's way back takes {link.back} steps; make link.back 0"
    if link.drop or link.rate < 1:
        key, value = ("drop", 0) if link.drop else ("rate", 1)
        return f"the link has a {key} of {getattr(link, key)}; make it {value}"
    ends = channel.sender, channel.receiver
    one, other = unit_of[ends[0]], unit_of[ends[1]]
    if one == other:
        return "both ends learn as one; make the channel locked"
    for name in ends:
        late = next(
            (c.name for c in scenario.channels if c.coupling == "delayed" and c.sender in unit_of[name]), None
        )
        if late is not None:
            return f"{name!r} learns late, {late} being delayed; give that another coupling"
    clocks = [scenario.agents[name].clock for name in ends]
    whole = episode_agents(scenario.agents, scenario.channels)
    ticks = [(clock.period, clock.phase % clock.period) for clock in clocks]
    learns = [
        learning_steps(
            unit, scenario.agents, whole, locked=any(set(g) & set(unit) for g in _locked(scenario))
        )
        for unit in (one, other)
    ]
    if ticks[0] != ticks[1] or learns[0] != learns[1]:
        verb = "tick" if ticks[0] != ticks[1] else "learn"
        return f"{ends[0]!r} and {ends[1]!r} {verb} at different steps; give them one clock"
    return None


def _locked(scenario: Scenario) -> list[tuple[str, ...]]:
    return [group for group in scenario.locked_groups() if len(group) > 1]


COUPLING_CHECKS: tuple[Callable[[Scenario], None], ...] = (_requirements, _contexts, _feedback, _at_once)
