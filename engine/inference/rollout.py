"""Rollouts: a system run forward with running statistics; nothing learns (semantics 24).

The system is a copy that shares the parameters and nothing that a tick changes; its agents tick by the same code as
those of the run. It has links of its own, so that no bit of the run changes and the same numbers are sampled every time.
A hook may replace messages before they go out.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from numbers import Real
from typing import NamedTuple, Self

import torch
from torch import Tensor

from antiphon.agents.learner import Learner
from antiphon.agents.network import OBJECTIVE, Tensors
from antiphon.agents.objectives import Weighted
from antiphon.base.errors import ScenarioError
from antiphon.base.tools import copy_with
from antiphon.comms.couplings import Detached
from antiphon.comms.fan_in import BlockFanIn, StackFanIn
from antiphon.comms.links import Link
from antiphon.comms.symbols import MessageSampler
from antiphon.engine.environment import EnvironmentRunner, signals_read
from antiphon.engine.heart.agent import Agent, Goal, Kept, Observed
from antiphon.engine.heart.channel import Channel, SyntheticGradient, SyntheticInput
from antiphon.engine.heart.clock import NetworkCall, StepWindows
from antiphon.engine.heart.ends import Arrival, Sent, Wire
from antiphon.engine.heart.forward import ForwardPass
from antiphon.engine.heart.signals import Action, EpisodeEnds, StepSignals
from antiphon.engine.heart.step import delete_spent_messages, end_episodes
from antiphon.engine.heart.system import System
from antiphon.engine.heart.window import Constant, LearningGroup, Read, Tick, Window
from antiphon.engine.heart.window_losses import ObjectiveEvaluator, TickLoss
from antiphon.envs.base import TorchVectorEnv
from antiphon.nets.mask import Mask, simplified
from antiphon.nets.random import seed_for
from antiphon.scenarios.relations import components

Deliver = Callable[[str, int, Tensor, Mask], Tensor]
"""What is sent over a single channel at a stamp, given the message as its sender made it, [rows, size] both, and the rows in which it is
sent."""

Scores = dict[str, dict[str, Tensor]]
"""By agent with an objective: its `loss` and the objective's metric per example, [rows] each."""

Counts = dict[str, dict[str, Tensor]]
"""By agent with an objective and by metric: as how many targets each example counts in a mean, [rows]."""

_STEP = StepWindows(1)
"""Nothing learns, so every step is a window: what has been read is let go at once."""


class Rollout:
    """A copy of a system that ticks from silence and does not learn.

    Args:
        system: What is copied; no bit of it changes.
        batch: How many environments or examples there are, whatever the run's batch.
        seed: Of what is lost and added on the way.
        deliver: What is sent in place of messages; None: they are.
        sampled: Whether policies sample their actions, messages among them; else they take the most likely one.
        aligned: Whether agents that are aligned to a channel work on the signals of its messages; else on those of the step.
        forward_pass: Makes what ticks the agents of the copy, which then take the most likely actions.
    """

    def __init__(
        self,
        system: System,
        batch: int,
        links: Links,
        seed: int,
        deliver: Deliver | None = None,
        *,
        sampled: bool = False,
        aligned: bool = True,
        forward_pass: Callable[[System, Deliver | None], Deliveries] | None = None,
    ) -> None:
        channels = {
            name: _silent(channel, batch, links, seed, sampled=sampled)
            for name, channel in system.channels.items()
        }
        deployed = partial(_deployed, batch=batch, seed=seed, aligned=aligned)
        self.system = replace(copied(system, channels, _frozen, deployed), batch=batch)
        make = forward_pass or partial(Deliveries, greedy=not sampled)
        self._forward_pass = make(self.system, deliver)

    def release(self) -> None:
        """Let all messages go: they are in circles, which Python would search for later."""
        for channel in self.system.channels.values():
            channel.wire.clear()

    @property
    def action(self) -> Action | None:
        """What is done in the environment after the newest step; None: no agent acted."""
        return self._forward_pass.acting.action()

    @torch.no_grad()
    def tick(
        self, step: int, step_signals: StepSignals, calls: Sequence[NetworkCall] | None = None
    ) -> list[Tick]:
        """Evaluate the agents due at a step, or some of them, and return what they read and made."""
        if calls is None:
            calls = self.system.schedule.network_calls(step)
        self._forward_pass.tick_agents(step, step_signals, calls)
        ticks: list[Tick] = []
        sent_over: list[Channel] = []
        for group in dict.fromkeys(self.system.group_by_agent[call[0]] for call in calls):
            window = group.pop_window()
            ticks += window.ticks()
            for name, sent in window.sent:
                sent.window_open = False
                sent_over.append(self.system.channels[name])
        for tick in ticks:
            for channel in self.system.agents[tick.agent_name].connections.read_channels:
                channel.wire.inbox.close(step, step)
                channel.synthetic_input.examples.clear()
        delete_spent_messages(sent_over, step)
        return ticks

    def end_episodes(self, step: int, ends: EpisodeEnds) -> None:
        end_episodes(self._forward_pass, step, ends)


class Deliveries(ForwardPass):
    """Ticks that read messages as constants, replaced before they go out."""

    def __init__(self, system: System, deliver: Deliver | None, *, greedy: bool = True) -> None:
        super().__init__(system, greedy=greedy, deployed=True)
        self.deliver = deliver

    def as_read(self, channel: Channel, arrival: Arrival, tick: Tick, window: Window) -> Read:
        return Constant(channel.name, arrival.value, arrival.available)

    def send_over(
        self, channel: Channel, step: int, output: Tensor, step_signals: StepSignals, void: Mask
    ) -> Sent:
        if self.deliver is not None:
            count, messages = len(channel.members), output.flatten(1)
            of_members = messages.view(count, -1, messages.shape[1])
            replaced = []
            for n, member in enumerate(channel.members):
                sent = (~void).map(lambda rows, n=n: rows.view(count, -1)[n])  # type: ignore[misc]
                replaced.append(self.deliver(member.name, step, of_members[n], sent))
            output = torch.cat(replaced)
        return channel.wire.outbox.send(step, output, step_signals, void)


# --- examples ----------------------------------------------------------------------------------------------


class ExampleRollout:
    """A rollout over examples, all shown at once and each for `steps_needed` steps.

    Args:
        signals: The examples' signals by name, [rows, …].
        seed: Of what is lost and added on the way: with the same one, the same.
        ends: The agents whose newest outputs are wanted; ticks that do not reach these are left out. None: all agents.

    Attributes:
        ports: Of the newest tick of each of the ends, by agent.
    """

    def __init__(
        self,
        system: System,
        signals: Mapping[str, Tensor],
        links: Links,
        *,
        seed: int,
        ends: Collection[str] | None = None,
        deliver: Deliver | None = None,
        forward_pass: Callable[[System, Deliver | None], Deliveries] | None = None,
    ) -> None:
        self.system = system
        self.rows = next(iter(signals.values())).shape[0]
        self.ports: dict[str, Tensors] = {}
        self._signals = StepSignals(0, dict(signals))
        steps = [system.schedule.network_calls(step) for step in range(steps_needed(system))]
        ticks = [(name, step) for step, calls in enumerate(steps) for call in calls for name in call]
        newest = {name: step for name, step in ticks if ends is None or name in ends}
        self._rollout = rollout = Rollout(
            system,
            self.rows,
            links,
            seed,
            deliver,
            aligned=links.kind != "perfect",  # else all steps show the same, and nothing is lost
            forward_pass=forward_pass,
        )
        # of what may be lost, any earlier message may be read
        lossy = any(channel.wire.link.loses for channel in rollout.system.channels.values())
        needed = set(ticks if lossy else newest.items())  # and the ticks that these rest on
        for name, step in reversed(ticks):
            for channel in system.agents[name].connections.read_channels if (name, step) in needed else ():
                due = channel.wire.timetable.stamps_read_at(step)
                needed.update((channel.sender, stamp) for stamp in due)
        self._evaluator = ObjectiveEvaluator(rollout.system)
        for step, calls in enumerate(steps):
            for call in calls:  # one by one: what each has made on the way is released
                if needed_names := tuple(name for name in call if (name, step) in needed):
                    made_ticks = rollout.tick(step, self._signals, [needed_names])
                    self.ports |= {
                        tick.agent_name: tick.ports
                        for tick in made_ticks
                        if newest.get(tick.agent_name) == step
                    }
                    if not lossy:
                        _release(rollout.system, step, needed_names)
        rollout.release()

    def losses(self) -> dict[str, TickLoss | None]:
        """Return the objective of every agent with a target; None where the target is absent in all examples."""
        agents = self._rollout.system.agents
        return {
            name: self._evaluator.output_loss(agents[name], self._signals, self.ports[name][OBJECTIVE])
            for name in with_targets(self.system)
        }

    def scores(self) -> tuple[Scores, Counts]:
        """Return loss and metric per example of every single agent with a target, NaN without one, and as how many targets each counts."""
        scores, counts, losses = Scores(), Counts(), self.losses()
        for name, goal in with_targets(self.system).items():
            metrics, members = ("loss", *goal.objective.metrics), self.system.agents[name].members
            shape = len(members) * self.rows, len(metrics)
            values = weights = self.ports[name][OBJECTIVE].new_full(shape, math.nan)
            if (tick_loss := losses[name]) is not None:
                numerators, weights, present = sums_of(goal, tick_loss)
                values = (numerators / weights).where(present, math.nan)
            by_member = (rows.view(len(members), self.rows, -1) for rows in (values, weights))
            for member, *of_member in zip(members, *by_member, strict=True):
                scores[member.name], counts[member.name] = (
                    dict(zip(metrics, rows.unbind(1), strict=True)) for rows in of_member
                )
        return scores, counts


def _release(system: System, step: int, call: NetworkCall) -> None:
    """Release messages to and from the agents of a call that a tick at this step would not read, nor any later one."""
    for agent in map(system.agents.__getitem__, call):
        for channel in (*agent.connections.read_channels, *agent.connections.send_channels):
            timetable = channel.wire.timetable
            oldest = min(timetable.stamps_read_at(timetable.receiver_clock.at_or_after(step)), default=0)
            for messages in (channel.wire.inbox.messages, channel.wire.outbox.sent):
                for stamp in [stamp for stamp in messages if stamp < oldest]:
                    del messages[stamp]


def with_targets(system: System) -> dict[str, Goal]:
    """Return the objectives that score an output against a target, by agent: all but policies."""
    return {name: goal for name, goal in system.goals().items() if goal.policy is None}


# --- environments ------------------------------------------------------------------------------------------


def sums_of(goal: Goal, tick_loss: TickLoss) -> tuple[Tensor, Tensor, Tensor]:
    """Return what each row adds to the sums of loss and metrics, and to the numbers that these are divided by, and where it does.

    Each is [rows, 1 + metrics].
    """
    losses = tick_loss.losses
    present = tick_loss.present.tensor(len(losses), losses.device)
    counts = tick_loss.target_counts if goal.mean_over_targets else present.to(losses.dtype)
    weights = counts if tick_loss.target_weights is None else counts * tick_loss.target_weights
    numerators, divisors, there = goal.objective.numerators(tick_loss.score, counts)
    pairs = (losses * counts, numerators), (weights, divisors), (present, there)
    with_loss = [torch.cat([loss.unsqueeze(1), metrics.to(loss.dtype)], 1) for loss, metrics in pairs]
    return with_loss[0], with_loss[1], with_loss[2]


class AgentScore(NamedTuple):
    """Loss and metrics of an agent over the samples with a target.

    Attributes:
        means: Over all targets; NaN where there was none, 0 where none has a weight.
        errors: Standard errors of the means; NaN of fewer than two samples.
        samples: How many samples had a target, by metric.
        targets: How many targets these had in a mean.
    """

    means: dict[str, float]
    errors: dict[str, float]
    samples: dict[str, int]
    targets: int


class ScoreSums:
    """Losses and metrics of a stack of agents, summed over samples."""

    def __init__(self, agent: Agent) -> None:
        assert agent.goal is not None
        self._agent, self._goal = agent, agent.goal
        self._names = ("loss", *agent.goal.objective.metrics)
        shape = len(agent.members), len(self._names)
        self._sums = torch.zeros(6, *shape, dtype=torch.float64)
        """Of numerators, divisors, their squares and product, and the number of independent samples."""
        self._samples = torch.zeros(shape, dtype=torch.int64)
        self._targets = torch.zeros(len(agent.members), dtype=torch.int64)

    def count(self, tick_loss: TickLoss, newest: int = 0) -> tuple[Tensor, Tensor]:
        """Count the last `newest` samples of each member (0: all); return their numerators and divisors, [N, samples, 1 + metrics]."""
        targets = tick_loss.target_counts.unsqueeze(1)
        by_member = [
            rows.view(len(self._targets), -1, rows.shape[1])[:, -newest:]
            for rows in (*sums_of(self._goal, tick_loss), targets)
        ]
        numerators, divisors, present, targets = by_member
        self._samples += present.long().sum(1).cpu()
        counts = targets if self._goal.mean_over_targets else present
        self._targets += counts[:, :, 0].sum(1).long().cpu()
        return numerators.double().cpu(), divisors.double().cpu()

    def add(self, numerators: Tensor, divisors: Tensor) -> None:
        """Add samples, [N, samples, 1 + metrics], that are independent of each other."""
        rows = (
            numerators,
            divisors,
            numerators.square(),
            numerators * divisors,
            divisors.square(),
            divisors > 0,
        )
        self._sums += torch.stack([of_row.sum(1).double() for of_row in rows])

    def by_agent(self) -> dict[str, AgentScore]:
        """Return the score of each member, by its name."""
        total, divisor, squares, products, divisor_squares, count = self._sums
        mean = total / divisor
        variance = (squares - 2 * mean * products + mean.square() * divisor_squares).clamp(min=0)
        errors = ((variance * count / (count - 1)).sqrt() / divisor).where(count > 1, math.nan)
        columns = (mean.tolist(), errors.tolist(), self._samples.tolist(), self._targets.tolist())
        scores = {}
        for member, means, member_errors, samples, targets in zip(self._agent.members, *columns, strict=True):
            counts = dict(zip(self._names, samples, strict=True))
            by_metric = self._means(dict(zip(self._names, means, strict=True)), counts)
            own_errors = dict(zip(self._names, member_errors, strict=True))
            scores[member.name] = AgentScore(by_metric, own_errors, counts, targets)
        return scores

    def _means(self, values: dict[str, float], samples: dict[str, int]) -> dict[str, float]:
        means = {
            name: 0.0 if math.isnan(value) and samples[name] else value for name, value in values.items()
        }
        objective = self._goal.objective
        if isinstance(objective, Weighted):
            means = {name: value for name, value in means.items() if samples[name] or name == "loss"}
            if self._goal.divides_by_window and samples["loss"]:
                means["loss"] = objective.mean_loss(means, samples)
        return means


class EnvironmentRollout:
    """A rollout in an environment of its own, from silence at step 0.

    Args:
        env: The environment, of any batch; the rollout owns it.
        seed: Of the environment, of sampled actions, and of what is lost and added on the way.
        signals: Signals that are asked for beside those of the system.

    Attributes:
        ends: The ends of episodes at the newest step.
    """

    def __init__(
        self,
        system: System,
        env: TorchVectorEnv,
        links: Links,
        seed: int,
        *,
        sampled: bool = False,
        signals: Iterable[str] = (),
        deliver: Deliver | None = None,
    ) -> None:
        self.rollout = Rollout(system, env.num_envs, links, seed, deliver, sampled=sampled)
        self.system = self.rollout.system
        self.world = EnvironmentRunner(env, signals_read(self.system).union(signals), seed)
        self._scores = {name: ScoreSums(system.agents[name]) for name in with_targets(system)}
        self._sums: dict[str, tuple[Tensor, Tensor]] = {}
        """By stack: numerators and divisors of each environment, whose ticks depend on each other."""
        self.ends = EpisodeEnds()
        self._evaluator = ObjectiveEvaluator(self.system)
        # the paths of an episode are empty where it begins: its first ticks are part of what is learned, and scored
        first_filled = filled(system) if env.endless else {}
        self._filled = {
            name: torch.tensor([first_filled.get(member.name, 0) for member in agent.members])
            for name, agent in system.agents.items()
        }

    @property
    def scores(self) -> dict[str, AgentScore]:
        """By single agent with a target: where no episode ends, ticks count once all paths to it have filled."""
        for name in list(self._sums):
            self._scores[name].add(*self._sums.pop(name))
        return {name: score for of in self._scores.values() for name, score in of.by_agent().items()}

    def run(self, steps: int) -> dict[str, AgentScore]:
        """Take so many steps, and return the scores."""
        for _ in range(steps):
            self.step()
        return self.scores

    @torch.no_grad()
    def step(self) -> list[Tick]:
        """Take one step and return the ticks, with what was read and made."""
        step_signals = self.world.step_signals
        step = step_signals.step
        ticks = self.rollout.tick(step, step_signals)
        self.ends = self.world.advance(self.rollout.action)
        for tick in ticks:
            if tick.agent_name not in self._scores:
                continue
            is_filled = simplified(Mask.of(self._filled[tick.agent_name] <= step))
            tick_loss = self._evaluator.tick_loss(tick) if is_filled.anywhere else None
            if tick_loss is not None:
                rows = self.system.agents[tick.agent_name].layout.rows_of(is_filled)
                sums = self._scores[tick.agent_name].count(
                    tick_loss._replace(present=tick_loss.present & rows)
                )
                before = self._sums.get(tick.agent_name, (0.0, 0.0))
                self._sums[tick.agent_name] = before[0] + sums[0], before[1] + sums[1]
        self.rollout.end_episodes(step, self.ends)
        return ticks


# --- the copy ----------------------------------------------------------------------------------------------


def rewired(
    system: System,
    channels: dict[str, Channel],
    learners: Mapping[Learner, Learner] | None = None,
    groups: list[LearningGroup] | None = None,
    agent_of: Callable[[Agent], Agent] = lambda agent: agent,
) -> System:
    """Return a system with other channels of the same names, other learners in place of some, and agents wired in place of others."""
    instead = learners or {}
    agents = {
        name: replace(
            agent,
            members=agent.members if agent.layout.has_member_axis else (),
            learner=instead.get(agent.learner, agent.learner),
            connections=agent.connections.found_in(channels),
            kept=replace(agent.kept),
        )
        for name, agent in ((name, agent_of(agent)) for name, agent in system.agents.items())
    }
    return replace(system, agents=agents, channels=channels, groups=groups or system.groups)


def copied(
    system: System,
    channels: dict[str, Channel],
    learner_of: Callable[[Learner], Learner],
    agent_of: Callable[[Agent], Agent] = lambda agent: agent,
) -> System:
    """Return a system with these channels and windows of its own, in which all agents take part."""
    learners = {agent.learner: learner_of(agent.learner) for agent in system.first_agents().values()}
    groups = [replace(group, window=Window(), waiting=[]) for group in system.groups]
    taking_part = lambda agent: replace(agent_of(agent), participation=None)
    return rewired(system, channels, learners, groups, taking_part)


def _frozen(learner: Learner) -> Learner:
    """A learner with the same parameters as constants, computed by torch: the native kernel computes training alone."""
    frozen = copy_with(learner, frozen=True)
    for member in learner.members[:1]:
        assert isinstance(member, Learner)
        frozen.network = member.network
    return frozen


def _deployed(agent: Agent, batch: int, seed: int, *, aligned: bool) -> Agent:
    """A stack of agents before its first tick, as it is when it is deployed: without its critic."""
    reseeded = (replace(m, members=(), random_seed=seed_for(seed, "agent", m.name)) for m in agent.members)
    fan_in = agent.inputs.fan_in
    if isinstance(fan_in, BlockFanIn):  # torch computes it: see `_frozen`
        fan_in = StackFanIn(fan_in.member_count, fan_in.segments)
    return replace(
        agent,
        members=tuple(reseeded) if agent.layout.has_member_axis else (),
        inputs=replace(
            agent.inputs,
            fan_in=fan_in,
            critic_observed=Observed(),
            has_target_network=False,
            align_channel_name=agent.inputs.align_channel_name if aligned else None,
        ),
        layout=replace(agent.layout, batch=batch),
        random_seed=seed_for(seed, "agent", agent.name),
        goal=None if agent.goal is None else replace(agent.goal, weight=1.0),
        kept=Kept(),
    )


def _sampler(channel: Channel, seed: int, *, sampled: bool) -> MessageSampler | None:
    """What samples the messages of a stack of channels with the seed, or sends the most likely ones."""
    sampler = channel.content.sampler
    if sampler is None:
        return None
    seeds = [seed_for(seed, "message", m.sender, m.content.port_name) for m in channel.members]
    return sampler.for_rollout(seeds, greedy=not (sampled and sampler.learned))


def _silent(channel: Channel, batch: int, links: Links, seed: int, *, sampled: bool) -> Channel:
    """A stack of channels over which nothing has been sent, and no gradient returns."""
    link = channel.wire.link if channel.carries_state else links.of(channel.wire.link, seed)
    content, like = channel.content, channel.content.zeros
    stands_in = links.kind == "as_run" or link.loses
    timetable = replace(channel.wire.timetable, receiver_grid=_STEP)
    wire = Wire.of(
        channel.wire, timetable=timetable, link=link, returns_gradients=False, keeps_returned=False
    )
    return replace(
        channel,
        coupling=Detached(),  # the real message is read, also where in training it never is
        wire=wire,
        content=replace(
            content,
            zeros=torch.zeros((), dtype=like.dtype, device=like.device).expand(
                len(channel.members) * batch, content.size
            ),
            sampler=_sampler(channel, seed, sampled=sampled),
        ),
        synthetic_gradient=SyntheticGradient(),
        synthetic_input=replace(channel.synthetic_input, examples=[]) if stands_in else SyntheticInput(),
        members=channel.members if channel.layout.has_member_axis else (),
        layout=replace(channel.layout, batch=batch),
    )


# --- how long until all paths have filled ------------------------------------------------------------------


def filled(system: System) -> dict[str, int]:
    """Return, by single agent, the step of its first tick with every path to it filled.

    A path through a cycle never fills; there it is enough that all on the cycle rest on each other.
    """
    agents = {member.name: member for agent in system.agents.values() for member in agent.members}
    channels = [channel for agent in agents.values() for channel in agent.connections.read_channels]
    component = components(agents, [(c.sender, c.receiver) for c in channels])
    size: Counter[int] = Counter()
    bit: dict[str, int] = {}
    for name in agents:
        bit[name] = size[component[name]]
        size[component[name]] += 1
    everyone = {number: (1 << count) - 1 for number, count in size.items()}
    sources: dict[str, dict[int, int]] = {name: {} for name in agents}
    """By step of an agent's tick, what it rests on: of those it is on a cycle with, each with all paths to it filled, a bit."""
    read_from = {channel.name: 0 for channel in channels}
    """The oldest stamp that the newest tick has read; no later one reads an older."""
    first_filled: dict[str, int] = {}
    step = 0
    while len(first_filled) < len(agents):
        calls = system.schedule.network_calls(step)
        ticking = (system.agents[name].members for call in calls for name in call)
        for agent in chain.from_iterable(ticking):
            name, bits_by_step = agent.name, sources[agent.name]
            all_bits = everyone[component[name]]
            full, rests_on = True, 0
            for channel in agent.connections.incoming:
                timetable, sender_bits = channel.wire.timetable, sources[channel.sender]
                stamps = timetable.stamps_read_at(step)
                if component[channel.sender] == component[name]:
                    rests_on |= sender_bits[stamps[-1]] if stamps else 0
                else:
                    full &= timetable.reads_in_full(step)
                    full &= all(sender_bits[stamp] == everyone[component[channel.sender]] for stamp in stamps)
                if stamps:
                    read_from[channel.name] = stamps[0]
            if full:
                rests_on |= 1 << bit[name]
            if rests_on == all_bits:
                rests_on = all_bits  # the same object for all, as a set of 100,000 is 12 kB
                first_filled.setdefault(name, step)
            bits_by_step[step] = rests_on
            oldest = min((read_from[channel.name] for channel in agent.connections.outgoing), default=step)
            while (stamp := next(iter(bits_by_step))) < oldest:
                del bits_by_step[stamp]
        step += 1
    return first_filled


def steps_needed(system: System) -> int:
    """Return for how many steps an example must be shown: `hold`, or until every path has filled.

    An example that is an episode is shown for as long as it lasts, or until every agent has ticked.
    """
    if system.description.is_stream and system.description.episode_steps is not None:
        return max(system.description.hold, *(agent.clock.phase + 1 for agent in system.agents.values()))
    return max(system.description.hold, *(step + 1 for step in filled(system).values()))


LINKS = ("perfect", "as_run")


@dataclass(frozen=True)
class Links:
    """The links of a rollout.

    Attributes:
        kind: `perfect`: delays and rates are kept, without loss and noise; links that lose every message in the run are cut.
            `as_run`: as in the run, with synthetic inputs for missing messages.
        drop: With `as_run`, the probability of loss on every link; None: the link's own.

    Raises:
        ScenarioError: No such kind, or a setting that perfect links do not have.
    """

    kind: str = "perfect"
    drop: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in LINKS:
            raise ScenarioError(f"links: no kind '{self.kind}'; use 'perfect' or 'as_run'")
        is_number = isinstance(self.drop, Real) and not isinstance(self.drop, bool)
        if self.drop is not None and not (is_number and 0 <= self.drop <= 1):
            raise ScenarioError(f"drop: must be from 0 to 1, not {self.drop}")
        if self.kind == "perfect" and self.drop is not None:
            raise ScenarioError(f"drop: perfect links lose nothing, got {self.drop}; use links 'as_run'")

    @property
    def in_words(self) -> str:
        """Return "perfect links", or what of the run's links is another."""
        links = "perfect links" if self.kind == "perfect" else "links as in the run"
        return links if self.drop is None else f"{links}, drop {self.drop:g}"

    @classmethod
    def given(cls, links: Self | str, system: System) -> Self:
        """Return the links that are given for a system, or whose kind is; ScenarioError where it lacks what they set."""
        links = cls(links) if isinstance(links, str) else links
        if not isinstance(links, Links):
            raise ScenarioError(f"links: {links!r}; write 'perfect' or 'as_run', or pass Links('as_run', …)")
        if links.drop is not None and not system.channels:
            raise ScenarioError(
                f"drop: {links.drop} has no effect, as the scenario has no channels; leave it out"
            )
        return links

    def of(self, link: Link, seed: int) -> Link:
        """Return a link, or those of a stack, as a rollout has it; `seed`: of what is lost and added."""
        if self.kind == "perfect":
            return link.perfect()
        members = tuple(dataclasses.replace(member, seed=seed) for member in link.members)
        drop = link.drop if self.drop is None else self.drop
        return dataclasses.replace(link, seed=seed, drop=drop, members=members)
