"""The parts of a scenario: environment, agents and channels, each an immutable, validated declaration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, AliasChoices, ConfigDict, Field, model_validator

from antiphon.scenarios.fields import (
    Align,
    Count,
    Counts,
    Flag,
    Index,
    IsReal,
    Key,
    Name,
    Sequence,
    Signal,
    Signals,
    Size,
    Text,
    Unroll,
    Whole,
    frozen_data,
)
from antiphon.scenarios.names import channel_name, channel_slug
from antiphon.scenarios.problems import DocumentError, show_value
from antiphon.scenarios.spec import OrObject, Spec
from antiphon.scenarios.training import OptimiserSpec, ScheduleSpec

__all__ = [
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

Coupling = Literal["locked", "delayed", "detached", "decoupled", "unlocked"]
Norm = Literal["batch", "layer", "none"]
_HIDDEN = {"mlp": (1024,), "conv": (64,), "critic": (256,), "sobolev": (256,)}
"""The hidden layers of the kinds that have some unless told otherwise."""


def _with_hidden(data: Any, by_kind: Mapping[str, tuple[int, ...]]) -> Any:
    """Return a predictor's document with the hidden layers of its kind where it names none."""
    keys = {"kind": data} if isinstance(data, str) else data
    if isinstance(keys, Mapping) and isinstance(keys.get("kind"), str) and keys["kind"] in by_kind:
        return {"hidden": by_kind[keys["kind"]], **keys}
    return data


class EnvSpec(Spec):
    """An environment by its registered id; all other keys are the environment's own.

    Attributes:
        id: A Gymnasium id such as `antiphon/Digits-v0`.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    id: Text

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keys that go to the environment: plain data, lists as tuples."""
        return dict(self.model_extra or {})

    @model_validator(mode="before")
    @classmethod
    def _plain_data(cls, data: Any) -> Any:
        return frozen_data(data) if isinstance(data, Mapping) else data


class NetworkSpec(Spec):
    """A built-in network.

    Attributes:
        kind: `mlp`, or `conv` for images.
        hidden: Widths of the hidden layers (`mlp`), or filters of the convolutions (`conv`).
        norm: After every hidden layer; None: batch if the agent ticks once per example, else layer.
        activation: After every norm; `identity` makes the network linear.
        filter: `conv` only: height and width of the filters, in pixels.
        pool: `conv` only: what follows each convolution; one per layer, or none at all.
    """

    kind: Literal["mlp", "conv"] = "mlp"
    hidden: Counts = (128,)
    norm: Norm | None = None
    activation: Literal["relu", "tanh", "gelu", "identity"] = "relu"
    filter: Count = 5
    pool: Annotated[tuple[Literal["max", "avg", "none"], ...], Sequence] = ()

    bare: ClassVar[str | None] = "kind"
    written: ClassVar[frozenset[str]] = frozenset({"kind", "hidden"})

    @model_validator(mode="after")
    def _conv_fits(self) -> Self:
        if self.kind == "conv" and not self.hidden:
            raise DocumentError(("hidden",), "a conv network needs at least one layer of filters")
        if self.pool and len(self.pool) != len(self.hidden):
            layers = f"{len(self.hidden)} hidden layer" + ("" if len(self.hidden) == 1 else "s")
            raise DocumentError(("pool",), f"has {len(self.pool)} entries for {layers}; give one for each")
        return self


class ClockSpec(Spec):
    """When an agent ticks and learns.

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
    """What an agent is trained for.

    Attributes:
        kind: Cross-entropy (`classification`) or squared error (`regression`).
        target: The signal it should give.
        when: Whether each step of an example counts or only its last; None: last where
            examples are episodes, else each.
        weight: What the loss is multiplied by.
    """

    kind: Literal["classification", "regression"]
    target: Signal
    when: Literal["each", "last"] | None = None
    weight: Annotated[float, Field(gt=0), IsReal] = 1.0


class GradientSpec(Spec):
    """The synthetic gradient of a decoupled or unlocked channel.

    Attributes:
        kind: What predicts it; `local` is the control (a predictor of `target`; nothing returned).
        context: Signals that condition it.
        target: `local` and `sobolev_label` only: the signal its own loss is on.
        scale: What the injected gradient is multiplied by.
        schedule: How `scale` moves over the training; None keeps it.
        discount: What the prediction is multiplied by inside targets further up.
        clip: The largest norm, per sample, of what is injected; None: no limit.
        apply: False trains it without using it (a shadow).
        trace: Share of the gradient that comes back at once in what is injected (lambda of BP(lambda)).
        propagate: Share of the predictor's own loss that reaches the sender.
        hidden: Widths of its hidden layers, or their filters (`conv`).
        filter: `conv` only: height and width of the filters, in pixels.
        norm: After each hidden layer.
        optimiser: Its own; None: `training.predictor`.
    """

    kind: Literal["linear", "mlp", "conv", "critic", "sobolev", "sobolev_label", "local"] = "linear"
    context: Signals = ()
    target: Signal | None = None
    scale: Annotated[float, Field(ge=0), IsReal] = 1.0
    schedule: ScheduleSpec | None = None
    discount: Annotated[float, Field(ge=0), IsReal] = 1.0
    clip: Annotated[float, Field(gt=0), IsReal] | None = None
    apply: Flag = True
    trace: Annotated[float, Field(ge=0, le=1), IsReal] = 0.0
    propagate: Annotated[float, Field(ge=0), IsReal] = 0.0
    hidden: Annotated[tuple[Count, ...], Field(max_length=2), Sequence] = ()
    filter: Count = 5
    norm: Norm = "batch"
    optimiser: OptimiserSpec | None = None

    bare: ClassVar[str | None] = "kind"
    written: ClassVar[frozenset[str]] = frozenset({"kind"})

    @model_validator(mode="before")
    @classmethod
    def _hidden_by_kind(cls, data: Any) -> Any:
        return _with_hidden(data, _HIDDEN)

    @model_validator(mode="after")
    def _mlp_is_deep(self) -> Self:
        if self.kind == "mlp" and not self.hidden:
            raise DocumentError(
                ("hidden",), "an mlp gradient has one or two hidden layers; or use kind linear"
            )
        return self


class InputSpec(Spec):
    """The synthetic input of a channel: what its receiver expects the message to be.

    Attributes:
        kind: What predicts it; `none` is as if there were no synthetic input, for templates.
        context: What it is predicted from: observations, and `held`, `age`, `from.phase`, `to.phase`.
        hidden: Widths of its hidden layers: one or two for `mlp` (default 1024).
        norm: After each hidden layer.
        optimiser: Its own; None: `training.predictor`.
    """

    kind: Literal["linear", "mlp", "none"] = "linear"
    context: Signals = ()
    hidden: Annotated[tuple[Count, ...], Field(max_length=2), Sequence] = ()
    norm: Norm = "batch"
    optimiser: OptimiserSpec | None = None

    bare: ClassVar[str | None] = "kind"
    written: ClassVar[frozenset[str]] = frozenset({"kind"})

    @model_validator(mode="before")
    @classmethod
    def _hidden_by_kind(cls, data: Any) -> Any:
        return _with_hidden(data, {"mlp": _HIDDEN["mlp"]})

    @model_validator(mode="after")
    def _mlp_is_deep(self) -> Self:
        if self.kind == "mlp" and not self.hidden:
            raise DocumentError(("hidden",), "an mlp input has one or two hidden layers; or use kind linear")
        return self


def _or_none(given: InputSpec | None) -> InputSpec | None:
    return None if given is None or given.kind == "none" else given


class FeedbackSpec(Spec):
    """What carries the gradient back over a locked channel in place of the receiver's weights.

    Attributes:
        kind: `fa`: a fixed random matrix in place of the receiver's first layer; `dfa`: the error of an objective
            through a fixed random matrix; `kickback`: that error through a matrix of ones.
        of: `dfa` and `kickback` only: the agent whose objective it is; None: the scenario's only readout.
    """

    kind: Literal["fa", "dfa", "kickback"]
    of: Name | None = None

    bare: ClassVar[str | None] = "kind"


class LinkSpec(Spec):
    """What happens to a message on the way.

    Attributes:
        delay: Steps from sending to arrival.
        drop: The probability that a message is lost.
        noise: Standard deviation of what is added to every component.
        bits: Bits per component, evenly spaced over the message's own range; None: not quantised.
        rate: The share of the sender's ticks that send, evenly spaced.
    """

    delay: Annotated[Index, Field(le=1024)] = 0
    drop: Annotated[float, Field(ge=0, le=1), IsReal] = 0.0
    noise: Annotated[float, Field(ge=0), IsReal] = 0.0
    bits: Annotated[Count, Field(le=16)] | None = None
    rate: Annotated[float, Field(gt=0, le=1), IsReal] = 1.0


class ChannelSpec(Spec):
    """A directed channel, known by (from, to, key).

    Attributes:
        sender: The agent whose messages it carries (`from` in documents).
        receiver: The agent that reads them (`to` in documents).
        key: Tells parallel channels apart.
        size: Components of a message, or [channels, height, width]; None carries the sender's last
            hidden activation (built-in networks only).
        port: Channels of one sender that name the same port carry the same message.
        norm: Of the port; None: batch if the sender ticks once per example, else layer.
        coupling: How learning signal crosses it.
        gradient: Its synthetic gradient (`decoupled` and `unlocked` only).
        input: Its synthetic input: stands in where a message is missing (`decoupled`), or always (`unlocked`).
        feedback: `locked` only: what carries the gradient back; None: the receiver's own weights.
        link: What happens to messages on the way.
        staleness: `delayed` only: the windows after which an unfinished gradient is given up.
    """

    sender: Name = Field(validation_alias=AliasChoices("from", "sender"))
    receiver: Name = Field(validation_alias=AliasChoices("to", "receiver"))
    key: Key = 0
    size: Size = None
    port: Name | None = None
    norm: Norm | None = None
    coupling: Coupling = "decoupled"
    gradient: GradientSpec = GradientSpec()
    input: Annotated[InputSpec | None, AfterValidator(_or_none)] = None
    feedback: FeedbackSpec | None = None
    link: LinkSpec = LinkSpec()
    staleness: Count = 16

    written: ClassVar[frozenset[str]] = frozenset({"coupling"})

    @cached_property
    def name(self) -> str:
        """`a->b`, or `a->b:key` where the key is not 0."""
        return channel_name(self.sender, self.receiver, self.key)

    @cached_property
    def slug(self) -> str:
        """`a__to__b` or `a__to__b__key`, for tags and file names."""
        return channel_slug(self.sender, self.receiver, self.key)

    @property
    def order(self) -> tuple[str, str, bool, int | str]:
        """What channels are sorted by: from, to, key (numbers before words)."""
        return self.sender, self.receiver, isinstance(self.key, str), self.key


def _is_network(value: object) -> bool:
    return callable(value) and not isinstance(value, NetworkSpec)


class AgentSpec(Spec):
    """One independent network.

    Attributes:
        observes: The signals it sees, in order.
        network: A built-in network, or from Python a module or a factory called with `inputs`, `outputs`.
        clock: When it ticks and learns.
        objective: What it is trained for; None: only what its channels bring.
        optimiser: Its own; None: `training.optimiser`.
        learn: False keeps its parameters.
        weights: `RUN:agent`, where its first parameters are read from.
        share: Agents of the same group have one set of parameters.
        align: The incoming channel whose stamp's observation and target it is given; True: its first.
        fan_in: How the messages of its incoming channels are joined.
        p_update: The probability that it learns from a window.
    """

    observes: Signals = ()
    network: Annotated[NetworkSpec | Callable[..., Any], OrObject(NetworkSpec, _is_network)] = NetworkSpec()
    clock: ClockSpec = ClockSpec()
    objective: ObjectiveSpec | None = None
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
