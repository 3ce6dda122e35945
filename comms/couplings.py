"""Couplings: how gradients cross a channel, one class each.

A scenario names a coupling, `ChannelSpec.crossing` is its class. Checks, advice, `show`, the timeline and telemetry ask the class
and compare no names. The training step (engine/heart) compares the names themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Protocol

DEFAULT = "decoupled"
"""The coupling of a channel that names none."""


class _Link(Protocol):
    @property
    def drop(self) -> float: ...


class _Feedback(Protocol):
    @property
    def direct(self) -> bool: ...


class _Gradient(Protocol):
    @property
    def apply(self) -> bool: ...
    @property
    def scale(self) -> float: ...
    @property
    def returned(self) -> bool: ...
    @property
    def own_target(self) -> str | None: ...


class Declared(Protocol):
    """What a coupling reads of a channel of a scenario."""

    @property
    def link(self) -> _Link: ...
    @property
    def gradient(self) -> _Gradient: ...
    @property
    def input(self) -> object | None: ...
    @property
    def feedback(self) -> _Feedback | None: ...


Problem = tuple[str, str]
"""Key of a channel, joined by dots, and what is wrong there with the fix."""


class Coupling:
    """How gradients cross a channel; the base lets none cross."""

    name: ClassVar[str]
    """The name in scenarios."""
    predicts: ClassVar[bool] = False
    """Whether the channel has a synthetic gradient, and may have a synthetic input."""
    joins: ClassVar[bool] = False
    """Whether both ends learn as one, by backpropagation through the messages of a window."""
    waits: ClassVar[bool] = False
    """Whether the sender's window waits for the gradients of its messages."""
    replaces: ClassVar[bool] = False
    """Whether the receiver reads the synthetic input in place of every message."""
    passes: ClassVar[bool] = False
    """Whether the sender can learn from the receiver's losses."""
    carries_states: ClassVar[bool] = False
    """Whether a state channel may have it."""
    keys: ClassVar[frozenset[str]] = frozenset()
    """The keys of `NOT_OF_ALL` that it uses."""
    goes_back: ClassVar[bool] = True
    """Whether something returns over the link, in steps of its delay back."""

    def problems(self, channel: Declared) -> Iterator[Problem]:
        """Yield what the coupling refuses of a channel."""
        yield from ()

    def returns_nothing(self, channel: Declared) -> bool:
        """Return whether the receiver never uses a message nor its synthetic input."""
        return channel.link.drop == 1

    def teaches_alone(self, channel: Declared) -> bool:
        """Return whether the sender learns from the channel although the receiver may return nothing."""
        return False

    def returns(self, channel: Declared) -> bool:
        """Return whether the sender learns from gradients that the receiver returns."""
        return False


class Locked(Coupling):
    """Backpropagation: both ends learn as one."""

    name = "locked"
    joins = True
    passes = True
    carries_states = True
    keys = frozenset({"feedback"})
    goes_back = False

    def problems(self, channel: Declared) -> Iterator[Problem]:
        if channel.link.drop > 0:
            message = f"must be 0 on a locked channel, not {channel.link.drop}; leave it out"
            yield "link.drop", f"{message}, or use another coupling"

    def teaches_alone(self, channel: Declared) -> bool:
        return channel.feedback is not None and channel.feedback.direct

    def returns(self, channel: Declared) -> bool:
        return channel.feedback is None or not channel.feedback.direct


class Delayed(Coupling):
    """The returned gradient itself, for which the sender's window waits."""

    name = "delayed"
    waits = True
    passes = True
    keys = frozenset({"horizon"})

    def returns(self, channel: Declared) -> bool:
        return not self.returns_nothing(channel)


class Detached(Coupling):
    """No gradient crosses."""

    name = "detached"
    carries_states = True
    goes_back = False


class Decoupled(Coupling):
    """A synthetic gradient: the sender predicts what the receiver will return."""

    name = "decoupled"
    predicts = True
    passes = True
    carries_states = True
    keys = frozenset({"gradient", "input"})

    def returns_nothing(self, channel: Declared) -> bool:
        return channel.input is None and super().returns_nothing(channel)

    def teaches_alone(self, channel: Declared) -> bool:
        gradient = channel.gradient
        own = gradient.own_target is not None and not self.returns_nothing(channel)
        return injects(gradient) and (not gradient.returned or own)

    def returns(self, channel: Declared) -> bool:
        gradient = channel.gradient
        return injects(gradient) and gradient.returned and not self.returns_nothing(channel)


class Unlocked(Decoupled):
    """A synthetic gradient, and a synthetic input that the receiver reads in place of the message."""

    name = "unlocked"
    replaces = True
    carries_states = False

    def problems(self, channel: Declared) -> Iterator[Problem]:
        if channel.input is None:
            message = "an unlocked channel needs a synthetic input; give it one, such as {kind: linear}"
            yield "input", message


def injects(gradient: _Gradient) -> bool:
    """Return whether the sender follows a synthetic gradient."""
    return gradient.apply and gradient.scale > 0


COUPLINGS: dict[str, Coupling] = {
    each.name: each() for each in (Locked, Delayed, Detached, Decoupled, Unlocked)
}
"""The couplings by name."""
NOT_OF_ALL = ("gradient", "input", "feedback", "horizon")
"""The keys of a channel that not every coupling uses."""


def predicts(name: object) -> bool:
    """Return whether a name is that of a coupling with a synthetic gradient."""
    return isinstance(name, str) and name in COUPLINGS and COUPLINGS[name].predicts
