"""Agents at run time: stacks of N >= 1 agents of one kind, computed as one.

The builder makes single agents; engine/build/stacking.py makes the stacks that the step computes. Rows, the first
dimension of tensors, are (member, environment), [N * B].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from antiphon.agents.learner import Learner
from antiphon.agents.network import AUXILIARY_PORT, OBJECTIVE, STATE, VALUE
from antiphon.agents.objectives import AnyObjective, Objective
from antiphon.agents.observation_statistics import OF_CRITICS, OF_NETWORKS, merged
from antiphon.agents.policy_objectives import PolicyObjective
from antiphon.agents.rewards import Rewards
from antiphon.comms.endpoint_values import STATES
from antiphon.comms.fan_in import FanIn
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.clock import Clock
from antiphon.engine.heart.layout import Layout
from antiphon.engine.heart.signals import StepSignals
from antiphon.envs.signal import OUTCOMES
from antiphon.nets.mask import ALL, NONE, Mask
from antiphon.nets.per_member import PerMember
from antiphon.nets.random import uniform_many

if TYPE_CHECKING:
    from antiphon.agents.q_learning import ReplayBuffer

AGE = "age"
"""The observation of an agent that sees how old its messages are."""


@dataclass(frozen=True, slots=True)
class Goal:
    """An agent's objective with its target, or a policy's with its rewards."""

    objective: AnyObjective
    target_signal_name: str
    """The target signal; "": none for a policy, one in each summand of a weighted sum, perhaps none for a network's own
    loss."""
    last_only: bool
    """Whether it has a loss only at the last of the steps for which the environment shows an example."""
    weight: PerMember
    rewards: Rewards | None = None
    """The rewards that a policy learns from in place of a target."""
    output_slice: slice | None = None
    """The components of the agent's output that it reads; None: all."""
    summands: tuple[Goal, ...] = ()
    """The objectives that it is the weighted sum of (`Weighted`); empty: it is one."""
    mean_over_targets: bool = False
    """Whether losses are divided by the number of targets in the window (`reduction: mean`); else by B."""

    @property
    def policy(self) -> PolicyObjective | None:
        return self.objective if isinstance(self.objective, PolicyObjective) else None

    @property
    def output_objective(self) -> Objective:
        assert isinstance(self.objective, Objective)
        return self.objective

    @property
    def terms(self) -> tuple[Goal, ...]:
        """The objectives that have a target: this one, or the summands of a weighted sum."""
        return self.summands or (self,)

    @property
    def divides_by_window(self) -> bool:
        """Whether losses are divided by the number or the weights of all targets in the window."""
        weighted = any(
            term.policy is None and term.output_objective.weight is not None for term in self.terms
        )
        return self.mean_over_targets or weighted

    @property
    def signal_names(self) -> tuple[str, ...]:
        if self.rewards is not None:
            return *self.rewards.signal_names, *OUTCOMES  # some are read for their masks alone
        return tuple(goal.target_signal_name for goal in self.terms if goal.target_signal_name)


@dataclass(frozen=True, slots=True)
class Observed:
    """What a network of a stack of agents observes, in declared order."""

    signal_names: tuple[str, ...] = ()
    """Names of what the first member observes."""
    map_layouts: tuple[str, ...] = ()
    """How a conv network reads each observation (`as_maps`); empty: the network is no conv network."""
    normalised_indices: tuple[int, ...] = ()
    """Indices of the observations that are normalised."""
    names_by_member: tuple[tuple[str, ...], ...] = ()
    """The signal of each member, by observation; by default those of a single agent."""

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "names_by_member", self.names_by_member or tuple((name,) for name in self.signal_names)
        )

    def stacked(self, members: Sequence[Observed]) -> Observed:
        """Return what the networks of several members observe; `self` is the first member's."""
        return replace(
            self, names_by_member=tuple(zip(*(observed.signal_names for observed in members), strict=True))
        )


@dataclass(eq=False)
class Inputs:
    """Observations of a stack of agents, and how they are joined with messages to the network's input."""

    observed: Observed
    fan_in: FanIn = field(default_factory=FanIn)
    """Joins observations and messages to the network's input."""
    align_channel_name: str | None = None
    """The incoming channel whose messages' signals are observed (`align`); None: the step's are."""
    categories: str = "one_hot"
    """How categorical observations enter the network: `one_hot`, or as their values (`index`)."""
    critic_observed: Observed = field(default_factory=Observed)
    """What the critic observes; without names: the agent has no separate critic, or nothing here evaluates it."""
    has_target_network: bool = False
    """Whether a target network is evaluated on the same inputs, for the values of its policy."""


@dataclass(eq=False)
class Connections:
    incoming: list[Channel] = field(default_factory=list)
    outgoing: list[Channel] = field(default_factory=list)
    state_channel: Channel | None = None
    """The channel that carries its state to its own next tick; None: it has no state."""

    def found_in(self, channels: Mapping[str, Channel]) -> Connections:
        """Return the same connections among other channels, which are found by name."""
        state_channel = self.state_channel
        return Connections(
            [channels[channel.name] for channel in self.incoming],
            [channels[channel.name] for channel in self.outgoing],
            None if state_channel is None else channels[state_channel.name],
        )

    @cached_property
    def read_channels(self) -> list[Channel]:
        return self.incoming if self.state_channel is None else [*self.incoming, self.state_channel]

    @cached_property
    def send_channels(self) -> list[Channel]:
        return self.outgoing if self.state_channel is None else [*self.outgoing, self.state_channel]


@dataclass(frozen=True, eq=False)
class Participation:
    """What decides which of the N >= 1 agents of a stack learn from a window."""

    probability: PerMember
    """Probability that a member learns from a window."""
    random_seeds: tuple[int, ...]
    """Seeds of the members' random numbers; tied agents have the same seed."""


@dataclass(slots=True)
class Kept:
    """What a stack of agents keeps from step to step, beside its learner."""

    newest_action: Tensor | None = None
    """[rows, …]: what it does in the environment until its next tick; None: nothing."""
    newest_states: list[tuple[int, Tensor]] = field(default_factory=list)
    """Its states by step, oldest first, [rows, state size], as long as a predictor may be conditioned on them."""
    replay_buffer: ReplayBuffer | None = None


@dataclass(eq=False)
class Agent:
    """A stack of N >= 1 agents: network, clock, channels and objective."""

    name: str
    clock: Clock
    learner: Learner
    """Network, parameters and optimiser; shared by tied agents."""
    inputs: Inputs
    goal: Goal | None = None
    acts: bool | str = False
    """Whether it acts in the environment: True, or the entry of a Dict action space that is its own."""
    life_name: str = ""
    """The agent of the environment that it lives and dies with; "": its episodes are the environment's."""
    connections: Connections = field(default_factory=Connections)
    random_seed: int = 0
    """What its random numbers follow from: of a user's module, its policy's actions and its minibatches."""
    participation: Participation | None = None
    """None: all members learn from every window."""
    members: tuple[Agent, ...] = ()
    """The single agents that the stack is made of; a single agent has itself."""
    layout: Layout = field(default_factory=Layout)
    kept: Kept = field(default_factory=Kept)

    def __post_init__(self) -> None:
        if not self.members:
            self.members = (self,)

    @cached_property
    def member_names(self) -> tuple[str, ...]:
        return self.layout.names_in_seeds(member.name for member in self.members)

    @cached_property
    def life_names(self) -> tuple[str, ...]:
        """The agent of the environment that each member lives and dies with, by name."""
        return tuple(member.life_name for member in self.members)

    @property
    def batch(self) -> int:
        """B, the environments of one member."""
        return self.layout.batch

    @property
    def policy(self) -> PolicyObjective | None:
        return None if self.goal is None else self.goal.policy

    @property
    def has_critic(self) -> bool:
        return bool(self.inputs.critic_observed.signal_names)

    def oldest_shown_state(self, step: int) -> int | None:
        """Return the oldest step whose state a predictor is shown from `step` on; None: no predictor is shown its states."""
        connections = self.connections
        steps = [
            channel.wire.timetable.crossed_by(step) if end == "to" else step
            for end, channels in (("from", connections.send_channels), ("to", connections.read_channels))
            for channel in channels
            if STATES[end] in channel.synthetic_gradient.context.endpoint_values
        ]
        return min(steps, default=None)

    def learning_rows(self, window_number: int) -> Mask:
        if self.participation is None:
            return ALL
        seeds = torch.tensor(self.participation.random_seeds)
        learns = uniform_many(seeds, window_number, 1)[:, 0] < self.participation.probability
        learning_count = int(learns.sum())
        if 0 < learning_count < len(learns):
            return Mask.of(self.layout.rows_from_members(learns), True)
        return ALL if learning_count else NONE

    def observation_rows(
        self, names: tuple[str, ...], signal_named: Callable[[str], Tensor], dtype: torch.dtype
    ) -> Tensor:
        """Return one observation of the members, [rows, …]; a shared one is [B, …] unless the fan-in wants it repeated.

        Args:
            signal_named: Returns a signal of the step by its name, [seeds * B, …], as it enters a network.
        """
        layout = self.layout
        if layout.seed_count == 1 and not self.inputs.fan_in.repeats and len(set(names)) == 1:
            return signal_named(names[0]).to(dtype)
        return layout.rows_by_name(names, lambda name: signal_named(name).to(dtype))

    def rows_of_all(self, values: Tensor) -> Tensor:
        """[N * B, …]: an observation that the members may share, [B, …]."""
        return self.layout.to_rows(values) if len(values) < len(self.members) * self.batch else values

    def count_observations(
        self, signals: StepSignals, signal_named: Callable[[str], Tensor], dtype: torch.dtype
    ) -> None:
        """Add what is observed at a tick to the running statistics by which it is normalised, where the environment shows
        it and the agent lives (rule 45)."""
        layout, members = self.layout, len(self.members)
        observers = ((OF_NETWORKS, self.inputs.observed), (OF_CRITICS, self.inputs.critic_observed))
        for kind, observed in () if self.learner.frozen or not signals.signals else observers:
            for index in observed.normalised_indices:
                statistics, names = f"{kind}.{index}", observed.names_by_member[index]
                absent = {name: ~signals.present(name) for name in dict.fromkeys(names)}
                dead = {life: signals.not_alive(life) for life in dict.fromkeys(self.life_names)}
                missing = layout.mask_by_name(names, absent)
                missing |= layout.mask_by_name(self.life_names, dead)
                rows = self.rows_of_all(self.observation_rows(names, signal_named, dtype))
                before = self.learner.buffers[statistics]
                after = merged(
                    before.view(members, -1),
                    rows.reshape(members, self.batch, -1),
                    None if missing is NONE else missing.tensor(len(rows), layout.device).view(members, -1),
                )
                self.learner.put_statistics({statistics: after.view_as(before)})

    def join_input(
        self,
        observations: Sequence[Tensor],
        values_read: Sequence[Sequence[Tensor]],
        batch: int | None = None,
    ) -> Tensor:
        """Return the network's input, [rows, …], by the fan-in: of a tick, or of a minibatch of further passes.

        Args:
            observations, batch: See `FanIn.join`.
            values_read: What is read over each incoming channel, in order: one value, or several side by side, oldest
                first; [rows, size] each, zeros where none is available.
        """
        reads_vectors = len(self.learner.network.input_shape) == 1
        messages: list[Tensor] = []
        for channel, values in zip(self.connections.incoming, values_read, strict=True):
            if not reads_vectors:
                values = [value.reshape(value.shape[0], *channel.content.shape) for value in values]
            if (missing := channel.wire.timetable.slots - len(values)) > 0:
                values = [*[torch.zeros_like(values[0])] * missing, *values]
            messages.append(values[0] if len(values) == 1 else torch.cat([*values], 1))
        return self.inputs.fan_in.join(observations, messages, batch or self.batch)

    @cached_property
    def port_names(self) -> tuple[str, ...]:
        """The ports that a channel or objective reads."""
        ports = [channel.content.port_name for channel in self.connections.outgoing]
        if self.goal is not None:
            ports += [port for port in (OBJECTIVE, VALUE) if port in self.learner.network.heads]
            ports += [VALUE] if self.has_critic or self.inputs.has_target_network else []
        state_channel = self.connections.state_channel
        if state_channel is not None:
            ports.append(STATE)
            if state_channel.synthetic_gradient.auxiliary:
                ports.append(AUXILIARY_PORT)
        return tuple(dict.fromkeys(ports))
