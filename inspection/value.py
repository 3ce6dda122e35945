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
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor

from antiphon.base.argument_checks import check_counts
from antiphon.base.errors import DivergenceError, RunError, ScenarioError
from antiphon.base.imports import with_imports
from antiphon.base.nearest_names import suggest
from antiphon.base.progress import Progress
from antiphon.comms.couplings import Coupling, CreditedMessage, Detached, ReadKind
from antiphon.engine.backends import StackedBackend
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.heart.signals import Action, EpisodeEnds, StepSignals
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import StepReport
from antiphon.engine.inference.evaluation import first_lines
from antiphon.engine.inference.rollout import rewired
from antiphon.engine.live_system import Holder, LiveSystem, running_of
from antiphon.engine.state.checkpoint import copy_tree
from antiphon.inspection.truth import (
    DifferentiableRollout,
    ahead_of,
    chosen_channels,
    look_ahead,
)
from antiphon.nets.schedules import OwnSchedule, Rate
from antiphon.telemetry.metrics import LOSSES, OWN_GAIN, Metric, bounds
from antiphon.telemetry.statistics import ERRORS, ratio, standard_error, student_t

COUPLING = "all channels"
"""The name of the row in which the signals of all channels are replaced together."""
_REPEATS = 5
"""Repeats of a measurement after a run, by default."""
_RUN_REPEATS = 3
"""Repeats of a measurement during a run."""


@dataclass(frozen=True)
class Value:
    """The value of one channel's learning signal, or of all channels' together.

    Attributes:
        name: The channel's name, or `COUPLING`.
        value: 1: as good as the true gradient; 0: as good as none; negative: worse than none. None: undefined.
        low, high: Its 95 % interval; None without a value.
        true, synthetic, zero: Mean loss of the readouts with the true signal, the channel's own, and none, in the second
            half of the horizon, over repeats.
        gain: zero - true: the gain from the true signal.
        error: The standard error of `gain`.
        half: Half the 95 % interval of zero - synthetic, the gain from its own signal.
        ahead: Further steps whose losses counted in the true signal.
        seconds: Seconds of this measurement, without those shared by all rows.
        why: Why there is no value, and what its losses say; empty if there is one.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    true: float
    synthetic: float
    zero: float
    gain: float
    error: float
    half: float
    ahead: int
    seconds: float
    why: str = ""

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.name}: undefined: {self.why}"
        losses = f"loss {self.true:.4f} true, {self.synthetic:.4f} synthetic, {self.zero:.4f} zero"
        return f"{self.name}: {self.value:.2f} [{self.low:.2f}, {self.high:.2f}] ({losses})"

    __repr__ = __str__


@dataclass(frozen=True)
class Values:
    """The value of some channels.

    Attributes:
        rows: All channels together first, then each requested channel, in canonical order.
        step: The first step.
        horizon: Steps of learning.
        repeats: Sets of examples.
        seconds: Seconds of the whole measurement.
    """

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

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: the attributes, `rows` as a list of theirs."""
        return asdict(self) | {"rows": [asdict(row) for row in self.rows]}

    def __str__(self) -> str:
        head = f"value over {self.horizon} steps after step {self.step}, {self.repeats} repeats"
        return first_lines(head, [f"  {row}" for row in self.rows], "rows")

    __repr__ = __str__


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
    if no_fork := running.system.description.no_fork:
        command = with_imports("antiphon evaluate RUN --ablate zero")
        fix = f"{command}, or antiphon.inspection.ablation.ablate(simulation)"
        raise RunError(f"value: cannot be measured, as {no_fork}; rank the channels by ablation: {fix}")
    alone = {name: [name] for name in chosen_channels(names, channels, "value: channel")}
    rows = [_ValueLosses(name, members, ahead) for name, members in {COUPLING: names, **alone}.items()]
    check_counts("value", needed=True, horizon=horizon)
    check_counts("value", 2, needed=True, repeats=repeats)
    check_counts("value", 0, ahead=ahead)
    with (
        running.fork(stacked=False) as start,
        running.fork(stacked=False) as fork,
        running.fork(stacked=False) as bench,
        Progress("measuring", repeats * len(rows)) as progress,
    ):
        assert isinstance(start.backend, StackedBackend)
        start.backend.freeze()
        forks = _Forks(fork, bench, fork.system, _rates(running, horizon), horizon)
        for _ in range(repeats):
            state = copy_tree(start.state_dict())
            try:
                synthetic = forks.loss(state)
            except _NoLoss as why:
                for row in rows:
                    row.fail(f"as it is, {why}")
                break
            for row in rows:
                row.measure(forks, state, synthetic)
                progress.advance()
            for _ in range(horizon):
                start.advance()
    values = tuple(row.result() for row in rows)
    return Values(values, running.now, horizon, repeats, time.monotonic() - started)


def _rates(running: LiveSystem, horizon: int) -> list[float]:
    """The rates that learning goes on at: the highest of the horizon, or after the run's end the schedules' own."""
    now = running.now
    if now >= running.scenario.training.steps:
        return [float(model.rate.base) for model in running.system.trained_parameters]
    steps = range(now, now + horizon)
    return [max(float(model.rate_at(step)) for step in steps) for model in running.system.trained_parameters]


class _NoLoss(Exception):
    """Why a fork has no loss."""


@dataclass
class _Forks:
    """Two forks that are used up: one that learns, and one whose environment shows it what is to come."""

    fork: LiveSystem
    bench: LiveSystem
    system: System
    rates: list[float]
    horizon: int

    def loss(self, state: dict[str, Any], steered: Callable[[], StackedBackend] | None = None) -> float:
        """Learn from `state` on, and return the readouts' mean loss in the second half; _NoLoss where there is none."""
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
            raise _NoLoss(f"it diverges: {error}") from None
        means = [loss / count for loss, count in sums.values() if count]
        if not means:
            raise _NoLoss(
                f"no readout ({', '.join(sums)}) learns from a loss in the second half of {horizon} steps; use a longer "
                "horizon"
            )
        return sum(means) / len(means)


@dataclass
class _ValueLosses:
    """The losses of one row, as they come in."""

    name: str
    members: list[str]
    ahead: int | None
    farthest: int = 0
    failed: str = ""
    seconds: float = 0.0
    losses: list[tuple[float, float, float]] = field(default_factory=list)
    """True, synthetic and zero, per repeat."""

    def fail(self, why: str) -> None:
        self.failed = why

    def measure(self, forks: _Forks, state: dict[str, Any], synthetic: float) -> None:
        """Let a fork go on from `state` twice: with the true signal and with none."""
        if self.failed:
            return
        started, signal = time.monotonic(), "true"
        try:
            true = forks.loss(state, lambda: TrueGradient(forks.fork, self.members, forks.bench, self.ahead))
            steering, signal = forks.fork.backend, "zero"
            zero = forks.loss(state, lambda: ZeroGradient(forks.system, self.members, forks.fork.now))
        except _NoLoss as why:
            self.failed = f"with a {signal} signal, {why}"
            return
        assert isinstance(steering, TrueGradient)
        self.farthest = max(self.farthest, steering.farthest)
        self.losses.append((true, synthetic, zero))
        self.seconds += time.monotonic() - started

    def result(self) -> Value:
        return value_of(self.name, self.losses, self.farthest, self.seconds, self.failed)


def value_of(
    name: str, losses: Sequence[tuple[float, float, float]], ahead: int, seconds: float, failed: str = ""
) -> Value:
    """Return the value that follows from losses.

    Args:
        losses: True, synthetic and zero, per repeat.
        failed: Why there are no losses; empty: there are.
    """
    if failed:
        nan = math.nan
        return Value(name, None, None, None, nan, nan, nan, nan, nan, nan, ahead, seconds, failed)
    parts = [zero - synthetic for _, synthetic, zero in losses]
    ratio_of_gains = ratio(parts, [zero - true for true, _, zero in losses])
    true, synthetic, zero = (sum(column) / len(column) for column in zip(*losses, strict=True))
    effect, half = sum(parts) / len(parts), student_t(len(parts) - 1) * standard_error(parts)
    why = ""
    if ratio_of_gains.value is None:
        signal = (
            "not resolved" if abs(effect) <= half else "better than none" if effect > 0 else "worse than none"
        )
        lose = ratio_of_gains.denominator < -ERRORS * ratio_of_gains.error
        gives = "lose significantly" if lose else "give no significant gain"
        measured = (
            f"loss with no signal {zero:.4g}, with its own {synthetic:.4g}, with the true gradient {true:.4g}"
        )
        own_gain = f"no signal − own {effect:.2g} [{effect - half:.2g}, {effect + half:.2g}]"
        gain = f"gain {ratio_of_gains.denominator:.2g}, standard error {ratio_of_gains.error:.2g}"
        why = f"{signal}; over this horizon true gradients {gives} ({measured}, {own_gain}, {gain})"
    numbers = true, synthetic, zero, ratio_of_gains.denominator, ratio_of_gains.error, half
    return Value(
        name, ratio_of_gains.value, ratio_of_gains.low, ratio_of_gains.high, *numbers, ahead, seconds, why
    )


def value_rows(values: Values) -> list[Metric]:
    """Return values and losses as metrics, of channels and of the run (all channels together), where there are any."""
    rows = []
    for row in values.rows:
        about = ("run", "") if row.name == COUPLING else ("channel", row.name)
        if row.name != COUPLING and math.isfinite(row.zero):
            losses = zip(LOSSES, (row.zero, row.synthetic, row.true), strict=True)
            rows += [Metric("channel", row.name, metric, loss) for metric, loss in losses]
            gain = row.zero - row.synthetic
            ends = zip((OWN_GAIN, *bounds(OWN_GAIN)), (gain, gain - row.half, gain + row.half), strict=True)
            rows += [Metric("channel", row.name, metric, number) for metric, number in ends]
        if row.value is not None and row.low is not None and row.high is not None:
            numbers = {"value": row.value, "value_low": row.low, "value_high": row.high}
            rows += [Metric(*about, metric, number) for metric, number in numbers.items()]  # type: ignore[arg-type]
    return rows


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
    return [seconds, *value_rows(measured)]


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


class ZeroGradient(StackedBackend):
    """An engine of single agents that injects nothing into the messages of some channels, from step `start` on."""

    def __init__(self, system: System, names: Sequence[str], start: int) -> None:
        channels = dict(system.channels)
        for name in names:
            channel = channels[name]
            # a locked one passes its messages as numbers; how a channel weighs or mixes its own signal does not touch the
            # one that is put in its place
            channels[name] = replace(
                channel,
                members=(),
                coupling=_Steered(
                    Detached() if channel.coupling.joins_endpoints else channel.coupling,
                    start,
                    partial(self.signal, name),
                ),
                synthetic_gradient=replace(
                    channel.synthetic_gradient,
                    injection=replace(channel.synthetic_gradient.injection, scale=1.0, discount=1.0),
                ),
            )
        rewired_system = rewired(system, channels)
        super().__init__(replace(rewired_system, sweeps=False), stacked=False)
        self._plain, self.names = system, frozenset(names)

    def per_agent(self) -> System:
        """The system as it was declared."""
        return self._plain

    def signal(self, name: str, stamp: int) -> Tensor | None:
        """Return what is injected into a message of a steered channel; None: nothing."""
        return None


class TrueGradient(ZeroGradient):
    """An engine of single agents that injects the true gradient into the messages of some channels.

    It is found when a message is sent, with the parameters of then, by letting a copy of what changes run on with
    all its graphs: one forward and one backward pass per step where effects do not outlast the step.

    Args:
        bench: A fork of it, whose environment shows what is to come.
        ahead: Further steps whose losses count; None: as many as they can reach (`look_ahead`).
    """

    def __init__(
        self,
        running: LiveSystem,
        names: Sequence[str],
        bench: LiveSystem,
        ahead: int | None = None,
    ) -> None:
        super().__init__(running.system, names, running.now)
        self.running = running
        self.bench = bench
        self.ahead = ahead
        self.farthest = 0
        """The farthest that was looked ahead."""
        self._true: dict[tuple[str, int], Tensor] = {}
        self._before: DifferentiableRollout | None = None
        self._step_signals: StepSignals

    def tick(self, step: int, step_signals: StepSignals, *, keep_messages: bool = True) -> Action | None:
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
        if due:
            ahead = look_ahead(self.system, due, step) if self.ahead is None else self.ahead
            self.farthest = max(self.farthest, ahead)
            self._before = DifferentiableRollout(self.system, step, due)
            self._step_signals = step_signals
            if ahead:
                self._before.run(ahead_of(self.bench, self.running), ahead + 1)
        return super().tick(step, step_signals, keep_messages=keep_messages)

    def learn(self, step: int, ends: EpisodeEnds, *, watch: Watch = False) -> StepReport:
        """Update what is due; the step's true gradients are found first."""
        rollout = self._before
        if rollout is not None:
            if not rollout.sent:  # nothing lies ahead: by now the step's own signals are complete
                rollout.tick(step, self._step_signals)
            self._true |= {(name, step): true for name, true in rollout.gradients().items()}
            self._before = None
        return super().learn(step, ends, watch=watch)

    def signal(self, name: str, stamp: int) -> Tensor | None:
        return self._true.get((name, stamp))
