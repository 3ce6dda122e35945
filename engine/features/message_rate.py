"""Message rates: a sender that sends on a share of its ticks, evenly spaced (semantics 17)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from antiphon.engine.heart.clock import Clock


@dataclass(frozen=True)
class Sending:
    """When a sender sends: message k goes at its tick floor(k / rate).

    Attributes:
        clock: The sender's.
        rate: The share of its ticks, in (0, 1], as the decimal it is written as: 0.1 is a tenth, so no rounding adds up.
    """

    clock: Clock
    rate: float

    @property
    def period(self) -> int:
        """Steps between ticks of the sender."""
        return self.clock.period

    @property
    def repeats(self) -> int:
        """Steps after which it repeats."""
        return self.period * self.every.numerator

    @property
    def interval(self) -> float:
        """Steps from one message to the next, on average."""
        return self.period / self.rate

    @cached_property
    def every(self) -> Fraction:
        """Ticks from one message to the next, on average."""
        return 1 / Fraction(str(self.rate))

    def due(self, step: int) -> bool:
        """Whether a message is sent at `step`."""
        return self.latest(step) == step

    def latest(self, step: int) -> int | None:
        """The newest stamp sent at or before `step`, if there was one."""
        tick = self.clock.latest(step)
        return None if tick is None else self._stamp(self._before(self.clock.count(tick) + 1) - 1)

    def after(self, step: int) -> int:
        """The first stamp sent after `step`."""
        return self._stamp(self._before(self.clock.count(self.clock.after(step))))

    def _before(self, count: int) -> int:
        """How many messages go at the ticks numbered below `count`: the least k with floor(k / rate) >= count."""
        every = self.every
        return -(-count * every.denominator // every.numerator)

    def _stamp(self, message: int) -> int:
        every = self.every
        return self.clock.step(message * every.numerator // every.denominator)
