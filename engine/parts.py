"""What a running scenario is made of: agents, channels, and the units that learn together."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from antiphon.agents.learner import Learner
from antiphon.agents.network import OBJECTIVE
from antiphon.agents.objectives import Objective
from antiphon.comms.context import ContextSpec
from antiphon.comms.predictors import Predictor
from antiphon.engine.clock import Clock, Windows
from antiphon.engine.ledger import Ledger
from antiphon.engine.tape import Tape

__all__ = ["Agent", "Channel", "Goal", "Unit"]


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
    """Signals its predictor is conditioned on."""
    sees_returned: bool = False
    """Whether it is conditioned on the newest delta that came back too."""
    target: str | None = None
    """The named target of a `local` predictor."""
    scale: float = 1.0
    discount: float = 1.0
    apply: bool = True

    @property
    def injects(self) -> bool:
        """Whether its predictor's word is put on its messages."""
        return self.predictor is not None and self.apply and bool(self.scale or self.discount)

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
    seed: int = 0
    """Of what a user's module draws."""

    @property
    def ports(self) -> tuple[str, ...]:
        """The ports somebody reads."""
        names = [channel.port for channel in self.outputs]
        if self.goal is not None:
            names.append(OBJECTIVE)
        return tuple(dict.fromkeys(names))


@dataclass(slots=True, eq=False)
class Unit:
    """A maximal set of agents that learn as one network: joined by locked channels or by tied parameters.

    Attributes:
        members: Names, in canonical order.
        windows: Its windows.
        late: Whether a delayed channel leaves it, so that its windows wait for what comes back.
        staleness: How many windows a tape may wait.
        tape: The open window.
        pending: Windows that have ended and wait, oldest first.
        owners: The first agent of each learner, with how many members share it.
    """

    members: tuple[str, ...]
    windows: Windows
    owners: dict[str, int] = field(default_factory=dict)
    late: bool = False
    staleness: int = 0
    tape: Tape = field(default_factory=Tape)
    pending: list[Tape] = field(default_factory=list)
