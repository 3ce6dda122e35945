"""The steps that have a log entry, and the newest metrics of what does not happen at every step: updates at the ends of windows, gradients that return, messages.

A log entry has the metrics of its own step, and what happened within the steps before it that lie between two such events at
most, which follows from the clocks: an event further back is in no entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from antiphon.telemetry.metrics import Kind, Metric, end_of

if TYPE_CHECKING:
    from antiphon.engine.heart.channel import Channel
    from antiphon.engine.heart.system import System

_ENTRIES = 10
"""Log entries from one sample of messages to the next, after as many with one each."""


class LogSteps(NamedTuple):
    """The steps at which metrics are recorded: the first, every `telemetry.period`th, and those that may be the last of a run."""

    period: int
    """0: nothing is recorded."""
    until: int
    """Steps taken at the end of the run."""
    may_end: int = 0
    """Steps from one evaluation that can end the run to the next; 0: none can."""

    def due(self, step: int) -> bool:
        if not self.period:
            return False
        periods = filter(None, (self.period, self.may_end))
        return step == 0 or step + 1 == self.until or any((step + 1) % every == 0 for every in periods)

    def following(self, step: int) -> int:
        """Return the first step at or after `step` at which metrics are recorded."""
        if step == 0:
            return 0
        periods = filter(None, (self.period, self.may_end))
        ends = [-(-(step + 1) // every) * every - 1 for every in periods]
        return min([*ends, *([self.until - 1] if step < self.until else [])])

    def sampled(self, step: int) -> bool:
        """Whether messages are sampled at a step too: at the first ten log entries, at every tenth, and at the last."""
        if step == 0 or step + 1 == self.until:
            return True
        entry, between = divmod(step + 1, self.period)
        return not between and (entry < _ENTRIES or entry % _ENTRIES == 0)


Owner = tuple[str, str]
"""Whose metric it is: `agent` or `channel`, and the name."""


class NewestMetrics:
    """The newest metrics since the previous log entry of what happens at some steps only."""

    def __init__(self, system: System) -> None:
        self._spans: dict[Owner, int] = {owner: steps for owner, steps in _spans(system) if steps > 1}
        """Steps from one event of an owner to the next, at most; of others each entry's own step has all."""
        owners = [
            *(("agent", name) for name in system.agents),
            *(("channel", name) for name in system.channels),
        ]
        self._order: dict[Owner, int] = {owner: index for index, owner in enumerate(owners)}
        self._newest: dict[Owner, dict[str, Metric]] = {}
        """The newest metrics since the previous entry."""

    def watched(self, step: int, log_steps: LogSteps) -> frozenset[str]:
        """Return the agents and channels whose metrics are kept if something happens at a step that has no log entry."""
        if not self._spans or not log_steps.period:
            return frozenset()
        steps_left = log_steps.following(step) - step
        return frozenset(name for (_, name), span in self._spans.items() if 0 < steps_left < span)

    def add(self, metrics: Iterable[Metric]) -> None:
        """Keep metrics of a step, in place of older ones."""
        for row in metrics:
            self._newest.setdefault((row.kind, row.name), {})[row.metric] = row

    def completed(self, metrics: Sequence[Metric]) -> list[Metric]:
        """Return the metrics of an entry with those that its step does not have."""
        if not self._newest:
            return list(metrics)
        by_owner: dict[Owner, list[Metric]] = {}
        for row in metrics:
            by_owner.setdefault((row.kind, row.name), []).append(row)
        for owner, newest in self._newest.items():
            logged = {row.metric for row in by_owner.get(owner, ())}
            missing = [row for metric, row in newest.items() if metric not in logged]
            if missing:
                by_owner[owner] = [*by_owner.get(owner, ()), *missing]
                by_owner[owner].sort(key=lambda row: end_of(row.metric) == "receiver")
        ordered = sorted(by_owner, key=lambda owner: self._order.get(owner, len(self._order)))
        return [row for owner in ordered for row in by_owner[owner]]

    def end_row(self) -> None:
        """Begin anew: an entry has been written."""
        self._newest = {}

    def state_dict(self) -> dict[str, Any]:
        """Return what has been kept since the previous entry: metrics by kind and name."""
        state: dict[str, Any] = {}
        for (kind, name), newest in self._newest.items():
            state.setdefault(kind, {})[name] = {metric: row.value for metric, row in newest.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state; what it has of others than the system's agents and channels is left out."""
        kinds: tuple[Kind, ...] = ("agent", "channel")
        self._newest = {
            (kind, name): {metric: Metric(kind, name, metric, value) for metric, value in values.items()}
            for kind in kinds
            for name, values in state.get(kind, {}).items()
            if (kind, name) in self._order
        }


def _spans(system: System) -> Iterator[tuple[Owner, int]]:
    """Yield how far apart the events of agents and channels are: windows that are learned from, messages, injections, returns."""
    agents = system.agents
    for group in system.groups:
        steps = group.grid.length
        # windows that wait are learned from only where a receiver's window has ended before
        returning = max((_return_interval(system.channels[name]) for name in group.horizons), default=steps)
        for name in group.agent_names:
            yield ("agent", name), _rounded_up(returning, steps)
    for name, channel in system.channels.items():
        apart = channel.wire.timetable.sender_clock.tick_period
        intervals = [apart]
        if channel.sender in agents:
            window = system.group_by_agent[channel.sender].grid.length
            sent = max(apart, _return_interval(channel)) if channel.coupling.waits else apart
            intervals.append(_rounded_up(sent, window))
            if channel.predicts and channel.wire.returns_gradients:
                intervals.append(_rounded_up(apart, _return_interval(channel)))
        if channel.synthetic_input.model is not None and channel.receiver in agents:
            intervals.append(_rounded_up(apart, channel.wire.timetable.receiver_clock.tick_period))
        yield ("channel", name), max(intervals)


def _rounded_up(interval: int, steps: int) -> int:
    """Return an interval as whole multiples of so many steps, rounded up."""
    return steps * -(-interval // steps)


def _return_interval(channel: Channel) -> int:
    """Steps from one time at which gradients of a channel are whole to the next, at most."""
    return channel.wire.timetable.receiver_grid.length
