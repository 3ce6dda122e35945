"""What a step is made of: signals, messages, reads, ticks, windows and learning groups (rules 15, replay; 17, the ledger; 18, reads).

    class                      what it is                                      made in a step by
    StepSignals                what the environment shows at one step          engine/environment.py, at every step
    EpisodeEnds                where episodes ended with a step                engine/environment.py, after every step
    Content                    port and shape of a channel's messages          the builder, once
    Message                    one message of a stack of channels              `Ledger.send`
    ReadPlan                   when a message is read (clock.py)               `Ledger.send`, by its timetable
    Fate                       where a message is lost or void                 `Ledger.send`
    Returned                   what receivers have returned for a message      with the message, empty; whole for a last state (ledger.py)
    Arrival                    what has reached a tick over a channel          `Ledger.arrivals`; a feature at the point `stand_in`
    Leaf, PassedOn, Constant   one read of a tick, by what is differentiated   `ForwardPass.as_read`; a first Constant: `ForwardPass._new_tick`
    Tick                       one evaluation of an agent's network            `ForwardPass._new_tick`
    Window                     consecutive ticks that are learned from at once `LearningGroup.next_window`, as the one before ends
    LearningGroup              agents that learn as one network                the builder, once

Masks of rows that go with a message. Where nothing is lost, no episode ends and all learn, they are `NONE` and `ALL`:

    mask               set by                                      where it holds
    Fate.lost          `Ledger.send`; `Fate.lose`, between parts   the link lost the message
    Fate.void          `Ledger.send`, `Ledger.end_episodes`        it is read as zeros: its episode has ended since it was sent, or
                                                                   as it was sent an endpoint was not alive or its mask signal 0
    Fate.withheld      `Ledger.send`, `Ledger.end_episodes`        it is void since before its first tick: no tick has read it
    Fate.unsent        `Ledger.send`                               it was void as it was sent: nothing crossed the link
    Message.missing    computed from these                         it is lost or void
    Arrival.available  `Ledger.arrivals`; the point `stand_in`     a tick has a value to read: the message, an older one that is
                                                                   held, or a synthetic input; elsewhere it reads zeros
    Arrival.synthetic  the point `stand_in`                        that value is a synthetic input
    Arrival.counted    `Ledger.arrivals`; the point `stand_in`     that value is the due message, or a synthetic input in its place
    Leaf.counted       `ForwardPass.as_read`                       the same, and the receiver learns from the tick's window
    Returned.counted   `Returned.add`; `Ledger._last_state`        a leaf that read the message has counted
    Example.valid      `PredictorTrainer.example`; stand_ins.py    a predictor learns from the message (comms/examples.py)

Times are steps of the environment, counted from 0. A run has B environments, and [rows, …] has a row for each (member of a
stack, environment). Several seeds that run as one have B environments each, and a signal is [seeds * B, …].

No autograd graph outlives the step at which its window is learned from, and none is ever stored: a fork, a checkpoint and a late
learner replay the window's ticks. Of a fork or checkpoint this gives the same bits as the first graph; a late learner replays
with its present parameters, which may have moved since.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from antiphon.agents.network import Tensors
from antiphon.base.mask import ALL, NONE, Mask
from antiphon.comms.backward_requests import constant
from antiphon.comms.examples import ContextSpec, ReturnedAction, encode
from antiphon.engine.heart.clock import ReadPlan, WindowGrid
from antiphon.engine.heart.layout import LearningRows
from antiphon.engine.heart.notes import Notes, copied
from antiphon.engine.heart.roles import MASK, NESTED, NOTES, PLAIN, ROWS, SIGNALS, record
from antiphon.envs.signal import ALIVE

if TYPE_CHECKING:
    from antiphon.comms.symbols import MessageSampler

Action = Tensor | dict[str, Tensor]
"""What is done in the environment, [B, …]; of several actors, by their entries of the Dict action space."""

# --- a step ------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class StepSignals:
    """The signals of a step, shared by every message and tick that was made from them.

    Attributes:
        step: The environment step.
        signals: Signals by name, [B, …]; those known only after the step are added when it has been taken. `_x` is the mask of `x`:
            where it is present, for all of it or by site; without one it is present everywhere.
        uniform: Masks, and ends of episodes, that the environment has declared `ALL` or `NONE`: no look at the device is needed.
    """

    step: int
    signals: dict[str, Tensor]
    uniform: dict[str, Mask] = field(default_factory=dict)
    _encoded: dict[tuple[ContextSpec, ...], Tensor | None] = field(default_factory=dict)
    _present: dict[str, Mask] = field(default_factory=dict)
    """The masks of `present` that are not uniform, by signal: whether they hold anywhere has been looked up, once."""
    _not_positive: dict[str, Mask] = field(default_factory=dict)
    """The masks of `not_positive`, by signal, in the same way."""

    def present(self, name: str) -> Mask:
        """Return where the environment shows a signal, [B]; of a signal with sites: where it shows any site."""
        mask_rows = self.signals.get(f"_{name}")
        if mask_rows is None:
            return ALL
        uniform = self.uniform.get(f"_{name}")
        if uniform is not None:
            return uniform
        if name not in self._present:
            mask = Mask.of(mask_rows if mask_rows.dim() == 1 else mask_rows.flatten(1).any(1))
            self._present[name] = mask if mask.anywhere else NONE
        return self._present[name]

    def present_sites(self, name: str) -> Tensor | None:
        """Return the sites, or components, that a signal has, [B, *S] bool; None: all, in the rows where it is present."""
        mask = self.signals.get(f"_{name}")
        return None if mask is None or mask.dim() == 1 else mask

    def not_alive(self, life: str) -> Mask:
        """Return where an agent of the environment is dead or has not come yet, [B]."""
        return self.not_positive(f"{ALIVE}.{life}")

    def not_positive(self, name: str) -> Mask:
        """Return where a signal of one number is 0 or less, [B]; of a signal that the environment does not show: nowhere."""
        value = self.signals.get(name)
        if value is None:
            return NONE
        if name not in self._not_positive:
            mask = Mask.of((value <= 0).flatten())
            self._not_positive[name] = mask if mask.anywhere else NONE
        return self._not_positive[name]

    def context(self, specs: Sequence[ContextSpec], dtype: torch.dtype) -> Tensor | None:
        """Return the features [B, C] of a context, encoded once for all channels that use it."""
        key = tuple(specs)
        if key not in self._encoded:
            self._encoded[key] = encode(key, self.signals, dtype)
        return self._encoded[key]


class Life(NamedTuple):
    """Where the life of an agent of the environment, an episode of its own, is over after a step."""

    over: Mask
    """Where it was dead, or its life ended with the step."""
    terminated: Mask
    """Where its life ended for good, not by a limit of time."""


@dataclass(frozen=True, slots=True)
class EpisodeEnds:
    """Which environments' episodes ended at a step."""

    ended: Mask = NONE
    terminated: Mask = NONE
    """Where an episode ended for good, not by a limit of time."""
    lives: Mapping[str, Life] = field(default_factory=dict)
    """By agent of the environment whose life is over anywhere."""
    final: StepSignals | None = None
    """The final observations where episodes were truncated, and the next step's elsewhere; None: no episode was truncated, or final
    observations are not known."""


# --- a message ---------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Content:
    """The content of a channel's messages: from which port they are, in which shape, and how they are sampled."""

    port: str
    """The output of the sender's network that is sent."""
    shape: tuple[int, ...]
    """Shape of one message. It is flat, [rows, size], in ledgers (`value_of` flattens it) and reads."""
    zeros: Tensor
    """[rows, size]: what a receiver reads before any message has come."""
    sampler: MessageSampler | None = None
    """Samples messages from the port's output (symbols); None: the output is the message."""

    @property
    def size(self) -> int:
        """Components of one message."""
        return math.prod(self.shape)


def _simplified(mask: Mask) -> Mask:
    """A mask, as `ALL` if it holds in all rows, by a look at them: what is void everywhere is skipped by `is ALL`."""
    return ALL if mask.everywhere else mask


@dataclass(slots=True, eq=False)
class Fate:
    """Where a message does not arrive, or its later reads do not count; the ledger sets it at sending and as episodes end.

    What was read before an episode's end counts all the same.
    """

    lost: Mask = field(default=NONE, metadata=MASK)
    """Where the link lost it."""
    void: Mask = field(default=NONE, metadata=MASK)
    """Where it is read as zeros."""
    withheld: Mask = field(default=NONE, metadata=MASK)
    """Where it has been void since before `ReadPlan.first_tick`. Nothing is injected there from then on; but a window of the sender
    that ended before the episode has injected there."""
    unsent: Mask = field(default=NONE, metadata=MASK)
    """Where it was void as it was sent: traffic is not counted there."""

    def lose(self, rows: Mask) -> None:
        """Set the rows in which a message from another part does not arrive (distributed/parts/cut_ledger.py)."""
        self.lost = rows

    def end_episodes(self, ended: Mask, *, withhold: bool) -> None:
        """Void the message where an episode `ended`, and `withhold` it there if no tick could read it before."""
        self.void = _simplified(self.void | ended)
        if withhold:
            self.withheld = _simplified(self.withheld | ended)


@dataclass(slots=True, eq=False)
class Returned:
    """What receivers have returned for a message so far: it is booked as their windows end, and all there once the message is finished."""

    gradient: Tensor | None = field(default=None, metadata=ROWS)
    """[rows, size], per sample, summed over the reads that counted."""
    loss: Tensor | None = field(default=None, metadata=ROWS)
    """[rows]: the loss of its receiver in the windows that read it, for critics."""
    counted: Mask = field(default=NONE, metadata=MASK)
    """Where a read counted: the rows in which the gradient is the receiver's. Before `finish`, it may hold in no row and not be `NONE`."""
    actions: list[ReturnedAction] = field(default_factory=list)
    """Actions of the receiver at the ticks that read it, for `local_policy`; used at the step that books them, and not saved."""

    def add(self, counted: Mask, gradient: Tensor | None) -> None:
        """Add the gradient of a read, [rows, size] per sample, where it `counted`; None: the loss does not depend on it."""
        self.counted |= counted
        if gradient is not None:
            gradient = counted.zero_elsewhere(gradient)
            self.gradient = gradient if self.gradient is None else self.gradient + gradient

    def add_loss(self, loss: Tensor) -> None:
        """Add the loss of a window, [rows]."""
        self.loss = loss if self.loss is None else self.loss + loss

    def replace_gradient(self, gradient: Tensor) -> None:
        """Replace the gradient: by a clipped one, or by a return over several windows."""
        self.gradient = gradient

    def finish(self, sent: Tensor, *, wanted: bool) -> None:
        """Finish what returns for a message `sent`, as no window may read it any more: look up whether a read counted in any row.

        If one has and a gradient is `wanted`, there is one: zeros where no loss depends on the message.
        """
        if not self.counted.anywhere:
            self.counted = NONE
        elif wanted and self.gradient is None:
            self.gradient = torch.zeros_like(sent)


@dataclass(slots=True, eq=False)
class Message:
    """One message of a stack of channels: what was sent, and what becomes of it.

    The table of ledger.py says what changes it. A field with a role (roles.py) is part of a saved state, here and below.
    """

    stamp: int = field(metadata=PLAIN)
    """The step at which it was sent."""
    sent: Tensor = field(metadata=ROWS)
    """[rows, size], as it was sent; without components once it has been freed."""
    received: Tensor = field(metadata=ROWS)
    """[rows, size], as it arrives: rounded to the link's bits, with its noise."""
    step_signals: StepSignals = field(metadata=SIGNALS)
    """The signals it was made from."""
    read_plan: ReadPlan = field(metadata=record(ReadPlan))
    fate: Fate = field(default_factory=Fate, metadata=record(Fate))
    returned: Returned = field(default_factory=Returned, metadata=record(Returned))
    pinned: bool = field(default=True, metadata=PLAIN)
    """Whether the ledger keeps it for its sender's window, which may inject into it: from its sending until that window closes. Never
    of a state for which nothing returns, nor of an imagined message."""
    notes: Notes = field(default_factory=dict, metadata=NOTES)

    def unpin(self) -> None:
        """Let it be deleted: its sender's window has closed."""
        self.pinned = False

    def free_content(self) -> None:
        """Free the content, which is read no more (features/sweep.py); the message is deleted when its last window closes."""
        self.sent = self.received = self.sent.new_empty(0)

    def replace_content(
        self, sent: Tensor, received: Tensor, step_signals: StepSignals | None = None
    ) -> None:
        """Replace the content, [rows, size] each, and the signals that it was made from; None: these stay."""
        self.sent, self.received = sent, received
        self.step_signals = step_signals or self.step_signals

    def replace_returned(self, returned: Returned) -> None:
        """Set all that another part has returned for it (distributed/parts/cut_ledger.py); no window here may read it from then on."""
        self.returned = returned
        self.read_plan.open_windows.clear()

    @property
    def expects_return(self) -> bool:
        """Whether its receiver may return something for it: see `ReadPlan`, which lists the messages for which nothing returns."""
        return self.read_plan.returns

    @property
    def is_finished(self) -> bool:
        """Whether it is known what returns for it: the last window that may read it has closed, or nothing ever returns."""
        return self.read_plan.finished is not None

    @property
    def has_counted(self) -> bool:
        """Whether it is finished, and a read has counted in some row."""
        return self.is_finished and self.returned.counted is not NONE

    @property
    def content_is_freed(self) -> bool:
        """Whether its content has been freed (`free_content`)."""
        return not self.sent.numel()

    @property
    def missing(self) -> Mask:
        """Where it is lost or void."""
        fate = self.fate
        return fate.void if fate.lost is NONE else fate.void | fate.lost

    def copied(self) -> Message:
        """Return a copy that changes independently and has the same tensors."""
        read_plan = replace(self.read_plan, open_windows=set(self.read_plan.open_windows))
        fate, returned = replace(self.fate), replace(self.returned)
        return replace(self, read_plan=read_plan, fate=fate, returned=returned, notes=copied(self.notes))


# --- what a tick reads ----------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Arrival:
    """What has reached a receiver's tick over a channel: the due message, or the value that stands in for it."""

    message: Message
    """The due message: the newest one that a perfect link would have brought, or one of several that the tick reads (`read`)."""
    value: Tensor | None = None
    """[rows, size]; None: zeros."""
    available: Mask = NONE
    """Where there is a message; zeros elsewhere."""
    counted: Mask = NONE
    """Where the gradient of a read is booked; where an older message stands in, the value is available and does not count."""
    synthetic: Mask = NONE
    """Where a synthetic input stands in for the message."""
    step_signals: StepSignals | None = None
    """The signals that the value was made from; None: the message's own."""

    def constant(self, channel: str) -> Constant:
        """Return the arrival as a read that returns nothing."""
        return Constant(channel, self.value, self.available)


class Carrier(Protocol):
    """What a read needs of its `Channel` (channel.py) to return its value."""

    content: Content

    def passed_on(self, read: PassedOn, window: Window) -> Tensor:
        """Return the message with its graph, as the link carries it."""

    def graph_in_learning_rows(self, value: Tensor, learning_rows: LearningRows) -> Tensor:
        """Return a value with as much of its graph as gradients go back through, in the `learning_rows` of the receiver."""


@dataclass(slots=True, eq=False)
class Constant:
    """A read that is not differentiated, also that of zeros before the first message.

    Nothing is booked for it, so it keeps neither the message nor its stamp. What needs a stamp is noted by a feature as the tick reads
    (features/ages.py).
    """

    channel: str = field(metadata=PLAIN)
    value: Tensor | None = field(default=None, metadata=ROWS)
    """[rows, size]; None: zeros."""
    available: Mask = field(default=NONE, metadata=MASK)
    """Where there is a message; zeros elsewhere."""

    def constant_value_in(self, window: Window, channel: Carrier) -> Tensor:
        """Return the value read, [rows, size], without a graph; for policies, which evaluate it again."""
        return channel.content.zeros if self.value is None else constant(self.value)

    def differentiable_value_in(
        self, window: Window, channel: Carrier, learning_rows: LearningRows
    ) -> Tensor:
        """Return the value read with the graph that losses are differentiated through, in the `learning_rows` of the receiver."""
        return channel.content.zeros if self.value is None else self.value


@dataclass(slots=True, eq=False)
class PassedOn:
    """A read that is differentiated through the sender of its message, in the same window: over locked channels, and of states."""

    channel: str = field(metadata=PLAIN)
    stamp: int = field(metadata=PLAIN)
    """The step at which the message was sent."""
    available: Mask = field(default=NONE, metadata=MASK)
    """Where there is a message; zeros elsewhere."""

    def constant_value_in(self, window: Window, channel: Carrier) -> Tensor:
        """Return the value read, [rows, size], without a graph; for policies, which evaluate it again."""
        return constant(channel.passed_on(self, window))

    def differentiable_value_in(
        self, window: Window, channel: Carrier, learning_rows: LearningRows
    ) -> Tensor:
        """Return the value read with the graph that losses are differentiated through, in the `learning_rows` of the receiver."""
        return channel.graph_in_learning_rows(channel.passed_on(self, window), learning_rows)


@dataclass(slots=True, eq=False)
class Leaf:
    """A read that ends the receiver's graph and counts for its message (`Returned.add`).

    Where the ledger `wants_gradient`, its value is a leaf of autograd, and its gradient is booked.
    """

    channel: str = field(metadata=PLAIN)
    message: Message = field(metadata=NESTED)
    value: Tensor = field(metadata=ROWS)
    """[rows, size]."""
    available: Mask = field(metadata=MASK)
    """Where there is a message; zeros elsewhere."""
    counted: Mask = field(metadata=MASK)
    """Where the read counts: gradients elsewhere are not booked."""
    only_tick: int | None = field(metadata=PLAIN)
    """The step of the only tick that reads the leaf; None: all ticks of the window that read the message share it."""

    def constant_value_in(self, window: Window, channel: Carrier) -> Tensor:
        """Return the value read, [rows, size], without a graph; for policies, which evaluate it again."""
        return constant(self.value)

    def differentiable_value_in(
        self, window: Window, channel: Carrier, learning_rows: LearningRows
    ) -> Tensor:
        """Return the value read with the graph that losses are differentiated through, in the `learning_rows` of the receiver."""
        return self.value

    def free_value(self) -> None:
        """Free the value, once no tick reads it any more."""
        self.value = self.value.new_empty(0)


Read: TypeAlias = Leaf | PassedOn | Constant
"""One read of a tick over a channel, by what is differentiated."""


# --- a window ----------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Tick:
    """One evaluation of an agent's network at one step: what it read, computed and sent.

    Consecutive reads of one channel are messages that the tick reads side by side, oldest first (`read: concat`).
    """

    step: int = field(metadata=PLAIN)
    agent: str = field(metadata=PLAIN)
    step_signals: StepSignals = field(metadata=SIGNALS)
    """The signals that it observed: its own step's, or the signals that an aligned agent's message was made from."""
    reads: list[Read] = field(metadata=NESTED)
    learning_rows: LearningRows = field(default=ALL, metadata=MASK)
    """The rows in which the agent learns from this window; in other rows its reads are constant."""
    state_read: Read | None = field(default=None, metadata=NESTED)
    """The read of the state that a recurrent agent sent to itself; None: the agent has no state."""
    notes: Notes = field(default_factory=dict, metadata=NOTES)
    ports: Tensors = field(default_factory=dict)
    """The outputs of the network, with their graph; empty once the graph has been freed."""
    sampled: Tensors = field(default_factory=dict)
    """What it sent over channels whose messages are sampled, [rows, size] each; a replayed window sends it again."""


@dataclass(slots=True, eq=False)
class Window:
    """Consecutive ticks of a learning group, which learns from them once, when the window has ended.

    Attributes:
        number: The number of the window; -1 before its first tick.
        statistics_before: Running statistics of each learner at the window's start, by the first agent of the learner.
        calls: The ticks in order, by network call (`NetworkCall`).
        sent_messages: The messages sent, each with its channel's name, in order; without the states that only ticks of this window read.
        with_graph: The messages of this window with their graph, by (channel, stamp).
        leaves: The leaves that its ticks read, by (channel, stamp, `Leaf.only_tick`).
        given_up: Delayed channels whose gradients were not back within their horizon: the window is learned from
            without them.
    """

    number: int = field(default=-1, metadata=PLAIN)
    statistics_before: dict[str, Tensors] = field(default_factory=dict, metadata=NESTED)
    calls: list[list[Tick]] = field(default_factory=list, metadata=NESTED)
    sent_messages: list[tuple[str, Message]] = field(default_factory=list, metadata=NESTED)
    with_graph: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    leaves: dict[tuple[str, int, int | None], Leaf] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set, metadata=PLAIN)

    def begin(self, number: int, statistics_before: dict[str, Tensors]) -> None:
        """Begin the window, with its first tick."""
        self.number, self.statistics_before = number, statistics_before

    def ticks(self) -> Iterator[Tick]:
        """Yield its ticks, in order."""
        return (tick for call in self.calls for tick in call)

    def free_graph(self) -> None:
        """Free the graph; the ticks stay, and the window can be replayed."""
        self.with_graph.clear()
        for tick in self.ticks():
            tick.ports = {}


@dataclass(slots=True, eq=False)
class LearningGroup:
    """A maximal set of agents joined by locked channels or by tied parameters, or a stack of such sets.

    Attributes:
        agents: The names of its agents, in canonical order.
        grid: The division of its ticks into windows.
        agents_per_learner: How many agents of the group share each learner, by its first agent; set by `System`.
        horizons: The delayed channels that leave it and for whose returned gradients its windows wait, each with the number of
            windows that may end before one is learned from without it (the channel's `horizon`). A group that waits is called late.
        window: The open window.
        kept_windows: Windows that have ended and are kept, oldest first, by the name under which a feature keeps them.
    """

    agents: tuple[str, ...]
    grid: WindowGrid
    agents_per_learner: dict[str, int] = field(default_factory=dict)
    horizons: Mapping[str, int] = field(default_factory=dict)
    window: Window = field(default_factory=Window, metadata=NESTED)
    kept_windows: dict[str, list[Window]] = field(default_factory=dict, metadata=NESTED)

    def next_window(self) -> Window:
        """Begin a window, and return the one that was open."""
        window, self.window = self.window, Window()
        return window

    def load(self, window: Window, kept_windows: dict[str, list[Window]]) -> None:
        """Take over windows of a saved state."""
        self.window, self.kept_windows = window, kept_windows
