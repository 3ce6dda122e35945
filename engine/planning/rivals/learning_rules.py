"""Learning rules of a plan: a scenario's document with the coupling of its message channels replaced."""

from __future__ import annotations

from antiphon.envs.registry import describe
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario
from antiphon.scenarios.agent_specs import AgentSpec
from antiphon.scenarios.channel_specs import LOCAL_POLICY, UNRETURNED, ChannelSpec, GradientSpec
from antiphon.scenarios.relations import components

__all__ = ["DECOUPLED", "DELAYED", "LOCAL", "LOCKED", "with_rule"]

LOCKED, DELAYED, DECOUPLED, LOCAL = "locked", "delayed", "decoupled", "local"
"""`locked`: true gradients of the present step. `delayed`: true gradients, later. `decoupled`: synthetic ones, of the
document's kind. `local`: the control, a loss of its own at each message, and nothing returned."""


def with_rule(scenario: Scenario, rule: str, delay: int = 0) -> Scenario:
    """Return a scenario with the coupling of all message channels replaced by that of a learning rule.

    Messages that a policy samples stay as they are. Links lose nothing and, where no channels form a cycle, have the delay
    that is given; receivers of delayed messages in a stream of examples are aligned to them, unless they act. On a cycle a
    link has its own delay, or the given one where that is longer; locked, such agents learn once an episode where episodes
    have a length, so that no credit is lost.

    Args:
        scenario: The scenario.
        rule: `locked`, `delayed`, `decoupled` or `local`.
        delay: Steps that messages take.

    Raises:
        ScenarioError: The rule cannot be had: a local loss without a target, or what the scenario's checks refuse.
    """
    env = describe(scenario.env)
    component = components(
        scenario.agents, [(c.sender, c.receiver) for c in scenario.channels if not c.state]
    )
    channels, readers, cyclic = [], set(), set()
    for channel in scenario.channels:
        if not channel.state:
            cycle = component[channel.sender] == component[channel.receiver]
            channel = _delayed(channel, max(delay, channel.link.delay) if cycle else delay)
            readers.add(channel.receiver)
            cyclic |= {channel.sender, channel.receiver} if cycle else set()
            if not channel.learned_by_policy:
                channel = channel.model_copy(update=_coupling(scenario, channel, rule))
        channels.append(channel)
    agents = dict(scenario.agents)
    for name in readers if delay and env.is_stream else ():
        agents[name] = _aligned(agents[name])
    for name in cyclic if rule == LOCKED and env.episode_steps is not None else ():
        clock = agents[name].clock.model_copy(update={"unroll": "episode"})
        agents[name] = agents[name].model_copy(update={"clock": clock})
    fields = {name: getattr(scenario, name) for name in type(scenario).model_fields}
    return Scenario(**{**fields, "agents": agents, "channels": channels})


def _delayed(channel: ChannelSpec, delay: int) -> ChannelSpec:
    link = channel.link.model_copy(update={"delay": delay, "back": None, "drop": 0.0})
    return channel.model_copy(update={"link": link})


def _aligned(agent: AgentSpec) -> AgentSpec:
    policy = agent.objective is not None and agent.objective.policy
    return agent if agent.align or agent.acts or policy else agent.model_copy(update={"align": True})


def _coupling(scenario: Scenario, channel: ChannelSpec, rule: str) -> dict[str, object]:
    """Return the fields of a channel under a rule."""
    plain = {"feedback": None, "input": None}
    gradient = channel.gradient
    controls = (*UNRETURNED, LOCAL_POLICY)
    if rule in (LOCKED, DELAYED):
        return plain | {"coupling": rule}
    if rule == DECOUPLED:
        if gradient.kind in controls:
            gradient = GradientSpec(kind="linear", context=gradient.context, optimiser=gradient.optimiser)
        return plain | {"coupling": DECOUPLED, "gradient": gradient}
    if gradient.kind != LOCAL:
        gradient = GradientSpec(kind=LOCAL, target=_target(scenario, channel), optimiser=gradient.optimiser)
    return plain | {"coupling": DECOUPLED, "gradient": gradient}


def _target(scenario: Scenario, channel: ChannelSpec) -> str:
    """Return what a message's own loss is on: the gradient's target, or that of the first readout."""
    if channel.gradient.target is not None:
        return channel.gradient.target
    objective = scenario.agents[scenario.readouts[0]].objective
    if objective is None or objective.target is None:
        raise ScenarioError(f"channel {channel.name}: no target for a local loss; give gradient.target")
    return objective.target
