"""The parts of a scenario: environment, agents, networks, channels and their predictors, each an immutable, validated
declaration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from antiphon.extensions import Catalogue, is_built_in, name_of
from antiphon.scenarios.problems import DocumentError, show_value
from antiphon.scenarios.spec import (
    Acts,
    Align,
    Count,
    Counts,
    Flag,
    FrozenMap,
    HeadModule,
    Index,
    IsReal,
    Key,
    KindSpec,
    Name,
    Options,
    OrObject,
    ParameterNames,
    Registered,
    Rewards,
    Sequence,
    Signal,
    Signals,
    Size,
    Spec,
    Text,
    Unroll,
    Whole,
    channel_name,
    channel_slug,
    frozen_data,
    plain,
)
from antiphon.scenarios.training import OptimiserSpec, ScheduleSpec

__all__ = [
    "COSINE",
    "LOCAL_POLICY",
    "OWN_TARGET",
    "POLICIES",
    "STATE",
    "UNRETURNED",
    "VALUED",
    "AgentSpec",
    "ChannelSpec",
    "ClockSpec",
    "Coupling",
    "CriticSpec",
    "EnvSpec",
    "FeedbackSpec",
    "GoalSpec",
    "GradientSpec",
    "InputSpec",
    "LinkSpec",
    "NetworkSpec",
    "Norm",
    "ObjectiveSpec",
    "PortNorm",
    "ReconstructionSpec",
    "SampleSpec",
    "SymbolsSpec",
]

Norm = Literal["batch", "layer", "none"]
PortNorm = Literal["batch", "layer", "unit", "none"]
_FAN_IN = {"anyOf": [{"type": "string"}, {"type": "object"}]}
_RECURRENT = ("rnn", "leaky", "gru", "lstm")


class NetworkSpec(KindSpec):
    """A network by name.

    Attributes:
        kind: `mlp`; `conv` for images; `pointer` to choose one of its first observation's candidates; or with a state carried to the next tick: `rnn`, `leaky`, `gru`, `lstm`; or a
            registered name.
        options: Of a registered network.
        hidden: Widths of the hidden layers (`mlp`, `pointer`), or filters of the convolutions (`conv`).
        size: Units of the cell (recurrent kinds), or components of the embeddings (`pointer`).
        encoder: Recurrent kinds only: widths of the hidden layers before the cell.
        norm: After every hidden layer, those of the encoder included; None: batch if the agent ticks once per
            example, else layer.
        cell_norm: Recurrent kinds only: inside the cell (`batch`: recurrent batch norm, Cooijmans et al. 2016).
        leak: `leaky` only: the weight of the new activation in each tick's state.
        activation: After every norm; `identity` makes the network linear.
        filter: `conv` only: height and width of the filters, in pixels.
        pool: `conv` only: pooling after each convolution; one per layer, or none at all.
    """

    kind: Annotated[str, Registered("network")] = "mlp"
    options: Options = Field(default_factory=FrozenMap)
    hidden: Counts = (128,)
    size: Count = 128
    encoder: Counts = ()
    norm: Norm | None = None
    cell_norm: Norm = "none"
    leak: Annotated[float, Field(gt=0, le=1), IsReal] = 0.5
    activation: Literal["relu", "tanh", "gelu", "identity"] = "relu"
    filter: Count = 5
    pool: Annotated[tuple[Literal["max", "avg", "none"], ...], Sequence] = ()

    point = "network"
    bare: ClassVar[str | None] = "kind"

    @property
    def recurrent(self) -> bool:
        """Whether a state is carried to the next tick."""
        return self.kind in _RECURRENT

    def always_written(self) -> frozenset[str]:
        """Return the fields of kind and size."""
        if self.own:
            return frozenset({"kind"})
        return frozenset(
            {"kind", "size" if self.recurrent else "hidden"} | ({"size"} if self.kind == "pointer" else set())
        )

    @model_validator(mode="after")
    def _conv_fits(self) -> Self:
        if self.kind == "conv" and not self.hidden:
            raise DocumentError(("hidden",), "a conv network needs at least one layer of filters")
        if self.pool and len(self.pool) != len(self.hidden):
            layers = f"{len(self.hidden)} hidden layer" + ("" if len(self.hidden) == 1 else "s")
            raise DocumentError(("pool",), f"has {len(self.pool)} entries for {layers}; give one for each")
        return self


class _PredictorSpec(KindSpec):
    """Base of synthetic gradients and inputs: hidden layers by kind."""

    default_hidden: ClassVar[Mapping[str, tuple[int, ...]]]
    """Hidden layers of each kind that has some, where none are named."""
    noun: ClassVar[str]

    bare: ClassVar[str | None] = "kind"
    written: ClassVar[frozenset[str]] = frozenset({"kind"})

    @model_validator(mode="before")
    @classmethod
    def _hidden_by_kind(cls, data: Any) -> Any:
        keys = {"kind": data} if isinstance(data, str) else data
        if isinstance(keys, Mapping) and keys.get("kind") in list(cls.default_hidden):
            return {"hidden": cls.default_hidden[keys["kind"]], **keys}
        return data

    @model_validator(mode="after")
    def _mlp_is_deep(self) -> Self:
        if getattr(self, "kind", None) == "mlp" and not getattr(self, "hidden", None):
            message = f"an mlp {self.noun} has one or two hidden layers; or use kind linear"
            raise DocumentError(("hidden",), message)
        return self


OWN_TARGET = ("local", "sobolev_label")
"""Kinds of gradients with a target of their own."""
UNRETURNED = ("local", "lens")
"""Kinds to which nothing is returned."""


LOCAL_POLICY = "local_policy"
"""The kind of gradients that follows the receiver's actions."""


class ReconstructionSpec(Spec):
    """A second term of a local loss: reconstruction of a signal from the message (InfoPro, Wang et al. 2021, 2101.10832).

    Attributes:
        target: The signal, such as the sender's observation: squared error of floats, cross-entropy of classes.
        head: The decoder, from Python: a module from the message in its own shape to the signal's, or a factory called
            with `shape` and `outputs`; None: a linear map.
        weight: Factor of the term.
    """

    target: Signal
    head: HeadModule = None
    weight: Annotated[float, Field(gt=0), IsReal] = 1.0


class GradientSpec(_PredictorSpec):
    """The synthetic gradient of a decoupled or unlocked channel, of a message or of a state.

    Attributes:
        kind: Of the predictor; `local` is the control (a predictor of `target`; nothing returned); `lens` is the loss of an
            agent at the message, through layers whose parameters are other agents'; `local_policy`, the control of
            policies, is a policy of the sender's own on the message, trained by what the receiver did and got. A registered name, or from Python a
            module or a factory called with `inputs`, `outputs`.
        options: Of a registered predictor.
        context: Signals that condition it; left out, of symbols what the sender observes.
        target: `local` and `sobolev_label` only: the signal its own loss is on.
        head: `local`, `sobolev_label` and `lens` only, from Python: a module from the message in its own shape to the
            target's outputs, or a factory called with `shape` and `outputs`. It reads no context.
        pool: `local` and `sobolev_label` only: `mean` over a message's sites (the T of [T, D], the pixels of [C, H, W])
            before the own loss.
        reconstruct: `local` only: a second term of the loss, the reconstruction of a signal from the message.
        of: `lens` only: the agent whose objective it takes; None: the scenario's only readout.
        parameters: `lens` only: by parameter of `head`, the "agent.parameter" whose present values it has; those left out
            are of the same name in `of`.
        normalise: `layer` predicts from the layer-normalised message, and at it: the gradient is pulled back through the
            norm.
        residual: Adds a linear prediction to that of the hidden layers.
        scale: Factor of the injected gradient.
        schedule: Of `scale` over the training; None: constant.
        discount: Factor of the prediction inside targets further up.
        clip: The largest norm, per sample, of the injected gradient; None: no limit.
        apply: False trains it without injecting its gradient (a shadow).
        trace: Lambda of BP(lambda). Of a message: the share of the gradient returned at once in the injected
            one. Of a state: how far the target reaches beyond the next prediction.
        span: State channels only: the windows over which `trace` reaches.
        auxiliary: State channels only: the weight of an auxiliary task of the agent: to predict, after a window's
            first tick, the synthetic gradient of the state at its end.
        propagate: Share of the predictor's own loss that reaches the sender.
        hidden: Widths of its hidden layers, or their filters (`conv`).
        filter: `conv` only: height and width of the filters, in pixels.
        norm: After each hidden layer.
        sites: Whether one small predictor is applied at every token of messages [tokens, features], or every pixel of
            maps; None: at every token, and to maps as a whole.
        learn: False freezes its parameters; it is applied all the same.
        optimiser: Its own; None: `training.predictor`.
    """

    kind: Annotated[str | Callable[..., Any], Registered("predictor")] = "linear"
    options: Options = Field(default_factory=FrozenMap)
    context: Signals = ()
    target: Signal | None = None
    head: HeadModule = None
    pool: Literal["mean", "none"] = "none"
    reconstruct: ReconstructionSpec | None = None
    of: Name | None = None
    parameters: ParameterNames = Field(default_factory=FrozenMap)
    normalise: Literal["layer", "none"] = "none"
    residual: Flag = False
    scale: Annotated[float, Field(ge=0), IsReal] = 1.0
    schedule: ScheduleSpec | None = None
    discount: Annotated[float, Field(ge=0), IsReal] = 1.0
    clip: Annotated[float, Field(gt=0), IsReal] | None = None
    apply: Flag = True
    trace: Annotated[float, Field(ge=0, le=1), IsReal] = 0.0
    span: Annotated[Count, Field(le=8)] = 4
    auxiliary: Annotated[float, Field(ge=0), IsReal] = 0.0
    propagate: Annotated[float, Field(ge=0), IsReal] = 0.0
    hidden: Annotated[tuple[Count, ...], Field(max_length=2), Sequence] = ()
    filter: Count = 5
    norm: Norm = "batch"
    sites: Flag | None = None
    learn: Flag = True
    optimiser: OptimiserSpec | None = None

    default_hidden = {"mlp": (1024,), "conv": (64,), "critic": (256,), "sobolev": (256,)}  # noqa: RUF012
    noun = "gradient"
    point = "predictor"

    def always_written(self) -> frozenset[str]:
        """Return the kind, and a context that is given as empty: of symbols the default is another."""
        given = "context" in self.model_fields_set and not self.context
        return self.written | ({"context"} if given else frozenset())


class InputSpec(_PredictorSpec):
    """The synthetic input of a channel: the receiver's prediction of the message.

    Attributes:
        kind: Of the predictor; `none`: no synthetic input, for templates. A registered name, or from Python a module or a
            factory called with `inputs`, `outputs`.
        options: Of a registered predictor.
        context: Signals that condition it: observations, and `held`, `age`, `from.phase`, `to.phase`.
        hidden: Widths of its hidden layers: one or two for `mlp` (default 1024).
        norm: After each hidden layer.
        sites: Whether one small model is applied at every token or pixel, as of a gradient.
        learn: False freezes its parameters; it is applied all the same.
        optimiser: Its own; None: `training.predictor`.
    """

    kind: Annotated[str | Callable[..., Any], Registered("input", extra=("none",))] = "linear"
    options: Options = Field(default_factory=FrozenMap)
    context: Signals = ()
    hidden: Annotated[tuple[Count, ...], Field(max_length=2), Sequence] = ()
    norm: Norm = "batch"
    sites: Flag | None = None
    learn: Flag = True
    optimiser: OptimiserSpec | None = None

    default_hidden = {"mlp": (1024,)}  # noqa: RUF012
    noun = "input"
    point = "input"


class FeedbackSpec(Spec):
    """Feedback path of the gradient over a locked channel, in place of the receiver's weights.

    Attributes:
        kind: `fa`: a fixed random matrix in place of the receiver's first layer; `dfa`: the error of an objective
            through a fixed random matrix; `kickback`: that error through a matrix of ones.
        of: `dfa` and `kickback` only: the agent whose objective it is; None: the scenario's only readout.
    """

    kind: Literal["fa", "dfa", "kickback"]
    of: Name | None = None

    bare: ClassVar[str | None] = "kind"


STATE = "state"
"""The key of state channels."""
Coupling = Literal["locked", "delayed", "detached", "decoupled", "unlocked"]


def _or_none(given: InputSpec | None) -> InputSpec | None:
    return None if given is None or given.kind == "none" else given


class EnvSpec(Spec):
    """An environment by one of three names; all other keys are the environment's own.

    Attributes:
        id: An id of antiphon's, such as `antiphon/Digits-v0`, or one that is registered with it.
        gymnasium: An id of Gymnasium's registry, such as `CartPole-v1`, after `module:` where a module registers it. Other
            keys: `vectorization_mode` (sync, async or vector_entry_point), `autoreset` (same_step, next_step or disabled)
            and arguments of the environment.
        pettingzoo: The module of a PettingZoo world with a `parallel_env`, such as `mpe2.simple_speaker_listener_v4`; other
            keys are arguments of the world.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    id: Text | None = None
    gymnasium: Text | None = None
    pettingzoo: Text | None = None

    @property
    def name(self) -> str:
        """The name by which the document has the environment."""
        return self.id or self.gymnasium or self.pettingzoo or ""

    @model_validator(mode="after")
    def _one_name(self) -> Self:
        given = [key for key in ("id", "gymnasium", "pettingzoo") if getattr(self, key) is not None]
        if not given:
            raise DocumentError(("id",), "is missing; give id, gymnasium or pettingzoo")
        if len(given) > 1:
            raise DocumentError(
                (given[1],), f"the environment has the name {given[0]} already; leave one out"
            )
        return self

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the environment: plain data, lists as tuples."""
        return dict(self.model_extra or {})

    @model_validator(mode="before")
    @classmethod
    def _plain_data(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        if "file" in data:
            from antiphon.envs.registry import with_paths

            data = with_paths(data, Path.cwd())
        return frozen_data(data)


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


POLICIES = ("a2c", "ppo", "reinforce")
"""Kinds of objectives that learn from rewards what to do."""
VALUED = ("a2c", "ppo")
"""Those that learn a value."""
COSINE = "goal.cosine"
"""The reward of an agent with a `goal`."""


class CriticSpec(Spec):
    """A critic of its own: a second network of a learning agent, which is not there when the agent is deployed.

    Attributes:
        observes: The observed signals, in order; training-only signals that are known at the tick may be among them.
        network: An `mlp`, or a `conv` where all that it observes are images.
    """

    observes: Annotated[Signals, Field(min_length=1)]
    network: NetworkSpec = NetworkSpec()

    @model_validator(mode="after")
    def _feedforward(self) -> Self:
        if self.network.kind not in ("mlp", "conv"):
            message = f"a critic keeps no state and is no module of your own; use mlp or conv, not {self.network.kind}"
            raise DocumentError(("network", "kind"), message)
        return self


_POLICY_OPTIONS = ("discount", "trace", "entropy", "value", "clip", "epochs", "minibatches")


class GoalSpec(Spec):
    """A goal that a message sets: the direction in which a signal is to move (FeUdal Networks, Vezhnevets et al. 2017).

    It gives the reward `goal.cosine`: at each tick the cosine of the message read and the signal's change to the next tick
    (there eq. 8, over one tick); 0 where the episode ends between them.

    Attributes:
        channel: The incoming channel whose message is the direction.
        signal: The observation that moves, as large as the message.
    """

    channel: Text
    signal: Signal


class ObjectiveSpec(KindSpec):
    """Objective of an agent.

    Attributes:
        kind: Cross-entropy (`classification`), squared error (`regression`), or code length of the
            target (`coding`): of a categorical one cross-entropy, of zeros and ones each component's own. For agents that
            act, the rewards over a window (`a2c`, `ppo`, `reinforce`). A registered name, or from Python a function or
            module that returns the loss per sample.
        options: Of a registered objective.
        target: The target signal; those of rewards have none.
        when: Whether each step of an example counts or only its last; None: last where
            examples are episodes, else each.
        weight: Factor of the loss.
        reward: Of policies: the reward's signal, or weights of several by name (`goal.cosine` among them); None:
            `reward.AGENT` where the environment has it, else `reward`.
        discount: Of policies: factor of what follows, per tick of the agent; None: 0.99.
        trace: `a2c` and `ppo` only: the lambda of generalised advantages; None: 0.95.
        entropy: Of policies: weight of the entropy bonus; None: 0.01.
        value: `a2c` and `ppo` only: weight of the value's squared error; None: 0.5.
        clip: `ppo` only: how far the ratio of probabilities may move from 1; None: 0.2.
        epochs: `ppo` only: passes over a window; None: 4.
        minibatches: `ppo` only: parts of the environments in each pass after the first; None: 4.
        critic: `a2c` and `ppo` only: a critic of its own; None: a value head on the agent's own network.
        goal: Of policies: what the reward `goal.cosine` is made of.
    """

    kind: Annotated[str | Callable[..., Any], Registered("objective")]
    options: Options = Field(default_factory=FrozenMap)
    target: Signal | None = None
    when: Literal["each", "last"] | None = None
    weight: Annotated[float, Field(gt=0), IsReal] = 1.0
    reward: Rewards = None
    discount: Annotated[float, Field(ge=0, le=1), IsReal] | None = None
    trace: Annotated[float, Field(ge=0, le=1), IsReal] | None = None
    entropy: Annotated[float, Field(ge=0), IsReal] | None = None
    value: Annotated[float, Field(ge=0), IsReal] | None = None
    clip: Annotated[float, Field(gt=0), IsReal] | None = None
    epochs: Count | None = None
    minibatches: Count | None = None
    critic: CriticSpec | None = None
    goal: GoalSpec | None = None

    point = "objective"

    @property
    def policy(self) -> bool:
        """Whether it learns from rewards what to do."""
        return self.kind in POLICIES

    @property
    def valued(self) -> bool:
        """Whether a value is learned."""
        return self.kind in VALUED

    @property
    def in_words(self) -> str:
        """Kind and target, or rewards."""
        of = self.target or " + ".join(self.reward or ("reward",))
        return f"{name_of(self.kind)} of {of}"

    def policy_options(self) -> dict[str, Any]:
        """Return the options of a policy by name; None where left out."""
        return {name: getattr(self, name) for name in _POLICY_OPTIONS}

    @model_validator(mode="after")
    def _fields_of_the_kind(self) -> Self:
        policy = self.policy
        used = ("target", "when") if policy else (*_POLICY_OPTIONS, "reward", "critic", "goal")
        for field in used:
            if getattr(self, field) is not None:
                why = "learns from rewards" if policy else f"is no policy ({', '.join(POLICIES)})"
                raise DocumentError((field,), f"{name_of(self.kind)} {why} and has no {field}; leave it out")
        if not policy and self.target is None:
            raise DocumentError(("target",), "is missing")
        if policy and self.critic is not None and not self.valued:
            raise DocumentError(("critic",), f"{name_of(self.kind)} learns no value; leave it out")
        if self.goal is None and COSINE in (self.reward or ()):
            message = f"{COSINE!r} needs a goal, such as {{channel: manager->worker, signal: position}}"
            raise DocumentError(("reward",), message)
        if self.goal is not None and COSINE not in (self.reward or ()):
            raise DocumentError(("goal",), f"is for the reward {COSINE!r}; give it a weight in `reward`")
        return self


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


class SymbolsSpec(Spec):
    """Messages of symbols: the sender's port holds logits, and the message is one-hot at every position.

    Attributes:
        vocabulary: Symbols at each position.
        length: Positions of a message.
        by: `gumbel`: sampled, with a straight-through gradient (Gumbel-softmax); `argmax`: the most probable symbols, with a
            straight-through gradient; `reinforce`: sampled, and learned by the sender's policy objective.
        temperature: Of the softmax that the straight-through gradient passes to (`gumbel` and `argmax`).
    """

    vocabulary: Annotated[Count, Field(ge=2)]
    length: Count = 1
    by: Literal["gumbel", "argmax", "reinforce"] = "gumbel"
    temperature: Annotated[float, Field(gt=0), IsReal] = 1.0

    @property
    def components(self) -> int:
        """Components of a message: vocabulary * length."""
        return self.vocabulary * self.length

    @model_validator(mode="after")
    def _temperature_is_used(self) -> Self:
        if self.by == "reinforce" and self.temperature != 1.0:
            raise DocumentError(
                ("temperature",), "is of gumbel and argmax; leave it out, or use one of these"
            )
        return self


class SampleSpec(Spec):
    """Messages sampled around what the sender computes, and learned by its policy objective.

    Attributes:
        deviation: Standard deviation of each component.
    """

    deviation: Annotated[float, Field(gt=0), IsReal]


class ChannelSpec(Spec):
    """A directed channel, identified by (from, to, key).

    Attributes:
        sender: The agent whose messages it carries (`from` in documents).
        receiver: The agent that reads them (`to` in documents).
        key: Distinguishes parallel channels; that of a state is `state`.
        carries: Messages, or the state of a recurrent agent for its next tick (`from` and `to` are the same).
        size: Components of a message, or up to four axes such as [tokens, features] or [channels, height, width];
            None carries the sender's last hidden activation (built-in networks only); of symbols, vocabulary * length.
        port: Channels of one sender that name the same port carry the same message.
        norm: Of the port; `unit` divides a message by its length; None: batch if the sender ticks once per example, else
            layer; of symbols, none.
        symbols: Messages are one-hot symbols; None: what the port holds.
        sample: Messages are sampled around what the port holds; None: they are that.
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
    norm: PortNorm | None = None
    symbols: SymbolsSpec | None = None
    sample: SampleSpec | None = None
    coupling: Coupling = "decoupled"
    gradient: GradientSpec = GradientSpec()
    input: Annotated[InputSpec | None, AfterValidator(_or_none)] = None
    feedback: FeedbackSpec | None = None
    read: Literal["last", "mean", "concat"] = "last"
    link: LinkSpec = LinkSpec()
    staleness: Count = 16

    written: ClassVar[frozenset[str]] = frozenset({"coupling"})

    def always_written(self) -> frozenset[str]:
        """Return the coupling, and a gradient whose context is given as empty."""
        given = "context" in self.gradient.always_written()
        return self.written | ({"gradient"} if given else frozenset())

    @model_validator(mode="before")
    @classmethod
    def _key_of_a_state(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("carries") == "state":
            return {"key": STATE, **data}
        return data

    @model_validator(mode="before")
    @classmethod
    def _implied_by_samples(cls, data: Any) -> Any:
        """The size of symbols, and the coupling of messages that the sender's policy learns."""
        if not isinstance(data, Mapping):
            return data
        symbols, implied = data.get("symbols"), dict[str, Any]()
        if isinstance(symbols, SymbolsSpec):
            symbols = plain(symbols)
        if isinstance(symbols, Mapping):
            product = symbols.get("vocabulary"), symbols.get("length", 1)
            if all(type(number) is int and number > 0 for number in product):
                implied["size"] = prod(product)
            if symbols.get("by") == "reinforce":
                implied["coupling"] = "detached"
        if data.get("sample") is not None:
            implied["coupling"] = "detached"
        return {
            **implied,
            **{key: value for key, value in data.items() if value is not None or key not in implied},
        }

    @model_validator(mode="after")
    def _samples_fit(self) -> Self:
        symbols = self.symbols
        if symbols is not None:
            if self.sample is not None:
                raise DocumentError(("sample",), "symbols are sampled themselves; leave it out")
            if self.size not in (symbols.components, (symbols.length, symbols.vocabulary)):
                product = f"{symbols.vocabulary} * {symbols.length}"
                message = (
                    f"symbols have vocabulary * length = {product} components, not {show_value(self.size)}"
                )
                raise DocumentError(("size",), f"{message}; leave it out")
        if self.learned_by_policy and self.coupling != "detached":
            what = "sample" if symbols is None else "symbols by reinforce"
            message = f"the sender's policy objective learns messages of {what}, and no gradient crosses"
            raise DocumentError(
                ("coupling",), f"{message}: make it detached, not {self.coupling}, or use symbols by gumbel"
            )
        return self

    @property
    def state(self) -> bool:
        """Whether the channel carries a state."""
        return self.carries == "state"

    @property
    def learned_by_policy(self) -> bool:
        """Whether its messages are samples that the sender's policy objective learns."""
        return self.sample is not None or (self.symbols is not None and self.symbols.by == "reinforce")

    @property
    def sampling_in_words(self) -> str:
        """How messages are made of what the port holds: `2 symbols of 16 by gumbel`; empty: they are that."""
        if self.sample is not None:
            return f"sampled, deviation {self.sample.deviation:g}"
        symbols = self.symbols
        if symbols is None:
            return ""
        return f"{symbols.length} symbol{'s'[: symbols.length - 1]} of {symbols.vocabulary} by {symbols.by}"

    def at_sites(self, predictor: GradientSpec | InputSpec) -> bool:
        """Return whether a predictor of its messages is applied at every token or pixel."""
        tokens = isinstance(self.size, tuple) and len(self.size) == 2
        return tokens if predictor.sites is None else predictor.sites

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


class FanInSpec(KindSpec):
    """An aggregation with options: how the messages of an agent's incoming channels are joined.

    Attributes:
        kind: `attention`, a registered name, or from Python a class.
        options: Of its factory.
    """

    kind: Annotated[str | Callable[..., Any], Registered("aggregation")]
    options: Options = Field(default_factory=FrozenMap)

    point = "aggregation"


def _fan_in(value: object) -> object:
    """Read a fan-in: a name stays a word where it has no options."""
    spec = value if isinstance(value, FanInSpec) else None
    if isinstance(value, Mapping):
        spec = FanInSpec.model_validate(value)
    if spec is None:
        return Registered("aggregation").checked(value)
    return spec if spec.options else spec.kind


def _is_network(value: object) -> bool:
    return callable(value) and not isinstance(value, NetworkSpec)


class AgentSpec(Spec):
    """One independent network.

    Attributes:
        observes: The observed signals, in order; `age`: the ages of the messages that it reads.
        categories: How categorical observations enter the network: `one_hot`, or as their values (`index`).
        network: A built-in network, or from Python a module or a factory called with `inputs`, `outputs`.
        clock: When it ticks and learns.
        objective: Of the agent; None: only gradients from its channels.
        acts: Whether the objective's output is the environment's action: True, or the part of a Dict of actions that is
            the agent's. That of a policy is sampled.
        optimiser: Its own; None: `training.optimiser`.
        learn: False freezes its parameters.
        weights: `RUN:agent`, the source of its initial parameters.
        share: Agents of the same group have one set of parameters.
        align: The incoming channel whose stamp selects the observation and target; True: its first.
        fan_in: How the messages of its incoming channels are joined: `concat`, `sum`, `mean`, `attention`, a registered name,
            or from Python an aggregation; with options as `{kind: attention, options: {heads: 2}}`.
        p_update: The probability that it learns from a window.
    """

    observes: Signals = ()
    categories: Literal["one_hot", "index"] = "one_hot"
    network: Annotated[NetworkSpec | Callable[..., Any], OrObject(NetworkSpec, _is_network)] = NetworkSpec()
    clock: ClockSpec = ClockSpec()
    objective: ObjectiveSpec | None = None
    acts: Acts = False
    optimiser: OptimiserSpec | None = None
    learn: Flag = True
    weights: Text | None = None
    share: Name | None = None
    align: Align = None
    fan_in: Annotated[
        str | FanInSpec | Callable[..., Any], PlainValidator(_fan_in), WithJsonSchema(_FAN_IN)
    ] = "concat"
    p_update: Annotated[float, Field(gt=0, le=1), IsReal] = 1.0

    @property
    def aggregation(self) -> FanInSpec | None:
        """What joins its messages by an aggregation of its own; None: `concat`, `sum` or `mean`."""
        fan_in = self.fan_in
        if is_built_in("aggregation", fan_in.kind if isinstance(fan_in, FanInSpec) else fan_in):
            return None  # of most agents: it is asked several times of each, and a spec would be validated each time
        return fan_in if isinstance(fan_in, FanInSpec) else FanInSpec(kind=fan_in)

    @property
    def layers(self) -> NetworkSpec | None:
        """Its network, where that is of a built-in kind; None: a user's."""
        network = self.network
        return network if isinstance(network, NetworkSpec) and not network.own else None

    @property
    def source(self) -> Any:
        """The module or factory of a user's network."""
        network = self.network
        return Catalogue("network")[str(network.kind)] if isinstance(network, NetworkSpec) else network

    @property
    def state_size(self) -> int:
        """Components of the state that a user's network hands to its next tick: its attribute `state_size`, or 0."""
        size = 0 if self.layers is not None else getattr(self.source, "state_size", 0)
        return size if isinstance(size, int) and size > 0 else 0

    @model_validator(mode="after")
    def _weights_name_an_agent(self) -> Self:
        run, colon, agent = (self.weights or "run:agent").rpartition(":")
        if not (run and colon and agent):
            raise DocumentError(("weights",), f"must be RUN:agent, not {show_value(self.weights)}")
        return self
