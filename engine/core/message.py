"""What a ledger holds: a message's record, its uses, and what a tick reads (semantics 17, 18)."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from antiphon.engine.core.mask import EnvMask
from antiphon.engine.core.signals import StepSignals

__all__ = ["Consumption", "Delivery", "Record"]


@dataclass(slots=True, eq=False)
class Record:
    """One message: what was sent, and what has come back."""

    stamp: int
    message: Tensor
    """[B, size], as sent."""
    received: Tensor
    """[B, size], as it arrives: with the link's noise, in its bits."""
    step_signals: StepSignals
    """The signals it was made from."""
    first_use: int | None
    """First receiver tick that the schedule lets use it; None: it will be replaced unread."""
    waiting: set[int]
    """Receiver windows that may hold uses and have not closed."""
    deadline: int
    """Step after which an open record is an engine error."""
    returned: Tensor | None = None
    """[B, size]: the newest delta that had come back when it was sent, for predictors conditioned on it."""
    states: dict[str, Tensor] = field(default_factory=dict)
    """The states of the channel's ends when it was sent, [B, state size], for predictors conditioned on them."""
    began: int = 0
    """Step at which its episode began, where that is a window."""
    lost: Tensor | None = None
    """[B] bool: the environments in which the link lost it."""
    void: EnvMask = False
    """Environments whose episode ended since it was sent: there it is void from then on."""
    no_injection: EnvMask = False
    """Environments whose episode ended before it could be used: there nothing is injected either."""
    counted: EnvMask = False
    """Environments in which a use counted."""
    delta: Tensor | None = None
    """[B, size], per sample, accumulated over the counted uses."""
    loss: Tensor | None = None
    """[B]: what its receiver lost in the windows that used it, for critics."""
    finished: int | None = None
    """Step at which its last window closed."""
    held_by_sender: bool = True
    """Whether the sender has still to learn from it."""
    live: Tensor | None = None
    """The message with the sender's graph, while the sender's window is open."""
    prediction: tuple[Tensor, int] | None = None
    """What its predictor said of it, and after how many updates."""

    @property
    def unread(self) -> bool:
        """Whether the schedule shows that a newer message replaces it before any tick."""
        return self.first_use is None

    @property
    def complete(self) -> bool:
        """Whether its delta is whole: all windows closed, at least one use counted."""
        return self.finished is not None and self.counted is not False


@dataclass(slots=True, eq=False)
class Consumption:
    """A record consumed within one receiver window: the leaf its gradient comes back on."""

    record: Record
    leaf: Tensor
    counted: EnvMask


@dataclass(slots=True)
class Delivery:
    """What a receiver tick finds on a channel."""

    record: Record | None
    """The record due, if any was sent."""
    value: Tensor | None
    """[B, size]; None: nothing has come, zeros."""
    available: EnvMask
    """Environments in which there is a message; zeros elsewhere."""
    counted: EnvMask
    """Environments in which it is the due message itself, or what stands in for it, and valid."""
    stand_in_mask: EnvMask = False
    """Environments in which a synthetic input stands in for it."""
    step_signals: StepSignals | None = None
    """The signals that what is read was made from, where they are not the record's own in all environments."""
