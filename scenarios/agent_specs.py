"""An agent as a scenario declares it: network, clock, objective, and how its messages are joined."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, WrapValidator, model_validator

from antiphon.agents.rewards import COSINE
from antiphon.base.errors import suggest
from antiphon.base.extensions import name_of
from antiphon.base.kinds import Kind, KindName, KindSpec
from antiphon.base.problems import MISSING, DocumentError, Path, as_whole, show_value, within
from antiphon.base.spec import Count, FrozenMap, Name, OrObject, SignalName, SignalNames, Spec, in_words
from antiphon.scenarios.training import OptimiserSpec

if TYPE_CHECKING:
    from antiphon.agents.network import HiddenOptions

Norm = Literal["batch", "layer", "none"]
AGE = "age"
"""Observation of the age of each message read, in periods of its sender."""
POLICY_WINDOW = 16
"""Ticks in the window of an agent that learns from rewards and values, where its clock names none."""


Unroll = Annotated[Count | Literal["episode"], in_words("a whole number of ticks from 1, or 'episode'")]
_Probability = Annotated[float, Field(gt=0, le=1)]
Learn = Annotated[StrictBool | _Probability, in_words("true, false or a probability above 0 and at most 1")]
Acts = Annotated[
    StrictBool | SignalName,
    BeforeValidator(lambda part: str(part) if type(part) is int else part),  # a number of a Tuple
    in_words("true, or the key or number of a part of the action"),
]
Rewards = Annotated[
    Annotated[dict[SignalName, float], Field(min_length=1), AfterValidator(FrozenMap)] | None,
    BeforeValidator(lambda reward: {reward: 1.0} if isinstance(reward, str) else reward),
]
Align = Annotated[
    StrictBool | str | None,
    AfterValidator(lambda align: align or None),
    in_words("true or a channel such as 'a->b'"),
]


class NetworkSpec(KindSpec, sections=("network",)):
    """A network by name.

    Attributes:
        kind: `mlp`; `conv` for maps; `nature` for images and numbers; `pointer` to choose one of the candidates in its first observation; `rnn`, `leaky`,
            `gru` or `lstm`, with a state that is carried to the next tick; `posterior`, a `gru` that infers a latent; or a
            registered name.
    """

    kind: KindName = "mlp"

    if TYPE_CHECKING:
        own: HiddenOptions = HiddenOptions()

    point = "network"
    written: ClassVar[frozenset[str]] = frozenset({"kind"})
    recurrent: ClassVar[bool]
    on_maps: ClassVar[bool]
    sees_images: ClassVar[bool]
    returns_loss: ClassVar[bool]
    may_be_critic: ClassVar[bool]


def policy_network() -> NetworkSpec:
    """Return the default network of a policy with values, and of a critic."""
    keys = {"kind": "mlp", "hidden": [64, 64], "activation": "tanh", "norm": "none"}
    return NetworkSpec.model_validate(keys)


class ClockSpec(Spec):
    """Clock of an agent: when it ticks and learns.

    Attributes:
        period: Steps from one tick to the next.
        phase: The step of its first tick; negative counts from the period's end (-1 is its last step).
        unroll: Ticks in a window; the agent learns once, at the end of the window. With `episode` the window is the episode.
            Default with `a2c` and `ppo`: 16; of an agent that has credit from an acting one: that agent's.
    """

    period: Count = 1
    phase: int = 0
    unroll: Unroll = 1

    def always_written(self) -> frozenset[str]:  # its default depends on the objective
        return frozenset({"unroll"} & self.model_fields_set)

    def with_unroll(self, unroll: Unroll) -> Self:
        """Return this clock with a window of so many ticks, if none is given."""
        same = "unroll" in self.model_fields_set or unroll == self.unroll
        return self if same else self.model_copy(update={"unroll": unroll})

    @model_validator(mode="after")
    def _phase_in_period(self) -> Self:
        if not -self.period <= self.phase < self.period:
            message = f"must be from {-self.period} to {self.period - 1} for period {self.period}"
            raise DocumentError(("phase",), f"{message}, not {self.phase}")
        return self


class Observing(Spec):
    """Base of what observes signals.

    Attributes:
        observes: The observed signals, in order.
        normalise: Those of them whose numbers enter in units of their standard deviation from their mean, by running statistics
            that are part of the agent.
    """

    observes: SignalNames = ()
    normalise: SignalNames = ()

    @model_validator(mode="after")
    def _observes_what_it_normalises(self) -> Self:
        for i, name in enumerate(self.normalise):
            if name not in self.observes:
                raise DocumentError(
                    ("normalise", i), f"{name!r} is not observed{suggest(name, self.observes)}"
                )
        return self

    @property
    def normalised(self) -> tuple[int, ...]:
        """The places among its observations that are normalised."""
        return tuple(i for i, name in enumerate(self.observes) if name in self.normalise)


class CriticSpec(Observing):
    """A separate critic: a second network of an agent, which is used in training only.

    Attributes:
        observes: The observed signals, in order; training-only signals that are known at the tick are allowed.
        network: An `mlp`, a `conv` if all observed signals are images, or a `nature`; by default the default network of a policy.
    """

    observes: Annotated[SignalNames, Field(min_length=1)]
    network: NetworkSpec = Field(default_factory=policy_network)

    @model_validator(mode="after")
    def _feedforward(self) -> Self:
        if not self.network.may_be_critic:
            message = f"a critic needs a built-in network without a state; use mlp, conv or nature, not {self.network.kind}"
            raise DocumentError(("network", "kind"), message)
        return self


class GoalSpec(Spec):
    """A goal set by a message: the direction in which a signal should move (FeUdal Networks, Vezhnevets et al. 2017).

    It gives the reward `goal.cosine`: at each tick the cosine between the message read and the change of the signal until the
    next tick (eq. 8 of the paper, over one tick); 0 if the episode ends in between.

    Attributes:
        channel: The incoming channel whose message is the direction.
        observes: The observation that should move; it has the size of the message.
    """

    channel: str
    observes: SignalName


class ObjectiveSpec(KindSpec, sections=("objective",)):
    """Objective of an agent: the keys of every kind.

    Attributes:
        kind: `classification` (cross-entropy), `regression` (squared error), or `coding` (code length of the target:
            cross-entropy, or for targets of zeros and ones binary cross-entropy of each component). For agents that act:
            `a2c`, `ppo` or `reinforce` (policy gradients from the rewards of a window), or `q` (values of actions). Or a
            registered name, or from Python a function or module that returns the loss per sample; or `own_loss`, which a network
            of your own returns.
        target: The target signal; policies have none. With `own_loss` it is optional: it is where the loss counts.
        read: `each`: the output is scored at each step of an example; `last`: at its last step only. None: `last` if examples
            are episodes, else `each`.
        scale: Factor of the loss.
        reduction: `batchmean`: the losses of a window are summed over ticks and divided by the batch; `mean`: they are averaged
            over all that is present in the window: ticks, rows and sites with a target (`torch.nn.CrossEntropyLoss`).
        reward: Policies only: the reward signal, or weights of several by name (`goal.cosine` may be one of them); None:
            `reward.AGENT` of the agent that it acts for, or else of its name, if the environment has it, else `reward`.
        critic: `a2c` and `ppo` only: a separate critic; None: a value head on the agent's own network.
        goal: Policies only: the goal of the reward `goal.cosine`.
        mask: Policies only: a signal with a number for each choice, 0 where it is not legal; the agent observes it too.
    """

    kind: Kind
    target: SignalName | None = None
    read: Literal["each", "last"] | None = None
    scale: Annotated[float, Field(gt=0)] = 1.0
    reduction: Literal["batchmean", "mean"] = "batchmean"
    reward: Rewards = None
    critic: CriticSpec | None = None
    goal: GoalSpec | None = None
    mask: SignalName | None = None

    point = "objective"
    needs_rewards: ClassVar[bool]
    needs_value: ClassVar[bool]
    has_target: ClassVar[bool]
    of_network: ClassVar[bool]
    labels: ClassVar[bool]
    equal_in_group: ClassVar[tuple[str, ...]]

    @property
    def passes(self) -> int:
        return getattr(self.own, "passes", 1)

    @model_validator(mode="after")
    def _goal_and_target(self) -> Self:
        if not (self.needs_rewards or self.of_network) and self.target is None:
            message = f"{MISSING}; the objective {name_of(self.kind)} needs it: name a signal, such as label"
            raise DocumentError(("target",), message)
        if self.goal is None and COSINE in (self.reward or ()):
            message = f"{COSINE!r} needs a goal, such as {{channel: manager->worker, observes: position}}"
            raise DocumentError(("reward",), message)
        if self.goal is not None and COSINE not in (self.reward or ()):
            raise DocumentError(("goal",), f"is for the reward {COSINE!r}; give it a weight in `reward`")
        return self


def _one_or_several(value: object, _: object) -> ObjectiveSpec | tuple[ObjectiveSpec, ...] | None:
    """Read an objective, or a list of them; a list of one is that one."""
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        return ObjectiveSpec.model_validate(value)
    objectives = []
    for i, item in enumerate(value):
        with within((i,)):
            objectives.append(ObjectiveSpec.model_validate(item))
            if objectives[-1].reduction == "mean" and len(value) > 1:
                message = "mean is of a single objective; of several use batchmean, or an agent for each"
                raise DocumentError(("reduction",), message)
    return tuple(objectives) if len(objectives) > 1 else objectives[0] if objectives else None


class AgentSpec(Observing):
    """One independent network.

    Attributes:
        observes: The observed signals, in order; `age` is the age of each message that the agent reads.
        categories: How categorical observations enter the network: `one_hot`, or as indices (`index`).
        network: A built-in network, or from Python a module or a factory called with `inputs`, `outputs`. Default with `a2c`,
            `ppo` and `q`: two hidden layers of 64 tanh units without a norm.
        clock: When it ticks and learns.
        written_objective: Its objective; None: it learns only from the gradients of its channels. Of a list
            of objectives the losses are added, each times its `scale`, and the outputs are concatenated in this order.
        acts: Whether the objective's output is the environment's action: True, or the name of its part (key) of a Dict
            action space. The action of a policy is sampled.
        optimiser: Its optimiser; None: `training.optimiser`.
        learn: False freezes its parameters; a number is the probability that it learns from a window.
        parameters: `RUN:agent`: the run and agent from which its initial parameters are loaded.
        share: A group name; agents with the same name share one set of parameters.
        align: The incoming channel that selects the sample: observations and targets belong to the sample from which its
            message was computed. True: the first channel.
    """

    categories: Literal["one_hot", "index"] = "one_hot"
    network: Annotated[NetworkSpec | Callable[..., Any], OrObject(NetworkSpec, callable)] = Field(
        default_factory=NetworkSpec
    )
    clock: ClockSpec = ClockSpec()
    written_objective: Annotated[
        ObjectiveSpec | tuple[ObjectiveSpec, ...] | None,
        WrapValidator(_one_or_several),
        Field(validation_alias="objective"),
    ] = None
    acts: Acts = False
    optimiser: OptimiserSpec | None = None
    learn: Learn = True
    parameters: str | None = None
    share: Name | None = None
    align: Align = None

    @cached_property
    def objective(self) -> ObjectiveSpec | None:
        """Its only objective; None: it has none, or several."""
        return None if isinstance(self.written_objective, tuple) else self.written_objective

    @cached_property
    def objectives(self) -> dict[Path, ObjectiveSpec]:
        """Its objectives by path: one, several or none."""
        written = self.written_objective
        if isinstance(written, tuple):
            return {("objective", i): objective for i, objective in enumerate(written)}
        return {} if written is None else {("objective",): written}

    @cached_property
    def needs_rewards(self) -> bool:
        return self.objective is not None and self.objective.needs_rewards

    @cached_property
    def needs_value(self) -> bool:
        """Whether its objective learns a value function."""
        return self.objective is not None and self.objective.needs_value

    @cached_property
    def has_target(self) -> bool:
        """Whether a target network estimates the values of its objective."""
        return self.objective is not None and self.objective.has_target

    @property
    def critic(self) -> CriticSpec | None:
        """The critic of its objective; None: it has none of its own."""
        return None if self.objective is None else self.objective.critic

    @property
    def own_loss(self) -> bool:
        """Whether its network returns a loss, its last objective."""
        return any(goal.of_network for goal in self.objectives.values())

    @property
    def p_update(self) -> float:
        """The probability that it learns from a window."""
        return float(self.learn) or 1.0

    @cached_property
    def layers(self) -> NetworkSpec | None:
        """Its network if it is of a built-in kind; None: a user-defined one."""
        network = self.network
        return network if isinstance(network, NetworkSpec) and network.built_in else None

    @property
    def source(self) -> Any:
        """The module or factory of a user-defined network."""
        return self.network.source if isinstance(self.network, NetworkSpec) else self.network

    @property
    def state_size(self) -> int | None:
        """Components of the state that a user-defined network passes to its next tick: its attribute `state_size`, or 0.

        None: what a factory makes may have one, and is not made yet.
        """
        source = None if self.layers is not None else self.source
        size = as_whole(getattr(source, "state_size", None))
        made_yet = source is None or (hasattr(source, "named_parameters") and not isinstance(source, type))
        return max(size, 0) if size is not None else 0 if made_yet else None

    @property
    def has_state(self) -> bool:
        """Whether it has a state; one whose network is not made yet may have one."""
        return self.layers.recurrent if self.layers is not None else self.state_size != 0

    @property
    def trainable(self) -> bool:
        """Whether it may have parameters that learn; False: its module has none that requires a gradient, and nothing is beside it."""
        if self.layers is not None:
            return True
        source: Any = self.source
        if isinstance(source, type) or not hasattr(source, "named_parameters"):
            return True
        return self.critic is not None or any(
            parameter.requires_grad for _, parameter in source.named_parameters()
        )

    def always_written(self) -> frozenset[str]:  # their defaults differ for a policy
        return frozenset({"network", "clock"}) if self.needs_value else frozenset()

    @model_validator(mode="after")
    def _implied_by_objective(self) -> Self:
        if self.needs_value:
            if "network" not in self.model_fields_set:
                self.__dict__["network"] = policy_network()
            self.__dict__["clock"] = self.clock.with_unroll(POLICY_WINDOW)
        mask = None if self.objective is None else self.objective.mask
        if mask is not None and mask not in self.observes:
            self.__dict__["observes"] = (*self.observes, mask)
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        several = self.written_objective if isinstance(self.written_objective, tuple) else ()
        for i, objective in enumerate(several):
            if objective.needs_rewards or (objective.of_network and i < len(several) - 1):
                line = "of several objectives none is a policy, and own_loss is the last; give it to an agent of its own"
                raise DocumentError(("objective", i, "kind"), line)
        layers = self.layers
        if layers is not None and layers.returns_loss != self.own_loss:
            line = (
                "own_loss is the one objective of a network that returns a loss: of your own, or a posterior"
            )
            raise DocumentError(("objective",), f"{line}; change one of the two")
        if layers is not None and layers.returns_loss and len(self.objectives) > 1:
            raise DocumentError(
                ("objective",), f"own_loss is the one objective of {layers.kind}; leave out the others"
            )
        run, _, agent = ("run:agent" if self.parameters is None else self.parameters).rpartition(":")
        if not (run and agent):
            raise DocumentError(("parameters",), f"must be RUN:agent, not {show_value(self.parameters)}")
        return self
