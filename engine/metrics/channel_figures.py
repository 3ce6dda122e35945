"""The newest metrics of channels, measured in a fork."""

from __future__ import annotations

from antiphon.engine.live_system import LiveSystem
from antiphon.engine.metrics.step_metrics import figures

_LONGEST = 64
"""Steps that the fork takes at most."""


def channel_figures(running: LiveSystem) -> dict[str, dict[str, float]]:
    """Return each channel's newest metrics, found by letting a fork go on for some steps; no bit of `running` changes."""
    with running.settings.context(), running.fork(stacked=False) as twin:
        system = twin.system
        found: dict[str, dict[str, float]] = {name: {} for name in system.channels}
        windows = [group.windows.steps() for group in system.groups]
        delays = [channel.ledger.link.delay for channel in system.channels.values()]
        for _ in range(min(2 * max(system.hold, *windows) + 2 * max(delays, default=0), _LONGEST)):
            twin.advance(watch=True)
            for row in figures(twin, twin.now - 1):
                if row.kind == "channel":
                    found[row.name][row.metric] = row.value
        return found
