"""A channel as a scenario declares it: coupling, synthetic gradient and input, link, symbols."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from math import prod
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from antiphon.base.extensions import key_of, name_of
from antiphon.base.kinds import Kind, KindName, KindSpec
from antiphon.base.problems import DocumentError, show_value, within
from antiphon.base.spec import (
    AUTO,
    Count,
    Name,
    SignalName,
    SignalNames,
    Spec,
    channel_name,
    in_words,
)
from antiphon.comms.couplings import COUPLINGS, DEFAULT, Coupling, Detached
from antiphon.scenarios.training import OptimiserSpec

LONGEST_DELAY = 1024


Size = Annotated[
    Count | Annotated[tuple[Count, ...], Field(min_length=2, max_length=4, strict=False)] | None,
    in_words(
        "a whole number from 1, or up to four of them, such as [tokens, features] or [channels, height, width]"
    ),
]
Key = Annotated[
    Annotated[int, Field(ge=0)] | Name,
    AfterValidator(lambda key: int(key) if str(key).isdecimal() and str(int(key)) == key else key),
    in_words("a name, or a whole number from 0"),
]
_Steps = Annotated[int, Field(ge=0, le=LONGEST_DELAY)]
Delay = Annotated[
    _Steps | Annotated[tuple[_Steps, ...], Field(min_length=2, max_length=2, strict=False)] | Literal["auto"],
    in_words(f"a whole number of steps from 0 to {LONGEST_DELAY}, [there, back] or {AUTO}"),
]
Bits = Annotated[
    Annotated[int, Field(ge=1, le=16)] | Literal["auto"] | None,
    in_words(f"a whole number from 1 to 16, or {AUTO}"),
]


class CouplingSpec(KindSpec, sections=("coupling",)):
    """How gradients cross a channel.

    Attributes:
        kind: `locked`, `delayed`, `detached`, `decoupled` or `unlocked`; or a registered name, or from Python a subclass of
            `antiphon.comms.Coupling`.
    """

    kind: Kind = DEFAULT

    point = "coupling"
    written: ClassVar[frozenset[str]] = frozenset({"kind"})

    @model_validator(mode="after")
    def _is_a_coupling(self) -> Self:
        _ = self.made
        return self

    @cached_property
    def made(self) -> Coupling:
        """How gradients cross the channel; DocumentError where the factory makes something else."""
        if self.built_in:
            return COUPLINGS[name_of(self.kind)]
        name, coupling = name_of(self.kind), self.source(**self.options)
        if not isinstance(coupling, Coupling):
            line = f"{name} makes a {type(coupling).__name__}; make it a subclass of antiphon.comms.Coupling"
            raise DocumentError(("kind",), line)
        for key, value in (("name", name), ("options_key", key_of(self.kind, self.options)[1])):
            object.__setattr__(coupling, key, value)  # also of a frozen dataclass
        return coupling


_WITHOUT_OPTIONS = {name: CouplingSpec(kind=name) for name in COUPLINGS}
"""The specs of antiphon's own couplings, one for all channels."""


STATE = "state"
"""The key of state channels."""


class GradientSpec(KindSpec, sections=("gradient",)):
    """The synthetic gradient of a decoupled or unlocked channel, for messages or a state: the keys of every kind.

    Attributes:
        kind: Kind of predictor. `local` is the control: it predicts `target` from the message, and no gradient is returned.
            Or a registered name, or from Python a module or a factory called with `inputs`, `outputs`.
        context: Signals that condition it. None: of a kind in closed form, the targets of all objectives that the receiver's
            learning reaches, and what the sender observes; of others, none.
        scale: Factor of the injected gradient. If `scale` and `discount` are 0, it is trained but not applied (a shadow).
        discount: Factor of the prediction in the targets of other predictors that bootstrap from it.
        gate: Whether it is applied only as far as it predicts: `skill` compares it with what comes back, before it learns from
            that; where its skill is not beyond chance, the sender takes no step by it. `none`: it is always applied. `auto`:
            `skill` where the receiver learns from rewards and `passes` is `first`; `ridge` needs none.
        passes: The passes of a receiver with `ppo` or `q` in which sender and predictor learn: the `first`, or `all`, in which
            the sender's window is replayed beside the receiver's, with a new prediction for each minibatch.
        auxiliary: State channels only: weight of an auxiliary task of the agent, which predicts, after the first tick of a
            window, the synthetic gradient of the state at the end of the window.
        learn: False freezes its parameters; it is still applied.
        optimiser: Its optimiser; None: `training.predictor`.
    """

    kind: Kind = "ridge"
    context: SignalNames | None = None
    scale: Annotated[float, Field(ge=0)] = 1.0
    discount: Annotated[float, Field(ge=0, le=1)] = 1.0
    gate: Literal["auto", "skill", "none"] = "auto"
    passes: Literal["first", "all"] = "first"
    auxiliary: Annotated[float, Field(ge=0)] = 0.0
    learn: bool = True
    optimiser: OptimiserSpec | None = None

    point = "gradient"
    written: ClassVar[frozenset[str]] = frozenset({"kind"})
    needs_returned: ClassVar[bool]
    needs_loss: ClassVar[bool]
    has_own_loss: ClassVar[bool]
    closed_form: ClassVar[bool]

    @cached_property
    def own_target(self) -> str | None:
        """The target of the kind's own loss; None: it has none."""
        target: str | None = self.get("target")
        return target

    @property
    def learns_from_returns(self) -> bool:
        """Whether it learns from the gradient or loss that the receiver returns."""
        return self.needs_returned or self.needs_loss

    @property
    def apply(self) -> bool:
        """Whether its gradient is used; else it is a shadow, which is trained and measured."""
        return self.scale > 0 or self.discount > 0

    @property
    def direct(self) -> bool:
        """Whether the returned gradient is its only target."""
        return self.learns_from_returns and self.own_target is None


class InputSpec(KindSpec, sections=("input",)):
    """The synthetic input of a channel: the receiver's prediction of the message; the keys of every kind.

    Attributes:
        kind: Kind of predictor; `none`: no synthetic input, for templates. Or a registered name, or from Python a module or a
            factory called with `inputs`, `outputs`.
        context: Signals that condition it: observations, and `held`, `age`, `from.phase`, `to.phase`.
        learn: False freezes its parameters; it is still applied.
        optimiser: Its optimiser; None: `training.predictor`.
    """

    kind: Kind = "linear"
    context: SignalNames = ()
    learn: bool = True
    optimiser: OptimiserSpec | None = None

    point = "input"
    none: ClassVar[tuple[str, ...]] = ("none",)
    written: ClassVar[frozenset[str]] = frozenset({"kind"})


class LinkSpec(Spec):
    """Link: delay, loss, noise and quantisation of messages.

    Attributes:
        written_delay: Steps from sending to arrival, or [there, back] if the gradient takes another number
            of steps back to the sender. `auto`: 0 in one process; in parts the smallest number that hides the latency of the
            line between them (`Scenario.with_delay`).
        drop: The probability that a message is lost.
        noise: Standard deviation of the noise added to every component.
        written_bits: Bits per component; the levels are evenly spaced over the range of the message.
            None: not quantised. `auto`: not in one process; over a line between parts, as many as it carries in a step.
    """

    written_delay: Delay = Field(default=0, validation_alias="delay")
    drop: Annotated[float, Field(ge=0, le=1)] = 0.0
    noise: Annotated[float, Field(ge=0)] = 0.0
    written_bits: Bits = Field(default=None, validation_alias="bits")

    @model_validator(mode="after")
    def _chooses_for_levels(self) -> Self:
        if self.written_bits == AUTO and self.noise:
            raise DocumentError(
                ("bits",),
                "auto has no effect beside noise, with which messages cross as floats; leave out one of them",
            )
        return self

    @property
    def loses(self) -> bool:
        return self.drop > 0

    @cached_property
    def bits(self) -> int | None:
        return None if isinstance(self.written_bits, str) else self.written_bits

    @cached_property
    def delay(self) -> int:
        return self._way(0)

    @cached_property
    def back(self) -> int:
        """Steps of the gradient's way back to the sender."""
        return self._way(1)

    def _way(self, index: int) -> int:
        if isinstance(self.written_delay, str):
            return 0
        return self.written_delay if isinstance(self.written_delay, int) else self.written_delay[index]


class SampleSpec(KindSpec, sections=("sample",)):
    """How messages are sampled: the sender's port outputs the parameters of a distribution.

    Attributes:
        kind: `gumbel`, `argmax` or `reinforce`: messages are one-hot symbols, and the port outputs logits; `gaussian`:
            messages are vectors, and the port outputs their mean; `latent`: vectors too, and the port outputs means and log
            deviations. The sender's policy objective trains `reinforce` and `gaussian`.
    """

    kind: KindName

    point = "sample"

    @property
    def learned(self) -> bool:
        """Whether the sender's policy objective trains them, and no gradient crosses the channel."""
        return bool(getattr(self.runner, "learned", False))

    @property
    def parameters_per_component(self) -> int:
        """Components of the port for each component of a message."""
        return int(getattr(self.runner, "parameters_per_component", 1))

    @property
    def symbols(self) -> tuple[int, int] | None:
        """Positions and vocabulary of messages of symbols; None: they are vectors."""
        vocabulary = self.get("vocabulary")
        return None if vocabulary is None else (self.get("size", 1), vocabulary)


class ChannelSpec(Spec):
    """A directed channel, identified by (from, to, key).

    Attributes:
        sender: The agent whose messages it carries (`from` in scenario files).
        receiver: The agent that reads them (`to` in scenario files).
        key: Distinguishes parallel channels; `state`: the channel carries the state of a recurrent agent to its next tick
            (`from` and `to` are the same).
        size: Components of a message, or up to four axes such as [tokens, features] or [channels, height, width]. None: the
            message is the sender's last hidden activation (built-in networks only), or has the size of its symbols.
        port: Channels of one sender that name the same port carry the same message.
        norm: Normalisation of the port; `unit` divides a message by its Euclidean norm. None: batch if the sender ticks once per
            example, else layer, of 3 components or more; for symbols, and for 1 or 2 components otherwise, none.
        sample: How messages, such as symbols, are sampled from the port's output; None: the output is the message.
        written_coupling: How gradients cross the channel.
        gradient: Its synthetic gradient (`decoupled` and `unlocked` only).
        input: Its synthetic input: replaces a missing message (`decoupled`), or every message (`unlocked`).
        read: What a slower receiver reads of the messages since its last tick: the `last`, or all of them concatenated, oldest
            first (`concat`).
        link: Delay, loss, noise and quantisation of messages.
        mask: A signal of one number: no message is sent in the environments where it is 0 or less. None: in all there is one.
        horizon: `delayed` only: number of windows after which an unfinished gradient is dropped.
    """

    sender: Name = Field(validation_alias="from")
    receiver: Name = Field(validation_alias="to")
    key: Key = 0
    size: Size = None
    port: Name | None = None
    norm: Literal["batch", "layer", "unit", "none"] | None = None
    sample: SampleSpec | None = None
    written_coupling: Annotated[
        CouplingSpec,
        BeforeValidator(lambda word: _WITHOUT_OPTIONS.get(word, word) if isinstance(word, str) else word),
    ] = Field(default=_WITHOUT_OPTIONS[DEFAULT], validation_alias="coupling")
    gradient: GradientSpec = Field(default_factory=GradientSpec)
    input: Annotated[
        InputSpec | None, AfterValidator(lambda spec: None if spec is None or spec.kind == "none" else spec)
    ] = None
    read: Literal["last", "concat"] = "last"
    link: LinkSpec = LinkSpec()
    mask: SignalName | None = None
    horizon: Count = 16

    written: ClassVar[frozenset[str]] = frozenset({"written_coupling"})

    def as_written(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the plain data with a coupling without keys as a bare word."""
        coupling = data["coupling"]
        return {**data, "coupling": coupling["kind"] if len(coupling) == 1 else coupling}

    @model_validator(mode="before")
    @classmethod
    def _implied_by_samples(cls, data: Any) -> Any:
        """The size of symbols, and the coupling of messages that the sender's policy learns."""
        if not isinstance(data, Mapping) or data.get("sample") is None:
            return data
        with within(("sample",)):
            sample = SampleSpec.model_validate(data["sample"])
        implied: dict[str, Any] = {"coupling": Detached.name} if sample.learned else {}
        if sample.symbols is not None:
            implied["size"] = prod(sample.symbols)
        explicit = {key: value for key, value in data.items() if value is not None or key not in implied}
        return {**implied, **explicit, "sample": sample}

    @model_validator(mode="after")
    def _samples_fit(self) -> Self:
        if self.symbols is not None and self.size not in (prod(self.symbols), self.symbols):
            size, vocabulary = self.symbols
            product = f"vocabulary * size = {vocabulary} * {size}"
            message = f"symbols have {product} components, not {show_value(self.size)}"
            raise DocumentError(("size",), f"{message}; leave it out")
        if self.sample is not None and self.sample.parameters_per_component > 1 and self.size is None:
            raise DocumentError(("size",), f"is missing; give the {self.sample.kind} message a size")
        crosses = self.coupling.joins_endpoints or self.coupling.gives_credit
        if self.sample is not None and self.sample.learned and crosses:
            message = f"the sender's policy objective learns messages of kind {self.sample.kind}, and no gradient crosses"
            raise DocumentError(
                ("coupling",),
                f"{message}: make it {Detached.name}, not {self.coupling.name}, or sample symbols by gumbel",
            )
        return self

    @cached_property
    def coupling(self) -> Coupling:
        return self.written_coupling.made

    @cached_property
    def state(self) -> bool:
        return self.key == STATE

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The declared shape of a message; None: it is a state, or the sender's last hidden activation."""
        return (self.size,) if isinstance(self.size, int) else self.size

    @property
    def port_components(self) -> int | None:
        """Components of the port that it reads; None: it is a state, or the sender's last hidden activation."""
        if self.shape is None:
            return None
        return prod(self.shape) * (1 if self.sample is None else self.sample.parameters_per_component)

    def slots(self, sender_period: int, receiver_period: int) -> int:
        """Return the messages that a tick of the receiver reads."""
        return max(1, receiver_period // sender_period) if self.read == "concat" else 1

    @property
    def learned_by_policy(self) -> bool:
        return self.sample is not None and self.sample.learned

    @property
    def symbols(self) -> tuple[int, int] | None:
        return None if self.sample is None else self.sample.symbols

    @cached_property
    def is_read(self) -> bool:
        """Whether the receiver can read a message or its synthetic input; else nothing can return."""
        return self.link.drop != 1 or (self.coupling.predicts and self.input is not None)

    @property
    def credits_alone(self) -> bool:
        """Whether the sender has credit that needs no gradient of the receiver: by a loss of the predictor's own, or by a coupling
        that uses neither a returned gradient nor a prediction."""
        coupling, gradient = self.coupling, self.gradient
        if coupling.predicts:
            local_loss = gradient.own_target is not None and self.is_read
            return gradient.apply and (not gradient.learns_from_returns or local_loss)
        needs_none = not (coupling.joins_endpoints or coupling.uses_returned)
        return coupling.gives_credit and needs_none and self.is_read

    @property
    def credits_from_receiver(self) -> bool:
        """Whether the sender has credit from gradients of the receiver, returned, predicted or through a graph."""
        coupling, gradient = self.coupling, self.gradient
        predicted = coupling.predicts and gradient.apply and gradient.learns_from_returns
        return coupling.joins_endpoints or ((coupling.uses_returned or predicted) and self.is_read)

    @property
    def replayed(self) -> bool:
        """Whether its sender learns in the further passes of its receiver too (`gradient.passes`)."""
        return self.gradient.passes == "all" and self.gradient.apply and self.coupling.predicts

    @cached_property
    def name(self) -> str:
        return channel_name(self.sender, self.receiver, self.key)

    @cached_property
    def slug(self) -> str:
        """Its name for tags and file names: `a__to__b` or `a__to__b__key`."""
        slug = f"{self.sender}__to__{self.receiver}"
        return slug if self.key == 0 else f"{slug}__{self.key}"

    @property
    def order(self) -> tuple[str, str, bool, int | str]:
        """Sort key: from, to, key (numbers before words)."""
        return self.sender, self.receiver, isinstance(self.key, str), self.key
