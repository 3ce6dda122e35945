"""What a coupling declares: how scenarios, checks, advice, `show`, the timeline and telemetry see it; nothing here is called in training.

`DeclaredCoupling` is the base of `Coupling` (couplings.py). A class sets the attributes, and what follows from them holds for a user's own
coupling too. A channel is read as its scenario declares it (declared_channel.py).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, ClassVar

from antiphon.comms.declared_channel import DeclaredChannel

Problem = tuple[str, str]
"""Key of a channel, joined by dots, and what is wrong there with the fix."""


def _is_same(first: Any, second: Any) -> bool:
    """Whether two values are equal, such as tensors of one shape in all components; what cannot be compared is not."""
    if first is second:
        return True
    try:
        equal = first == second
        return bool(equal.all() if hasattr(equal, "all") else equal)
    except Exception:  # noqa: BLE001  (what a user's object, or tensors of two shapes, may raise)
        return False


class _StackingKey:
    def __init__(self, kind: type, options: dict[str, Any]) -> None:
        self._kind, self._options = kind, options

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _StackingKey) or self._kind is not other._kind:
            return False
        others = other._options
        return self._options.keys() == others.keys() and all(
            _is_same(value, others[key]) for key, value in self._options.items()
        )

    def __hash__(self) -> int:
        return hash((self._kind, self._options["name"]))


def _slots_of(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


class DeclaredCoupling:
    """A coupling as its class attributes declare it; a property may stand for one."""

    name: str = ""
    """The name in scenarios."""
    predicts: ClassVar[bool] = False
    """Whether the channel has a synthetic gradient, and may have a synthetic input."""
    joins_endpoints: ClassVar[bool] = False
    """Whether both endpoints learn as one network, by backpropagation through the messages of a window."""
    uses_returned: ClassVar[bool] = False
    """Whether `credit` uses `CreditedMessage.returned_gradient`: receivers then return gradients even where no predictor learns from
    them."""
    waits: ClassVar[bool] = False
    """Whether the sender's window waits for the gradients of its messages, until they are back or `horizon` further windows of the sender
    have ended (engine/heart/late_windows.py). It is then replayed and learned from as a whole (docs/semantics.md, rule 27b)."""
    replaces_messages: ClassVar[bool] = False
    """Whether the receiver reads the synthetic input in place of every message."""
    allows_states: ClassVar[bool] = False
    """Whether a state channel may have it."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeclaredCoupling) and self.stacking_key == other.stacking_key

    def __hash__(self) -> int:
        return hash(self.stacking_key)

    @property
    def stacking_key(self) -> Hashable:
        """A key that is equal for couplings of one class, name and attributes, whatever equality and hash the class has."""
        slots = [name for kind in type(self).__mro__ for name in _slots_of(kind) if hasattr(self, name)]
        # the name may be the class's or the object's (`coupling_of`)
        options = {**{name: getattr(self, name) for name in slots}, **vars(self), "name": self.name}
        return _StackingKey(type(self), options)

    @property
    def can_credit_sender(self) -> bool:
        """Whether the sender can learn from the receiver's losses, in whatever way: by a graph, a return or a prediction."""
        return self.joins_endpoints or self.uses_returned or self.predicts

    @property
    def uses_return_path(self) -> bool:
        """Whether gradients or losses return over the link, in the steps of its way back (`link.delay`); a graph does not."""
        return self.uses_returned or self.predicts

    def problems(self, channel: DeclaredChannel) -> Iterator[Problem]:
        """Yield the settings of a channel that the coupling refuses."""
        # a message that is read with its graph has arrived
        if self.joins_endpoints and channel.link.loses:
            message = f"must be 0 on a {self.name} channel, not {channel.link.drop}; leave it out"
            yield "link.drop", f"{message}, or use another coupling"
        if self.replaces_messages and channel.input is None:
            message = f"must be given where the coupling is {self.name}, as the receiver reads it in place of every message"
            yield "input", f"{message}; give one, such as {{kind: linear}}"

    def never_read(self, channel: DeclaredChannel) -> bool:
        """Return whether the receiver never reads a message nor its synthetic input: nothing can return."""
        return channel.link.drop == 1 and not (self.predicts and channel.input is not None)

    def credits_without_returns(self, channel: DeclaredChannel) -> bool:
        """Return whether the sender has credit that needs no gradient of the receiver: by a loss of the predictor's own.

        Advice takes it for a learning signal even if the receiver has none.
        """
        gradient = channel.gradient
        local_loss = gradient.own_target is not None and not self.never_read(channel)
        return self.predicts and gradient.apply and (not gradient.learns_from_returns or local_loss)

    def credits_from_receiver(self, channel: DeclaredChannel) -> bool:
        """Return whether the sender has credit from gradients of the receiver, returned, predicted or through a graph.

        Advice takes it for a learning signal if the receiver has one.
        """
        if self.joins_endpoints:
            return True
        gradient = channel.gradient
        predicted = self.predicts and gradient.apply and gradient.learns_from_returns
        return (self.uses_returned or predicted) and not self.never_read(channel)
