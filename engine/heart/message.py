"""Records: the signals of a step, a message and its uses (semantics 17, 18), and the tape of an open window (15).

One run has one environment of B lanes. Several seeds that run as one have one each, and a signal is [replicas * B, …].

No autograd graph outlives its window, and none is ever stored: a fork, a checkpoint and a late learner replay the tape,
which gives the same bits as the first graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from antiphon.agents.network import Tensors
from antiphon.comms.model import ContextSpec, encode
from antiphon.comms.synthetic_gradients import Learned, ReturnedAction
from antiphon.engine.heart.clock import Windows
from antiphon.engine.heart.rows import EnvMask

__all__ = [
    "Action",
    "AgentTick",
    "Consumption",
    "Delivery",
    "EpisodeEnds",
    "LearningGroup",
    "Read",
    "Record",
    "ReplicaSignals",
    "StepSignals",
    "Tape",
    "Tick",
    "joined",
]

Action = Tensor | dict[str, Tensor]
"""What is done in the environment, [B, …]: by its one actor, or by part of a Dict action space."""

# --- a step ------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class StepSignals:
    """The signals of a step, shared by every record and tape that was made from them.

    Attributes:
        step: The environment step.
        signals: By name, [B, …]; those known only after the step are added when it has been taken.
        uniform: Masks, and ends of episodes, that hold in all environments or in none, as far as the host knows that.
    """

    step: int
    signals: dict[str, Tensor]
    uniform: dict[str, bool] = field(default_factory=dict)
    _encoded: dict[tuple[ContextSpec, ...], Tensor | None] = field(default_factory=dict)

    def context(self, specs: Sequence[ContextSpec], dtype: torch.dtype) -> Tensor | None:
        """Features [B, C] of a context, encoded once for all channels that use it."""
        key = tuple(specs)
        if key not in self._encoded:
            self._encoded[key] = encode(key, self.signals, dtype)
        return self._encoded[key]


@dataclass(slots=True, eq=False)
class ReplicaSignals(StepSignals):
    """One step of several replicas, each in an environment of its own; signals are [replicas * B, …].

    Attributes:
        each: The same step of each replica, [B, …].
    """

    each: Sequence[StepSignals] = ()

    def complete(self) -> None:
        """Add the signals that have become known since."""
        for name in dict.fromkeys(name for one in self.each for name in one.signals):
            if name not in self.signals:
                like = next(one.signals[name] for one in self.each if name in one.signals)
                # A mask that is absent holds everywhere.
                default = torch.ones_like(like) if name.startswith("_") else torch.zeros_like(like)
                self.signals[name] = torch.cat([one.signals.get(name, default) for one in self.each])


def joined(each: Sequence[StepSignals]) -> ReplicaSignals:
    """The signals of one step of several replicas, side by side."""
    step_signals = ReplicaSignals(each[0].step, {}, each=tuple(each))
    step_signals.complete()
    return step_signals


@dataclass(frozen=True, slots=True)
class EpisodeEnds:
    """Which environments' episodes ended at a step."""

    ended: EnvMask = False
    terminated: EnvMask = False
    """Those that ended for good, not by a limit of time."""


# --- a message ---------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Record:
    """One message: what was sent, and what has come back."""

    stamp: int
    message: Tensor
    """[B, size], as sent."""
    received: Tensor
    """[B, size], as it arrives: with the link's noise, in its bits."""
    step_signals: StepSignals
    """The signals it was made from."""
    first_use: int | None
    """First receiver tick that the schedule lets use it; None: it will be replaced unread."""
    waiting: set[int]
    """Receiver windows that may hold uses and have not closed."""
    deadline: int
    """Step after which an open record is an engine error."""
    returned: Tensor | None = None
    """[B, size]: the newest delta that had come back when it was sent, for predictors conditioned on it."""
    states: dict[str, Tensor] = field(default_factory=dict)
    """The states of the channel's ends when it was sent, [B, state size], for predictors conditioned on them."""
    began: int = 0
    """Step at which its episode began, where that is a window."""
    lost: Tensor | None = None
    """[B] bool: the environments in which the link lost it."""
    void: EnvMask = False
    """Environments whose episode ended since it was sent: there it is void from then on."""
    no_injection: EnvMask = False
    """Environments whose episode ended before it could be used: there nothing is injected either."""
    counted: EnvMask = False
    """Environments in which a use counted."""
    somewhere: bool | None = None
    """As of `Delivery`."""
    delta: Tensor | None = None
    """[B, size], per sample, accumulated over the counted uses."""
    loss: Tensor | None = None
    """[B]: what its receiver lost in the windows that used it, for critics."""
    actions: list[ReturnedAction] = field(default_factory=list)
    """What its receiver did at the ticks that read it, for `local_policy`: known only while its windows are learned from."""
    finished: int | None = None
    """Step at which its last window closed."""
    held_by_sender: bool = True
    """Whether the sender has still to learn from it."""
    graph_output: Tensor | None = None
    """The message with the sender's graph, while the sender's window is open."""
    prediction: tuple[Tensor, int] | None = None
    """What its predictor said of it, and after how many updates."""
    learned: Learned | None = None
    """What training its predictor on it gives, if computed with `prediction`."""
    spent: bool = False
    """Whether the message itself has been released (`GradientLedger.release_message`)."""

    @property
    def unread(self) -> bool:
        """Whether the schedule shows that a newer message replaces it before any tick."""
        return self.first_use is None

    @property
    def complete(self) -> bool:
        """Whether its delta is whole: all windows closed, at least one use counted."""
        return self.finished is not None and self.counted is not False


@dataclass(slots=True, eq=False)
class Consumption:
    """A record consumed within one receiver window: the leaf its gradient comes back on."""

    record: Record
    leaf: Tensor
    counted: EnvMask
    somewhere: bool | None = None
    """As of `Delivery`."""


@dataclass(slots=True)
class Delivery:
    """What a receiver tick finds on a channel."""

    record: Record | None
    """The record due, if any was sent."""
    value: Tensor | None
    """[B, size]; None: nothing has come, zeros."""
    available: EnvMask
    """Environments in which there is a message; zeros elsewhere."""
    counted: EnvMask
    """Environments in which it is the due message itself, or what stands in for it, and valid."""
    somewhere: bool | None = None
    """Whether `counted`, as a tensor, holds in any environment, as far as the host knows without a look at it."""
    stand_in_mask: EnvMask = False
    """Environments in which a synthetic input stands in for it."""
    step_signals: StepSignals | None = None
    """The signals that what is read was made from, where they are not the record's own in all environments."""


# --- a window ----------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Read:
    """What one agent consumed from one channel at one tick."""

    channel: str
    stamp: int | None
    """The stamp of a message made in the same window over a locked channel: it is passed on with its graph."""
    value: Tensor | None
    """[B, size], otherwise: the leaf, or a constant; None: zeros."""
    use: Consumption | None = None
    """The ledger's, whose leaf `value` is."""
    available: EnvMask = True
    """Environments in which there is a message."""


@dataclass(slots=True, eq=False)
class AgentTick:
    """One agent's share in a tick.

    Several reads of one channel, one after the other, are the messages that it reads side by side, oldest first.
    """

    agent: str
    step_signals: StepSignals
    """The signals it worked on (its own step's, or those its aligned message was made from)."""
    reads: list[Read]
    participates: EnvMask = True
    """The rows in which the agent learns from this window; in others what it reads is constant."""
    memory: Read | None = None
    """What a recurrent agent read of its own state; None for others."""
    ages: Tensor | None = None
    """[B, channels]: how old the messages are, for an agent that observes it."""
    action: Tensor | None = None
    """[rows, …]: what a policy's action was, as sampled; a replay has the same."""
    outcomes: list[StepSignals] = field(default_factory=list)
    """Of an agent with a policy: the steps from this one to its next tick, or the window's end."""
    ports: Tensors = field(default_factory=dict)
    """Its outputs, with their graph; empty once the window has closed."""
    sampled: Tensors = field(default_factory=dict)
    """What it sent over channels whose messages are sampled, [rows, size] each; a replayed window sends it again."""

    @property
    def consumed(self) -> list[Read]:
        """All that it read over channels, its own state among it."""
        return self.reads if self.memory is None else [*self.reads, self.memory]


@dataclass(slots=True, eq=False)
class Tick:
    """One evaluation of one learner's network: one agent, or several tied ones as one batch."""

    step: int
    parts: list[AgentTick]


@dataclass(slots=True, eq=False)
class Tape:
    """One window of one group.

    Attributes:
        window: Its number; -1 before its first tick.
        start: Running statistics of each learner, by its first agent, at the window's start.
        ticks: In the order they were made.
        sent: Records of the messages sent, by channel name, in order.
        graph_outputs: Messages of this window with their graph, by (channel, stamp).
        given_up: Delayed channels whose gradients were not complete within their staleness: the window is learned from
            without them.
    """

    window: int = -1
    start: dict[str, Tensors] = field(default_factory=dict)
    ticks: list[Tick] = field(default_factory=list)
    sent: list[tuple[str, Record]] = field(default_factory=list)
    graph_outputs: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)

    def consumptions(self) -> list[tuple[str, Consumption]]:
        """What its ticks consumed, each once, with the channels' names."""
        found = {
            entry.use: entry.channel
            for tick in self.ticks
            for part in tick.parts
            for entry in part.consumed
            if entry.use is not None
        }
        return [(channel, use) for use, channel in found.items()]


@dataclass(slots=True, eq=False)
class LearningGroup:
    """A maximal set of agents joined by locked channels or by tied parameters, or a stack of such sets.

    Attributes:
        members: Names, in canonical order.
        windows: Its windows.
        owners: The first agent of each learner, with how many agents share it.
        late: Whether a delayed channel leaves it, so that its windows wait for the returned gradient.
        staleness: How many windows a tape may wait: as long as the longest of its delayed channels.
        tape: The open window.
        pending: Windows that have ended and wait, oldest first.
        past: The newest windows learned from, oldest first, where returns reach over several.
    """

    members: tuple[str, ...]
    windows: Windows
    owners: dict[str, int] = field(default_factory=dict)
    late: bool = False
    staleness: int = 0
    tape: Tape = field(default_factory=Tape)
    pending: list[Tape] = field(default_factory=list)
    past: list[Tape] = field(default_factory=list)
