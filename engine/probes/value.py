"""Value: what a channel's learning signal is worth over a horizon, between nothing (0) and the truth (1).

Three forks go on from one state with common random numbers: in one the channel's signal is true, in one it is what
its coupling makes it, in one it is nothing. All learn for `horizon` steps on the same examples. With the losses of
the readouts in the second half of them,

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
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from antiphon.agents.learner import Learner
from antiphon.comms.gradient import Predictor
from antiphon.comms.inputs import InputModel
from antiphon.engine.core.system import System
from antiphon.engine.probes.steering import TrueGradient, ZeroGradient
from antiphon.engine.state.checkpoint import copy_tree
from antiphon.engine.step.backends import StackedBackend
from antiphon.errors import DivergenceError, ScenarioError, suggest
from antiphon.nets.optimisers import Rate
from antiphon.telemetry.figures import Figure
from antiphon.telemetry.statistics import ratio

if TYPE_CHECKING:
    from antiphon.engine.simulation import Simulation

__all__ = ["COUPLING", "Value", "Values", "value", "value_rows", "write_value"]

COUPLING = "all channels"
"""The name of the row in which the signals of all channels are replaced together."""
_RUN_REPEATS = 3
"""Repeats of a measurement during a run."""


@dataclass(frozen=True)
class Value:
    """What one channel's learning signal is worth, or that of all channels together.

    Attributes:
        name: The channel's, or `COUPLING`.
        value: 1: as good as the true gradient; 0: as good as none; negative: worse than none. None: undefined.
        low: Lower end of its 95 % interval; None without a value.
        high: Upper end.
        true: Mean loss of the readouts with the true signal, in the horizon's second half, over repeats.
        synthetic: With the channel's own.
        zero: With none.
        gain: zero - true: what the truth brings.
        error: The standard error of `gain`.
        ahead: Further steps whose losses counted in the true signal.
        seconds: What the measurement took, without what all rows share.
        why: Why there is no value; empty where there is one.
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
    ahead: int
    seconds: float
    why: str = ""

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.name}: undefined: {self.why}"
        losses = f"loss {self.true:.4f} true, {self.synthetic:.4f} synthetic, {self.zero:.4f} zero"
        return f"{self.name}: {self.value:.2f} [{self.low:.2f}, {self.high:.2f}] ({losses})"


@dataclass(frozen=True)
class Values:
    """The value of some channels.

    Attributes:
        rows: All channels together first, then each of those asked for, in canonical order.
        step: From which step on.
        horizon: Steps of learning.
        repeats: Sets of examples.
        seconds: What the measurement took.
    """

    rows: tuple[Value, ...]
    step: int
    horizon: int
    repeats: int
    seconds: float

    def __getitem__(self, name: str) -> Value:
        """Return the row of a channel, or of `COUPLING`."""
        return next(row for row in self.rows if row.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: the attributes, `rows` as a list of theirs."""
        return asdict(self) | {"rows": [asdict(row) for row in self.rows]}

    def __str__(self) -> str:
        head = f"value over {self.horizon} steps from step {self.step}, {self.repeats} repeats"
        return "\n".join([head, *(f"  {row}" for row in self.rows)])


def value(
    simulation: Simulation,
    *,
    channels: Sequence[str] | None = None,
    horizon: int = 50,
    repeats: int = 5,
    ahead: int | None = None,
) -> Values:
    """Measure what the learning signals of channels are worth, in forks; no bit of `simulation` changes.

    The true signal of a message is the gradient that `true_gradients` finds when it is sent. It takes the place of
    whatever the coupling puts there, at full size; of a locked channel, true and zero signals replace what passes
    with the graph. Messages sent before a fork keep the signal they were owed. Learning rates
    start from those of now, or in a run that is over from those its schedules started from, and fall to nothing.

    Args:
        simulation: What to measure, after any number of steps.
        channels: Which to measure one by one, beside all together; None: every one; empty: none.
        horizon: Steps of learning, at least 1.
        repeats: Sets of examples, at least 2: the interval is over them.
        ahead: Further steps whose losses count in a message's true signal; None: as many as it can reach
            (`antiphon.engine.probes.reach`).

    Raises:
        ScenarioError: There is no such channel, or a number is too small.
        RunError: The environment has no `state_dict`, so there are no forks.
    """
    started = time.monotonic()
    groups = _groups(simulation, channels)
    for name, given, least in [
        ("horizon", horizon, 1),
        ("repeats", repeats, 2),
        ("ahead", ahead or 0, 0),
    ]:
        if given < least:
            raise ScenarioError(f"value: {name} is {given}; it must be at least {least}")
    measured = [_Measured(name, members, ahead) for name, members in groups.items()]
    with (
        simulation.fork(stacked=False) as still,
        simulation.fork(stacked=False) as fork,
        simulation.fork(stacked=False) as bench,
    ):
        _measure(measured, still, fork, bench, _rates(simulation, horizon), horizon, repeats)
    rows = tuple(row.result() for row in measured)
    return Values(rows, simulation.now, horizon, repeats, time.monotonic() - started)


def _measure(
    measured: Sequence[_Measured],
    still: Simulation,
    fork: Simulation,
    bench: Simulation,
    rates: list[float],
    horizon: int,
    repeats: int,
) -> None:
    """Fill the rows, with three forks that are used up."""
    still.backend.freeze(gradients=False)
    plain = fork.system
    for _ in range(repeats):
        state = copy_tree(still.state_dict())
        fork.backend = StackedBackend(plain, stacked=False)
        fork.load_state_dict(state)
        synthetic = _outcome(fork, rates, horizon)
        if isinstance(synthetic, str):
            for row in measured:
                row.failed = f"as it is, {synthetic}"
            break
        for row in measured:
            row.measure(fork, plain, bench, state, synthetic, rates, horizon)
        for _ in range(horizon):
            still.advance()


@dataclass(frozen=True)
class _Falling(Rate):
    """A learning rate that falls from `base` to nothing within `horizon` steps of `start`."""

    start: int = 0

    def __call__(self, step: int) -> float:
        return self.base * max(0.0, 1 - (step - self.start) / self.horizon)


def _models(system: System) -> Iterator[Learner | Predictor | InputModel]:
    """Whatever learns."""
    for agent in system.owners().values():
        yield agent.learner
    for channel in system.channels.values():
        if channel.predictor is not None:
            yield channel.predictor
        if channel.input is not None:
            yield channel.input


def _rates(simulation: Simulation, horizon: int) -> list[float]:
    """The rates that learning goes on at: the highest of the horizon, or after the run's end the schedules' own."""
    now = simulation.now
    if now >= simulation.scenario.training.steps:
        return [model.rate.base for model in _models(simulation.system)]
    return [max(map(model.rate, range(now, now + horizon))) for model in _models(simulation.system)]


class _Measured:
    """The losses of one row, as they come in."""

    def __init__(self, name: str, members: list[str], ahead: int | None) -> None:
        self.name = name
        self.members = members
        self.ahead = ahead
        self.farthest = 0
        self.failed = ""
        self.seconds = 0.0
        self.losses: list[tuple[float, float, float]] = []
        """True, synthetic and zero, per repeat."""

    def measure(
        self,
        fork: Simulation,
        plain: System,
        bench: Simulation,
        state: dict[str, Any],
        synthetic: float,
        rates: list[float],
        horizon: int,
    ) -> None:
        """Let a fork go on from `state` twice: with the true signal and with none."""
        if self.failed:
            return
        started = time.monotonic()
        found: list[float] = []
        for kind in ("true", "zero"):
            fork.backend = StackedBackend(
                plain, stacked=False
            )  # a steered one would not know a locked window's tape
            fork.load_state_dict(state)
            if kind == "true":
                fork.backend = truthful = TrueGradient(fork, self.members, bench, self.ahead)
            else:
                fork.backend = ZeroGradient(plain, self.members, fork.now)
            loss = _outcome(fork, rates, horizon)
            if isinstance(loss, str):
                self.failed = f"with a {kind} signal, {loss}"
                return
            found.append(loss)
        self.farthest = max(self.farthest, truthful.farthest)
        self.losses.append((found[0], synthetic, found[1]))
        self.seconds += time.monotonic() - started

    def result(self) -> Value:
        """Return the row."""
        if self.failed:
            unknown = dict.fromkeys(("true", "synthetic", "zero", "gain", "error"), math.nan)
            return Value(
                self.name,
                None,
                None,
                None,
                ahead=self.farthest,
                seconds=self.seconds,
                why=self.failed,
                **unknown,
            )
        wholes = [zero - true for true, _, zero in self.losses]
        found = ratio([zero - synthetic for _, synthetic, zero in self.losses], wholes)
        true, synthetic, zero = (sum(losses) / len(losses) for losses in zip(*self.losses, strict=True))
        why = ""
        if found.value is None:
            gain = f"{found.whole:.2g}, standard error {found.error:.2g}"
            why = f"over this horizon the truth brings nothing that can be told from chance ({gain})"
        return Value(
            self.name,
            found.value,
            found.low,
            found.high,
            true,
            synthetic,
            zero,
            found.whole,
            found.error,
            self.farthest,
            self.seconds,
            why,
        )


def _groups(simulation: Simulation, channels: Sequence[str] | None) -> dict[str, list[str]]:
    known = list(simulation.system.channels)
    if not known:
        raise ScenarioError("value: the scenario has no channels")
    for name in channels or ():
        if name not in known:
            raise ScenarioError(f"value: no channel '{name}'{suggest(name, known)}")
    chosen = known if channels is None else [name for name in known if name in channels]
    return {COUPLING: known} | {name: [name] for name in chosen}


def _outcome(simulation: Simulation, rates: list[float], horizon: int) -> float | str:
    """Learn for a while, and return the readouts' mean loss in the second half, or why there is none."""
    for model, rate in zip(_models(simulation.system), rates, strict=True):
        model.rate = _Falling(base=rate, horizon=horizon, start=simulation.now)
    readouts = simulation.scenario.readouts
    sums = dict.fromkeys(readouts, (0.0, 0))
    try:
        for step in range(horizon):
            simulation.advance()
            if step < horizon // 2:
                continue
            for update in simulation.learned.updates:
                for name in update.losses.keys() & sums.keys():
                    said, (loss, count) = update.losses[name], sums[name]
                    total = said.loss.item() * simulation.system.batch
                    sums[name] = loss + total, count + int(said.count)
    except DivergenceError as error:
        return f"it diverges: {error}"
    means = [loss / count for loss, count in sums.values() if count]
    if not means:
        names = ", ".join(readouts)
        return f"no readout ({names}) learns from a loss in the second half of {horizon} steps; use a longer horizon"
    return sum(means) / len(means)


def value_rows(found: Values) -> list[Figure]:
    """Return values as figures, of channels and of the run (all channels together), where there is one."""
    rows = []
    for row in found.rows:
        if row.value is not None and row.low is not None and row.high is not None:
            about = ("run", "") if row.name == COUPLING else ("channel", row.name)
            numbers = {"value": row.value, "value_low": row.low, "value_high": row.high}
            rows += [Figure(*about, metric, number) for metric, number in numbers.items()]  # type: ignore[arg-type]
    return rows


def write_value(simulation: Simulation, step: int) -> None:
    """Measure values during a run and hand them to its recorders, with what they cost.

    Per channel (where there are no more than `telemetry.top`), and for the run as a whole (all channels together):
    `value`, `value_low` and `value_high`, where there is one; for the run, `value_seconds`.

    Args:
        simulation: The run, just after `step`; its scenario's `telemetry.value` says the horizon.
        step: The step just taken.
    """
    asked = simulation.scenario.telemetry.value
    assert asked is not None
    few = len(simulation.system.channels) <= simulation.scenario.telemetry.top
    found = value(simulation, channels=None if few else [], horizon=asked.horizon, repeats=_RUN_REPEATS)
    rows = [Figure("run", "", "value_seconds", found.seconds), *value_rows(found)]
    for recorder in simulation.recorders:
        recorder.figures(step + 1, rows)
