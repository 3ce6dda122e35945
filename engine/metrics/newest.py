"""The newest metrics of what does not happen at every step: updates at the ends of windows, gradients that return, messages.

A log entry has the metrics of its own step. What happens at other steps only would never be in one: its metrics are taken at the
last step before the entry at which it can happen, which follows from the clocks, and kept until the entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from antiphon.engine.heart.clock import Clock, EpisodeWindows, WindowGrid
from antiphon.telemetry.metrics import HistogramRow, Kind, Metric, end_of

if TYPE_CHECKING:
    from antiphon.engine.heart.channel import Channel
    from antiphon.engine.heart.system import System
    from antiphon.engine.metrics.log_steps import LogSteps

Owner = tuple[str, str]
"""Whose metric it is: `agent` or `channel`, and the name."""


class Watched(NamedTuple):
    """Whose metrics are taken at a step that has no log entry; single names."""

    learning: frozenset[str] = frozenset()
    """Agents and channels, if they learn at it: the predictions of these are kept."""
    messages: frozenset[str] = frozenset()
    """Channels whose message is due."""


@dataclass(frozen=True)
class _Rhythm:
    """When something can happen, by the clocks alone."""

    source: WindowGrid | Clock
    """It happens where one of these windows ends, or at a tick."""
    later: int
    """Steps after that."""
    interval: int
    """Steps from one time to the next, at most."""
    metric: str
    """A metric that follows from it; empty: a message is due."""
    by_chance: bool = False
    """Whether it may also not happen: where an episode has ended, a message is lost, an agent is not sampled."""

    def at(self, step: int) -> bool:
        source, source_step = self.source, step - self.later
        if isinstance(source, EpisodeWindows):
            return source.number_ending_at(source_step) is not None or source_step == source.episode_start - 1
        if isinstance(source, WindowGrid):
            return source.number_ending_at(source_step) is not None
        return source.latest(source_step) == source_step


class NewestMetrics:
    """The newest metrics since the previous log entry of what happens at some steps only."""

    def __init__(self, system: System) -> None:
        owners_of: dict[_Rhythm, list[Owner]] = {}
        for owner, rhythm in _rhythms_of(system):
            if rhythm.interval > 1 or rhythm.by_chance:  # else an entry's own step has it
                owners_of.setdefault(rhythm, []).append(owner)
        self._rhythms = list(owners_of.items())
        self._occasional = set(chain.from_iterable(owners_of.values()))
        """Those whose metrics are not all in every entry."""
        owners = [
            *(("agent", name) for name in system.agents),
            *(("channel", name) for name in system.channels),
        ]
        self._order: dict[Owner, int] = {owner: index for index, owner in enumerate(owners)}
        self._complete: set[int] = set()
        """Places of those whose metrics have been taken of all since the previous entry."""
        self._newest: dict[Owner, dict[str, Metric]] = {}
        """The newest metrics since the previous entry."""
        self._before: dict[Owner, dict[str, Metric]] = {}
        """The newest metrics of earlier entries."""
        self._histograms: dict[tuple[str, str], HistogramRow] = {}

    def watched(self, step: int, log_steps: LogSteps) -> Watched | None:
        """Return the agents and channels whose metrics are taken at a step that has no log entry; None: there are none.

        They are those for which it is the last step before the next entry at which something can happen, and where chance
        decides whether it does, those of which nothing has been taken yet.
        """
        if not self._rhythms or not log_steps.period:
            return None
        steps_left = log_steps.following(step) - step
        if not steps_left:
            return None
        learning: list[str] = []
        messages: list[str] = []
        for index, (rhythm, owners) in enumerate(self._rhythms):
            last = steps_left < rhythm.interval
            if not (last or (rhythm.by_chance and index not in self._complete)) or not rhythm.at(step):
                continue
            names = [owner[1] for owner in owners if last or rhythm.metric not in self._newest.get(owner, ())]
            if not names:
                self._complete.add(index)
            (learning if rhythm.metric else messages).extend(names)
        return Watched(frozenset(learning), frozenset(messages)) if learning or messages else None

    def add(self, metrics: Iterable[Metric], histograms: Iterable[HistogramRow] = ()) -> None:
        """Keep metrics and histograms of a step, in place of older ones."""
        for row in metrics:
            self._newest.setdefault((row.kind, row.name), {})[row.metric] = row
        self._histograms |= {(name, metric): row for row in histograms for _, name, metric, *_ in (row,)}

    def completed(self, metrics: Sequence[Metric]) -> list[Metric]:
        """Return the metrics of an entry with those that its step does not have, and keep what not every entry has."""
        entry = self._completed(metrics, self._newest)
        self.add(row for row in metrics if (row.kind, row.name) in self._occasional)
        return entry

    def _completed(
        self, metrics: Sequence[Metric], missed: Mapping[Owner, Mapping[str, Metric]]
    ) -> list[Metric]:
        if not missed:
            return list(metrics)
        by_owner: dict[Owner, list[Metric]] = {}
        for row in metrics:
            by_owner.setdefault((row.kind, row.name), []).append(row)
        for owner, newest in missed.items():
            logged = {row.metric for row in by_owner.get(owner, ())}
            missing = [row for metric, row in newest.items() if metric not in logged]
            if missing:
                by_owner[owner] = [*by_owner.get(owner, ()), *missing]
                by_owner[owner].sort(key=lambda row: end_of(row.metric) == "receiver")
        ordered = sorted(by_owner, key=lambda owner: self._order.get(owner, len(self._order)))
        return [row for owner in ordered for row in by_owner[owner]]

    def completed_histograms(self, rows: Sequence[HistogramRow]) -> list[HistogramRow]:
        rows_of = self._histograms | {(name, metric): row for row in rows for _, name, metric, *_ in (row,)}
        return sorted(rows_of.values(), key=lambda row: self._order[row[0], row[1]])

    def latest(self, metrics: Sequence[Metric]) -> list[Metric]:
        """Return the metrics of a step with the newest of those that it does not have, also from before the previous entry."""
        return self._completed(metrics, _merged(self._before, self._newest))

    def end_row(self) -> None:
        """Begin anew: an entry has been written."""
        self._before = _merged(self._before, self._newest)
        self._newest, self._histograms, self._complete = {}, {}, set()

    def state_dict(self) -> dict[str, Any]:
        """Return what has been kept since the previous entry: metrics by kind and name. Histograms are left out."""
        state: dict[str, Any] = {}
        for (kind, name), newest in self._newest.items():
            state.setdefault(kind, {})[name] = {metric: row.value for metric, row in newest.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state; what it has of others than the system's agents and channels is left out."""
        self._histograms, self._complete = {}, set()
        kinds: tuple[Kind, ...] = ("agent", "channel")
        self._newest = {
            (kind, name): {metric: Metric(kind, name, metric, value) for metric, value in values.items()}
            for kind in kinds
            for name, values in state.get(kind, {}).items()
            if (kind, name) in self._order
        }


def _merged(
    older: Mapping[Owner, dict[str, Metric]], newer: Mapping[Owner, dict[str, Metric]]
) -> dict[Owner, dict[str, Metric]]:
    """Return the newer of each metric: an owner keeps the older ones of which there is no newer one."""
    return {**older, **{owner: {**older.get(owner, {}), **metrics} for owner, metrics in newer.items()}}


def _rhythms_of(system: System) -> Iterator[tuple[Owner, _Rhythm]]:
    """Yield when agents learn, and when messages arrive, are injected on, and their gradients return."""
    env, agents = system.description, system.agents
    episodic = not (env.endless or env.is_stream)

    def by_chance(*names: str) -> bool:
        return episodic or any(name in agents and agents[name].participation is not None for name in names)

    for group in system.groups:
        steps = group.grid.max_steps()
        # windows that wait are learned from only where a receiver's window has ended before
        returning = max((_return_interval(system.channels[name]) for name in group.horizons), default=steps)
        for name in group.agent_names:
            if agents[name].learner.trainable:
                interval = _rounded_up(returning, steps)
                yield ("agent", name), _Rhythm(group.grid, 0, interval, "gradient_norm", by_chance(name))
    for name, channel in system.channels.items():
        wire, owner, apart = channel.wire, ("channel", name), _apart(channel)
        timetable = wire.timetable
        chance = by_chance(channel.sender, channel.receiver) or wire.link.loses
        yield owner, _Rhythm(timetable.sender_clock, timetable.arrival_of(0), apart, "")
        learns: list[tuple[WindowGrid | Clock, int, str]] = []
        sent_in = system.group_by_agent[channel.sender].grid if channel.sender in agents else None
        if (channel.predicts or channel.gives_credit) and sent_in is not None:
            injected_apart = max(apart, _return_interval(channel)) if channel.coupling.waits else apart
            interval = _rounded_up(injected_apart, sent_in.max_steps())
            yield owner, _Rhythm(sent_in, 0, interval, "injection_norm", chance)
        if channel.predicts and sent_in is not None:
            returned = (
                (timetable.receiver_grid, timetable.back_from(0)) if wire.returns_gradients else (sent_in, 0)
            )
            learns.append((*returned, "sg_loss"))
        if channel.synthetic_input.model is not None and channel.receiver in agents:
            learns.append((timetable.receiver_clock, 0, "si_loss"))
        for source, later, metric in learns:
            steps = source.tick_period if isinstance(source, Clock) else source.max_steps()
            yield owner, _Rhythm(source, later, _rounded_up(apart, steps), metric, chance)


def _rounded_up(interval: int, steps: int) -> int:
    """Return an interval as whole multiples of so many steps, rounded up."""
    return steps * -(-interval // steps)


def _return_interval(channel: Channel) -> int:
    """Steps from one time at which gradients of a channel are whole to the next, at most."""
    return channel.wire.timetable.receiver_grid.max_steps()


def _apart(channel: Channel) -> int:
    """Steps from one message of a channel to the next, at most."""
    return channel.wire.timetable.sender_clock.tick_period
