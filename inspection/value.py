"""Value: the worth of a channel's learning signal over a horizon, between no gradient (0) and the true one (1).

Three forks continue from one state with common random numbers: one with the true gradient as the channel's signal, one
with the signal of its coupling, one with none. All learn for `horizon` steps on the same examples. With the losses of
the readouts in the second half of these steps,

    value = (zero - synthetic) / (zero - true),

a ratio of means over repeats (semantics 36). Repeats start from the same parameters and see other examples: time
moves on between them while nothing learns. Would each start where the one before ended, the fall of what learning
still brings, often tenfold within a few horizons, would pass for chance.

Learning rates fall to nothing over the horizon, from what they are, in all forks alike. At a steady rate a network
that learns is shaken by it, one that is held is not, and once the first steep gains are made the shaking costs more
than a short horizon brings: the truth would seem to harm. Every loss is of examples not yet learned from. Reading
them over half of the horizon, and not at its end, costs nothing and is the less noisy of the two.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, ClassVar

from torch import Tensor

from antiphon.base.argument_checks import check_counts
from antiphon.base.errors import DivergenceError, ScenarioError
from antiphon.base.nearest_names import suggest
from antiphon.base.progress import Progress
from antiphon.base.table import Result, Table, decimal
from antiphon.base.tools import by_key
from antiphon.comms.couplings import Coupling, CreditedMessage, Detached, ReadKind
from antiphon.engine.backends import StackedBackend
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.heart.signals import Action, EpisodeEnds, StepSignals
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import StepReport
from antiphon.engine.inference.rollout import rewired
from antiphon.engine.live_system import Holder, LiveSystem, running_of
from antiphon.engine.state.checkpoint import copy_tree
from antiphon.inspection.truth import (
    DifferentiableRollout,
    chosen_channels,
    look_ahead,
)
from antiphon.nets.schedules import OwnSchedule, Rate
from antiphon.telemetry.intervals import ERRORS, ratio, standard_error, student_t, worth
from antiphon.telemetry.metrics import LOSSES, OWN_GAIN, Metric, bounds

COUPLING = "all channels"
"""The name of the row in which the signals of all channels are replaced together."""
_REPEATS = 5
"""Repeats of a measurement after a run, by default."""
_RUN_REPEATS = 3
"""Repeats of a measurement during a run."""
_SHOWN = 20
"""Channels in a table."""


@dataclass(frozen=True)
class Value:
    """The value of one channel's learning signal, or of all channels' together.

    Attributes:
        name: The channel's name, or `COUPLING`.
        value: 1: as good as the true gradient; 0: as good as none; negative: worse than none. None: undefined.
        low, high: Its 95 % interval; None without a value.
        true, synthetic, zero: Mean loss of the readouts with the true signal, the channel's own, and none, in the second
            half of the horizon, over repeats; NaN: a fork had none.
        gain: zero - true: the gain from the true signal.
        error: The standard error of `gain`.
        half: Half the 95 % interval of zero - synthetic, the gain from its own signal.
        ahead: Further steps whose losses counted in the true signal.
        why: Why there is no value; empty if there is one.
    """

    name: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    true: float = math.nan
    synthetic: float = math.nan
    zero: float = math.nan
    gain: float = math.nan
    error: float = math.nan
    half: float = math.nan
    ahead: int = 0
    why: str = ""

    @classmethod
    def of(cls, name: str, losses: Sequence[tuple[float, float, float]], ahead: int = 0) -> Value:
        """Return the value that follows from losses: true, synthetic and zero, per repeat."""
        gains = [zero - synthetic for _, synthetic, zero in losses]
        share = ratio(gains, [zero - true for true, _, zero in losses])
        true, synthetic, zero = (sum(column) / len(column) for column in zip(*losses, strict=True))
        gain, half = sum(gains) / len(gains), student_t(len(gains) - 1) * standard_error(gains)
        why = ""
        if share.value is None:
            own = {"helps": "better than none", "harms": "worse than none", "unresolved": "not resolved"}
            lose = share.denominator < -ERRORS * share.error
            gives = "lose significantly" if lose else "give no significant gain"
            why = f"{own[worth(gain - half, gain + half)]}; over this horizon true gradients {gives}"
        numbers = true, synthetic, zero, share.denominator, share.error, half
        return cls(name, share.value, share.low, share.high, *numbers, ahead, why)

    def metrics(self) -> list[Metric]:
        """Return value and losses as metrics of the channel, or the value of the run (all channels together), where defined."""
        metrics: dict[str, float] = {}
        if self.name != COUPLING and math.isfinite(self.zero):
            gain = self.zero - self.synthetic
            names = (*LOSSES, OWN_GAIN, *bounds(OWN_GAIN))
            losses = self.zero, self.synthetic, self.true
            metrics |= zip(names, (*losses, gain, gain - self.half, gain + self.half), strict=True)
        if self.value is not None and self.low is not None and self.high is not None:
            metrics |= {"value": self.value, "value_low": self.low, "value_high": self.high}
        if self.name == COUPLING:
            return [Metric("run", "", metric, number) for metric, number in metrics.items()]
        return [Metric("channel", self.name, metric, number) for metric, number in metrics.items()]


@dataclass(frozen=True, repr=False)
class Values(Result):
    """The value of some channels.

    Attributes:
        rows: All channels together first, then each requested channel, in canonical order.
        step: The first step.
        horizon: Steps of learning.
        repeats: Sets of examples.
        seconds: Seconds of the whole measurement.
    """

    name: ClassVar[str] = "value"
    rows: tuple[Value, ...]
    step: int
    horizon: int
    repeats: int
    seconds: float

    def __getitem__(self, name: str) -> Value:
        """Return the row of a channel, or of `COUPLING`.

        Raises:
            ScenarioError: It was not measured.
        """
        rows = {row.name: row for row in self.rows}
        if name not in rows:
            raise ScenarioError(f"value: '{name}' was not measured{suggest(name, rows)}")
        return rows[name]

    def metrics(self) -> list[Metric]:
        """Return values and losses as metrics, of channels and of the run."""
        return [metric for row in self.rows for metric in row.metrics()]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: the attributes, and those of each row."""
        return asdict(self)

    def table(self) -> Table:
        """Return all channels together, then the channels by their value, those without one last."""
        ordered = sorted(
            self.rows, key=lambda row: (row.name != COUPLING, row.value is None, -(row.value or 0.0))
        )
        rows = []
        for row in ordered:
            word = interval = "–"
            if row.low is not None and row.high is not None:
                word, interval = worth(row.low, row.high), f"[{row.low:.2f}, {row.high:.2f}]"
            losses = map(decimal, (row.zero, row.synthetic, row.true))
            rows.append([row.name, word, decimal(row.value, 2), interval, *losses])
        whys = by_key((row.why, row.name) for row in ordered[:_SHOWN] if row.why)
        notes = [f"{', '.join(names)}: {why}" for why, names in whys.items()]
        title = f"Value over {self.horizon} steps after step {self.step:,}, {self.repeats} repeats"
        heads = ["channel", "its signal", "value", "95 % interval", "loss: zero", "synthetic", "true"]
        return Table(heads, rows, 2, title, notes, most=_SHOWN, where="to_dict()")


def value(
    simulation: LiveSystem | Holder,
    *,
    channels: Sequence[str] | None = None,
    horizon: int = 50,
    repeats: int = _REPEATS,
    ahead: int | None = None,
) -> Values:
    """Measure the value of channels' learning signals, in forks; no bit of `simulation` changes.

    The true signal of a message is the gradient that `true_gradients` computes when the message is sent. It replaces the
    signal of the coupling, at full size. In a locked channel, true and zero signals replace the gradient through the graph.
    Messages sent before a fork keep their signal. Learning rates start at their present values, or after the end of a run
    at the initial values of its schedules, and decay to 0.

    Args:
        simulation: The simulation to measure, after any number of steps.
        channels: The channels to measure one by one, beside all together; None: every channel; empty: none.
        horizon: Steps of learning, at least 1.
        repeats: Sets of examples, at least 2: the interval is over them.
        ahead: Further steps whose losses count in a message's true signal; None: as many as the message can reach
            (`look_ahead`).

    Raises:
        ScenarioError: There is no such channel, or a number is too small.
        RunError: The environment has no `state_dict`, so it cannot be forked.
    """
    started = time.monotonic()
    running = running_of(simulation)
    names = list(running.system.channels)
    if not names:
        raise ScenarioError("value: the scenario has no channels; evaluate the run without")
    alone = {name: [name] for name in chosen_channels(names, channels, "value: channel")}
    measured = {COUPLING: names, **alone}
    check_counts("value", needed=True, horizon=horizon)
    check_counts("value", 2, needed=True, repeats=repeats)
    check_counts("value", 0, ahead=ahead)
    losses: dict[str, list[tuple[float, float, float]]] = {name: [] for name in measured}
    farthest, failed = dict.fromkeys(measured, 0), dict[str, str]()
    with (
        running.fork(stacked=False) as start,
        running.fork(stacked=False) as fork,
        running.fork(stacked=False) as bench,
        Progress("measuring", repeats * len(measured)) as progress,
    ):
        start.backend.freeze()
        system = fork.system
        learner = _Learner(fork, system, _rates(running, horizon), horizon)
        for _ in range(repeats):
            state = copy_tree(start.state_dict())
            try:
                synthetic = learner.loss(state, "as it is")
            except _NoLoss as why:
                failed = dict.fromkeys(measured, str(why))
                break
            for name in (name for name in measured if name not in failed):
                steered = partial(_SteeredBackend, fork, measured[name])
                try:
                    true = learner.loss(state, "with a true signal", partial(steered, bench, ahead))
                    steering = fork.backend
                    zero = learner.loss(state, "with a zero signal", steered)
                except _NoLoss as why:
                    failed[name] = str(why)
                    continue
                assert isinstance(steering, _SteeredBackend)
                farthest[name] = max(farthest[name], steering.farthest)
                losses[name].append((true, synthetic, zero))
                progress.advance()
            for _ in range(horizon):
                start.advance()
    rows = (
        Value(name, why=failed[name]) if name in failed else Value.of(name, losses[name], farthest[name])
        for name in measured
    )
    return Values(tuple(rows), running.now, horizon, repeats, time.monotonic() - started)


def _rates(running: LiveSystem, horizon: int) -> list[float]:
    """The rates that learning goes on at: the highest of the horizon, or after the run's end the schedules' own."""
    now = running.now
    if now >= running.scenario.training.steps:
        return [float(model.rate.base) for model in running.system.trained_parameters]
    steps = range(now, now + horizon)
    return [max(float(model.rate_at(step)) for step in steps) for model in running.system.trained_parameters]


class _NoLoss(Exception):
    """Why a fork has no loss."""


@dataclass(frozen=True)
class _Learner:
    """A fork that learns from a state on as often as it is asked to, and is used up by it."""

    fork: LiveSystem
    system: System
    rates: list[float]
    horizon: int

    def loss(
        self, state: dict[str, Any], signal: str, steered: Callable[[], StackedBackend] | None = None
    ) -> float:
        """Return the readouts' mean loss in the second half of the horizon; _NoLoss, which names the signal, where there is none."""
        fork, horizon = self.fork, self.horizon
        # a steered one would not know a locked window
        fork.compute_by(StackedBackend(self.system, stacked=False))
        fork.load_state_dict(state)
        if steered is not None:
            fork.compute_by(steered())
        start = fork.now
        to_nothing = lambda step: max(0.0, 1 - (step - start) / horizon)
        falling = OwnSchedule(name="falling", key=(start, horizon), function=to_nothing)
        for model, rate in zip(fork.system.trained_parameters, self.rates, strict=True):
            model.learn_at(Rate(base=rate, run_steps=horizon, schedule=falling))
        sums = dict.fromkeys(fork.scenario.readouts, (0.0, 0))
        try:
            for step in range(horizon):
                fork.advance()
                if step < horizon // 2:
                    continue
                for update in fork.learned.stacks.updates:
                    for name in update.window_loss.reported_loss_by_agent.keys() & sums.keys():
                        losses, (loss, count) = update.window_loss.reported_loss_by_agent[name], sums[name]
                        goal, batch = fork.system.agents[name].goal, fork.system.batch
                        assert goal is not None
                        total = losses.before_scale(goal, batch).item() * batch
                        sums[name] = loss + total, count + int(losses.target_count)
        except DivergenceError as error:
            raise _NoLoss(f"{signal}, it diverges: {error}") from None
        means = [loss / count for loss, count in sums.values() if count]
        if not means:
            raise _NoLoss(
                f"{signal}, no readout ({', '.join(sums)}) learns from a loss in the second half of {horizon} steps; "
                "use a longer horizon"
            )
        return sum(means) / len(means)


def values_of_run(running: LiveSystem) -> list[Metric]:
    """Measure values during a run, and return them as metrics, with what they cost.

    Per channel (where there are no more than `telemetry.max`), and for the run as a whole (all channels together):
    `value`, `value_low` and `value_high`, where there is one; for the run, `value_seconds`. The horizon is that of the
    scenario's `telemetry.value`.
    """
    spec = running.scenario.telemetry.value
    assert spec is not None
    few = len(running.system.channels) <= running.scenario.telemetry.max
    started = time.monotonic()
    measured = value(running, channels=None if few else [], horizon=spec.horizon, repeats=_RUN_REPEATS)
    seconds = Metric("run", "", "value_seconds", time.monotonic() - started)
    return [seconds, *measured.metrics()]


# --- steering: the learning signal of some channels replaced -----------------------------------------------


class _Steered(Coupling):
    """A coupling that gives another credit for messages from a step on, for which no window waits.

    Args:
        signal: Returns the credit of the message of a step, [rows, size]; None: nothing is injected.
    """

    def __init__(self, steered: Coupling, start: int, signal: Callable[[int], Tensor | None]) -> None:
        self.steered, self.start, self.signal = steered, start, signal
        names = "predicts", "joins_endpoints", "uses_returned", "waits", "replaces_messages", "allows_states"
        vars(self).update({name: getattr(steered, name) for name in ("name", *names)})

    def read_kind(self, *, same_window: bool, is_state: bool) -> ReadKind:
        return self.steered.read_kind(same_window=same_window, is_state=is_state)

    def credit(self, message: CreditedMessage, step: int) -> Tensor | None:
        if message.stamp < self.start:
            return self.steered.credit(message, step)
        return self.signal(message.stamp)

    def waits_for(self, stamp: int, step: int) -> bool:
        return stamp < self.start and self.steered.waits_for(stamp, step)


class _SteeredBackend(StackedBackend):
    """An engine of single agents that injects the true gradient into the messages of some channels, or nothing, from now on.

    The true gradient is found when a message is sent, with the parameters of then, by letting a copy of what changes run on with
    all its graphs: one forward and one backward pass per step where effects do not outlast the step.

    Args:
        bench: A fork of it, whose environment shows what is to come; None: nothing is injected.
        ahead: Further steps whose losses count; None: as many as they can reach (`look_ahead`).

    Attributes:
        farthest: The farthest that was looked ahead.
    """

    def __init__(
        self,
        running: LiveSystem,
        names: Sequence[str],
        bench: LiveSystem | None = None,
        ahead: int | None = None,
    ) -> None:
        self._plain = running.system
        channels = dict(self._plain.channels)
        for name in names:
            channel = channels[name]
            coupling = Detached() if channel.coupling.joins_endpoints else channel.coupling
            injection = replace(channel.synthetic_gradient.injection, scale=1.0, discount=1.0)
            # a locked one passes its messages as numbers; how a channel weighs or mixes its own signal does not touch the
            # one that is put in its place
            channels[name] = replace(
                channel,
                members=(),
                coupling=_Steered(coupling, running.now, partial(self._signal, name)),
                synthetic_gradient=replace(channel.synthetic_gradient, injection=injection),
            )
        super().__init__(replace(rewired(self._plain, channels), sweeps=False), stacked=False)
        self.running, self.names, self.bench, self.ahead = running, frozenset(names), bench, ahead
        self.farthest = 0
        self._true: dict[tuple[str, int], Tensor] = {}
        self._before: DifferentiableRollout | None = None
        self._step_signals: StepSignals

    def per_agent(self) -> System:
        """The system as it was declared."""
        return self._plain

    def _signal(self, name: str, stamp: int) -> Tensor | None:
        return self._true.get((name, stamp))

    def tick(self, step: int, step_signals: StepSignals) -> Action | None:
        """Tick all agents due, after a copy of the system as it is before."""
        self._before = None
        timetables = {
            n: channel.wire.timetable for n, channel in self.system.channels.items() if n in self.names
        }
        due = [
            n
            for n, timetable in timetables.items()
            if timetable.sender_clock.ticks_at(step)
            and (not timetable.carries_state or timetable.read_plan(step).finish_by is not None)
        ]
        if due and self.bench is not None:
            ahead = look_ahead(self.system, due, step) if self.ahead is None else self.ahead
            self.farthest = max(self.farthest, ahead)
            self._before = DifferentiableRollout(self.system, step, due)
            self._step_signals = step_signals
            if ahead:
                self.bench.world.go_to(self.running.world)
                self._before.run(self.bench.world, ahead + 1)
        return super().tick(step, step_signals)

    def learn(self, step: int, ends: EpisodeEnds, *, watch: Watch = False) -> StepReport:
        """Update what is due; the step's true gradients are found first."""
        rollout = self._before
        if rollout is not None:
            if not rollout.sent:  # nothing lies ahead: by now the step's own signals are complete
                rollout.tick(step, self._step_signals)
            self._true |= {(name, step): true for name, true in rollout.gradients().items()}
            self._before = None
        return super().learn(step, ends, watch=watch)
