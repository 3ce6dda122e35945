"""Steering: the learning signal of some channels replaced, by the truth or by nothing (semantics 36)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from antiphon.engine.core.channel import Channel
from antiphon.engine.core.records import Record, StepSignals
from antiphon.engine.core.system import System
from antiphon.engine.probes.live import Live, ahead_of
from antiphon.engine.probes.reach import look_ahead
from antiphon.engine.step.backends import StackedBackend
from antiphon.engine.step.update import AgentReport
from antiphon.nets.optimisers import Rate

if TYPE_CHECKING:
    from antiphon.engine.simulation import Simulation

__all__ = ["TrueGradient", "ZeroGradient"]


class ZeroGradient(StackedBackend):
    """An engine of single agents that injects nothing into the messages of some channels.

    Args:
        system: What runs.
        names: The channels.
        start: The first step whose messages are steered; those sent before keep their signal.
    """

    def __init__(self, system: System, names: Sequence[str], start: int) -> None:
        super().__init__(_steerable(system, names), stacked=False)
        self._plain = system
        self.names = frozenset(names)
        self.start = start
        self.backward_pass.steering = self

    def per_agent(self) -> System:
        """The system as it was declared."""
        return self._plain

    def applies(self, channel: Channel, record: Record) -> bool:
        """Whether a message is one of a steered channel."""
        return channel.name in self.names and record.stamp >= self.start

    def signal(self, channel: Channel, record: Record) -> Tensor | None:
        """No signal."""
        return None


class TrueGradient(ZeroGradient):
    """An engine of single agents that injects the true gradient into the messages of some channels.

    It is found when a message is sent, with the parameters of then, by letting a copy of what changes run on with
    all its graphs: one forward and one backward pass per step where effects do not outlast the step.

    Args:
        simulation: What runs.
        names: The channels.
        bench: Another simulation of the scenario, whose environment shows what is to come.
        ahead: Further steps whose losses count; None: as many as `look_ahead` says.
    """

    def __init__(
        self, simulation: Simulation, names: Sequence[str], bench: Simulation, ahead: int | None = None
    ) -> None:
        super().__init__(simulation.system, names, simulation.now)
        self.simulation = simulation
        self.bench = bench
        self.ahead = ahead
        self.farthest = 0
        """The farthest that was looked ahead."""
        self._true: dict[tuple[str, int], Tensor] = {}
        self._before: Live | None = None
        self._moment: StepSignals

    def tick(self, step: int, step_signals: StepSignals) -> None:
        """Let all agents due tick, and note how things stood before they did."""
        self._before = None
        due = [n for n in self.system.channels if n in self.names and self._sends(n, step)]
        if due:
            ahead = look_ahead(self.system, due, step) if self.ahead is None else self.ahead
            self.farthest = max(self.farthest, ahead)
            self._before = Live(self.system, step, ahead, due)
            self._moment = step_signals
            if ahead:
                self._before.run(ahead_of(self.bench, self.simulation), ahead + 1)
        super().tick(step, step_signals)

    def learn(self, step: int, *, watch: bool = False) -> AgentReport:
        """Let every unit and predictor learn whose time has come; the step's truth is found first."""
        live = self._before
        if live is not None:
            if not live.sent:  # nothing lies ahead: by now the step's own signals are complete
                live.tick(step, self._moment)
            self._true |= {(name, step): true for name, true in live.gradients().items()}
            self._before = None
        return super().learn(step, watch=watch)

    def signal(self, channel: Channel, record: Record) -> Tensor | None:
        """The true gradient of a message."""
        return self._true.get((channel.name, record.stamp))

    def _sends(self, name: str, step: int) -> bool:
        ledger = self.system.channels[name].ledger
        return ledger.sender.due(step) and (not ledger.state or ledger.is_read(step))


def _steerable(system: System, names: Sequence[str]) -> System:
    """The same system, except that nothing but a steering backend's word reaches the senders of some channels.

    A locked one passes its messages as numbers; how a channel weighs, clips or mixes its own signal does not touch
    the one that is put in its place.
    """
    channels = dict(system.channels)
    for name in names:
        channel = channels[name]
        channels[name] = replace(
            channel,
            members=(),
            coupling="detached" if channel.coupling == "locked" else channel.coupling,
            scale=Rate(base=1.0, horizon=1),
            discount=1.0,
            trace=0.0,
            propagate=0.0,
            direct=None,
            aligned=None,
        )
    return system.rewired(channels)
