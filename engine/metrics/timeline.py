"""The timeline of a system, computed from its clocks, windows and ledgers. Nothing is run."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from antiphon.base.call_errors import naming
from antiphon.base.errors import ScenarioError
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.system import System
from antiphon.engine.live_system import Holder, LiveSystem, running_of
from antiphon.telemetry.timeline_text import AgentTimes, ChannelTimes, Timeline

_LONGEST = 32
"""Steps that are shown by default."""
_SHORTEST = 8


def span(system: System) -> int:
    """Return how many steps show what a system does: two of its longest windows, and a whole episode, but 8 to 32 steps."""
    longest = max((group.grid.max_steps() for group in system.groups), default=0)
    return min(max(2 * longest, system.description.episode_steps or 0, _SHORTEST), _LONGEST)


def timeline(of: System | LiveSystem | Holder, start: int, steps: int) -> Timeline:
    """Return the timeline of a system or simulation, for some steps from `start` on, with links that lose nothing.

    Raises:
        ScenarioError: `steps` or `start` is invalid.
    """
    if steps < 1:
        raise ScenarioError(f"timeline: steps is {steps}; it must be at least 1")
    if start < 0:
        raise ScenarioError(f"timeline: start is {start}; it must be at least 0")
    system = of if isinstance(of, System) else running_of(of).system
    times = _Times(system, range(start, start + steps))
    return Timeline(
        start=start,
        steps=steps,
        agents=tuple(times.agent(agent) for agent in system.agents.values()),
        channels=tuple(times.channel(channel) for channel in system.channels.values()),
        episode_ends=times.episode_ends,
    )


class _GradientReach(NamedTuple):
    """How far the true gradient of a tick goes, and what stands for the rest."""

    since: int
    synthetic: bool = False
    late: bool = False

    def joined(self, reach: _GradientReach) -> _GradientReach:
        return _GradientReach(
            min(self.since, reach.since), self.synthetic or reach.synthetic, self.late or reach.late
        )


@dataclass(frozen=True, slots=True)
class _CreditPath:
    """How credit crosses a channel; no step changes it."""

    state: bool
    joins: bool
    """Whether it takes the true gradient back, within the window."""
    waits: bool
    injects: bool
    returns: bool

    @classmethod
    def of(cls, channel: Channel) -> Self:
        coupling = channel.coupling
        return cls(
            state=channel.carries_state,
            joins=coupling.joins_endpoints,
            waits=coupling.waits,
            injects=channel.injects_prediction,
            returns=channel.ledger.returns_gradients,
        )


class _Times:
    """Answers questions about some steps of one system."""

    def __init__(self, system: System, steps: range) -> None:
        self.steps, self.system = steps, system
        episodes = system.episodes
        self.episodes = None if episodes is None else episodes.with_known_lengths()
        """The episodes of known length, if there are any; where lengths vary, as long as the present one."""
        self.windows = {
            name: group.grid.with_known_lengths() for name, group in system.group_by_agent.items()
        }
        self.credit = {name: _CreditPath.of(channel) for name, channel in system.channels.items()}
        first_steps = {
            windows: windows.steps_of(windows.number_at(steps.start)).start
            for windows in self.windows.values()
        }
        every = range(max(min(first_steps.values(), default=steps.start), 0), steps.stop)
        """The steps, and those before them of windows that are open at the first."""
        bounds = {windows: dict(zip(every, windows.spans(every), strict=True)) for windows in first_steps}
        self.bounds = {name: bounds[windows] for name, windows in self.windows.items()}
        """By agent and step, the first and the last step of its window."""
        self.reads: dict[tuple[str, int], tuple[int, ...]] = {}
        """By channel and tick of its receiver, what `_read` returns."""
        self.reaches: dict[str, dict[int, _GradientReach]] = {name: {} for name in system.agents}
        """By agent and tick, how far the true gradient goes; earlier ticks of open windows are among them."""
        for step in every:
            for name in system.schedule.ticking_agent_names(step):
                self.reaches[name][step] = self._reach(system.agents[name], step)

    def flags(self, steps: Container[int]) -> NDArray[np.bool_]:
        return np.array([step in steps for step in self.steps], dtype=np.bool_)

    @property
    def episode_ends(self) -> NDArray[np.bool_]:
        ends = () if self.episodes is None else self.episodes.spans(self.steps)
        return self.flags({end for _, end in ends})

    # --- credit ------------------------------------------------------------------------------------------

    def _reach(self, agent: Agent, step: int) -> _GradientReach:
        reach, begin = _GradientReach(step), self.bounds[agent.name][step][0]
        if agent.connections.state_channel is not None:
            for before in self._read(agent.connections.state_channel, step):
                if before >= begin:
                    reach = reach.joined(self.reaches[agent.name][before])
                elif self.credit[agent.connections.state_channel.name].injects:
                    reach = reach._replace(synthetic=True)
        for channel in agent.connections.incoming:
            credit = self.credit[channel.name]
            for stamp in self._read(channel, step):
                if credit.joins:
                    if stamp >= begin:
                        reach = reach.joined(self.reaches[channel.sender][stamp])
                elif credit.waits and self._waits_for(channel, stamp, self._sent_until(channel, stamp)):
                    reach = reach._replace(late=True)
                elif credit.injects and credit.returns:
                    reach = reach._replace(synthetic=True)
        return reach

    def agent(self, agent: Agent) -> AgentTimes:
        reaches = [self.reaches[agent.name].get(step, _GradientReach(-1)) for step in self.steps]
        return AgentTimes(
            name=agent.name,
            ticks=self.flags(agent.clock.among(self.steps)),
            ends=self.flags({end for _, end in self.bounds[agent.name].values()}),
            since=np.array([reach.since for reach in reaches], dtype=np.int64),
            synthetic_credit=np.array([reach.synthetic for reach in reaches], dtype=np.bool_),
            late_credit=np.array([reach.late for reach in reaches], dtype=np.bool_),
        )

    # --- messages ----------------------------------------------------------------------------------------

    def channel(self, channel: Channel) -> ChannelTimes:
        sent = [*channel.ledger.timetable.sender_clock.among(self.steps)]
        due = channel.ledger.timetable.receiver_clock.among(self.steps)
        read = {step: self._read(channel, step) if step in due else () for step in self.steps}
        uses = self._uses(channel, sent)

        def credit(when: Callable[[Channel, int, tuple[int, int]], int]) -> NDArray[np.int64]:
            steps = [when(channel, step, uses[step]) if step in uses else -1 for step in self.steps]
            return np.array(steps, dtype=np.int64)

        ages = [step - stamps[-1] if stamps else -1 for step, stamps in read.items()]
        return ChannelTimes(
            name=channel.name,
            sender=channel.sender,
            receiver=channel.receiver,
            coupling=channel.coupling.name,
            state=channel.carries_state,
            sent=self.flags(sent),
            due=self.flags(due),
            stamps=tuple(read.values()),
            ages=np.array(ages, dtype=np.int64),
            unread=self.flags({*sent} - uses.keys()),
            cut=self.flags({step for step, stamps in read.items() if self._cut(channel, step, stamps)}),
            back=credit(self._back),
            trained=credit(self._trained),
        )

    def _read(self, channel: Channel, step: int) -> tuple[int, ...]:
        """The stamps that the receiver's tick at `step` reads, oldest first; none of an episode that has ended."""
        key = channel.name, step
        if key not in self.reads:
            timetable = channel.ledger.timetable
            self.reads[key] = tuple(
                stamp
                for stamp in timetable.stamps_read_at(step)
                if not timetable.is_cut_ahead(stamp, step, self.episodes)
            )
        return self.reads[key]

    def _uses(self, channel: Channel, sent: Sequence[int]) -> dict[int, tuple[int, int]]:
        """By stamp, the first receiver tick that may use the message, and the step at which all have learned from it."""
        windows, uses = self.windows[channel.receiver], {}
        timetable = replace(channel.ledger.timetable, receiver_grid=windows, carries_state=False)
        for stamp in sent:
            plan = timetable.read_plan(stamp)
            first_tick = plan.first_tick
            if first_tick is not None and not timetable.is_cut_ahead(stamp, first_tick, self.episodes):
                assert plan.finish_by is not None, (
                    "the timetable is that of no state: what is read may be booked"
                )
                uses[stamp] = first_tick, plan.finish_by
        return uses

    def _within(self, channel: Channel, stamp: int, tick: int) -> bool:
        """Whether credit for `stamp` comes back with the graph of the window of `tick`."""
        credit, windows = self.credit[channel.name], self.windows[channel.receiver]
        return (credit.state or credit.joins) and windows.number_at(stamp) == windows.number_at(tick)

    def _cut(self, channel: Channel, step: int, stamps: tuple[int, ...]) -> bool:
        credit = self.credit[channel.name]
        closes = (credit.state or credit.joins) and not credit.injects
        return closes and any(not self._within(channel, stamp, step) for stamp in stamps)

    def _back(self, channel: Channel, stamp: int, uses: tuple[int, int]) -> int:
        first, closes = uses
        if self._within(channel, stamp, first):
            return self.bounds[channel.receiver][stamp][1]
        return closes + channel.ledger.timetable.return_delay if self.credit[channel.name].returns else -1

    def _trained(self, channel: Channel, stamp: int, uses: tuple[int, int]) -> int:
        credit = self.credit[channel.name]
        needs_return = channel.coupling.needs_own_return
        if not (needs_return or credit.waits or credit.injects or self._within(channel, stamp, uses[0])):
            return -1
        group, windows = self.system.group_by_agent[channel.sender], self.windows[channel.sender]
        number = windows.number_at(stamp)
        horizons = {name: number + horizon for name, horizon in group.horizons.items()}
        awaited = {
            name: self._awaited(self.system.channels[name], number, horizons[name]) for name in horizons
        }
        if awaited.get(channel.name, number) > horizons.get(channel.name, number):
            return -1  # it is given up
        end = windows.end_of(max([number, *(min(awaited[name], horizons[name]) for name in awaited)]))
        back = uses[1] + max(channel.ledger.timetable.return_delay, 1)
        return -1 if needs_return and back > end else end

    def _awaited(self, channel: Channel, number: int, last: int) -> int:
        """The sender's window, up to the `last`, at whose end its window of a number waits for no message of a channel; else the one after."""
        windows, timetable = self.windows[channel.sender], channel.ledger.timetable
        uses = self._uses(channel, [*timetable.sender_clock.among(windows.steps_of(number))])
        later = max(timetable.return_delay, 1)  # gradients are asked for before a step's learning
        back = {stamp: closes + later for stamp, (_, closes) in uses.items()}
        for window in range(number, last + 1):
            end = windows.end_of(window)
            if not any(end < back[stamp] and self._waits_for(channel, stamp, end) for stamp in back):
                return window
        return last + 1

    def _waits_for(self, channel: Channel, stamp: int, end: int) -> bool:
        with naming(f"channels.{channel.name}"):
            return channel.coupling.has_to_wait(stamp, end)

    def _sent_until(self, channel: Channel, stamp: int) -> int:
        """The step at which the sender's window ends that sent a message."""
        windows = self.windows[channel.sender]
        return windows.end_of(windows.number_at(stamp))
