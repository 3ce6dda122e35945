"""Windows: reads, ticks that read, windows of ticks that are learned from at once, and groups of agents that learn.

Rule 18 says how what a tick reads is differentiated, rule 15 how windows are replayed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeAlias

from torch import Tensor

from antiphon.agents.network import Tensors
from antiphon.comms.backward_requests import constant
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.clock import WindowGrid
from antiphon.engine.heart.ends import NOT_SAVED, Received, Sent
from antiphon.engine.heart.signals import StepSignals
from antiphon.nets.mask import ALL, NONE, Mask

OutputsWithGraph: TypeAlias = Mapping[tuple[str, int], Tensor]
"""See `Window.outputs_with_graph`."""


@dataclass(slots=True, eq=False)
class Constant:
    """A read that is not differentiated, also that of zeros before the first message."""

    channel_name: str
    value: Tensor | None = None
    """[rows, size]; None: zeros."""
    available: Mask = NONE
    """Where the tick has a value to read; elsewhere zeros enter its network (`value_entering`)."""

    def value_in(self, outputs_with_graph: OutputsWithGraph, channel: Channel, learning_rows: Mask) -> Tensor:
        """Return the value, [rows, size], with the graph that losses go back through in the receiver's `learning_rows`; of
        no meaning where it is not `available`."""
        return channel.content.zeros if self.value is None else self.value


@dataclass(slots=True, eq=False)
class WithGraph:
    """A read that is differentiated through its message's sender, in the same window: over locked channels, or a
    state."""

    channel_name: str
    stamp: int
    """The step at which the message was sent."""
    available: Mask = NONE

    def value_in(self, outputs_with_graph: OutputsWithGraph, channel: Channel, learning_rows: Mask) -> Tensor:
        # gradients pass straight through the link (rule 8)
        output = outputs_with_graph[self.channel_name, self.stamp].flatten(1)
        value = channel.wire.link.carry(self.stamp, output)
        return learning_rows.map(channel.rows_from_receiver).where(value, constant(value))


@dataclass(slots=True, eq=False)
class CountedRead:
    """A read that ends the receiver's graph and counts for its message (`Received.book`), in the rows `counted`.

    Where the wire `returns_gradients`, its value is a leaf of autograd, and its gradient is booked.
    """

    channel_name: str
    received: Received
    value: Tensor
    """[rows, size]."""
    available: Mask
    counted: Mask
    """Where the read counts: gradients elsewhere are not booked."""
    only_tick: int | None
    """The step of the only tick that has the read; None: all ticks of the window that read the message share it."""

    def value_in(self, outputs_with_graph: OutputsWithGraph, channel: Channel, learning_rows: Mask) -> Tensor:
        return self.value


Read: TypeAlias = CountedRead | WithGraph | Constant
"""One read of a tick over a channel, by what is differentiated."""


def value_entering(
    read: Read, channel: Channel, outputs_with_graph: OutputsWithGraph, learning_rows: Mask
) -> Tensor:
    """Return what enters a network of a tick's read, [rows, size], with its graph in the `learning_rows`: zeros where
    nothing is `available`."""
    return read.available.zero_elsewhere(read.value_in(outputs_with_graph, channel, learning_rows))


# --- ticks and windows -------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Tick:
    """One evaluation of an agent's network at one step: what it read, computed and sent."""

    step: int
    agent_name: str
    observed_signals: StepSignals
    """Its step's signals; of an aligned agent, those that its message was made from."""
    reads_by_channel: list[list[Read]]
    """For each incoming channel, in order, what the tick reads: one read, or several side by side, oldest first."""
    learning_rows: Mask = ALL
    """The object that `Window.learning_rows_by_agent` has for its agent; in other rows its reads are constant."""
    state_read: Read | None = None
    """The read of the state that a recurrent agent sent to itself; None: the agent has no state."""
    ages: Tensor | None = None
    """[rows, channels]: how old the messages that it read are, in ticks of their senders; None: its agent observes no
    ages."""
    action: Tensor | None = None
    """[rows, …]: of a policy, the action that it sampled; a replayed window has the same."""
    outcomes: list[StepSignals] = field(default_factory=list)
    """Of a policy: the steps from the tick to its agent's next one, or the window's end."""
    final_value: Tensor | None = None
    """[rows]: where its episode was truncated before the next tick, the value of the final observation; None: nowhere."""
    final_known: Mask = NONE
    """Where there is such a value."""
    ports: Tensors = field(default_factory=dict, metadata=NOT_SAVED)
    """The outputs of the network, with their graph; empty once the graph has been freed."""
    network_input: Tensor | None = field(default=None, metadata=NOT_SAVED)
    """The network's input, [rows, …], of a tick that keeps no graph: the evaluation of its whole window reads it again.
    None: it is joined again from what the tick read."""
    sampled_messages: Tensors = field(default_factory=dict, metadata=NOT_SAVED)
    """What it sent over channels whose messages are sampled, [rows, size] each; a replayed window sends it again."""

    def reads(self) -> Iterator[Read]:
        """Yield what it reads over all incoming channels, in order; without its state."""
        return chain.from_iterable(self.reads_by_channel)


NO_TICK_YET = -1
"""The number of a window without a tick: it is empty."""


@dataclass(slots=True, eq=False)
class Window:
    """Consecutive ticks of a learning group, which learns from them once, when the window has ended.

    Attributes:
        number: The number of the window; `NO_TICK_YET` before its first tick.
        statistics_before: Running statistics of each learner at the window's start, by learner.
        ticks_by_call: The ticks in order, by network call (`NetworkCall`).
        sent: The messages into which it may inject, each with its channel's name, in order: all that it has
            sent, but for states that only its own ticks read.
        outputs_with_graph: All outputs that it has sent, also those states, with their graph, by (channel, stamp);
            empty once that is freed.
        counted_reads: The reads that may count, by (channel, stamp, `CountedRead.only_tick`): ticks may share one.
        given_up_channel_names: Channels that wait, and had a gradient not back within the horizon: no message of theirs
            in this window has a returned gradient, even if one is back.
        learning_rows_by_agent: The rows in which each agent of the group learns from it (`Agent.learning_rows`).
    """

    number: int = NO_TICK_YET
    statistics_before: dict[str, Tensors] = field(default_factory=dict)
    ticks_by_call: list[list[Tick]] = field(default_factory=list)
    sent: list[tuple[str, Sent]] = field(default_factory=list)
    outputs_with_graph: dict[tuple[str, int], Tensor] = field(default_factory=dict, metadata=NOT_SAVED)
    counted_reads: dict[tuple[str, int, int | None], CountedRead] = field(
        default_factory=dict, metadata=NOT_SAVED
    )
    given_up_channel_names: set[str] = field(default_factory=set)
    learning_rows_by_agent: dict[str, Mask] = field(default_factory=dict, metadata=NOT_SAVED)

    def credited_rows(self, channel: Channel, sent: Sent) -> Mask:
        """Return the rows in which a message that it sent has credit: it is `creditable` there, and its sender learns."""
        return channel.mask_from_sender(self.learning_rows_by_agent[channel.sender]) & sent.creditable

    def ticks(self) -> Iterator[Tick]:
        return chain.from_iterable(self.ticks_by_call)

    def newest_tick(self, agent_name: str) -> Tick | None:
        ticks = chain.from_iterable(reversed(self.ticks_by_call))
        return next((tick for tick in ticks if tick.agent_name == agent_name), None)

    def free_graph(self) -> None:
        """Free the graph; the ticks stay, and the window can be replayed."""
        self.outputs_with_graph.clear()
        for tick in self.ticks():
            tick.ports = {}


@dataclass(slots=True, eq=False)
class LearningGroup:
    """A maximal set of agents that locked channels join, or one learner of tied agents; or a stack of such sets.

    Attributes:
        agent_names: The names of its agents, in canonical order.
        agent_count_by_learner: How many agents of the group share each learner, by learner; set by `System`.
        horizons: The delayed channels that leave it and for whose returned gradients its windows wait, each with its
            `horizon`; empty: they do not wait.
        waiting: The windows that have ended and wait for returned gradients, oldest first (`choose_windows` in step.py).
    """

    agent_names: tuple[str, ...]
    grid: WindowGrid
    agent_count_by_learner: dict[str, int] = field(default_factory=dict)
    horizons: Mapping[str, int] = field(default_factory=dict)
    window: Window = field(default_factory=Window)
    waiting: list[Window] = field(default_factory=list)

    def mean_over_agents(
        self, sums: Mapping[str, Sequence[Tensor | None]]
    ) -> dict[str, Sequence[Tensor | None]]:
        """Return the gradients of learners, of sums over the agents that share each (rule 27a)."""
        counts = self.agent_count_by_learner
        return {
            name: gradients
            if (count := counts.get(name, 1)) == 1
            else [None if g is None else g / count for g in gradients]
            for name, gradients in sums.items()
        }

    def pop_window(self) -> Window:
        """Return the open window, which has ended, and replace it by an empty one, which its first tick begins."""
        ended_window, self.window = self.window, Window()
        return ended_window
