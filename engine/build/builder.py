"""The builder: from a scenario (immutable data) to a system, in named steps.

1. shapes; 2. learners (one per agent, or per group of tied agents); 3. agents; 4. channels; 5. units; 6. schedule.
"""

from __future__ import annotations

import math

import torch

from antiphon.agents.feedforward import Conv, Mlp
from antiphon.agents.learner import OBJECTIVES, Learner
from antiphon.agents.module import ModuleNetwork
from antiphon.agents.network import Head, Network
from antiphon.agents.recurrent import Recurrent
from antiphon.comms.links import FanIn
from antiphon.engine.build.channels import Wiring
from antiphon.engine.build.groups import group_agents, windows_of
from antiphon.engine.build.optimisers import optimiser_of
from antiphon.engine.build.shapes import Shapes, default_norm, memories, resolve
from antiphon.engine.build.weights import read_weights
from antiphon.engine.core.agent import Agent, Goal
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.clock import Clock, EpisodeWindows
from antiphon.engine.core.divergence import Divergence
from antiphon.engine.core.rows import Replicas
from antiphon.engine.core.system import LearningGroup, Schedule, System
from antiphon.envs.signal import Description
from antiphon.errors import ScenarioError
from antiphon.nets.random import generator, seed_for
from antiphon.scenarios.document import Scenario
from antiphon.scenarios.parts import AgentSpec, NetworkSpec

__all__ = ["build"]


def build(
    scenario: Scenario,
    env: Description,
    *,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
) -> System:
    """Make a system.

    Args:
        scenario: What to build.
        env: What its environment shows.
        seed: Of the run; every part draws from it by its own name.
        device: Where the numbers live.
        dtype: Of all floats.

    Raises:
        ScenarioError: Something does not fit; the line names the place.
    """
    return _Builder(scenario, env, seed, device, dtype).build()


class _Builder:
    def __init__(
        self, scenario: Scenario, env: Description, seed: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.scenario = scenario
        self.env = env
        self.seed = seed
        self.device = device
        self.dtype = dtype

    def build(self) -> System:
        shapes = resolve(self.scenario, self.env)
        agents = self._agents(shapes)
        longest = self.env.longest_episode
        episode = None if longest is None else EpisodeWindows(longest)
        units = self._units(episode)
        group_of = {name: unit for unit in units for name in unit.members}
        clocks = {name: agent.clock for name, agent in agents.items()}
        wiring = Wiring(self.scenario, self.env, shapes, agents, group_of, self.seed, self.device, self.dtype)
        specs = [*(c for c in self.scenario.channels if not c.state), *memories(self.scenario)]
        channels = {
            spec.name: wiring.channel(spec) for spec in sorted(specs, key=lambda channel: channel.order)
        }
        for channel in channels.values():
            if channel.state:
                agents[channel.sender].memory = channel
            else:
                agents[channel.sender].outputs.append(channel)
                agents[channel.receiver].inputs.append(channel)
        self._trails(agents, channels)
        calls = self._calls(agents)
        schedule = Schedule(clocks, calls, units)
        return System(
            agents,
            channels,
            units,
            schedule,
            self.env,
            self.scenario.training.batch,
            self.dtype,
            self.device,
            Divergence(self.scenario.training.on_divergence == "quarantine", self.scenario.training.bound),
            next((name for name, spec in self.scenario.agents.items() if spec.acts), None),
            episode,
        )

    @staticmethod
    def _trails(agents: dict[str, Agent], channels: dict[str, Channel]) -> None:
        """Let those agents keep their newest states whose states predictors are conditioned on."""
        for channel in channels.values():
            asked = (
                ("from.state", channel.sender, 0),
                ("to.state", channel.receiver, channel.ledger.link.delay),
            )
            for end, name, delay in asked:
                if end in channel.ends:
                    agents[name].trail = {}
                    agents[name].looked_back = max(agents[name].looked_back, delay)

    # --- agents ------------------------------------------------------------------------------------------

    def _agents(self, shapes: Shapes) -> dict[str, Agent]:
        learners: dict[str, Learner] = {}
        agents: dict[str, Agent] = {}
        for name, spec in self.scenario.agents.items():
            owner = spec.share or name
            key = f"share:{owner}" if spec.share else owner
            if key not in learners:
                learners[key] = self._learner(name, owner, spec, shapes)
            else:
                self._check_tied(name, learners[key], shapes)
            clock = Clock(spec.clock.period, spec.clock.phase)
            agents[name] = Agent(
                name,
                clock,
                learners[key],
                spec.observes,
                spec.fan_in,
                self.scenario.training.batch,
                self._goal(name, spec),
                self._align(name, spec),
                seed=seed_for(self.seed, "agent", name),
                p_update=spec.p_update,
                participation_seed=seed_for(self.seed, "update", owner),
                layout=FanIn(spec.fan_in),
                replicas=Replicas(device=self.device),
            )
        return agents

    def _learner(self, name: str, owner: str, spec: AgentSpec, shapes: Shapes) -> Learner:
        kind, rate = optimiser_of(spec.optimiser, self.scenario)
        learner = Learner(
            self._network(name, owner, spec, shapes.inputs[name], shapes.heads[name]),
            generator(self.seed, "agent", owner, "parameters"),
            optimiser=kind,
            rate=rate,
            frozen=not spec.learn,
            device=self.device,
            dtype=self.dtype,
        )
        if spec.weights is not None:
            read_weights(learner, spec.weights, f"agents.{name}.weights")
        return learner

    def _network(
        self, name: str, owner: str, spec: AgentSpec, inputs: tuple[int, ...], heads: tuple[Head, ...]
    ) -> Network:
        network = spec.network
        if not isinstance(network, NetworkSpec):
            try:
                return ModuleNetwork(network, inputs, heads, seed_for(self.seed, "agent", owner, "module"))
            except ScenarioError as error:
                raise ScenarioError(f"agents.{name}.{error}") from None
        norm = network.norm or default_norm(spec, self.env)
        if network.kind == "conv":
            return Conv(
                inputs,
                network.hidden,
                heads,
                norm=norm,
                activation=network.activation,
                filter=network.filter,
                pool=network.pool,
            )
        if network.recurrent:
            return Recurrent(
                inputs,
                network.size,
                heads,
                kind=network.kind,
                encoder=network.encoder,
                norm=norm,
                activation=network.activation,
                cell_norm=network.cell_norm,
                leak=network.leak,
            )
        return Mlp(inputs, network.hidden, heads, norm=norm, activation=network.activation)

    def _check_tied(self, name: str, learner: Learner, shapes: Shapes) -> None:
        first = learner.network
        sizes = [head.size for head in first.heads.values()]
        if (torch.Size(first.input_shape).numel(), *sizes) != (
            torch.Size(shapes.inputs[name]).numel(),
            *[head.size for head in shapes.heads[name]],
        ) or list(first.heads) != [head.name for head in shapes.heads[name]]:
            raise ScenarioError(
                f"agents.{name}.share: tied agents need equal inputs and ports, got inputs {list(shapes.inputs[name])} "
                f"and ports {[h.name for h in shapes.heads[name]]} against {list(first.input_shape)} and "
                f"{list(first.heads)}; give their channels a common `port`"
            )

    def _goal(self, name: str, spec: AgentSpec) -> Goal | None:
        if spec.objective is None:
            return None
        when = spec.objective.when
        episodes = self.env.is_stream and self.env.episode_steps == self.env.hold
        last = when == "last" or (when is None and episodes)
        if last and not self.env.is_stream:
            raise ScenarioError(
                f"agents.{name}.objective.when: 'last' needs a stream of examples; use 'each'"
            )
        if not spec.align:
            clock = Clock(spec.clock.period, spec.clock.phase)
            if last:
                self._check_last_step(name, clock)
            self._check_ticks_meet_target(name, clock, spec.objective.target)
        return Goal(OBJECTIVES[spec.objective.kind](), spec.objective.target, last, spec.objective.weight)

    def _check_last_step(self, name: str, clock: Clock) -> None:
        """An objective counts only where its agent ticks at the last step of an example (semantics 14)."""
        if (clock.phase + 1) % math.gcd(clock.period, self.env.hold):
            raise ScenarioError(
                f"agents.{name}.clock: it ticks at steps {clock.phase}, {clock.phase + clock.period}, …, never at an "
                f"example's last (hold {self.env.hold}), when its objective counts; change phase or period"
            )

    def _check_ticks_meet_target(self, name: str, clock: Clock, target: str) -> None:
        """A target that is there every so many steps has to fall on a tick of its agent (semantics 14)."""
        every = self.env.signals[target].every
        if (clock.phase + 1) % math.gcd(clock.period, every):
            raise ScenarioError(
                f"agents.{name}.objective.target: '{target}' has a value every {every} steps, at {every - 1}, "
                f"{2 * every - 1}, …, and the agent ticks at {clock.phase}, {clock.phase + clock.period}, …, never then; "
                "change its phase or period"
            )

    def _align(self, name: str, spec: AgentSpec) -> str | None:
        if not spec.align:
            return None
        inputs = self.scenario.inputs_of(name)
        if not inputs:
            raise ScenarioError(f"agents.{name}.align: no channel leads to it; remove `align`")
        chosen = inputs[0] if spec.align is True else next(c for c in inputs if c.name == spec.align)
        return chosen.name

    # --- units and schedule ------------------------------------------------------------------------------

    def _units(self, episode: EpisodeWindows | None) -> list[LearningGroup]:
        units = []
        for members in group_agents(self.scenario):
            unit = LearningGroup(members, windows_of(self.scenario, members, self.env, episode))
            leaving = [
                channel
                for channel in self.scenario.channels
                if channel.coupling == "delayed"
                and channel.sender in members
                and channel.receiver not in members
            ]
            unit.late = bool(leaving)
            unit.staleness = max((channel.staleness for channel in leaving), default=0)
            units.append(unit)
        return units

    def _calls(self, agents: dict[str, Agent]) -> list[list[tuple[str, ...]]]:
        waves = []
        for wave in self.scenario.waves():
            calls: dict[int, list[str]] = {}
            for name in wave:
                calls.setdefault(id(agents[name].learner), []).append(name)
            waves.append([tuple(call) for call in calls.values()])
        return waves
