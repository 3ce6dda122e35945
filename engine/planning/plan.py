"""The plan of a scenario: which agents are stacked and why, in which order they tick, FLOP and memory of a step.

Nothing is run for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from antiphon.comms.synthetic_gradients import Predictor
from antiphon.comms.synthetic_inputs import InputModel
from antiphon.engine.backends import checked_backend
from antiphon.engine.build.builder import build_to_look
from antiphon.engine.build.stacking import channel_stacks_of, channels_alone, stacks_of
from antiphon.engine.capture.conditions import OF_BACKENDS, obstacle_of, period_of
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.system import System
from antiphon.engine.native.networks import obstacle
from antiphon.engine.planning.activations import KeptActivations, kept_activations
from antiphon.engine.planning.advice import advice
from antiphon.engine.planning.cost_model import CostModel
from antiphon.engine.planning.memory_estimate import MemoryEstimate, installed, memory_of
from antiphon.envs.registry import describe
from antiphon.errors import ScenarioError
from antiphon.extensions import name_of
from antiphon.scenarios.agent_specs import AgentSpec, NetworkSpec
from antiphon.scenarios.channel_specs import ChannelSpec
from antiphon.scenarios.document import Scenario

__all__ = [
    "Alone",
    "ChannelStackPlan",
    "CohortPlan",
    "Plan",
    "Waves",
    "delayed",
    "learning_in_words",
    "network_in_words",
    "plan",
    "stacked",
    "ticks_in_words",
    "waves_of",
    "with_fields",
]


@dataclass(frozen=True)
class Waves:
    """Order in which the agents due at one step tick."""

    count: int
    chain: bool
    """Whether each is one agent."""
    channels: tuple[str, ...]
    """The message channels without delay, which make them."""
    locked: bool
    """Whether all of those are locked."""


def waves_of(scenario: Scenario) -> Waves:
    """Return the waves of a scenario."""
    waves, prompt = scenario.waves(), _prompt(scenario)
    return Waves(
        count=len(waves),
        chain=len(waves) > 1 and all(len(wave) == 1 for wave in waves),
        channels=tuple(channel.name for channel in prompt),
        locked=bool(prompt) and all(channel.coupling == "locked" for channel in prompt),
    )


def _prompt(scenario: Scenario) -> list[ChannelSpec]:
    return [channel for channel in scenario.channels if not channel.state and channel.link.delay == 0]


def delayed(scenario: Scenario, channels: Sequence[ChannelSpec]) -> Scenario | None:
    """Return a scenario with delay 1 on some channels, their readers aligned to them if need be.

    None: either way it has an error, or a warning of `check` more. A reader of `read: mean`, for one, cannot be aligned.
    """
    before = set(advice(scenario))
    for aligned in (False, True):
        try:
            found = _delayed(scenario, channels, aligned=aligned)
            if not set(advice(found)) - before:
                return found
        except ScenarioError:
            continue
    return None


def _delayed(scenario: Scenario, delay: Sequence[ChannelSpec], *, aligned: bool) -> Scenario:
    slower = {
        c.name: c.model_copy(
            update={
                "link": c.link.model_copy(
                    update={"ways": 1 if c.link.back == c.link.delay else (1, c.link.back)}
                )
            }
        )
        for c in delay
    }
    readers = {channel.receiver for channel in delay} if aligned else set()
    agents: dict[str, AgentSpec] = {
        name: spec.model_copy(update={"align": True}) if name in readers and not spec.align else spec
        for name, spec in scenario.agents.items()
    }
    channels = [slower.get(channel.name, channel) for channel in scenario.channels]
    return with_fields(scenario, agents=agents, channels=channels)


def with_fields(scenario: Scenario, **fields: object) -> Scenario:
    """Return a scenario with other fields, checked; ScenarioError where they are not accepted."""
    return Scenario(**{**{name: getattr(scenario, name) for name in type(scenario).model_fields}, **fields})


@dataclass(frozen=True)
class CohortPlan:
    """A cohort: agents that are stacked."""

    agents: tuple[str, ...]
    network: str
    """Their kind and sizes: `mlp 64`."""
    ticks: str
    """Their clock: `every step`."""
    learns: str
    """When: `each tick`."""
    optimiser: str | None
    """By what: `adam 0.001`; None: they are frozen."""
    objective: str | None
    """What for: `classification of label`; None: only what their channels bring."""
    parameters: int
    """Of each."""


@dataclass(frozen=True)
class ChannelStackPlan:
    """Channels that are stacked."""

    channels: tuple[str, ...]
    sender: str
    """The first agent of the cohort that sends, or the agent that does."""
    receiver: str
    """That of the one that reads."""
    coupling: str
    gradient: str | None
    """Kind of the synthetic gradient, if it has one."""
    input: str | None
    """Kind of the synthetic input, if it has one."""
    size: int
    """Components of a message."""


@dataclass(frozen=True)
class Alone:
    """Agents, or channels for the sake of a predictor, that are not stacked for one reason."""

    agents: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Plan:
    """How a scenario will be run."""

    scenario: str
    batch: int
    """B."""
    agents: int
    """How many there are."""
    backend: str
    why: str
    """Why that backend, in words."""
    cohorts: tuple[CohortPlan, ...]
    """Stacked agents, in canonical order; none where the reference backend is picked."""
    channel_stacks: tuple[ChannelStackPlan, ...]
    """Stacked channels."""
    alone: tuple[Alone, ...]
    """Agents that are not stacked, by reason."""
    waves: Waves
    device: str
    flop: float
    """Floating-point operations of a step in products of matrices, the mean over steps."""
    memory: MemoryEstimate
    """What it needs, in bytes."""
    period: int
    """Steps after which the schedule repeats."""
    one_by_one: str | None
    """Why a GPU takes its steps one by one; None: it can replay recorded periods."""
    sweep: bool
    """Whether agents are differentiated as soon as they have ticked, where they can be."""
    activations: tuple[KeptActivations, ...]
    """By agents alike: what autograd keeps of them, and what stands in the way of the sweep."""
    installed: int | None
    """Bytes that the device has; None: not known."""
    by_torch: tuple[Alone, ...] = ()
    """With the backend `native`, the agents that its kernel does not compute, by reason."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        found = asdict(self)
        found["memory"]["total"] = self.memory.total
        return found


def plan(
    scenario: Scenario,
    *,
    backend: str = "cohort",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    system: System | None = None,
) -> Plan:
    """Return how a scenario will be run. Nothing large is made for it; without its `system` that is built.

    Raises:
        ScenarioError: It cannot be built; the line names the place.
    """
    env = describe(scenario.env)
    system = system or build_to_look(scenario, env, dtype)
    picked = checked_backend(backend)
    if picked == "reference":  # it has one order
        system = replace(system, sweep=False)
    costs = CostModel(system)
    members, channel_stacks, reasons = stacked(system)
    cohorts = [agents for agents in members if agents[0].name not in reasons]
    first = {agent.name: agents[0].name for agents in members for agent in agents}
    stacks = picked != "reference"
    return Plan(
        scenario=scenario.scenario,
        batch=scenario.training.batch,
        agents=len(system.agents),
        backend=picked,
        why=_why(picked, len(system.agents), sum(map(len, cohorts)), len(cohorts)),
        cohorts=tuple(_cohort(scenario, agents) for agents in cohorts if stacks),
        channel_stacks=tuple(_channel_stack(found, first) for found in channel_stacks if stacks),
        alone=_by_reason([*reasons.items(), *channels_alone(system).items()]),
        by_torch=_by_torch(system, members, reasons) if picked == "native" else (),
        waves=waves_of(scenario),
        device=str(torch.device(device)),
        flop=costs.flop(),
        memory=memory_of(system, costs),
        period=period_of(system),
        one_by_one=OF_BACKENDS.get(picked) or obstacle_of(system) or _never_unobserved(scenario, system),
        sweep=system.sweep,
        activations=kept_activations(system, members, costs),
        installed=installed(torch.device(device)),
    )


def _never_unobserved(scenario: Scenario, system: System) -> str | None:
    """Return why no period passes without figures; None: some do."""
    every, period = scenario.telemetry.period, period_of(system)
    if every > period:
        return None
    return (
        f"figures are taken in every period of its schedule (telemetry.period: {every}, a period: {period})"
    )


def _by_torch(
    system: System, members: Sequence[Sequence[Agent]], alone: Mapping[str, str]
) -> tuple[Alone, ...]:
    """The agents that neither the native kernel nor torch in its place computes, by reason."""
    reasons = ((agents, alone.get(agents[0].name) or obstacle(system, agents[0])) for agents in members)
    return _by_reason((agent.name, why) for agents, why in reasons if why is not None for agent in agents)


def _by_reason(reasons: Iterable[tuple[str, str]]) -> tuple[Alone, ...]:
    """Return what is alone for one reason together, from names with their reasons."""
    found: dict[str, list[str]] = {}
    for name, reason in reasons:
        found.setdefault(reason, []).append(name)
    return tuple(Alone(tuple(names), reason) for reason, names in found.items())


# --- what is stacked ------------------------------------------------------------------------------------


def stacked(system: System) -> tuple[list[list[Agent]], list[list[Channel]], dict[str, str]]:
    """Return what the cohort backend stacks: the members of each cohort (one where it is not stacked), the channels of each
    stack, and by agent why it is not stacked.
    """
    found, reasons = stacks_of(system)
    stack_of = {agent.name: i for i, members in enumerate(found) for agent in members}
    channels = [
        members
        for members in channel_stacks_of(system, stack_of, reasons)
        if members[0].sender not in reasons or members[0].receiver not in reasons
    ]
    return found, channels, reasons


def _cohort(scenario: Scenario, members: Sequence[Agent]) -> CohortPlan:
    spec = scenario.agents[members[0].name]
    goal, optimiser = spec.objective, spec.optimiser or scenario.training.optimiser
    return CohortPlan(
        agents=tuple(agent.name for agent in members),
        network=network_in_words(spec),
        ticks=ticks_in_words(spec),
        learns=learning_in_words(scenario, members[0].name),
        optimiser=f"{name_of(optimiser.kind)} {optimiser.lr:g}" if spec.learn else None,
        objective=None if goal is None else goal.in_words,
        parameters=sum(p.numel() for p in members[0].learner.parameters.values()),
    )


def _channel_stack(channels: Sequence[Channel], first_of: Mapping[str, str]) -> ChannelStackPlan:
    first = channels[0]
    return ChannelStackPlan(
        channels=tuple(channel.name for channel in channels),
        sender=first_of[first.sender],
        receiver=first_of[first.receiver],
        coupling=first.coupling,
        gradient=_kind(first.gradient.predictor),
        input=_kind(first.input.model),
        size=first.size,
    )


# --- words -----------------------------------------------------------------------------------------------


def _kind(model: Predictor | InputModel | None) -> str | None:
    if model is None:
        return None
    return model.kind + (" at every site" if model.sites else "")


def network_in_words(spec: AgentSpec) -> str:
    """Return the kind and the sizes of an agent's network: `mlp 64`; `mlp 64, critic mlp 32 of state` with a critic."""
    critic = None if spec.objective is None else spec.objective.critic
    seen = "" if critic is None else f", critic {_layers(critic.network)} of {', '.join(critic.observes)}"
    if spec.layers is not None:
        return _layers(spec.layers) + seen
    return (str(spec.network.kind) if isinstance(spec.network, NetworkSpec) else "Python") + seen


def _layers(network: NetworkSpec) -> str:
    hidden = ", ".join(map(str, network.get("hidden", ())))
    if network.recurrent:
        return f"{network.kind} {network.get('size')}" + (f" behind {hidden}" if hidden else "")
    sizes = hidden or "no hidden layer"
    return f"{network.kind} {sizes}"


def ticks_in_words(spec: AgentSpec) -> str:
    """Return when an agent ticks: `every 4, phase 1`."""
    clock = spec.clock
    return "every step" if clock.period == 1 else f"every {clock.period}, phase {clock.phase}"


def learning_in_words(scenario: Scenario, name: str) -> str:
    """Return when an agent learns: `each 4 ticks, p 0.5`; locked to others, by the window of all: `each 12 steps`."""
    spec = scenario.agents[name]
    if not spec.learn:
        return "never"
    unroll: int | str = spec.clock.unroll
    when = "tick" if unroll == 1 else unroll if isinstance(unroll, str) else f"{unroll} ticks"
    if name in scenario.locked_agents:
        window = scenario.windows[name]
        if window != scenario.window([name]):
            when = window if isinstance(window, str) else f"{window} steps"
    return f"each {when}" + (f", p {spec.p_update:g}" if spec.p_update != 1 else "")


def _why(backend: str, agents: int, stacked_agents: int, cohorts: int) -> str:
    many = "1 cohort" if cohorts == 1 else f"{cohorts} cohorts"
    who = (
        f"all {agents} agents run" if stacked_agents == agents else f"{stacked_agents} of {agents} agents run"
    )
    if backend == "reference":
        return "it was asked for" + (f"; with cohort, {who} as {many}" if cohorts else "")
    if cohorts:
        return f"{who} as {many}"
    return "there is one agent" if agents == 1 else "no two agents can be run as one"
