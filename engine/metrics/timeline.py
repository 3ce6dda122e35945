"""The timeline of a system, computed from its clocks, windows and ledgers. Nothing is run."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from antiphon.base.errors import ScenarioError
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.clock import StepWindows, uses_of
from antiphon.engine.heart.system import System
from antiphon.telemetry.timeline_text import AgentTimes, ChannelTimes, Timeline

_LONGEST = 32
"""Steps that are shown by default."""
_SHORTEST = 8


class _HasSystem(Protocol):
    @property
    def system(self) -> System:
        """The agents and channels."""


class _Simulation(Protocol):
    @property
    def running(self) -> _HasSystem:
        """What runs."""


def span(system: System) -> int:
    """Return how many steps show what a system does: two of its longest windows, but 8 to 32 steps."""
    longest = max((group.windows.steps() for group in system.groups), default=0)
    return min(max(2 * longest, _SHORTEST), _LONGEST)


def timeline(of: System | _Simulation, start: int, steps: int) -> Timeline:
    """Return the timeline of a system or simulation, for some steps from `start` on, with links that lose nothing.

    Raises:
        ScenarioError: `steps` or `start` is invalid.
    """
    if steps < 1:
        raise ScenarioError(f"timeline: steps is {steps}; it must be at least 1")
    if start < 0:
        raise ScenarioError(f"timeline: start is {start}; it must be at least 0")
    system = of if isinstance(of, System) else of.running.system
    times = _Times(system, range(start, start + steps))
    return Timeline(
        start=start,
        steps=steps,
        agents=tuple(times.agent(agent) for agent in system.agents.values()),
        channels=tuple(times.channel(channel) for channel in system.channels.values()),
        episode_ends=times.flags(
            lambda step: times.episodes is not None and times.episodes.ending(step) is not None
        ),
    )


class _Reach(NamedTuple):
    """How far the true gradient of a tick goes, and what stands for the rest."""

    since: int
    synthetic: bool = False
    late: bool = False

    def joined(self, other: _Reach) -> _Reach:
        return _Reach(
            min(self.since, other.since), self.synthetic or other.synthetic, self.late or other.late
        )


class _Times:
    """Answers questions about some steps of one system."""

    def __init__(self, system: System, steps: range) -> None:
        self.system = system
        self.steps = steps
        length = system.description.episode_steps
        self.episodes: StepWindows | None = None if length is None else StepWindows(length)
        """The episodes of known length, if there are any; where lengths vary, as long as the present one."""
        if system.episode is not None:
            self.episodes = StepWindows(system.episode.length, system.episode.start)
        self.windows: dict[str, StepWindows] = {}
        for name, group in system.group_of.items():
            windows = group.windows if isinstance(group.windows, StepWindows) else self.episodes
            assert windows is not None  # windows of another kind are episodes
            self.windows[name] = windows
        self.reaches: dict[str, dict[int, _Reach]] = {name: {} for name in system.agents}
        """By agent and tick, how far the true gradient goes; earlier ticks of open windows are among them."""
        for step in range(self._opened(steps.start), steps.stop):
            for name in system.schedule.ticks(step):
                self.reaches[name][step] = self._reach(system.agents[name], step)

    def flags(self, answer: Callable[[int], bool]) -> NDArray[np.bool_]:
        """The answer for each of the steps."""
        return np.array([answer(step) for step in self.steps], dtype=np.bool_)

    # --- credit ------------------------------------------------------------------------------------------

    def _opened(self, step: int) -> int:
        """The first step of the windows that are open at `step`."""
        numbers = {windows: windows.number(step) for windows in self.windows.values()}
        opened = [windows.end(number - 1) + 1 for windows, number in numbers.items()]
        return max(min(opened, default=step), 0)

    def _reach(self, agent: Agent, step: int) -> _Reach:
        reach = _Reach(step)
        windows = self.windows[agent.name]
        window = windows.number(step)
        before = agent.clock.latest(step - 1)
        if agent.memory is not None and before is not None and self._of_one_window(before, step):
            if windows.number(before) == window:
                reach = reach.joined(self.reaches[agent.name][before])
            elif agent.memory.injects:
                reach = reach._replace(synthetic=True)
        for channel in agent.incoming:
            for stamp in self._read(channel, step):
                if _true(channel):
                    if windows.number(stamp) == window:
                        reach = reach.joined(self.reaches[channel.sender][stamp])
                elif channel.crossing.waits:
                    reach = reach._replace(late=True)
                elif channel.crossing.joins or (channel.injects and channel.ledger.wants_gradient):
                    reach = reach._replace(synthetic=True)
        return reach

    def _of_one_window(self, early: int, late: int) -> bool:
        """Whether two steps lie in one episode."""
        return self.episodes is None or self.episodes.number(early) == self.episodes.number(late)

    def agent(self, agent: Agent) -> AgentTimes:
        """Return the times of one agent."""
        each = [self.reaches[agent.name].get(step, _Reach(-1)) for step in self.steps]
        windows = self.windows[agent.name]
        return AgentTimes(
            name=agent.name,
            ticks=self.flags(agent.clock.due),
            ends=self.flags(lambda step: windows.ending(step) is not None),
            since=np.array([reach.since for reach in each], dtype=np.int64),
            synthetic_credit=np.array([reach.synthetic for reach in each], dtype=np.bool_),
            late_credit=np.array([reach.late for reach in each], dtype=np.bool_),
        )

    # --- messages ----------------------------------------------------------------------------------------

    def channel(self, channel: Channel) -> ChannelTimes:
        """Return the times of one channel."""
        sends, receiver = channel.ledger.sender, channel.ledger.receiver
        read = {step: self._read(channel, step) if receiver.due(step) else () for step in self.steps}
        uses = {step: self._uses(channel, step) if sends.due(step) else None for step in self.steps}

        def credit(when: Callable[[Channel, int, tuple[int, int]], int]) -> NDArray[np.int64]:
            each = [-1 if used is None else when(channel, step, used) for step, used in uses.items()]
            return np.array(each, dtype=np.int64)

        ages = [step - stamps[-1] if stamps else -1 for step, stamps in read.items()]
        return ChannelTimes(
            name=channel.name,
            sender=channel.sender,
            receiver=channel.receiver,
            coupling=channel.coupling,
            state=channel.state,
            sent=self.flags(sends.due),
            due=self.flags(receiver.due),
            stamps=tuple(read.values()),
            ages=np.array(ages, dtype=np.int64),
            unread=self.flags(lambda step: sends.due(step) and uses[step] is None),
            cut=self.flags(lambda step: self._cut(channel, step, read[step])),
            back=credit(self._back),
            trained=credit(self._trained),
        )

    def _read(self, channel: Channel, step: int) -> tuple[int, ...]:
        """The stamps that the receiver's tick at `step` reads, oldest first; none of an episode that has ended."""
        return tuple(stamp for stamp in channel.ledger.due(step) if self._of_one_window(stamp, step))

    def _uses(self, channel: Channel, stamp: int) -> tuple[int, int] | None:
        """First receiver tick that may use the message sent at `stamp`, and the step at which all have learned from it."""
        ledger, windows = channel.ledger, self.windows[channel.receiver]
        delay, read = ledger.link.delay, ledger.read
        first, _, closes = uses_of(
            stamp, ledger.sender.after(stamp), ledger.receiver, windows, delay, read=read, state=False
        )
        return None if first is None or not self._of_one_window(stamp, first) else (first, closes)

    def _within(self, channel: Channel, stamp: int, tick: int) -> bool:
        """Whether credit for `stamp` comes back with the graph of the window of `tick`."""
        windows = self.windows[channel.receiver]
        return (channel.state or _true(channel)) and windows.number(stamp) == windows.number(tick)

    def _cut(self, channel: Channel, step: int, stamps: tuple[int, ...]) -> bool:
        closes = channel.state or channel.crossing.joins
        lost = [not self._within(channel, stamp, step) for stamp in stamps]
        return closes and not channel.injects and any(lost)

    def _back(self, channel: Channel, stamp: int, uses: tuple[int, int]) -> int:
        first, closes = uses
        if self._within(channel, stamp, first):
            windows = self.windows[channel.receiver]
            return windows.end(windows.number(stamp))
        return closes + channel.ledger.back if channel.ledger.wants_gradient else -1

    def _trained(self, channel: Channel, stamp: int, uses: tuple[int, int]) -> int:
        windows = self.windows[channel.sender]
        end = windows.end(windows.number(stamp))
        if self._within(channel, stamp, uses[0]):
            return end
        if channel.crossing.waits:
            return max(end, self._back(channel, stamp, uses))
        return end if channel.injects else -1


def _true(channel: Channel) -> bool:
    """Whether it takes the true gradient back, within the window."""
    feedback = channel.feedback
    return channel.crossing.joins and feedback.weights is None and feedback.direct is None
