"""Clocks: when agents tick, and when they send (rule 14, clocks and windows)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Clock:
    """Regular ticks of an agent: at steps t with (t - phase) % tick_period == 0, t >= phase.

    It is also the `SendTimes` of a sender that sends at each tick. A rule that only says when messages are sent is one more class of
    `SendTimes`. Irregular ticks would change far more: that ticks are `tick_period` steps apart is used by window grids, `Timetable` and
    `Coupling.credit`, by builders, features, policies, capture, inference, metrics, costs, warnings, inspection, parts and the checks of scenarios.

    Attributes:
        tick_period: Steps between ticks.
        phase: First tick, in [0, tick_period); a negative one is from its end.
    """

    tick_period: int = 1
    phase: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "phase", self.phase % self.tick_period)

    @property
    def cycle_steps(self) -> int:
        """Steps after which its ticks repeat."""
        return self.tick_period

    @property
    def mean_send_interval(self) -> float:
        """Steps from one message to the next, where one is sent at each tick."""
        return self.tick_period

    def ticks_at(self, step: int) -> bool:
        """Whether the clock ticks at `step`."""
        return step % self.tick_period == self.phase

    sends_at = ticks_at  # where one message is sent at each tick

    def tick_number(self, step: int) -> int:
        """Number of the tick at `step`, from 0."""
        return (step - self.phase) // self.tick_period

    def step_of(self, number: int) -> int:
        """Step of the tick of a number."""
        return self.phase + number * self.tick_period

    def latest(self, step: int) -> int | None:
        """The newest tick at or before `step`, if there was one."""
        return None if step < self.phase else step - (step - self.phase) % self.tick_period

    def at_or_after(self, step: int) -> int:
        """The first tick at or after `step`."""
        return self.phase if step <= self.phase else step + (self.phase - step) % self.tick_period

    def after(self, step: int) -> int:
        """The first tick after `step`."""
        steps_since_tick = (step - self.phase) % self.tick_period
        return self.phase if step < self.phase else step - steps_since_tick + self.tick_period

    def among(self, steps: range) -> range:
        """The ticks among consecutive steps."""
        return range(self.at_or_after(steps.start), steps.stop, self.tick_period)


class SendTimes(Protocol):
    """When a sender sends: at each of its ticks (`Clock`), or less often (`RatedSends`). These steps are the stamps of its messages."""

    @property
    def tick_period(self) -> int:
        """Steps between ticks of the sender."""

    @property
    def cycle_steps(self) -> int:
        """Steps after which its stamps repeat."""

    @property
    def mean_send_interval(self) -> float:
        """Steps from one message to the next, on average."""

    def sends_at(self, step: int) -> bool:
        """Whether a message is sent at `step`."""

    def latest(self, step: int) -> int | None:
        """The newest stamp at or before `step`, if there was one."""

    def after(self, step: int) -> int:
        """The first stamp after `step`."""

    def among(self, steps: range) -> Sequence[int]:
        """The stamps among consecutive steps."""


@dataclass(frozen=True)
class RatedSends:
    """The `SendTimes` of a sender with a message rate, evenly spaced: message k goes at its tick floor(k / rate).

    Attributes:
        rate: The share of its ticks, in (0, 1], as the decimal it is written as: 0.1 is a tenth, so no rounding adds up.
    """

    clock: Clock
    rate: float

    @property
    def tick_period(self) -> int:
        return self.clock.tick_period

    @property
    def cycle_steps(self) -> int:
        return self.tick_period * self.ticks_per_message.numerator

    @property
    def mean_send_interval(self) -> float:
        return self.tick_period / self.rate

    @cached_property
    def ticks_per_message(self) -> Fraction:
        """Ticks from one message to the next, on average."""
        return 1 / Fraction(str(self.rate))

    def sends_at(self, step: int) -> bool:
        return self.latest(step) == step

    def latest(self, step: int) -> int | None:
        tick = self.clock.latest(step)
        return (
            None
            if tick is None
            else self._stamp_of(self._messages_before(self.clock.tick_number(tick) + 1) - 1)
        )

    def after(self, step: int) -> int:
        return self._stamp_of(self._messages_before(self.clock.tick_number(self.clock.after(step))))

    def among(self, steps: range) -> list[int]:
        return [step for step in steps if self.sends_at(step)]

    def _messages_before(self, tick_number: int) -> int:
        """How many messages go at the ticks numbered below `tick_number`: the least k with floor(k / rate) >= `tick_number`."""
        ticks = self.ticks_per_message
        return -(-tick_number * ticks.denominator // ticks.numerator)

    def _stamp_of(self, message_number: int) -> int:
        ticks = self.ticks_per_message
        return self.clock.step_of(message_number * ticks.numerator // ticks.denominator)
