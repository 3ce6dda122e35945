"""What is kept of messages and ticks, and reported of a step, as plain declarations: nothing here computes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from antiphon.agents.policies import Advantages, PolicyLosses, Trajectory
from antiphon.comms.synthetic_gradients import Example, ReturnedAction

if TYPE_CHECKING:
    from antiphon.engine.core.clock import Windows

EnvMask = Tensor
"""[B] bool: the parallel environments that something holds for."""
InputExample = tuple[Tensor | None, Tensor, EnvMask]
"""Of a synthetic input: context [B, features], the message as received [B, size], and where it arrived."""


@dataclass(slots=True, eq=False)
class StepSignals:
    """The environment's signals at one step, shared by everything that is computed from them."""

    step: int
    """-1: of no step, as an aligned agent works on before its first message."""
    values: dict[str, Tensor]
    """By name, [B, …]; the environment adds those that are known only after the step (rule 23)."""


@dataclass(slots=True, eq=False)
class MessageRecord:
    """Record of one message: what was sent, and what has come back. Written by the ledger only."""

    stamp: int
    """The step at which it was sent."""
    message: Tensor
    """[B, size], as sent."""
    received: Tensor
    """[B, size], as it arrives: with the link's noise and rounding."""
    signals: StepSignals
    """Those its sender worked on."""
    first_use: int | None
    """First receiver tick that the schedule lets use it; None: a newer message replaces it unread."""
    open_windows: set[int]
    """Receiver windows that may use it and have not closed."""
    deadline: int
    """Step after which an open record is an engine error."""
    lost: EnvMask
    """Where the link lost it."""
    void: EnvMask
    """Where its episode has ended since, or its sender was disabled."""
    no_injection: EnvMask
    """Where that was so before any use was possible: nothing is injected there either."""
    counts: EnvMask
    """Where a use of it counts."""
    returned: Tensor | None = None
    """[B, size]: the newest gradient that had come back when it was sent (context `returned`)."""
    states: dict[str, Tensor] = field(default_factory=dict)
    """[B, state size]: of the channel's ends when it was sent (contexts `from.state`, `to.state`)."""
    episode_start: int = 0
    """First step of its episode, where the episode is somebody's window."""
    delta: Tensor | None = None
    """[B, size] per sample: the gradient accumulated over its uses; None: none yet."""
    loss: Tensor | None = None
    """[B]: its receiver's losses in the windows that used it; None: none yet."""
    actions: list[ReturnedAction] = field(default_factory=list)
    """What its receiver did at the ticks that used it, for `local_policy`."""
    finished: int | None = None
    """Step at which the last of its receiver windows closed."""
    held_by_sender: bool = True
    """Whether its sender has still to learn from it."""

    @property
    def unread(self) -> bool:
        """Whether the schedule shows that it is replaced before any receiver tick."""
        return self.first_use is None

    @property
    def complete(self) -> bool:
        """Whether all windows have closed and a use counts; finished without one it is void (rule 17)."""
        return self.finished is not None and bool(self.counts.any())


@dataclass(slots=True, eq=False)
class Consumption:
    """A receiver's use of a message within one of its windows."""

    record: MessageRecord
    leaf: Tensor
    """[B, size]: what was read; the receiver's window is differentiated at it."""
    counts: EnvMask
    """Where the use counts."""


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """What a receiver's tick reads on a channel."""

    record: MessageRecord | None
    """Of the message that is due on a perfect link; None: none was sent yet."""
    value: Tensor
    """[B, size]; zeros where nothing has arrived."""
    present: EnvMask
    """Where anything is read."""
    counts: EnvMask
    """Where it is the due message itself, or what stands in for it."""
    predicted: EnvMask
    """Where a synthetic input stands in."""
    signals: StepSignals
    """Those that what is read was computed from, for an aligned receiver (rule 21)."""


@dataclass(slots=True, eq=False)
class Read:
    """What an agent read on one channel at one tick."""

    channel: str
    stamp: int | None
    """Stamp of a message of the same window, which enters with its graph; None: any other."""
    value: Tensor | None
    """[B, size]: the leaf of its use, or a constant; None where `stamp` is given."""
    present: EnvMask
    """Where anything was read; zeros elsewhere."""
    use: Consumption | None = None
    """The ledger's, whose leaf `value` is."""


@dataclass(slots=True, eq=False)
class AgentTick:
    """What one agent read and computed at a tick."""

    agent: str
    signals: StepSignals
    """Its own step's, or those that its aligned message was computed from (rule 21)."""
    reads: list[Read]
    """In canonical order of channels; several of one channel are read side by side, oldest first."""
    participates: bool
    """Whether it learns from the window (rule 7)."""
    state: Read | None = None
    """The state it took up, of a recurrent agent."""
    ages: Tensor | None = None
    """[B, channels]: ages of the messages, where it observes them."""
    action: Tensor | None = None
    """[B, …]: what a policy did, as sampled (rule 37)."""
    outcomes: list[StepSignals] = field(default_factory=list)
    """Of a policy: the steps from this one to its next tick, as far as its window is open (rule 38)."""
    ports: dict[str, Tensor] = field(default_factory=dict)
    """Outputs with their graph, while the window is open."""
    sampled: dict[str, Tensor] = field(default_factory=dict)
    """[B, size]: what was sent over channels whose messages are sampled."""

    @property
    def consumed(self) -> list[Read]:
        """All that it read over channels, its own state included."""
        return self.reads if self.state is None else [*self.reads, self.state]


@dataclass(slots=True, eq=False)
class Tape:
    """One window of a learning group: all that is needed to make its graph again (rule 15)."""

    window: int = -1
    """Its number; -1 before its first tick."""
    start: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """Running statistics at its start, by learner (its first agent)."""
    evaluations: list[tuple[int, list[AgentTick]]] = field(default_factory=list)
    """Step, and the agents evaluated as one batch: one, or tied ones (rule 27a)."""
    sent: list[tuple[str, MessageRecord]] = field(default_factory=list)
    """Messages by channel, in order."""
    outputs: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    """[B, …]: messages by (channel, stamp) with their graph, while the window is open."""

    given_up: set[str] = field(default_factory=set)
    """Delayed channels whose gradients were not complete within their staleness."""

    def ticks(self) -> Iterator[tuple[int, AgentTick]]:
        """Yield every agent's ticks with their steps, in order."""
        return ((step, tick) for step, ticks in self.evaluations for tick in ticks)

    def first_tick(self, agent: str) -> AgentTick | None:
        """Return the first tick of an agent."""
        return next((tick for _, tick in self.ticks() if tick.agent == agent), None)

    def start_of(self, agent: str) -> Consumption | None:
        """Return the use of the state that an agent took up at its first tick."""
        first = self.first_tick(agent)
        return None if first is None or first.state is None else first.state.use

    def last_sent(self, channel: str) -> MessageRecord | None:
        """Return the record of the state that the window ends with: the only one that is read outside it."""
        return next((record for name, record in self.sent if name == channel), None)

    def release(self) -> None:
        """Drop the graph: none outlives its window (rule 15)."""
        self.outputs.clear()
        for _, tick in self.ticks():
            tick.ports = {}


@dataclass(slots=True, eq=False)
class LearningGroup:
    """Agents that learn as one network: joined by locked channels or tied parameters (rules 14, 27a)."""

    members: tuple[str, ...]
    windows: Windows
    owners: dict[str, int]
    """The first agent of each learner, with how many members share it."""
    late: bool
    """Whether a `delayed` channel leaves it, so that its windows wait for what comes back (rule 27b)."""
    staleness: int
    """Windows that a tape may wait."""
    tape: Tape = field(default_factory=Tape)
    """The open window."""
    pending: list[Tape] = field(default_factory=list)
    """Windows that have ended and wait, oldest first."""
    past: list[Tape] = field(default_factory=list)
    """Newest windows learned from, oldest first, where returns reach over several (rule 11)."""


Returns = dict[str, list[MessageRecord]]
"""Records of states whose return over several windows is known, by channel (rule 11)."""
Closed = list[tuple[LearningGroup, Tape]]
"""Windows that have ended."""


@dataclass(frozen=True, slots=True)
class Injection:
    """A gradient put on a message."""

    output: Tensor
    """[B, …]: the message with its graph."""
    gradient: Tensor
    """[B, size] per sample, a constant."""
    scale: float = 1.0
    """Its weight in the gradients of parameters."""
    discount: float = 1.0
    """Its weight in the gradients of what was received (rule 3)."""


@dataclass(slots=True)
class AgentLoss:
    """An agent's objective over a window."""

    samples: Tensor
    """[B]: the losses, summed over the window's ticks."""
    score: Tensor
    """The objective's metric, summed over ticks and environments."""
    count: int
    """Ticks and environments that have a target, or that teach a policy."""
    policy: PolicyWindow | None = None
    """Where it is a policy's."""

    @property
    def reported(self) -> Tensor:
        """The sum over ticks and environments, divided by B; the losses of a policy are divided by `count` already."""
        total = self.samples.sum() / len(self.samples)
        return total if self.policy is None else total * self.count / len(self.samples)


@dataclass(slots=True, eq=False)
class PolicyWindow:
    """A policy over a window: what all passes over it have in common (rule 42)."""

    ticks: list[AgentTick]
    """The agent's, in order."""
    trajectory: Trajectory
    advantages: Advantages
    first: PolicyLosses
    """The first pass."""
    further: list[dict[str, Tensor]] = field(default_factory=list)
    """The figures of the further ones."""


@dataclass(slots=True)
class WindowLoss:
    """All objectives over a window."""

    total: Tensor | None = None
    """Sum of all losses divided by B, with its graph; None without any target."""
    agents: dict[str, AgentLoss] = field(default_factory=dict)
    """By agent."""


@dataclass(slots=True, eq=False)
class GroupUpdate:
    """What one window contributes: a step of the group's optimisers."""

    group: LearningGroup
    window: int
    loss: WindowLoss
    gradients: dict[str, list[Tensor | None]] = field(default_factory=dict)
    """By learner (its first agent), in the order of its trainable parameters; None: nothing reaches one."""
    injected: dict[str, Tensor] = field(default_factory=dict)
    """[B, size]: the newest synthetic gradient put on a message, by channel."""


@dataclass(slots=True)
class PredictorUpdate:
    """The training step of one predictor: one optimiser step on everything that reached it (rule 6)."""

    loss: Tensor
    """Summed over the examples, before the step."""
    gradients: list[Tensor]
    """Of its trainable parameters."""
    examples: list[Example]
    """Of a synthetic gradient; none of a synthetic input."""
    prediction: Tensor | None = None
    """[B, size], for the newest example, where it was asked for."""


Updates = dict[str, PredictorUpdate]
"""By channel."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """Everything that learned at one step."""

    groups: list[GroupUpdate]
    gradients: Updates
    """Of synthetic gradients."""
    input_updates: Updates
    """Of synthetic inputs."""
