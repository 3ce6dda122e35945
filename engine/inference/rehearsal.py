"""Rehearsals: the system run forward over examples from silence, with running statistics; nothing learns.

A rehearsal has links of its own, so that no bit of the run changes and the same numbers are drawn every time
(semantics 24). Rehearsed again with one channel's messages replaced, only what that changes is computed anew.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from antiphon.agents.network import OBJECTIVE
from antiphon.comms.aggregation import combine_reads, join
from antiphon.comms.link import Link
from antiphon.engine.core.agent import AGE, Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.ledger import Record
from antiphon.engine.core.mask import EnvMask, mask_fill_zero
from antiphon.engine.core.signals import StepSignals
from antiphon.engine.core.system import System
from antiphon.engine.inference.compose import steps_needed
from antiphon.engine.step.contexts import Contexts
from antiphon.errors import ScenarioError
from antiphon.nets.random import seed_for

__all__ = ["LINKS", "Links", "Rehearsal", "Replacement", "Trace"]

LINKS = ("perfect", "as_run")


@dataclass(frozen=True)
class Links:
    """How messages travel in a rehearsal.

    Attributes:
        kind: `perfect`: delays and rates are kept, nothing is lost, nothing is added; `as_run`: as in the run, with
            synthetic inputs where a message is missing.
        drop: With `as_run`, the probability of loss on every link; None: its own.
        inputs: With `as_run`, whether synthetic inputs stand in.

    Raises:
        ScenarioError: No such kind, or something that perfect links do not have.
    """

    kind: str = "perfect"
    drop: float | None = None
    inputs: bool = True

    def __post_init__(self) -> None:
        if self.kind not in LINKS:
            raise ScenarioError(f"links: '{self.kind}' is not known; use 'perfect' or 'as_run'")
        if self.drop is not None and not 0 <= self.drop <= 1:
            raise ScenarioError(f"drop: must be from 0 to 1, not {self.drop}")
        if self.kind == "perfect" and self.drop is not None:
            raise ScenarioError(f"drop: perfect links lose nothing, got {self.drop}; use links 'as_run'")
        if self.kind == "perfect" and not self.inputs:
            raise ScenarioError("inputs: over perfect links none stands in; use links 'as_run'")

    @classmethod
    def read(cls, links: Links | str) -> Links:
        """Return links, given themselves or by their kind.

        Raises:
            ScenarioError: No such kind.
        """
        return cls(links) if isinstance(links, str) else links

    def of(self, link: Link, seed: int) -> Link:
        """Return what stands for one of the run's links."""
        if self.kind == "perfect":
            return dataclasses.replace(link, drop=0.0, noise=0.0, bits=None)
        return dataclasses.replace(link, seed=seed, drop=link.drop if self.drop is None else self.drop)


@dataclass(frozen=True)
class Replacement:
    """What goes out on one channel instead of its messages.

    Attributes:
        channel: Its name.
        message: Called with a stamp and the true messages sent so far, by stamp, its own the newest; returns
            [rows, size].
    """

    channel: str
    message: Callable[[int, Mapping[int, Tensor]], Tensor]


@dataclass
class Trace:
    """What happened in a rehearsal."""

    ports: dict[tuple[str, int], dict[str, Tensor]] = field(default_factory=dict)
    """By agent and step: the ports that somebody reads, or all."""
    made: dict[str, dict[int, Tensor]] = field(default_factory=dict)
    """Messages by channel and stamp, as their sender made them, [rows, size]."""
    sent: dict[str, dict[int, Tensor]] = field(default_factory=dict)
    """What went out in their place."""
    readings: dict[tuple[str, int], tuple[Tensor, EnvMask]] = field(default_factory=dict)
    """By channel and step of the reader's tick: what it read, [rows, size], and where anything had come."""
    ages: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    """Likewise, for readers that observe it: how old the newest message was, [rows], in ticks of its sender."""
    changed: set[tuple[str, int]] = field(default_factory=set)
    """Messages, by channel and stamp, that are not those of the rehearsal this one is held against."""
    held: dict[tuple[str, int], tuple[Tensor, Tensor]] = field(default_factory=dict)
    """By channel and stamp: the newest message that had arrived up to it, and its stamp [rows], -1 for none."""
    blank: set[tuple[str, int]] = field(default_factory=set)
    """Ticks of aligned agents before their first message."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """One agent's tick, with the stamps that are due on each of its channels, its memory last."""

    agent: Agent
    step: int
    due: tuple[list[int], ...]


class Rehearsal:
    """A system and the examples that it is shown, all at once and each for `steps_needed` steps.

    Args:
        system: The system; nothing of it changes.
        signals: The examples' signals by name, [rows, …].
        links: How messages travel.
        seed: Of all that is lost and added on the way.
        ends: The agents whose newest outputs are wanted; what does not reach them is left out. None: all agents.
        history: Whether replacements look at older messages.
        every_port: Whether all ports are kept, and not only those that somebody reads.
    """

    def __init__(
        self,
        system: System,
        signals: Mapping[str, Tensor],
        links: Links,
        *,
        seed: int,
        ends: Collection[str] | None = None,
        history: bool = False,
        every_port: bool = False,
    ) -> None:
        self.system = system
        self.signals = signals
        self.rows = len(next(iter(signals.values())))
        self._links = links
        self.seed = seed
        self._history = history
        self._every_port = every_port
        self._link = {
            channel.name: channel.ledger.link if channel.state else links.of(channel.ledger.link, seed)
            for agent in system.agents.values()
            for channel in agent.channels
        }
        self._lost: dict[tuple[str, int], Tensor] = {}
        self._moment = StepSignals(0, dict(signals))
        stage = copy.copy(system)
        stage.batch = self.rows
        self._contexts = Contexts(stage)
        self._zeros: dict[int, Tensor] = {}
        self._turns = self._plan(system.agents if ends is None else ends)

    def run(self, replaced: Replacement | None = None, against: Trace | None = None) -> Trace:
        """Show the examples.

        Args:
            replaced: What goes out on one channel instead of its messages.
            against: This rehearsal's trace with nothing replaced; what stays the same is taken from it.
        """
        trace = Trace()
        with torch.no_grad():
            for turn in self._turns:
                self._tick(turn, trace, replaced, against)
        return trace

    def last(self, trace: Trace, agent: str) -> dict[str, Tensor]:
        """Return the ports of an agent's newest tick; KeyError if it never ticked."""
        step = max(turn.step for turn in self._turns if turn.agent.name == agent)
        return trace.ports[agent, step]

    def read(self, channel: str) -> set[int]:
        """Return the stamps of a channel that are due at some tick."""
        return {
            stamp
            for turn in self._turns
            for entry, due in zip(turn.agent.channels, turn.due, strict=True)
            for stamp in due
            if entry.name == channel
        }

    def losses(self, trace: Trace) -> dict[str, tuple[Tensor, Tensor]]:
        """Return loss and metric per example, [rows] each, of every agent with an objective."""
        found = {}
        for name, agent in self.system.agents.items():
            if agent.goal is not None:
                output, target = self.last(trace, name)[OBJECTIVE], self.signals[agent.goal.target]
                objective = agent.goal.objective
                found[name] = objective.loss(output, target), objective.score(output, target)
        return found

    # --- what is ticked ----------------------------------------------------------------------------------

    def _plan(self, ends: Collection[str]) -> list[_Turn]:
        """Return the ticks that reach the newest ones of `ends`, in order."""
        turns = [
            _Turn(agent, step, tuple(channel.ledger.due(step) for channel in agent.channels))
            for step in range(steps_needed(self.system))
            for call in self.system.schedule.calls(step)
            for agent in (self.system.agents[name] for name in call)
        ]
        newest = {turn.agent.name: turn.step for turn in turns}
        wanted = {(name, step) for name, step in newest.items() if name in ends}
        kept = []
        for turn in reversed(turns):
            if (turn.agent.name, turn.step) in wanted:
                kept.append(turn)
                for channel, due in zip(turn.agent.channels, turn.due, strict=True):
                    wanted.update((channel.sender, stamp) for stamp in self._behind(channel, due))
        return kept[::-1]

    def _behind(self, channel: Channel, due: list[int]) -> Iterator[int]:
        """The stamps that what is read may depend on, newest first."""
        yield from reversed(due)
        if due and (self._link[channel.name].drop or self._history):
            earlier = channel.ledger.sender.latest(due[0] - 1)
            while earlier is not None:
                yield earlier
                earlier = channel.ledger.sender.latest(earlier - 1)

    def _tick(self, turn: _Turn, trace: Trace, replaced: Replacement | None, against: Trace | None) -> None:
        agent, step = turn.agent, turn.step
        new = False
        for channel, due in zip(agent.channels, turn.due, strict=True):
            key = channel.name, step
            if against is None or any((channel.name, s) in trace.changed for s in self._behind(channel, due)):
                trace.readings[key] = self._read_all(trace, channel, due, step)
                new = True
            else:
                trace.readings[key] = against.readings[key]
                if key in against.ages:
                    trace.ages[key] = against.ages[key]
        if against is None or new:
            trace.ports[agent.name, step] = self._evaluate(agent, step, trace)
        else:
            trace.ports[agent.name, step] = against.ports[agent.name, step]
            trace.blank |= against.blank & {(agent.name, step)}
        for channel in [*agent.outputs, *([] if agent.memory is None else [agent.memory])]:
            if channel.ledger.sender.due(step):
                self._send(channel, step, trace, replaced, changed=against is not None and new)

    def _send(
        self, channel: Channel, step: int, trace: Trace, replaced: Replacement | None, *, changed: bool
    ) -> None:
        made = trace.made.setdefault(channel.name, {})
        made[step] = trace.ports[channel.sender, step][channel.port].flatten(1)
        sent = made[step]
        if replaced is not None and replaced.channel == channel.name:
            sent, changed = replaced.message(step, made), True
        trace.sent.setdefault(channel.name, {})[step] = sent
        if changed:
            trace.changed.add((channel.name, step))

    def _evaluate(self, agent: Agent, step: int, trace: Trace) -> dict[str, Tensor]:
        network = agent.learner.network
        flat = len(network.input_shape) == 1
        readings = [trace.readings[channel.name, step] for channel in agent.inputs]
        observations = []
        for name in agent.observes:
            if name == AGE:
                observations.append(
                    torch.stack([trace.ages[channel.name, step] for channel in agent.inputs], 1)
                )
                continue
            seen = self.signals[name].to(self.system.dtype)
            if self._unaligned(agent, readings):
                seen = torch.zeros_like(seen)
                trace.blank.add((agent.name, step))
            observations.append(seen.reshape(self.rows, -1) if flat else seen)
        messages = [
            value if flat else value.reshape(self.rows, -1, *channel.shape[1:])
            for (value, _), channel in zip(readings, agent.inputs, strict=True)
        ]
        ports, _ = network(
            agent.learner.parameters,
            agent.learner.buffers,
            join(agent.fan_in, observations, messages, [available for _, available in readings]),
            training=False,
            seed=0 if network.pure else seed_for(self.seed, "tick", agent.name, str(step)),
            state=None if agent.memory is None else trace.readings[agent.memory.name, step][0],
        )
        return ports if self._every_port else {name: ports[name] for name in agent.ports}

    def _unaligned(self, agent: Agent, readings: list[tuple[Tensor, EnvMask]]) -> bool:
        """Whether an aligned agent has still to hear the message whose example it works on."""
        if agent.align is None or self._links.kind == "perfect":
            return False
        at = [channel.name for channel in agent.inputs].index(agent.align)
        return readings[at][1] is False

    # --- what is read ------------------------------------------------------------------------------------

    def _read_all(self, trace: Trace, channel: Channel, due: list[int], step: int) -> tuple[Tensor, EnvMask]:
        """Return what a tick finds on a channel (semantics 18), several messages as one, and where anything has come."""
        if self._links.kind == "as_run" and self.system.agents[channel.sender].agent_disabled:
            due = []
        found = [self._read(trace, channel, stamp, step) for stamp in due]
        if self.system.agents[channel.receiver].sees_ages and not channel.state:
            age = self._silence(1).squeeze(1)
            if found:
                _, available, stamp = found[-1]
                age = mask_fill_zero(available, (age + (step - stamp)) / channel.ledger.sender.clock.period)
            trace.ages[channel.name, step] = age
        read: list[tuple[Tensor, EnvMask]] = [(value, available) for value, available, _ in found]
        return combine_reads(
            channel.ledger.read, read or [(self._silence(channel.size), False)], channel.slots
        )

    def _read(
        self, trace: Trace, channel: Channel, due: int, step: int
    ) -> tuple[Tensor, EnvMask, int | Tensor]:
        """Return what stands for the message of `due`, where there is any, and the stamp of what is read."""
        lost = self._lost_in(channel, due)
        if lost is None:
            return self._link[channel.name].carry(due, trace.sent[channel.name][due]), True, due
        value, stamps = self._held(trace, channel, due)
        available = stamps >= 0
        if channel.input is not None and self._links.inputs and (channel.sender, due) not in trace.blank:
            stands = self._stand_in(trace, channel, due, step)
            return torch.where(lost.unsqueeze(1), stands, value), available | lost, due
        return value, available, stamps

    def _lost_in(self, channel: Channel, stamp: int) -> Tensor | None:
        link = self._link[channel.name]
        if link.drop == 0:
            return None
        key = channel.name, stamp
        if key not in self._lost:
            lost = link.lost(stamp, self.rows, self.system.device)
            assert lost is not None
            self._lost[key] = lost
        return self._lost[key]

    def _held(self, trace: Trace, channel: Channel, stamp: int | None) -> tuple[Tensor, Tensor]:
        """The newest message that had arrived when that of `stamp` was due."""
        if stamp is None:
            none = torch.full((self.rows,), -1, dtype=torch.int64, device=self.system.device)
            return self._silence(channel.size), none
        key = channel.name, stamp
        if key not in trace.held:
            before, since = self._held(trace, channel, channel.ledger.sender.latest(stamp - 1))
            lost = self._lost_in(channel, stamp)
            assert lost is not None
            received = self._link[channel.name].carry(stamp, trace.sent[channel.name][stamp])
            trace.held[key] = (
                torch.where(lost.unsqueeze(1), before, received),
                torch.where(lost, since, stamp),
            )
        return trace.held[key]

    def _stand_in(self, trace: Trace, channel: Channel, due: int, step: int) -> Tensor:
        """What the synthetic input expects of the message of `due`, [rows, size]."""
        assert channel.input is not None
        place = copy.copy(channel)
        place.zeros = self._silence(channel.size)
        place.ledger = copy.copy(channel.ledger)
        before = channel.ledger.sender.latest(due - 1)
        place.ledger.prior, place.ledger.prior_stamp = self._held(trace, channel, before)
        message = trace.sent[channel.name][due]
        record = Record(due, message, message, self._moment, step, set(), step)
        context = self._contexts.of_input(place, record, step)
        return channel.input.predict(context, self.rows, training=False)

    def _silence(self, size: int) -> Tensor:
        if size not in self._zeros:
            self._zeros[size] = torch.zeros(
                self.rows, size, dtype=self.system.dtype, device=self.system.device
            )
        return self._zeros[size]
