"""Checks of `read`: how a slower receiver combines the messages since its last tick."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from antiphon.scenarios.parts import ChannelSpec
from antiphon.scenarios.problems import DocumentError

if TYPE_CHECKING:
    from antiphon.scenarios.document import Scenario

__all__ = ["AGE", "READ_CHECKS"]

AGE = "age"
"""Observation of the age of each message read, in periods of its sender."""


def _reads(scenario: Scenario) -> None:
    for index, channel in enumerate(scenario.channels):
        if channel.state or channel.read == "last":
            continue
        reason = _cannot(scenario, channel)
        if reason is not None:
            raise DocumentError(("channels", index, "read"), f"{channel.read} {reason}, or read last")


def _cannot(scenario: Scenario, channel: ChannelSpec) -> str | None:
    """Return why several messages cannot be read at a time, and the fix."""
    link, receiver = channel.link, scenario.agents[channel.receiver]
    if channel.coupling == "unlocked":
        return "needs messages, and an unlocked channel gives none to its receiver; make it decoupled"
    if link.drop or link.rate < 1:
        key, value = ("drop", 0) if link.drop else ("rate", 1)
        return f"needs every message, but the link has a {key} of {getattr(link, key)}; make it {value}"
    if channel.input is not None:
        return "needs no synthetic input, every message being there; leave out input"
    if receiver.align is not None:
        return f"reads several messages, and {channel.receiver!r} is aligned to one; leave out its align"
    if channel.read == "mean":
        return None
    if receiver.fan_in != "concat":
        return f"lays messages side by side, but the fan_in of {channel.receiver!r} is {receiver.fan_in}; read mean"
    periods = scenario.agents[channel.sender].clock.period, receiver.clock.period
    if periods[1] > periods[0] and periods[1] % periods[0]:
        message = (
            f"needs as many messages at every tick, but period {periods[1]} of {channel.receiver!r} is no"
        )
        return f"{message} multiple of {periods[0]}, that of {channel.sender!r}; read mean"
    return None


READ_CHECKS: tuple[Callable[[Scenario], None], ...] = (_reads,)
