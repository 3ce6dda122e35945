"""The plan of a scenario: who is run as one and why, in which order, on what, with how much memory and time.

It is found from what the scenario says alone; only `engine.stopwatch` runs anything.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from antiphon.comms.inputs import INPUTS
from antiphon.comms.predictors import PREDICTORS
from antiphon.engine.build.outline import build_to_look
from antiphon.engine.build.similarity import channel_kind
from antiphon.engine.build.stacking import stacks_of
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.system import System
from antiphon.engine.planning.cost_model import CPU, GPU, Arrangement, Load, Loads, seconds
from antiphon.engine.planning.memory_estimate import Memory, installed, memory_of
from antiphon.engine.planning.waves import Waves, waves_of
from antiphon.engine.step.backends import checked_backend
from antiphon.envs.registry import describe
from antiphon.scenarios.document import Scenario
from antiphon.scenarios.parts import AgentSpec, NetworkSpec
from antiphon.scenarios.training import OptimiserSpec

__all__ = [
    "Alone",
    "BundlePlan",
    "CohortPlan",
    "Device",
    "Plan",
    "arranged",
    "learning_in_words",
    "network_in_words",
    "plan",
    "ticks_in_words",
]

_FLOP = {"TFLOP": 1e12, "GFLOP": 1e9, "MFLOP": 1e6}
_FASTER = 1.5
"""A device is called faster or slower than another where the estimates differ by more than this factor."""


@dataclass(frozen=True)
class CohortPlan:
    """Agents that are run as one.

    Attributes:
        agents: Its members.
        network: Their kind and sizes: `mlp 64`.
        ticks: Their clock: `every step`.
        learns: When they learn: `each tick`.
        optimiser: By what: `adam 0.001`; None: they are frozen.
        objective: What for: `classification of label`; None: only what their channels bring.
        parameters: Of each.
    """

    agents: tuple[str, ...]
    network: str
    ticks: str
    learns: str
    optimiser: str | None
    objective: str | None
    parameters: int


@dataclass(frozen=True)
class BundlePlan:
    """Channels that are run as one.

    Attributes:
        channels: Its members.
        sender: The first agent of the cohort that sends, or the agent that does.
        receiver: That of the one that reads.
        coupling: As of each channel.
        gradient: Kind of the synthetic gradient, if it has one.
        input: Kind of the synthetic input, if it has one.
        size: Components of a message.
    """

    channels: tuple[str, ...]
    sender: str
    receiver: str
    coupling: str
    gradient: str | None
    input: str | None
    size: int


@dataclass(frozen=True)
class Alone:
    """Agents that are run each by itself, for one reason."""

    agents: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Device:
    """Where it is run.

    Attributes:
        name: `cpu`, unless something else is asked for.
        why: Why that is good, or what would be better, in words.
        operations: Tensor operations of a step.
        flop: Floating-point operations of a step.
        gpu_ms: How long a step should take on a GPU (`engine.pace.GPU`).
    """

    name: str
    why: str
    operations: float
    flop: float
    gpu_ms: float


@dataclass(frozen=True)
class Plan:
    """How a scenario will be run.

    Attributes:
        scenario: Its name.
        batch: B.
        agents: How many there are.
        backend: The one that is picked.
        why: Why, in words.
        cohorts: Who is run as one, in canonical order; none where the reference backend is picked.
        bundles: Which channels are.
        alone: Who stands alone, by reason.
        waves: In which order a step goes.
        device: Where it is run.
        memory: What it needs, in bytes.
        installed: What the device has; None: nobody says.
        estimated_ms: Of a step, by backend, on a CPU.
        measured_ms: The same, measured; None: nobody has.
    """

    scenario: str
    batch: int
    agents: int
    backend: str
    why: str
    cohorts: tuple[CohortPlan, ...]
    bundles: tuple[BundlePlan, ...]
    alone: tuple[Alone, ...]
    waves: Waves
    device: Device
    memory: Memory
    installed: int | None
    estimated_ms: Mapping[str, float]
    measured_ms: Mapping[str, float] | None = None

    def with_measured(self, measured_ms: Mapping[str, float]) -> Plan:
        """Return the plan with milliseconds a step that have been measured."""
        return replace(self, measured_ms=dict(measured_ms))

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
    """Return how a scenario will be run. Nothing large is made for it.

    Args:
        scenario: The scenario.
        backend: As asked of a run.
        device: As asked of a run.
        dtype: Of all floats.
        system: Its system, where somebody has built it.

    Raises:
        ScenarioError: It cannot be built; the line names the place.
    """
    env = describe(scenario.env)
    system = system or build_to_look(scenario, env, dtype)
    picked = checked_backend(backend)
    together, reasons = arranged(system)
    loads = Loads(system)
    by_backend = {"cohort": loads.of(together), "reference": loads.of(_one_by_one(system))}
    runs_cohorts = picked == "cohort"
    alone: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        alone.setdefault(reason, []).append(name)
    cohorts = [members for members in together.agents if members[0].name not in reasons]
    return Plan(
        scenario=scenario.scenario,
        batch=scenario.training.batch,
        agents=len(system.agents),
        backend=picked,
        why=_why(backend, picked, len(system.agents), sum(map(len, cohorts)), len(cohorts)),
        cohorts=tuple(_cohort(scenario, system, [a.name for a in c]) for c in cohorts)
        if runs_cohorts
        else (),
        bundles=tuple(_bundle(b, together) for b in together.bundles) if runs_cohorts else (),
        alone=tuple(Alone(tuple(names), reason) for reason, names in alone.items()),
        waves=waves_of(scenario, env, len(together.agents)),
        device=_device(torch.device(device), by_backend[picked]),
        memory=memory_of(system, loads),
        installed=installed(torch.device(device)),
        estimated_ms={name: 1e3 * seconds(load, CPU) for name, load in by_backend.items()},
    )


# --- who is run as one -----------------------------------------------------------------------------------


def arranged(system: System) -> tuple[Arrangement, dict[str, str]]:
    """Return who is run as one by the cohort backend, and by agent why some are not."""
    found, reasons = stacks_of(system)
    cohort_of = {agent.name: i for i, members in enumerate(found) for agent in members}
    kinds: dict[Hashable, list[Channel]] = {}
    for name, channel in system.channels.items():
        kind: Hashable = name
        if channel.receiver not in reasons and channel.coupling != "delayed":
            kind = cohort_of[channel.sender], cohort_of[channel.receiver], channel_kind(system, channel)
        kinds.setdefault(kind, []).append(channel)
    bundles, single = [], []
    for members in kinds.values():
        if members[0].sender in reasons and members[0].receiver in reasons:
            single += members
        else:
            bundles.append(members)
    return Arrangement(found, bundles, single), reasons


def _one_by_one(system: System) -> Arrangement:
    return Arrangement([[agent] for agent in system.agents.values()], [], list(system.channels.values()))


def _cohort(scenario: Scenario, system: System, names: list[str]) -> CohortPlan:
    first = names[0]
    spec = scenario.agents[first]
    goal = spec.objective
    optimiser = spec.optimiser or scenario.training.optimiser
    return CohortPlan(
        agents=tuple(names),
        network=network_in_words(spec),
        ticks=ticks_in_words(spec),
        learns=learning_in_words(spec),
        optimiser=_optimiser_in_words(optimiser) if spec.learn else None,
        objective=None if goal is None else f"{goal.kind} of {goal.target}",
        parameters=sum(p.numel() for p in system.agents[first].learner.parameters.values()),
    )


def _bundle(members: Sequence[Channel], together: Arrangement) -> BundlePlan:
    first = members[0]
    head = {agent.name: group[0].name for group in together.agents for agent in group}
    kind = _kinds_in_words(first)
    return BundlePlan(
        channels=tuple(channel.name for channel in members),
        sender=head[first.sender],
        receiver=head[first.receiver],
        coupling=first.coupling,
        gradient=kind[0],
        input=kind[1],
        size=first.size,
    )


# --- words -----------------------------------------------------------------------------------------------


def network_in_words(spec: AgentSpec) -> str:
    """Return the kind and the sizes of an agent's network: `mlp 64`."""
    network = spec.network
    if not isinstance(network, NetworkSpec):
        return "Python"
    if network.recurrent:
        before = f" behind {', '.join(map(str, network.encoder))}" if network.encoder else ""
        return f"{network.kind} {network.size}{before}"
    sizes = ", ".join(map(str, network.hidden)) if network.hidden else "no hidden layer"
    return f"{network.kind} {sizes}"


def ticks_in_words(spec: AgentSpec) -> str:
    """Return when an agent ticks: `every 4, phase 1`."""
    clock = spec.clock
    return "every step" if clock.period == 1 else f"every {clock.period}, phase {clock.phase}"


def learning_in_words(spec: AgentSpec) -> str:
    """Return when an agent learns: `each 4 ticks, p 0.5`."""
    if not spec.learn:
        return "never"
    unroll = spec.clock.unroll
    when = (
        f"each {unroll}"
        if isinstance(unroll, str)
        else "each tick"
        if unroll == 1
        else f"each {unroll} ticks"
    )
    return when + (f", p {spec.p_update:g}" if spec.p_update != 1 else "")


def _optimiser_in_words(spec: OptimiserSpec) -> str:
    return f"{spec.kind} {spec.lr:g}"


def _kinds_in_words(channel: Channel) -> tuple[str | None, str | None]:
    gradient = next((name for name, kind in PREDICTORS.items() if type(channel.predictor) is kind), None)
    given = next((name for name, kind in INPUTS.items() if type(channel.input) is kind), None)
    return gradient, given


def _why(asked: str, picked: str, agents: int, alike: int, cohorts: int) -> str:
    many = "1 cohort" if cohorts == 1 else f"{cohorts} cohorts"
    who = "its agent runs" if agents == 1 else f"{alike} of {agents} agents run"
    if alike == agents > 1:
        who = f"all {agents} agents run"
    if picked == "cohort":
        return f"{who} as {many}" if cohorts else "it was asked for; no two agents are alike"
    if asked == picked:
        return "it was asked for" + (f"; with cohort, {who} as {many}" if cohorts else "")
    if not cohorts:
        return "there is one agent" if agents == 1 else "no two agents can be run as one"
    return f"{alike} of {agents} agents are alike, too few to gain by it"


def _device(device: torch.device, load: Load) -> Device:
    """What is said of devices, by the work of a step: one is faster where the rates make it clearly so."""
    here, there = seconds(load, CPU), seconds(load, GPU)
    amount = f"{_flop(load.work.flop)} in {load.work.operations:,.0f} operations a step"
    if there > here / _FASTER:
        word = "be slower" if there > here * _FASTER else "hardly be faster"
        why = f"a GPU would {word} at this size: about {amount}; launching them takes longer than computing them"
    else:
        why = f"a GPU may be about {_factor(here / there)} times as fast: about {amount}"
        if device.type == "cpu":
            why += "; --device cuda" if torch.cuda.is_available() else "; torch finds none here"
    return Device(str(device), why, load.work.operations, load.work.flop, 1e3 * there)


def _factor(gain: float) -> str:
    return f"{gain:.1f}" if gain < 3 else f"{gain:.0f}" if gain < 20 else f"{round(gain, -1):.0f}"


def _flop(count: float) -> str:
    unit, size = next(((u, s) for u, s in _FLOP.items() if count >= s), ("MFLOP", 1e6))
    number = count / size
    return f"{number:,.0f} {unit}" if number >= 10 else f"{number:.2g} {unit}"
