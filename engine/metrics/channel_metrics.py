"""The newest metrics of channels: measured in a fork, or without one where the run cannot be forked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from antiphon.base.errors import RunError, ScenarioError
from antiphon.engine.live_system import LiveSystem
from antiphon.engine.metrics.step_metrics import step_metrics
from antiphon.telemetry.metrics import Metric

_LONGEST = 64
"""Steps that the fork takes at most."""


class ChannelMetrics(NamedTuple):
    """The newest metrics of a run's channels.

    Attributes:
        no_fork: Why the run cannot be forked, so that metrics of later steps are left out; empty: they were measured in a fork.
    """

    by_channel: dict[str, dict[str, float]]
    no_fork: str = ""


def channel_metrics(running: LiveSystem) -> ChannelMetrics:
    """Return each channel's newest metrics, found by letting a fork go on for some steps; no bit of `running` changes.

    Where there is no fork, as of a Gymnasium environment without `state_dict`, they are those that a log entry would have now.
    """
    with running.settings.context():
        try:
            forked = running.fork(stacked=False)
        except (RunError, ScenarioError) as error:
            newest = running.newest.latest(step_metrics(running, max(running.now - 1, 0)))
            return ChannelMetrics(_by_channel(running, newest), str(error))
        with forked as twin:
            return ChannelMetrics(_by_channel(twin, _of_steps(twin)))


def _of_steps(twin: LiveSystem) -> Iterable[Metric]:
    system = twin.system
    windows = [group.grid.max_steps() for group in system.groups]
    delays = [channel.ledger.timetable.delay for channel in system.channels.values()]
    for _ in range(min(2 * max(system.steps_per_example, *windows) + 2 * max(delays, default=0), _LONGEST)):
        twin.advance(watch=True)
        yield from step_metrics(twin, twin.now - 1)


def _by_channel(running: LiveSystem, rows: Iterable[Metric]) -> dict[str, dict[str, float]]:
    values_by_channel: dict[str, dict[str, float]] = {name: {} for name in running.system.channels}
    for row in rows:
        if row.kind == "channel":
            values_by_channel[row.name][row.metric] = row.value
    return values_by_channel
