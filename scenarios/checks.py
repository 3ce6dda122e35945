"""Checks across the parts of a scenario: unknown names, cycles, inconsistent groups.

Every check raises a DocumentError at the first problem. Channels are named by their place in the document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from antiphon.errors import suggest
from antiphon.scenarios.couplings import COUPLING_CHECKS
from antiphon.scenarios.parts import AgentSpec, NetworkSpec
from antiphon.scenarios.problems import DocumentError, Path, show_value
from antiphon.scenarios.reading import AGE, READ_CHECKS
from antiphon.scenarios.relations import (
    components,
    cycle_among,
    episode_agents,
    incoming,
    levels,
    locked_groups,
    undelayed,
    window_of,
)
from antiphon.scenarios.states import STATE_CHECKS

if TYPE_CHECKING:
    from antiphon.scenarios.document import Scenario

__all__ = ["check"]


def check(scenario: Scenario) -> None:
    """Check a scenario as a whole, its channels still in the order in which they were written.

    Raises:
        DocumentError: At the first problem.
    """
    for check_one in _CHECKS:
        check_one(scenario)


def _require_agent(name: str, agents: Mapping[str, AgentSpec], path: Path) -> None:
    if name not in agents:
        raise DocumentError(path, f"no agent {name!r}{suggest(name, agents)}")


def _agents_and_readout(scenario: Scenario) -> None:
    if not scenario.agents:
        raise DocumentError(("agents",), "there is none; name at least one agent")
    if not any(agent.objective for agent in scenario.agents.values()):
        raise DocumentError(
            ("agents",), "none has an objective, so nothing would be learned; give one to an agent"
        )
    for name in scenario.readout or ():
        _require_agent(name, scenario.agents, ("readout",))
        if scenario.agents[name].objective is None:
            raise DocumentError(("readout",), f"agent {name!r} has no objective to be read; give it one")


def _acting(scenario: Scenario) -> None:
    acting = [name for name, agent in scenario.agents.items() if agent.acts]
    if len(acting) > 1:
        message = f"{acting[0]!r} acts already, and the environment takes the actions of one; leave it out"
        raise DocumentError(("agents", acting[1], "acts"), message)
    for name in acting:
        if scenario.agents[name].objective is None:
            message = "the action is the output that an objective reads, and it has none; give it one"
            raise DocumentError(("agents", name, "acts"), message)


def _channel_ends(scenario: Scenario) -> None:
    indices: dict[str, int] = {}
    for index, channel in enumerate(scenario.channels):
        _require_agent(channel.sender, scenario.agents, ("channels", index, "from"))
        _require_agent(channel.receiver, scenario.agents, ("channels", index, "to"))
        first = indices.setdefault(channel.name, index)
        if first != index:
            mend = "an agent has one state; leave it out" if channel.state else "give one of them another key"
            raise DocumentError(
                ("channels", index), f"{channel.name} is already declared as channels[{first}]; {mend}"
            )


def _ports(scenario: Scenario) -> None:
    ports: dict[tuple[str, str], tuple[int, Any]] = {}
    for index, channel in enumerate(scenario.channels):
        path = ("channels", index)
        network = scenario.agents[channel.sender].network
        if channel.state:
            continue
        if channel.size is None:
            if channel.port is not None:
                raise DocumentError((*path, "size"), f"port {channel.port!r} needs a size")
            if not isinstance(network, NetworkSpec):
                raise DocumentError(
                    (*path, "size"), f"agent {channel.sender!r} has a network of its own; give a size"
                )
            if not network.hidden and not network.recurrent:
                message = f"agent {channel.sender!r} has no hidden layer that could be carried; give a size"
                raise DocumentError((*path, "size"), message)
        if channel.port is None:
            continue
        first, other = ports.setdefault((channel.sender, channel.port), (index, channel))
        for field in ("size", "norm"):
            mine, theirs = getattr(channel, field), getattr(other, field)
            if mine != theirs:
                message = f"{show_value(mine)} differs from channels[{first}].{field}, {show_value(theirs)}"
                mend = f"on the same port {channel.port!r}; make them equal"
                raise DocumentError((*path, field), f"{message}, {mend}")


def _agent_inputs(scenario: Scenario) -> None:
    channels = incoming(scenario.agents, scenario.channels)
    for name, agent in scenario.agents.items():
        path = ("agents", name)
        names = [channel.name for channel in channels[name]]
        if not names and not agent.observes:
            raise DocumentError(path, "observes nothing and no channel leads to it; give it one or the other")
        if AGE in agent.observes and not names:
            message = f"{AGE!r} is how old the messages are that it reads, and no channel leads to this agent"
            raise DocumentError((*path, "observes"), f"{message}; leave it out")
        if agent.align is True and not names:
            raise DocumentError((*path, "align"), "no channel leads to this agent; leave it out")
        if isinstance(agent.align, str) and agent.align not in names:
            known = suggest(agent.align, names)
            raise DocumentError((*path, "align"), f"no channel {agent.align!r} leads to this agent{known}")
        sizes = [(channel.name, channel.size) for channel in channels[name] if channel.size is not None]
        for other, size in sizes[1:]:
            if agent.fan_in != "concat" and size != sizes[0][1]:
                first = f"{sizes[0][0]} has {show_value(sizes[0][1])}"
                message = (
                    f"{agent.fan_in} needs messages of one size, but {first} and {other} {show_value(size)}"
                )
                raise DocumentError((*path, "fan_in"), message)


def _shared(scenario: Scenario) -> None:
    first: dict[str, str] = {}
    for name, agent in scenario.agents.items():
        if agent.share is None:
            continue
        other = first.setdefault(agent.share, name)
        for field in ("network", "clock", "optimiser", "learn", "weights", "p_update"):
            if getattr(agent, field) != getattr(scenario.agents[other], field):
                message = (
                    f"differs from agent {other!r}, with which it shares parameters (share: {agent.share})"
                )
                raise DocumentError(("agents", name, field), f"{message}; make them equal")


def _zero_delay_cycles(scenario: Scenario) -> None:
    arcs = undelayed(scenario.channels)
    _, stuck = levels(scenario.agents, arcs)
    if stuck:
        cycle = cycle_among(stuck, arcs)
        shown = " -> ".join((*cycle, cycle[0]))
        raise DocumentError(
            ("channels",), f"zero-delay cycle {shown}; give one of these a link delay of 1 or more"
        )


def _windows(scenario: Scenario) -> None:
    limit = scenario.training.window_limit
    episodic = episode_agents(scenario.agents, scenario.channels)
    for group in locked_groups(scenario.agents, scenario.channels):
        if len(group) == 1:
            unroll = scenario.agents[group[0]].clock.unroll
            if unroll != "episode" and unroll > limit:
                message = f"a window of {show_value(unroll)} ticks is more than training.window_limit {limit}"
                path = ("agents", group[0], "clock", "unroll")
                raise DocumentError(path, f"{message}; use a shorter one, or raise the limit")
            continue
        shown = ", ".join(group[:8]) + (f", … ({len(group)} agents)" if len(group) > 8 else "")
        whole = [name for name in group if name in episodic]
        if whole and len(whole) < len(group):
            other = next(agent for agent in group if agent not in whole)
            clock = scenario.agents[whole[0]].clock
            why = "has it" if clock.unroll == "episode" else "needs it, its state being locked"
            message = f"must be episode, as {whole[0]!r} of the same locked group {why}, not"
            given = scenario.agents[other].clock.unroll
            raise DocumentError(("agents", other, "clock", "unroll"), f"{message} {given}")
        window = window_of(group, scenario.agents, episodic)
        if window != "episode" and window > limit:
            message = f"the locked group {shown} would learn every {show_value(window)} steps, more than"
            mend = "choose periods and unrolls with a smaller common multiple, or another coupling"
            raise DocumentError(("agents",), f"{message} training.window_limit {limit}; {mend}")


def _discounts_on_cycles(scenario: Scenario) -> None:
    if all(channel.gradient.discount <= 1 for channel in scenario.channels):
        return
    part = components(scenario.agents, [(c.sender, c.receiver) for c in scenario.channels])
    for index, channel in enumerate(scenario.channels):
        if channel.gradient.discount > 1 and part[channel.sender] == part[channel.receiver]:
            message = f"must be at most 1 on a cycle, not {channel.gradient.discount}"
            raise DocumentError(("channels", index, "gradient", "discount"), message)


_CHECKS: tuple[Callable[[Scenario], None], ...] = (
    _channel_ends,
    _agents_and_readout,
    _acting,
    *STATE_CHECKS,
    _ports,
    _agent_inputs,
    _shared,
    _zero_delay_cycles,
    _windows,
    _discounts_on_cycles,
    *COUPLING_CHECKS,
    *READ_CHECKS,
)
