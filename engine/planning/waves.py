"""Waves: the order that messages without delay force on a step, and what would make it shorter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from antiphon.engine.build.outline import build_to_look
from antiphon.engine.build.stacking import stacks_of
from antiphon.engine.planning.advice import advice
from antiphon.envs.signal import Description
from antiphon.errors import ScenarioError
from antiphon.scenarios.document import Scenario
from antiphon.scenarios.parts import AgentSpec, ChannelSpec

__all__ = ["Waves", "waves_of"]


@dataclass(frozen=True)
class Waves:
    """Order in which the agents due at one step tick.

    Attributes:
        count: How many waves.
        chain: Whether each is one agent.
        channels: The message channels without delay, which make them.
        locked: Whether all of those are locked.
        remedy: What would make them fewer and harm nothing else that `check` knows of; None: nothing.
    """

    count: int
    chain: bool
    channels: tuple[str, ...]
    locked: bool
    remedy: str | None


def waves_of(scenario: Scenario, env: Description, calls: int) -> Waves:
    """Return the waves of a scenario.

    Args:
        scenario: The scenario.
        env: What its environment shows.
        calls: How many cohorts and single agents there are.
    """
    waves = scenario.waves()
    prompt = [channel for channel in scenario.channels if not channel.state and channel.link.delay == 0]
    free = [channel for channel in prompt if channel.coupling != "locked"]
    return Waves(
        count=len(waves),
        chain=len(waves) > 1 and all(len(wave) == 1 for wave in waves),
        channels=tuple(channel.name for channel in prompt),
        locked=bool(prompt) and not free,
        remedy=_remedy(scenario, env, free, calls) if free else None,
    )


def _remedy(scenario: Scenario, env: Description, free: list[ChannelSpec], calls: int) -> str | None:
    """Return the effect of a delay where it adds no warning of `check`; over locked channels it would lose credit."""
    before = set(advice(scenario))
    for aligned in (False, True):
        try:
            changed = _delayed(scenario, free, aligned=aligned)
            worse = set(advice(changed)) - before
        except ScenarioError:
            continue
        left = len(changed.waves())
        if worse or left >= len(scenario.waves()):
            continue
        whole = len(free) == len(_prompt(scenario))
        them = _few(c.name for c in free) if not whole else "it" if len(free) == 1 else "them"
        how = f"delay 1 on {them}" + (", their readers aligned," if aligned else "")
        fewer = "one wave" if left == 1 else f"{left} waves"
        return f"{how} would make it {fewer}, {_gain(changed, env, calls)}"
    return None


def _prompt(scenario: Scenario) -> list[ChannelSpec]:
    return [channel for channel in scenario.channels if not channel.state and channel.link.delay == 0]


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]}, … ({len(names)})"


def _gain(changed: Scenario, env: Description, calls: int) -> str:
    found, _ = stacks_of(build_to_look(changed, env))
    if len(found) >= calls:
        return "but no more of its agents alike"
    return f"and its agents run in {len(found)} instead of {calls} calls"


def _delayed(scenario: Scenario, free: list[ChannelSpec], *, aligned: bool) -> Scenario:
    """The scenario with a delay on some channels, and perhaps their readers aligned to what they read."""
    slower = {c.name: c.model_copy(update={"link": c.link.model_copy(update={"delay": 1})}) for c in free}
    readers = {channel.receiver for channel in free} if aligned else set()
    agents: dict[str, AgentSpec] = {
        name: spec.model_copy(update={"align": True}) if name in readers and not spec.align else spec
        for name, spec in scenario.agents.items()
    }
    fields = {name: getattr(scenario, name) for name in type(scenario).model_fields}
    channels = [slower.get(channel.name, channel) for channel in scenario.channels]
    return Scenario(**{**fields, "agents": agents, "channels": channels})
