"""Values of a channel's endpoints that predictors may be conditioned on beside signals (rule 25): a row each.

What a row declares decides what is allowed, built, kept, charged to the link and divided among sites. How a value is computed is in
engine/heart/contexts.py.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple


class Measure(Enum):
    """What a value is, from which its features follow (engine/build/channels.py)."""

    MESSAGE = "message"
    """Of a message's shape."""
    NUMBER = "number"
    PHASE = "phase"
    """Which tick of its window the agent at one end is at, one-hot."""
    STATE = "state"
    """The state of the agent at one end: flat, and the same at every site."""


class EndpointValue(NamedTuple):
    """A row of the table."""

    measure: Measure
    end: str = ""
    """The end whose agent has it, `from` (the sender) or `to` (the receiver); of the channel itself, none."""
    of_gradients: bool = False
    """Whether a synthetic gradient may be conditioned on it."""
    of_inputs: bool = False
    is_returned: bool = False
    """Whether it is a gradient, scaled like one; it has come back, and is kept by the outbox (`Wire.keeps_returned`)."""
    is_held: bool = False
    """Whether it is of the held message, so that all are held (`Wire.holds_all`)."""
    crosses: bool = False
    """Whether it crosses the link by itself, from the receiver: parts are not cut there, and it counts as traffic."""

    def agent_of(self, channel: Any) -> str:
        """Return the agent that it is of; of a value of the channel itself, the sender."""
        return str(channel.receiver if self.end == "to" else channel.sender)


PHASE = "phase"
ENDPOINT_VALUES = {
    # the newest gradient that has come back
    "returned": EndpointValue(Measure.MESSAGE, of_gradients=True, is_returned=True),
    # the newest message that came before the one that the input stands in for, and its age
    "held": EndpointValue(Measure.MESSAGE, of_inputs=True, is_held=True),
    "age": EndpointValue(Measure.NUMBER, of_inputs=True, is_held=True),
    # which tick of the sender it was, among those of the windows of all agents that its message reaches
    PHASE: EndpointValue(Measure.PHASE, "from", of_gradients=True),
    "from.phase": EndpointValue(Measure.PHASE, "from", of_gradients=True, of_inputs=True),
    "to.phase": EndpointValue(Measure.PHASE, "to", of_gradients=True, of_inputs=True),
    # the sender's of the tick that made the message, and the newest of the receiver's that had crossed the link by then
    "from.state": EndpointValue(Measure.STATE, "from", of_gradients=True),
    "to.state": EndpointValue(Measure.STATE, "to", of_gradients=True, crosses=True),
}
"""By name; channels list them in this order."""
GRADIENT_ENDPOINTS = tuple(name for name, value in ENDPOINT_VALUES.items() if value.of_gradients)
INPUT_ENDPOINTS = tuple(name for name, value in ENDPOINT_VALUES.items() if value.of_inputs)
STATES = {value.end: name for name, value in ENDPOINT_VALUES.items() if value.measure is Measure.STATE}
