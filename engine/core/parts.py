"""What a running scenario is made of: agents, channels, and the units that learn together.

Rows are what a tensor's first dimension counts: the environments [B]. A cohort (`engine.cohort`) is an agent too, whose
rows are (member, environment), [N * B]; the methods about rows, which change nothing here, are where the two differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from antiphon.agents.learner import Learner
from antiphon.agents.network import OBJECTIVE, STATE, Tensors
from antiphon.agents.objectives import Objective
from antiphon.comms.context import ContextSpec
from antiphon.comms.feedback import DirectFeedback
from antiphon.comms.inputs import InputModel
from antiphon.comms.outliers import Outliers
from antiphon.comms.predictors import Predictor
from antiphon.engine.core.clock import Clock, Windows
from antiphon.engine.core.ledger import Ledger
from antiphon.engine.core.message import Record
from antiphon.engine.core.signals import EnvMask
from antiphon.engine.core.tape import Tape
from antiphon.nets.optimisers import Rate
from antiphon.nets.random import uniform

__all__ = ["AGE", "AUXILIARY_PORT", "Agent", "Channel", "Goal", "Heard", "LearningGroup"]

AGE = "age"
"""What an agent observes to know how old the messages are that it reads."""
AUXILIARY_PORT = "future"
"""The port of the auxiliary task: what the synthetic gradient of the window's end will be (semantics 12)."""

_ONE = Rate(base=1.0, horizon=1)
Heard = tuple[Tensor | None, Tensor, Tensor | None]
"""Context [B, features], message as received [B, size], and where it arrived [B] (None: everywhere)."""


@dataclass(slots=True, eq=False)
class Channel:
    """One channel at run time."""

    name: str
    sender: str
    receiver: str
    port: str
    """The sender's port it reads."""
    shape: tuple[int, ...]
    """Of one message; on the way it is flat."""
    coupling: str
    ledger: Ledger
    zeros: Tensor
    """[B, size]: what a receiver reads before anything has come."""
    predictor: Predictor | None = None
    context: tuple[ContextSpec, ...] = ()
    """Signals of the environment that its predictor is conditioned on."""
    ends: tuple[str, ...] = ()
    """Signals of the channel's ends that its predictor is conditioned on."""
    target: str | None = None
    """The named target of a predictor with a loss of its own."""
    scale: Rate = _ONE
    discount: float = 1.0
    clip: float | None = None
    trace: float = 0.0
    span: int = 1
    """Windows that the returns of a state's gradient reach over (lambda-returns)."""
    auxiliary: float = 0.0
    """Weight of the auxiliary task: to foretell the synthetic gradient of the window's end (semantics 12)."""
    outliers: Outliers | None = None
    """Shortens what comes back for a state where it is out of all proportion."""
    propagate: float = 0.0
    apply: bool = True
    slots: int = 1
    """Messages that a tick reads side by side."""
    input: InputModel | None = None
    """Predicts the message, for the receiver."""
    input_context: tuple[ContextSpec, ...] = ()
    input_ends: tuple[str, ...] = ()
    heard: list[Heard] = field(default_factory=list)
    """What its synthetic input learns from at the end of the step."""
    direct: DirectFeedback | None = None
    """Carries an objective's error to the sender in place of backpropagation."""
    error_of: str = ""
    """The agent whose objective that is."""
    aligned: Tensors | None = None
    """Feedback alignment: the fixed weights that carry the gradient back, by the receiver's parameter."""
    predictor_disabled: bool = False
    """Whether its synthetic gradient has diverged: it learns no more, and injects nothing."""
    input_model_disabled: bool = False
    """Whether its synthetic input has diverged: it learns no more, and stands in for nothing."""

    # --- rows ----------------------------------------------------------------------------------------------

    def taken(self, port: Tensor) -> Tensor:
        """Return what the channel carries of its sender's port: [rows, …] of the channel."""
        return port

    def of_sender(self, lanes: EnvMask) -> EnvMask:
        """Return where the sender's rows are the channel's."""
        return lanes

    def of_receiver(self, rows: Tensor) -> Tensor:
        """Return the rows of its receiver as those of the channel."""
        return rows

    def to_sender(self, rows: Tensor) -> Tensor:
        """Return what the rows of the channel say of its sender's, added up."""
        return rows

    def spread(self, signal: Tensor) -> Tensor:
        """Return a signal of the environment, [B, …], for the channel's rows."""
        return signal

    def unsound(self, message: Tensor) -> EnvMask:
        """Return the rows in which a message would poison who reads it."""
        return not bool(message.isfinite().all())

    def heard_of(self, lanes: EnvMask) -> Tensor | None:
        """Return the members of which anything is in `lanes`; None: all there are."""
        del lanes
        return None

    def enabled_predictions(self, rows: Tensor) -> Tensor:
        """Return what its predictor says, without what members say whose predictor has diverged."""
        return rows

    def injectors(self, participates: EnvMask) -> Tensor | None:
        """Return the members on whose messages something was put; None: all there are.

        Args:
            drawn: The sender's rows that learned.
        """
        del participates
        return None

    def hear(self, context: Tensor | None, record: Record, arrived: Tensor | None) -> None:
        """Note what its synthetic input learns from at the end of the step."""
        self.heard.append((context, record.received, arrived))

    @property
    def hearing(self) -> EnvMask:
        """Where its synthetic input may stand in, if it may at all."""
        return True

    @property
    def who(self) -> tuple[str, ...]:
        """The channels that it is."""
        return (self.name,)

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.zeros)

    # --- what follows from its settings --------------------------------------------------------------------

    @property
    def injects(self) -> bool:
        """Whether its predictor's word is put on its messages."""
        said = self.apply and bool(self.scale.base or self.discount)
        return self.predictor is not None and said and not self.predictor_disabled

    @property
    def needs_returned_loss(self) -> bool:
        """Whether its predictor learns what its receiver loses."""
        return self.predictor is not None and self.predictor.needs_loss

    @property
    def mixes(self) -> bool:
        """Whether what is injected contains what comes back at the same step."""
        return self.injects and not self.state and bool(self.trace or self.propagate)

    @property
    def traced(self) -> bool:
        """Whether what its predictor learns from is a return over several windows."""
        return self.state and self.predictor is not None and self.trace > 0 and self.span > 1

    @property
    def state(self) -> bool:
        """Whether its messages are the states that an agent hands to its own next tick."""
        return self.ledger.state

    @property
    def size(self) -> int:
        """Components of one message."""
        return int(torch.Size(self.shape).numel())


@dataclass(frozen=True, slots=True)
class Goal:
    """An agent's objective bound to its target."""

    objective: Objective
    target: str
    last_only: bool
    weight: float


@dataclass(slots=True, eq=False)
class Agent:
    """One agent at run time."""

    name: str
    clock: Clock
    learner: Learner
    observes: tuple[str, ...]
    fan_in: str
    goal: Goal | None = None
    align: str | None = None
    """Name of the incoming channel whose moment the agent works on."""
    inputs: list[Channel] = field(default_factory=list)
    outputs: list[Channel] = field(default_factory=list)
    memory: Channel | None = None
    """What carries its state to its own next tick; None: it has none."""
    trail: dict[int, Tensor] | None = None
    """Its newest states by step, [B, state size], where predictors are conditioned on them; None: nobody asks."""
    looked_back: int = 0
    """Steps that the oldest state lies back for which one asks."""
    seed: int = 0
    """Of what a user's module draws."""
    p_update: float = 1.0
    """The probability that it learns from a window."""
    participation_seed: int = 0
    """Seed of those draws; tied agents have the same."""
    agent_disabled: EnvMask = False
    """Whether it has diverged: it learns no more, and its messages are void."""
    _draw: tuple[int, bool] = (-1, True)
    """The newest draw, with its window: it is asked for often."""
    _ports: tuple[str, ...] | None = field(default=None, init=False)
    """Asked for at every tick."""

    def participates(self, window: int) -> EnvMask:
        """Return the rows in which it learns from `window`: all or none."""
        if self.agent_disabled is True or self.p_update == 1.0:
            return self.agent_disabled is not True
        if self._draw[0] != window:
            self._draw = window, uniform(self.participation_seed, window, 1).item() < self.p_update
        return self._draw[1]

    def spread(self, signal: Tensor) -> Tensor:
        """Return a signal of the environment, [B, …], for the agent's rows."""
        return signal

    def total(self, rows: Tensor) -> Tensor:
        """Return a figure of its rows added up."""
        return rows.sum()

    @property
    def who(self) -> tuple[str, ...]:
        """The agents that it is."""
        return (self.name,)

    @property
    def stacked(self) -> bool:
        """Whether its parameters have a first dimension of agents."""
        return False

    def counts(self) -> list[int]:
        """Return the optimiser steps that each has taken."""
        return [self.learner.updates]

    @property
    def sees_ages(self) -> bool:
        """Whether it observes how old the messages are that it reads."""
        return AGE in self.observes

    @property
    def ports(self) -> tuple[str, ...]:
        """The ports somebody reads, once all its channels are there."""
        if self._ports is None:
            self._ports = self._read()
        return self._ports

    def _read(self) -> tuple[str, ...]:
        names = [channel.port for channel in self.outputs]
        if self.goal is not None:
            names.append(OBJECTIVE)
        if self.memory is not None:
            names.append(STATE)
            if self.memory.auxiliary:
                names.append(AUXILIARY_PORT)
        return tuple(dict.fromkeys(names))

    @property
    def channels(self) -> list[Channel]:
        """What leads to it, its memory included."""
        return self.inputs if self.memory is None else [*self.inputs, self.memory]


@dataclass(slots=True, eq=False)
class LearningGroup:
    """A maximal set of agents that learn as one network: joined by locked channels or by tied parameters.

    Attributes:
        members: Names, in canonical order.
        windows: Its windows.
        late: Whether a delayed channel leaves it, so that its windows wait for what comes back.
        staleness: How many windows a tape may wait.
        tape: The open window.
        pending: Windows that have ended and wait, oldest first.
        past: The newest windows learned from, oldest first, where returns reach over several.
        owners: The first agent of each learner, with how many members share it.
    """

    members: tuple[str, ...]
    windows: Windows
    owners: dict[str, int] = field(default_factory=dict)
    late: bool = False
    staleness: int = 0
    tape: Tape = field(default_factory=Tape)
    pending: list[Tape] = field(default_factory=list)
    past: list[Tape] = field(default_factory=list)
