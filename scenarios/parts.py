"""The parts of a scenario: environment, agents and channels, each an immutable, validated declaration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, AliasChoices, ConfigDict, Field, model_validator

from antiphon.scenarios.fields import (
    Align,
    Count,
    Flag,
    Index,
    IsReal,
    Key,
    Name,
    Signal,
    Signals,
    Size,
    Text,
    Unroll,
    Whole,
    frozen_data,
)
from antiphon.scenarios.names import channel_name, channel_slug
from antiphon.scenarios.networks import NetworkSpec, Norm
from antiphon.scenarios.predictors import FeedbackSpec, GradientSpec, InputSpec
from antiphon.scenarios.problems import DocumentError, show_value
from antiphon.scenarios.spec import OrObject, Spec
from antiphon.scenarios.training import OptimiserSpec

__all__ = [
    "STATE",
    "AgentSpec",
    "ChannelSpec",
    "ClockSpec",
    "Coupling",
    "EnvSpec",
    "FeedbackSpec",
    "GradientSpec",
    "InputSpec",
    "LinkSpec",
    "NetworkSpec",
    "ObjectiveSpec",
]

STATE = "state"
"""The key of state channels."""
Coupling = Literal["locked", "delayed", "detached", "decoupled", "unlocked"]


def _or_none(given: InputSpec | None) -> InputSpec | None:
    return None if given is None or given.kind == "none" else given


class EnvSpec(Spec):
    """An environment by its registered id; all other keys are the environment's own.

    Attributes:
        id: A Gymnasium id such as `antiphon/Digits-v0`.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    id: Text

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the environment: plain data, lists as tuples."""
        return dict(self.model_extra or {})

    @model_validator(mode="before")
    @classmethod
    def _plain_data(cls, data: Any) -> Any:
        return frozen_data(data) if isinstance(data, Mapping) else data


class ClockSpec(Spec):
    """Clock of an agent: when it ticks and learns.

    Attributes:
        period: Steps from one tick to the next.
        phase: The step of its first tick; negative counts from the period's end (-1 is its last step).
        unroll: Ticks in a window, at whose end the agent learns; `episode` makes the window the episode.
    """

    period: Count = 1
    phase: Whole = 0
    unroll: Unroll = 1

    @model_validator(mode="after")
    def _phase_in_period(self) -> Self:
        if not -self.period <= self.phase < self.period:
            message = f"must be from {-self.period} to {self.period - 1} for period {self.period}"
            raise DocumentError(("phase",), f"{message}, not {self.phase}")
        return self


class ObjectiveSpec(Spec):
    """Objective of an agent.

    Attributes:
        kind: Cross-entropy (`classification`), squared error (`regression`), or code length of the
            target (`coding`): of a categorical one cross-entropy, of zeros and ones each component's own.
        target: The target signal.
        when: Whether each step of an example counts or only its last; None: last where
            examples are episodes, else each.
        weight: Factor of the loss.
    """

    kind: Literal["classification", "regression", "coding"]
    target: Signal
    when: Literal["each", "last"] | None = None
    weight: Annotated[float, Field(gt=0), IsReal] = 1.0


class LinkSpec(Spec):
    """Link: delay, loss, noise and quantisation of messages.

    Attributes:
        delay: Steps from sending to arrival.
        drop: The probability that a message is lost.
        noise: Standard deviation of the noise added to every component.
        bits: Bits per component, evenly spaced over the message's own range; None: not quantised.
        rate: The share of the sender's ticks that send, evenly spaced.
        back: Delay of the gradient back to the sender, in steps; None: as `delay`.
    """

    delay: Annotated[Index, Field(le=1024)] = 0
    drop: Annotated[float, Field(ge=0, le=1), IsReal] = 0.0
    noise: Annotated[float, Field(ge=0), IsReal] = 0.0
    bits: Annotated[Count, Field(le=16)] | None = None
    rate: Annotated[float, Field(gt=0, le=1), IsReal] = 1.0
    back: Annotated[Index, Field(le=1024)] | None = None


class ChannelSpec(Spec):
    """A directed channel, identified by (from, to, key).

    Attributes:
        sender: The agent whose messages it carries (`from` in documents).
        receiver: The agent that reads them (`to` in documents).
        key: Distinguishes parallel channels; that of a state is `state`.
        carries: Messages, or the state of a recurrent agent for its next tick (`from` and `to` are the same).
        size: Components of a message, or [channels, height, width]; None carries the sender's last
            hidden activation (built-in networks only).
        port: Channels of one sender that name the same port carry the same message.
        norm: Of the port; None: batch if the sender ticks once per example, else layer.
        coupling: How gradients cross it.
        gradient: Its synthetic gradient (`decoupled` and `unlocked` only).
        input: Its synthetic input: replaces a missing message (`decoupled`), or every message (`unlocked`).
        feedback: `locked` only: path of the gradient back; None: the receiver's own weights.
        read: How a slower receiver combines the messages since its last tick: the `last`, their `mean`, or
            all of them concatenated, oldest first (`concat`).
        link: Delay, loss, noise and quantisation of messages.
        staleness: `delayed` only: the windows after which an unfinished gradient is dropped.
    """

    sender: Name = Field(validation_alias=AliasChoices("from", "sender"))
    receiver: Name = Field(validation_alias=AliasChoices("to", "receiver"))
    key: Key = 0
    carries: Literal["message", "state"] = "message"
    size: Size = None
    port: Name | None = None
    norm: Norm | None = None
    coupling: Coupling = "decoupled"
    gradient: GradientSpec = GradientSpec()
    input: Annotated[InputSpec | None, AfterValidator(_or_none)] = None
    feedback: FeedbackSpec | None = None
    read: Literal["last", "mean", "concat"] = "last"
    link: LinkSpec = LinkSpec()
    staleness: Count = 16

    written: ClassVar[frozenset[str]] = frozenset({"coupling"})

    @model_validator(mode="before")
    @classmethod
    def _key_of_a_state(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("carries") == "state":
            return {"key": STATE, **data}
        return data

    @property
    def state(self) -> bool:
        """Whether the channel carries a state."""
        return self.carries == "state"

    @cached_property
    def name(self) -> str:
        """Name `a->b`, or `a->b:key` where the key is not 0."""
        return channel_name(self.sender, self.receiver, self.key)

    @cached_property
    def slug(self) -> str:
        """Name `a__to__b` or `a__to__b__key`, for tags and file names."""
        return channel_slug(self.sender, self.receiver, self.key)

    @property
    def order(self) -> tuple[str, str, bool, int | str]:
        """Sort key: from, to, key (numbers before words)."""
        return self.sender, self.receiver, isinstance(self.key, str), self.key


def _is_network(value: object) -> bool:
    return callable(value) and not isinstance(value, NetworkSpec)


class AgentSpec(Spec):
    """One independent network.

    Attributes:
        observes: The observed signals, in order; `age`: the ages of the messages that it reads.
        network: A built-in network, or from Python a module or a factory called with `inputs`, `outputs`.
        clock: When it ticks and learns.
        objective: Of the agent; None: only gradients from its channels.
        acts: Whether the objective's output is the environment's action.
        optimiser: Its own; None: `training.optimiser`.
        learn: False freezes its parameters.
        weights: `RUN:agent`, the source of its initial parameters.
        share: Agents of the same group have one set of parameters.
        align: The incoming channel whose stamp selects the observation and target; True: its first.
        fan_in: How the messages of its incoming channels are joined.
        p_update: The probability that it learns from a window.
    """

    observes: Signals = ()
    network: Annotated[NetworkSpec | Callable[..., Any], OrObject(NetworkSpec, _is_network)] = NetworkSpec()
    clock: ClockSpec = ClockSpec()
    objective: ObjectiveSpec | None = None
    acts: Flag = False
    optimiser: OptimiserSpec | None = None
    learn: Flag = True
    weights: Text | None = None
    share: Name | None = None
    align: Align = None
    fan_in: Literal["concat", "sum", "mean"] = "concat"
    p_update: Annotated[float, Field(gt=0, le=1), IsReal] = 1.0

    @model_validator(mode="after")
    def _weights_name_an_agent(self) -> Self:
        run, colon, agent = (self.weights or "run:agent").rpartition(":")
        if not (run and colon and agent):
            raise DocumentError(("weights",), f"must be RUN:agent, not {show_value(self.weights)}")
        return self
